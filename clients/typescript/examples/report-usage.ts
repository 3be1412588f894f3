/**
 * Report usage of one subscription, and see where the first record went.
 *
 *   export MARKETPLACE_API=https://...   # the stack's output ApiUrl; http://127.0.0.1:8080 with `make run`
 *   node report-usage.js sub-... api_calls
 */

import { Client } from "marketplace-saas-client";

const [subscriptionId = "", dimension = ""] = process.argv.slice(2);
const client = new Client(process.env["MARKETPLACE_API"] ?? "", "usage-outbox", {
  onRejected: ({ record, reason, message }) => console.log(`${record.id} is not billed: ${reason}, ${message}`),
});

const path = { subscription_id: subscriptionId };
console.log("status:", (await client.call("GET", "/subscriptions/{subscription_id}", { path })).status);

const timestamp = new Date(); // your application takes id and time from what it counted
const ids = [0, 1, 2].map((part) => `${timestamp.toISOString()}/${dimension}/${part}`);
await client.report(...ids.map((id) => ({ id, subscriptionId, dimension, quantity: 100, timestamp })));

if (!(await client.flush(30))) {
  console.log("not everything is sent yet; the outbox keeps it:", await client.status());
}
if ((await client.rejected()).length > 0) {
  process.exit(1);
}
const proof = await client.call("GET", "/subscriptions/{subscription_id}/usage/{record_id}", {
  path: { subscription_id: subscriptionId, record_id: ids[0]! },
});
console.log(`${ids[0]}: booked to ${proof.hour}`);

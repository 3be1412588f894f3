/** A usage record as the seller's application reports it, and the form in which it is kept and sent. */

import { createHash } from "node:crypto";
import type { components } from "./schema.js";

type Named =
  | { subscriptionId: string; licenseArn?: undefined }
  | { licenseArn: string; subscriptionId?: undefined };

/**
 * What was used. The record is counted once, however often it is reported or sent, because of its `id`.
 *
 * Derive `id` from what is reported (tenant, hour, dimension, part), never from the attempt, and take `timestamp` from
 * the usage itself: a repetition with another time is other content. docs/integration.md, section 5, describes the
 * members.
 */
export type UsageRecord = Named & {
  id: string;
  dimension: string;
  quantity: number;
  timestamp: Date;
  tags?: Readonly<Record<string, string>>;
};

/** A record as the API takes it. */
export type Report = components["schemas"]["UsageReport"] & { timestamp: string };

/** The record as the API takes it, its members in one order. Throws for what no request could hold. */
export function reportOf(record: UsageRecord): Report {
  const { id, subscriptionId, licenseArn, dimension, quantity, timestamp } = record;
  if ((subscriptionId === undefined) === (licenseArn === undefined)) {
    throw new TypeError("give either subscriptionId or licenseArn");
  }
  const tags = Object.entries(record.tags ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  // What is no Unicode text would have the whole request refused; encodeURIComponent throws for it.
  encodeURIComponent([id, subscriptionId, licenseArn, dimension, ...tags.flat()].join(""));
  return {
    dimension,
    id,
    ...(licenseArn === undefined ? {} : { license_arn: licenseArn }),
    quantity,
    ...(subscriptionId === undefined ? {} : { subscription_id: subscriptionId }),
    ...(tags.length > 0 ? { tags: Object.fromEntries(tags) } : {}),
    timestamp: timestamp.toISOString(),
  };
}

/** The record that `reportOf` answered. */
export function recordOf(report: Report): UsageRecord {
  const { id, dimension, quantity, subscription_id: subscriptionId, license_arn: licenseArn, tags } = report;
  const record = { id, dimension, quantity, timestamp: new Date(report.timestamp), ...(tags ? { tags } : {}) };
  return subscriptionId ? { ...record, subscriptionId } : { ...record, licenseArn: licenseArn ?? "" };
}

/** The name by which a record names its subscription. */
export function subscriptionOf(report: Report): string {
  return report.subscription_id ?? report.license_arn ?? "";
}

/** The key of a record. It depends on the whole content: an id that is used twice by mistake makes two entries. */
export function keyOf(report: Report): string {
  return createHash("sha256").update(JSON.stringify(report)).digest("hex");
}

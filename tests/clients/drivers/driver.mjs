// The TypeScript client as a process that a test speaks to: one JSON command a line, one JSON answer a line.
//
//   node driver.mjs '{"dist": ..., "api": ..., "outbox": ..., "crash": 7}'
//
// The clock stands where the command `clock` puts it, and the jitter is its greatest. With `crash` the process kills
// itself before that change of its disk.

import { createInterface } from "node:readline";

const options = JSON.parse(process.argv[2]);
const { ApiError, Client, NoAnswerError } = await import(`${options.dist}/index.js`);
const { disk } = await import(`${options.dist}/disk.js`);

let now = new Date("2026-11-22T12:00:00Z");
let listenerFails = false;
const told = [];
const hear = (...what) => {
  if (listenerFails) {
    throw new Error("the application is ill");
  }
  told.push(what);
};
const client = new Client(options.api, options.outbox, {
  onRejected: ({ record, reason }) => hear("rejected", record.id, reason),
  onAging: (record, lost) => hear("aging", record.id, lost),
  onProblem: () => undefined,
  now: () => now,
  jitter: (_low, high) => high,
});
if (options.crash !== undefined) {
  let left = options.crash;
  for (const name of ["write", "move", "remove"]) {
    const change = disk[name];
    disk[name] = async (...given) => {
      left -= 1;
      if (left === 0) {
        process.kill(process.pid, "SIGKILL");
      }
      return change(...given);
    };
  }
}

const recordOf = ({ subscription_id, license_arn, timestamp, ...rest }) => ({
  ...rest,
  timestamp: new Date(timestamp),
  ...(subscription_id === undefined ? { licenseArn: license_arn } : { subscriptionId: subscription_id }),
});
const call = async (...given) => {
  try {
    return await client.call(...given);
  } catch (error) {
    if (error instanceof ApiError) {
      return [error.status, error.code];
    }
    if (error instanceof NoAnswerError) {
      return error.message;
    }
    throw error;
  }
};
const commands = {
  clock: (command) => void (now = new Date(command.now)),
  listener: (command) => void (listenerFails = command.fails),
  report: (command) => client.report(...command.records.map(recordOf)),
  deliver: () => client.deliver(),
  flush: (command) => client.flush(command.seconds),
  status: async () => {
    const { waiting, lost, rejected } = await client.status();
    return { waiting, lost, rejected };
  },
  rejected: async () => (await client.rejected()).map(({ record, reason }) => [record.id, reason]),
  resend: async () => {
    for (const one of await client.rejected()) {
      await client.resend(one);
    }
  },
  discard: async () => {
    for (const one of await client.rejected()) {
      await client.discard(one);
    }
  },
  wake: (command) => client.wake(command.subscription),
  told: () => told,
  prove: ({ subscription, record }) =>
    call("GET", "/subscriptions/{subscription_id}/usage/{record_id}", {
      path: { subscription_id: subscription, record_id: record },
    }),
  list: ({ subscription, from }) =>
    call("GET", "/subscriptions/{subscription_id}/usage", { path: { subscription_id: subscription }, query: { from } }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await commands[command.do](command);
  process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
}

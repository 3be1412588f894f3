// The TypeScript client as a process that a test speaks to: one JSON command a line, one JSON answer a line.
//
//   node driver.mjs <the folder of the compiled client>
//   {"do": "open", "api": ..., "outbox": ..., "crash": 7}
//
// `open` begins with a new client. The clock stands where the command `clock` puts it, and the jitter is its greatest.
// With `crash` the process kills itself before that change of its disk.

import { createInterface } from "node:readline";

const dist = process.argv[2];
const { ApiError, Client, NoAnswerError } = await import(`${dist}/index.js`);
const { disk } = await import(`${dist}/disk.js`);

let now, listenerFails, told, client;
const hear = (...what) => {
  if (listenerFails) {
    throw new Error("the application is ill");
  }
  told.push(what);
};
const open = ({ api, outbox, crash, interval = 5 }) => {
  now = new Date("2026-11-22T12:00:00Z");
  listenerFails = false;
  told = [];
  client = new Client(api, outbox, {
    onRejected: ({ record, reason }) => hear("rejected", record.id, reason),
    onAging: (record, lost) => hear("aging", record.id, lost),
    onProblem: () => undefined,
    now: () => now,
    jitter: (_low, high) => high,
    interval,
  });
  if (crash !== undefined) {
    dieBefore(crash);
  }
};
const dieBefore = (number) => {
  for (const name of ["write", "move", "remove"]) {
    const change = disk[name];
    disk[name] = async (...given) => {
      number -= 1;
      if (number === 0) {
        process.kill(process.pid, "SIGKILL");
      }
      return change(...given);
    };
  }
};

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
  open,
  clock: (command) => void (now = new Date(command.now)),
  listener: (command) => void (listenerFails = command.fails),
  report: (command) => client.report(...command.records.map(recordOf)),
  deliver: () => client.deliver(),
  flush: (command) => client.flush(command.seconds),
  // Run until nothing waits, on a disk that fails at first.
  run: async ({ faults }) => {
    const { names } = disk;
    disk.names = async (...given) => {
      faults -= 1;
      if (faults >= 0) {
        throw new Error("disk I/O error");
      }
      return names(...given);
    };
    const stop = new AbortController();
    const running = client.run(stop.signal);
    for (;;) {
      const { waiting } = await client.status().catch(() => ({ waiting: 1 }));
      if (waiting === 0) {
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    stop.abort();
    await running;
  },
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

/**
 * Sending what waits in the outbox, and learning from the answers what is done, due again, or rejected.
 *
 * Nothing leaves the outbox before an answer about it is written down, and an answer is never guessed: what is not
 * understood counts as no answer. A crash at any point therefore costs one more sending, with the same id and content,
 * which the API answers `duplicate`. The same holds for two processes that send the same record.
 */

import type { Api } from "./api.js";
import { delay, sleep, type Jitter } from "./backoff.js";
import { ApiError, ClientError, NoAnswerError } from "./errors.js";
import { MAX_BYTES, MAX_RECORDS, sizeOf, type Outbox, type Refusal, type Rejected, type Status } from "./outbox.js";
import { recordOf, type Report, type UsageRecord } from "./records.js";

/** For a record that the API has asked to send again: a subscription may become active at any time. */
const LONGEST_BETWEEN_RETRIES = 300;
const HOUR_MS = 3_600_000;
/** AWS Marketplace takes usage for 24 hours. */
const TAKEN_FOR_MS = 24 * HOUR_MS;
const WARNED_AFTER_MS = 20 * HOUR_MS;
/** The codes of a refusal that may be the fault of one record. */
const POISONED = ["invalid_body", "request_too_large"];

/**
 * What one pass over the outbox did. `wait` is in seconds: when the next pass should begin. `problem` says why the pass
 * ended before everything that is due was sent; the records stay in the outbox.
 */
export interface Delivery {
  recorded: number;
  again: number;
  rejected: number;
  wait: number;
  problem: string;
}

/**
 * What the application is told, each at least once. A function that throws is called again in the next pass.
 */
export interface Listener {
  /** The record will not be counted. */
  onRejected?: (rejected: Rejected) => unknown;
  /** The record has been waiting for most of the time in which AWS takes it; with true, for longer. */
  onAging?: (record: UsageRecord, lost: boolean) => unknown;
  /** Something hinders the delivery; the records stay in the outbox. */
  onProblem?: (problem: string) => unknown;
}

interface Standing {
  dueAt: number;
  attempts: number;
  told: number;
}

interface Item {
  name: string;
  report: Report;
  isPutOff?: boolean;
  result?: { status: string; reason?: string; message?: string; retryable?: boolean };
}

export class Deliverer {
  readonly #standings = new Map<string, Standing>();
  #failures = 0;
  #limit = MAX_RECORDS;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly api: Api,
    readonly outbox: Outbox,
    readonly listener: Listener,
    readonly now: () => Date,
    readonly jitter: Jitter,
    readonly interval: number,
  ) {}

  /** Send everything that is due, until there is nothing more or the API gives no answer. One pass at a time. */
  deliver(): Promise<Delivery> {
    const pass = this.#last.then(() => this.#pass());
    this.#last = pass.catch(() => undefined);
    return pass;
  }

  /**
   * Deliver, and answer after how many seconds to deliver again. A fault, of the disk for example, is told and does not
   * end what runs this again and again.
   */
  async attempt(): Promise<number> {
    try {
      return (await this.deliver()).wait;
    } catch (error) {
      await this.#problem(`a delivery failed; the usage records stay in the outbox: ${String(error)}`);
      return this.interval;
    }
  }

  /** Deliver until nothing waits, for so many seconds of waiting at most; answers whether nothing waits. */
  async flush(seconds: number): Promise<boolean> {
    for (;;) {
      const { wait, problem } = await this.deliver();
      const { waiting } = await this.status();
      if (waiting === 0 || seconds <= 0) {
        return waiting === 0;
      }
      const next = Math.min(problem ? wait : 1, seconds);
      seconds -= next;
      await sleep(next);
    }
  }

  /** What is in the outbox. */
  status(): Promise<Status> {
    return this.outbox.status(new Date(this.now().getTime() - TAKEN_FOR_MS));
  }

  /** Make a subscription's records due now. */
  async wake(subscription: string): Promise<void> {
    for (const [name, standing] of this.#standings) {
      if (standing.dueAt > 0 && (await this.outbox.concerns(name, subscription))) {
        standing.dueAt = 0;
      }
    }
  }

  async #pass(): Promise<Delivery> {
    const delivery: Delivery = { recorded: 0, again: 0, rejected: 0, wait: this.interval, problem: "" };
    if (!(await this.outbox.beginSending())) {
      return delivery; // another process sends what is in the outbox
    }
    try {
      while (!delivery.problem) {
        const batch = await this.#due();
        if (batch.length === 0) {
          break;
        }
        await this.#send(batch, delivery);
        await this.#settle(batch, delivery);
      }
      await this.#tell();
    } finally {
      await this.outbox.endSending();
    }
    return delivery;
  }

  /** Whole parcels that are due, as many as one request takes. */
  async #due(): Promise<Item[]> {
    const batch: Item[] = [];
    let size = 0;
    const names = await this.outbox.parcels();
    this.#forget(names);
    for (const name of names) {
      if (this.#standing(name).dueAt > this.now().getTime()) {
        continue;
      }
      let reports = await this.#read(name);
      while (reports.length > this.#limit) {
        reports = await this.outbox.split(name, reports);
      }
      const more = reports.reduce((sum, report) => sum + sizeOf(report), 0);
      if (batch.length > 0 && (batch.length + reports.length > this.#limit || size + more > MAX_BYTES)) {
        break;
      }
      batch.push(...reports.map((report) => ({ name, report })));
      size += more;
    }
    return batch;
  }

  async #read(name: string): Promise<Report[]> {
    try {
      return await this.outbox.read(name);
    } catch (error) {
      await this.#problem(`${name} in the outbox can't be read and is left as it is: ${String(error)}`);
      this.#standing(name).dueAt = this.now().getTime() + LONGEST_BETWEEN_RETRIES * 1000;
      return [];
    }
  }

  /** Gives each item its result. Without an answer they stay without one. */
  async #send(batch: Item[], delivery: Delivery): Promise<void> {
    await this.outbox.goOnSending();
    const content = `{"records":[${batch.map(({ report }) => JSON.stringify(report)).join(",")}]}`;
    try {
      const results = resultsOf(await this.api.send("POST", "/usage", content), batch.length);
      batch.forEach((item, index) => (item.result = results[index]!));
      this.#failures = 0;
      this.#limit = Math.min(MAX_RECORDS, 2 * this.#limit);
    } catch (error) {
      if (!(error instanceof ApiError && POISONED.includes(error.code))) {
        await this.#failed(batch, error, delivery);
      } else if (batch.length === 1) {
        batch[0]!.result = { status: "rejected", reason: error.code, message: error.reason, retryable: false };
      } else {
        await this.#sendHalves(batch, delivery);
      }
    }
  }

  /** One record has the whole request refused. The others go through, and it is found in the end. */
  async #sendHalves(batch: Item[], delivery: Delivery): Promise<void> {
    const middle = batch.length >> 1;
    await this.#send(batch.slice(0, middle), delivery);
    if (!delivery.problem) {
      await this.#send(batch.slice(middle), delivery);
    }
  }

  /**
   * One record may be what the API fails of, so the next request is smaller, down to a single record; that one is put
   * off then, and the others go on.
   */
  async #failed(batch: Item[], error: unknown, delivery: Delivery): Promise<void> {
    if (!(error instanceof ClientError)) {
      throw error;
    }
    this.#failures += 1;
    batch.forEach((item) => (item.isPutOff = this.#limit === 1));
    if (error instanceof NoAnswerError && !error.isAskedToWait) {
      this.#limit = Math.max(1, this.#limit >> 1);
    }
    const retryAfter = error instanceof NoAnswerError ? error.retryAfter : undefined;
    delivery.wait = delay(this.#failures, this.jitter, { retryAfter });
    delivery.problem = error.message;
    await this.#problem(`${batch.length} usage records stay in the outbox: ${error.message}`);
  }

  async #settle(batch: Item[], delivery: Delivery): Promise<void> {
    const now = this.now();
    for (const [name, items] of byParcel(batch)) {
      const counted: Report[] = [];
      const refused: Refusal[] = [];
      const left: Report[] = [];
      let again = 0;
      for (const { report, result } of items) {
        if (result?.status === "recorded" || result?.status === "duplicate") {
          counted.push(report);
        } else if (result?.retryable === false) {
          refused.push({ report, reason: String(result.reason), message: result.message ?? "" });
        } else {
          left.push(report);
          again += result === undefined ? 0 : 1;
        }
      }
      await this.outbox.settle(name, counted, refused, left, now);
      delivery.recorded += counted.length;
      delivery.again += again;
      delivery.rejected += refused.length;
      const standing = this.#standing(name);
      standing.attempts += again > 0 ? 1 : 0;
      const longest = LONGEST_BETWEEN_RETRIES;
      const unknown = items.some((item) => item.isPutOff) ? longest : delivery.wait;
      const wait = again > 0 ? delay(standing.attempts, this.jitter, { longest }) : unknown;
      standing.dueAt = now.getTime() + wait * 1000;
    }
  }

  /** Tell the application what it has not been told. */
  async #tell(): Promise<void> {
    for (const name of await this.outbox.parcels()) {
      await this.#tellOfAge(name);
    }
    for (const rejected of await this.outbox.rejected({ untold: true })) {
      if (await this.#heard(() => (this.listener.onRejected ?? logRejected)(rejected))) {
        await this.outbox.rejectedTold(rejected.key);
      }
    }
  }

  async #tellOfAge(name: string): Promise<void> {
    const standing = this.#standing(name);
    if (standing.told === 2) {
      return;
    }
    const now = this.now().getTime();
    const ages = (await this.#read(name)).map((report) => ({ report, age: now - Date.parse(report.timestamp) }));
    const oldest = ages.reduce((most, { age }) => Math.max(most, age), 0);
    const level = oldest > TAKEN_FOR_MS ? 2 : oldest > WARNED_AFTER_MS ? 1 : 0;
    if (level <= standing.told) {
      return;
    }
    let heard = true;
    for (const { report, age } of ages.filter(({ age }) => age > WARNED_AFTER_MS)) {
      const tell = () => (this.listener.onAging ?? logAging)(recordOf(report), age > TAKEN_FOR_MS);
      heard = (await this.#heard(tell)) && heard;
    }
    standing.told = heard ? level : standing.told;
  }

  async #heard(tell: () => unknown): Promise<boolean> {
    try {
      await tell();
      return true;
    } catch (error) {
      await this.#problem(`the application's listener failed and is called again: ${String(error)}`);
      return false;
    }
  }

  async #problem(text: string): Promise<void> {
    try {
      await (this.listener.onProblem ?? console.error)(text);
    } catch {
      // There is nobody left to tell.
    }
  }

  #standing(name: string): Standing {
    const known = this.#standings.get(name) ?? { dueAt: 0, attempts: 0, told: 0 };
    this.#standings.set(name, known);
    return known;
  }

  #forget(names: readonly string[]): void {
    const present = new Set(names);
    for (const name of this.#standings.keys()) {
      if (!present.has(name)) {
        this.#standings.delete(name);
      }
    }
  }
}

function byParcel(batch: readonly Item[]): Map<string, Item[]> {
  const parcels = new Map<string, Item[]>();
  for (const item of batch) {
    parcels.set(item.name, [...(parcels.get(item.name) ?? []), item]);
  }
  return parcels;
}

/** One result for each record. Throws NoAnswerError for what is no answer of the API. */
function resultsOf(answer: unknown, count: number): NonNullable<Item["result"]>[] {
  const results = (answer as { results?: unknown } | null)?.results;
  if (!Array.isArray(results) || results.length !== count) {
    throw new NoAnswerError("the answer has not one result for each record");
  }
  if (!results.every((result) => typeof result?.status === "string")) {
    throw new NoAnswerError("the answer holds something that is no result");
  }
  return results;
}

function logRejected(rejected: Rejected): void {
  console.error("rejected:", rejected);
}

function logAging(record: UsageRecord, lost: boolean): void {
  console.error(lost ? "too old for AWS:" : "waits for long:", record);
}

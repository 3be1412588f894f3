/** The client. */

import { Api, fromEnvironment, type AnswerOf, type CredentialsProvider, type Given, type Method, type PathOf } from "./api.js";
import { delay, sleep, uniform, type Jitter } from "./backoff.js";
import { Deliverer, type Delivery, type Listener } from "./delivery.js";
import { NoAnswerError } from "./errors.js";
import { Outbox, type Rejected, type Status } from "./outbox.js";
import type { UsageRecord } from "./records.js";

const ATTEMPTS = 5;

/** `interval` is the time between two passes of `run`, in seconds. */
export interface Options extends Listener {
  credentials?: CredentialsProvider;
  interval?: number;
  now?: () => Date;
  jitter?: Jitter;
}

export class Client {
  readonly #api: Api;
  readonly #outbox: Outbox;
  readonly #deliverer: Deliverer;
  readonly #jitter: Jitter;

  /** `api` is the stack's output ApiUrl, `outbox` the path of a folder on a local disk. */
  constructor(api: string, outbox: string, options: Options = {}) {
    const { credentials = fromEnvironment, interval = 5, now = () => new Date(), jitter = uniform } = options;
    this.#jitter = jitter;
    this.#api = new Api(api, credentials, now);
    this.#outbox = new Outbox(outbox);
    this.#deliverer = new Deliverer(this.#api, this.#outbox, options, now, jitter, interval);
  }

  /** Call the API, until there is an answer, five times at most. Every route may be repeated. */
  async call<M extends Method, P extends PathOf<M>>(method: M, path: P, given: Given<M, P>): Promise<AnswerOf<M, P>> {
    for (let failures = 1; ; failures++) {
      try {
        return await this.#api.exchange(method, path, given);
      } catch (error) {
        if (!(error instanceof NoAnswerError) || failures === ATTEMPTS) {
          throw error;
        }
        await sleep(delay(failures, this.#jitter, { retryAfter: error.retryAfter }));
      }
    }
  }

  /** Keep usage to be sent. When this resolves it is on the disk, and no crash loses it. */
  async report(...records: UsageRecord[]): Promise<void> {
    await this.#outbox.put(records);
  }

  /** Send everything that is due, once. */
  deliver(): Promise<Delivery> {
    return this.#deliverer.deliver();
  }

  /** Deliver until nothing waits, for so many seconds of waiting at most; answers whether nothing waits. */
  flush(seconds = 60): Promise<boolean> {
    return this.#deliverer.flush(seconds);
  }

  /** Deliver again and again until the signal ends it. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(await this.#deliverer.attempt(), signal);
    }
  }

  /**
   * Send the subscription's waiting usage with the next pass of this process, for example on the event Subscription
   * Activated. `subscription` is the id or ARN that it was reported with.
   */
  wake(subscription: string): Promise<void> {
    return this.#deliverer.wake(subscription);
  }

  /** What is in the outbox. */
  status(): Promise<Status> {
    return this.#deliverer.status();
  }

  /** The records that the API will not count. */
  rejected(): Promise<Rejected[]> {
    return this.#outbox.rejected();
  }

  /** Send a rejected record again, as it is, because what it was rejected for has changed. */
  async resend(rejected: Rejected): Promise<void> {
    await this.#outbox.put([rejected.record]);
    await this.#outbox.discard(rejected.key);
  }

  /** Remove a rejected record: it has been dealt with. */
  discard(rejected: Rejected): Promise<void> {
    return this.#outbox.discard(rejected.key);
  }
}

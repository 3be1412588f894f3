/** How long to wait before something is sent again: full jitter, so that many senders do not come back together. */

/** A number between two others. */
export type Jitter = (low: number, high: number) => number;

const FIRST = 1;
const LONGEST = 60;
const LONGEST_RETRY_AFTER = 300;

export const uniform: Jitter = (low, high) => low + Math.random() * (high - low);

/**
 * Seconds to wait after so many failures in a row (1 or more): anything from 0 to a bound that doubles with each. The
 * time that an answer has asked for comes before it.
 */
export function delay(failures: number, jitter: Jitter, options: { longest?: number; retryAfter?: number | undefined } = {}): number {
  const bound = Math.min(options.longest ?? LONGEST, FIRST * 2 ** (failures - 1));
  return Math.min(options.retryAfter ?? 0, LONGEST_RETRY_AFTER) + jitter(0, bound);
}

/** Wait, unless the signal ends it. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const timer = setTimeout(done, seconds * 1000);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
  });
}

/**
 * The outbox: a folder in which usage records wait until the API has answered what became of them.
 *
 *   waiting/<time>-<random>.json   a parcel: records that were reported together, at most as many as one request takes
 *   rejected/<key>.json            a record that is rejected for good, with the reason
 *   rejected/<key>.told.json       the same, after the application has been told
 *   sending                        the process that sends now; old or dead, it counts for nothing
 *
 * A file is on the disk before `put` returns. Several processes may use one folder.
 */

import { randomBytes } from "node:crypto";
import { open, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { disk } from "./disk.js";
import { keyOf, recordOf, reportOf, subscriptionOf, type Report, type UsageRecord } from "./records.js";

export const MAX_RECORDS = 500;
/** 2 MB less the text around the records (docs/integration.md, section 5). */
export const MAX_BYTES = 2_097_152 - '{"records":[]}'.length;
/** Longer than one request may take. */
const LEASE_MS = 60_000;
const JSON_ENDING = ".json";
const TOLD_ENDING = ".told.json";

/** A record that the API will not count. It stays in the outbox until the application resends or discards it. */
export interface Rejected {
  key: string;
  record: UsageRecord;
  reason: string;
  message: string;
  rejectedAt: Date;
}

/** What is in the outbox. `lost`: how many of the waiting records are older than AWS takes. */
export interface Status {
  waiting: number;
  lost: number;
  oldest: Date | undefined;
  rejected: number;
}

export interface Refusal {
  report: Report;
  reason: string;
  message: string;
}

interface Writing {
  reports: Report[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class Outbox {
  readonly #waiting: string;
  readonly #rejected: string;
  readonly #sending: string;
  readonly #pending: Writing[] = [];
  #isWriting = false;
  #serial = 0;

  constructor(folder: string) {
    this.#waiting = join(folder, "waiting");
    this.#rejected = join(folder, "rejected");
    this.#sending = join(folder, "sending");
  }

  /** Keep records; they are on the disk when this resolves. What is put while the disk is busy is written together. */
  put(records: readonly UsageRecord[]): Promise<void> {
    const reports = records.map(reportOf);
    return new Promise((resolve, reject) => {
      this.#pending.push({ reports, resolve, reject });
      if (!this.#isWriting) {
        void this.#writePending();
      }
    });
  }

  async #writePending(): Promise<void> {
    this.#isWriting = true;
    while (this.#pending.length > 0) {
      const together = this.#pending.splice(0);
      try {
        await this.open();
        for (const parcel of parcelsOf(together.flatMap((writing) => writing.reports))) {
          await disk.write(join(this.#waiting, this.#newName()), JSON.stringify(parcel));
        }
        together.forEach((writing) => writing.resolve());
      } catch (error) {
        together.forEach((writing) => writing.reject(error));
      }
    }
    this.#isWriting = false;
  }

  /** Names sort by the time of their making. */
  #newName(): string {
    const time = Date.now().toString(16).padStart(12, "0");
    const serial = (this.#serial++).toString(16).padStart(8, "0");
    return `${time}-${serial}-${randomBytes(4).toString("hex")}${JSON_ENDING}`;
  }

  /** Make the folders, if need be. */
  async open(): Promise<void> {
    await disk.folder(this.#waiting);
    await disk.folder(this.#rejected);
  }

  /** The names of the parcels, oldest first. */
  async parcels(): Promise<string[]> {
    return disk.names(this.#waiting, JSON_ENDING);
  }

  /** The records of a parcel; none when another process has settled it. */
  async read(name: string): Promise<Report[]> {
    const text = await disk.read(join(this.#waiting, name));
    return text === undefined ? [] : (JSON.parse(text) as Report[]);
  }

  /** Make two parcels of one; answers what is left in it. A crash in between leaves records in both. */
  async split(name: string, reports: readonly Report[]): Promise<Report[]> {
    const middle = reports.length >> 1;
    await disk.write(join(this.#waiting, this.#newName()), JSON.stringify(reports.slice(middle)));
    await disk.write(join(this.#waiting, name), JSON.stringify(reports.slice(0, middle)));
    return reports.slice(0, middle);
  }

  /**
   * Write down what became of a parcel: what is rejected first, then what still waits. A crash in between leaves a
   * record in both, and it is sent and answered once more.
   */
  async settle(name: string, counted: readonly Report[], refused: readonly Refusal[], left: readonly Report[], now: Date): Promise<void> {
    for (const { report, reason, message } of refused) {
      const text = JSON.stringify({ report, reason, message, rejectedAt: now.toISOString() });
      await disk.write(join(this.#rejected, keyOf(report) + JSON_ENDING), text);
      await disk.remove(join(this.#rejected, keyOf(report) + TOLD_ENDING));
    }
    for (const report of counted) {
      await this.discard(keyOf(report)); // another process may have had it rejected before
    }
    if (left.length === 0) {
      await disk.remove(join(this.#waiting, name));
    } else if (counted.length + refused.length > 0) {
      await disk.write(join(this.#waiting, name), JSON.stringify(left));
    }
  }

  /** The rejected records, or those of which the application has not been told. */
  async rejected(only: { untold?: boolean } = {}): Promise<Rejected[]> {
    await this.open();
    const found: Rejected[] = [];
    for (const name of await disk.names(this.#rejected, JSON_ENDING)) {
      const text = only.untold && name.endsWith(TOLD_ENDING) ? undefined : await disk.read(join(this.#rejected, name));
      if (text !== undefined) {
        const { report, reason, message, rejectedAt } = JSON.parse(text) as Refusal & { rejectedAt: string };
        found.push({ key: keyOf(report), record: recordOf(report), reason, message, rejectedAt: new Date(rejectedAt) });
      }
    }
    return found;
  }

  /** The application has been told of a rejected record. */
  async rejectedTold(key: string): Promise<void> {
    const path = join(this.#rejected, key);
    if ((await disk.read(path + JSON_ENDING)) !== undefined) {
      await disk.move(path + JSON_ENDING, path + TOLD_ENDING);
    }
  }

  /** Remove a rejected record. */
  async discard(key: string): Promise<void> {
    await disk.remove(join(this.#rejected, key + JSON_ENDING));
    await disk.remove(join(this.#rejected, key + TOLD_ENDING));
  }

  /** What is in the outbox; waiting usage from before `lostBefore` is lost to AWS. */
  async status(lostBefore: Date): Promise<Status> {
    await this.open();
    const times: number[] = [];
    for (const name of await this.parcels()) {
      times.push(...(await this.read(name)).map((report) => Date.parse(report.timestamp)));
    }
    const oldest = times.reduce((least, time) => Math.min(least, time), Infinity);
    return {
      waiting: times.length,
      lost: times.filter((time) => time < lostBefore.getTime()).length,
      oldest: times.length > 0 ? new Date(oldest) : undefined,
      rejected: (await this.rejected()).length,
    };
  }

  /** Whether a parcel holds usage of a subscription. */
  async concerns(name: string, subscription: string): Promise<boolean> {
    return (await this.read(name)).some((report) => subscriptionOf(report) === subscription);
  }

  /**
   * Become the one that sends, for a minute unless renewed. Two may think so for a moment; what both send is counted
   * once.
   */
  async beginSending(): Promise<boolean> {
    await this.open();
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const file = await open(this.#sending, "wx");
        await file.writeFile(String(process.pid));
        await file.close();
        return true;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
          throw error;
        }
      }
      if (!(await this.#isAbandoned())) {
        return false;
      }
      await disk.remove(this.#sending);
    }
    return false;
  }

  /** Stay the one that sends. */
  async goOnSending(): Promise<void> {
    const now = new Date();
    await utimes(this.#sending, now, now).catch(() => undefined);
  }

  async endSending(): Promise<void> {
    await disk.remove(this.#sending);
  }

  async #isAbandoned(): Promise<boolean> {
    const owner = Number(await disk.read(this.#sending));
    const modified = await stat(this.#sending).catch(() => undefined);
    return modified === undefined || Math.abs(Date.now() - modified.mtimeMs) > LEASE_MS || (owner > 0 && !isAlive(owner));
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The bytes of a record in a request, with its comma. */
export function sizeOf(report: Report): number {
  return Buffer.byteLength(JSON.stringify(report)) + 1;
}

function* parcelsOf(reports: readonly Report[]): Generator<Report[]> {
  let parcel: Report[] = [];
  let size = 0;
  for (const report of reports) {
    if (parcel.length === MAX_RECORDS || (parcel.length > 0 && size + sizeOf(report) > MAX_BYTES)) {
      yield parcel;
      parcel = [];
      size = 0;
    }
    parcel.push(report);
    size += sizeOf(report);
  }
  if (parcel.length > 0) {
    yield parcel;
  }
}

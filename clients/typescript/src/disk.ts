/** What the outbox does with files. A file that is written here is whole and on the disk, or not there. */

import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

export const disk = {
  /** Make a folder, if need be. */
  async folder(path: string): Promise<void> {
    await mkdir(path, { recursive: true });
  },

  /** Write a file, or write it anew. */
  async write(path: string, text: string): Promise<void> {
    const draft = join(dirname(path), `.${randomBytes(8).toString("hex")}.draft`);
    const file = await open(draft, "wx");
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.move(draft, path);
  },

  /** Rename a file; the new name is on the disk when this returns. */
  async move(from: string, to: string): Promise<void> {
    await rename(from, to);
    await syncFolder(dirname(to));
  },

  /** Remove a file, if it is there. */
  async remove(path: string): Promise<void> {
    await rm(path, { force: true });
  },

  /** A file's text, or undefined when another process has removed it. */
  async read(path: string): Promise<string | undefined> {
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  },

  /** The names of the files with an ending, in the order of their names. */
  async names(folder: string, ending: string): Promise<string[]> {
    return (await readdir(folder)).filter((name) => name.endsWith(ending) && !name.startsWith(".")).sort();
  },
};

async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") {
    return; // folders cannot be opened there; NTFS keeps a journal of names
  }
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

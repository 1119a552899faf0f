// What the tests share: published vectors, and random numbers of a seed that is printed.

import { existsSync, readFileSync } from "node:fs";
import { digestFromHex } from "../bytes.js";
import { document } from "../document.js";
import type { RecordProven, Report } from "../report.js";
import type { Unreviewed } from "../unreviewed.js";
import { type Verdict, verify, verifyRecord, verifyUnreviewed } from "../verify.js";

const SPEC = new URL("../../../../spec/", import.meta.url);

/** The consortium of the vectors. */
export const GENESIS_ID = digest("c64deb9baa6df77bdb8f6bfd1e765af964eb059b69fdf5df4bd044c5103c697b");

/** What a published file proves. */
export type Proven = Report | RecordProven | Unreviewed;

/** The published files with the verifier of each. */
export const FILES: readonly [string, (bytes: Uint8Array, genesisId: Uint8Array) => Verdict<Proven>][] = [
  ["evidence-1", verify],
  ["evidence-1-shown", verify],
  ["evidence-1-part", verify],
  ["evidence-1-gathered", verify],
  ["evidence-1-let-go", verify],
  ["record-proof-1", verifyRecord],
  ["unreviewed-1", verifyUnreviewed],
];

/** The tag of a record that was never written may be any other such tag: the same proof holds, and what is said is as true. */
export function isOtherAbsence(report: Proven, published: string): boolean {
  if (!("current" in report)) return false;
  const absent = report.current.findIndex(({ version }) => version === null);
  const there: { current: { tag: string }[] } = JSON.parse(published);
  const tag = there.current[absent]?.tag;
  if (tag === undefined) return false;
  const current = report.current.map((shown, i) => (i === absent ? { ...shown, tag } : shown));
  return `${document({ ...report, current })}\n` === published;
}

export function digest(text: string): Uint8Array {
  const value = digestFromHex(text);
  if (value === undefined) throw new Error(`\`${text}\` is no digest`);
  return value;
}

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/\s/g, ""), "hex"));
}

/** A file of `spec/`. */
export function page(name: string): string {
  return readFileSync(new URL(name, SPEC), "utf8");
}

/** A published file and its report as text. */
export function vector(name: string): { bytes: Uint8Array; report: string } {
  return { bytes: fromHex(page(`vectors/${name}.hex`)), report: page(`vectors/${name}.json`) };
}

/** The vectors of a page, line by line, in words. */
export function vectorsOf(name: string): string[][] {
  const block = /```vectors\n([^`]*)```/.exec(page(name))?.[1];
  if (block === undefined) throw new Error(`${name} has no vectors`);
  return block
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
}

export function isThere(file: string): boolean {
  return existsSync(file);
}

/** Random numbers of a printed seed. Source: the generator mulberry32, public domain. */
export class Random {
  #state: number;

  private constructor(seed: number) {
    this.#state = seed;
  }

  /** The seed is that of the environment, else always the same. */
  static seeded(what: string): Random {
    const seed = Number(process.env["VITALTRACE_SEED"] ?? 0x5eed_2026);
    console.log(`${what}: seed ${seed}`);
    return new Random(seed);
  }

  /** An integer below `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }

  one<T>(of: readonly T[]): T {
    const chosen = of[this.below(of.length)];
    if (chosen === undefined) throw new Error("there is nothing to choose from");
    return chosen;
  }
}

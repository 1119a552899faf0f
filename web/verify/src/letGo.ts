// Frames that were let go by policy, and how many of them were gone before, as far as the file's own batches tell.

import { type Digest, hex } from "./bytes.js";
import type { Filed } from "./log.js";

/** Frames of a binding that were let go. */
export type LetGo = {
  readonly binding: Uint8Array;
  /** Counter of the last frame that was let go before. */
  readonly after: bigint;
  /** Counter of the last frame. */
  readonly last: bigint;
  /** How many there were. */
  readonly frames: bigint;
  /** How many more the batches of the file name. */
  readonly goneBefore: bigint;
  /** Records with their roll-up. */
  readonly rollUps: number;
  /** The derivation policy. */
  readonly policy: Digest;
  /** Height of the block that made it final. */
  readonly height: bigint;
};

/** A batch by its first counter, with how many frames there are up to it. */
type UpTo = { readonly first: bigint; readonly frames: bigint };

/** Every disposal among the entries, in their order. */
export function letGoOf(entries: readonly Filed[]): LetGo[] {
  const batches = upToOf(entries);
  return entries.flatMap(({ entry: { body }, height }) => {
    if (body.kind !== "disposal") return [];
    const { binding, after, last, count, document, rollUps } = body;
    const of = batches.get(hex(binding)) ?? [];
    const gone = framesUpTo(of, last) - framesUpTo(of, after) - count;
    return [
      {
        binding,
        after,
        last,
        frames: count,
        goneBefore: gone > 0n ? gone : 0n,
        rollUps: rollUps.length,
        policy: document,
        height,
      },
    ];
  });
}

function upToOf(entries: readonly Filed[]): Map<string, UpTo[]> {
  const batches = new Map<string, { first: bigint; count: bigint }[]>();
  for (const { entry } of entries) {
    if (entry.body.kind !== "batch" || entry.body.count === 0) continue;
    const { binding, first, count } = entry.body;
    const of = batches.get(hex(binding)) ?? [];
    of.push({ first, count: BigInt(count) });
    batches.set(hex(binding), of);
  }
  const all = new Map<string, UpTo[]>();
  for (const [binding, of] of batches) {
    of.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
    let frames = 0n;
    all.set(
      binding,
      of.map(({ first, count }) => {
        frames += count;
        return { first, frames };
      }),
    );
  }
  return all;
}

/** How many frames are in the batches that begin with a counter or before. */
function framesUpTo(of: readonly UpTo[], counter: bigint): bigint {
  let [low, high] = [0, of.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const one = of[middle];
    if (one !== undefined && one.first <= counter) low = middle + 1;
    else high = middle;
  }
  return of[low - 1]?.frames ?? 0n;
}

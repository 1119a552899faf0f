// A part of a log: that the entries given are all of it in a range of heights, by their neighbours on both sides.

import type { LogPart, Neighbour } from "./bundle.js";
import type { Final } from "./finality.js";
import { type Filed, leafOf, readEntries } from "./log.js";
import { isContinued } from "./merkle.js";
import { Refusal } from "./refusal.js";
import type { LogHead } from "./state.js";

/** Heights from the first to the last. */
export type Range = { readonly from: bigint; readonly to: bigint };

/** The heights that a part is of: between its neighbours, else from the beginning, or up to the header. */
export function rangeOf({ left, right }: LogPart, at: Final): Range {
  return {
    from: left === undefined ? 0n : left.height + 1n,
    to: right === undefined ? at.header.height : right.height - 1n,
  };
}

/**
 * Recomputes the tree up to the end of what is given, and that the whole log continues it.
 *
 * Heights never fall in a log, so that nothing of the range stands before a neighbour that is below it, or after one above.
 */
export function checkPart(month: string, part: LogPart, { from, to }: Range, head: LogHead): Filed[] {
  const { before, left, right, rest } = part;
  const beside = (neighbour: Neighbour | undefined): number => (neighbour === undefined ? 0 : 1);
  const end = before.size + BigInt(beside(left) + part.entries.length + beside(right));
  const { size } = head.frontier;
  const begins = left !== undefined || before.size === 0n;
  const ends = right !== undefined || end === size;
  const inside = part.entries.every(({ height }) => from <= height && height <= to);
  if (end > size || from > to || !before.isConsistent() || !begins || !ends || !inside) {
    throw new Refusal(
      "completeness",
      `${month}: the part of the log is not all that there is between its neighbours`,
    );
  }
  const { entries, leaves } = readEntries(month, part.entries);
  const added = [
    ...(left === undefined ? [] : [leafOf(left)]),
    ...leaves,
    ...(right === undefined ? [] : [leafOf(right)]),
  ];
  const tree = before.with(added);
  // The head names the height of the last entry, which is given where the part reaches the end.
  const last = right ?? entries.at(-1) ?? left;
  const isLast = end !== size || last?.height === head.height;
  if (!isContinued(tree, head.frontier, rest) || !isLast) {
    throw new Refusal("completeness", `${month}: the entries are not those of the log, or not in its order`);
  }
  return entries;
}

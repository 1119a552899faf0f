// The log of a pseudonym: that the entries given are all of them, and how one month continues a month before.

import { type Digest, DIGEST_BYTES, equal, u64 } from "./bytes.js";
import type { LoggedEntry, MonthLog, OpenedLink } from "./bundle.js";
import { arrayHead, bytesHead, unsigned } from "./cbor.js";
import { commit } from "./commitment.js";
import { type Entry, entryDigest, entryFrom } from "./entry.js";
import { type Final, valueAt } from "./finality.js";
import { Frontier, leaf } from "./merkle.js";
import { checkPart, type Range, rangeOf } from "./part.js";
import { reading, Refusal } from "./refusal.js";
import { type LogHead, logHeadFrom, logKey } from "./state.js";
import { isAbsent } from "./stateProof.js";
import { type Month, monthOf, monthText } from "./time.js";

/** How a month continues a month before. */
export type Link =
  /** An entry names the log of an earlier month that the file gives, as it stood then. */
  | { readonly is: "continues"; readonly month: Month; readonly entries: bigint }
  /** It names an earlier month that is not in the file; no entries there mean that nothing was filed before. */
  | { readonly is: "earlier"; readonly pseudonym: Digest; readonly entries: bigint }
  /** It names an earlier month that the file gives, but none of its entries, which came late. */
  | { readonly is: "unseen"; readonly month: Month }
  /** The file does not open what the first entry names, or there is no entry. */
  | { readonly is: "unproven" };

/** An entry with the block that it became final in. */
export type Filed = {
  readonly height: bigint;
  readonly time: bigint;
  readonly digest: Digest;
  readonly entry: Entry;
};

/** A month whose log was checked. */
export type CheckedMonth = {
  readonly month: Month;
  readonly pseudonym: Digest;
  /** In the ledger's order. */
  readonly entries: readonly Filed[];
  /** Absent where there is no log. */
  readonly head: LogHead | undefined;
  /** How its first entry continues a month before. */
  readonly link: Link;
  /** The range of heights, where the file gives only a part of the log. */
  readonly range: Range | undefined;
  /** For the months that continue this one. */
  readonly leaves: readonly Digest[];
};

/** How many entries were by their own time made in another month than the one that the file names. */
export function misdated({ month, entries }: CheckedMonth): number {
  return entries.filter(({ entry }) => monthOf(entry.time) !== month).length;
}

const UNPROVEN: Link = { is: "unproven" };

/** Checks one month against the header, and against the months `before` it in the file. */
export function checkMonth(part: MonthLog, before: readonly CheckedMonth[], at: Final): CheckedMonth {
  const { month, pseudonym, log } = part;
  const name = monthText(month);
  const last = before.at(-1);
  if (last !== undefined && last.month >= month) {
    throw new Refusal("order", `${name}: the month is given twice or out of order`);
  }
  if (before.some((earlier) => equal(earlier.pseudonym, pseudonym))) {
    throw new Refusal("order", `${name}: the pseudonym is another month's`);
  }
  const key = logKey(pseudonym);
  if (log.is === "absent") {
    if (!isAbsent(key, log.proof, at.header.stateRoot)) {
      throw new Refusal("head", `${name}: the proof that there is no log does not hold under the header`);
    }
    return { month, pseudonym, entries: [], head: undefined, link: UNPROVEN, range: undefined, leaves: [] };
  }
  const head = valueAt("head", `the log of ${name}`, key, log.head, at, logHeadFrom);
  if (!head.frontier.isConsistent()) throw new Refusal("head", `${name}: the proven head of the log is malformed`);
  if (log.is === "part") {
    const range = rangeOf(log, at);
    const entries = checkPart(name, log, range, head);
    checkEntries(part, entries, at);
    // What came before the range is not known, and so neither is what a later month continues.
    return { month, pseudonym, entries, head, link: UNPROVEN, range, leaves: [] };
  }
  const { entries, leaves } = complete(name, head, log.entries);
  checkEntries(part, entries, at);
  const link = checkLinks(name, entries, log.links, before);
  return { month, pseudonym, entries, head, link, range: undefined, leaves };
}

/** Recomputes the tree from every entry: equal peaks mean that these are all, in this order, with these heights and times. */
function complete(month: string, head: LogHead, given: readonly LoggedEntry[]): { entries: Filed[]; leaves: Digest[] } {
  const { frontier } = head;
  if (frontier.size !== BigInt(given.length)) {
    throw new Refusal("completeness", `${month}: the log has ${frontier.size} entries, the file gives ${given.length}`);
  }
  const { entries, leaves } = readEntries(month, given);
  if (!Frontier.of(leaves).equals(frontier) || entries.at(-1)?.height !== head.height) {
    throw new Refusal("completeness", `${month}: the entries are not those of the log, or not in its order`);
  }
  return { entries, leaves };
}

/** Reads entries, with their leaves in the log. */
export function readEntries(month: string, given: readonly LoggedEntry[]): { entries: Filed[]; leaves: Digest[] } {
  const entries = given.map(({ height, time, entry: bytes }, index) => {
    const entry = reading("entries", `${month}: entry ${index} is malformed`, () => entryFrom(bytes));
    return { height, time, digest: entryDigest(bytes), entry };
  });
  return { entries, leaves: entries.map(leafOf) };
}

/** The leaf of an entry in its patient's log. */
export function leafOf({ height, time, digest }: Pick<Filed, "height" | "time" | "digest">): Digest {
  return leaf(u64(height), u64(time), digest);
}

/** What honest validators never let into a log; checked again, since it costs nothing. */
function checkEntries(part: MonthLog, entries: readonly Filed[], at: Final): void {
  const month = monthText(part.month);
  let last = { height: 0n, time: 0n };
  entries.forEach((filed, index) => {
    const { height, time, entry } = filed;
    if (entry.patient === undefined || !equal(entry.patient, part.pseudonym)) {
      throw new Refusal("entries", `${month}: entry ${index} is not filed under the month's pseudonym`);
    }
    // Time rises with height: equal heights have equal times, and no others have.
    const sameBlock = height === last.height && time === last.time;
    const laterBlock = height > last.height && time > last.time;
    if (!(sameBlock || laterBlock) || height > at.header.height || time > at.header.time) {
      throw new Refusal("entries", `${month}: entry ${index} stands before its predecessor or after the header`);
    }
    last = { height, time };
  });
  if (!entries.some(({ entry }) => monthOf(entry.time) === part.month)) {
    throw new Refusal("entries", `${month}: none of the entries was made in this month`);
  }
}

/** Checks every opened month link. The first entry's says how the whole month continues a month before. */
function checkLinks(
  month: string,
  entries: readonly Filed[],
  links: readonly OpenedLink[],
  before: readonly CheckedMonth[],
): Link {
  let first = UNPROVEN;
  let last = -1n;
  for (const opening of links) {
    const index = opening.entry;
    const committed = index < BigInt(entries.length) ? entries[Number(index)]?.entry.month : undefined;
    if (committed === undefined || index <= last) {
      throw new Refusal("links", `${month}: entry ${index} has no month link to open, or it is opened twice`);
    }
    last = index;
    if (!equal(commitmentOf(opening), committed)) {
      throw new Refusal("links", `${month}: the opening is not what entry ${index} commits to`);
    }
    const link = pastOf(opening, before);
    if (link === undefined) {
      throw new Refusal("links", `${month}: entry ${index} continues another log than a month before it in the file`);
    }
    if (index === 0n) first = link;
  }
  return first;
}

/** The commitment to the encoding of pseudonym, count and root. */
function commitmentOf({ previous, count, root, salt }: OpenedLink): Digest {
  const digestHead = bytesHead(DIGEST_BYTES);
  return commit(salt, arrayHead(3), digestHead, previous, unsigned(count), digestHead, root);
}

/**
 * What an opening says about the past, when it agrees with the file.
 *
 * Its author saw the earlier month as it was then; entries that came later only add to it, so that a prefix must agree. It need not be
 * the latest month before: entries that waited may have filled a month in between since. They may even have begun the month that is
 * named, of which the author had seen nothing: the empty prefix agrees with every log, and so shows nothing about this one.
 */
export function pastOf(opening: OpenedLink, before: readonly CheckedMonth[]): Link | undefined {
  const logs = before.filter((earlier) => earlier.head !== undefined);
  if (logs.length === 0) return { is: "earlier", pseudonym: opening.previous, entries: opening.count };
  const previous = logs.find((earlier) => equal(earlier.pseudonym, opening.previous));
  if (previous === undefined || opening.count > BigInt(previous.leaves.length)) return undefined;
  const seen = previous.leaves.slice(0, Number(opening.count));
  if (!equal(Frontier.of(seen).root(), opening.root)) return undefined;
  const { month } = previous;
  return opening.count === 0n ? { is: "unseen", month } : { is: "continues", month, entries: opening.count };
}

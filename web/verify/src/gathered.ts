// Gathered accesses: that entries of the file commit to them, and what may be said of each.

import { type Digest, domain, equal, join, sha256 } from "./bytes.js";
import type { GatheredAccess } from "./bundle.js";
import { type Entry, entryDigest, entryFrom } from "./entry.js";
import type { CheckedMonth, Filed } from "./log.js";
import { leaf, rootOf } from "./merkle.js";
import { placeKey } from "./place.js";
import { readable, Refusal } from "./refusal.js";
import { type Month, monthText } from "./time.js";

const MARK_DOMAIN = domain("vitaltrace/audit-tag/1");
const MARK_BYTES = 12;
const AUDIT_BIT = 0x80;

/** The accesses that the file opens, by the entries that commit to them, in their order there. */
export class Accesses {
  readonly #opened = new Map<string, Filed[]>();

  add(month: Month, entry: bigint, access: Filed): void {
    const key = placeKey(month, entry);
    const known = this.#opened.get(key);
    if (known === undefined) this.#opened.set(key, [access]);
    else known.push(access);
  }

  /** The opened accesses of one entry, at the height and block time of that entry. */
  of(month: Month, entry: bigint): readonly Filed[] {
    return this.#opened.get(placeKey(month, entry)) ?? [];
  }

  /** All of them. */
  all(): Filed[] {
    return [...this.#opened.values()].flat();
  }
}

/** Opens every access by the entry that commits to it. */
export function checkAccesses(given: readonly GatheredAccess[], months: readonly CheckedMonth[]): Accesses {
  const accesses = new Accesses();
  let last: GatheredAccess | undefined;
  for (const opening of given) {
    const { month, entry, place, access: bytes } = opening;
    if (last !== undefined && !isBefore(last, opening)) {
      throw new Refusal("accesses", "the gathered accesses in the file are not in order, or one is given twice");
    }
    last = opening;
    const entries = months.find((checked) => checked.month === month)?.entries ?? [];
    const outer = entry < BigInt(entries.length) ? entries[Number(entry)] : undefined;
    const access = outer && opened(opening, outer.entry);
    if (outer === undefined || access === undefined) {
      throw new Refusal(
        "accesses",
        `${monthText(month)}: entry ${entry} does not open as the access given at its place ${place}`,
      );
    }
    accesses.add(month, entry, { height: outer.height, time: outer.time, digest: entryDigest(bytes), entry: access });
  }
  return accesses;
}

/** Whether one stands before another in the one order that the format allows. */
function isBefore(a: GatheredAccess, b: GatheredAccess): boolean {
  if (a.month !== b.month) return a.month < b.month;
  return a.entry === b.entry ? a.place < b.place : a.entry < b.entry;
}

/** The access's own entry, if `outer` commits to it and it is of the kind that may be gathered. */
function opened({ place, access: bytes, path }: GatheredAccess, outer: Entry): Entry | undefined {
  const { body } = outer;
  if (body.kind !== "accesses") return undefined;
  const access = readable(() => entryFrom(bytes));
  const root = rootOf(leaf(entryDigest(bytes)), BigInt(place), path, BigInt(body.count));
  if (access === undefined || root === undefined || !equal(root, body.root)) return undefined;
  const isInTime = access.time >= outer.time && access.time - outer.time <= BigInt(body.ms);
  return isInTime && mayBeGathered(access) && areAlike(access, outer) ? access : undefined;
}

/** Whether an access was allowed, rests on nothing that the ledger has to check, is no write, and does not begin a log. */
function mayBeGathered({ org, month, body }: Entry): boolean {
  if (body.kind !== "access") return false;
  const isSet = (body.count === 0) === equal(body.set, sha256());
  const isNamed = equal(body.audit, join(markOf(org), body.audit.subarray(MARK_BYTES)));
  return isSet && isNamed && !body.denied && body.under === undefined && body.action !== "write" && month === undefined;
}

/** What the tags of an organisation's audit events begin with. */
function markOf(org: string): Digest {
  const mark = sha256(MARK_DOMAIN, new TextEncoder().encode(org)).slice(0, MARK_BYTES);
  mark[0] = (mark[0] ?? 0) | AUDIT_BIT;
  return mark;
}

/** Whether two entries are by the same person to the same patient, for the same purpose under the same policy. */
function areAlike(a: Entry, b: Entry): boolean {
  const isSamePatient =
    a.patient === undefined || b.patient === undefined ? a.patient === b.patient : equal(a.patient, b.patient);
  return (
    a.org === b.org &&
    equal(a.actor, b.actor) &&
    isSamePatient &&
    a.purpose === b.purpose &&
    equal(a.policy, b.policy)
  );
}

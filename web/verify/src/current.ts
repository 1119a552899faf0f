// Current versions: what the ledger has of a record at the header, or that it has nothing.

import { compare, type Digest, hex } from "./bytes.js";
import type { CurrentRecord } from "./bundle.js";
import { type Final, valueAt } from "./finality.js";
import type { Filed } from "./log.js";
import { committedBy } from "./opened.js";
import { Refusal } from "./refusal.js";
import { type RecordHead, isAudit, recordHeadFrom, recordKey } from "./state.js";
import { isAbsent } from "./stateProof.js";

/** What is proven of one record. */
export type Current = {
  readonly tag: Digest;
  /** Absent where the ledger has no version of it. */
  readonly head: RecordHead | undefined;
};

/** Checks every proof, and that no entry of the file is later than what it calls current. */
export function checkCurrent(given: readonly CurrentRecord[], entries: readonly Filed[], at: Final): Current[] {
  const latest = new Map<string, bigint>();
  for (const { entry } of entries) {
    const committed = committedBy(entry.body);
    if (committed === undefined) continue;
    const tag = hex(committed.tag);
    const known = latest.get(tag) ?? 0n;
    latest.set(tag, committed.version > known ? committed.version : known);
  }
  let last: Digest | undefined;
  return given.map(({ tag, value }) => {
    if (last !== undefined && compare(last, tag) >= 0) {
      throw new Refusal("current", "the current versions in the file are not in order, or one is given twice");
    }
    last = tag;
    if (isAudit(tag)) {
      throw new Refusal("current", `\`${hex(tag)}\` is an audit event's tag, of which the state holds nothing`);
    }
    const key = recordKey(tag);
    const subject = `the record \`${hex(tag)}\``;
    let head: RecordHead | undefined;
    if (value.is === "present") head = valueAt("current", subject, key, value.head, at, recordHeadFrom);
    else if (!isAbsent(key, value.proof, at.header.stateRoot)) {
      throw new Refusal("current", `the state proof of ${subject} does not hold under the header`);
    }
    if ((latest.get(hex(tag)) ?? 0n) > (head?.version ?? 0n)) {
      throw new Refusal("current", `the file has a later version of ${subject} than the one that it calls current`);
    }
    return { tag, head };
  });
}

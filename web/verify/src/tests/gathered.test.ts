// Gathered accesses: each is what its entry commits to, at its place, and they stand in one order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bundleFrom, type GatheredAccess, LIMITS } from "../bundle.js";
import { checkAccesses } from "../gathered.js";
import { type CheckedMonth, readEntries } from "../log.js";
import { Frontier } from "../merkle.js";
import { Refusal } from "../refusal.js";
import { verify } from "../verify.js";
import { GENESIS_ID, vector } from "./support.js";

const NAME = "evidence-1-gathered";
const bundle = bundleFrom(vector(NAME).bytes, LIMITS);

/** The months of the vector, of which all but the entries is passed over. */
const months: readonly CheckedMonth[] = bundle.months.map(({ month, pseudonym, log }) => {
  assert.ok(log.is === "present");
  const { entries, leaves } = readEntries(`${month}`, log.entries);
  const head = { frontier: Frontier.of(leaves), height: 0n };
  return { month, pseudonym, entries, head, link: { is: "unproven" }, range: undefined, leaves };
});

/** The refusal of these accesses, or nothing. */
function refused(...accesses: readonly GatheredAccess[]): string | undefined {
  try {
    checkAccesses(accesses, months);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof Refusal);
    assert.equal(error.check, "accesses");
    return error.message;
  }
}

test("an access is opened at its place and at no other, and by no other entry", () => {
  const opens = /^2026-11: entry \d+ does not open as the access given at its place \d+$/;
  const [first, second] = bundle.accesses;
  assert.ok(first !== undefined && second !== undefined);
  assert.equal(refused(...bundle.accesses), undefined);
  for (const access of bundle.accesses) {
    assert.equal(refused(access), undefined);
    for (const place of [0, 1, 2, 3, 4, 5, 2 ** 32 - 1].filter((other) => other !== access.place)) {
      assert.match(refused({ ...access, place }) ?? "", opens);
    }
    for (let entry = 0n; entry < 8n; entry += 1n) {
      if (entry !== access.entry) assert.match(refused({ ...access, entry }) ?? "", opens);
    }
    assert.match(refused({ ...access, path: access.path.slice(1) }) ?? "", opens);
    for (let at = 0; at < access.access.length; at += 1) {
      const changed = Uint8Array.from(access.access);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.match(refused({ ...access, access: changed }) ?? "", opens);
    }
  }
  assert.match(refused({ ...first, access: second.access }) ?? "", opens);
});

test("gathered accesses stand in one order and each once", () => {
  bundle.accesses.forEach((access, i) => {
    const message = "the gathered accesses in the file are not in order, or one is given twice";
    for (const earlier of bundle.accesses.slice(0, i + 1)) assert.equal(refused(access, earlier), message);
  });
});

test("what is gathered and not shown is counted, and is no audit event of the file", () => {
  const verdict = verify(vector(NAME).bytes, GENESIS_ID);
  assert.ok(verdict.ok);
  const { gathered, gathered_shown: shown, entries, entry_count: count, records } = verdict.report;
  assert.deepEqual([gathered, shown, entries.length, count], [7, 3, 13, 10]);
  assert.equal(records.filter(({ kind }) => kind === "audit event").length, 4);
});

// The published files have the published reports; nothing that was cut off, added or made up is accepted.

import assert from "node:assert/strict";
import { test } from "node:test";
import { document } from "../document.js";
import { formatOf } from "../bundle.js";
import { verify, verifyRecord, verifyUnreviewed } from "../verify.js";
import { FILES, fromHex, GENESIS_ID, page, Random, vector } from "./support.js";

for (const [name, check] of FILES) {
  const { bytes, report } = vector(name);

  test(`${name} has exactly the published report`, () => {
    const verdict = check(bytes, GENESIS_ID);
    assert.ok(verdict.ok);
    assert.equal(`${document(verdict.report)}\n`, report);
  });

  test(`${name} cut off anywhere, or with something behind it, is refused`, () => {
    for (let length = 0; length < bytes.length; length += 1) {
      assert.ok(!check(bytes.subarray(0, length), GENESIS_ID).ok, `${length} bytes`);
    }
    assert.ok(!check(Uint8Array.of(...bytes, 0), GENESIS_ID).ok);
  });

  test(`${name} proves nothing about another consortium`, () => {
    const other = Uint8Array.from(GENESIS_ID);
    other[31] = (other[31] ?? 0) ^ 1;
    const verdict = check(bytes, other);
    assert.ok(!verdict.ok);
    assert.equal(verdict.reason.check, "consortium");
  });
}

test("a file of one format is not taken for another", () => {
  const formats = [
    ["evidence-1", "vitaltrace/evidence/1", verify],
    ["record-proof-1", "vitaltrace/record-proof/1", verifyRecord],
    ["unreviewed-1", "vitaltrace/unreviewed/1", verifyUnreviewed],
  ] as const;
  for (const [name, format] of formats) {
    const { bytes } = vector(name);
    assert.equal(formatOf(bytes), format);
    for (const [, other, check] of formats.filter(([, other]) => other !== format)) {
      const verdict = check(bytes, GENESIS_ID);
      assert.ok(!verdict.ok);
      assert.deepEqual(verdict.reason, { check: "format", message: `the file is not in the format \`${other}\`` });
    }
  }
});

test("signatures are verified by the rules of ZIP 215, as the engine does", () => {
  // Same bundle, with signatures whose first halves are a point of order 8, the identity in a form that is not canonical, and a point
  // outside of the group of prime order.
  const verdict = verify(fromHex(page("vectors/evidence-1-zip215.hex")), GENESIS_ID);
  assert.ok(verdict.ok);
  assert.equal(`${document(verdict.report)}\n`, vector("evidence-1").report);
});

test("frames that were let go are told by binding and so is what was gone before", () => {
  const verdict = verify(vector("evidence-1-let-go").bytes, GENESIS_ID);
  assert.ok(verdict.ok);
  const { let_go, proven, not_proven } = verdict.report;
  assert.deepEqual(
    let_go.map(({ after, last, frames, gone_before, roll_ups }) => ({ after, last, frames, gone_before, roll_ups })),
    [{ after: 0n, last: 6n, frames: 5n, gone_before: 1n, roll_ups: 1 }],
  );
  assert.ok(proven.some((said) => said.includes("its frames up to counter 6 were let go")));
  assert.ok(not_proven.some((said) => said.includes("1 that batches name were gone before they could be let go")));
});

test("a month that was named as empty and filled late is accepted and not linked", () => {
  // The first entry is made in December and names November, in which nothing was filed; then November's only entry arrives.
  const { bytes, report } = vector("evidence-1-late");
  const verdict = verify(bytes, GENESIS_ID);
  assert.ok(verdict.ok);
  assert.equal(`${document(verdict.report)}\n`, report);
  assert.equal(verdict.report.complete, false);
  assert.deepEqual(verdict.report.months[1]?.link, { is: "unseen", month: "2026-11" });
  const doubt = "2026-12: its first entry names the log of 2026-11 with 0 entries";
  assert.ok(verdict.report.not_proven.some((said) => said.startsWith(doubt)));
});

test("a reader's own limits are kept", () => {
  const { bytes } = vector("evidence-1");
  for (const limits of [{ fileBytesMax: bytes.length - 1 }, { monthsMax: 1 }, { entriesMax: 2 }, { openedMax: 0 }]) {
    const verdict = verify(bytes, GENESIS_ID, limits);
    assert.ok(!verdict.ok);
    assert.equal(verdict.reason.check, "size");
  }
  assert.ok(verify(bytes, GENESIS_ID, { fileBytesMax: bytes.length, monthsMax: 2, entriesMax: 3, openedMax: 1 }).ok);
});

test("random bytes, and random tails of a good beginning, are refused and never throw", () => {
  const random = Random.seeded("random bytes");
  for (const [name, check] of FILES) {
    const { bytes } = vector(name);
    for (let i = 0; i < 2_000; i += 1) {
      const noise = random.bytes(random.below(200));
      const kept = bytes.subarray(0, i % 2 === 0 ? 0 : random.below(bytes.length));
      assert.ok(!check(Uint8Array.of(...kept, ...noise), GENESIS_ID).ok);
    }
  }
});

// The count of overrides: of every member, in the roll's order, and in words.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Finality, LIMITS, type StateProof, UNREVIEWED_FORMAT, unreviewedFrom } from "../bundle.js";
import { join } from "../bytes.js";
import { arrayHead, bytesHead, textOf } from "../cbor.js";
import { headerDigest, headerFrom } from "../header.js";
import { type Check, Refusal } from "../refusal.js";
import { rollFrom } from "../state.js";
import { unreviewedSentences } from "../unreviewed.js";
import { verifyUnreviewed } from "../verify.js";
import { GENESIS_ID, vector } from "./support.js";

const { bytes } = vector("unreviewed-1");
const { finality, roll, members } = unreviewedFrom(bytes, LIMITS);
const [ambulance, insurance, mercy, regulator] = members as [StateProof, StateProof, StateProof, StateProof];

/** The file with another roll, or with other members. */
function fileOf(changed: { roll?: StateProof; members?: readonly StateProof[]; count?: Uint8Array }): Uint8Array {
  const given = changed.members ?? members;
  return join(
    arrayHead(4),
    textOf(UNREVIEWED_FORMAT),
    finalityOf(finality),
    proofOf(changed.roll ?? roll),
    changed.count ?? arrayHead(given.length),
    ...given.map(proofOf),
  );
}

function finalityOf({ genesis, header, certificate, handovers }: Finality): Uint8Array {
  assert.equal(handovers.length, 0);
  return join(arrayHead(4), stringOf(genesis), stringOf(header), stringOf(certificate), arrayHead(0));
}

function proofOf({ value, proof }: StateProof): Uint8Array {
  return join(arrayHead(2), stringOf(value), stringOf(proof));
}

function stringOf(content: Uint8Array): Uint8Array {
  return join(bytesHead(content.length), content);
}

function refused(file: Uint8Array, check: Check, message: string): void {
  const verdict = verifyUnreviewed(file, GENESIS_ID);
  assert.ok(!verdict.ok);
  assert.deepEqual(verdict.reason, { check, message });
}

test("the number of overrides that nobody reviewed is proven of every member", () => {
  assert.deepEqual(fileOf({}), bytes);
  const verdict = verifyUnreviewed(bytes, GENESIS_ID);
  assert.ok(verdict.ok);
  assert.deepEqual(verdict.report.members, [
    ["ambulance", 1n],
    ["insurance", 0n],
    ["mercy", 2n],
    ["regulator", 0n],
  ]);
  assert.deepEqual(rollFrom(roll.value), ["ambulance", "insurance", "mercy", "regulator"]);
});

test("a count that leaves a member out, or has one too many, is refused", () => {
  const message = "the state proof of the roll of members does not hold under the header";
  for (const given of [[], [ambulance, insurance, mercy], [insurance, mercy, regulator], [...members, regulator]]) {
    refused(fileOf({ members: given }), "roll", message);
  }
  refused(fileOf({ roll: ambulance }), "roll", message);
  refused(fileOf({ roll: { value: ambulance.value, proof: roll.proof } }), "roll", message);
});

test("a count that takes a member for another one is refused by the name of the first", () => {
  const of = (org: string): string => `the state proof of the member \`${org}\` does not hold under the header`;
  refused(fileOf({ members: [insurance, ambulance, mercy, regulator] }), "members", of("ambulance"));
  refused(fileOf({ members: [ambulance, insurance, insurance, regulator] }), "members", of("mercy"));
  const better = { value: Uint8Array.from(mercy.value).fill(0, -1), proof: mercy.proof };
  refused(fileOf({ members: [ambulance, insurance, better, regulator] }), "members", of("mercy"));
});

test("more members than there may be are refused when they are read", () => {
  const verdict = verifyUnreviewed(fileOf({ members: Array(256).fill(ambulance) }), GENESIS_ID);
  assert.ok(!verdict.ok && verdict.reason.check === "roll");
  const message = "the file is malformed: an array has 257 elements, 256 are allowed";
  refused(fileOf({ members: Array(257).fill(ambulance) }), "format", message);
  // Announced only: nothing is read, and nothing is allocated for it.
  refused(fileOf({ count: arrayHead(0xffff_ffff), members: [] }), "format", message.replace("257", `${0xffff_ffff}`));
});

test("a count beyond what the reader allows is refused before it is read", () => {
  const verdict = verifyUnreviewed(bytes, GENESIS_ID, { fileBytesMax: bytes.length - 1 });
  assert.ok(!verdict.ok);
  assert.equal(verdict.reason.check, "size");
  assert.ok(verifyUnreviewed(bytes, GENESIS_ID, { fileBytesMax: bytes.length }).ok);
});

test("a count goes through the block that the reader knows, or is refused", () => {
  const { height } = headerFrom(finality.header);
  const block = headerDigest(finality.header);
  assert.ok(verifyUnreviewed(bytes, GENESIS_ID, {}, { height, block }).ok);
  for (const checkpoint of [
    { height, block: GENESIS_ID },
    { height: height + 1n, block },
  ]) {
    const verdict = verifyUnreviewed(bytes, GENESIS_ID, {}, checkpoint);
    assert.ok(!verdict.ok);
    assert.equal(verdict.reason.check, "finality");
  }
});

test("the sentences say how many overrides of each member are not reviewed, of any number", () => {
  const at = "at height 7 (2026-11-01T00:30:00.000Z)";
  const counts = [0n, 1n, 2n, (1n << 64n) - 1n].map((count) => ["a", count] as const);
  assert.deepEqual(unreviewedSentences({ height: 7n, time: 1_793_493_000_000n, members: counts }), [
    `a: every override that it opened is reviewed, ${at}`,
    `a: 1 override that it opened is not reviewed, ${at}`,
    `a: 2 overrides that it opened are not reviewed, ${at}`,
    `a: 18446744073709551615 overrides that it opened are not reviewed, ${at}`,
  ]);
  assert.deepEqual(unreviewedSentences({ height: 0n, time: 0n, members: [] }), []);
});

test("no refusal but a refusal is thrown by reading a count", () => {
  for (let length = 0; length < bytes.length; length += 7) {
    assert.throws(() => unreviewedFrom(bytes.subarray(0, length), LIMITS), Refusal);
  }
});

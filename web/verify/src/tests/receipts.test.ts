// Receipts and checkpoints are written to the byte as the other verifier writes them, from what a verified bundle holds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bundleFrom, LIMITS } from "../bundle.js";
import { hex } from "../bytes.js";
import { checkpoint } from "../checkpoint.js";
import { receipt, receiptMessage } from "../receipt.js";
import { isSignedBy } from "../signed.js";
import { verify } from "../verify.js";
import { digest, fromHex, GENESIS_ID, page, vector } from "./support.js";

const published = new Map(
  page("vectors/receipt-1.txt")
    .trim()
    .split("\n")
    .map((line) => line.split(" ") as [string, string]),
);
const value = (name: string): string => published.get(name) ?? "";

const { bytes } = vector("evidence-1-shown");
const bundle = bundleFrom(bytes, LIMITS);
const verdict = verify(bytes, GENESIS_ID);

test("the published receipt is what place and signature of the bundle give", () => {
  assert.ok(verdict.ok);
  const { ledger_log: log } = verdict.report;
  const [witness] = bundle.witnesses;
  const [place] = bundle.places;
  assert.ok(witness?.word !== undefined && place !== undefined);
  assert.equal(witness.org, value("organisation"));
  const inclusion = { size: log.size, index: place.index, path: place.path };
  const written = receipt(GENESIS_ID, witness.org, digest(value("key")), witness.word.receipt, inclusion);
  assert.equal(hex(written), value("receipt"));
});

test("the published checkpoint is what the signatures of the bundle give", () => {
  assert.ok(verdict.ok);
  const { ledger_log: log, witnesses } = verdict.report;
  const cosignatures = bundle.witnesses.flatMap(({ org, word }) => {
    const key = witnesses.find(({ organisation }) => organisation === org)?.key;
    if (word === undefined || key === undefined) return [];
    return [{ org, key: digest(key), time: word.time, signature: word.cosignature }];
  });
  const note = checkpoint(GENESIS_ID, { size: log.size, root: digest(log.root) }, cosignatures);
  assert.equal(note, page("vectors/checkpoint-1.txt"));
});

test("a signature holds for its message and its key, and with no bit changed", () => {
  assert.ok(verdict.ok);
  const key = digest(value("key"));
  const message = receiptMessage(GENESIS_ID, value("organisation"), key, digest(verdict.report.ledger_log.root));
  const signature = bundle.witnesses[0]?.word?.receipt ?? new Uint8Array();
  assert.ok(isSignedBy(key, message, signature));
  assert.ok(!isSignedBy(key, message.subarray(1), signature));
  assert.ok(!isSignedBy(digest("00".repeat(32)), message, signature));
  for (let at = 0; at < signature.length; at += 1) {
    const changed = Uint8Array.from(signature);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    assert.ok(!isSignedBy(key, message, changed), `byte ${at}`);
  }
  // `s` plus the order of the group says the same, and is refused.
  const more = fromHex(hex(signature));
  let carry = 0;
  const order = fromHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  order.forEach((byte, i) => {
    const sum = (more[32 + i] ?? 0) + byte + carry;
    more[32 + i] = sum & 0xff;
    carry = sum >> 8;
  });
  assert.ok(!isSignedBy(key, message, more));
});

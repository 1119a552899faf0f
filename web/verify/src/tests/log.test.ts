// What an opened month link says about the past: the log that it names, as far as its author saw it, or nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../bytes.js";
import type { OpenedLink } from "../bundle.js";
import { type CheckedMonth, type Link, pastOf } from "../log.js";
import { Frontier } from "../merkle.js";

const digest = (text: string): Uint8Array => sha256(new TextEncoder().encode(text));
const EMPTY = sha256();

const LEAVES = ["one", "two", "three"].map(digest);

function month(number: number, leaves: readonly Uint8Array[]): CheckedMonth {
  const head = leaves.length === 0 ? undefined : { frontier: Frontier.of(leaves), height: 1n };
  const link: Link = { is: "unproven" };
  return { month: number, pseudonym: digest(`month ${number}`), entries: [], head, link, range: undefined, leaves };
}

function opening(number: number, count: bigint, root: Uint8Array): OpenedLink {
  return { entry: 0n, previous: digest(`month ${number}`), count, root, salt: digest("salt") };
}

/** September and November have logs, October has none. */
const BEFORE = [month(9, LEAVES), month(10, []), month(11, LEAVES.slice(0, 1))];

test("every beginning of an earlier log is a good past, and the empty one links nothing", () => {
  for (const count of [1, 2, 3]) {
    const root = Frontier.of(LEAVES.slice(0, count)).root();
    const expected: Link = { is: "continues", month: 9, entries: BigInt(count) };
    assert.deepEqual(pastOf(opening(9, BigInt(count), root), BEFORE), expected);
  }
  assert.deepEqual(pastOf(opening(9, 0n, EMPTY), BEFORE), { is: "unseen", month: 9 });
  assert.deepEqual(pastOf(opening(11, 0n, EMPTY), BEFORE), { is: "unseen", month: 11 });
});

test("what is no beginning of an earlier log is refused, also an empty one of a month without a log", () => {
  for (const link of [
    opening(9, 0n, digest("other")),
    opening(9, 1n, EMPTY),
    opening(9, 2n, Frontier.of(LEAVES).root()),
    opening(9, 4n, Frontier.of(LEAVES).root()),
    opening(9, (1n << 64n) - 1n, EMPTY),
    opening(10, 0n, EMPTY),
    opening(8, 0n, EMPTY),
    opening(12, 0n, EMPTY),
  ]) {
    assert.equal(pastOf(link, BEFORE), undefined, `${link.count}`);
  }
});

test("before the first log of a file an opening is its author's word", () => {
  for (const count of [0n, 7n]) {
    const expected: Link = { is: "earlier", pseudonym: digest("month 10"), entries: count };
    assert.deepEqual(pastOf(opening(10, count, EMPTY), [month(10, [])]), expected);
  }
});

// What was computed of the same bytes is not computed again, and what was computed of others is no answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { once } from "../once.js";

test("an answer counts for its question and its bytes alone", () => {
  const asked: string[] = [];
  const ask = (question: string, parts: readonly number[][], answer: boolean) =>
    once(question, parts.map((part) => Uint8Array.from(part)), () => {
      asked.push(question);
      return answer;
    });
  assert.equal(ask("a", [[1], [2]], true), true);
  assert.equal(ask("a", [[1], [2]], false), true, "it is known");
  assert.equal(ask("a", [[1], [3]], false), false);
  assert.equal(ask("a", [[2], [2]], false), false);
  assert.equal(ask("b", [[1], [2]], false), false);
  assert.deepEqual(asked, ["a", "a", "a", "b"]);
});

test("no more answers are kept than there is room for", () => {
  const bytes = (n: number) => Uint8Array.from([n >> 8, n & 0xff]);
  let computed = 0;
  const ask = (n: number) => once("room", [bytes(n)], () => (computed += 1) > 0);
  for (let n = 0; n < 5_000; n += 1) ask(n);
  assert.equal(computed, 5_000);
  ask(4_999);
  assert.equal(computed, 5_000, "the last is kept");
  ask(0);
  assert.equal(computed, 5_001, "the first is not");
});

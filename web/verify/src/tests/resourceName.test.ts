// The name that a record gives itself has one reading, or none.

import assert from "node:assert/strict";
import { test } from "node:test";
import { resourceName } from "../resourceName.js";

function check(text: string, expected: string | undefined): void {
  assert.equal(resourceName(new TextEncoder().encode(text)), expected, text.slice(0, 100));
}

test("the name stands in the object itself, in any order and spelling", () => {
  check('{"resourceType":"Patient","id":"1"}', "Patient/1");
  check(' \t\r\n{ "id" : "1" , "resourceType" : "Patient" } \n', "Patient/1");
  check('{"\\u0069d":"1","resourceType":"P\\u0061tient"}', "Patient/1");
  check('{"contained":[{"resourceType":"Other","id":"2"}],"resourceType":"Patient","id":"1"}', "Patient/1");
  check('{"resourceType":"Patient","id":"\\ud834\\udd1e"}', "Patient/\u{1d11e}");
});

test("other members may be anything that is JSON", () => {
  for (const value of [
    "null",
    "true",
    "false",
    "0",
    "-0.5e+7",
    '""',
    '"\\ud800"',
    "[]",
    "{}",
    "[1,[2,{}]]",
    '{"a":{"a":1,"a":2}}',
  ]) {
    check(`{"resourceType":"Patient","other":${value},"id":"1"}`, "Patient/1");
  }
  for (const value of [
    "",
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "tru",
    "nulll",
    "'a'",
    "[1,]",
    "{,}",
    "[1}",
    '{"a"}',
    '"\n"',
    '"\\x"',
    '"\\u12g4"',
    "\u00a0",
  ]) {
    check(`{"resourceType":"Patient","other":${value},"id":"1"}`, undefined);
  }
});

test("what stands twice, is no text or is not there, names nothing", () => {
  check('{"resourceType":"Patient","id":"1","id":"1"}', undefined);
  check('{"resourceType":"Patient","id":"1","\\u0069d":"2"}', undefined);
  check('{"resourceType":"Patient","id":1}', undefined);
  check('{"resourceType":null,"id":"1"}', undefined);
  check('{"resourceType":"Patient"}', undefined);
  check('{"resourceType":"Patient","id":"\\ud800"}', undefined);
});

test("what is no JSON object names nothing", () => {
  for (const text of [
    "",
    "null",
    '["Patient","1"]',
    ' ["Patient","1"]',
    '[{"resourceType":"Patient","id":"1"}]',
    '{"resourceType":"Patient","id":"1"',
    '{"resourceType":"Patient","id":"1"}x',
    '\ufeff{"resourceType":"Patient","id":"1"}',
  ]) {
    check(text, undefined);
  }
});

test("bytes that are not UTF-8 name nothing wherever they stand", () => {
  const name = new TextEncoder().encode('{"resourceType":"Patient","id":"1","a":"');
  assert.equal(resourceName(Uint8Array.of(...name, 0xc3, 0xa9, 0x22, 0x7d)), "Patient/1");
  for (const wrong of [[0xff], [0xe9], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    assert.equal(resourceName(Uint8Array.from([...name, ...wrong, 0x22, 0x7d])), undefined, wrong.join(" "));
  }
});

test("no depth and no length is too much", () => {
  const depth = 1_000_000;
  check(`{"resourceType":"Patient","id":"1","deep":${"[".repeat(depth)}${"]".repeat(depth)}}`, "Patient/1");
  check(
    `{"resourceType":"Patient","id":"1","long":"${"a".repeat(4_000_000)}","digits":${"7".repeat(1_000_000)}}`,
    "Patient/1",
  );
});

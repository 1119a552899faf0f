// The reader of the engine's encoding: varints have one form, lengths are bounded.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineReader, varint } from "../engine.js";
import { Malformed } from "../refusal.js";
import { fromHex, Random } from "./support.js";

function read<T>(hex: string, how: (reader: EngineReader) => T): T {
  const reader = new EngineReader(fromHex(hex));
  const value = how(reader);
  reader.end();
  return value;
}

function refused(how: (reader: EngineReader) => unknown, ...encodings: readonly string[]): void {
  for (const hex of encodings) assert.throws(() => read(hex, how), Malformed, hex);
}

test("varints have seven bits in each byte and one form", () => {
  const u64 = (reader: EngineReader): bigint => reader.varint();
  assert.equal(read("00", u64), 0n);
  assert.equal(read("7f", u64), 127n);
  assert.equal(read("8001", u64), 128n);
  assert.equal(read("ac02", u64), 300n);
  assert.equal(read("ffffffffffffffffff01", u64), (1n << 64n) - 1n);
  refused(
    u64,
    "",
    "80",
    "8000",
    "ff00",
    "808000",
    "ffffffffffffffffff02",
    "ffffffffffffffffff81",
    "ffffffffffffffffff8001",
    "0000",
  );
});

test("lengths have 32 bits and a bound", () => {
  const length = (reader: EngineReader): number => reader.length(0xffff_ffff);
  assert.equal(read("ffffffff0f", length), 0xffff_ffff);
  refused(length, "ffffffff1f", "ffffffff8f00", "808080808001");
  refused((reader) => reader.length(127), "8001");
});

test("every varint that is written is read again", () => {
  const random = Random.seeded("varints");
  for (let bits = 0n; bits < 64n; bits += 1n) {
    for (const value of [1n << bits, (1n << bits) - 1n, (1n << bits) | BigInt(random.below(2 ** 31))]) {
      const reader = new EngineReader(varint(value));
      assert.equal(reader.varint(), value);
      reader.end();
    }
  }
});

test("bytes, truth and what may be absent are there or refused", () => {
  assert.equal(
    read("0000000000000102", (reader) => reader.u64()),
    258n,
  );
  assert.equal(
    read("00", (reader) => reader.optional(() => reader.byte())),
    undefined,
  );
  assert.equal(
    read("0107", (reader) => reader.optional(() => reader.byte())),
    7,
  );
  refused((reader) => reader.u64(), "00000000000001");
  refused((reader) => reader.boolean(), "02", "ff", "");
  refused((reader) => reader.digest(), "00".repeat(31), "00".repeat(33));
});

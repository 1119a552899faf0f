// The reader of deterministic CBOR takes one encoding of each value, and no other.

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrayHead, bytesHead, decode, type Reader, unsigned } from "../cbor.js";
import { Malformed } from "../refusal.js";
import { fromHex, Random } from "./support.js";

function read<T>(hex: string, reader: (reader: Reader) => T): T {
  return decode(fromHex(hex), 1_000, reader);
}

function refused(reader: (reader: Reader) => unknown, ...encodings: readonly string[]): void {
  for (const hex of encodings) assert.throws(() => read(hex, reader), Malformed, hex);
}

test("integers have their shortest form", () => {
  const u64 = (reader: Reader): bigint => reader.u64();
  assert.equal(read("00", u64), 0n);
  assert.equal(read("17", u64), 23n);
  assert.equal(read("1818", u64), 24n);
  assert.equal(read("190100", u64), 256n);
  assert.equal(read("1a00010000", u64), 65_536n);
  assert.equal(read("1bffffffffffffffff", u64), (1n << 64n) - 1n);
  refused(
    u64,
    "",
    "18",
    "1800",
    "1817",
    "190017",
    "1900ff",
    "1a0000ffff",
    "1b00000000ffffffff",
    "1c",
    "1d",
    "1e",
    "1f",
    "20",
    "f4",
    "c100",
    "0000",
  );
});

test("integers of 32 bits have no more", () => {
  const u32 = (reader: Reader): number => reader.u32();
  assert.equal(read("1affffffff", u32), 0xffff_ffff);
  refused(u32, "1b0000000100000000", "1bffffffffffffffff");
});

test("byte strings and texts are definite, bounded and there", () => {
  const bytes = (reader: Reader): Uint8Array => reader.bytes(3);
  assert.deepEqual(read("43010203", bytes), Uint8Array.of(1, 2, 3));
  assert.deepEqual(read("40", bytes), new Uint8Array());
  refused(bytes, "4401020304", "4301", "580101", "5f4101ff", "63616263", "5bffffffffffffffff", "4101ff");
  const fixed = (reader: Reader): Uint8Array => reader.fixed(2);
  refused(fixed, "4101", "43010203");
  const text = (reader: Reader): string => reader.text(4);
  assert.equal(read("62c3a4", text), "ä");
  assert.equal(read("63efbbbf", text), "\ufeff", "a byte order mark is a character like others");
  refused(text, "61ff", "62c328", "63eda080", "62c080", "6161ff", "656162636465", "4161", "7f6161ff");
});

test("arrays are definite, bounded, and not longer than what is there", () => {
  const array = (reader: Reader): bigint[] => reader.array(3, (reader) => reader.u64());
  assert.deepEqual(read("820102", array), [1n, 2n]);
  assert.deepEqual(read("80", array), []);
  refused(array, "8401020304", "8301", "9f01ff", "980101", "9bffffffffffffffff", "a0", "8101f6");
  refused((reader) => reader.fields(2, 3), "8101", "840102030405");
});

test("choices have the number of a variant", () => {
  const choice = (reader: Reader): string =>
    reader.choice([(reader) => (reader.fields(0), "none"), (reader) => (reader.fields(1), String(reader.u64()))]);
  assert.equal(read("820080", choice), "none");
  assert.equal(read("82018107", choice), "7");
  refused(choice, "8200", "00", "820180", "82008107", "820280", "83008000", "821b800000000000000080");
  const oneOf = (reader: Reader): string => reader.oneOf(["a", "b"]);
  assert.equal(read("01", oneOf), "b");
  refused(oneOf, "02", "1bffffffffffffffff", "8100");
});

test("what is absent is null, and truth has two values", () => {
  const optional = (reader: Reader): bigint | undefined => reader.optional((reader) => reader.u64());
  assert.equal(read("f6", optional), undefined);
  assert.equal(read("05", optional), 5n);
  refused(optional, "f7", "f4", "");
  assert.deepEqual([read("f4", (reader) => reader.boolean()), read("f5", (reader) => reader.boolean())], [false, true]);
  refused((reader) => reader.boolean(), "00", "01", "f6", "f814", "f815");
});

test("more bytes than allowed are not read", () => {
  assert.throws(() => decode(new Uint8Array(11), 10, () => assert.fail("nothing is read")), Malformed);
});

test("what is encoded is read again", () => {
  const random = Random.seeded("integers");
  for (let bits = 0n; bits <= 64n; bits += 1n) {
    for (const value of [1n << bits, (1n << bits) - 1n, (1n << bits) + BigInt(random.below(100))]) {
      if (value >> 64n > 0n) continue;
      assert.equal(
        decode(unsigned(value), 9, (reader) => reader.u64()),
        value,
      );
    }
  }
  for (const length of [0, 1, 23, 24, 255, 256, 65_536]) {
    const bytes = random.bytes(length);
    assert.deepEqual(
      decode(Uint8Array.from([...bytesHead(length), ...bytes]), 70_000, (reader) => reader.bytes(length)),
      bytes,
    );
    const zeros = new Uint8Array(length);
    assert.equal(
      decode(Uint8Array.from([...arrayHead(length), ...zeros]), 70_000, (reader) =>
        reader.array(length, (reader) => reader.u64()),
      ).length,
      length,
    );
  }
});

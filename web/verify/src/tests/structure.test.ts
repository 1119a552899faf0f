// Changes that know the structure: elements of arrays left out, doubled and exchanged, integers and lengths changed, at every depth.

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrayHead, bytesHead, Reader, unsigned } from "../cbor.js";
import { document } from "../document.js";
import { Malformed } from "../refusal.js";
import { type Verdict, verify, verifyRecord, verifyUnreviewed } from "../verify.js";
import { fromHex, GENESIS_ID, isOtherAbsence, type Proven, Random, vector } from "./support.js";

/** An item of CBOR; a byte string may hold an item itself, as entries and headers do. */
type Item =
  | { readonly is: "integer"; readonly value: bigint }
  | { readonly is: "array"; readonly items: readonly Item[] }
  | { readonly is: "wrapped"; readonly item: Item }
  | { readonly is: "bytes"; readonly bytes: Uint8Array }
  /** Texts and simple values, as they stand in the file. */
  | { readonly is: "other"; readonly bytes: Uint8Array };

function itemFrom(bytes: Uint8Array): Item {
  const [item, end] = itemAt(bytes, 0);
  if (end !== bytes.length) throw new Malformed("bytes stand after the end");
  return item;
}

/** The item that begins there, and where it ends. */
function itemAt(bytes: Uint8Array, at: number): [Item, number] {
  const first = bytes[at];
  if (first === undefined) throw new Malformed("ends too early");
  const info = first & 0x1f;
  const size = info < 24 ? 0 : 1 << (info - 24);
  const head = bytes.subarray(at + 1, at + 1 + size);
  const argument = info < 24 ? BigInt(info) : head.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  const from = at + 1 + size;
  const to = from + Number(argument);
  switch (first >> 5) {
    case 0:
      return [{ is: "integer", value: argument }, from];
    case 2:
      return [wrapped(bytes.subarray(from, to)), to];
    case 3:
      return [{ is: "other", bytes: bytes.subarray(at, to) }, to];
    case 4: {
      if (argument > BigInt(bytes.length)) throw new Malformed("ends too early");
      const items: Item[] = [];
      let next = from;
      for (let i = 0n; i < argument; i += 1n) {
        const [item, end] = itemAt(bytes, next);
        items.push(item);
        next = end;
      }
      return [{ is: "array", items }, next];
    }
    case 7:
      return [{ is: "other", bytes: bytes.subarray(at, from) }, from];
    default:
      throw new Malformed("not ours");
  }
}

/** A byte string, opened when an array is in it. */
function wrapped(bytes: Uint8Array): Item {
  if ((bytes[0] ?? 0) >> 5 === 4) {
    try {
      const item = itemFrom(bytes);
      if (Buffer.from(encoded(item)).equals(bytes)) return { is: "wrapped", item };
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
    }
  }
  return { is: "bytes", bytes };
}

function encoded(item: Item): Uint8Array {
  switch (item.is) {
    case "integer":
      return unsigned(item.value);
    case "array":
      return Uint8Array.of(...arrayHead(item.items.length), ...item.items.flatMap((one) => [...encoded(one)]));
    case "wrapped": {
      const bytes = encoded(item.item);
      return Uint8Array.of(...bytesHead(bytes.length), ...bytes);
    }
    case "bytes":
      return Uint8Array.of(...bytesHead(item.bytes.length), ...item.bytes);
    case "other":
      return item.bytes;
  }
}

/** Every item that differs from `item` by one change somewhere in it. */
function* changes(item: Item, random: Random): Generator<Item> {
  switch (item.is) {
    case "integer":
      for (const value of [
        item.value + 1n,
        item.value - 1n,
        item.value ^ 1n,
        0n,
        23n,
        24n,
        0xffffn,
        0xffff_ffffn,
        (1n << 64n) - 1n,
      ]) {
        if (value >= 0n && value < 1n << 64n) yield { is: "integer", value };
      }
      break;
    case "bytes":
      yield { is: "bytes", bytes: item.bytes.subarray(1) };
      yield { is: "bytes", bytes: Uint8Array.of(...item.bytes, 0) };
      yield { is: "bytes", bytes: random.bytes(item.bytes.length) };
      break;
    case "wrapped":
      for (const inner of changes(item.item, random)) yield { is: "wrapped", item: inner };
      break;
    case "array": {
      const { items } = item;
      for (const [i, one] of items.entries()) {
        yield { is: "array", items: items.toSpliced(i, 1) };
        yield { is: "array", items: items.toSpliced(i, 0, one) };
        yield { is: "array", items: items.toSpliced(i, 1, { is: "other", bytes: Uint8Array.of(0xf6) }) };
        const other = random.below(items.length);
        const swapped = items.with(i, items[other] ?? one).with(other, one);
        yield { is: "array", items: swapped };
        for (const inner of changes(one, random)) yield { is: "array", items: items.with(i, inner) };
      }
      break;
    }
    case "other":
      break;
  }
}

/** What a prover may leave out freely: the last month, opened links and records, and all that is shown besides. The report then says so. */
function isPartOf(part: Uint8Array, name: string): boolean {
  const item = itemFrom(part);
  const { bytes } = vector(name);
  const whole = itemFrom(bytes);
  if (item.is !== "array" || whole.is !== "array" || item.items.length !== whole.items.length) return false;
  return LEFT_OUT.some((path) => {
    const without = removed(whole, path);
    return without !== undefined && Buffer.from(encoded(without)).equals(part);
  });
}

/** Places in the bundle: months, links of the months, opened records. */
const LEFT_OUT: readonly (readonly number[])[] = [
  [3, 0],
  [3, 1],
  [3, 0, 2, 1, 2, 0],
  [3, 1, 2, 1, 2, 0],
  [4, 0],
  [4, 1],
  [4, 2],
  // Current versions, device keys, places, witnesses, gathered accesses, and the signatures of each of these.
  ...[5, 6, 7, 8, 9].flatMap((list) => Array.from({ length: 10 }, (_, i) => [list, i])),
  ...Array.from({ length: 4 }, (_, i) => [8, i, 2]),
];

function removed(item: Item, [index, ...rest]: readonly number[]): Item | undefined {
  if (item.is !== "array" || index === undefined) return undefined;
  const one = item.items[index];
  if (one === undefined) return undefined;
  if (rest.length === 0) return { is: "array", items: item.items.toSpliced(index, 1) };
  const inner = removed(one, rest);
  return inner && { is: "array", items: item.items.with(index, inner) };
}

function check(name: string, verifier: (bytes: Uint8Array, id: Uint8Array) => Verdict<Proven>): void {
  const random = Random.seeded(name);
  const { bytes, report } = vector(name);
  const item = itemFrom(bytes);
  assert.deepEqual(encoded(item), bytes);
  let all = 0;
  let parts = 0;
  for (const changed of changes(item, random)) {
    const file = encoded(changed);
    if (Buffer.from(file).equals(bytes)) continue;
    all += 1;
    const verdict = verifier(file, GENESIS_ID);
    if (!verdict.ok) continue;
    if (name.startsWith("evidence-") && isPartOf(file, name)) parts += 1;
    else if (isOtherAbsence(verdict.report, report)) parts += 1;
    else assert.equal(`${document(verdict.report)}\n`, report);
  }
  console.log(`${name}: ${all} changes, ${parts} of them left out what may be left out`);
}

test("a bundle with any part left out, doubled, exchanged or changed is refused, or says what is left out", () => {
  for (const name of ["evidence-1", "evidence-1-shown", "evidence-1-part", "evidence-1-gathered", "evidence-1-let-go"]) check(name, verify);
});

test("a record proof with any part left out, doubled, exchanged or changed is refused", () => {
  check("record-proof-1", verifyRecord);
});

test("a count of overrides with any part left out, doubled, exchanged or changed is refused", () => {
  check("unreviewed-1", verifyUnreviewed);
});

test("lengths that are announced and not sent are refused at once", () => {
  for (const head of [
    "9bffffffffffffffff",
    "9affffffff",
    "5bffffffffffffffff",
    "7bffffffffffffffff",
    "9f",
    "5f",
    "bf",
    "c0",
  ]) {
    const { bytes } = vector("evidence-1");
    const announced = fromHex(head);
    for (let at = 0; at < bytes.length - announced.length; at += 13) {
      const changed = Uint8Array.from(bytes);
      changed.set(announced, at);
      if (Buffer.from(changed).equals(bytes)) continue;
      assert.ok(!verify(changed, GENESIS_ID).ok, `${head} at ${at}`);
    }
  }
  assert.throws(() => new Reader(fromHex("9a000f4240")).array(1_000_000, (reader) => reader.u64()), Malformed);
});

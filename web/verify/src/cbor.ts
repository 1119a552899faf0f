// A reader of deterministic CBOR: exactly the items that our formats have, in the one encoding that each may have.
//
// It is driven by the format that is read, so that input decides neither depth nor memory: byte strings are views of the input,
// and a length that was announced is compared with what is there before anything else happens. What little is encoded here is hashed or signed.

import { join } from "./bytes.js";
import { Malformed } from "./refusal.js";

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;
const NAMES = [
  "an unsigned integer",
  "a negative integer",
  "a byte string",
  "a text",
  "an array",
  "a map",
  "a tag",
  "a simple value",
];

const FALSE = 0xf4;
const TRUE = 0xf5;
const NULL = 0xf6;

const U32_MAX = 0xffff_ffffn;

/** What begins an item of a major type: its argument, as short as possible. */
function head(major: number, argument: bigint): Uint8Array {
  const first = major << 5;
  if (argument < 24n) return Uint8Array.of(first | Number(argument));
  const size = [1, 2, 4, 8].find((bytes) => argument >> BigInt(8 * bytes) === 0n) ?? 8;
  const bytes = new Uint8Array(1 + size);
  bytes[0] = first | (24 + Math.log2(size));
  for (let i = size, rest = argument; i > 0; i -= 1, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

/** The encoding of an unsigned integer. */
export function unsigned(value: bigint): Uint8Array {
  return head(UNSIGNED, value);
}

/** What stands before the bytes of a byte string. */
export function bytesHead(length: number): Uint8Array {
  return head(BYTES, BigInt(length));
}

/** What stands before the elements of an array. */
export function arrayHead(count: number): Uint8Array {
  return head(ARRAY, BigInt(count));
}

/** The encoding of the negative integer `-value`, which is at most -1. */
export function negative(value: bigint): Uint8Array {
  return head(NEGATIVE, value - 1n);
}

/** The encoding of a text. */
export function textOf(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return join(head(TEXT, BigInt(bytes.length)), bytes);
}

/** What stands before the pairs of a map. */
export function mapHead(count: number): Uint8Array {
  return head(MAP, BigInt(count));
}

/** What stands before a tagged value. */
export function tagHead(tag: bigint): Uint8Array {
  return head(TAG, tag);
}

/** Reads one value of at most `max` bytes, and refuses whatever stands after it. */
export function decode<T>(bytes: Uint8Array, max: number, read: (reader: Reader) => T): T {
  if (bytes.length > max) throw new Malformed(`${bytes.length} bytes are more than the ${max} allowed`);
  const reader = new Reader(bytes);
  const value = read(reader);
  reader.end();
  return value;
}

export class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** An unsigned integer of 64 bits. */
  u64(): bigint {
    return this.#head(UNSIGNED);
  }

  /** An unsigned integer of 32 bits. */
  u32(): number {
    const value = this.#head(UNSIGNED);
    if (value > U32_MAX) throw new Malformed(`${value} does not fit into 32 bits`);
    return Number(value);
  }

  boolean(): boolean {
    const byte = this.#byte();
    if (byte !== TRUE && byte !== FALSE) throw new Malformed("expected true or false");
    return byte === TRUE;
  }

  /** A byte string of at most `max` bytes. */
  bytes(max: number): Uint8Array {
    return this.#string(BYTES, max);
  }

  /** A byte string of exactly `length` bytes. */
  fixed(length: number): Uint8Array {
    const bytes = this.#string(BYTES, length);
    if (bytes.length !== length) throw new Malformed(`expected ${length} bytes, not ${bytes.length}`);
    return bytes;
  }

  /** A text in UTF-8 of at most `max` bytes. */
  text(max: number): string {
    const bytes = this.#string(TEXT, max);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Malformed("a text is not UTF-8");
    }
  }

  /** The head of an array with `min` to `max` elements; the elements are read next. */
  fields(min: number, max: number = min): number {
    const count = this.#count(max);
    if (count < min) throw new Malformed(`an array has ${count} elements, at least ${min} were expected`);
    return count;
  }

  /** An array of at most `max` elements. */
  array<T>(max: number, read: (reader: Reader) => T): T[] {
    const count = this.#count(max);
    // An element has at least one byte, so that this grows with what was sent.
    const items: T[] = [];
    for (let i = 0; i < count; i += 1) items.push(read(this));
    return items;
  }

  /** A field that may be absent while a later one is present. */
  optional<T>(read: (reader: Reader) => T): T | undefined {
    if (this.#bytes[this.#at] !== NULL) return read(this);
    this.#at += 1;
    return undefined;
  }

  /** A choice without content in any variant: the number alone. */
  oneOf<T>(names: readonly T[]): T {
    return this.#variant(names);
  }

  /** A choice with content: its number, and the array of its fields, which the variant reads. */
  choice<T>(variants: readonly ((reader: Reader) => T)[]): T {
    this.fields(2);
    return this.#variant(variants)(this);
  }

  /** Refuses whatever stands after the value. */
  end(): void {
    const rest = this.#bytes.length - this.#at;
    if (rest > 0) throw new Malformed(`${rest} bytes stand after the end`);
  }

  #variant<T>(variants: readonly T[]): T {
    const index = this.u64();
    // Compared before it is converted: a large integer would lose its low bits.
    const variant = index < BigInt(variants.length) ? variants[Number(index)] : undefined;
    if (variant === undefined) throw new Malformed(`there is no variant ${index}`);
    return variant;
  }

  #count(max: number): number {
    const count = this.#head(ARRAY);
    if (count > BigInt(max)) throw new Malformed(`an array has ${count} elements, ${max} are allowed`);
    this.#atLeast(count);
    return Number(count);
  }

  #string(major: number, max: number): Uint8Array {
    const length = this.#head(major);
    if (length > BigInt(max)) throw new Malformed(`${length} bytes are more than the ${max} allowed`);
    this.#atLeast(length);
    const from = this.#at;
    this.#at += Number(length);
    return this.#bytes.subarray(from, this.#at);
  }

  #atLeast(count: bigint): void {
    if (count > BigInt(this.#bytes.length - this.#at)) throw new Malformed("ends too early");
  }

  /** The argument of an item of the major type, which must be as short as possible. */
  #head(major: number): bigint {
    const first = this.#byte();
    if (first >> 5 !== major) throw new Malformed(`expected ${NAMES[major]}, found ${NAMES[first >> 5]}`);
    const info = first & 0x1f;
    if (info < 24) return BigInt(info);
    if (info > 27) throw new Malformed("a length is not definite");
    const length = 1 << (info - 24);
    let value = 0n;
    for (let i = 0; i < length; i += 1) value = (value << 8n) | BigInt(this.#byte());
    const shortest = length === 1 ? value >= 24n : value >> BigInt(4 * length) > 0n;
    if (!shortest) throw new Malformed(`${value} is not in its shortest form`);
    return value;
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new Malformed("ends too early");
    this.#at += 1;
    return byte;
  }
}

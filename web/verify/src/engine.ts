// A reader of the consensus engine's own encoding: fixed bytes, and varints with one form for each value.
//
// Source: commonware-codec 2026.10.0, `varint.rs` and `types/primitives.rs`.

import { DIGEST_BYTES, type Digest } from "./bytes.js";
import { Malformed } from "./refusal.js";

export class EngineReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** How many bytes were read. */
  get at(): number {
    return this.#at;
  }

  /** A varint of 64 bits: seven bits in each byte, lowest first; the highest bit says that more follow. */
  varint(): bigint {
    return this.#varint(64n);
  }

  /** A length, which is a varint of 32 bits, of at most `max`. */
  length(max: number): number {
    const length = this.#varint(32n);
    if (length > BigInt(max)) throw new Malformed(`${length} are more than the ${max} allowed`);
    return Number(length);
  }

  /** Eight bytes, big-endian. */
  u64(): bigint {
    return this.take(8).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  boolean(): boolean {
    const byte = this.byte();
    if (byte > 1) throw new Malformed("expected 0 or 1");
    return byte === 1;
  }

  digest(): Digest {
    return this.take(DIGEST_BYTES);
  }

  /** A value that may be absent. */
  optional<T>(read: () => T): T | undefined {
    return this.boolean() ? read() : undefined;
  }

  /** A view of the next bytes. */
  take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw new Malformed("ends too early");
    const from = this.#at;
    this.#at += length;
    return this.#bytes.subarray(from, this.#at);
  }

  byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new Malformed("ends too early");
    this.#at += 1;
    return byte;
  }

  /** Refuses whatever stands after the value. */
  end(): void {
    if (this.#at < this.#bytes.length) throw new Malformed("bytes stand after the end");
  }

  #varint(bits: bigint): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte();
      // A last byte without bits would be a second form of the same value.
      if (byte === 0 && shift > 0n) throw new Malformed("a varint is not in its shortest form");
      value |= BigInt(byte & 0x7f) << shift;
      if (value >> bits > 0n) throw new Malformed(`a varint does not fit into ${bits} bits`);
      if (byte < 0x80) return value;
      if (shift + 7n >= bits) throw new Malformed(`a varint does not fit into ${bits} bits`);
    }
  }
}

/** The engine's form of an unsigned integer. */
export function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

// Byte strings: compared, written as hexadecimal, hashed.

import { sha256 as hasher } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

/** SHA-256 of something: 32 bytes. */
export type Digest = Uint8Array;

export const DIGEST_BYTES = 32;

/** SHA-256 over the concatenation of `parts`. */
export function sha256(...parts: readonly Uint8Array[]): Digest {
  const hash = hasher.create();
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The concatenation of `parts`. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** What digests and keys of one kind begin with, so that none is taken for another: the name and a zero byte. */
export function domain(name: string): Uint8Array {
  return new TextEncoder().encode(`${name}\0`);
}

/** `u64(n)` of the formats: eight bytes, big-endian. */
export function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value);
  return bytes;
}

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return bytesToHex(bytes);
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Below 0 when `a` stands before `b`, byte by byte. */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** A digest from its 64 hexadecimal digits in lower case, or nothing. */
export function digestFromHex(text: string): Digest | undefined {
  if (!/^[0-9a-f]{64}$/.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

// Signatures of organisations, and the names that their receipts and cosignatures go by.
//
// The rule is that of RFC 8032 without the cofactor, where neither key nor signature may be of small order. Both verifiers compute the first
// half of the signature anew and compare bytes, so that they always get the same answer.

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { type Digest, equal, hex, join } from "./bytes.js";
import { once } from "./once.js";

const { Point } = ed25519;
const HALF = 32;

/** What a log over all entries is called: the first line of its checkpoints. */
export function originOf(chain: Digest): string {
  return `vitaltrace/${hex(chain)}`;
}

/** What an organisation is called that says something about that log. */
export function nameOf(chain: Digest, org: string): string {
  return `${originOf(chain)}/${org}`;
}

/** Whether the key signed the message. */
export function isSignedBy(key: Digest, message: Uint8Array, signature: Uint8Array): boolean {
  if (key.length !== HALF || signature.length !== 2 * HALF) return false;
  return once("signed", [key, signature, message], () => holds(key, message, signature));
}

function holds(key: Digest, message: Uint8Array, signature: Uint8Array): boolean {
  const [first, second] = [signature.subarray(0, HALF), signature.subarray(HALF)];
  const s = integerFrom(second);
  if (s >= Point.Fn.ORDER) return false;
  try {
    // Encodings of keys are those that ZIP 215 allows, as in the genesis document.
    const signer = Point.fromBytes(key, true);
    const k = integerFrom(sha512(join(first, key, message))) % Point.Fn.ORDER;
    const computed = Point.BASE.multiplyUnsafe(s).subtract(signer.multiplyUnsafe(k));
    return !signer.isSmallOrder() && !computed.isSmallOrder() && equal(computed.toBytes(), first);
  } catch {
    return false;
  }
}

/** Lowest byte first. */
function integerFrom(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

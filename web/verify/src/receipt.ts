// COSE receipts: that an entry stands in the log over all entries, in the form of RFC 9942. Layout: `spec/receipts.md`.
//
// What an organisation signs is the log's root, which is not in the receipt: whoever checks it computes the root from leaf and path.

import { type Digest, join } from "./bytes.js";
import { arrayHead, bytesHead, mapHead, negative, tagHead, textOf, unsigned } from "./cbor.js";
import { nameOf } from "./signed.js";

/** Where a leaf stands in a tree. */
export type Inclusion = {
  readonly size: bigint;
  readonly index: bigint;
  /** Siblings from the leaf up. */
  readonly path: readonly Digest[];
};

const SIGN1 = 18n;
const NULL = Uint8Array.of(0xf6);
const NO_BYTES = Uint8Array.of(0x40);
const ALGORITHM = 1n;
/** EdDSA is -8. */
const EDDSA = 8n;
const KEY_ID = 4n;
const CWT_CLAIMS = 15n;
const ISSUER = 1n;
/** Kind of tree, RFC 9942. */
const VDS = 395n;
const RFC9162_SHA256 = 1n;
/** Proofs, RFC 9942. */
const VDP = 396n;
/** Proofs of inclusion are -1. */
const INCLUSION = 1n;

/** What the signature of a receipt is over: the same for every entry under the root. */
export function receiptMessage(chain: Digest, org: string, key: Digest, root: Digest): Uint8Array {
  const header = protectedHeader(chain, org, key);
  return join(arrayHead(4), textOf("Signature1"), bytesOf(header), NO_BYTES, bytesOf(root));
}

/** A receipt for one entry, from an organisation's signature over the root and the entry's place in the tree. */
export function receipt(
  chain: Digest,
  org: string,
  key: Digest,
  signature: Uint8Array,
  { size, index, path }: Inclusion,
): Uint8Array {
  const proof = join(arrayHead(3), unsigned(size), unsigned(index), arrayHead(path.length), ...path.map(bytesOf));
  return join(
    tagHead(SIGN1),
    arrayHead(4),
    bytesOf(protectedHeader(chain, org, key)),
    ...[mapHead(1), unsigned(VDP), mapHead(1), negative(INCLUSION), arrayHead(1), bytesOf(proof)],
    NULL,
    bytesOf(signature),
  );
}

function protectedHeader(chain: Digest, org: string, key: Digest): Uint8Array {
  return join(
    mapHead(4),
    ...[unsigned(ALGORITHM), negative(EDDSA)],
    ...[unsigned(KEY_ID), bytesOf(key)],
    ...[unsigned(CWT_CLAIMS), mapHead(1), unsigned(ISSUER), textOf(nameOf(chain, org))],
    ...[unsigned(VDS), unsigned(RFC9162_SHA256)],
  );
}

function bytesOf(bytes: Uint8Array): Uint8Array {
  return join(bytesHead(bytes.length), bytes);
}

// The certificate: the engine's finalization of a header's digest by a quorum of the validators.
//
// Source: commonware 2026.10.0: `Finalization` and `Proposal` in consensus/simplex, `Certificate` and `Signers` in cryptography.
// Signatures are verified by the rules of ZIP 215, as the engine does: encodings of points need not be canonical, `s` must be below the
// order of the group, and the equation is multiplied by the cofactor. Only by these rules do single signatures and batches, which the
// engine verifies them in, always get the same answer; RFC 8032 leaves it open.

import { ed25519 } from "@noble/curves/ed25519.js";
import type { Digest } from "./bytes.js";
import { EngineReader, varint } from "./engine.js";
import { once } from "./once.js";
import { Malformed } from "./refusal.js";

export const CERTIFICATE_BYTES_MAX = 32 * 1024;
const SIGNATURE_BYTES = 64;

export type Certificate = {
  /** What was signed, as it stands in the certificate. */
  readonly proposal: Uint8Array;
  /** The epoch that it was proposed in. */
  readonly epoch: bigint;
  /** The digest of the header that was proposed. */
  readonly header: Digest;
  /** How many validators there are, as the certificate says. */
  readonly participants: number;
  /** Places of the signers among the validators, ascending. */
  readonly signers: readonly number[];
  /** In the order of the signers. */
  readonly signatures: readonly Uint8Array[];
};

/** Reads a certificate by at most as many signers as there are validators. */
export function certificateFrom(bytes: Uint8Array, validators: number): Certificate {
  const reader = new EngineReader(bytes);
  const epoch = reader.varint();
  reader.varint(); // view
  reader.varint(); // parent's view
  const header = reader.digest();
  const proposal = bytes.subarray(0, reader.at);
  const participants = reader.u64();
  if (participants > BigInt(validators)) throw new Malformed(`there are no ${participants} validators`);
  const signers = onesOf(reader.take(Math.ceil(Number(participants) / 8)), Number(participants));
  const count = reader.length(validators);
  if (count === 0 || count !== signers.length) throw new Malformed("there is not one signature for each signer");
  const signatures: Uint8Array[] = [];
  for (let i = 0; i < count; i += 1) signatures.push(reader.take(SIGNATURE_BYTES));
  reader.end();
  return { proposal, epoch, header, participants: Number(participants), signers, signatures };
}

/** How many of `validators` a quorum is: more than two thirds. */
export function quorumOf(validators: number): number {
  return validators - Math.floor((validators - 1) / 3);
}

/** Whether a quorum of the validators, whose keys are given in ascending order, signed the proposal on the chain of that id. */
export function isQuorum(certificate: Certificate, validators: readonly Digest[], chain: string): boolean {
  if (certificate.participants !== validators.length) return false;
  if (certificate.signers.length < quorumOf(validators.length)) return false;
  const message = messageOf(certificate.proposal, chain);
  return certificate.signers.every((signer, i) => {
    const key = validators[signer];
    const signature = certificate.signatures[i];
    return key !== undefined && signature !== undefined && isVote(key, message, signature);
  });
}

/** Whether the key signed the message, by the rules of ZIP 215. */
function isVote(key: Digest, message: Uint8Array, signature: Uint8Array): boolean {
  return once("vote", [key, signature, message], () => ed25519.verify(signature, message, key, { zip215: true }));
}

/** The bytes that a validator signs to finalize a proposal. */
function messageOf(proposal: Uint8Array, chain: string): Uint8Array {
  const namespace = new TextEncoder().encode(`vitaltrace/1/${chain}_FINALIZE`);
  return Uint8Array.from([...varint(BigInt(namespace.length)), ...namespace, ...proposal]);
}

/** Places of the bits that are set, lowest bit first; bits beyond `length` must not be. */
function onesOf(bitmap: Uint8Array, length: number): number[] {
  const ones: number[] = [];
  bitmap.forEach((byte, i) => {
    for (let bit = 0; bit < 8; bit += 1) {
      if (byte & (1 << bit)) ones.push(8 * i + bit);
    }
  });
  if (ones.some((place) => place >= length)) {
    throw new Malformed("the bitmap names more signers than there are validators");
  }
  return ones;
}

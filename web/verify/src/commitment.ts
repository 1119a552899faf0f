// Commitments: what stands on the ledger for bytes that must not. Definition: `spec/commitment.md`.

import { type Digest, domain, sha256 } from "./bytes.js";

const COMMITMENT_DOMAIN = domain("vitaltrace/commitment/1");

/** SHA-256(domain ‖ salt ‖ bytes). */
export function commit(salt: Digest, ...bytes: readonly Uint8Array[]): Digest {
  return sha256(COMMITMENT_DOMAIN, salt, ...bytes);
}

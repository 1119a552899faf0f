// The append-only Merkle tree of RFC 9162 with SHA-256, as far as a log is checked with it: peaks and roots.
//
// Source: RFC 9162 section 2.1. A tree over nothing has the root SHA-256("").

import { type Digest, equal, sha256 } from "./bytes.js";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** Digest of a leaf: SHA-256(0x00 ‖ parts). */
export function leaf(...parts: readonly Uint8Array[]): Digest {
  return sha256(LEAF, ...parts);
}

function node(left: Digest, right: Digest): Digest {
  return sha256(NODE, left, right);
}

/** A tree as far as it is needed to append to it: its size and the roots of its perfect subtrees, largest first. */
export class Frontier {
  readonly size: bigint;
  readonly peaks: readonly Digest[];

  constructor(size: bigint, peaks: readonly Digest[]) {
    this.size = size;
    this.peaks = peaks;
  }

  /** The tree over leaf digests. */
  static of(leaves: readonly Digest[]): Frontier {
    const peaks: Digest[] = [];
    leaves.forEach((leaf, index) => {
      let at = leaf;
      // A trailing one bit of the size so far is a perfect subtree as large as the one just completed.
      for (let size = index; size % 2 === 1; size = Math.floor(size / 2)) {
        const left = peaks.pop();
        if (left !== undefined) at = node(left, at);
      }
      peaks.push(at);
    });
    return new Frontier(BigInt(leaves.length), peaks);
  }

  /** Whether there is one peak for each bit that is set in the size. */
  isConsistent(): boolean {
    let bits = 0;
    for (let size = this.size; size > 0n; size >>= 1n) bits += Number(size & 1n);
    return bits === this.peaks.length;
  }

  equals(other: Frontier): boolean {
    return (
      this.size === other.size &&
      this.peaks.length === other.peaks.length &&
      this.peaks.every((peak, i) => {
        const same = other.peaks[i];
        return same !== undefined && equal(peak, same);
      })
    );
  }

  root(): Digest {
    // The smallest subtree stands deepest on the right.
    return (
      this.peaks.reduceRight<Digest | undefined>(
        (right, left) => (right === undefined ? left : node(left, right)),
        undefined,
      ) ?? sha256()
    );
  }
}

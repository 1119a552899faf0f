// The append-only Merkle tree of RFC 9162 with SHA-256, as far as a log is checked with it: peaks, roots, inclusion and consistency.
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
    return new Frontier(0n, []).with(leaves);
  }

  /** The tree with more leaf digests at its end. */
  with(leaves: readonly Digest[]): Frontier {
    const peaks = [...this.peaks];
    let { size } = this;
    for (const leaf of leaves) {
      let at = leaf;
      // A trailing one bit of the size so far is a perfect subtree as large as the one just completed.
      for (let rest = size; (rest & 1n) === 1n; rest >>= 1n) {
        const left = peaks.pop();
        if (left !== undefined) at = node(left, at);
      }
      peaks.push(at);
      size += 1n;
    }
    return new Frontier(size, peaks);
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

/** The longest path: a tree of 2^64 - 1 leaves is 64 levels high, and a consistency path names one node more. */
export const PATH_LENGTH_MAX = 65;

/**
 * The root that a tree of `size` leaves has when `leaf` is its leaf number `index` with this path; nothing when no such path is so long.
 *
 * Source: RFC 9162 section 2.1.3.2.
 */
export function rootOf(leaf: Digest, index: bigint, path: readonly Digest[], size: bigint): Digest | undefined {
  if (index >= size) return undefined;
  let [at, last, hash] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) return undefined;
    if ((at & 1n) === 1n || at === last) {
      hash = node(sibling, hash);
      for (; (at & 1n) === 0n && at !== 0n; at >>= 1n) last >>= 1n;
    } else {
      hash = node(hash, sibling);
    }
    at >>= 1n;
    last >>= 1n;
  }
  return last === 0n ? hash : undefined;
}

/**
 * Whether `path` proves that the tree `whole` begins with the leaves of the tree `begun`.
 *
 * Source: RFC 9162 section 2.1.4.2, which leaves out that every tree continues the empty one.
 */
export function isContinued(begun: Frontier, whole: Frontier, path: readonly Digest[]): boolean {
  if (begun.size === 0n) return path.length === 0;
  const [root, wholeRoot] = [begun.root(), whole.root()];
  if (begun.size >= whole.size) return begun.size === whole.size && path.length === 0 && equal(root, wholeRoot);
  let [at, last] = [begun.size - 1n, whole.size - 1n];
  while ((at & 1n) === 1n) [at, last] = [at >> 1n, last >> 1n];
  // Where the tree begun is perfect, its root is the lowest node and is not sent.
  const isPerfect = (begun.size & (begun.size - 1n)) === 0n;
  const first = isPerfect ? root : path[0];
  if (first === undefined) return false;
  let [begunHash, wholeHash] = [first, first];
  for (const sibling of isPerfect ? path : path.slice(1)) {
    if (last === 0n) return false;
    if ((at & 1n) === 1n || at === last) {
      [begunHash, wholeHash] = [node(sibling, begunHash), node(sibling, wholeHash)];
      for (; (at & 1n) === 0n && at !== 0n; at >>= 1n) last >>= 1n;
    } else {
      wholeHash = node(wholeHash, sibling);
    }
    at >>= 1n;
    last >>= 1n;
  }
  return last === 0n && equal(begunHash, root) && equal(wholeHash, wholeRoot);
}

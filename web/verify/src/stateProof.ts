// State proofs: that a key has a value now, or none, under a header's state root.
//
// Source: commonware-storage 2026.10.0, `qmdb::current::ordered` over the MMR family with SHA-256: keys of 32 bytes, values as byte
// strings, chunks of the activity bitmap of 32 bytes.
//
// The state is a log of operations; each update names its key, its value and the next key in order. A tree over all operations, a
// Merkle mountain range, has at the height of one chunk the chunk of the bitmap that says which of the operations below are still
// active. So one path proves that an operation is there and that none after it replaced it.

import { compare, type Digest, equal, join, sha256, u64 } from "./bytes.js";
import { EngineReader, varint } from "./engine.js";
import { Malformed, readable } from "./refusal.js";
import { VALUE_BYTES_MAX } from "./state.js";

/** The path and the peaks of a tree of 2^62 operations, and some. */
const PROOF_DIGESTS_MAX = 128;
/** The digests, for an absence the neighbouring value of up to 16 KiB, and less than 256 bytes around them. */
export const PROOF_BYTES_MAX = 48 * 1024;

const CHUNK_BYTES = 32;
const CHUNK_BITS = 256n;
/** The height of the nodes that cover exactly one chunk. */
const CHUNK_HEIGHT = 8;

const LEAVES_MAX = 1n << 62n;

const UPDATE = Uint8Array.of(0xd2);
const COMMIT = Uint8Array.of(0xd3);

const BETWEEN_KEYS = 0;
const NO_KEYS = 1;

/** The family (MMR), and how peaks are folded (from the newest to the oldest): every root begins with them. */
const ROOT_DOMAIN = Uint8Array.of(0, 1);

/** Whether `key` has this value under `root`, and no later one. */
export function isCurrent(key: Digest, value: Uint8Array, proof: Uint8Array, root: Digest): boolean {
  if (proof.length > PROOF_BYTES_MAX) return false;
  const decoded = readable(() => {
    const reader = new EngineReader(proof);
    const operation = operationProof(reader);
    const nextKey = reader.digest();
    reader.end();
    return { operation, nextKey };
  });
  return decoded !== undefined && isActive(decoded.operation, updateOf(key, value, decoded.nextKey), root);
}

/** Whether `key` has no value under `root`. */
export function isAbsent(key: Digest, proof: Uint8Array, root: Digest): boolean {
  if (proof.length > PROOF_BYTES_MAX) return false;
  const decoded = readable(() => exclusionProof(proof));
  if (decoded === undefined) return false;
  const { operation, span, encoded } = decoded;
  return (span === undefined || isBetween(key, span.key, span.nextKey)) && isActive(operation, encoded, root);
}

/** That one operation is in the log and still active. */
type OperationProof = {
  /** Its place in the log. */
  readonly place: bigint;
  /** The chunk of the activity bitmap that it belongs to. */
  readonly chunk: Uint8Array;
  /** How many operations the log has. */
  readonly leaves: bigint;
  /** How many of the oldest peaks are folded apart from the others. */
  readonly inactivePeaks: bigint;
  readonly digests: readonly Digest[];
  /** Digest of the last chunk, where it is not complete. */
  readonly partialChunk: Digest | undefined;
  /** Root of the tree without the bitmap. */
  readonly opsRoot: Digest;
};

function operationProof(reader: EngineReader): OperationProof {
  const place = location(reader);
  const chunk = reader.take(CHUNK_BYTES);
  const leaves = location(reader);
  const inactivePeaks = reader.varint();
  const count = reader.length(PROOF_DIGESTS_MAX);
  const digests: Digest[] = [];
  for (let i = 0; i < count; i += 1) digests.push(reader.digest());
  const partialChunk = reader.optional(() => reader.digest());
  return { place, chunk, leaves, inactivePeaks, digests, partialChunk, opsRoot: reader.digest() };
}

function location(reader: EngineReader): bigint {
  const value = reader.varint();
  if (value > LEAVES_MAX) throw new Malformed("a place is beyond the largest log");
  return value;
}

type Exclusion = {
  readonly operation: OperationProof;
  /** The operation as it stands in the log. */
  readonly encoded: Uint8Array;
  /** Two neighbouring keys that have values; absent where no key has one. */
  readonly span: { readonly key: Digest; readonly nextKey: Digest } | undefined;
};

function exclusionProof(proof: Uint8Array): Exclusion {
  const reader = new EngineReader(proof);
  const tag = reader.byte();
  if (tag !== BETWEEN_KEYS && tag !== NO_KEYS) throw new Malformed("unknown kind of proof");
  const operation = operationProof(reader);
  if (tag === BETWEEN_KEYS) {
    const key = reader.digest();
    const value = reader.take(reader.length(VALUE_BYTES_MAX));
    const nextKey = reader.digest();
    reader.end();
    return { operation, encoded: updateOf(key, value, nextKey), span: { key, nextKey } };
  }
  const metadata = reader.optional(() => reader.take(reader.length(VALUE_BYTES_MAX)));
  reader.end();
  return { operation, encoded: commitOf(metadata, operation.place), span: undefined };
}

/** An update as it stands in the log. */
function updateOf(key: Digest, value: Uint8Array, nextKey: Digest): Uint8Array {
  return join(UPDATE, key, varint(BigInt(value.length)), value, nextKey);
}

/** A commit of a state without keys: then everything before the commit itself is inactive. */
function commitOf(metadata: Uint8Array | undefined, floor: bigint): Uint8Array {
  const value =
    metadata === undefined ? [Uint8Array.of(0)] : [Uint8Array.of(1), varint(BigInt(metadata.length)), metadata];
  return join(COMMIT, ...value, varint(floor));
}

/** Whether `key` stands strictly between two neighbours in the circle of all keys; a single key is its own neighbour. */
function isBetween(key: Digest, from: Digest, to: Digest): boolean {
  if (equal(key, from)) return false;
  const after = compare(key, from) > 0;
  const before = compare(key, to) < 0;
  return compare(from, to) < 0 ? after && before : after || before;
}

/** Whether the operation is in the log, and active. */
function isActive(proof: OperationProof, operation: Uint8Array, root: Digest): boolean {
  const { place, chunk, leaves, partialChunk, opsRoot } = proof;
  const bit = Number(place % CHUNK_BITS);
  if (((chunk[bit >> 3] ?? 0) & (1 << (bit & 7))) === 0) return false;
  if (place >= leaves) return false;
  const last = leaves % CHUNK_BITS;
  if ((last !== 0n) !== (partialChunk !== undefined)) return false;
  // The last chunk has no node of its own yet: the root commits to it directly.
  const isLast = place / CHUNK_BITS === leaves / CHUNK_BITS;
  if (isLast && partialChunk !== undefined && !equal(partialChunk, sha256(chunk))) return false;
  const treeRoot = rootOf(proof, operation);
  if (treeRoot === undefined) return false;
  const tail = partialChunk === undefined ? [] : [u64(last), partialChunk];
  return equal(root, sha256(opsRoot, treeRoot, ...tail));
}

/** A perfect subtree: where its root stands among all nodes, its height, and its first leaf. */
type Subtree = { readonly position: bigint; readonly height: number; readonly first: bigint };

/** The root that the operation and the proof's digests have, if there are exactly as many digests as it takes. */
function rootOf(proof: OperationProof, operation: Uint8Array): Digest | undefined {
  const { place, leaves, inactivePeaks, digests } = proof;
  const peaks = peaksOf(leaves);
  const own = peaks.findIndex((peak) => place < peak.first + (1n << BigInt(peak.height)));
  const peak = peaks[own];
  if (peak === undefined || inactivePeaks > BigInt(peaks.length)) return undefined;
  const inactive = Number(inactivePeaks);

  // Digests stand in this order: the inactive peaks before the operation's own, folded into one; the active ones before it; the inactive
  // ones after it; the active ones after it, folded into one; the siblings on the path.
  const folded = Math.min(inactive, own);
  const after = peaks.length - own - 1;
  const single = Math.min(Math.max(inactive - own - 1, 0), after);
  const left = (folded > 0 ? 1 : 0) + (own - folded);
  const right = single + (after > single ? 1 : 0);
  const siblings = digests.slice(left + right);
  if (digests.length !== left + right + peak.height) return undefined;
  const ownDigest = digestOf(peak, proof, operation, siblings.values());
  if (ownDigest === undefined) return undefined;

  const listed = [...digests.slice(0, left), ownDigest, ...digests.slice(left, left + right)];
  const inactiveListed = folded > 0 ? inactive - folded + 1 : inactive;
  const bag = bagged(listed, inactiveListed);
  if (bag === undefined) return undefined;
  return sha256(ROOT_DOMAIN, u64(leaves), ...(inactive > 0 ? [u64(inactivePeaks)] : []), bag);
}

/** All peaks folded into one: the inactive ones from the oldest on, the others from the newest on. */
function bagged(peaks: readonly Digest[], inactive: number): Digest | undefined {
  const oldest = peaks
    .slice(0, Math.max(inactive, 1))
    .reduce<Digest | undefined>((bag, peak) => (bag === undefined ? peak : sha256(bag, peak)), undefined);
  const newest = peaks
    .slice(Math.max(inactive, 1))
    .reduceRight<Digest | undefined>((bag, peak) => (bag === undefined ? peak : sha256(peak, bag)), undefined);
  return oldest === undefined || newest === undefined ? oldest : sha256(oldest, newest);
}

/** The digest of a subtree that the operation is in; siblings come in the order of a walk through the tree from the left. */
function digestOf(
  tree: Subtree,
  proof: OperationProof,
  operation: Uint8Array,
  siblings: Iterator<Digest>,
): Digest | undefined {
  if (tree.height === 0) return sha256(u64(tree.position), operation);
  const height = tree.height - 1;
  const middle = tree.first + (1n << BigInt(height));
  const inLeft = proof.place < middle;
  const child = inLeft
    ? { position: tree.position - (1n << BigInt(tree.height)), height, first: tree.first }
    : { position: tree.position - 1n, height, first: middle };
  const walk = (): Digest | undefined => digestOf(child, proof, operation, siblings);
  const sibling = (): Digest | undefined => siblings.next().value;
  const left = inLeft ? walk() : sibling();
  const right = inLeft ? sibling() : walk();
  if (left === undefined || right === undefined) return undefined;
  const node = sha256(u64(tree.position), left, right);
  // An active operation's chunk is never all zeros, which would leave the node as it is.
  return tree.height === CHUNK_HEIGHT ? sha256(proof.chunk, node) : node;
}

/** The peaks of a mountain range, oldest first: one for each bit that is set in the number of leaves. */
function peaksOf(leaves: bigint): Subtree[] {
  const peaks: Subtree[] = [];
  let first = 0n;
  let nodes = 0n;
  for (let height = 62; height >= 0; height -= 1) {
    const size = 1n << BigInt(height);
    if ((leaves & size) === 0n) continue;
    nodes += 2n * size - 1n;
    peaks.push({ position: nodes - 1n, height, first });
    first += size;
  }
  return peaks;
}

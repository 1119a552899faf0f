// The genesis document: who founded the consortium, by which keys. Layout: `spec/evidence.md`, «The genesis document».

import { ed25519 } from "@noble/curves/ed25519.js";
import { compare, type Digest, domain, hex, sha256 } from "./bytes.js";
import { arrayHead, bytesHead, decode, type Reader } from "./cbor.js";
import { digest, org, ORG_ROLES, type OrgRole } from "./names.js";
import { once } from "./once.js";
import { Malformed } from "./refusal.js";

export const GENESIS_BYTES_MAX = 1024 * 1024;
const GENESIS_VERSION = 1;
export const MEMBERS_MAX = 256;
const MEMBER_TEXT_BYTES_MAX = 256;
const EPOCH_BLOCKS_MIN = 4n;
const EPOCH_BLOCKS_MAX = 1_000_000n;

const GENESIS_DOMAIN = domain("vitaltrace/genesis/1");
const VALIDATORS_DOMAIN = domain("vitaltrace/validators/1");

/** A founding organisation. */
export type Member = {
  readonly org: string;
  readonly role: OrgRole;
  readonly entryKey: Digest;
  /** Signs its votes. */
  readonly consensusKey: Digest;
  readonly wrapKey: string;
  readonly address: string;
};

/** What a consortium starts from. */
export type Genesis = {
  readonly version: number;
  /** A name for people. */
  readonly name: string;
  readonly time: bigint;
  /** Sorted by name. */
  readonly members: readonly Member[];
  readonly accessPolicy: Digest;
  readonly derivationPolicy: Digest;
  /** Blocks of an epoch: validators change between epochs only. */
  readonly epochBlocks: bigint;
};

/** Reads and checks a genesis document. */
export function genesisFrom(bytes: Uint8Array): Genesis {
  const genesis = decode(bytes, GENESIS_BYTES_MAX, (reader) => {
    reader.fields(7);
    return {
      version: reader.u32(),
      name: reader.text(GENESIS_BYTES_MAX),
      time: reader.u64(),
      members: reader.array(MEMBERS_MAX, member),
      accessPolicy: digest(reader),
      derivationPolicy: digest(reader),
      epochBlocks: reader.u64(),
    };
  });
  if (genesis.version !== GENESIS_VERSION) throw new Malformed(`version ${genesis.version} is unknown`);
  if (genesis.members.length === 0) throw new Malformed("there are no members");
  if (genesis.epochBlocks < EPOCH_BLOCKS_MIN || genesis.epochBlocks > EPOCH_BLOCKS_MAX) {
    throw new Malformed(`an epoch cannot have ${genesis.epochBlocks} blocks`);
  }
  const keys = new Set<string>();
  let last = "";
  for (const { org, entryKey, consensusKey, wrapKey, address } of genesis.members) {
    // Names are ASCII, so that comparing texts compares bytes.
    if (org <= last) throw new Malformed(`\`${org}\` is named twice or out of order`);
    last = org;
    for (const text of [wrapKey, address]) {
      if (new TextEncoder().encode(text).length > MEMBER_TEXT_BYTES_MAX) throw new Malformed(`a text of \`${org}\` is too long`);
    }
    for (const key of [entryKey, consensusKey]) {
      if (!isPublicKey(key)) throw new Malformed(`a key of \`${org}\` is no ed25519 public key`);
      if (keys.has(hex(key))) throw new Malformed(`a key of \`${org}\` is used twice`);
      keys.add(hex(key));
    }
  }
  return genesis;
}

/** The chain's name: SHA-256(domain ‖ document). */
export function genesisId(document: Uint8Array): Digest {
  return sha256(GENESIS_DOMAIN, document);
}

/** The validators of the first two epochs: the founders' consensus keys in ascending order. */
export function validatorsOf(genesis: Genesis): readonly Digest[] {
  return genesis.members.map((member) => member.consensusKey).sort(compare);
}

/** Digest of a validator set. */
export function validatorsDigest(keys: readonly Digest[]): Digest {
  return sha256(VALIDATORS_DOMAIN, arrayHead(keys.length), ...keys.flatMap((key) => [bytesHead(key.length), key]));
}

function member(reader: Reader): Member {
  reader.fields(6);
  return {
    org: org(reader),
    role: reader.oneOf(ORG_ROLES),
    entryKey: digest(reader),
    consensusKey: digest(reader),
    wrapKey: reader.text(GENESIS_BYTES_MAX),
    address: reader.text(GENESIS_BYTES_MAX),
  };
}

/** Whether bytes are a point of the curve. */
export function isOnCurve(bytes: Uint8Array): boolean {
  return once("point", [bytes], () => {
    try {
      ed25519.Point.fromBytes(bytes, true);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Whether bytes are a point of the curve, and not one of small order, whose signatures hold for nearly every message.
 * Encodings are those of ZIP 215, as for signatures: see `certificate.ts`.
 */
function isPublicKey(bytes: Uint8Array): boolean {
  return once("key", [bytes], () => {
    try {
      return !ed25519.Point.fromBytes(bytes, true).isSmallOrder();
    } catch {
      return false;
    }
  });
}

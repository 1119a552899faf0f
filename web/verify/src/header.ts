// A block's header: what validators sign. Layout: `spec/header.md`.

import { type Digest, domain, sha256 } from "./bytes.js";
import { decode } from "./cbor.js";
import { digest } from "./names.js";

export const HEADER_BYTES_MAX = 1024;
export const HEADER_VERSION = 1;
const HEADER_DOMAIN = domain("vitaltrace/header/1");

export type Header = {
  readonly version: number;
  /** Genesis id. */
  readonly chain: Digest;
  readonly epoch: bigint;
  readonly view: bigint;
  readonly leader: Digest;
  readonly parentView: bigint;
  readonly parent: Digest;
  readonly height: bigint;
  readonly time: bigint;
  readonly entryCount: number;
  readonly body: Digest;
  readonly logSize: bigint;
  readonly logRoot: Digest;
  /** What state proofs are checked against. */
  readonly stateRoot: Digest;
  readonly opsRoot: Digest;
  readonly opsStart: bigint;
  readonly opsEnd: bigint;
  /** Digest of the validator set that decided the block. */
  readonly validators: Digest;
  /** Digest of the set that decides the next epoch. */
  readonly nextValidators: Digest;
};

/** Reads a header. */
export function headerFrom(bytes: Uint8Array): Header {
  return decode(bytes, HEADER_BYTES_MAX, (reader) => {
    reader.fields(19);
    return {
      version: reader.u32(),
      chain: digest(reader),
      epoch: reader.u64(),
      view: reader.u64(),
      leader: digest(reader),
      parentView: reader.u64(),
      parent: digest(reader),
      height: reader.u64(),
      time: reader.u64(),
      entryCount: reader.u32(),
      body: digest(reader),
      logSize: reader.u64(),
      logRoot: digest(reader),
      stateRoot: digest(reader),
      opsRoot: digest(reader),
      opsStart: reader.u64(),
      opsEnd: reader.u64(),
      validators: digest(reader),
      nextValidators: digest(reader),
    };
  });
}

/** What validators sign and what names the block: SHA-256(domain ‖ encoding). */
export function headerDigest(bytes: Uint8Array): Digest {
  return sha256(HEADER_DOMAIN, bytes);
}

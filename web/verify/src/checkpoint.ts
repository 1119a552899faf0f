// Checkpoints: a head of the log over all entries, cosigned by organisations, as the signed notes of C2SP. Layout: `spec/receipts.md`.

import { type Digest, join, sha256, u64 } from "./bytes.js";
import { nameOf, originOf } from "./signed.js";

/** Size and root of a tree. */
export type TreeHead = { readonly size: bigint; readonly root: Digest };

export type Cosignature = {
  readonly org: string;
  readonly key: Digest;
  /** Seconds since 1970. */
  readonly time: bigint;
  readonly signature: Uint8Array;
};

/** Kind of a key that makes `cosignature/v1`. */
const COSIGNATURE_V1 = 0x04;
const encoder = new TextEncoder();

function bodyOf(chain: Digest, { size, root }: TreeHead): string {
  return `${originOf(chain)}\n${size}\n${base64(root)}\n`;
}

/** What a cosignature is over. */
export function cosignedMessage(chain: Digest, head: TreeHead, time: bigint): Uint8Array {
  return encoder.encode(`cosignature/v1\ntime ${time}\n${bodyOf(chain, head)}`);
}

/** The note: head and cosignatures, a line each. */
export function checkpoint(chain: Digest, head: TreeHead, cosignatures: readonly Cosignature[]): string {
  const lines = cosignatures.map(({ org, key, time, signature }) => {
    const name = nameOf(chain, org);
    const id = sha256(encoder.encode(`${name}\n`), Uint8Array.of(COSIGNATURE_V1), key).subarray(0, 4);
    return `\u2014 ${name} ${base64(join(id, u64(time), signature))}\n`;
  });
  return `${bodyOf(chain, head)}\n${lines.join("")}`;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

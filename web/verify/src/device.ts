// Device keys: which key the frames of a batch were signed by, and whether it was revoked when the batch was made.

import { compare, type Digest, equal, hex } from "./bytes.js";
import type { BoundDevice } from "./bundle.js";
import { type Final, valueAt } from "./finality.js";
import type { Filed } from "./log.js";
import { Refusal } from "./refusal.js";
import { bindingFrom, bindingKey, deviceKeyFrom, deviceSignerKey } from "./state.js";

/** What is proven of the key of one binding, and of the file's batches under it. */
export type Device = {
  readonly binding: Uint8Array;
  readonly key: Digest;
  /** Not to be trusted from this entry time on. */
  readonly revoked: bigint | undefined;
  /** Batches made while the key was good. */
  readonly good: number;
  /** Batches made when it was revoked already. */
  readonly late: number;
};

/** Entry times of the batches with frames, by their bindings. */
export function batchesOf(entries: readonly Filed[]): Map<string, bigint[]> {
  const times = new Map<string, bigint[]>();
  for (const { entry } of entries) {
    if (entry.body.kind !== "batch" || entry.body.count === 0) continue;
    const binding = hex(entry.body.binding);
    const known = times.get(binding);
    if (known === undefined) times.set(binding, [entry.time]);
    else known.push(entry.time);
  }
  return times;
}

/** Checks binding and key of each, and sorts the file's batches by whether the key was good when they were made. */
export function checkDevices(
  given: readonly BoundDevice[],
  batches: ReadonlyMap<string, readonly bigint[]>,
  at: Final,
): Device[] {
  let last: Uint8Array | undefined;
  return given.map(({ binding: id, bound, key: proof }) => {
    if (last !== undefined && compare(last, id) >= 0) {
      throw new Refusal("devices", "the device keys in the file are not in order, or one is given twice");
    }
    last = id;
    const name = hex(id);
    const times = batches.get(name);
    if (times === undefined) {
      throw new Refusal("devices", `no batch in the file is under the binding \`${name}\`, whose device key is given`);
    }
    const binding = valueAt("devices", `the binding \`${name}\``, bindingKey(id), bound, at, bindingFrom);
    const { key } = binding;
    const signer = valueAt("devices", `the device key \`${hex(key)}\``, deviceSignerKey(key), proof, at, deviceKeyFrom);
    if (!equal(signer.device, binding.device)) {
      throw new Refusal("devices", `the key of the binding \`${name}\` is another device's`);
    }
    const { revoked } = signer;
    const late = times.filter((time) => revoked !== undefined && time >= revoked).length;
    return { binding: id, key, revoked, good: times.length - late, late };
  });
}

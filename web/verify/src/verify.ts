// `verify`: from untrusted bytes and a genesis id to a report, or a refusal that names what is wrong and where.

import { type Digest, equal, hex } from "./bytes.js";
import { bundleFrom, LIMITS, type Limits, recordProofFrom, unreviewedFrom } from "./bundle.js";
import { commit } from "./commitment.js";
import { checkCurrent } from "./current.js";
import { batchesOf, checkDevices, type Device } from "./device.js";
import { type Checkpoint, finalFrom, valueAt } from "./finality.js";
import { checkAccesses } from "./gathered.js";
import { type CheckedMonth, checkMonth } from "./log.js";
import { checkOpened } from "./opened.js";
import { checkPlaces } from "./place.js";
import { type Reason, Refusal } from "./refusal.js";
import { type RecordProven, recordProven, type Report, report } from "./report.js";
import { resourceName } from "./resourceName.js";
import { activePolicyFrom, policyKey, recordHeadFrom, recordKey } from "./state.js";
import { checkUnreviewed, type Unreviewed } from "./unreviewed.js";
import { checkWitnesses } from "./witness.js";

/** What a verification ends with. */
export type Verdict<T> = { readonly ok: true; readonly report: T } | { readonly ok: false; readonly reason: Reason };

/**
 * Checks a bundle from scratch: consortium, validators, certificate, state, logs, links, opened records.
 *
 * `genesisId` is all that is trusted, and `checkpoint`, if there is one: a final block that the evidence must go through. The same bytes always get the same answer; none makes it throw.
 */
export function verify(
  bytes: Uint8Array,
  genesisId: Digest,
  limits: Partial<Limits> = {},
  checkpoint?: Checkpoint,
): Verdict<Report> {
  return verdict(() => {
    const bundle = bundleFrom(bytes, { ...LIMITS, ...limits });
    const at = finalFrom(bundle.finality, genesisId, checkpoint);
    const { policies } = bundle;
    const access = valueAt("policies", "the access policy", policyKey("access"), policies.access, at, activePolicyFrom);
    const derivation = valueAt(
      "policies",
      "the derivation policy",
      policyKey("derivation"),
      policies.derivation,
      at,
      activePolicyFrom,
    );
    const months: CheckedMonth[] = [];
    for (const part of bundle.months) months.push(checkMonth(part, months, at));
    const entries = months.flatMap((month) => month.entries);
    const accesses = checkAccesses(bundle.accesses, months);
    const contents = checkOpened(bundle.opened, [...entries, ...accesses.all()]);
    const current = checkCurrent(bundle.current, entries, at);
    const batches = batchesOf(entries);
    const devices = checkDevices(bundle.devices, batches, at);
    const places = checkPlaces(bundle.places, months, at);
    const witnesses = checkWitnesses(bundle.witnesses, at);
    const unshown = [...batches.values()].reduce((sum, times) => sum + times.length, 0);
    const shown = { current, devices, devicesUnshown: unshown - batchesShown(devices), places, witnesses };
    return report({ at, access, derivation, months, accesses, contents, ...shown, bytes: bytes.length });
  });
}

function batchesShown(devices: readonly Device[]): number {
  return devices.reduce((sum, { good, late }) => sum + good + late, 0);
}

/** Checks that a record proof's bytes are the record's current version, from the genesis id alone. */
export function verifyRecord(
  bytes: Uint8Array,
  genesisId: Digest,
  limits: Partial<Limits> = {},
  checkpoint?: Checkpoint,
): Verdict<RecordProven> {
  return verdict(() => {
    const proof = recordProofFrom(bytes, { ...LIMITS, ...limits });
    const at = finalFrom(proof.finality, genesisId, checkpoint);
    const { tag } = proof;
    const head = valueAt("head", `the record \`${hex(tag)}\``, recordKey(tag), proof.head, at, recordHeadFrom);
    const name = resourceName(proof.bytes);
    if (!equal(commit(proof.salt, proof.bytes), head.commitment)) {
      const record = name ?? hex(tag);
      throw new Refusal(
        "records",
        `the bytes given for \`${record}\` version ${head.version} are not those that the ledger has a commitment to`,
      );
    }
    return recordProven(at, tag, head, name, proof.bytes.length);
  });
}

/** Checks how many overrides of each member nobody has reviewed, from the genesis id alone. */
export function verifyUnreviewed(
  bytes: Uint8Array,
  genesisId: Digest,
  limits: Partial<Limits> = {},
  checkpoint?: Checkpoint,
): Verdict<Unreviewed> {
  return verdict(() => {
    const proof = unreviewedFrom(bytes, { ...LIMITS, ...limits });
    return checkUnreviewed(proof, finalFrom(proof.finality, genesisId, checkpoint));
  });
}

function verdict<T>(check: () => T): Verdict<T> {
  try {
    return { ok: true, report: check() };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, reason: { check: error.check, message: error.message } };
    throw error;
  }
}

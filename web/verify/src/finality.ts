// Finality: from the genesis id alone, and the founders' validators, to a header that a quorum of those who decided signed.

import { compare, type Digest, equal, hex } from "./bytes.js";
import type { Finality, StateProof } from "./bundle.js";
import { certificateFrom, isQuorum } from "./certificate.js";
import { type Genesis, genesisFrom, genesisId, isOnCurve, validatorsDigest, validatorsOf } from "./genesis.js";
import { type Header, HEADER_VERSION, headerDigest, headerFrom } from "./header.js";
import { type Check, readable, reading, Refusal } from "./refusal.js";
import { isCurrent } from "./stateProof.js";

/** A header that a quorum signed. */
export type Final = {
  readonly genesis: Genesis;
  readonly header: Header;
  /** Name of the block. */
  readonly digest: Digest;
  /** How many validators signed. */
  readonly signers: number;
  /** How many validators there were. */
  readonly validators: number;
};

/** A final block that the reader knows to be one, from a node or from evidence that was checked before. */
export type Checkpoint = {
  readonly height: bigint;
  /** Digest of its header. */
  readonly block: Digest;
};

/** Who decides, as far as the evidence was followed. */
type Trust = {
  /** The epoch of the last header. */
  readonly epoch: bigint;
  /** Who decides that epoch. */
  readonly now: readonly Digest[];
  /** Who decides every later one, until a header says otherwise. */
  readonly next: readonly Digest[];
};

/** Checks document, validator sets, headers and certificates, and that all goes through the checkpoint, if there is one. */
export function finalFrom(finality: Finality, trusted: Digest, checkpoint?: Checkpoint): Final {
  const id = genesisId(finality.genesis);
  if (!equal(id, trusted)) {
    throw new Refusal("consortium", `the file is about the consortium \`${hex(id)}\`, not \`${hex(trusted)}\``);
  }
  const genesis = reading("consortium", "genesis document", () => genesisFrom(finality.genesis));

  const founders = validatorsOf(genesis);
  let trust: Trust = { epoch: 0n, now: founders, next: founders };
  let height = 0n;
  let passed = false;
  for (const handover of finality.handovers) {
    const header = headerOf(genesis, id, handover.header);
    if (header.height <= height) throw outOfOrder();
    height = header.height;
    const now = deciders(trust, header);
    const digest = headerDigest(handover.header);
    signersOf(header, digest, handover.certificate, now, id);
    if (!equal(validatorsDigest(handover.validators), header.nextValidators)) throw otherValidators();
    passed = meets(header, digest, checkpoint) || passed;
    trust = { epoch: header.epoch, now, next: handover.validators };
  }

  const header = headerOf(genesis, id, finality.header);
  if (finality.handovers.length > 0 && header.height <= height) throw outOfOrder();
  const validators = deciders(trust, header);
  const digest = headerDigest(finality.header);
  const signers = signersOf(header, digest, finality.certificate, validators, id);
  passed = meets(header, digest, checkpoint) || passed;
  if (checkpoint !== undefined && !passed) {
    throw new Refusal("finality", `the evidence does not go through the checkpoint at height ${checkpoint.height}`);
  }
  return { genesis, header, digest, signers, validators: validators.length };
}

/** A header of the chain, in the epoch of its height. */
function headerOf(genesis: Genesis, id: Digest, bytes: Uint8Array): Header {
  const header = reading("header", "header", () => headerFrom(bytes));
  if (header.version !== HEADER_VERSION) throw new Refusal("header", `header version ${header.version} is unknown`);
  if (!equal(header.chain, id)) throw new Refusal("header", `the header belongs to the chain \`${hex(header.chain)}\``);
  if (header.epoch !== header.height / genesis.epochBlocks) {
    throw new Refusal("header", `the header of height ${header.height} is not of the epoch that it names`);
  }
  return header;
}

/** Who decides the header, if the header says the same. */
function deciders(trust: Trust, header: Header): readonly Digest[] {
  const set = header.epoch > trust.epoch ? trust.next : trust.now;
  if (!equal(header.validators, validatorsDigest(set))) throw otherValidators();
  return set;
}

/** How many validators signed, when they are a quorum. */
function signersOf(
  header: Header,
  digest: Digest,
  bytes: Uint8Array,
  validators: readonly Digest[],
  id: Digest,
): number {
  // A set that the header names and that is none: keys repeated, out of order, or no keys.
  if (validators.length === 0 || validators.some((key, i) => !isOnCurve(key) || (i > 0 && compare(validators[i - 1] as Digest, key) >= 0))) {
    throw otherValidators();
  }
  const certificate = reading("finality", "certificate", () => certificateFrom(bytes, validators.length));
  if (!equal(certificate.header, digest)) {
    throw new Refusal(
      "finality",
      `the certificate is for the header \`${hex(certificate.header)}\`, the file gives \`${hex(digest)}\``,
    );
  }
  if (certificate.epoch !== header.epoch || !isQuorum(certificate, validators, hex(id))) {
    throw new Refusal(
      "finality",
      `the certificate of height ${header.height} is not signed by a quorum of the validators`,
    );
  }
  return certificate.signers.length;
}

/** Whether a final header is the checkpoint's. One of its height and another digest is of another history. */
function meets(header: Header, digest: Digest, checkpoint: Checkpoint | undefined): boolean {
  if (checkpoint?.height !== header.height) return false;
  if (!equal(checkpoint.block, digest)) {
    throw new Refusal("finality", `the evidence has another block at the checkpoint's height ${checkpoint.height}`);
  }
  return true;
}

function outOfOrder(): Refusal {
  return new Refusal("header", "the changes of validators are not in the order of their heights, before the header");
}

function otherValidators(): Refusal {
  return new Refusal("header", "the header was decided by other validators than those before it handed over to");
}

/** A value of the state that the header commits to. */
export function valueAt<T>(
  check: Check,
  subject: string,
  key: Digest,
  proven: StateProof,
  at: Final,
  read: (value: Uint8Array) => T,
): T {
  const value = isCurrent(key, proven.value, proven.proof, at.header.stateRoot)
    ? readable(() => read(proven.value))
    : undefined;
  if (value === undefined) throw new Refusal(check, `the state proof of ${subject} does not hold under the header`);
  return value;
}

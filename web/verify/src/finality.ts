// Finality: from the genesis id alone to a header that a quorum of the founding validators signed.

import { type Digest, equal, hex } from "./bytes.js";
import type { Finality, StateProof } from "./bundle.js";
import { certificateFrom, isQuorum } from "./certificate.js";
import { type Genesis, genesisFrom, genesisId, validatorsDigest, validatorsOf } from "./genesis.js";
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
};

/** Checks document, validator set, header and certificate. */
export function finalFrom(finality: Finality, trusted: Digest): Final {
  const id = genesisId(finality.genesis);
  if (!equal(id, trusted)) {
    throw new Refusal("consortium", `the file is about the consortium \`${hex(id)}\`, not \`${hex(trusted)}\``);
  }
  const genesis = reading("consortium", "genesis document", () => genesisFrom(finality.genesis));

  const header = reading("header", "header", () => headerFrom(finality.header));
  if (header.version !== HEADER_VERSION) throw new Refusal("header", `header version ${header.version} is unknown`);
  if (!equal(header.chain, id)) throw new Refusal("header", `the header belongs to the chain \`${hex(header.chain)}\``);
  if (!equal(header.validators, validatorsDigest(genesis))) {
    throw new Refusal("header", "the header was decided by other validators than the genesis document names");
  }

  const digest = headerDigest(finality.header);
  const validators = validatorsOf(genesis);
  const certificate = reading("finality", "certificate", () =>
    certificateFrom(finality.certificate, validators.length),
  );
  if (!equal(certificate.header, digest)) {
    throw new Refusal(
      "finality",
      `the certificate is for the header \`${hex(certificate.header)}\`, the file gives \`${hex(digest)}\``,
    );
  }
  if (!isQuorum(certificate, validators, hex(id))) {
    throw new Refusal(
      "finality",
      `the certificate of height ${header.height} is not signed by a quorum of the validators`,
    );
  }
  return { genesis, header, digest, signers: certificate.signers.length };
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

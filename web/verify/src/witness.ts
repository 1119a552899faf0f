// Witnesses: what organisations say about the log over all entries, and their words in the forms that others read.

import type { Digest } from "./bytes.js";
import type { Witness } from "./bundle.js";
import { cosignedMessage } from "./checkpoint.js";
import { type Final, valueAt } from "./finality.js";
import { receiptMessage } from "./receipt.js";
import { Refusal } from "./refusal.js";
import { isSignedBy } from "./signed.js";
import { organisationFrom, organisationKey } from "./state.js";

/** A member's key at the header, and when it cosigned, in seconds since 1970, if it did. */
export type CheckedWitness = {
  readonly org: string;
  readonly key: Digest;
  readonly cosigned: bigint | undefined;
};

/** Checks every member's key, and its signatures where they are given. */
export function checkWitnesses(given: readonly Witness[], at: Final): CheckedWitness[] {
  const { chain, logSize, logRoot } = at.header;
  const head = { size: logSize, root: logRoot };
  let last = "";
  return given.map(({ org, member: proof, word }) => {
    // Names are ASCII, so that comparing texts compares bytes.
    if (org <= last) throw new Refusal("witnesses", "the witnesses in the file are not in order, or one is given twice");
    last = org;
    const member = valueAt("witnesses", `the member \`${org}\``, organisationKey(org), proof, at, organisationFrom);
    const { entryKey: key, left } = member;
    if (word !== undefined) {
      const holds =
        !left &&
        isSignedBy(key, receiptMessage(chain, org, key, logRoot), word.receipt) &&
        isSignedBy(key, cosignedMessage(chain, head, word.time), word.cosignature);
      if (!holds) {
        const what = `what the file calls the signatures of \`${org}\` on the log of all entries`;
        throw new Refusal("witnesses", `${what} does not hold`);
      }
    }
    return { org, key, cosigned: word?.time };
  });
}

// How many overrides of each member nobody has reviewed: of every member of the roll, in its order, the ledger's own count.

import type { UnreviewedProof } from "./bundle.js";
import { type Final, valueAt } from "./finality.js";
import { Refusal } from "./refusal.js";
import { organisationFrom, organisationKey, rollFrom, rollKey } from "./state.js";
import { instant } from "./time.js";

// Names are those of the document. Heights, times and counts have 64 bits, which a JavaScript number does not.

/** What a count of overrides says. */
export type Unreviewed = {
  /** Of the block. */
  readonly height: bigint;
  /** Of the block, milliseconds since 1970. */
  readonly time: bigint;
  /** Every member, with the number of its overrides that nobody has reviewed. */
  readonly members: readonly (readonly [org: string, count: bigint])[];
};

/** Checks who the members are, and the count of each, so that none is left out. */
export function checkUnreviewed({ roll, members }: UnreviewedProof, at: Final): Unreviewed {
  const subject = "the roll of members";
  const names = valueAt("roll", subject, rollKey(), roll, at, rollFrom);
  if (names.length !== members.length) {
    throw new Refusal("roll", `the state proof of ${subject} does not hold under the header`);
  }
  const counted = members.map((proof, i) => {
    const org = names[i] as string;
    const member = valueAt("members", `the member \`${org}\``, organisationKey(org), proof, at, organisationFrom);
    return [org, member.unreviewed] as const;
  });
  return { height: at.header.height, time: at.header.time, members: counted };
}

/** The same in words, a sentence for each member. */
export function unreviewedSentences({ height, time, members }: Unreviewed): string[] {
  const at = `at height ${height} (${instant(time)})`;
  return members.map(([org, count]) => {
    if (count === 0n) return `${org}: every override that it opened is reviewed, ${at}`;
    if (count === 1n) return `${org}: 1 override that it opened is not reviewed, ${at}`;
    return `${org}: ${count} overrides that it opened are not reviewed, ${at}`;
  });
}

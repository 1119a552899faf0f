// Agreement with the other verifier: the same verdict and the same report for every mutant that it wrote down.
//
// `cargo xtask mutants` writes them and compares; one file of them: `VITALTRACE_MUTANTS=FILE npm test`.

import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { document } from "../document.js";
import { isAbsent, isCurrent } from "../stateProof.js";
import { unreviewedSentences } from "../unreviewed.js";
import { type Verdict, verify, verifyRecord, verifyUnreviewed } from "../verify.js";
import { digest, fromHex } from "./support.js";

/** A line of the file. */
type Mutant = { readonly kind: string; readonly accepted: boolean; readonly why?: string | null } & (
  | {
      readonly check: "bundle" | "record";
      readonly genesis: string;
      readonly file: string;
      readonly report: string | null;
    }
  | {
      readonly check: "unreviewed";
      readonly genesis: string;
      readonly file: string;
      readonly report: string | null;
      /** The sentences, where it was accepted. */
      readonly said: readonly string[] | null;
    }
  | {
      readonly check: "current";
      readonly key: string;
      readonly root: string;
      readonly value: string;
      readonly proof: string;
    }
  | { readonly check: "absent"; readonly key: string; readonly root: string; readonly proof: string }
);

const file = process.env["VITALTRACE_MUTANTS"];
if (file === undefined) console.log("SKIPPED: mutants not found, VITALTRACE_MUTANTS names no file");

test("every mutant gets the verdict and the report of the other verifier", { skip: file === undefined }, async () => {
  const counts = new Map<string, { all: number; accepted: number }>();
  const disagreements: string[] = [];
  let number = 0;
  for await (const line of createInterface({ input: createReadStream(file ?? "") })) {
    number += 1;
    const mutant: Mutant = JSON.parse(line);
    const count = counts.get(mutant.kind) ?? { all: 0, accepted: 0 };
    counts.set(mutant.kind, { all: count.all + 1, accepted: count.accepted + Number(mutant.accepted) });
    const difference = differenceOf(mutant);
    if (difference !== undefined) disagreements.push(`line ${number}, ${mutant.kind}: ${difference}`);
  }
  for (const [kind, { all, accepted }] of counts) console.log(`${kind}: ${all} compared, of them ${accepted} accepted`);
  console.log(`${number} mutants compared, ${disagreements.length} disagreements`);
  assert.ok(number > 0);
  assert.deepEqual(disagreements.slice(0, 20), []);
});

function differenceOf(mutant: Mutant): string | undefined {
  switch (mutant.check) {
    case "bundle":
      return compared(mutant, mutant.report, verify(fromHex(mutant.file), digest(mutant.genesis)));
    case "record":
      return compared(mutant, mutant.report, verifyRecord(fromHex(mutant.file), digest(mutant.genesis)));
    case "unreviewed":
      return countedAlike(mutant);
    case "current":
      return held(
        mutant,
        isCurrent(digest(mutant.key), fromHex(mutant.value), fromHex(mutant.proof), digest(mutant.root)),
      );
    case "absent":
      return held(mutant, isAbsent(digest(mutant.key), fromHex(mutant.proof), digest(mutant.root)));
  }
}

function compared<T extends Parameters<typeof document>[0]>(
  mutant: Mutant,
  report: string | null,
  verdict: Verdict<T>,
): string | undefined {
  if (!verdict.ok) return mutant.accepted ? `accepted there, refused here: ${verdict.reason.message}` : undefined;
  if (!mutant.accepted) return `refused there (${mutant.why}), accepted here`;
  return document(verdict.report) === report
    ? undefined
    : `another report: ${document(verdict.report)} instead of ${report}`;
}

/** The same verdict, report and sentences; what the ledger's state does not bear out is refused in the same words. */
function countedAlike(mutant: Mutant & { readonly check: "unreviewed" }): string | undefined {
  const verdict = verifyUnreviewed(fromHex(mutant.file), digest(mutant.genesis));
  const difference = compared(mutant, mutant.report, verdict);
  if (difference !== undefined) return difference;
  if (verdict.ok) {
    const said = unreviewedSentences(verdict.report);
    return isDeepStrictEqual(said, mutant.said) ? undefined : `other sentences: ${said} instead of ${mutant.said}`;
  }
  const { check, message } = verdict.reason;
  const isWordedAlike = (check !== "roll" && check !== "members") || message === mutant.why;
  return isWordedAlike ? undefined : `refused in other words: ${message} instead of ${mutant.why}`;
}

function held(mutant: Mutant, holds: boolean): string | undefined {
  return holds === mutant.accepted ? undefined : `holds ${mutant.accepted ? "there" : "here"} only`;
}

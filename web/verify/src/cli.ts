#!/usr/bin/env node
// The command line: `node dist/cli.js FILE --genesis ID [--checkpoint HEIGHT:DIGEST] [--json]`. Exit code 0: it holds; 1: it does not; 2: wrong usage.

import { readFileSync, statSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  type Checkpoint,
  digestFromHex,
  document,
  formatOf,
  instant,
  LIMITS,
  RECORD_PROOF_FORMAT,
  type RecordProven,
  type Report,
  type Unreviewed,
  UNREVIEWED_FORMAT,
  unreviewedSentences,
  type Verdict,
  verify,
  verifyRecord,
  verifyUnreviewed,
} from "./index.js";

const USAGE =
  "usage: cli.js FILE --genesis ID [--checkpoint HEIGHT:DIGEST] [--json]\n  ID: the genesis id, as every member can tell it, 64 hexadecimal digits\n  HEIGHT:DIGEST: a final block that you know; evidence that does not go through it is refused";

const GOOD = 0;
const NO = 1;
const WRONG_USAGE = 2;

class WrongUsage extends Error {}

function main(args: string[]): number {
  const { file, genesisId, checkpoint, json } = usage(args);
  const bytes = read(file);
  switch (formatOf(bytes)) {
    case RECORD_PROOF_FORMAT:
      return tell(verifyRecord(bytes, genesisId, {}, checkpoint), json, tellRecord);
    case UNREVIEWED_FORMAT:
      return tell(verifyUnreviewed(bytes, genesisId, {}, checkpoint), json, unreviewedSentences);
    default:
      return tell(verify(bytes, genesisId, {}, checkpoint), json, tellReport);
  }
}

type Usage = { file: string; genesisId: Uint8Array; checkpoint: Checkpoint | undefined; json: boolean };

function usage(args: string[]): Usage {
  const { values, positionals } = parsed(args);
  const [file, ...more] = positionals;
  if (file === undefined || more.length > 0) throw new WrongUsage("name one file");
  if (values.genesis === undefined) throw new WrongUsage("name the genesis id that you trust");
  const genesisId = digestFromHex(values.genesis);
  if (genesisId === undefined) throw new WrongUsage("a genesis id has 64 hexadecimal digits in lower case");
  const checkpoint = values.checkpoint === undefined ? undefined : checkpointFrom(values.checkpoint);
  return { file, genesisId, checkpoint, json: values.json ?? false };
}

function checkpointFrom(text: string): Checkpoint {
  const [, height, digits] = /^(0|[1-9][0-9]{0,19}):([0-9a-f]{64})$/.exec(text) ?? [];
  const block = digits === undefined ? undefined : digestFromHex(digits);
  if (height === undefined || block === undefined) throw new WrongUsage("a checkpoint is HEIGHT:DIGEST");
  return { height: BigInt(height), block };
}

function parsed(args: string[]) {
  try {
    return parseArgs({
      args,
      options: { genesis: { type: "string" }, checkpoint: { type: "string" }, json: { type: "boolean" } },
      allowPositionals: true,
    });
  } catch (error) {
    throw new WrongUsage(messageOf(error));
  }
}

function read(file: string): Uint8Array {
  try {
    const { size } = statSync(file);
    if (size > LIMITS.fileBytesMax) throw new WrongUsage(`it has more than ${LIMITS.fileBytesMax} bytes`);
    return readFileSync(file);
  } catch (error) {
    throw new WrongUsage(`cannot read \`${file}\`: ${messageOf(error)}`);
  }
}

function tell<T extends Report | RecordProven | Unreviewed>(
  verdict: Verdict<T>,
  json: boolean,
  people: (report: T) => string[],
): number {
  if (verdict.ok) {
    console.log(
      json ? document({ verified: true, report: verdict.report }) : people(verdict.report).map(plain).join("\n"),
    );
    return GOOD;
  }
  const { check, message } = verdict.reason;
  console.log(json ? document({ verified: false, check, why: message }) : plain(`NOT verified (${check}): ${message}`));
  return NO;
}

/** The report for people: what is proven, what is not, and each record's history in a line. */
function tellReport(report: Report): string[] {
  return [
    `verified: ${report.consortium} at height ${report.height} (${instant(report.time)}), signed by ${report.signers} of ${report.validators} validators`,
    `${report.entry_count} entries, ${report.opened} records opened, ${report.unopened} not opened`,
    ...Object.entries(report.by_kind).map(([kind, count]) => `  ${kind}: ${count}`),
    ...report.records.flatMap(({ name, versions }) => {
      const last = versions.at(-1);
      if (name === null || last === undefined) return [];
      return [`  ${versions.length} versions of ${name}, last by ${last.organisation} at ${instant(last.time)}`];
    }),
    "proven:",
    ...report.proven.map((sentence) => `  - ${sentence}`),
    "NOT proven:",
    ...report.not_proven.map((sentence) => `  - ${sentence}`),
  ];
}

function tellRecord(record: RecordProven): string[] {
  const { name, tag, version, deleted, organisation, written_at_height: writtenAt, height, time, bytes } = record;
  return [
    `verified: ${bytes} bytes are version ${version} of the record \`${tag}\`, the current one at height ${height} (${instant(time)})`,
    `${deleted ? "deleted" : "written"} by ${organisation} at height ${writtenAt}`,
    name === null ? "the bytes name no record" : `the bytes name themselves ${name}`,
    "NOT proven:",
    "  - That the tag is that of a certain record: that takes the patient key.",
    "  - Whatever was written after the height.",
  ];
}

/** One line without control characters: names come from the file, and none may steer a terminal or look like a line of ours. */
function plain(line: string): string {
  return line.replace(/\p{Control}/gu, "\ufffd");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof WrongUsage)) throw error;
  console.error(`${error.message}\n${USAGE}`);
  process.exitCode = WRONG_USAGE;
}

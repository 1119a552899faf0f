// The report: what a file proves and what it does not. It is one JSON document, the same for every verifier, and has no health data.

import { type Digest, hex } from "./bytes.js";
import { EVIDENCE_FORMAT } from "./bundle.js";
import type { Current } from "./current.js";
import type { Device } from "./device.js";
import type { Final } from "./finality.js";
import type { Accesses } from "./gathered.js";
import { letGoOf } from "./letGo.js";
import { type CheckedMonth, type Filed, type Link, misdated } from "./log.js";
import type { Purpose, RecordType } from "./names.js";
import { committedBy, type Contents } from "./opened.js";
import { placeKey, type Places } from "./place.js";
import { notProven, proven } from "./sentences.js";
import type { ActivePolicy, RecordHead } from "./state.js";
import { type Month, monthOf, monthText } from "./time.js";
import type { CheckedWitness } from "./witness.js";
import { AUDIT_EVENT, recordKind, what } from "./words.js";

// Names are those of the document. Times, heights and versions have 64 bits, which a JavaScript number does not.

/** Everything that verifying a bundle established. */
export type Report = {
  readonly format: typeof EVIDENCE_FORMAT;
  /** The consortium's genesis id: what the verifier trusted. */
  readonly chain: string;
  /** The consortium's name for people. */
  readonly consortium: string;
  /** Height of the header that everything is proven under. */
  readonly height: bigint;
  /** Its block time, milliseconds since 1970. */
  readonly time: bigint;
  /** Its digest. */
  readonly block: string;
  /** Validators that signed it. */
  readonly signers: number;
  /** Validators in all. */
  readonly validators: number;
  /** Size of the file. */
  readonly bundle_bytes: number;
  /** Whether the months tell one patient's whole story from the first to the last. */
  readonly complete: boolean;
  readonly months: readonly MonthReport[];
  /** Entries of the ledger. */
  readonly entry_count: number;
  /** How many of each kind. */
  readonly by_kind: Readonly<Record<string, number>>;
  readonly by_organisation: Readonly<Record<string, number>>;
  /** How many accesses entries of the file commit to together, as the entries say. */
  readonly gathered: number;
  /** How many of them the file shows. */
  readonly gathered_shown: number;
  readonly policies: PolicyReport;
  /** How many committed versions are opened: their bytes are in the file and hold. */
  readonly opened: number;
  readonly unopened: number;
  /** In order of their first entry. */
  readonly records: readonly RecordReport[];
  /** What the ledger has of records at the header. */
  readonly current: readonly CurrentReport[];
  /** Records of the file that it does not show this of, but for audit events. */
  readonly current_unshown: number;
  /** The keys of devices at the header. */
  readonly devices: readonly DeviceReport[];
  /** Batches of frames in the file that it does not show this of. */
  readonly devices_unshown: number;
  /** Frames that were let go by policy, in order of the entries. */
  readonly let_go: readonly LetGoReport[];
  /** The log over all entries. */
  readonly ledger_log: { readonly size: bigint; readonly root: string; readonly placed: number };
  /** Members with their keys at the header, and when they signed that log. */
  readonly witnesses: readonly WitnessReport[];
  /** In order; after an entry that commits to several accesses, those of them that the file shows. */
  readonly entries: readonly EntryReport[];
  /** What is proven, in plain sentences. */
  readonly proven: readonly string[];
  /** What is not, in plain sentences. */
  readonly not_proven: readonly string[];
};

/** A month of the patient. */
export type MonthReport = {
  /** As `2026-11`. */
  readonly month: string;
  readonly pseudonym: string;
  /** Entries in its log: all that there are. */
  readonly entries: number;
  /** RFC 9162 root of the log; none where there is no log. */
  readonly root: string | null;
  /** Height of the block with the last entry. */
  readonly last_height: bigint | null;
  /** Entries whose own time is in another month. */
  readonly misdated: number;
  readonly link: LinkReport;
  /** The range of heights that the entries are all of, where the file does not give the whole log. */
  readonly part: PartReport | null;
};

/** A part of a log. */
export type PartReport = {
  readonly from: bigint;
  readonly to: bigint;
  /** Entries of the whole log. */
  readonly of: bigint;
};

/** What the ledger has of a record at the header. */
export type CurrentReport = {
  readonly tag: string;
  readonly name: string | null;
  readonly version: bigint | null;
  readonly deleted: boolean;
  readonly organisation: string | null;
  readonly written_at_height: bigint | null;
  /** Whether its bytes are in the file. */
  readonly opened: boolean;
};

/** The key that the frames of a binding were signed by. */
export type DeviceReport = {
  readonly binding: string;
  readonly key: string;
  readonly revoked: bigint | null;
  readonly good: number;
  readonly late: number;
};

/** Frames of a binding that were let go by policy. */
export type LetGoReport = {
  readonly binding: string;
  /** Counter of the last frame that was let go before. */
  readonly after: bigint;
  /** Counter of the last frame. */
  readonly last: bigint;
  /** How many there were. */
  readonly frames: bigint;
  /** How many more the batches of the file name, which were gone before. */
  readonly gone_before: bigint;
  /** Records with their roll-up. */
  readonly roll_ups: number;
  /** Digest of the derivation policy. */
  readonly policy: string;
  readonly height: bigint;
};

/** A member at the header. */
export type WitnessReport = {
  readonly organisation: string;
  readonly key: string;
  /** Seconds since 1970. */
  readonly cosigned: bigint | null;
};

/** How a month continues a month before. */
export type LinkReport =
  | { readonly is: "continues"; readonly month: string; readonly entries: bigint }
  | { readonly is: "earlier"; readonly pseudonym: string; readonly entries: bigint }
  | { readonly is: "unseen"; readonly month: string }
  | { readonly is: "unproven" };

/** Policies by the digests of their documents. */
export type PolicyReport = {
  readonly access: string;
  readonly access_height: bigint;
  readonly derivation: string;
  readonly derivation_height: bigint;
  /** Access policies that the entries say they were decided under. */
  readonly decided_under: readonly { readonly policy: string; readonly entries: number }[];
};

/** A record with its history. */
export type RecordReport = {
  readonly tag: string;
  /** `Type/id`, where a version of it is opened. */
  readonly name: string | null;
  readonly kind: RecordType | typeof AUDIT_EVENT;
  /**
   * Whether each version follows the one before without a gap, from the first that the file shows; of an audit event, which has but one,
   * whether a single access names it.
   */
  readonly contiguous: boolean;
  readonly versions: readonly VersionReport[];
};

/** A version of a record. */
export type VersionReport = {
  readonly version: bigint;
  readonly organisation: string;
  /** The person there, as a digest that only the organisation can open. */
  readonly actor: string;
  readonly purpose: Purpose;
  /** By the organisation's clock. */
  readonly time: bigint;
  readonly height: bigint;
  /** Time of its block. */
  readonly final_at: bigint;
  readonly deleted: boolean;
  /** The entry's id. */
  readonly entry: string;
  readonly opened: { readonly length: number } | null;
};

/** One line of provenance. */
export type EntryReport = {
  readonly id: string;
  /** The entry of the ledger that commits to it together with others, if it is an access that is not on the ledger by itself. */
  readonly gathered_in: string | null;
  readonly digest: string;
  readonly month: string;
  readonly kind: string;
  readonly what: string;
  readonly organisation: string;
  readonly actor: string;
  readonly purpose: Purpose;
  readonly time: bigint;
  readonly height: bigint;
  readonly final_at: bigint;
  /** Its index in the log over all entries. */
  readonly index: bigint | null;
};

/** What the light check of one record established. */
export type RecordProven = {
  readonly chain: string;
  readonly height: bigint;
  readonly time: bigint;
  readonly tag: string;
  /** `Type/id` as the bytes say it. */
  readonly name: string | null;
  readonly version: bigint;
  readonly deleted: boolean;
  readonly organisation: string;
  readonly written_at_height: bigint;
  /** Length of the bytes. */
  readonly bytes: number;
};

/** What was verified, before it is told. */
export type Verified = {
  readonly at: Final;
  readonly access: ActivePolicy;
  readonly derivation: ActivePolicy;
  readonly months: readonly CheckedMonth[];
  readonly accesses: Accesses;
  readonly contents: Contents;
  readonly current: readonly Current[];
  readonly devices: readonly Device[];
  readonly devicesUnshown: number;
  readonly places: Places;
  readonly witnesses: readonly CheckedWitness[];
  readonly bytes: number;
};

/** Tells what was verified. */
export function report(verified: Verified): Report {
  const { at, access, derivation, months, accesses, contents, current } = verified;
  const { devices, devicesUnshown, places, witnesses, bytes } = verified;
  const all = months.flatMap((month) => month.entries);
  const letGo = letGoOf(all);
  const several = all.flatMap(({ entry: { body } }) => (body.kind === "accesses" ? [body.count] : []));
  const given = months.flatMap((month) => givenOf(month, accesses));
  const records = recordsOf(
    given.map(({ filed }) => filed),
    contents,
  );
  const versions = records.flatMap((record) => record.versions);
  const opened = versions.filter((version) => version.opened !== null).length;
  const said = {
    consortium: at.genesis.name,
    height: at.header.height,
    time: at.header.time,
    month: monthOf(at.header.time),
    signers: at.signers,
    validators: at.validators,
    months,
    entries: all.length,
    gathered: {
      by: several.length,
      all: several.reduce((sum, count) => sum + count, 0),
      shown: given.length - all.length,
    },
    policies: { access, derivation },
    opened,
    unopened: versions.length - opened,
    repeated: records.filter((record) => !record.contiguous && record.kind === AUDIT_EVENT).length,
    broken: records.filter((record) => !record.contiguous && record.kind !== AUDIT_EVENT).length,
    current,
    currentUnshown: unshownOf(records, current),
    devices,
    devicesUnshown,
    letGo,
    log: { size: at.header.logSize, root: at.header.logRoot, placed: places.size },
    witnesses,
  };
  return {
    format: EVIDENCE_FORMAT,
    chain: hex(at.header.chain),
    consortium: said.consortium,
    height: said.height,
    time: said.time,
    block: hex(at.digest),
    signers: said.signers,
    validators: said.validators,
    bundle_bytes: bytes,
    complete: isComplete(months),
    months: months.map(monthReport),
    entry_count: all.length,
    by_kind: Object.fromEntries(counted(all.map(({ entry }) => entry.body.kind))),
    by_organisation: Object.fromEntries(counted(all.map(({ entry }) => entry.org))),
    gathered: said.gathered.all,
    gathered_shown: said.gathered.shown,
    policies: {
      access: hex(access.document),
      access_height: access.height,
      derivation: hex(derivation.document),
      derivation_height: derivation.height,
      decided_under: counted(all.map(({ entry }) => hex(entry.policy))).map(([policy, entries]) => ({
        policy,
        entries,
      })),
    },
    opened,
    unopened: said.unopened,
    records,
    current: current.map((shown) => currentReport(shown, contents)),
    current_unshown: said.currentUnshown,
    devices: devices.map(({ binding, key, revoked, good, late }) => ({
      binding: hex(binding),
      key: hex(key),
      revoked: revoked ?? null,
      good,
      late,
    })),
    devices_unshown: devicesUnshown,
    let_go: letGo.map(({ binding, after, last, frames, goneBefore, rollUps, policy, height }) => ({
      binding: hex(binding),
      after,
      last,
      frames,
      gone_before: goneBefore,
      roll_ups: rollUps,
      policy: hex(policy),
      height,
    })),
    ledger_log: { size: said.log.size, root: hex(said.log.root), placed: said.log.placed },
    witnesses: witnesses.map(({ org, key, cosigned }) => ({
      organisation: org,
      key: hex(key),
      cosigned: cosigned ?? null,
    })),
    entries: given.map((one) => entryReport(one, places)),
    proven: proven(said),
    not_proven: notProven(said),
  };
}

/** Tells what was verified of one record. */
export function recordProven(
  at: Final,
  tag: Digest,
  head: RecordHead,
  name: string | undefined,
  bytes: number,
): RecordProven {
  return {
    chain: hex(at.header.chain),
    height: at.header.height,
    time: at.header.time,
    tag: hex(tag),
    name: name ?? null,
    version: head.version,
    deleted: head.deleted,
    organisation: head.org,
    written_at_height: head.height,
    bytes,
  };
}

/** Every log but the first continues an earlier one, and the last month has a log, so that nothing rests on a proof of absence. */
function isComplete(months: readonly CheckedMonth[]): boolean {
  if (months.some((month) => month.range !== undefined)) return false;
  const [first, ...others] = months.filter((month) => month.head !== undefined);
  return (
    first !== undefined && others.every((month) => month.link.is === "continues") && months.at(-1)?.head !== undefined
  );
}

function monthReport(checked: CheckedMonth): MonthReport {
  const { month, pseudonym, entries, head, link, range } = checked;
  return {
    month: monthText(month),
    pseudonym: hex(pseudonym),
    entries: entries.length,
    root: head === undefined ? null : hex(head.frontier.root()),
    last_height: head?.height ?? null,
    misdated: misdated(checked),
    link: linkReport(link),
    part:
      range === undefined || head === undefined
        ? null
        : { from: range.from, to: range.to, of: head.frontier.size },
  };
}

/** How many records have no statement about their current version. */
function unshownOf(records: readonly RecordReport[], current: readonly Current[]): number {
  const shown = new Set(current.map(({ tag }) => hex(tag)));
  return records.filter(({ tag, kind }) => kind !== AUDIT_EVENT && !shown.has(tag)).length;
}

function currentReport({ tag, head }: Current, contents: Contents): CurrentReport {
  return {
    tag: hex(tag),
    name: contents.name(tag) ?? null,
    version: head?.version ?? null,
    deleted: head?.deleted ?? false,
    organisation: head?.org ?? null,
    written_at_height: head?.height ?? null,
    opened: head !== undefined && contents.of({ tag, ...head }) !== undefined,
  };
}

function linkReport(link: Link): LinkReport {
  switch (link.is) {
    case "continues":
      return { is: link.is, month: monthText(link.month), entries: link.entries };
    case "earlier":
      return { is: link.is, pseudonym: hex(link.pseudonym), entries: link.entries };
    case "unseen":
      return { is: link.is, month: monthText(link.month) };
    case "unproven":
      return { is: link.is };
  }
}

/** An entry that the file gives of a month. */
type Given = {
  readonly month: Month;
  /** Its index among the month's entries; none of an access that is not on the ledger by itself. */
  readonly at: bigint | undefined;
  /** The entry that commits to it, if it is such an access. */
  readonly outer: Filed | undefined;
  readonly filed: Filed;
};

/** The entries of a month, each before the accesses that the file shows of it. */
function givenOf({ month, entries }: CheckedMonth, accesses: Accesses): Given[] {
  return entries.flatMap((filed, i) => [
    { month, at: BigInt(i), outer: undefined, filed },
    ...accesses.of(month, BigInt(i)).map((access) => ({ month, at: undefined, outer: filed, filed: access })),
  ]);
}

function entryReport({ month, at, outer, filed }: Given, places: Places): EntryReport {
  const { height, time, digest, entry } = filed;
  return {
    id: hex(entry.id),
    gathered_in: outer === undefined ? null : hex(outer.entry.id),
    digest: hex(digest),
    month: monthText(month),
    kind: entry.body.kind,
    what: what(entry.body),
    organisation: entry.org,
    actor: hex(entry.actor),
    purpose: entry.purpose,
    time: entry.time,
    height,
    final_at: time,
    index: (at === undefined ? undefined : places.get(placeKey(month, at))) ?? null,
  };
}

/** The records in order of their first entry, versions in the ledger's order. */
function recordsOf(entries: readonly Filed[], contents: Contents): RecordReport[] {
  type Open = Omit<RecordReport, "contiguous" | "versions"> & { contiguous: boolean; versions: VersionReport[] };
  const records = new Map<string, Open>();
  for (const { height, time, entry } of entries) {
    const committed = committedBy(entry.body);
    if (committed === undefined) continue;
    const tag = hex(committed.tag);
    let record = records.get(tag);
    if (record === undefined) {
      const name = contents.name(committed.tag) ?? null;
      record = { tag, name, kind: recordKind(entry.body), contiguous: true, versions: [] };
      records.set(tag, record);
    }
    const last = record.versions.at(-1);
    if (last !== undefined && last.version + 1n !== committed.version) record.contiguous = false;
    const opened = contents.of(committed);
    record.versions.push({
      version: committed.version,
      organisation: entry.org,
      actor: hex(entry.actor),
      purpose: entry.purpose,
      time: entry.time,
      height,
      final_at: time,
      deleted: committed.deleted,
      entry: hex(entry.id),
      opened: opened === undefined ? null : { length: opened.bytes.length },
    });
  }
  return [...records.values()];
}

/** How often each text is there, sorted by text. All of them are ASCII. */
function counted(texts: readonly string[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

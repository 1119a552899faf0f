// The files: a bundle of evidence, the proof of a single record, and the count of overrides. Layout: `spec/evidence.md`.

import type { Digest } from "./bytes.js";
import { decode, Reader } from "./cbor.js";
import { CERTIFICATE_BYTES_MAX } from "./certificate.js";
import { ENTRY_BYTES_MAX } from "./entry.js";
import { GENESIS_BYTES_MAX, MEMBERS_MAX } from "./genesis.js";
import { HEADER_BYTES_MAX } from "./header.js";
import { type Frontier, PATH_LENGTH_MAX } from "./merkle.js";
import { digest, id, org } from "./names.js";
import { Malformed, readable, reading, Refusal } from "./refusal.js";
import { frontier, VALUE_BYTES_MAX } from "./state.js";
import { PROOF_BYTES_MAX } from "./stateProof.js";
import type { Month } from "./time.js";

/** First element of every bundle; the number is the format's version. */
export const EVIDENCE_FORMAT = "vitaltrace/evidence/1";
/** First element of every record proof. */
export const RECORD_PROOF_FORMAT = "vitaltrace/record-proof/1";
/** First element of every count of overrides. */
export const UNREVIEWED_FORMAT = "vitaltrace/unreviewed/1";
const FORMATS = [EVIDENCE_FORMAT, RECORD_PROOF_FORMAT, UNREVIEWED_FORMAT] as const;
export type Format = (typeof FORMATS)[number];

const MONTHS_MAX = 1_200;
const ENTRIES_MAX = 1_000_000;
const HANDOVERS_MAX = 4_096;
const LINKS_MAX = 1_024;
const OPENED_MAX = 1_000_000;
const CURRENT_MAX = 1_000_000;
const DEVICES_MAX = 100_000;
const WITNESSES_MAX = 256;
const SIGNATURE_BYTES = 64;
const RECORD_BYTES_MAX = 16 * 1024 * 1024;
const RECORD_NAME_BYTES_MAX = 256;

/** How much a verifier is willing to read. */
export type Limits = {
  readonly fileBytesMax: number;
  readonly monthsMax: number;
  /** Over all months, with the accesses that are opened of those that commit to several. */
  readonly entriesMax: number;
  readonly openedMax: number;
};

/** 256 MiB, a hundred years, 200,000 entries and as many opened records. */
export const LIMITS: Limits = {
  fileBytesMax: 256 * 1024 * 1024,
  monthsMax: 1_200,
  entriesMax: 200_000,
  openedMax: 200_000,
};

/** What proves that a header is final. */
export type Finality = {
  /** The genesis document. */
  readonly genesis: Uint8Array;
  readonly header: Uint8Array;
  readonly certificate: Uint8Array;
  /** Where the validators changed before the header, by height, from the founders on. */
  readonly handovers: readonly Handover[];
};

/** A final block, and who decides from the next epoch on. */
export type Handover = {
  readonly header: Uint8Array;
  readonly certificate: Uint8Array;
  /** Consensus keys of those who decide the next epoch, in ascending order. */
  readonly validators: readonly Digest[];
};

/** A value of the ledger's state with the proof that it is the current one; the reader knows the key. */
export type StateProof = {
  readonly value: Uint8Array;
  readonly proof: Uint8Array;
};

/** An entry as it stands in a log. */
export type LoggedEntry = {
  /** Height of its block. */
  readonly height: bigint;
  /** Time of its block. */
  readonly time: bigint;
  readonly entry: Uint8Array;
};

/** What the month link of one entry commits to: the month before, as its author saw it. */
export type OpenedLink = {
  /** Index of the entry in its month's log. */
  readonly entry: bigint;
  readonly previous: Digest;
  readonly count: bigint;
  readonly root: Digest;
  readonly salt: Digest;
};

/** What was filed under a pseudonym. */
export type Log =
  | {
      readonly is: "present";
      readonly head: StateProof;
      readonly entries: readonly LoggedEntry[];
      readonly links: readonly OpenedLink[];
    }
  | { readonly is: "absent"; readonly proof: Uint8Array }
  | LogPart;

/** The entries of a log in a range of heights, with both neighbours. */
export type LogPart = {
  readonly is: "part";
  readonly head: StateProof;
  /** The tree over the leaves before those given. */
  readonly before: Frontier;
  /** The last entry before the range, which begins above it. */
  readonly left: Neighbour | undefined;
  readonly entries: readonly LoggedEntry[];
  /** The first entry after the range, which ends below it. */
  readonly right: Neighbour | undefined;
  /** Consistency path from the tree that ends with what is given to the whole log. */
  readonly rest: readonly Digest[];
};

/** An entry beside a range. */
export type Neighbour = {
  readonly height: bigint;
  readonly time: bigint;
  /** Digest of the entry. */
  readonly digest: Digest;
};

export type MonthLog = {
  readonly month: Month;
  readonly pseudonym: Digest;
  readonly log: Log;
};

/** A version of a record, opened. */
export type Opened = {
  /** `Type/id`. */
  readonly record: string;
  readonly version: bigint;
  readonly salt: Digest;
  /** Exactly as stored. */
  readonly bytes: Uint8Array;
};

/** The latest version of a record, or that there is none. */
export type CurrentRecord = {
  readonly tag: Digest;
  readonly value:
    | { readonly is: "present"; readonly head: StateProof }
    | { readonly is: "absent"; readonly proof: Uint8Array };
};

/** The key that a device's frames were signed by under a binding. */
export type BoundDevice = {
  readonly binding: Uint8Array;
  readonly bound: StateProof;
  readonly key: StateProof;
};

/** Where an entry of the file stands in the log over all entries. */
export type Place = {
  readonly month: Month;
  /** Its index among the entries that the file gives of this month. */
  readonly entry: bigint;
  /** Its index in the log over all entries. */
  readonly index: bigint;
  readonly path: readonly Digest[];
};

/** An access that an entry of the file commits to together with others, opened. */
export type GatheredAccess = {
  readonly month: Month;
  /** The entry's index among those that the file gives of this month. */
  readonly entry: bigint;
  /** Which of the entry's accesses, from 0. */
  readonly place: number;
  /** The access's own entry, which is not on the ledger. */
  readonly access: Uint8Array;
  readonly path: readonly Digest[];
};

/** A member with its key at the header, and its signatures on the log over all entries. */
export type Witness = {
  readonly org: string;
  readonly member: StateProof;
  readonly word: Word | undefined;
};

export type Word = {
  /** Signature of its COSE receipts. */
  readonly receipt: Uint8Array;
  /** When it cosigned, in seconds since 1970. */
  readonly time: bigint;
  readonly cosignature: Uint8Array;
};

export type Bundle = {
  readonly finality: Finality;
  readonly policies: { readonly access: StateProof; readonly derivation: StateProof };
  readonly months: readonly MonthLog[];
  readonly opened: readonly Opened[];
  readonly current: readonly CurrentRecord[];
  readonly devices: readonly BoundDevice[];
  readonly places: readonly Place[];
  readonly witnesses: readonly Witness[];
  readonly accesses: readonly GatheredAccess[];
};

export type RecordProof = {
  readonly finality: Finality;
  readonly tag: Digest;
  readonly head: StateProof;
  readonly salt: Digest;
  readonly bytes: Uint8Array;
};

/** Of every member, the number of its overrides that nobody has reviewed, with its proof. */
export type UnreviewedProof = {
  readonly finality: Finality;
  /** Who the members are. */
  readonly roll: StateProof;
  /** Of each member, in the roll's order. */
  readonly members: readonly StateProof[];
};

/** The format that a file says it is in. */
export function formatOf(bytes: Uint8Array): Format | undefined {
  const name = readable(() => {
    const reader = new Reader(bytes);
    reader.fields(1, 24);
    return reader.text(64);
  });
  return FORMATS.find((format) => format === name);
}

/** Reads a bundle within limits; says nothing about whether it holds. */
export function bundleFrom(bytes: Uint8Array, limits: Limits): Bundle {
  return fileFrom(bytes, limits, EVIDENCE_FORMAT, (reader) => {
    reader.fields(10);
    formatName(reader, EVIDENCE_FORMAT);
    const bundle = {
      finality: finality(reader),
      policies: policies(reader),
      months: reader.array(MONTHS_MAX, monthLog),
      opened: reader.array(OPENED_MAX, opened),
      current: reader.array(CURRENT_MAX, currentRecord),
      devices: reader.array(DEVICES_MAX, boundDevice),
      places: reader.array(ENTRIES_MAX, place),
      witnesses: reader.array(WITNESSES_MAX, witness),
      accesses: reader.array(ENTRIES_MAX, gatheredAccess),
    };
    const logged = bundle.months.reduce((sum, { log }) => sum + (log.is === "absent" ? 0 : log.entries.length), 0);
    atMost("months", bundle.months.length, limits.monthsMax);
    atMost("entries", logged + bundle.accesses.length, limits.entriesMax);
    atMost("opened records", bundle.opened.length, limits.openedMax);
    atMost("current versions", bundle.current.length, limits.openedMax);
    return bundle;
  });
}

/** Reads a record proof within limits; says nothing about whether it holds. */
export function recordProofFrom(bytes: Uint8Array, limits: Limits): RecordProof {
  return fileFrom(bytes, limits, RECORD_PROOF_FORMAT, (reader) => {
    reader.fields(6);
    formatName(reader, RECORD_PROOF_FORMAT);
    return {
      finality: finality(reader),
      tag: digest(reader),
      head: stateProof(reader),
      salt: digest(reader),
      bytes: reader.bytes(RECORD_BYTES_MAX),
    };
  });
}

/** Reads a count of overrides within limits; says nothing about whether it holds. */
export function unreviewedFrom(bytes: Uint8Array, limits: Limits): UnreviewedProof {
  return fileFrom(bytes, limits, UNREVIEWED_FORMAT, (reader) => {
    reader.fields(4);
    formatName(reader, UNREVIEWED_FORMAT);
    return { finality: finality(reader), roll: stateProof(reader), members: reader.array(MEMBERS_MAX, stateProof) };
  });
}

/** Checks size and format, in this order, before anything else is read. */
function fileFrom<T>(bytes: Uint8Array, limits: Limits, format: Format, read: (reader: Reader) => T): T {
  if (bytes.length > limits.fileBytesMax) {
    throw new Refusal("size", `${bytes.length} bytes are more than the ${limits.fileBytesMax} allowed`);
  }
  if (formatOf(bytes) !== format) throw new Refusal("format", `the file is not in the format \`${format}\``);
  return reading("format", "the file is malformed", () => decode(bytes, limits.fileBytesMax, read));
}

function atMost(what: string, got: number, max: number): void {
  if (got > max) throw new Refusal("size", `${got} ${what} are more than the ${max} allowed`);
}

// Object literals are evaluated in the order in which they are written: that of the fields in the file.

function formatName(reader: Reader, format: Format): void {
  if (reader.text(format.length) !== format) throw new Malformed("another format");
}

function finality(reader: Reader): Finality {
  reader.fields(4);
  return {
    genesis: reader.bytes(GENESIS_BYTES_MAX),
    header: reader.bytes(HEADER_BYTES_MAX),
    certificate: reader.bytes(CERTIFICATE_BYTES_MAX),
    handovers: reader.array(HANDOVERS_MAX, handover),
  };
}

function handover(reader: Reader): Handover {
  reader.fields(3);
  return {
    header: reader.bytes(HEADER_BYTES_MAX),
    certificate: reader.bytes(CERTIFICATE_BYTES_MAX),
    validators: reader.array(MEMBERS_MAX, digest),
  };
}

function policies(reader: Reader): Bundle["policies"] {
  reader.fields(2);
  return { access: stateProof(reader), derivation: stateProof(reader) };
}

function stateProof(reader: Reader): StateProof {
  reader.fields(2);
  return { value: reader.bytes(VALUE_BYTES_MAX), proof: reader.bytes(PROOF_BYTES_MAX) };
}

function monthLog(reader: Reader): MonthLog {
  reader.fields(3);
  return { month: reader.u32(), pseudonym: digest(reader), log: reader.choice(LOGS) };
}

const LOGS: readonly ((reader: Reader) => Log)[] = [
  (reader) => {
    reader.fields(3);
    return {
      is: "present",
      head: stateProof(reader),
      entries: reader.array(ENTRIES_MAX, loggedEntry),
      links: reader.array(LINKS_MAX, openedLink),
    };
  },
  (reader) => {
    reader.fields(1);
    return { is: "absent", proof: reader.bytes(PROOF_BYTES_MAX) };
  },
  (reader) => {
    reader.fields(1);
    reader.fields(6);
    return {
      is: "part",
      head: stateProof(reader),
      before: frontier(reader),
      left: reader.optional(neighbour),
      entries: reader.array(ENTRIES_MAX, loggedEntry),
      right: reader.optional(neighbour),
      rest: path(reader),
    };
  },
];

const VALUES: readonly ((reader: Reader) => CurrentRecord["value"])[] = [
  (reader) => {
    reader.fields(1);
    return { is: "present", head: stateProof(reader) };
  },
  (reader) => {
    reader.fields(1);
    return { is: "absent", proof: reader.bytes(PROOF_BYTES_MAX) };
  },
];

function neighbour(reader: Reader): Neighbour {
  reader.fields(3);
  return { height: reader.u64(), time: reader.u64(), digest: digest(reader) };
}

function path(reader: Reader): Digest[] {
  return reader.array(PATH_LENGTH_MAX, digest);
}

function currentRecord(reader: Reader): CurrentRecord {
  reader.fields(2);
  return { tag: digest(reader), value: reader.choice(VALUES) };
}

function boundDevice(reader: Reader): BoundDevice {
  reader.fields(3);
  return { binding: id(reader), bound: stateProof(reader), key: stateProof(reader) };
}

function place(reader: Reader): Place {
  reader.fields(4);
  return { month: reader.u32(), entry: reader.u64(), index: reader.u64(), path: path(reader) };
}

function gatheredAccess(reader: Reader): GatheredAccess {
  reader.fields(5);
  return {
    month: reader.u32(),
    entry: reader.u64(),
    place: reader.u32(),
    access: reader.bytes(ENTRY_BYTES_MAX),
    path: path(reader),
  };
}

function witness(reader: Reader): Witness {
  const count = reader.fields(2, 3);
  return { org: org(reader), member: stateProof(reader), word: count === 3 ? word(reader) : undefined };
}

function word(reader: Reader): Word {
  reader.fields(3);
  return {
    receipt: reader.fixed(SIGNATURE_BYTES),
    time: reader.u64(),
    cosignature: reader.fixed(SIGNATURE_BYTES),
  };
}

function loggedEntry(reader: Reader): LoggedEntry {
  reader.fields(3);
  return { height: reader.u64(), time: reader.u64(), entry: reader.bytes(ENTRY_BYTES_MAX) };
}

function openedLink(reader: Reader): OpenedLink {
  reader.fields(2);
  const entry = reader.u64();
  reader.fields(4);
  return { entry, previous: digest(reader), count: reader.u64(), root: digest(reader), salt: digest(reader) };
}

function opened(reader: Reader): Opened {
  reader.fields(4);
  return {
    record: reader.text(RECORD_NAME_BYTES_MAX),
    version: reader.u64(),
    salt: digest(reader),
    bytes: reader.bytes(RECORD_BYTES_MAX),
  };
}

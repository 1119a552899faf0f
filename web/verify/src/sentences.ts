// The report in plain sentences. Whoever reads only these must not come to believe more than was checked.

import { type Digest, hex } from "./bytes.js";
import type { Current } from "./current.js";
import type { Device } from "./device.js";
import type { LetGo } from "./letGo.js";
import { type CheckedMonth, misdated } from "./log.js";
import type { ActivePolicy } from "./state.js";
import { instant, type Month, monthText, previous } from "./time.js";
import type { CheckedWitness } from "./witness.js";

/** What there is to be said. */
export type Said = {
  readonly consortium: string;
  readonly height: bigint;
  readonly time: bigint;
  /** The month of the header's time. */
  readonly month: Month;
  readonly signers: number;
  readonly validators: number;
  readonly months: readonly CheckedMonth[];
  readonly entries: number;
  /** Accesses that entries commit to together: by how many entries, how many in all, how many shown. */
  readonly gathered: { readonly by: number; readonly all: number; readonly shown: number };
  readonly policies: { readonly access: ActivePolicy; readonly derivation: ActivePolicy };
  readonly opened: number;
  readonly unopened: number;
  /** Audit events that more than one access names. */
  readonly repeated: number;
  /** Records with versions missing. */
  readonly broken: number;
  readonly current: readonly Current[];
  readonly currentUnshown: number;
  readonly devices: readonly Device[];
  readonly devicesUnshown: number;
  readonly letGo: readonly LetGo[];
  /** The log over all entries, and how many entries of the file have a place in it. */
  readonly log: { readonly size: bigint; readonly root: Digest; readonly placed: number };
  readonly witnesses: readonly CheckedWitness[];
};

/** What is proven. */
export function proven(said: Said): string[] {
  const { height, policies } = said;
  const sentences = [
    `Block ${height} of «${said.consortium}» is final: ${said.signers} of its ${said.validators} validators, a quorum, signed it. Its time is ${instant(said.time)}.`,
  ];
  for (const { month, entries, head, link, range } of said.months) {
    const name = monthText(month);
    const given = counted(entries.length, "entry", "entries");
    if (head !== undefined && range === undefined) {
      sentences.push(
        `${name}: ${given} filed under this pseudonym up to height ${height}, the last at height ${head.height} and none after it; these are all, in this order: none is missing, none was added.`,
      );
    }
    if (head !== undefined && range !== undefined) {
      const { size } = head.frontier;
      sentences.push(
        `${name}: ${entries.length} of the ${size} entries under this pseudonym are filed at heights ${range.from} to ${range.to}; these are all in that range, in this order: none is missing, none was added. The last of the log is at height ${head.height}, and none after it up to height ${height}.`,
      );
    }
    if (link.is === "continues") {
      sentences.push(
        `${name} continues ${monthText(link.month)}: its first entry commits to that log with the ${counted(link.entries, "entry", "entries")} that it had then.`,
      );
    }
  }
  if (said.entries > 0) {
    sentences.push(
      "A quorum of the validators accepted each entry of the ledger under its rules as said by the organisation that it names, in the block of the height and time given.",
    );
  }
  const { gathered } = said;
  if (gathered.by > 0) {
    sentences.push(
      `${counted(gathered.by, "entry commits", "entries commit")} to several accesses together, ${gathered.all} in all by the word of those who filed them; ${counted(gathered.shown, "of these is", "of these are")} in the file, exactly as committed to, each at its place.`,
    );
  }
  if (said.opened > 0) {
    sentences.push(
      `${versions(said.opened)} opened: the bytes in the file are exactly those committed to on the ledger when they were written.`,
    );
  }
  sentences.push(...shown(said));
  const { access, derivation } = policies;
  sentences.push(
    `At height ${height} the access policy \`${hex(access.document)}\` and the derivation policy \`${hex(derivation.document)}\` are in force, since heights ${access.height} and ${derivation.height}.`,
  );
  return sentences;
}

/** What is proven of the state at the header, and of the log over all entries. */
function shown({ height, current, devices, letGo, log, witnesses }: Said): string[] {
  const sentences: string[] = [];
  const has = current.filter(({ head }) => head !== undefined).length;
  const none = current.length - has;
  if (has > 0) {
    sentences.push(
      `${counted(has, "record is", "records are")} shown with the version that is current at height ${height}: the ledger has no later one.`,
    );
  }
  if (none > 0) {
    sentences.push(
      `${counted(none, "record is", "records are")} shown to have no version on the ledger up to height ${height}.`,
    );
  }
  for (const { binding, key, revoked, good } of devices) {
    const state =
      revoked === undefined ? `which is not revoked at height ${height}` : `before it was revoked at ${instant(revoked)}`;
    if (good > 0) {
      sentences.push(`Binding ${hex(binding)}: ${batchesWere(good)} made by the device key \`${hex(key)}\`, ${state}.`);
    }
  }
  for (const { binding, last, frames, rollUps, policy, height: at } of letGo) {
    sentences.push(
      `Binding ${hex(binding)}: its frames up to counter ${last} were let go at height ${at} by the derivation policy \`${hex(policy)}\`, as old as it asks, under no hold and no open investigation filed under the pseudonyms that the entry gives; what is left of ${counted(frames, "frame", "frames")} stood there in ${counted(rollUps, "record", "records")}.`,
    );
  }
  if (log.placed > 0) {
    sentences.push(
      `${counted(log.placed, "entry", "entries")} given with the place in the ledger's log of all ${log.size} entries, whose root at height ${height} is \`${hex(log.root)}\`.`,
    );
  }
  const signed = witnesses.filter(({ cosigned }) => cosigned !== undefined);
  if (signed.length > 0) {
    const names = signed.map(({ org }) => org).join(", ");
    sentences.push(
      `That log was signed, for receipts and as a checkpoint, by ${names}: ${signed.length} of the ${witnesses.length} members that the file shows.`,
    );
  }
  return sentences;
}

/** What is not. */
export function notProven(said: Said): string[] {
  const firstLog = said.months.find((month) => month.head !== undefined);
  const sentences = [...scope(said, firstLog), ...said.months.flatMap((month) => doubts(month, firstLog))];
  if (said.unopened > 0) {
    sentences.push(
      `The content of ${versions(said.unopened)} is not opened: only that they were written, by whom and when.`,
    );
  }
  if (said.gathered.by > 0) {
    sentences.push(
      "The validators saw one entry for accesses that it commits to together: what each of them says was not checked by the ledger's rules.",
    );
  }
  const hidden = said.gathered.all - said.gathered.shown;
  if (hidden > 0) {
    sentences.push(
      `${counted(hidden, "gathered access is", "gathered accesses are")} not in this file: what they were, and that there were so many, is not shown.`,
    );
  }
  if (said.repeated === 1) {
    sentences.push("1 audit event is named by more than one access: to which it belongs is not shown.");
  } else if (said.repeated > 1) {
    sentences.push(`${said.repeated} audit events are named by more than one access each: to which they belong is not shown.`);
  }
  if (said.broken > 0) {
    sentences.push(`${said.broken} records have versions missing from their history in this file.`);
  }
  return [...sentences, ...unshown(said), ...NEVER_PROVEN];
}

const NEVER_PROVEN: readonly string[] = [
  "Misfiling under another patient is not excluded: complete means all that was filed under these pseudonyms.",
  "That these pseudonyms belong to a certain person is not proven: that takes the patient key, or the word of who opened the records.",
  "What never passed a gateway of a member is not on the ledger, and what the ledger refused is not in a patient's log.",
  "The organisations' own signatures on their entries are not in this file: that they signed rests on the quorum that checked them.",
  "An entry's own time is what its organisation says; only the block times are agreed.",
  "That the records are true is not proven, only that they are what was written.",
  "A second history signed by a quorum of the same validators would not be noticed from this file alone.",
];

/** What the file could show of the state at the header and does not. */
function unshown(said: Said): string[] {
  const { current, currentUnshown, devices, devicesUnshown, entries, letGo, log, witnesses } = said;
  const sentences: string[] = [];
  if (currentUnshown > 0) {
    sentences.push(
      `Whether the last version given is the current one is not shown of ${counted(currentUnshown, "record", "records")}.`,
    );
  }
  if (current.some(({ head }) => head === undefined)) {
    sentences.push("That the tag of a record without any version is that of a certain record takes the patient key.");
  }
  for (const { binding, revoked, late } of devices) {
    if (late > 0 && revoked !== undefined) {
      sentences.push(
        `Binding ${hex(binding)}: ${batchesWere(late)} made when the device key was revoked already, at ${instant(revoked)}; they are not to be trusted.`,
      );
    }
  }
  if (devices.length > 0) {
    sentences.push(
      "When a batch was made is what its organisation says; that its frames were signed before is not proven.",
    );
  }
  if (devicesUnshown > 0) {
    sentences.push(
      `Whether the device key was revoked is not shown for ${counted(devicesUnshown, "batch of frames", "batches of frames")}.`,
    );
  }
  for (const { binding, last, goneBefore } of letGo.filter((one) => one.goneBefore > 0n)) {
    sentences.push(
      `Binding ${hex(binding)}: of the frames up to counter ${last}, ${goneBefore} that batches name were gone before they could be let go, and are in no roll-up.`,
    );
  }
  if (letGo.length > 0) {
    sentences.push(
      "That a roll-up follows from the frames that were let go is the word of the organisation that wrote it.",
      "That nothing held these frames under the patient's pseudonyms of other months is not proven: whoever wrote the entry had to look for that.",
    );
  }
  const unplaced = entries - log.placed;
  if (unplaced > 0) {
    sentences.push(
      `The place in the ledger's log of all entries is not shown of ${counted(unplaced, "entry", "entries")}.`,
    );
  }
  if (witnesses.length === 0) sentences.push("The file has no signature of any member on the ledger's log.");
  const silent = witnesses.filter(({ cosigned }) => cosigned === undefined);
  if (silent.length > 0) {
    sentences.push(`The file has no signature on the ledger's log by ${silent.map(({ org }) => org).join(", ")}.`);
  }
  return sentences;
}

function batchesWere(count: number): string {
  return counted(count, "batch of frames was", "batches of frames were");
}

/** Which months the file says nothing about. */
function scope(said: Said, firstLog: CheckedMonth | undefined): string[] {
  const first = firstLog ?? said.months[0];
  const last = said.months.at(-1);
  if (first === undefined || last === undefined) {
    return ["The file gives no month of a patient: nothing is said about any log."];
  }
  const sentences = [before(first)];
  if (last.month < said.month) {
    sentences.push(`After ${monthText(last.month)}: the file says nothing about later months.`);
  }
  sentences.push(`After height ${said.height}: whatever was filed later is not covered.`);
  return sentences;
}

function before({ month, link }: CheckedMonth): string {
  const name = monthText(month);
  if (link.is !== "earlier") return `Before ${name}: the file says nothing about earlier months.`;
  return link.entries === 0n
    ? `Before ${name}: the first entry says that nothing was filed about this patient before; only its author vouches for that.`
    : `Before ${name}: an earlier month is named, with ${counted(link.entries, "entry", "entries")}, but it is not in the file.`;
}

/** What is doubtful about one month. */
function doubts(month: CheckedMonth, firstLog: CheckedMonth | undefined): string[] {
  const { head, link } = month;
  const name = monthText(month.month);
  const sentences: string[] = [];
  if (head === undefined) {
    sentences.push(
      `${name}: there is no log under the pseudonym that the file names, but nothing proves that this pseudonym is the patient's; evidence never rests on such a proof of absence alone.`,
    );
  } else if (link.is === "unproven" && month !== firstLog) {
    sentences.push(`${name}: that this is the same patient as in the months before is not proven.`);
  }
  if (link.is === "unseen") {
    sentences.push(
      `${name}: its first entry names the log of ${monthText(link.month)} with 0 entries, so that it continues none of those shown there: that this is the same patient as in the months before is not proven.`,
    );
  }
  if (link.is === "continues" && link.month !== previous(month.month)) {
    sentences.push(
      `Between ${monthText(link.month)} and ${name}: nothing but the first entry of ${name} says that the months between have no entries.`,
    );
  }
  if (head !== undefined && month.range !== undefined) {
    const others = head.frontier.size - BigInt(month.entries.length);
    if (others > 0n) {
      sentences.push(`${name}: ${counted(others, "entry of its log is", "entries of its log are")} not in this file.`);
    }
  }
  const elsewhere = misdated(month);
  if (elsewhere > 0) {
    sentences.push(
      `${name}: ${counted(elsewhere, "entry was", "entries were")} by their own time made in another month.`,
    );
  }
  return sentences;
}

function versions(count: number): string {
  return counted(count, "version", "versions");
}

/** `1 entry`, `2 entries`. */
function counted(count: number | bigint, one: string, many: string): string {
  return `${count} ${BigInt(count) === 1n ? one : many}`;
}

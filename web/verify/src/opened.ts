// Opened records: which entries commit to their bytes, and that the bytes are the record that the file says.

import { compare, type Digest, hex } from "./bytes.js";
import type { Opened } from "./bundle.js";
import { commit } from "./commitment.js";
import type { Body } from "./entry.js";
import type { Filed } from "./log.js";
import { Refusal } from "./refusal.js";
import { resourceName } from "./resourceName.js";

/** A version of a record that an entry commits to. */
export type Committed = {
  readonly tag: Digest;
  readonly version: bigint;
  readonly commitment: Digest;
  readonly deleted: boolean;
};

/** What an entry commits to, if it is about a record: the record itself, or the audit event of an access. */
export function committedBy(body: Body): Committed | undefined {
  switch (body.kind) {
    case "record":
      return { tag: body.tag, version: body.version, commitment: body.commitment, deleted: body.deleted };
    case "access":
      return { tag: body.audit, version: 1n, commitment: body.commitment, deleted: false };
    default:
      return undefined;
  }
}

/** The opened versions by what the ledger knows them by. */
export class Contents {
  readonly #versions = new Map<string, Opened>();
  readonly #names = new Map<string, string>();

  /** The opened bytes of what an entry commits to. */
  of(committed: Committed): Opened | undefined {
    return this.#versions.get(versionKey(committed));
  }

  /** `Type/id` of a record, where any version of it is opened. */
  name(tag: Digest): string | undefined {
    return this.#names.get(hex(tag));
  }

  /** Keeps an opened version; whether all versions under its tag have one name. */
  add(committed: Committed, opened: Opened): boolean {
    const tag = hex(committed.tag);
    const name = this.#names.get(tag) ?? opened.record;
    this.#names.set(tag, name);
    this.#versions.set(versionKey(committed), opened);
    return name === opened.record;
  }
}

/** Matches every opened record to the entries, on the ledger or gathered, that commit to it. */
export function checkOpened(opened: readonly Opened[], entries: readonly Filed[]): Contents {
  const commitments = new Map<string, Committed[]>();
  for (const { entry } of entries) {
    const committed = committedBy(entry.body);
    if (committed === undefined) continue;
    const key = commitmentKey(committed.commitment, committed.version);
    const same = commitments.get(key);
    if (same === undefined) commitments.set(key, [committed]);
    else same.push(committed);
  }
  const contents = new Contents();
  const seen = new Set<string>();
  let last: Opened | undefined;
  for (const item of opened) {
    const { record, version, salt, bytes } = item;
    const order = last === undefined ? -1 : compareOpened(last, item);
    if (order === 0) throw new Refusal("records", `\`${record}\` version ${version} is given twice`);
    if (order > 0) {
      throw new Refusal("records", `\`${record}\` version ${version} stands behind one that it belongs before`);
    }
    last = item;
    const key = commitmentKey(commit(salt, bytes), version);
    if (seen.has(key)) throw new Refusal("records", `\`${record}\` version ${version} is given twice`);
    seen.add(key);
    const matches = commitments.get(key);
    if (matches === undefined) {
      throw new Refusal(
        "records",
        `the bytes given for \`${record}\` version ${version} are not those that the ledger has a commitment to`,
      );
    }
    const isNameless = bytes.length === 0 && matches.every((committed) => committed.deleted);
    const isNamed = isNameless || resourceName(bytes) === record;
    if (!isNamed || !matches.every((committed) => contents.add(committed, item))) {
      throw new Refusal("records", `the bytes given for \`${record}\` version ${version} are those of another record`);
    }
  }
  return contents;
}

/** Below 0 when `a` stands before `b` in the one order that the format allows: by record, byte by byte, and version. */
function compareOpened(a: Opened, b: Opened): number {
  // Not the order of JavaScript, which compares halves of surrogate pairs.
  const encoder = new TextEncoder();
  const byRecord = compare(encoder.encode(a.record), encoder.encode(b.record));
  if (byRecord !== 0) return byRecord;
  return a.version < b.version ? -1 : Number(a.version > b.version);
}

function commitmentKey(commitment: Digest, version: bigint): string {
  return `${hex(commitment)} ${version}`;
}

function versionKey({ tag, version, commitment }: Committed): string {
  return `${hex(tag)} ${commitmentKey(commitment, version)}`;
}

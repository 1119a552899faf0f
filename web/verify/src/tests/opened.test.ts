// Opened records: each is what an entry commits to, and they stand in one order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../bytes.js";
import type { Opened } from "../bundle.js";
import { commit } from "../commitment.js";
import type { Filed } from "../log.js";
import { checkOpened } from "../opened.js";
import { Refusal } from "../refusal.js";

const encoder = new TextEncoder();
const digest = (text: string): Uint8Array => sha256(encoder.encode(text));

function opened(id: string, version: bigint): Opened {
  const bytes = encoder.encode(JSON.stringify({ resourceType: "Patient", id, note: `${version}` }));
  return { record: `Patient/${id}`, version, salt: digest(`salt ${id} ${version}`), bytes };
}

/** The entry that commits to it. */
function filed({ record, version, salt, bytes }: Opened): Filed {
  const name = digest(record);
  return {
    height: 1n,
    time: 1n,
    digest: name,
    entry: {
      id: name.subarray(16),
      org: "mercy",
      time: 1n,
      purpose: "TREAT",
      policy: name,
      actor: name,
      patient: name,
      month: undefined,
      body: {
        kind: "record",
        tag: name,
        type: "medical-record",
        version,
        previous: undefined,
        commitment: commit(salt, bytes),
        deleted: false,
        codes: [],
        attachments: [],
      },
    },
  };
}

/** The refusal of these records, all of which are committed to; or nothing. */
function refused(...records: readonly Opened[]): string | undefined {
  try {
    checkOpened(records, records.map(filed));
    return undefined;
  } catch (error) {
    assert.ok(error instanceof Refusal);
    assert.equal(error.check, "records");
    return error.message;
  }
}

test("opened records stand by name and version, each once", () => {
  // U+FFFD stands before U+1D11E as a character and in UTF-8, but behind it in the order of JavaScript.
  const sorted = [
    opened("a", 1n),
    opened("a", 2n),
    opened("a", 10n),
    opened("aa", 1n),
    opened("b", 1n),
    opened("\ufffd", 1n),
    opened("\u{1d11e}", 1n),
  ];
  assert.equal(refused(), undefined);
  assert.equal(refused(...sorted), undefined);
  sorted.forEach((record, i) => {
    for (const earlier of sorted.slice(0, i)) {
      assert.equal(
        refused(record, earlier),
        `\`${earlier.record}\` version ${earlier.version} stands behind one that it belongs before`,
      );
    }
    assert.equal(refused(record, record), `\`${record.record}\` version ${record.version} is given twice`);
  });
});

test("bytes that are another record, or no object, are refused", () => {
  const good = opened("a", 1n);
  assert.equal(refused(good), undefined);
  for (const text of ['{"resourceType":"Patient","id":"b"}', '["Patient","a"]', ""]) {
    const message = refused({ ...good, bytes: encoder.encode(text) });
    assert.match(message ?? "", /are those of another record$/, text);
  }
});

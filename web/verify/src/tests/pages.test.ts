// The vectors of the format pages: entries of every kind, a header, a commitment.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hex, u64 } from "../bytes.js";
import { commit } from "../commitment.js";
import { type Body, entryDigest, entryFrom } from "../entry.js";
import { headerDigest, headerFrom } from "../header.js";
import { leaf } from "../merkle.js";
import { Malformed } from "../refusal.js";
import { what } from "../words.js";
import { digest, fromHex, page, vectorsOf } from "./support.js";

const lines = vectorsOf("entry.md");

function value(name: string): string {
  const found = lines.find(([first]) => first === name)?.at(-1);
  assert.ok(found !== undefined, name);
  return found;
}

const record = fromHex(value("entry"));

/** The same entry as far as its body, without `month`: 34 bytes of it become null. */
const bodyAt = Buffer.from(record).indexOf(fromHex("8200885820"));
const beforeBody = Uint8Array.of(...record.subarray(0, bodyAt - 34), 0xf6);

test("the published entry is read, and its digest and leaf are the published ones", () => {
  const entry = entryFrom(record);
  assert.equal(entry.org, "mercy");
  assert.equal(entry.purpose, "TREAT");
  assert.equal(entry.body.kind, "record");
  assert.equal(hex(entry.month ?? new Uint8Array()), value("link"));
  assert.equal(hex(entryDigest(record)), lines.find(([first]) => first === "digest")?.[1]);
  const logLeaf = leaf(u64(5n), u64(entry.time), entryDigest(record));
  assert.equal(hex(logLeaf), value("log-leaf"));
});

test("every published body is read as its kind, and its entry has the published digest", () => {
  const kinds = new Map<Body["kind"], number>();
  lines.forEach(([name, kind, body], i) => {
    if (name !== "body" || body === undefined) return;
    const bytes = Uint8Array.from([...beforeBody, ...fromHex(body)]);
    const entry = entryFrom(bytes);
    assert.equal(entry.body.kind, kind);
    assert.equal(hex(entryDigest(bytes)), lines[i + 1]?.[1], kind);
    assert.notEqual(what(entry.body), "");
    kinds.set(entry.body.kind, (kinds.get(entry.body.kind) ?? 0) + 1);
    for (const wrong of [bytes.subarray(0, -1), Uint8Array.from([...bytes, 0])])
      assert.throws(() => entryFrom(wrong), Malformed);
  });
  assert.equal(kinds.size, 17, "every kind but the record itself");
});

test("a field that is absent at the end is left out, not null", () => {
  // A grant without end, a finding without priority, and a revoked key without binding, which are one element shorter.
  const digest = `5820${"00".repeat(32)}`;
  const id = `50${"00".repeat(16)}`;
  const check = (shorter: string, longer: string): void => {
    assert.ok(entryFrom(Uint8Array.of(...beforeBody, ...fromHex(shorter))));
    assert.throws(() => entryFrom(Uint8Array.of(...beforeBody, ...fromHex(longer))), Malformed);
  };
  check(`820283${id}00${digest}`, `820284${id}00${digest}f6`);
  check(`820683${digest.repeat(3)}`, `820684${digest.repeat(3)}f6`);
  check(`820482${digest}820281${digest}`, `820482${digest}820282${digest}f6`);
});

test("an entry longer than allowed is refused before it is read", () => {
  assert.throws(() => entryFrom(new Uint8Array(8_193)), Malformed);
});

test("the published header is read, and its digest is the published one", () => {
  const published = new Map(vectorsOf("header.md").map(([name, ...values]) => [name, values.at(-1) ?? ""]));
  const bytes = fromHex(published.get("header") ?? "");
  const header = headerFrom(bytes);
  assert.equal(header.height, 5n);
  assert.equal(hex(header.validators), published.get("validators"));
  assert.equal(hex(headerDigest(bytes)), published.get("digest"));
});

test("the commitment of the worked example holds", () => {
  const text = page("commitment.md");
  const published = (name: string): string => new RegExp(`^${name} +([0-9a-f]{64})$`, "m").exec(text)?.[1] ?? "";
  const bytes = new TextEncoder().encode('{"resourceType":"Patient","id":"1"}');
  assert.equal(hex(commit(digest(published("salt")), bytes)), published("commitment"));
});

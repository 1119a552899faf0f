// The command line: its exit codes, and what it prints.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { hex } from "../bytes.js";
import { GENESIS_ID, vector } from "./support.js";

const CLI = fileURLToPath(new URL("../cli.js", import.meta.url));
const ID = hex(GENESIS_ID);

const folder = mkdtempSync(join(tmpdir(), "vitaltrace-verify-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

function run(...args: readonly string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8" });
  return { status, out: stdout, err: stderr };
}

const bundle = file("bundle", vector("evidence-1").bytes);
const proof = file("proof", vector("record-proof-1").bytes);
const count = file("count", vector("unreviewed-1").bytes);
const cut = file("cut", vector("evidence-1").bytes.subarray(0, -1));

test("what holds is told, with what is not proven", () => {
  const { status, out } = run(bundle, "--genesis", ID);
  assert.equal(status, 0);
  assert.match(out, /^verified: test 1 at height 3 \(2026-11-01T00:30:00\.000Z\), signed by 3 of 4 validators\n/);
  assert.match(out, /NOT proven:\n {2}- Before 2026-10: /);
  assert.match(run(proof, "--genesis", ID).out, /^verified: 56 bytes are version 2 /);
});

test("what does not hold is told with the check that failed", () => {
  const { status, out } = run(cut, "--genesis", ID);
  assert.equal(status, 1);
  assert.match(out, /^NOT verified \(format\): /);
  assert.equal(run(bundle, "--genesis", "0".repeat(64)).status, 1);
});

test("a count of overrides is told in a sentence for each member", () => {
  const { status, out } = run(count, "--genesis", ID);
  assert.equal(status, 0);
  const at = "at height 3 (2026-10-31T23:30:00.000Z)";
  assert.deepEqual(out.split("\n"), [
    `ambulance: 1 override that it opened is not reviewed, ${at}`,
    `insurance: every override that it opened is reviewed, ${at}`,
    `mercy: 2 overrides that it opened are not reviewed, ${at}`,
    `regulator: every override that it opened is reviewed, ${at}`,
    "",
  ]);
  const other = run(count, "--genesis", ID, "--checkpoint", `3:${"0".repeat(64)}`);
  assert.equal(other.status, 1);
  assert.match(other.out, /^NOT verified \(finality\): /);
});

test("as JSON it is one document", () => {
  for (const [path, name] of [
    [bundle, "evidence-1"],
    [proof, "record-proof-1"],
    [count, "unreviewed-1"],
  ] as const) {
    const { status, out } = run(path, "--json", "--genesis", ID);
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(out), { verified: true, report: JSON.parse(vector(name).report) });
  }
  const { status, out } = run(cut, "--genesis", ID, "--json");
  assert.equal(status, 1);
  assert.equal(JSON.parse(out).verified, false);
});

test("wrong usage is told apart", () => {
  for (const args of [
    [],
    [bundle],
    ["--genesis", ID],
    [bundle, "--genesis", "abc"],
    [bundle, bundle, "--genesis", ID],
    [bundle, "--genesis", ID, "--other"],
    [join(folder, "none"), "--genesis", ID],
  ]) {
    const { status, out, err } = run(...args);
    assert.equal(status, 2, args.join(" "));
    assert.equal(out, "");
    assert.match(err, /usage: /);
  }
});

// The published certificates and state proofs: each holds, or does not, as the pages say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hex } from "../bytes.js";
import { finalFrom } from "../finality.js";
import { headerDigest } from "../header.js";
import { Refusal } from "../refusal.js";
import { isAbsent, isCurrent } from "../stateProof.js";
import { digest, fromHex, page } from "./support.js";

function linesOf(name: string): string[][] {
  return page(`vectors/${name}.txt`)
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
}

test("the published certificates hold or are refused", () => {
  const lines = linesOf("certificate-1");
  const value = (name: string): string => lines.find(([first]) => first === name)?.[1] ?? "";
  const [genesis, header, chain] = [fromHex(value("genesis")), fromHex(value("header")), digest(value("chain"))];
  assert.equal(hex(headerDigest(header)), value("digest"));
  const check = (certificate: string): void => {
    const final = finalFrom({ genesis, header, certificate: fromHex(certificate), handovers: [] }, chain);
    assert.equal(final.validators, lines.filter(([name]) => name === "validator").length);
  };
  let checked = 0;
  for (const [name, ...rest] of lines) {
    if (name === "holds") check(rest[0] ?? "");
    else if (name === "refused") assert.throws(() => check(rest[1] ?? ""), Refusal, rest[0]);
    else continue;
    checked += 1;
  }
  assert.ok(checked > 10, `${checked}`);
});

test("the published state proofs hold or do not", () => {
  const kinds = new Set<string>();
  for (const [kind = "", root = "", key = "", ...rest] of linesOf("state-proof-1")) {
    const [first = "", second = ""] = rest;
    const holds = kind.endsWith("current")
      ? isCurrent(digest(key), fromHex(first), fromHex(second), digest(root))
      : isAbsent(digest(key), fromHex(first), digest(root));
    assert.equal(holds, !kind.startsWith("not-"), `${kind} ${key} ${first}`);
    kinds.add(kind);
  }
  assert.deepEqual([...kinds].sort(), ["absent", "current", "not-absent", "not-current"]);
});

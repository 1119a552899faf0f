// Roots of RFC 9162 trees: the known ones, and those of the definition.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Digest, hex, sha256, u64 } from "../bytes.js";
import { Frontier, leaf } from "../merkle.js";
import { fromHex } from "./support.js";

// Source: the known-answer tests of Certificate Transparency, `testonly/constants.go` of github.com/transparency-dev/merkle.
const LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/** RFC 9162 section 2.1.1, word for word. */
function defined(leaves: readonly Digest[]): Digest {
  const [only] = leaves;
  if (only === undefined) return sha256();
  if (leaves.length === 1) return only;
  let half = 1;
  while (2 * half < leaves.length) half *= 2;
  return sha256(Uint8Array.of(1), defined(leaves.slice(0, half)), defined(leaves.slice(half)));
}

test("the known roots of Certificate Transparency hold", () => {
  const leaves = LEAVES.map((text) => leaf(fromHex(text)));
  ROOTS.forEach((root, size) => assert.equal(hex(Frontier.of(leaves.slice(0, size)).root()), root, `${size} leaves`));
});

test("a tree has the root of the definition at every size, and one peak for each bit of it", () => {
  const leaves = Array.from({ length: 130 }, (_, i) => leaf(u64(BigInt(i))));
  for (let size = 0; size <= leaves.length; size += 1) {
    const tree = Frontier.of(leaves.slice(0, size));
    assert.deepEqual(tree.root(), defined(leaves.slice(0, size)), `${size} leaves`);
    assert.ok(tree.isConsistent());
    assert.ok(tree.equals(new Frontier(BigInt(size), tree.peaks)));
    assert.ok(!tree.equals(new Frontier(BigInt(size) + 1n, tree.peaks)));
    assert.ok(!new Frontier(BigInt(size), [...tree.peaks, sha256()]).isConsistent());
  }
});

test("sizes of 64 bits are counted exactly", () => {
  assert.ok(new Frontier((1n << 63n) + 1n, [sha256(), sha256()]).isConsistent());
  assert.ok(!new Frontier(1n << 63n, [sha256(), sha256()]).isConsistent());
});

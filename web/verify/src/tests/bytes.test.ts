// Nothing that was changed in a published file is accepted, wherever it stands. The longest test; a file of its own, so that others run
// beside it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FILES, GENESIS_ID, isOtherAbsence, Random, vector } from "./support.js";

for (const [name, check] of FILES) {
  test(`${name} with any byte changed is refused`, () => {
    const { bytes, report } = vector(name);
    const random = Random.seeded(name);
    for (let at = 0; at < bytes.length; at += 1) {
      for (const change of [0x01, 0x80, 1 + random.below(255)]) {
        const changed = Uint8Array.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ change;
        const verdict = check(changed, GENESIS_ID);
        assert.ok(!verdict.ok || isOtherAbsence(verdict.report, report), `byte ${at} changed by ${change}`);
      }
    }
  });
}

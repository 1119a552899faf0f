// Places: where entries of the file stand in the log over all entries, which the header commits to.

import { equal, u64 } from "./bytes.js";
import type { Place } from "./bundle.js";
import type { Final } from "./finality.js";
import type { CheckedMonth } from "./log.js";
import { leaf, rootOf } from "./merkle.js";
import { Refusal } from "./refusal.js";
import { monthText } from "./time.js";

/** What that log says of an entry that was applied. */
const APPLIED = Uint8Array.of(0);

/** Indices in the log over all entries, by {@link placeKey}. */
export type Places = ReadonlyMap<string, bigint>;

export function placeKey(month: number, entry: bigint): string {
  return `${month} ${entry}`;
}

/** Checks every path. */
export function checkPlaces(given: readonly Place[], months: readonly CheckedMonth[], at: Final): Places {
  const places = new Map<string, bigint>();
  let last: Place | undefined;
  for (const place of given) {
    const { month, entry, index, path } = place;
    if (last !== undefined && (last.month > month || (last.month === month && last.entry >= entry))) {
      throw new Refusal("places", "the places in the file are not in order, or one is given twice");
    }
    last = place;
    const entries = months.find((checked) => checked.month === month)?.entries ?? [];
    const filed = entry < BigInt(entries.length) ? entries[Number(entry)] : undefined;
    const root =
      filed && rootOf(leaf(u64(filed.height), u64(filed.time), APPLIED, filed.digest), index, path, at.header.logSize);
    if (root === undefined || !equal(root, at.header.logRoot)) {
      throw new Refusal(
        "places",
        `${monthText(month)}: entry ${entry} does not stand at the place given in the log of all entries`,
      );
    }
    places.set(placeKey(month, entry), index);
  }
  return places;
}

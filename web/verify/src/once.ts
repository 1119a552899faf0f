// What was computed of the same bytes is not computed again: the few keys of a consortium, and what they signed, stand in its files many
// times, and computing with points of the curve takes most of the time that a file takes.

import { hex, sha256 } from "./bytes.js";

/** Answers that are kept; the first goes when there are more. */
const KEPT_MAX = 4_096;
const kept = new Map<string, boolean>();

/** The answer to a question about these parts, all of which but the last have one length for each question. */
export function once(question: string, parts: readonly Uint8Array[], compute: () => boolean): boolean {
  const name = `${question} ${hex(sha256(...parts))}`;
  const known = kept.get(name);
  if (known !== undefined) return known;
  const answer = compute();
  for (const [first] of kept) {
    if (kept.size < KEPT_MAX) break;
    kept.delete(first);
  }
  kept.set(name, answer);
  return answer;
}

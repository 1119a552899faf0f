// Points in time as the ledger counts them, and the calendar months that pseudonyms change with.

/** The last millisecond that has a four-digit year in every time zone: 9999-12-30T22:00:00.000Z. Later times are told as this one. */
const LAST_MS = 253_402_207_200_000n;

/** A calendar month in UTC: twelve times the year, plus the month counted from 0. */
export type Month = number;

function date(ms: bigint): Date {
  return new Date(Number(ms < LAST_MS ? ms : LAST_MS));
}

/** A FHIR `instant` in UTC with milliseconds. */
export function instant(ms: bigint): string {
  return date(ms).toISOString();
}

/** The month of a time. */
export function monthOf(ms: bigint): Month {
  const at = date(ms);
  return at.getUTCFullYear() * 12 + at.getUTCMonth();
}

/** As `2026-11`. */
export function monthText(month: Month): string {
  const year = String(Math.floor(month / 12)).padStart(4, "0");
  return `${year}-${String((month % 12) + 1).padStart(2, "0")}`;
}

export function previous(month: Month): Month {
  return Math.max(month - 1, 0);
}

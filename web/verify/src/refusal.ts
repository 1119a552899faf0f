// Why a file proves nothing: always the file's fault, always named after the check that failed.

/** The checks of `spec/evidence.md`, «What a reader checks», in their order, and those of its smaller files. */
export type Check =
  | "size"
  | "format"
  | "consortium"
  | "header"
  | "finality"
  | "policies"
  | "order"
  | "head"
  | "completeness"
  | "entries"
  | "links"
  | "records"
  | "current"
  | "devices"
  | "places"
  | "witnesses"
  | "accesses"
  | "roll"
  | "members";

/** A refusal as callers see it. */
export type Reason = {
  readonly check: Check;
  /** What is wrong and where, for people. */
  readonly message: string;
};

/** Ends a verification; `verify` turns it into a {@link Reason}. */
export class Refusal extends Error {
  readonly check: Check;

  constructor(check: Check, message: string) {
    super(message);
    this.check = check;
  }
}

/** Bytes that are not the encoding of what was expected; whoever reads them knows which check that fails. */
export class Malformed extends Error {}

/** Reads something, and names the check that fails when it is malformed. */
export function reading<T>(check: Check, what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed) throw new Refusal(check, `${what}: ${error.message}`);
    throw error;
  }
}

/** Reads something, or nothing when it is malformed. */
export function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

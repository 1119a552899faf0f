// What the verifier offers: two checks, their reports, and the few things that it takes to call them. Runs in browsers and in Node.

export { digestFromHex } from "./bytes.js";
export { EVIDENCE_FORMAT, type Format, formatOf, LIMITS, type Limits, RECORD_PROOF_FORMAT } from "./bundle.js";
export { document } from "./document.js";
export type { Checkpoint } from "./finality.js";
export type { Check, Reason } from "./refusal.js";
export type {
  EntryReport,
  LinkReport,
  MonthReport,
  PolicyReport,
  RecordProven,
  RecordReport,
  Report,
  VersionReport,
} from "./report.js";
export { type Verdict, verify, verifyRecord } from "./verify.js";
export { instant } from "./time.js";

// What the verifier offers: three checks, their reports, and the few things that it takes to call them. Runs in browsers and in Node.

export { digestFromHex } from "./bytes.js";
export {
  EVIDENCE_FORMAT,
  type Format,
  formatOf,
  LIMITS,
  type Limits,
  RECORD_PROOF_FORMAT,
  UNREVIEWED_FORMAT,
} from "./bundle.js";
export { document } from "./document.js";
export type { Checkpoint } from "./finality.js";
export type { Check, Reason } from "./refusal.js";
export { checkpoint, type Cosignature, type TreeHead } from "./checkpoint.js";
export { type Inclusion, receipt } from "./receipt.js";
export type {
  CurrentReport,
  DeviceReport,
  EntryReport,
  LinkReport,
  MonthReport,
  PartReport,
  PolicyReport,
  RecordProven,
  RecordReport,
  Report,
  VersionReport,
  WitnessReport,
} from "./report.js";
export { type Unreviewed, unreviewedSentences } from "./unreviewed.js";
export { type Verdict, verify, verifyRecord, verifyUnreviewed } from "./verify.js";
export { instant } from "./time.js";

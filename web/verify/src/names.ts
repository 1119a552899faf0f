// Names that several formats share: organisations, their roles, purposes of use, types of records.

import { DIGEST_BYTES, type Digest } from "./bytes.js";
import type { Reader } from "./cbor.js";
import { Malformed } from "./refusal.js";

const ORG_BYTES_MAX = 32;
const ID_BYTES = 16;

/** The codes of HL7 v3 ActReason, in encoding order. */
export const PURPOSES = [
  "TREAT",
  "ETREAT",
  "BTG",
  "HPAYMT",
  "CLMATTCH",
  "COVAUTH",
  "REMITADV",
  "COVERAGE",
  "ELIGVER",
  "HOPERAT",
  "HCOMPL",
  "FRAUD",
  "PATADMIN",
  "HSYSADMIN",
  "PATRQT",
] as const;
export type Purpose = (typeof PURPOSES)[number];

export const RECORD_TYPES = [
  "sensed",
  "analytics",
  "medical-record",
  "medical-service",
  "insurance",
  "claims",
  "permission",
] as const;
export type RecordType = (typeof RECORD_TYPES)[number];

export const ORG_ROLES = ["ems", "hospital", "insurer", "compliance"] as const;
export type OrgRole = (typeof ORG_ROLES)[number];

/** The name of an organisation. */
export function org(reader: Reader): string {
  const name = reader.text(ORG_BYTES_MAX);
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(name)) throw new Malformed("not an organisation's name");
  return name;
}

/** A digest, key, pseudonym, commitment, salt or tag. */
export function digest(reader: Reader): Digest {
  return reader.fixed(DIGEST_BYTES);
}

/** A random id. */
export function id(reader: Reader): Uint8Array {
  return reader.fixed(ID_BYTES);
}

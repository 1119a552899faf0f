// The ledger's state, as far as evidence proves it: keys, and the values that stand under them.

import { type Digest, domain, sha256 } from "./bytes.js";
import { decode, type Reader } from "./cbor.js";
import { MEMBERS_MAX } from "./genesis.js";
import { Frontier } from "./merkle.js";
import { digest, org, ORG_ROLES, type OrgRole, RECORD_TYPES, type RecordType } from "./names.js";

export const VALUE_BYTES_MAX = 32 * 1024;
const KEY_DOMAIN = domain("vitaltrace/state/1");

/** A tree of a 64-bit size has at most as many peaks. */
const PEAKS_MAX = 64;

/** Where the policy in force stands. */
export function policyKey(which: "access" | "derivation"): Digest {
  return sha256(KEY_DOMAIN, domain("policy"), Uint8Array.of(which === "access" ? 0 : 1));
}

/** Where the head of a pseudonym's log stands. */
export function logKey(pseudonym: Digest): Digest {
  return sha256(KEY_DOMAIN, domain("log"), pseudonym);
}

/** Where the latest version of a record stands. */
export function recordKey(tag: Digest): Digest {
  return sha256(KEY_DOMAIN, domain("record"), tag);
}

/** Where a binding of a device stands. */
export function bindingKey(binding: Uint8Array): Digest {
  return sha256(KEY_DOMAIN, domain("binding"), binding);
}

/** Where a key that frames are signed by stands. */
export function deviceSignerKey(key: Digest): Digest {
  return sha256(KEY_DOMAIN, domain("device-signer"), key);
}

/** Where a member stands. */
export function organisationKey(org: string): Digest {
  return sha256(KEY_DOMAIN, domain("org"), new TextEncoder().encode(org));
}

/** Where it stands who the members are. */
export function rollKey(): Digest {
  return sha256(KEY_DOMAIN, domain("roll"));
}

/** The policy in force. */
export type ActivePolicy = {
  readonly document: Digest;
  /** In force from this height. */
  readonly height: bigint;
};

export function activePolicyFrom(value: Uint8Array): ActivePolicy {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(2);
    return { document: digest(reader), height: reader.u64() };
  });
}

/** The head of a log. */
export type LogHead = {
  readonly frontier: Frontier;
  /** Height of the block with the last entry. */
  readonly height: bigint;
};

export function logHeadFrom(value: Uint8Array): LogHead {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(2);
    return { frontier: frontier(reader), height: reader.u64() };
  });
}

/** The latest version of a record. */
export type RecordHead = {
  readonly version: bigint;
  readonly commitment: Digest;
  readonly org: string;
  readonly height: bigint;
  readonly deleted: boolean;
  readonly type: RecordType;
};

/** Whether a tag is that of an access's audit event: such an event is in the log, and in no value of the state. */
export function isAudit(tag: Digest): boolean {
  return ((tag[0] ?? 0) & 0x80) !== 0;
}

export function recordHeadFrom(value: Uint8Array): RecordHead {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(6);
    return {
      version: reader.u64(),
      commitment: digest(reader),
      org: org(reader),
      height: reader.u64(),
      deleted: reader.boolean(),
      type: reader.oneOf(RECORD_TYPES),
    };
  });
}

/** A binding of a device, as far as evidence needs it. */
export type Binding = {
  readonly device: Digest;
  /** Its frames are signed by this key. */
  readonly key: Digest;
};

export function bindingFrom(value: Uint8Array): Binding {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(8);
    const device = digest(reader);
    org(reader);
    const key = digest(reader);
    digest(reader); // patient
    reader.u64(); // from
    reader.optional((r) => r.u64()); // until
    reader.u64(); // last counter
    reader.u64(); // batches
    return { device, key };
  });
}

/** A key that frames are signed by. */
export type DeviceKey = {
  readonly device: Digest;
  /** Not to be trusted from this entry time on. */
  readonly revoked: bigint | undefined;
};

export function deviceKeyFrom(value: Uint8Array): DeviceKey {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    const count = reader.fields(1, 2);
    return { device: digest(reader), revoked: count === 2 ? reader.u64() : undefined };
  });
}

/** A member. */
export type Organisation = {
  readonly role: OrgRole;
  readonly entryKey: Digest;
  readonly left: boolean;
  /** Overrides that it opened and nobody has reviewed. */
  readonly unreviewed: bigint;
};

export function organisationFrom(value: Uint8Array): Organisation {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(4);
    return {
      role: reader.oneOf(ORG_ROLES),
      entryKey: digest(reader),
      left: reader.boolean(),
      unreviewed: reader.u64(),
    };
  });
}

/** The names of the members, in the roll's order. One that names more than there may be is none. */
export function rollFrom(value: Uint8Array): string[] {
  return decode(value, VALUE_BYTES_MAX, (reader) => {
    reader.fields(1);
    return reader.array(MEMBERS_MAX, (r) => {
      r.fields(2);
      const name = org(r);
      r.oneOf(ORG_ROLES);
      return name;
    });
  });
}

export function frontier(reader: Reader): Frontier {
  reader.fields(2);
  return new Frontier(reader.u64(), reader.array(PEAKS_MAX, digest));
}

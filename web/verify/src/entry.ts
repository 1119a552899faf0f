// An entry: one line of provenance. Layout: `spec/entry.md`.

import { type Digest, domain, sha256 } from "./bytes.js";
import { decode, type Reader } from "./cbor.js";
import {
  digest,
  id,
  org,
  ORG_ROLES,
  type OrgRole,
  PURPOSES,
  type Purpose,
  RECORD_TYPES,
  type RecordType,
} from "./names.js";

export const ENTRY_BYTES_MAX = 8 * 1024;
const ENTRY_DOMAIN = domain("vitaltrace/entry/1");

/** What one organisation says happened. */
export type Entry = {
  readonly id: Uint8Array;
  readonly org: string;
  /** By the organisation's clock, milliseconds since 1970. */
  readonly time: bigint;
  readonly purpose: Purpose;
  /** The access policy that it was decided under. */
  readonly policy: Digest;
  readonly actor: Digest;
  /** The pseudonym that it is filed under. */
  readonly patient: Digest | undefined;
  /** Commits to the log of the month before. */
  readonly month: Digest | undefined;
  readonly body: Body;
};

const ACTIONS = ["read", "search", "summary", "write", "frames", "export"] as const;
const ATTACHMENT_KINDS = ["essential copy", "wrapped key"] as const;
const GRANT_STEPS = ["issued", "revoked"] as const;
const PRIORITIES = ["low", "medium", "high"] as const;
const ALARM_STEPS = ["raised", "acknowledged", "ended"] as const;
const HANDOFF_STEPS = ["offered", "accepted"] as const;
const CLAIM_STEPS = [
  "preauthorisation requested",
  "preauthorised",
  "submitted",
  "accepted",
  "rejected",
  "paid",
  "cancelled",
] as const;
const INVESTIGATION_STEPS = ["opened", "concluded"] as const;
const CUSTODY_STEPS = ["held", "released", "erased", "recovery proposed", "recovery voted", "recovered"] as const;
const POLICY_KINDS = ["access", "derivation"] as const;

type Code = { readonly system: string; readonly code: string };
type Attachment = {
  readonly digest: Digest;
  readonly length: number;
  readonly kind: (typeof ATTACHMENT_KINDS)[number];
};
type Gap = { readonly first: bigint; readonly last: bigint };

type OverrideStep =
  | { readonly is: "opened"; readonly until: bigint }
  | { readonly is: "closed" }
  | { readonly is: "reviewed"; readonly justified: boolean };
type DeviceStep =
  | { readonly is: "bound"; readonly binding: Uint8Array; readonly key: Digest }
  | { readonly is: "unbound"; readonly binding: Uint8Array }
  | { readonly is: "revoked"; readonly key: Digest; readonly binding: Uint8Array | undefined };
type PolicyStep =
  | { readonly is: "proposed"; readonly height: bigint }
  | { readonly is: "voted"; readonly inFavour: boolean }
  | { readonly is: "activated" }
  | { readonly is: "written"; readonly part: number; readonly of: number; readonly bytes: Uint8Array };
type MemberStep =
  | {
      readonly is: "join proposed";
      readonly role: OrgRole;
      readonly entryKey: Digest;
      readonly consensusKey: Digest;
      readonly reach: Reach;
    }
  | { readonly is: "voted"; readonly on: Uint8Array; readonly inFavour: boolean }
  | { readonly is: "left" }
  | { readonly is: "entry key rotated"; readonly key: Digest }
  | { readonly is: "removal proposed" }
  | { readonly is: "seated"; readonly key: Digest }
  | { readonly is: "moved"; readonly reach: Reach };
type Reach = { readonly wrapKey: string; readonly address: string };

/** What happened. */
export type Body =
  | {
      readonly kind: "record";
      readonly tag: Digest;
      readonly type: RecordType;
      readonly version: bigint;
      readonly previous: Digest | undefined;
      readonly commitment: Digest;
      readonly deleted: boolean;
      readonly codes: readonly Code[];
      readonly attachments: readonly Attachment[];
    }
  | {
      readonly kind: "access";
      readonly action: (typeof ACTIONS)[number];
      readonly set: Digest;
      readonly count: number;
      readonly denied: boolean;
      /** The override, grant, claim or investigation that it rests on. */
      readonly under: Uint8Array | undefined;
      /** The audit event's tag. */
      readonly audit: Digest;
      readonly commitment: Digest;
    }
  | {
      readonly kind: "grant";
      readonly id: Uint8Array;
      readonly step: (typeof GRANT_STEPS)[number];
      readonly consent: Digest;
      readonly until: bigint | undefined;
    }
  | { readonly kind: "override"; readonly id: Uint8Array; readonly step: OverrideStep; readonly reason: Digest }
  | { readonly kind: "device"; readonly device: Digest; readonly step: DeviceStep }
  | {
      readonly kind: "batch";
      readonly binding: Uint8Array;
      readonly root: Digest;
      readonly count: number;
      readonly first: bigint;
      readonly last: bigint;
      readonly gaps: readonly Gap[];
      readonly refused: number;
    }
  | {
      readonly kind: "analytics";
      readonly result: Digest;
      readonly inputs: Digest;
      readonly model: Digest;
      readonly priority: Priority | undefined;
    }
  | {
      readonly kind: "alarm";
      readonly id: Uint8Array;
      readonly step: (typeof ALARM_STEPS)[number];
      readonly priority: Priority;
    }
  | {
      readonly kind: "handoff";
      readonly id: Uint8Array;
      readonly step: (typeof HANDOFF_STEPS)[number];
      readonly from: string;
      readonly to: string;
    }
  | {
      readonly kind: "claim";
      readonly id: Uint8Array;
      readonly step: (typeof CLAIM_STEPS)[number];
      readonly insurer: string;
      readonly amount: Digest;
      readonly nullifiers: readonly Digest[];
    }
  | {
      readonly kind: "investigation";
      readonly id: Uint8Array;
      readonly step: (typeof INVESTIGATION_STEPS)[number];
      readonly document: Digest;
    }
  | {
      readonly kind: "dispute";
      readonly tag: Digest;
      readonly version: bigint;
      readonly accepted: Digest;
      readonly branch: Digest;
    }
  | { readonly kind: "link"; readonly other: Digest; readonly same: boolean }
  | {
      readonly kind: "custody";
      readonly id: Uint8Array;
      readonly step: (typeof CUSTODY_STEPS)[number];
      readonly records: Digest;
      readonly count: number;
    }
  | {
      readonly kind: "policy";
      readonly which: (typeof POLICY_KINDS)[number];
      readonly document: Digest;
      readonly step: PolicyStep;
    }
  | { readonly kind: "member"; readonly member: string; readonly step: MemberStep }
  | {
      readonly kind: "accesses";
      /** RFC 9162 root over the accesses' own entries. */
      readonly root: Digest;
      readonly count: number;
      /** From the first access, whose time is the entry's, to the last. */
      readonly ms: number;
    }
  | {
      readonly kind: "disposal";
      readonly binding: Uint8Array;
      /** The pseudonym that the binding was made under. */
      readonly bound: Digest;
      /** Counter of the last frame that was let go before. */
      readonly after: bigint;
      readonly last: bigint;
      /** How many frames there were. */
      readonly count: bigint;
      /** The derivation policy. */
      readonly document: Digest;
      readonly rollUps: readonly Digest[];
      /** Investigations that are over. */
      readonly concluded: readonly Uint8Array[];
    };
type Priority = (typeof PRIORITIES)[number];

/** Reads an entry from its deterministic encoding. */
export function entryFrom(bytes: Uint8Array): Entry {
  return decode(bytes, ENTRY_BYTES_MAX, (reader) => {
    reader.fields(9);
    return {
      id: id(reader),
      org: org(reader),
      time: reader.u64(),
      purpose: reader.oneOf(PURPOSES),
      policy: digest(reader),
      actor: digest(reader),
      patient: reader.optional(digest),
      month: reader.optional(digest),
      body: reader.choice(BODIES),
    };
  });
}

/** What names an entry in logs: SHA-256(domain ‖ encoding). */
export function entryDigest(bytes: Uint8Array): Digest {
  return sha256(ENTRY_DOMAIN, bytes);
}

// Object literals are evaluated in the order in which they are written: that of the fields on the wire.

/** The bodies in the order of their numbers. */
const BODIES: readonly ((reader: Reader) => Body)[] = [
  (reader) => {
    reader.fields(8);
    return {
      kind: "record",
      tag: digest(reader),
      type: reader.oneOf(RECORD_TYPES),
      version: reader.u64(),
      previous: reader.optional(digest),
      commitment: digest(reader),
      deleted: reader.boolean(),
      codes: reader.array(ENTRY_BYTES_MAX, code),
      attachments: reader.array(ENTRY_BYTES_MAX, attachment),
    };
  },
  (reader) => {
    reader.fields(7);
    return {
      kind: "access",
      action: reader.oneOf(ACTIONS),
      set: digest(reader),
      count: reader.u32(),
      denied: reader.boolean(),
      under: reader.optional(id),
      audit: digest(reader),
      commitment: digest(reader),
    };
  },
  (reader) => {
    const count = reader.fields(3, 4);
    return {
      kind: "grant",
      id: id(reader),
      step: reader.oneOf(GRANT_STEPS),
      consent: digest(reader),
      until: count === 4 ? reader.u64() : undefined,
    };
  },
  (reader) => {
    reader.fields(3);
    return { kind: "override", id: id(reader), step: reader.choice(OVERRIDE_STEPS), reason: digest(reader) };
  },
  (reader) => {
    reader.fields(2);
    return { kind: "device", device: digest(reader), step: reader.choice(DEVICE_STEPS) };
  },
  (reader) => {
    reader.fields(7);
    return {
      kind: "batch",
      binding: id(reader),
      root: digest(reader),
      count: reader.u32(),
      first: reader.u64(),
      last: reader.u64(),
      gaps: reader.array(ENTRY_BYTES_MAX, gap),
      refused: reader.u32(),
    };
  },
  (reader) => {
    const count = reader.fields(3, 4);
    return {
      kind: "analytics",
      result: digest(reader),
      inputs: digest(reader),
      model: digest(reader),
      priority: count === 4 ? reader.oneOf(PRIORITIES) : undefined,
    };
  },
  (reader) => {
    reader.fields(3);
    return { kind: "alarm", id: id(reader), step: reader.oneOf(ALARM_STEPS), priority: reader.oneOf(PRIORITIES) };
  },
  (reader) => {
    reader.fields(4);
    return { kind: "handoff", id: id(reader), step: reader.oneOf(HANDOFF_STEPS), from: org(reader), to: org(reader) };
  },
  (reader) => {
    reader.fields(5);
    return {
      kind: "claim",
      id: id(reader),
      step: reader.oneOf(CLAIM_STEPS),
      insurer: org(reader),
      amount: digest(reader),
      nullifiers: reader.array(ENTRY_BYTES_MAX, digest),
    };
  },
  (reader) => {
    reader.fields(3);
    return { kind: "investigation", id: id(reader), step: reader.oneOf(INVESTIGATION_STEPS), document: digest(reader) };
  },
  (reader) => {
    reader.fields(4);
    return {
      kind: "dispute",
      tag: digest(reader),
      version: reader.u64(),
      accepted: digest(reader),
      branch: digest(reader),
    };
  },
  (reader) => {
    reader.fields(2);
    return { kind: "link", other: digest(reader), same: reader.boolean() };
  },
  (reader) => {
    reader.fields(4);
    return {
      kind: "custody",
      id: id(reader),
      step: reader.oneOf(CUSTODY_STEPS),
      records: digest(reader),
      count: reader.u32(),
    };
  },
  (reader) => {
    reader.fields(3);
    return {
      kind: "policy",
      which: reader.oneOf(POLICY_KINDS),
      document: digest(reader),
      step: reader.choice(POLICY_STEPS),
    };
  },
  (reader) => {
    reader.fields(2);
    return { kind: "member", member: org(reader), step: reader.choice(MEMBER_STEPS) };
  },
  (reader) => {
    reader.fields(3);
    return { kind: "accesses", root: digest(reader), count: reader.u32(), ms: reader.u32() };
  },
  (reader) => {
    reader.fields(8);
    return {
      kind: "disposal",
      binding: id(reader),
      bound: digest(reader),
      after: reader.u64(),
      last: reader.u64(),
      count: reader.u64(),
      document: digest(reader),
      rollUps: reader.array(ENTRY_BYTES_MAX, digest),
      concluded: reader.array(ENTRY_BYTES_MAX, id),
    };
  },
];

const OVERRIDE_STEPS: readonly ((reader: Reader) => OverrideStep)[] = [
  (reader) => {
    reader.fields(1);
    return { is: "opened", until: reader.u64() };
  },
  (reader) => {
    reader.fields(0);
    return { is: "closed" };
  },
  (reader) => {
    reader.fields(1);
    return { is: "reviewed", justified: reader.boolean() };
  },
];

const DEVICE_STEPS: readonly ((reader: Reader) => DeviceStep)[] = [
  (reader) => {
    reader.fields(2);
    return { is: "bound", binding: id(reader), key: digest(reader) };
  },
  (reader) => {
    reader.fields(1);
    return { is: "unbound", binding: id(reader) };
  },
  (reader) => {
    const count = reader.fields(1, 2);
    return { is: "revoked", key: digest(reader), binding: count === 2 ? id(reader) : undefined };
  },
];

const POLICY_STEPS: readonly ((reader: Reader) => PolicyStep)[] = [
  (reader) => {
    reader.fields(1);
    return { is: "proposed", height: reader.u64() };
  },
  (reader) => {
    reader.fields(1);
    return { is: "voted", inFavour: reader.boolean() };
  },
  (reader) => {
    reader.fields(0);
    return { is: "activated" };
  },
  (reader) => {
    reader.fields(1);
    return { is: "written", ...policyPart(reader) };
  },
];

const MEMBER_STEPS: readonly ((reader: Reader) => MemberStep)[] = [
  (reader) => {
    reader.fields(1);
    reader.fields(4);
    return {
      is: "join proposed",
      role: reader.oneOf(ORG_ROLES),
      entryKey: digest(reader),
      consensusKey: digest(reader),
      reach: reach(reader),
    };
  },
  (reader) => {
    reader.fields(2);
    return { is: "voted", on: id(reader), inFavour: reader.boolean() };
  },
  (reader) => {
    reader.fields(0);
    return { is: "left" };
  },
  (reader) => {
    reader.fields(1);
    return { is: "entry key rotated", key: digest(reader) };
  },
  (reader) => {
    reader.fields(0);
    return { is: "removal proposed" };
  },
  (reader) => {
    reader.fields(1);
    return { is: "seated", key: digest(reader) };
  },
  (reader) => {
    reader.fields(1);
    return { is: "moved", reach: reach(reader) };
  },
];

function reach(reader: Reader): Reach {
  reader.fields(2);
  return { wrapKey: reader.text(ENTRY_BYTES_MAX), address: reader.text(ENTRY_BYTES_MAX) };
}

function code(reader: Reader): Code {
  reader.fields(2);
  return { system: reader.text(ENTRY_BYTES_MAX), code: reader.text(ENTRY_BYTES_MAX) };
}

function policyPart(reader: Reader): { part: number; of: number; bytes: Uint8Array } {
  reader.fields(3);
  return { part: reader.u32(), of: reader.u32(), bytes: reader.bytes(ENTRY_BYTES_MAX) };
}

function attachment(reader: Reader): Attachment {
  reader.fields(3);
  return { digest: digest(reader), length: reader.u32(), kind: reader.oneOf(ATTACHMENT_KINDS) };
}

function gap(reader: Reader): Gap {
  reader.fields(2);
  return { first: reader.u64(), last: reader.u64() };
}

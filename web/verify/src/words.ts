// What an entry says, in a few words.

import type { Body } from "./entry.js";
import type { RecordType } from "./names.js";
import { instant } from "./time.js";

/** What the record is called that comes with an access. */
export const AUDIT_EVENT = "audit event";

/** Which of the seven types a record entry is of; audit events come with accesses. */
export function recordKind(body: Body): RecordType | typeof AUDIT_EVENT {
  return body.kind === "record" ? body.type : AUDIT_EVENT;
}

/** What happened. */
export function what(body: Body): string {
  switch (body.kind) {
    case "record":
      return `${body.type} version ${body.version} ${body.deleted ? "deleted" : "written"}`;
    case "access": {
      if (body.denied) return `${body.action}: denied`;
      const resting = body.under === undefined ? "" : ", under a permission named";
      return `${body.action}: ${body.count} versions disclosed${resting}`;
    }
    case "accesses":
      return `${body.count} accesses within ${body.ms} ms`;
    case "grant":
      return `permission ${body.step}`;
    case "override":
      return override(body.step);
    case "device":
      return body.step.is === "revoked" ? "device key revoked" : `device ${body.step.is}`;
    case "batch":
      return `${body.count} frames, counters ${body.first} to ${body.last}, ${body.gaps.length} gaps, ${body.refused} refused`;
    case "disposal":
      return `frames let go by policy up to counter ${body.last}: ${body.count}, rolled up in ${body.rollUps.length} records`;
    case "analytics":
      return body.priority === undefined ? "finding" : `finding of ${body.priority} priority`;
    case "alarm":
      return `alarm of ${body.priority} priority ${body.step}`;
    case "handoff":
      return body.step === "offered"
        ? `handoff offered by ${body.from} to ${body.to}`
        : `handoff from ${body.from} accepted by ${body.to}`;
    case "claim":
      return `claim to ${body.insurer}: ${body.step}, ${body.nullifiers.length} services`;
    case "investigation":
      return `investigation ${body.step}`;
    case "dispute":
      return `two organisations wrote version ${body.version}`;
    case "link":
      return body.same ? "two Patients are one person" : "two Patients are not one person";
    case "custody":
      return `${body.count} records ${CUSTODY[body.step]}`;
    case "policy":
      return `${body.which} policy${policy(body.step)}`;
    case "member":
      return `${body.member} ${member(body.step)}`;
  }
}

type Step<Kind extends Body["kind"]> = Extract<Body, { kind: Kind; step: unknown }>["step"];

const CUSTODY: Record<Step<"custody">, string> = {
  held: "held",
  released: "released",
  erased: "erased",
  "recovery proposed": "proposed for recovery",
  "recovery voted": "voted for recovery",
  recovered: "recovered",
};

function override(step: Step<"override">): string {
  switch (step.is) {
    case "opened":
      return `glass broken until ${instant(step.until)}`;
    case "closed":
      return "override closed";
    case "reviewed":
      return `override reviewed: ${step.justified ? "justified" : "not justified"}`;
  }
}

function policy(step: Step<"policy">): string {
  switch (step.is) {
    case "proposed":
      return ` proposed from height ${step.height}`;
    case "voted":
      return step.inFavour ? " voted for" : " voted against";
    case "activated":
      return " activated";
    case "written":
      return `: part ${step.part + 1} of ${step.of} written`;
  }
}

function member(step: Step<"member">): string {
  switch (step.is) {
    case "join proposed":
      return "proposed as a member";
    case "voted":
      return step.inFavour ? "voted for" : "voted against";
    case "left":
      return "left";
    case "entry key rotated":
      return "changed its entry key";
    case "removal proposed":
      return "proposed to be removed";
    case "seated":
      return "took a seat by a consensus key";
    case "moved":
      return "is reached elsewhere";
  }
}

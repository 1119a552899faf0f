//! Bodies of entries of every kind, and values of the state, with integers at the edges of what they may be.

use crate::any_commitment;
use contract::{
    AccessAction, AlarmStep, Attachment, AttachmentKind, Body, ClaimStep, Code, CustodyStep, DeviceStep, Gap,
    GrantStep, HandoffStep, InvestigationStep, Joining, MemberStep, OverrideStep, PolicyKind, PolicyPart, PolicyStep,
    Priority, PublicKey, Reach,
    state::{Binding, DeviceKey, Organisation, RecordHead},
    to_cbor,
};
use rand::{RngExt as _, rngs::StdRng};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Pseudonym, RecordTag, RecordType, TimeMs, sha256};

const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Medium, Priority::High];

/// One of several values.
pub(crate) fn one<T: Clone>(of: &[T], rng: &mut StdRng) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// An integer, often where encodings change their length.
pub(crate) fn integer(rng: &mut StdRng) -> u64 {
    let edges = [0, 1, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, (1 << 53) + 1, u64::MAX];
    match rng.random_range(0..3) {
        0 => one(&edges, rng),
        1 => rng.random_range(0..100),
        _ => rng.random(),
    }
}

fn small(rng: &mut StdRng) -> u32 {
    u32::try_from(integer(rng) & u64::from(u32::MAX)).unwrap()
}

fn digest(rng: &mut StdRng) -> Digest {
    Digest(rng.random())
}

fn id(rng: &mut StdRng) -> Id16 {
    Id16(rng.random())
}

fn key(rng: &mut StdRng) -> PublicKey {
    rng.random::<[u8; 32]>().into()
}

/// A name, be it one of the consortium's or not.
pub(crate) fn org(rng: &mut StdRng) -> OrgId {
    one(&["a", "mercy", "constructor", "x-9", "an-organisation-of-32-characters"], rng).parse().unwrap()
}

fn maybe<T>(rng: &mut StdRng, some: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    rng.random::<bool>().then(|| some(rng))
}

fn several<T>(rng: &mut StdRng, mut some: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    (0..rng.random_range(0..4)).map(|_| some(rng)).collect()
}

fn code(rng: &mut StdRng) -> Code {
    let texts = ["loinc", "", "8867-4", "\u{e4}\u{1d11e}", "\u{feff}a", "fhir-type"].map(str::to_owned);
    Code { system: one(&texts, rng), code: one(&texts, rng) }
}

/// A body of any kind.
pub(crate) fn any(rng: &mut StdRng) -> Body {
    match rng.random_range(0..18) {
        0 => Body::Record {
            tag: RecordTag(digest(rng)).of_record(),
            kind: one(&RecordType::ALL, rng),
            version: integer(rng),
            previous: maybe(rng, any_commitment),
            commitment: any_commitment(rng),
            deleted: rng.random(),
            codes: several(rng, code),
            attachments: several(rng, |rng| Attachment {
                digest: digest(rng),
                length: small(rng),
                kind: one(&[AttachmentKind::EssentialCopy, AttachmentKind::WrappedKey], rng),
            }),
        },
        1 => {
            use AccessAction::{Export, Frames, Read, Search, Summary, Write};
            Body::Access {
                action: one(&[Read, Search, Summary, Write, Frames, Export], rng),
                set: digest(rng),
                count: small(rng),
                denied: rng.random(),
                under: maybe(rng, id),
                audit: RecordTag(digest(rng)).of_audit(&org(rng)),
                commitment: any_commitment(rng),
            }
        }
        2 => Body::Grant {
            id: id(rng),
            step: one(&[GrantStep::Issued, GrantStep::Revoked], rng),
            consent: any_commitment(rng),
            until: maybe(rng, |rng| TimeMs(integer(rng))),
        },
        3 => Body::Override {
            id: id(rng),
            step: match rng.random_range(0..3) {
                0 => OverrideStep::Opened(TimeMs(integer(rng))),
                1 => OverrideStep::Closed,
                _ => OverrideStep::Reviewed(rng.random()),
            },
            reason: any_commitment(rng),
        },
        4 => Body::Device {
            device: digest(rng),
            step: match rng.random_range(0..3) {
                0 => DeviceStep::Bound(id(rng), key(rng)),
                1 => DeviceStep::Unbound(id(rng)),
                _ => DeviceStep::Revoked(key(rng), maybe(rng, id)),
            },
        },
        5 => Body::Batch {
            binding: id(rng),
            root: digest(rng),
            count: small(rng),
            first: integer(rng),
            last: integer(rng),
            gaps: several(rng, |rng| Gap { first: integer(rng), last: integer(rng) }),
            refused: small(rng),
        },
        6 => Body::Analytics {
            result: RecordTag(digest(rng)),
            inputs: digest(rng),
            model: digest(rng),
            priority: maybe(rng, |rng| one(&PRIORITIES, rng)),
        },
        7 => Body::Alarm {
            id: id(rng),
            step: one(&[AlarmStep::Raised, AlarmStep::Acknowledged, AlarmStep::Ended], rng),
            priority: one(&PRIORITIES, rng),
        },
        8 => Body::Handoff {
            id: id(rng),
            step: one(&[HandoffStep::Offered, HandoffStep::Accepted], rng),
            from: org(rng),
            to: org(rng),
        },
        9 => {
            use ClaimStep::{Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted};
            let steps = [PreauthorisationRequested, Preauthorised, Submitted, Accepted, Rejected, Paid, Cancelled];
            Body::Claim {
                id: id(rng),
                step: one(&steps, rng),
                insurer: org(rng),
                amount: any_commitment(rng),
                services: several(rng, digest),
            }
        }
        10 => Body::Investigation {
            id: id(rng),
            step: one(&[InvestigationStep::Opened, InvestigationStep::Concluded], rng),
            document: any_commitment(rng),
        },
        11 => Body::Dispute {
            tag: RecordTag(digest(rng)).of_record(),
            version: integer(rng),
            accepted: any_commitment(rng),
            branch: any_commitment(rng),
        },
        12 => Body::Link { other: Pseudonym(digest(rng)), same: rng.random() },
        13 => {
            use CustodyStep::{Erased, Held, RecoverProposed, RecoverVoted, Recovered, Released};
            let steps = [Held, Released, Erased, RecoverProposed, RecoverVoted, Recovered];
            Body::Custody { id: id(rng), step: one(&steps, rng), records: digest(rng), count: small(rng) }
        }
        14 => Body::Policy {
            kind: one(&[PolicyKind::Access, PolicyKind::Derivation], rng),
            document: digest(rng),
            step: match rng.random_range(0..4) {
                0 => PolicyStep::Proposed(integer(rng)),
                1 => PolicyStep::Voted(rng.random()),
                2 => PolicyStep::Activated,
                _ => {
                    let bytes = (0..rng.random_range(0..300)).map(|_| rng.random()).collect();
                    PolicyStep::Written(PolicyPart { part: small(rng), of: small(rng), bytes })
                }
            },
        },
        16 => Body::Disposal {
            binding: id(rng),
            bound: Pseudonym(digest(rng)),
            after: integer(rng),
            last: integer(rng),
            count: integer(rng),
            document: digest(rng),
            roll_ups: (0..rng.random_range(0..3)).map(|_| RecordTag(digest(rng))).collect(),
            concluded: (0..rng.random_range(0..3)).map(|_| id(rng)).collect(),
        },
        15 => Body::Accesses { root: digest(rng), count: small(rng), ms: small(rng) },
        _ => Body::Member {
            member: org(rng),
            step: match rng.random_range(0..7) {
                0 => MemberStep::JoinProposed(Joining {
                    role: one(&OrgRole::ALL, rng),
                    entry_key: key(rng),
                    consensus_key: key(rng),
                    reach: reach(rng),
                }),
                1 => MemberStep::Voted(id(rng), rng.random()),
                2 => MemberStep::Left,
                3 => MemberStep::RemovalProposed,
                4 => MemberStep::Seated(key(rng)),
                5 => MemberStep::Moved(reach(rng)),
                _ => MemberStep::EntryKeyRotated(key(rng)),
            },
        },
    }
}

/// The head of a record, now and then with something bent in it.
pub(crate) fn record_head(commitment: Commitment, rng: &mut StdRng) -> Vec<u8> {
    let head = to_cbor(&RecordHead {
        version: integer(rng),
        commitment,
        org: org(rng),
        height: integer(rng),
        deleted: rng.random(),
        kind: one(&RecordType::ALL, rng),
    });
    if rng.random_bool(0.3) { crate::case::bent(&head, rng) } else { head }
}

/// Values of the state that evidence shows beside the log, where whoever decides wrote what they like: of a record, of a binding of the device
/// with that key, of this key, and of a member with its entry key. Each as it should be more often than not.
pub(crate) fn shown_values(
    commitment: Commitment,
    device: PublicKey,
    entry_key: PublicKey,
    rng: &mut StdRng,
) -> [Option<Vec<u8>>; 4] {
    let (signs, named) = (sha256(&[b"oximeter"]), rng.random_bool(0.8));
    let named = if named { signs } else { digest(rng) };
    let binding = Binding {
        device: named,
        org: org(rng),
        key: if rng.random_bool(0.9) { device } else { key(rng) },
        patient: Pseudonym(digest(rng)),
        from: TimeMs(integer(rng)),
        until: maybe(rng, |rng| TimeMs(integer(rng))),
        last: integer(rng),
        batches: integer(rng),
    };
    // 2026-11-01T00:30:00Z is when the second of three batches is made.
    let night = TimeMs::from_instant("2026-11-01T00:30:00Z").map(|time| time.0).unwrap_or_default();
    let times = [0, night - 1, night, night + 1, night + 60_000, u64::MAX];
    let signer = DeviceKey { device: signs, revoked: maybe(rng, |rng| TimeMs(one(&times, rng))) };
    let member = member(entry_key, rng);
    let head = record_head(commitment, rng);
    [Some(head), Some(to_cbor(&binding)), Some(to_cbor(&signer)), Some(to_cbor(&member))].map(|value| {
        let value = value.filter(|_| rng.random_bool(0.5))?;
        Some(if rng.random_bool(0.15) { crate::case::bent(&value, rng) } else { value })
    })
}

/// A member with that key, more often than not.
pub(crate) fn member(entry_key: PublicKey, rng: &mut StdRng) -> Organisation {
    Organisation {
        role: one(&OrgRole::ALL, rng),
        entry_key: if rng.random_bool(0.8) { entry_key } else { key(rng) },
        left: rng.random_bool(0.2),
        unreviewed: integer(rng),
    }
}

fn reach(rng: &mut StdRng) -> Reach {
    Reach { wrap_key: one(&["", "age1new"], rng).to_owned(), address: one(&["", "new.example:9000"], rng).to_owned() }
}

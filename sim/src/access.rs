//! Accesses, which are most of what members say: one at a time, and those of one person and patient within a second under one entry.

use crate::{
    Consortium,
    load::{Opening, PROVIDERS},
};
use contract::{AccessAction, Body, Entry, GATHERED_MS_MAX, Gathered, MonthLink, gather, merkle};
use rand::{RngExt as _, rngs::StdRng};
use record::{Commitment, Digest, Id16, OrgRole, Pseudonym, Purpose, RecordTag, TimeMs, sha256};

/// The most versions that an access discloses.
const DISCLOSED_MAX: u8 = 5;
/// The most accesses under one entry.
const GATHERED: u64 = 6;

/// An entry about accesses.
pub(crate) struct Accessed {
    pub(crate) entry: Entry,
    /// Whether the contract must apply it.
    pub(crate) sure: bool,
    /// What opens each access that the entry commits to.
    pub(crate) opened: Vec<Gathered>,
}

/// Who accesses, where in the member's lane, and when.
pub(crate) struct At<'a> {
    pub(crate) consortium: &'a Consortium,
    pub(crate) member: usize,
    pub(crate) seq: u64,
    pub(crate) time: TimeMs,
}

/// The access that a member's lane has at a place. The first one begins the log of the member's own patient, so that later ones need not.
/// `opening`: an override that the lane said it opened, if there is one.
pub(crate) fn accessed(at: &At<'_>, opening: Option<&Opening>, random: &mut StdRng) -> Accessed {
    let role = at.consortium.genesis.members[at.member].role;
    let by_compliance = role == OrgRole::Compliance;
    // Compliance sees no patient without an investigation, and nobody opens one.
    let patient = (!by_compliance).then(|| patient_of(at.member));
    if at.seq == 1 {
        let month = patient.map(|_| MonthLink(commitment(at, b"month")));
        return one(Entry { month, ..access(at, 0, patient, random) }, true);
    }
    let entry = access(at, 0, patient, random);
    match random.random_range(0..100) {
        0..35 => one(entry, true),
        35..65 => together(at, patient, random),
        // A patient that several members care for.
        65..75 => {
            let patient = Some(patient_of(100 + random.random_range(0..3)));
            let month = Some(MonthLink(commitment(at, b"month")));
            one(Entry { patient, month, ..entry }, !by_compliance)
        }
        75..82 => one(with(entry, |a| (*a.set, *a.count, *a.denied) = (merkle::root([]), 0, true)), true),
        // By force; refused where the override was refused, is closed by then, or is none.
        82..90 if at.member < PROVIDERS => {
            let (id, patient) = opening.map_or((Id16([9; 16]), patient_of(at.member)), |o| (o.id, o.patient));
            let entry = Entry { purpose: Purpose::BreakGlass, patient: Some(patient), ..entry };
            let entry = if random.random_bool(0.8) { with(entry, |a| *a.under = Some(id)) } else { entry };
            one(entry, false)
        }
        // What no gateway files: another organisation's audit event, a number without its set, a denial that discloses something.
        90..93 => one(with(entry, |a| *a.audit = RecordTag(digest(at, b"audit")).of_record()), false),
        93..95 => one(with(entry, |a| *a.count = 0), false),
        95..97 => one(with(entry, |a| *a.denied = true), false),
        97..100 => {
            let mut accessed = together(at, patient, random);
            if let Body::Accesses { count, ms, .. } = &mut accessed.entry.body {
                if random.random_bool(0.5) { *count = 1 } else { *ms = GATHERED_MS_MAX + 1 }
            }
            // It opens nothing any more, and nobody was told that it does.
            Accessed { sure: false, opened: Vec::new(), ..accessed }
        }
        _ => one(entry, true),
    }
}

fn one(entry: Entry, sure: bool) -> Accessed {
    Accessed { entry, sure, opened: Vec::new() }
}

/// Several accesses within a second under one entry.
fn together(at: &At<'_>, patient: Option<Pseudonym>, random: &mut StdRng) -> Accessed {
    let count = random.random_range(2..=GATHERED);
    let mut times: Vec<u64> = (0..count).map(|_| random.random_range(0..=u64::from(GATHERED_MS_MAX))).collect();
    times.sort_unstable();
    // They are filed when the second is over.
    let begin = TimeMs(at.time.0.saturating_sub(GATHERED_MS_MAX.into()));
    let accesses: Vec<Entry> = (1..)
        .zip(times)
        .map(|(nth, after)| Entry { time: begin.plus_ms(after), ..access(at, nth, patient, random) })
        .collect();
    match gather(accesses[0].id, &accesses) {
        Some((entry, opened)) => {
            // Its own id: those of the accesses are not on the ledger.
            let entry = Entry { id: access(at, 0, patient, random).id, ..entry };
            Accessed { entry, sure: true, opened }
        }
        None => one(access(at, 0, patient, random), true),
    }
}

/// An access that the contract applies, the `nth` that is under the entry at that place.
fn access(at: &At<'_>, nth: u64, patient: Option<Pseudonym>, random: &mut StdRng) -> Entry {
    use AccessAction::{Export, Frames, Read, Search, Summary};
    let label = format!("1-{}-{nth}", at.seq);
    let entry = at.consortium.entry(at.member, &label, &[]);
    let count = random.random_range(1..=DISCLOSED_MAX);
    let disclosed = (0..count).map(|version| merkle::leaf(commitment(at, &[version]).0.as_ref()));
    let body = Body::Access {
        action: [Read, Search, Summary, Frames, Export][random.random_range(0..5)],
        set: merkle::root(disclosed),
        count: count.into(),
        denied: false,
        under: None,
        audit: RecordTag(sha256(&[b"audit", label.as_bytes()])).of_audit(&entry.org),
        commitment: commitment(at, b"audit event"),
    };
    // One person for all that is under the entry.
    Entry { time: at.time, actor: digest(at, b"actor"), patient, body, ..entry }
}

/// What an access says.
struct Facts<'a> {
    set: &'a mut Digest,
    count: &'a mut u32,
    denied: &'a mut bool,
    under: &'a mut Option<Id16>,
    audit: &'a mut RecordTag,
}

/// The access with other facts.
fn with(mut entry: Entry, change: impl Fn(Facts<'_>)) -> Entry {
    if let Body::Access { set, count, denied, under, audit, .. } = &mut entry.body {
        change(Facts { set, count, denied, under, audit });
    }
    entry
}

fn patient_of(number: usize) -> Pseudonym {
    Pseudonym(sha256(&[b"patient of", &number.to_be_bytes()]))
}

fn digest(at: &At<'_>, what: &[u8]) -> Digest {
    sha256(&[what, &at.member.to_be_bytes(), &at.seq.to_be_bytes()])
}

fn commitment(at: &At<'_>, what: &[u8]) -> Commitment {
    Commitment(digest(at, what))
}

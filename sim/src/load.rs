//! What the members say in a run: entries of several kinds, drawn from the seed, most of which the contract must apply.

use crate::{
    Consortium,
    access::{At, accessed},
};
use contract::{Body, Entry, Gathered, MonthLink, OverrideStep};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Commitment, Digest, Id16, Pseudonym, Purpose, RecordTag, TimeMs, sha256};

/// How long an override is opened for, in milliseconds.
const OVERRIDE_MS: u64 = 60 * 60 * 1000;
/// The first so many members care for patients.
pub(crate) const PROVIDERS: usize = 2;
/// Of a hundred entries, how many are about accesses.
const ACCESSES: u32 = 50;
/// How far back in its lane a member looks for an override that it can access something under.
const OPENINGS: u64 = 40;
/// Bytes of an attachment.
const ATTACHMENT_BYTES: usize = 600;

/// An entry, and what must become of it.
pub(crate) struct Said {
    pub(crate) entry: Entry,
    /// Whether the contract must apply it: it depends on nothing but what its own lane said before.
    pub(crate) sure: bool,
    /// What it names as attachment.
    pub(crate) attachment: Option<Vec<u8>>,
    /// What opens each access that it commits to.
    pub(crate) opened: Vec<Gathered>,
}

/// An override that the lane said it opened.
pub(crate) struct Opening {
    pub(crate) id: Id16,
    pub(crate) patient: Pseudonym,
}

/// What a member says at a place of its lane.
enum Kind {
    Access,
    /// Which of a hundred.
    Other(u32),
}

/// What the lane has at `seq`, and what the rest is drawn from. The first is an access, which begins a patient's log.
fn kind(seed: u64, member: usize, seq: u64) -> (Kind, StdRng) {
    let mut random = StdRng::seed_from_u64(seed ^ (member as u64) << 56 ^ seq << 16);
    let is_access = random.random_range(0..100) < ACCESSES || seq == 1;
    let kind = if is_access { Kind::Access } else { Kind::Other(random.random_range(0..100)) };
    (kind, random)
}

/// Whether that is the opening of an override.
fn opens(kind: u32, member: usize) -> bool {
    (40..60).contains(&kind) && member < PROVIDERS
}

/// The last override that the lane said it opened before `seq`.
fn opening(seed: u64, member: usize, seq: u64) -> Option<Opening> {
    let opens = |seq: &u64| matches!(kind(seed, member, *seq).0, Kind::Other(kind) if opens(kind, member));
    let opened = (seq.saturating_sub(OPENINGS).max(1)..seq).rev().find(opens)?;
    Some(Opening { id: override_id(member, opened), patient: override_patient(member, opened) })
}

/// The entry that a member's lane has at `seq`, written at the time given.
pub(crate) fn said(consortium: &Consortium, seed: u64, member: usize, seq: u64, time: TimeMs) -> Said {
    let (kind, mut random) = kind(seed, member, seq);
    let Kind::Other(kind) = kind else {
        let at = At { consortium, member, seq, time };
        let accessed = accessed(&at, opening(seed, member, seq).as_ref(), &mut random);
        return Said { entry: accessed.entry, sure: accessed.sure, attachment: None, opened: accessed.opened };
    };
    let label = |seq: u64| format!("1-{seq}");
    let mut attachment = None;
    let mut entry = if kind < 20 {
        let mut bytes = vec![0; ATTACHMENT_BYTES];
        random.fill(bytes.as_mut_slice());
        let entry = consortium.entry(member, &label(seq), &[&bytes]);
        attachment = Some(bytes);
        entry
    } else {
        consortium.entry(member, &label(seq), &[])
    };
    entry.time = time;
    let mut sure = true;
    match kind {
        // Both providers write the first version of one record: the order of the chain decides, on every peer alike.
        20..40 if member < PROVIDERS => {
            sure = false;
            if let Body::Record { tag, .. } = &mut entry.body {
                *tag = RecordTag(sha256(&[b"contended", &seq.to_be_bytes()])).of_record();
            }
        }
        // Somebody breaks the glass, and another person reviews it with the lane's next entry that can.
        _ if opens(kind, member) => {
            override_step(&mut entry, member, seq, OverrideStep::Opened(time.plus_ms(OVERRIDE_MS)))
        }
        // A second version of what the lane said before; refused where that was no record of its own.
        60..75 if seq > 1 => {
            let before = consortium.entry(member, &label(seq - 1), &[]);
            if let (Body::Record { tag, version, previous, .. }, Body::Record { tag: of, commitment, .. }) =
                (&mut entry.body, before.body)
            {
                (*tag, *version, *previous) = (of, 2, Some(commitment));
            }
            sure = false;
        }
        // Nobody says what comes before it.
        75..80 => {
            sure = false;
            if let Body::Record { version, previous, .. } = &mut entry.body {
                (*version, *previous) = (7, Some(Commitment(sha256(&[b"unknown"]))));
            }
        }
        80..90 if member < PROVIDERS => {
            sure = false;
            override_step(&mut entry, member, random.random_range(1..=seq), OverrideStep::Closed);
        }
        90..100 if member < PROVIDERS => {
            sure = false;
            override_step(&mut entry, member, random.random_range(1..=seq), OverrideStep::Reviewed(true));
        }
        _ => {}
    }
    Said { entry, sure, attachment, opened: Vec::new() }
}

/// A step of the override that the lane may have opened at `opened`.
fn override_step(entry: &mut Entry, member: usize, opened: u64, step: OverrideStep) {
    entry.purpose = Purpose::BreakGlass;
    entry.patient = Some(override_patient(member, opened));
    entry.month = Some(MonthLink(Commitment(of_override(b"month", member, opened))));
    let reason = Commitment(of_override(b"reason", member, opened));
    entry.body = Body::Override { id: override_id(member, opened), step, reason };
}

fn override_id(member: usize, opened: u64) -> Id16 {
    let mut id = [0; 16];
    id.copy_from_slice(&of_override(b"override", member, opened).0[..16]);
    Id16(id)
}

fn override_patient(member: usize, opened: u64) -> Pseudonym {
    Pseudonym(of_override(b"patient", member, opened))
}

fn of_override(what: &[u8], member: usize, opened: u64) -> Digest {
    sha256(&[what, &member.to_be_bytes(), &opened.to_be_bytes()])
}

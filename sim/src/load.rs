//! What the members say in a run: entries of several kinds, drawn from the seed, most of which the contract must apply.

use crate::Consortium;
use contract::{Body, Entry, MonthLink, OverrideStep};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Commitment, Digest, Id16, Pseudonym, Purpose, RecordTag, TimeMs, sha256};

/// How long an override is opened for, in milliseconds.
const OVERRIDE_MS: u64 = 60 * 60 * 1000;
/// The first so many members care for patients.
const PROVIDERS: usize = 2;
/// Bytes of an attachment.
const ATTACHMENT_BYTES: usize = 600;

/// An entry, and what must become of it.
pub(crate) struct Said {
    pub(crate) entry: Entry,
    /// Whether the contract must apply it: it depends on nothing but what its own lane said before.
    pub(crate) sure: bool,
    /// What it names as attachment.
    pub(crate) attachment: Option<Vec<u8>>,
}

/// The entry that a member's lane has at `seq`, written at the time given.
pub(crate) fn said(consortium: &Consortium, seed: u64, member: usize, seq: u64, time: TimeMs) -> Said {
    let mut random = StdRng::seed_from_u64(seed ^ (member as u64) << 56 ^ seq << 16);
    let kind = random.random_range(0..100);
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
        40..60 if member < PROVIDERS => {
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
    Said { entry, sure, attachment }
}

/// A step of the override that the lane may have opened at `opened`.
fn override_step(entry: &mut Entry, member: usize, opened: u64, step: OverrideStep) {
    let name = |kind: &[u8]| sha256(&[kind, &member.to_be_bytes(), &opened.to_be_bytes()]);
    let id = |digest: Digest| {
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0[..16]);
        Id16(id)
    };
    entry.purpose = Purpose::BreakGlass;
    entry.patient = Some(Pseudonym(name(b"patient")));
    entry.month = Some(MonthLink(Commitment(name(b"month"))));
    entry.body = Body::Override { id: id(name(b"override")), step, reason: Commitment(name(b"reason")) };
}

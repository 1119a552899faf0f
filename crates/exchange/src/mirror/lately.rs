//! What the mirror keeps in memory of the latest final state: heads of records, logs that have begun, patients with consents.
//!
//! All of it is as the file has it, and never older than the height that the mirror tells: it is filled by what blocks bring, and by
//! reads that no block came between.

use super::FinalVersion;
use crate::recent::Recent;
use record::{Pseudonym, RecordTag};
use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

/// Heads that are kept: twice as many at most, some 400 bytes each.
const HEADS_MAX: usize = 32_768;
/// Logs that are known to have begun: twice as many at most.
const BEGUN_MAX: usize = 65_536;

pub(super) struct Lately {
    heads: Recent<RecordTag, FinalVersion>,
    begun: Recent<Pseudonym, ()>,
    /// Every pseudonym that a Consent was ever filed under, some 50 bytes each; how often blocks came.
    changing: RwLock<Changing>,
}

#[derive(Default)]
struct Changing {
    with_consents: HashSet<Pseudonym>,
    blocks: u64,
}

/// The state of the mirror that a read began at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Lately {
    pub(super) fn new(with_consents: HashSet<Pseudonym>) -> Self {
        let changing = RwLock::new(Changing { with_consents, blocks: 0 });
        Self { heads: Recent::new(HEADS_MAX), begun: Recent::new(BEGUN_MAX), changing }
    }

    /// To be asked for before the file is read.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.changing.read().unwrap_or_else(PoisonError::into_inner).blocks)
    }

    /// The latest version of a record, if it is kept here.
    pub(super) fn head(&self, tag: &RecordTag) -> Option<FinalVersion> {
        self.heads.get(tag)
    }

    /// Keeps heads that were read from the file, unless blocks came meanwhile.
    pub(super) fn keep(&self, read_at: Moment, heads: impl Iterator<Item = FinalVersion>) {
        // Held while they are put, so that no block comes between.
        let changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        if changing.blocks == read_at.0 {
            heads.for_each(|head| self.heads.put(head.tag, head));
        }
    }

    /// Takes over what blocks brought, once the file has it.
    pub(super) fn extend(&self, versions: Vec<FinalVersion>) {
        let mut changing = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        changing.blocks += 1;
        for version in versions {
            if let Some(patient) = version.patient {
                if version.fhir_type.as_deref() == Some("Consent") {
                    changing.with_consents.insert(patient);
                }
                self.begun.put(patient, ());
            }
            // An audit event has one version and is seldom asked for.
            if !version.tag.is_audit() {
                self.heads.put(version.tag, version);
            }
        }
    }

    /// Whether any Consent was ever filed under any of these names.
    pub(super) fn has_consents(&self, pseudonyms: &[Pseudonym]) -> bool {
        let changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        pseudonyms.iter().any(|pseudonym| changing.with_consents.contains(pseudonym))
    }

    /// Whether the log is known to have begun; it may have when it is not.
    pub(super) fn has_begun(&self, pseudonym: &Pseudonym) -> bool {
        self.begun.get(pseudonym).is_some()
    }

    pub(super) fn note_begun(&self, pseudonym: Pseudonym) {
        self.begun.put(pseudonym, ());
    }
}

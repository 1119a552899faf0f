//! Whether anything held what was let go: investigations and holds that were open at some place of the log.

use super::{
    Mirror, MirrorError,
    entries::{SELECT_ENTRY, entry_row},
    signed,
};
use contract::{Body, CustodyStep, Entry, InvestigationStep};
use record::{Id16, Pseudonym};
use rusqlite::{Connection, params};
use std::collections::HashSet;

/// What an entry says of a hold or an investigation.
enum Step {
    Begun(Id16),
    Over(Id16),
}

impl Step {
    fn of(entry: &[u8]) -> Option<Self> {
        match Entry::from_bytes(entry).ok()?.body {
            Body::Investigation { id, step: InvestigationStep::Opened, .. }
            | Body::Custody { id, step: CustodyStep::Held, .. } => Some(Self::Begun(id)),
            Body::Investigation { id, step: InvestigationStep::Concluded, .. }
            | Body::Custody { id, step: CustodyStep::Released, .. } => Some(Self::Over(id)),
            _ => None,
        }
    }
}

impl Mirror {
    /// Whether an investigation or a hold that was filed under any of these pseudonyms was open at an index of the log: begun before it, and
    /// not concluded or released before it under whatever pseudonym.
    pub(crate) async fn was_held(&self, pseudonyms: HashSet<Pseudonym>, at: u64) -> Result<bool, MirrorError> {
        self.read(move |c| {
            let mut begun = HashSet::new();
            for pseudonym in pseudonyms {
                let sql = "WHERE patient = ?1 AND kind IN ('investigation', 'custody') AND refused = 0 AND idx < ?2";
                begun.extend(steps(c, sql, pseudonym.0.as_ref(), at)?.into_iter().filter_map(|step| match step {
                    Step::Begun(id) => Some(id),
                    Step::Over(_) => None,
                }));
            }
            for id in begun {
                let ends = steps(c, "WHERE about = ?1 AND refused = 0 AND idx < ?2", id.as_ref(), at)?;
                if !ends.into_iter().any(|step| matches!(step, Step::Over(of) if of == id)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

fn steps(c: &Connection, condition: &str, key: &[u8], below: u64) -> rusqlite::Result<Vec<Step>> {
    let mut select = c.prepare_cached(&format!("{SELECT_ENTRY} {condition}"))?;
    let entries = select.query_map(params![key, signed(below)], entry_row)?;
    entries.filter_map(|entry| entry.map(|entry| Step::of(&entry.bytes)).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{FinalBlock, FinalEntry};
    use super::*;
    use crate::sample;
    use record::{Month, PatientKey, RecordTag, TimeMs, commit, sha256};

    fn filed(index: u64, patient: Pseudonym, body: Body) -> (Entry, FinalEntry) {
        let alone = sample::access(
            &"mercy".parse().unwrap(),
            Id16(u128::from(index).to_be_bytes()),
            RecordTag(sha256(&[b"any"])),
            b"any",
        );
        let entry = Entry { patient: Some(patient), body, ..alone };
        let (digest, bytes) = (entry.digest(), entry.to_bytes());
        let time = TimeMs(2000);
        let place = FinalEntry { index, height: 1, time, digest, bytes, lane: 0, seq: index + 1, refused: 0 };
        (entry, place)
    }

    fn investigation(step: InvestigationStep) -> Body {
        let document = commit(&sha256(&[b"salt"]), b"an order");
        Body::Investigation { id: Id16([9; 16]), step, document }
    }

    /// The contract looks for holds under the pseudonyms of two months: the binding's, and the one of the disposal. An investigation that was
    /// opened in spring stands under neither of them when frames of summer are let go in autumn.
    #[tokio::test]
    async fn an_investigation_under_a_pseudonym_of_months_ago_held_what_was_let_go_until_it_was_concluded() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(&folder.path().join("mirror.db")).unwrap();
        let key = PatientKey::from_bytes([3; 32]);
        let of = |month: u32| key.pseudonym(Month(month));
        let (spring, summer, autumn) = (4, 7, 10);
        let entries = vec![
            filed(0, of(spring), investigation(InvestigationStep::Opened)),
            filed(1, of(autumn), investigation(InvestigationStep::Concluded)),
        ];
        let block = FinalBlock { height: 1, time: TimeMs(2000), digest: sha256(&[b"block"]), entries };
        mirror.inner.extend(&[block]).unwrap();

        let of_two_months = HashSet::from([of(summer), of(autumn)]);
        let of_all: HashSet<_> = (spring..=autumn).map(of).collect();
        for (pseudonyms, at, held) in
            [(&of_all, 0, false), (&of_all, 1, true), (&of_two_months, 1, false), (&of_all, 2, false)]
        {
            assert_eq!(mirror.was_held(pseudonyms.clone(), at).await.unwrap(), held, "{} at {at}", pseudonyms.len());
        }
    }
}

//! Evidence about one patient, as one file that anybody can verify.

use crate::{caller::Caller, failure::Failure, node::Node, write::Trail};
use contract::{AccessAction, Entry, LastMonth, MonthOpening, PolicyKind, state};
use evidence::{Finality, Limits, Log, LoggedEntry, MonthLog, Opened, OpenedLink, Parts, Policies};
use policy::Action;
use record::{Digest, Id16, Month, PatientKey, Pseudonym, fhir::Interaction};
use store::{Row, VersionKey};

impl Node {
    /// The complete log of a patient with its opened records, as one file that anybody can verify.
    /// `through`: height of a block that the reader knows to be final.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn prove(
        &self,
        caller: &Caller,
        patient: &str,
        case: Option<Id16>,
        through: Option<u64>,
    ) -> Result<Vec<u8>, Failure> {
        let decided = self.allow_about(caller, Action::Prove, patient).await?;
        if case.is_some() && case != decided.under {
            return Err(Failure::NotFound("this case, open and about this patient".to_owned()));
        }
        let key = self.patient_key(patient).await?;
        let key = key.ok_or_else(|| Failure::NotFound(format!("Patient/{patient}")))?;
        let bundle = self.assemble(&key, through).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Export) };
        self.leave_trail(caller, Some(patient), &[], &[format!("Patient/{patient}")], &trail).await?;
        Ok(bundle)
    }

    async fn assemble(&self, key: &PatientKey, through: Option<u64>) -> Result<Vec<u8>, Failure> {
        let months = self.months();
        let policies = [state::policy_key(PolicyKind::Access), state::policy_key(PolicyKind::Derivation)];
        let logs = months.iter().map(|month| state::log_key(&key.pseudonym(*month)));
        let keys = policies.into_iter().chain(logs).collect();
        let proof = self.ledger.prove(keys).await.map_err(|e| Failure::ours("the ledger gave no proof", e))?;
        let header =
            contract::Header::from_bytes(&proof.header).map_err(|e| Failure::ours("the ledger gave no header", e))?;
        // The mirror follows the ledger: what is proven must be there to be shown.
        let mut height = self.mirror.watch_height();
        let mirrored = height.wait_for(|at| *at >= header.height);
        tokio::time::timeout(std::time::Duration::from_secs(10), mirrored)
            .await
            .map_err(|e| Failure::ours("the mirror is behind the ledger", e))?
            .map_err(|e| Failure::ours("the mirror stopped", e))?;
        let mut proofs = proof.proofs.into_iter();
        let mut policy_proof = || -> Result<evidence::StateProof, Failure> {
            let proof = proofs.next().ok_or_else(|| Failure::Ours("the ledger proved too little".to_owned()))?;
            let value = proof.value.ok_or_else(|| Failure::Ours("the ledger has no policy".to_owned()))?;
            Ok(evidence::StateProof { value, proof: proof.proof })
        };
        let policies = Policies { access: policy_proof()?, derivation: policy_proof()? };
        let mut month_logs = Vec::with_capacity(months.len());
        let mut opened = Vec::new();
        let mut earlier: Vec<Past> = Vec::new();
        for (month, proof) in months.into_iter().zip(proofs) {
            let pseudonym = key.pseudonym(month);
            let log = match proof.value {
                None => Log::Absent { proof: proof.proof },
                Some(value) => {
                    let entries = self.mirror.log(pseudonym, header.height).await?;
                    let mut logged = Vec::with_capacity(entries.len());
                    let mut links = Vec::new();
                    let mut past = Past { pseudonym, roots: vec![contract::merkle::root([])] };
                    let mut frontier = contract::merkle::Frontier::default();
                    for (index, place) in entries.into_iter().enumerate() {
                        let entry = Entry::from_bytes(&place.bytes)
                            .map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
                        if index == 0 {
                            let opening = open_link(key, &entry, month, &earlier);
                            links.extend(opening.map(|opening| OpenedLink { entry: 0, opening }));
                        }
                        frontier.push(state::log_leaf(place.height, place.time, &place.digest));
                        past.roots.push(frontier.root());
                        opened.extend(self.open_record(&entry).await?);
                        logged.push(LoggedEntry { height: place.height, time: place.time, entry: place.bytes });
                    }
                    earlier.push(past);
                    Log::Present { head: evidence::StateProof { value, proof: proof.proof }, entries: logged, links }
                }
            };
            month_logs.push(MonthLog { month, pseudonym, log });
        }
        // A month after the last entry says nothing, and would only make the file look as if something were left out.
        while month_logs.last().is_some_and(|last| matches!(last.log, Log::Absent { .. })) {
            month_logs.pop();
        }
        let handovers = match through {
            None => proof.handovers.into_iter().map(crate::status::shown_handover).collect(),
            Some(_) => self.handovers(header.height, through).await?,
        };
        let (genesis, certificate) = (self.genesis.to_bytes(), proof.certificate);
        let finality = Finality { genesis, header: proof.header, certificate, handovers };
        let (current, devices, places, witnesses) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let parts = Parts { finality, policies, months: month_logs, opened, current, devices, places, witnesses };
        // What is given away is checked first by the same rules that a stranger will apply.
        let (bytes, _report) = evidence::prove(parts, &self.genesis.id(), &Limits::default())
            .map_err(|e| Failure::ours("the evidence does not verify", e))?;
        Ok(bytes)
    }

    /// The bytes and salt of the version that an entry commits to, if a good row or an essential copy has them.
    async fn open_record(&self, entry: &Entry) -> Result<Option<Opened>, Failure> {
        let Some((tag, version, commitment)) = crate::row::committed(entry) else { return Ok(None) };
        let Some(name) = self.name_of(tag, entry.id).await? else { return Ok(None) };
        let Some((rtype, id)) = name.split_once('/') else { return Ok(None) };
        let key = VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version };
        let row = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        let fits = |row: &Row| row.tag == tag && record::commit(&row.salt, &row.bytes) == commitment;
        Ok(row.filter(fits).map(|row| Opened { record: name, version, salt: row.salt, bytes: row.bytes }))
    }

    /// What a record is called: remembered, or as the database says; wrong names open nothing.
    async fn name_of(&self, tag: record::RecordTag, entry: Id16) -> Result<Option<String>, Failure> {
        if let Some(name) = self.mirror.name(tag).await? {
            return Ok(Some(name));
        }
        let place = self.store.entry(entry).await.map_err(crate::find::search_failure)?;
        Ok(place.and_then(|place| place.record).map(|key| format!("{}/{}", key.rtype, key.id)))
    }
}

/// A month's log: its root at every count.
struct Past {
    pseudonym: Pseudonym,
    roots: Vec<Digest>,
}

/// Opens the link of a month's first entry: to the log before it, as far as its author saw it, or to none.
///
/// The author may have seen nothing where there is a log now, since entries came late. When those are in an earlier month than the
/// one that the link names, a verifier could not tell this from a month that was left out: then the link stays closed.
fn open_link(key: &PatientKey, entry: &Entry, month: Month, earlier: &[Past]) -> Option<MonthOpening> {
    let link = entry.month?;
    let none = earlier.is_empty().then(|| LastMonth::none(key, month));
    let seen = earlier.iter().rev().flat_map(|past| {
        let counts = past.roots.iter().enumerate().rev();
        counts.map(|(count, root)| LastMonth { pseudonym: past.pseudonym, count: count as u64, root: *root })
    });
    none.into_iter()
        .chain(seen)
        .map(|last| MonthOpening::new(key, &entry.id, last))
        .find(|opening| opening.verify(&link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Body, merkle};
    use record::{Purpose, TimeMs, sha256};

    const DECEMBER: Month = Month(12 * 2026 + 11);

    fn key() -> PatientKey {
        PatientKey::from_bytes([7; 32])
    }

    /// A log of so many entries in a month.
    fn past(month: Month, entries: u8) -> Past {
        let leaves: Vec<Digest> = (0..entries).map(|i| sha256(&[b"leaf", &[i]])).collect();
        let roots = (0..=leaves.len()).map(|count| merkle::root(leaves[..count].iter().copied())).collect();
        Past { pseudonym: key().pseudonym(month), roots }
    }

    /// December's first entry continues `last`; how far its link is opened beside these logs, as the month named and its entries.
    fn check(last: LastMonth, earlier: &[Past], expected: Option<(Month, u64)>) {
        let id = Id16([2; 16]);
        let entry = Entry {
            id,
            org: "mercy".parse().unwrap(),
            time: TimeMs(1),
            purpose: Purpose::Treat,
            policy: sha256(&[b"policy"]),
            actor: sha256(&[b"actor"]),
            patient: Some(key().pseudonym(DECEMBER)),
            month: Some(MonthOpening::new(&key(), &id, last).link()),
            body: Body::Link { other: key().pseudonym(DECEMBER), same: true },
        };
        let opened = open_link(&key(), &entry, DECEMBER, earlier);
        let expected = expected.map(|(month, count)| (key().pseudonym(month), count));
        assert_eq!(opened.map(|opening| (opening.previous, opening.count)), expected);
    }

    #[test]
    fn a_link_is_opened_to_what_its_author_saw_as_far_as_a_verifier_accepts_it() {
        let [october, november] = [DECEMBER.previous().previous(), DECEMBER.previous()];
        let none = LastMonth::none(&key(), DECEMBER);
        check(none, &[], Some((november, 0)));
        // Late entries began the month that was named as empty.
        check(none, &[past(november, 1)], Some((november, 0)));
        check(none, &[past(october, 3), past(november, 1)], Some((november, 0)));
        // Late entries are in the month before that.
        check(none, &[past(october, 3)], None);
        // Late entries were added to the month named, and to the one after it.
        let seen = LastMonth { pseudonym: key().pseudonym(october), count: 2, root: past(october, 2).roots[2] };
        check(seen, &[past(october, 3), past(november, 1)], Some((october, 2)));
        check(seen, &[past(november, 1)], None);
    }
}

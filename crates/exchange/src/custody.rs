//! Custody of a patient's records: held against erasure, let go, erased; and the votes that a recovery needs.
//!
//! # What an erasure does
//!
//! The ledger says first that the patient's records are erased, and under which policy; only when that is final are they destroyed:
//! the rows with their salts and search values, the frames and the wrapped key in the database, the essential copies in the vaults
//! (every node does that to its own, see [`crate::follow`]), and the key in memory. What stays is the ledger, whose commitments can
//! be opened by nobody any more, with every proof about other patients as valid as before.
//!
//! Audit events about the patient are the patient's rows too: they name the Patient, who read, and what. They go with the rest.
//! The accounting of disclosures that the law asks for (45 CFR 164.528: six years) is kept by its other half, the access entries on
//! the ledger: when, by which organisation, for which purpose, how many versions. An organisation that must be able to name the
//! person for longer puts a hold on the patient's records until that time is over. The erasure's own audit event is about nobody and
//! names nothing; which Patient it was and why lies on the private desk of the organisation that erased.
//!
//! Backups of the database are out of reach: what they hold of an erased patient is not taken back by a recovery.

use crate::{
    boxed,
    caller::Caller,
    desk::Procedure,
    failure::Failure,
    glass::check_text,
    mirror::FinalEntry,
    node::Node,
    row::{Worth, committed},
    subject::Subject,
    write::{Also, Touched, Trail},
};
use contract::{AccessAction, Body, CustodyStep, Entry, Event, Filed, Reject, from_cbor, may_hold, state};
use policy::Action;
use record::{Id16, OrgId, OrgRole, Pseudonym, RecordTag, fhir::Interaction, record_tag};
use std::{collections::BTreeSet, time::Duration};

/// How long a vote or a carrying-out waits for what others have just written to become final here.
const NEWS_WAIT: Duration = Duration::from_secs(10);
/// How long a proposal or a vote waits to become final before it is answered. After all nodes were stopped, the ledger goes on within
/// some seconds.
const FINAL_WAIT: Duration = Duration::from_secs(30);
/// How long a caller waits for an erasure; it is finished without them after that.
const ERASE_WAIT: Duration = Duration::from_secs(30);
/// How often something is looked for that no block announces.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const HOLD: &str = "hold";
const ERASE: &str = "erase";
pub(crate) const RECOVER: &str = "recover";

/// One entry of a procedure: where it is filed, its custody id, what was done, to which records.
pub(crate) struct Taken {
    pub(crate) subject: Subject,
    pub(crate) id: Id16,
    pub(crate) step: CustodyStep,
    pub(crate) records: Vec<RecordTag>,
}

/// A recovery before the members.
pub(crate) struct Ballot {
    custody: state::Custody,
    members: Vec<OrgId>,
}

impl Node {
    /// Keeps a patient's records from being erased, by anybody, until it is released. Takes effect when it is final.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn hold(&self, caller: &Caller, patient: &str, reason: &str) -> Result<Id16, Failure> {
        check_text("reason", reason)?;
        self.allow_about(caller, Action::Hold, patient).await?;
        self.is_custodian()?;
        let (subject, id) = (self.subject(patient).await?, self.new_id()?);
        // It is on everything that is filed under the patient, so it names no records.
        let held = Taken { subject: subject.clone(), id, step: CustodyStep::Held, records: Vec::new() };
        self.take_custody(caller, &subject, &[held]).await?;
        let paper = self.paper(id, patient, HOLD, reason);
        self.desk.put(paper).await?;
        Ok(id)
    }

    /// Ends a hold of ours.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn release(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let mut paper = self.procedure(id, HOLD).await?;
        self.allow_about(caller, Action::Hold, &paper.patient).await?;
        if paper.done {
            return Err(Failure::Conflict("this hold is over already".to_owned()));
        }
        let Some(held) = self.custody_entry(id, CustodyStep::Held, 0).await? else {
            return Err(Failure::Conflict("this hold is not final yet: try again in a moment".to_owned()));
        };
        paper.done = true;
        if held.refused != 0 {
            self.desk.put(paper).await?;
            return Err(Failure::Conflict(format!(
                "the ledger refused this hold, so there is nothing to release: {}",
                why(&held)
            )));
        }
        let subject = self.subject(&paper.patient).await?;
        // The ledger counts holds by the pseudonym of the month that they were put in.
        let filed = pseudonym_of(&held).map_or(Filed::Nowhere, Filed::Under);
        let filed_there = Subject { filed, ..subject.clone() };
        let released = Taken { subject: filed_there, id, step: CustodyStep::Released, records: Vec::new() };
        self.take_custody(caller, &subject, &[released]).await?;
        Ok(self.desk.put(paper).await?)
    }

    /// Erases a patient: as the head of this file says. Answers when it is done; what takes longer is finished without the caller, and after
    /// a restart.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn erase(&self, caller: &Caller, patient: &str, reason: &str) -> Result<Id16, Failure> {
        check_text("reason", reason)?;
        self.allow_about(caller, Action::Erase, patient).await?;
        if !matches!(self.role, OrgRole::Ems | OrgRole::Hospital) {
            return Err(Failure::Conflict("only organisations that care for patients erase their records".to_owned()));
        }
        let key = self.patient_key(patient).await?;
        let key = key.ok_or_else(|| Failure::NotFound(format!("Patient/{patient}")))?;
        let pseudonyms = self.pseudonyms(&key);
        self.refuse_held(patient, &pseudonyms).await?;

        let mut taken = Vec::new();
        for pseudonym in pseudonyms {
            let log = self.mirror.log(pseudonym, u64::MAX).await?;
            if log.is_empty() {
                continue;
            }
            let mut records = tags(&log)?;
            if records.is_empty() {
                // A month without records, such as of frames alone: the entry says whose month it was.
                records.insert(record_tag(&key, &format!("Patient/{patient}")));
            }
            let subject =
                Subject { key: key.clone(), filed: Filed::Under(pseudonym), patient: Some(patient.to_owned()) };
            taken.push((subject, records.into_iter().collect()));
        }
        if taken.is_empty() {
            return Err(Failure::Conflict("nothing about this patient is final yet: try again in a moment".to_owned()));
        }
        // Rows of organisations that know no pseudonym of the patient stand in no log: each is named by an entry of its own.
        taken.extend(self.filed_nowhere(patient).await?.into_iter().map(|tag| (self.nobody(), vec![tag])));
        let erased = |(subject, records)| Ok(Taken { subject, id: self.new_id()?, step: CustodyStep::Erased, records });
        let taken: Vec<Taken> = taken.into_iter().map(erased).collect::<Result<_, Failure>>()?;

        let entries: Vec<Id16> = taken.iter().map(|one| one.id).collect();
        let Some(id) = entries.first().copied() else { return Err(Failure::Busy) };
        let paper = Procedure { entries, ..self.paper(id, patient, ERASE, reason) };
        // The desk first: after a crash it says what is to be destroyed once the entries are final.
        self.desk.put(paper.clone()).await?;
        if let Err(failure) = self.take_custody(caller, &self.nobody(), &taken).await {
            self.desk.put(Procedure { done: true, ..paper }).await?;
            return Err(failure);
        }
        let node = self.clone();
        let destroyed = tokio::spawn(async move { node.destroy_when_final(paper).await });
        match tokio::time::timeout(ERASE_WAIT, destroyed).await {
            Ok(done) => done.map_err(|e| Failure::ours("the erasure was interrupted", e))?.map(|()| id),
            Err(_) => Err(Failure::Conflict(
                "the erasure is not final yet, and is carried out as soon as it is: look again in a moment".to_owned(),
            )),
        }
    }

    /// Nobody erases what anybody holds: by the ledger's state, and by holds of ours that are on their way there.
    pub(crate) async fn refuse_held(&self, patient: &str, pseudonyms: &[Pseudonym]) -> Result<(), Failure> {
        let held =
            || Failure::Conflict("these records are held: they can be erased when every hold is released".to_owned());
        let papers = self.desk.list::<Procedure>(Some(patient)).await?;
        if papers.iter().any(|paper| paper.what == HOLD && !paper.done) {
            return Err(held());
        }
        for some in pseudonyms.chunks(ledger::KEYS_MAX) {
            let keys = some.iter().map(state::hold_key).collect();
            let holds = self.ledger.get(keys).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
            for value in holds.into_iter().flatten() {
                let hold: state::Hold = from_cbor("hold", &value, state::VALUE_BYTES_MAX)
                    .map_err(|e| Failure::ours("the ledger's state cannot be read", e))?;
                if hold.open > 0 {
                    return Err(held());
                }
            }
        }
        Ok(())
    }

    /// Good records of the patient whose entries are filed in no log.
    async fn filed_nowhere(&self, patient: &str) -> Result<BTreeSet<RecordTag>, Failure> {
        let found = self.store.patient_records(patient, &[]).await.map_err(crate::find::search_failure)?;
        let rows: Vec<_> = found.rows.into_iter().filter(|row| row.pseudonym.is_none()).collect();
        let worths = self.weigh(&rows).await?;
        let nowhere = worths.into_iter().filter_map(|worth| match worth {
            Worth::Good(known) if known.patient.is_none() => Some(known.tag),
            _ => None,
        });
        Ok(nowhere.collect())
    }

    /// Goes on with erasures that a restart interrupted.
    pub(crate) async fn resume_erasures(&self) -> Result<(), Failure> {
        for paper in self.desk.list::<Procedure>(None).await? {
            if paper.what != ERASE || paper.done {
                continue;
            }
            tokio::spawn(self.clone().finish_erasure(paper));
        }
        Ok(())
    }

    async fn finish_erasure(self, paper: Procedure) {
        let id = paper.id;
        match self.destroy_when_final(paper).await {
            Ok(()) => tracing::info!(%id, "an erasure was finished"),
            Err(error) => {
                tracing::warn!(%id, %error, "an erasure was not finished; it is taken up again after the next start")
            }
        }
    }

    /// Waits until every entry of an erasure is final, then destroys what it is about.
    async fn destroy_when_final(&self, paper: Procedure) -> Result<(), Failure> {
        let mut height = self.mirror.watch_height();
        let mut entries = Vec::new();
        for id in paper.entries.clone() {
            loop {
                height.mark_unchanged();
                let all_seen = self.unsettled() == 0 && self.mirror.height() >= self.ledger.status().height;
                if let Some(entry) = self.custody_entry(id, CustodyStep::Erased, 0).await? {
                    entries.push(entry);
                    break;
                }
                if all_seen {
                    // The process ended between the desk and the write.
                    self.desk.put(Procedure { done: true, ..paper }).await?;
                    return Err(Failure::Ours("the erasure was never written".to_owned()));
                }
                if *self.stopping().borrow() {
                    return Err(Failure::Ours("the program is stopping".to_owned()));
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, height.changed()).await;
            }
        }
        if let Some(refused) = entries.iter().find(|entry| entry.refused != 0) {
            let text = format!("the ledger refused the erasure: {}", why(refused));
            self.desk.put(Procedure { done: true, ..paper }).await?;
            return Err(Failure::Conflict(text));
        }
        let mut attachments = Vec::new();
        for pseudonym in entries.iter().filter_map(pseudonym_of) {
            // Following does the same; here the caller is answered, so it must be done.
            let destroyed = self.erase_copies(pseudonym).await;
            attachments.extend(destroyed.map_err(|e| Failure::ours("the vault did not erase", e))?);
        }
        let _none_is_written = self.pause_accesses().await;
        let rows = self.store.erase(&paper.patient, &attachments).await;
        let rows = rows.map_err(|e| Failure::ours("the rows could not be erased", e))?;
        self.keyring.forget(&paper.patient);
        self.accesses.scrub().await?;
        self.exports.clear();
        tracing::info!(id = %paper.id, rows, copies = attachments.len(), "a patient was erased");
        Ok(self.desk.put(Procedure { done: true, ..paper }).await?)
    }

    /// Asks the members to agree to a recovery. The organisation that asks votes for it at once. Answered when others can vote.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn propose_recovery(&self, caller: &Caller, reason: &str) -> Result<Id16, Failure> {
        check_text("reason", reason)?;
        self.allow_operation(caller, Action::Operate).await?;
        self.is_custodian()?;
        let id = self.new_id()?;
        let step = |step| Taken { subject: self.nobody(), id, step, records: Vec::new() };
        let taken = [step(CustodyStep::RecoverProposed), step(CustodyStep::RecoverVoted)];
        let since = self.mirror.height();
        self.take_custody(caller, &self.nobody(), &taken).await?;
        let paper = self.paper(id, "", RECOVER, reason);
        self.desk.put(paper).await?;
        self.accepted(id, CustodyStep::RecoverVoted, since).await?;
        Ok(id)
    }

    /// Votes for a recovery: the organisation agrees that the essential copies are opened. Answered when the vote counts.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn vote_recovery(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        let ballot = self.ballot(id, |_| true).await?;
        if ballot.custody.votes.contains(&self.org) {
            return Err(Failure::Conflict("this organisation has voted already".to_owned()));
        }
        let vote = Taken { subject: self.nobody(), id, step: CustodyStep::RecoverVoted, records: Vec::new() };
        let since = self.mirror.height();
        self.take_custody(caller, &self.nobody(), &[vote]).await?;
        self.accepted(id, CustodyStep::RecoverVoted, since).await
    }

    /// Waits until a step of ours, written when the mirror stood at `since`, is final, and fails when the ledger refused it.
    async fn accepted(&self, id: Id16, step: CustodyStep, since: u64) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + FINAL_WAIT;
        let mut height = self.mirror.watch_height();
        loop {
            height.mark_unchanged();
            // An earlier attempt may have been refused.
            if let Some(entry) = self.custody_entry(id, step, since).await? {
                let refused = || Failure::Conflict(format!("the ledger refused it: {}", why(&entry)));
                return if entry.refused == 0 { Ok(()) } else { Err(refused()) };
            }
            if !matches!(tokio::time::timeout_at(until, height.changed()).await, Ok(Ok(()))) {
                return Err(Failure::Conflict(format!(
                    "`{id}` is written and becomes final when enough validators are there: see `vitaltrace ledger status`"
                )));
            }
        }
    }

    /// Whether the members agreed to a recovery that this organisation proposed and has not carried out.
    pub(crate) async fn agreed(&self, id: Id16) -> Result<(), Failure> {
        let ballot = self.ballot(id, Ballot::is_carried).await?;
        if ballot.custody.org != self.org {
            let text = format!("`{}` proposed this recovery and carries it out", ballot.custody.org);
            return Err(Failure::Conflict(text));
        }
        if !ballot.is_carried() {
            let (votes, members) = (ballot.votes(), ballot.members.len());
            let text = format!("{votes} of {members} members agree: the copies stay closed until more than half do");
            return Err(Failure::Conflict(text));
        }
        Ok(())
    }

    /// The open vote on a recovery, as soon as it is `enough`, or as it is after a while: votes of others may be final a moment later here.
    async fn ballot(&self, id: Id16, enough: impl Fn(&Ballot) -> bool) -> Result<Ballot, Failure> {
        let until = tokio::time::Instant::now() + NEWS_WAIT;
        let mut height = self.mirror.watch_height();
        loop {
            height.mark_unchanged();
            let ballot = self.ballot_now(id).await?;
            if ballot.as_ref().is_some_and(|ballot| ballot.custody.step != CustodyStep::RecoverProposed) {
                return Err(Failure::Conflict("no recovery is open under this id".to_owned()));
            }
            let go_on = !ballot.as_ref().is_some_and(&enough)
                && matches!(tokio::time::timeout_at(until, height.changed()).await, Ok(Ok(())));
            if !go_on {
                return ballot.ok_or_else(|| Failure::NotFound(format!("custody/{id}")));
            }
        }
    }

    async fn ballot_now(&self, id: Id16) -> Result<Option<Ballot>, Failure> {
        let keys = vec![state::custody_key(&id), state::roll_key()];
        let values = self.ledger.get(keys).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let mut values = values.into_iter();
        let (Some(Some(custody)), Some(Some(roll))) = (values.next(), values.next()) else { return Ok(None) };
        let unreadable = |e| Failure::ours("the ledger's state cannot be read", e);
        let custody = from_cbor("custody", &custody, state::VALUE_BYTES_MAX).map_err(unreadable)?;
        let roll: state::Roll = from_cbor("roll", &roll, state::VALUE_BYTES_MAX).map_err(unreadable)?;
        let members = roll.members.into_iter().map(|seat| seat.org).collect();
        Ok(Some(Ballot { custody, members }))
    }

    /// Writes entries of a procedure, and the audit event about `whom`.
    pub(crate) async fn take_custody(&self, caller: &Caller, whom: &Subject, taken: &[Taken]) -> Result<(), Failure> {
        self.takes_writes()?;
        let time = self.now();
        let author = self.author(caller, time);
        let mut gathered = self.empty();
        for Taken { subject, id, step, records } in taken {
            let event = Event::CustodyTaken { id: *id, step: *step, records };
            self.also(&mut gathered, &author, &Also { subject: subject.clone(), event })?;
        }
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        self.trail(&mut gathered, caller, time, &Touched::nothing(whom), &trail)?;
        self.put(gathered).await
    }

    /// The final entry of one step of a procedure, applied or refused, in a block above `since`.
    async fn custody_entry(&self, id: Id16, wanted: CustodyStep, since: u64) -> Result<Option<FinalEntry>, Failure> {
        let entries = self.mirror.entries_about(id).await?;
        let is_it = |entry: &FinalEntry| {
            let body = Entry::from_bytes(&entry.bytes).map(|entry| (entry.org, entry.body));
            entry.height > since
                && matches!(body, Ok((org, Body::Custody { step, .. })) if step == wanted && org == self.org)
        };
        Ok(entries.into_iter().map(|(_, entry)| entry).find(is_it))
    }

    pub(crate) async fn procedure(&self, id: Id16, what: &str) -> Result<Procedure, Failure> {
        let found = self.desk.get::<Procedure>(&id.to_hex()).await?.filter(|paper| paper.what == what);
        found.ok_or_else(|| Failure::NotFound(format!("custody/{id}")))
    }

    fn paper(&self, id: Id16, patient: &str, what: &str, reason: &str) -> Procedure {
        Procedure {
            id,
            patient: patient.to_owned(),
            what: what.to_owned(),
            reason: reason.to_owned(),
            done: false,
            entries: Vec::new(),
        }
    }

    /// The ledger lets only organisations take custody that may hold patient keys.
    pub(crate) fn is_custodian(&self) -> Result<(), Failure> {
        let text = "only an organisation that may hold patient keys takes custody of records";
        if may_hold(self.role) { Ok(()) } else { Err(Failure::Conflict(text.to_owned())) }
    }
}

impl Ballot {
    /// Votes of those who are members today.
    fn votes(&self) -> usize {
        self.custody.votes.iter().filter(|org| self.members.contains(org)).count()
    }

    /// More than half of the members agree.
    fn is_carried(&self) -> bool {
        self.votes() * 2 > self.members.len()
    }
}

/// The records that a log's entries commit to.
fn tags(log: &[FinalEntry]) -> Result<BTreeSet<RecordTag>, Failure> {
    let mut tags = BTreeSet::new();
    for entry in log {
        let entry = Entry::from_bytes(&entry.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
        tags.extend(committed(&entry).map(|(tag, _, _)| tag));
    }
    Ok(tags)
}

fn pseudonym_of(entry: &FinalEntry) -> Option<Pseudonym> {
    Entry::from_bytes(&entry.bytes).ok()?.patient
}

pub(crate) fn why(refused: &FinalEntry) -> String {
    Reject::from_code(refused.refused).map_or_else(|| format!("code {}", refused.refused), |reject| reject.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_needs_more_than_half_of_todays_members() {
        let check = |votes: &[&str], members: &[&str], carried: bool| {
            let orgs = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<OrgId>>();
            let org = "mercy".parse().unwrap();
            let custody = state::Custody { org, votes: orgs(votes), step: CustodyStep::RecoverProposed };
            assert_eq!(Ballot { custody, members: orgs(members) }.is_carried(), carried, "{votes:?} of {members:?}");
        };
        check(&[], &["a", "b", "c", "d"], false);
        check(&["a", "b"], &["a", "b", "c", "d"], false);
        check(&["a", "b", "d"], &["a", "b", "c", "d"], true);
        check(&["a", "b", "x"], &["a", "b", "c", "d"], false);
        check(&["a"], &["a"], true);
    }
}

//! Finding events: what became final on the ledger, held against every subscription, in the ledger's order.
//!
//! Events are looked for on the ledger and not in the database, so nobody who runs the database hides one or puts them in another order; and a
//! write that was answered comes there, whatever happens to this process in between.

use crate::{
    facts::Target,
    failure::Failure,
    history::Past,
    mirror::Placed,
    node::Node,
    subscription::{
        kept::{Event, Found, Kept},
        wanted::Wanted,
    },
};
use policy::Action;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use store::Row;

/// Versions that are looked at together.
const STEP_LEN: usize = 200;
/// How long to wait before looking again after a failure of ours.
const RETRY: Duration = Duration::from_millis(500);

/// A subscription that hears of events, and what it asks for.
struct Listening {
    kept: Arc<Kept>,
    wanted: Arc<Wanted>,
}

impl Listening {
    /// Whether a version may be an event, by what the ledger shows of it.
    fn may_take(&self, one: &Placed) -> bool {
        let name = one.named.as_ref().map(|named| named.name.split('/').next().unwrap_or_default());
        // Of other organisations' records whose type the ledger does not show, neither is known yet.
        let rtype = one.version.fhir_type.as_deref().or(name);
        self.is_after(one) && rtype.is_none_or(|rtype| self.wanted.topic.types.contains(&rtype))
    }

    /// Whether a version is a Consent of somebody who is followed: it may end that.
    fn may_end_by(&self, one: &Placed) -> bool {
        let patient = one.named.as_ref().map(|named| named.patient.as_deref().unwrap_or_default());
        one.version.fhir_type.as_deref() == Some("Consent")
            && patient.is_none_or(|patient| self.wanted.patients.iter().any(|followed| followed == patient))
    }

    fn is_after(&self, one: &Placed) -> bool {
        self.kept.from.is_none_or(|from| one.index > from)
    }
}

/// What was found in one step.
#[derive(Default)]
struct Step {
    found: Found,
    /// Subscriptions that are to be decided over again.
    again: BTreeSet<String>,
}

impl Step {
    fn add(&mut self, other: Self) {
        for (id, events) in other.found.events {
            self.found.events.entry(id).or_default().extend(events);
        }
        for (id, count) in other.found.unreadable {
            *self.found.unreadable.entry(id).or_default() += count;
        }
        self.again.extend(other.again);
    }

    fn cannot_read(&mut self, id: &str) {
        *self.found.unreadable.entry(id.to_owned()).or_default() += 1;
    }

    /// The editions of those for which something was found.
    fn editions(&self, listening: &[Listening]) -> BTreeMap<String, u64> {
        let has = |to: &&Listening| {
            self.found.events.contains_key(&to.kept.id) || self.found.unreadable.contains_key(&to.kept.id)
        };
        listening.iter().filter(has).map(|to| (to.kept.id.clone(), to.kept.edition)).collect()
    }
}

/// Whether a failure comes again however often it is tried: of what stands in the database, and not of whether it answers.
fn is_of_content(failure: &Failure) -> bool {
    !matches!(failure, Failure::Busy | Failure::Unreachable | Failure::SpentKey | Failure::Ours(_))
}

/// The place up to which was looked: never before one that was reached, also while the mirror is made again and is behind it.
fn further(place: Option<u64>, through: u64) -> u64 {
    place.map_or(through, |place| place.max(through))
}

impl Node {
    /// Looks for events for ever; a failure of ours is logged and tried again.
    pub(crate) async fn find_events(self) {
        let mut height = self.mirror.watch_height();
        let mut place = None;
        loop {
            height.borrow_and_update();
            let found = self.find_more(&mut place).await;
            self.subscriptions.looking().looked(found.is_ok(), self.now());
            match found {
                Ok(true) => {}
                Ok(false) => {
                    if height.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "events of subscriptions could not be looked for; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One step; says whether there may be more.
    async fn find_more(&self, place: &mut Option<u64>) -> Result<bool, Failure> {
        // Whoever subscribes after this is told of what comes after it: the ledger's end is asked for before those who listen.
        let Some(head) = self.mirror.last_index().await? else { return Ok(false) };
        let listening: Vec<Listening> =
            self.subscriptions.all().into_iter().filter(|kept| kept.is_live()).filter_map(listening).collect();
        if listening.is_empty() {
            // Whoever subscribes hears of what comes after.
            *place = Some(further(*place, head));
            return Ok(false);
        }
        if place.is_none() {
            // What was final before the first of them was written is none of theirs.
            let first = listening.iter().map(|to| to.kept.from).min().flatten();
            *place = self.subscriptions.place().await?.max(first);
        }
        let (mut step, through) = self.mirror.later(*place, head, STEP_LEN).await?;
        let is_further = place.is_none_or(|place| through > place);
        step.retain(|one| listening.iter().any(|to| to.may_take(one) || to.may_end_by(one)));
        if !step.is_empty() {
            let step = self.found_in_all(step, &listening).await?;
            for id in &step.again {
                match self.still(id).await {
                    // It is decided over again before anything is sent.
                    Err(failure) if is_of_content(&failure) => {
                        tracing::warn!(subscription = id, "whether a subscription goes on could not be decided");
                    }
                    other => drop(other?),
                }
            }
            let editions = step.editions(&listening);
            if !self.subscriptions.extend(through, step.found, &editions).await? {
                return Ok(true);
            }
        }
        *place = Some(further(*place, through));
        Ok(is_further)
    }

    /// What there is in a step. A version that the database gives in no form that can be read holds up no other: it is looked for alone.
    async fn found_in_all(&self, step: Vec<Placed>, listening: &[Listening]) -> Result<Step, Failure> {
        match self.found_in(step.clone(), listening).await {
            Err(failure) if is_of_content(&failure) => {
                tracing::warn!("a row of the database cannot be read: versions are looked at one by one");
            }
            found => return found,
        }
        let mut all = Step::default();
        for one in step {
            match self.found_in(vec![one.clone()], listening).await {
                Err(failure) if is_of_content(&failure) => {
                    self.hold_unread_against(&one, listening, &mut all).await?;
                }
                found => all.add(found?),
            }
        }
        Ok(all)
    }

    async fn found_in(&self, mut step: Vec<Placed>, listening: &[Listening]) -> Result<Step, Failure> {
        let rows = self.sound_of_step(&mut step, HashMap::new()).await?;
        let mut found = Step::default();
        for (one, row) in step.iter().zip(rows) {
            let row = match row {
                Some(row) => Some(row),
                None => match one.named.as_ref().and_then(|named| named.name.split_once('/')) {
                    Some((rtype, id)) => match self.restored(rtype, id, one.version.version).await? {
                        Past::Row(row) => Some(*row),
                        Past::Erased => continue,
                        Past::Lost => None,
                    },
                    None => None,
                },
            };
            match row {
                Some(row) => self.hold_against(one, &row, listening, &mut found).await?,
                None => self.hold_unread_against(one, listening, &mut found).await?,
            }
        }
        Ok(found)
    }

    async fn hold_against(
        &self,
        one: &Placed,
        row: &Row,
        listening: &[Listening],
        found: &mut Step,
    ) -> Result<(), Failure> {
        let patient = row.patient.as_ref().or(one.named.as_ref().and_then(|named| named.patient.as_ref()));
        if row.rtype == "Consent" {
            let follows = |to: &&Listening| patient.is_some_and(|patient| to.wanted.patients.contains(patient));
            found.again.extend(listening.iter().filter(follows).map(|to| to.kept.id.clone()));
        }
        // The bytes of a deletion say nothing that a filter could ask for.
        if row.deleted {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        for to in listening.iter().filter(|to| to.is_after(one) && to.wanted.is_about(row) && to.wanted.takes(&value)) {
            let Some(caller) = self.subscriber(&to.kept).await? else { continue };
            match self.decide(&caller, Action::Read, &Target::of(row)).await {
                // What the subscriber may not read is no event: it has no number, and nobody misses it.
                Ok(decided) if !decided.decision.allow => {}
                Ok(_) => {
                    let (rtype, id) = (row.rtype.clone(), row.id.clone());
                    let event = Event { number: 0, rtype, id, version: row.version, time: row.written_at };
                    found.found.events.entry(to.kept.id.clone()).or_default().push(event);
                }
                // What the decision stands on cannot be read. Of a patient whom it names, it is said that something is missing.
                Err(failure) if is_of_content(&failure) => {
                    if patient.is_some_and(|patient| to.wanted.patients.contains(patient)) {
                        found.cannot_read(&to.kept.id);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// A version that nobody can read here is counted for whoever may read its patient's records of the topic.
    async fn hold_unread_against(
        &self,
        one: &Placed,
        listening: &[Listening],
        found: &mut Step,
    ) -> Result<(), Failure> {
        let mut counted = false;
        for to in listening.iter().filter(|to| to.may_take(one)) {
            let patient = match &one.named {
                Some(named) => named.patient.clone().filter(|patient| to.wanted.patients.contains(patient)),
                None => match self.whose(one, &to.wanted.patients).await {
                    Err(failure) if is_of_content(&failure) => None,
                    whose => whose?,
                },
            };
            let (Some(patient), Some(caller)) = (patient, self.subscriber(&to.kept).await?) else { continue };
            let rtype = to.wanted.topic.types[0];
            let (id, patient, author) = (None, Some(patient.as_str()), &one.version.org);
            let target = Target { rtype, id, patient, label: "N", author, value: None };
            let is_missed = match self.decide(&caller, Action::Read, &target).await {
                Ok(decided) => decided.decision.allow,
                Err(failure) if is_of_content(&failure) => true,
                Err(failure) => return Err(failure),
            };
            if is_missed {
                found.cannot_read(&to.kept.id);
                counted = true;
            }
        }
        tracing::warn!(
            counted,
            "a version on the ledger cannot be held against subscriptions: its row is not as the ledger says"
        );
        Ok(())
    }

    /// Which of some patients a version is filed under.
    async fn whose(&self, one: &Placed, patients: &[String]) -> Result<Option<String>, Failure> {
        let Some(filed) = one.version.patient else { return Ok(None) };
        for patient in patients {
            if let Some(key) = self.patient_key(patient).await?
                && self.pseudonyms(&key).contains(&filed)
            {
                return Ok(Some(patient.clone()));
            }
        }
        Ok(None)
    }

    /// Whoever subscribed, as they are now; none when they may not come in any more, which ends the subscription.
    pub(super) async fn subscriber(&self, kept: &Kept) -> Result<Option<crate::Caller>, Failure> {
        let Some(channels) = self.channels.get().cloned() else { return Ok(None) };
        let subscriber = kept.subscriber.clone();
        // Logins and sessions are asked for in files.
        let caller = tokio::task::spawn_blocking(move || channels.caller(&subscriber)).await;
        match caller.map_err(|error| Failure::ours("a subscriber could not be asked for", error))? {
            Ok(caller) => Ok(Some(caller)),
            Err(why) => {
                self.end_subscription(&kept.id, kept.edition, why).await?;
                Ok(None)
            }
        }
    }
}

fn listening(kept: Arc<Kept>) -> Option<Listening> {
    let wanted = kept.wanted().ok()?;
    Some(Listening { kept, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While the mirror was made again, its end was before the stored place: the place went back, and all that had been told was told again.
    #[test]
    fn a_place_that_was_reached_is_never_left_for_an_earlier_one() {
        assert_eq!([further(None, 0), further(Some(1_000), 200), further(Some(1_000), 1_001)], [0, 1_000, 1_001]);
    }

    #[test]
    fn what_comes_again_however_often_it_is_tried_is_told_from_what_passes() {
        let name = || "Observation/o1".to_owned();
        for lasting in [Failure::Tampered(name()), Failure::NotFound(name()), Failure::Gone(name())] {
            assert!(is_of_content(&lasting), "{lasting}");
        }
        for passing in [Failure::Busy, Failure::Unreachable, Failure::Ours("the database cannot be read".to_owned())] {
            assert!(!is_of_content(&passing), "{passing}");
        }
    }
}

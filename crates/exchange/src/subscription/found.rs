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
        kept::{Event, Kept},
        wanted::Wanted,
    },
};
use policy::Action;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use store::Row;

/// Versions that are looked at together.
const STEP_LEN: usize = 200;
/// How long to wait before looking again after a failure of ours.
const RETRY: Duration = Duration::from_millis(500);

/// A subscription that hears of events, and what it asks for.
struct Listening {
    kept: Kept,
    wanted: Wanted,
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
struct Found {
    events: BTreeMap<String, Vec<Event>>,
    unreadable: BTreeMap<String, u64>,
    /// Subscriptions that are to be decided over again.
    again: BTreeSet<String>,
}

impl Node {
    /// Looks for events for ever; a failure of ours is logged and tried again.
    pub(crate) async fn find_events(self) {
        let mut height = self.mirror.watch_height();
        let mut place = None;
        loop {
            height.borrow_and_update();
            match self.find_more(&mut place).await {
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
        let listening: Vec<Listening> =
            self.subscriptions.all().into_iter().filter(Kept::is_live).filter_map(listening).collect();
        if listening.is_empty() {
            // Whoever subscribes hears of what comes after.
            *place = self.mirror.last_index().await?;
            return Ok(false);
        }
        if place.is_none() {
            // What was final before the first of them was written is none of theirs.
            let first = listening.iter().map(|to| to.kept.from).min().flatten();
            *place = self.subscriptions.place().await?.max(first);
        }
        let (mut step, through) = self.mirror.later(*place, STEP_LEN).await?;
        let is_further = through.is_some() && through != *place;
        step.retain(|one| listening.iter().any(|to| to.may_take(one) || to.may_end_by(one)));
        if let Some(through) = through.filter(|_| !step.is_empty()) {
            let found = self.found_in(step, &listening).await?;
            for id in &found.again {
                self.still(id).await?;
            }
            self.subscriptions.extend(through, found.events, found.unreadable).await?;
        }
        *place = through.or(*place);
        Ok(is_further)
    }

    async fn found_in(&self, mut step: Vec<Placed>, listening: &[Listening]) -> Result<Found, Failure> {
        let rows = self.sound_of_step(&mut step, HashMap::new()).await?;
        let mut found = Found::default();
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
        found: &mut Found,
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
            // What the subscriber may not read is no event: it has no number, and nobody misses it.
            if self.decide(&caller, Action::Read, &Target::of(row)).await?.decision.allow {
                let (rtype, id) = (row.rtype.clone(), row.id.clone());
                let event = Event { number: 0, rtype, id, version: row.version, time: row.written_at };
                found.events.entry(to.kept.id.clone()).or_default().push(event);
            }
        }
        Ok(())
    }

    /// A version that nobody can read here is counted for whoever may read its patient's records of the topic.
    async fn hold_unread_against(
        &self,
        one: &Placed,
        listening: &[Listening],
        found: &mut Found,
    ) -> Result<(), Failure> {
        let mut counted = false;
        for to in listening.iter().filter(|to| to.may_take(one)) {
            let patient = match &one.named {
                Some(named) => named.patient.clone().filter(|patient| to.wanted.patients.contains(patient)),
                None => self.whose(one, &to.wanted.patients).await?,
            };
            let (Some(patient), Some(caller)) = (patient, self.subscriber(&to.kept).await?) else { continue };
            let rtype = to.wanted.topic.types[0];
            let (id, patient, author) = (None, Some(patient.as_str()), &one.version.org);
            let target = Target { rtype, id, patient, label: "N", author, value: None };
            if self.decide(&caller, Action::Read, &target).await?.decision.allow {
                *found.unreadable.entry(to.kept.id.clone()).or_default() += 1;
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
        let Some(channels) = self.channels.get() else { return Ok(None) };
        match channels.caller(&kept.subscriber) {
            Ok(caller) => Ok(Some(caller)),
            Err(why) => {
                self.end_subscription(&kept.id, kept.edition, why).await?;
                Ok(None)
            }
        }
    }
}

fn listening(kept: Kept) -> Option<Listening> {
    let wanted = kept.wanted().ok()?;
    Some(Listening { kept, wanted })
}

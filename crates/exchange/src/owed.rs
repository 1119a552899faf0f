//! Steps of overrides and cases that the ledger is owed: on the desk before anything else, written once, tried again until they are.
//!
//! A step has the id of its entry before it is written, so that nobody writes it twice; what is written is brought to the end by the
//! journal. Steps of one paper are written in their order.

use crate::{
    caller::Caller,
    desk::{Case, DeskError, OpenOverride, Paper},
    failure::Failure,
    node::Node,
    subject::Subject,
    write::{Also, Draft, Occasion, Touched, Trail},
};
use contract::{AccessAction, Event};
use record::{Id16, Purpose, Role, TimeMs, fhir::Interaction};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long to wait before a step is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    OverrideOpened,
    OverrideClosed,
    OverrideReviewed { justified: bool, comment: String },
    CaseOpened,
    CaseConcluded,
}

/// A step that is not known to be written, with who took it and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub(crate) step: Step,
    /// Of its entry.
    pub(crate) entry: Id16,
    user: String,
    role: Role,
    purpose: Purpose,
    pub(crate) at: TimeMs,
    request: String,
    address: String,
}

/// A paper with steps.
pub(crate) trait Owing: Paper {
    fn owed(&mut self) -> &mut Vec<Owed>;
    /// What a step is on the ledger.
    fn event<'a>(&'a self, owed: &'a Owed) -> Event<'a>;
    /// What it is in the audit trail, where that has a word of its own.
    fn occasion(&self, _: &Owed) -> Option<Occasion> {
        None
    }
    /// The records that are written with it.
    fn drafts(
        &self,
        node: &Node,
        owed: &Owed,
        subject: &Subject,
    ) -> impl Future<Output = Result<Vec<Draft>, Failure>> + Send;
}

impl Node {
    /// A step that the caller takes now.
    pub(crate) fn owe(&self, caller: &Caller, step: Step, at: TimeMs) -> Result<Owed, Failure> {
        Ok(Owed {
            step,
            entry: self.new_id()?,
            user: caller.user.clone(),
            role: caller.role,
            purpose: caller.purpose,
            at,
            request: caller.request.clone(),
            address: caller.address.clone(),
        })
    }

    /// Changes a paper while nobody else does, and puts it back on the desk.
    pub(crate) async fn change<P: Owing>(
        &self,
        id: &str,
        change: impl FnOnce(&mut P) -> Result<(), Failure>,
    ) -> Result<P, Failure> {
        let _alone = self.papers.lock().await;
        let found = self.desk.get::<P>(id).await?;
        let mut paper = found.ok_or_else(|| Failure::NotFound(format!("{}/{id}", P::KIND)))?;
        change(&mut paper)?;
        self.desk.put(paper.clone()).await?;
        Ok(paper)
    }

    /// Writes the steps that a paper owes, in order, each once.
    pub(crate) async fn pay<P: Owing>(&self, id: &str) -> Result<(), Failure> {
        let _alone = self.papers.lock().await;
        loop {
            let Some(mut paper) = self.desk.get::<P>(id).await? else { return Ok(()) };
            let Some(owed) = paper.owed().first().cloned() else { return Ok(()) };
            if !self.is_written(&owed).await? {
                self.write_step(&paper, &owed).await?;
            }
            paper.owed().remove(0);
            self.desk.put(paper).await?;
        }
    }

    /// Writes what a paper owes, now or later: it stands on the desk, so it will be.
    pub(crate) async fn pay_surely<P: Owing>(&self, id: &str) {
        let Err(error) = self.pay::<P>(id).await else { return };
        tracing::warn!(%error, kind = P::KIND, id, "a step is not written yet; it is tried again");
        let (node, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            let [mut wait, longest] = RETRY;
            loop {
                tokio::time::sleep(wait).await;
                match node.pay::<P>(&id).await {
                    Ok(()) => return tracing::info!(kind = P::KIND, id, "a step was written that failed before"),
                    Err(error) => tracing::warn!(%error, kind = P::KIND, id, "a step is not written yet"),
                }
                wait = (wait * 2).min(longest);
            }
        });
    }

    /// Takes up what the last run of the program left owing.
    pub(crate) async fn resume_owed(&self) -> Result<(), DeskError> {
        for mut paper in self.desk.list::<OpenOverride>(None).await? {
            if !paper.owed().is_empty() {
                self.pay_surely::<OpenOverride>(&Paper::id(&paper)).await;
            }
        }
        for mut paper in self.desk.list::<Case>(None).await? {
            if !paper.owed().is_empty() {
                self.pay_surely::<Case>(&Paper::id(&paper)).await;
            }
        }
        Ok(())
    }

    /// Whether the entry of a step is in the database or on the ledger.
    async fn is_written(&self, owed: &Owed) -> Result<bool, Failure> {
        if self.mirror.entry(owed.entry, &self.org).await?.is_some() {
            return Ok(true);
        }
        let place = self.store.entry(owed.entry).await.map_err(crate::find::search_failure)?;
        Ok(place.is_some_and(|place| place.org == self.org))
    }

    async fn write_step<P: Owing>(&self, paper: &P, owed: &Owed) -> Result<(), Failure> {
        let caller = Caller {
            purpose: owed.purpose,
            request: owed.request.clone(),
            address: owed.address.clone(),
            ..self.machine(&owed.user, owed.role)
        };
        let subject = self.subject(&paper.patient()).await?;
        let drafts = paper.drafts(self, owed, &subject).await?;
        let with_records = !drafts.is_empty();
        let mut gathered = self.gather(&caller, owed.at, drafts)?;
        let author = self.author(&caller, owed.at);
        let also = Also { subject: subject.clone(), event: paper.event(owed) };
        self.also_as(owed.entry, &mut gathered, &author, &also)?;
        let trail = Trail { event: paper.occasion(owed), ..Trail::of(Interaction::Operation, AccessAction::Write) };
        if with_records {
            return self.commit(&caller, owed.at, gathered, Vec::new(), &trail).await;
        }
        self.trail(&mut gathered, &caller, owed.at, &Touched::nothing(&subject), &trail)?;
        self.put(gathered).await
    }
}

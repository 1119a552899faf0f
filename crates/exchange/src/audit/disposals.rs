//! Disposals in an audit: whether all frames were there when they were let go, and whether anything held them.

use super::{Finding, Frames, Kind, Report};
use crate::{
    failure::Failure,
    inventory::{PATIENTS_MAX, shown},
    mirror::{Batches, LetGo},
    node::Node,
};
use contract::{Body, Entry, may_hold, state};
use record::{Id16, Pseudonym};
use std::collections::HashSet;
use store::PAGE_MAX;

impl Node {
    /// Looks at what was let go by entries from an index of the log on and below another.
    pub(super) async fn compare_disposals(&self, report: &mut Report, from: u64, below: u64) -> Result<(), Failure> {
        let mut from = from;
        loop {
            let page = self.mirror.entries(from, Some("disposal".to_owned()), PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.index + 1;
            for place in page.iter().filter(|place| place.refused == 0 && place.index < below) {
                let Ok(Entry { body: Body::Disposal { binding, .. }, .. }) = Entry::from_bytes(&place.bytes) else {
                    continue;
                };
                let batches = self.mirror.batches(binding).await?;
                if let Some(let_go) = batches.let_go().iter().find(|let_go| let_go.index == place.index) {
                    self.compare_disposal(report, binding, &batches, let_go).await?;
                }
            }
        }
    }

    async fn compare_disposal(
        &self,
        report: &mut Report,
        binding: Id16,
        batches: &Batches,
        let_go: &LetGo,
    ) -> Result<(), Failure> {
        report.frames_let_go += let_go.count;
        let named: u64 = batches.of(let_go).iter().map(|batch| u64::from(batch.count)).sum();
        let gone_before = named.saturating_sub(let_go.count);
        let held = if self.was_held(let_go).await? { named } else { 0 };
        for (kind, count) in [(Kind::Removed, gone_before), (Kind::LetGoWhileHeld, held)] {
            if count == 0 {
                continue;
            }
            let known: Option<state::Binding> = self.ledger_value(state::binding_key(&binding)).await?;
            let known = known.ok_or_else(|| Failure::Ours("the ledger's state lacks a binding".to_owned()))?;
            let device = self.device_called(&known.device).await?;
            report.findings.push(Finding {
                kind,
                record: shown(device.as_ref(), &known.device),
                version: 1,
                author: Some(let_go.org.to_string()),
                written_at: Some(let_go.time.to_instant()),
                frames: Some(Frames {
                    count,
                    // Which of them were gone nobody can say any more.
                    counters: vec![(let_go.after.saturating_add(1), let_go.last)],
                    patient: None,
                    binding: Some(binding.to_hex()),
                }),
            });
        }
        Ok(())
    }

    /// Whether an investigation or a hold that was filed under any pseudonym of the patient was open when frames were let go. The contract
    /// sees those of two months; who may not hold patient keys sees no more.
    async fn was_held(&self, let_go: &LetGo) -> Result<bool, Failure> {
        let mut pseudonyms: HashSet<Pseudonym> = let_go.patient.into_iter().chain([let_go.bound]).collect();
        if may_hold(self.role) {
            for patient in self.mirror.patients_under(let_go.bound, PATIENTS_MAX).await? {
                let key = match self.patient_key(&patient).await {
                    // Somebody changed the Patient's row, and the vaults do not answer for it either.
                    Err(Failure::Tampered(_)) => None,
                    other => other?,
                };
                // A record that moved from one patient to another is about who has another key.
                let own = key.map(|key| self.pseudonyms(&key)).unwrap_or_default();
                if own.contains(&let_go.bound) {
                    pseudonyms.extend(own);
                    break;
                }
            }
        }
        Ok(self.mirror.was_held(pseudonyms, let_go.index).await?)
    }
}

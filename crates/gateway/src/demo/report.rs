//! What the demonstration found: the document of `--json`, and the same for people.

use serde::Serialize;

/// The one document that `vitaltrace demo --headless --json` prints.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Whether everything below is as it must be.
    pub(crate) ok: bool,
    /// The scenario's rows.
    pub(crate) steps: Vec<Step>,
    /// The ledger at the end.
    pub(crate) ledger: Ledger,
    /// The attacks on the database.
    pub(crate) attacks: Vec<Attack>,
    /// Rows named by an audit although nothing was wrong with them.
    pub(crate) false_alarms: u64,
    /// What came back after the database was deleted.
    pub(crate) recover: Recover,
    /// The evidence file of the investigation.
    pub(crate) evidence: Evidence,
    /// 99th percentile of the time that a patient summary took, in milliseconds.
    pub(crate) summary_ms_p99: f64,
    /// Bundle entries stored, or found already there by their condition.
    pub(crate) resources_loaded: u64,
}

/// One row of the scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Its number in the scenario.
    pub(crate) row: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether all of it held.
    pub(crate) ok: bool,
    /// Entries that became final during it.
    pub(crate) entries: u64,
    /// How long it took, in milliseconds.
    pub(crate) ms: f64,
    /// What went wrong, if something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// The ledger at the end.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ledger {
    /// Validators.
    pub(crate) validators: u64,
    /// Height of the last final block.
    pub(crate) height: u64,
    /// Final entries.
    pub(crate) entries: u64,
    /// Median time from durable commit to finality, in milliseconds.
    pub(crate) finality_ms_p50: f64,
    /// 99th percentile of it.
    pub(crate) finality_ms_p99: f64,
}

/// One kind of attack.
#[derive(Debug, Serialize)]
pub(crate) struct Attack {
    /// Which.
    pub(crate) kind: &'static str,
    /// How many were made.
    pub(crate) injected: u64,
    /// How many were noticed.
    pub(crate) found: u64,
    /// How many were named with record, version and author.
    pub(crate) named: u64,
}

/// The recovery.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Recover {
    /// Essential records that the ledger knows.
    pub(crate) essential: u64,
    /// Of these, rebuilt.
    pub(crate) restored: u64,
    /// Of these, the same to the byte as before.
    pub(crate) identical: u64,
}

/// The evidence file.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Evidence {
    /// Entries in it.
    pub(crate) entries: u64,
    /// Whether they are proven to be all.
    pub(crate) complete: bool,
    /// Whether it verified.
    pub(crate) verified: bool,
    /// Id of the consortium's genesis document: all that a verifier is told beside the file.
    pub(crate) chain: String,
    /// Records that it shows the current version of, and those that it does not.
    pub(crate) current: u64,
    pub(crate) current_unshown: u64,
    /// Bindings that it shows the device's key of, and batches of frames that it does not.
    pub(crate) devices: u64,
    pub(crate) devices_unshown: u64,
    /// Entries that it shows the place of in the log of all entries.
    pub(crate) placed: u64,
    /// Members that signed that log.
    pub(crate) witnesses: u64,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// How long verifying took, in milliseconds.
    pub(crate) verify_ms: f64,
}

impl Evidence {
    /// Whether it shows all that can be shown, and every member signed.
    fn shows_everything(&self, members: u64) -> bool {
        self.current > 0
            && self.current_unshown == 0
            && self.devices > 0
            && self.devices_unshown == 0
            && self.placed == self.entries
            && self.witnesses == members
    }
}

impl Report {
    /// Sets `ok` from everything else.
    pub(crate) fn conclude(&mut self) {
        self.ok = self.steps.iter().all(|step| step.ok)
            && !self.steps.is_empty()
            && self.attacks.iter().all(|attack| attack.found == attack.injected && attack.named == attack.injected)
            && self.attacks.iter().map(|attack| attack.injected).sum::<u64>() > 0
            && self.false_alarms == 0
            && self.recover.essential > 0
            && self.recover.restored == self.recover.essential
            && self.recover.identical == self.recover.essential
            && self.evidence.verified
            && self.evidence.complete
            && self.evidence.shows_everything(self.ledger.validators);
    }
}

/// The value below which `share` of the sorted `values` lie; 0 of none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let index = (share * last as f64).ceil() as usize;
    values[index.min(last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_demonstration_is_not_a_good_one() {
        let mut report = Report::default();
        report.conclude();
        assert!(!report.ok);
    }

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut values = vec![5.0, 1.0, 3.0];
        assert_eq!(percentile(&mut values, 0.5), 3.0);
        assert_eq!(percentile(&mut values, 0.99), 5.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}

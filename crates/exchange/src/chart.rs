//! The chart that analytics look at: the patient's records that say something to scores and models, as far as they agree with the ledger.
//!
//! Restricted records count for nothing here: a score that was withheld because of one, or that rests on one, would tell of it to people
//! who may not know that it is there.

use crate::{consent::Labelled, failure::Failure, node::Node, row::Worth};
use analytics::{Chart, LOOKED_BACK_MS, Said};
use record::{Commitment, TimeMs, commit, fhir::Confidentiality};
use serde_json::Value;
use store::Row;

/// The most charted Observations that are looked at, the latest.
const OBSERVATIONS_MAX: usize = 1_000;
/// The most records of a chart: a step of a run names them all.
const RECORDS_MAX: usize = 600;

/// A record of the chart, and what the ledger holds of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Charted {
    pub(crate) said: Said,
    pub(crate) commitment: Commitment,
}

impl Charted {
    /// None of a row that is no JSON.
    pub(crate) fn of(row: &Row) -> Option<Self> {
        let record = format!("{}/{}/_history/{}", row.rtype, row.id, row.version);
        let value: Value = serde_json::from_slice(&row.bytes).ok()?;
        Some(Self { said: Said { record, value }, commitment: commit(&row.salt, &row.bytes) })
    }
}

impl Node {
    /// The records of a patient's chart that say something at a time, in the order of their names.
    pub(crate) async fn chart(&self, patient: &str, at: TimeMs) -> Result<Vec<Charted>, Failure> {
        let mut rows = self.current_records(patient, &["Condition"]).await?;
        rows.extend(self.current_row("Patient", patient).await?);
        let since = TimeMs(at.0.saturating_sub(LOOKED_BACK_MS)).to_instant();
        let of_person: Vec<&str> = Chart::person_codes().collect();
        let charted: Vec<&str> = Chart::charted_codes().collect();
        // Results of analytics have the same codes, and are no charts.
        let asked = [
            format!("patient={patient}&derived-from:missing=true&code={}&_sort=-date", of_person.join(",")),
            format!(
                "patient={patient}&derived-from:missing=true&code={}&date=ge{since}&_sort=-date",
                charted.join(",")
            ),
        ];
        for query in asked {
            let mut search = self.condition("Observation", &query)?.search;
            search.count = OBSERVATIONS_MAX;
            let (page, worths) = self.current_page(search).await?;
            rows.extend(page.found.rows.into_iter().zip(worths));
        }
        let mut chart: Vec<Charted> = Vec::new();
        for charted in
            rows.iter().filter(|(row, worth)| counts(row, worth, patient)).filter_map(|(row, _)| Charted::of(row))
        {
            let known = chart.iter().any(|other| other.said.record == charted.said.record);
            if !known && chart.len() < RECORDS_MAX && Chart::takes(&charted.said.value, at) {
                chart.push(charted);
            }
        }
        chart.sort_by(|a, b| a.said.record.cmp(&b.said.record));
        Ok(chart)
    }
}

/// Whether a row may be looked at: good, the patient's own, and not restricted.
pub(crate) fn counts(row: &Row, worth: &Worth, patient: &str) -> bool {
    let own = row.patient.as_deref() == Some(patient) || (row.rtype == "Patient" && row.id == patient);
    own && !row.deleted && worth.may_be_shown() && Labelled::of_row(row) <= Confidentiality::Normal
}

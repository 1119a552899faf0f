//! `Patient/[id]/$everything`: a patient's records with the people, places and substances that they refer to, verified as a set.
//!
//! Source: FHIR R4 `operation-patient-everything.html`. The audit trail is left out unless `_type` names it: it has an entry for every
//! read, and would bury the record.

use crate::{
    boxed,
    caller::Caller,
    consent::reading_once,
    disclose::{Cleared, Remarks, link, shared},
    failure::Failure,
    find::{on_page, pairs, wrong},
    measured::Wanted as Measured,
    node::Node,
    write::Trail,
};
use contract::AccessAction;
use policy::{Action, SHARED_TYPES};
use record::{
    TimeMs,
    fhir::{Found, Interaction, IssueType, RESOURCE_TYPES, SearchMode, SearchSet},
};
use store::{DateRange, IndexValue, PAGE_MAX, Row, extract};

/// The most records of one answer; more are had a page at a time, by `_count`.
const RECORDS_MAX: usize = 10_000;

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    /// None named: all.
    types: Vec<String>,
    since: Option<TimeMs>,
    /// Dates of care.
    from: Option<DateRange>,
    to: Option<DateRange>,
    count: Option<usize>,
    /// Type and id of the last record of the page before.
    after: Option<(String, String)>,
    /// The query without that, for links.
    query: String,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, Failure> {
        let mut wanted = Self::default();
        let mut kept = Vec::new();
        for (parameter, pair) in pairs(query)? {
            let name = parameter.name.as_str();
            let value = parameter.values.first().map(|value| value.text().into_owned()).unwrap_or_default();
            let date = || DateRange::parse(&value).map(Some).ok_or_else(|| wrong(name, "a date such as 2026-01-12"));
            match name {
                "_type" => {
                    let types = parameter.values.iter().map(|value| value.text().into_owned());
                    wanted.types.extend(types);
                    if let Some(unknown) = wanted.types.iter().find(|rtype| !RESOURCE_TYPES.contains(&rtype.as_str())) {
                        let text = format!("`_type`: there is no resource type `{unknown}`");
                        return Err(Failure::invalid(IssueType::Value, "", text));
                    }
                }
                "_since" => {
                    let since = TimeMs::from_instant(&value);
                    wanted.since = Some(since.map_err(|_| wrong(name, "an instant such as 2026-01-12T10:05:00Z"))?);
                }
                "start" => wanted.from = date()?,
                "end" => wanted.to = date()?,
                "_count" => {
                    let count: usize = value.parse().map_err(|_| wrong(name, "a number such as 50"))?;
                    wanted.count = Some(count.clamp(1, PAGE_MAX));
                }
                "_cursor" => {
                    let after = value.split_once('/').map(|(rtype, id)| (rtype.to_owned(), id.to_owned()));
                    wanted.after = Some(after.ok_or_else(|| wrong(name, "the one of a link that was given"))?);
                    continue;
                }
                "_format" | "_pretty" => {}
                _ => {
                    let text =
                        format!("$everything takes `_type`, `_since`, `start`, `end` and `_count`; not `{name}`");
                    return Err(Failure::invalid(IssueType::NotSupported, "", text));
                }
            }
            kept.push(pair);
        }
        wanted.query = kept.join("&");
        Ok(wanted)
    }

    /// Whether a record is asked for, by its type and times. One without a date of care is always.
    fn takes(&self, row: &Row) -> bool {
        let typed = if self.types.is_empty() { row.rtype != "AuditEvent" } else { self.types.contains(&row.rtype) };
        let since = self.since.is_none_or(|since| row.written_at >= since);
        typed && since && self.is_in_period(row)
    }

    fn is_in_period(&self, row: &Row) -> bool {
        if (self.from.is_none() && self.to.is_none()) || row.rtype == "Patient" {
            return true;
        }
        let value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        let dates = extract(&row.rtype, &value).into_iter().filter_map(|of| match of.value {
            IndexValue::Date(range) => Some(range),
            _ => None,
        });
        let dates: Vec<DateRange> = dates.collect();
        let meets = |of: &DateRange| {
            self.from.is_none_or(|from| of.hi_ms > from.lo_ms) && self.to.is_none_or(|to| of.lo_ms < to.hi_ms)
        };
        dates.is_empty() || dates.iter().any(meets)
    }
}

impl Node {
    /// A patient's current records that the caller may see, the Patient first, and what they refer to.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn everything(&self, caller: &Caller, patient: &str, query: &str) -> Result<Vec<u8>, Failure> {
        reading_once(self.all_of(caller, patient, query)).await
    }

    async fn all_of(&self, caller: &Caller, patient: &str, query: &str) -> Result<Vec<u8>, Failure> {
        let wanted = Wanted::read(query)?;
        self.allow_about(caller, Action::Read, patient).await?;
        let (row, _, _) = self.sound_row("Patient", patient, None).await?;
        if row.deleted {
            return Err(Failure::Gone(format!("Patient/{patient}")));
        }
        let types: Vec<&str> = wanted.types.iter().map(String::as_str).collect();
        if types.contains(&"AuditEvent") {
            self.accesses_before("AuditEvent").await?;
        }
        let set = self.patient_set(patient, &types).await?;
        let lost: u64 = set.lost.values().sum();
        let mut withheld = set.withheld;
        let mut rows: Vec<(Row, bool)> = set
            .sound
            .into_iter()
            .map(|sound| (sound.row, sound.pending))
            .filter(|(row, _)| wanted.takes(row))
            .collect();
        let place = |row: &Row| (row.rtype != "Patient", row.rtype.clone(), row.id.clone());
        rows.sort_by_cached_key(|(row, _)| place(row));
        if let Some((rtype, id)) = wanted.after.clone() {
            let after = (rtype != "Patient", rtype, id);
            rows.retain(|(row, _)| place(row) > after);
        }
        let bound = wanted.count.unwrap_or(RECORDS_MAX);
        let mut cleared: Vec<Cleared> = Vec::new();
        let mut next = None;
        for (row, pending) in rows {
            let decided = self.decide_to_show(caller, &row).await?;
            let Some(decided) = decided else { continue };
            if cleared.len() == bound {
                next = cleared.last().map(|last| (last.row.rtype.clone(), last.row.id.clone()));
                break;
            }
            cleared.push(Cleared { row, pending, decided, frame: None });
        }
        if next.is_some() && wanted.count.is_none() {
            let text = format!("the patient has more than {RECORDS_MAX} records: ask for them in pages, by `_count`");
            return Err(Failure::invalid(IssueType::TooCostly, "", text));
        }
        let is_wanted = |rtype: &&str| wanted.types.is_empty() || wanted.types.iter().any(|of| of == rtype);
        let along: Vec<&str> = SHARED_TYPES.into_iter().filter(is_wanted).collect();
        let along = self.referred_by(caller, &cleared, &along).await?;
        withheld += along.withheld;
        let shown: Vec<&Cleared> = cleared.iter().chain(&along.cleared).collect();
        let mut told = shared(shown.into_iter());
        // That there is nothing is an answer too.
        told.entry(Some(patient.to_owned())).or_default();
        let trail = Trail {
            query: Some(format!("Patient/{patient}/$everything?{query}")),
            ..Trail::of(Interaction::Operation, AccessAction::Search)
        };
        self.leave_trails(caller, told, &trail).await?;
        let matches = cleared.into_iter().map(|one| (one, SearchMode::Match));
        let along = along.cleared.into_iter().map(|one| (one, SearchMode::Include));
        let mut entries: Vec<Found> = matches.chain(along).map(|(one, mode)| one.found(caller, mode)).collect();
        // A day of one sensor is more than an answer holds.
        let all = is_wanted(&"Observation").then(|| Measured::all_of(patient));
        let measured_besides = self.is_measured(caller, all.filter(|_| next.is_none())).await?;
        entries.extend(Remarks { withheld, lost, measured_besides, ..Remarks::default() }.found());
        let path = format!("Patient/{patient}/$everything");
        let at = |after: Option<&(String, String)>| {
            let cursor = after.map(|(rtype, id)| format!("{rtype}/{id}"));
            link(caller, &path, &on_page(&wanted.query, cursor))
        };
        let mut links = vec![("self".to_owned(), at(wanted.after.as_ref()))];
        links.extend(next.map(|next| ("next".to_owned(), at(Some(&next)))));
        Ok(SearchSet { total: None, links, entries }.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Id16, PatientKey};

    fn row(rtype: &str, text: &str) -> Row {
        let key = PatientKey::from_bytes([7; 32]);
        Row {
            rtype: rtype.to_owned(),
            id: "1".to_owned(),
            version: 1,
            bytes: text.as_bytes().to_vec(),
            salt: record::Digest([0; 32]),
            tag: record::record_tag(&key, "Observation/1"),
            pseudonym: None,
            patient: Some("p".to_owned()),
            author: "mercy".parse().unwrap(),
            entry: Id16([0; 16]),
            written_at: TimeMs::from_instant("2026-01-12T10:05:00Z").unwrap(),
            deleted: false,
            label: "N".to_owned(),
            gathered: None,
        }
    }

    #[test]
    fn records_are_taken_by_type_by_time_of_writing_and_by_date_of_care() {
        let pulse = row("Observation", r#"{"resourceType":"Observation","effectiveDateTime":"2025-06-01"}"#);
        let allergy = row("AllergyIntolerance", r#"{"resourceType":"AllergyIntolerance"}"#);
        let audit = row("AuditEvent", r#"{"resourceType":"AuditEvent"}"#);
        let cases = [
            ("", [true, true, false]),
            ("_type=AuditEvent,AllergyIntolerance", [false, true, true]),
            ("_since=2026-01-12T10:05:00Z", [true, true, false]),
            ("_since=2026-01-12T10:05:01Z", [false, false, false]),
            ("start=2025-06-01&end=2025-06-01", [true, true, false]),
            ("start=2025-06-02", [false, true, false]),
            ("end=2025-05", [false, true, false]),
        ];
        for (query, expected) in cases {
            let wanted = Wanted::read(query).unwrap();
            assert_eq!([&pulse, &allergy, &audit].map(|row| wanted.takes(row)), expected, "{query}");
        }
        for wrong in ["_type=Zebra", "_since=2026", "start=soon", "_count=x", "_cursor=x", "code=1"] {
            assert!(matches!(Wanted::read(wrong), Err(Failure::Invalid(_))), "{wrong}");
        }
        let paged = Wanted::read("_count=2&_cursor=Observation/1").unwrap();
        assert_eq!((paged.count, paged.query.as_str()), (Some(2), "_count=2"));
        assert_eq!(paged.after, Some(("Observation".to_owned(), "1".to_owned())));
    }
}

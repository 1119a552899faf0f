//! `Observation/$lastn`: the latest observations of each code that a patient has.
//!
//! Source: FHIR R4 `observation-operation-lastn.html`. Observations belong together when they have a coding in common, or no coding and the
//! same text.

use crate::{
    boxed,
    caller::Caller,
    disclose::{Cleared, Remarks, link, shared, sound_of},
    failure::Failure,
    find::{Handling, PAGE_DEFAULT, Show, wrong},
    measured::Wanted,
    node::Node,
};
use policy::Action;
use record::fhir::{Found, IssueType, SearchMode, SearchSet};
use serde_json::Value;
use std::collections::HashMap;
use store::{IndexValue, PAGE_MAX, Row, Search, extract};

/// The most observations that are looked at for one answer.
const EXAMINED_MAX: usize = 20_000;
/// The most of each code that may be asked for.
const EACH_MAX: usize = 100;

/// What was found of each code.
#[derive(Default)]
struct Groups {
    by_coding: HashMap<String, usize>,
    groups: Vec<Vec<Cleared>>,
}

impl Groups {
    /// The group that an observation belongs to, if there is one.
    fn known(&self, observation: &Value) -> Option<usize> {
        names(&observation["code"]).iter().find_map(|name| self.by_coding.get(name).copied())
    }

    /// The group that an observation belongs to, a new one if it is the first.
    fn of(&mut self, observation: &Value) -> usize {
        let group = self.known(observation).unwrap_or_else(|| {
            self.groups.push(Vec::new());
            self.groups.len() - 1
        });
        for name in names(&observation["code"]) {
            self.by_coding.entry(name).or_insert(group);
        }
        group
    }
}

/// What a code is known by: each of its codings, else its text.
fn names(code: &Value) -> Vec<String> {
    let codings = code["coding"].as_array().into_iter().flatten();
    let named = codings.filter_map(|coding| {
        let code = coding["code"].as_str()?;
        Some(format!("{}|{code}", coding["system"].as_str().unwrap_or_default()))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() { vec![code["text"].as_str().unwrap_or_default().to_owned()] } else { named }
}

/// When an observation was made, as milliseconds; those without a time are the oldest.
fn made_at(observation: &Value) -> i64 {
    let dates = extract("Observation", observation).into_iter().filter(|of| of.param == "date");
    let mut ranges = dates.filter_map(|of| if let IndexValue::Date(range) = of.value { Some(range) } else { None });
    ranges.next().map_or(i64::MIN, |range| if range.lo_ms == i64::MIN { range.hi_ms } else { range.lo_ms })
}

impl Node {
    /// The latest `max` observations of each code, of those that match the rest of the query and that the caller may see.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn lastn(&self, caller: &Caller, query: &str, handling: Handling) -> Result<Vec<u8>, Failure> {
        let (own, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("max="));
        let each = own.first().and_then(|pair| pair.strip_prefix("max=")).unwrap_or("1");
        let each = each.parse().ok().filter(|each| (1..=EACH_MAX).contains(each));
        let each: usize = each.ok_or_else(|| wrong("max", &format!("a number from 1 to {EACH_MAX}")))?;
        let asked = self.asked("Observation", &rest.join("&"), handling)?.on_its_own()?;
        if asked.patient.is_none() {
            let text = "$lastn is about one patient: name it by `patient` or `subject`";
            return Err(Failure::invalid(IssueType::Required, "", text));
        }
        self.allow_type(caller, Action::Search, "Observation").await?;
        let criteria = asked.search.criteria.clone();
        let plain = Search { criteria, count: PAGE_DEFAULT, total: false, ..Search::of("Observation") };
        if asked.show != Show::Whole || !asked.includes.is_empty() || asked.search != plain {
            let text = "$lastn takes search parameters of Observation and `max`, and nothing that shapes the answer";
            return Err(Failure::invalid(IssueType::NotSupported, "", text));
        }
        let mut search = Search { count: PAGE_MAX, total: false, ..asked.search.clone() };
        let (mut rows, mut withheld, mut examined) = (Vec::new(), 0, 0);
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            examined += page.found.rows.len() + page.found.malformed.len();
            withheld += page.found.malformed.len() as u64;
            rows.extend(sound_of(page.found.rows, worths, &mut withheld));
            if examined > EXAMINED_MAX {
                let text =
                    format!("more than {EXAMINED_MAX} observations match: narrow the search, such as by `category`");
                return Err(Failure::invalid(IssueType::TooCostly, "", text));
            }
            match page.next {
                Some(next) => search.after = Some(next),
                None => break,
            }
        }
        let lost = self.hidden_matches(&asked, &mut rows).await?;
        // Whose they are is said by their bytes, with which the column was compared; the index may say something else.
        rows.retain(|(row, _)| row.patient == asked.patient);
        let read = |(row, pending): (Row, bool)| {
            let observation: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            (row, pending, observation)
        };
        let mut observations: Vec<_> = rows.into_iter().map(read).collect();
        observations.sort_by_cached_key(|(row, _, observation)| {
            (std::cmp::Reverse(made_at(observation)), std::cmp::Reverse(row.written_at), row.id.clone())
        });
        let mut groups = Groups::default();
        for (row, pending, observation) in observations {
            if groups.known(&observation).is_some_and(|group| groups.groups[group].len() == each) {
                continue;
            }
            // What the caller may not see takes nobody's place, and joins no codes.
            if let Some(decided) = self.decide_to_show(caller, &row).await? {
                let group = groups.of(&observation);
                groups.groups[group].push(Cleared { row, pending, decided, frame: None });
            }
        }
        // They are found by a search, a page of one for each code.
        let measured_besides = self.is_measured(caller, Wanted::of(&asked)).await?;
        let shown: Vec<Cleared> = groups.groups.into_iter().flatten().collect();
        self.trail_of_search(caller, &asked, shared(shown.iter())).await?;
        let total = (withheld + lost == 0).then_some(shown.len() as u64);
        let mut entries: Vec<Found> = shown.into_iter().map(|one| one.found(caller, SearchMode::Match)).collect();
        entries.extend(
            Remarks {
                withheld,
                lost,
                measured_besides,
                ignored: ("Observation", &asked.ignored),
                ..Remarks::default()
            }
            .found(),
        );
        let max = own.first().map_or(String::new(), |pair| format!("{pair}&"));
        let query = format!("{max}{}", asked.understood);
        let links = vec![("self".to_owned(), link(caller, "Observation/$lastn", &query))];
        Ok(SearchSet { total, links, entries }.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn observations_belong_together_by_a_coding_that_they_share_or_by_their_text() {
        let coded = |codes: &[&str]| {
            let codings: Vec<Value> = codes.iter().map(|code| json!({"system": "s", "code": code})).collect();
            json!({"code": {"coding": codings, "text": "any"}})
        };
        let mut groups = Groups::default();
        assert_eq!(groups.of(&coded(&["a", "b"])), 0);
        assert_eq!(groups.of(&coded(&["c"])), 1);
        assert_eq!(groups.of(&coded(&["b", "d"])), 0);
        assert_eq!(groups.of(&coded(&["d"])), 0);
        assert_eq!(groups.of(&json!({"code": {"text": "any"}})), 2);
        assert_eq!(groups.of(&json!({"code": {"text": "any"}})), 2);
        assert_eq!(groups.of(&json!({"code": {"coding": [{"code": "a"}]}})), 3, "of another system");
    }

    #[test]
    fn observations_are_as_old_as_their_time_says() {
        let at = |observation: Value| made_at(&observation);
        let day = at(json!({"effectiveDateTime": "2026-01-02"}));
        assert!(at(json!({"effectiveDateTime": "2026-01-02T00:00:01Z"})) > day);
        assert!(at(json!({"effectivePeriod": {"end": "2026-01-01"}})) <= day);
        assert!(at(json!({"effectivePeriod": {"start": "2026-01-03"}})) > day);
        assert_eq!(at(json!({})), i64::MIN);
    }
}

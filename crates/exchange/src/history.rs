//! Histories, of one record, of a type and of everything, held against the ledger: a version that was taken away is noticed.
//!
//! The history of a type or of everything follows the ledger's order and not the database's, so it begins with what is final: a version
//! stands in it as soon as its entry does, which takes a fraction of a second. That of one record shows what is pending as well.
//! Source: FHIR R4 `http.html#history`.

use crate::{
    caller::Caller,
    disclose::{BASE, Cleared, shared},
    facts::Target,
    failure::Failure,
    find::{search_failure, wrong},
    ingest::check_type,
    mirror::{FinalVersion, Named},
    node::Node,
    write::Trail,
};
use contract::AccessAction;
use futures::{StreamExt, TryStreamExt, stream};
use policy::Action;
use record::{
    TimeMs,
    fhir::{Content, History, Interaction, Issue, IssueType, Outcome, PastVersion, SearchUrl},
};
use std::collections::{BTreeMap, HashMap};
use store::{PAGE_MAX, Row, VersionKey};

/// Versions on a page when the client does not say.
const PAGE_DEFAULT: usize = 50;
/// Looks at the ledger for one page at most; then the page ends, with a link to where it goes on.
const STEPS_MAX: usize = 50;
/// Versions that are looked at together.
const STEP_LEN: usize = 200;
/// Rows that are read side by side.
const READS_AT_ONCE: usize = 16;

/// Which part of a history is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    count: usize,
    since: Option<TimeMs>,
    /// Where the page before ended: a version of the record, or a place on the ledger.
    before: Option<u64>,
    /// The query without that, for links.
    query: String,
}

impl Window {
    fn read(query: &str) -> Result<Self, Failure> {
        let parameters = SearchUrl::parse_query(query).map_err(|e| Failure::Invalid(vec![e.into()]))?;
        let mut window = Self { count: PAGE_DEFAULT, since: None, before: None, query: String::new() };
        let mut kept = Vec::new();
        for (parameter, pair) in parameters.iter().zip(query.split('&').filter(|pair| !pair.is_empty())) {
            let name = parameter.name.as_str();
            let value = parameter.values.first().map(|value| value.text().into_owned()).unwrap_or_default();
            match name {
                "_count" => {
                    let count: usize = value.parse().map_err(|_| wrong(name, "a number such as 50"))?;
                    window.count = count.clamp(1, PAGE_MAX);
                }
                "_since" => {
                    let since = TimeMs::from_instant(&value);
                    window.since = Some(since.map_err(|_| wrong(name, "an instant such as 2026-01-12T10:05:00Z"))?);
                }
                "_cursor" => {
                    let before = value.parse().map_err(|_| wrong(name, "the one of a link that was given"))?;
                    window.before = Some(before);
                    continue;
                }
                "_format" | "_pretty" => {}
                _ => {
                    let text = format!("a history takes `_count` and `_since`; `{name}` is not offered");
                    return Err(Failure::invalid(IssueType::NotSupported, "", text));
                }
            }
            kept.push(pair);
        }
        window.query = kept.join("&");
        Ok(window)
    }

    fn links(&self, path: &str, next: Option<u64>) -> Vec<(String, String)> {
        let at = |cursor: Option<u64>| {
            let cursor = cursor.map(|before| format!("_cursor={before}"));
            let query: Vec<&str> = [Some(self.query.as_str()), cursor.as_deref()]
                .into_iter()
                .flatten()
                .filter(|q| !q.is_empty())
                .collect();
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{BASE}/{path}{mark}{}", query.join("&"))
        };
        let mut links = vec![("self".to_owned(), at(self.before))];
        links.extend(next.map(|next| ("next".to_owned(), at(Some(next)))));
        links
    }
}

impl Node {
    /// The versions of a record, newest first: all that the ledger has, and those that are not final yet.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn history(&self, caller: &Caller, rtype: &str, id: &str, query: &str) -> Result<Vec<u8>, Failure> {
        check_type(rtype)?;
        let window = Window::read(query)?;
        let name = format!("{rtype}/{id}");
        let wanted = window.count + 1;
        let found = self.store.history(rtype, id, window.before, wanted).await.map_err(search_failure)?;
        let tag = match self.mirror.tag(name.clone()).await? {
            Some(tag) => Some(tag),
            None => found.rows.first().map(|row| row.tag),
        };
        let known = match tag {
            Some(tag) => self.mirror.versions_below(tag, window.before, wanted).await?,
            None => Vec::new(),
        };
        if found.rows.is_empty() && known.is_empty() && window.before.is_none() {
            return Err(Failure::NotFound(name));
        }
        let worths = self.weigh(&found.rows).await?;
        self.meters.weighed(&worths);
        let rows = found.rows.into_iter().zip(worths);
        let mut sound: BTreeMap<u64, Row> = rows
            .filter(|(row, worth)| worth.may_be_shown() && Some(row.tag) == tag)
            .map(|(row, _)| (row.version, row))
            .collect();
        let known: BTreeMap<u64, FinalVersion> = known.into_iter().map(|known| (known.version, known)).collect();
        let mut numbers: Vec<u64> = sound.keys().chain(known.keys()).copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        let more = numbers.len() > window.count;
        numbers.truncate(window.count);
        let (mut versions, mut cleared, mut gone) = (Vec::new(), Vec::new(), false);
        for number in &numbers {
            let row = match (sound.remove(number), known.get(number)) {
                (Some(row), _) => Some(row),
                (None, Some(known)) => match self.restored(rtype, id, *number).await? {
                    Past::Row(row) => Some(*row),
                    Past::Erased => {
                        gone = true;
                        continue;
                    }
                    Past::Lost => {
                        let patient = self.mirror.named(known.tag).await?.and_then(|named| named.patient);
                        let target = unseen(rtype, id, patient.as_deref(), known);
                        self.allow(caller, Action::Read, &target).await?;
                        if window.since.is_none_or(|since| known.time >= since) {
                            versions.push(withheld(&name, known));
                        }
                        None
                    }
                },
                (None, None) => None,
            };
            let Some(row) = row else { continue };
            if window.since.is_some_and(|since| row.written_at < since) {
                break;
            }
            // One version that is denied denies the history: gaps in it would tell what was hidden.
            let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
            versions.push(past(&row));
            cleared.push(Cleared { row, pending: false, decided });
        }
        if versions.is_empty() && gone {
            return Err(Failure::Gone(name));
        }
        self.trail_of_history(caller, &cleared, None).await?;
        // Versions count from 1 without gaps.
        let total = numbers.first().copied().filter(|_| window.since.is_none() && window.before.is_none());
        let next = numbers.last().copied().filter(|_| more);
        let links = window.links(&format!("{name}/_history"), next);
        Ok(History { total, links, versions }.to_json())
    }

    /// The versions of all records of a type, or of all types, newest first, of those that the caller may see.
    ///
    /// That of all types leaves the audit trail out: it has an entry for every read, and would bury what was written.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn history_of(&self, caller: &Caller, rtype: Option<&str>, query: &str) -> Result<Vec<u8>, Failure> {
        rtype.map_or(Ok(()), check_type)?;
        let window = Window::read(query)?;
        let (mut versions, mut cleared) = (Vec::new(), Vec::new());
        let (mut next, mut steps, mut unnamed) = (window.before, 0, 0);
        let mut more = true;
        while more && versions.len() < window.count && steps < STEPS_MAX {
            steps += 1;
            let (step, on) = self.mirror.latest(next, rtype.map(str::to_owned), STEP_LEN).await?;
            more = on.is_some();
            let keys = step.iter().map(|one| one.named.as_ref().and_then(|named| key_of(named, one.version.version)));
            let reads = stream::iter(keys.collect::<Vec<_>>()).map(|key| async move {
                match key {
                    Some(key) => self.store.vread(key).await.map_err(search_failure),
                    None => Ok(None),
                }
            });
            let rows: Vec<Option<Row>> = reads.buffered(READS_AT_ONCE).try_collect().await?;
            let sound = self.sound_by_place(rows).await?;
            let mut full = false;
            for (at, one) in step.into_iter().enumerate() {
                if window.since.is_some_and(|since| one.version.time < since) {
                    more = false;
                    break;
                }
                if versions.len() == window.count {
                    // This one begins the next page.
                    (more, full) = (true, true);
                    break;
                }
                next = Some(one.index);
                let Some((of_type, id)) = one.named.as_ref().and_then(|named| named.name.split_once('/')) else {
                    unnamed += 1;
                    continue;
                };
                let row = match sound.get(&at) {
                    Some(row) if row.tag == one.version.tag => Some(row.clone()),
                    _ => match self.restored(of_type, id, one.version.version).await? {
                        Past::Row(row) => Some(*row),
                        Past::Erased => continue,
                        Past::Lost => None,
                    },
                };
                match row {
                    Some(row) => {
                        let decided = self.decide(caller, Action::Read, &Target::of(&row)).await?;
                        if decided.decision.allow {
                            versions.push(past(&row));
                            cleared.push(Cleared { row, pending: false, decided });
                        }
                    }
                    None => {
                        let patient = one.named.as_ref().and_then(|named| named.patient.as_deref());
                        let target = unseen(of_type, id, patient, &one.version);
                        if self.decide(caller, Action::Read, &target).await?.decision.allow {
                            versions.push(withheld(&format!("{of_type}/{id}"), &one.version));
                        }
                    }
                }
            }
            if !full {
                next = on;
            }
        }
        if unnamed > 0 {
            tracing::warn!(unnamed, "the ledger has versions whose rows this gateway never saw");
        }
        self.trail_of_history(caller, &cleared, Some(query)).await?;
        let path = rtype.map_or_else(|| "_history".to_owned(), |rtype| format!("{rtype}/_history"));
        let links = window.links(&path, next.filter(|_| more));
        Ok(History { total: None, links, versions }.to_json())
    }

    /// The rows that agree with the ledger, by their places.
    async fn sound_by_place(&self, rows: Vec<Option<Row>>) -> Result<HashMap<usize, Row>, Failure> {
        let (places, rows): (Vec<usize>, Vec<Row>) =
            rows.into_iter().enumerate().filter_map(|(at, row)| Some((at, row?))).unzip();
        let worths = self.weigh(&rows).await?;
        self.meters.weighed(&worths);
        let weighed = places.into_iter().zip(rows).zip(worths);
        Ok(weighed.filter(|(_, worth)| worth.may_be_shown()).map(|(placed, _)| placed).collect())
    }

    /// A version that the database did not give as the ledger has it: read once more, or from a vault.
    async fn restored(&self, rtype: &str, id: &str, version: u64) -> Result<Past, Failure> {
        match self.sound_row(rtype, id, Some(version)).await {
            Ok((row, _, _)) => Ok(Past::Row(Box::new(row))),
            Err(Failure::Gone(_)) => Ok(Past::Erased),
            Err(Failure::Tampered(_) | Failure::NotFound(_)) => Ok(Past::Lost),
            Err(failure) => Err(failure),
        }
    }

    /// One access entry for each patient whose versions were shown, or one about nobody when none was.
    async fn trail_of_history(&self, caller: &Caller, shown: &[Cleared], query: Option<&str>) -> Result<(), Failure> {
        let mut by_patient = shared(shown.iter());
        if by_patient.is_empty() {
            by_patient.entry(None).or_default();
        }
        for (patient, shared) in by_patient {
            let trail = Trail {
                under: shared.under,
                query: query.map(str::to_owned),
                ..Trail::of(Interaction::History, AccessAction::Read)
            };
            self.leave_trail(caller, patient.as_deref(), &shared.versions, &shared.names, &trail).await?;
        }
        Ok(())
    }
}

/// What became of a version that the ledger has.
enum Past {
    Row(Box<Row>),
    Erased,
    Lost,
}

fn key_of(named: &Named, version: u64) -> Option<VersionKey> {
    let (rtype, id) = named.name.split_once('/')?;
    Some(VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version })
}

/// A version of which only the ledger tells; its label, which nobody can read any more, is taken for normal.
fn unseen<'a>(rtype: &'a str, id: &'a str, patient: Option<&'a str>, known: &'a FinalVersion) -> Target<'a> {
    Target { rtype, id: Some(id), patient, label: "N", author: &known.org, value: None }
}

fn past(row: &Row) -> PastVersion {
    let record = format!("{}/{}", row.rtype, row.id);
    PastVersion {
        full_url: format!("{BASE}/{record}"),
        record,
        version: row.version,
        written: row.written_at,
        content: if row.deleted { Content::Deleted } else { Content::Stored(row.bytes.clone()) },
    }
}

fn withheld(record: &str, known: &FinalVersion) -> PastVersion {
    let text = "the database has not the bytes that the ledger has a commitment to: this version is withheld";
    PastVersion {
        full_url: format!("{BASE}/{record}"),
        record: record.to_owned(),
        version: known.version,
        written: known.time,
        content: Content::Withheld(Outcome::new(Issue::error(IssueType::Security, text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_history_is_read_and_its_links_lead_on() {
        let window = Window::read("_count=2&_since=2026-01-12T10:05:00Z&_cursor=7&_format=json").unwrap();
        assert_eq!((window.count, window.before), (2, Some(7)));
        assert_eq!(window.since, TimeMs::from_instant("2026-01-12T10:05:00Z").ok());
        let links = window.links("Patient/1/_history", Some(5));
        let kept = "/fhir/Patient/1/_history?_count=2&_since=2026-01-12T10:05:00Z&_format=json&_cursor=";
        assert_eq!(links, [("self".to_owned(), format!("{kept}7")), ("next".to_owned(), format!("{kept}5"))]);
        let plain = Window::read("").unwrap();
        assert_eq!(plain.links("_history", None), [("self".to_owned(), "/fhir/_history".to_owned())]);
        assert_eq!(plain.links("_history", Some(3))[1].1, "/fhir/_history?_cursor=3");
        assert_eq!(Window::read("_count=0").unwrap().count, 1);
        for wrong in ["_count=x", "_since=2026", "_cursor=x", "_at=2026", "code=1"] {
            assert!(matches!(Window::read(wrong), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}

//! Histories, of one record, of a type and of everything, held against the ledger: a version that was taken away is noticed.
//!
//! The history of a type or of everything follows the ledger's order and not the database's, so it begins with what is final: a version
//! stands in it as soon as its entry does, which takes a fraction of a second. That of one record shows what is pending as well.
//! Source: FHIR R4 `http.html#history`.

use crate::{
    boxed,
    caller::Caller,
    consent::Labelled,
    disclose::{Shared, link},
    facts::{Decided, Target},
    failure::Failure,
    find::{on_page, pairs, search_failure, wrong},
    ingest::check_type,
    mirror::{FinalAccesses, FinalVersion, Named, Placed},
    node::Node,
    row::{Worth, bytes_hold, opened},
    set::AUDIT_EVENT,
    write::Trail,
};
use contract::{AccessAction, GATHERED_MAX};
use futures::{StreamExt, TryStreamExt, stream};
use policy::Action;
use record::{
    TimeMs, commit,
    fhir::{Confidentiality, Content, History, Interaction, Issue, IssueType, Outcome, PastVersion},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{PAGE_MAX, Row, VersionKey};

/// Versions on a page when the client does not say.
const PAGE_DEFAULT: usize = 50;
/// Looks at the ledger for one page at most; then the page ends, with a link to where it goes on.
const STEPS_MAX: usize = 50;
/// Versions that are looked at together.
const STEP_LEN: usize = 200;
/// Positions of one entry: as many accesses as it may commit to.
const PLACES: u64 = GATHERED_MAX as u64;
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
        let mut window = Self { count: PAGE_DEFAULT, since: None, before: None, query: String::new() };
        let mut kept = Vec::new();
        for (parameter, pair) in pairs(query)? {
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

    /// Whether a version of this time is asked for.
    fn takes(&self, at: TimeMs) -> bool {
        self.since.is_none_or(|since| at >= since)
    }

    fn links(&self, caller: &Caller, path: &str, next: Option<u64>) -> Vec<(String, String)> {
        let at = |cursor: Option<u64>| link(caller, path, &on_page(&self.query, cursor));
        let mut links = vec![("self".to_owned(), at(self.before))];
        links.extend(next.map(|next| ("next".to_owned(), at(Some(next)))));
        links
    }
}

/// What a history tells, and of whom.
#[derive(Default)]
struct Told {
    versions: Vec<PastVersion>,
    by_patient: BTreeMap<Option<String>, Shared>,
}

impl Told {
    fn shows(&mut self, caller: &Caller, row: &Row, patient: Option<String>, decided: &Decided) {
        let of = self.of(patient, decided);
        of.versions.push(commit(&row.salt, &row.bytes));
        of.names.push(format!("{}/{}/_history/{}", row.rtype, row.id, row.version));
        self.versions.push(past(caller, row));
    }

    fn withholds(&mut self, caller: &Caller, unseen: &Unseen<'_>, decided: &Decided) {
        let record = format!("{}/{}", unseen.rtype, unseen.id);
        self.of(unseen.patient.clone(), decided).names.push(format!("{record}/_history/{}", unseen.known.version));
        self.versions.push(withheld(caller, &record, unseen.known));
    }

    fn of(&mut self, patient: Option<String>, decided: &Decided) -> &mut Shared {
        let of = self.by_patient.entry(patient).or_default();
        of.under = decided.under.or(of.under);
        of
    }
}

/// A version of which only the ledger tells.
struct Unseen<'a> {
    rtype: &'a str,
    id: &'a str,
    patient: Option<String>,
    /// That of what is left of the record; normal, when nothing is.
    label: String,
    known: &'a FinalVersion,
}

impl Unseen<'_> {
    fn target(&self) -> Target<'_> {
        Target {
            rtype: self.rtype,
            id: Some(self.id),
            patient: self.patient.as_deref(),
            label: &self.label,
            author: &self.known.org,
            value: None,
        }
    }
}

impl Node {
    /// The versions of a record, newest first: all that the ledger has, and those that are not final yet.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn history(&self, caller: &Caller, rtype: &str, id: &str, query: &str) -> Result<Vec<u8>, Failure> {
        self.accesses_before(rtype).await?;
        check_type(rtype)?;
        let window = Window::read(query)?;
        let name = format!("{rtype}/{id}");
        let wanted = window.count + 1;
        let found = self.store.history(rtype, id, window.before, wanted).await.map_err(search_failure)?;
        let worths = self.weigh(&found.rows).await?;
        self.meters.weighed(&worths);
        let any_row = !found.rows.is_empty();
        let weighed = found.rows.into_iter().zip(worths).filter(|(_, worth)| worth.may_be_shown());
        let mut sound: BTreeMap<u64, Row> = weighed.map(|(row, _)| (row.version, row)).collect();
        // What the ledger calls the record, or a row that agrees with it; never what the database says alone.
        let tag = match self.mirror.tag(name.clone()).await? {
            Some(tag) => tag,
            None => match sound.values().next_back() {
                Some(row) => row.tag,
                None if any_row => return Err(Failure::Tampered(name)),
                None => return Err(Failure::NotFound(name)),
            },
        };
        sound.retain(|_, row| row.tag == tag);
        let known = self.mirror.versions_below(tag, window.before, wanted).await?;
        let known: BTreeMap<u64, FinalVersion> = known.into_iter().map(|known| (known.version, known)).collect();
        let numbers: BTreeSet<u64> = sound.keys().chain(known.keys()).copied().collect();
        let mut numbers: Vec<u64> = numbers.into_iter().rev().collect();
        let mut more = numbers.len() > window.count;
        numbers.truncate(window.count);
        // An audit event that was seen here, of an entry that commits to several: nothing else tells of it now.
        if numbers.is_empty() && tag.is_audit() && window.before.is_none_or(|before| before > 1) {
            return Err(self.vanished(caller, name, tag).await?);
        }
        // The bytes of a deletion say of nobody whom it was about: what was learnt of the record does, or another version.
        let named = self.mirror.named(tag).await?.and_then(|named| named.patient);
        let whole = sound.values().rfind(|row| !row.deleted);
        let named = named.or_else(|| whole.and_then(|row| row.patient.clone()));
        let label = strictest(sound.values());
        let (mut told, mut gone) = (Told::default(), false);
        for number in &numbers {
            let row = match (sound.remove(number), known.get(number)) {
                (Some(row), _) => Past::Row(Box::new(row)),
                (None, Some(_)) => self.restored(rtype, id, *number).await?,
                (None, None) => continue,
            };
            // One version that is denied denies the page: gaps in it would tell what was hidden. Decided before the time is looked at,
            // which would tell it as well.
            match (row, known.get(number)) {
                (Past::Row(row), _) => {
                    if row.deleted && row.pseudonym.is_some() && named.is_none() {
                        return Err(Failure::Tampered(name));
                    }
                    let patient = if row.deleted { named.clone() } else { row.patient.clone() };
                    let target = Target { patient: patient.as_deref(), ..Target::of(&row) };
                    let decided = self.allow(caller, Action::Read, &target).await?;
                    match window.takes(row.written_at) {
                        true => told.shows(caller, &row, patient, &decided),
                        false => more = false,
                    }
                }
                (Past::Lost, Some(known)) => {
                    if known.patient.is_some() && named.is_none() {
                        return Err(Failure::Tampered(name));
                    }
                    let unseen = Unseen { rtype, id, patient: named.clone(), label: label.clone(), known };
                    let decided = self.allow(caller, Action::Read, &unseen.target()).await?;
                    match window.takes(known.time) {
                        true => told.withholds(caller, &unseen, &decided),
                        false => more = false,
                    }
                }
                (Past::Erased, _) => gone = true,
                (Past::Lost, None) => {}
            }
        }
        if told.versions.is_empty() && gone {
            return Err(Failure::Gone(name));
        }
        if told.by_patient.is_empty() {
            told.by_patient.entry(named).or_default().names.push(name.clone());
        }
        let path = format!("{name}/_history");
        self.trail_of_history(caller, told.by_patient, &format!("{path}?{query}")).await?;
        // Versions count from 1 without gaps.
        let total = numbers.first().copied().filter(|_| window.since.is_none() && window.before.is_none());
        let next = numbers.last().copied().filter(|_| more);
        Ok(History { total, links: window.links(caller, &path, next), versions: told.versions }.to_json())
    }

    /// The versions of all records of a type, or of all types, newest first, of those that the caller may see.
    ///
    /// That of all types leaves the audit trail out: it has an entry for every read, and would bury what was written.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn history_of(&self, caller: &Caller, rtype: Option<&str>, query: &str) -> Result<Vec<u8>, Failure> {
        self.accesses_before(rtype.unwrap_or_default()).await?;
        if let Some(rtype) = rtype {
            check_type(rtype)?;
            self.allow_type(caller, Action::Read, rtype).await?;
        }
        let window = Window::read(query)?;
        let mut told = Told::default();
        let (mut next, mut more, mut steps, mut unnamed) = (window.before, true, 0, 0);
        while more && told.versions.len() < window.count && steps < STEPS_MAX {
            steps += 1;
            let (mut step, held, on) = self.step_of(next, rtype).await?;
            let sound = self.sound_of_step(&mut step, held).await?;
            let before_this = next;
            (next, more) = (on, on.is_some());
            let mut last = before_this;
            for (one, row) in step.iter().zip(sound) {
                if !window.takes(one.version.time) {
                    more = false;
                    break;
                }
                if told.versions.len() == window.count {
                    // This one begins the next page.
                    (next, more) = (last, true);
                    break;
                }
                last = Some(position(one));
                match row {
                    Some(row) if rtype.is_none_or(|rtype| row.rtype == rtype) => {
                        unnamed += self.tell_row(caller, one, &row, &mut told).await?;
                    }
                    Some(_) => {}
                    None => unnamed += self.tell_unseen(caller, one, &mut told).await?,
                }
            }
        }
        if unnamed > 0 {
            tracing::warn!(unnamed, "the ledger has versions whose rows this gateway never saw");
        }
        let path = rtype.map_or_else(|| "_history".to_owned(), |rtype| format!("{rtype}/_history"));
        if told.by_patient.is_empty() {
            told.by_patient.entry(None).or_default();
        }
        self.trail_of_history(caller, told.by_patient, &format!("{path}?{query}")).await?;
        let links = window.links(caller, &path, next.filter(|_| more));
        Ok(History { total: None, links, versions: told.versions }.to_json())
    }

    /// The next versions below a position, the latest first; rows that were read for it, by their positions; and the position that they end
    /// at, if there is more.
    async fn step_of(
        &self,
        before: Option<u64>,
        rtype: Option<&str>,
    ) -> Result<(Vec<Placed>, HashMap<u64, Row>, Option<u64>), Failure> {
        let below = before.map(|before| before.div_ceil(PLACES));
        let (mut step, next) = self.mirror.latest(below, rtype.map(str::to_owned), STEP_LEN).await?;
        let (mut from, mut held) = (next.unwrap_or_default(), HashMap::new());
        if rtype == Some(AUDIT_EVENT) {
            let sets = self.mirror.gathered_latest(from, below.unwrap_or(u64::MAX), STEP_LEN).await?;
            let all = sets.len();
            for (looked, accesses) in (1..).zip(sets) {
                for (placed, row) in self.placed(&accesses).await? {
                    held.insert(position(&placed), row);
                    step.push(placed);
                }
                if held.len() >= STEP_LEN || (looked == all && all == STEP_LEN) {
                    from = accesses.index;
                    break;
                }
            }
        }
        step.retain(|one| one.index >= from && before.is_none_or(|before| position(one) < before));
        step.sort_by_key(|one| std::cmp::Reverse(position(one)));
        Ok((step, held, (from > 0).then_some(from.saturating_mul(PLACES))))
    }

    /// The audit events of an entry that commits to several, as far as rows open them. An audit tells of those that are missing.
    async fn placed(&self, accesses: &FinalAccesses) -> Result<Vec<(Placed, Row)>, Failure> {
        let Some(entry) = self.mirror.entry(accesses.entry, &accesses.org).await? else { return Ok(Vec::new()) };
        let rows = self.store.gathered(accesses.entry).await.map_err(search_failure)?.rows;
        let mut placed = BTreeMap::new();
        for row in rows {
            if let Some((place, version)) = opened(&row, &entry)
                && bytes_hold(&row, &version)
            {
                let named = Some(Named::of(&row));
                placed.entry(place).or_insert((Placed { index: accesses.index, place, version, named }, row));
            }
        }
        Ok(placed.into_values().collect())
    }

    /// Tells of a version; counts a deletion of which nobody can say whom it was about, as its bytes do not.
    async fn tell_row(&self, caller: &Caller, one: &Placed, row: &Row, told: &mut Told) -> Result<u64, Failure> {
        let named = || one.named.as_ref().and_then(|named| named.patient.clone());
        let patient = if row.deleted { named() } else { row.patient.clone() };
        if row.deleted && one.version.patient.is_some() && patient.is_none() {
            return Ok(1);
        }
        let target = Target { patient: patient.as_deref(), ..Target::of(row) };
        let decided = self.decide(caller, Action::Read, &target).await?;
        if decided.decision.allow {
            told.shows(caller, row, patient, &decided);
        }
        Ok(0)
    }

    /// Tells of a version that the database did not give as the ledger has it; counts one of which nobody can say what it is called.
    async fn tell_unseen(&self, caller: &Caller, one: &Placed, told: &mut Told) -> Result<u64, Failure> {
        let named = one.named.as_ref();
        let Some((rtype, id)) = named.and_then(|named| named.name.split_once('/')) else { return Ok(1) };
        let patient = named.and_then(|named| named.patient.clone());
        if one.version.patient.is_some() && patient.is_none() {
            return Ok(1);
        }
        match self.restored(rtype, id, one.version.version).await? {
            Past::Row(row) => return self.tell_row(caller, one, &row, told).await,
            Past::Erased => {}
            Past::Lost => {
                let left = self.current_row(rtype, id).await?.filter(|(_, worth)| worth.may_be_shown());
                let label = strictest(left.iter().map(|(row, _)| row));
                let unseen = Unseen { rtype, id, patient, label, known: &one.version };
                let decided = self.decide(caller, Action::Read, &unseen.target()).await?;
                if decided.decision.allow {
                    told.withholds(caller, &unseen, &decided);
                }
            }
        }
        Ok(0)
    }

    /// The rows of versions of the ledger that agree with it. What a record is called, which other organisations wrote, is learnt
    /// from them; of a deletion, which does not say whom it is about, from the version before. Rows that are `held` are not read again.
    pub(crate) async fn sound_of_step(
        &self,
        step: &mut [Placed],
        mut held: HashMap<u64, Row>,
    ) -> Result<Vec<Option<Row>>, Failure> {
        let asked =
            |one: &Placed| (held.remove(&position(one)), one.named.clone(), one.version.entry, one.version.version);
        let asked: Vec<_> = step.iter().map(asked).collect();
        let reads = stream::iter(asked).map(|(held, named, entry, version)| async move {
            if held.is_some() {
                return Ok(held);
            }
            let key = match named {
                Some(named) => key_of(&named, version),
                // Where the database says that the entry's record is: believed as far as the row agrees with the ledger.
                None => self.store.entry(entry).await.map_err(search_failure)?.and_then(|place| place.record),
            };
            match key {
                Some(key) => self.store.vread(key).await.map_err(search_failure),
                None => Ok(None),
            }
        });
        let mut rows: Vec<Option<Row>> = reads.buffered(READS_AT_ONCE).try_collect().await?;
        let mut worths = self.weigh(&rows.iter().flatten().cloned().collect::<Vec<_>>()).await?.into_iter();
        let mut learnt = HashMap::new();
        for (one, row) in step.iter().zip(&mut rows) {
            let Some(found) = row else { continue };
            let good = worths.next().is_some_and(|worth| matches!(worth, Worth::Good(_)));
            if !good || found.tag != one.version.tag || found.version != one.version.version {
                *row = None;
            } else if one.named.is_none() && !found.deleted {
                learnt.insert(found.tag, Named::of(found));
            }
        }
        for (one, row) in step.iter().zip(&rows) {
            if let Some(deletion) = row.as_ref().filter(|row| row.deleted && one.named.is_none())
                && !learnt.contains_key(&deletion.tag)
                && let Some(named) = self.named_before(deletion).await?
            {
                learnt.insert(deletion.tag, named);
            }
        }
        for one in step.iter_mut().filter(|one| one.named.is_none()) {
            one.named = learnt.get(&one.version.tag).cloned();
        }
        if !learnt.is_empty() {
            self.mirror.learn_names(learnt.into_values().collect()).await?;
        }
        Ok(rows)
    }

    /// What a record is called by the version before its deletion, if that agrees with the ledger.
    async fn named_before(&self, deletion: &Row) -> Result<Option<Named>, Failure> {
        let version = deletion.version.saturating_sub(1);
        let key = VersionKey { rtype: deletion.rtype.clone(), id: deletion.id.clone(), version };
        let Some(before) = self.store.vread(key).await.map_err(search_failure)? else { return Ok(None) };
        let worths = self.weigh(std::slice::from_ref(&before)).await?;
        let good = worths.iter().all(|worth| matches!(worth, Worth::Good(_)));
        Ok((good && before.tag == deletion.tag && !before.deleted).then(|| Named::of(&before)))
    }

    /// A version that the database did not give as the ledger has it: read once more, or from a vault.
    pub(crate) async fn restored(&self, rtype: &str, id: &str, version: u64) -> Result<Past, Failure> {
        match self.sound_row(rtype, id, Some(version)).await {
            Ok((row, _, _)) => Ok(Past::Row(Box::new(row))),
            Err(Failure::Gone(_)) => Ok(Past::Erased),
            Err(Failure::Tampered(_) | Failure::NotFound(_)) => Ok(Past::Lost),
            Err(failure) => Err(failure),
        }
    }

    /// One access entry for each patient of whom something was told.
    async fn trail_of_history(
        &self,
        caller: &Caller,
        by_patient: BTreeMap<Option<String>, Shared>,
        query: &str,
    ) -> Result<(), Failure> {
        let trail = Trail { query: Some(query.to_owned()), ..Trail::of(Interaction::History, AccessAction::Read) };
        self.leave_trails(caller, by_patient, &trail).await
    }
}

/// Where a version stands among all, for links to the next page.
fn position(one: &Placed) -> u64 {
    one.index.saturating_mul(PLACES).saturating_add(u64::from(one.place))
}

/// What became of a version that the ledger has.
pub(crate) enum Past {
    Row(Box<Row>),
    Erased,
    Lost,
}

fn key_of(named: &Named, version: u64) -> Option<VersionKey> {
    let (rtype, id) = named.name.split_once('/')?;
    Some(VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version })
}

/// The most confidential label of some rows; normal, when there are none.
fn strictest<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    rows.map(Labelled::of_row).max().unwrap_or(Confidentiality::Normal).code().to_owned()
}

fn past(caller: &Caller, row: &Row) -> PastVersion {
    let record = format!("{}/{}", row.rtype, row.id);
    PastVersion {
        full_url: format!("{}/{record}", caller.base),
        record,
        version: row.version,
        written: row.written_at,
        content: if row.deleted { Content::Deleted } else { Content::Stored(row.bytes.clone()) },
    }
}

fn withheld(caller: &Caller, record: &str, known: &FinalVersion) -> PastVersion {
    let text = "the database has not the bytes that the ledger has a commitment to: this version is withheld";
    PastVersion {
        full_url: format!("{}/{record}", caller.base),
        record: record.to_owned(),
        version: known.version,
        written: known.time,
        // A deletion has nothing that could be withheld.
        content: match known.deleted {
            true => Content::Deleted,
            false => Content::Withheld(Outcome::new(Issue::error(IssueType::Security, text))),
        },
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
        let kept = "_count=2&_since=2026-01-12T10:05:00Z&_format=json";
        assert_eq!((window.query.as_str(), on_page(&window.query, Some(5))), (kept, format!("{kept}&_cursor=5")));
        let plain = Window::read("").unwrap();
        assert_eq!(on_page(&plain.query, None::<u64>), "");
        assert_eq!(on_page(&plain.query, Some(3)), "_cursor=3");
        assert_eq!(Window::read("_count=0").unwrap().count, 1);
        for wrong in ["_count=x", "_since=2026", "_cursor=x", "_at=2026", "code=1"] {
            assert!(matches!(Window::read(wrong), Err(Failure::Invalid(_))), "{wrong}");
        }
    }
}

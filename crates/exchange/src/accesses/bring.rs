//! From the file to the database: accesses that wait, written together.

use super::{Access, First, PUT_BYTES_MAX, PUT_LEN_MAX, Request, SET_BYTES_MAX, SET_LEN_MAX};
use crate::{failure::Failure, members::News, mirror::Named, node::Node, row::access_in};
use contract::{Entry, GATHERED_MS_MAX, gather, may_be_gathered};
use record::{Digest, Id16, Pseudonym, Purpose};
use std::{collections::HashMap, sync::Arc, time::Duration};
use store::{NewEntry, NewVersion, Put, ReadError, Removal, Row};

/// How long to wait after the database did not take it.
const RETRY: Duration = Duration::from_millis(500);

impl Node {
    /// Brings accesses to the database, for ever.
    pub(crate) async fn write_accesses(self) {
        loop {
            self.accesses.due().await;
            let first = self.accesses.first();
            match self.put_accesses(&first.accesses, first.unsure).await {
                Ok(()) => self.accesses.done(first.last()),
                Err(error) => {
                    tracing::warn!(%error, "accesses wait, as the database does not take them now");
                    self.accesses.unsure(first.last());
                    if is_lasting(&error) {
                        self.put_one_by_one(&first).await;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Finds the one that holds up the others and sets it aside.
    async fn put_one_by_one(&self, first: &First) {
        for (&number, access) in first.numbers.iter().zip(&first.accesses) {
            match self.put_accesses(std::slice::from_ref(access), true).await {
                Ok(()) => self.accesses.done(number),
                Err(error) if is_lasting(&error) => {
                    tracing::error!(%error, entry = %access.entry.id, "an access can never be written and is set aside");
                    if self.accesses.ask(|answer| Request::SetAside(number, answer)).await.is_none() {
                        return;
                    }
                    self.accesses.done(number);
                }
                Err(_) => return,
            }
        }
    }

    /// Writes accesses; when it is not sure whether the database has them already, those that it has not.
    async fn put_accesses(&self, accesses: &[Arc<Access>], unsure: bool) -> Result<(), Failure> {
        // An erasure comes before or after, and not between the look and the write.
        let _writing = self.accesses.shared.writing.lock().await;
        let (mut left, mut removals) = (Vec::with_capacity(accesses.len()), Vec::new());
        for access in accesses {
            if unsure {
                match self.found(access).await? {
                    Standing::Written => continue,
                    Standing::Missing => {}
                    Standing::Taken(removal) => {
                        tracing::error!(entry = %access.entry.id, "a row that nobody of ours wrote stands in the place of an audit event");
                        removals.push(removal);
                    }
                }
            }
            left.push(Access::clone(access));
        }
        let erased = self.mirror.erased().await?;
        let is_erased = |access: &Access| {
            access.new.row.pseudonym.is_some_and(|pseudonym| erased.patients().any(|of| *of == pseudonym))
        };
        // Of a patient who was erased meanwhile the ledger is told that there was an access, each by its own id, by which it is found when
        // this is tried again; no row names anybody.
        let (nameless, left): (Vec<_>, Vec<_>) = left.into_iter().partition(is_erased);
        let nameless = nameless.into_iter().map(|access| Set { entry: access.entry, records: Vec::new() });
        let gathered = sets(left, || self.new_id())?;
        let (mut put, mut put_bytes) = (Put { removals, ..Put::default() }, 0);
        for Set { entry, mut records } in nameless.chain(gathered) {
            let bytes = records.iter().map(|new| new.row.bytes.len()).sum::<usize>();
            let full = put.records.len() + records.len() > PUT_LEN_MAX
                || put.entries.len() == PUT_LEN_MAX
                || put_bytes + bytes > PUT_BYTES_MAX;
            if !put.entries.is_empty() && full {
                self.put_sets(std::mem::take(&mut put)).await?;
                put_bytes = 0;
            }
            put_bytes += bytes;
            let record = records.first().filter(|_| records.len() == 1).map(|new| new.row.key());
            put.entries.push(NewEntry { record, ..entry });
            put.records.append(&mut records);
        }
        if put.entries.is_empty() { Ok(()) } else { self.put_sets(put).await }
    }

    async fn put_sets(&self, put: Put) -> Result<(), Failure> {
        let names = put.records.iter().map(|new| Named::of(&new.row)).collect();
        self.keep(put).await?;
        if let Err(error) = self.mirror.learn_names(names).await {
            tracing::warn!(%error, "names of records could not be remembered");
        }
        Ok(())
    }

    /// What the database has in the place of an access. It is not believed: the ledger has the entry, or a submission that we signed
    /// carries it, beside the very row.
    async fn found(&self, access: &Access) -> Result<Standing, Failure> {
        let row = &access.new.row;
        if self.mirror.entry(row.entry, &row.author).await?.is_some() {
            return Ok(Standing::Written);
        }
        let key = row.key();
        match self.store.vread(key.clone()).await {
            Ok(None) => Ok(Standing::Missing),
            Ok(Some(found)) => {
                if found.gathered.is_some() && self.is_gathered(access, &found).await? {
                    return Ok(Standing::Written);
                }
                let same = Row { entry: row.entry, gathered: None, ..found.clone() } == *row;
                let ours = same && self.signed_entry(&found, &mut News::default()).await?.is_some();
                Ok(if ours { Standing::Written } else { Standing::Taken(Removal::Version(key)) })
            }
            Err(ReadError::Malformed(malformed)) => Ok(Standing::Taken(Removal::Place(malformed.place))),
            Err(error) => Err(crate::find::search_failure(error)),
        }
    }

    /// Whether the ledger has the entry that a row says its access was gathered in, and that commits to this access.
    async fn is_gathered(&self, access: &Access, found: &Row) -> Result<bool, Failure> {
        let entry = self.mirror.entry(found.entry, &access.new.row.author).await?;
        let entry = entry.and_then(|entry| Entry::from_bytes(&entry.bytes).ok());
        Ok(entry.and_then(|entry| access_in(&entry, found)).is_some_and(|one| one.id == access.entry.id))
    }

    /// While this is held no access is written: an erasure finds all that were, and those that come later know of it.
    pub(crate) async fn pause_accesses(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.accesses.shared.writing.lock().await
    }
}

/// An entry of one access or several, with their audit events.
struct Set {
    entry: NewEntry,
    records: Vec<NewVersion>,
}

/// Puts together what one person did to one patient's records within a second; what may not be gathered, or is alone, keeps its own entry.
/// The derivation policy allows whole seconds, of which the ledger takes one.
fn sets(accesses: Vec<Access>, mut new_id: impl FnMut() -> Result<Id16, Failure>) -> Result<Vec<Set>, Failure> {
    let mut groups: Vec<Vec<Access>> = Vec::new();
    // The group of each kind that is still open.
    let mut open: HashMap<(Option<Pseudonym>, Digest, Purpose, Digest), usize> = HashMap::new();
    for access in accesses {
        let entry = &access.says;
        let kind = (entry.patient, entry.actor, entry.purpose, entry.policy);
        let may = may_be_gathered(entry);
        let group = open.get(&kind).copied().filter(|group| may && takes(&groups[*group], &access));
        match group {
            Some(group) => groups[group].push(access),
            None => {
                if may {
                    open.insert(kind, groups.len());
                }
                groups.push(vec![access]);
            }
        }
    }
    groups.into_iter().map(|group| set(group, &mut new_id)).collect()
}

/// Whether an access is of the same second as those of a group, and has room there with its audit event.
fn takes(group: &[Access], access: &Access) -> bool {
    let all = || group.iter().chain([access]);
    let (first, last) =
        all().map(|one| one.says.time.0).fold((u64::MAX, 0), |(first, last), time| (first.min(time), last.max(time)));
    let bytes = all().map(|one| one.new.row.bytes.len()).sum::<usize>();
    group.len() < SET_LEN_MAX && bytes <= SET_BYTES_MAX && last - first <= u64::from(GATHERED_MS_MAX)
}

fn set(mut group: Vec<Access>, new_id: &mut impl FnMut() -> Result<Id16, Failure>) -> Result<Set, Failure> {
    if let [_] = group.as_slice() {
        let alone = group.into_iter().map(|Access { new, entry, .. }| Set { entry, records: vec![new] }).next();
        return alone.ok_or_else(|| Failure::Ours("a group of accesses is empty".to_owned()));
    }
    // Those of one millisecond keep the order in which they were noted.
    group.sort_by_key(|access| access.says.time);
    let (entries, records): (Vec<Entry>, Vec<NewVersion>) =
        group.into_iter().map(|Access { new, says, .. }| (says, new)).unzip();
    let id = new_id()?;
    let gathered = gather(id, &entries);
    let (entry, opened) = gathered.ok_or_else(|| Failure::Ours("accesses could not be gathered".to_owned()))?;
    let records = records.into_iter().zip(opened).map(|(new, opened)| NewVersion {
        row: Row { entry: id, gathered: Some(opened.to_bytes()), ..new.row },
        ..new
    });
    Ok(Set { entry: NewEntry { id, bytes: entry.to_bytes(), record: None }, records: records.collect() })
}

/// What the database has in the place of an access.
enum Standing {
    Written,
    Missing,
    /// A row that is not ours.
    Taken(Removal),
}

/// Whether trying again changes nothing.
fn is_lasting(error: &Failure) -> bool {
    matches!(error, Failure::Invalid(_) | Failure::TooLarge(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use contract::{Body, Gathered};
    use record::{OrgId, RecordTag, TimeMs, sha256};

    /// An access of somebody to a patient's records, so many milliseconds after the first.
    fn access(n: u8, actor: u8, patient: u8, ms: u64) -> Access {
        let org: OrgId = "mercy".parse().unwrap();
        let id = format!("event-{n}");
        let bytes = format!(r#"{{"resourceType":"AuditEvent","id":"{id}"}}"#).into_bytes();
        let salt = sha256(&[b"salt", &[n]]);
        let mut entry = sample::access(&org, Id16([n; 16]), RecordTag(sha256(&[&[n]])).of_audit(&org), &bytes);
        if let Body::Access { commitment, .. } = &mut entry.body {
            *commitment = record::commit(&salt, &bytes);
        }
        entry.patient = Some(Pseudonym(sha256(&[b"patient", &[patient]])));
        entry.actor = sha256(&[b"actor", &[actor]]);
        entry.time = TimeMs(1_000_000 + ms);
        Access::read(id, Some(format!("p{patient}")), salt, &entry.to_bytes(), bytes).unwrap()
    }

    fn gathered(accesses: Vec<Access>) -> Vec<Set> {
        let mut ids = 100u8..;
        sets(accesses, || Ok(Id16([ids.next().unwrap(); 16]))).unwrap()
    }

    fn kinds(sets: &[Set]) -> Vec<(&'static str, Vec<&str>)> {
        let kind = |set: &Set| Entry::from_bytes(&set.entry.bytes).unwrap().kind();
        let ids = |set: &Set| set.records.iter().map(|new| new.row.id.clone()).collect::<Vec<_>>();
        sets.iter().map(|set| (kind(set), ids(set).into_iter().map(|id| &*id.leak()).collect())).collect()
    }

    #[test]
    fn what_one_person_did_to_one_patients_records_within_a_second_is_one_entry_and_each_row_opens_it() {
        let sets = gathered(vec![
            access(1, 1, 1, 0),
            access(2, 2, 1, 0),
            access(3, 1, 1, 900),
            access(4, 1, 2, 900),
            access(5, 1, 1, 400),
            access(6, 1, 1, 1_001),
            access(7, 1, 1, 1_002),
        ]);
        let expected = [
            ("accesses", vec!["event-1", "event-5", "event-3"]),
            ("access", vec!["event-2"]),
            ("access", vec!["event-4"]),
            ("accesses", vec!["event-6", "event-7"]),
        ];
        assert_eq!(kinds(&sets), expected);
        for set in &sets {
            let entry = Entry::from_bytes(&set.entry.bytes).unwrap();
            for NewVersion { row, .. } in &set.records {
                assert_eq!((row.entry, row.gathered.is_some()), (entry.id, entry.kind() == "accesses"));
                let access = access_in(&entry, row);
                assert_eq!(access.is_some(), row.gathered.is_some());
                let access = access.as_ref().unwrap_or(&entry);
                let committed = crate::row::committed(access).unwrap();
                assert_eq!(committed, (row.tag, 1, record::commit(&row.salt, &row.bytes)));
            }
        }
        // The opening of one row opens no other.
        let (one, other) = (&sets[0].records[0].row, &sets[0].records[1].row);
        let entry = Entry::from_bytes(&sets[0].entry.bytes).unwrap();
        let moved = Row { gathered: other.gathered.clone(), ..one.clone() };
        let opening = Gathered::from_bytes(moved.gathered.as_deref().unwrap()).unwrap();
        assert_eq!(crate::row::committed(&opening.open(&entry).unwrap()).unwrap().0, other.tag);
    }

    #[test]
    fn no_entry_commits_to_more_accesses_than_one_transaction_takes() {
        let accesses = (0..=u8::MAX).map(|n| access(n, 1, 1, u64::from(n))).collect();
        let lengths: Vec<usize> = gathered(accesses).iter().map(|set| set.records.len()).collect();
        assert_eq!(lengths, [SET_LEN_MAX, SET_LEN_MAX]);
    }
}

//! Recovery: a database in which every row is verified, rebuilt from the ledger, the vaults, and a backup that nobody has to trust.
//!
//! ```text
//! rows in the database ─► weighed: good ones stay, bad ones are taken out
//! enrolments ─► wrapped keys from the vaults ─► patient keys
//! versions on the ledger without a good row ─► essential copy opened ─┐
//!                                              deletion rebuilt ──────┼─► compared with the commitment ─► put
//!                                              row of the backup ─────┘
//! what is left is lost: the ledger proves that it existed
//! frames of batches ─► filed anew where their own bytes say ─► those of the backup ─► what is left is lost
//! ```
//!
//! It may be carried out while other nodes go on with the same database, and again after it was interrupted.

use crate::{
    boxed,
    caller::Caller,
    custody::{RECOVER, Taken},
    desk::Procedure,
    failure::Failure,
    keyring::custodians,
    mirror::{Erased, FinalVersion, Named},
    node::Node,
    row::{Worth, bytes_hold},
};
use contract::{CustodyStep, Entry};
use futures::{StreamExt, stream};
use policy::Action;
use record::{
    Id16, OrgId, PatientKey, Pseudonym, RecordTag, commit,
    fhir::{IssueType, Limits, Resource},
    record_tag, salt,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};
use store::{Address, Expected, NewVersion, PAGE_MAX, Put, PutError, Reader, Removal, Row, WrappedKey, extract};

mod frames;

pub use frames::RecoveredFrames;

/// The most lost versions that a report lists.
const LOST_LISTED_MAX: usize = 1_000;
/// Rows that are written together.
const ROWS_AT_ONCE: usize = 256;
/// Bytes of rows after which they are written.
const BYTES_AT_ONCE: usize = 4 << 20;
/// Records that are looked for in the vaults at the same time.
const RECORDS_AT_ONCE: usize = 16;
/// How long the vaults may take to give a wrapped key.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the mirror may take to come to the height at which the recovery begins.
const MIRROR_WAIT: Duration = Duration::from_secs(60);
/// How long to wait when the store has too much to do.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// What a recovery did. Versions that were erased are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Versions on the ledger that have an essential copy.
    pub essential: u64,
    /// Versions that were put back from vaults, and deletions that were rebuilt.
    pub restored: u64,
    /// Versions that were put back from the backup.
    pub from_backup: u64,
    /// Versions on the ledger that were found nowhere.
    pub lost: u64,
    /// Rows that were taken out because they did not agree with the ledger, whether a good one took their place or not.
    pub removed: u64,
    /// Frames of sensors.
    pub frames: RecoveredFrames,
    /// The first lost ones.
    pub first_lost: Vec<Lost>,
}

/// A version that the ledger proves to have existed and that was found nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// `Type/id`; the tag, when the record was never seen here; of frames, how many they are, the Device that sent them, and between which
    /// counters.
    pub record: String,
    /// Which version.
    pub version: u64,
    /// Who wrote it.
    pub author: String,
    /// When it became final.
    pub written_at: String,
}

impl Node {
    /// Carries out a recovery that the members agreed to: as the head of this file says. `from` is a backup, if there is one.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn recover(&self, caller: &Caller, id: Id16, from: Option<&Address>) -> Result<Recovered, Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        self.is_custodian()?;
        self.agreed(id).await?;
        let backup = match from {
            Some(address) => Some(open_backup(address).await?),
            None => None,
        };
        // No audit meanwhile, which would report half of it; the next one begins anew.
        let mut audited = self.audited.lock().await;
        *audited = Default::default();
        self.see_everything().await?;

        let erased = self.mirror.erased().await?;
        let (keys, wrapped_keys) = self.patient_keys(&erased).await?;
        let mut recovery = Recovery::new(self, erased, keys);
        for wrapped in wrapped_keys {
            recovery.add_key(wrapped).await?;
        }
        recovery.sort_out().await?;
        recovery.open_copies().await?;
        if let Some(backup) = &backup {
            recovery.search_backup(backup).await?;
            // The backup may have told what deleted records were called.
            recovery.rebuild_deletions().await?;
        }
        let (mut report, records) = recovery.finish().await?;
        self.recover_frames(backup.as_ref(), &mut report).await?;

        let recovered =
            Taken { subject: self.nobody(), id, step: CustodyStep::Recovered, records: records.into_iter().collect() };
        self.take_custody(caller, &self.nobody(), &[recovered]).await?;
        let paper = self.procedure(id, RECOVER).await?;
        self.desk.put(Procedure { done: true, ..paper }).await?;
        if let Err(error) = self.store.optimize().await {
            tracing::warn!(%error, "the query planner has no statistics of the recovered database");
        }
        tracing::info!(
            %id, restored = report.restored, from_backup = report.from_backup, lost = report.lost, removed = report.removed,
            frames_filed_anew = report.frames.filed_anew, frames_from_backup = report.frames.from_backup,
            frames_lost = report.frames.lost, frames_removed = report.frames.removed, "the database was recovered"
        );
        Ok(report)
    }

    /// Waits until the mirror has everything that is final now.
    async fn see_everything(&self) -> Result<(), Failure> {
        let wanted = self.ledger.status().height;
        let mut height = self.mirror.watch_height();
        let seen = height.wait_for(|at| *at >= wanted);
        let seen = tokio::time::timeout(MIRROR_WAIT, seen).await;
        seen.map_err(|e| Failure::ours("the mirror is behind the ledger", e))?
            .map_err(|e| Failure::ours("the mirror stopped", e))?;
        Ok(())
    }

    /// The keys of all patients that are enrolled and not erased, as the vaults have them, with the wrapped ones for the database.
    async fn patient_keys(&self, erased: &Erased) -> Result<(Keys, Vec<WrappedKey>), Failure> {
        let Some(custodians) = custodians() else { return Ok(Default::default()) };
        let months = self.months();
        let enrolments = self.mirror.enrolments().await?;
        let enrolled: Vec<_> =
            enrolments.into_iter().filter(|known| !erased.has(known)).map(|known| self.enrolled(known)).collect();
        let mut found = stream::iter(enrolled).buffered(RECORDS_AT_ONCE);
        let mut keys = Keys::default();
        let mut wrapped_keys = Vec::new();
        while let Some(one) = found.next().await {
            let Some((patient, key, bytes)) = one? else { continue };
            let number = keys.patients.len();
            keys.by_pseudonym.extend(months.iter().map(|month| (key.pseudonym(*month), number)));
            self.keyring.learn(&patient, key.clone());
            wrapped_keys.push(WrappedKey { patient: patient.clone(), org: custodians.clone(), bytes });
            keys.patients.push((patient, key));
        }
        Ok((keys, wrapped_keys))
    }

    /// The patient that a version enrolled, its key, and the wrapped key; none when no vault has it or it is not for us.
    async fn enrolled(&self, known: FinalVersion) -> Result<Option<(String, PatientKey, Vec<u8>)>, Failure> {
        let Some(digest) = known.wrapped_key else { return Ok(None) };
        let wrapped = self.ledger.fetch_attachment(digest, FETCH_TIMEOUT).await;
        let wrapped = wrapped.map_err(|e| Failure::ours("the vault did not answer", e))?;
        let Some(wrapped) = wrapped else {
            tracing::warn!(entry = %known.entry, "no vault has the wrapped key of this enrolment");
            return Ok(None);
        };
        let Some(key) = self.keyring.open(&wrapped) else { return Ok(None) };
        let name = self.mirror.name(known.tag).await?.filter(|name| record_tag(&key, name) == known.tag);
        let name = match name {
            Some(name) => Some(name),
            None => self.repair(&key, &known).await?.map(|row| format!("{}/{}", row.rtype, row.id)),
        };
        let patient = name.as_deref().and_then(|name| name.strip_prefix("Patient/"));
        Ok(patient.map(|patient| (patient.to_owned(), key, wrapped)))
    }

    /// What the vaults have of a record: `missing` are versions of it, in ascending order, without a good row.
    async fn open_record_copies(
        &self,
        keys: &Keys,
        missing: Vec<Missing>,
    ) -> Result<Vec<(Missing, Option<Row>)>, Failure> {
        let mut opened = Vec::with_capacity(missing.len());
        let mut fits: Option<PatientKey> = None;
        let mut name: Option<String> = None;
        for missing in missing {
            name = name.or_else(|| missing.name.clone());
            let known = &missing.known;
            // A record keeps the key of its first version when it moves to another patient.
            let candidates = [fits.as_ref(), keys.key(known.patient), Some(&self.own)].into_iter().flatten();
            let is_of = |key: &&PatientKey| name.as_ref().is_none_or(|name| record_tag(key, name) == known.tag);
            let candidates: Vec<PatientKey> = candidates.filter(is_of).cloned().collect();
            let mut row = None;
            for key in candidates {
                row = match (&name, known.deleted) {
                    (Some(name), true) => self.rebuild_deletion(&key, name, known).await?,
                    _ => self.repair(&key, known).await?,
                };
                if row.is_some() {
                    fits = Some(key);
                    break;
                }
            }
            if let Some(row) = &row {
                name = Some(format!("{}/{}", row.rtype, row.id));
            }
            opened.push((missing, row));
        }
        Ok(opened)
    }

    /// The version that deletes a record holds nothing but its name, number and time: with the key it can be written once more, and
    /// the commitment says whether that is it.
    async fn rebuild_deletion(
        &self,
        key: &PatientKey,
        name: &str,
        known: &FinalVersion,
    ) -> Result<Option<Row>, Failure> {
        let Some((rtype, id)) = name.split_once('/') else { return Ok(None) };
        let Some(entry) = self.mirror.entry(known.entry, &known.org).await? else { return Ok(None) };
        let entry = Entry::from_bytes(&entry.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
        let Some(bytes) = crate::ingest::tombstone(rtype, id, known.version, entry.time) else { return Ok(None) };
        let salt = salt(key, name, known.version, &known.org, &known.entry);
        if commit(&salt, &bytes) != known.commitment || record_tag(key, name) != known.tag {
            return Ok(None);
        }
        Ok(Some(Row {
            rtype: rtype.to_owned(),
            id: id.to_owned(),
            version: known.version,
            bytes,
            salt,
            tag: known.tag,
            pseudonym: known.patient,
            patient: (rtype == "Patient").then(|| id.to_owned()),
            author: known.org.clone(),
            entry: known.entry,
            written_at: entry.time,
            deleted: true,
            label: String::new(),
            gathered: None,
        }))
    }

    /// Puts rows that are not there yet, after taking others out. Tells how many it put.
    async fn put_back(&self, put: Put) -> Result<u64, Failure> {
        let all = put.records.len() as u64;
        match self.put_patiently(put.clone()).await {
            Ok(()) => return Ok(all),
            Err(PutError::Conflict { .. }) => {}
            Err(error) => return Err(Failure::ours("a recovered row was not written", error)),
        }
        // Another gateway wrote one of them meanwhile: it stays, and the rest is put one by one.
        let others = Put { records: Vec::new(), ..put.clone() };
        self.put_patiently(others).await.map_err(|e| Failure::ours("bad rows were not taken out", e))?;
        let mut done = 0;
        for record in put.records {
            match self.put_patiently(Put { records: vec![record], ..Put::default() }).await {
                Ok(()) => done += 1,
                Err(PutError::Conflict { .. }) => {}
                Err(error) => return Err(Failure::ours("a recovered row was not written", error)),
            }
        }
        Ok(done)
    }

    async fn put_patiently(&self, put: Put) -> Result<(), PutError> {
        loop {
            match self.store.put(put.clone()).await {
                Err(PutError::Busy | PutError::Unavailable) => tokio::time::sleep(BUSY_WAIT).await,
                other => return other.map(|_| ()),
            }
        }
    }
}

/// The keys of all patients, found by the names that the ledger knows them by.
#[derive(Default)]
struct Keys {
    patients: Vec<(String, PatientKey)>,
    by_pseudonym: HashMap<Pseudonym, usize>,
}

impl Keys {
    fn patient(&self, pseudonym: Option<Pseudonym>) -> Option<&(String, PatientKey)> {
        self.patients.get(*self.by_pseudonym.get(&pseudonym?)?)
    }

    fn key(&self, pseudonym: Option<Pseudonym>) -> Option<&PatientKey> {
        self.patient(pseudonym).map(|(_, key)| key)
    }
}

/// A version on the ledger without a good row.
struct Missing {
    known: FinalVersion,
    name: Option<String>,
}

/// A recovery under way.
struct Recovery<'a> {
    node: &'a Node,
    erased: Erased,
    keys: Keys,
    /// Versions that have a good row.
    standing: HashSet<(RecordTag, u64)>,
    /// Versions that have none, so far.
    missing: BTreeSet<(RecordTag, u64)>,
    /// Audit events that stand, of entries that commit to several.
    opened: HashMap<(Id16, OrgId), HashSet<RecordTag>>,
    records: BTreeSet<RecordTag>,
    put: Put,
    put_bytes: usize,
    report: Recovered,
}

impl<'a> Recovery<'a> {
    fn new(node: &'a Node, erased: Erased, keys: Keys) -> Self {
        Self {
            node,
            erased,
            keys,
            standing: HashSet::new(),
            missing: BTreeSet::new(),
            opened: HashMap::new(),
            records: BTreeSet::new(),
            put: Put::default(),
            put_bytes: 0,
            report: Recovered::default(),
        }
    }

    /// Weighs the rows that are there, and takes out those that the ledger does not bear out. What members signed and is not final
    /// yet stays, and so does what the ledger refused: those are known for what they are.
    async fn sort_out(&mut self) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let sweep = self.node.store.rows(after, PAGE_MAX).await.map_err(crate::find::search_failure)?;
            for malformed in &sweep.found.malformed {
                self.take_out(Removal::Place(malformed.place)).await?;
            }
            let worths = self.node.weigh(&sweep.found.rows).await?;
            for (row, worth) in sweep.found.rows.into_iter().zip(worths) {
                let worth = match worth {
                    // What the bytes say holds: the columns beside them are set right below.
                    Worth::Modified(known) if bytes_hold(&row, &known) => Worth::Good(known),
                    other => other,
                };
                let bad = match worth {
                    Worth::Good(known) | Worth::RolledBack(known) if self.erased.has(&known) => true,
                    Worth::Good(known) | Worth::RolledBack(known) => {
                        self.standing.insert((known.tag, known.version));
                        if row.gathered.is_some() {
                            self.opened.entry((known.entry, known.org.clone())).or_default().insert(known.tag);
                        }
                        let right = self.set_right(row.clone(), &known);
                        if right != row {
                            // Out and in again in one write.
                            self.report.removed += 1;
                            self.put.removals.push(Removal::Version(row.key()));
                            self.add(right).await?;
                        }
                        false
                    }
                    Worth::Pending | Worth::Refused => false,
                    Worth::Modified(_) | Worth::Duplicated(_) => true,
                    Worth::Injected => !self.node.was_signed_for(&row).await?,
                };
                if bad {
                    tracing::warn!(rtype = %row.rtype, id = %row.id, version = row.version, "a row that does not agree with the ledger is taken out");
                    self.take_out(Removal::Version(row.key())).await?;
                }
            }
            match sweep.next {
                Some(next) => after = next,
                None => break,
            }
        }
        self.write().await
    }

    /// A good row with every column that its commitment does not cover as ledger, key and bytes say.
    fn set_right(&self, row: Row, known: &FinalVersion) -> Row {
        let patient = self.keys.patient(known.patient).map(|(patient, _)| patient.clone());
        // Audit events and deletions carry no label of their own.
        let labelled = !row.deleted && row.rtype != "AuditEvent";
        let limits = Limits { bytes_max: store::RECORD_BYTES_MAX, ..Limits::RESOURCE };
        let resource = labelled.then(|| Resource::parse(&row.bytes, limits).ok()).flatten();
        let label = match resource.map(|resource| resource.confidentiality().code()) {
            // No label and the normal one are decided by alike.
            Some(code) if !(code == "N" && row.label.is_empty()) => code.to_owned(),
            _ => row.label,
        };
        Row {
            patient: patient.or(row.patient),
            label,
            author: known.org.clone(),
            entry: known.entry,
            pseudonym: known.patient,
            gathered: row.gathered.filter(|_| row.entry == known.entry),
            ..row
        }
    }

    /// Goes over all versions on the ledger and opens the copies of those that have no good row.
    async fn open_copies(&mut self) -> Result<(), Failure> {
        let mut after = None;
        let mut waiting: Vec<Missing> = Vec::new();
        loop {
            let page = self.node.mirror.sweep(after, None, PAGE_MAX).await?;
            let last = page.last().map(|(version, _)| (version.tag, version.version));
            for (known, name) in page {
                if self.erased.has(&known) {
                    continue;
                }
                self.report.essential += u64::from(known.copy.is_some());
                if !self.standing.contains(&(known.tag, known.version)) {
                    waiting.push(Missing { known, name });
                }
            }
            // The versions of the last record may go on on the next page.
            let whole = match last {
                Some((tag, _)) => waiting.iter().position(|one| one.known.tag == tag).unwrap_or(waiting.len()),
                None => waiting.len(),
            };
            let rest = waiting.split_off(whole);
            self.open_page(std::mem::replace(&mut waiting, rest)).await?;
            if last.is_none() {
                return self.write().await;
            }
            after = last;
        }
    }

    async fn open_page(&mut self, missing: Vec<Missing>) -> Result<(), Failure> {
        let mut by_record: Vec<Vec<Missing>> = Vec::new();
        for one in missing {
            match by_record.last_mut() {
                Some(record) if record.first().is_some_and(|first| first.known.tag == one.known.tag) => {
                    record.push(one)
                }
                _ => by_record.push(vec![one]),
            }
        }
        let (node, keys) = (self.node, &self.keys);
        let records: Vec<_> = by_record.into_iter().map(|record| node.open_record_copies(keys, record)).collect();
        let opened: Vec<_> = stream::iter(records).buffered(RECORDS_AT_ONCE).collect().await;
        for record in opened {
            for (Missing { known, .. }, row) in record? {
                match row {
                    Some(row) => {
                        let row = self.set_right(row, &known);
                        self.report.restored += 1;
                        self.add(row).await?;
                    }
                    None => _ = self.missing.insert((known.tag, known.version)),
                }
            }
        }
        Ok(())
    }

    /// Takes from the backup what the ledger bears out and is still missing.
    async fn search_backup(&mut self, backup: &Reader) -> Result<(), Failure> {
        let unreadable = |e| Failure::Conflict(format!("the backup cannot be read to its end: {e}"));
        let mut after = 0;
        loop {
            let sweep = backup.rows(after, PAGE_MAX).await.map_err(unreadable)?;
            let worths = self.node.weigh(&sweep.found.rows).await?;
            for (row, worth) in sweep.found.rows.into_iter().zip(worths) {
                if let Worth::Good(known) = worth
                    && !self.erased.has(&known)
                    && (self.missing.remove(&(known.tag, known.version)) || self.opens_one(&row, &known))
                {
                    let row = self.set_right(row, &known);
                    self.report.from_backup += 1;
                    self.add(row).await?;
                }
            }
            match sweep.next {
                Some(next) => after = next,
                None => return self.write().await,
            }
        }
    }

    /// Whether a row is one of several audit events of an entry, and does not stand yet.
    fn opens_one(&mut self, row: &Row, known: &FinalVersion) -> bool {
        let of = (known.entry, known.org.clone());
        row.gathered.is_some() && self.opened.entry(of).or_default().insert(known.tag)
    }

    /// Says how many audit events are lost of entries that commit to several.
    async fn count_ungathered(&mut self) -> Result<(), Failure> {
        let mut from = 0;
        loop {
            let page = self.node.mirror.gathered(from, u64::MAX, PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            from = last.index + 1;
            for accesses in page {
                let is_erased = accesses.patient.is_some_and(|patient| self.erased.patients().any(|of| *of == patient));
                let of = (accesses.entry, accesses.org.clone());
                let there = self.opened.get(&of).map_or(0, HashSet::len) as u64;
                let lost = if is_erased { 0 } else { u64::from(accesses.count).saturating_sub(there) };
                self.report.lost += lost;
                if lost > 0 && self.report.first_lost.len() < LOST_LISTED_MAX {
                    self.report.first_lost.push(Lost {
                        record: format!("{lost} AuditEvents of entry {}", accesses.entry),
                        version: 1,
                        author: accesses.org.to_string(),
                        written_at: accesses.time.to_instant(),
                    });
                }
            }
        }
    }

    /// Tries once more to rebuild deletions.
    async fn rebuild_deletions(&mut self) -> Result<(), Failure> {
        let missing: Vec<_> = self.missing.iter().copied().collect();
        for page in missing.chunks(PAGE_MAX) {
            for known in self.node.mirror.versions(page.to_vec()).await?.into_iter().flatten().filter(|v| v.deleted) {
                let Some(name) = self.node.mirror.name(known.tag).await? else { continue };
                let one = Missing { known, name: Some(name) };
                for (Missing { known, .. }, row) in self.node.open_record_copies(&self.keys, vec![one]).await? {
                    if let Some(row) = row {
                        self.missing.remove(&(known.tag, known.version));
                        self.report.restored += 1;
                        let row = self.set_right(row, &known);
                        self.add(row).await?;
                    }
                }
            }
        }
        self.write().await
    }

    /// Says what is lost.
    async fn finish(mut self) -> Result<(Recovered, BTreeSet<RecordTag>), Failure> {
        self.write().await?;
        self.report.lost = self.missing.len() as u64;
        let first: Vec<_> = self.missing.iter().copied().take(LOST_LISTED_MAX).collect();
        for known in self.node.mirror.versions(first).await?.into_iter().flatten() {
            let name = self.node.mirror.name(known.tag).await?;
            self.report.first_lost.push(Lost {
                record: name.unwrap_or_else(|| known.tag.0.to_hex()),
                version: known.version,
                author: known.org.to_string(),
                written_at: known.time.to_instant(),
            });
        }
        self.count_ungathered().await?;
        Ok((self.report, self.records))
    }

    async fn add(&mut self, row: Row) -> Result<(), Failure> {
        self.records.insert(row.tag);
        self.put_bytes += row.bytes.len();
        let value: Value =
            if row.deleted { Value::Null } else { serde_json::from_slice(&row.bytes).unwrap_or_default() };
        let index = extract(&row.rtype, &value);
        self.put.records.push(NewVersion { row, expected: Expected::Any, index, template: None });
        self.write_when_full().await
    }

    async fn take_out(&mut self, removal: Removal) -> Result<(), Failure> {
        self.report.removed += 1;
        self.put.removals.push(removal);
        self.write_when_full().await
    }

    async fn add_key(&mut self, wrapped: WrappedKey) -> Result<(), Failure> {
        self.put_bytes += wrapped.bytes.len();
        self.put.wrapped_keys.push(wrapped);
        self.write_when_full().await
    }

    async fn write_when_full(&mut self) -> Result<(), Failure> {
        let parts = self.put.records.len() + self.put.removals.len() + self.put.wrapped_keys.len();
        if parts < ROWS_AT_ONCE && self.put_bytes < BYTES_AT_ONCE { Ok(()) } else { self.write().await }
    }

    async fn write(&mut self) -> Result<(), Failure> {
        let put = std::mem::take(&mut self.put);
        self.put_bytes = 0;
        if put == Put::default() {
            return Ok(());
        }
        let names = put.records.iter().map(|new| Named::of(&new.row)).collect();
        self.node.put_back(put).await?;
        Ok(self.node.mirror.learn_names(names).await?)
    }
}

/// Opens a backup without trusting it. The caller named it, so what is wrong with it is theirs.
async fn open_backup(address: &Address) -> Result<Reader, Failure> {
    let address = address.clone();
    let opened = tokio::task::spawn_blocking(move || Reader::open(&address, 1)).await;
    let opened = opened.map_err(|e| Failure::ours("the backup could not be opened", e))?;
    opened.map_err(|e| Failure::invalid(IssueType::Value, "", format!("`from` is not a backup of the database: {e}")))
}

//! The report: what a bundle proves and what it does not, for people and for `--json`. Never health data.

use crate::{
    current::Current,
    device::Device,
    finality::Final,
    gathered::Accesses,
    let_go::let_go,
    log::{Checked, Filed},
    opened::{Committed, Contents, committed},
    place::Places,
    witness,
};
use contract::{Body, PublicKey, state::ActivePolicy};
use record::{Digest, Id16, Month, OrgId, Pseudonym, Purpose, RecordTag, TimeMs};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    iter,
};

mod sentences;
mod words;

/// Everything that verifying a bundle established.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format of the bundle.
    pub format: &'static str,
    /// The consortium's genesis id: what the verifier trusted.
    pub chain: Digest,
    /// The consortium's name for people.
    pub consortium: String,
    /// Height of the header that everything is proven under.
    pub height: u64,
    /// Its block time, milliseconds since 1970.
    pub time: TimeMs,
    /// Its digest.
    pub block: Digest,
    /// Validators that signed it.
    pub signers: usize,
    /// Validators in all.
    pub validators: usize,
    /// Size of the file, in bytes.
    pub bundle_bytes: usize,
    /// Whether the months tell one patient's whole story from the first to the last: every log is complete, every log but the first
    /// continues an earlier one, and the last month has a log, so that nothing rests on a proof of absence.
    pub complete: bool,
    /// The months, in order of time.
    pub months: Vec<MonthReport>,
    /// How many entries of the ledger in all.
    pub entry_count: u64,
    /// How many of each kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// How many by each organisation.
    pub by_organisation: BTreeMap<String, u64>,
    /// How many accesses entries of the file commit to together, as the entries say.
    pub gathered: u64,
    /// How many of them the file shows.
    pub gathered_shown: u64,
    /// The policies in force, and those that entries were decided under.
    pub policies: PolicyReport,
    /// How many committed versions are opened: their bytes are in the file and hold.
    pub opened: u64,
    /// How many are not.
    pub unopened: u64,
    /// The records, each with its history, in order of their first entry.
    pub records: Vec<RecordReport>,
    /// What the ledger has of records at the header, in order of their tags, where the file shows it.
    pub current: Vec<CurrentReport>,
    /// Records of the file that it does not show this of; audit events, which never get another version, are not counted.
    pub current_unshown: u64,
    /// The keys of devices at the header, in order of their bindings, where the file shows them.
    pub devices: Vec<DeviceReport>,
    /// Batches of frames in the file that it does not show this of.
    pub devices_unshown: u64,
    /// Frames that were let go by policy, in order of the entries.
    pub let_go: Vec<LetGoReport>,
    /// The log over all entries.
    pub ledger_log: LogReport,
    /// Members with their keys at the header, and whether they signed that log.
    pub witnesses: Vec<WitnessReport>,
    /// Every entry, in order; after an entry that commits to several accesses, those of them that the file shows.
    pub entries: Vec<EntryReport>,
    /// What is proven, in plain sentences.
    pub proven: Vec<String>,
    /// What is not, in plain sentences.
    pub not_proven: Vec<String>,
}

/// A month of the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonthReport {
    /// As `2026-11`.
    #[serde(serialize_with = "month_text")]
    pub month: Month,
    /// The patient's name on the ledger in it.
    pub pseudonym: Pseudonym,
    /// Entries in its log: all that there are.
    pub entries: u64,
    /// RFC 9162 root of the log; none where there is no log.
    pub root: Option<Digest>,
    /// Height of the block with the last entry.
    pub last_height: Option<u64>,
    /// Entries whose own time is in another month than this.
    pub misdated: u64,
    /// How it continues the month before.
    pub link: Link,
    /// The range of heights that the entries are all of, where the file does not give the whole log.
    pub part: Option<PartReport>,
}

/// A part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// The first height of the range.
    pub from: u64,
    /// The last height of the range.
    pub to: u64,
    /// Entries of the whole log.
    pub of: u64,
}

/// What the ledger has of a record at the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CurrentReport {
    /// The record.
    pub tag: RecordTag,
    /// `Type/id`, where a version of it is opened.
    pub name: Option<String>,
    /// Its latest version; none where the ledger has none.
    pub version: Option<u64>,
    /// Whether that version deletes it.
    pub deleted: bool,
    /// Who wrote it.
    pub organisation: Option<OrgId>,
    /// Height of the block that it is in.
    pub written_at_height: Option<u64>,
    /// Whether its bytes are in the file.
    pub opened: bool,
}

/// The key that the frames of a binding were signed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// The binding.
    pub binding: Id16,
    /// The device's key.
    pub key: PublicKey,
    /// Not to be trusted from this time on, milliseconds since 1970.
    pub revoked: Option<TimeMs>,
    /// Batches of the file that were made while the key was good.
    pub good: u64,
    /// Batches of the file that were made when it was revoked already.
    pub late: u64,
}

/// Frames of a binding that were let go by policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetGoReport {
    /// The binding.
    pub binding: Id16,
    /// Counter of the last frame that was let go before.
    pub after: u64,
    /// Counter of the last frame.
    pub last: u64,
    /// How many there were.
    pub frames: u64,
    /// How many more the batches of the file name, which were gone before.
    pub gone_before: u64,
    /// Records with their roll-up, all on the ledger.
    pub roll_ups: u64,
    /// Digest of the derivation policy.
    pub policy: Digest,
    /// Height of the block that made it final.
    pub height: u64,
}

/// The log over all entries, which the header commits to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Its entries.
    pub size: u64,
    /// Its RFC 9162 root.
    pub root: Digest,
    /// Entries of the file whose places in it are proven.
    pub placed: u64,
}

/// A member at the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WitnessReport {
    /// Its name.
    pub organisation: OrgId,
    /// Its entry key.
    pub key: PublicKey,
    /// When it cosigned the log, in seconds since 1970 by its own clock; none where the file has no signature of it.
    pub cosigned: Option<u64>,
}

/// How a month continues the month before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Link {
    /// The first entry names the log of an earlier month that the file gives, as it stood then.
    Continues {
        /// The earlier month.
        #[serde(serialize_with = "month_text")]
        month: Month,
        /// Entries that it had then.
        entries: u64,
    },
    /// The first entry names an earlier month that is not in the file; no entries there mean that nothing was filed before.
    Earlier {
        /// The patient's name in it.
        pseudonym: Pseudonym,
        /// Entries that it had then.
        entries: u64,
    },
    /// The first entry names an earlier month that the file gives, but none of its entries, which came late: this month continues no
    /// entry that the file shows.
    Unseen {
        /// The earlier month.
        #[serde(serialize_with = "month_text")]
        month: Month,
    },
    /// The file does not open what the first entry names, or there is no entry.
    Unproven,
}

/// Policies by the digests of their documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// The access policy in force at the header.
    pub access: Digest,
    /// It is in force from this height.
    pub access_height: u64,
    /// The derivation policy in force at the header.
    pub derivation: Digest,
    /// It is in force from this height.
    pub derivation_height: u64,
    /// Access policies that the entries say they were decided under.
    pub decided_under: Vec<Decided>,
}

/// How many entries were decided under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// Digest of the document.
    pub policy: Digest,
    /// How many entries.
    pub entries: u64,
}

/// A record with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordReport {
    /// What the ledger knows it by.
    pub tag: RecordTag,
    /// `Type/id`, where a version of it is opened.
    pub name: Option<String>,
    /// Which of the seven types, or `audit event`.
    pub kind: &'static str,
    /// Whether each version follows the one before without a gap, from the first that the file shows; of an audit event, which has but
    /// one, whether a single access names it.
    pub contiguous: bool,
    /// Its versions, in the ledger's order.
    pub versions: Vec<VersionReport>,
}

/// A version of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionReport {
    /// Its number.
    pub version: u64,
    /// Who wrote it.
    pub organisation: OrgId,
    /// The person there, as a digest that only the organisation can open.
    pub actor: Digest,
    /// Why.
    pub purpose: Purpose,
    /// When, by the organisation's clock.
    pub time: TimeMs,
    /// Height of the block that made it final.
    pub height: u64,
    /// Time of that block.
    pub final_at: TimeMs,
    /// Whether it deletes the record.
    pub deleted: bool,
    /// The ledger entry.
    pub entry: Id16,
    /// The opened bytes; none where the file does not open them.
    pub opened: Option<OpenedBytes>,
}

/// Bytes that the file gives and that hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenedBytes {
    /// Their number.
    pub length: usize,
}

/// One line of provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    /// The entry's id.
    pub id: Id16,
    /// The entry of the ledger that commits to it together with others, if it is an access that is not on the ledger by itself.
    pub gathered_in: Option<Id16>,
    /// Its digest.
    pub digest: Digest,
    /// Which month's log it is in.
    #[serde(serialize_with = "month_text")]
    pub month: Month,
    /// Its kind.
    pub kind: &'static str,
    /// What happened, in a few words.
    pub what: String,
    /// Who says it.
    pub organisation: OrgId,
    /// The person there, as a digest that only the organisation can open.
    pub actor: Digest,
    /// Why.
    pub purpose: Purpose,
    /// When, by the organisation's clock.
    pub time: TimeMs,
    /// Height of the block that made it final.
    pub height: u64,
    /// Time of that block.
    pub final_at: TimeMs,
    /// Its index in the log over all entries, where the file proves it.
    pub index: Option<u64>,
}

/// What the light check of one record established.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordProven {
    /// The consortium's genesis id.
    pub chain: Digest,
    /// Height of the header that it is proven under.
    pub height: u64,
    /// Its block time.
    pub time: TimeMs,
    /// What the ledger knows the record by.
    pub tag: RecordTag,
    /// `Type/id` as the bytes say it.
    pub name: Option<String>,
    /// The version that is current at that height.
    pub version: u64,
    /// Whether it deletes the record.
    pub deleted: bool,
    /// Who wrote it.
    pub organisation: OrgId,
    /// Height of the block that made it final.
    pub written_at_height: u64,
    /// Length of the bytes.
    pub bytes: usize,
}

impl RecordProven {
    fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| "a record without a name".to_owned())
    }

    /// What is proven, in plain sentences.
    pub fn proven(&self) -> Vec<String> {
        let Self { height, time, version, organisation, bytes, written_at_height, .. } = self;
        let mut said = vec![
            format!("Block {height} is final: a quorum of the validators of its time signed it. Its time is {time}."),
            format!(
                "Version {version} of the record that the ledger knows by `{}` is the current one at height {height}: the ledger has no later one there.",
                self.tag.0.to_hex()
            ),
            format!(
                "The {bytes} bytes in the file are exactly those that {organisation} committed to as this version, final in block {written_at_height}. They call themselves {}.",
                self.called()
            ),
        ];
        if self.deleted {
            said.push(format!("By this version {organisation} deleted the record."));
        }
        said
    }

    /// What is not proven, in plain sentences.
    pub fn not_proven(&self) -> Vec<String> {
        let called = self.called();
        vec![
            format!("That it did not change after height {}.", self.height),
            format!("That no other record calls itself {called}: which name a record was filed by takes its patient's key to tell."),
            "What the versions before said, who read it, and which other records there are: its patient's evidence shows that.".to_owned(),
            format!("Which person at {} wrote it, and that what it says is true.", self.organisation),
        ]
    }
}

/// What was verified, before it is told.
pub(crate) struct Verified<'a> {
    pub(crate) at: &'a Final,
    pub(crate) access: ActivePolicy,
    pub(crate) derivation: ActivePolicy,
    pub(crate) months: &'a [Checked<'a>],
    pub(crate) accesses: &'a Accesses,
    pub(crate) contents: &'a Contents<'a>,
    pub(crate) current: &'a [Current],
    /// Entry times of batches with frames, by binding.
    pub(crate) batches: &'a HashMap<Id16, Vec<TimeMs>>,
    pub(crate) devices: &'a [Device],
    pub(crate) places: &'a Places,
    pub(crate) witnesses: &'a [witness::Checked],
    pub(crate) size: usize,
}

/// Tells what was verified.
pub(crate) fn report(verified: &Verified<'_>) -> Report {
    let Verified { at, access, derivation, months, accesses, contents, current, .. } = verified;
    let Verified { batches, devices, places, witnesses, size, .. } = verified;
    let all = || months.iter().flat_map(|month| &month.entries);
    let mut by_kind = BTreeMap::new();
    let mut by_organisation = BTreeMap::new();
    let mut decided = BTreeMap::new();
    let mut gathered = 0;
    for Filed { entry, .. } in all() {
        *by_kind.entry(entry.kind()).or_default() += 1;
        *by_organisation.entry(entry.org.to_string()).or_default() += 1;
        *decided.entry(entry.policy).or_default() += 1;
        if let Body::Accesses { count, .. } = entry.body {
            gathered += u64::from(count);
        }
    }
    let every = months.iter().flat_map(|month| given(month, accesses)).map(|given| given.filed);
    let records = records(every, contents);
    let versions = || records.iter().flat_map(|record| &record.versions);
    let mut report = Report {
        format: crate::EVIDENCE_FORMAT,
        chain: at.header.chain,
        consortium: at.genesis.name.clone(),
        height: at.header.height,
        time: at.header.time,
        block: at.digest,
        signers: at.signers,
        validators: at.validators,
        bundle_bytes: *size,
        complete: complete(months),
        months: months.iter().map(month).collect(),
        entry_count: all().count() as u64,
        by_kind,
        by_organisation,
        gathered,
        gathered_shown: accesses.all().count() as u64,
        policies: PolicyReport {
            access: access.document,
            access_height: access.height,
            derivation: derivation.document,
            derivation_height: derivation.height,
            decided_under: decided.into_iter().map(|(policy, entries)| Decided { policy, entries }).collect(),
        },
        opened: versions().filter(|version| version.opened.is_some()).count() as u64,
        unopened: versions().filter(|version| version.opened.is_none()).count() as u64,
        current_unshown: unshown(&records, current),
        current: current.iter().map(|shown| current_report(shown, contents)).collect(),
        devices_unshown: batches.values().map(|times| times.len() as u64).sum::<u64>()
            - devices.iter().map(|device| device.good + device.late).sum::<u64>(),
        devices: devices.iter().map(device_report).collect(),
        let_go: let_go(all()),
        ledger_log: LogReport { size: at.header.log_size, root: at.header.log_root, placed: places.len() as u64 },
        witnesses: witnesses.iter().map(witness_report).collect(),
        entries: months.iter().flat_map(|month| lines(month, accesses, places)).collect(),
        records,
        proven: Vec::new(),
        not_proven: Vec::new(),
    };
    report.proven = sentences::proven(&report);
    report.not_proven = sentences::not_proven(&report);
    report
}

fn complete(months: &[Checked<'_>]) -> bool {
    if months.iter().any(|month| month.range.is_some()) {
        return false;
    }
    let mut logs = months.iter().filter(|month| month.head.is_some());
    let last_is_log = months.last().is_some_and(|month| month.head.is_some());
    logs.next().is_some() && logs.all(|month| matches!(month.link, Link::Continues { .. })) && last_is_log
}

fn month(checked: &Checked<'_>) -> MonthReport {
    let month = checked.part.month;
    MonthReport {
        month,
        pseudonym: checked.part.pseudonym,
        entries: checked.entries.len() as u64,
        root: checked.head.as_ref().map(|head| head.frontier.root()),
        last_height: checked.head.as_ref().map(|head| head.height),
        misdated: checked.entries.iter().filter(|filed| filed.entry.time.month() != month).count() as u64,
        link: checked.link,
        part: checked.range.zip(checked.head.as_ref()).map(|((from, to), head)| PartReport {
            from,
            to,
            of: head.frontier.size(),
        }),
    }
}

/// How many records have no statement about their current version.
fn unshown(records: &[RecordReport], current: &[Current]) -> u64 {
    let shown = |tag: &RecordTag| current.binary_search_by_key(tag, |shown| shown.tag).is_ok();
    records.iter().filter(|record| record.kind != words::AUDIT_EVENT && !shown(&record.tag)).count() as u64
}

fn current_report(Current { tag, head }: &Current, contents: &Contents<'_>) -> CurrentReport {
    let opened = head.as_ref().is_some_and(|head| {
        let (tag, version, commitment, deleted) = (*tag, head.version, head.commitment, head.deleted);
        contents.of(&Committed { tag, version, commitment, deleted }).is_some()
    });
    CurrentReport {
        tag: *tag,
        name: contents.name(tag).map(str::to_owned),
        version: head.as_ref().map(|head| head.version),
        deleted: head.as_ref().is_some_and(|head| head.deleted),
        organisation: head.as_ref().map(|head| head.org.clone()),
        written_at_height: head.as_ref().map(|head| head.height),
        opened,
    }
}

fn device_report(device: &Device) -> DeviceReport {
    let Device { binding, key, revoked, good, late } = device;
    DeviceReport { binding: *binding, key: *key, revoked: *revoked, good: *good, late: *late }
}

fn witness_report(checked: &witness::Checked) -> WitnessReport {
    WitnessReport { organisation: checked.org.clone(), key: checked.key, cosigned: checked.cosigned_s }
}

/// An entry that the file gives of a month.
struct Given<'a> {
    /// Its index among the month's entries; none of an access that is not on the ledger by itself.
    at: Option<u64>,
    /// The entry that commits to it, if it is such an access.
    gathered_in: Option<Id16>,
    filed: &'a Filed,
}

/// The entries of a month, each before the accesses that the file shows of it.
fn given<'a>(checked: &'a Checked<'_>, accesses: &'a Accesses) -> impl Iterator<Item = Given<'a>> {
    let month = checked.part.month;
    (0..).zip(&checked.entries).flat_map(move |(at, filed)| {
        let gathered_in = Some(filed.entry.id);
        let inner = accesses.of(month, at).iter().map(move |filed| Given { at: None, gathered_in, filed });
        iter::once(Given { at: Some(at), gathered_in: None, filed }).chain(inner)
    })
}

fn lines<'a>(
    checked: &'a Checked<'_>,
    accesses: &'a Accesses,
    places: &'a Places,
) -> impl Iterator<Item = EntryReport> + 'a {
    let month = checked.part.month;
    given(checked, accesses).map(move |given| {
        let index = given.at.and_then(|at| places.get(&(month, at)).copied());
        line(month, &given, index)
    })
}

fn line(month: Month, Given { gathered_in, filed, .. }: &Given<'_>, index: Option<u64>) -> EntryReport {
    let entry = &filed.entry;
    EntryReport {
        id: entry.id,
        gathered_in: *gathered_in,
        digest: filed.digest,
        month,
        kind: entry.kind(),
        what: words::what(&entry.body),
        organisation: entry.org.clone(),
        actor: entry.actor,
        purpose: entry.purpose,
        time: entry.time,
        height: filed.height,
        final_at: filed.time,
        index,
    }
}

/// The records in order of their first entry, versions in the ledger's order.
fn records<'a>(entries: impl Iterator<Item = &'a Filed>, contents: &Contents<'_>) -> Vec<RecordReport> {
    let mut order: BTreeMap<RecordTag, usize> = BTreeMap::new();
    let mut records: Vec<RecordReport> = Vec::new();
    for filed in entries {
        let entry = &filed.entry;
        let Some(found) = committed(&entry.body) else { continue };
        let at = *order.entry(found.tag).or_insert_with(|| {
            records.push(RecordReport {
                tag: found.tag,
                name: contents.name(&found.tag).map(str::to_owned),
                kind: words::record_kind(&entry.body),
                contiguous: true,
                versions: Vec::new(),
            });
            records.len() - 1
        });
        let record = &mut records[at];
        if let Some(last) = record.versions.last() {
            record.contiguous &= last.version.checked_add(1) == Some(found.version);
        }
        record.versions.push(VersionReport {
            version: found.version,
            organisation: entry.org.clone(),
            actor: entry.actor,
            purpose: entry.purpose,
            time: entry.time,
            height: filed.height,
            final_at: filed.time,
            deleted: found.deleted,
            entry: entry.id,
            opened: contents.of(&found).map(|opened| OpenedBytes { length: opened.bytes.len() }),
        });
    }
    records
}

fn month_text<S: serde::Serializer>(month: &Month, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(month)
}

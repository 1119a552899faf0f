//! Whether a row of the database is what the ledger says it is.

use crate::{
    failure::Failure,
    members::News,
    mirror::{FinalEntry, FinalVersion},
    node::Node,
    set::AUDIT_EVENT,
    without::Part,
};
use contract::{Body, Entry, Gathered, PublicKey, SignedSubmission};
use record::{
    Commitment, RecordTag, RecordType, commit,
    fhir::{Limits, Node as JsonNode, Resource},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use store::Row;

/// How long a row may stand in the database before its entry is final.
pub const PENDING_MS_MAX: u64 = 30_000;

/// The ledger stands still when its last block is older than this: an idle chain makes about one block a second.
pub(crate) const STALL_MS: u64 = 15_000;

/// Versions whose sayings are kept in memory: twice as many at most, some 300 bytes each.
pub(crate) const SAID_MAX: usize = 32_768;

/// What a row is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Worth {
    /// The ledger holds its commitment.
    Good(Box<FinalVersion>),
    /// Its entry is signed by a member and young, and not final yet.
    Pending,
    /// The ledger holds another commitment for this version.
    Modified(Box<FinalVersion>),
    /// It says that it is another record than the one it was committed as.
    Duplicated(Box<FinalVersion>),
    /// Good, but the ledger has a later version than the one that the database calls current.
    RolledBack(Box<FinalVersion>),
    /// The ledger refused its entry.
    Refused,
    /// The ledger knows nothing of it.
    Injected,
}

impl Worth {
    /// Whether it may be shown.
    pub(crate) fn may_be_shown(&self) -> bool {
        matches!(self, Self::Good(_) | Self::Pending)
    }
}

impl Node {
    /// Weighs rows, in order.
    pub(crate) async fn weigh(&self, rows: &[Row]) -> Result<Vec<Worth>, Failure> {
        self.weigh_with(rows, &mut News::default()).await
    }

    /// The same, for rows that are weighed one after the other.
    pub(crate) async fn weigh_with(&self, rows: &[Row], news: &mut News) -> Result<Vec<Worth>, Failure> {
        if !self.does(Part::Verification) {
            return Ok(vec![Worth::Pending; rows.len()]);
        }
        let wanted = rows.iter().map(|row| (row.tag, row.version)).collect();
        let mut finals = self.mirror.versions(wanted).await?;
        self.open_gathered(rows, &mut finals).await?;
        let mut worths = Vec::with_capacity(rows.len());
        for (row, known) in rows.iter().zip(finals) {
            worths.push(match known {
                Some(known) => self.weigh_final(row, known),
                None => self.weigh_pending(row, news).await?,
            });
        }
        Ok(worths)
    }

    /// Weighs rows that the database calls current: a good one that is not the ledger's latest is rolled back.
    pub(crate) async fn weigh_current(&self, rows: &[Row]) -> Result<Vec<Worth>, Failure> {
        if !self.does(Part::Verification) {
            return self.weigh(rows).await;
        }
        // The heads first: a version that becomes final between the two reads is then not mistaken for a hidden one.
        let heads = self.mirror.heads(rows.iter().map(|row| row.tag).collect()).await?;
        let worths = self.weigh(rows).await?;
        let current = worths.into_iter().zip(heads).map(|(worth, head)| match (worth, head) {
            (Worth::Good(known), Some(head)) if head.version > known.version => Worth::RolledBack(Box::new(head)),
            (worth, _) => worth,
        });
        Ok(current.collect())
    }

    /// Finds the versions of rows whose entries commit to several audit events: what each commits to stands beside the row. An entry that
    /// has the version for itself comes first: nobody gets rid of what that says by naming it once more.
    async fn open_gathered(&self, rows: &[Row], finals: &mut [Option<FinalVersion>]) -> Result<(), Failure> {
        let gathered = || rows.iter().filter(|row| row.gathered.is_some()).map(|row| (row.entry, row.author.clone()));
        let wanted: Vec<_> = gathered().collect::<BTreeSet<_>>().into_iter().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let entries = self.mirror.entries_named(wanted.clone()).await?;
        let entries: BTreeMap<_, _> = wanted.into_iter().zip(entries).collect();
        for (row, known) in rows.iter().zip(finals).filter(|(row, known)| row.gathered.is_some() && known.is_none()) {
            let entry = entries.get(&(row.entry, row.author.clone())).and_then(Option::as_ref);
            *known =
                entry.filter(|entry| entry.refused == 0).and_then(|entry| opened(row, entry)).map(|(_, known)| known);
        }
        Ok(())
    }

    /// A row that the ledger does not have: believed for a while if a member's signed submission in the database or our own journal
    /// carries its entry.
    async fn weigh_pending(&self, row: &Row, news: &mut News) -> Result<Worth, Failure> {
        if let Some(entry) = self.mirror.entry(row.entry, &row.author).await? {
            if entry.refused != 0 {
                return Ok(Worth::Refused);
            }
            // The entry became final after its version was looked up.
            let known = match &row.gathered {
                Some(_) => opened(row, &entry).map(|(_, known)| known),
                None => self.mirror.version(row.tag, row.version).await?,
            };
            return Ok(known.map_or(Worth::Injected, |known| self.weigh_final(row, known)));
        }
        // The row's own time is believed only as far as the signed entry says the same.
        let age_ms = self.now().0.abs_diff(row.written_at.0);
        let ours = row.author == self.org && self.in_lane() > 0;
        // A ledger that stands still must not make good rows look bad: then a member's signature is believed at any age.
        if age_ms > PENDING_MS_MAX && !ours && !self.is_stalled() {
            return Ok(Worth::Injected);
        }
        Ok(if self.signed_entry(row, news).await?.is_some() { Worth::Pending } else { Worth::Injected })
    }

    /// Whether a submission in the database that a member signed, by whatever key it ever had, carries the entry of this very row.
    pub(crate) async fn was_signed_for(&self, row: &Row) -> Result<bool, Failure> {
        let Some(signed) = self.claimed_by(row).await? else { return Ok(false) };
        if entry_of(&signed, row).is_none() {
            return Ok(false);
        }
        let org = &signed.submission.org;
        let holds = |key: PublicKey| signed.verify(&self.genesis.id(), &key).is_ok();
        // The mirror may not have the entry that names the present one.
        let present = self.entry_key(org).await?;
        Ok(present.is_some_and(holds) || self.entry_keys_ever(org).await?.iter().any(|(key, _)| holds(*key)))
    }

    /// The entry of this very row in a member's signed submission in the database.
    pub(crate) async fn signed_entry(&self, row: &Row, news: &mut News) -> Result<Option<Entry>, Failure> {
        let Some(signed) = self.claimed_by(row).await? else { return Ok(None) };
        // Before the signature is looked at: keys cost more than a comparison.
        let Some(entry) = entry_of(&signed, row) else { return Ok(None) };
        let org = &signed.submission.org;
        let holds = |key: PublicKey| signed.verify(&self.genesis.id(), &key).is_ok();
        let ours = *org == self.org && self.signer.is_own(&signed);
        let verified = ours
            || self.entry_key(org).await?.is_some_and(holds)
            || self.entry_keys_lately(org, news).await?.into_iter().any(holds);
        Ok(verified.then(|| entry.clone()))
    }

    /// The submission in the database that says it carries the row's entry, whoever signed it; if the row says of itself what it is.
    pub(crate) async fn claimed_by(&self, row: &Row) -> Result<Option<SignedSubmission>, Failure> {
        let place = self.store.entry(row.entry).await.map_err(crate::find::search_failure)?;
        let Some(place) = place else { return Ok(None) };
        let submissions = self.store.submissions_since(&place.org, place.lane, place.seq, 1).await;
        let submission = submissions.map_err(crate::find::search_failure)?.into_iter().next();
        let Some(submission) = submission else { return Ok(None) };
        let sound = Said::by(&row.bytes).is_some_and(|said| said.names(row) && said.agrees_on_whom(row));
        Ok(SignedSubmission::from_bytes(&submission.bytes).ok().filter(|_| sound))
    }

    /// Weighs a row whose tag and version the ledger knows.
    fn weigh_final(&self, row: &Row, known: FinalVersion) -> Worth {
        let known = Box::new(known);
        if commit(&row.salt, &row.bytes) != known.commitment || row.deleted != known.deleted {
            return Worth::Modified(known);
        }
        // The commitment stands for these very bytes, so what they say is as it was when they were read before.
        let kept = self.said.get(&known.commitment);
        let is_kept = kept.is_some();
        let Some(said) = kept.or_else(|| Said::by(&row.bytes).map(Arc::new)) else { return Worth::Duplicated(known) };
        if !said.names(row) {
            return Worth::Duplicated(known);
        }
        // Decisions rest on these columns as much as on the bytes.
        let opens = row.gathered.is_none() || row.entry == known.entry;
        if row.author != known.org || row.pseudonym != known.patient || !opens || !said.agrees_on_whom(row) {
            return Worth::Modified(known);
        }
        if !is_kept {
            // Nothing in it is longer than the row's columns, with which it agrees.
            self.said.put(known.commitment, said);
        }
        Worth::Good(known)
    }
}

/// The entry of this very row in a submission.
fn entry_of<'a>(signed: &'a SignedSubmission, row: &Row) -> Option<&'a Entry> {
    let entry = signed.submission.entries.iter().find(|entry| entry.id == row.entry);
    entry.filter(|entry| commits_to(entry, row))
}

/// Whether the bytes are those that the ledger holds a commitment to, and name the row's record; whatever its other columns say.
pub(crate) fn bytes_hold(row: &Row, known: &FinalVersion) -> bool {
    row.deleted == known.deleted && bytes_are(row, &known.commitment)
}

/// Whether the bytes are those of a commitment, and name the row's record.
pub(crate) fn bytes_are(row: &Row, commitment: &Commitment) -> bool {
    commit(&row.salt, &row.bytes) == *commitment && Said::by(&row.bytes).is_some_and(|said| said.names(row))
}

/// What a record's bytes say of it.
pub(crate) struct Said {
    rtype: String,
    id: Option<String>,
    version: Option<String>,
    /// When it was written; not every record says so.
    written_at: Option<String>,
    label: &'static str,
    patient: Option<String>,
}

impl Said {
    /// None if the bytes are no resource.
    fn by(bytes: &[u8]) -> Option<Self> {
        let limits = Limits { bytes_max: store::RECORD_BYTES_MAX, ..Limits::RESOURCE };
        let resource = Resource::parse(bytes, limits).ok()?;
        Some(Self {
            rtype: resource.rtype().to_string(),
            id: resource.id().map(Into::into),
            version: resource.version_id().map(Into::into),
            written_at: resource.root().path(&["meta", "lastUpdated"]).and_then(JsonNode::as_str).map(Into::into),
            label: resource.confidentiality().code(),
            patient: patient_in(&resource),
        })
    }

    /// Whether the bytes are of the record and version that the row's key says, written when the row says.
    fn names(&self, row: &Row) -> bool {
        self.rtype == row.rtype
            && self.id.as_deref() == Some(row.id.as_str())
            && self.version.as_deref() == Some(row.version.to_string().as_str())
            && self.written_at.as_ref().is_none_or(|at| *at == row.written_at.to_instant())
    }

    /// Whether patient and label in the row's columns are those that the bytes say. A deletion says neither, and shows nothing.
    fn agrees_on_whom(&self, row: &Row) -> bool {
        row.deleted || (row.label == self.label && row.patient == self.patient)
    }
}

/// The Patient that a stored resource is about: itself, the one it refers to, or the one whose data an audit event is about.
pub(crate) fn patient_in(resource: &Resource) -> Option<String> {
    if resource.rtype() == "AuditEvent" {
        let entities = resource.root().get("entity").into_iter().flat_map(JsonNode::each);
        let patients =
            entities.filter(|e| e.path(&["role", "code"]).and_then(JsonNode::as_str).as_deref() == Some("1"));
        let references = patients.filter_map(|e| e.path(&["what", "reference"]).and_then(JsonNode::as_str));
        return references.filter_map(|r| r.strip_prefix("Patient/").map(str::to_owned)).next();
    }
    resource.patient_reference()?.strip_prefix("Patient/").map(str::to_owned)
}

/// The version that a final entry of several accesses has of a row's audit event, if it commits to one of its tag, and its place there.
pub(crate) fn opened(row: &Row, entry: &FinalEntry) -> Option<(u32, FinalVersion)> {
    let time = entry.time;
    let entry = Entry::from_bytes(&entry.bytes).ok()?;
    let opening = Gathered::from_bytes(row.gathered.as_deref()?).ok()?;
    let access = opening.open(&entry).ok()?;
    let (tag, version, commitment) = committed(&access)?;
    let known = FinalVersion {
        tag,
        version,
        commitment,
        org: access.org,
        record_type: RecordType::Permission,
        deleted: false,
        patient: access.patient,
        time,
        entry: entry.id,
        fhir_type: Some(AUDIT_EVENT.to_owned()),
        copy: None,
        wrapped_key: None,
    };
    (tag == row.tag && version == row.version).then_some((opening.place, known))
}

/// The access that an entry of several commits to, as the row opens it.
pub(crate) fn access_in(entry: &Entry, row: &Row) -> Option<Entry> {
    let opening = Gathered::from_bytes(row.gathered.as_deref()?).ok()?;
    opening.open(entry).ok()
}

fn commits_to(entry: &Entry, row: &Row) -> bool {
    let access = match &row.gathered {
        Some(_) => access_in(entry, row),
        None => None,
    };
    let entry = match (&row.gathered, &access) {
        (None, _) => entry,
        (Some(_), Some(access)) => access,
        (Some(_), None) => return false,
    };
    let commitment = commit(&row.salt, &row.bytes);
    let deletes = matches!(entry.body, Body::Record { deleted: true, .. });
    let columns = entry.org == row.author
        && entry.patient == row.pseudonym
        && entry.time == row.written_at
        && deletes == row.deleted;
    columns
        && committed(entry).is_some_and(|(tag, version, committed)| {
            tag == row.tag && version == row.version && committed == commitment
        })
}

/// The record version that an entry commits to, if it does.
pub(crate) fn committed(entry: &Entry) -> Option<(RecordTag, u64, Commitment)> {
    match &entry.body {
        Body::Record { tag, version, commitment, .. } => Some((*tag, *version, *commitment)),
        Body::Access { audit, commitment, .. } => Some((*audit, 1, *commitment)),
        _ => None,
    }
}

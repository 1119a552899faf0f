//! What happened in the cloud becomes an entry: `derive(policy, author, about, id, event)`.
//!
//! Nothing of an event's content gets into an entry but commitments, keyed digests, and codes that the derivation policy itself
//! lists. What the database must keep beside the entry (salts, openings, encrypted copies) comes back with it.

use crate::{
    ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, Attachment, AttachmentKind, Body, ClaimStep, DerivationPolicy, DeviceStep,
    ENTRY_BYTES_MAX, Entry, GrantStep, HandoffStep, InvestigationStep, MonthOpening, OverrideStep,
    batch::{BatchError, summary},
    essential::{attachment_digest, seal_copy},
    event::{AuditEvent, Event, Frames, LetGo, RecordWritten},
    merkle,
    month::LastMonth,
};
use record::{
    Commitment, Digest, Id16, OrgId, PatientKey, Pseudonym, Purpose, RecordTag, Salt, TimeMs, audit_tag, commit,
    record_tag, salt,
};

/// Who did it, when and why, as the gateway decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The organisation.
    pub org: OrgId,
    /// Digest of the access policy that it was decided under.
    pub access_policy: Digest,
    /// The person or program: [`PatientKey::actor`] under the organisation's own key.
    pub actor: Digest,
    /// Why.
    pub purpose: Purpose,
    /// When, by the organisation's clock.
    pub time: TimeMs,
}

/// Whom it is about: the secret that commitments are salted by, and the log that the entry is filed in.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The patient's key; or the organisation's own, for what concerns no patient, and for organisations that may not hold the
    /// patient's.
    pub key: &'a PatientKey,
    /// The log.
    pub filed: Filed,
}

/// The log that an entry is filed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filed {
    /// Under the key's pseudonym of the month. `Some` until the author has seen an entry of that month in *final* state: an entry
    /// of its own that is still on the way may be refused, and the next one must be able to begin the log.
    ByKey(Option<LastMonth>),
    /// Under a pseudonym that was learnt from a row, in a log that has begun: for organisations without the patient's key.
    Under(Pseudonym),
    /// In no log.
    Nowhere,
}

/// An entry, with what its author must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// To be signed and submitted.
    pub entry: Entry,
    /// What the row of the record, the audit event or the document must carry, where the event has one.
    pub row: Option<Row>,
    /// Opens the entry's month link, where it has one.
    pub month: Option<MonthOpening>,
    /// Bytes for the vaults, with their names in the entry.
    pub attachments: Vec<(Attachment, Vec<u8>)>,
}

/// What a row carries, so that any gateway can check it without the patient key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The record over all its versions.
    pub tag: RecordTag,
    /// Salt of the commitment.
    pub salt: Salt,
    /// The pseudonym that the entry is filed under.
    pub pseudonym: Option<Pseudonym>,
    /// Commitment to the exact bytes.
    pub commitment: Commitment,
}

/// Why nothing was derived. All of these are the gateway's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The kind commits to something and there is no key to do it with.
    #[error("the event needs a patient's or the organisation's key")]
    KeyMissing,
    /// A record's name is not `Type/id`.
    #[error("a record is named by its type and id")]
    RecordName,
    /// A record's copy, or a wrapped key, is larger than vaults take; or there are too many.
    #[error("at most {ATTACHMENTS_MAX} attachments of {ATTACHMENT_BYTES_MAX} bytes can go with an entry")]
    Attachments,
    /// Frames that cannot be one batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// More items than an entry can count.
    #[error("too many items for one entry")]
    Count,
    /// The entry would be longer than [`ENTRY_BYTES_MAX`].
    #[error("the entry would have {0} bytes: at most {ENTRY_BYTES_MAX} are allowed")]
    EntryTooLarge(usize),
}

/// Turns an event into an entry with the id `id`, which must be new and random.
pub fn derive(
    policy: &DerivationPolicy,
    author: &Author,
    about: Option<&About<'_>>,
    id: Id16,
    event: &Event<'_>,
) -> Result<Derived, DeriveError> {
    let scribe = Scribe { policy, author, about, id };
    let (body, row, attachments) = scribe.body(event)?;
    let (patient, opening) = scribe.filed();
    let entry = Entry {
        id,
        org: author.org.clone(),
        time: author.time,
        purpose: author.purpose,
        policy: author.access_policy,
        actor: author.actor,
        patient,
        month: opening.as_ref().map(MonthOpening::link),
        body,
    };
    let length = entry.to_bytes().len();
    if length > ENTRY_BYTES_MAX {
        return Err(DeriveError::EntryTooLarge(length));
    }
    Ok(Derived { entry, row, month: opening, attachments })
}

type Attachments = Vec<(Attachment, Vec<u8>)>;

struct Scribe<'a> {
    policy: &'a DerivationPolicy,
    author: &'a Author,
    about: Option<&'a About<'a>>,
    id: Id16,
}

impl Scribe<'_> {
    fn body(&self, event: &Event<'_>) -> Result<(Body, Option<Row>, Attachments), DeriveError> {
        let alone = |body| Ok((body, None, Vec::new()));
        match event {
            Event::RecordWritten(written) => self.record(written),
            Event::Disclosed { action, versions, under, audit } => {
                let set = merkle::root(versions.iter().map(|version| merkle::leaf(version.0.as_ref())));
                let row = self.audit(audit)?;
                let (count, under) = (count(versions.len())?, *under);
                let (audit, commitment) = (row.tag, row.commitment);
                let body = Body::Access { action: *action, set, count, denied: false, under, audit, commitment };
                Ok((body, Some(row), Vec::new()))
            }
            Event::Denied { action, under, audit } => {
                let row = self.audit(audit)?;
                let (set, under) = (merkle::root([]), *under);
                let (audit, commitment) = (row.tag, row.commitment);
                let body = Body::Access { action: *action, set, count: 0, denied: true, under, audit, commitment };
                Ok((body, Some(row), Vec::new()))
            }
            Event::Granted { id, consent, until } => {
                alone(Body::Grant { id: *id, step: GrantStep::Issued, consent: *consent, until: *until })
            }
            Event::GrantRevoked { id, consent } => {
                alone(Body::Grant { id: *id, step: GrantStep::Revoked, consent: *consent, until: None })
            }
            Event::OverrideOpened { id, until, reason } => self.overriding(id, OverrideStep::Opened(*until), 1, reason),
            Event::OverrideClosed { id, reason } => self.overriding(id, OverrideStep::Closed, 2, reason),
            Event::OverrideReviewed { id, justified, text } => {
                self.overriding(id, OverrideStep::Reviewed(*justified), 3, text)
            }
            Event::DeviceBound { device, binding, key } => {
                alone(Body::Device { device: *device, step: DeviceStep::Bound(*binding, *key) })
            }
            Event::DeviceUnbound { device, binding } => {
                alone(Body::Device { device: *device, step: DeviceStep::Unbound(*binding) })
            }
            Event::DeviceRevoked { device, key, binding } => {
                alone(Body::Device { device: *device, step: DeviceStep::Revoked(*key, *binding) })
            }
            Event::FramesBatched(frames) => alone(batch(frames)?),
            Event::FramesLetGo(frames) => alone(self.disposal(frames)?),
            Event::Analysed { result, inputs, model, priority } => {
                let inputs = merkle::root(inputs.iter().map(|input| merkle::leaf(input.as_ref())));
                let result = record_tag(self.key()?, result);
                alone(Body::Analytics { result, inputs, model: *model, priority: *priority })
            }
            Event::Alarm { id, step, priority } => alone(Body::Alarm { id: *id, step: *step, priority: *priority }),
            Event::HandoffOffered { id, to } => {
                let (from, to) = (self.author.org.clone(), to.clone());
                alone(Body::Handoff { id: *id, step: HandoffStep::Offered, from, to })
            }
            Event::HandoffAccepted { id, from } => {
                let (from, to) = (from.clone(), self.author.org.clone());
                alone(Body::Handoff { id: *id, step: HandoffStep::Accepted, from, to })
            }
            Event::ClaimMoved { id, step, insurer, amount, services } => {
                self.claim(id, *step, insurer, amount, services)
            }
            Event::InvestigationOpened { id, order } => self.investigation(id, InvestigationStep::Opened, 1, order),
            Event::InvestigationConcluded { id, result } => {
                self.investigation(id, InvestigationStep::Concluded, 2, result)
            }
            Event::Disputed { record, version, accepted, branch } => {
                let tag = record_tag(self.key()?, record);
                alone(Body::Dispute { tag, version: *version, accepted: *accepted, branch: *branch })
            }
            Event::Linked { other, same } => alone(Body::Link { other: *other, same: *same }),
            Event::CustodyTaken { id, step, records } => {
                let mut tags: Vec<RecordTag> = records.to_vec();
                tags.sort();
                let root = merkle::root(tags.iter().map(|tag| merkle::leaf(tag.0.as_ref())));
                alone(Body::Custody { id: *id, step: *step, records: root, count: count(tags.len())? })
            }
            Event::PolicyMoved { kind, document, step } => {
                alone(Body::Policy { kind: *kind, document: *document, step: step.clone() })
            }
            Event::MemberChanged { member, step } => alone(Body::Member { member: member.clone(), step: step.clone() }),
        }
    }

    fn record(&self, written: &RecordWritten<'_>) -> Result<(Body, Option<Row>, Attachments), DeriveError> {
        let RecordWritten { record, version, previous, bytes, resource, deleted, wrapped_keys } = written;
        let fhir_type = record.split_once('/').map(|(name, _)| name).filter(|name| !name.is_empty());
        let fhir_type = fhir_type.ok_or(DeriveError::RecordName)?;
        let row = self.commit(record, *version, bytes)?;
        let mut attachments = Vec::new();
        if self.policy.is_essential(fhir_type) && !deleted {
            let copy = seal_copy(self.key()?, record, *version, &self.author.org, &self.id, bytes);
            attachments.push(attach(AttachmentKind::EssentialCopy, copy)?);
        }
        for wrapped in wrapped_keys.iter() {
            attachments.push(attach(AttachmentKind::WrappedKey, wrapped.clone())?);
        }
        if attachments.len() > ATTACHMENTS_MAX {
            return Err(DeriveError::Attachments);
        }
        let body = Body::Record {
            tag: row.tag,
            kind: self.policy.record_type_of(fhir_type, resource),
            version: *version,
            previous: *previous,
            commitment: row.commitment,
            deleted: *deleted,
            codes: self.policy.codes(fhir_type, resource),
            attachments: attachments.iter().map(|(attachment, _)| *attachment).collect(),
        };
        Ok((body, Some(row), attachments))
    }

    fn overriding(
        &self,
        id: &Id16,
        step: OverrideStep,
        version: u64,
        text: &[u8],
    ) -> Result<(Body, Option<Row>, Attachments), DeriveError> {
        let row = self.commit(&format!("override/{id}"), version, text)?;
        Ok((Body::Override { id: *id, step, reason: row.commitment }, Some(row), Vec::new()))
    }

    fn investigation(
        &self,
        id: &Id16,
        step: InvestigationStep,
        version: u64,
        text: &[u8],
    ) -> Result<(Body, Option<Row>, Attachments), DeriveError> {
        let row = self.commit(&format!("investigation/{id}"), version, text)?;
        Ok((Body::Investigation { id: *id, step, document: row.commitment }, Some(row), Vec::new()))
    }

    /// Services are nullified when they are billed, and named at no other step.
    fn claim(
        &self,
        id: &Id16,
        step: ClaimStep,
        insurer: &OrgId,
        amount: &[u8],
        services: &[&str],
    ) -> Result<(Body, Option<Row>, Attachments), DeriveError> {
        let row = self.commit(&format!("claim/{id}"), u64::from(step as u8), amount)?;
        let key = self.key()?;
        let billed = if step == ClaimStep::Submitted { services } else { &[] };
        let mut nullifiers: Vec<Digest> = billed.iter().map(|service| key.nullifier(service)).collect();
        nullifiers.sort();
        nullifiers.dedup();
        let insurer = insurer.clone();
        Ok((
            Body::Claim { id: *id, step, insurer, amount: row.commitment, services: nullifiers },
            Some(row),
            Vec::new(),
        ))
    }

    fn disposal(&self, frames: &LetGo<'_>) -> Result<Body, DeriveError> {
        let key = self.key()?;
        let mut roll_ups: Vec<RecordTag> = frames.roll_ups.iter().map(|record| record_tag(key, record)).collect();
        let mut concluded = frames.concluded.to_vec();
        roll_ups.sort();
        concluded.sort();
        let LetGo { binding, bound, after, last, count, .. } = *frames;
        let document = self.policy.digest();
        Ok(Body::Disposal { binding, bound, after, last, count, document, roll_ups, concluded })
    }

    fn key(&self) -> Result<&PatientKey, DeriveError> {
        self.about.map(|about| about.key).ok_or(DeriveError::KeyMissing)
    }

    fn commit(&self, name: &str, version: u64, bytes: &[u8]) -> Result<Row, DeriveError> {
        self.row(name, version, bytes, record_tag(self.key()?, name))
    }

    fn audit(&self, event: &AuditEvent<'_>) -> Result<Row, DeriveError> {
        self.row(event.record, 1, event.bytes, audit_tag(self.key()?, event.record, &self.author.org))
    }

    fn row(&self, name: &str, version: u64, bytes: &[u8], tag: RecordTag) -> Result<Row, DeriveError> {
        if name.split_once('/').is_none_or(|(kind, id)| kind.is_empty() || id.is_empty()) {
            return Err(DeriveError::RecordName);
        }
        let key = self.key()?;
        let salt = salt(key, name, version, &self.author.org, &self.id);
        let (pseudonym, _) = self.filed();
        Ok(Row { tag, salt, pseudonym, commitment: commit(&salt, bytes) })
    }

    fn filed(&self) -> (Option<Pseudonym>, Option<MonthOpening>) {
        let Some(about) = self.about else { return (None, None) };
        match about.filed {
            Filed::Nowhere => (None, None),
            Filed::Under(pseudonym) => (Some(pseudonym), None),
            Filed::ByKey(last) => {
                let opening = last.map(|last| MonthOpening::new(about.key, &self.id, last));
                (Some(about.key.pseudonym(self.author.time.month())), opening)
            }
        }
    }
}

fn batch(frames: &Frames<'_>) -> Result<Body, DeriveError> {
    let sum = summary(frames.after, frames.admitted)?;
    Ok(Body::Batch {
        binding: frames.binding,
        root: sum.root,
        count: sum.count,
        first: sum.first,
        last: sum.last,
        gaps: sum.gaps,
        refused: frames.refused,
    })
}

fn attach(kind: AttachmentKind, bytes: Vec<u8>) -> Result<(Attachment, Vec<u8>), DeriveError> {
    let length = u32::try_from(bytes.len()).map_err(|_| DeriveError::Attachments)?;
    if !(1..=ATTACHMENT_BYTES_MAX).contains(&length) {
        return Err(DeriveError::Attachments);
    }
    Ok((Attachment { digest: attachment_digest(&bytes), length, kind }, bytes))
}

fn count(items: usize) -> Result<u32, DeriveError> {
    u32::try_from(items).map_err(|_| DeriveError::Count)
}

#[cfg(test)]
mod tests;

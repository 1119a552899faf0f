//! Rows as they rest: a version of a record, a frame, a submission, an attachment, a wrapped key.
//!
//! Every column is exactly what was given. The database is not trusted, so a row that is read proves nothing until its commitment was
//! checked; a row that cannot even be read is reported as [`Malformed`] and never hides the good rows beside it.

use record::{Digest, Id16, OrgId, Pseudonym, RecordTag, Salt, TimeMs};

/// One version of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// FHIR type, such as `Observation`.
    pub rtype: String,
    /// Logical id.
    pub id: String,
    /// Version number, from 1.
    pub version: u64,
    /// The exact bytes that the commitment was made over.
    pub bytes: Vec<u8>,
    /// Salt of the commitment.
    pub salt: Salt,
    /// What the ledger calls the record.
    pub tag: RecordTag,
    /// What the ledger called the patient in the month of writing; none for records without a patient.
    pub pseudonym: Option<Pseudonym>,
    /// Logical id of the Patient whose record this is.
    pub patient: Option<String>,
    /// The organisation that wrote it.
    pub author: OrgId,
    /// The ledger entry that carries the commitment.
    pub entry: Id16,
    /// When the author's gateway wrote it.
    pub written_at: TimeMs,
    /// Whether this version deletes the record.
    pub deleted: bool,
    /// The security label that access is decided by; empty when there is none.
    pub label: String,
    /// Opens the commitment, where the entry commits to several audit events together.
    pub gathered: Option<Vec<u8>>,
}

impl Row {
    /// Names this version.
    pub fn key(&self) -> VersionKey {
        VersionKey { rtype: self.rtype.clone(), id: self.id.clone(), version: self.version }
    }
}

/// Names one version of one record. Sorts by type, id and version.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    /// FHIR type.
    pub rtype: String,
    /// Logical id.
    pub id: String,
    /// Version number.
    pub version: u64,
}

/// A row that is not in the form that this crate writes: somebody else wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {version} of `{rtype}/{id}` has no readable `{column}`")]
pub struct Malformed {
    /// FHIR type, as far as it is readable.
    pub rtype: String,
    /// Logical id, as far as it is readable.
    pub id: String,
    /// Version number; 0 when it is not readable.
    pub version: u64,
    /// The first column that does not have its form.
    pub column: &'static str,
    /// Where it stands in the database, for taking it out.
    pub place: u64,
}

/// Rows, and beside them those that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The readable ones, in the order asked for.
    pub rows: Vec<Row>,
    /// The others.
    pub malformed: Vec<Malformed>,
}

impl Rows {
    pub(crate) fn push(&mut self, row: Result<Row, Malformed>) {
        match row {
            Ok(row) => self.rows.push(row),
            Err(malformed) => self.malformed.push(malformed),
        }
    }
}

/// A signed frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Id of the device that signed it.
    pub device: String,
    /// The device's counter; a device uses each number once.
    pub counter: u64,
    /// The binding of device and patient that it was admitted under.
    pub binding: Id16,
    /// Logical id of the Patient.
    pub patient: String,
    /// When we received it.
    pub received_at: TimeMs,
    /// When the device says that it measured the first sample.
    pub measured_at: TimeMs,
    /// Bits of the caller's own that say of what kind the frame is, so that those of some kinds are found among many.
    pub kind: i64,
    /// SHA-256 of the frame, as the caller computed it.
    pub digest: Digest,
    /// The frame, in the form in which the caller keeps it.
    pub bytes: Vec<u8>,
}

/// A frame as it is filed, whatever its columns hold: none where one has not the form that this program writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FiledFrame {
    /// Where it stands in the database.
    pub place: i64,
    /// See [`Frame::device`].
    pub device: Option<String>,
    /// See [`Frame::counter`].
    pub counter: Option<u64>,
    /// See [`Frame::binding`].
    pub binding: Option<Id16>,
    /// See [`Frame::patient`].
    pub patient: Option<String>,
    /// See [`Frame::received_at`].
    pub received_at: Option<TimeMs>,
    /// See [`Frame::measured_at`].
    pub measured_at: Option<TimeMs>,
    /// See [`Frame::kind`].
    pub kind: Option<i64>,
    /// See [`Frame::digest`].
    pub digest: Option<Digest>,
    /// See [`Frame::bytes`].
    pub bytes: Option<Vec<u8>>,
}

/// Where a frame stands in the order of devices and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramePlace {
    /// As the database has it: text, if a gateway wrote it.
    pub(crate) device: Vec<u8>,
    pub(crate) counter: i64,
    /// Where it stands in the database.
    pub place: i64,
}

impl FramePlace {
    /// The device that it is filed under; none when that is no text.
    pub fn device(&self) -> Option<&str> {
        std::str::from_utf8(&self.device).ok()
    }

    /// The counter that it is filed under; none when that is no counter.
    pub fn counter(&self) -> Option<u64> {
        self.counter.try_into().ok()
    }
}

/// What stays of a frame that was let go. It is read as anything else in the database: whoever asks checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The frame's digest.
    pub digest: Digest,
    /// The binding that it was filed under.
    pub binding: Id16,
    /// Its counter.
    pub counter: u64,
    /// The id of the Patient.
    pub patient: String,
}

/// What the ledger names by digest and keeps beside itself: here an untrusted copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// SHA-256 of `bytes`, as the caller computed it.
    pub digest: Digest,
    /// The attachment.
    pub bytes: Vec<u8>,
}

/// A patient key, wrapped for one organisation: an untrusted copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Logical id of the Patient.
    pub patient: String,
    /// The organisation that can unwrap it.
    pub org: OrgId,
    /// The wrapped key.
    pub bytes: Vec<u8>,
}

/// A signed submission: consecutive entries of one organisation's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The organisation.
    pub org: OrgId,
    /// Its lane.
    pub lane: u32,
    /// Sequence number of the first entry.
    pub first_seq: u64,
    /// How many entries.
    pub count: u32,
    /// The signed bytes.
    pub bytes: Vec<u8>,
}

/// Where an entry stands among the submissions, and the record that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlace {
    /// The entry.
    pub id: Id16,
    /// The organisation that signed it.
    pub org: OrgId,
    /// Its lane.
    pub lane: u32,
    /// Its sequence number there.
    pub seq: u64,
    /// The version that it commits to, if it is about one.
    pub record: Option<VersionKey>,
}

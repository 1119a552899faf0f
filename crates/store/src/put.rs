//! What is written together: versions, ledger entries, frames, attachments and keys, all of them or none.

use crate::{
    extract::IndexRow,
    row::{Attachment, EntryPlace, Frame, Row, VersionKey, WrappedKey},
    seal::SealError,
    search::Criterion,
    template::Template,
};
use record::Id16;
use std::sync::Arc;

/// The longest FHIR type or logical id, in bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// The longest record, frame or attachment, in bytes.
pub const RECORD_BYTES_MAX: usize = 32 << 20;
/// The most that one [`Put`] may carry, in bytes.
pub const PUT_BYTES_MAX: usize = 128 << 20;

/// One atomic write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Put {
    /// Checked first, inside the transaction.
    pub conditions: Vec<Unless>,
    /// Rows to take out before anything is inserted. For recovery, which puts good rows in the place of bad ones, and files frames anew:
    /// nothing else ever takes a version or a frame back.
    pub removals: Vec<Removal>,
    /// Versions to insert, in this order.
    pub records: Vec<NewVersion>,
    /// Ledger entries to seal, in this order.
    pub entries: Vec<NewEntry>,
    /// Frames to keep. The same frame again is no error.
    pub frames: Vec<Frame>,
    /// Attachments to keep.
    pub attachments: Vec<Attachment>,
    /// Wrapped keys to keep; a later one for the same patient and organisation takes the earlier one's place.
    pub wrapped_keys: Vec<WrappedKey>,
}

/// A version to insert, and the values that it is found by.
#[derive(Debug, Clone, PartialEq)]
pub struct NewVersion {
    /// The row, its version number included.
    pub row: Row,
    /// What must stand there before.
    pub expected: Expected,
    /// Search values of this version; they replace those of the version before. Not kept for a deleted record.
    pub index: Vec<IndexRow>,
    /// What it has in common with others of its type; see [`Template`]. It is not for a record that is deleted.
    pub template: Option<Arc<Template>>,
}

/// What must be the current version of a record, so that a new one may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No version at all, not even a deletion. The new one has number 1.
    New,
    /// This version, a deletion or not. The new one has the next number.
    Version(u64),
    /// Whatever: for recovery, which inserts versions in any order. Only the same version must not be there.
    Any,
}

/// A row to take out, a version with its search values. When it was the current one, the newest that is left takes its place. A row that
/// is not there is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The row with this key.
    Version(VersionKey),
    /// The row in this place, as [`crate::Malformed::place`] says: its key may not be readable.
    Place(u64),
    /// The frame in this place, as [`crate::FiledFrame::place`] says.
    Frame(i64),
    /// The same, of a frame that is let go: its digest stays, with binding, counter and patient.
    LetGo(i64),
}

/// An entry for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its id.
    pub id: Id16,
    /// Its encoding, handed to [`crate::Seal`].
    pub bytes: Vec<u8>,
    /// The version that it commits to.
    pub record: Option<VersionKey>,
}

/// A condition: no current record of this type meets all criteria.
///
/// It is checked on the writer's own connection inside the transaction, so of two gateways that create under the same condition one fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Unless {
    /// FHIR type.
    pub rtype: String,
    /// At least one.
    pub criteria: Vec<Criterion>,
}

/// The write is durable: in the database and in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Where each entry stands, in the order of [`Put::entries`].
    pub entries: Vec<EntryPlace>,
}

/// Why a write did not happen. Except for [`PutError::InDoubt`], nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The queue of writes is full: the caller should try again a little later.
    #[error("too many writes are waiting; try again")]
    Busy,
    /// The database server cannot be reached, or has not said yet what became of an earlier write: the caller should try again a little
    /// later.
    #[error("the database server cannot be reached; nothing was written, try again")]
    Unavailable,
    /// The store was closed, or its writer stopped after a failure of the disk.
    #[error("the store takes no more writes")]
    Stopped,
    /// The caller asks for more than one write may carry.
    #[error("the write has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// What was given.
        bytes: usize,
        /// The bound that it exceeds.
        max: usize,
    },
    /// The caller's write contradicts itself or leaves the number range of the database.
    #[error("the write is not well-formed: {0}")]
    Invalid(&'static str),
    /// Another version is current than the caller expected.
    #[error("version of `{rtype}/{id}` is {found:?}, not as expected")]
    Conflict {
        /// FHIR type.
        rtype: String,
        /// Logical id.
        id: String,
        /// What the caller expected.
        expected: Expected,
        /// The current version, if any.
        found: Option<u64>,
    },
    /// A record that meets a condition is there already.
    #[error("condition {condition} is met by a `{rtype}` that exists")]
    Matched {
        /// Index in [`Put::conditions`].
        condition: usize,
        /// FHIR type.
        rtype: String,
        /// Logical ids of what matches, at most two.
        ids: Vec<String>,
    },
    /// The device's counter stands for another frame already: a replay or a cloned key.
    #[error("counter {counter} of device `{device}` was used for another frame")]
    FrameConflict {
        /// The device.
        device: String,
        /// The counter.
        counter: u64,
    },
    /// The entries could not be sealed.
    #[error(transparent)]
    Sealing(#[from] SealError),
    /// The database or the journal failed before the commit.
    #[error("nothing was written: {0}")]
    NotWritten(String),
    /// The database failed in the commit itself. Either all of it is there, or nothing: the journal has it, and what became of it is
    /// decided before the next write, or at the next opening.
    #[error("the database did not confirm the write")]
    InDoubt,
}

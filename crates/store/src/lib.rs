//! Where it rests: versions, search indexes, frames, signed entries; SQLite and PostgreSQL under one suite.
//!
//! The store gets bytes and gives the same bytes back; it knows neither FHIR's rules nor the ledger's formats. A [`Put`] is all or
//! nothing and durable when it is answered. One writer thread commits many of them together: rows, then the group's ledger entries
//! sealed by the caller's [`Seal`], then the journal (fsync), then the database (fsync). Readers have connections and threads of their
//! own and never wait for the writer. Several processes may share one database; each has its own journal. An [`Address`] says which
//! database it is: an SQLite file, or one of a PostgreSQL server.
//!
//! The database is not trusted: what is read from it has yet to be verified, and the journal decides what is still to be anchored.

mod store;

mod address;
mod put;
mod row;
mod seal;

mod chain;
mod columns;
mod compartment;
mod extract;
mod holds;
mod order;
mod search;
mod select;
mod template;

mod readers;
mod writer;

mod journal;
mod postgres;
mod sqlite;

mod int64;

mod fault;

#[cfg(test)]
mod crash;
#[cfg(test)]
#[path = "../tests/server/mod.rs"]
mod server;

pub use address::{Address, AddressError, ServerAddress};
pub use chain::{CHAIN_LINKS_MAX, rests_on};
pub use compartment::{compartments, types_within};
pub use extract::{
    APART, DateRange, INDEX_TEXT_BYTES_MAX, IndexRow, IndexValue, Kind, Number, WHOLE, Written, extract, extract_some,
    filed, indexed, kind, normalise, parts, reference, reference_targets,
};
pub use journal::JournalError;
pub use order::{Cursor, SORT_KEYS_MAX, Sort};
pub use put::{
    Committed, Expected, KEY_BYTES_MAX, NewEntry, NewVersion, PUT_BYTES_MAX, Put, PutError, RECORD_BYTES_MAX, Removal,
    Unless,
};
pub use readers::{
    FrameCursor, FrameFilter, FramePage, FrameQuery, GATHERED_BYTES_MAX, GATHERED_ROWS_MAX, Kinds, ReadError, Reader,
    Sweep,
};
pub use row::{
    Attachment, EntryPlace, FiledFrame, Frame, FramePlace, Malformed, Row, Rows, Submission, Trace, VersionKey,
    WrappedKey,
};
pub use seal::{Kept, Seal, SealError, SealedSubmission};
pub use search::{
    ALTERNATIVES_MAX, BadSearch, CRITERIA_MAX, Criterion, Match, PAGE_MAX, Page, Prefix, Search, TextMatch, UriMatch,
};
pub use store::{Config, LaneEnd, OpenError, Opened, Store};
pub use template::Template;
pub use writer::{DOUBT_WAIT_MAX, GROUP_BYTES_MAX, GROUP_MS_MAX, GROUP_PUTS_MAX, QUEUE_BYTES_MAX, QUEUE_LEN_MAX};

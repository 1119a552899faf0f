//! PostgreSQL: a database on a server, behind functions that mirror those of SQLite.

mod columns;
mod pool;
mod read;
mod remove;
mod schema;
mod server;
mod session;
mod stage;
mod write;

#[cfg(test)]
mod plans;

pub(crate) use pool::Pool;
pub(crate) use read::{
    attachment, counts, entry, filed_frame, filed_frames, frame, frame_digests, frame_places, frames, gathered,
    history, lanes, last_frame, patient_records, read, read_beside, search, submissions_since, sweep, trace, traces,
    vread, wrapped_keys,
};
pub(crate) use schema::check_format;
pub(crate) use server::{Server, Trust};
pub(crate) use write::{CommitError, Writer};

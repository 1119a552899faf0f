//! SQLite: a database in a file, behind functions that a second database can mirror.

mod columns;
mod log;
mod read;
mod remove;
mod schema;
mod values;
mod write;

#[cfg(test)]
mod plans;

pub(crate) use read::{
    attachment, counts, entry, filed_frame, filed_frames, frame, frame_digests, frame_places, frames, gathered,
    history, lanes, last_frame, patient_records, read, read_beside, search, submissions_since, sweep, trace, traces,
    vread, wrapped_keys,
};
pub(crate) use schema::{check_format, open_reader};
pub(crate) use write::Writer;

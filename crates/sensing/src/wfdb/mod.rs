//! Recordings in PhysioNet's WFDB formats, read and written: headers, signals in formats 16, 80 and 212, annotations.
//!
//! Source: WFDB Applications Guide, header(5), signal(5), annot(5). Takes bytes, reads no files: a caller reads the header,
//! asks it for [`Header::files`], and hands those over.

mod annotation;
mod header;
mod samples;
mod write;

pub use annotation::{Annotation, annotations};
pub use header::{Format, Header, SignalSpec, channel};
pub use samples::Recording;
pub use write::{NotWritten, WRITTEN_SAMPLES_MAX, Written, write, write_annotations};

/// The most signals in a record.
pub const RECORD_SIGNALS_MAX: usize = 64;
/// The most samples in a record, all signals together.
pub const RECORD_SAMPLES_MAX: usize = 1 << 28;
/// The longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most annotations in a file.
pub const ANNOTATIONS_MAX: usize = 1 << 24;

/// Why bytes are no recording that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The header breaks the format.
    #[error("line {line} of the header: {what}")]
    Header {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A signal is stored in a way that is not read here.
    #[error("signal {signal} is in format {format}; formats 16, 80 and 212 are read")]
    Format {
        /// Counted from 0.
        signal: usize,
        /// The format's number.
        format: u32,
    },
    /// A bound of this reader is passed.
    #[error("{0}")]
    TooLarge(&'static str),
    /// A signal file that the header names was not given.
    #[error("the signal file `{0}` is missing")]
    FileMissing(String),
    /// A signal file ends before the samples that the header promises.
    #[error("the signal file `{file}` has {got} bytes, {expected} are needed")]
    Short {
        /// The file.
        file: String,
        /// Its length.
        got: usize,
        /// The length that the header promises.
        expected: usize,
    },
    /// The samples are not those that the header was written for.
    #[error("signal {signal} has checksum {got}, the header says {expected}")]
    Checksum {
        /// Counted from 0.
        signal: usize,
        /// Sum of its samples, modulo 65536.
        got: u16,
        /// The header's.
        expected: u16,
    },
    /// An annotation file breaks the format.
    #[error("the annotations at byte {at}: {what}")]
    Annotation {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;

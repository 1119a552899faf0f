//! The reference device: its key and sequence on disk, the frames that nobody has answered for yet, and the ways to a gateway.

mod file;
mod spool;
mod way;

pub(crate) use file::Device;
pub(crate) use way::{Told, Way};

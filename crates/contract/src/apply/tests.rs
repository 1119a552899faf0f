//! Each kind's accepted and refused cases, as tables.

mod care;
mod claim;
mod device;
mod disposal;
mod governance;
mod log;
mod member;
mod permission;
mod policy;
mod rules;
mod versions;

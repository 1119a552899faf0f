//! `observation`: a value of a patient is written, by hand or by the analytics over what sensors say.
//!
//! Frames of sensors are no records one by one; they are shown as they come by `Patient/{id}/$stream`.

use super::{CATEGORY, CODE, STATUS, Topic};

pub(super) const TOPIC: Topic = Topic {
    name: "observation",
    types: &["Observation"],
    of_patients: true,
    is_event: |_| true,
    filters: &[CODE, CATEGORY, STATUS],
};

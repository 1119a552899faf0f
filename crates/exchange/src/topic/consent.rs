//! `consent`: a patient's consent is given, changed or taken back.

use super::{STATUS, Topic};

pub(super) const TOPIC: Topic =
    Topic { name: "consent", types: &["Consent"], of_patients: true, is_event: |_| true, filters: &[STATUS] };

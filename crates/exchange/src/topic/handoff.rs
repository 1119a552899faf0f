//! `encounter-handoff`: a patient is handed over, and whoever is to take the patient says yes or no.

use super::{Filter, STATUS, Topic, has_code, is_member};
use crate::consequence::HANDOFF;

pub(super) const TOPIC: Topic = Topic {
    name: "encounter-handoff",
    types: &["Task"],
    of_patients: false,
    is_event: |task| has_code(&task["code"], HANDOFF),
    filters: &[
        // To whom.
        Filter { name: "organization", holds: |task, wanted| is_member(&task["owner"], wanted) },
        // From whom.
        Filter { name: "requester", holds: |task, wanted| is_member(&task["requester"], wanted) },
        STATUS,
    ],
};

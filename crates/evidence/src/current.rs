//! Current versions: what the ledger has of a record at the header, or that it has nothing.

use crate::{
    CurrentRecord, CurrentValue, Refused, Subject, finality::Final, log::Filed, opened::committed, state, verify::value,
};
use contract::state::{RecordHead, record_key};
use record::RecordTag;
use std::collections::HashMap;

/// What is proven of one record.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) tag: RecordTag,
    /// None where the ledger has no version of it.
    pub(crate) head: Option<RecordHead>,
}

/// Checks every proof, and that no entry of the file is later than what it calls current.
pub(crate) fn check<'a>(
    given: &[CurrentRecord],
    entries: impl Iterator<Item = &'a Filed>,
    at: &Final,
) -> Result<Vec<Current>, Refused> {
    let mut latest: HashMap<RecordTag, u64> = HashMap::new();
    for found in entries.filter_map(|filed| committed(&filed.entry.body)) {
        let version = latest.entry(found.tag).or_default();
        *version = found.version.max(*version);
    }
    let mut checked: Vec<Current> = Vec::new();
    for CurrentRecord { tag, value: given } in given {
        if checked.last().is_some_and(|last| last.tag >= *tag) {
            return Err(Refused::Order { what: "current versions" });
        }
        if tag.is_audit() {
            return Err(Refused::CurrentOfAudit { tag: *tag });
        }
        let (subject, key) = (Subject::Record(*tag), record_key(tag));
        let head: Option<RecordHead> = match given {
            CurrentValue::Present { head } => Some(value(subject, &key, head, at)?),
            CurrentValue::Absent { proof } if state::absent(&key, proof, &at.header.state_root) => None,
            CurrentValue::Absent { .. } => return Err(Refused::State { subject }),
        };
        let version = head.as_ref().map_or(0, |head| head.version);
        if latest.get(tag).is_some_and(|later| *later > version) {
            return Err(Refused::NotCurrent { tag: *tag });
        }
        checked.push(Current { tag: *tag, head });
    }
    Ok(checked)
}

//! Opened records: which entries commit to their bytes, and that the bytes are the record that the file says.

use crate::{Opened, Refused, log::Filed};
use contract::Body;
use record::{Commitment, RecordTag, commit};
use serde::Deserialize;
use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
};

/// A version of a record that an entry commits to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) tag: RecordTag,
    pub(crate) version: u64,
    pub(crate) commitment: Commitment,
    pub(crate) deleted: bool,
}

/// What an entry commits to, if it is about a record: the record itself, or the audit event of an access.
pub(crate) fn committed(body: &Body) -> Option<Committed> {
    match body {
        Body::Record { tag, version, commitment, deleted, .. } => {
            Some(Committed { tag: *tag, version: *version, commitment: *commitment, deleted: *deleted })
        }
        Body::Access { audit, commitment, .. } => {
            Some(Committed { tag: *audit, version: 1, commitment: *commitment, deleted: false })
        }
        _ => None,
    }
}

/// The opened versions by what the ledger knows them by.
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    by_version: HashMap<(RecordTag, u64, Commitment), &'a Opened>,
    names: HashMap<RecordTag, &'a str>,
}

impl<'a> Contents<'a> {
    /// The opened bytes of what an entry commits to.
    pub(crate) fn of(&self, committed: &Committed) -> Option<&'a Opened> {
        self.by_version.get(&(committed.tag, committed.version, committed.commitment)).copied()
    }

    /// `Type/id` of a record, where any version of it is opened.
    pub(crate) fn name(&self, tag: &RecordTag) -> Option<&'a str> {
        self.names.get(tag).copied()
    }
}

/// Matches every opened record to the entries, on the ledger or gathered, that commit to it; one that matches none is refused by name.
pub(crate) fn check<'a>(
    opened: &'a [Opened],
    entries: impl Iterator<Item = &'a Filed>,
) -> Result<Contents<'a>, Refused> {
    let mut commitments: HashMap<(Commitment, u64), Vec<Committed>> = HashMap::new();
    for found in entries.filter_map(|filed| committed(&filed.entry.body)) {
        commitments.entry((found.commitment, found.version)).or_default().push(found);
    }
    let mut contents = Contents::default();
    let mut seen = BTreeSet::new();
    let mut last = None;
    for item in opened {
        let (record, version) = (&item.record, item.version);
        match last.cmp(&Some((record, version))) {
            Ordering::Less => last = Some((record, version)),
            Ordering::Equal => return Err(Refused::OpenedTwice { record: record.clone(), version }),
            Ordering::Greater => return Err(Refused::OpenedOrder { record: record.clone(), version }),
        }
        let commitment = commit(&item.salt, &item.bytes);
        if !seen.insert((commitment, version)) {
            return Err(Refused::OpenedTwice { record: record.clone(), version });
        }
        let Some(matches) = commitments.get(&(commitment, version)) else {
            return Err(Refused::OtherBytes { record: record.clone(), version });
        };
        let nameless = item.bytes.is_empty() && matches.iter().all(|found| found.deleted);
        if !nameless && resource_name(&item.bytes).as_ref() != Some(record) {
            return Err(Refused::Misnamed { record: record.clone(), version });
        }
        for found in matches {
            if contents.names.insert(found.tag, record).is_some_and(|name| name != record) {
                return Err(Refused::Misnamed { record: record.clone(), version });
            }
            contents.by_version.insert((found.tag, found.version, found.commitment), item);
        }
    }
    Ok(contents)
}

/// The parts of a FHIR resource that name it. A member that stands twice is an error, so that a name has one reading.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    resource_type: String,
    id: String,
}

/// `Type/id` as the bytes themselves say it, when they are a JSON object that has both.
pub(crate) fn resource_name(bytes: &[u8]) -> Option<String> {
    // All of it is UTF-8, also texts that are skipped; and only an object is a resource, though a struct can be read from an array too.
    let text = str::from_utf8(bytes).ok().filter(|text| text.trim_ascii_start().starts_with('{'))?;
    let named: Named = serde_json::from_str(text).ok()?;
    Some(format!("{}/{}", named.resource_type, named.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&str>) {
        assert_eq!(resource_name(bytes).as_deref(), expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn only_an_object_names_a_record() {
        check(br#"{"resourceType":"Patient","id":"p1"}"#, Some("Patient/p1"));
        check(b" \t\r\n{\"id\":\"p1\",\"resourceType\":\"Patient\"}\n", Some("Patient/p1"));
        for other in
            [r#"["Patient","p1"]"#, r#" ["Patient","p1"]"#, r#"[{"resourceType":"Patient","id":"p1"}]"#, "null"]
        {
            check(other.as_bytes(), None);
        }
        check(b"\x0c{\"resourceType\":\"Patient\",\"id\":\"p1\"}", None);
        check("\u{feff}{\"resourceType\":\"Patient\",\"id\":\"p1\"}".as_bytes(), None);
    }

    #[test]
    fn bytes_that_are_not_utf_8_name_nothing_wherever_they_stand() {
        check("{\"resourceType\":\"Patient\",\"id\":\"p1\",\"note\":\"\u{e9}\"}".as_bytes(), Some("Patient/p1"));
        for wrong in [&b"\xff"[..], b"\xe9", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
            let parts = [&br#"{"resourceType":"Patient","id":"p1","note":""#[..], wrong, b"\"}"];
            check(&parts.concat(), None);
            let parts = [&br#"{"resourceType":"Patient","id":"p1","deep":[{""#[..], wrong, b"\":1}]}"];
            check(&parts.concat(), None);
        }
    }
}

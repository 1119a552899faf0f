//! What many versions have in common, filed once: the search values that all of them are found by, and bytes that those of each repeat.
//!
//! A gateway writes an audit event for each access, and all but its time, its patient, the records and the request's name is what it wrote
//! for the access before. A version that has a template has search values of its own beside the template's, which stand under the
//! template's place, below zero where no version stands; and its bytes are compressed against the template's sample (Zstandard, RFC 8878,
//! with the sample as its dictionary). They are the same bytes when they are read: what is committed to never depends on a template.

use crate::{
    extract::{IndexRow, extract_some},
    put::{NewVersion, PutError},
};
use record::{Digest, sha256};
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};
use zstd::zstd_safe::{CCtx, CDict, DCtx, compress_bound, get_frame_content_size};

/// The type whose versions may have a template. Search asks for the values of templates where it asks for these alone.
const OF_TYPE: &str = "AuditEvent";
/// The longest bytes of a version that are compressed against a sample, and the longest sample.
pub(crate) const BYTES_MAX: usize = 64 << 10;
/// How many dictionaries a thread that writes keeps ready.
const DICTIONARIES_MAX: usize = 64;
/// How hard is tried: most of what there is to gain is in the sample already.
const LEVEL: i32 = 1;
/// How compressed bytes begin, which no JSON does (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What versions of one type have in common.
pub struct Template {
    /// Names it in the database: templates of the same name are the same.
    pub(crate) name: Digest,
    pub(crate) rtype: String,
    pub(crate) sample: Vec<u8>,
    pub(crate) index: Vec<IndexRow>,
}

impl Template {
    /// A template of a resource that says what all versions with it say; of what it says under `common` parameters each of them is found by
    /// all of it. None if the type can have none, or the sample is no JSON or too long.
    pub fn of(rtype: &str, sample: Vec<u8>, common: impl Fn(&str) -> bool) -> Option<Arc<Self>> {
        if !has_templates(rtype) || sample.len() > BYTES_MAX {
            return None;
        }
        let index = extract_some(rtype, &serde_json::from_slice(&sample).ok()?, common);
        let mut name = vec![rtype.as_bytes(), b"\0", &sample];
        // Another release may file other values.
        let values: Vec<String> = index.iter().map(|row| format!("\0{row:?}")).collect();
        name.extend(values.iter().map(String::as_bytes));
        Some(Arc::new(Self { name: sha256(&name), rtype: rtype.to_owned(), sample, index }))
    }

    /// The search values that all versions with it have, beside their own.
    pub fn index(&self) -> &[IndexRow] {
        &self.index
    }

    /// A version's bytes compressed; none where that is no use.
    fn press(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        thread_local! { static PRESS: RefCell<Press> = RefCell::new(Press::new()); }
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let pressed = PRESS.with_borrow_mut(|press| press.compress(self, bytes))?;
        (pressed.len() < bytes.len()).then_some(pressed)
    }
}

/// What one thread compresses with: dictionaries of some fifty kilobytes each, of the templates that it used last.
struct Press {
    context: CCtx<'static>,
    dictionaries: HashMap<Digest, CDict<'static>>,
}

impl Press {
    fn new() -> Self {
        Self { context: CCtx::create(), dictionaries: HashMap::new() }
    }

    fn compress(&mut self, template: &Template, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.dictionaries.len() >= DICTIONARIES_MAX && !self.dictionaries.contains_key(&template.name) {
            self.dictionaries.clear();
        }
        let dictionary = match self.dictionaries.entry(template.name) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => place.insert(CDict::try_create(&template.sample, LEVEL)?),
        };
        let mut pressed = Vec::with_capacity(compress_bound(bytes.len()));
        self.context.compress_using_cdict(&mut pressed, bytes, dictionary).ok()?;
        Some(pressed)
    }
}

/// Whether a version may have its template.
pub(crate) fn check(new: &NewVersion) -> Result<(), PutError> {
    let NewVersion { row, template, .. } = new;
    match template {
        Some(template) if template.rtype != row.rtype || row.deleted => {
            Err(PutError::Invalid("a template of another type, or of a deletion"))
        }
        Some(_) if is_pressed(&row.bytes) => {
            Err(PutError::Invalid("a template of bytes that begin as compressed ones"))
        }
        _ => Ok(()),
    }
}

/// A version's bytes as they are filed, if it may have its template.
pub(crate) fn filed(new: &NewVersion) -> Cow<'_, [u8]> {
    let bytes = &new.row.bytes;
    new.template.as_ref().and_then(|template| template.press(bytes)).map_or(Cow::Borrowed(bytes), Cow::Owned)
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Template {
    /// Nothing of what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether versions of a type may have a template.
pub(crate) fn has_templates(rtype: &str) -> bool {
    rtype == OF_TYPE
}

fn is_pressed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// A version's bytes from those that are filed; `sample` is that of its template, if the database has one for it. None if they cannot be
/// opened, or are longer than any that were compressed: then a gateway did not write them.
pub(crate) fn opened(filed: &[u8], sample: Option<&[u8]>) -> Option<Vec<u8>> {
    thread_local! { static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create()); }
    let Some(sample) = sample else { return Some(filed.to_vec()) };
    if !is_pressed(filed) {
        return Some(filed.to_vec());
    }
    let length = get_frame_content_size(filed).ok()??;
    let length = usize::try_from(length).ok().filter(|length| *length <= BYTES_MAX)?;
    let mut bytes = Vec::with_capacity(length);
    CONTEXT.with_borrow_mut(|context| context.decompress_using_dict(&mut bytes, filed, sample)).ok()?;
    (bytes.len() == length).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{put::Expected, row::Row};
    use proptest::prelude::*;
    use record::{Id16, RecordTag, TimeMs};

    const SAMPLE: &str = r#"{"resourceType":"AuditEvent","id":"","action":"R","recorded":"","agent":[{"who":{"reference":"Practitioner/d"},
        "requestor":true}],"source":{"observer":{"display":"mercy"}},"entity":[{"what":{"reference":""}}]}"#;

    fn template() -> Arc<Template> {
        Template::of("AuditEvent", SAMPLE.into(), |param| param != "date").unwrap()
    }

    fn new(bytes: &[u8]) -> NewVersion {
        let row = Row {
            rtype: "AuditEvent".into(),
            id: "a".into(),
            version: 1,
            bytes: bytes.to_vec(),
            salt: Digest([0; 32]),
            tag: RecordTag(Digest([0; 32])),
            pseudonym: None,
            patient: None,
            author: "mercy".parse().unwrap(),
            entry: Id16([0; 16]),
            written_at: TimeMs(0),
            deleted: false,
            label: String::new(),
            gathered: None,
        };
        NewVersion { row, expected: Expected::New, index: Vec::new(), template: Some(template()) }
    }

    proptest! {
        #[test]
        fn bytes_come_back_as_they_were(id in "[a-z0-9-]{0,40}", mut other in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let sample = template().sample.clone();
            let event = SAMPLE.replace("\"id\":\"\"", &format!("\"id\":\"{id}\""));
            let new = self::new(event.as_bytes());
            prop_assert!(filed(&new).len() < SAMPLE.len() / 3);
            prop_assert_eq!(opened(&filed(&new), Some(&sample)), Some(event.into_bytes()));
            other.insert(0, b'{');
            let new = self::new(&other);
            prop_assert_eq!(opened(&filed(&new), Some(&sample)), Some(other));
        }

        /// Whoever can write to the database can write anything there.
        #[test]
        fn what_nobody_of_ours_compressed_takes_no_memory(
            mut filed in prop::collection::vec(any::<u8>(), 0..200),
            sample in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            filed.splice(0..0, MAGIC);
            prop_assert!(opened(&filed, Some(&sample)).is_none_or(|bytes| bytes.len() <= BYTES_MAX));
        }
    }

    #[test]
    fn bytes_that_would_be_taken_for_compressed_ones_are_refused() {
        let bytes = [&MAGIC[..], b"no frame"].concat();
        assert!(matches!(check(&new(&bytes)), Err(PutError::Invalid(_))));
        assert_eq!(opened(&bytes, Some(b"{}")), None);
        // Without a template nothing is opened.
        let alone = NewVersion { template: None, ..new(&bytes) };
        assert_eq!(opened(&filed(&alone), None), Some(bytes));
    }

    #[test]
    fn what_has_no_template_of_its_own_is_refused() {
        let mut other = new(b"{}");
        other.row.rtype = "Observation".into();
        let mut deleted = new(b"{}");
        deleted.row.deleted = true;
        for new in [other, deleted] {
            assert!(matches!(check(&new), Err(PutError::Invalid(_))));
        }
    }

    #[test]
    fn no_longer_sample_is_asked_for_than_any_of_ours() {
        assert!(crate::columns::VERSION.ends_with(&format!("length(t.sample) <= {BYTES_MAX})")));
    }

    #[test]
    fn a_frame_that_says_it_is_longer_than_any_of_ours_is_not_opened() {
        let long = vec![b' '; BYTES_MAX + 1];
        let mut pressed = Vec::with_capacity(compress_bound(long.len()));
        CCtx::create().compress(&mut pressed, &long, LEVEL).unwrap();
        assert_eq!(opened(&pressed, Some(b"")), None);
        assert_eq!(template().press(&long), None);
    }

    #[test]
    fn templates_differ_by_what_they_say_and_by_what_is_found_by_them() {
        let of = |sample: &str, common: fn(&str) -> bool| Template::of("AuditEvent", sample.into(), common).unwrap();
        let (all, same) = (of(SAMPLE, |_| true), of(SAMPLE, |_| true));
        assert_eq!(all, same);
        assert_ne!(all, of(SAMPLE, |param| param == "action"));
        assert_ne!(all, of(&SAMPLE.replace("mercy", "other"), |_| true));
        assert!(all.index().iter().any(|row| row.param == "agent"));
        for (rtype, sample) in [("Observation", SAMPLE), ("AuditEvent", "no JSON")] {
            assert_eq!(Template::of(rtype, sample.into(), |_| true), None);
        }
    }
}

//! The rows of many puts before they are sent: what each put asks for is checked here, one after the other, as the database would.
//!
//! A put that asks in vain leaves no trace, and those behind it do not see it. What the checks look at was read from the database after
//! the writers' lock was taken, so nobody changes it meanwhile.

use super::{
    columns::filed,
    server::ServerError,
    session::{Session, Step},
};
use crate::{
    extract::{IndexRow, IndexValue, cut, is_common, normalise},
    int64::int,
    put::{Expected, KEY_BYTES_MAX, NewVersion, Put, PutError},
    row::{Attachment, Frame, Row, WrappedKey},
    select::{VALUE_TABLES, filed_about},
    template,
};
use record::Digest;
use std::{borrow::Cow, collections::HashMap, collections::HashSet};

const NUL: PutError = PutError::Invalid("a type, id, label or name of a device with a NUL character");

/// Type and id.
type Key<'a> = (&'a str, &'a str);

/// The newest version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) version: i64,
    pub(super) vid: i64,
}

/// Puts that are checked, and their rows that the database does not have yet.
pub(super) struct Stage<'a> {
    newest: HashMap<Key<'a>, Newest>,
    /// Versions that are there, of those that puts with [`Expected::Any`] bring.
    there: HashSet<(&'a str, &'a str, i64)>,
    next_vid: i64,
    templates: HashMap<&'a [u8], Standing>,
    rows: Rows<'a>,
}

/// Rows to send.
#[derive(Default)]
struct Rows<'a> {
    versions: Vec<Version<'a>>,
    /// Versions of the database that are not current any more, with their records.
    retired: Vec<(Key<'a>, i64)>,
    frames: Vec<&'a Frame>,
    attachments: HashMap<Digest, &'a Attachment>,
    wrapped_keys: HashMap<(&'a str, &'a str), &'a WrappedKey>,
}

struct Version<'a> {
    row: &'a Row,
    number: i64,
    written_at: i64,
    vid: i64,
    current: bool,
    new: &'a NewVersion,
}

/// A template in the database, of those that puts bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Its number, also if it is not there yet.
    pub(super) number: i64,
    /// Whether it is there as it should be.
    pub(super) is_sound: bool,
}

/// What a put changed so far, for taking it back.
struct Mark<'a> {
    versions: usize,
    retired: usize,
    frames: usize,
    newest: Vec<(Key<'a>, Option<Newest>)>,
    there: Vec<(&'a str, &'a str, i64)>,
    replaced: Vec<usize>,
}

impl<'a> Stage<'a> {
    /// Places of new versions begin at `next_vid`.
    pub(super) fn new(
        newest: HashMap<Key<'a>, Newest>,
        there: HashSet<(&'a str, &'a str, i64)>,
        next_vid: i64,
        templates: HashMap<&'a [u8], Standing>,
    ) -> Self {
        Self { newest, there, next_vid, templates, rows: Rows::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Rows { versions, retired, frames, attachments, wrapped_keys } = &self.rows;
        versions.is_empty()
            && retired.is_empty()
            && frames.is_empty()
            && attachments.is_empty()
            && wrapped_keys.is_empty()
    }

    /// Whether a version of this type waits to be sent.
    pub(super) fn has_type(&self, rtype: &str) -> bool {
        self.rows.versions.iter().any(|version| version.row.rtype == rtype)
    }

    /// Adds all rows of a put, or none.
    pub(super) fn add(&mut self, put: &'a Put) -> Result<(), PutError> {
        let mut mark = Mark {
            versions: self.rows.versions.len(),
            retired: self.rows.retired.len(),
            frames: self.rows.frames.len(),
            newest: Vec::new(),
            there: Vec::new(),
            replaced: Vec::new(),
        };
        let added = (|| {
            put.records.iter().try_for_each(|new| self.version(new, &mut mark))?;
            put.frames.iter().try_for_each(|frame| self.frame(frame))
        })();
        match added {
            // These cannot fail.
            Ok(()) => {
                self.rows.attachments.extend(put.attachments.iter().map(|one| (one.digest, one)));
                self.rows
                    .wrapped_keys
                    .extend(put.wrapped_keys.iter().map(|key| ((key.patient.as_str(), key.org.as_str()), key)));
            }
            Err(_) => self.take_back(mark),
        }
        added
    }

    fn take_back(&mut self, mark: Mark<'a>) {
        self.rows.versions.truncate(mark.versions);
        self.rows.retired.truncate(mark.retired);
        self.rows.frames.truncate(mark.frames);
        for (key, before) in mark.newest.into_iter().rev() {
            match before {
                Some(before) => self.newest.insert(key, before),
                None => self.newest.remove(&key),
            };
        }
        for version in &mark.there {
            self.there.remove(version);
        }
        for at in mark.replaced {
            if let Some(version) = self.rows.versions.get_mut(at) {
                version.current = true;
            }
        }
    }

    fn version(&mut self, new: &'a NewVersion, mark: &mut Mark<'a>) -> Result<(), PutError> {
        let row = &new.row;
        let Row { rtype, id, version, .. } = row;
        if rtype.is_empty() || id.is_empty() || rtype.len() > KEY_BYTES_MAX || id.len() > KEY_BYTES_MAX {
            return Err(PutError::Invalid("a type or id that is empty or too long"));
        }
        if [rtype, id, &row.label].into_iter().chain(&row.patient).any(|text| text.contains('\0')) {
            return Err(NUL);
        }
        let number = int(*version, "a version number that is too large")?;
        let written_at = int(row.written_at.0, "a time that is too late")?;
        template::check(new)?;
        let key = (rtype.as_str(), id.as_str());
        let newest = self.newest.get(&key).copied();
        let found = newest.and_then(|newest| u64::try_from(newest.version).ok());
        let stands = match new.expected {
            Expected::New if *version != 1 => return Err(PutError::Invalid("a new record begins with version 1")),
            Expected::Version(before) if before.checked_add(1) != Some(*version) => {
                return Err(PutError::Invalid("a version number that does not follow the one expected"));
            }
            Expected::New => newest.is_none(),
            Expected::Version(before) => found == Some(before),
            Expected::Any => !self.there.contains(&(key.0, key.1, number)),
        };
        if !stands {
            let (rtype, id) = (rtype.clone(), id.clone());
            return Err(PutError::Conflict { rtype, id, expected: new.expected, found });
        }
        // Recovery may insert an old version below a newer one.
        let current = newest.is_none_or(|newest| newest.version < number);
        let vid = self.next_vid;
        self.next_vid += 1;
        if current {
            if let Some(Newest { vid: replaced, .. }) = newest {
                // Places rise from one to the next.
                match self.rows.versions.binary_search_by_key(&replaced, |version| version.vid) {
                    Ok(at) => {
                        self.rows.versions[at].current = false;
                        mark.replaced.push(at);
                    }
                    Err(_) => self.rows.retired.push((key, replaced)),
                }
            }
            mark.newest.push((key, newest));
            self.newest.insert(key, Newest { version: number, vid });
        }
        if self.there.insert((key.0, key.1, number)) {
            mark.there.push((key.0, key.1, number));
        }
        self.rows.versions.push(Version { row, number, written_at, vid, current, new });
        Ok(())
    }

    fn frame(&mut self, frame: &'a Frame) -> Result<(), PutError> {
        int(frame.counter, "a frame counter that is too large")?;
        int(frame.received_at.0, "a time that is too late")?;
        int(frame.measured_at.0, "a time that is too late")?;
        if frame.device.contains('\0') || frame.patient.contains('\0') {
            return Err(NUL);
        }
        let same = |other: &&&Frame| (&other.device, other.counter) == (&frame.device, frame.counter);
        match self.rows.frames.iter().rev().find(same) {
            None => self.rows.frames.push(frame),
            Some(other) if other.bytes == frame.bytes => {}
            Some(_) => {
                return Err(PutError::FrameConflict { device: frame.device.clone(), counter: frame.counter });
            }
        }
        Ok(())
    }

    /// Sends all rows at once, behind a savepoint of this name. Gives the first frame whose counter the database has for another one.
    pub(super) async fn send(
        &mut self,
        session: &Session,
        savepoint: &'static str,
    ) -> Result<Option<&'a Frame>, ServerError> {
        std::mem::take(&mut self.rows).send(session, savepoint, &mut self.templates).await
    }
}

/// The columns of one statement each.
#[derive(Default)]
struct Tokens<'a> {
    vid: Vec<i64>,
    param: Vec<&'a str>,
    code: Vec<Cow<'a, str>>,
    system: Vec<Cow<'a, str>>,
    part: Vec<i32>,
    words: Vec<Cow<'a, str>>,
    rtype: Vec<&'a str>,
    about: Vec<Cow<'a, str>>,
    common: Vec<i16>,
}
#[derive(Default)]
struct Texts<'a> {
    vid: Vec<i64>,
    param: Vec<&'a str>,
    exact: Vec<Cow<'a, str>>,
    norm: Vec<String>,
    part: Vec<i32>,
    rtype: Vec<&'a str>,
}
#[derive(Default)]
struct Dates<'a> {
    vid: Vec<i64>,
    param: Vec<&'a str>,
    lo: Vec<i64>,
    hi: Vec<i64>,
    part: Vec<i32>,
    rtype: Vec<&'a str>,
}
#[derive(Default)]
struct References<'a> {
    vid: Vec<i64>,
    param: Vec<&'a str>,
    target: Vec<Cow<'a, str>>,
    target_type: Vec<Cow<'a, str>>,
    part: Vec<i32>,
    rtype: Vec<&'a str>,
}
#[derive(Default)]
struct Quantities<'a> {
    vid: Vec<i64>,
    param: Vec<&'a str>,
    lo: Vec<f64>,
    hi: Vec<f64>,
    system: Vec<Cow<'a, str>>,
    code: Vec<Cow<'a, str>>,
    unit: Vec<Cow<'a, str>>,
    part: Vec<i32>,
    rtype: Vec<&'a str>,
}

/// Search values by the table that they rest in.
#[derive(Default)]
pub(super) struct Values<'a> {
    tokens: Tokens<'a>,
    texts: Texts<'a>,
    dates: Dates<'a>,
    references: References<'a>,
    quantities: Quantities<'a>,
}

impl<'a> Values<'a> {
    /// Files the values of a version, or of a template.
    pub(super) fn add(&mut self, vid: i64, rtype: &'a str, rows: &'a [IndexRow]) {
        let about = filed_about(rtype, rows);
        for IndexRow { param, part, value } in rows {
            let (param, part) = (param.as_ref(), *part);
            let mut token = |code: &'a str, system: &'a str, words: &'a str| {
                let to = &mut self.tokens;
                to.vid.push(vid);
                to.param.push(param);
                to.code.push(filed(cut(code)));
                to.system.push(filed(cut(system)));
                to.part.push(part);
                to.words.push(filed(cut(words)));
                to.rtype.push(rtype);
                to.about.push(filed(about));
                to.common.push(i16::from(is_common(rtype, param, code)));
            };
            match value {
                IndexValue::Token { system, code, text } => token(code, system, text),
                IndexValue::Uri(uri) => token(uri, "", ""),
                IndexValue::Text(text) => {
                    let to = &mut self.texts;
                    to.vid.push(vid);
                    to.param.push(param);
                    to.exact.push(filed(cut(text)));
                    to.norm.push(filed(&normalise(text)).into_owned());
                    to.part.push(part);
                    to.rtype.push(rtype);
                }
                IndexValue::Date(span) => {
                    let to = &mut self.dates;
                    to.vid.push(vid);
                    to.param.push(param);
                    to.lo.push(span.lo_ms);
                    to.hi.push(span.hi_ms);
                    to.part.push(part);
                    to.rtype.push(rtype);
                }
                IndexValue::Reference { rtype: target_type, id } => {
                    let to = &mut self.references;
                    to.vid.push(vid);
                    to.param.push(param);
                    to.target.push(filed(cut(id)));
                    to.target_type.push(filed(target_type));
                    to.part.push(part);
                    to.rtype.push(rtype);
                }
                IndexValue::Quantity { lo, hi, system, code, unit } => {
                    let to = &mut self.quantities;
                    to.vid.push(vid);
                    to.param.push(param);
                    to.lo.push(lo.value());
                    to.hi.push(hi.value());
                    to.system.push(filed(cut(system)));
                    to.code.push(filed(cut(code)));
                    to.unit.push(filed(cut(unit)));
                    to.part.push(part);
                    to.rtype.push(rtype);
                }
            }
        }
    }

    /// The statements that file them.
    pub(super) fn steps(&self) -> Vec<Step<'_>> {
        let Self { tokens: t, texts: x, dates: d, references: r, quantities: q } = self;
        let mut steps = Vec::new();
        if !t.vid.is_empty() {
            steps.push(Step::new(
                "INSERT INTO token (vid, param, code, system, part, words, rtype, about, common) SELECT * FROM \
                 unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::text[], $7::text[], $8::text[], $9::int2[])",
                &[&t.vid, &t.param, &t.code, &t.system, &t.part, &t.words, &t.rtype, &t.about, &t.common],
            ));
        }
        if !x.vid.is_empty() {
            steps.push(Step::new(
                "INSERT INTO text (vid, param, exact, norm, part, rtype) SELECT * FROM \
                 unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::text[])",
                &[&x.vid, &x.param, &x.exact, &x.norm, &x.part, &x.rtype],
            ));
        }
        if !d.vid.is_empty() {
            steps.push(Step::new(
                "INSERT INTO date (vid, param, lo, hi, part, rtype) SELECT * FROM \
                 unnest($1::int8[], $2::text[], $3::int8[], $4::int8[], $5::int4[], $6::text[])",
                &[&d.vid, &d.param, &d.lo, &d.hi, &d.part, &d.rtype],
            ));
        }
        if !r.vid.is_empty() {
            steps.push(Step::new(
                "INSERT INTO reference (vid, param, target, target_type, part, rtype) SELECT * FROM \
                 unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::text[])",
                &[&r.vid, &r.param, &r.target, &r.target_type, &r.part, &r.rtype],
            ));
        }
        if !q.vid.is_empty() {
            steps.push(Step::new(
                "INSERT INTO quantity (vid, param, lo, hi, system, code, unit, part, rtype) SELECT * FROM \
                 unnest($1::int8[], $2::text[], $3::float8[], $4::float8[], $5::text[], $6::text[], $7::text[], $8::int4[], $9::text[])",
                &[&q.vid, &q.param, &q.lo, &q.hi, &q.system, &q.code, &q.unit, &q.part, &q.rtype],
            ));
        }
        steps
    }
}

/// Takes the values of versions away; one statement for each table.
pub(super) fn without_values() -> [String; 5] {
    VALUE_TABLES.map(|table| format!("DELETE FROM {table} WHERE vid = ANY($1)"))
}

impl<'a> Rows<'a> {
    async fn send(
        self,
        session: &Session,
        savepoint: &'static str,
        known: &mut HashMap<&'a [u8], Standing>,
    ) -> Result<Option<&'a Frame>, ServerError> {
        let mut steps = vec![Step::new(savepoint, &[])];
        let removals = without_values();
        let retired_types: Vec<&str> = self.retired.iter().map(|((rtype, _), _)| *rtype).collect();
        let retired_ids: Vec<&str> = self.retired.iter().map(|((_, id), _)| *id).collect();
        let retired: Vec<i64> = self.retired.iter().map(|(_, vid)| *vid).collect();
        if !retired.is_empty() {
            steps.push(Step::new(
                "UPDATE version v SET current = 0 FROM unnest($1::text[], $2::text[]) AS k (rtype, id) \
                 WHERE v.rtype = k.rtype AND v.id = k.id AND v.current = 1",
                &[&retired_types, &retired_ids],
            ));
            steps.extend(removals.iter().map(|sql| Step::new(sql, &[&retired])));
        }

        let versions = &self.versions;
        let vids: Vec<i64> = versions.iter().map(|version| version.vid).collect();
        let current: Vec<i16> = versions.iter().map(|version| i16::from(version.current)).collect();
        let rtypes: Vec<&str> = versions.iter().map(|version| version.row.rtype.as_str()).collect();
        let ids: Vec<&str> = versions.iter().map(|version| version.row.id.as_str()).collect();
        let numbers: Vec<i64> = versions.iter().map(|version| version.number).collect();
        let deleted: Vec<i16> = versions.iter().map(|version| i16::from(version.row.deleted)).collect();
        let written_at: Vec<i64> = versions.iter().map(|version| version.written_at).collect();
        let patients: Vec<Option<&str>> = versions.iter().map(|version| version.row.patient.as_deref()).collect();
        let authors: Vec<&str> = versions.iter().map(|version| version.row.author.as_str()).collect();
        let entries: Vec<&[u8]> = versions.iter().map(|version| version.row.entry.as_bytes().as_slice()).collect();
        let salts: Vec<&[u8]> = versions.iter().map(|version| version.row.salt.as_bytes().as_slice()).collect();
        let tags: Vec<&[u8]> = versions.iter().map(|version| version.row.tag.0.as_bytes().as_slice()).collect();
        let pseudonyms: Vec<Option<&[u8]>> = versions
            .iter()
            .map(|version| version.row.pseudonym.as_ref().map(|pseudonym| pseudonym.0.as_bytes().as_slice()))
            .collect();
        let labels: Vec<&str> = versions.iter().map(|version| version.row.label.as_str()).collect();
        let bytes: Vec<Cow<'_, [u8]>> = versions.iter().map(|version| template::filed(version.new)).collect();
        let bytes: Vec<&[u8]> = bytes.iter().map(AsRef::as_ref).collect();
        let mut values = Values::default();
        let (mut new_numbers, mut new_names, mut new_samples) = (Vec::new(), Vec::new(), Vec::new());
        let mut templates: Vec<Option<i64>> = Vec::with_capacity(versions.len());
        for template in versions.iter().map(|version| version.new.template.as_deref()) {
            let name = template.map(|template| template.name.as_bytes().as_slice());
            // Each was asked for.
            let known = name.and_then(|name| known.get_mut(name));
            templates.push(known.as_ref().map(|known| !known.number));
            if let (Some(template), Some(name), Some(known)) = (template, name, known)
                && !known.is_sound
            {
                new_numbers.push(known.number);
                new_names.push(name);
                new_samples.push(template.sample.as_slice());
                values.add(!known.number, &template.rtype, &template.index);
                known.is_sound = true;
            }
        }
        let new_places: Vec<i64> = new_numbers.iter().map(|number| !number).collect();
        if !new_places.is_empty() {
            // What stands under a name, or a place, that somebody damaged.
            steps.push(Step::new("DELETE FROM template WHERE name = ANY($1)", &[&new_names]));
            steps.extend(removals.iter().map(|sql| Step::new(sql, &[&new_places])));
            steps.push(Step::new(
                "INSERT INTO template (number, name, sample) SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[])",
                &[&new_numbers, &new_names, &new_samples],
            ));
        }
        let gathered: Vec<Option<&[u8]>> = versions.iter().map(|version| version.row.gathered.as_deref()).collect();
        if !versions.is_empty() {
            steps.push(Step::new(
                "INSERT INTO version (vid, current, rtype, id, version, deleted, written_at, patient, author, entry, salt, tag, \
                 pseudonym, label, bytes, gathered, template) SELECT * FROM unnest($1::int8[], $2::int2[], $3::text[], $4::text[], $5::int8[], \
                 $6::int2[], $7::int8[], $8::text[], $9::text[], $10::bytea[], $11::bytea[], $12::bytea[], $13::bytea[], \
                 $14::text[], $15::bytea[], $16::bytea[], $17::int8[])",
                &[
                    &vids, &current, &rtypes, &ids, &numbers, &deleted, &written_at, &patients, &authors, &entries, &salts,
                    &tags, &pseudonyms, &labels, &bytes, &gathered, &templates,
                ],
            ));
        }
        for version in versions.iter().filter(|version| version.current && !version.row.deleted) {
            values.add(version.vid, &version.row.rtype, &version.new.index);
        }
        steps.extend(values.steps());

        let columns = Frames::of(&self.frames);
        let frames_at = steps.len();
        steps.extend(columns.step());

        let digests: Vec<&[u8]> = self.attachments.keys().map(|digest| digest.as_bytes().as_slice()).collect();
        let copies: Vec<&[u8]> = self.attachments.values().map(|attachment| attachment.bytes.as_slice()).collect();
        if !digests.is_empty() {
            // A copy that somebody damaged is replaced.
            steps.push(Step::new(
                "INSERT INTO attachment (digest, bytes) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
                 ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE attachment.bytes <> excluded.bytes",
                &[&digests, &copies],
            ));
        }
        let key_patients: Vec<Cow<'_, str>> = self.wrapped_keys.keys().map(|(patient, _)| filed(patient)).collect();
        let key_orgs: Vec<&str> = self.wrapped_keys.keys().map(|(_, org)| *org).collect();
        let keys: Vec<&[u8]> = self.wrapped_keys.values().map(|key| key.bytes.as_slice()).collect();
        if !keys.is_empty() {
            steps.push(Step::new(
                "INSERT INTO wrapped_key (patient, org, bytes) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) \
                 ON CONFLICT (patient, org) DO UPDATE SET bytes = excluded.bytes",
                &[&key_patients, &key_orgs, &keys],
            ));
        }
        let answers = session.pipeline(&steps).await?;
        let all_new = answers.get(frames_at).is_some_and(|new| new.len() == self.frames.len());
        if self.frames.is_empty() || all_new {
            return Ok(None);
        }
        // The same frame again is no error.
        let others = "SELECT k.place FROM unnest($1::text[], $2::int8[], $3::bytea[]) WITH ORDINALITY AS k (device, counter, bytes, place) \
             WHERE NOT EXISTS (SELECT 1 FROM frame f WHERE f.device = k.device AND f.counter = k.counter AND f.bytes = k.bytes OFFSET 0) \
             ORDER BY k.place LIMIT 1";
        let other = session.query(others, &[&columns.devices, &columns.counters, &columns.bytes]).await?;
        let place = other.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
        Ok(place.and_then(|place| self.frames.get(usize::try_from(place - 1).ok()?).copied()))
    }
}

/// The columns of frames.
#[derive(Default)]
struct Frames<'a> {
    devices: Vec<&'a str>,
    counters: Vec<i64>,
    bindings: Vec<&'a [u8]>,
    patients: Vec<&'a str>,
    received_at: Vec<i64>,
    measured_at: Vec<i64>,
    kinds: Vec<i64>,
    digests: Vec<&'a [u8]>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Frames<'a> {
    /// The numbers were looked at before.
    fn of(frames: &[&'a Frame]) -> Self {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut to = Self::default();
        for frame in frames {
            to.devices.push(&frame.device);
            to.counters.push(number(frame.counter));
            to.bindings.push(frame.binding.as_bytes());
            to.patients.push(&frame.patient);
            to.received_at.push(number(frame.received_at.0));
            to.measured_at.push(number(frame.measured_at.0));
            to.kinds.push(frame.kind);
            to.digests.push(frame.digest.as_bytes());
            to.bytes.push(&frame.bytes);
        }
        to
    }

    /// Gives a row for each frame that was not there.
    fn step(&self) -> Option<Step<'_>> {
        (!self.devices.is_empty()).then(|| {
            Step::new(
                "INSERT INTO frame (device, counter, binding, patient, received_at, measured_at, kind, digest, bytes) SELECT * FROM \
                 unnest($1::text[], $2::int8[], $3::bytea[], $4::text[], $5::int8[], $6::int8[], $7::int8[], $8::bytea[], $9::bytea[]) \
                 ON CONFLICT (device, counter) DO NOTHING RETURNING 1",
                &[
                    &self.devices,
                    &self.counters,
                    &self.bindings,
                    &self.patients,
                    &self.received_at,
                    &self.measured_at,
                    &self.kinds,
                    &self.digests,
                    &self.bytes,
                ],
            )
        })
    }
}

//! Replay: a result of analytics computed again from signed frames and charted records, and compared bit for bit.
//!
//! The result says what its engine had taken in, step by step. Each frame must still be signed by its bound device and under the ledger's batch
//! roots, each record as the ledger has it; the digest over all of them must be the one in the result, and what comes out the result itself.

use crate::{
    assess::{assess, show},
    bind::{device_digest, device_name, sensed},
    boxed,
    caller::Caller,
    chart::{Charted, counts},
    facts::Target,
    failure::Failure,
    kept::frame_of,
    mirror::LetGo,
    node::Node,
    row::Worth,
    run::{Content, Place, Step, Told, after, begun, taken_out},
    write::Trail,
};
use analytics::{Chart, Finding, Monitor, Person, Said};
use contract::AccessAction;
use policy::Action;
use record::{
    Commitment, Id16, TimeMs, commit,
    fhir::{Interaction, IssueType},
};
use sensing::{DeviceId, Frame, Reading};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use store::{FrameFilter, FrameQuery, PAGE_MAX, Row};

/// The most frames of a run up to the result: four hours of seven sensors.
pub const REPLAY_FRAMES_MAX: usize = 100_000;
/// The most results that are followed back.
const RESULTS_MAX: usize = 20_000;
/// The most frames, records and results that are named.
const NAMED_MAX: usize = 16;

/// What a replay says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Whether the result came out again, to the bit.
    pub equal: bool,
    /// The result, with its version.
    pub record: String,
    /// The rule.
    pub rule: String,
    /// The model, by hash.
    pub model: String,
    /// The digest of the finding that was written.
    pub digest: String,
    /// The digest of what came out; none where nothing of the rule did.
    pub computed: Option<String>,
    /// Steps that were taken again.
    pub steps: u64,
    /// Frames among them.
    pub frames: usize,
    /// Charted records among them.
    pub records: usize,
    /// What was changed or is gone: frames by device and counter, records by version; the first of them.
    pub changed: Vec<String>,
    /// Frames that were let go by policy, by device, with when and by which entry; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub let_go: Vec<String>,
    /// In words.
    pub said: String,
    /// The results of the same run that were written before, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Earlier>,
}

/// What a replay says of the results that were written before, in the same run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Earlier {
    /// How many there are.
    pub results: usize,
    /// How many of them came out again, to the bit.
    pub equal: usize,
    /// How many there are of each rule.
    pub rules: BTreeMap<String, usize>,
    /// Those that did not come out again, the first of them.
    pub unequal: Vec<String>,
}

/// A result that was written.
struct Written {
    record: String,
    resource: Value,
    place: Place,
}

/// A result, and all that its engine took in before it.
struct Asked {
    patient: String,
    run: Id16,
    result: Written,
    /// The results before, where they are asked for.
    earlier: Option<Vec<Written>>,
    steps: Vec<Step>,
    measured: Option<(TimeMs, TimeMs)>,
}

/// What stands behind the steps, as far as it could be verified.
#[derive(Default)]
struct Held {
    frames: BTreeMap<(String, u64), Reading>,
    records: BTreeMap<String, Charted>,
    changed: Vec<String>,
    let_go: Vec<String>,
}

impl Node {
    /// Computes a result of analytics again; with `run`, also every result that was written before it in the same run.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn replay(&self, caller: &Caller, rtype: &str, id: &str, run: bool) -> Result<Replayed, Failure> {
        crate::ingest::check_type(rtype)?;
        let (row, ..) = self.sound_row(rtype, id, None).await?;
        let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
        if row.deleted {
            return Err(Failure::Gone(format!("{rtype}/{id}")));
        }
        let patient = row.patient.clone().unwrap_or_default();
        self.allow(caller, Action::Read, &sensed(&patient, None, &row.author)).await?;
        let asked = self.asked_for(caller, row.clone(), patient, run).await?;
        let trail = Trail {
            query: Some(format!("{rtype}/{id}/$replay")),
            under: decided.under,
            ..Trail::of(Interaction::Operation, AccessAction::Frames)
        };
        let version = commit(&row.salt, &row.bytes);
        self.leave_trail(
            caller,
            row.patient.as_deref(),
            &[version],
            std::slice::from_ref(&asked.result.record),
            &trail,
        )
        .await?;
        let mut held = self.frames_of(&asked).await?;
        self.records_of(&asked, &mut held).await?;
        let computed = tokio::task::spawn_blocking(move || compute(&asked, held));
        computed.await.map_err(|e| Failure::ours("a replay did not come to its end", e))
    }

    /// Follows a result back to the beginning of its run.
    async fn asked_for(&self, caller: &Caller, row: Row, patient: String, run: bool) -> Result<Asked, Failure> {
        let (result, told) = written(&row).ok_or_else(|| {
            let text = "this is no result of analytics that says what it was computed from; of an alarm's Flag ask for its DetectedIssue";
            Failure::invalid(IssueType::NotSupported, "", text)
        })?;
        let torn =
            |name: &str| Failure::Conflict(format!("the run of this result is torn: `{name}` does not continue it"));
        let (id_of_run, mut parts, mut measured, mut earlier) = (told.run, Vec::new(), told.measured, Vec::new());
        let (mut from, mut before, mut count) = (told.from, told.after, told.steps.len());
        parts.push(told.steps);
        while let Some(name) = before.take() {
            if parts.len() >= RESULTS_MAX || count > REPLAY_FRAMES_MAX {
                let text = format!(
                    "the run before this result is longer than {REPLAY_FRAMES_MAX} steps or {RESULTS_MAX} results: replay an earlier result"
                );
                return Err(Failure::TooLarge(text));
            }
            let (rtype, id) = name.split_once('/').ok_or_else(|| torn(&name))?;
            let (row_before, ..) = self.sound_row(rtype, id, Some(1)).await?;
            let (result, told) = written(&row_before).ok_or_else(|| torn(&name))?;
            let own = row_before.patient == row.patient && row_before.author == row.author;
            if !own || told.run != id_of_run || told.from + told.steps.len() as u64 != from {
                return Err(torn(&name));
            }
            if run {
                self.allow(caller, Action::Read, &Target::of(&row_before)).await?;
                earlier.push(result);
            }
            measured = span(measured, told.measured);
            count += told.steps.len();
            (from, before) = (told.from, told.after);
            parts.push(told.steps);
        }
        let mut steps: Vec<Step> = parts.into_iter().rev().flatten().collect();
        let last = earlier.iter().map(|one| one.place.step).fold(result.place.step, u64::max);
        if from != 0 || (steps.len() as u64) < last {
            return Err(torn(&result.record));
        }
        steps.truncate(usize::try_from(last).unwrap_or(usize::MAX));
        Ok(Asked { patient, run: id_of_run, result, earlier: run.then_some(earlier), steps, measured })
    }

    /// The frames of the steps that their devices signed and the ledger bears out; the others are named.
    async fn frames_of(&self, asked: &Asked) -> Result<Held, Failure> {
        let mut wanted: BTreeMap<DeviceId, BTreeSet<u64>> = BTreeMap::new();
        for step in &asked.steps {
            if let Step::Frame { device, counter } = step {
                let device =
                    device_name(device).map_err(|e| Failure::Conflict(format!("a step names no device: {e}")))?;
                wanted.entry(device).or_default().insert(*counter);
            }
        }
        let mut held = Held::default();
        let thinned = self.thinned(&asked.patient).await?;
        let (from, to) = asked.measured.map_or((TimeMs(0), TimeMs(u64::MAX)), |(from, to)| (from, to.plus_ms(1)));
        for (device, counters) in wanted {
            let of = FrameFilter::Device(device.as_str().to_owned());
            let mut query = FrameQuery { of, from, to, after: None, newest_first: false, limit: PAGE_MAX };
            let mut by_binding: BTreeMap<Id16, Vec<(Frame, TimeMs)>> = BTreeMap::new();
            loop {
                let page = self.store.frames(query.clone()).await.map_err(crate::find::search_failure)?;
                let own =
                    page.frames.iter().filter(|row| row.patient == asked.patient && counters.contains(&row.counter));
                for row in own {
                    if let Some(frame) = frame_of(row) {
                        by_binding.entry(row.binding).or_default().push((frame, row.received_at));
                    }
                }
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            let id = crate::bind::device_id(&device).unwrap_or_default().to_owned();
            for (binding, mut frames) in by_binding {
                frames.sort_unstable_by_key(|(frame, _)| frame.counter());
                frames.dedup_by_key(|(frame, _)| frame.counter());
                let Some((first, _)) = frames.first() else { continue };
                let Some(ties) = self.ties(first, binding, &asked.patient).await? else { continue };
                let (good, _) = self.verified(&ties, frames).await?;
                held.frames.extend(good.into_iter().map(|reading| ((id.clone(), reading.counter), reading)));
            }
            let gone = counters.iter().filter(|counter| !held.frames.contains_key(&(id.clone(), **counter)));
            // By the index of the entry: which frames went together.
            let (mut went, mut changed) = (BTreeMap::<u64, (&LetGo, u64, u64, u64)>::new(), Vec::new());
            let device = device_digest(&device);
            for counter in gone {
                let mut of = thinned.iter().filter(|one| one.device == device);
                match of.find_map(|one| one.batches.let_go_with(*counter)) {
                    Some(let_go) => {
                        let (_, _, last, count) = went.entry(let_go.index).or_insert((let_go, *counter, *counter, 0));
                        (*last, *count) = (*counter, *count + 1);
                    }
                    None => changed.push(format!("frame {counter} of Device/{id}")),
                }
            }
            held.changed.extend(changed.into_iter().take(NAMED_MAX));
            held.let_go.extend(went.into_values().take(NAMED_MAX).map(|(let_go, first, last, count)| {
                let (at, entry) = (let_go.time.to_instant(), let_go.entry);
                format!("{count} frames of Device/{id}, counters {first} to {last}: {at}, entry {entry}")
            }));
        }
        Ok(held)
    }

    /// The charted records of the steps, as the ledger has them; the others are named.
    async fn records_of(&self, asked: &Asked, held: &mut Held) -> Result<(), Failure> {
        let charts = asked.steps.iter().filter_map(|step| match step {
            Step::Chart { records, .. } => Some(records),
            _ => None,
        });
        let names: BTreeSet<&String> = charts.flatten().collect();
        for name in names {
            let key = name.split_once("/_history/").and_then(|(record, version)| {
                let (rtype, id) = record.split_once('/')?;
                Some((rtype, id, version.parse::<u64>().ok()?))
            });
            let found = match key {
                Some((rtype, id, version)) => match self.sound_row(rtype, id, Some(version)).await {
                    Ok((row, ..)) => Some(row),
                    Err(Failure::Tampered(_) | Failure::Gone(_) | Failure::NotFound(_)) => None,
                    Err(failure) => return Err(failure),
                },
                None => None,
            };
            let found = found.filter(|row| counts(row, &Worth::Pending, &asked.patient)).as_ref().and_then(Charted::of);
            match found {
                Some(charted) => {
                    held.records.insert(name.clone(), charted);
                }
                None => held.changed.push(name.clone()),
            }
        }
        Ok(())
    }
}

/// A span that holds both.
fn span(one: Option<(TimeMs, TimeMs)>, other: Option<(TimeMs, TimeMs)>) -> Option<(TimeMs, TimeMs)> {
    match (one, other) {
        (Some((from, to)), Some((begin, end))) => Some((from.min(begin), to.max(end))),
        (one, other) => one.or(other),
    }
}

/// A row as a result, and what it says of its run.
fn written(row: &Row) -> Option<(Written, Told)> {
    let resource: Value = serde_json::from_slice(&row.bytes).ok()?;
    let told = Told::read(&resource)?;
    let record = format!("{}/{}/_history/{}", row.rtype, row.id, row.version);
    Some((Written { record, resource, place: told.place }, told))
}

/// A part of a result's own extension.
fn part(resource: &Value, name: &str) -> String {
    let extensions = resource["extension"].as_array().into_iter().flatten();
    let mut parts = extensions.filter_map(|one| one["extension"].as_array()).flatten();
    let part = parts.find(|part| part["url"] == name);
    let text = part.and_then(|part| ["valueString", "valueCode"].iter().find_map(|kind| part[*kind].as_str()));
    text.unwrap_or_default().to_owned()
}

/// Takes the steps again and compares.
fn compute(asked: &Asked, mut held: Held) -> Replayed {
    let result = &asked.result;
    let mut replayed = Replayed {
        equal: false,
        record: result.record.clone(),
        rule: part(&result.resource, "rule"),
        model: part(&result.resource, "model"),
        digest: part(&result.resource, "digest"),
        computed: None,
        steps: asked.steps.len() as u64,
        frames: held.frames.len(),
        records: held.records.len(),
        changed: std::mem::take(&mut held.changed),
        let_go: std::mem::take(&mut held.let_go),
        said: String::new(),
        run: None,
    };
    if !replayed.changed.is_empty() {
        replayed.changed.truncate(NAMED_MAX);
        replayed.said = "not equal: what it was computed from was changed, or is gone".to_owned();
        return replayed;
    }
    if !replayed.let_go.is_empty() {
        replayed.let_go.truncate(NAMED_MAX);
        replayed.said =
            "not computed: frames that it was computed from were let go by policy, and only their roll-up is left"
                .to_owned();
        return replayed;
    }
    let mut earlier = Earlier::default();
    let mut of_step: BTreeMap<u64, Vec<&Written>> = BTreeMap::new();
    for one in asked.earlier.iter().flatten().chain([result]) {
        of_step.entry(one.place.step).or_default().push(one);
    }
    again(asked, &held, |place, found| {
        for one in of_step.get(&place.step).into_iter().flatten() {
            let same = compared(one, place, found, &asked.patient);
            if std::ptr::eq(*one, result) {
                replayed.equal = same.is_ok();
                (replayed.said, replayed.computed) = match same {
                    Ok(finding) => ("equal".to_owned(), Some(finding.digest().to_hex())),
                    Err(Unequal::Taken) => ("not equal: what the engine took in was something else".to_owned(), None),
                    Err(Unequal::Found(finding)) => {
                        let text = "not equal: the rule finds something else in the same frames";
                        (text.to_owned(), Some(finding.digest().to_hex()))
                    }
                    Err(Unequal::Nothing) => ("not equal: the rule finds nothing in the same frames".to_owned(), None),
                };
                continue;
            }
            *earlier.rules.entry(part(&one.resource, "rule")).or_default() += 1;
            earlier.results += 1;
            match same {
                Ok(_) => earlier.equal += 1,
                Err(_) if earlier.unequal.len() < NAMED_MAX => earlier.unequal.push(one.record.clone()),
                Err(_) => {}
            }
        }
    });
    replayed.run = asked.earlier.as_ref().map(|_| earlier);
    replayed
}

/// Why a result is not what comes out again.
enum Unequal<'a> {
    /// The steps lead to another digest.
    Taken,
    /// The rule finds something else.
    Found(&'a Finding),
    /// The rule finds nothing.
    Nothing,
}

/// The finding that a result is, of those at its place in the run.
fn compared<'a>(
    result: &Written,
    place: Place,
    found: &'a [Finding],
    patient: &str,
) -> Result<&'a Finding, Unequal<'a>> {
    if place != result.place {
        return Err(Unequal::Taken);
    }
    let (rule, shown, patient) = (part(&result.resource, "rule"), bare(&result.resource), format!("Patient/{patient}"));
    let of_rule: Vec<&Finding> = found.iter().filter(|finding| finding.rule == rule).collect();
    // Through text, as the written one went: a number that is read is not always the one that was written.
    let as_written = |finding: &Finding| {
        let bytes = serde_json::to_vec(show(finding, &patient).first()?).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().map(|resource| bare(&resource))
    };
    match of_rule.iter().find(|finding| as_written(finding).is_some_and(|again| again == shown)) {
        Some(finding) => Ok(finding),
        None => Err(of_rule.first().map_or(Unequal::Nothing, |finding| Unequal::Found(finding))),
    }
}

/// A resource without what tells its version and its run.
fn bare(resource: &Value) -> Value {
    let mut bare = resource.clone();
    taken_out(&mut bare);
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("id");
        fields.remove("meta");
    }
    bare
}

/// Takes the steps again; says of each where the run is after it, and what the rules found.
fn again(asked: &Asked, held: &Held, mut each: impl FnMut(Place, &[Finding])) {
    let mut monitor = Monitor::new(&Person::default());
    let mut taken = begun(asked.run);
    for (number, step) in (1..).zip(&asked.steps) {
        let mut found = Vec::new();
        taken = match step {
            Step::Frame { device, counter } => {
                // What is not held was named before.
                let Some(reading) = held.frames.get(&(device.clone(), *counter)) else { return };
                found = assess(&mut monitor, reading.digest, reading.measured_at, &reading.signals);
                after(&taken, &Content::Frame(&reading.digest))
            }
            Step::Chart { at, records } => {
                let held = records.iter().filter_map(|record| held.records.get(record));
                let (said, names): (Vec<Said>, Vec<(String, Commitment)>) =
                    held.map(|one| (one.said.clone(), (one.said.record.clone(), one.commitment))).unzip();
                monitor.know(&Chart::read(&said, *at));
                after(&taken, &Content::Chart(*at, &names))
            }
            Step::Acknowledged { alarm, at } => {
                // By whom decides nothing that a rule finds later.
                monitor.acknowledge(alarm, *at, "");
                after(&taken, &Content::Acknowledged(alarm, *at))
            }
        };
        each(Place { step: number, taken }, &found);
    }
}

#[cfg(test)]
mod tests;

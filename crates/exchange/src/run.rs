//! A run: what an engine took in, step by step, so that each of its results can be computed again.
//!
//! Every result carries how far the run was, a digest over all it had taken by then, the steps since the result written before, and which
//! result that was. Following these back gives the whole run; the digest says whether it is the one that the engine saw.

use record::{Commitment, Digest, Id16, TimeMs, sha256};
use serde_json::{Value, json};

/// The most steps that wait for a result to carry them. A run of more has results that nobody can compute again, and says so in the log.
const UNTOLD_MAX: usize = 16_384;
const DOMAIN: &[u8] = b"vitaltrace/run/1\0";
/// The extension of a result, in which the run's parts stand as well.
const FINDING: &str = "https://vitaltrace.org/fhir/StructureDefinition/finding";
/// The parts of the extension that a run adds.
const PARTS: [&str; 7] = ["run", "step", "taken", "from", "steps", "measured", "after"];

/// Something that an engine took in, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame: the id of its Device, and its counter.
    Frame { device: String, counter: u64 },
    /// The chart at a time: versions of records.
    Chart { at: TimeMs, records: Vec<String> },
    /// Somebody took notice of an alarm.
    Acknowledged { alarm: String, at: TimeMs },
}

/// What stands behind a step, for the digest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    Frame(&'a Digest),
    Chart(TimeMs, &'a [(String, Commitment)]),
    Acknowledged(&'a str, TimeMs),
}

/// The digest over everything that a run had taken, after one more step.
pub(crate) fn after(taken: &Digest, content: &Content<'_>) -> Digest {
    let mut bytes = Vec::new();
    match content {
        Content::Frame(frame) => {
            bytes.push(b'f');
            bytes.extend_from_slice(frame.as_ref());
        }
        Content::Chart(at, records) => {
            bytes.push(b'c');
            bytes.extend_from_slice(&at.0.to_be_bytes());
            for (record, commitment) in *records {
                bytes.extend_from_slice(&(record.len() as u64).to_be_bytes());
                bytes.extend_from_slice(record.as_bytes());
                bytes.extend_from_slice(commitment.0.as_ref());
            }
        }
        Content::Acknowledged(alarm, at) => {
            bytes.push(b'a');
            bytes.extend_from_slice(&at.0.to_be_bytes());
            bytes.extend_from_slice(alarm.as_bytes());
        }
    }
    sha256(&[DOMAIN, taken.as_ref(), &bytes])
}

/// The digest before the first step.
pub(crate) fn begun(run: Id16) -> Digest {
    sha256(&[DOMAIN, run.as_ref()])
}

/// How far a run was when something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Steps taken.
    pub(crate) step: u64,
    /// Digest over what they took.
    pub(crate) taken: Digest,
}

/// A run that goes on.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    id: Id16,
    place: Place,
    /// Steps that no result carries yet.
    // INVARIANT: at most UNTOLD_MAX, those up to `place`.
    untold: Vec<Step>,
    /// When the frames among them were measured.
    measured: Option<(TimeMs, TimeMs)>,
    /// The last result that was written.
    after: Option<String>,
    /// Steps were lost: nothing more is told.
    is_lost: bool,
}

/// What a result will carry.
#[derive(Debug)]
pub(crate) struct Telling {
    parts: Vec<Value>,
    count: usize,
    up_to: Place,
}

impl Run {
    pub(crate) fn new(id: Id16) -> Self {
        let place = Place { step: 0, taken: begun(id) };
        Self { id, place, untold: Vec::new(), measured: None, after: None, is_lost: false }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// One more step was taken; of a frame, when it was measured.
    pub(crate) fn take(&mut self, step: Step, content: &Content<'_>, measured_at: Option<TimeMs>) {
        self.place = Place { step: self.place.step + 1, taken: after(&self.place.taken, content) };
        if self.untold.len() >= UNTOLD_MAX && !self.is_lost {
            tracing::warn!(run = %self.id, "results were not written for too long: later ones of this run cannot be replayed");
            self.is_lost = true;
            self.untold.clear();
        }
        if self.is_lost {
            return;
        }
        self.untold.push(step);
        if let Some(at) = measured_at {
            let (first, last) = self.measured.unwrap_or((at, at));
            self.measured = Some((first.min(at), last.max(at)));
        }
    }

    /// What a result that was found at `place` carries.
    pub(crate) fn telling(&self, place: Place) -> Telling {
        let mut parts = Vec::new();
        if !self.is_lost {
            let text = |url: &str, value: String| json!({"url": url, "valueString": value});
            let number = |url: &str, value: u64| json!({"url": url, "valueDecimal": value});
            parts.push(text("run", self.id.to_hex()));
            parts.push(number("step", place.step));
            parts.push(text("taken", place.taken.to_hex()));
            parts.push(number("from", self.place.step - self.untold.len() as u64));
            if !self.untold.is_empty() {
                parts.push(text("steps", written(&self.untold)));
            }
            if let Some((first, last)) = self.measured {
                let period = json!({"start": first.to_instant(), "end": last.to_instant()});
                parts.push(json!({"url": "measured", "valuePeriod": period}));
            }
            parts.extend(self.after.iter().map(|after| text("after", after.clone())));
        }
        Telling { parts, count: self.untold.len(), up_to: self.place }
    }

    /// A result with this was written.
    pub(crate) fn told(&mut self, telling: &Telling, record: String) {
        if self.is_lost {
            return;
        }
        self.untold.drain(..telling.count.min(self.untold.len()));
        self.after = Some(record);
        // Frames that came meanwhile stretch it again as soon as the next is taken: until then the span is too wide at worst.
        if self.place == telling.up_to {
            self.measured = None;
        }
    }
}

impl Telling {
    /// Puts the parts into a result.
    pub(crate) fn put_into(&self, resource: &mut Value) {
        if let Some(all) = parts_mut(resource) {
            all.extend(self.parts.iter().cloned());
        }
    }
}

fn parts_mut(resource: &mut Value) -> Option<&mut Vec<Value>> {
    let extensions = resource.get_mut("extension")?.as_array_mut()?;
    extensions.iter_mut().find(|one| one["url"] == FINDING)?.get_mut("extension")?.as_array_mut()
}

/// Takes the parts out of a result again.
pub(crate) fn taken_out(resource: &mut Value) {
    if let Some(all) = parts_mut(resource) {
        all.retain(|part| !PARTS.iter().any(|name| part["url"] == *name));
    }
}

/// What a result says of its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) run: Id16,
    pub(crate) place: Place,
    /// How many steps came before those that it carries.
    pub(crate) from: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) measured: Option<(TimeMs, TimeMs)>,
    pub(crate) after: Option<String>,
}

impl Told {
    /// None of what is no result, or one that carries no run.
    pub(crate) fn read(resource: &Value) -> Option<Self> {
        let extensions = resource["extension"].as_array()?;
        let parts = extensions.iter().find(|one| one["url"] == FINDING)?["extension"].as_array()?;
        let part = |name: &str| parts.iter().find(|part| part["url"] == name);
        let text = |name: &str| part(name).and_then(|part| part["valueString"].as_str());
        let number = |name: &str| part(name).and_then(|part| part["valueDecimal"].as_u64());
        let instant = |name: &str, end: &str| TimeMs::from_instant(part(name)?["valuePeriod"][end].as_str()?).ok();
        Some(Self {
            run: text("run")?.parse().ok()?,
            place: Place { step: number("step")?, taken: text("taken")?.parse().ok()? },
            from: number("from")?,
            steps: read(text("steps").unwrap_or_default())?,
            measured: instant("measured", "start").zip(instant("measured", "end")),
            after: text("after").map(str::to_owned),
        })
    }
}

/// Steps as text, apart by spaces: `DEVICE#COUNTER`, `DEVICE#FIRST-LAST`, `chart@MS:RECORD,RECORD`, `ack@MS:ALARM`.
fn written(steps: &[Step]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        at += 1;
        words.push(match step {
            Step::Chart { at, records } => format!("chart@{}:{}", at.0, records.join(",")),
            Step::Acknowledged { alarm, at } => format!("ack@{}:{alarm}", at.0),
            Step::Frame { device, counter } => {
                let mut last = *counter;
                while matches!(steps.get(at), Some(Step::Frame { device: next, counter }) if next == device && *counter == last + 1)
                {
                    last += 1;
                    at += 1;
                }
                if last == *counter { format!("{device}#{counter}") } else { format!("{device}#{counter}-{last}") }
            }
        });
    }
    words.join(" ")
}

/// Reads what [`written`] wrote; none of anything else.
fn read(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some((device, counters)) = word.split_once('#') {
            let (first, last) = counters.split_once('-').unwrap_or((counters, counters));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first || last - first >= UNTOLD_MAX as u64 || steps.len() > UNTOLD_MAX {
                return None;
            }
            steps.extend((first..=last).map(|counter| Step::Frame { device: device.to_owned(), counter }));
            continue;
        }
        let (kind, rest) = word.split_once('@')?;
        let (at, rest) = rest.split_once(':')?;
        let at = TimeMs(at.parse().ok()?);
        steps.push(match kind {
            "chart" => {
                let records = rest.split(',').filter(|record| !record.is_empty()).map(str::to_owned).collect();
                Step::Chart { at, records }
            }
            "ack" => Step::Acknowledged { alarm: rest.to_owned(), at },
            _ => return None,
        });
    }
    (steps.len() <= UNTOLD_MAX).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(device: &str, counter: u64) -> Step {
        Step::Frame { device: device.to_owned(), counter }
    }

    fn resource() -> Value {
        json!({"resourceType": "Observation", "extension": [
            {"url": "other", "valueString": "x"}, {"url": FINDING, "extension": [{"url": "rule", "valueCode": "news2"}]}
        ]})
    }

    /// Takes steps; each frame's content is its counter, measured a second after the one before.
    fn take(run: &mut Run, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Frame { counter, .. } => {
                    let digest = sha256(&[&counter.to_be_bytes()]);
                    run.take(step.clone(), &Content::Frame(&digest), Some(TimeMs(counter * 1_000)));
                }
                Step::Chart { at, .. } => run.take(step.clone(), &Content::Chart(*at, &[]), None),
                Step::Acknowledged { alarm, at } => {
                    run.take(step.clone(), &Content::Acknowledged(alarm, *at), None);
                }
            }
        }
    }

    #[test]
    fn steps_are_written_and_read_again() {
        let records = vec!["Patient/p/_history/1".to_owned(), "Observation/o/_history/2".to_owned()];
        let steps = [
            Step::Chart { at: TimeMs(5), records },
            Step::Chart { at: TimeMs(6), records: Vec::new() },
            frame("d1", 7),
            frame("d1", 8),
            frame("d1", 9),
            frame("d2", 1),
            frame("d1", 10),
            frame("d1", 12),
            Step::Acknowledged { alarm: "spo2-low".into(), at: TimeMs(9) },
        ];
        let text = written(&steps);
        assert_eq!(
            text,
            "chart@5:Patient/p/_history/1,Observation/o/_history/2 chart@6: d1#7-9 d2#1 d1#10 d1#12 ack@9:spo2-low"
        );
        assert_eq!(read(&text).unwrap(), steps);
        for wrong in ["x", "d1#", "d1#2-1", "d1#1-18446744073709551615", "chart@x:", "what@5:x", "ack@5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_result_carries_the_steps_since_the_one_before() {
        let mut run = Run::new(Id16([7; 16]));
        let (mut first, mut second) = (resource(), resource());
        take(&mut run, &[frame("d1", 1), frame("d2", 1)]);
        let found_at = run.place();
        // What came between finding and writing is told with it.
        take(&mut run, &[frame("d1", 2)]);
        let telling = run.telling(found_at);
        telling.put_into(&mut first);
        take(&mut run, &[frame("d2", 2)]);
        run.told(&telling, "Observation/a".into());
        let telling = run.telling(run.place());
        telling.put_into(&mut second);

        let (one, two) = (Told::read(&first).unwrap(), Told::read(&second).unwrap());
        assert_eq!((one.from, one.steps.len(), one.place.step, one.after), (0, 3, 2, None));
        assert_eq!((two.from, two.steps, two.after.as_deref()), (3, vec![frame("d2", 2)], Some("Observation/a")));
        assert_eq!(one.measured, Some((TimeMs(1_000), TimeMs(2_000))));
        assert!(two.measured.is_some_and(|(from, to)| from <= TimeMs(2_000) && to == TimeMs(2_000)));
        taken_out(&mut first);
        assert_eq!(first, resource());
        assert_eq!(Told::read(&first), None);
    }

    #[test]
    fn a_result_that_was_not_written_leaves_its_steps_to_the_next() {
        let mut run = Run::new(Id16([7; 16]));
        take(&mut run, &[frame("d1", 1)]);
        let _ = run.telling(run.place());
        take(&mut run, &[frame("d1", 2)]);
        let mut next = resource();
        run.telling(run.place()).put_into(&mut next);
        let told = Told::read(&next).unwrap();
        assert_eq!((told.from, told.steps.len(), told.after), (0, 2, None));
    }

    #[test]
    fn another_order_another_frame_and_another_run_have_another_digest() {
        let digest = |id: u8, steps: &[Step]| {
            let mut run = Run::new(Id16([id; 16]));
            take(&mut run, steps);
            run.place().taken
        };
        let steps = [frame("d1", 1), frame("d1", 2), Step::Acknowledged { alarm: "a".into(), at: TimeMs(1) }];
        let same = digest(7, &steps);
        assert_eq!(same, digest(7, &steps));
        assert_ne!(same, digest(8, &steps));
        assert_ne!(same, digest(7, &[steps[1].clone(), steps[0].clone(), steps[2].clone()]));
        assert_ne!(same, digest(7, &steps[..2]));
    }

    #[test]
    fn a_run_that_nobody_can_tell_is_not_told() {
        let mut run = Run::new(Id16([7; 16]));
        let steps: Vec<Step> = (1..=UNTOLD_MAX as u64 + 1).map(|counter| frame("d1", counter)).collect();
        take(&mut run, &steps);
        let mut result = resource();
        run.telling(run.place()).put_into(&mut result);
        assert_eq!(result, resource());
    }
}

//! What a model looks at: numbers of frames and of the chart, what of them to cite, and when it is asked.

use crate::{
    chart::{Chart, Charted},
    input::{Input, Person},
    predict::{NotTaken, Reading, Variable, WINDOW_H},
};
use record::{Digest, TimeMs};
use std::collections::{BTreeMap, BTreeSet};

const HOUR_MS: u64 = 3_600_000;

/// What was taken in so far, for citing it, and the chart.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Of each variable and hour the frame with the last value.
    // INVARIANT: of the last `WINDOW_H` hours before the latest.
    frames: BTreeMap<(u64, Variable), (TimeMs, Digest)>,
    pub(super) chart: Chart,
    /// The last moment at which a model was asked, counted in steps.
    step: Option<u64>,
}

impl Inputs {
    /// Nothing yet, of a person.
    pub(super) fn of(person: &Person) -> Self {
        Self { chart: Chart { person: *person, ..Chart::default() }, ..Self::default() }
    }

    /// The moment to ask a model for before `input` is taken: the end of a step of `every_ms`, once. A model is asked on the clock of the
    /// sensors, so that a replay asks it at the same moments.
    pub(super) fn moment(&mut self, input: &Input<'_>, every_ms: u64) -> Option<TimeMs> {
        let step = input.at.0 / every_ms;
        let last = *self.step.get_or_insert(step);
        (step > last).then(|| {
            self.step = Some(step);
            TimeMs(step * every_ms)
        })
    }

    /// The input as a model's reading; none if no model takes it.
    pub(super) fn reading(input: &Input<'_>) -> Option<Reading<'static>> {
        let variable = Variable::of_signal(input.signal)?;
        let value = input.value.number()?;
        Some(Reading { variable, at: input.at, value, unit: variable.spec().unit })
    }

    /// The model took the reading of this frame.
    pub(super) fn took(&mut self, reading: &Reading<'_>, frame: Digest) {
        let hour = reading.at.0 / HOUR_MS;
        let last = self.frames.entry((hour, reading.variable)).or_insert((reading.at, frame));
        if reading.at >= last.0 {
            *last = (reading.at, frame);
        }
        let latest = self.frames.last_key_value().map_or(hour, |((hour, _), _)| *hour);
        self.frames = self.frames.split_off(&(latest.saturating_sub(WINDOW_H), Variable::HEART_RATE));
    }

    /// Gives the charted values before a moment to a model; names the records of those that it took.
    pub(super) fn charted(
        &self,
        before: TimeMs,
        mut observe: impl FnMut(&Reading<'_>) -> Result<(), NotTaken>,
    ) -> BTreeSet<String> {
        let mut took = BTreeSet::new();
        for Charted { variable, at, value, record } in self.chart.charted.iter().filter(|one| one.at < before) {
            let reading = Reading { variable: *variable, at: *at, value: *value, unit: variable.spec().unit };
            if observe(&reading).is_ok() {
                took.insert(record.clone());
            }
        }
        took
    }

    /// The frames to cite for what a model said of `hours` before a moment: of each variable and hour the last.
    pub(super) fn cited(&self, at: TimeMs, hours: u64, looked_at: impl Fn(Variable) -> bool) -> Vec<Digest> {
        let from = at.0.saturating_sub(hours * HOUR_MS);
        let within = |(time, _): &&(TimeMs, Digest)| (from..at.0).contains(&time.0);
        let frames = self.frames.iter().filter(|((_, variable), _)| looked_at(*variable)).map(|(_, last)| last);
        let mut cited = crate::finding::Cited::default();
        frames.filter(within).for_each(|(_, frame)| cited.add(*frame));
        cited.take()
    }
}

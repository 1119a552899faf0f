//! An alarm of the ECG at work: its definition, its state, and the frames it will cite.

use super::Author;
use crate::{
    alarm::{AlarmSpec, AlarmState, AlarmStep},
    ecg::Stretch,
    finding::{Alarm, Finding, Measure, Severity},
};
use record::{Digest, TimeMs};
use std::collections::VecDeque;

/// The most frames that one alarm cites: the last before it sounds, as far as its condition reaches back.
const FRAMES_MAX: usize = 48;

/// What an alarm is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) priority: Severity,
    pub(super) technical: bool,
    pub(super) spec: AlarmSpec,
}

impl Definition {
    /// Everything that decides how the alarm behaves, by name.
    pub(super) fn parameters(&self) -> [(String, f64); 6] {
        let flag = |value: bool| f64::from(u8::from(value));
        let name = |what: &str| format!("{}.{what}", self.name);
        [
            (name("condition_delay_ms"), self.spec.condition_delay_ms as f64),
            (name("generation_delay_ms"), self.spec.generation_delay_ms as f64),
            (name("clear_delay_ms"), self.spec.clear_delay_ms as f64),
            (name("latching"), flag(self.spec.latching)),
            (name("priority"), f64::from(self.priority as u8)),
            (name("technical"), flag(self.technical)),
        ]
    }
}

/// An alarm at work on one patient.
#[derive(Debug)]
pub(super) struct Sounding {
    author: Author,
    definition: Definition,
    state: AlarmState,
    recent: VecDeque<(TimeMs, Digest)>,
    measures: Vec<Measure>,
    lead: Option<String>,
    last: TimeMs,
}

impl Sounding {
    pub(super) fn new(author: Author, definition: Definition) -> Self {
        Self {
            author,
            definition,
            state: AlarmState::Quiet,
            recent: VecDeque::new(),
            measures: Vec::new(),
            lead: None,
            last: TimeMs(0),
        }
    }

    /// A stretch came in: its frame may be cited.
    pub(super) fn hear(&mut self, stretch: &Stretch<'_>) {
        self.cite(stretch.until, stretch.frame);
    }

    /// A frame of this time may be cited.
    pub(super) fn cite(&mut self, until: TimeMs, frame: Digest) {
        if self.recent.back().is_some_and(|(_, last)| *last == frame) {
            return;
        }
        if self.recent.len() >= FRAMES_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((until, frame));
    }

    /// The condition is there since a time that may lie back, or it is not. Numbers are shown with the alarm.
    pub(super) fn step(
        &mut self,
        stretch: &Stretch<'_>,
        condition_since: Option<TimeMs>,
        measures: Vec<Measure>,
    ) -> Option<Finding> {
        if condition_since.is_some() {
            self.lead = Some(stretch.lead.to_owned());
        }
        self.step_at(stretch.until, condition_since, measures)
    }

    /// As [`Sounding::step`], at a time at which no stretch came.
    pub(super) fn step_at(
        &mut self,
        at: TimeMs,
        condition_since: Option<TimeMs>,
        measures: Vec<Measure>,
    ) -> Option<Finding> {
        self.last = at;
        if let Some(since) = condition_since {
            self.measures = measures;
            if self.state == AlarmState::Quiet {
                self.state = AlarmState::Pending { since: since.min(at) };
            }
        }
        let (state, step) = self.state.observe(&self.definition.spec, at, condition_since.is_some());
        self.state = state;
        step.map(|step| self.finding(step, at, None))
    }

    /// Somebody took notice of the alarm `name`.
    pub(super) fn acknowledge(&mut self, name: &str, at: TimeMs, by: &str) -> Option<Finding> {
        if name != self.definition.name {
            return None;
        }
        let (state, step) = self.state.acknowledge();
        self.state = state;
        step.map(|step| self.finding(step, at.max(self.last), Some(by)))
    }

    fn finding(&self, step: AlarmStep, at: TimeMs, by: Option<&str>) -> Finding {
        let (since, change) = step.told(by);
        let cited = self.recent.iter().filter(|(until, _)| *until >= since).map(|(_, frame)| *frame).collect();
        Finding {
            signal: self.lead.clone(),
            severity: self.definition.priority,
            measures: self.measures.clone(),
            alarm: Some(Alarm {
                name: self.definition.name,
                change,
                technical: self.definition.technical,
                condition_since: since,
                latching: self.definition.spec.latching,
            }),
            ..self.author.finding(since, at, cited)
        }
    }
}

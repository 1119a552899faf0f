//! Findings that wait to be written: alarms before all others, and what nobody waits for in small groups, spread out.
//!
//! Every rule that sums up a minute finds something about every patient at the same moment. Written as they were found, those about 200 patients
//! held up frames for seconds of every minute, and with them alarms.

use super::Found;
use record::sha256;
use std::time::Duration;
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TryRecvError},
    time::{Instant, sleep_until},
};

/// The most findings of one patient that wait to be written, of those at once and of those in turn.
const FINDINGS_LEN_MAX: usize = 256;
/// The most alarms of one patient that wait to be written; the engine waits for room.
const ALARMS_LEN_MAX: usize = 64;
/// Findings of one patient that are written in turn are written so many together: in one transaction, and under one audit event...
const TOGETHER_MAX: usize = 8;
/// ... so far apart ...
const APART: Duration = Duration::from_secs(5);
/// ... or less, so that all that wait are written within this.
const SPREAD: Duration = Duration::from_secs(30);

/// Where an engine puts what it found.
pub(super) struct ToWrite {
    pub(super) alarms: Sender<Found>,
    pub(super) at_once: Sender<Found>,
    pub(super) in_turn: Sender<Found>,
}

/// Where its writer takes it from.
pub(super) struct Waiting {
    alarms: Receiver<Found>,
    at_once: Receiver<Found>,
    turns: Turns,
}

/// The two ends of one patient's queues.
pub(super) fn queues(patient: &str) -> (ToWrite, Waiting) {
    let (alarms, alarms_waiting) = mpsc::channel(ALARMS_LEN_MAX);
    let (at_once, at_once_waiting) = mpsc::channel(FINDINGS_LEN_MAX);
    let (in_turn, queue) = mpsc::channel(FINDINGS_LEN_MAX);
    let turns = Turns { queue, held: Vec::new(), at: Instant::now(), lead: lead(patient) };
    (ToWrite { alarms, at_once, in_turn }, Waiting { alarms: alarms_waiting, at_once: at_once_waiting, turns })
}

impl Waiting {
    /// What is written next, together; nothing when the engine has ended and all is written.
    pub(super) async fn next(&mut self) -> Vec<Found> {
        tokio::select! {
            biased;
            Some(alarm) = self.alarms.recv() => vec![alarm],
            Some(found) = self.at_once.recv() => vec![found],
            Some(found) = self.turns.next() => found,
            else => Vec::new(),
        }
    }
}

/// Those that are written in turn.
struct Turns {
    queue: Receiver<Found>,
    /// Whose turn is next.
    // INVARIANT: at most TOGETHER_MAX.
    held: Vec<Found>,
    /// When that is.
    at: Instant,
    /// How long the first of several waits: patients differ.
    lead: Duration,
}

impl Turns {
    /// The next ones when their turn has come. Nothing is lost where nobody waits for that any more.
    async fn next(&mut self) -> Option<Vec<Found>> {
        if self.held.is_empty() {
            match self.queue.try_recv() {
                Ok(found) => self.held.push(found),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {
                    self.held.push(self.queue.recv().await?);
                    self.at = self.at.max(Instant::now() + self.lead);
                }
            }
        }
        // At the end of an engine nothing is spread out any more.
        if !self.queue.is_closed() {
            sleep_until(self.at).await;
        }
        while self.held.len() < TOGETHER_MAX
            && let Ok(found) = self.queue.try_recv()
        {
            self.held.push(found);
        }
        self.at = Instant::now() + apart(self.queue.len());
        Some(std::mem::take(&mut self.held))
    }
}

/// How far apart the next two groups are, where so many findings wait.
fn apart(waiting: usize) -> Duration {
    let groups = u32::try_from(waiting.div_ceil(TOGETHER_MAX)).unwrap_or(u32::MAX).saturating_add(1);
    APART.min(SPREAD / groups)
}

/// How long a patient's first group waits: less than two are apart.
fn lead(patient: &str) -> Duration {
    let [one, two, ..] = sha256(&[b"turns/", patient.as_bytes()]).0;
    APART * u32::from(u16::from_be_bytes([one, two])) / (u32::from(u16::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::findings, *};
    use crate::run::Place;
    use record::Digest;

    fn found(rule: &'static str) -> Found {
        let finding = findings().into_iter().next().unwrap();
        let place = Place { step: 1, taken: Digest([0; 32]) };
        Found { finding: analytics::Finding { rule, ..finding }, place, charted: Vec::new() }
    }

    #[tokio::test]
    async fn alarms_come_before_others_and_what_nobody_waits_for_comes_in_turn_and_all_of_it_at_the_end() {
        let (to_write, mut waiting) = queues("p1");
        for rule in ["first", "second", "third"] {
            to_write.in_turn.send(found(rule)).await.unwrap();
        }
        let mut order = Vec::new();
        let mut next = async |waiting: &mut Waiting| {
            order.push(waiting.next().await.iter().map(|found| found.finding.rule).collect::<Vec<_>>());
        };
        next(&mut waiting).await;
        to_write.in_turn.send(found("fourth")).await.unwrap();
        // It has to wait for its turn; what is sent meanwhile does not.
        assert!(tokio::time::timeout(Duration::from_millis(10), waiting.next()).await.is_err());
        to_write.at_once.send(found("at-once")).await.unwrap();
        to_write.alarms.send(found("alarm")).await.unwrap();
        next(&mut waiting).await;
        next(&mut waiting).await;
        for _ in 0..TOGETHER_MAX {
            to_write.in_turn.send(found("later")).await.unwrap();
        }
        drop(to_write);
        for _ in 0..3 {
            next(&mut waiting).await;
        }
        let full = [vec!["fourth"], vec!["later"; TOGETHER_MAX - 1]].concat();
        let expected =
            [vec!["first", "second", "third"], vec!["alarm"], vec!["at-once"], full, vec!["later"], Vec::new()];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_waits_is_written_within_half_a_minute_however_much_it_is() {
        assert_eq!([apart(0), apart(5 * TOGETHER_MAX)], [APART; 2]);
        for waiting in [6 * TOGETHER_MAX, FINDINGS_LEN_MAX] {
            let groups = waiting.div_ceil(TOGETHER_MAX) as u32;
            assert!(apart(waiting) < APART && apart(waiting) * groups <= SPREAD, "{waiting}");
        }
    }

    #[test]
    fn patients_begin_at_different_times() {
        let leads: std::collections::BTreeSet<Duration> = (0..200).map(|n| lead(&format!("p{n}"))).collect();
        assert!(leads.len() > 190 && leads.iter().all(|lead| *lead < APART));
    }
}

//! Findings that wait to be written: alarms before all others, and what nobody waits for in small groups, spread out.
//!
//! Every rule that sums up a minute finds something about every patient at the same moment. Written as they were found, those about 200 patients
//! held up frames for seconds of every minute, and with them alarms.

use super::Found;
use record::sha256;
use std::time::Duration;
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        watch,
    },
    time::{Instant, sleep_until},
};

/// The most findings of one patient that wait to be written, of those at once and of those in turn. What has no room among those in turn is
/// written at once.
const FINDINGS_LEN_MAX: usize = 256;
/// The most alarms of one patient that wait to be written; the engine waits for room.
const ALARMS_LEN_MAX: usize = 64;
/// Findings of one patient that are written in turn are written so many together: in one transaction, and under one audit event.
const TOGETHER_MAX: usize = 8;
/// A patient's turns begin so long at most after the first finding came: each patient's at another time.
const LEAD: Duration = Duration::from_secs(40);
/// Two turns of a patient are so far apart...
const APART: Duration = Duration::from_secs(3);
/// ... unless more findings wait than a minute has: a device sent what it had stored.
const CROWD: usize = 48;

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

/// The two ends of one patient's queues. When the node stops, nothing waits for its turn any more.
pub(super) fn queues(patient: &str, stopping: watch::Receiver<bool>) -> (ToWrite, Waiting) {
    let (alarms, alarms_waiting) = mpsc::channel(ALARMS_LEN_MAX);
    let (at_once, at_once_waiting) = mpsc::channel(FINDINGS_LEN_MAX);
    let (in_turn, queue) = mpsc::channel(FINDINGS_LEN_MAX);
    let turns = Turns { queue, held: Vec::new(), at: Instant::now(), has_rested: true, lead: lead(patient), stopping };
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
    /// Whether none waited after the last turn.
    has_rested: bool,
    /// How long the first of several waits.
    lead: Duration,
    stopping: watch::Receiver<bool>,
}

impl Turns {
    /// The next ones when their turn has come. Nothing is lost where nobody waits for that any more.
    async fn next(&mut self) -> Option<Vec<Found>> {
        if self.held.is_empty() {
            self.held.push(self.queue.recv().await?);
            if std::mem::take(&mut self.has_rested) {
                self.at = self.at.max(Instant::now() + self.lead);
            }
        }
        tokio::select! {
            () = sleep_until(self.at) => {}
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
        }
        while self.held.len() < TOGETHER_MAX
            && let Ok(found) = self.queue.try_recv()
        {
            self.held.push(found);
        }
        self.has_rested = self.queue.is_empty();
        self.at = Instant::now() + apart(self.queue.len());
        Some(std::mem::take(&mut self.held))
    }
}

/// How far apart two turns are, where so many findings wait.
fn apart(waiting: usize) -> Duration {
    if waiting > CROWD { Duration::ZERO } else { APART }
}

/// How long a patient's first finding waits.
fn lead(patient: &str) -> Duration {
    let [one, two, ..] = sha256(&[b"turns/", patient.as_bytes()]).0;
    LEAD * u32::from(u16::from_be_bytes([one, two])) / (u32::from(u16::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::findings, *};
    use crate::run::Place;
    use record::Digest;
    use std::sync::LazyLock;

    static FINDING: LazyLock<analytics::Finding> = LazyLock::new(|| findings().into_iter().next().unwrap());

    fn found(rule: &'static str) -> Found {
        let place = Place { step: 1, taken: Digest([0; 32]) };
        Found { finding: analytics::Finding { rule, ..FINDING.clone() }, place, charted: Vec::new() }
    }

    async fn next(waiting: &mut Waiting) -> Vec<&'static str> {
        waiting.next().await.iter().map(|found| found.finding.rule).collect()
    }

    async fn waits(waiting: &mut Waiting) -> bool {
        tokio::time::timeout(Duration::from_millis(10), waiting.next()).await.is_err()
    }

    #[tokio::test]
    async fn alarms_come_before_others_and_what_nobody_waits_for_comes_in_turn_and_all_of_it_at_the_end() {
        let (stop, stopping) = watch::channel(false);
        let (to_write, mut waiting) = queues("p1", stopping);
        waiting.turns.lead = LEAD;
        for rule in ["first", "second", "third"] {
            to_write.in_turn.send(found(rule)).await.unwrap();
        }
        // They have to wait for their turn; what is sent meanwhile does not.
        assert!(waits(&mut waiting).await);
        to_write.at_once.send(found("at-once")).await.unwrap();
        to_write.alarms.send(found("alarm")).await.unwrap();
        assert_eq!(next(&mut waiting).await, ["alarm"]);
        assert_eq!(next(&mut waiting).await, ["at-once"]);
        assert!(waits(&mut waiting).await);
        for _ in 0..TOGETHER_MAX {
            to_write.in_turn.send(found("later")).await.unwrap();
        }
        let sleeps = tokio::spawn(async move { (next(&mut waiting).await, waiting) });
        tokio::task::yield_now().await;
        stop.send_replace(true);
        let (first, mut waiting) = sleeps.await.unwrap();
        assert_eq!(first, [vec!["first", "second", "third"], vec!["later"; TOGETHER_MAX - 3]].concat());
        drop(to_write);
        assert_eq!(next(&mut waiting).await, ["later"; 3]);
        assert_eq!(next(&mut waiting).await, [""; 0]);
    }

    #[tokio::test]
    async fn where_more_wait_than_a_minute_has_turns_follow_each_other() {
        let (_stop, stopping) = watch::channel(false);
        let (to_write, mut waiting) = queues("p1", stopping);
        waiting.turns.lead = Duration::ZERO;
        for _ in 0..FINDINGS_LEN_MAX {
            to_write.in_turn.try_send(found("stored")).unwrap();
        }
        assert_eq!(to_write.in_turn.capacity(), 0);
        let mut written = 0;
        while !waits(&mut waiting).await {
            written += TOGETHER_MAX;
            assert!(written < FINDINGS_LEN_MAX);
        }
        assert!(to_write.in_turn.capacity() > FINDINGS_LEN_MAX - CROWD - TOGETHER_MAX);
    }

    #[test]
    fn patients_begin_at_different_times() {
        let mut seconds = std::collections::BTreeMap::new();
        for patient in 0..200 {
            let lead = lead(&format!("p{patient}"));
            assert!(lead < LEAD);
            *seconds.entry(lead.as_secs()).or_insert(0) += 1;
        }
        assert!(seconds.len() > 30 && seconds.values().all(|together| *together < 20), "{seconds:?}");
    }
}

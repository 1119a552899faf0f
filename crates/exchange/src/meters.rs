//! What a node counts, for whoever watches it: how fast entries become final, what waits, what did not agree with the ledger. Nothing
//! here names a person, a record or a value.

use crate::{boxed, failure::Failure, node::Node, row::Worth};
use ledger::Status;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

/// Bounds of the finality histogram, in seconds: from a block on a fast disk to a ledger that has stood still for a while.
const FINALITY_S: [f64; 12] = [0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 60.0];

/// How long a look at what is counted is good: it reads whole indexes.
const FRESH: Duration = Duration::from_secs(2);

type Label = [(&'static str, String); 1];

/// Counters and gauges with their registry. One for each node.
pub(crate) struct Meters {
    registry: Mutex<Registry>,
    /// From the durable commit of a submission to its finality.
    pub(crate) finality: Histogram,
    weighed: Family<Label, Counter>,
    decisions: Family<Label, Counter>,
    frames: Family<Label, Counter>,
    /// Rows of frames that were let go by policy and taken out here.
    pub(crate) frames_let_go: Counter,
    /// Bindings with frames past their term, and those of them that something keeps.
    pub(crate) frames_due: Gauge,
    pub(crate) frames_held_back: Gauge,
    alarms: Family<Label, Counter>,
    escalated: Counter,
    watched: Counter<f64, AtomicU64>,
    /// How many policies in force this program cannot read.
    pub(crate) policy_unreadable: Gauge,
    now: Gauges,
    /// What the last look showed.
    last: tokio::sync::Mutex<Option<(Instant, [String; 2])>>,
}

/// What is looked up when it is asked for.
#[derive(Default)]
struct Gauges {
    pending: Gauge,
    lag: Gauge<f64, AtomicU64>,
    height: Gauge,
    mirror_height: Gauge,
    block_age: Gauge<f64, AtomicU64>,
    blocks_from: Gauge,
    entries: Gauge,
    refused: Gauge,
    waiting: Gauge,
    waiting_bytes: Gauge,
    held_up: Gauge,
    custodians: Gauge,
    connected: Family<Label, Gauge>,
    held: Gauge,
    missing: Gauge,
    misdeeds: Gauge,
    disk: Family<Label, Gauge>,
    disk_per_entry: Family<Label, Gauge<f64, AtomicU64>>,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let meters = Self {
            registry: Mutex::new(Registry::with_prefix("vitaltrace")),
            finality: Histogram::new(FINALITY_S),
            weighed: Family::default(),
            decisions: Family::default(),
            frames: Family::default(),
            frames_let_go: Counter::default(),
            frames_due: Gauge::default(),
            frames_held_back: Gauge::default(),
            alarms: Family::default(),
            escalated: Counter::default(),
            watched: Counter::default(),
            policy_unreadable: Gauge::default(),
            now: Gauges::default(),
            last: tokio::sync::Mutex::default(),
        };
        meters.register();
        meters
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let (seconds, bytes) = (Unit::Seconds, Unit::Bytes);
        let help = "From the durable commit of a submission of ours to its finality";
        registry.register_with_unit("finality", help, seconds.clone(), self.finality.clone());
        registry.register(
            "rows_weighed",
            "Rows compared with the ledger, by what they were worth",
            self.weighed.clone(),
        );
        registry.register("decisions", "Decisions over accesses, by outcome", self.decisions.clone());
        let help =
            "Policies in force that this program cannot read; when the access policy is one, it denies after a day";
        registry.register("policy_unreadable", help, self.policy_unreadable.clone());
        registry.register("frames", "Frames of sensors, by what became of them", self.frames.clone());
        let help = "Frames that were let go by policy, and that this gateway took out of the database";
        registry.register("frames_let_go", help, self.frames_let_go.clone());
        let help = "Bindings of this organisation with frames past the term of the policy";
        registry.register("frames_due_bindings", help, self.frames_due.clone());
        let help = "Those of them that a hold, an investigation or missing frames keep: see `vitaltrace audit`";
        registry.register("frames_held_back_bindings", help, self.frames_held_back.clone());
        let help =
            "Alarms that were raised, by priority, or technical; beside the hours watched, alarms per patient-hour";
        registry.register("alarms", help, self.alarms.clone());
        registry.register("alarms_escalated", "Alarms that nobody answered in time", self.escalated.clone());
        let help = "Time for which analytics watched patients, summed over them, by the sensors' clocks";
        registry.register_with_unit("patients_watched", help, seconds.clone(), self.watched.clone());
        let now = &self.now;
        registry.register("pending_entries", "Entries that are answered and not final yet", now.pending.clone());
        let help = "Age of the oldest entry that is answered and not final yet";
        registry.register_with_unit("anchoring_lag", help, seconds.clone(), now.lag.clone());
        registry.register("ledger_height", "Height of the last final block", now.height.clone());
        registry.register("mirror_height", "Height that reads are compared with", now.mirror_height.clone());
        registry.register_with_unit("ledger_block_age", "Age of the last final block", seconds, now.block_age.clone());
        let help = "The node has every block from this height on: 1, unless it still fetches older ones";
        registry.register("ledger_blocks_from", help, now.blocks_from.clone());
        registry.register("ledger_entries", "Entries in final blocks", now.entries.clone());
        registry.register("ledger_entries_refused", "Entries that the contract refused", now.refused.clone());
        registry.register("mempool_submissions", "Submissions that wait for a block", now.waiting.clone());
        let help = "Submissions that wait for a block";
        registry.register_with_unit("mempool", help, bytes.clone(), now.waiting_bytes.clone());
        let help = "What the node's folder takes up on the disk, by part";
        registry.register_with_unit("disk", help, bytes.clone(), now.disk.clone());
        let help = "What the ledger takes up on the disk for each of its entries, by part";
        registry.register_with_unit("disk_per_entry", help, bytes, now.disk_per_entry.clone());
        let help = "Submissions that wait until enough custodians hold the copies that they name";
        registry.register("pending_for_holding", help, now.held_up.clone());
        let help = "Members that may hold essential copies; below 2 nothing is held twice";
        registry.register("custodians", help, now.custodians.clone());
        registry.register("validator_connected", "Whether a validator was heard from lately", now.connected.clone());
        let help = "Proofs that a validator broke the rules: see `vitaltrace ledger blame`";
        registry.register("misdeeds", help, now.misdeeds.clone());
        registry.register("vault_held", "Essential copies and wrapped keys in this vault", now.held.clone());
        registry.register("vault_missing", "Those that the ledger names and this vault lacks", now.missing.clone());
    }

    /// What the rows of one answer were found to be worth.
    pub(crate) fn weighed(&self, worths: &[Worth]) {
        worths.iter().for_each(|worth| self.one_weighed(worth));
    }

    fn one_weighed(&self, worth: &Worth) {
        let worth = match worth {
            Worth::Good(_) => "good",
            Worth::Pending => "pending",
            Worth::Modified(_) => "modified",
            Worth::Duplicated(_) => "duplicated",
            Worth::RolledBack(_) => "rolled-back",
            Worth::Refused => "refused",
            Worth::Injected => "injected",
        };
        self.weighed.get_or_create(&[("worth", worth.to_owned())]).inc();
    }

    pub(crate) fn decided(&self, allowed: bool) {
        let outcome = if allowed { "allowed" } else { "denied" };
        self.decisions.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn frame(&self, admitted: bool) {
        let outcome = if admitted { "admitted" } else { "refused" };
        self.frames.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    pub(crate) fn alarm(&self, priority: &str, technical: bool) {
        let kind = if technical { "technical" } else { priority };
        self.alarms.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    pub(crate) fn escalated(&self) {
        self.escalated.inc();
    }

    /// Analytics watched a patient for so long.
    pub(crate) fn watched(&self, ms: u64) {
        self.watched.inc_by(ms as f64 / 1_000.0);
    }

    fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).map_err(|e| Failure::ours("the counters cannot be written", e))?;
        Ok(text)
    }
}

impl Node {
    /// Everything that node and engine count, as OpenMetrics texts, each with its end mark.
    ///
    /// However many ask, it is looked up at most once in two seconds.
    #[boxed]
    pub async fn metrics(&self) -> Result<[String; 2], Failure> {
        let mut last = self.meters.last.lock().await;
        if let Some((at, texts)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(texts.clone());
        }
        let texts = self.look().await?;
        *last = Some((Instant::now(), texts.clone()));
        Ok(texts)
    }

    async fn look(&self) -> Result<[String; 2], Failure> {
        let ledger = self.ledger.status();
        let refused = self.mirror.refused().await?;
        let vault = self.ledger.vault_status().await.map_err(|e| Failure::ours("the vault did not answer", e))?;
        let engine = self.ledger.engine_metrics().await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let disk = self.disk_use().await?;
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let now = &self.meters.now;
        now.pending.set(whole(self.unsettled()));
        now.lag.set(self.lane.oldest_s().max(self.accesses.oldest_s()));
        now.height.set(whole(ledger.height));
        now.mirror_height.set(whole(self.mirror.height()));
        now.block_age.set(self.now().0.saturating_sub(ledger.time.0) as f64 / 1000.0);
        now.blocks_from.set(whole(ledger.blocks_from));
        now.entries.set(whole(ledger.log_size));
        now.refused.set(whole(refused));
        now.waiting.set(whole(ledger.pending as u64));
        now.waiting_bytes.set(whole(ledger.pending_bytes as u64));
        now.held_up.set(whole(ledger.pending_for_holding as u64));
        now.custodians.set(whole(ledger.custodians as u64));
        for validator in &ledger.validators {
            let connected = i64::from(validator.connected);
            now.connected.get_or_create(&[("org", validator.org.to_string())]).set(connected);
        }
        for (part, bytes) in disk.parts() {
            now.disk.get_or_create(&[("part", part.to_owned())]).set(whole(bytes));
        }
        for (part, bytes) in disk.per_entry() {
            now.disk_per_entry.get_or_create(&[("part", part.to_owned())]).set(bytes);
        }
        now.misdeeds.set(whole(self.ledger.blames().len() as u64));
        now.held.set(whole(vault.held as u64));
        now.missing.set(whole(vault.missing as u64));
        Ok([self.meters.text()?, engine])
    }

    /// Why this node should not be sent requests now, if there is a reason. A ledger that stands still is none: what is essential is
    /// read and written all the same, and anchored later.
    #[boxed]
    pub async fn not_ready(&self) -> Option<&'static str> {
        if self.signer.is_spent() {
            return Some("the entry key was replaced elsewhere: put the latest folder of keys into its place");
        }
        if let Some(why) = self.accesses.refuses() {
            return Some(why);
        }
        // No Patient has such an id: what counts is that there is an answer.
        if self.store.read("Patient", "-").await.is_err() {
            return Some("the database does not answer");
        }
        incomplete(&self.ledger.status(), self.mirror.height())
    }

    /// Whether this node has read about everything that is final. Not while it catches up, nor while the ledger stands still, as others may
    /// be going on without this node.
    pub(crate) fn sees_what_is_final(&self) -> bool {
        let (ledger, mirrored) = (self.ledger.status(), self.mirror.height());
        // A node that took over the state of a block knows of none before it until the mirror got there.
        let behind = ledger.height.saturating_sub(mirrored);
        !self.is_stalled() && behind <= BEHIND_MAX && mirrored >= ledger.began_at
    }

    /// Whether the ledger has stood still for a while.
    pub fn is_stalled(&self) -> bool {
        self.now().0.saturating_sub(self.ledger.status().time.0) > crate::row::STALL_MS
    }
}

/// How many blocks the mirror may be behind the ledger while the node counts as ready.
const BEHIND_MAX: u64 = 64;

/// Why a node does not know all that is final, if it does not. `mirrored`: the height that reads are compared with.
fn incomplete(ledger: &Status, mirrored: u64) -> Option<&'static str> {
    if ledger.blocks_from > 1 || mirrored < ledger.began_at {
        return Some("older blocks of the ledger are still being taken in");
    }
    let highest = ledger.validators.iter().map(|validator| validator.height).max().unwrap_or(ledger.height);
    let behind = highest.max(ledger.height).saturating_sub(mirrored);
    (behind > BEHIND_MAX).then_some("the ledger is still being read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Digest, TimeMs};

    #[test]
    fn a_node_without_its_older_blocks_says_so_and_is_not_ready() {
        let none = Digest([0; 32]);
        let whole = Status {
            height: 5_000,
            time: TimeMs(0),
            log_size: 9,
            log_root: none,
            state_root: none,
            blocks_from: 1,
            began_at: 0,
            head: none,
            pending: 0,
            pending_bytes: 0,
            pending_for_holding: 0,
            custodians: 2,
            peers_connected: 3,
            validators: Vec::new(),
        };
        assert_eq!(incomplete(&whole, 4_990), None);
        assert_eq!(incomplete(&whole, 4_000), Some("the ledger is still being read"));
        let older = Some("older blocks of the ledger are still being taken in");
        for (blocks_from, mirrored, expected) in
            [(4_096, 0, older), (4_096, 5_000, older), (1, 0, older), (1, 4_094, older), (1, 4_990, None)]
        {
            let status = Status { blocks_from, began_at: 4_095, ..whole.clone() };
            assert_eq!(incomplete(&status, mirrored), expected, "blocks from {blocks_from}, mirrored {mirrored}");
        }
        // The mirror is whole, as it was not lost; a young ledger is not taken for a mirror that is nearly there.
        let young = Status { height: 40, blocks_from: 1, began_at: 31, ..whole };
        assert_eq!((incomplete(&young, 0), incomplete(&young, 35)), (older, None));
    }
}

//! What a node counts, for whoever watches it: how fast entries become final, what waits, what did not agree with the ledger. Nothing
//! here names a person, a record or a value.

use crate::{failure::Failure, node::Node, row::Worth};
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
}

impl Meters {
    pub(crate) fn new() -> Self {
        let meters = Self {
            registry: Mutex::new(Registry::with_prefix("vitaltrace")),
            finality: Histogram::new(FINALITY_S),
            weighed: Family::default(),
            decisions: Family::default(),
            frames: Family::default(),
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
        let now = &self.now;
        registry.register("pending_entries", "Entries that are answered and not final yet", now.pending.clone());
        let help = "Age of the oldest entry that is answered and not final yet";
        registry.register_with_unit("anchoring_lag", help, seconds.clone(), now.lag.clone());
        registry.register("ledger_height", "Height of the last final block", now.height.clone());
        registry.register("mirror_height", "Height that reads are compared with", now.mirror_height.clone());
        registry.register_with_unit("ledger_block_age", "Age of the last final block", seconds, now.block_age.clone());
        registry.register("ledger_entries", "Entries in final blocks", now.entries.clone());
        registry.register("ledger_entries_refused", "Entries that the contract refused", now.refused.clone());
        registry.register("mempool_submissions", "Submissions that wait for a block", now.waiting.clone());
        registry.register_with_unit("mempool", "Submissions that wait for a block", bytes, now.waiting_bytes.clone());
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
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let now = &self.meters.now;
        now.pending.set(whole(self.unsettled()));
        now.lag.set(self.lane.oldest_s());
        now.height.set(whole(ledger.height));
        now.mirror_height.set(whole(self.mirror.height()));
        now.block_age.set(self.now().0.saturating_sub(ledger.time.0) as f64 / 1000.0);
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
        now.misdeeds.set(whole(self.ledger.blames().len() as u64));
        now.held.set(whole(vault.held as u64));
        now.missing.set(whole(vault.missing as u64));
        Ok([self.meters.text()?, engine])
    }

    /// Why this node should not be sent requests now, if there is a reason. A ledger that stands still is none: what is essential is
    /// read and written all the same, and anchored later.
    pub async fn not_ready(&self) -> Option<&'static str> {
        // No Patient has such an id: what counts is that there is an answer.
        if self.store.read("Patient", "-").await.is_err() {
            return Some("the database does not answer");
        }
        let ledger = self.ledger.status();
        let highest = ledger.validators.iter().map(|validator| validator.height).max().unwrap_or(ledger.height);
        let behind = highest.max(ledger.height).saturating_sub(self.mirror.height());
        (behind > BEHIND_MAX).then_some("the ledger is still being read")
    }

    /// Whether this node has read about everything that is final. Not while it catches up, nor while the ledger stands still, as others may
    /// be going on without this node.
    pub(crate) fn sees_what_is_final(&self) -> bool {
        let behind = self.ledger.status().height.saturating_sub(self.mirror.height());
        !self.is_stalled() && behind <= BEHIND_MAX
    }

    /// Whether the ledger has stood still for a while.
    pub fn is_stalled(&self) -> bool {
        self.now().0.saturating_sub(self.ledger.status().time.0) > crate::row::STALL_MS
    }
}

/// How many blocks the mirror may be behind the ledger while the node counts as ready.
const BEHIND_MAX: u64 = 64;

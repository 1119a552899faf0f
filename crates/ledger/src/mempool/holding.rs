//! Who holds what waiting submissions name: receipts beside each, and what still lacks some.

use super::{LaneId, Mempool, Pending, Pool, Waiting};
use contract::{BadHolding, Custodians, Holding, PublicKey, SignedSubmission};
use record::{Digest, OrgId};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The most submissions that are asked about at a time.
pub(crate) const UNHELD_MAX: usize = 256;
/// Of them, the most of one lane: what comes later in it waits for those anyway.
const UNHELD_LANE_MAX: usize = 64;
/// The most submissions of which receipts are kept that came before them.
const EARLY_MAX: usize = 8192;
/// The most bytes that a receipt takes in a block.
const HOLDING_BYTES_MAX: usize = 2 + record::ORG_ID_BYTES_MAX + 66 + 1;

/// A receipt that was checked, and the key that it holds by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    holding: Holding,
    key: PublicKey,
}

/// A submission for a block, with what the block must show of who holds what it names.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) pending: Arc<Pending>,
    /// None when it names nothing.
    pub(crate) holdings: Option<Vec<Holding>>,
}

/// Receipts that came before the submission which they are about, not checked yet: each by its custodian itself. The oldest are forgotten
/// first, and asked for later.
#[derive(Default)]
pub(super) struct Early {
    order: VecDeque<Digest>,
    of: HashMap<Digest, Vec<Holding>>,
}

impl Early {
    fn keep(&mut self, submission: Digest, holding: Holding) {
        let holdings = self.of.entry(submission).or_default();
        if holdings.is_empty() {
            self.order.push_back(submission);
        }
        holdings.retain(|other| other.custodian != holding.custodian);
        holdings.push(holding);
        while self.order.len() > EARLY_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.of.remove(&oldest);
            }
        }
    }
}

impl Pending {
    /// Names submission and signature, and is what holding receipts are about.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl Waiting {
    /// Whether it needs no receipt, or has enough of these custodians.
    pub(super) fn is_held(&self, custodians: &Custodians) -> bool {
        !self.pending.names || self.good(custodians).count() >= custodians.needed()
    }

    fn good<'a>(&'a self, custodians: &'a Custodians) -> impl Iterator<Item = &'a Holding> {
        let good = |held: &&Held| custodians.key(&held.holding.custodian) == Some(&held.key);
        self.held.iter().filter(good).map(|held| &held.holding)
    }

    /// What a block must show of it, and the most bytes that this takes; `None` while it lacks receipts of these custodians.
    pub(super) fn shown(&self, custodians: Option<&Custodians>) -> Option<(Option<Vec<Holding>>, usize)> {
        if !self.pending.names {
            return Some((None, 0));
        }
        let custodians = custodians?;
        let needed = custodians.needed();
        let mut holdings: Vec<Holding> = self.good(custodians).take(needed).cloned().collect();
        holdings.sort_by(|a, b| a.custodian.cmp(&b.custodian));
        (holdings.len() == needed).then_some((Some(holdings), 1 + needed * HOLDING_BYTES_MAX))
    }
}

impl Mempool {
    /// A submission was taken in that names attachments.
    pub(super) fn came_naming(&self, pending: &Arc<Pending>) {
        let early = {
            let mut pool = self.pool();
            // Its place in `order` stays behind and counts as one of the oldest in time.
            pool.early.of.remove(&pending.digest).unwrap_or_default()
        };
        for holding in early {
            if let Err(error) = self.hold(&pending.digest, holding, true) {
                tracing::warn!(%error, "a custodian told of a receipt that does not hold");
            }
        }
        let _ = self.naming.send(pending.clone());
    }

    /// Takes a receipt in, if it is needed and holds. `by_itself`: its custodian sent it, so that it is kept also when the submission
    /// that it is about has not come yet.
    pub(crate) fn hold(&self, submission: &Digest, holding: Holding, by_itself: bool) -> Result<(), BadHolding> {
        let key = {
            let mut pool = self.pool();
            match pool.needs(submission, &holding.custodian) {
                Some(key) => key,
                None if by_itself && !pool.naming.contains_key(submission) => {
                    pool.early.keep(*submission, holding);
                    return Ok(());
                }
                None => return Ok(()),
            }
        };
        // Checked without the lock.
        holding.verify(&self.chain, submission, &key)?;
        let mut pool = self.pool();
        // Much may have happened meanwhile.
        if pool.needs(submission, &holding.custodian) != Some(key) {
            return Ok(());
        }
        let Pool { naming, lanes, custodians, .. } = &mut *pool;
        let waiting = naming.get(submission).and_then(|(id, first)| lanes.get_mut(id)?.waiting.get_mut(first));
        let Some(waiting) = waiting else { return Ok(()) };
        waiting.held.push(Held { holding, key });
        let enough = waiting.is_held(custodians);
        drop(pool);
        if enough {
            self.fresh.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// Whether that very receipt for that submission was found good before, by this key.
    pub(crate) fn knows(&self, signed: &SignedSubmission, holding: &Holding, key: &PublicKey) -> bool {
        let pool = self.pool();
        let waiting = pool.waiting_naming(&signed.digest());
        waiting.is_some_and(|waiting| waiting.held.iter().any(|held| held.holding == *holding && held.key == *key))
    }

    /// The receipts that are known for a submission.
    pub(crate) fn holdings_of(&self, submission: &Digest) -> Vec<Holding> {
        let pool = self.pool();
        let held = pool.waiting_naming(submission).map_or(&[][..], |waiting| &waiting.held);
        held.iter().map(|held| held.holding.clone()).collect()
    }

    /// Whether a submission waits that names attachments.
    pub(crate) fn is_naming(&self, submission: &Digest) -> bool {
        self.pool().naming.contains_key(submission)
    }

    /// All of them.
    pub(crate) fn naming(&self) -> Vec<Arc<Pending>> {
        let pool = self.pool();
        let waiting = pool.naming.keys().filter_map(|submission| pool.waiting_naming(submission));
        waiting.map(|waiting| waiting.pending.clone()).collect()
    }

    /// Whether any does.
    pub(crate) fn has_naming(&self) -> bool {
        !self.pool().naming.is_empty()
    }

    /// Submissions that have lacked receipts for 1, 2, 4, 8, 16, 32, 48, ... rounds, each member's share of at most [`UNHELD_MAX`].
    pub(crate) fn unheld(&self) -> Vec<Digest> {
        let mut pool = self.pool();
        let share = UNHELD_MAX / pool.shares.len().max(1);
        let Pool { lanes, live, custodians, .. } = &mut *pool;
        let mut unheld = Vec::new();
        let (mut of, mut left) = (None, 0);
        for id in live.iter() {
            if of != Some(&id.0) {
                (of, left) = (Some(&id.0), share.max(1));
            }
            let Some(lane) = lanes.get_mut(id).filter(|_| left > 0) else { continue };
            let lacking = lane.waiting.values_mut().filter(|waiting| !waiting.is_held(custodians));
            for waiting in lacking.take(UNHELD_LANE_MAX.min(left)) {
                if is_due(waiting.asked) {
                    unheld.push(waiting.pending.digest);
                    left -= 1;
                }
                waiting.asked = waiting.asked.saturating_add(1);
            }
        }
        unheld.truncate(UNHELD_MAX);
        unheld
    }

    /// How many submissions wait for holding receipts, and how many members may give them.
    pub(crate) fn held_up(&self) -> (usize, usize) {
        let pool = self.pool();
        let lacking = |digest: &&Digest| pool.waiting_naming(digest).is_some_and(|w| !w.is_held(&pool.custodians));
        (pool.naming.keys().filter(lacking).count(), pool.custodians.count())
    }

    /// The members may have changed: these are the custodians from now on.
    pub(crate) fn set_custodians(&self, custodians: Custodians) {
        let mut pool = self.pool();
        if pool.custodians == custodians {
            return;
        }
        pool.custodians = custodians;
        let Pool { naming, lanes, custodians, .. } = &mut *pool;
        for (id, first) in naming.values() {
            let Some(waiting) = lanes.get_mut(id).and_then(|lane| lane.waiting.get_mut(first)) else { continue };
            waiting.held.retain(|held| custodians.key(&held.holding.custodian) == Some(&held.key));
            waiting.asked = 0;
        }
        drop(pool);
        self.fresh.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Pool {
    fn waiting_naming(&self, submission: &Digest) -> Option<&Waiting> {
        let (id, first) = self.naming.get(submission)?;
        self.lanes.get(id)?.waiting.get(first)
    }

    /// The key of a custodian of whom the submission needs a receipt.
    fn needs(&self, submission: &Digest, custodian: &OrgId) -> Option<PublicKey> {
        let waiting = self.waiting_naming(submission)?;
        let has = waiting.held.iter().any(|held| held.holding.custodian == *custodian);
        let needed = !has && !waiting.is_held(&self.custodians);
        self.custodians.key(custodian).filter(|_| needed).copied()
    }

    /// Whether something of the lane may go into a block: what comes first in it has no gap before it, and is held or in a block already.
    pub(super) fn may_go_on(&self, id: &LaneId) -> bool {
        let Some(lane) = self.lanes.get(id) else { return false };
        let Some((first, waiting)) = lane.waiting.first_key_value() else { return false };
        let next = lane.next(self.final_height);
        *first < next || *first == next && waiting.is_held(&self.custodians)
    }
}

/// Whether it is time to ask again, after so many rounds.
pub(crate) fn is_due(rounds: u32) -> bool {
    rounds > 0 && (rounds.is_power_of_two() && rounds <= 16 || rounds.is_multiple_of(16))
}

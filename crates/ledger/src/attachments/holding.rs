//! Holding receipts: signed for what the vault has on disk, told to all, asked for; and what a custodian fetches before it can sign.

use super::{Attachments, Message, PULL_MAX};
use crate::{
    config::EntryKey,
    handle::Unavailable,
    mempool::{Pending, is_due},
    vault::Kept,
};
use contract::{Holding, PublicKey};
use minicbor::{Decode, Encode};
use record::{Digest, OrgId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most receipts of one message.
pub(crate) const TOLD_MAX: usize = 256;
/// The most messages in which a custodian asks in a second for what it lacks.
const PULLS_MAX: usize = 8;

/// A receipt on its way, with the submission that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Told {
    /// [`contract::SignedSubmission::digest`].
    #[n(0)]
    submission: Digest,
    #[n(1)]
    holding: Holding,
}

/// A submission that waits, and what of it the vault lacks.
struct Lacking {
    pending: Arc<Pending>,
    digests: BTreeSet<Digest>,
    /// Rounds of asking for them.
    asked: u32,
}

#[derive(Default)]
struct Wanted {
    /// By the submission's digest.
    submissions: BTreeMap<Digest, Lacking>,
    /// Submissions that lack an attachment.
    of: HashMap<Digest, Vec<Digest>>,
    /// Own receipts for submissions that wait.
    signed: BTreeMap<Digest, Holding>,
}

impl Wanted {
    fn want(&mut self, pending: Arc<Pending>) {
        let digests: BTreeSet<Digest> = pending.signed.attachments().map(|attachment| attachment.digest).collect();
        let submission = pending.digest();
        for digest in &digests {
            self.of.entry(*digest).or_default().push(submission);
        }
        self.submissions.insert(submission, Lacking { pending, digests, asked: 0 });
    }

    /// These are there now: gives the submissions that lack nothing any more.
    fn have(&mut self, digests: &[Digest]) -> Vec<Arc<Pending>> {
        let mut complete = Vec::new();
        for digest in digests {
            for submission in self.of.remove(digest).unwrap_or_default() {
                let Some(lacking) = self.submissions.get_mut(&submission) else { continue };
                lacking.digests.remove(digest);
                if lacking.digests.is_empty()
                    && let Some(lacking) = self.submissions.remove(&submission)
                {
                    complete.push(lacking.pending);
                }
            }
        }
        complete
    }

    fn forget(&mut self, submission: &Digest) {
        let Some(lacking) = self.submissions.remove(submission) else { return };
        for digest in lacking.digests {
            if let Some(of) = self.of.get_mut(&digest) {
                of.retain(|other| other != submission);
                if of.is_empty() {
                    self.of.remove(&digest);
                }
            }
        }
    }

    fn knows(&self, submission: &Digest) -> bool {
        self.submissions.contains_key(submission) || self.signed.contains_key(submission)
    }

    /// What to ask for now, and whose node alone, if not all: of each organisation's submissions its share.
    fn ask(&mut self) -> Vec<(Option<OrgId>, Vec<Digest>)> {
        let mut of_orgs: BTreeMap<OrgId, Vec<&mut Lacking>> = BTreeMap::new();
        for lacking in self.submissions.values_mut() {
            let org = lacking.pending.signed.submission.org.clone();
            of_orgs.entry(org).or_default().push(lacking);
        }
        let share = (PULLS_MAX / of_orgs.len().max(1)).max(1) * PULL_MAX;
        let mut questions = Vec::new();
        for (org, submissions) in of_orgs {
            let (mut author, mut all) = (BTreeSet::new(), BTreeSet::new());
            for lacking in submissions {
                if author.len() + all.len() >= share {
                    break;
                }
                if is_due(lacking.asked) {
                    // Its author has what it names, and is asked first.
                    let asked = if lacking.asked == 1 { &mut author } else { &mut all };
                    asked.extend(lacking.digests.iter().copied());
                }
                lacking.asked = lacking.asked.saturating_add(1);
            }
            for (whom, digests) in [(Some(org), author), (None, all)] {
                let digests: Vec<Digest> = digests.into_iter().take(share).collect();
                questions.extend(digests.chunks(PULL_MAX).map(|part| (whom.clone(), part.to_vec())));
            }
        }
        questions
    }
}

/// The part of a custodian: in whose name, on which chain and by which key it signs.
pub(crate) struct Custody {
    org: OrgId,
    chain: Digest,
    /// Locked while `wanted` is, or alone.
    key: Mutex<EntryKey>,
    wanted: Mutex<Wanted>,
}

impl Custody {
    pub(crate) fn new(org: OrgId, chain: Digest, key: EntryKey) -> Self {
        Self { org, chain, key: Mutex::new(key), wanted: Mutex::default() }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs for a submission, and keeps the receipt.
    fn sign(&self, submission: &Digest) -> Holding {
        let mut wanted = self.wanted();
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let holding = Holding::sign(&self.chain, submission, self.org.clone(), key.signing());
        wanted.signed.insert(*submission, holding.clone());
        holding
    }

    /// Signs by another key from now on, and keeps no receipt that the one before signed.
    fn sign_by(&self, key: EntryKey) {
        let mut wanted = self.wanted();
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
        wanted.signed.clear();
    }

    /// The own receipt for a submission.
    fn signed(&self, submission: &Digest) -> Option<Holding> {
        self.wanted().signed.get(submission).cloned()
    }
}

impl Attachments {
    /// Whether this node signs for what it holds.
    pub(crate) fn signs(&self) -> bool {
        self.0.custody.is_some()
    }

    /// Submissions came that name attachments: signs for those of which the vault has everything, and takes note of what others lack.
    pub(crate) async fn consider(&self, came: Vec<Arc<Pending>>) -> Result<(), Unavailable> {
        let Some(custody) = &self.0.custody else { return Ok(()) };
        let mut digests = BTreeSet::new();
        {
            let mut wanted = custody.wanted();
            for pending in came {
                if !wanted.knows(&pending.digest()) {
                    digests.extend(pending.signed.attachments().map(|attachment| attachment.digest));
                    wanted.want(pending);
                }
            }
        }
        // Noted first and looked for then: what comes meanwhile is not missed.
        let here: Vec<_> = {
            let mut desk = self.desk();
            digests.iter().filter_map(|digest| Some((*digest, desk.room.leave(digest)?))).collect()
        };
        if !here.is_empty() {
            self.0.vault.put(here).await?;
        }
        let digests: Vec<Digest> = digests.into_iter().collect();
        let kept = self.0.vault.kept(digests.clone()).await?;
        let of = |what: Kept| -> Vec<Digest> {
            digests.iter().zip(&kept).filter(|(_, kept)| **kept == what).map(|(digest, _)| *digest).collect()
        };
        {
            // Nobody signs for what was erased, and it is not asked for either.
            let mut wanted = custody.wanted();
            for digest in of(Kept::Erased) {
                for submission in wanted.of.get(&digest).cloned().unwrap_or_default() {
                    wanted.forget(&submission);
                }
            }
        }
        self.stored(&of(Kept::Held)).await
    }

    /// The vault has these on disk: signs for the submissions that waited for the last of them.
    pub(super) async fn stored(&self, digests: &[Digest]) -> Result<(), Unavailable> {
        let Some(custody) = &self.0.custody else { return Ok(()) };
        let complete = custody.wanted().have(digests);
        if complete.is_empty() {
            return Ok(());
        }
        // Asked again, of all together: some may have been erased since they came.
        let named = |pending: &Arc<Pending>| pending.signed.attachments().map(|a| a.digest).collect::<Vec<_>>();
        let mut kept = self.0.vault.kept(complete.iter().flat_map(named).collect()).await?.into_iter();
        let mut told = Vec::new();
        for pending in &complete {
            let count = pending.signed.attachments().count();
            let held = kept.by_ref().take(count).filter(|kept| *kept == Kept::Held).count();
            if held < count {
                continue;
            }
            let submission = pending.digest();
            let holding = custody.sign(&submission);
            told.push(Told { submission, holding });
        }
        for Told { submission, holding } in &told {
            if let Err(error) = self.0.mempool.hold(submission, holding.clone(), true) {
                tracing::error!(%error, "the ledger has another entry key: nobody believes the receipts of this vault");
            }
        }
        for part in told.chunks(TOLD_MAX) {
            self.send(None, Message::Held(part.to_vec())).await?;
        }
        Ok(())
    }

    /// The organisation signs by another key from now on, and again for whatever waits still.
    pub(crate) async fn sign_by(&self, key: EntryKey) -> Result<(), Unavailable> {
        let Some(custody) = &self.0.custody else { return Ok(()) };
        custody.sign_by(key);
        self.consider(self.0.mempool.naming()).await
    }

    /// Once a second: what a custodian lacks is fetched, and receipts that submissions lack are asked for, each less and less often.
    pub(crate) async fn look_for_holdings(&self) -> Result<(), Unavailable> {
        if let Some(custody) = &self.0.custody {
            let questions = {
                let mut wanted = custody.wanted();
                let gone = |submission: &&Digest| !self.0.mempool.is_naming(submission);
                let over: Vec<Digest> = wanted.submissions.keys().filter(gone).copied().collect();
                over.iter().for_each(|submission| wanted.forget(submission));
                wanted.signed.retain(|submission, _| self.0.mempool.is_naming(submission));
                wanted.ask()
            };
            for (whom, digests) in questions {
                let whom = whom.and_then(|org| self.0.peers.key(&org));
                self.send(whom, Message::Pull(digests)).await?;
            }
        }
        let unheld = self.0.mempool.unheld();
        if let Some(custody) = &self.0.custody {
            // The mempool may have learned later than this custodian that it signs by another key.
            for submission in &unheld {
                let holding = custody.signed(submission);
                if let Some(Err(error)) = holding.map(|own| self.0.mempool.hold(submission, own, true)) {
                    tracing::debug!(%error, "the ledger has another entry key still");
                }
            }
        }
        if unheld.is_empty() { Ok(()) } else { self.send(None, Message::Ask(unheld)).await }
    }

    /// Tells a peer of the receipts that are known here.
    pub(super) async fn answer(&self, from: PublicKey, submissions: &[Digest]) -> Result<(), Unavailable> {
        let mut told = Vec::new();
        for submission in submissions {
            let mut holdings = self.0.mempool.holdings_of(submission);
            let own = self.0.custody.as_ref().and_then(|custody| custody.signed(submission));
            if let Some(own) = own.filter(|own| !holdings.contains(own)) {
                holdings.push(own);
            }
            told.extend(holdings.into_iter().map(|holding| Told { submission: *submission, holding }));
        }
        for part in told.chunks(TOLD_MAX) {
            self.send(Some(from), Message::Held(part.to_vec())).await?;
        }
        Ok(())
    }

    /// A peer told of receipts. Nobody passes on one that does not hold: the rest of such a message is not read.
    pub(super) fn told(&self, from: &PublicKey, told: Vec<Told>) {
        let sender = self.0.peers.org(from);
        for Told { submission, holding } in told {
            let by_itself = sender.as_ref() == Some(&holding.custodian);
            if let Err(error) = self.0.mempool.hold(&submission, holding, by_itself) {
                tracing::warn!(peer = ?sender, %error, "a peer told of a receipt that does not hold");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;

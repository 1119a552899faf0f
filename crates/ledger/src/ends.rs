//! Certificates of the last blocks of epochs, asked for where a block is there without its own.
//!
//! A block and its certificate go to the disk side by side, so that a crash can leave the block alone, and a node that fell behind gets blocks that
//! a later certificate covers. Within an epoch nobody misses it. At its end everybody does: whoever comes later begins there, and evidence
//! hands over there.

use crate::{
    Finalization,
    archive::ByHeight,
    ask::{Asker, Question},
    node::Runtime,
    older,
    serve::Server,
};
use commonware_consensus::types::Height;
use commonware_cryptography::Digestible as _;
use commonware_storage::archive::Error;
use futures::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// How long a peer may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How often this node looks whether it has got one meanwhile: consensus here may make it.
const LOOK: Duration = Duration::from_millis(250);
/// How long to wait before all are asked again, after none had it for the first time; each further time twice as long.
const AGAIN: Duration = Duration::from_millis(250);
/// The longest wait before all are asked again. A peer that comes back with it says by its votes that the epoch is over, and is asked at once.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// Who looks for them.
pub(crate) struct Ends<E: Runtime> {
    pub(crate) asker: Asker<E>,
    pub(crate) server: Server<E>,
    /// Where certificates go that came afterwards.
    pub(crate) shelf: ByHeight<E, Finalization>,
    /// The height of the end at which this node began: what is before comes with the older blocks.
    pub(crate) began_at: u64,
}

impl<E: Runtime> Ends<E> {
    /// Looks for every certificate of an epoch's end that is missing, the latest first: consensus may wait for it. Tells through `found` which end
    /// has got its certificate, from a peer or by consensus here. `ended` says how high the state is when an epoch is over.
    pub(crate) async fn run(self, mut context: E, mut ended: watch::Receiver<u64>, found: watch::Sender<u64>) {
        if let Err(error) = self.look(&mut context, &mut ended, &found).await {
            // As after every failure of its storage, the node stops.
            tracing::error!(%error, "the certificate of an epoch's end cannot be kept");
        }
    }

    async fn look(
        &self,
        context: &mut E,
        ended: &mut watch::Receiver<u64>,
        found: &watch::Sender<u64>,
    ) -> Result<(), Error> {
        let genesis = self.server.node.chain.genesis.clone();
        let mut missing = BTreeSet::new();
        // The first epoch of which the end has not been looked at.
        let mut next = genesis.epoch(self.began_at);
        let mut again = Again::default();
        loop {
            let told = match missing.last().copied() {
                None => ended.changed().await,
                Some(end) if self.has_got(context, end, &mut again).await? => {
                    missing.remove(&end);
                    again = Again::default();
                    found.send_replace(end);
                    continue;
                }
                // A later end is the more urgent one.
                Some(_) => match select(Box::pin(context.sleep(LOOK)), Box::pin(ended.changed())).await {
                    Either::Left(_) => continue,
                    Either::Right((told, _)) => told,
                },
            };
            if told.is_err() {
                return Ok(());
            }
            let begun = genesis.epoch(ended.borrow_and_update().saturating_add(1));
            for epoch in next..begun {
                let end = epoch.saturating_add(1).saturating_mul(genesis.epoch_blocks).saturating_sub(1);
                if self.server.certificate(end).await.is_none() {
                    missing.insert(end);
                    again = Again::default();
                }
            }
            next = next.max(begun);
            let latest = begun.saturating_mul(genesis.epoch_blocks).saturating_sub(1);
            if !missing.contains(&latest) {
                // It came between the question and this look: the engine reports what it had noted before a crash.
                found.send_replace(latest);
            }
        }
    }

    /// Whether the certificate is there, after everybody was asked for it if that is due.
    async fn has_got(&self, context: &mut E, end: u64, again: &mut Again) -> Result<bool, Error> {
        if self.server.certificate(end).await.is_some() {
            return Ok(true);
        }
        if !again.is_due(context.current()) {
            return Ok(false);
        }
        let epoch = self.server.node.chain.genesis.epoch(end);
        let deciders = self.server.deciders(epoch).await;
        let block = self.server.marshal.get_block(Height::new(end)).await;
        let (Some(deciders), Some(block)) = (deciders, block) else { return Ok(false) };
        let peers = self.asker.peers();
        let asked = peers.iter().map(|peer| async move {
            (peer, self.asker.ask(peer, Question::Certificate(end), ANSWER_WAIT).await.unwrap_or_default())
        });
        let mut answers: FuturesUnordered<_> = asked.collect();
        while let Some((peer, bytes)) = answers.next().await {
            if bytes.is_empty() {
                continue;
            }
            let Some(certificate) = older::certificate(&bytes, block.inner(), &deciders, context) else {
                tracing::warn!(%peer, height = end, "a certificate of a peer does not hold for the block");
                continue;
            };
            self.shelf.put(end, block.digest(), &certificate).await?;
            self.shelf.sync().await?;
            tracing::info!(height = end, "the certificate of the last block of an epoch came from a peer");
            // A shelf that was lost takes everything and gives nothing.
            return Ok(self.server.certificate(end).await.is_some());
        }
        again.wait(context.current());
        Ok(false)
    }
}

/// When everybody is asked again for what nobody had.
struct Again {
    due: SystemTime,
    pause: Duration,
}

impl Default for Again {
    fn default() -> Self {
        Self { due: SystemTime::UNIX_EPOCH, pause: AGAIN }
    }
}

impl Again {
    fn is_due(&self, now: SystemTime) -> bool {
        now >= self.due
    }

    /// Everybody was asked, and nobody had it.
    fn wait(&mut self, now: SystemTime) {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(AGAIN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that nobody had any more was asked for four times a second, of everybody, for as long as it took.
    #[test]
    fn what_nobody_has_is_asked_for_ever_more_seldom_and_never_given_up() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let (mut again, mut asked) = (Again::default(), Vec::new());
        for nth in 0..=4 * 120 {
            let after = LOOK * nth;
            if again.is_due(begin + after) {
                asked.push(after);
                again.wait(begin + after);
            }
        }
        let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(asked[0], Duration::ZERO);
        assert!(pauses.is_sorted() && pauses[0] == AGAIN, "{pauses:?}");
        assert!(pauses.ends_with(&[AGAIN_MAX; 10]), "{pauses:?}");
        // A hundred times and more without the longer waits.
        assert!(asked.len() < 25, "asked {} times in two minutes", asked.len());
    }
}

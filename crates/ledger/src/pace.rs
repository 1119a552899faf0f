//! How fast blocks follow each other. An idle chain makes one a second: a leader with nothing to propose waits until something comes or the second is
//! over. A busy chain makes no more than some seventy a second: each costs every member votes, signatures and syncs of its disk, however little
//! is in it.
//!
//! The wait is here, and not in the state machine, because that one applies no final block while it builds a proposal.

use crate::{
    app::now,
    block::{ChainBlock, Context},
    mempool::Mempool,
};
use commonware_consensus::{Application, Handoff, marshal::ancestry::Ancestry};
use commonware_cryptography::Digested;
use commonware_runtime::Clock;
use record::TimeMs;
use std::{sync::Arc, time::Duration};

/// The longest time between two blocks of an idle chain, in milliseconds.
pub const IDLE_MS: u64 = 1_000;
/// The shortest time from one block to the next, in milliseconds: of the order of a round of votes with its syncs. Without it four members that share
/// two cores spent a fifth more processor time, and entries became final no sooner.
const SPACING_MS: u64 = 14;

/// A state machine that waits before it proposes nothing.
#[derive(Clone)]
pub(crate) struct Paced<A> {
    pub(crate) inner: A,
    pub(crate) mempool: Arc<Mempool>,
}

impl<A> Paced<A> {
    async fn wait<E: Clock>(&self, context: &E, parent: TimeMs) {
        let mut fresh = self.mempool.fresh();
        let news = async {
            while !self.mempool.has_fresh() {
                if fresh.changed().await.is_err() {
                    break;
                }
            }
        };
        pause(context, parent, news).await;
    }
}

/// Waits until `news` are there or the idle time since the parent is over, and in any case until the block may follow the parent.
async fn pause<E: Clock>(context: &E, parent: TimeMs, news: impl Future<Output = ()>) {
    let until = |ms: u64| Duration::from_millis(ms.saturating_sub(now(context).0.saturating_sub(parent.0)));
    futures::future::select(Box::pin(context.sleep(until(IDLE_MS))), Box::pin(news)).await;
    context.sleep(until(SPACING_MS)).await;
}

impl<E, A> Application<E> for Paced<A>
where
    E: Clock,
    A: Application<E, Block = ChainBlock, Context = Context> + Sync,
{
    type SigningScheme = A::SigningScheme;
    type Context = Context;
    type Block = ChainBlock;
    type Input = A::Input;

    async fn prepare(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<ChainBlock>,
        input: Self::Input,
    ) -> Handoff<Digested<ChainBlock>> {
        self.inner.prepare(context, ancestry, input).await
    }

    async fn propose(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<ChainBlock>,
        input: Self::Input,
    ) -> Option<Digested<ChainBlock>> {
        let parent = ancestry.peek().map_or(now(&context.0), |parent| parent.inner().header().time);
        self.wait(&context.0, parent).await;
        self.inner.propose(context, ancestry, input).await
    }

    async fn verify(&mut self, context: (E, Self::Context), ancestry: impl Ancestry<ChainBlock>) -> bool {
        self.inner.verify(context, ancestry).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic};
    use std::future::{pending, ready};

    /// How long the leader waits, in milliseconds, `since` milliseconds after the parent.
    fn paused(since: u64, news: impl Future<Output = ()>) -> u64 {
        deterministic::Runner::default().start(|context| async move {
            context.sleep(Duration::from_millis(10_000)).await;
            let begun = now(&context).0;
            pause(&context, TimeMs(begun - since), news).await;
            now(&context).0 - begun
        })
    }

    #[test]
    fn a_block_with_nothing_in_it_comes_a_second_after_the_one_before() {
        assert_eq!(paused(0, pending()), IDLE_MS);
        assert_eq!(paused(400, pending()), IDLE_MS - 400);
        assert_eq!(paused(IDLE_MS + 5, pending()), 0);
    }

    #[test]
    fn a_block_with_something_in_it_comes_at_once_but_not_on_the_heels_of_the_one_before() {
        assert_eq!(paused(400, ready(())), 0);
        assert_eq!(paused(SPACING_MS - 5, ready(())), 5);
        assert_eq!(paused(0, ready(())), SPACING_MS);
    }
}

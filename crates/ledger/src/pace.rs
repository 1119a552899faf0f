//! An idle chain makes one block a second: a leader with nothing to propose waits until something comes or the second is over.
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

/// A state machine that waits before it proposes nothing.
#[derive(Clone)]
pub(crate) struct Paced<A> {
    pub(crate) inner: A,
    pub(crate) mempool: Arc<Mempool>,
}

impl<A> Paced<A> {
    async fn wait<E: Clock>(&self, context: &E, parent: TimeMs) {
        let mut fresh = self.mempool.fresh();
        let since_parent_ms = now(context).0.saturating_sub(parent.0);
        let idle = context.sleep(Duration::from_millis(IDLE_MS.saturating_sub(since_parent_ms)));
        let news = async {
            while !self.mempool.has_fresh() {
                if fresh.changed().await.is_err() {
                    break;
                }
            }
        };
        futures::future::select(Box::pin(idle), Box::pin(news)).await;
    }
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

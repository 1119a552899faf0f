//! Where a node begins whose folder is empty: at the first block, or at the end of an epoch that it checked from the genesis document on.

use crate::{
    Finalization, Scheme,
    ask::{Asker, Question},
    node::Runtime,
};
use commonware_codec::{Decode as _, RangeCfg};
use commonware_cryptography::certificate::Verifier as _;
use commonware_storage::{
    Context,
    metadata::{self, Metadata},
};
use commonware_utils::sequence::U64;
use contract::{Genesis, Header, PublicKey};
use evidence::{Anchor, Finality, KnownBlock, anchor};
use futures::future::join_all;
use std::time::Duration;

/// How long a latecomer looks for a peer that knows where it may begin. Afterwards it begins with the first block.
const LOOKED_FOR: Duration = Duration::from_secs(30);
/// How long it waits before it asks everybody again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a peer may take to answer where the last epoch ended.
const END_WAIT: Duration = Duration::from_secs(2);
/// So many times everybody who answers must have nothing before that is believed: they may be starting as well.
const NOTHING_TIMES: u32 = 4;
/// The longest that is written down, in bytes.
const BASE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The one item that is written down.
const KEY: u64 = 0;

/// How a node begins whose folder is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It executes every block from the first on.
    Blocks,
    /// It takes over the state at the end of the last whole epoch, and fetches the blocks before it while it goes on from there.
    State {
        /// A final block that the operator knows: what the others show must go through it.
        known: Option<KnownBlock>,
    },
}

impl Begin {
    /// What the operator knows.
    pub(crate) fn known(&self) -> Option<KnownBlock> {
        match self {
            Self::State { known } => *known,
            Self::Blocks => None,
        }
    }
}

/// The end of an epoch that a node began at, with what makes it final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// What the others showed.
    pub(crate) finality: Finality,
    /// Its header.
    pub(crate) header: Header,
    /// Who decided its epoch.
    pub(crate) validators: Vec<PublicKey>,
}

impl Base {
    /// Believes what holds from the genesis document on and ends an epoch.
    pub(crate) fn read(bytes: &[u8], genesis: &Genesis, known: Option<&KnownBlock>) -> Result<Self, String> {
        let finality: Finality = minicbor::decode(bytes).map_err(|_| "not the format".to_owned())?;
        let Anchor { header, validators } =
            anchor(&finality, &genesis.id(), known).map_err(|refused| refused.to_string())?;
        if genesis.epoch(header.height.saturating_add(1)) == header.epoch {
            return Err(format!("the block at height {} does not end an epoch", header.height));
        }
        Ok(Self { finality, header, validators })
    }

    /// Whether what makes it final goes through the block, if there is one.
    pub(crate) fn goes_through(&self, genesis: &Genesis, known: Option<&KnownBlock>) -> bool {
        anchor(&self.finality, &genesis.id(), known).is_ok()
    }

    /// Its certificate, as the engine has it.
    pub(crate) fn certificate(&self) -> Option<Finalization> {
        let codec = Scheme::certificate_codec_config_unbounded();
        Finalization::decode_cfg(bytes::Bytes::copy_from_slice(&self.finality.certificate), &codec).ok()
    }
}

/// Where a node began, on its disk.
pub(crate) struct Begun<E: Context>(Metadata<E, U64, Vec<u8>>);

impl<E: Context> Begun<E> {
    pub(crate) async fn open(context: E, prefix: &str) -> Result<Self, metadata::Error> {
        let codec_config = (RangeCfg::from(..=BASE_BYTES_MAX), ());
        Ok(Self(Metadata::init(context, metadata::Config { partition: format!("{prefix}-base"), codec_config }).await?))
    }

    /// What was written down, which was checked then.
    pub(crate) fn base(&self, genesis: &Genesis) -> Option<Base> {
        Base::read(self.0.get(&U64::new(KEY))?, genesis, None).ok()
    }

    /// Nothing is written down afterwards.
    pub(crate) async fn forget(mut self) -> Result<Self, metadata::Error> {
        self.0.clear();
        Ok(Self(self.0.sync().await?))
    }

    /// Durable afterwards.
    pub(crate) async fn keep(self, base: &Base) -> Result<Self, metadata::Error> {
        Ok(Self(self.0.put_sync(U64::new(KEY), contract::to_cbor(&base.finality)).await?))
    }
}

/// What everybody together showed.
pub(crate) struct Shown {
    /// The latest end of an epoch that holds.
    pub(crate) base: Option<Base>,
    /// Whether anybody said that there is none.
    empty: bool,
}

/// Asks everybody once for the end of the last whole epoch.
pub(crate) async fn latest<E: Runtime>(asker: &Asker<E>, genesis: &Genesis, known: Option<&KnownBlock>) -> Shown {
    let question = Question::End(known.map(|known| known.height));
    let peers = asker.peers();
    let answers = join_all(peers.iter().map(|peer| asker.ask(peer, question.clone(), END_WAIT))).await;
    let mut shown = Shown { base: None, empty: false };
    for (peer, answer) in peers.iter().zip(answers) {
        match answer.as_deref() {
            None => {}
            Some([]) => shown.empty = true,
            Some(bytes) => match Base::read(bytes, genesis, known) {
                Ok(base) if shown.base.as_ref().is_none_or(|best| best.header.height < base.header.height) => {
                    shown.base = Some(base);
                }
                Ok(_) => {}
                Err(why) => tracing::warn!(%peer, why, "what a peer shows as the end of an epoch is not believed"),
            },
        }
    }
    shown
}

/// Asks everybody for the end of the last whole epoch, and takes the latest that holds. `None`: the chain has none yet, or nobody answered.
pub(crate) async fn choose<E: Runtime>(
    asker: &Asker<E>,
    genesis: &Genesis,
    known: Option<&KnownBlock>,
) -> Option<Base> {
    let begun = asker.context().current();
    let mut nothing = 0;
    loop {
        let Shown { base, empty } = latest(asker, genesis, known).await;
        if base.is_some() {
            return base;
        }
        nothing += u32::from(empty);
        let looked_for = asker.context().current().duration_since(begun).unwrap_or_default();
        if nothing >= NOTHING_TIMES || looked_for >= LOOKED_FOR {
            return None;
        }
        asker.context().sleep(AGAIN).await;
    }
}

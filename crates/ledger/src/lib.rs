//! In which order everybody agrees: the engine's wiring, mempool, vault, sync. The only crate that knows commonware's engine.
//!
//! A [`Config`] names a chain and a member; [`run_tokio`] starts that member's node on threads of its own, and the [`Handle`] is how the
//! rest of the program talks to it: [`Handle::submit`] a signed submission, follow [`Handle::blocks_from`] a height until its receipts
//! are there, [`Handle::prove`] the state, keep and fetch attachments. [`start`] is the same node on a runtime of the caller's choice,
//! which is how a whole consortium is simulated under one seed.

mod app;
mod archive;
mod ask;
mod attachments;
mod author;
mod begin;
mod blame;
mod block;
mod checkpoints;
mod config;
mod disk;
mod early;
mod ends;
mod epochs;
mod gossip;
mod handle;
mod heard;
mod mempool;
mod network;
mod node;
mod older;
mod pace;
mod peers;
mod replay;
mod roster;
mod rules;
mod run;
mod serve;
mod shares;
mod spaced;
mod state;
mod takeover;
mod vault;
mod verdicts;
mod waiting;
mod words;

pub use app::PROPOSAL_ENTRIES_MAX;
pub use author::Author;
pub use begin::Begin;
pub use config::{
    CACHE_BYTES, Config, ConsensusKey, EntryKey, PEERS_DEFAULT, Part, Peer, STATE_BLOCKS_DEFAULT, StartError,
    VaultPlace, WORKERS_DEFAULT,
};
pub use disk::DiskUse;
pub use epochs::{AllEpochs, verifier};
pub use handle::{Blocks, FinalBlock, Handle, KEYS_MAX, Proof, Receipt, StateProof, Status, Unavailable, Validator};
pub use mempool::{Accepted, LANE_AHEAD_MAX, MEMPOOL_BYTES_MAX, MEMPOOL_SUBMISSIONS_MAX, SubmitError};
pub use network::{Channel, Channels, join};
pub use node::{Running, Runtime, signer, start};
pub use pace::IDLE_MS;
pub use replay::{Difference, Progress, Replay, ReplayError, Replayed, replay};
pub use rules::CLOCK_AHEAD_MS_MAX;
pub use run::run_tokio;
pub use state::{CHUNK_BYTES, ExclusionProof, KeyValueProof};
pub use vault::{ATTACHMENT_BYTES_MAX, Answer, Kept, Vault, VaultError, VaultStatus};
pub use words::{Speaker, WORD_BYTES_MAX, Words};

/// How validators sign: a quorum of ed25519 signatures, each attributable to its member.
pub type Scheme = commonware_consensus::simplex::scheme::ed25519::Scheme;
/// What a quorum signed: the certificate of a final block.
pub type Finalization =
    commonware_consensus::simplex::types::Finalization<Scheme, commonware_cryptography::sha256::Digest>;

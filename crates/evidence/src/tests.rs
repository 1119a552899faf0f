//! Evidence from real parts: ed25519 certificates of the engine's scheme, and proofs of a real authenticated database.

mod forged;
mod gathered;
mod handed_over;
mod honest;
mod mutate;
mod mutated;
mod pages;
mod receipts;
mod record_proof;
mod shown;
mod unreviewed;
mod vectors;
mod world;

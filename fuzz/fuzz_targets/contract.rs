//! Bytes from outside, as long as one likes: the formats of the ledger, and entries made of dice.

#![no_main]

#[path = "../../crates/contract/tests/outside_bytes/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    target::attempt(bytes);
});

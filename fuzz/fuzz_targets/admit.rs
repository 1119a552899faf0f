//! Bytes from outside, as long as one likes: frames, what devices sign, recordings.

#![no_main]

#[path = "../../crates/sensing/tests/outside_bytes/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    target::attempt(bytes);
});

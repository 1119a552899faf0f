//! The seed of a run: given, or from the clock; printed, so that a failing run can be repeated.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a helper of tests; the seed is printed")]

/// The seed of `VITALTRACE_SEED`, or one from the clock.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos()) << 20 ^ since.as_secs()
    });
    eprintln!("VITALTRACE_SEED={seed}");
    seed
}

//! The one place where the path reads a clock.

use record::TimeMs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by this machine's clock. Before 1970 counts as 1970.
pub fn now() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

//! The models that come with the program, read once.

use super::{RiskModel, TrendModel};
use std::sync::{Arc, LazyLock};

static RISK: LazyLock<Option<Arc<RiskModel>>> = LazyLock::new(|| {
    let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/icu-mortality-1.cbor"));
    RiskModel::read(file).ok().map(Arc::new)
});

static TREND: LazyLock<Option<Arc<TrendModel>>> = LazyLock::new(|| {
    let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/next-hour-1.cbor"));
    TrendModel::read(file).ok().map(Arc::new)
});

/// The model of the risk. None only of a file that a test would have refused.
pub fn risk_model() -> Option<Arc<RiskModel>> {
    RISK.clone()
}

/// The model of the forecasts. None only of a file that a test would have refused.
pub fn trend_model() -> Option<Arc<TrendModel>> {
    TREND.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_that_come_with_the_program_can_be_read() {
        assert!(risk_model().is_some() && trend_model().is_some());
    }
}

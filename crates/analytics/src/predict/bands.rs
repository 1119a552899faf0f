//! Intervals by bands: what held in a part of the data that the model did not learn from, for each band of a number.

use super::bytes::{BadModel, Packed};

/// The most bands of an output.
const BANDS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bands {
    // INVARIANT: rising; two fewer than the bands, the last of which is for a number that is not known.
    edges: Vec<f64>,
    // INVARIANT: the first is not above the second.
    ends: Vec<(f64, f64)>,
}

impl Bands {
    /// Reads edges, lower ends and upper ends.
    pub(super) fn read([edges, low, high]: [Packed<'_>; 3]) -> Result<Self, BadModel> {
        let (edges, low, high) = (edges.finite()?, low.finite()?, high.finite()?);
        if low.len() > BANDS_MAX || low.len() != edges.len() + 2 || high.len() != low.len() {
            return Err(BadModel::Bands("their lists do not have the lengths of bands"));
        }
        let ends: Vec<(f64, f64)> = low.into_iter().zip(high).collect();
        if edges.windows(2).any(|pair| pair[0] >= pair[1]) || ends.iter().any(|(low, high)| low > high) {
            return Err(BadModel::Bands("their numbers do not rise"));
        }
        Ok(Self { edges, ends })
    }

    /// The ends of the band that `value` is in; an edge belongs to the band below it.
    pub(super) fn of(&self, value: f64) -> (f64, f64) {
        let below = self.edges.iter().filter(|edge| **edge < value).count();
        self.ends[if value.is_nan() { self.edges.len() + 1 } else { below }]
    }
}

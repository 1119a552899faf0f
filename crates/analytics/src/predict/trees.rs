//! Regression trees as they lie in a model file, and the sum of what they say.

use super::bytes::{BadModel, Packed};

/// The most trees of one output.
pub(super) const TREES_MAX: usize = 4_096;
/// The most splits of one tree.
pub(super) const SPLITS_MAX: usize = 1_024;

/// One tree. A split sends a row to the left when the feature is at most the threshold; a child below 0 is leaf `-1 - child`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    // INVARIANT: a split that is a child stands behind its parent, so that every walk ends; every leaf and every feature is there.
    splits: Vec<Split>,
    leaves: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    feature: u16,
    threshold: f32,
    left: i16,
    right: i16,
    absent_left: bool,
}

impl Tree {
    /// Reads the six lists of a tree: feature, threshold, left, right, whether what is absent goes to the left, leaf.
    pub(super) fn read(
        [feature, threshold, left, right, absent, leaf]: [Packed<'_>; 6],
        features: usize,
    ) -> Result<Self, BadModel> {
        let (feature, threshold) = (feature.numbers(u16::from_le_bytes)?, threshold.numbers(f32::from_le_bytes)?);
        let (left, right) = (left.numbers(i16::from_le_bytes)?, right.numbers(i16::from_le_bytes)?);
        let (absent, leaves) = (absent.numbers(u8::from_le_bytes)?, leaf.numbers(f32::from_le_bytes)?);
        let count = feature.len();
        let even = [threshold.len(), left.len(), right.len(), absent.len(), leaves.len().wrapping_sub(1)];
        if count > SPLITS_MAX || even.iter().any(|length| *length != count) {
            return Err(BadModel::Tree("its lists do not have the lengths of a tree"));
        }
        if threshold.iter().chain(&leaves).any(|number| !number.is_finite()) {
            return Err(BadModel::Tree("a threshold or a leaf is no number"));
        }
        if feature.iter().any(|one| usize::from(*one) >= features) {
            return Err(BadModel::Tree("a split asks for a feature that there is not"));
        }
        let leads = |place: usize, child: i16| match usize::try_from(child) {
            Ok(split) => split > place && split < count,
            Err(_) => leaf_of(child) < leaves.len(),
        };
        let lost = (0..count).any(|at| !leads(at, left[at]) || !leads(at, right[at]));
        if lost || absent.iter().any(|flag| *flag > 1) {
            return Err(BadModel::Tree("a split leads nowhere"));
        }
        let split = |at: usize| Split {
            feature: feature[at],
            threshold: threshold[at],
            left: left[at],
            right: right[at],
            absent_left: absent[at] == 1,
        };
        Ok(Self { splits: (0..count).map(split).collect(), leaves })
    }

    /// What the tree says of a row of features.
    pub(super) fn value(&self, row: &[f64]) -> f64 {
        // A tree without a split has one leaf.
        let mut at: i16 = if self.splits.is_empty() { -1 } else { 0 };
        while let Ok(split) = usize::try_from(at) {
            let split = &self.splits[split];
            let x = row[usize::from(split.feature)];
            let left = if x.is_nan() { split.absent_left } else { x <= f64::from(split.threshold) };
            at = if left { split.left } else { split.right };
        }
        f64::from(self.leaves[leaf_of(at)])
    }
}

fn leaf_of(child: i16) -> usize {
    (-1 - i32::from(child)).unsigned_abs() as usize
}

//! The linear part of a score: how far each feature is above or below its middle, or that it is absent.

use super::bytes::{BadModel, Packed};

/// A feature counts at most this many spreads from its middle.
const CLIP: f64 = 3.0;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Linear {
    intercept: f64,
    // INVARIANT: one for each feature, or none at all; spreads are above 0.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Term {
    middle: f64,
    spread: f64,
    above: f64,
    below: f64,
    absent: f64,
}

impl Linear {
    /// Reads intercept, middles, spreads, and the weights above, below and of absence.
    pub(super) fn read(lists: [Packed<'_>; 6], features: usize) -> Result<Self, BadModel> {
        let mut numbers = Vec::with_capacity(lists.len());
        for list in lists {
            numbers.push(list.finite()?);
        }
        let [intercept, middle, spread, above, below, absent] = &numbers[..] else {
            return Err(BadModel::Linear("it has not six lists"));
        };
        let &[intercept] = &intercept[..] else { return Err(BadModel::Linear("it has not one intercept")) };
        let count = middle.len();
        let even = [spread.len(), above.len(), below.len(), absent.len()].iter().all(|length| *length == count);
        if !even || (count != features && count != 0) {
            return Err(BadModel::Linear("it does not have one weight of each kind for each feature"));
        }
        if spread.iter().any(|spread| *spread <= 0.0) {
            return Err(BadModel::Linear("a spread is not above 0"));
        }
        let term = |at: usize| Term {
            middle: middle[at],
            spread: spread[at],
            above: above[at],
            below: below[at],
            absent: absent[at],
        };
        Ok(Self { intercept, terms: (0..count).map(term).collect() })
    }

    pub(super) fn value(&self, row: &[f64]) -> f64 {
        let mut total = self.intercept;
        for (x, term) in row.iter().zip(&self.terms) {
            if x.is_nan() {
                total += term.absent;
            } else {
                let z = ((x - term.middle) / term.spread).clamp(-CLIP, CLIP);
                total += if z > 0.0 { term.above * z } else { term.below * -z };
            }
        }
        total
    }
}

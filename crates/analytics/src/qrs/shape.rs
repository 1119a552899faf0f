//! The usual complexes of a lead, and how like them another one is.

use super::filter::Past;

/// How many shapes of complexes are remembered.
pub(super) const SHAPES: usize = 3;
/// How much of a shape each new complex replaces.
pub(super) const SHAPE_SHARE: f64 = 0.125;
/// How far two complexes are shifted against each other to find their likeness, as a share of a shape's reach.
pub(super) const SHIFT: usize = 3;
/// From this likeness on, a complex is counted to a shape.
pub(super) const SAME_SHAPE: f64 = 0.85;

/// The usual complexes of a lead, the last used first.
#[derive(Debug, Clone)]
pub(super) struct Shapes {
    reach: usize,
    shapes: Vec<Vec<f64>>,
}

impl Shapes {
    pub(super) fn new(reach: usize) -> Self {
        Self { reach, shapes: Vec::new() }
    }

    fn cut(&self, band: &Past, middle: u64, reach: usize) -> Vec<f64> {
        let from = middle.saturating_sub(reach as u64);
        (from..=from + 2 * reach as u64).map(|n| band.get(n)).collect()
    }

    /// The shape that the stretch around `middle` is most like, and the correlation.
    fn nearest(&self, band: &Past, middle: u64) -> Option<(usize, f64, usize)> {
        let slack = self.reach / SHIFT;
        let wide = self.cut(band, middle, self.reach + slack);
        let length = 2 * self.reach + 1;
        let mut best: Option<(usize, f64, usize)> = None;
        for (at, shape) in self.shapes.iter().enumerate() {
            let norm: f64 = shape.iter().map(|v| v * v).sum();
            for (shift, window) in wide.windows(length).enumerate() {
                let (mut product, mut square) = (0.0, 0.0);
                for (a, b) in shape.iter().zip(window) {
                    product += a * b;
                    square += b * b;
                }
                let likeness = product / (norm * square).sqrt().max(1e-12);
                if best.is_none_or(|(_, top, _)| likeness > top) {
                    best = Some((at, likeness, shift));
                }
            }
        }
        best
    }

    pub(super) fn likeness(&self, band: &Past, middle: u64) -> f64 {
        self.nearest(band, middle).map_or(1.0, |(_, likeness, _)| likeness)
    }

    pub(super) fn learn(&mut self, band: &Past, middle: u64) {
        let slack = self.reach / SHIFT;
        match self.nearest(band, middle) {
            Some((at, likeness, shift)) if likeness > SAME_SHAPE => {
                let wide = self.cut(band, middle, self.reach + slack);
                let mut shape = self.shapes.remove(at);
                for (old, new) in shape.iter_mut().zip(&wide[shift..]) {
                    *old += SHAPE_SHARE * (new - *old);
                }
                self.shapes.insert(0, shape);
            }
            _ => {
                self.shapes.insert(0, self.cut(band, middle, self.reach));
                self.shapes.truncate(SHAPES);
            }
        }
    }
}

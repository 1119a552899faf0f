//! The usual complexes of a lead, and how like them another one is.

use super::filter::Past;

/// How many shapes of complexes are remembered.
pub(super) const SHAPES: usize = 3;
/// How much of a shape each new complex replaces.
pub(super) const SHAPE_SHARE: f64 = 0.125;
/// How far two complexes are shifted against each other to find their likeness, as a share of a shape's reach.
pub(super) const SHIFT: usize = 3;
/// Every so many shifts are tried first.
pub(super) const COARSE: usize = 3;
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

    /// The shape that the stretch around `middle` is most like, the correlation, and the shift at which it is.
    fn nearest(&self, band: &Past, middle: u64) -> Option<(usize, f64, usize)> {
        if self.shapes.is_empty() {
            return None;
        }
        let slack = self.reach / SHIFT;
        let wide = self.cut(band, middle, self.reach + slack);
        let length = 2 * self.reach + 1;
        // Power of the window at each shift, from that at the shift before.
        let mut powers = Vec::with_capacity(2 * slack + 1);
        let mut power = dot(&wide[..length], &wide[..length]);
        powers.push(power);
        for (old, new) in wide.iter().zip(&wide[length..]) {
            power += new * new - old * old;
            powers.push(power);
        }
        let mut best: Option<(usize, f64, usize)> = None;
        for (at, shape) in self.shapes.iter().enumerate() {
            let norm = dot(shape, shape);
            let likeness_at = |shift: usize| {
                dot(shape, &wide[shift..shift + length]) / (norm * powers[shift].max(0.0)).sqrt().max(1e-12)
            };
            // The filtered lead is smooth: shifts between the coarse ones matter only beside the best of these.
            let greatest = |shifts: &mut dyn Iterator<Item = usize>| {
                shifts.map(|shift| (shift, likeness_at(shift))).max_by(|a, b| a.1.total_cmp(&b.1))
            };
            let Some((coarse, _)) = greatest(&mut (0..=2 * slack).step_by(COARSE)) else { continue };
            let near = coarse.saturating_sub(COARSE - 1)..=(coarse + COARSE - 1).min(2 * slack);
            let Some((shift, likeness)) = greatest(&mut near.into_iter()) else { continue };
            if best.is_none_or(|(_, top, _)| likeness > top) {
                best = Some((at, likeness, shift));
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

/// Sum of products, in eight sums at once: the processor adds them side by side.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (blocks_a, blocks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in blocks_a.zip(blocks_b) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + rest
}

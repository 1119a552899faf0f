//! Running means and remembered samples.

/// Running mean of the last `width` samples.
#[derive(Debug, Clone)]
pub(super) struct Mean {
    ring: Vec<f64>,
    at: usize,
    sum: f64,
    share: f64,
}

impl Mean {
    pub(super) fn width(&self) -> usize {
        self.ring.len()
    }
    pub(super) fn new(width: usize) -> Self {
        Self { ring: vec![0.0; width], at: 0, sum: 0.0, share: 1.0 / width as f64 }
    }
    #[inline]
    pub(super) fn push(&mut self, value: f64) -> f64 {
        self.sum += value - self.ring[self.at];
        self.ring[self.at] = value;
        self.at += 1;
        if self.at == self.ring.len() {
            self.at = 0;
            // The sum is made anew once a round, so that rounding errors do not pile up.
            self.sum = self.ring.iter().sum();
        }
        self.sum * self.share
    }
}

/// The last samples, by their number.
#[derive(Debug, Clone)]
pub(super) struct Past {
    ring: Vec<f64>,
    mask: u64,
}

impl Past {
    pub(super) fn length(&self) -> u64 {
        self.ring.len() as u64
    }
    pub(super) fn new(length: usize) -> Self {
        let length = length.next_power_of_two();
        Self { ring: vec![0.0; length], mask: length as u64 - 1 }
    }
    #[inline]
    pub(super) fn set(&mut self, n: u64, value: f64) {
        let at = (n & self.mask) as usize;
        self.ring[at] = value;
    }
    #[inline]
    pub(super) fn get(&self, n: u64) -> f64 {
        self.ring[(n & self.mask) as usize]
    }
}

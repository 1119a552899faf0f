//! Turning points: maxima and minima that are far enough apart, in turn.

use crate::smooth::vertex;

/// A maximum or a minimum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Turn {
    /// Sample number, between samples where a parabola peaks there.
    pub(crate) at: f64,
    pub(crate) value: f64,
    pub(crate) maximum: bool,
}

/// Finds turning points of evenly spaced samples as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    number: u64,
    before: f64,
    last: f64,
    highest: Extreme,
    lowest: Extreme,
    /// Whether a maximum is looked for; unknown until the signal has moved enough.
    rising: Option<bool>,
}

/// The greatest or least sample since the last turn, with its neighbours.
#[derive(Debug, Clone, Copy, Default)]
struct Extreme {
    at: u64,
    value: f64,
    before: f64,
    after: Option<f64>,
}

impl Extreme {
    fn turn(&self, maximum: bool) -> Turn {
        let offset = self.after.map_or(0.0, |after| vertex(self.before, self.value, after));
        Turn { at: self.at as f64 + offset, value: self.value, maximum }
    }
}

impl Turns {
    /// Takes a sample; gives the turning point from which the signal has now gone `depth` away.
    pub(crate) fn push(&mut self, value: f64, depth: f64) -> Option<Turn> {
        let number = self.number;
        self.number += 1;
        let before = if number == 0 { value } else { self.last };
        let here = Extreme { at: number, value, before, after: None };
        self.before = before;
        self.last = value;
        if number == 0 {
            (self.highest, self.lowest) = (here, here);
            return None;
        }
        for extreme in [&mut self.highest, &mut self.lowest] {
            if extreme.at + 1 == number {
                extreme.after = Some(value);
            }
        }
        if value > self.highest.value {
            self.highest = here;
        }
        if value < self.lowest.value {
            self.lowest = here;
        }
        let fell = self.highest.value - value > depth;
        let rose = value - self.lowest.value > depth;
        match self.rising {
            Some(false) | None if rose => {
                let turn = self.lowest.turn(false);
                let known = self.rising.is_some();
                (self.rising, self.highest) = (Some(true), here);
                known.then_some(turn)
            }
            Some(true) | None if fell => {
                let turn = self.highest.turn(true);
                (self.rising, self.lowest) = (Some(false), here);
                Some(turn)
            }
            _ => None,
        }
    }

    /// How many samples it took.
    pub(crate) fn taken(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_turn_and_small_ones_are_passed_over() {
        let mut turns = Turns::default();
        let values = [0.0, 2.0, 5.0, 4.5, 6.0, 1.0, 0.0, 0.5, -1.0, 4.0, 5.0, 2.0];
        let found: Vec<Turn> = values.iter().filter_map(|value| turns.push(*value, 1.0)).collect();
        let kinds: Vec<(f64, bool)> = found.iter().map(|turn| (turn.value, turn.maximum)).collect();
        assert_eq!(kinds, [(6.0, true), (-1.0, false), (5.0, true)]);
    }
}

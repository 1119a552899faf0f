//! A line through many values, with no more points than can be seen.

use super::canvas::mm;

/// The width in which two points of a line are all that can be seen: the least and the greatest value.
const COLUMN_MM: f64 = 0.2;

/// The data of a path through points in the order of their places, each a place and a height in millimetres; a height that is no number breaks the line.
///
/// Of the points within one column the first, the lowest, the highest and the last are kept, so that no spike is lost and the size has a bound: four
/// points a column.
pub(super) fn line(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut out = String::new();
    let mut column = Column::default();
    for (x, y) in points {
        if !(x.is_finite() && y.is_finite()) {
            column.write(&mut out);
            column = Column::default();
            continue;
        }
        let number = (x / COLUMN_MM).floor() as i64;
        if column.points > 0 && column.number != number {
            column.write(&mut out);
            column = Column { goes_on: true, ..Column::default() };
        }
        column.add(number, (x, y));
    }
    column.write(&mut out);
    out
}

/// The points of one column.
#[derive(Debug, Default)]
struct Column {
    number: i64,
    points: usize,
    /// Whether the line comes from the column before.
    goes_on: bool,
    kept: [(f64, f64); 4],
}

impl Column {
    fn add(&mut self, number: i64, point: (f64, f64)) {
        if self.points == 0 {
            self.kept = [point; 4];
            self.number = number;
        }
        let [_, lowest, highest, last] = &mut self.kept;
        if point.1 < lowest.1 {
            *lowest = point;
        }
        if point.1 > highest.1 {
            *highest = point;
        }
        *last = point;
        self.points += 1;
    }

    fn write(&mut self, out: &mut String) {
        if self.points == 0 {
            return;
        }
        self.kept.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut before = None;
        for point in self.kept {
            let written = (mm(point.0), mm(point.1));
            if before.as_ref() == Some(&written) {
                continue;
            }
            let begins = before.is_none() && !self.goes_on;
            *out += if begins { "M" } else { "L" };
            *out += &format!("{} {}", written.0, written.1);
            before = Some(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_few_points_goes_through_all_of_them() {
        assert_eq!(line([(0.0, 1.0), (1.0, 2.5), (2.0, 0.0)]), "M0 1L1 2.5L2 0");
        assert_eq!(line([]), "");
        assert_eq!(line([(5.0, 1.0)]), "M5 1");
    }

    #[test]
    fn a_value_that_is_none_breaks_the_line() {
        assert_eq!(line([(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.0), (3.0, 0.0)]), "M0 1M2 0L3 0");
        assert_eq!(line([(0.0, f64::NAN), (1.0, 1.0)]), "M1 1");
    }

    #[test]
    fn no_spike_is_lost_and_the_size_has_a_bound() {
        let spike = |n: u32| if n == 54_321 { 30.0 } else { 0.1 * f64::from(n % 7) };
        let drawn = line((0..100_000).map(|n| (f64::from(n) * 0.001, spike(n))));
        assert!(drawn.contains(" 30"), "the spike is drawn");
        let points = drawn.matches(['M', 'L']).count();
        assert!(points <= 4 * 501, "{points} points in 100 mm");
    }
}

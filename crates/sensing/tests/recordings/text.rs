//! Recordings that are columns of text: each column as whole numbers of steps.

use super::Recorded;
use sensing::{Decimal, Samples};
use std::path::Path;

/// One file: where, which columns are which signals, how many steps make a unit, how fast.
pub(crate) struct Columns {
    pub(crate) file: &'static str,
    pub(crate) separator: char,
    /// Column, signal, unit, and steps per unit where the recorder's are known; else the digits of the text are the steps.
    pub(crate) signals: &'static [(usize, &'static str, &'static str, Option<f64>)],
    pub(crate) rate_hz: f64,
    pub(crate) head_lines: usize,
}

/// Text files in the shared data.
pub(crate) const FILES: [Columns; 8] = [
    Columns {
        file: "acc/biosppy_acc.txt",
        separator: '\t',
        signals: &[(0, "accel-x", "[g]", None), (1, "accel-y", "[g]", None), (2, "accel-z", "[g]", None)],
        rate_hz: 100.0,
        head_lines: 0,
    },
    Columns {
        file: "acc/tsfel_walking1_Accelerometer.txt",
        separator: ',',
        // Steps of 2^-16 m/s2, printed as the nearest binary float.
        signals: &[
            (1, "accel-x", "m/s2", Some(65_536.0)),
            (2, "accel-y", "m/s2", Some(65_536.0)),
            (3, "accel-z", "m/s2", Some(65_536.0)),
        ],
        rate_hz: 198.6,
        head_lines: 0,
    },
    Columns {
        file: "eda/biosppy_eda.txt",
        separator: '\t',
        signals: &[(0, "gsr", "1", Some(1.0))],
        rate_hz: 1_000.0,
        head_lines: 0,
    },
    Columns {
        file: "ppg_resp/biosppy_ppg.txt",
        separator: '\t',
        signals: &[(0, "pleth", "1", Some(1.0))],
        rate_hz: 1_000.0,
        head_lines: 0,
    },
    Columns {
        file: "ppg_resp/biosppy_resp.txt",
        separator: '\t',
        signals: &[(0, "resp-impedance", "1", Some(1.0))],
        rate_hz: 1_000.0,
        head_lines: 0,
    },
    Columns {
        file: "ppg_resp/heartpy_data.csv",
        separator: ',',
        signals: &[(0, "pleth", "1", Some(1.0))],
        rate_hz: 100.0,
        head_lines: 0,
    },
    Columns {
        file: "ppg_resp/heartpy_data2.csv",
        separator: ',',
        signals: &[(1, "pleth", "1", Some(1.0))],
        // The mean of its timer, 8.5479 ms.
        rate_hz: 116.99,
        head_lines: 1,
    },
    Columns {
        file: "ppg_resp/bidmc_01_Signals.csv",
        separator: ',',
        signals: &[
            // Ten bits and nine, printed with five digits.
            (2, "resp-impedance", "1", Some(1_023.0)),
            (3, "pleth", "1", Some(1_023.0)),
            (4, "ecg-v1", "mV", Some(510.0)),
            (5, "ecg-avr", "mV", Some(510.0)),
            (6, "ecg-ii", "mV", Some(510.0)),
        ],
        rate_hz: 125.0,
        head_lines: 1,
    },
];

/// The signals of one file.
pub(crate) fn read(folder: &Path, columns: &Columns) -> Vec<Recorded> {
    let text = std::fs::read_to_string(folder.join(columns.file)).unwrap();
    let lines = text.lines().skip(columns.head_lines).filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(columns.separator).map(str::trim).collect()).collect();
    let of_column = |(column, name, unit, steps): &(usize, &str, &str, Option<f64>)| {
        let values: Vec<f64> = rows.iter().map(|row| row[*column].parse().unwrap()).collect();
        let per_unit = steps.unwrap_or(1e5);
        let samples: Vec<i32> = values.iter().map(|value| (value * per_unit).round() as i32).collect();
        for (value, sample) in values.iter().zip(&samples) {
            // Where the recorder's steps are known the text is rounded to five digits, else it is exact.
            let last_digit =
                if steps.is_some() { 1e-5_f64.max(10f64.powf(value.abs().log10().floor() - 4.0)) } else { 1e-9 };
            let off = (value - f64::from(*sample) / per_unit).abs();
            assert!(off <= 0.51 * last_digit, "{}: {value} of {name} is no whole number of steps", columns.file);
        }
        let narrow: Option<Vec<i16>> =
            samples.iter().map(|&s| i16::try_from(s).ok().filter(|s| *s != i16::MIN)).collect();
        Recorded {
            name: (*name).to_owned(),
            unit: (*unit).to_owned(),
            rate_hz: Decimal::from_f64(columns.rate_hz).unwrap(),
            origin: Decimal::ZERO,
            // As many digits as a decimal may have.
            scale: Decimal::from_f64(format!("{:.14e}", 1.0 / per_unit).parse().unwrap()).unwrap(),
            samples: narrow.map_or(Samples::I32(samples), Samples::I16),
        }
    };
    columns.signals.iter().map(of_column).collect()
}

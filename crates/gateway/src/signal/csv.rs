//! A CSV file of signals: numbers now and then, or the evenly spaced samples of waveforms.

use super::{SECONDS_MAX, Steps, Wave, number};
use sensing::{
    Decimal, Limits, Samples, Signal, Value, Waveform,
    sensor::{self, Channel, Kind},
    wfdb,
};
use std::collections::BTreeMap;

/// The most values of a file: a day of a wave at 360 Hz.
const VALUES_MAX: usize = 1 << 25;
/// The finest step that samples are kept in: a millionth of the unit.
const DIGITS: i32 = 6;
/// The greatest number of steps of a sample; a coarser step is taken for waves that go further.
const STEPS_MAX: f64 = 1e9;
/// A rate this near to a whole number is that number: times in a file are rounded.
const WHOLE_SHARE: f64 = 1e-5;
/// How far a time may be from where evenly spaced samples have it, beside half a sample: times are often rounded to milliseconds.
const ROUNDED_S: f64 = 0.000_5;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Table {
    /// Numbers by second, with their milliseconds in it.
    numbers: BTreeMap<u64, Vec<Signal>>,
    waves: Vec<Sampled>,
    /// Samples a second of the waves.
    rate_hz: f64,
}

/// A waveform of evenly spaced samples from the file's beginning on.
#[derive(Debug)]
struct Sampled {
    channel: &'static Channel,
    /// The unit, where the column's name tells it.
    unit: &'static str,
    scale: Decimal,
    samples: Vec<i32>,
}

/// A column of the file.
struct Column {
    channel: &'static Channel,
    unit: &'static str,
    /// Not a number where a cell is empty.
    values: Vec<f64>,
}

impl Table {
    /// Reads `time_s,heart-rate,spo2,...`, or `Time [s], RESP, PLETH, ...` as the BIDMC recordings are published: a time in seconds, then a value of
    /// each signal, or nothing where there is none. What stands before the time is left out.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let (_, head) = lines.next().ok_or("is empty")?;
        let names: Vec<&str> = head.split(',').map(str::trim).collect();
        let is_time = |name: &&str| *name == "time_s" || name.eq_ignore_ascii_case("time [s]");
        let time_at = names.iter().position(is_time).ok_or("has no column `time_s`")?;
        let names = &names[time_at + 1..];
        let (mut times_s, mut columns, mut numbers_of_lines) = (Vec::new(), vec![Vec::new(); names.len()], Vec::new());
        for (line, row) in lines {
            let wrong = |what: &str| format!("has {what} in line {line}");
            let mut cells = row.split(',').map(str::trim).skip(time_at);
            let time_s: f64 = cells.next().and_then(|cell| cell.parse().ok()).ok_or_else(|| wrong("no time"))?;
            if !(0.0..SECONDS_MAX as f64).contains(&time_s) {
                return Err(wrong("a time that is negative or beyond a week"));
            }
            for column in &mut columns {
                column.push(match cells.next() {
                    None | Some("") => f64::NAN,
                    Some(cell) => cell
                        .parse()
                        .ok()
                        .filter(|value: &f64| value.is_finite())
                        .ok_or_else(|| wrong("a value that is no number"))?,
                });
            }
            if cells.next().is_some() {
                return Err(wrong("more values than columns"));
            }
            times_s.push(time_s);
            numbers_of_lines.push(line);
            if times_s.len() * (columns.len() + 1) > VALUES_MAX {
                return Err(format!("has more than {VALUES_MAX} values"));
            }
        }
        let rate_hz = rate_hz(&times_s);
        let columns: Vec<Column> = names
            .iter()
            .zip(columns)
            .map(|(name, values)| {
                let channel = wfdb::channel(name, rate_hz).and_then(sensor::channel);
                let channel = channel.filter(|channel| !matches!(channel.kind, Kind::Coded(_)));
                let channel =
                    channel.ok_or_else(|| format!("has a column `{name}` that no sensor measures as numbers"))?;
                // What somebody else calls `RESP` may be in any unit; leads are in millivolts wherever they are published.
                let told = *name == channel.name || channel.name.starts_with("ecg-");
                Ok(Column { channel, unit: if told { channel.unit } else { "" }, values })
            })
            .collect::<Result<_, String>>()?;
        let (waves, numerics): (Vec<Column>, Vec<Column>) =
            columns.into_iter().partition(|column| column.channel.kind == Kind::Waveform);
        if !waves.is_empty() {
            check_spacing(&times_s, rate_hz, &numbers_of_lines)?;
        }
        Ok(Self {
            numbers: numbers(&times_s, &numerics, &numbers_of_lines)?,
            waves: waves.into_iter().map(Sampled::of).collect::<Result<_, String>>()?,
            rate_hz,
        })
    }

    /// Seconds up to the last number, whole seconds of waves.
    pub(crate) fn seconds(&self) -> u64 {
        let sampled = self.waves.iter().map(|wave| (wave.samples.len() as f64 / self.rate_hz).floor() as u64).max();
        let numbered = self.numbers.keys().next_back().map(|last| last + 1);
        sampled.max(numbered).unwrap_or(0)
    }

    /// The signals of a second.
    pub(crate) fn second(&self, second: u64) -> Vec<Signal> {
        let range = super::within(self.rate_hz, second);
        let offset_ms = ((range.start as f64 / self.rate_hz - second as f64) * 1_000.0).round() as i64;
        let rate_hz = Decimal::from_f64(self.rate_hz);
        let mut signals = Vec::new();
        for (wave, rate_hz) in self.waves.iter().zip(std::iter::repeat(rate_hz)) {
            let Some(samples) = wave.samples.get(range.start..range.end.min(wave.samples.len())) else { continue };
            let (Some(rate_hz), false) = (rate_hz, samples.is_empty()) else { continue };
            let value = Value::Waveform(Waveform {
                unit: wave.channel.unit.to_owned(),
                rate_hz,
                origin: Decimal::ZERO,
                scale: wave.scale,
                limits: Limits::NONE,
                samples: Samples::I32(samples.to_vec()),
            });
            signals.push(Signal { name: wave.channel.name.to_owned(), offset_ms, value });
        }
        signals.extend(self.numbers.get(&second).into_iter().flatten().cloned());
        signals
    }

    /// The waveforms, whole.
    pub(crate) fn waves(&self) -> Vec<Wave<'_>> {
        let whole = |wave: &'_ Sampled| (wave.channel.name, wave.unit, wave.scale.to_f64());
        self.waves
            .iter()
            .map(|wave| {
                let (name, unit, scale) = whole(wave);
                Wave { name, unit, rate_hz: self.rate_hz, steps: Steps::Wide(&wave.samples), origin: 0.0, scale }
            })
            .collect()
    }
}

impl Sampled {
    fn of(column: Column) -> Result<Self, String> {
        let greatest = column.values.iter().filter(|value| value.is_finite()).fold(0.0f64, |most, v| most.max(v.abs()));
        let fits = |digits: &i32| greatest * 10f64.powi(*digits) <= STEPS_MAX;
        let too_large = || format!("has a value of `{}` that is too large", column.channel.name);
        let digits = (-DIGITS..=DIGITS).rev().find(fits).ok_or_else(too_large)?;
        let scale = Decimal::new(1, -digits as i8).ok_or_else(too_large)?;
        let step = |value: &f64| if value.is_finite() { (value * 10f64.powi(digits)).round() as i32 } else { i32::MIN };
        let samples = column.values.iter().map(step).collect();
        Ok(Self { channel: column.channel, unit: column.unit, scale, samples })
    }
}

/// Rows a second, between the first and the last; 0 of fewer than two.
fn rate_hz(times_s: &[f64]) -> f64 {
    let (Some(first), Some(last)) = (times_s.first(), times_s.last()) else { return 0.0 };
    if last <= first {
        return 0.0;
    }
    let rate_hz = (times_s.len() - 1) as f64 / (last - first);
    let whole = rate_hz.round();
    if whole >= 1.0 && (rate_hz / whole - 1.0).abs() < WHOLE_SHARE { whole } else { rate_hz }
}

/// Whether samples are where `rate_hz` has them, from the file's beginning on.
fn check_spacing(times_s: &[f64], rate_hz: f64, lines: &[usize]) -> Result<(), String> {
    let (Some(&first), true) = (times_s.first(), rate_hz > 0.0) else {
        return Err("has waveforms, and fewer than two rows whose times rise".to_owned());
    };
    if first >= 1.0 / rate_hz {
        return Err("has waveforms that do not begin at the time 0".to_owned());
    }
    let off = |(n, time_s): (usize, &f64)| (time_s - first - n as f64 / rate_hz).abs() > 0.5 / rate_hz + ROUNDED_S;
    match times_s.iter().enumerate().position(off) {
        Some(at) => Err(format!("has samples of waveforms that are not evenly spaced, from line {} on", lines[at])),
        None => Ok(()),
    }
}

fn numbers(times_s: &[f64], columns: &[Column], lines: &[usize]) -> Result<BTreeMap<u64, Vec<Signal>>, String> {
    let mut rows: BTreeMap<u64, Vec<Signal>> = BTreeMap::new();
    if columns.is_empty() {
        return Ok(rows);
    }
    for (n, &time_s) in times_s.iter().enumerate() {
        let second = time_s.floor() as u64;
        let offset_ms = ((time_s - time_s.floor()) * 1_000.0).round() as i64;
        let of_second = rows.entry(second).or_default();
        for column in columns {
            let value = column.values.get(n).copied().filter(|value| value.is_finite());
            let (name, unit) = (column.channel.name, column.channel.unit);
            of_second.extend(value.and_then(|value| number(name, unit, value, offset_ms)));
        }
        if of_second.len() > sensing::SIGNALS_MAX {
            return Err(format!("has more values in one second than a frame carries in line {}", lines[n]));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = match Table::parse(text) {
            Err(what) => what,
            Ok(table) => (0..table.seconds())
                .map(|second| {
                    let told = |signal: &Signal| match &signal.value {
                        Value::Number { unit, value } => {
                            format!("{}+{}ms {value} {unit}", signal.name, signal.offset_ms)
                        }
                        Value::Waveform(wave) => format!("{} {} Hz {:?}", signal.name, wave.rate_hz, wave.physical()),
                        _ => "no number".to_owned(),
                    };
                    let all: Vec<String> = table.second(second).iter().map(told).collect();
                    format!("{second}: {}", all.join(", "))
                })
                .collect::<Vec<_>>()
                .join("; "),
        };
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn numbers_are_read_from_csv_and_faults_are_named() {
        check(
            "time_s,heart-rate,spo2\n0,71,97.5\n1.5,72,\n",
            "0: heart-rate+0ms 71 /min, spo2+0ms 97.5 %; 1: heart-rate+500ms 72 /min",
        );
        check("", "is empty");
        check("t,spo2\n", "has no column `time_s`");
        check("time_s,mood\n", "has a column `mood` that no sensor measures as numbers");
        check("time_s,consciousness\n", "has a column `consciousness` that no sensor measures as numbers");
        check("time_s,spo2\nx,97\n", "has no time in line 2");
        check("time_s,spo2\n-1,97\n", "has a time that is negative or beyond a week in line 2");
        check("time_s,spo2\n0,high\n", "has a value that is no number in line 2");
        check("time_s,spo2\n0,inf\n", "has a value that is no number in line 2");
        check("time_s,spo2\n0,97,98\n", "has more values than columns in line 2");
        let many: String = (0..65).map(|n| format!("0.{n:03},97\n")).collect();
        check(&format!("time_s,spo2\n{many}"), "has more values in one second than a frame carries in line 66");
    }

    #[test]
    fn waves_are_read_from_csv_as_bidmc_is_published() {
        let rows: String =
            (0..8).map(|n| format!(",{},{},{}\n", f64::from(n) * 0.25, f64::from(n) * 0.125, n - 4)).collect();
        check(
            &format!("Sampling Freq,Time [s], RESP, II\n{rows}"),
            "0: resp-impedance 4 Hz [0.0, 0.125, 0.25, 0.375], ecg-ii 4 Hz [-4.0, -3.0, -2.0, -1.0]; \
             1: resp-impedance 4 Hz [0.5, 0.625, 0.75, 0.875], ecg-ii 4 Hz [0.0, 1.0, 2.0, 3.0]",
        );
        // Once a second it is the rate that a monitor made of the wave.
        check(
            "Time [s],HR,RESP\n0,94,25\n1,94,25\n",
            "0: heart-rate+0ms 94 /min, resp-rate+0ms 25 /min; 1: heart-rate+0ms 94 /min, resp-rate+0ms 25 /min",
        );
        check("time_s,ecg-ii\n", "has waveforms, and fewer than two rows whose times rise");
        check("time_s,ecg-ii\n5,0\n5.01,0\n", "has waveforms that do not begin at the time 0");
        check(
            "time_s,ecg-ii\n0,0\n0.01,0\n0.02,0\n0.5,0\n",
            "has samples of waveforms that are not evenly spaced, from line 3 on",
        );
        check("time_s,ecg-ii\n0,0\n0.5,1e30\n", "has a value of `ecg-ii` that is too large");
    }

    #[test]
    fn an_empty_cell_of_a_wave_is_a_missing_sample() {
        let table = Table::parse("time_s,ecg-ii,spo2\n0,1.5,97\n0.5,,\n1,0.25,98\n1.5,-2,\n").unwrap();
        let wave = &table.waves()[0];
        let values = wave.physical(0..9);
        assert_eq!((values[0], values[2], values[3], values.len()), (1.5, 0.25, -2.0, 4));
        assert!(values[1].is_nan() && wave.physical(7..9).is_empty());
        assert_eq!((wave.name, wave.unit, wave.rate_hz, wave.len()), ("ecg-ii", "mV", 2.0, 4));
    }
}

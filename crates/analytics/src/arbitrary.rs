//! Inputs of every kind, at every time, to all rules.

use crate::{
    finding::CITED_MAX,
    input::{Input, Measured, Person},
    monitor::Monitor,
    recordings::Chance,
};
use record::{TimeMs, sha256};

#[test]
fn arbitrary_inputs_never_panic_and_give_finite_numbers() {
    let signals = [
        "resp-impedance",
        "pleth",
        "ecg-ii",
        "ecg-v1",
        "gsr",
        "accel-x",
        "accel-y",
        "accel-z",
        "heart-rate",
        "resp-rate",
        "nibp-sys",
        "nibp-dia",
        "spo2",
        "temp-body",
        "consciousness",
        "oxygen",
        "gcs-eye",
        "gcs-verbal",
        "gcs-motor",
        "gcs",
        "white-cells",
        "none",
    ];
    let rates = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1.0, 4.0, 25.0, 125.0, 250.0, 4_000.0, 1e12];
    let odd = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0, -0.0, 1e-300];
    for seed in 0..30 {
        let mut chance = Chance(seed);
        let mut pick = |count: usize| (chance.unit() * count as f64) as usize;
        let mut monitor = Monitor::new(&Person::default());
        let mut at = [0, 1_000_000, u64::MAX - 200_000][pick(3)];
        for _ in 0..2_000 {
            at = match pick(40) {
                0 => at.saturating_sub(100_000),
                1 => at.saturating_add(10_000_000),
                2 => u64::MAX,
                3 => 0,
                _ => at.saturating_add(1_000),
            };
            let values: Vec<f64> = (0..pick(300))
                .map(|n| if pick(20) == 0 { odd[pick(odd.len())] } else { (n as f64 / 20.0).sin() * 10.0 })
                .collect();
            let value = match pick(6) {
                0 => Measured::Number(values.first().copied().unwrap_or(90.0)),
                1 => Measured::Number(pick(200) as f64),
                2 => Measured::Code(["A", "U", "air", "supine", ""][pick(5)]),
                3 => Measured::Absent,
                _ => Measured::Wave { rate_hz: rates[pick(rates.len())], values: &values },
            };
            let frame = sha256(&[&at.to_be_bytes()]);
            for finding in monitor.take(&Input { frame, signal: signals[pick(signals.len())], at: TimeMs(at), value }) {
                assert!(finding.inputs.len() <= CITED_MAX, "seed {seed}: {finding:?}");
                for measure in &finding.measures {
                    assert!(measure.value.is_finite(), "seed {seed}: {measure:?} of {}", finding.rule);
                }
            }
        }
    }
}

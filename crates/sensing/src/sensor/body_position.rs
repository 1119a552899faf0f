//! Body position and movement: a 3-axis accelerometer on the chest, and the posture it finds.
//!
//! Source: LOINC 8361-8 (posture); the axes have no published code. Unit: `m/s2`. Axes: x to the wearer's left, y to the
//! head, z out of the chest; at rest they show the reaction to gravity.

use super::{Category, Channel, Codes, Kind, Panel, Range, Sensor};

/// Postures in local codes.
const POSTURES: &[&str] = &["supine", "prone", "left-lateral", "right-lateral", "upright", "inverted", "moving"];

const fn axis(name: &'static str, display: &'static str) -> Channel {
    Channel {
        name,
        codes: Codes { display, loinc: &[], mdc: None },
        unit: "m/s2",
        kind: Kind::Waveform,
        plausible: Range::new(-157, 157, "wearable accelerometers measure to ±16 g"),
        category: Category::Exam,
        in_panel: true,
    }
}

pub(super) const SENSOR: Sensor = Sensor {
    name: "body-position",
    display: "Body position",
    channels: &[
        Channel {
            name: "posture",
            codes: Codes {
                display: "Body position",
                loinc: &[("8361-8", "Body position with respect to gravity")],
                mdc: None,
            },
            unit: "1",
            kind: Kind::Coded(POSTURES),
            plausible: Range::new(0, 0, "a code, not a number"),
            category: Category::Exam,
            in_panel: false,
        },
        axis("accel-x", "Acceleration to the left"),
        axis("accel-y", "Acceleration to the head"),
        axis("accel-z", "Acceleration to the front"),
    ],
    is_entered: false,
    panel: Some(Panel {
        codes: Codes { display: "Acceleration of the chest", loinc: &[], mdc: None },
        category: Category::Exam,
    }),
};

//! Heart rate as a monitor counts it from the ECG.
//!
//! Source: IEEE 11073-10101, LOINC 8867-4. Unit: `/min`.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

pub(super) const SENSOR: Sensor = Sensor {
    name: "heart-rate",
    display: "Heart rate",
    channels: &[Channel {
        name: "heart-rate",
        codes: Codes {
            display: "Heart rate",
            loinc: &[("8867-4", "Heart rate")],
            mdc: Some((147_842, "MDC_ECG_HEART_RATE")),
        },
        unit: "/min",
        kind: Kind::Numeric,
        plausible: Range::new(0, 350, "IEC 60601-2-27, 30 to 300 /min, widened: 0 is asystole"),
        category: Category::VitalSigns,
        in_panel: false,
    }],
    is_entered: false,
    panel: None,
};

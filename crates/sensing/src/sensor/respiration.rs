//! Respiration: rate, and the impedance of the chest it is counted from.
//!
//! Source: IEEE 11073-10101, LOINC 9279-1. Units: `/min`, `Ohm`.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

pub(super) const SENSOR: Sensor = Sensor {
    name: "respiration",
    display: "Respiration",
    channels: &[
        Channel {
            name: "resp-rate",
            codes: Codes {
                display: "Respiratory rate",
                loinc: &[("9279-1", "Respiratory rate")],
                mdc: Some((151_562, "MDC_RESP_RATE")),
            },
            unit: "/min",
            kind: Kind::Numeric,
            plausible: Range::new(0, 150, "impedance monitors count to 150 /min; 0 is apnoea"),
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "resp-impedance",
            codes: Codes { display: "Thoracic impedance", loinc: &[], mdc: Some((151_780, "MDC_IMPED_TTHOR")) },
            unit: "Ohm",
            kind: Kind::Waveform,
            plausible: Range::new(
                -50,
                5_000,
                "base impedance up to 5 kOhm with electrodes; changes by breathing are below 50",
            ),
            category: Category::Procedure,
            in_panel: false,
        },
    ],
    is_entered: false,
    panel: None,
};

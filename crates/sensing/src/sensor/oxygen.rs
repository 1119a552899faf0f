//! Oxygen that a person breathes in: on air or on oxygen, its flow, and its share of the breath.
//!
//! Source: Royal College of Physicians, NEWS2, 2017 («air or oxygen?»); LOINC 3151-8, 3150-0; IEEE 11073-10101. Units: `L/min`,
//! `%`. Whether it is given at all has no code of its own: the local one stands alone.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

/// What is breathed.
const GASES: &[&str] = &["air", "oxygen"];

pub(super) const SENSOR: Sensor = Sensor {
    name: "oxygen",
    display: "Supplemental oxygen",
    channels: &[
        Channel {
            name: "oxygen",
            codes: Codes { display: "Air or oxygen", loinc: &[], mdc: None },
            unit: "1",
            kind: Kind::Coded(GASES),
            plausible: Range::new(0, 0, "a code, not a number"),
            category: Category::Exam,
            in_panel: false,
        },
        Channel {
            name: "oxygen-flow",
            codes: Codes {
                display: "Inhaled oxygen flow rate",
                loinc: &[("3151-8", "Inhaled oxygen flow rate")],
                mdc: None,
            },
            unit: "L/min",
            kind: Kind::Numeric,
            plausible: Range::new(
                0,
                80,
                "BTS guideline for oxygen use, 2017: masks to 15 L/min, high flow to 70, widened",
            ),
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "fio2",
            codes: Codes {
                display: "Inhaled oxygen concentration",
                loinc: &[("3150-0", "Inhaled oxygen concentration")],
                mdc: Some((152_196, "MDC_CONC_AWAY_O2_INSP")),
            },
            unit: "%",
            kind: Kind::Numeric,
            plausible: Range::new(
                15,
                100,
                "air has 20.9 %, oxygen 100 % by definition; 15 allows for hypoxic mixtures",
            ),
            category: Category::VitalSigns,
            in_panel: false,
        },
    ],
    is_entered: false,
    panel: None,
};

//! Pulse oximeter: arterial oxygen saturation, pulse rate, perfusion and plethysmogram.
//!
//! Source: IEEE 11073-10404, LOINC 59408-5 and 2708-6, 61006-3. Units: `%`, `/min`; the plethysmogram has no absolute unit.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

pub(super) const SENSOR: Sensor = Sensor {
    name: "spo2",
    display: "Pulse oximeter",
    channels: &[
        Channel {
            name: "spo2",
            codes: Codes {
                display: "Oxygen saturation",
                // R4's vital-signs profile asks for 2708-6; 59408-5 says how it was measured.
                loinc: &[
                    ("2708-6", "Oxygen saturation in Arterial blood"),
                    ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"),
                ],
                mdc: Some((150_456, "MDC_PULS_OXIM_SAT_O2")),
            },
            unit: "%",
            kind: Kind::Numeric,
            plausible: Range::new(0, 100, "a share of haemoglobin, by definition"),
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "pulse",
            codes: Codes {
                display: "Pulse rate",
                loinc: &[("8889-8", "Heart rate by Pulse oximetry")],
                mdc: Some((149_530, "MDC_PULS_OXIM_PULS_RATE")),
            },
            unit: "/min",
            kind: Kind::Numeric,
            plausible: Range::new(0, 350, "as heart rate"),
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "perfusion",
            codes: Codes {
                display: "Perfusion index",
                loinc: &[("61006-3", "Perfusion index Tissue by Pulse oximetry")],
                mdc: Some((150_448, "MDC_PULS_OXIM_PERF_REL")),
            },
            unit: "%",
            kind: Kind::Numeric,
            plausible: Range::new(
                0,
                30,
                "Lima et al., Crit Care Med 2002;30:1210, 0.3 to 10 %; oximeters show to 20, widened",
            ),
            category: Category::Exam,
            in_panel: false,
        },
        Channel {
            name: "pleth",
            codes: Codes { display: "Plethysmogram", loinc: &[], mdc: Some((150_452, "MDC_PULS_OXIM_PLETH")) },
            unit: "1",
            kind: Kind::Waveform,
            plausible: Range::new(-32_768, 32_767, "relative to the device's own scale"),
            category: Category::Procedure,
            in_panel: false,
        },
    ],
    is_entered: false,
    panel: None,
};

//! Consciousness as a person assessed it: ACVPU, and the Glasgow coma scale with its three parts.
//!
//! No sensor measures these. A person enters them on a device, which signs them, and their Observations say so. Source: Royal
//! College of Physicians, NEWS2, 2017 (ACVPU); Teasdale and Jennett, Lancet 1974;304:81 (Glasgow); LOINC 67775-7, 35088-4,
//! 9269-2, 9267-6, 9270-0, 9268-4. Unit: `{score}`.

use super::{Category, Channel, Codes, Kind, Panel, Range, Sensor};

/// Alert, new confusion, responds to voice, to pain, unresponsive.
const ACVPU: &[&str] = &["A", "C", "V", "P", "U"];

const fn score(
    name: &'static str,
    display: &'static str,
    loinc: &'static [(&'static str, &'static str)],
    low: i32,
    high: i32,
) -> Channel {
    Channel {
        name,
        codes: Codes { display, loinc, mdc: None },
        unit: "{score}",
        kind: Kind::Numeric,
        plausible: Range::new(low, high, "Teasdale and Jennett 1974, by the scale's definition"),
        category: Category::Exam,
        in_panel: true,
    }
}

pub(super) const SENSOR: Sensor = Sensor {
    name: "consciousness",
    display: "Level of consciousness",
    channels: &[
        Channel {
            name: "consciousness",
            codes: Codes {
                display: "Level of consciousness (ACVPU)",
                loinc: &[("67775-7", "Level of responsiveness")],
                mdc: None,
            },
            unit: "1",
            kind: Kind::Coded(ACVPU),
            plausible: Range::new(0, 0, "a code, not a number"),
            category: Category::Exam,
            in_panel: false,
        },
        score("gcs", "Glasgow coma score", &[("9269-2", "Glasgow coma score total")], 3, 15),
        score("gcs-eye", "Eye opening", &[("9267-6", "Glasgow coma score eye opening")], 1, 4),
        score("gcs-verbal", "Best verbal response", &[("9270-0", "Glasgow coma score verbal")], 1, 5),
        score("gcs-motor", "Best motor response", &[("9268-4", "Glasgow coma score motor")], 1, 6),
    ],
    is_entered: true,
    panel: Some(Panel {
        codes: Codes { display: "Glasgow coma scale", loinc: &[("35088-4", "Glasgow coma scale")], mdc: None },
        category: Category::Exam,
    }),
};

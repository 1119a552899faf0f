//! Galvanic skin response: electrical conductance of the skin.
//!
//! Neither LOINC nor MDC has a code: the local one stands alone. Unit: `uS`.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

pub(super) const SENSOR: Sensor = Sensor {
    name: "galvanic-skin-response",
    display: "Galvanic skin response",
    channels: &[Channel {
        name: "gsr",
        codes: Codes { display: "Skin conductance", loinc: &[], mdc: None },
        unit: "uS",
        kind: Kind::Waveform,
        plausible: Range::new(0, 100, "Boucsein, Electrodermal Activity, 2012: 1 to 40 uS, widened"),
        category: Category::Exam,
        in_panel: false,
    }],
    is_entered: false,
    panel: None,
};

//! Temperature of the body, of its core and of the skin.
//!
//! Source: IEEE 11073-10408, LOINC 8310-5, 8329-5, 39106-0. Unit: `Cel`.

use super::{Category, Channel, Codes, Kind, Range, Sensor};

const BODY: Range = Range::new(15, 46, "ISO 80601-2-56, 34 to 43 Cel, widened to what people survived");

pub(super) const SENSOR: Sensor = Sensor {
    name: "temperature",
    display: "Thermometer",
    channels: &[
        Channel {
            name: "temp-body",
            codes: Codes {
                display: "Body temperature",
                loinc: &[("8310-5", "Body temperature")],
                mdc: Some((150_364, "MDC_TEMP_BODY")),
            },
            unit: "Cel",
            kind: Kind::Numeric,
            plausible: BODY,
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "temp-core",
            codes: Codes {
                display: "Core body temperature",
                // R4's vital-signs profile asks for 8310-5; 8329-5 says where it was measured.
                loinc: &[("8310-5", "Body temperature"), ("8329-5", "Body temperature - Core")],
                mdc: Some((150_368, "MDC_TEMP_CORE")),
            },
            unit: "Cel",
            kind: Kind::Numeric,
            plausible: BODY,
            category: Category::VitalSigns,
            in_panel: false,
        },
        Channel {
            name: "temp-skin",
            codes: Codes {
                display: "Skin temperature",
                loinc: &[("39106-0", "Temperature of Skin")],
                mdc: Some((150_388, "MDC_TEMP_SKIN")),
            },
            unit: "Cel",
            kind: Kind::Numeric,
            plausible: Range::new(0, 50, "between freezing and burning skin"),
            category: Category::Exam,
            in_panel: false,
        },
    ],
    is_entered: false,
    panel: None,
};

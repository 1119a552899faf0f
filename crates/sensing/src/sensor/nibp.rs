//! Blood pressure by a cuff: systolic, diastolic and mean of one inflation.
//!
//! Source: IEEE 11073-10407, LOINC 85354-9. Unit: `mm[Hg]`.

use super::{Category, Codes, Panel, Range, Sensor, pressure};

const PRESSURE: Range =
    Range::new(10, 300, "ISO 80601-2-30, a cuff holds at most 300 mm[Hg]; below 10 there is no pulse to find");

pub(super) const SENSOR: Sensor = Sensor {
    name: "nibp",
    display: "Non-invasive blood pressure",
    channels: &[
        pressure(
            "nibp-sys",
            "Systolic blood pressure",
            &[("8480-6", "Systolic blood pressure")],
            (150_021, "MDC_PRESS_BLD_NONINV_SYS"),
            PRESSURE,
        ),
        pressure(
            "nibp-dia",
            "Diastolic blood pressure",
            &[("8462-4", "Diastolic blood pressure")],
            (150_022, "MDC_PRESS_BLD_NONINV_DIA"),
            PRESSURE,
        ),
        pressure(
            "nibp-mean",
            "Mean blood pressure",
            &[("8478-0", "Mean blood pressure")],
            (150_023, "MDC_PRESS_BLD_NONINV_MEAN"),
            PRESSURE,
        ),
    ],
    is_entered: false,
    panel: Some(Panel {
        codes: Codes {
            display: "Blood pressure",
            loinc: &[("85354-9", "Blood pressure panel with all children optional")],
            mdc: Some((150_020, "MDC_PRESS_BLD_NONINV")),
        },
        category: Category::VitalSigns,
    }),
};

//! Arterial blood pressure by a catheter: the waveform, and systolic, diastolic and mean of its beats.
//!
//! Source: IEEE 11073-10101 (arterial line), LOINC 76215-3, 76213-8, 76214-6. Unit: `mm[Hg]`.

use super::{Category, Channel, Codes, Kind, Panel, Range, Sensor, pressure};

const PRESSURE: Range =
    Range::new(-50, 300, "IEC 60601-2-34, a transducer measures from -50 to 300 mm[Hg]; below 0 it stands too high");

pub(super) const SENSOR: Sensor = Sensor {
    name: "invasive-pressure",
    display: "Invasive blood pressure",
    channels: &[
        pressure(
            "ibp-sys",
            "Invasive systolic blood pressure",
            &[("76215-3", "Invasive Systolic blood pressure")],
            (150_037, "MDC_PRESS_BLD_ART_ABP_SYS"),
            PRESSURE,
        ),
        pressure(
            "ibp-dia",
            "Invasive diastolic blood pressure",
            &[("76213-8", "Invasive Diastolic blood pressure")],
            (150_038, "MDC_PRESS_BLD_ART_ABP_DIA"),
            PRESSURE,
        ),
        pressure(
            "ibp-mean",
            "Invasive mean blood pressure",
            &[("76214-6", "Invasive Mean blood pressure")],
            (150_039, "MDC_PRESS_BLD_ART_ABP_MEAN"),
            PRESSURE,
        ),
        Channel {
            name: "ibp",
            codes: Codes {
                display: "Arterial pressure waveform",
                loinc: &[],
                mdc: Some((150_036, "MDC_PRESS_BLD_ART_ABP")),
            },
            unit: "mm[Hg]",
            kind: Kind::Waveform,
            plausible: PRESSURE,
            category: Category::Procedure,
            in_panel: false,
        },
    ],
    is_entered: false,
    panel: Some(Panel {
        // LOINC 85354-9 would promise the components of a cuff (R4's profile of blood pressure).
        codes: Codes { display: "Invasive blood pressure", loinc: &[], mdc: Some((150_036, "MDC_PRESS_BLD_ART_ABP")) },
        category: Category::VitalSigns,
    }),
};

//! Electrocardiogram: the twelve standard leads as waveforms.
//!
//! Source: IEEE 11073-10101 (leads), LOINC 11524-6 (study). Unit: `mV`.

use super::{Category, Channel, Codes, Kind, Panel, Range, Sensor};

/// Surface ECG: IEC 60601-2-27 asks for an input range of ±5 mV; twice that allows for drift of the baseline.
const POTENTIAL: Range = Range::new(-10, 10, "IEC 60601-2-27, input range of ±5 mV, doubled for drift of the baseline");

const fn lead(name: &'static str, display: &'static str, mdc: (u32, &'static str)) -> Channel {
    Channel {
        name,
        codes: Codes { display, loinc: &[], mdc: Some(mdc) },
        unit: "mV",
        kind: Kind::Waveform,
        plausible: POTENTIAL,
        category: Category::Procedure,
        in_panel: true,
    }
}

pub(super) const SENSOR: Sensor = Sensor {
    name: "ecg",
    display: "Electrocardiogram",
    channels: &[
        lead("ecg-i", "ECG lead I", (131_329, "MDC_ECG_ELEC_POTL_I")),
        lead("ecg-ii", "ECG lead II", (131_330, "MDC_ECG_ELEC_POTL_II")),
        lead("ecg-iii", "ECG lead III", (131_389, "MDC_ECG_ELEC_POTL_III")),
        lead("ecg-avr", "ECG lead aVR", (131_390, "MDC_ECG_ELEC_POTL_AVR")),
        lead("ecg-avl", "ECG lead aVL", (131_391, "MDC_ECG_ELEC_POTL_AVL")),
        lead("ecg-avf", "ECG lead aVF", (131_392, "MDC_ECG_ELEC_POTL_AVF")),
        lead("ecg-v1", "ECG lead V1", (131_331, "MDC_ECG_ELEC_POTL_V1")),
        lead("ecg-v2", "ECG lead V2", (131_332, "MDC_ECG_ELEC_POTL_V2")),
        lead("ecg-v3", "ECG lead V3", (131_333, "MDC_ECG_ELEC_POTL_V3")),
        lead("ecg-v4", "ECG lead V4", (131_334, "MDC_ECG_ELEC_POTL_V4")),
        lead("ecg-v5", "ECG lead V5", (131_335, "MDC_ECG_ELEC_POTL_V5")),
        lead("ecg-v6", "ECG lead V6", (131_336, "MDC_ECG_ELEC_POTL_V6")),
    ],
    is_entered: false,
    panel: Some(Panel {
        codes: Codes { display: "ECG", loinc: &[("11524-6", "EKG study")], mdc: Some((131_328, "MDC_ECG_ELEC_POTL")) },
        category: Category::Procedure,
    }),
};

//! What the models look at: each variable with its unit and the limits within which a value counts.

/// One variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariableSpec {
    /// Name, as in the names of features.
    pub name: &'static str,
    /// Signals of frames that measure it, in the same unit. What a laboratory or a person says has none.
    pub signals: &'static [&'static str],
    /// The lowest value that counts.
    pub low: f64,
    /// The highest value that counts.
    pub high: f64,
    /// UCUM unit.
    pub unit: &'static str,
    /// Whether each value is an amount, such as of urine since the last one, and not a state.
    pub amount: bool,
}

const fn state(
    name: &'static str,
    signals: &'static [&'static str],
    (low, high): (f64, f64),
    unit: &'static str,
) -> VariableSpec {
    VariableSpec { name, signals, low, high, unit, amount: false }
}

/// Every variable, in the order of the features.
///
/// Source of the limits: what a monitor or a laboratory can report of a living person. They drop typing errors and sensors that are off; the
/// models were trained with them.
pub const VARIABLES: [VariableSpec; 34] = [
    state("heart-rate", &["heart-rate"], (1.0, 300.0), "/min"),
    state("resp-rate", &["resp-rate"], (4.0, 80.0), "/min"),
    state("systolic", &["ibp-sys", "nibp-sys"], (30.0, 300.0), "mm[Hg]"),
    state("mean-pressure", &["ibp-mean", "nibp-mean"], (20.0, 250.0), "mm[Hg]"),
    state("diastolic", &["ibp-dia", "nibp-dia"], (10.0, 200.0), "mm[Hg]"),
    state("temperature", &["temp-body", "temp-core"], (25.0, 45.0), "Cel"),
    state("oxygen-saturation", &["spo2"], (30.0, 100.0), "%"),
    state("inspired-oxygen", &[], (0.2, 1.0), "1"),
    state("glasgow-coma-scale", &[], (3.0, 15.0), "{score}"),
    VariableSpec { name: "urine", signals: &[], low: 0.0, high: 5_000.0, unit: "mL", amount: true },
    state("weight", &[], (20.0, 300.0), "kg"),
    state("ventilated", &[], (0.0, 1.0), "1"),
    state("ph", &[], (6.5, 8.0), "[pH]"),
    state("paco2", &[], (8.0, 150.0), "mm[Hg]"),
    state("pao2", &[], (15.0, 700.0), "mm[Hg]"),
    state("bicarbonate", &[], (2.0, 60.0), "mmol/L"),
    state("lactate", &[], (0.1, 35.0), "mmol/L"),
    state("sodium", &[], (95.0, 185.0), "mmol/L"),
    state("potassium", &[], (1.0, 12.0), "mmol/L"),
    state("magnesium", &[], (0.3, 10.0), "mg/dL"),
    state("urea-nitrogen", &[], (1.0, 250.0), "mg/dL"),
    state("creatinine", &[], (0.1, 25.0), "mg/dL"),
    state("glucose", &[], (10.0, 1_500.0), "mg/dL"),
    state("haematocrit", &[], (8.0, 70.0), "%"),
    state("platelets", &[], (1.0, 2_000.0), "10*3/uL"),
    state("white-cells", &[], (0.05, 300.0), "10*3/uL"),
    state("albumin", &[], (0.5, 7.0), "g/dL"),
    state("alkaline-phosphatase", &[], (5.0, 5_000.0), "U/L"),
    state("alanine-transaminase", &[], (1.0, 20_000.0), "U/L"),
    state("aspartate-transaminase", &[], (1.0, 30_000.0), "U/L"),
    state("bilirubin", &[], (0.1, 80.0), "mg/dL"),
    state("cholesterol", &[], (20.0, 600.0), "mg/dL"),
    state("troponin-i", &[], (0.0, 200.0), "ug/L"),
    state("troponin-t", &[], (0.0, 50.0), "ug/L"),
];

/// One of [`VARIABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable(
    // INVARIANT: below the length of `VARIABLES`.
    usize,
);

impl Variable {
    pub(crate) const HEART_RATE: Self = Self(0);
    pub(super) const RESP_RATE: Self = Self(1);
    pub(super) const SYSTOLIC: Self = Self(2);
    pub(super) const MEAN_PRESSURE: Self = Self(3);
    pub(super) const DIASTOLIC: Self = Self(4);
    pub(super) const TEMPERATURE: Self = Self(5);
    pub(super) const OXYGEN_SATURATION: Self = Self(6);
    pub(super) const INSPIRED_OXYGEN: Self = Self(7);
    pub(super) const GLASGOW: Self = Self(8);
    pub(super) const URINE: Self = Self(9);
    pub(super) const WEIGHT: Self = Self(10);
    pub(super) const VENTILATED: Self = Self(11);
    pub(super) const PACO2: Self = Self(13);
    pub(super) const PAO2: Self = Self(14);
    pub(super) const BICARBONATE: Self = Self(15);
    pub(super) const SODIUM: Self = Self(17);
    pub(super) const UREA: Self = Self(20);
    pub(super) const CREATININE: Self = Self(21);

    /// Every variable, in the order of the features.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..VARIABLES.len()).map(Self)
    }
    /// The variable with this name.
    pub fn named(name: &str) -> Option<Self> {
        VARIABLES.iter().position(|spec| spec.name == name).map(Self)
    }
    /// The variable that a frame's signal of this name measures.
    pub fn of_signal(signal: &str) -> Option<Self> {
        VARIABLES.iter().position(|spec| spec.signals.contains(&signal)).map(Self)
    }
    /// What it is.
    pub fn spec(self) -> &'static VariableSpec {
        &VARIABLES[self.0]
    }
    pub(super) fn place(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_name_and_by_each_of_its_signals() {
        for variable in Variable::all() {
            assert_eq!(Variable::named(variable.spec().name), Some(variable));
            for signal in variable.spec().signals {
                assert_eq!(Variable::of_signal(signal), Some(variable));
            }
        }
        assert_eq!((Variable::named("unheard-of"), Variable::of_signal("ecg-ii")), (None, None));
    }

    #[test]
    fn the_named_places_are_those_of_the_table() {
        let named = [
            (Variable::HEART_RATE, "heart-rate"),
            (Variable::RESP_RATE, "resp-rate"),
            (Variable::SYSTOLIC, "systolic"),
            (Variable::MEAN_PRESSURE, "mean-pressure"),
            (Variable::DIASTOLIC, "diastolic"),
            (Variable::TEMPERATURE, "temperature"),
            (Variable::OXYGEN_SATURATION, "oxygen-saturation"),
            (Variable::INSPIRED_OXYGEN, "inspired-oxygen"),
            (Variable::GLASGOW, "glasgow-coma-scale"),
            (Variable::URINE, "urine"),
            (Variable::WEIGHT, "weight"),
            (Variable::VENTILATED, "ventilated"),
            (Variable::PACO2, "paco2"),
            (Variable::PAO2, "pao2"),
            (Variable::BICARBONATE, "bicarbonate"),
            (Variable::SODIUM, "sodium"),
            (Variable::UREA, "urea-nitrogen"),
            (Variable::CREATININE, "creatinine"),
        ];
        for (variable, name) in named {
            assert_eq!(variable.spec().name, name);
        }
    }
}

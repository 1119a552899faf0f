//! What to do when an alarm sounds: for each alarm of high priority the protocol that whoever treats the patient may follow.
//!
//! A protocol is prepared, not ordered: it names what published guidance has people do first, and where to read the rest.

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// The alarms that it is for, by name.
    alarms: &'static [&'static str],
    /// What it is called.
    pub(crate) title: &'static str,
    /// The first steps, in words.
    pub(crate) steps: &'static str,
    /// Where they come from.
    pub(crate) source: &'static str,
}

/// Every protocol.
const ALL: [Protocol; 10] = [
    Protocol {
        alarms: &["asystole", "ventricular-fibrillation"],
        title: "Cardiac arrest in adults",
        steps: "Look at the patient and the electrodes first. Unresponsive and not breathing normally: call the resuscitation team, begin chest \
                compressions, attach a defibrillator; shock a shockable rhythm, adrenaline as the algorithm says; treat reversible causes.",
        source: "European Resuscitation Council Guidelines 2021: adult advanced life support, Resuscitation 2021;161:115",
    },
    Protocol {
        alarms: &["ventricular-tachycardia", "ventricular-tachycardia-sustained"],
        title: "Ventricular tachycardia",
        steps: "Look at the patient first: without a pulse it is a cardiac arrest. With a pulse: ABCDE, oxygen if hypoxic, 12-lead ECG, access to a \
                vein; with shock, syncope, ischaemia or heart failure a synchronised shock; else as the tachycardia algorithm says.",
        source: "European Resuscitation Council Guidelines 2021: adult advanced life support, tachycardia algorithm, Resuscitation 2021;161:115",
    },
    Protocol {
        alarms: &["tachycardia", "heart-rate-high"],
        title: "Fast heart",
        steps: "ABCDE, oxygen if hypoxic, blood pressure, 12-lead ECG, access to a vein. Look for a cause: bleeding, sepsis, pain, hypoxia, drugs. With \
                life-threatening signs as the tachycardia algorithm says.",
        source: "European Resuscitation Council Guidelines 2021: adult advanced life support, tachycardia algorithm, Resuscitation 2021;161:115",
    },
    Protocol {
        alarms: &["bradycardia", "heart-rate-low"],
        title: "Slow heart",
        steps: "ABCDE, oxygen if hypoxic, blood pressure, 12-lead ECG, access to a vein. With shock, syncope, ischaemia or heart failure: atropine, then \
                pacing, as the bradycardia algorithm says.",
        source: "European Resuscitation Council Guidelines 2021: adult advanced life support, bradycardia algorithm, Resuscitation 2021;161:115",
    },
    Protocol {
        alarms: &["spo2-low"],
        title: "Low saturation",
        steps: "Check the probe and the airway, sit the patient up. Oxygen towards the prescribed target: 94 to 98 %, or 88 to 92 % where hypercapnic \
                respiratory failure is a risk. Blood gas; look for the cause.",
        source: "British Thoracic Society guideline for oxygen use in adults in healthcare and emergency settings, Thorax 2017;72:i1",
    },
    Protocol {
        alarms: &["resp-rate-low"],
        title: "Slow breathing",
        steps: "Airway and consciousness first; support breathing with bag and mask if it is not enough. Look for opioids and sedatives and for naloxone's \
                indication; blood gas.",
        source: "Resuscitation Council UK, Guidelines 2021: the ABCDE approach",
    },
    Protocol {
        alarms: &["resp-rate-high"],
        title: "Fast breathing",
        steps: "ABCDE, oxygen if hypoxic, listen to the chest, blood gas. A rate of 25 and more alone asks for an urgent review: look for sepsis, pneumonia, \
                embolism, pneumothorax, acidosis.",
        source: "Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017: clinical response to a single score of 3",
    },
    Protocol {
        alarms: &["systolic-low"],
        title: "Low pressure",
        steps: "ABCDE; look for bleeding, and stop what can be compressed. In trauma with bleeding: tranexamic acid early, blood rather than crystalloid, \
                volume to a central pulse until the bleeding is controlled. Otherwise 500 ml of crystalloid in less than 15 minutes, and look again.",
        source: "NICE NG39, Major trauma, 2016, 1.5; NICE CG174, Intravenous fluid therapy in adults in hospital, 2013, algorithm 2",
    },
    Protocol {
        alarms: &["systolic-high"],
        title: "High pressure",
        steps: "Measure again with a fitting cuff on both arms. Look for damage to organs: brain, heart, eyes, kidneys, aorta; with it, lower the pressure in a \
                monitored place at the pace that the organ asks for; without it, no fast lowering.",
        source: "European Society of Cardiology Council on Hypertension: hypertensive emergencies, Eur Heart J Cardiovasc Pharmacother 2019;5:37",
    },
    Protocol {
        alarms: &["fall"],
        title: "After a fall",
        steps: "Do not move the patient before an injury of head, spine or hip is looked for. ABCDE, level of consciousness, blood glucose; neurological \
                observations where the head was hit or nobody saw the fall.",
        source: "Royal College of Physicians, National Audit of Inpatient Falls: post-fall checks, 2022",
    },
];

/// The protocol for an alarm.
pub(crate) fn protocol(alarm: &str) -> Option<&'static Protocol> {
    ALL.iter().find(|protocol| protocol.alarms.contains(&alarm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use analytics::{Severity, rule};
    use std::collections::BTreeSet;

    /// The alarms of high priority, as the parameters of the rules say; that of a fall has one priority, and no parameter for it.
    fn of_high_priority() -> BTreeSet<String> {
        let parameters = rule::ALL.iter().flat_map(|rule| (rule.parameters)());
        let high = parameters.filter(|(_, value)| *value == f64::from(Severity::High as u8));
        let named = high.filter_map(|(name, _)| name.strip_suffix(".priority").map(str::to_owned));
        named.chain(["fall".to_owned()]).collect()
    }

    #[test]
    fn every_alarm_of_high_priority_has_one_protocol_and_no_other_alarm_has() {
        let listed: Vec<&str> = ALL.iter().flat_map(|protocol| protocol.alarms).copied().collect();
        let names: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names.len(), listed.len());
        assert_eq!(names, of_high_priority());
        assert!(ALL.iter().all(|p| !p.title.is_empty() && !p.steps.is_empty() && !p.source.is_empty()));
    }
}

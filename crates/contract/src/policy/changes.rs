//! What changes between two derivation policies, in words.

use super::{DerivationPolicy, Document, Retention};
use record::RecordType;
use std::collections::BTreeSet;

impl DerivationPolicy {
    /// Every record type that resources of a FHIR type can be of: by its name, and by what it has.
    pub fn record_types(&self, fhir_type: &str) -> Vec<RecordType> {
        let refined = self.document.refine.iter().filter(|refinement| refinement.fhir_type == fhir_type);
        let all: BTreeSet<RecordType> =
            refined.map(|refinement| refinement.kind).chain([self.record_type(fhir_type)]).collect();
        all.into_iter().collect()
    }

    /// What is otherwise under `new`, a sentence each: what becomes essential, moves, or shows on the ledger.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let (before, after) = (&self.document, &new.document);
        let mut said = Vec::new();
        for name in after.essential.difference(&before.essential) {
            said.push(format!("`{name}` becomes essential: encrypted copies of it are kept in the vaults"));
        }
        for name in before.essential.difference(&after.essential) {
            said.push(format!(
                "`{name}` is essential no more: no copies of it are kept, and a lost one cannot be rebuilt"
            ));
        }
        let names: BTreeSet<&String> = self.kinds.keys().chain(new.kinds.keys()).collect();
        for name in names {
            let (was, is) = (self.record_type(name), new.record_type(name));
            if was != is {
                said.push(format!("`{name}` moves from {was} to {is} records, and who may see it with it"));
            }
        }
        if before.default_type != after.default_type {
            let (was, is) = (before.default_type, after.default_type);
            said.push(format!("types that are not listed move from {was} to {is} records"));
        }
        said.extend(refinements(before, after));
        let (was, is) = (shown_types(self), shown_types(new));
        for name in is.difference(&was) {
            said.push(format!("the type `{name}` shows on the ledger"));
        }
        for name in was.difference(&is) {
            said.push(format!("the type `{name}` shows on the ledger no more"));
        }
        let (was, is) = (shown_codes(before), shown_codes(after));
        for code in is.difference(&was) {
            said.push(format!("{code} shows on the ledger"));
        }
        for code in was.difference(&is) {
            said.push(format!("{code} shows on the ledger no more"));
        }
        for (what, was, is) in [
            ("frames are summed up", before.batch_cadence_s, after.batch_cadence_s),
            ("reads are gathered", before.access_window_s, after.access_window_s),
        ] {
            if was != is {
                said.push(format!("{what} every {is} s instead of every {was} s"));
            }
        }
        if before.retention != after.retention {
            said.push(match after.retention {
                None => "frames of sensors are kept for ever".to_owned(),
                Some(Retention { keep_s, roll_up_s }) => format!(
                    "frames of sensors are let go {} after their batch, and of them stays a roll-up of every {}, while {}",
                    span(keep_s),
                    span(roll_up_s),
                    match before.retention {
                        None => "they are kept for ever today".to_owned(),
                        Some(was) => {
                            format!("today it is {} and every {}", span(was.keep_s), span(was.roll_up_s))
                        }
                    }
                ),
            });
        }
        said
    }
}

/// So many seconds in the largest unit that measures them wholly.
fn span(seconds: u32) -> String {
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let whole = units.into_iter().find(|(_, length)| seconds.is_multiple_of(*length));
    let (unit, length) = whole.unwrap_or(("second", 1));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn refinements(before: &Document, after: &Document) -> Vec<String> {
    let told = |document: &Document| -> BTreeSet<String> {
        let one = document.refine.iter();
        one.map(|r| format!("`{}` with `{}` counts as {} records", r.fhir_type, r.having, r.kind)).collect()
    };
    let (was, is) = (told(before), told(after));
    let gone = was.difference(&is).map(|rule| format!("{rule} no more"));
    is.difference(&was).cloned().chain(gone).collect()
}

/// The FHIR types that an entry says.
fn shown_types(policy: &DerivationPolicy) -> BTreeSet<&str> {
    let show = &policy.document.show;
    let listed = policy.kinds.keys().map(String::as_str);
    listed.filter(|name| show.fhir_type && !show.hidden_types.contains(*name)).collect()
}

fn shown_codes(document: &Document) -> BTreeSet<String> {
    let codes = document.show.codes.iter().flat_map(|shown| {
        let of = format!("of `{}` in the category `{}`", shown.fhir_type, shown.category);
        shown.codes.iter().map(move |code| format!("the code `{}|{code}` {of}", shown.system))
    });
    codes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_said_in_words() {
        let old = DerivationPolicy::builtin().unwrap();
        let check = |from: &str, to: &str, expected: &[&str]| {
            let text = DerivationPolicy::builtin_text();
            assert!(text.contains(from), "{from}");
            let new = DerivationPolicy::parse(&text.replacen(from, to, 1)).unwrap();
            assert_eq!(old.changes(&new), expected, "{from} -> {to}");
        };
        check("version = 1", "# Nothing else.\nversion = 1", &[]);
        check(
            "essential = [",
            "essential = [\"Coverage\",",
            &["`Coverage` becomes essential: encrypted copies of it are kept in the vaults"],
        );
        check(
            "    \"8867-4\",",
            "    ",
            &[
                "the code `http://loinc.org|8867-4` of `Observation` in the category `vital-signs` shows on the ledger no more",
            ],
        );
        check("hidden_types = [\"Flag\", ", "hidden_types = [", &["the type `Flag` shows on the ledger"]);
        check("batch_cadence_s = 5", "batch_cadence_s = 9", &["frames are summed up every 9 s instead of every 5 s"]);
        let at_the_end = "\n[retention]\nkeep_s = 7776000\nroll_up_s = 60\n";
        let new = DerivationPolicy::parse(&format!("{}{at_the_end}", DerivationPolicy::builtin_text())).unwrap();
        let said = "frames of sensors are let go 90 days after their batch, and of them stays a roll-up of every 1 minute, while they are \
                    kept for ever today";
        assert_eq!(old.changes(&new), [said]);
        assert_eq!(new.changes(&old), ["frames of sensors are kept for ever"]);
        let shorter = at_the_end.replace("7776000", "36000").replace("60\n", "90\n");
        let shorter = DerivationPolicy::parse(&format!("{}{shorter}", DerivationPolicy::builtin_text())).unwrap();
        let said = "frames of sensors are let go 10 hours after their batch, and of them stays a roll-up of every 90 seconds, while today \
                    it is 90 days and every 1 minute";
        assert_eq!(new.changes(&shorter), [said]);
        check(
            "having = \"derivedFrom\"",
            "having = \"method\"",
            &[
                "`Observation` with `method` counts as analytics records",
                "`Observation` with `derivedFrom` counts as analytics records no more",
            ],
        );
        check(
            "    \"Invoice\",\n",
            "",
            &[
                "`Invoice` moves from claims to medical-service records, and who may see it with it",
                "the type `Invoice` shows on the ledger no more",
            ],
        );
        assert_eq!(old.record_types("Observation"), [RecordType::Sensed, RecordType::Analytics]);
        assert_eq!(old.record_types("Claim"), [RecordType::Claims]);
    }
}

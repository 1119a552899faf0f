//! What changes between two derivation policies, in words.

use super::{DerivationPolicy, Document};
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
        said
    }
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

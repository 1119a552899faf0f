//! Which records are sensitive: categories by the codes that a record has, and how confidential each makes it.
//!
//! The rules stand in `policies/sensitivity.toml`. What they say of a record is a fact beside it, never in its bytes, and the stricter of
//! the two labels counts.

use record::fhir::Confidentiality;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeSet, sync::OnceLock};

/// The longest file of rules, in bytes.
pub const SENSITIVITY_BYTES_MAX: usize = 256 * 1024;

const BUILTIN: &str = include_str!("../../../policies/sensitivity.toml");
/// The code system of categories.
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// The rules.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// FHIR types that are never sensitive by their codes.
    #[serde(default)]
    except: BTreeSet<String>,
    #[serde(default)]
    category: Vec<Category>,
    /// Every code that is listed whole, and the beginnings of the others by their first character, for a first look.
    #[serde(skip)]
    whole: BTreeSet<String>,
    #[serde(skip)]
    begins: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Category {
    code: String,
    says: String,
    label: String,
    source: String,
    codes: Vec<Codes>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    systems: Vec<String>,
    #[serde(default)]
    whole: BTreeSet<String>,
    /// What codes begin with.
    #[serde(default)]
    begin: Vec<String>,
}

/// Why a text is no file of rules. Its author's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSensitivity {
    /// Longer than [`SENSITIVITY_BYTES_MAX`].
    #[error("a file of sensitive categories has at most {SENSITIVITY_BYTES_MAX} bytes")]
    Bounds,
    /// Not TOML, or not these keys.
    #[error("{0}")]
    Malformed(String),
    /// A category twice, without a source, or with another label than R or V.
    #[error("category `{0}` must stand there once, with a source and the label R or V")]
    Category(String),
}

/// What the rules say of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sensitive {
    /// Codes of HL7 v3 ActCode, in order.
    pub categories: Vec<String>,
    /// The strictest label of these; none when there are none.
    pub label: Option<Confidentiality>,
}

impl Sensitivity {
    /// The rules that this program comes with.
    pub fn builtin() -> &'static Self {
        static RULES: OnceLock<Sensitivity> = OnceLock::new();
        // A test reads the file: it is never empty for being wrong.
        RULES.get_or_init(|| Self::parse(BUILTIN).unwrap_or_default())
    }

    /// Reads a file of rules.
    pub fn parse(text: &str) -> Result<Self, BadSensitivity> {
        if text.len() > SENSITIVITY_BYTES_MAX {
            return Err(BadSensitivity::Bounds);
        }
        let mut rules: Self = toml::from_str(text).map_err(|e| BadSensitivity::Malformed(e.message().to_owned()))?;
        let mut seen = BTreeSet::new();
        for category in &rules.category {
            let labelled = ["R", "V"].contains(&category.label.as_str());
            let explained = !category.source.is_empty() && !category.says.is_empty();
            if !labelled || !explained || !seen.insert(category.code.as_str()) {
                return Err(BadSensitivity::Category(category.code.clone()));
            }
        }
        let codes = || rules.category.iter().flat_map(|category| &category.codes);
        let whole = codes().flat_map(|codes| codes.whole.iter().cloned()).collect();
        let begins = codes().flat_map(|codes| codes.begin.iter().cloned()).collect();
        // What carries a category as its label is of it as well.
        let names: Vec<String> = rules.category.iter().map(|category| category.code.clone()).collect();
        rules.whole = whole;
        rules.whole.extend(names);
        rules.begins = begins;
        Ok(rules)
    }

    /// Whether there is such a category.
    pub fn has(&self, code: &str) -> bool {
        self.category.iter().any(|category| category.code == code)
    }

    /// Code, name for people, label and source of each category.
    pub fn categories(&self) -> impl Iterator<Item = [&str; 4]> {
        self.category.iter().map(|category| {
            [category.code.as_str(), category.says.as_str(), category.label.as_str(), category.source.as_str()]
        })
    }

    /// What they say of a record.
    pub fn of(&self, fhir_type: &str, resource: &Value) -> Sensitive {
        if self.except.contains(fhir_type) {
            return Sensitive::default();
        }
        let mut found = vec![false; self.category.len()];
        codings(resource, &mut |system, code| {
            for (category, found) in self.category.iter().zip(&mut found) {
                *found |= system == ACT_CODE && code == category.code;
                *found |= category.codes.iter().any(|codes| codes.have(system, code));
            }
        });
        let of =
            |(category, _): (&Category, &bool)| (category.code.clone(), Confidentiality::from_code(&category.label));
        let found = self.category.iter().zip(&found).filter(|(_, found)| **found).map(of);
        let (categories, labels): (Vec<_>, Vec<_>) = found.unzip();
        Sensitive { categories, label: labels.into_iter().flatten().max() }
    }

    /// The same for a record's bytes, which are read only where they hold a code that is listed.
    pub fn of_bytes(&self, fhir_type: &str, bytes: &[u8]) -> Sensitive {
        if self.except.contains(fhir_type) || !self.may_concern(bytes) {
            return Sensitive::default();
        }
        serde_json::from_slice(bytes).map_or_else(|_| Sensitive::default(), |resource| self.of(fhir_type, &resource))
    }

    /// A first look: whether a code that is listed stands anywhere, of whatever system.
    fn may_concern(&self, bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return true };
        // A key or a code that is written with escapes has to be read.
        if text.contains("\\u") {
            return true;
        }
        text.split("\"code\"").skip(1).any(|rest| {
            let value =
                rest.trim_start().strip_prefix(':').map(str::trim_start).and_then(|rest| rest.strip_prefix('"'));
            let code = value.and_then(|value| value.split('"').next());
            code.is_some_and(|code| {
                self.whole.contains(code) || self.begins.iter().any(|begin| code.starts_with(begin.as_str()))
            })
        })
    }
}

impl Codes {
    fn have(&self, system: &str, code: &str) -> bool {
        self.systems.iter().any(|of| of == system)
            && (self.whole.contains(code) || self.begin.iter().any(|begin| code.starts_with(begin.as_str())))
    }
}

/// Calls `each` with system and code of every Coding at any depth.
pub(crate) fn codings(value: &Value, each: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Object(fields) => {
            if let (Some(system), Some(code)) =
                (fields.get("system").and_then(Value::as_str), fields.get("code").and_then(Value::as_str))
            {
                each(system, code);
            }
            fields.values().for_each(|field| codings(field, each));
        }
        Value::Array(items) => items.iter().for_each(|item| codings(item, each)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;

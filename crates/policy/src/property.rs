//! What must hold of any set of policies: requests that are never permitted, or always, each said in a sentence.
//!
//! A property is written as a Cedar policy that describes those requests. A solver shows that a set keeps it, or finds a request by
//! which it does not.

use crate::{LoadError, Policy, load::DOCUMENT_BYTES_MAX, nesting::is_shallow};
use cedar_policy::{PolicyId, PolicySet, ValidationMode, Validator};
use std::str::FromStr;

macro_rules! documents {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../policies/properties/", $name)))),+]
    };
}

/// The list of files with properties in the order of their names: a new one is a file and a line here.
const BUILTIN: &[(&str, &str)] = documents![
    "administration-reads-no-narrative.cedar",
    "audit-trail-is-written-by-nobody.cedar",
    "break-glass-always-leaves-a-review.cedar",
    "compliance-stays-within-its-case.cedar",
    "emergency-never-opens-what-break-glass-opens.cedar",
    "insurer-never-reads-psychotherapy-notes.cedar",
    "nobody-grants-but-the-patient-or-a-delegate.cedar",
    "patients-always-reach-their-own.cedar",
    "refusal-closes-everyday-treatment.cedar",
];

/// How often the requests of a property are permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// None of them.
    Never,
    /// All of them.
    Always,
}

/// One property.
#[derive(Debug, Clone)]
pub struct Property {
    /// Its name.
    pub id: String,
    /// What it says, for people.
    pub says: String,
    /// How often its requests are permitted.
    pub holds: Holds,
    /// One policy that permits just its requests.
    pub requests: PolicySet,
}

impl Property {
    /// Name and text of each file that this program comes with.
    pub fn builtin() -> Vec<(String, String)> {
        BUILTIN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// Reads a file of properties in the words of a set's schema.
    pub fn read(name: &str, text: &str, policy: &Policy) -> Result<Vec<Self>, LoadError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(LoadError::Bounds);
        }
        if !is_shallow(text) {
            return Err(LoadError::Nesting);
        }
        let document = || name.to_owned();
        let parsed =
            PolicySet::from_str(text).map_err(|e| LoadError::Syntax { document: document(), why: e.to_string() })?;
        if parsed.templates().next().is_some() {
            return Err(LoadError::Template(document()));
        }
        let mut all = Vec::new();
        for one in parsed.policies() {
            let annotation = |annotation: &'static str| {
                one.annotation(annotation).ok_or(LoadError::Annotation { document: name.to_owned(), annotation })
            };
            let (id, says) = (annotation("id")?, annotation("says")?);
            let holds = match annotation("holds")? {
                "never" => Holds::Never,
                "always" => Holds::Always,
                _ => return Err(LoadError::Annotation { document: document(), annotation: "holds" }),
            };
            let mut requests = PolicySet::new();
            requests.add(one.new_id(PolicyId::new(id))).map_err(|_| LoadError::SameId(id.to_owned()))?;
            let (_, schema) = policy.cedar();
            let result = Validator::new(schema.clone()).validate(&requests, ValidationMode::Strict);
            if !result.validation_passed_without_warnings() {
                let errors = result.validation_errors().map(ToString::to_string);
                let why: Vec<String> = errors.chain(result.validation_warnings().map(ToString::to_string)).collect();
                return Err(LoadError::Invalid(format!("`{name}`: {}", why.join("; "))));
            }
            all.push(Self { id: id.to_owned(), says: says.to_owned(), holds, requests });
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_properties_are_every_file_of_the_folder_and_fit_the_schema() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/properties");
        let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = names.collect();
        files.sort();
        assert_eq!(files, BUILTIN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let policy = Policy::builtin().unwrap();
        let mut ids = Vec::new();
        for (name, text) in Property::builtin() {
            ids.extend(Property::read(&name, &text, &policy).unwrap().into_iter().map(|property| property.id));
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), count), (10, 10));
    }

    #[test]
    fn a_property_that_is_wrong_is_refused() {
        let policy = Policy::builtin().unwrap();
        let refused = |text: &str| Property::read("p", text, &policy).err().map(|e| e.to_string()).unwrap_or_default();
        let good =
            "@id(\"a\") @says(\"b\") @holds(\"never\") permit (principal, action == Action::\"Read\", resource);";
        assert_eq!(refused(good), "");
        assert_eq!(refused(&good.replace("@says(\"b\")", "")), "a policy in `p` has no `@says`");
        assert_eq!(refused(&good.replace("never", "often")), "a policy in `p` has no `@holds`");
        assert!(refused(&good.replace("Read", "Reed")).starts_with("the policies do not fit the schema: `p`"));
        assert!(refused("permit (").starts_with("`p` is wrong"));
        assert!(refused(&" ".repeat(DOCUMENT_BYTES_MAX + 1)).starts_with("a set has at most"));
    }
}

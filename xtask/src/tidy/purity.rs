//! Pure crates stay pure, and the consensus engine stays behind the ledger.

use super::{
    Checked, Finding, counted,
    rust::{code, is_word, line_of, without_tests, word_at},
    sources::Sources,
};
use std::collections::BTreeSet;

/// Crates that do no I/O, read no clock, spawn nothing and draw nothing at random.
const PURE: [&str; 6] = ["record", "sensing", "analytics", "policy", "contract", "evidence"];

/// What a pure crate does not name outside of tests. Of `std::net` the sockets: addresses are plain values.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::SystemTime",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "tokio",
    "getrandom",
    "OsRng",
    "SysRng",
    "ThreadRng",
];
/// The one that may name `rand`: batch verification of signatures asks for a generator, and gets one with a fixed seed.
const RAND: (&str, &str) = ("rand", "evidence");

/// Crates that may name the engine: the ledger and its simulation, and evidence for the engine's own verifiers.
const ENGINE_CRATES: [&str; 3] = ["crates/ledger/", "crates/evidence/", "sim/"];
const ENGINE: &str = concat!("common", "ware");

pub(super) fn check(sources: &Sources) -> Checked {
    let tests: BTreeSet<String> =
        sources.ending(".rs").flat_map(|file| test_modules(&file.path, &code(&file.text))).collect();
    let mut findings = Vec::new();
    let (mut pure, mut kept_out) = (0, 0);
    for file in sources.ending(".rs") {
        let code = code(&file.text);
        if let Some(name) = pure_crate(&file.path).filter(|_| !tests.iter().any(|module| in_module(&file.path, module)))
        {
            pure += 1;
            findings.extend(impure(name, &file.path, &without_tests(&code)));
        }
        if !may_name_the_engine(&file.path) {
            kept_out += 1;
            findings.extend(code.find(ENGINE).map(|at| engine(&file.path, line_of(&code, at))));
        }
    }
    for file in sources.ending("/Cargo.toml").filter(|file| !may_name_the_engine(&file.path)) {
        kept_out += 1;
        findings.extend(file.text.find(ENGINE).map(|at| engine(&file.path, line_of(&file.text, at))));
    }
    Checked {
        findings,
        seen: format!("{} of pure crates, {} without the engine", counted(pure, "file"), counted(kept_out, "file")),
    }
}

/// The pure crate that a file belongs to. Its `tests/` folder beside `src/` may do as it likes.
fn pure_crate(path: &str) -> Option<&'static str> {
    let (name, _) = path.strip_prefix("crates/")?.split_once("/src/")?;
    PURE.into_iter().find(|pure| *pure == name)
}

/// Modules that the file at `path` declares for tests only, each as its path without `.rs`.
fn test_modules(path: &str, code: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let roots = ["/lib", "/main", "/mod"];
    let folder = roots.iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem);
    let declared = code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let rest = rest.trim_start();
        let name = rest.strip_prefix("pub(crate) ").unwrap_or(rest).strip_prefix("mod ")?.split(';').next()?.trim();
        name.bytes().all(is_word).then(|| format!("{folder}/{name}"))
    });
    declared.collect()
}

fn in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn may_name_the_engine(path: &str) -> bool {
    ENGINE_CRATES.iter().any(|folder| path.starts_with(folder))
}

fn engine(path: &str, line: usize) -> Finding {
    Finding::new(
        path,
        line,
        "names the consensus engine: only `ledger`, `evidence` and `sim` do; go through their types",
    )
}

fn impure(name: &str, path: &str, code: &str) -> Vec<Finding> {
    let told = |at: usize, word: &str| {
        Finding::new(
            path,
            line_of(code, at),
            format!("`{word}` in the pure crate `{name}`: let the caller do it and pass the result"),
        )
    };
    let mut findings = Vec::new();
    for word in IMPURE.iter().copied().chain((name != RAND.1).then_some(RAND.0)) {
        // `std::time::SystemTime` is told once, as itself.
        if word == "SystemTime" && word_at(code, "std::time::SystemTime").is_some() {
            continue;
        }
        findings.extend(word_at(code, word).map(|at| told(at, word)));
    }
    for (at, path) in grouped(code) {
        let word = IMPURE.iter().find(|word| path == **word || path.starts_with(&format!("{word}::")));
        findings.extend(word.map(|word| told(at, word)));
    }
    findings
}

/// Paths of grouped imports from `std`, such as `std::{fs, time::{Duration, Instant}}`, each with where it stands.
fn grouped(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("std::") {
        let mut at = start + "std::".len();
        // Prefixes of the open braces; the last is the one that the next name continues.
        let mut prefixes: Vec<String> = Vec::new();
        let mut path = "std::".to_owned();
        for c in code[at..].chars() {
            match c {
                '{' => prefixes.push(path.clone()),
                ',' | '}' | ';' => {
                    if !prefixes.is_empty() {
                        paths.push((at, path.clone()));
                    }
                    if c == '}' {
                        prefixes.pop();
                    }
                    let Some(prefix) = prefixes.last() else { break };
                    path.clone_from(prefix);
                }
                c if c.is_whitespace() => {}
                c if c.is_alphanumeric() || c == '_' || c == ':' || c == '*' => path.push(c),
                _ => break,
            }
            at += c.len_utf8();
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_one(path: &str, text: &str, expected: &[&str]) {
        check(&Sources::of(&[(path, text)])).assert_told(expected);
    }

    #[test]
    fn input_output_clocks_and_chance_are_found_in_pure_crates() {
        check_one("crates/record/src/a.rs", "\nfn a() { std::fs::read(p); }", &["a.rs:2: `std::fs`"]);
        check_one("crates/record/src/a.rs", "use std::{fmt, fs};", &["`std::fs`"]);
        check_one(
            "crates/record/src/a.rs",
            "use std::{\n  fmt,\n  time::{Duration, Instant},\n};",
            &["a.rs:3: `std::time::Instant`"],
        );
        check_one("crates/contract/src/a.rs", "use std::time::SystemTime;", &["`std::time::SystemTime`"]);
        check_one("crates/policy/src/a.rs", "let now = jiff::Timestamp::now();", &["`Timestamp::now`"]);
        check_one("crates/policy/src/a.rs", "use std::net::{IpAddr, TcpStream};", &["`TcpStream`"]);
        check_one("crates/contract/src/a.rs", "use rand::Rng;", &["`rand`"]);
        check_one("crates/evidence/src/a.rs", "use rand::rngs::StdRng;", &[]);
        check_one("crates/evidence/src/a.rs", "use rand::rngs::SysRng;", &["`SysRng`"]);
    }

    #[test]
    fn names_that_only_look_alike_tests_comments_and_other_crates_are_left_alone() {
        check_one(
            "crates/record/src/a.rs",
            "struct BadInstant; // std::fs\nuse std::{fmt, net::IpAddr, str::FromStr};",
            &[],
        );
        check_one("crates/record/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }", &[]);
        check_one("crates/record/tests/a.rs", "use std::fs;", &[]);
        check_one("crates/store/src/a.rs", "use std::fs;", &[]);
    }

    #[test]
    fn modules_that_are_compiled_for_tests_only_do_as_they_like() {
        let files = [
            ("crates/policy/src/lib.rs", "#[cfg(test)]\nmod cases;\nmod decide;"),
            ("crates/policy/src/cases.rs", "use std::fs;"),
            ("crates/policy/src/cases/more.rs", "use std::fs;"),
            ("crates/policy/src/decide.rs", "#[cfg(test)]\nmod tests;"),
            ("crates/policy/src/decide/tests.rs", "use std::fs;"),
        ];
        check(&Sources::of(&files)).assert_told(&[]);
        check_one("crates/policy/src/cases.rs", "use std::fs;", &["`std::fs`"]);
    }

    #[test]
    fn the_engine_is_named_by_those_who_may_only() {
        let import = format!("use {ENGINE}_codec::Read;");
        check_one("crates/gateway/src/a.rs", &import, &["names the consensus engine"]);
        check_one("crates/ledger/src/a.rs", &import, &[]);
        check_one("sim/src/a.rs", &import, &[]);
        check_one(
            "crates/gateway/Cargo.toml",
            &format!("{ENGINE}-codec.workspace = true"),
            &["names the consensus engine"],
        );
        check_one("Cargo.toml", &format!("{ENGINE}-codec = \"1\""), &[]);
    }
}

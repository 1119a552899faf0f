//! Words that do not belong into the project: unfinished work, skipped tests, and places on somebody's machine or network.

use super::{
    Checked, Finding, counted,
    rust::{code, line_of},
    sources::Sources,
};

/// Looked for in Rust code, comments and literals not counted.
const IN_CODE: [(&str, &str); 3] = [
    (concat!("todo", "!"), "unfinished work: finish it or leave it out"),
    (concat!("unimplemented", "!"), "unfinished work: finish it or leave it out"),
    (concat!("#[", "ignore"), "a test that never runs: make it run or remove it"),
];

/// Looked for everywhere but in lock files.
const ANYWHERE: [(&str, &str); 6] = [
    (concat!("FIX", "ME"), "a note to oneself: do it, or write it where plans are kept"),
    (concat!("/wo", "rk/"), "a path of one machine: use a path relative to the project, or a variable"),
    (concat!("crates", ".io"), "the address of a registry: cargo knows it"),
    (concat!("registry.", "npmjs"), "the address of a registry: npm knows it"),
    (concat!("py", "pi.org"), "the address of a registry: leave it to the tool"),
    (concat!("deb.", "debian.org"), "the address of a mirror: apt knows it"),
];

/// Written by tools, with addresses that belong there.
const LOCKS: [&str; 2] = ["Cargo.lock", "package-lock.json"];

pub(super) fn check(sources: &Sources) -> Checked {
    let is_lock = |path: &str| LOCKS.iter().any(|lock| path == *lock || path.ends_with(&format!("/{lock}")));
    let mut findings = Vec::new();
    let (mut files, mut locks) = (0, 0);
    for file in &sources.files {
        if is_lock(&file.path) {
            locks += 1;
            continue;
        }
        files += 1;
        find(&file.path, &file.text, &ANYWHERE, &mut findings);
        if file.path.ends_with(".rs") {
            find(&file.path, &code(&file.text), &IN_CODE, &mut findings);
        }
    }
    Checked { findings, seen: format!("{}, without {}", counted(files, "file"), counted(locks, "lock file")) }
}

fn find(path: &str, text: &str, words: &[(&str, &str)], findings: &mut Vec<Finding>) {
    for (word, remedy) in words {
        findings.extend(
            text.match_indices(word)
                .map(|(at, _)| Finding::new(path, line_of(text, at), format!("`{word}`: {remedy}"))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_one(path: &str, text: &str, expected: &[&str]) {
        check(&Sources::of(&[(path, text)])).assert_told(expected);
    }

    #[test]
    fn unfinished_code_and_skipped_tests_are_found_in_code_only() {
        check_one("a.rs", &format!("fn a() {{\n    {}()\n}}", IN_CODE[0].0), &["a.rs:2: `todo!`"]);
        check_one("a.rs", &format!("{}]\nfn a() {{}}", IN_CODE[2].0), &["a.rs:1:"]);
        check_one("a.rs", &format!("// no {} here\n", IN_CODE[0].0), &[]);
    }

    #[test]
    fn places_of_one_machine_are_found_everywhere_but_in_lock_files() {
        let path = format!("one\nsee {}main\n", ANYWHERE[1].0);
        check_one("docs/a.md", &path, &["docs/a.md:2:"]);
        check_one("a.rs", &format!("// {path}"), &["a.rs:2:"]);
        check_one("Cargo.lock", ANYWHERE[2].0, &[]);
        check_one("web/package-lock.json", ANYWHERE[3].0, &[]);
    }
}

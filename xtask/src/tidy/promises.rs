//! Every promise in SPECIFICATION.md has a number of its own and names the test that holds it, or says that it is pending.

use super::{Checked, Finding, counted, sources::Sources};
use std::collections::BTreeSet;

const PAGE: &str = "SPECIFICATION.md";
/// How a promise without a test says so.
const PENDING: &str = "test pending";

/// One list item `- **P-7** text Held by `crate::test_name`.`
struct Promise<'a> {
    number: u32,
    line: usize,
    text: Vec<&'a str>,
}

pub(super) fn check(sources: &Sources) -> Checked {
    let Some(page) = sources.text(PAGE) else {
        return Checked { findings: vec![Finding::new(PAGE, 1, "is missing: write it")], seen: "no promises".into() };
    };
    let tests = test_names(sources);
    let promises = promises(page);
    let mut findings = Vec::new();
    let mut pending = 0;
    let mut last = 0;
    for promise in &promises {
        let number = promise.number;
        let mut tell = |what: String| findings.push(Finding::new(PAGE, promise.line, format!("P-{number} {what}")));
        if number <= last {
            tell(format!("comes after P-{last}: number promises in order, each once"));
        }
        last = last.max(number);
        let text = promise.text.join(" ");
        match text.split_once("Held by ") {
            _ if text.contains(PENDING) => pending += 1,
            None => tell(format!("names no test: end it with «Held by `crate::test_name`.», or with «{PENDING}»")),
            Some((_, names)) => {
                let named: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
                if named.is_empty() {
                    tell("names no test after «Held by»: name it in backticks".into());
                }
                for name in named.iter().filter(|name| !tests.contains(**name)) {
                    tell(format!("names the test `{name}`, which is not in the sources: name the one that holds it"));
                }
            }
        }
    }
    if promises.is_empty() {
        findings.push(Finding::new(PAGE, 1, "has no promises: write them as `- **P-1** ...`"));
    }
    Checked {
        findings,
        seen: format!(
            "{}, of them {pending} pending, {}",
            counted(promises.len(), "promise"),
            counted(tests.len(), "test")
        ),
    }
}

fn promises(page: &str) -> Vec<Promise<'_>> {
    let mut promises: Vec<Promise<'_>> = Vec::new();
    let mut open = false;
    for (line, number) in page.lines().zip(1..) {
        let item = line.strip_prefix("- **P-").and_then(|rest| rest.split_once("**"));
        if let Some((digits, text)) = item {
            promises.push(Promise { number: digits.parse().unwrap_or(0), line: number, text: vec![text] });
            open = true;
        } else if open && line.starts_with("  ") {
            promises.last_mut().into_iter().for_each(|promise| promise.text.push(line.trim()));
        } else {
            open = false;
        }
    }
    promises
}

/// Functions under a test attribute, as `crate::name`; those inside `proptest!` carry one too.
fn test_names(sources: &Sources) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources.ending(".rs") {
        let crate_name = crate_name(&file.path);
        let mut marked = false;
        for line in file.text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            }
            let function = ["fn ", "async fn "].iter().find_map(|start| line.strip_prefix(start));
            if let Some(rest) = function {
                if marked {
                    names.extend(rest.split(['(', '<']).next().map(|name| format!("{crate_name}::{name}")));
                }
                marked = false;
            }
        }
    }
    names
}

/// The folder of a crate is called as the crate.
fn crate_name(path: &str) -> &str {
    path.strip_prefix("crates/").unwrap_or(path).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str =
        "#[test]\n#[cfg(unix)]\nfn it_holds() {}\nfn no_test() {}\n    #[tokio::test]\n    async fn it_waits() {}\n";

    #[track_caller]
    fn check_page(page: &str, expected: &[&str]) {
        check(&Sources::of(&[(PAGE, page), ("crates/ledger/src/a.rs", TESTS)])).assert_told(expected);
    }

    #[test]
    fn promises_are_held_by_tests_that_exist_or_pending() {
        check_page(
            "- **P-1** One.\n  Held by `ledger::it_holds`, `ledger::it_waits`.\n- **P-2** Two: test pending.\n",
            &[],
        );
        check_page("- **P-1** One. Held by `ledger::it_hold`.\n", &[":1: P-1 names the test `ledger::it_hold`"]);
        check_page("- **P-1** One. Held by `ledger::no_test`.\n", &["which is not in the sources"]);
        check_page("- **P-1** One. Held by `store::it_holds`.\n", &["which is not in the sources"]);
        check_page("- **P-1** One.\n", &["names no test"]);
        check_page("- **P-1** One. Held by faith.\n", &["name it in backticks"]);
    }

    #[test]
    fn numbers_are_used_once_and_in_order() {
        let page = "- **P-1** One. Held by `ledger::it_holds`.\n\n- **P-1** Again. Held by `ledger::it_holds`.\n";
        check_page(page, &[":3: P-1 comes after P-1"]);
        check_page("Nothing promised.\n", &["has no promises"]);
    }
}

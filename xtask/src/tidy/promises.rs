//! Every promise in SPECIFICATION.md has a number of its own and names the test that holds it, or says that it is pending.

use super::{Checked, Finding, counted, sources::Sources};
use std::collections::BTreeSet;

const PAGE: &str = "SPECIFICATION.md";
/// How a promise without a test says so.
const PENDING: &str = "test pending";

/// Where the tests of the second verifier stand.
const WEB_TESTS: &str = "web/verify/src/tests/";

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

/// How the list of functions begins that a macro makes a test of for every database.
const SUITE: &str = "on_every_database! {";

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

/// Functions under a test attribute, as `crate::name`; those inside `proptest!` carry one too, and [`SUITE`] names others. Tests of Node as `web::name`, where each
/// run of other characters than letters and digits in their title is a `_`.
fn test_names(sources: &Sources) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources.ending(".test.ts").filter(|file| file.path.starts_with(WEB_TESTS)) {
        let titles = file.text.lines().filter_map(|line| line.strip_prefix("test(\"")?.split('"').next());
        names.extend(titles.map(|title| {
            let words: Vec<&str> =
                title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            format!("web::{}", words.join("_"))
        }));
    }
    for file in sources.ending(".rs") {
        let crate_name = crate_name(&file.path);
        let mut marked = false;
        let mut in_suite = false;
        for line in file.text.lines().map(str::trim) {
            in_suite = if in_suite { line != "}" } else { line == SUITE };
            if let Some((_, name)) = line.trim_end_matches(',').rsplit_once("::").filter(|_| in_suite) {
                names.insert(format!("{crate_name}::{name}"));
            }
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

    const LISTED: &str = "on_every_database! {\n    suite::it_holds_everywhere,\n}\nuse suite::it_is_no_test,\n";

    const WEB: &str = "test(\"it holds, also in `TypeScript`\", () => {\n  // test(\"no test\")\n});\n";

    #[track_caller]
    fn check_page(page: &str, expected: &[&str]) {
        let files = [
            (PAGE, page),
            ("crates/ledger/src/a.rs", TESTS),
            ("crates/store/tests/main.rs", LISTED),
            ("web/verify/src/tests/a.test.ts", WEB),
            ("web/other/a.test.ts", "test(\"it is elsewhere\", () => {});\n"),
        ];
        check(&Sources::of(&files)).assert_told(expected);
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
    fn tests_of_the_second_verifier_are_named_by_their_titles() {
        check_page("- **P-1** One. Held by `web::it_holds_also_in_TypeScript`.\n", &[]);
        for name in ["web::it_holds", "web::no_test", "web::it_is_elsewhere", "verify::it_holds_also_in_TypeScript"] {
            check_page(&format!("- **P-1** One. Held by `{name}`.\n"), &["which is not in the sources"]);
        }
    }

    #[test]
    fn tests_that_are_made_for_every_database_are_named_as_the_function() {
        check_page("- **P-1** One. Held by `store::it_holds_everywhere`.\n", &[]);
        for name in ["store::it_is_no_test", "ledger::it_holds_everywhere"] {
            check_page(&format!("- **P-1** One. Held by `{name}`.\n"), &["which is not in the sources"]);
        }
    }

    #[test]
    fn numbers_are_used_once_and_in_order() {
        let page = "- **P-1** One. Held by `ledger::it_holds`.\n\n- **P-1** Again. Held by `ledger::it_holds`.\n";
        check_page(page, &[":3: P-1 comes after P-1"]);
        check_page("Nothing promised.\n", &["has no promises"]);
    }
}

//! What failed tests printed, kept until the end: whoever reads only the last lines of a long run learns which test it was, and why.

use std::collections::VecDeque;

/// How many of the last lines of a failed test are kept: a panic comes at the end.
const LINES: usize = 40;
/// How many failed tests are kept with what they printed.
const TESTS: usize = 20;

/// Reads the output of cargo's test harness line by line.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// In the part that shows what failed tests printed.
    open: bool,
    found: Vec<Failure>,
}

/// One failed test.
#[derive(Debug)]
struct Failure {
    name: String,
    lines: VecDeque<String>,
}

impl Failures {
    pub(crate) fn read(&mut self, line: &str) {
        if line == "failures:" {
            // The second time it heads the list of names.
            self.open = !self.open;
        } else if line.starts_with("test result: ") {
            self.open = false;
        } else if self.open {
            let name = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
            match (name, self.found.last_mut()) {
                (Some(name), _) => self.found.push(Failure { name: name.to_owned(), lines: VecDeque::new() }),
                (None, Some(failure)) => {
                    if failure.lines.len() == LINES {
                        failure.lines.pop_front();
                    }
                    failure.lines.push_back(line.to_owned());
                }
                (None, None) => {}
            }
        }
    }

    /// The failed tests, each with its last lines.
    pub(crate) fn told(self) -> Vec<String> {
        let more = self.found.len().saturating_sub(TESTS);
        let mut told = Vec::new();
        for failure in self.found.into_iter().take(TESTS) {
            told.push(format!("FAILED: {}", failure.name));
            told.extend(failure.lines.into_iter().filter(|line| !line.is_empty()).map(|line| format!("  {line}")));
        }
        if more > 0 {
            told.push(format!("{more} more tests failed, see above"));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_told_with_its_last_lines_and_a_good_one_is_not() {
        let mut failures = Failures::default();
        let output = "running 2 tests\ntest good ... ok\ntest bad ... FAILED\n\nsuccesses:\n\n---- good stdout ----\nfine\n\n\nsuccesses:\n    good\n\n\
                      failures:\n\n---- bad stdout ----\nfirst\nassertion failed\n\n\nfailures:\n    bad\n\ntest result: FAILED. 1 passed; 1 failed";
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(failures.told(), ["FAILED: bad", "  first", "  assertion failed"]);
    }

    #[test]
    fn a_long_story_is_told_from_its_end() {
        let mut failures = Failures::default();
        failures.read("failures:");
        failures.read("---- bad stdout ----");
        (0..100).for_each(|number| failures.read(&number.to_string()));
        let told = failures.told();
        assert_eq!((told.len(), told[1].as_str(), told[40].as_str()), (41, "  60", "  99"));
    }
}

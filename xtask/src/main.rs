//! The project's own chores: `cargo xtask tidy | test | demo | sim | mutants | fuzz | rival | definitions | help`.

mod failures;
mod packages;
mod run;

mod broker;
mod clients;
mod definitions;
mod demo;
mod fuzz;
mod mutants;
mod oracle;
mod rival;
mod sim;
mod site;
mod test;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

const HELP: &str = "\
cargo xtask demo [-- ARGUMENTS]   build `vitaltrace` and play the accident on four organisations; ARGUMENTS go to `vitaltrace demo`
cargo xtask test                  everything that must hold before a change lands: format, lints, tidy, documentation, tests, web, oracle, receipts, clients, demo
cargo xtask test STAGE...         only these stages: format, lints, tidy, docs, tests, web, oracle, receipts, clients, demo, demo-shared
cargo xtask sim [--seeds N] [--first S] [--jobs J]
                                  N seeds (20) from S (1) on, each a simulated consortium with its own faults and load; a failing seed is named and repeats itself
cargo xtask mutants [--count N] [--seed S] [--jobs J]
                                  N mutants of evidence (100000), on which the two verifiers must agree; a file of them on which they do not stays, and is named
cargo xtask fuzz admit|contract [--runs N] [--jobs J]
                                  N inputs (10000000) of libFuzzer's making for what decodes bytes from outside, with the nightly compiler and cargo-fuzz
cargo xtask rival [--patients N] [--seconds S] [--json FILE]
                                  the same load on another FHIR server with its defaults, `helios-hfs` on SQLite, and on four organisations of ours with everything on,
                                  one after the other and side by side; installs it once, which takes 35 to 45 minutes of processor time
cargo xtask definitions [--check] writes the tables of FHIR R4's elements and search parameters anew from the published definitions, which it
                                  fetches; --check only tells whether they are what would be written
cargo xtask tidy                  the house rules alone, in a second
cargo xtask help                  this text

The web stage of `test`, and `mutants`, need Node 20 or later, and fetch two libraries and a compiler for the second verifier. The oracle stage needs
Node as well, and fetches FHIR R4's definitions and an evaluator of its expressions. The receipts
stage needs Python 3, and fetches a package that checks receipts; without them it is skipped, unless CI is set. The clients stage
needs both, and fetches the clients of others that `clients/` has scripts for; without them it fails.

The oracle and demo stages of `test` also run on shared test data where there is any: in the folder that VITALTRACE_SHARED names, or in
`../shared/data` beside the project.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("tidy") if rest.is_empty() => tidy::tidy(&root()).map(code),
        Some("test") => test::test(&root(), rest).map(code),
        Some("definitions") => definitions::definitions(&root(), rest).map(code),
        Some("sim") => sim::sim(&root(), rest).map(code),
        Some("mutants") => mutants::mutants(&root(), rest).map(code),
        Some("fuzz") => fuzz::fuzz(&root(), rest).map(code),
        Some("rival") => rival::rival(&root(), rest).map(code),
        Some("demo") => demo::demo(&root(), rest),
        None | Some("help" | "--help" | "-h") => {
            run::say(HELP);
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            run::say(&format!("xtask: `{}` is no chore of mine\n\n{HELP}", arguments.join(" ")));
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        run::say(&format!("xtask: {error:#}"));
        ExitCode::from(3)
    })
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The project's root folder: the parent of this crate's.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

//! Runs seed after seed on all cores, and says which of them failed and how to see it again.
#![allow(clippy::print_stdout, reason = "a command line program answers on standard output")]

use sim::{Failure, Faults, Outcome, Scenario, simulate};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const HELP: &str = "\
sim [--seeds N] [--first S] [--jobs J]
  N seeds (20) from S (1) on, J at a time (one for each core). Each is a run of four nodes with its own faults, load and adversary.";

/// How often the progress is told.
const TELL: Duration = Duration::from_secs(10);

struct Asked {
    seeds: u64,
    first: u64,
    jobs: u64,
}

#[derive(Default)]
struct Tally {
    runs: u64,
    height: u64,
    entries: u64,
    refused: u64,
    faults: Faults,
    simulated: Duration,
    healed_max: Duration,
    adversaries: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

impl Tally {
    fn add(&mut self, scenario: &Scenario, result: &Result<Outcome, Failure>) {
        self.runs += 1;
        let adversary = scenario.adversary.map_or("none".to_owned(), |(_, adversary)| format!("{adversary:?}"));
        *self.adversaries.entry(adversary).or_default() += 1;
        match result {
            Ok(outcome) => {
                self.height += outcome.height;
                self.entries += outcome.entries;
                self.refused += outcome.refused;
                self.faults += outcome.faults;
                self.simulated += outcome.lasted;
                self.healed_max = self.healed_max.max(outcome.healed);
            }
            Err(_) => self.failed.push(scenario.seed),
        }
    }
}

fn main() -> ExitCode {
    let Some(asked) = read(std::env::args().skip(1)) else {
        println!("{HELP}");
        return ExitCode::from(2);
    };
    // A node that stops because its disk failed is part of the plan, and the others are told of as failures.
    std::panic::set_hook(Box::new(|_| {}));
    let tally = run(&asked);
    let Tally { runs, height, entries, refused, faults, simulated, healed_max, adversaries, failed } = tally;
    println!("{runs} seeds from {} on: {} failed", asked.first, failed.len());
    println!("  {height} blocks, {entries} entries ({refused} of them refused), {} simulated", hours(simulated));
    println!("  {faults}");
    println!("  adversaries: {adversaries:?}");
    println!("  longest from the end of the faults until all was final: {healed_max:?}");
    for seed in &failed {
        println!("FAILED: cargo xtask sim --seeds 1 --first {seed}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn hours(time: Duration) -> String {
    format!("{:.1} hours", time.as_secs_f64() / 3600.0)
}

fn read(mut arguments: impl Iterator<Item = String>) -> Option<Asked> {
    let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    let mut asked = Asked { seeds: 20, first: 1, jobs };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--seeds" => asked.seeds = value,
            "--first" => asked.first = value,
            "--jobs" => asked.jobs = value,
            _ => return None,
        }
    }
    Some(asked)
}

fn run(asked: &Asked) -> Tally {
    let (next, tally) = (AtomicU64::new(0), Mutex::new((Tally::default(), Instant::now())));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs.clamp(1, asked.seeds.max(1)) {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= asked.seeds {
                        return;
                    }
                    let scenario = Scenario::of(asked.first.wrapping_add(nth));
                    if asked.seeds == 1 {
                        println!("{scenario}");
                    }
                    let result = simulate(&scenario);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.0.add(&scenario, &result);
                    match &result {
                        Ok(outcome) if asked.seeds == 1 => println!("{outcome:#?}"),
                        Ok(_) => {}
                        Err(failure) => println!("{scenario}\nFAILED: {failure}"),
                    }
                    if tally.1.elapsed() >= TELL {
                        tally.1 = Instant::now();
                        println!("{} of {} seeds in {:?}", tally.0.runs, asked.seeds, begin.elapsed());
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner).0
}

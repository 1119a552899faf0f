//! `vitaltrace`: the chain of custody for medical data, from the sensor to the claim.

mod bench;
mod client;
mod command;
mod config;
mod cpu;
mod demo;
mod device;
mod hook;
mod http;
mod identity;
mod mqtt;
mod policies;
mod signal;
mod told;

use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A ledger node allocates for every entry several times, on every thread: the system's allocator took a fifth of its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    command::run(command::Cli::parse())
}

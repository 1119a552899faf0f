//! `vitaltrace`: the chain of custody for medical data, from the sensor to the claim.

mod bench;
mod client;
mod command;
mod config;
mod demo;
mod http;
mod issuer;
mod policies;
mod signal;
mod users;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    command::run(command::Cli::parse())
}

//! `vitaltrace bench`: measures on this machine, and prints what it saw. Nothing here decides anything.

mod alarm;
mod fhir;
mod ledger;
mod member;
mod sample;
mod sense;
mod site;
mod verify;
mod workload;

use crate::command::Exit;
use clap::Subcommand;

/// Measures on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Alarm(alarm::Alarm),
    Fhir(fhir::Fhir),
    Ledger(ledger::Ledger),
    Sense(sense::Sense),
    Verify(verify::Verify),
    #[command(hide = true)]
    Member(member::Member),
}

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Alarm(alarm) => alarm.run().await,
            Self::Fhir(fhir) => fhir.run().await,
            Self::Ledger(ledger) => ledger.run().await,
            Self::Sense(sense) => sense.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Member(member) => member.run().await,
        }
    }
}

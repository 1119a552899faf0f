//! `vitaltrace bench`: measures on this machine, and prints what it saw. Nothing here decides anything.

mod alarms;
mod ecg;
mod fhir;
mod ledger;
mod member;
mod sample;
mod sense;
mod verify;
mod workload;

use crate::command::Exit;
use clap::Subcommand;

/// Measures on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Alarms(alarms::Alarms),
    Ecg(ecg::Ecg),
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
            Self::Alarms(alarms) => alarms.run(),
            Self::Ecg(ecg) => ecg.run(),
            Self::Fhir(fhir) => fhir.run().await,
            Self::Ledger(ledger) => ledger.run().await,
            Self::Sense(sense) => sense.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Member(member) => member.run().await,
        }
    }
}

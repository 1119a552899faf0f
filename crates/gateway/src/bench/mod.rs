//! `vitaltrace bench`: measures on this machine, and prints what it saw. Nothing here decides anything.

mod alarm;
mod alarms;
mod decide;
mod ecg;
mod emergency;
mod fhir;
mod gateway;
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
    Alarms(alarms::Alarms),
    Ecg(ecg::Ecg),
    Decide(decide::Decide),
    Emergency(emergency::Emergency),
    AlarmDelay(alarm::Alarm),
    Fhir(fhir::Fhir),
    Ledger(ledger::Ledger),
    Sense(sense::Sense),
    Verify(verify::Verify),
    #[command(hide = true)]
    Gateway(gateway::Gateway),
    #[command(hide = true)]
    Member(member::Member),
}

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Alarms(alarms) => alarms.run(),
            Self::Ecg(ecg) => ecg.run(),
            Self::Decide(decide) => decide.run(),
            Self::Emergency(emergency) => emergency.run().await,
            Self::AlarmDelay(alarm) => alarm.run().await,
            Self::Fhir(fhir) => fhir.run().await,
            Self::Ledger(ledger) => ledger.run().await,
            Self::Sense(sense) => sense.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Gateway(gateway) => gateway.run().await,
            Self::Member(member) => member.run().await,
        }
    }
}

/// The value below which such a share of them lies, which rise; none if there are none.
fn quantile(rising: &[f32], share: f64) -> Option<f64> {
    let last = rising.len().checked_sub(1)?;
    rising.get((last as f64 * share).ceil() as usize).copied().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share)),
            [1.0, 2.0, 4.0, 4.0].map(Some)
        );
    }
}

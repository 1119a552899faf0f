//! One node of a measured consortium that leaves parts of custody out; otherwise `vitaltrace serve`.
//!
//! The measurement starts it, and it starts in no other consortium ([`exchange::Without`]). All its doors are on loopback.

use crate::{
    command::{BadInput, Exit, serve::Serve},
    config::Config,
};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use exchange::{Part, Without};
use std::path::PathBuf;

/// Runs one node without some parts of custody, in a consortium that was founded to be measured.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The organisation's folder.
    #[arg(long)]
    config: PathBuf,
    /// What is left out.
    #[arg(long, required = true, value_delimiter = ',', value_parser = part())]
    without: Vec<Part>,
}

impl Gateway {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = Config::load(&self.config)?;
        let doors = [Some(config.http), config.https.map(|https| https.address)];
        if let Some(open) = doors.into_iter().flatten().find(|door| !door.ip().is_loopback()) {
            return Err(BadInput(format!("`{open}` is open to other machines: nothing is left out there")).into());
        }
        Serve { config: self.config }.run_without(Without::parts(&self.without)).await
    }
}

/// Reads the name of a part.
pub(super) fn part() -> impl TypedValueParser<Value = Part> {
    let names = PossibleValuesParser::new(Part::ALL.map(Part::name));
    names.try_map(|name| Part::ALL.into_iter().find(|part| part.name() == name).ok_or("it is no part of custody"))
}

//! `vitaltrace user` and `vitaltrace token`: people and programs of an organisation.

use super::{BadInput, Connection, Exit, print, tell};
use crate::{
    config::Config,
    identity::{
        drawn,
        issuer::{Bearer, Issuer, Keys},
        users::{New, Users},
    },
};
use anyhow::Context;
use clap::Args;
use exchange::{clock::now, keys::OrgKeys};
use record::Role;
use std::io::BufRead;

/// Adds a user, or gives it a new password and role; closes a login, or opens it again. A running gateway knows at once.
#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(flatten)]
    connection: Connection,
    /// The user's name.
    #[arg(long)]
    name: String,
    /// What it may be: patient, responder, doctor, nurse, administrator, insurer, compliance, custodian, ... The password is read from standard
    /// input, one line.
    #[arg(long, required_unless_present_any = ["close", "reopen"])]
    role: Option<Role>,
    /// For a patient's login: the id of the Patient.
    #[arg(long)]
    patient: Option<String>,
    /// Who the user is in the directory, such as `Practitioner/ana`: apps that are let in are told so.
    #[arg(long)]
    practitioner: Option<String>,
    /// Lets the user in no more: its tokens and the apps that it let in end at once.
    #[arg(long, conflicts_with_all = ["role", "patient", "practitioner", "reopen"])]
    close: bool,
    /// Lets the user in again, with the password that it had.
    #[arg(long, conflicts_with_all = ["role", "patient", "practitioner"])]
    reopen: bool,
}

impl User {
    /// Writes the list of users.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let wrong = |e: anyhow::Error| BadInput(format!("{e:#}"));
        let Some(role) = self.role else {
            Users::close(&config.users, &self.name, self.close, now()).map_err(wrong)?;
            tell(&format!("{} may {}", self.name, if self.close { "log in no more" } else { "log in again" }));
            return Ok(Exit::Good);
        };
        let mut password = String::new();
        std::io::stdin().lock().read_line(&mut password).context("cannot read the password from standard input")?;
        let password = password.trim_end_matches(['\r', '\n']);
        let given = New { role, password, patient: self.patient, practitioner: self.practitioner };
        Users::set(&config.users, &self.name, given, now()).map_err(wrong)?;
        tell(&format!("{} may now log in as {role} with POST /auth/token", self.name));
        Ok(Exit::Good)
    }
}

/// Prints a short-lived token for a user, signed by the organisation's own issuer key.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    connection: Connection,
    /// The user's name, as in the list of users.
    #[arg(long, required_unless_present = "replace_key")]
    name: Option<String>,
    /// Draws another key for tokens instead. Tokens of the key before it are good until they expire; run it twice to end them all.
    #[arg(long, conflicts_with = "name")]
    replace_key: bool,
}

impl Token {
    /// Prints the token.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let Some(name) = self.name else {
            OrgKeys::replace_issuer(&config.keys)?;
            tell("tokens are signed by another key now; a running gateway goes over to it within seconds");
            return Ok(Exit::Good);
        };
        print(&token_of(&config, &name)?);
        Ok(Exit::Good)
    }
}

/// A short-lived token for a user, signed by the organisation's own issuer key.
fn token_of(config: &Config, name: &str) -> anyhow::Result<String> {
    let users = Users::load(&config.users)?;
    let user = users.get(name).filter(|user| !user.is_out());
    let user = user.ok_or_else(|| BadInput(format!("no user is called `{name}`, or its login is closed")))?;
    let keys = OrgKeys::load(&config.keys)?;
    let issuer = Issuer::new(config.org.clone(), config.role, &Keys::of(&keys))?;
    let bearer = Bearer { sid: Some(drawn()?), ..Bearer::user(name, user.role, user.patient.clone()) };
    issuer.issue(bearer, user.let_in_at(now()))
}

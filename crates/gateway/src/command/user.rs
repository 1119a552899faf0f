//! `vitaltrace user` and `vitaltrace token`: people and programs of an organisation.

use super::{BadInput, Connection, Exit, print, tell};
use crate::{issuer::Issuer, users::Users};
use anyhow::Context;
use clap::Args;
use exchange::{clock::now, keys::OrgKeys};
use record::Role;
use std::io::BufRead;

/// Adds a user, or gives it a new password and role. The password is read from standard input, one line.
#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(flatten)]
    connection: Connection,
    /// The user's name.
    #[arg(long)]
    name: String,
    /// What it may be: patient, responder, doctor, nurse, administrator, insurer, compliance, custodian, ...
    #[arg(long)]
    role: Role,
    /// For a patient's login: the id of the Patient.
    #[arg(long)]
    patient: Option<String>,
}

impl User {
    /// Writes the list of users.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let mut password = String::new();
        std::io::stdin().lock().read_line(&mut password).context("cannot read the password from standard input")?;
        let password = password.trim_end_matches(['\r', '\n']);
        Users::set(&config.users, &self.name, self.role, password, self.patient)
            .map_err(|e| BadInput(format!("{e:#}")))?;
        tell(&format!("{} may now log in as {} with POST /auth/token", self.name, self.role));
        Ok(Exit::Good)
    }
}

/// Prints a short-lived token for a user, signed by the organisation's own issuer key.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    connection: Connection,
    /// The user's name, as in the list of users.
    #[arg(long)]
    name: String,
}

impl Token {
    /// Prints the token.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let users = Users::load(&config.users)?;
        let user = users.get(&self.name).ok_or_else(|| BadInput(format!("no user is called `{}`", self.name)))?;
        let keys = OrgKeys::load(&config.keys)?;
        let issuer = Issuer::new(config.org.clone(), config.role, &keys.issuer)?;
        print(&issuer.issue(&self.name, user.role, user.patient.clone(), now())?);
        Ok(Exit::Good)
    }
}

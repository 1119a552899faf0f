//! `vitaltrace app`: apps that people let in, and programs that act for themselves.

use super::{BadInput, Connection, Exit, print, tell};
use crate::identity::{
    apps::{self, Apps, Shows},
    apps_beside, drawn, hash,
};
use anyhow::Context;
use clap::{Args, Subcommand};
use exchange::clock::now;
use record::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// Registers apps (SMART on FHIR). A running gateway knows at once.
#[derive(Debug, Subcommand)]
pub(crate) enum App {
    Add(Add),
    Remove(Remove),
    List(List),
    Given(GivenTo),
}

impl App {
    /// Runs the command.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Add(add) => add.run(),
            Self::Remove(remove) => remove.run(),
            Self::List(list) => list.run(),
            Self::Given(given) => given.run().await,
        }
    }
}

/// Registers an app, or registers it anew. A secret that is drawn for it is printed once.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    connection: Connection,
    /// What the app calls itself by: its `client_id`.
    #[arg(long)]
    id: String,
    /// Its name for people.
    #[arg(long)]
    name: String,
    /// Where people are sent back to, exactly. May be said several times.
    #[arg(long)]
    redirect: Vec<String>,
    /// What it may ask for, such as `launch/patient openid fhirUser patient/*.rs`.
    #[arg(long)]
    scope: String,
    /// It shows who it is by a secret, which is drawn.
    #[arg(long, conflicts_with = "jwks")]
    secret: bool,
    /// It shows who it is by what it signs: a file with its public keys (a JWK set).
    #[arg(long)]
    jwks: Option<PathBuf>,
    /// It acts for itself and not for people, in this role (SMART Backend Services).
    #[arg(long)]
    service: Option<Role>,
}

impl Add {
    fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let mut secret = None;
        let shows = match &self.jwks {
            Some(file) => {
                let jwks = fs::read_to_string(file);
                Shows::Keys { jwks: jwks.with_context(|| format!("cannot read `{}`", file.display()))? }
            }
            None if self.secret => {
                let drawn = drawn()?;
                let sha256 = hex::encode(hash(&drawn));
                secret = Some(drawn);
                Shows::Secret { sha256 }
            }
            None => Shows::Nothing {},
        };
        let Self { id, name, redirect: redirects, scope, service, .. } = self;
        let app = apps::App { name, redirects, scope, service, shows, since: 0 };
        Apps::set(&apps_beside(&config.users), &id, app, now().0 / 1000).map_err(|e| BadInput(format!("{e:#}")))?;
        tell(&format!("the app `{id}` is registered"));
        if let Some(secret) = secret {
            print(&secret);
        }
        Ok(Exit::Good)
    }
}

/// Takes an app out of the list: what it was given ends at once.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    connection: Connection,
    /// What the app calls itself by.
    #[arg(long)]
    id: String,
}

impl Remove {
    fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        if !Apps::remove(&apps_beside(&config.users), &self.id)? {
            return Err(BadInput(format!("no app is registered as `{}`", self.id)).into());
        }
        tell(&format!("the app `{}` is registered no more", self.id));
        Ok(Exit::Good)
    }
}

/// Shows which apps a user let in, or ends one of them: its tokens are good no more at once. The gateway must be running.
#[derive(Debug, Args)]
pub(crate) struct GivenTo {
    #[command(flatten)]
    connection: Connection,
    /// The user, as in the list of users.
    #[arg(long)]
    user: String,
    /// The session to end, as it is shown.
    #[arg(long)]
    end: Option<String>,
    /// Print one JSON document.
    #[arg(long, conflicts_with = "end")]
    json: bool,
}

impl GivenTo {
    async fn run(self) -> anyhow::Result<Exit> {
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        if let Some(session) = &self.end {
            let answer = client.post("/account/sessions/end", &json!({"session": session, "user": self.user})).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Err(BadInput(format!("`{}` has let no app in by that session", self.user)).into());
            }
            answer.good()?;
            tell("it is over: the app can do nothing more");
            return Ok(Exit::Good);
        }
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("user", &self.user).finish();
        let all = client.get(&format!("/account/sessions?{query}")).await?.good()?.json()?;
        if self.json {
            print(&all.to_string());
            return Ok(Exit::Good);
        }
        let text = |one: &Value, name: &str| one[name].as_str().unwrap_or("nobody").to_owned();
        for one in all["sessions"].as_array().into_iter().flatten() {
            let [session, app, scope, since, until] =
                ["session", "app", "scope", "since", "until"].map(|name| text(one, name));
            print(&format!("{session}: {app}, since {since}, until {until}; about {}; {scope}", text(one, "patient")));
        }
        Ok(Exit::Good)
    }
}

/// Lists the apps.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self) -> anyhow::Result<Exit> {
        let config = self.connection.config()?;
        let apps = Apps::load(&apps_beside(&config.users))?;
        let mut documents = Vec::new();
        for (id, app) in apps.iter() {
            let shows = match app.shows {
                Shows::Nothing {} => "nothing",
                Shows::Secret { .. } => "secret",
                Shows::Keys { .. } => "keys",
            };
            if self.json {
                documents.push(json!({
                    "id": id, "name": app.name, "redirects": app.redirects, "scope": app.scope, "service": app.service, "shows": shows
                }));
            } else {
                let whose = app.service.map_or("for people".to_owned(), |role| format!("for itself, as {role}"));
                print(&format!("{id}: {}; {whose}; shows who it is by {shows}; {}", app.name, app.scope));
            }
        }
        if self.json {
            print(&json!({"apps": documents}).to_string());
        }
        Ok(Exit::Good)
    }
}

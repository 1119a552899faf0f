//! The command line: one file a subcommand, four exit codes.

pub(crate) mod analyze;
mod app;
mod custody;
mod evidence;
mod finding;
pub(crate) mod init;
mod ledger;
pub(crate) mod load;
mod member;
mod policy;
mod replay;
pub(crate) mod sense;
pub(crate) mod serve;
mod user;

use crate::{
    bench::Bench,
    client::Client,
    config::Config,
    demo::Demo,
    identity::{
        issuer::{Bearer, Issuer, Keys},
        users::OPERATOR,
    },
};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use exchange::{clock::now, keys::OrgKeys};
use record::Role;
use std::{path::PathBuf, process::ExitCode};

/// The chain of custody for medical data, from the sensor to the claim.
#[derive(Debug, Parser)]
#[command(name = "vitaltrace", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(Demo),
    Init(init::Init),
    Genesis(init::MakeGenesis),
    Serve(serve::Serve),
    User(user::User),
    Token(user::Token),
    #[command(subcommand)]
    App(app::App),
    Load(load::Load),
    Sense(sense::Sense),
    Analyze(analyze::Analyze),
    Replay(finding::Replay),
    Prove(evidence::Prove),
    Verify(evidence::Verify),
    Audit(custody::Audit),
    Recover(custody::Recover),
    Erase(custody::Erase),
    #[command(subcommand)]
    Member(member::Member),
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Bench(Bench),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Good.
    Good,
    /// The answer is «no»: tampering found, proof invalid, denied.
    No,
}

/// Wrong usage or bad input, told apart from what broke.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// Runs the command and turns its outcome into an exit code: 0 good, 1 «no», 2 bad input, 3 something broke.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let outcome = runtime().and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Demo(demo) => demo.run().await,
                Command::Init(init) => init.run_command(),
                Command::Genesis(genesis) => genesis.run_command(),
                Command::Serve(serve) => serve.run().await,
                Command::User(user) => user.run(),
                Command::Token(token) => token.run(),
                Command::App(app) => app.run().await,
                Command::Load(load) => load.run().await,
                Command::Sense(sense) => sense.run().await,
                Command::Analyze(analyze) => analyze.run(),
                Command::Replay(replay) => replay.run().await,
                Command::Prove(prove) => prove.run().await,
                Command::Verify(verify) => verify.run(),
                Command::Audit(audit) => audit.run().await,
                Command::Recover(recover) => recover.run().await,
                Command::Erase(erase) => erase.run().await,
                Command::Member(member) => member.run().await,
                Command::Ledger(ledger) => ledger.run().await,
                Command::Policy(policy) => policy.run().await,
                Command::Bench(bench) => bench.run().await,
            }
        })
    });
    match outcome {
        Ok(Exit::Good) => ExitCode::SUCCESS,
        Ok(Exit::No) => ExitCode::from(1),
        Err(error) => {
            tell(&format!("vitaltrace: {error:#}"));
            ExitCode::from(if error.is::<BadInput>() { 2 } else { 3 })
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the asynchronous runtime")
}

/// A line for people, on standard error: standard output holds results only.
pub(crate) fn tell(line: &str) {
    use std::io::Write;
    // A closed terminal is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A result, on standard output.
pub(crate) fn print(line: &str) {
    use std::io::Write;
    // A reader that has seen enough is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Which gateway is asked, and in which form its answer is printed.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// How a command reaches a running gateway, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The configuration of the organisation's node; its gateway must be running.
    #[arg(long, env = "VITALTRACE_CONFIG", default_value = ".")]
    config: PathBuf,
}

impl Connection {
    /// The configuration.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        Config::load(&self.config)
    }

    /// A file beside the configuration.
    pub(crate) fn beside(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = if self.config.is_dir() { Some(self.config.as_path()) } else { self.config.parent() };
        Ok(folder.context("the configuration lies nowhere")?.join(name))
    }

    /// A client as an operator of the given role, by a token that the organisation's own key signs.
    pub(crate) fn operator(&self, role: Role, purpose: &'static str) -> anyhow::Result<Client> {
        let config = self.config()?;
        let keys = OrgKeys::load(&config.keys)?;
        let issuer = Issuer::new(config.org.clone(), config.role, &Keys::of(&keys))?;
        let token = issuer.issue(Bearer { operator: true, ..Bearer::user(OPERATOR, role, None) }, now())?;
        Ok(Client::with_token(&format!("http://{}", config.http), token)?.for_purpose(purpose))
    }

    /// A client without a token, for what the ledger shows to everybody.
    pub(crate) fn anonymous(&self) -> anyhow::Result<Client> {
        Client::with_token(&format!("http://{}", self.config()?.http), String::new())
    }
}

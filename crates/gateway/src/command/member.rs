//! `vitaltrace member`: who the members are; joining, leaving, and other keys.

use super::{Asked, BadInput, Connection, Exit, print, tell};
use crate::client::Answer;
use anyhow::Context;
use clap::{Args, Subcommand};
use contract::Member as Introduction;
use exchange::keys::{KeyError, NextKey, OrgKeys, Replaces, Replacing};
use record::{OrgId, Role};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Who the members are; joining, leaving, and other keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Lists the members, their keys, and who decides.
    List(Asked),
    /// Proposes that an organisation joins; prints the id to vote by.
    ProposeJoin(ProposeJoin),
    /// Proposes that a member is removed; prints the id to vote by.
    ProposeRemoval(ProposeRemoval),
    /// Votes on what was proposed.
    Vote(Vote),
    /// Takes this organisation's seat: its validator decides from the epoch after next.
    Seat(Plain),
    /// Draws a new consensus key and decides by it from the epoch after next: also what a node does that lost its folder.
    RotateKey(Plain),
    /// Signs this organisation's entries by a new key: the running gateway draws it and goes over to it while people write.
    RotateEntryKey(RotateEntryKey),
    /// Tells the members where this organisation's validator is reached, and its wrapping key.
    Move(Move),
    /// Leaves the consortium.
    Leave(Plain),
}

/// No options of its own.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    connection: Connection,
}

/// Who would join.
#[derive(Debug, Args)]
pub(crate) struct ProposeJoin {
    #[command(flatten)]
    connection: Connection,
    /// The `member.json` that `vitaltrace init --joins` wrote for it.
    introduction: PathBuf,
}

/// Who would be removed.
#[derive(Debug, Args)]
pub(crate) struct ProposeRemoval {
    #[command(flatten)]
    connection: Connection,
    /// Its name.
    org: OrgId,
}

/// On what, and how.
#[derive(Debug, Args)]
pub(crate) struct Vote {
    #[command(flatten)]
    connection: Connection,
    /// The id that the proposal printed.
    id: String,
    /// Vote against it.
    #[arg(long)]
    against: bool,
}

/// How far the present key is believed afterwards.
#[derive(Debug, Args)]
pub(crate) struct RotateEntryKey {
    #[command(flatten)]
    connection: Connection,
    /// Somebody else may have the present key: what it signed and only the database has is this organisation's no more.
    #[arg(long)]
    leaked: bool,
}

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    connection: Connection,
    /// The address that the other organisations reach the validator by: `host:port`.
    #[arg(long)]
    address: String,
}

impl Member {
    /// Asks the running gateway.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::List(asked) => return list(asked).await,
            Self::ProposeJoin(join) => {
                let path = join.introduction.display();
                let text = std::fs::read_to_string(&join.introduction)
                    .map_err(|e| BadInput(format!("cannot read `{path}`: {e}")))?;
                let member: Introduction = serde_json::from_str(&text)
                    .map_err(|e| BadInput(format!("`{path}` is no member's introduction: {e}")))?;
                proposed(&join.connection, "/member/join", &serde_json::to_value(member)?).await?;
            }
            Self::ProposeRemoval(removal) => {
                proposed(&removal.connection, "/member/removal", &json!({"org": removal.org})).await?;
            }
            Self::Vote(vote) => {
                let body = json!({"in_favour": !vote.against});
                post(&vote.connection, &format!("/member/{}/vote", vote.id), &body).await?;
                tell("voted; `vitaltrace member list` shows who is a member");
            }
            Self::Seat(plain) => {
                let keys = OrgKeys::load(&plain.connection.config()?.keys)?;
                let key = contract::PublicKey::from(keys.consensus.verifying_key().to_bytes());
                post(&plain.connection, "/member/seat", &json!({"consensus_key": key})).await?;
                tell(
                    "this organisation's validator decides from the epoch after next: `vitaltrace member list` says from which height",
                );
            }
            Self::RotateKey(plain) => {
                rotate_key(&plain.connection).await?;
                tell(
                    "the new key is in place: set `standing = \"later\"` in the configuration and start the node again; it decides from the \
                     epoch after next",
                );
            }
            Self::RotateEntryKey(rotate) => {
                let answer = post(&rotate.connection, "/member/entry-key", &json!({"leaked": rotate.leaked})).await?;
                let from = answer["counts_from"].as_u64().context("the gateway gave no height")?;
                tell(&format!(
                    "entries are signed by the new key from height {from} on, and the older one is gone: back up the whole \
                     folder of keys, entry.older too, without which a lost folder's last writes are nobody's"
                ));
            }
            Self::Move(moved) => {
                let wrap_key = OrgKeys::load(&moved.connection.config()?.keys)?.wrap.to_public().to_string();
                let body = json!({"wrap_key": wrap_key, "address": moved.address});
                post(&moved.connection, "/member/move", &body).await?;
                tell("the members know where this organisation is reached");
            }
            Self::Leave(plain) => {
                post(&plain.connection, "/member/leave", &json!({})).await?;
                tell(
                    "this organisation is a member no more; its validator decides to the end of the next epoch: keep it running until then",
                );
            }
        }
        Ok(Exit::Good)
    }
}

/// Draws a consensus key, or goes on with the one that an earlier attempt drew, and puts it in place once the ledger says that it decides.
async fn rotate_key(connection: &Connection) -> anyhow::Result<()> {
    let folder = connection.config()?.keys;
    let _one = Replacing::begin(&folder, Replaces::Consensus).map_err(|error| match error {
        KeyError::InUse { .. } => anyhow::Error::new(BadInput(error.to_string())),
        error => error.into(),
    })?;
    let mut next = NextKey::draw(&folder, Replaces::Consensus)?;
    let mut answer = ask_for_seat(connection, &next).await?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        // What an earlier attempt drew has had its turn since.
        next = NextKey::draw_another(&folder, Replaces::Consensus)?;
        answer = ask_for_seat(connection, &next).await?;
    }
    answer.good()?;
    next.put_in_place(&folder)?;
    Ok(())
}

async fn ask_for_seat(connection: &Connection, next: &NextKey) -> anyhow::Result<Answer> {
    let client = connection.operator(Role::Custodian, "HSYSADMIN")?;
    client.post("/member/seat", &json!({"consensus_key": next.public_key()})).await
}

async fn post(connection: &Connection, path: &str, body: &Value) -> anyhow::Result<Value> {
    let client = connection.operator(Role::Custodian, "HSYSADMIN")?;
    client.post(path, body).await?.good()?.json()
}

async fn proposed(connection: &Connection, path: &str, body: &Value) -> anyhow::Result<()> {
    let answer = post(connection, path, body).await?;
    let id = answer["id"].as_str().context("the gateway gave no id")?;
    print(id);
    tell(&format!("each member votes, this one too, with `vitaltrace member vote {id}`"));
    Ok(())
}

async fn list(asked: Asked) -> anyhow::Result<Exit> {
    let list = asked.connection.anonymous()?.get("/ledger/members").await?.good()?.json()?;
    if asked.json {
        print(&serde_json::to_string_pretty(&list)?);
        return Ok(Exit::Good);
    }
    print(&format!("epoch {} of {} blocks, {} validators", list["epoch"], list["epoch_blocks"], list["validators"][0]));
    for member in list["members"].as_array().context("the gateway lists no members")? {
        let text = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
        let decides = match (member["decides"].as_bool(), member["decides_from"].as_u64()) {
            (Some(true), _) => "decides".to_owned(),
            (_, Some(height)) => format!("decides from height {height}"),
            _ => "has no seat".to_owned(),
        };
        print(&format!("{} ({}) at {}: {decides}", text("org"), text("role"), text("address")));
    }
    Ok(Exit::Good)
}

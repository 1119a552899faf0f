//! `vitaltrace policy`: policies checked, compared, proposed and voted on.

mod compare;
mod keep;
mod prove;
mod source;

use super::{Asked, BadInput, Connection, Exit, print, tell};
use crate::{client::Answer, policies::Folder};
use anyhow::Context;
use clap::{Args, Subcommand};
use compare::{Compared, compare};
use contract::{DerivationPolicy, PolicyKind};
use keep::{Kept, keeps};
use policy::{Bundle, Cases, Property};
use record::{Digest, Role};
use serde_json::{Value, json};
use source::Source;
use std::path::PathBuf;

/// Checks and compares policies, and puts them before the members.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Validates the policies in a folder, runs their allow and deny cases and proves their properties; without a folder, those of this
    /// program.
    Check(Check),
    /// Says who gains and who loses which access from one policy to another.
    Diff(Diff),
    /// Writes policies into a new folder, to be changed there.
    Export(Export),
    /// Puts the policies in a folder before the members, and votes for them.
    Propose(Propose),
    /// Votes on a proposal, after its difference to the policy in force was shown.
    Vote(Vote),
    /// The policies in force, and every proposal.
    List(Asked),
    /// One proposal, with its difference to the policy in force.
    Show(Show),
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A folder as `policies/` of the source: `access.cedarschema`, `access/*.cedar`, `derivation.toml`, `cases/*.toml`,
    /// `properties/*.cedar`.
    dir: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What to compare. Each is a folder, a file, a digest on the ledger, or `active`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The policy before.
    old: String,
    /// The policy after.
    new: String,
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What to write, and where.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A folder, a file, a digest on the ledger, or `active`.
    what: String,
    /// The folder to make.
    dir: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

/// What to propose, and for when.
#[derive(Debug, Args)]
pub(crate) struct Propose {
    /// A folder with policies; those that are in force already are left out.
    dir: PathBuf,
    /// The height at which they come into force.
    #[arg(long, required_unless_present = "blocks", conflicts_with = "blocks")]
    at: Option<u64>,
    /// How many blocks from now they come into force.
    #[arg(long = "in", value_name = "BLOCKS")]
    blocks: Option<u64>,
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Which proposal, and how.
#[derive(Debug, Args)]
pub(crate) struct Vote {
    /// Digest of the policy.
    digest: Digest,
    /// For or against it.
    vote: Ballot,
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// For or against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ballot {
    /// For it.
    Yes,
    /// Against it.
    No,
}

/// Which proposal.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Digest of the policy.
    digest: Digest,
    #[command(flatten)]
    connection: Connection,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Policy {
    /// Runs the command.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Check(check) => check.run().await,
            Self::Diff(diff) => diff.run().await,
            Self::Export(export) => export.run().await,
            Self::Propose(propose) => propose.run().await,
            Self::Vote(vote) => vote.run().await,
            Self::List(asked) => list(asked).await,
            Self::Show(show) => show.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> anyhow::Result<Exit> {
        let folder = match &self.dir {
            Some(dir) => Folder::read(dir)?,
            None => Folder {
                access: Some(Bundle::builtin()),
                derivation: Some(DerivationPolicy::builtin_text().to_owned()),
                cases: Vec::new(),
                properties: Property::builtin(),
            },
        };
        let (mut documents, mut wrong, mut cases) = (Vec::new(), Vec::new(), 0);
        let mut kept = Kept::default();
        if let Some(bundle) = &folder.access {
            let access = bundle.load().map_err(|e| BadInput(e.to_string()))?;
            let names: Vec<&str> = bundle.documents().iter().map(|(name, _)| name.as_str()).collect();
            documents.push(json!({"kind": "access", "digest": access.digest(), "documents": names}));
            for (name, text) in &folder.cases {
                let table = Cases::parse(text).map_err(|e| BadInput(format!("in `{name}`: {e}")))?;
                cases += table.len();
                wrong.extend(table.wrong(&access).into_iter().map(|line| format!("{name}: {line}")));
            }
            let mut properties = Vec::new();
            for (name, text) in &folder.properties {
                properties.extend(Property::read(name, text, &access).map_err(|e| BadInput(e.to_string()))?);
            }
            kept = keeps(&access, properties).await;
        }
        if let Some(text) = &folder.derivation {
            let derivation = DerivationPolicy::parse(text).map_err(|e| BadInput(e.to_string()))?;
            documents.push(json!({"kind": "derivation", "digest": derivation.digest()}));
        }
        if self.json {
            let report = json!({"policies": documents, "cases": cases, "wrong": wrong, "properties": kept.json()});
            print(&serde_json::to_string_pretty(&report)?);
        } else {
            for document in &documents {
                let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
                print(&format!("{} policy {}: valid", text("kind"), text("digest")));
                for name in document["documents"].as_array().into_iter().flatten() {
                    print(&format!("  {}", name.as_str().unwrap_or_default()));
                }
            }
            wrong.iter().for_each(|line| print(line));
            print(&format!("{cases} cases, {} decided otherwise", wrong.len()));
            kept.lines().iter().for_each(|line| print(line));
        }
        Ok(if wrong.is_empty() && !kept.is_broken() { Exit::Good } else { Exit::No })
    }
}

impl Diff {
    async fn run(self) -> anyhow::Result<Exit> {
        let old = Source::find(&self.old, &self.connection).await?;
        let new = Source::find(&self.new, &self.connection).await?;
        shown(&compare(&old, &new).await?, self.json)?;
        Ok(Exit::Good)
    }
}

impl Export {
    async fn run(self) -> anyhow::Result<Exit> {
        let Source { access, derivation } = Source::find(&self.what, &self.connection).await?;
        Folder { access, derivation, ..Folder::default() }.write(&self.dir)?;
        tell(&format!("compare what you change with `vitaltrace policy diff {} {}`", self.what, self.dir.display()));
        Ok(Exit::Good)
    }
}

impl Propose {
    async fn run(self) -> anyhow::Result<Exit> {
        let folder = Folder::read(&self.dir)?;
        let active = Source::find("active", &self.connection).await?;
        let in_force = active.documents();
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        let when = match (self.at, self.blocks) {
            (Some(height), _) => format!("at={height}"),
            (None, blocks) => format!("in={}", blocks.unwrap_or_default()),
        };
        let mut made = Vec::new();
        for (kind, bytes) in folder.documents().into_iter().filter(|document| !in_force.contains(document)) {
            let kind = match kind {
                PolicyKind::Access => "access",
                PolicyKind::Derivation => "derivation",
            };
            let path = format!("/policy/propose?kind={kind}&{when}");
            let Some(answer) = answered(client.post_bytes(&path, "application/octet-stream", bytes).await?)? else {
                return Ok(Exit::No);
            };
            made.push(answer);
        }
        if made.is_empty() {
            tell("these policies are in force already: there is nothing to propose");
            return Ok(Exit::No);
        }
        if self.json {
            print(&serde_json::to_string_pretty(&json!({"proposed": made}))?);
            return Ok(Exit::Good);
        }
        for proposal in &made {
            let document = proposal["document"].as_str().unwrap_or_default();
            print(document);
            let new = Source::find(document, &self.connection).await?;
            compare(&active, &new).await?.lines().iter().for_each(|line| tell(line));
            tell(&format!(
                "in force from height {} if enough members vote `vitaltrace policy vote {document} yes`",
                proposal["height"]
            ));
        }
        Ok(Exit::Good)
    }
}

impl Vote {
    async fn run(self) -> anyhow::Result<Exit> {
        let active = Source::find("active", &self.connection).await?;
        let proposed = Source::find(&self.digest.to_hex(), &self.connection).await?;
        // What is voted on is shown before it is voted on.
        let compared = compare(&active, &proposed).await?;
        if !self.json {
            compared.lines().iter().for_each(|line| tell(line));
        }
        let client = self.connection.operator(Role::Custodian, "HSYSADMIN")?;
        let yes = self.vote == Ballot::Yes;
        let answer = client.post(&format!("/policy/{}/vote", self.digest), &json!({"yes": yes})).await?;
        let Some(mut answer) = answered(answer)? else { return Ok(Exit::No) };
        if self.json {
            answer["difference"] = compared.json();
            print(&serde_json::to_string_pretty(&answer)?);
        } else {
            tell(if yes { "voted for it" } else { "voted against it" });
        }
        Ok(Exit::Good)
    }
}

async fn list(asked: Asked) -> anyhow::Result<Exit> {
    let list = asked.connection.anonymous()?.get("/policy").await?.good()?.json()?;
    if asked.json {
        print(&serde_json::to_string_pretty(&list)?);
        return Ok(Exit::Good);
    }
    print(&format!("height {}", list["height"]));
    for (kind, active) in list["in_force"].as_object().into_iter().flatten() {
        let document = active["document"].as_str().unwrap_or_default();
        print(&format!("{kind} policy {document}: in force since height {}", active["since_height"]));
        if active["read_by_this_node"] == json!(false) {
            tell(&format!("this node cannot read the {kind} policy in force: update its program"));
        }
    }
    list["proposals"].as_array().into_iter().flatten().for_each(|proposal| print(&in_words(proposal)));
    Ok(Exit::Good)
}

impl Show {
    async fn run(self) -> anyhow::Result<Exit> {
        let list = self.connection.anonymous()?.get("/policy").await?.good()?.json()?;
        let digest = self.digest.to_hex();
        let mut proposals = list["proposals"].as_array().into_iter().flatten();
        let proposal = proposals.find(|proposal| proposal["document"] == json!(digest));
        let proposal = proposal.ok_or_else(|| BadInput(format!("nobody proposed the policy {digest}")))?;
        let active = Source::find("active", &self.connection).await?;
        let compared = compare(&active, &Source::find(&digest, &self.connection).await?).await?;
        if self.json {
            let mut shown = proposal.clone();
            shown["difference"] = compared.json();
            print(&serde_json::to_string_pretty(&shown)?);
        } else {
            print(&in_words(proposal));
            compared.lines().iter().for_each(|line| print(line));
        }
        Ok(Exit::Good)
    }
}

fn shown(compared: &Compared, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string_pretty(&compared.json())?);
    } else {
        compared.lines().iter().for_each(|line| print(line));
    }
    Ok(())
}

/// The body of a yes; nothing, after what the gateway said, when the answer is no.
fn answered(answer: Answer) -> anyhow::Result<Option<Value>> {
    match answer.status.as_u16() {
        403 | 404 | 409 => {
            tell(&answer.diagnostics());
            Ok(None)
        }
        400 | 413 | 422 => Err(BadInput(answer.diagnostics()).into()),
        _ => answer.good()?.json().map(Some),
    }
}

fn in_words(proposal: &Value) -> String {
    let text = |field: &str| proposal[field].as_str().unwrap_or_default().to_owned();
    let list = |field: &str| {
        let names: Vec<&str> = proposal[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    let lacks = if proposal["lacks"].as_array().is_some_and(|lacks| !lacks.is_empty()) {
        format!("; it lacks {}", list("lacks"))
    } else {
        String::new()
    };
    format!(
        "{} policy {}: {}, proposed by {} for height {}; for it {}; against it {}{lacks}",
        text("kind"),
        text("document"),
        text("state"),
        text("proposed_by"),
        proposal["height"],
        list("for"),
        list("against"),
    )
}

/// The digest of a document that a gateway's answer names.
fn digest_of(value: &Value) -> anyhow::Result<Digest> {
    let text = value.as_str().context("the gateway names no policy")?;
    text.parse().map_err(|_| anyhow::anyhow!("the gateway names no policy"))
}

//! `vitaltrace init` and `vitaltrace genesis`: keys and configuration of one organisation, and several joined into a consortium.

use super::{BadInput, Exit, print, tell};
use crate::{
    config::{AddressParser, CONFIG_FILE, Config, GENESIS_FILE, MEMBER_FILE, Standing, read_genesis},
    policies::Folder,
};
use anyhow::{Context, bail};
use clap::Args;
use contract::{DerivationPolicy, EPOCH_BLOCKS_DEFAULT, Genesis, Member};
use exchange::keys::OrgKeys;
use record::{OrgId, OrgRole};
use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Makes an organisation's keys and configuration.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The organisation's name: 1 to 32 of `a-z`, `0-9` and `-`.
    #[arg(long)]
    pub(crate) org: OrgId,
    /// What it is: ems, hospital, insurer or compliance.
    #[arg(long)]
    pub(crate) role: OrgRole,
    /// Where people and programs will connect.
    #[arg(long, default_value = "127.0.0.1:8100")]
    pub(crate) http: SocketAddr,
    /// Where its validator will listen for the other organisations' nodes.
    #[arg(long, default_value = "127.0.0.1:8200")]
    pub(crate) ledger: SocketAddr,
    /// The address that the other organisations reach the validator by, when it differs from --ledger.
    #[arg(long)]
    pub(crate) reach: Option<String>,
    /// The shared cloud database: a path to an SQLite file, or the address of a database of a PostgreSQL server,
    /// `postgresql://user:password@host:port/database`.
    #[arg(long, default_value = "cloud.db", value_parser = AddressParser)]
    pub(crate) database: store::Address,
    /// The organisation joins a consortium that is there already.
    #[arg(long)]
    pub(crate) joins: bool,
    /// The folder to make.
    pub(crate) dir: PathBuf,
}

impl Init {
    /// Runs as a command: also says what to do next.
    pub(crate) fn run_command(self) -> anyhow::Result<Exit> {
        let dir = self.dir.display().to_string();
        self.run()?;
        tell(&format!("keys, configuration and introduction are in {dir}"));
        tell(&format!("send {dir}/{MEMBER_FILE} to whoever runs `vitaltrace genesis`; keep {dir}/keys to yourself"));
        Ok(Exit::Good)
    }

    /// Writes `keys/`, `vitaltrace.toml` and `member.json` into the folder.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make `{}`", self.dir.display()))?;
        let keys = OrgKeys::create(&self.dir.join("keys"))?;
        let config = Config {
            org: self.org.clone(),
            role: self.role,
            http: self.http,
            ledger: self.ledger,
            database: self.database,
            data: "data".into(),
            keys: "keys".into(),
            genesis: GENESIS_FILE.into(),
            policies: None,
            users: "users.toml".into(),
            fhir_url: None,
            https: None,
            issuers: Vec::new(),
            standing: if self.joins { Standing::Later } else { Standing::Founder },
            peers_max: None,
            cache_mib: None,
            begin_with: None,
            checkpoint: None,
            peers: Vec::new(),
            subscriptions: Default::default(),
            alarms: Default::default(),
            mqtt: None,
        };
        // The address of a database may hold a password.
        write_new(&self.dir.join(CONFIG_FILE), &toml::to_string(&config)?, 0o600)?;
        let reach = self.reach.unwrap_or_else(|| self.ledger.to_string());
        let member = keys.member(self.org, self.role, reach);
        write_new(&self.dir.join(MEMBER_FILE), &serde_json::to_string_pretty(&member)?, 0o644)
    }
}

/// Joins several organisations into a consortium.
#[derive(Debug, Args)]
pub(crate) struct MakeGenesis {
    /// A name for people.
    #[arg(long, default_value = "vitaltrace")]
    pub(crate) name: String,
    /// Blocks of an epoch: who decides changes between epochs only, and an idle ledger makes one block a second.
    #[arg(long, default_value_t = EPOCH_BLOCKS_DEFAULT)]
    pub(crate) epoch_blocks: u64,
    /// Where to write the genesis document, for every member to copy into its folder.
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// A folder with the policies to begin with, instead of the program's: every member copies it beside the genesis document as
    /// `policies`.
    #[arg(long)]
    pub(crate) policies: Option<PathBuf>,
    /// The `member.json` of each organisation.
    #[arg(required = true)]
    pub(crate) members: Vec<PathBuf>,
}

impl MakeGenesis {
    /// Runs as a command: prints the genesis id and says what to do next.
    pub(crate) fn run_command(self) -> anyhow::Result<Exit> {
        let output = self.output.display().to_string();
        let genesis = self.run()?;
        print(&genesis.id().to_hex());
        tell(&format!(
            "every member copies {output} into its folder as {GENESIS_FILE}, compares the id above, and runs `vitaltrace serve`"
        ));
        Ok(Exit::Good)
    }

    /// Writes the document and returns it.
    pub(crate) fn run(self) -> anyhow::Result<Genesis> {
        let mut members = self
            .members
            .iter()
            .map(|path| -> anyhow::Result<Member> {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                serde_json::from_str(&text).with_context(|| format!("`{}` is no member's introduction", path.display()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        members.sort_by(|a, b| a.org.cmp(&b.org));
        let folder = self.policies.as_deref().map(Folder::read).transpose()?.unwrap_or_default();
        let bundle = folder.access.unwrap_or_else(policy::Bundle::builtin);
        let derivation = folder.derivation.unwrap_or_else(|| DerivationPolicy::builtin_text().to_owned());
        let genesis = Genesis {
            version: 1,
            name: self.name,
            time: exchange::clock::now(),
            members,
            access_policy: bundle.load().map_err(|e| BadInput(e.to_string()))?.digest(),
            derivation_policy: DerivationPolicy::parse(&derivation).map_err(|e| BadInput(e.to_string()))?.digest(),
            epoch_blocks: self.epoch_blocks,
        };
        genesis.check()?;
        write_new(&self.output, &serde_json::to_string_pretty(&genesis)?, 0o644)?;
        read_genesis(&self.output)
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    if path.exists() {
        bail!("`{}` exists already and is not overwritten", path.display());
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| writeln!(file, "{text}")).with_context(|| format!("cannot write `{}`", path.display()))
}

//! What one organisation's node is told: one TOML file, then `VITALTRACE_*` variables, then flags.

use crate::{identity::outside::IssuerAt, policies::Folder};
use anyhow::{Context, anyhow, bail};
use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};
use contract::{Genesis, PublicKey};
use exchange::{Escalation, keys::OrgKeys, remembers_its_votes};
use record::{OrgId, OrgRole};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Name of the configuration file in an organisation's folder.
pub(crate) const CONFIG_FILE: &str = "vitaltrace.toml";
/// Name of the file by which an organisation introduces itself to the others.
pub(crate) const MEMBER_FILE: &str = "member.json";
/// Name of the file that all members share.
pub(crate) const GENESIS_FILE: &str = "genesis.json";

/// Name of the folder with the policies that a consortium founds itself on.
const POLICIES_FOLDER: &str = "policies";

/// Bytes of a MiB.
const MIB: usize = 1024 * 1024;

/// The configuration file. Relative paths are relative to the folder that it is in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The organisation that this node speaks for.
    pub(crate) org: OrgId,
    /// What it is.
    pub(crate) role: OrgRole,
    /// Where people and programs connect: FHIR, frames, live data.
    pub(crate) http: SocketAddr,
    /// Where the validator listens for the other organisations' nodes.
    pub(crate) ledger: SocketAddr,
    /// The shared cloud database: a path to an SQLite file, or the address of a database of a PostgreSQL server,
    /// `postgresql://user:password@host:port/database`.
    pub(crate) database: store::Address,
    /// The node's private folder: journal, ledger, mirror, vault.
    pub(crate) data: PathBuf,
    /// The folder with the organisation's keys.
    pub(crate) keys: PathBuf,
    /// The genesis document.
    pub(crate) genesis: PathBuf,
    /// The folder with the policies that the genesis document names, when the consortium founds itself on others than the program's;
    /// `policies` beside the genesis document unless said otherwise, and only read if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policies: Option<PathBuf>,
    /// People and programs that the embedded issuer knows.
    pub(crate) users: PathBuf,
    /// How people and programs call the FHIR doors, such as `https://fhir.mercy.example/fhir`, where they do not by `http://`, the host that
    /// they name and `/fhir`: behind a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fhir_url: Option<String>,
    /// The doors by https, beside those by http: then those listen where only this machine reaches them, for its own commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) https: Option<HttpsDoors>,
    /// Other issuers whose tokens open the doors.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "issuer")]
    pub(crate) issuers: Vec<IssuerAt>,
    /// What this node is to the consortium.
    #[serde(default, skip_serializing_if = "is_founder")]
    pub(crate) standing: Standing,
    /// The most nodes that this one connects with, where the members have become more than twice the founders or sixteen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peers_max: Option<usize>,
    /// Memory for pages of the ledger's state and blocks, in MiB, 1 to 1,048,576; 128 unless said otherwise. More helps where the state has
    /// outgrown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cache_mib: Option<usize>,
    /// How the node begins when its ledger folder is empty; a founder with the blocks, others with the state, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begin_with: Option<BeginWith>,
    /// A final block that the operator knows, `HEIGHT:DIGEST`: a node that begins with the state believes nobody whose ledger does not go
    /// through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<String>,
    /// Nodes to connect with beside the members, for one that starts when the founders have moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) peers: Vec<PeerAt>,
    /// Where notifications may go beside what they may without it.
    #[serde(default, skip_serializing_if = "Hooks::is_default")]
    pub(crate) subscriptions: Hooks,
    /// How long alarms wait for somebody.
    #[serde(default, skip_serializing_if = "Alarms::is_default")]
    pub(crate) alarms: Alarms,
    /// The broker that devices send frames by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mqtt: Option<crate::mqtt::Mqtt>,
}

/// The doors by https.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpsDoors {
    /// Where people and programs connect.
    pub(crate) address: SocketAddr,
    /// The certificate with those above it, a PEM file. One that is replaced is used at once.
    pub(crate) certificate: PathBuf,
    /// Its key, a PEM file of mode 600.
    pub(crate) key: PathBuf,
}

/// Where notifications of subscriptions may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    /// Origins such as `http://ward.mercy.local:8080`: within the operator's own network, or without TLS.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
}

impl Hooks {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How long an alarm that nobody acknowledges waits before it escalates, in seconds, 1 to 3,600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Alarms {
    /// One of high priority.
    pub(crate) high_escalates_s: u16,
    /// One of medium priority.
    pub(crate) medium_escalates_s: u16,
}

impl Default for Alarms {
    fn default() -> Self {
        let Escalation { high, medium } = Escalation::default();
        let seconds = |time: Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        Self { high_escalates_s: seconds(high), medium_escalates_s: seconds(medium) }
    }
}

impl Alarms {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same, or what is wrong with it.
    pub(crate) fn escalation(&self) -> anyhow::Result<Escalation> {
        let after = |name: &str, seconds: u16| match seconds {
            1..=3_600 => Ok(Duration::from_secs(seconds.into())),
            _ => bail!("`{name}` of [alarms] is a number of seconds from 1 to 3600"),
        };
        Ok(Escalation {
            high: after("high_escalates_s", self.high_escalates_s)?,
            medium: after("medium_escalates_s", self.medium_escalates_s)?,
        })
    }
}

/// What a node is to its consortium.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// The genesis document names the organisation and its consensus key.
    #[default]
    Founder,
    /// The organisation joined, or its consensus key was replaced: the ledger names it.
    Later,
    /// Votes on nothing: what a node must be that lost its folder, until its key is replaced.
    Watcher,
}

/// What a node with an empty ledger folder takes from the others first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BeginWith {
    /// Every block from the first on, and executes it.
    Blocks,
    /// The state at the end of the last whole epoch, and the blocks before it afterwards.
    State,
}

fn is_founder(standing: &Standing) -> bool {
    *standing == Standing::Founder
}

/// Where a node is found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerAt {
    /// Its consensus key, 64 hexadecimal digits.
    pub(crate) consensus_key: PublicKey,
    /// `host:port`.
    pub(crate) address: String,
}

impl Config {
    /// Reads the file at `path`, or `vitaltrace.toml` in the folder `path`, and applies `VITALTRACE_HTTP`, `VITALTRACE_LEDGER` and
    /// `VITALTRACE_DATABASE`.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let file = if path.is_dir() { path.join(CONFIG_FILE) } else { path.to_owned() };
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read the configuration `{}`", file.display()))?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| mistake(&text, &error))
            .with_context(|| format!("in the configuration `{}`", file.display()))?;
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        config.database = config.database.under(&folder);
        for path in [&mut config.data, &mut config.keys, &mut config.genesis, &mut config.users] {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        }
        for issuer in config.issuers.iter_mut().filter(|issuer| !issuer.keys.contains("://")) {
            issuer.keys = folder.join(&issuer.keys).display().to_string();
        }
        let https = config.https.iter_mut().flat_map(|https| [&mut https.certificate, &mut https.key]);
        for path in https.filter(|path| path.is_relative()) {
            *path = folder.join(&*path);
        }
        config.mqtt = config.mqtt.map(|mqtt| mqtt.under(&folder));
        if let Some(path) = config.policies.as_mut().filter(|path| path.is_relative()) {
            *path = folder.join(&*path);
        }
        if let Some(address) = variable("VITALTRACE_HTTP")? {
            config.http = address.parse().context("VITALTRACE_HTTP is no address such as 127.0.0.1:8100")?;
        }
        if let Some(address) = variable("VITALTRACE_LEDGER")? {
            config.ledger = address.parse().context("VITALTRACE_LEDGER is no address such as 127.0.0.1:8200")?;
        }
        if let Some(database) = variable("VITALTRACE_DATABASE")? {
            config.database = database.parse().context("VITALTRACE_DATABASE")?;
        }
        Ok(config)
    }

    /// The folder of the ledger node.
    pub(crate) fn ledger_folder(&self) -> PathBuf {
        self.data.join("ledger")
    }

    /// Makes the node one that votes on nothing if it has lost the ledger's folder, with which it forgot what it voted for.
    pub(crate) fn watching_if_votes_were_forgotten(mut self, keys: &OrgKeys) -> anyhow::Result<Self> {
        if self.standing != Standing::Watcher && !remembers_its_votes(keys, &self.ledger_folder())? {
            tracing::warn!(
                org = %self.org,
                "the ledger's folder was lost, or is an older copy: the node has forgotten what it voted for, and votes on nothing until it has \
                 another consensus key (`vitaltrace member rotate-key`)"
            );
            self.standing = Standing::Watcher;
        }
        Ok(self)
    }

    /// What the ledger node is told of this one.
    pub(crate) fn part(&self) -> ledger::Part {
        match self.standing {
            Standing::Founder => ledger::Part::Founder,
            Standing::Later => ledger::Part::Later(self.role),
            Standing::Watcher => ledger::Part::Watcher(self.role),
        }
    }

    /// How the ledger node begins when its folder is empty.
    pub(crate) fn begin(&self) -> anyhow::Result<ledger::Begin> {
        let known = self
            .checkpoint
            .as_deref()
            .map(str::parse::<evidence::KnownBlock>)
            .transpose()
            .context("in `checkpoint`")?;
        let with = self.begin_with.unwrap_or(match self.standing {
            Standing::Founder => BeginWith::Blocks,
            Standing::Later | Standing::Watcher => BeginWith::State,
        });
        Ok(match with {
            BeginWith::Blocks if known.is_some() => bail!("a `checkpoint` needs `begin_with = \"state\"`"),
            BeginWith::Blocks => ledger::Begin::Blocks,
            BeginWith::State => ledger::Begin::State { known },
        })
    }

    /// How the FHIR doors are called, without a slash at the end, if it is said.
    pub(crate) fn fhir_url(&self) -> anyhow::Result<Option<String>> {
        let Some(said) = &self.fhir_url else { return Ok(None) };
        let url = reqwest::Url::parse(said).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let plain = |url: &reqwest::Url| {
            url.has_host() && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
        };
        let url = url.filter(plain).with_context(|| {
            format!("`fhir_url` is `{said}`: write it as https://fhir.mercy.example/fhir, with nothing after the path")
        })?;
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Memory for pages of the ledger in bytes, if it is said.
    pub(crate) fn cache_bytes(&self) -> anyhow::Result<Option<usize>> {
        let Some(mib) = self.cache_mib else { return Ok(None) };
        let bytes = mib.checked_mul(MIB).filter(|bytes| ledger::CACHE_BYTES.contains(bytes));
        let (least, most) = (ledger::CACHE_BYTES.start() / MIB, ledger::CACHE_BYTES.end() / MIB);
        bytes.map(Some).with_context(|| format!("`cache_mib` is {mib}: it takes {least} to {most}"))
    }

    /// Policy documents beside the program's own, if there is a folder with some.
    pub(crate) fn policies(&self) -> anyhow::Result<Vec<(contract::PolicyKind, Vec<u8>)>> {
        let beside = self.genesis.parent().map(|folder| folder.join(POLICIES_FOLDER)).filter(|folder| folder.is_dir());
        match self.policies.clone().or(beside) {
            Some(folder) => Ok(Folder::read(&folder)?.documents()),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the genesis document, and checks that this organisation is in it under the same role, if it is a founder.
    pub(crate) fn genesis(&self) -> anyhow::Result<Genesis> {
        let genesis = read_genesis(&self.genesis)?;
        match genesis.member(&self.org) {
            _ if self.standing != Standing::Founder => Ok(genesis),
            Some(member) if member.role == self.role => Ok(genesis),
            Some(member) => bail!("the genesis document says that `{}` is of role `{}`", self.org, member.role),
            None => bail!(
                "the genesis document `{}` does not list `{}`: an organisation that joined has `standing = \"later\"`",
                self.genesis.display(),
                self.org
            ),
        }
    }
}

/// What is wrong, and in which line, without the line: it may hold the password of the database.
fn mistake(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let number = before.map_or(1, |before| before.matches('\n').count() + 1);
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let plain = |key: &&str| key.chars().all(|one| one.is_ascii_alphanumeric() || "_-".contains(one));
    match line.split_once('=').map(|(key, _)| key.trim()).filter(plain) {
        Some(key) => anyhow!("line {number}, `{key}`: {}", error.message()),
        None => anyhow!("line {number}: {}", error.message()),
    }
}

/// Parses the address of a database in an argument. Clap's own message would show the argument, and a password in it.
#[derive(Debug, Clone)]
pub(crate) struct AddressParser;

impl TypedValueParser for AddressParser {
    type Value = store::Address;
    fn parse_ref(&self, _: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<store::Address, clap::Error> {
        let invalid = |why: &dyn std::fmt::Display| {
            let name = arg.map(Arg::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format!("{name}: {why}\n"))
        };
        let text = value.to_str().ok_or_else(|| invalid(&"it is not UTF-8"))?;
        text.parse().map_err(|error: store::AddressError| invalid(&error))
    }
}

fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8"),
    }
}

/// Reads a genesis document in its JSON form.
pub(crate) fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the genesis document `{}`", path.display()))?;
    let genesis: Genesis =
        serde_json::from_str(&text).with_context(|| format!("in the genesis document `{}`", path.display()))?;
    genesis.check().with_context(|| format!("in the genesis document `{}`", path.display()))?;
    Ok(genesis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with one more line.
    fn with(line: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "org = 'mercy'\nrole = 'hospital'\nhttp = '127.0.0.1:1'\nledger = '127.0.0.1:2'\ndatabase = 'cloud.db'\n\
             data = 'data'\nkeys = 'keys'\ngenesis = 'genesis.json'\nusers = 'users.toml'\n{line}\n"
        );
        fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
        Config::load(folder.path())
    }

    #[test]
    fn how_long_alarms_wait_is_said_in_seconds_within_bounds() {
        let after = |line: &str| with(line).and_then(|config| config.alarms.escalation());
        assert_eq!(after("").unwrap(), Escalation::default());
        let high = Escalation { high: Duration::from_secs(30), ..Escalation::default() };
        assert_eq!(after("[alarms]\nhigh_escalates_s = 30").unwrap(), high);
        for line in
            ["high_escalates_s = 0", "medium_escalates_s = 3601", "high_escalates_s = -1", "low_escalates_s = 9"]
        {
            assert!(after(&format!("[alarms]\n{line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn memory_for_pages_is_said_in_mib_within_bounds() {
        let check = |line: &str, expected: Result<Option<usize>, &str>| {
            let bytes = with(line).and_then(|config| config.cache_bytes());
            match (bytes.map_err(|error| format!("{error:#}")), expected) {
                (Ok(bytes), Ok(expected)) => assert_eq!(bytes, expected, "{line}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{line}: {error}"),
                (bytes, expected) => assert!(bytes.is_ok() == expected.is_ok(), "{line}: {bytes:?}"),
            }
        };
        check("", Ok(None));
        check("cache_mib = 1", Ok(Some(1024 * 1024)));
        check("cache_mib = 512", Ok(Some(512 * 1024 * 1024)));
        check("cache_mib = 1_048_576", Ok(Some(1 << 40)));
        check("cache_mib = 0", Err("`cache_mib` is 0: it takes 1 to 1048576"));
        check("cache_mib = 1_048_577", Err("`cache_mib` is 1048577: it takes 1 to 1048576"));
        check("cache_mib = 9_223_372_036_854_775_807", Err("it takes 1 to 1048576"));
        check("cache_mib = -1", Err("cache_mib"));
        check("cache_mib = 1.5", Err("cache_mib"));
        check("cache_mib = '64'", Err("cache_mib"));
        check("cache = 64", Err("unknown field"));
    }

    #[test]
    fn a_mistake_in_the_address_of_the_database_does_not_show_the_password() {
        let lines = [
            "database = 'postgresql://m:secret@db/cloud?sslmode=verify-ca'",
            "database = 'postgresql://m:secret@db/cloud",
            "database: postgresql://m:secret@db/cloud?sslmode=require",
            "database = postgresql://m:secret@db/cloud?sslmode=require",
            "database = ['postgresql://m:secret@db/cloud']",
        ];
        for line in lines {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(CONFIG_FILE), format!("org = 'mercy'\n{line}\n")).unwrap();
            let error = Config::load(folder.path()).unwrap_err();
            let said = format!("{error:#} {error:?}");
            assert!(said.contains("line 2") && !said.contains("secret"), "{said}");
        }
        let parser = clap::Command::new("x").arg(Arg::new("database").long("database").value_parser(AddressParser));
        for wrong in ["postgresql://m:secret@db/cloud?sslmode=verify-ca", "postgresql://m:secret/"] {
            let error = parser.clone().try_get_matches_from(["x", "--database", wrong]).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains("--database") && !said.contains("secret"), "{said}");
        }
        let matches = parser.try_get_matches_from(["x", "--database", "a/cloud.db"]).unwrap();
        let file = store::Address::File("a/cloud.db".into());
        assert_eq!(matches.get_one::<store::Address>("database"), Some(&file));
    }

    #[test]
    fn the_url_of_the_fhir_doors_has_nothing_after_its_path() {
        let check = |line: &str, expected: Option<&str>| {
            let url = with(line).unwrap().fhir_url();
            assert_eq!(url.ok().flatten().as_deref(), expected, "{line}");
        };
        check("", None);
        check("fhir_url = 'https://fhir.mercy.example/fhir'", Some("https://fhir.mercy.example/fhir"));
        check("fhir_url = 'http://10.0.0.1:8100/fhir/'", Some("http://10.0.0.1:8100/fhir"));
        check("fhir_url = 'https://fhir.mercy.example'", Some("https://fhir.mercy.example"));
        for wrong in
            ["", "/fhir", "fhir.mercy.example", "ftp://a/fhir", "https://a/fhir?b", "https://a/#b", "https://b@a/"]
        {
            let error = with(&format!("fhir_url = '{wrong}'")).unwrap().fhir_url().unwrap_err();
            assert!(format!("{error:#}").contains("write it as https://"), "{wrong}: {error:#}");
        }
    }
}

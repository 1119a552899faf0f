//! Four organisations on one machine, each a process of its own with its own folder and keys, on one cloud database.

use crate::{
    client::Client,
    command::init::{Init, MakeGenesis},
    config::{CONFIG_FILE, GENESIS_FILE, MEMBER_FILE},
    identity::users::{New, Users},
};
use anyhow::{Context, bail};
use exchange::{MEASURED, Part, clock::now};
use rand::RngExt as _;
use record::{OrgId, OrgRole, Role};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a node may take until it answers and its ledger moves.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// Ports that are tried before giving up.
const PORTS_TRIED_MAX: usize = 1_000;

/// The founding organisations of the demonstration.
pub(crate) const ORGANISATIONS: [(&str, OrgRole); 4] = [
    ("rescue-one", OrgRole::Ems),
    ("mercy-hospital", OrgRole::Hospital),
    ("acme-insurance", OrgRole::Insurer),
    ("health-inspectorate", OrgRole::Compliance),
];

/// One organisation's node.
pub(crate) struct Node {
    pub(crate) org: OrgId,
    pub(crate) dir: PathBuf,
    pub(crate) base: String,
    process: Option<Child>,
}

/// The consortium, its folder and its shared database.
pub(crate) struct Consortium {
    pub(crate) folder: PathBuf,
    pub(crate) database: PathBuf,
    /// Whether the database is that file.
    is_file: bool,
    pub(crate) nodes: Vec<Node>,
    password: String,
    /// What its nodes leave out of custody.
    without: Vec<Part>,
}

impl Consortium {
    /// Makes keys, configurations and the genesis document below `folder`.
    pub(crate) fn found(folder: &Path) -> anyhow::Result<Self> {
        Self::found_as("accident", folder, folder.join("cloud.db").into())
    }

    /// The same to be measured, on this database or on a file of its own, and without some parts of custody.
    pub(crate) fn found_measured(
        folder: &Path,
        address: Option<store::Address>,
        without: &[Part],
    ) -> anyhow::Result<Self> {
        let address = address.unwrap_or_else(|| folder.join("cloud.db").into());
        let mut measured = Self::found_as(MEASURED, folder, address)?;
        measured.without = without.to_vec();
        Ok(measured)
    }

    fn found_as(name: &str, folder: &Path, address: store::Address) -> anyhow::Result<Self> {
        let database = folder.join("cloud.db");
        let mut nodes = Vec::new();
        let addresses = free_addresses(ORGANISATIONS.len() * 2)?;
        for ((name, role), pair) in ORGANISATIONS.into_iter().zip(addresses.chunks_exact(2)) {
            let org: OrgId = name.parse()?;
            let dir = folder.join(name);
            Init {
                org: org.clone(),
                role,
                http: pair[0],
                ledger: pair[1],
                reach: None,
                database: address.clone(),
                joins: false,
                dir: dir.clone(),
            }
            .run()?;
            nodes.push(Node { org, dir, base: format!("http://{}", pair[0]), process: None });
        }
        let genesis = folder.join(GENESIS_FILE);
        MakeGenesis {
            epoch_blocks: contract::EPOCH_BLOCKS_DEFAULT,
            policies: None,
            name: name.to_owned(),
            output: genesis.clone(),
            members: nodes.iter().map(|node| node.dir.join(MEMBER_FILE)).collect(),
        }
        .run()?;
        for node in &nodes {
            fs::copy(&genesis, node.dir.join(GENESIS_FILE))?;
        }
        let mut secret = [0u8; 16];
        getrandom::fill(&mut secret).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
        let is_file = matches!(address, store::Address::File(_));
        Ok(Self {
            folder: folder.to_owned(),
            database,
            is_file,
            nodes,
            password: hex::encode(secret),
            without: Vec::new(),
        })
    }

    /// The organisation's node.
    pub(crate) fn node(&self, org: &str) -> anyhow::Result<&Node> {
        self.nodes.iter().find(|node| node.org.as_str() == org).with_context(|| format!("no organisation `{org}`"))
    }

    fn node_mut(&mut self, org: &str) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.org.as_str() == org).with_context(|| format!("no organisation `{org}`"))
    }

    /// Makes a user of an organisation.
    pub(crate) fn add_user(&self, org: &str, name: &str, role: Role, patient: Option<String>) -> anyhow::Result<()> {
        let given = New { role, password: &self.password, patient, practitioner: None };
        Users::set(&self.node(org)?.dir.join("users.toml"), name, given, now())
    }

    /// Logs a user in.
    pub(crate) async fn login(&self, org: &str, name: &str) -> anyhow::Result<Client> {
        Client::login(&self.node(org)?.base, name, &self.password).await.with_context(|| format!("{name} at {org}"))
    }

    /// Starts all nodes and waits until every one answers and its ledger moves.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        let database = self.is_file.then(|| self.database.clone());
        for node in &mut self.nodes {
            node.start(database.as_deref(), &self.without)?;
        }
        for node in &mut self.nodes {
            node.wait_until_up().await?;
        }
        Ok(())
    }

    /// Kills one organisation's process without warning.
    pub(crate) fn kill(&mut self, org: &str) -> anyhow::Result<()> {
        self.node_mut(org)?.kill();
        Ok(())
    }

    /// Kills every process without warning.
    pub(crate) fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// Starts one organisation's process again, and waits until it answers.
    pub(crate) async fn restart(&mut self, org: &str) -> anyhow::Result<()> {
        let database = self.is_file.then(|| self.database.clone());
        let without = self.without.clone();
        let node = self.node_mut(org)?;
        node.start(database.as_deref(), &without)?;
        node.wait_until_up().await
    }

    /// Asks every process to end, and waits for it.
    pub(crate) fn stop_all(&mut self) {
        for node in &mut self.nodes {
            node.terminate();
        }
        for node in &mut self.nodes {
            node.wait_for_end(Duration::from_secs(20));
        }
    }
}

/// Addresses on loopback that nobody listens on, below the range from which outgoing connections take theirs: a node that was killed
/// finds its own again when it returns.
fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let mut dice = rand::rng();
    // All are held until the last is found, so that none is found twice.
    let mut held = Vec::new();
    for _ in 0..PORTS_TRIED_MAX {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind(("127.0.0.1", dice.random_range(15_000..32_000))));
    }
    if held.len() < count {
        bail!("no free ports on loopback");
    }
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

impl Drop for Consortium {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Node {
    /// The id of its process.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    fn start(&mut self, database: Option<&Path>, without: &[Part]) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find the program itself")?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("node.log"))?;
        let without: Vec<&str> = without.iter().map(|part| part.name()).collect();
        let mut command = Command::new(program);
        match without.as_slice() {
            [] => command.arg("serve"),
            parts => command.args(["bench", "gateway", "--without"]).arg(parts.join(",")),
        };
        let child = command
            .arg("--config")
            .arg(self.dir.join(CONFIG_FILE))
            .envs(database.map(|file| ("VITALTRACE_DATABASE", file)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start the node of {}", self.org))?;
        self.process = Some(child);
        Ok(())
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + START_TIMEOUT;
        let client = Client::with_token(&self.base, String::new())?;
        while Instant::now() < until {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait()?
            {
                bail!("the node of {} ended ({status}): see {}", self.org, self.dir.join("node.log").display());
            }
            if let Ok(answer) = client.get("/health").await
                && answer.status.is_success()
                && answer.json()?["ledger_height"].as_u64().unwrap_or(0) > 0
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the node of {} did not come up: see {}", self.org, self.dir.join("node.log").display())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A process that has ended already cannot be killed, and need not be.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn terminate(&self) {
        if let Some(process) = &self.process {
            let _ = Command::new("kill").arg("-TERM").arg(process.id().to_string()).status();
        }
    }

    fn wait_for_end(&mut self, at_most: Duration) {
        let until = Instant::now() + at_most;
        if let Some(process) = &mut self.process {
            while Instant::now() < until {
                if matches!(process.try_wait(), Ok(Some(_))) {
                    self.process = None;
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.kill();
    }
}

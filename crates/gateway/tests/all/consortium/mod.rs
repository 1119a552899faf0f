//! A consortium of real processes, set up by the command line alone: `init`, `genesis`, `user`, `serve`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what failed says where its folder and logs are, what is skipped says so"
)]

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod mosquitto;
pub(crate) mod sensor;

use client::Client;
use rand::RngExt as _;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long anything may take before a test gives up. No test asserts a time; this only ends one that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The password of everybody.
pub(crate) const PASSWORD: &str = "a password for tests";

/// Four organisations of the four roles.
pub(crate) const FOUR: [(&str, &str); 4] = [
    ("rescue-one", "ems"),
    ("mercy-hospital", "hospital"),
    ("acme-insurance", "insurer"),
    ("health-inspectorate", "compliance"),
];

/// The most consortia at a time, on whatever machine: four processes each, that wait half of the time.
static TURNS: Semaphore = Semaphore::const_new(4);

/// The ports that were given to a test of this program. One that is not listened on yet looks free to another test.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_vitaltrace")
}

/// Runs the program to its end.
pub(crate) fn vitaltrace<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    vitaltrace_with_input(args, "")
}

/// Runs the program to its end with something on its standard input.
pub(crate) fn vitaltrace_with_input<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, input: &str) -> Output {
    let mut child = Command::new(program())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Demands that a run ended well.
#[track_caller]
pub(crate) fn good(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the program ended with {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Addresses on loopback that nobody listens on, below the range from which database servers and outgoing connections take theirs: a node
/// that is killed finds its own again when it returns.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let mut rng = rand::rng();
    let mut given = GIVEN.lock().unwrap();
    let mut held = Vec::new();
    while held.len() < count {
        let port = rng.random_range(15_000..28_000);
        let listener = TcpListener::bind(("127.0.0.1", port));
        if let Some(listener) = listener.ok().filter(|_| given.insert(port)) {
            held.push(listener);
        }
    }
    held.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// One organisation's folder and process.
pub(crate) struct Node {
    pub(crate) org: String,
    pub(crate) dir: PathBuf,
    /// The address of its doors.
    pub(crate) http: SocketAddr,
    /// What it logs, when it is not the usual.
    pub(crate) log_filter: Option<&'static str>,
    process: Option<Child>,
}

/// Several organisations on one database. Processes that still run are killed when it is dropped.
pub(crate) struct Consortium {
    _turn: SemaphorePermit<'static>,
    folder: Option<TempDir>,
    pub(crate) database: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

impl Consortium {
    /// Makes keys, configurations and the genesis document.
    pub(crate) async fn found(members: &[(&str, &str)]) -> Self {
        Self::found_on(members, None).await
    }

    /// The same, on the policies that `make` writes into the folder that it is given; every member has a copy of them.
    pub(crate) async fn found_on(members: &[(&str, &str)], make: Option<&dyn Fn(&Path)>) -> Self {
        Self::found_with(members, make, None).await
    }

    /// The same, on the database of a server.
    pub(crate) async fn found_on_server(members: &[(&str, &str)], address: &str) -> Self {
        Self::found_with(members, None, Some(address)).await
    }

    /// The same, with the database at this address, if one is named.
    async fn found_with(members: &[(&str, &str)], make: Option<&dyn Fn(&Path)>, address: Option<&str>) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let folder = tempfile::Builder::new().prefix("vitaltrace-test-").tempdir().unwrap();
        let database = folder.path().join("cloud.db");
        let addresses = free_addresses(members.len() * 2);
        let mut nodes = Vec::new();
        for ((org, role), pair) in members.iter().zip(addresses.chunks_exact(2)) {
            let dir = folder.path().join(org);
            let (http, ledger) = (pair[0].to_string(), pair[1].to_string());
            let mut init = Command::new(program());
            init.args(["init", "--org", org, "--role", role, "--http", &http, "--ledger", &ledger, "--database"]);
            good(init.arg(address.map_or(database.as_os_str(), OsStr::new)).arg(&dir).output().unwrap());
            nodes.push(Node { org: (*org).to_owned(), dir, http: pair[0], log_filter: None, process: None });
        }
        let genesis = folder.path().join("genesis.json");
        let mut join = Command::new(program());
        join.args(["genesis", "--name", "test", "--output"]).arg(&genesis);
        let policies = folder.path().join("policies");
        if let Some(make) = make {
            fs::create_dir(&policies).unwrap();
            make(&policies);
            join.arg("--policies").arg(&policies);
        }
        good(join.args(nodes.iter().map(|node| node.dir.join("member.json"))).output().unwrap());
        for node in &nodes {
            fs::copy(&genesis, node.dir.join("genesis.json")).unwrap();
            if make.is_some() {
                good(Command::new("cp").arg("-r").arg(&policies).arg(node.dir.join("policies")).output().unwrap());
            }
        }
        Self { _turn: turn, folder: Some(folder), database, nodes }
    }

    /// Four organisations of the four roles, running, with the named users.
    pub(crate) async fn running(people: &[(&str, &str, &str)]) -> Self {
        Self::running_with(people, None).await
    }

    /// The same, on the database of a server.
    pub(crate) async fn running_on_server(people: &[(&str, &str, &str)], address: &str) -> Self {
        Self::running_with(people, Some(address)).await
    }

    async fn running_with(people: &[(&str, &str, &str)], address: Option<&str>) -> Self {
        let mut consortium = Self::found_with(&FOUR, None, address).await;
        for (org, name, role) in people {
            consortium.add_user(org, name, role, None);
        }
        consortium.start_all().await;
        consortium
    }

    /// The folder of everything.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    pub(crate) fn node(&self, org: &str) -> &Node {
        self.nodes.iter().find(|node| node.org == org).unwrap()
    }

    pub(crate) fn node_mut(&mut self, org: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.org == org).unwrap()
    }

    /// Makes a user, or changes it.
    pub(crate) fn add_user(&self, org: &str, name: &str, role: &str, patient: Option<&str>) {
        let config = self.node(org).dir.display().to_string();
        let mut args = vec!["user", "--config", &config, "--name", name, "--role", role];
        if let Some(patient) = patient {
            args.extend(["--patient", patient]);
        }
        good(vitaltrace_with_input(args, &format!("{PASSWORD}\n")));
    }

    /// A user's connection to its organisation, with a token from the command line.
    pub(crate) fn client(&self, org: &str, name: &str) -> Client {
        let node = self.node(org);
        let token = good(vitaltrace(["token", "--config", &node.dir.display().to_string(), "--name", name]));
        Client::new(&node.base(), token.trim())
    }

    pub(crate) async fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
        for node in &mut self.nodes {
            node.wait_until_up().await;
        }
    }

    /// The same, once every node answers.
    pub(crate) async fn settle_when_up(&mut self) {
        for node in &mut self.nodes {
            node.wait_until_up().await;
        }
        self.settle().await;
    }

    /// Plain SQL, as an administrator of the database would run it; how many rows it changed, one at least.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str, values: impl rusqlite::Params) -> usize {
        let database = rusqlite::Connection::open(&self.database).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        let changed = database.execute(statement, values).unwrap();
        assert_ne!(changed, 0, "{statement}");
        changed
    }

    /// All signed submissions in the database.
    pub(crate) fn submissions(&self) -> Vec<contract::SignedSubmission> {
        let database = rusqlite::Connection::open(&self.database).unwrap();
        let mut all = database.prepare("SELECT bytes FROM submission").unwrap();
        let rows = all.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|bytes| contract::SignedSubmission::from_bytes(&bytes.unwrap()).unwrap()).collect()
    }

    /// Waits until everything that any gateway committed is final, and every node has seen it.
    pub(crate) async fn settle(&self) {
        let begin = Instant::now();
        let mut final_height = None;
        loop {
            let mut statuses = Vec::new();
            for node in &self.nodes {
                statuses.push(node.status().await);
            }
            let number = |status: &Value, name: &str| status[name].as_u64().unwrap();
            if final_height.is_none() && statuses.iter().all(|status| number(status, "pending") == 0) {
                final_height = statuses.iter().map(|status| number(status, "height")).max();
            }
            if final_height.is_some_and(|height| statuses.iter().all(|status| number(status, "height") >= height)) {
                return;
            }
            let pending: Vec<u64> = statuses.iter().map(|status| number(status, "pending")).collect();
            assert!(begin.elapsed() < PATIENCE, "entries are still pending: {pending:?}, or not seen by all");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Consortium {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            let folder = folder.keep();
            for node in &self.nodes {
                let log = fs::read_to_string(node.dir.join("node.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- the last lines of {}:", node.org);
                lines.iter().skip(lines.len().saturating_sub(12)).for_each(|line| eprintln!("{line}"));
            }
            eprintln!("everything is in {}", folder.display());
        }
    }
}

impl Node {
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Starts the process; [`Node::wait_until_up`] waits for it.
    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("node.log")).unwrap();
        let mut serve = Command::new(program());
        serve.arg("serve").arg("--config").arg(&self.dir);
        serve.envs(self.log_filter.map(|filter| ("VITALTRACE_LOG", filter)));
        self.process = Some(serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Waits until its doors answer and it has seen a final block.
    pub(crate) async fn wait_until_up(&mut self) {
        self.wait_for_height(1).await;
    }

    /// Waits until its doors answer, whatever it knows of the ledger.
    pub(crate) async fn wait_until_answers(&mut self) {
        self.wait_for_height(0).await;
    }

    async fn wait_for_height(&mut self, height: u64) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("the node of {} ended with {status}", self.org);
            }
            let health = Client::new(&self.base(), "").try_get("/health").await;
            if health.is_some_and(|answer| answer.json()["ledger_height"].as_u64() >= Some(height)) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the node of {} does not come up", self.org);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL: nothing gets a chance to tidy up.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended already cannot be killed, and need not be.
            let _ = process.kill();
            process.wait().unwrap();
        }
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        good(Command::new("kill").arg("-TERM").arg(process.id().to_string()).output().unwrap());
        process.wait().unwrap().code()
    }

    /// What its ledger says of itself.
    pub(crate) async fn status(&self) -> Value {
        Client::new(&self.base(), "").get("/ledger/status").await.json()
    }
}

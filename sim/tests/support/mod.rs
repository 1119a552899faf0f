//! Nodes on this machine: in this process, or each in one of its own.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; a node's process answers on standard output"
)]

use futures::executor::block_on;
use ledger::{Handle, run_tokio};
use sim::Consortium;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take before a test gives up. No test asserts a time; this only ends one that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

static TURN: Mutex<()> = Mutex::new(());

/// One consortium at a time: four nodes are load enough.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn free_addresses() -> [SocketAddr; 4] {
    let listeners: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| listeners[i].local_addr().unwrap())
}

/// A consortium with a folder and an address for each member.
pub(crate) struct Site {
    pub(crate) consortium: Consortium,
    pub(crate) addresses: [SocketAddr; 4],
    pub(crate) dir: TempDir,
    pub(crate) seed: u64,
}

impl Site {
    pub(crate) fn new(seed: u64) -> Self {
        let addresses = free_addresses();
        Self { consortium: Consortium::new(seed, &addresses), addresses, dir: TempDir::new().unwrap(), seed }
    }

    pub(crate) fn start(&self, member: usize) -> Handle {
        let dir = self.dir.path().join(member.to_string());
        run_tokio(self.consortium.config(member, self.addresses[member], Some(&dir))).unwrap()
    }

    pub(crate) fn start_all(&self) -> Vec<Handle> {
        (0..4).map(|member| self.start(member)).collect()
    }

    pub(crate) fn spawn(&self, member: usize) -> Process {
        Process::spawn(self, member)
    }
}

/// Asks until the answer is yes.
pub(crate) fn wait_until(what: &str, mut answer: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !answer() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn wait_for_entries(handles: &[&Handle], entries: u64) {
    wait_until(&format!("{entries} entries are final"), || handles.iter().all(|h| h.status().log_size >= entries));
}

const ASKED: &str = "VITALTRACE_SIM_NODE";

/// A node in a process of its own, driven by lines on its standard input.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(site: &Site, member: usize) -> Self {
        let addresses = site.addresses.map(|address| address.to_string()).join(",");
        let asked = format!("{} {} {} {}", site.seed, member, addresses, site.dir.path().display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node_process", "--nocapture", "--test-threads=1"])
            .env(ASKED, asked)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self { child, input, output };
        process.answer();
        process
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the node's process ended");
            // The test harness prints without ending its line first.
            if let Some((_, answer)) = line.split_once('@') {
                return answer.trim().to_owned();
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        self.answer()
    }

    pub(crate) fn submit(&mut self, bytes: &[u8]) -> String {
        self.ask(&format!("submit {}", hex::encode(bytes)))
    }

    pub(crate) fn log_size(&mut self) -> u64 {
        self.ask("log_size").parse().unwrap()
    }

    /// `height log_root state_root` at the height.
    pub(crate) fn roots(&mut self, height: u64) -> String {
        self.ask(&format!("roots {height}"))
    }

    pub(crate) fn height(&mut self) -> u64 {
        self.ask("height").parse().unwrap()
    }

    /// Entries applied in all final blocks.
    pub(crate) fn applied(&mut self) -> u64 {
        self.ask("applied").parse().unwrap()
    }

    /// SIGKILL: nothing gets a chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The child's side: runs a node if this process was started to, and does nothing otherwise.
pub(crate) fn run_if_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let mut words = asked.splitn(4, ' ');
    let seed = words.next().unwrap().parse().unwrap();
    let member: usize = words.next().unwrap().parse().unwrap();
    let addresses: Vec<SocketAddr> = words.next().unwrap().split(',').map(|text| text.parse().unwrap()).collect();
    let addresses: [SocketAddr; 4] = addresses.try_into().unwrap();
    let dir = Path::new(words.next().unwrap()).join(member.to_string());
    let consortium = Consortium::new(seed, &addresses);
    let handle = run_tokio(consortium.config(member, addresses[member], Some(&dir))).unwrap();
    println!("@up");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "submit" => println!("@{:?}", block_on(handle.submit(&hex::decode(argument).unwrap()))),
            "log_size" => println!("@{}", handle.status().log_size),
            "height" => println!("@{}", handle.status().height),
            "roots" => {
                let block = block_on(handle.block(argument.parse().unwrap())).unwrap().unwrap();
                println!("@{} {} {}", block.header().height, block.header().log_root, block.header().state_root);
            }
            "applied" => {
                let height = handle.status().height;
                let blocks = (1..=height).map(|height| block_on(handle.block(height)).unwrap().unwrap());
                let applied: usize = blocks.map(|b| b.receipts.iter().filter(|r| r.verdict == 0).count()).sum();
                println!("@{applied}");
            }
            "put" => println!("@{}", block_on(handle.put_attachments(vec![hex::decode(argument).unwrap()])).is_ok()),
            // For each final submission that names attachments: digest and custodian, as many as there are of both.
            "held" => {
                let height = handle.status().height;
                let blocks = (1..=height).map(|height| block_on(handle.block(height)).unwrap().unwrap());
                let mut held = Vec::new();
                for block in blocks {
                    let naming = block.submissions().iter().filter(|signed| signed.has_attachments());
                    for (signed, holdings) in naming.zip(&block.block.holdings) {
                        for attachment in signed.attachments() {
                            held.extend(holdings.iter().map(|h| format!("{}={}", attachment.digest, h.custodian)));
                        }
                    }
                }
                println!("@{}", held.join(" "));
            }
            "has" => {
                let digest = record::Digest(hex::decode(argument).unwrap().try_into().unwrap());
                println!("@{}", block_on(handle.attachment(digest)).unwrap().is_some());
            }
            other => println!("@unknown command {other}"),
        }
    }
    // The parent may be gone: nobody reads what the test harness would still print.
    std::process::exit(0);
}

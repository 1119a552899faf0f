//! A consortium of four organisations on loopback, started for one stage of the test and killed at its end.

use crate::{
    broker::Broker,
    run::{output, say},
};
use anyhow::{Context, bail};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Name and role of each organisation; people connect to the second.
const MEMBERS: [(&str, &str); 4] = [
    ("rescue-one", "ems"),
    ("mercy-hospital", "hospital"),
    ("acme-insurance", "insurer"),
    ("health-inspectorate", "compliance"),
];
/// The organisation whose gateway is used.
const USED: &str = "mercy-hospital";
/// Name and role of the people there.
pub(crate) const PEOPLE: [(&str, &str); 4] =
    [("doctor", "doctor"), ("desk", "administrator"), ("officer", "privacy-officer"), ("custodian", "custodian")];
/// How long the four may take until all of them are ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Ports are looked for here: below those that outgoing connections take.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Processes that end when this is dropped. The folder stays.
pub(crate) struct Site {
    program: PathBuf,
    folder: PathBuf,
    http: SocketAddr,
    broker: Broker,
    nodes: Vec<Child>,
}

impl Site {
    /// Founds a consortium in an empty folder, starts all nodes, and waits until they are ready.
    pub(crate) fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let ports = free_ports(2 * MEMBERS.len() + 1)?;
        let address = |at: usize| format!("127.0.0.1:{}", ports[at]);
        let run = |arguments: &[&str]| output(Command::new(program).current_dir(folder).args(arguments));
        for (at, (org, role)) in MEMBERS.iter().enumerate() {
            let (http, ledger) = (address(2 * at), address(2 * at + 1));
            let database = "../cloud.db";
            run(&[
                "init",
                "--org",
                org,
                "--role",
                role,
                "--http",
                &http,
                "--ledger",
                &ledger,
                "--database",
                database,
                org,
            ])?;
        }
        let introductions = MEMBERS.map(|(org, _)| format!("{org}/member.json"));
        let mut genesis = vec!["genesis", "--name", "clients", "--output", "genesis.json"];
        genesis.extend(introductions.iter().map(String::as_str));
        run(&genesis)?;
        let used = MEMBERS.iter().position(|(org, _)| *org == USED).context("nobody to connect to")?;
        let mut site = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            http: address(2 * used).parse()?,
            broker: Broker::start(&folder.join("broker"), ports[2 * MEMBERS.len()])?,
            nodes: Vec::new(),
        };
        for (org, _) in MEMBERS {
            fs::copy(folder.join("genesis.json"), folder.join(org).join("genesis.json"))?;
        }
        site.broker.configure(&site.config())?;
        for (name, role) in PEOPLE {
            site.add_user(name, role)?;
        }
        for (org, _) in MEMBERS {
            let log = fs::File::create(folder.join(org).join("node.log"))?;
            let mut serve = Command::new(program);
            serve.current_dir(folder).args(["serve", "--config", org]);
            site.nodes.push(serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        }
        let begin = Instant::now();
        for (at, (org, _)) in MEMBERS.iter().enumerate() {
            let http: SocketAddr = address(2 * at).parse()?;
            while !answers(http, "/ready") {
                site.must_run()?;
                if begin.elapsed() > READY_LIMIT {
                    bail!("`{}` is not ready after {READY_LIMIT:?}: its log is below {}", org, folder.display());
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
        say(&format!("four organisations are ready; the gateway of {USED} is at http://{}", site.http));
        Ok(site)
    }

    fn add_user(&self, name: &str, role: &str) -> anyhow::Result<()> {
        let mut user = Command::new(&self.program);
        user.current_dir(&self.folder).args(["user", "--config", USED, "--name", name, "--role", role]);
        let mut child = user.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(b"a password for tests\n")?;
        anyhow::ensure!(child.wait()?.success(), "the user `{name}` could not be made");
        Ok(())
    }

    /// Fails when a node ended by itself.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        for ((org, _), node) in MEMBERS.iter().zip(&mut self.nodes) {
            if let Some(status) = node.try_wait()? {
                bail!("the node of `{org}` ended with {status}: its log is below {}", self.folder.display());
            }
        }
        Ok(())
    }

    /// A fresh token of one of the people.
    pub(crate) fn token(&self, name: &str) -> anyhow::Result<String> {
        let mut token = Command::new(&self.program);
        token.current_dir(&self.folder).args(["token", "--config", USED, "--name", name]);
        Ok(output(&mut token)?.trim().to_owned())
    }

    /// The address before `/fhir`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// `host:port` of the broker that its gateway takes frames from.
    pub(crate) fn broker(&self) -> String {
        self.broker.address()
    }

    /// The folder of the organisation whose gateway is used.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join(USED)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that has ended cannot be killed, and need not be.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Ports on loopback that nobody listens on.
pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // Another run beside this one begins elsewhere.
    let begin = PORTS.start + (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
    let all = (begin..PORTS.end).chain(PORTS.start..begin);
    let free = all.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let free: Vec<u16> = free.take(count).collect();
    anyhow::ensure!(free.len() == count, "no {count} free ports on loopback");
    Ok(free)
}

/// Whether a server's answer to `GET` of this path is good.
pub(crate) fn answers(http: SocketAddr, path: &str) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_free_are_found_each_once() {
        let mut ports = free_ports(8).unwrap();
        ports.dedup();
        assert_eq!(ports.len(), 8);
        let held = TcpListener::bind(("127.0.0.1", ports[0])).unwrap();
        assert!(!free_ports(8).unwrap().contains(&held.local_addr().unwrap().port()));
        assert!(!answers(SocketAddr::from(([127, 0, 0, 1], ports[1])), "/ready"));
    }
}

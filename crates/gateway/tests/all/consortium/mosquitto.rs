//! A Mosquitto broker for tests: a private folder, a port of loopback, TLS, two users, a process that ends with the test.

use super::{PATIENCE, free_addresses, good};
use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The passwords of the gateway and of devices.
pub(crate) const GATEWAY_PASSWORD: &str = "the gateway's";
pub(crate) const DEVICE_PASSWORD: &str = "a device's";

/// A running broker.
pub(crate) struct Mosquitto {
    folder: TempDir,
    pub(crate) address: SocketAddr,
    process: Option<Child>,
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("mosquitto")).find(|file| file.is_file())
}

impl Mosquitto {
    /// A broker, or none when Mosquitto is not installed, which it says.
    pub(crate) fn start() -> Option<Self> {
        if program().is_none() {
            assert!(
                env::var_os("CI").is_none(),
                "Mosquitto is not installed: apt-get install mosquitto mosquitto-clients"
            );
            println!("SKIPPED: Mosquitto is not installed: apt-get install mosquitto mosquitto-clients");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("vitaltrace-mqtt-").tempdir().unwrap();
        let at = folder.path();
        // Mosquitto gives up being root and reads its files as somebody else.
        fs::set_permissions(at, fs::Permissions::from_mode(0o777)).unwrap();
        certificate(at);
        let address = free_addresses(1)[0];
        for (user, password) in [("gateway", GATEWAY_PASSWORD), ("device", DEVICE_PASSWORD)] {
            let mut make = Command::new("mosquitto_passwd");
            make.arg("-b").args((user == "gateway").then_some("-c")).arg(at.join("users")).args([user, password]);
            good(make.output().unwrap());
        }
        fs::write(
            at.join("acl"),
            "user gateway\ntopic read vitaltrace/mercy-hospital/device/+/frame\ntopic write vitaltrace/mercy-hospital/device/#\n\
             user device\ntopic write vitaltrace/mercy-hospital/device/+/frame\ntopic read vitaltrace/mercy-hospital/device/#\n",
        )
        .unwrap();
        let folder_name = at.display();
        let config = format!(
            "listener {} 127.0.0.1\ncafile {folder_name}/ca.pem\ncertfile {folder_name}/broker.pem\nkeyfile {folder_name}/broker.key\n\
             allow_anonymous false\npassword_file {folder_name}/users\nacl_file {folder_name}/acl\n\
             persistence true\npersistence_location {folder_name}/\nautosave_interval 1\nautosave_on_changes true\n\
             max_queued_messages 100000\nlog_dest file {folder_name}/log\n",
            address.port()
        );
        fs::write(at.join("mosquitto.conf"), config).unwrap();
        for entry in fs::read_dir(at).unwrap() {
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mut broker = Self { folder, address, process: None };
        broker.run();
        Some(broker)
    }

    /// The certificate of its authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Starts the process, again if need be.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new(program().unwrap());
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "the broker does not come up: {log}");
            std::thread::sleep(Duration::from_millis(50));
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

    /// The section `[mqtt]` of a gateway's configuration, with its password beside it.
    pub(crate) fn section(&self, dir: &Path, share: &str) -> String {
        fs::write(dir.join("mqtt-password"), format!("{GATEWAY_PASSWORD}\n")).unwrap();
        let (ca, port) = (self.ca().display().to_string(), self.address.port());
        format!(
            "\n[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\nca = \"{ca}\"\nuser = \"gateway\"\npassword_file = \"mqtt-password\"\n{share}\n"
        )
    }

    /// One of Mosquitto's own clients, as a device. Its lines come at once, also into a pipe.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", program]).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.address.port().to_string(),
            "-V",
            "mqttv5",
        ]);
        command.arg("--cafile").arg(self.ca()).args(["-u", "device", "-P", DEVICE_PASSWORD, "-q", "1"]);
        command
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of the broker:");
            lines.iter().skip(lines.len().saturating_sub(20)).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// An authority, and a certificate of the broker's on this address.
fn certificate(at: &Path) {
    let openssl = |args: &[&str]| good(Command::new("openssl").args(args).current_dir(at).output().unwrap());
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"];
    openssl(&[&new[..], &["/CN=authority", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"]].concat());
    openssl(&[&new[..], &["/CN=127.0.0.1", "-keyout", "broker.key", "-out", "broker.csr"]].concat());
    fs::write(at.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "broker.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "broker.pem",
    ]);
}

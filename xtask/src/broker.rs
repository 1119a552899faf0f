//! A Mosquitto broker on loopback, started for one stage of the test and ended with it.

use crate::run::output;
use anyhow::{Context, bail};
use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Who may connect, with their passwords: the gateway, and whoever plays a device.
pub(crate) const GATEWAY: (&str, &str) = ("gateway", "a gateway for tests");
pub(crate) const DEVICE: (&str, &str) = ("device", "a device for tests");
/// How long it may take to start.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// A broker that ends when this is dropped. Its folder stays.
pub(crate) struct Broker {
    port: u16,
    process: Child,
}

impl Broker {
    /// Starts a broker in an empty folder.
    pub(crate) fn start(folder: &Path, port: u16) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        // Mosquitto gives up being root and reads its files as somebody else.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
        let users = folder.join("users");
        for ((user, password), new) in [(GATEWAY, Some("-c")), (DEVICE, None)] {
            let mut make = Command::new("mosquitto_passwd");
            output(make.arg("-b").args(new).arg(&users).args([user, password]))?;
        }
        fs::set_permissions(&users, fs::Permissions::from_mode(0o644))?;
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\n", users.display());
        fs::write(&config, text).with_context(|| format!("cannot write `{}`", config.display()))?;
        let log = fs::File::create(folder.join("log"))?;
        let mut run = Command::new("mosquitto");
        run.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut broker = Self { port, process: run.spawn().context("`mosquitto` cannot be started")? };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if broker.process.try_wait()?.is_some() || begin.elapsed() > READY_LIMIT {
                bail!("the broker is not ready: its log is below {}", folder.display());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(broker)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The section `[mqtt]` of a gateway's configuration, with its password beside it.
    pub(crate) fn configure(&self, gateway: &Path) -> anyhow::Result<()> {
        let (user, password) = GATEWAY;
        fs::write(gateway.join("mqtt-password"), password)?;
        let file = gateway.join("vitaltrace.toml");
        let config = fs::read_to_string(&file)?;
        let address = self.address();
        let section =
            format!("\n[mqtt]\nbroker = \"mqtt://{address}\"\nuser = \"{user}\"\npassword_file = \"mqtt-password\"\n");
        Ok(fs::write(file, config + &section)?)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

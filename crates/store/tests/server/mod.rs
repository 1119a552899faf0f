//! A PostgreSQL server for tests: a private folder, a port of loopback, a process that ends with the test program.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Who owns the databases, and their password: with characters that addresses must write in another way.
pub const USER: &str = "vitaltrace";
pub const PASSWORD: &str = "for tests: /?@%";
const PASSWORD_IN_ADDRESSES: &str = "for%20tests%3A%20%2F%3F%40%25";

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the server writes through to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// As it does for everybody.
    Durable,
    /// Quicker, for tests that kill nothing.
    Careless,
}

/// A running server. It is ended and removed when dropped.
pub struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    disk: Disk,
    pub port: u16,
    process: Mutex<Option<Child>>,
}

/// The folder of the newest server that is installed.
fn programs() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let real = |folder: PathBuf| Some(fs::canonicalize(folder.join("postgres")).ok()?.parent()?.to_owned());
    on_path.chain(debian.into_iter().rev()).filter_map(real).find(|folder| folder.join("initdb").exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// A port between the ranges from which nodes and outgoing connections take theirs: a server that is killed finds its own again.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap() * 4;
    let mut ports = (0..4_000_u16).map(|_| 28_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 4_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// A command that the server's user runs: PostgreSQL refuses to run as root.
fn as_servant(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    /// A server of one's own, or none when PostgreSQL is not installed, which it says.
    pub fn start(disk: Disk) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(env::var_os("CI").is_none(), "PostgreSQL is not installed: apt-get install postgresql");
            println!("SKIPPED: PostgreSQL is not installed: apt-get install postgresql");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("vitaltrace-pg-").tempdir().unwrap();
        let password = folder.path().join("password");
        write!(File::create(&password).unwrap(), "{PASSWORD}").unwrap();
        if is_root() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            run(Command::new("chown").args(["-R", "postgres"]).arg(folder.path()));
        }
        let data = folder.path().join("data");
        let mut make = as_servant(&programs.join("initdb"));
        make.args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        run(make.arg("--pwfile").arg(&password).arg("-D").arg(&data).env_remove("LANG"));
        let port = free_port();
        let server = Self { folder, programs, disk, port, process: Mutex::default() };
        server.run();
        Some(server)
    }

    /// One server for all tests of this program. It ends when the program does.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<(Server, Child)>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            let server = Self::start(Disk::Careless)?;
            // Nothing of this program is dropped at its end, but its pipe is closed.
            let number = server.process.lock().unwrap().as_ref().unwrap().id().to_string();
            let mut guard = Command::new("sh");
            guard.args([
                "-c",
                "read end; kill -QUIT $1; while [ -e $2/data/postmaster.pid ]; do sleep 0.1; done; sleep 1; rm -rf $2",
                "sh",
            ]);
            guard
                .arg(number)
                .arg(server.folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            Some((server, guard.spawn().unwrap()))
        });
        shared.as_ref().map(|(server, _)| server)
    }

    /// A second server that follows this one: what is answered here is on the disk of both.
    pub fn standby(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("vitaltrace-pg-").tempdir().unwrap();
        if is_root() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut copy = as_servant(&self.programs.join("pg_basebackup"));
        copy.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            USER,
            "--checkpoint=fast",
            "--write-recovery-conf",
        ]);
        run(copy.arg("-D").arg(folder.path().join("data")).env("PGPASSWORD", PASSWORD));
        let port = free_port();
        let server = Self { folder, programs: self.programs.clone(), disk: self.disk, port, process: Mutex::default() };
        server.run();
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        let since = Instant::now();
        while self.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != "1" {
            assert!(since.elapsed() < PATIENCE, "the second server does not follow");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Makes a server that follows one that others write to, waiting for nobody.
    pub fn promote(&self) {
        self.sql("postgres", "SELECT pg_promote()");
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Has the server speak TLS, as `localhost`. Gives the certificate that signed its own, and another one that did not.
    pub fn with_tls(&self) -> [PathBuf; 2] {
        let folder = self.folder.path();
        let openssl = |arguments: &str| {
            let mut openssl = Command::new("openssl");
            run(openssl.current_dir(folder).args(arguments.split(' ')));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for name in ["ca", "other"] {
            openssl(&format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"));
        }
        openssl(&format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"));
        fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
        openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.join("server.key")));
        }
        for (setting, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
            self.sql("postgres", &format!("ALTER SYSTEM SET {setting} = '{}'", folder.join(value).display()));
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on");
        self.stop();
        self.run();
        ["ca.pem", "other.pem"].map(|name| folder.join(name))
    }

    /// Has the server, which speaks TLS, know a role that comes with no password but with a certificate in its name. Gives such a
    /// certificate and its key, and a pair that a stranger signed.
    pub fn with_certificates_of_clients(&self, role: &str) -> [[PathBuf; 2]; 2] {
        let folder = self.folder.path();
        // With an extension, or it would be a certificate of the first version, which nobody takes any more.
        fs::write(folder.join("of"), "extendedKeyUsage=clientAuth").unwrap();
        let pairs = ["ca", "other"].map(|signer| {
            let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
            for arguments in [
                format!("{request} -subj /CN={role} -keyout of-{signer}.key -out of.csr"),
                format!("x509 -req -in of.csr -CA {signer}.pem -CAkey {signer}.key -CAcreateserial -days 2 -extfile of -out of-{signer}.pem"),
            ] {
                run(Command::new("openssl").current_dir(folder).args(arguments.split(' ')));
            }
            ["pem", "key"].map(|kind| folder.join(format!("of-{signer}.{kind}")))
        });
        self.sql("postgres", &format!("CREATE ROLE {role} LOGIN SUPERUSER"));
        self.sql("postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{}'", folder.join("ca.pem").display()));
        let rules = folder.join("data/pg_hba.conf");
        let others = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("hostssl all {role} all cert\nhost all {role} all reject\n{others}")).unwrap();
        self.stop();
        self.run();
        pairs
    }

    /// The address of a database that is on either of two servers.
    pub fn address_of_either(&self, other: &Self, database: &str) -> String {
        let own = self.port.to_string();
        self.address(database).replace(&format!(":{own}/"), &format!(":{own},127.0.0.1:{}/", other.port))
    }

    /// Starts the process again.
    pub fn run(&self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = as_servant(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        for setting in
            ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "shared_buffers=64MB"]
        {
            command.args(["-c", setting]);
        }
        if self.disk == Disk::Careless {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = self.process.lock().unwrap();
        let since = Instant::now();
        *process = Some(command.spawn().unwrap());
        // Another server may have taken the port.
        let own = fs::canonicalize(self.folder.path()).unwrap().join("data").display().to_string();
        while self.try_sql("postgres", "SHOW data_directory").is_none_or(|said| said != own) {
            // What a server that was killed leaves behind may still be in use for a moment.
            if process.as_mut().unwrap().try_wait().unwrap().is_some() {
                *process = Some(command.spawn().unwrap());
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(since.elapsed() < PATIENCE, "the server does not start: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL: nothing gets a chance to tidy up. Waits until the processes of its connections have noticed.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.wait_until_gone();
    }

    /// As an administrator does who restarts it: connections are ended, what they do is undone.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            run(Command::new("kill").arg("-INT").arg(process.id().to_string()));
            process.wait().unwrap();
        }
        self.wait_until_gone();
    }

    fn wait_until_gone(&self) {
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() || self.has_processes() {
            assert!(since.elapsed() < PATIENCE, "the server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a process works in its folder, such as that of a connection: on a busy machine it answered one question more after the server
    /// was killed. Where the system has no `/proc` nobody knows.
    fn has_processes(&self) -> bool {
        let data = self.folder.path().join("data");
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.into_iter().any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|at| at == data))
    }

    /// The address of a database of it.
    pub fn address(&self, database: &str) -> String {
        self.address_as(USER, PASSWORD_IN_ADDRESSES, database)
    }

    pub fn address_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database.
    pub fn create(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{database}\""));
    }

    /// A copy of a database, as a backup that was put back.
    pub fn copy(&self, database: &str, to: &str) {
        self.create(to);
        let file = self.folder.path().join(format!("{to}.sql"));
        let dump = self.client("pg_dump", database).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        fs::write(&file, dump.stdout).unwrap();
        run(self.client("psql", to).args(["--quiet", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file));
    }

    /// Plain SQL, as an administrator of the database would run it.
    #[track_caller]
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self.psql(database, statement).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn try_sql(&self, database: &str, statement: &str) -> Option<String> {
        let output = self.psql(database, statement).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut psql = self.client("psql", database);
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        psql
    }

    fn client(&self, program: &str, database: &str) -> Command {
        let mut client = Command::new(self.programs.join(program));
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER, "-d", database]);
        client.env("PGPASSWORD", PASSWORD).stdin(Stdio::null());
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            // One that has ended already cannot be told to.
            let _ = Command::new("kill").arg("-QUIT").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}

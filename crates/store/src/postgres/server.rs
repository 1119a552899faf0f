//! Reaching a server: passwords, TLS, time limits.

use crate::{
    address::{OwnCertificate, PORT, ServerAddress, Tls},
    store::OpenError,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    env, fmt, fs, panic,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::AbortHandle,
    time::timeout,
};
use tokio_postgres::{
    Client, NoTls,
    config::{Host, TargetSessionAttrs},
    error::{Severity, SqlState},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long it may take to reach a server, log in included.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// After this time without a sign of life a connection is asked for one, and given up if it gives none.
const SILENCE_WAIT: Duration = Duration::from_secs(10);
/// Threads that move bytes between this process and its servers.
const THREADS: usize = 2;

/// The threads of all connections of this process. They outlive every store: one that is dropped may be on a thread that must not wait.
static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    let built = Builder::new_multi_thread().worker_threads(THREADS).thread_name("store-postgres").enable_all().build();
    built.map_err(|error| error.to_string())
});

/// A server that can be connected to any number of times.
#[derive(Clone)]
pub(crate) struct Server {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    pub(super) runtime: Handle,
}

/// Why the server did not do what it was asked for. Never shows values: health data may be among them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerError {
    /// The connection is gone, or was never there.
    #[error("the database server cannot be reached ({0})")]
    Lost(String),
    /// Other writers kept the lock for too long.
    #[error("other gateways write for too long")]
    NoTurn,
    /// What the connection prepared is not good any more: somebody changed the tables, or the server forgot it. A new one may be served.
    #[error("the database server has other tables than when the connection was made: {0}")]
    Stale(String),
    /// The server refused the statement.
    #[error("the database server refused a statement: {0}")]
    Refused(String),
}

impl From<tokio_postgres::Error> for ServerError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let source = std::error::Error::source(&error);
            let text = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            // The others are of columns that have not the form that was asked for. Connecting has errors of its own, of TLS and the like.
            let of_the_network = error.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>());
            return if of_the_network { Self::Lost(text) } else { Self::Refused(text) };
        };
        let code = said.code().code();
        // Classes of errors whose texts name connections, roles, databases, tables and limits, and not values.
        let text = match code.get(..2) {
            Some("08" | "28" | "3D" | "3F" | "42" | "53" | "55" | "57") => {
                format!("SQLSTATE {code}, {}", said.message())
            }
            _ => format!("SQLSTATE {code}"),
        };
        // After these the server closes the connection, or does not open it.
        let fatal = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        if *said.code() == SqlState::LOCK_NOT_AVAILABLE {
            Self::NoTurn
        } else if [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME].contains(said.code()) {
            Self::Stale(text)
        } else if fatal || *said.code() == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT {
            Self::Lost(text)
        } else {
            Self::Refused(text)
        }
    }
}

impl From<ServerError> for OpenError {
    fn from(error: ServerError) -> Self {
        Self::Database(error.to_string())
    }
}

/// Whose address it is: what is taken from beside it, and what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The operator's: `PGPASSWORD` and the password file are meant for it.
    Operator,
    /// Somebody's who named it in a request: the operator's passwords go nowhere, and no file of this machine is read.
    Caller,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    pub(crate) fn new(address: &ServerAddress, trust: Trust) -> Result<Self, OpenError> {
        if trust == Trust::Caller {
            plain(address)?;
        }
        let runtime = RUNTIME.as_ref().map_err(|error| OpenError::Thread(error.clone()))?.handle().clone();
        let mut config = (*address.config).clone();
        if trust == Trust::Operator
            && config.get_password().is_none()
            && let Some(password) = password(&config)
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_application_name().is_none() {
            config.application_name("vitaltrace");
        }
        config.keepalives_idle(SILENCE_WAIT).keepalives_interval(SILENCE_WAIT / 4).keepalives_retries(3);
        config.tcp_user_timeout(SILENCE_WAIT * 2);
        // Of several hosts the one that takes writes: the others may be behind.
        if trust == Trust::Operator {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Self { config, tls: tls(&address.tls)?, runtime })
    }

    /// A new connection, kept alive on the threads of [`RUNTIME`].
    pub(super) async fn connect(&self) -> Result<(Client, AbortHandle), ServerError> {
        let connecting = async {
            match self.tls.clone() {
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    Ok((client, self.runtime.spawn(connection).abort_handle()))
                }
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls).await?;
                    Ok((client, self.runtime.spawn(connection).abort_handle()))
                }
            }
        };
        match timeout(CONNECT_WAIT * 2, connecting).await {
            Ok(connected) => connected.map_err(|error: tokio_postgres::Error| match ServerError::from(error) {
                ServerError::Refused(why) | ServerError::Stale(why) => ServerError::Lost(why),
                other => other,
            }),
            Err(_) => Err(ServerError::Lost("it does not answer in time".into())),
        }
    }

    /// Waits for `asked` as [`Server::wait`] does, and no longer than `limit`: then the server counts as lost.
    pub(super) fn wait_for<T: Send, E: From<ServerError> + Send>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let late = || ServerError::Lost("it does not answer in time".into());
        self.wait(async { timeout(limit, asked).await.unwrap_or_else(|_| Err(late().into())) })
    }

    /// Waits for `future` on this thread, whichever it is.
    pub(super) fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        if Handle::try_current().is_err() {
            return self.runtime.block_on(future);
        }
        // A thread of some runtime must not wait by itself.
        let waited = thread::scope(|scope| scope.spawn(|| self.runtime.block_on(future)).join());
        waited.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }
}

/// Whether the address names one host by its name, and no file.
fn plain(address: &ServerAddress) -> Result<(), OpenError> {
    let refused = |what: &str| Err(OpenError::Database(format!("an address in a request takes no {what}")));
    if !address.config.get_hostaddrs().is_empty() {
        refused("`hostaddr`")
    } else if address.config.get_hosts().len() > 1 {
        refused("second host")
    } else if matches!(address.tls, Tls::Verified { .. }) {
        refused("`sslrootcert`")
    } else {
        Ok(())
    }
}

/// The password from the environment or from the password file, as libpq takes it.
fn password(config: &tokio_postgres::Config) -> Option<Vec<u8>> {
    if let Ok(password) = env::var("PGPASSWORD") {
        return Some(password.into_bytes());
    }
    let file = match env::var_os("PGPASSFILE") {
        Some(file) => PathBuf::from(file),
        None => PathBuf::from(env::var_os("HOME")?).join(".pgpass"),
    };
    let metadata = fs::metadata(&file).ok()?;
    if readable_by_others(&metadata) {
        tracing::warn!(file = %file.display(), "the password file is passed over: others may read it");
        return None;
    }
    let lines = fs::read_to_string(&file).ok()?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        _ => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(PORT).to_string();
    let user = config.get_user().unwrap_or_default();
    let wanted = [&host, &port, config.get_dbname().unwrap_or(user), user];
    lines.lines().find_map(|line| password_of(line, wanted)).map(String::into_bytes)
}

fn readable_by_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

/// The password of a line `host:port:database:user:password`, if the line is meant. `\` stands before `:` and `\` in a field.
fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut fields = Vec::with_capacity(5);
    let mut field = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    let password = if line.starts_with('#') || fields.len() < 5 { None } else { fields.pop() };
    password.filter(|_| fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted))
}

fn tls(how: &Tls) -> Result<Option<MakeRustlsConnect>, OpenError> {
    let failed = |what: &str, why: &dyn std::fmt::Display| OpenError::Database(format!("{what}: {why}"));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| failed("TLS", &error))?;
    let mut shown = None;
    let config = match how {
        Tls::Off => return Ok(None),
        Tls::Unverified => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        Tls::Verified { roots: file, own } => {
            shown = own.as_ref();
            let mut roots = RootCertStore::empty();
            let unreadable =
                |why: &dyn std::fmt::Display| failed(&format!("`sslrootcert` {} cannot be read", file.display()), why);
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate).map_err(|error| unreadable(&error))?;
            }
            if roots.is_empty() {
                return Err(unreadable(&"it holds no certificate"));
            }
            builder.with_root_certificates(roots)
        }
    };
    let config = match shown {
        None => config.with_no_client_auth(),
        Some(OwnCertificate { certificate, key }) => {
            let unreadable = |what: &str, file: &Path, why: &dyn std::fmt::Display| {
                failed(&format!("`{what}` {} cannot be read", file.display()), why)
            };
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let chain = chain.map_err(|error| unreadable("sslcert", certificate, &error))?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, &error))?;
            let fits = config.with_client_auth_cert(chain, private);
            fits.map_err(|error| failed("`sslcert` and `sslkey` cannot be used", &error))?
        }
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Takes whatever certificate the server shows, as `sslmode=require` is defined; the server must have its key all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_request_names_one_host_and_no_file() {
        let opens = |text: &str, trust| match text.parse() {
            Ok(crate::Address::Server(address)) => Server::new(&address, trust).map(drop),
            other => panic!("{other:?}"),
        };
        for (more, what) in [
            ("b?hostaddr=127.0.0.1", "`hostaddr`"),
            ("b?host=c", "second host"),
            ("b?sslmode=verify-full&sslrootcert=/etc/passwd", "`sslrootcert`"),
            ("b?sslmode=verify-full&sslrootcert=/a&sslcert=/b&sslkey=/c", "`sslrootcert`"),
        ] {
            let refused = opens(&format!("postgresql://u:p@a/{more}"), Trust::Caller).unwrap_err().to_string();
            assert!(refused.contains(what), "{refused}");
        }
        assert!(opens("postgresql://u:p@a,c/b", Trust::Caller).is_err());
        assert_eq!(opens("postgresql://u:p@a,c/b?hostaddr=127.0.0.1,127.0.0.2", Trust::Operator), Ok(()));
        assert_eq!(opens("postgresql://u:p@a:1/b", Trust::Caller), Ok(()));
    }

    #[test]
    fn the_line_of_a_password_file_is_found_by_its_four_fields() {
        let wanted = ["db.example", "5432", "cloud", "mercy"];
        let found = |line| password_of(line, wanted);
        assert_eq!(found("db.example:5432:cloud:mercy:secret").as_deref(), Some("secret"));
        assert_eq!(found("*:*:*:mercy:a:b\\:c\\\\").as_deref(), Some("a:b:c\\"));
        assert_eq!(found("other:5432:cloud:mercy:secret"), None);
        assert_eq!(found("# db.example:5432:cloud:mercy:secret"), None);
        assert_eq!(found("db.example:5432:cloud"), None);
        assert_eq!(found(""), None);
    }
}

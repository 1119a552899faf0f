//! Where a database is: a file, or a PostgreSQL server.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};
use tokio_postgres::config::{Host, SslMode};

/// How the address of a server begins.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];
/// The port of a server that names none.
pub(crate) const PORT: u16 = 5432;

/// Why an address cannot be used. No variant repeats what was written: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is no address of a server.
    #[error(
        "the address of the database is not of the form `postgresql://user@host:port/database`; other characters than letters and digits in a \
         password are written as `%` and two hexadecimal digits"
    )]
    Form,
    /// A character that ends a user or a password, in the middle of it.
    #[error(
        "in the address of the database `@` is written as %40, `/` as %2F and `?` as %3F where they are part of a user, a password or a value"
    )]
    Unescaped,
    /// TLS is asked for in a way that is not offered.
    #[error("`sslmode` is one of `disable`, `prefer`, `require` and `verify-full`")]
    SslMode,
    /// Nothing to verify the server's certificate by.
    #[error("`sslmode=verify-full` needs `sslrootcert=FILE`, and no other mode takes it")]
    RootCertificate,
    /// The gateway's own certificate without its key, the key without the certificate, or either for a server that is not verified.
    #[error("`sslcert=FILE` and `sslkey=FILE` go together, and with `sslmode=verify-full`")]
    OwnCertificate,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An SQLite file, which several processes of one machine may share. Its folder must exist.
    File(PathBuf),
    /// A database of a PostgreSQL server.
    Server(ServerAddress),
}

/// A database of a PostgreSQL server. Shows itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress {
    text: String,
    pub(crate) config: Box<tokio_postgres::Config>,
    pub(crate) tls: Tls,
}

/// How the connection to a server is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Off,
    /// Encrypted, if the mode asks for it or the server offers it; whoever answers is believed to be the server.
    Unverified,
    /// Encrypted, with a certificate for the host's name that was signed by one in the file `roots`.
    Verified {
        /// Certificates of whoever may sign the server's.
        roots: PathBuf,
        /// What the server is shown in turn, where it asks who connects.
        own: Option<OwnCertificate>,
    },
}

/// A certificate of this side, and the key to it: two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Address {
    /// The same, a file's path, and those of a server's `sslrootcert`, `sslcert` and `sslkey`, being relative to `folder` unless it is absolute.
    pub fn under(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Server(server) => {
                let tls = match server.tls {
                    Tls::Verified { roots, own } => {
                        let own = own.map(|own| OwnCertificate {
                            certificate: folder.join(own.certificate),
                            key: folder.join(own.key),
                        });
                        Tls::Verified { roots: folder.join(roots), own }
                    }
                    other => other,
                };
                Self::Server(ServerAddress { tls, ..server })
            }
        }
    }

    /// The SQLite file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server(_) => None,
        }
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            text.parse().map(Self::Server)
        } else {
            Ok(Self::File(text.into()))
        }
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        // Read otherwise, a part of a password would be taken for a host, and shown.
        let whole = text.split_once("://").map_or(text, |(_, whole)| whole);
        if let Some((named, rest)) = whole.split_once('@') {
            let user = named.split(':').next().unwrap_or_default();
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            if host.contains('@') || named.contains('/') || user.contains(['?', '=']) || named.contains("password=") {
                return Err(AddressError::Unescaped);
            }
        }
        // A password may hold a question mark.
        let named = text.find('@').unwrap_or_default();
        let (before, query) = match text[named..].find('?') {
            Some(at) => (&text[..named + at], &text[named + at + 1..]),
            None => (text, ""),
        };
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        let (mut certificate, mut key) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(unescaped(value).ok_or(AddressError::Form)?),
                Some(("sslcert", value)) => certificate = Some(unescaped(value).ok_or(AddressError::Form)?),
                Some(("sslkey", value)) => key = Some(unescaped(value).ok_or(AddressError::Form)?),
                _ => rest.push(pair),
            }
        }
        // Only the rest is left to the client, which knows fewer modes. What it says of mistakes may quote a password.
        let mut config: tokio_postgres::Config =
            format!("{before}?{}", rest.join("&")).parse().map_err(|_| AddressError::Form)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(AddressError::Form);
        }
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(OwnCertificate { certificate: certificate.into(), key: key.into() }),
            (None, None) => None,
            _ => return Err(AddressError::OwnCertificate),
        };
        if own.is_some() && roots.is_none() {
            return Err(AddressError::OwnCertificate);
        }
        let (mode, tls) = match (mode.unwrap_or("prefer"), roots) {
            ("disable", None) => (SslMode::Disable, Tls::Off),
            ("prefer", None) => (SslMode::Prefer, Tls::Unverified),
            ("require", None) => (SslMode::Require, Tls::Unverified),
            ("verify-full", Some(roots)) => (SslMode::Require, Tls::Verified { roots: roots.into(), own }),
            ("disable" | "prefer" | "require" | "verify-full", _) => return Err(AddressError::RootCertificate),
            _ => return Err(AddressError::SslMode),
        };
        config.ssl_mode(mode);
        Ok(Self { text: text.to_owned(), config: Box::new(config), tls })
    }
}

/// What `%41` and the like stand for.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server(server) => write!(f, "{server}"),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgresql://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(PORT);
            let between = if number > 0 { "," } else { "" };
            match host {
                Host::Tcp(host) => write!(f, "{between}{host}:{port}")?,
                Host::Unix(folder) => write!(f, "{between}{}:{port}", folder.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Writes it as it was given, the password included: for configuration files.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File(path) => path.serialize(serializer),
            Self::Server(server) => server.text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let address: Result<Address, _> = text.parse();
        let shown = match address {
            Ok(Address::Server(server)) => format!("{server} {:?} {:?}", server.config.get_ssl_mode(), server.tls),
            Ok(file) => format!("file {file}"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn an_address_is_a_file_or_a_server() {
        check("../cloud.db", expect!["file ../cloud.db"]);
        check(
            "postgresql://mercy@db.example/cloud",
            expect!["postgresql://mercy@db.example:5432/cloud Prefer Unverified"],
        );
        check(
            "postgres://mercy@a:1,b:2/cloud?sslmode=require&connect_timeout=3",
            expect!["postgresql://mercy@a:1,b:2/cloud Require Unverified"],
        );
        check(
            "postgresql://mercy:a?sslmode=b@db.example/cloud",
            expect!["postgresql://mercy@db.example:5432/cloud Prefer Unverified"],
        );
        check(
            "postgresql://mercy@db.example/cloud?sslmode=verify-full&sslrootcert=%2Fetc/ca.pem",
            expect![[
                r#"postgresql://mercy@db.example:5432/cloud Require Verified { roots: "/etc/ca.pem", own: None }"#
            ]],
        );
        check(
            "postgresql://mercy@db.example/cloud?sslmode=verify-full&sslrootcert=ca&sslcert=m.pem&sslkey=m.key",
            expect![[
                r#"postgresql://mercy@db.example:5432/cloud Require Verified { roots: "ca", own: Some(OwnCertificate { certificate: "m.pem", key: "m.key" }) }"#
            ]],
        );
        for alone in ["sslmode=verify-full&sslrootcert=c&sslcert=a", "sslkey=b", "sslmode=require&sslcert=a&sslkey=b"] {
            check(
                &format!("postgresql://a/b?{alone}"),
                expect!["`sslcert=FILE` and `sslkey=FILE` go together, and with `sslmode=verify-full`"],
            );
        }
        check(
            "postgresql://mercy@%2Frun%2Fpg/cloud?sslmode=disable",
            expect!["postgresql://mercy@/run/pg:5432/cloud Disable Off"],
        );
        check(
            "postgresql://a/b?sslmode=verify-ca",
            expect!["`sslmode` is one of `disable`, `prefer`, `require` and `verify-full`"],
        );
        check(
            "postgresql://a/b?sslmode=verify-full",
            expect!["`sslmode=verify-full` needs `sslrootcert=FILE`, and no other mode takes it"],
        );
        check(
            "postgresql://a/b?sslmode=require&sslrootcert=c",
            expect!["`sslmode=verify-full` needs `sslrootcert=FILE`, and no other mode takes it"],
        );
    }

    #[test]
    fn a_certificate_is_named_relative_to_the_configuration() {
        let under = |text: &str| text.parse::<Address>().unwrap().under(Path::new("/etc/v"));
        let tls = |files: &str| match under(&format!("postgresql://a/b?sslmode=verify-full&{files}")) {
            Address::Server(server) => server.tls,
            Address::File(_) => panic!(),
        };
        let own = Some(OwnCertificate { certificate: "/etc/v/m.pem".into(), key: "/m.key".into() });
        assert_eq!(tls("sslrootcert=ca.pem"), Tls::Verified { roots: "/etc/v/ca.pem".into(), own: None });
        assert_eq!(
            tls("sslrootcert=/ca.pem&sslcert=m.pem&sslkey=/m.key"),
            Tls::Verified { roots: "/ca.pem".into(), own }
        );
        assert_eq!(under("c.db"), Address::File("/etc/v/c.db".into()));
    }

    #[test]
    fn a_password_is_in_nothing_that_is_shown() {
        let text = "postgresql://mercy:se%63ret@db.example/cloud";
        let address: Address = text.parse().unwrap();
        let Address::Server(server) = &address else { panic!("{address}") };
        assert_eq!(server.config.get_password(), Some(b"secret".as_slice()));
        for shown in
            [format!("{address}"), format!("{address:?}"), format!("{address:#?}"), format!("{:?}", server.config)]
        {
            assert!(!shown.contains("secret") && !shown.contains("se%63ret"), "{shown}");
        }
        assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{text}\""), "a file says it all");
        for wrong in [
            "postgresql://mercy@db.example/cloud?passwort=secret",
            "postgresql://mercy:secret@db:port/x",
            "postgresql://u:secret/",
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert_eq!(error, AddressError::Form);
            assert!(!format!("{error} {error:?}").contains("sec"), "{error}");
        }
        for wrong in [
            "postgresql://m:sec@ret@db/cloud",
            "postgresql://m:sec@ret@db:1,b/cloud",
            "postgresql://db/cloud?password=sec@ret",
            "postgresql://db?password=sec@ret",
            "postgresql://db:5432?password=sec@ret",
            "postgresql://m:se/c@ret/cloud",
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert_eq!(error, AddressError::Unescaped, "{wrong}");
        }
        for right in
            ["postgresql://m:p%40%2F@db/cloud", "postgresql://m@db/cloud?password=s@t", "postgresql:///c?host=a"]
        {
            let address: Address = right.parse().unwrap();
            assert!(!format!("{address}").contains("s@t"));
        }
    }
}

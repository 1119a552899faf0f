//! Which broker a gateway or a device speaks to, and how it shows who it is.

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How long a broker keeps a session, with what was not acknowledged, for a gateway that is away, in seconds: a week.
const SESSION_S: u32 = 7 * 86_400;
/// The longest file with a password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4 * 1024;

/// The section `[mqtt]`. Relative paths are relative to the folder of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mqtt {
    /// `mqtts://host:port`; `mqtt://` on this host only.
    pub(crate) broker: String,
    /// The certificates of the broker's authority, PEM; those that the system trusts unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The name that the gateway has at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// A file with its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// The gateway's own certificate and key, PEM, for brokers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// What the broker knows the gateway's session by; `vitaltrace-ORG` unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    /// The group of a shared subscription, `$share/GROUP/...`; none unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<String>,
    /// For how many seconds the broker keeps the session of a gateway that is away; a week unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_s: Option<u32>,
}

/// A broker, and who speaks to it.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// None for a connection in the clear.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) login: Option<(String, String)>,
    pub(crate) client_id: String,
    pub(crate) session_s: u32,
}

impl Mqtt {
    /// Paths are relative to this folder.
    pub(crate) fn under(mut self, folder: &Path) -> Self {
        for path in [&mut self.ca, &mut self.password_file, &mut self.certificate, &mut self.key].into_iter().flatten()
        {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        }
        self
    }

    /// The group of the shared subscription.
    pub(crate) fn share(&self) -> anyhow::Result<Option<&str>> {
        let Some(group) = self.share.as_deref() else { return Ok(None) };
        if group.is_empty() || group.contains(['/', '+', '#', '\0']) {
            bail!("`share` is `{group}`: the name of a group has no `/`, `+` or `#`");
        }
        Ok(Some(group))
    }

    /// Reads the files and checks what is said.
    pub(crate) fn broker(&self, client_id: &str) -> anyhow::Result<Broker> {
        let said = &self.broker;
        let url = reqwest::Url::parse(said).ok().filter(|url| ["mqtt", "mqtts"].contains(&url.scheme()));
        let plain = |url: &reqwest::Url| {
            url.username().is_empty()
                && url.password().is_none()
                && ["", "/"].contains(&url.path())
                && url.query().is_none()
        };
        // The text is not shown: whoever wrote a password into it must not find it in a log.
        let url = url.filter(plain).context(
            "`broker` is not of the form mqtts://host:port: name and password stand in `user` and `password_file`",
        )?;
        let host = url.host_str().filter(|host| !host.is_empty()).context("`broker` names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = url.scheme() == "mqtts";
        let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !secure && !here {
            bail!("`broker` is `mqtt://{host}`: frames and passwords would travel in the clear; use mqtts://");
        }
        if !secure && (self.ca.is_some() || self.certificate.is_some()) {
            bail!("`ca` and `certificate` are for mqtts://, and `broker` is mqtt://");
        }
        let password = self.password_file.as_deref().map(password).transpose()?;
        let login = match (&self.user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password)),
            (None, None) => None,
            (Some(_), None) => bail!("`user` needs `password_file`"),
            (None, Some(_)) => bail!("`password_file` needs `user`"),
        };
        let client_id = self.client_id.clone().unwrap_or_else(|| client_id.to_owned());
        if client_id.is_empty() || client_id.len() > 64 || client_id.chars().any(char::is_control) {
            bail!("`client_id` has 1 to 64 characters");
        }
        let port = url.port().unwrap_or(if secure { 8883 } else { 1883 });
        let tls = if secure { Some(self.tls()?) } else { None };
        Ok(Broker { host, port, tls, login, client_id, session_s: self.session_s.unwrap_or(SESSION_S) })
    }

    fn tls(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(file) => {
                let unreadable = || format!("`ca` {} cannot be read", file.display());
                for certificate in CertificateDer::pem_file_iter(file).with_context(unreadable)? {
                    roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
                }
                if roots.is_empty() {
                    bail!("`ca` {} holds no certificate", file.display());
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    bail!("this system trusts no authority: name the broker's in `ca`");
                }
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let unreadable = || format!("`certificate` {} cannot be read", certificate.display());
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(certificate).with_context(unreadable)?.collect();
                let key = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("`key` {} cannot be read", key.display()))?;
                builder
                    .with_client_auth_cert(chain.with_context(unreadable)?, key)
                    .context("`certificate` and `key`")?
            }
            _ => bail!("`certificate` and `key` go together"),
        };
        Ok(Arc::new(config))
    }
}

/// The first line of a file.
fn password(file: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("`password_file` {} cannot be read", file.display());
    if fs::metadata(file).with_context(unreadable)?.len() > PASSWORD_BYTES_MAX {
        bail!("`password_file` {} has more than {PASSWORD_BYTES_MAX} bytes", file.display());
    }
    let text = fs::read_to_string(file).with_context(unreadable)?;
    let line = text.lines().next().filter(|line| !line.is_empty());
    Ok(line.with_context(|| format!("`password_file` {} is empty", file.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &str) -> anyhow::Result<Broker> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "secret\n").unwrap();
        fs::write(folder.path().join("empty"), "\n").unwrap();
        let mqtt: Mqtt = toml::from_str(lines)?;
        mqtt.share()?;
        mqtt.under(folder.path()).broker("vitaltrace-mercy")
    }

    #[test]
    fn what_is_wrong_with_a_broker_is_said_without_its_password() {
        let good =
            with("broker = 'mqtt://127.0.0.1:1884'\nuser = 'g'\npassword_file = 'password'\nshare = 'er'").unwrap();
        assert_eq!((good.host.as_str(), good.port, good.tls.is_none()), ("127.0.0.1", 1884, true));
        assert_eq!((good.login, good.client_id.as_str()), (Some(("g".into(), "secret".into())), "vitaltrace-mercy"));
        assert_eq!(with("broker = 'mqtt://localhost'").unwrap().port, 1883);
        let check = |lines: &str, expected: &str| {
            let error = format!("{:#}", with(lines).err().unwrap());
            assert!(error.contains(expected) && !error.contains("secret"), "{lines}: {error}");
        };
        check("broker = 'mqtt://broker.example'", "use mqtts://");
        check("broker = 'http://localhost'", "mqtts://host:port");
        check("broker = 'mqtts://g:secret@broker.example'", "`password_file`");
        check("broker = 'mqtt://localhost/topic'", "mqtts://host:port");
        check("broker = 'mqtt://localhost'\nuser = 'g'", "`user` needs `password_file`");
        check("broker = 'mqtt://localhost'\npassword_file = 'password'", "`password_file` needs `user`");
        check("broker = 'mqtt://localhost'\nuser = 'g'\npassword_file = 'empty'", "is empty");
        check("broker = 'mqtt://localhost'\nuser = 'g'\npassword_file = 'nothing'", "cannot be read");
        check("broker = 'mqtt://localhost'\nca = 'password'", "for mqtts://");
        check("broker = 'mqtts://localhost'\nca = 'password'", "holds no certificate");
        check("broker = 'mqtt://localhost'\nshare = 'a/b'", "name of a group");
        check("broker = 'mqtt://localhost'\nclient_id = ''", "`client_id`");
        check("broker = 'mqtt://localhost'\nbroken = 1", "unknown field");
    }
}

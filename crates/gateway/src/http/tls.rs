//! The doors by https: TLS by rustls, with a certificate that is replaced while the gateway runs.

use crate::identity::watched::{Mark, mark};
use anyhow::{Context, ensure};
use axum::{
    extract::{ConnectInfo, Request},
    middleware::Next,
    response::Response,
    serve::{IncomingStream, Listener},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a caller may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at the same time; a further caller is sent away.
const HANDSHAKES_MAX: usize = 1024;
/// The same of one address, so that none takes the room of all.
const OF_ONE_MAX: usize = 32;
/// Connections that are ready and not taken yet.
const READY_MAX: usize = 128;
/// How often it is looked whether there is another certificate.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it is waited after the system could not give a connection.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// Certificates in a chain.
const CHAIN_MAX: usize = 16;

/// Where certificate and key lie, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// Reads both, and checks that they belong together and that nobody else may read the key.
    fn read(&self) -> anyhow::Result<CertifiedKey> {
        let Self { certificate, key } = self;
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(|all| all.take(CHAIN_MAX + 1).collect::<Result<Vec<_>, _>>())
            .with_context(|| format!("cannot read the certificate `{}`", certificate.display()))?;
        ensure!(!chain.is_empty(), "`{}` holds no certificate", certificate.display());
        ensure!(chain.len() <= CHAIN_MAX, "`{}` holds more than {CHAIN_MAX} certificates", certificate.display());
        let mode =
            fs::metadata(key).with_context(|| format!("cannot read the key `{}`", key.display()))?.permissions().mode();
        ensure!(mode & 0o077 == 0, "the key `{}` may be read by others: set its mode to 600", key.display());
        let key =
            PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read the key `{}`", key.display()))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .context("certificate and key of the doors do not belong together")
    }

    fn marks(&self) -> [Mark; 2] {
        [mark(&self.certificate), mark(&self.key)]
    }
}

/// The certificate that callers are shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Shown {
    /// Goes over to another certificate when the files hold one; keeps the present one while they do not.
    async fn follow(self: Arc<Self>, files: Files) {
        let mut seen = files.marks();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let marks = files.marks();
            if marks == seen || marks.contains(&None) {
                continue;
            }
            match files.read() {
                Ok(key) => {
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    tracing::info!("callers by https are shown another certificate");
                }
                // One of the two files may be there before the other.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the certificate is not taken as it is now"),
            }
            seen = marks;
        }
    }
}

/// Callers by https, once both sides have agreed on keys.
pub(crate) struct Https {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Https {
    /// Listens on `address`.
    pub(crate) async fn listen(address: SocketAddr, files: Files) -> anyhow::Result<Self> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(files.read()?))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(shown.follow(files));
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), sender));
        Ok(Self { ready, address })
    }
}

/// Who is agreeing on keys, by address.
#[derive(Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One caller's place, until it is dropped.
struct Place(Arc<Places>, IpAddr);

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.entry(address).or_default();
        if all >= HANDSHAKES_MAX || *own >= OF_ONE_MAX {
            // One that has a place is counted in the map.
            if *own == 0 {
                taken.remove(&address);
            }
            return None;
        }
        *own += 1;
        Some(Place(self.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// Takes connections until nobody serves them any more. A caller that is slow to agree keeps no other one waiting.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let places = Arc::new(Places::default());
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if ready.is_closed() {
            return;
        }
        let Some(place) = places.take(address.ip()) else { continue };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let agreed = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            if let Ok(Ok(stream)) = agreed {
                // Nobody serves any more: the caller sees the connection close.
                let _ = ready.send((stream, address)).await;
            }
        });
    }
}

impl Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The task that accepts has ended with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Where a caller by https comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From(SocketAddr);

impl axum::extract::connect_info::Connected<IncomingStream<'_, Https>> for From {
    fn connect_info(stream: IncomingStream<'_, Https>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Says it in the way of callers without TLS, which the doors read.
pub(crate) async fn as_plain(
    ConnectInfo(From(address)): ConnectInfo<From>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(ConnectInfo(address));
    let mut response = next.run(request).await;
    // Source: RFC 6797; a year.
    let always = axum::http::HeaderValue::from_static("max-age=31536000");
    response.headers_mut().insert(axum::http::header::STRICT_TRANSPORT_SECURITY, always);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_of_those_who_are_agreeing_and_gives_it_back() {
        let places = Arc::new(Places::default());
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut held: Vec<Place> = (0..OF_ONE_MAX).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none() && places.take(other).is_some());
        held.pop();
        assert!(places.take(one).is_some());
        drop(held);
        assert!(places.0.lock().unwrap().is_empty());
        let many: Vec<Option<Place>> =
            (0..HANDSHAKES_MAX as u32 + 1).map(|n| places.take(std::net::Ipv4Addr::from_bits(n).into())).collect();
        assert_eq!(many.iter().flatten().count(), HANDSHAKES_MAX);
    }
}

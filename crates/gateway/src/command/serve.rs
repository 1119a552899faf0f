//! `vitaltrace serve`: one organisation's node, gateway and validator.

use super::Exit;
use crate::{
    config::{Config, HttpsDoors},
    hook,
    http::{
        Base, Doors, router,
        tls::{self, Https},
        trace,
    },
    identity::{
        Identity,
        issuer::{Issuer, Keys},
        outside::Outside,
    },
    mqtt::Door,
};
use anyhow::Context;
use axum::{middleware, serve::Listener as _};
use clap::Args;
use exchange::{Node, Settings, Without, keys::OrgKeys};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tracing_subscriber::fmt::format::FmtSpan;

/// How long requests that are under way may take to end after the node was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Runs one organisation's node until it is asked to stop (SIGTERM or Ctrl-C).
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file, or the folder with `vitaltrace.toml`.
    #[arg(long, env = "VITALTRACE_CONFIG", default_value = ".")]
    pub(crate) config: PathBuf,
}

impl Serve {
    /// Runs the node.
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        self.run_without(Without::default()).await
    }

    /// Runs the node without some parts of custody, for a measurement.
    pub(crate) async fn run_without(self, without: Without) -> anyhow::Result<Exit> {
        let filter = tracing_subscriber::EnvFilter::try_from_env("VITALTRACE_LOG").unwrap_or_else(|_| {
            tracing_subscriber::EnvFilter::new("warn,vitaltrace=info,exchange=info,ledger=info,store=info")
        });
        // The steps of a request say how long they took when they are over, where the filter lets them.
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::CLOSE);
        log.with_writer(std::io::stderr).with_ansi(false).init();

        // The text of a panic may quote data: the log gets its place only.
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a panic");
        }));

        let config = Config::load(&self.config)?;
        let genesis = config.genesis()?;
        let keys = OrgKeys::load(&config.keys)?;
        let config = config.watching_if_votes_were_forgotten(&keys)?;
        let base = Base::new(config.fhir_url()?, config.http, false);
        let issuer = Issuer::new(config.org.clone(), config.role, &Keys::of(&keys))?;
        std::fs::create_dir_all(&config.data).context("the node's folder cannot be made")?;
        let outside = Outside::follow(config.issuers.clone(), &config.data)?;
        let identity = Arc::new(Identity::open(issuer, outside, config.users.clone(), &config.data)?);
        let settings = Settings {
            org: config.org.clone(),
            role: config.role,
            genesis,
            keys,
            data: config.data.clone(),
            database: config.database.clone(),
            ledger: config.ledger,
            part: config.part(),
            peers: config
                .peers
                .iter()
                .map(|peer| ledger::Peer { consensus_key: peer.consensus_key, address: peer.address.clone() })
                .collect(),
            peers_max: config.peers_max,
            cache_bytes: config.cache_bytes()?,
            escalation: config.alarms.escalation()?,
            begin: config.begin()?,
            policies: config.policies()?,
            without,
        };
        let hooks = hook::Allowed::new(&config.subscriptions.allow).context("in `[subscriptions]`")?;
        let mqtt = config.mqtt.as_ref().map(|mqtt| Door::new(mqtt, &config.org)).transpose().context("in `[mqtt]`")?;
        let listener = tokio::net::TcpListener::bind(config.http)
            .await
            .with_context(|| format!("cannot listen on {}: is another node running there?", config.http))?;
        if config.https.is_some() && !config.http.ip().is_loopback() {
            tracing::warn!(http = %config.http, "beside https, the doors without TLS are open to other machines, too");
        }
        let https = match &config.https {
            Some(HttpsDoors { address, certificate, key }) => {
                let files = tls::Files { certificate: certificate.clone(), key: key.clone() };
                Some(Https::listen(*address, files).await?)
            }
            None => None,
        };
        let node = Node::start(settings).await.context("the node did not start")?;
        tracing::info!(org = %config.org, http = %config.http, ledger = %config.ledger, "node up");

        tokio::spawn(identity.clone().follow_keys(config.keys.clone()));
        node.keep_logins(identity.clone()).await;
        let pumping = mqtt.map(|door| tokio::spawn(door.pump(node.clone(), config.org.clone())));
        let doors = Doors::new(node.clone(), identity.clone(), base);
        let (last_sums, doors_closed) = tokio::sync::oneshot::channel();
        let mut summing = tokio::spawn(trace::sum_up(doors.clone(), doors_closed));
        let delivering = tokio::spawn(hook::deliver(node.clone(), identity, hooks));
        let mut terminate = signal(SignalKind::terminate())?;
        let (stopping, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            tracing::info!("stopping: no new requests are taken");
            // The receivers are gone only when the doors failed first.
            let _ = stopping.send(true);
        });
        let asked_to_stop = || {
            let mut stopped = stopped.clone();
            async move { drop(stopped.wait_for(|stopped| *stopped).await) }
        };
        let by_https = async {
            let Some(https) = https else { return Ok(()) };
            let base = Base::new(config.fhir_url()?, https.local_addr()?, true);
            let app = router(doors.called(base)).layer(middleware::from_fn(tls::as_plain));
            let app = app.into_make_service_with_connect_info::<tls::From>();
            axum::serve(https, app).with_graceful_shutdown(asked_to_stop()).await.context("the doors by https failed")
        };
        let by_http = async {
            let app = router(doors.clone()).into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()).await.context("the doors failed")
        };
        let deadline = async {
            asked_to_stop().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = async { tokio::try_join!(by_http, by_https) } => drop(served?),
            () = deadline => tracing::warn!("some requests did not end in time"),
        }
        // What was not acknowledged comes again after the next start.
        pumping.inspect(JoinHandle::abort);
        delivering.abort();
        // The task is gone only if it panicked, which the log says.
        let _ = last_sums.send(());
        if tokio::time::timeout(trace::LAST_SUMS, &mut summing).await.is_err() {
            tracing::error!("refusals of the last minutes were not written into the trail in time");
            summing.abort();
        }
        node.stop().await;
        tracing::info!("stopped");
        Ok(Exit::Good)
    }
}

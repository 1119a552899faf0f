//! A node on threads of its own, so that no caller needs the engine's runtime.

use crate::{
    config::{Config, StartError},
    disk::ENGINE,
    handle::Handle,
    node::start,
};
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, tokio as engine};
use contract::Genesis;
use record::OrgId;
use std::{
    fs::{File, TryLockError},
    io::Write as _,
    net::TcpListener,
    path::Path,
    sync::mpsc,
    time::Duration,
};

/// How long tasks may take to end when the node is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the node on threads of its own and returns when it is up: it takes submissions and knows its latest state. Peers may still be away.
///
/// Blocks the calling thread meanwhile, usually for a fraction of a second. The node runs until [`Handle::stop`], even when every handle
/// is dropped; [`Handle::stopped`] tells when it ended.
pub fn run_tokio(config: Config) -> Result<Handle, StartError> {
    config.check()?;
    let lock = claim_data_dir(&config)?;
    // The engine would stop the whole node if it could not listen; better to say so here.
    drop(
        TcpListener::bind(config.listen)
            .map_err(|e| StartError::Listen { listen: config.listen, why: e.to_string() })?,
    );
    let (up, started) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("ledger-{}", config.org));
    thread.spawn(move || run(config, lock, &up)).map_err(|e| StartError::DataDir(e.to_string()))?;
    started.recv().unwrap_or(Err(StartError::Died))
}

/// Lets go of the folder and tells everybody who waits that the node stopped, also when it stops by a panic.
struct Stopped {
    lock: Option<File>,
    handle: Option<Handle>,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.lock.take());
        let Some(handle) = self.handle.take() else { return };
        handle.shared.stopped_sender.send_replace(true);
    }
}

fn run(config: Config, lock: Option<File>, up: &mpsc::SyncSender<Result<Handle, StartError>>) {
    let runtime = engine::Config::new()
        .with_worker_threads(config.workers.max(1))
        .with_storage_directory(config.data_dir.join(ENGINE));
    let mut stopped = Stopped { lock, handle: None };
    let slot = &mut stopped.handle;
    engine::Runner::new(runtime).start(|context| async move {
        let (handle, running) = match start(context.child("node"), config).await {
            Ok(started) => started,
            Err(error) => {
                let _ = up.send(Err(error));
                return;
            }
        };
        *slot = Some(handle.clone());
        let mut stop = handle.shared.stop.subscribe();
        let _ = up.send(Ok(handle));
        let asked = Box::pin(stop.wait_for(|stop| *stop));
        if let futures::future::Either::Right(_) = futures::future::select(asked, Box::pin(running.wait())).await {
            tracing::error!("a task of the ledger node ended: the node stops");
        }
        let _ = context.stop(0, Some(STOP_TIMEOUT)).await;
    });
    drop(stopped);
}

/// How the engine's files are laid out, and what the contract writes in them: the engine would cut off what it cannot read.
const FORMAT: &str = "vitaltrace-ledger/3";

/// Locks the folder of a node that does not run, as long as the file is kept, and checks that it is of this chain and member. Changes
/// nothing in it.
pub(crate) fn claim(folder: &Path, genesis: &Genesis, org: &OrgId) -> Result<Option<File>, StartError> {
    let bad = |e: std::io::Error| StartError::DataDir(e.to_string());
    let lock = match File::open(folder.join("lock")) {
        Ok(lock) => Some(lock),
        // A copy without it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(bad(error)),
    };
    match lock.as_ref().map(File::try_lock) {
        None | Some(Ok(())) => {}
        Some(Err(TryLockError::WouldBlock)) => return Err(StartError::DataDirInUse),
        Some(Err(TryLockError::Error(error))) => return Err(bad(error)),
    }
    match std::fs::read_to_string(folder.join("owner")).map_err(bad)? {
        found if found == owner(genesis, org) => Ok(lock),
        found if !found.starts_with(FORMAT) => Err(StartError::EarlierDataDir),
        _ => Err(StartError::OtherDataDir),
    }
}

/// What a folder says of whose it is.
fn owner(genesis: &Genesis, org: &OrgId) -> String {
    format!("{FORMAT} {} {org}\n", genesis.id())
}

/// Makes the folder, locks it against other processes, and checks that it is of this chain and member.
fn claim_data_dir(config: &Config) -> Result<Option<File>, StartError> {
    if !config.vault.is_file() && config.data_dir.as_os_str().is_empty() {
        return Ok(None);
    }
    let bad = |e: std::io::Error| StartError::DataDir(e.to_string());
    std::fs::create_dir_all(&config.data_dir).map_err(bad)?;
    let mut open = File::options();
    let lock =
        open.read(true).write(true).create(true).truncate(false).open(config.data_dir.join("lock")).map_err(bad)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StartError::DataDirInUse),
        Err(TryLockError::Error(error)) => return Err(bad(error)),
    }
    let owner = owner(&config.genesis, &config.org);
    let path = config.data_dir.join("owner");
    match std::fs::read_to_string(&path) {
        Ok(found) if found == owner => Ok(Some(lock)),
        Ok(found) if !found.starts_with(FORMAT) => Err(StartError::EarlierDataDir),
        Ok(_) => Err(StartError::OtherDataDir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut file = File::create(&path).map_err(bad)?;
            file.write_all(owner.as_bytes()).and_then(|()| file.sync_all()).map_err(bad)?;
            Ok(Some(lock))
        }
        Err(error) => Err(bad(error)),
    }
}

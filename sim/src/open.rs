//! One node on the deterministic runtime, for stories that no scenario tells.

use commonware_runtime::{Handle as Task, Spawner as _, deterministic};
use ledger::{Config, Handle, StartError, start};
use tokio::sync::oneshot;

/// Starts one node. It ends when the task is aborted; its storage is free some simulated time later.
///
/// Nothing when it stopped before it was up.
pub async fn open(context: deterministic::Context, config: Config) -> Option<Result<(Handle, Task<()>), StartError>> {
    let (up, started) = oneshot::channel();
    let task = context.spawn(move |context| async move {
        match start(context, config).await {
            Ok((handle, running)) => {
                let _ = up.send(Ok(handle));
                running.wait().await;
            }
            Err(error) => _ = up.send(Err(error)),
        }
    });
    let started = started.await.ok()?;
    Some(started.map(|handle| (handle, task)))
}

//! Threads that give way to those that answer people: the ledger's, those that write to the database, and those that the rules of
//! analytics run on.

use std::{future::Future, io, thread};
use tokio::runtime::{Builder, Runtime};

/// By so much the ledger's threads give way: what all agree on may come a little later, help may not. A thread that does has a tenth of
/// another's share of a processor that both want.
const LEDGER_NICENESS: i32 = 10;
/// And those that write to the database: many writes go into one transaction when it comes later, while who reads waits for one record. Reading
/// writes too, its trail: where that stays behind, `accesses` has who reads wait.
const WRITER_NICENESS: i32 = 10;
/// And those of analytics: half of another's share.
const ANALYTICS_NICENESS: i32 = 3;
/// More than that there is none.
const NICENESS_MAX: i32 = 19;

/// The niceness of whoever gives way to the calling thread by so much.
fn nicer(by: i32) -> i32 {
    rustix::process::getpriority_process(None).unwrap_or_default().saturating_add(by).min(NICENESS_MAX)
}

/// Has the calling thread, and all that it starts, give way: with this niceness, which it may have from whoever started it.
fn give_way(niceness: i32) {
    // Elsewhere the whole process would.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::warn!(%error, "a thread does not give way to those that answer people");
    }
}

/// Has the calling thread, which writes to the database, give way to those that read.
pub(crate) fn behind_those_who_read() {
    give_way(nicer(WRITER_NICENESS));
}

/// Starts the ledger by a thread that gives way, so that all its threads do.
pub(crate) fn with_the_ledgers_niceness<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let niceness = nicer(LEDGER_NICENESS);
    let thread = thread::spawn(move || {
        give_way(niceness);
        start()
    });
    thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}

/// Starts a thread of this name that follows the ledger, and gives way as it does.
pub(crate) fn beside_the_ledger(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let niceness = nicer(LEDGER_NICENESS);
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        give_way(niceness);
        run();
    });
    started.map(drop)
}

/// The threads of analytics: as many as there are processors. A second of one patient's signals takes milliseconds; among the tasks that answer
/// people, those of two hundred patients held up every answer.
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(processors).thread_name("analytics").enable_all();
        let niceness = nicer(ANALYTICS_NICENESS);
        threads.on_thread_start(move || give_way(niceness));
        Ok(Self(Some(threads.build()?)))
    }

    /// Runs a task until it ends by itself, or the node does.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(threads) = &self.0 {
            threads.spawn(task);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A node may end on a thread that must not wait.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn threads_of_analytics_of_the_ledger_and_of_writing_give_way_and_end_without_being_waited_for() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let expected = |by: i32| if cfg!(target_os = "linux") { (own + by).min(NICENESS_MAX) } else { own };
        let threads = Threads::start().unwrap();
        let (told, heard) = tokio::sync::oneshot::channel();
        threads.run(async move {
            let _ = told.send((niceness(), tokio::task::spawn_blocking(niceness).await.unwrap()));
        });
        assert_eq!(heard.await.unwrap(), (expected(ANALYTICS_NICENESS), expected(ANALYTICS_NICENESS)));
        let started = with_the_ledgers_niceness(move || (niceness(), thread::spawn(niceness).join().unwrap()));
        assert_eq!(started, (expected(LEDGER_NICENESS), expected(LEDGER_NICENESS)));
        let (told, heard) = std::sync::mpsc::channel();
        beside_the_ledger("follows", move || told.send(niceness()).unwrap()).unwrap();
        assert_eq!(heard.recv().unwrap(), expected(LEDGER_NICENESS));
        let writes = move || {
            behind_those_who_read();
            niceness()
        };
        assert_eq!(thread::spawn(writes).join().unwrap(), expected(WRITER_NICENESS));
        assert_eq!(niceness(), own);
        threads.run(std::future::pending());
        drop(threads);
    }
}

//! Whoever keeps the log of accesses, on a thread of its own.

use super::{
    Access, AccessesError, Noted, Request, Shared,
    aside::Aside,
    log::{CUT_BYTES, Line, Log},
};
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Requests that one sync serves at most.
const GROUP_MAX: usize = 512;
/// How long the next piece that is to be cut off a file waits for requests.
const CUT_PAUSE: Duration = Duration::from_millis(5);

/// The log's own thread.
pub(super) struct Keeper {
    pub(super) log: Log,
    pub(super) aside: Aside,
    pub(super) next: i64,
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Receiver<Request>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        loop {
            let first = if self.log.is_long() {
                self.requests.recv_timeout(CUT_PAUSE)
            } else {
                self.requests.recv().map_err(RecvTimeoutError::from)
            };
            let first = match first {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut group = Vec::from_iter(first);
            while group.len() < GROUP_MAX
                && let Ok(more) = self.requests.try_recv()
            {
                group.push(more);
            }
            let closed = if group.is_empty() { None } else { self.serve(group) };
            // Nobody waits for a log that is closed.
            let bytes = if closed.is_some() { u64::MAX } else { CUT_BYTES };
            if let Err(error) = self.log.shorten(bytes) {
                tracing::warn!(%error, "what waited for the database could not be cut off the log of accesses yet");
            }
            self.shared.failed.store(self.log.has_failed(), Ordering::Relaxed);
            if let Some(closed) = closed {
                drop(self);
                let _gone = closed.send(());
                return;
            }
        }
    }

    /// Serves requests with one sync. Gives who waits for the log to be closed.
    fn serve(&mut self, group: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let (mut notes, mut scrubs, mut aside, mut closed, mut forgotten) =
            (Vec::new(), Vec::new(), Vec::new(), None, None);
        for request in group {
            match request {
                Request::Note { accesses, answer } => notes.push((accesses, answer)),
                Request::Forget(last) => forgotten = forgotten.max(Some(last)),
                Request::SetAside(number, answer) => aside.push((number, answer)),
                Request::Scrub(answer) => scrubs.push(answer),
                Request::Close(answer) => closed = Some(answer),
            }
        }
        if !scrubs.is_empty() {
            forgotten = forgotten.max(Some(*self.shared.written.borrow()));
        }
        let lines: Vec<Line> = (self.next..)
            .zip(notes.iter().flat_map(|(accesses, _)| accesses))
            .map(|(number, access)| Line::of(number, access))
            .collect();
        let kept = self.log.append(&lines).map_err(|error| error.to_string());
        let since = Instant::now();
        if !lines.is_empty() {
            self.shared.note_whether(kept.is_ok(), since);
        }
        for (accesses, answer) in notes {
            if kept.is_ok() {
                let mut waiting = self.shared.waiting();
                for access in accesses {
                    waiting.bytes += access.new.row.bytes.len();
                    waiting.last = self.next;
                    let access = Arc::new(access);
                    waiting.noted.push_back(Noted { number: self.next, access, since, unsure: false });
                    self.next += 1;
                }
            }
            // Who has gone meanwhile was not shown anything; that the access is noted all the same says more than less.
            let _gone = answer.send(kept.clone());
        }
        self.shared.wake.notify_one();
        for (number, answer) in aside {
            match self.set_aside(number) {
                Ok(()) => _ = answer.send(()),
                // Whoever is not told waits on, and tries again.
                Err(error) => tracing::warn!(error, "an access could not be set aside"),
            }
        }
        if let Some(last) = forgotten
            && let Err(error) = self.log.forget(last)
        {
            tracing::warn!(%error, "what was written could not be cleared from the log of accesses");
        }
        if !scrubs.is_empty() {
            let scrubbed = self.log.scrub(&self.waiting()).map_err(|error| error.to_string());
            scrubs.into_iter().for_each(|answer| _ = answer.send(scrubbed.clone()));
        }
        closed
    }

    /// The accesses that are not in the database yet.
    fn waiting(&self) -> Vec<(i64, Arc<Access>)> {
        self.shared.waiting().noted.iter().map(|noted| (noted.number, Arc::clone(&noted.access))).collect()
    }

    fn set_aside(&self, number: i64) -> Result<(), String> {
        let access = {
            let waiting = self.shared.waiting();
            waiting.noted.iter().find(|noted| noted.number == number).map(|noted| Arc::clone(&noted.access))
        };
        let put = access.map_or(Ok(()), |access| self.aside.put(&Line::of(number, &access)));
        put.map_err(|error| error.to_string())
    }
}

/// The log, and what was in it.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) aside: Aside,
    pub(super) left: Vec<(i64, Access)>,
    /// The last number that was given.
    pub(super) last: i64,
}

/// Opens what is in a folder. What cannot be read is set aside.
pub(super) fn open(folder: &Path) -> Result<Opened, AccessesError> {
    let aside = Aside::open(folder)?;
    let (mut log, mut lines) = Log::open(folder)?;
    let mut last = lines.last().map_or(0, |line| line.number);
    // Before there was a log they waited beside those that are set aside, under numbers of their own. Whoever was stopped here moved them.
    let mut before = aside.waiting()?;
    let moved: HashSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
    before.retain(|line| !moved.contains(line.id.as_str()));
    for line in &mut before {
        line.after = last;
        last += 1;
        line.number = last;
    }
    log.append(&before).map_err(|source| AccessesError::File { path: folder.to_owned(), source })?;
    aside.have_moved()?;
    lines.append(&mut before);
    let mut left = Vec::with_capacity(lines.len());
    for line in lines {
        match line.read() {
            Some(access) => left.push((line.number, access)),
            None => aside.put(&line).map_err(|source| aside.failed(source))?,
        }
    }
    aside.tell()?;
    Ok(Opened { log, aside, left, last })
}

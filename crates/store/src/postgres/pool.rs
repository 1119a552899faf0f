//! The connections that read: each question has one for itself, and is answered on the threads of the connections.

use super::{
    server::Server,
    session::{Purpose, READ_S_MAX, Session},
};
use crate::readers::{READ_QUEUE_LEN_MAX, ReadError};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

/// After the server could not be reached, reads are refused for this long before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The longest that a question may take, the statements' own limit and a connection included. Then nobody answers.
const ANSWER_WAIT: Duration = Duration::from_secs(READ_S_MAX + 15);

/// Connections that are made when they are needed and kept. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    server: Server,
    /// Questions that are asked or wait.
    places: Arc<Semaphore>,
    /// Questions that are asked.
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Arc<Session>>>,
    refused_at: Mutex<Option<Instant>>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn new(server: Server, connections: usize) -> Self {
        let connections = connections.max(1);
        Self(Arc::new(Inner {
            server,
            places: Arc::new(Semaphore::new(READ_QUEUE_LEN_MAX + connections)),
            turns: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
            refused_at: Mutex::default(),
        }))
    }

    /// Asks a question on a connection of its own. A caller that stops waiting leaves the connection in order: the question ends first.
    pub(crate) async fn ask<T, F, A>(&self, question: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Session>) -> A + Send + 'static,
        A: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        if held(&inner.refused_at).is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return Err(ReadError::Unavailable);
        }
        let place = Arc::clone(&inner.places).try_acquire_owned().map_err(|_| ReadError::Busy)?;
        let (answer, answered) = oneshot::channel();
        let runtime = inner.server.runtime.clone();
        runtime.spawn(async move {
            let Ok(_turn) = Arc::clone(&inner.turns).acquire_owned().await else { return };
            if !answer.is_closed() {
                let asked = tokio::time::timeout(ANSWER_WAIT, inner.answer(question)).await;
                // An error means that the caller has stopped waiting.
                let _gone = answer.send(asked.unwrap_or(Err(ReadError::Unavailable)));
            }
            drop(place);
        });
        answered.await.map_err(|_| ReadError::Stopped)?
    }
}

impl Inner {
    async fn answer<T, F, A>(&self, question: F) -> Result<T, ReadError>
    where
        F: FnOnce(Arc<Session>) -> A,
        A: Future<Output = Result<T, ReadError>>,
    {
        let session = self.session().await?;
        let answer = question(Arc::clone(&session)).await;
        // After an error it may stand in the middle of a transaction, or hold statements about tables that have changed.
        let in_order =
            matches!(answer, Ok(_) | Err(ReadError::Malformed(_) | ReadError::TooMany { .. } | ReadError::Search(_)));
        if in_order {
            held(&self.idle).push(session);
        }
        answer
    }

    /// One that is idle and alive, or a new one.
    async fn session(&self) -> Result<Arc<Session>, ReadError> {
        loop {
            match held(&self.idle).pop() {
                Some(session) if session.is_lost() => {}
                Some(session) => return Ok(session),
                None => break,
            }
        }
        // Another one may have found that out while this one waited.
        if held(&self.refused_at).is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return Err(ReadError::Unavailable);
        }
        let opened = Session::open(&self.server, Purpose::Read).await;
        *held(&self.refused_at) = opened.is_err().then(Instant::now);
        Ok(Arc::new(opened?))
    }
}

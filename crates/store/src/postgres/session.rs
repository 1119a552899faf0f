//! One connection: how it is set up, its prepared statements, and many statements sent at once.

use super::server::{Server, ServerError};
use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{Client, Row as Columns, Statement, types::ToSql};

/// The longest that one statement may run, when it reads and when it writes, in seconds.
pub(crate) const READ_S_MAX: u64 = 30;
pub(super) const WRITE_S_MAX: u64 = 120;
/// How long a writer waits for its turn, in seconds.
pub(super) const TURN_S_MAX: u64 = 20;
/// The server gives up a transaction whose gateway has not been heard of for so long, so that others get their turn; in seconds.
const SILENT_S_MAX: u64 = 15;
/// How long a connection that is made may take to be set up.
const SET_UP_WAIT: Duration = Duration::from_secs(5);
/// The oldest server that is taken.
const SERVER_VERSION_MIN: i32 = 140_000;
/// Prepared statements that a connection keeps.
const STATEMENTS_KEPT: usize = 256;

/// The order of tables is chosen by `select` and not by the planner, whose statistics may be of yesterday: nested loops by index, in
/// the order that is written. Notices may hold anything that somebody put into the database, so none are sent.
const SET_UP: &str = "SET client_min_messages = error; SET jit = off; SET plan_cache_mode = force_generic_plan; \
    SET join_collapse_limit = 1; SET from_collapse_limit = 1; SET enable_seqscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// A connection that is set up.
pub(crate) struct Session {
    pub(super) client: Client,
    connection: AbortHandle,
    statements: Mutex<HashMap<String, Statement>>,
}

/// A statement with its parameters.
pub(super) struct Step<'a> {
    pub(super) sql: &'a str,
    pub(super) parameters: Vec<&'a (dyn ToSql + Sync)>,
}

impl<'a> Step<'a> {
    pub(super) fn new(sql: &'a str, parameters: &[&'a (dyn ToSql + Sync)]) -> Self {
        Self { sql, parameters: parameters.to_vec() }
    }
}

/// Closes it at once. The client would wait for what the server still owes.
impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    pub(super) async fn open(server: &Server, purpose: Purpose) -> Result<Self, ServerError> {
        let (client, connection) = server.connect().await?;
        let session = Self { client, connection, statements: Mutex::default() };
        let set_up = timeout(SET_UP_WAIT, session.set_up(purpose)).await;
        set_up.unwrap_or_else(|_| Err(ServerError::Lost("it does not answer in time".into())))?;
        Ok(session)
    }

    async fn set_up(&self, purpose: Purpose) -> Result<(), ServerError> {
        self.client.batch_execute(SET_UP).await?;
        self.client
            .batch_execute(&match purpose {
                Purpose::Read => format!(
                    "SET default_transaction_read_only = on; SET statement_timeout = '{READ_S_MAX}s'; \
                     SET idle_in_transaction_session_timeout = '{SILENT_S_MAX}s'"
                ),
                Purpose::Write => format!(
                    "SET statement_timeout = '{WRITE_S_MAX}s'; SET lock_timeout = '{TURN_S_MAX}s'; \
                     SET idle_in_transaction_session_timeout = '{SILENT_S_MAX}s'; \
                     SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off"
                ),
            })
            .await?;
        if purpose == Purpose::Write {
            self.demand_durability().await?;
        }
        Ok(())
    }

    /// A commit that is answered must be on the server's disk, whatever the server's own default is.
    async fn demand_durability(&self) -> Result<(), ServerError> {
        let row = self
            .client
            .query_one(
                "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'), \
                 current_setting('synchronous_commit'), current_setting('fsync')",
                &[],
            )
            .await?;
        let (version, encoding): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if version < SERVER_VERSION_MIN {
            return Err(ServerError::Refused("it is older than PostgreSQL 14".into()));
        }
        if encoding != "UTF8" {
            return Err(ServerError::Refused(format!("its encoding is {encoding}: make the database with UTF8")));
        }
        let synchronous: &str = row.try_get(2)?;
        // `remote_apply` promises more than `on`. Whatever it is, it is set here: the server's default may change while we are connected.
        let demanded = if synchronous == "remote_apply" { synchronous } else { "on" };
        self.client.batch_execute(&format!("SET synchronous_commit = {demanded}")).await?;
        if row.try_get::<_, &str>(3)? != "on" {
            tracing::warn!("the database server runs with fsync off: what it answers may be lost with its power");
        }
        Ok(())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, ServerError> {
        let kept = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = kept {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if statements.len() >= STATEMENTS_KEPT {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Columns>, ServerError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// How many rows the statement changed.
    pub(super) async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, ServerError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// Sends all statements at once, and gives the rows of each. The first error is the one that counts.
    pub(super) async fn pipeline(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Columns>>, ServerError> {
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(self.prepared(step.sql).await?);
        }
        // The client sends a prepared statement when it is first polled, so they go out in this order.
        let mut waiting: Vec<_> = steps
            .iter()
            .zip(&statements)
            .map(|(step, statement)| (Box::pin(self.client.query(statement, &step.parameters)), None))
            .collect();
        poll_fn(|context| {
            let mut all = Poll::Ready(());
            for (answer, rows) in &mut waiting {
                if rows.is_none() {
                    match Pin::new(answer).as_mut().poll(context) {
                        Poll::Ready(answered) => *rows = Some(answered),
                        Poll::Pending => all = Poll::Pending,
                    }
                }
            }
            all
        })
        .await;
        waiting.into_iter().filter_map(|(_, rows)| rows).map(|rows| rows.map_err(ServerError::from)).collect()
    }
}

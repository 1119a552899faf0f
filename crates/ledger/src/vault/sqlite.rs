//! A vault in a SQLite file: one thread, many operations per commit, deleted bytes overwritten.

use super::{Answer, Kept, Vault, VaultError, VaultStatus};
use bytes::Bytes;
use record::Digest;
use rusqlite::{Connection, OptionalExtension, params};
use std::{path::Path, sync::mpsc};
use tokio::sync::oneshot;

/// The most operations of one commit.
const BATCH_MAX: usize = 256;
/// The most operations that wait for the thread; further ones wait with their caller's thread.
const QUEUE_LEN_MAX: usize = 4096;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS attachment (digest BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS erased (digest BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS missing (digest BLOB PRIMARY KEY, asked INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS searched (one INTEGER PRIMARY KEY CHECK (one = 1), height INTEGER NOT NULL);
    INSERT OR IGNORE INTO searched VALUES (1, 0);
";

/// What the thread runs within a transaction; what it returns is sent once that is durable.
type Operation = Box<dyn FnOnce(&Connection) -> rusqlite::Result<After> + Send>;

/// Runs after the commit, and is told whether it succeeded.
struct After {
    reply: Box<dyn FnOnce(bool) + Send>,
    /// Whether deleted bytes must leave the write-ahead log too.
    truncate: bool,
}

/// A vault in a SQLite file.
pub(crate) struct SqliteVault {
    operations: mpsc::SyncSender<Operation>,
}

impl SqliteVault {
    /// Opens or makes the file.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let connection = open(path).map_err(|e| e.to_string())?;
        let (operations, received) = mpsc::sync_channel(QUEUE_LEN_MAX);
        let run = move || run(connection, &received);
        std::thread::Builder::new().name("vault".into()).spawn(run).map_err(|e| e.to_string())?;
        Ok(Self { operations })
    }

    fn ask<T: Send + 'static>(
        &self,
        truncate: bool,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let operation: Operation = Box::new(move |connection| {
            let value = work(connection)?;
            let reply = Box::new(move |durable: bool| {
                let _ = reply.send(durable.then_some(value));
            });
            Ok(After { reply, truncate })
        });
        let sent = self.operations.send(operation);
        Box::pin(async move {
            sent.map_err(|_| VaultError)?;
            answer.await.ok().flatten().ok_or(VaultError)
        })
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

fn run(mut connection: Connection, operations: &mpsc::Receiver<Operation>) {
    while let Ok(first) = operations.recv() {
        let batch = std::iter::once(first).chain(operations.try_iter().take(BATCH_MAX - 1));
        if let Err(error) = commit(&mut connection, batch) {
            tracing::error!(%error, "vault commit failed");
        }
    }
}

/// Runs a batch in one transaction. A failing operation is undone and its caller told (the reply is dropped); the others stand.
fn commit(connection: &mut Connection, batch: impl Iterator<Item = Operation>) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction()?;
    let mut after = Vec::new();
    for operation in batch {
        let savepoint = transaction.savepoint()?;
        match operation(&savepoint) {
            Ok(done) => {
                savepoint.commit()?;
                after.push(done);
            }
            Err(error) => tracing::error!(%error, "vault operation failed"),
        }
    }
    transaction.commit()?;
    if after.iter().any(|after| after.truncate) {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    for After { reply, .. } in after {
        reply(true);
    }
    Ok(())
}

impl Vault for SqliteVault {
    fn put(&self, attachments: Vec<(Digest, Bytes)>) -> Answer<()> {
        self.ask(false, move |connection| {
            let mut put = connection.prepare_cached(
                "INSERT OR IGNORE INTO attachment SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM erased WHERE digest = ?1)",
            )?;
            let mut found = connection.prepare_cached("DELETE FROM missing WHERE digest = ?1")?;
            for (digest, bytes) in &attachments {
                put.execute(params![digest.as_ref(), &bytes[..]])?;
                found.execute([digest.as_ref()])?;
            }
            Ok(())
        })
    }

    fn get(&self, digest: Digest) -> Answer<Option<Vec<u8>>> {
        self.ask(false, move |connection| {
            let mut get = connection.prepare_cached("SELECT bytes FROM attachment WHERE digest = ?1")?;
            get.query_row([digest.as_ref()], |row| row.get(0)).optional()
        })
    }

    fn kept(&self, digests: Vec<Digest>) -> Answer<Vec<Kept>> {
        self.ask(false, move |connection| {
            let mut held = connection.prepare_cached("SELECT 1 FROM attachment WHERE digest = ?1")?;
            let mut erased = connection.prepare_cached("SELECT 1 FROM erased WHERE digest = ?1")?;
            let mut kept = |digest: &Digest| {
                Ok(match held.exists([digest.as_ref()])? {
                    true => Kept::Held,
                    false if erased.exists([digest.as_ref()])? => Kept::Erased,
                    false => Kept::Not,
                })
            };
            digests.iter().map(&mut kept).collect()
        })
    }

    fn erase(&self, digest: Digest) -> Answer<()> {
        self.ask(true, move |connection| {
            connection.execute("INSERT OR IGNORE INTO erased VALUES (?1)", [digest.as_ref()])?;
            connection.execute("DELETE FROM missing WHERE digest = ?1", [digest.as_ref()])?;
            connection.execute("DELETE FROM attachment WHERE digest = ?1", [digest.as_ref()])?;
            Ok(())
        })
    }

    fn expect(&self, named: Vec<Digest>, height: u64) -> Answer<()> {
        self.ask(false, move |connection| {
            let mut expect = connection.prepare_cached(
                "INSERT OR IGNORE INTO missing SELECT ?1, 0
                 WHERE NOT EXISTS (SELECT 1 FROM erased WHERE digest = ?1)
                   AND NOT EXISTS (SELECT 1 FROM attachment WHERE digest = ?1)",
            )?;
            for digest in &named {
                expect.execute([digest.as_ref()])?;
            }
            connection.execute("UPDATE searched SET height = max(height, ?1)", [height as i64])?;
            Ok(())
        })
    }

    fn missing(&self, max: usize) -> Answer<Vec<Digest>> {
        self.ask(false, move |connection| {
            let mut oldest = connection.prepare_cached("SELECT digest FROM missing ORDER BY asked, digest LIMIT ?1")?;
            let rows = oldest.query_map([max as i64], |row| row.get::<_, [u8; 32]>(0))?;
            let digests: Vec<Digest> = rows.map(|row| row.map(Digest)).collect::<rusqlite::Result<_>>()?;
            let mut asked = connection
                .prepare_cached("UPDATE missing SET asked = 1 + (SELECT max(asked) FROM missing) WHERE digest = ?1")?;
            for digest in &digests {
                asked.execute([digest.as_ref()])?;
            }
            Ok(digests)
        })
    }

    fn is_missing(&self, digest: Digest) -> Answer<bool> {
        self.ask(false, move |connection| {
            let mut get = connection.prepare_cached("SELECT 1 FROM missing WHERE digest = ?1")?;
            get.exists([digest.as_ref()])
        })
    }

    fn status(&self) -> Answer<VaultStatus> {
        self.ask(false, |connection| {
            let (held, bytes) = connection.query_row(
                "SELECT count(*), coalesce(sum(length(bytes)), 0) FROM attachment",
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
            )?;
            let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let (missing, erased) = (number("SELECT count(*) FROM missing")?, number("SELECT count(*) FROM erased")?);
            let searched = number("SELECT height FROM searched")?;
            let natural = i64::unsigned_abs;
            Ok(VaultStatus {
                held: natural(held),
                bytes: natural(bytes),
                missing: natural(missing),
                erased: natural(erased),
                searched_height: natural(searched),
            })
        })
    }
}

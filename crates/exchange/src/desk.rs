//! The desk: what an organisation keeps to itself about its open overrides, cases and holds.
//!
//! The ledger knows these by random ids and pseudonyms; which patient and person they are about is written here, in a private file,
//! and on the disk before the caller is answered.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS paper (
  kind TEXT NOT NULL, id TEXT NOT NULL, patient TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS paper_patient ON paper (kind, patient);
CREATE INDEX IF NOT EXISTS paper_device ON paper (kind, json_extract(body, '$.device'));";

/// SQLite would go through the kind, without knowing how few papers name one device.
const OF_DEVICE: &str = "SELECT body FROM paper INDEXED BY paper_device WHERE kind = ?1 AND json_extract(body, '$.device') = ?2 \
   ORDER BY id";

/// Something that lies on the desk.
pub(crate) trait Paper: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Names the kind.
    const KIND: &'static str;
    /// Its id.
    fn id(&self) -> String;
    /// The patient that it is about.
    fn patient(&self) -> String;
}

/// A break-glass override of one of our people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOverride {
    /// Its id on the ledger.
    pub id: record::Id16,
    /// The Patient's id.
    pub patient: String,
    /// Who opened it.
    pub user: String,
    /// Why, as a code.
    #[serde(default = "other")]
    pub code: String,
    /// Why.
    pub reason: String,
    /// When.
    pub opened: record::TimeMs,
    /// It ends by itself then.
    pub until: record::TimeMs,
    /// When it was closed.
    pub closed: Option<record::TimeMs>,
    /// What the review found: justified or not.
    pub reviewed: Option<bool>,
    /// What is still to be found out, where a review came to no result.
    #[serde(default)]
    pub follow_up: Option<String>,
    /// The id of the Task by which the privacy officer hears of it.
    #[serde(default)]
    pub task: Option<String>,
    /// Steps that are not known to be written.
    #[serde(default)]
    pub owed: Vec<crate::owed::Owed>,
}

fn other() -> String {
    "other".to_owned()
}

impl Paper for OpenOverride {
    const KIND: &'static str = "override";
    fn id(&self) -> String {
        self.id.to_hex()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

/// An investigation of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Its id on the ledger.
    pub id: record::Id16,
    /// The Patient's id.
    pub patient: String,
    /// Who opened it.
    pub user: String,
    /// The order that it rests on.
    pub order: String,
    /// When it was opened.
    pub opened: record::TimeMs,
    /// What it found, once concluded.
    pub result: Option<String>,
    /// Steps that are not known to be written.
    #[serde(default)]
    pub owed: Vec<crate::owed::Owed>,
}
impl Paper for Case {
    const KIND: &'static str = "case";
    fn id(&self) -> String {
        self.id.to_hex()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

/// A hold, an erasure or a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Procedure {
    /// Its id on the ledger.
    pub id: record::Id16,
    /// The Patient's id; empty for a recovery of everything.
    pub patient: String,
    /// `hold`, `erase` or `recover`.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Whether it is over.
    pub done: bool,
    /// Custody ids of the ledger entries that an erasure is written by, one for each log.
    #[serde(default)]
    pub entries: Vec<record::Id16>,
}
impl Paper for Procedure {
    const KIND: &'static str = "procedure";
    fn id(&self) -> String {
        self.id.to_hex()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

/// Why the desk did not answer. Ours.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// SQLite failed.
    #[error("the desk at `{path}`: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A paper on the desk is not of the form this version writes.
    #[error("a paper on the desk cannot be read: {0}")]
    Unreadable(String),
    /// The program is stopping.
    #[error("the desk is closed")]
    Closed,
}

/// The file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Desk {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, DeskError> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|source| DeskError::Database { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DeskError> {
        let desk = self.clone();
        let run = move || {
            let connection = desk.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).map_err(|source| DeskError::Database { path: desk.path.clone(), source })
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| DeskError::Closed)?
    }

    /// Puts a paper down, over the one with the same id.
    pub(crate) async fn put<P: Paper>(&self, paper: P) -> Result<(), DeskError> {
        self.put_all(vec![paper]).await
    }

    /// Puts several papers down, all or none.
    pub(crate) async fn put_all<P: Paper>(&self, papers: Vec<P>) -> Result<(), DeskError> {
        let body = |paper: &P| serde_json::to_string(paper).map_err(|e| DeskError::Unreadable(e.to_string()));
        let bodies = papers.iter().map(body).collect::<Result<Vec<_>, _>>()?;
        self.with(move |c| {
            let together = c.unchecked_transaction()?;
            let mut put = together
                .prepare_cached("INSERT OR REPLACE INTO paper (kind, id, patient, body) VALUES (?1, ?2, ?3, ?4)")?;
            for (paper, body) in papers.iter().zip(bodies) {
                put.execute(params![P::KIND, paper.id(), paper.patient(), body])?;
            }
            drop(put);
            together.commit()
        })
        .await
    }

    /// The paper with this id.
    pub(crate) async fn get<P: Paper>(&self, id: &str) -> Result<Option<P>, DeskError> {
        let id = id.to_owned();
        let body = self
            .with(move |c| {
                c.query_row("SELECT body FROM paper WHERE kind = ?1 AND id = ?2", params![P::KIND, id], |row| {
                    row.get::<_, String>(0)
                })
                .optional()
            })
            .await?;
        body.map(|body| read(&body)).transpose()
    }

    /// All papers of a kind, or those about one patient.
    pub(crate) async fn list<P: Paper>(&self, patient: Option<&str>) -> Result<Vec<P>, DeskError> {
        let patient = patient.map(str::to_owned);
        let bodies = self
            .with(move |c| {
                c.prepare_cached("SELECT body FROM paper WHERE kind = ?1 AND (?2 IS NULL OR patient = ?2) ORDER BY id")?
                    .query_map(params![P::KIND, patient], |row| row.get::<_, String>(0))?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        bodies.iter().map(|body| read(body)).collect()
    }

    /// All papers of a kind that name this device.
    pub(crate) async fn list_of_device<P: Paper>(&self, device: &str) -> Result<Vec<P>, DeskError> {
        let device = device.to_owned();
        let bodies = self
            .with(move |c| {
                c.prepare_cached(OF_DEVICE)?
                    .query_map(params![P::KIND, device], |row| row.get::<_, String>(0))?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        bodies.iter().map(|body| read(body)).collect()
    }
}

fn read<P: Paper>(body: &str) -> Result<P, DeskError> {
    serde_json::from_str(body).map_err(|e| DeskError::Unreadable(e.to_string()))
}

impl From<DeskError> for crate::failure::Failure {
    fn from(error: DeskError) -> Self {
        Self::ours("the desk did not answer", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Id16, TimeMs};

    #[tokio::test]
    async fn a_case_survives_reopening_and_is_found_by_patient() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("desk.db");
        let case = Case {
            id: Id16([1; 16]),
            patient: "p1".into(),
            user: "cora".into(),
            order: "complaint".into(),
            opened: TimeMs(5),
            result: None,
            owed: Vec::new(),
        };
        Desk::open(&path).unwrap().put(case.clone()).await.unwrap();
        let desk = Desk::open(&path).unwrap();
        assert_eq!(desk.get::<Case>(&case.id()).await.unwrap(), Some(case.clone()));
        assert_eq!(desk.list::<Case>(Some("p1")).await.unwrap(), vec![case]);
        assert_eq!(desk.list::<Case>(Some("p2")).await.unwrap(), vec![]);
        assert_eq!(desk.list::<OpenOverride>(None).await.unwrap(), vec![]);
    }

    /// Every binding looked through those of all devices: a department's took the longer the more there were.
    #[tokio::test]
    async fn bindings_of_a_device_are_one_look_into_the_index_and_those_of_many_are_put_down_together() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(&dir.path().join("desk.db")).unwrap();
        let bound = |n: u8, device: &str| crate::bind::Bound {
            binding: Id16([n; 16]),
            device: device.to_owned(),
            patient: "p1".into(),
            key: contract::PublicKey(record::Digest([n; 32])),
            from: TimeMs(5),
            until: None,
            statement: "s1".into(),
            last: sensing::DeviceState::default(),
            revoked: None,
            floor: 0,
        };
        let all = vec![bound(1, "d1"), bound(2, "d2"), bound(3, "d1")];
        desk.put_all(all.clone()).await.unwrap();
        let found: Vec<crate::bind::Bound> = desk.list_of_device("d1").await.unwrap();
        assert_eq!(found.iter().map(|bound| bound.binding).collect::<Vec<_>>(), [all[0].binding, all[2].binding]);
        let plan = desk.with(|c| {
            c.query_row(&format!("EXPLAIN QUERY PLAN {OF_DEVICE}"), params!["binding", "d1"], |row| row.get(3))
        });
        let plan: String = plan.await.unwrap();
        assert!(plan.contains("paper_device"), "{plan}");
    }
}

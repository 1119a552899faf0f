//! Taking rows out: those that recovery found to be bad, and those of a patient that is erased.

use super::{
    columns::filed,
    schema,
    server::ServerError,
    session::{Purpose, Session},
    stage::{Values, without_values},
    write::Writer,
};
use crate::{
    extract::extract,
    int64::clamp,
    put::{PutError, Removal},
    template::opened,
};
use record::Digest;
use std::collections::BTreeSet;

/// Takes out one version, or one frame. When it was the newest version, the one below becomes current and is found by its own values
/// again.
pub(super) async fn remove(session: &Session, removal: &Removal) -> Result<(), ServerError> {
    let vid = match removal {
        Removal::Version(key) => {
            let sql = "SELECT vid FROM version WHERE rtype = $1 AND id = $2 AND version = $3";
            let rows = session.query(sql, &[&filed(&key.rtype), &filed(&key.id), &clamp(key.version)]).await?;
            rows.first().map(|columns| columns.try_get::<_, i64>(0)).transpose()?
        }
        Removal::Place(place) => i64::try_from(*place).ok(),
        Removal::LetGo(place) => {
            let stays = "INSERT INTO let_go (binding, counter, digest, patient) \
                 SELECT binding, counter, digest, patient FROM frame WHERE fid = $1 ON CONFLICT DO NOTHING";
            session.execute(stays, &[place]).await?;
            session.execute("DELETE FROM frame WHERE fid = $1", &[place]).await?;
            None
        }
        Removal::Frame(place) => {
            session.execute("DELETE FROM frame WHERE fid = $1", &[place]).await?;
            None
        }
    };
    let Some(vid) = vid else { return Ok(()) };
    let left = "SELECT v.vid, v.current FROM version o CROSS JOIN LATERAL (SELECT * FROM version v WHERE v.rtype = o.rtype AND v.id = o.id \
         AND v.vid <> o.vid ORDER BY v.version DESC LIMIT 1) v WHERE o.vid = $1";
    let left = session.query(left, &[&vid]).await?;
    // Whoever changed the form of a column is not to keep a row from being taken out.
    let left = left.first().map(|columns| Ok::<_, ServerError>((columns.try_get(0)?, columns.try_get(1).unwrap_or(0))));
    let left: Option<(i64, i16)> = left.transpose()?;
    delete_versions(session, &[vid]).await?;
    match left {
        Some((vid, 0)) => promote(session, vid).await,
        _ => Ok(()),
    }
}

async fn delete_versions(session: &Session, vids: &[i64]) -> Result<(), ServerError> {
    for sql in &without_values() {
        session.execute(sql, &[&vids]).await?;
    }
    let deleted = session.query("DELETE FROM version WHERE vid = ANY($1) RETURNING template", &[&vids]).await?;
    let places: BTreeSet<i64> =
        deleted.iter().filter_map(|columns| columns.try_get(0).ok()).filter(|place| *place < 0).collect();
    let places: Vec<i64> = places.into_iter().collect();
    if places.is_empty() {
        return Ok(());
    }
    // A template goes with the last version that has it: it may name somebody.
    let left = "SELECT k.place FROM unnest($1::int8[]) AS k (place) \
         WHERE NOT EXISTS (SELECT 1 FROM version v WHERE v.template = k.place OFFSET 0)";
    let left = session.query(left, &[&places]).await?;
    let left: Vec<i64> = left.iter().map(|columns| columns.try_get(0)).collect::<Result<_, _>>()?;
    let numbers: Vec<i64> = left.iter().map(|place| !place).collect();
    session.execute("DELETE FROM template WHERE number = ANY($1)", &[&numbers]).await?;
    for sql in &without_values() {
        session.execute(sql, &[&left]).await?;
    }
    Ok(())
}

async fn promote(session: &Session, vid: i64) -> Result<(), ServerError> {
    let sql = "UPDATE version SET current = 1 WHERE vid = $1 RETURNING rtype, deleted, bytes, \
         (SELECT t.sample FROM template t WHERE t.number = ~template)";
    let rows = session.query(sql, &[&vid]).await?;
    let Some(columns) = rows.first() else { return Ok(()) };
    let (rtype, deleted, filed, sample) = (
        columns.try_get::<_, String>(0),
        columns.try_get::<_, i16>(1),
        columns.try_get::<_, &[u8]>(2),
        columns.try_get::<_, Option<&[u8]>>(3),
    );
    let bytes = opened(filed.unwrap_or_default(), sample.unwrap_or_default()).unwrap_or_default();
    match (rtype, serde_json::from_slice(&bytes)) {
        (Ok(rtype), Ok(resource)) if deleted.is_ok_and(|deleted| deleted == 0) => {
            let index = extract(&rtype, &resource);
            let mut values = Values::default();
            values.add(vid, &rtype, &index);
            session.pipeline(&values.steps()).await.map(|_| ())
        }
        // A deletion is found by nothing, and what is no JSON, or no row of ours, was not written by a gateway.
        _ => Ok(()),
    }
}

/// Deletes the rows of a patient from every table. Versions of other patients that the same records once had stay, and stay old.
async fn erase(session: &Session, patient: &str, attachments: &[Digest]) -> Result<u64, ServerError> {
    let patient = filed(patient);
    let versions = "SELECT vid, entry FROM version WHERE patient = $1 OR (rtype = 'Patient' AND id = $1)";
    let versions = session.query(versions, &[&patient]).await?;
    let vids: Vec<i64> = versions.iter().map(|columns| columns.try_get(0)).collect::<Result<_, _>>()?;
    let entries: Vec<&[u8]> = versions.iter().filter_map(|columns| columns.try_get(1).ok()).collect();
    // An entry's place among the submissions stays; the name of its record goes.
    let forget = "UPDATE entry SET rtype = NULL, record = NULL, version = NULL WHERE id = ANY($1)";
    session.execute(forget, &[&entries]).await?;
    delete_versions(session, &vids).await?;
    let mut rows = vids.len() as u64;
    for table in ["frame", "let_go", "wrapped_key"] {
        rows += session.execute(&format!("DELETE FROM {table} WHERE patient = $1"), &[&patient]).await?;
    }
    let digests: Vec<&[u8]> = attachments.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    rows += session.execute("DELETE FROM attachment WHERE digest = ANY($1)", &[&digests]).await?;
    Ok(rows)
}

impl Writer {
    /// Erases in a transaction of its own, and then has the tables vacuumed, so that the space is used again. Whether the old bytes are
    /// overwritten is in the hands of whoever runs the server: they stay in its write-ahead log and its backups.
    pub(crate) fn erase(&mut self, patient: &str, attachments: &[Digest]) -> Result<u64, PutError> {
        self.ready()?;
        let server = self.server().clone();
        let erased = server.wait_for(super::write::WORK_WAIT, async {
            self.start(&[]).await?;
            erase(self.session()?, patient, attachments).await
        });
        let rows = erased.map_err(|error| self.failed(error))?;
        match self.commit() {
            Ok(()) => {}
            Err(super::write::CommitError::Undone(error)) => return Err(error),
            // Erasing again does no harm.
            Err(super::write::CommitError::Unknown { .. }) => return Err(PutError::InDoubt),
        }
        server.runtime.clone().spawn(async move {
            let vacuum = async {
                let session = Session::open(&server, Purpose::Write).await?;
                session.client.batch_execute("SET statement_timeout = 0").await?;
                session.client.batch_execute(&format!("VACUUM {}", schema::TABLES_LARGE)).await?;
                Ok::<_, ServerError>(())
            };
            if let Err(error) = vacuum.await {
                tracing::warn!(%error, "the tables were not vacuumed after an erasure");
            }
        });
        Ok(rows)
    }
}

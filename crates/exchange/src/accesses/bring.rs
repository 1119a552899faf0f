//! From the file to the database: accesses that wait, written together.

use super::{Access, First, Request};
use crate::{failure::Failure, members::News, mirror::Named, node::Node, write::put_failure};
use std::time::Duration;
use store::{NewEntry, Put, ReadError, Removal, VersionKey};

/// How long to wait after the database did not take it.
const RETRY: Duration = Duration::from_millis(500);

impl Node {
    /// Brings accesses to the database, for ever.
    pub(crate) async fn write_accesses(self) {
        loop {
            self.accesses.due().await;
            let first = self.accesses.first();
            match self.put_accesses(&first.accesses, first.unsure).await {
                Ok(()) => self.accesses.done(first.last()),
                Err(error) => {
                    tracing::warn!(%error, "accesses wait, as the database does not take them now");
                    self.accesses.unsure(first.last());
                    if is_lasting(&error) {
                        self.put_one_by_one(&first).await;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Finds the one that holds up the others and sets it aside.
    async fn put_one_by_one(&self, first: &First) {
        for (&number, access) in first.numbers.iter().zip(&first.accesses) {
            match self.put_accesses(std::slice::from_ref(access), true).await {
                Ok(()) => self.accesses.done(number),
                Err(error) if is_lasting(&error) => {
                    tracing::error!(%error, entry = %access.entry.id, "an access can never be written and is set aside");
                    if self.accesses.ask(|answer| Request::SetAside(number, answer)).await.is_none() {
                        return;
                    }
                    self.accesses.done(number);
                }
                Err(_) => return,
            }
        }
    }

    /// Writes accesses; when it is not sure whether the database has them already, those that it has not.
    async fn put_accesses(&self, accesses: &[Access], unsure: bool) -> Result<(), Failure> {
        // An erasure comes before or after, and not between the look and the write.
        let _writing = self.accesses.shared.writing.lock().await;
        let (mut put, mut names) = (Put::default(), Vec::with_capacity(accesses.len()));
        let erased = self.mirror.erased().await?;
        for access in accesses.iter().cloned() {
            if unsure {
                match self.found(&access).await? {
                    Standing::Written => continue,
                    Standing::Missing => {}
                    Standing::Taken(removal) => {
                        tracing::error!(entry = %access.entry.id, "a row that nobody of ours wrote stands in the place of an audit event");
                        put.removals.push(removal);
                    }
                }
            }
            // Of a patient who was erased meanwhile the ledger is told that there was an access; no row names anybody.
            let is_erased =
                access.new.row.pseudonym.is_some_and(|pseudonym| erased.patients().any(|of| *of == pseudonym));
            if is_erased {
                put.entries.push(NewEntry { record: None, ..access.entry });
                continue;
            }
            names.push(Named::of(&access.new.row));
            put.records.push(access.new);
            put.entries.push(access.entry);
        }
        if put.entries.is_empty() {
            return Ok(());
        }
        self.store.put(put).await.map_err(put_failure)?;
        if let Err(error) = self.mirror.learn_names(names).await {
            tracing::warn!(%error, "names of records could not be remembered");
        }
        Ok(())
    }

    /// What the database has in the place of an access. It is not believed: the ledger has the entry, or a submission that we signed
    /// carries it, beside the very row.
    async fn found(&self, access: &Access) -> Result<Standing, Failure> {
        let row = &access.new.row;
        if self.mirror.entry(row.entry, &row.author).await?.is_some() {
            return Ok(Standing::Written);
        }
        let key = VersionKey { rtype: row.rtype.clone(), id: row.id.clone(), version: row.version };
        match self.store.vread(key.clone()).await {
            Ok(None) => Ok(Standing::Missing),
            Ok(Some(found)) => {
                let ours = found == *row && self.signed_entry(row, &mut News::default()).await?.is_some();
                Ok(if ours { Standing::Written } else { Standing::Taken(Removal::Version(key)) })
            }
            Err(ReadError::Malformed(malformed)) => Ok(Standing::Taken(Removal::Place(malformed.place))),
            Err(error) => Err(crate::find::search_failure(error)),
        }
    }

    /// While this is held no access is written: an erasure finds all that were, and those that come later know of it.
    pub(crate) async fn pause_accesses(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.accesses.shared.writing.lock().await
    }
}

/// What the database has in the place of an access.
enum Standing {
    Written,
    Missing,
    /// A row that is not ours.
    Taken(Removal),
}

/// Whether trying again changes nothing.
fn is_lasting(error: &Failure) -> bool {
    matches!(error, Failure::Invalid(_) | Failure::TooLarge(_))
}

//! Current rows with what they are worth. The database is read before the ledger here, as it has to say first which records there
//! are; so what looks rolled back is read once more, as somebody may have written it between the two reads.

use crate::{
    consent::{CONSENT, keep_beside, wants_beside},
    failure::Failure,
    find::search_failure,
    mirror::FinalVersion,
    node::Node,
    row::Worth,
    without::Part,
};
use record::RecordTag;
use std::collections::HashMap;
use store::{Page, Row, Search};

/// The ledger's latest versions of records whose rows were behind them.
type Heads = HashMap<RecordTag, Box<FinalVersion>>;

impl Node {
    /// The current row of a record, a deletion included. In an answer about one record its patient's consents come with it.
    pub(crate) async fn current_row(&self, rtype: &str, id: &str) -> Result<Option<(Row, Worth)>, Failure> {
        let row = if self.does(Part::Consent) && wants_beside() {
            let (row, beside) = self.store.read_beside(rtype, id, &[CONSENT]).await.map_err(search_failure)?;
            keep_beside(row.as_ref().and_then(|row| row.patient.as_deref()), beside);
            row
        } else {
            self.store.read(rtype, id).await.map_err(search_failure)?
        };
        let Some(row) = row else { return Ok(None) };
        let worths = self.weigh_current(std::slice::from_ref(&row)).await?;
        let heads = heads_ahead(&worths);
        let (row, worths) = if heads.is_empty() {
            (row, worths)
        } else {
            let again = self.store.read(rtype, id).await.map_err(search_failure)?;
            let Some(again) = again else { return Ok(None) };
            let worths = self.weigh_after(std::slice::from_ref(&again), &heads).await?;
            (again, worths)
        };
        self.meters.weighed(&worths);
        Ok(worths.into_iter().next().map(|worth| (row, worth)))
    }

    /// The current rows of a patient's records of `types`.
    pub(crate) async fn current_records(&self, patient: &str, types: &[&str]) -> Result<Vec<(Row, Worth)>, Failure> {
        let read = async || self.store.patient_records(patient, types).await.map_err(search_failure);
        let mut found = read().await?;
        let mut worths = self.weigh_current(&found.rows).await?;
        let heads = heads_ahead(&worths);
        if !heads.is_empty() {
            found = read().await?;
            worths = self.weigh_after(&found.rows, &heads).await?;
        }
        self.meters.weighed(&worths);
        Ok(found.rows.into_iter().zip(worths).collect())
    }

    /// The page that answers a search, and what each of its rows is worth.
    pub(crate) async fn current_page(&self, search: Search) -> Result<(Page, Vec<Worth>), Failure> {
        let read = async || self.store.search(search.clone()).await.map_err(search_failure);
        let mut page = read().await?;
        let mut worths = self.weigh_current(&page.found.rows).await?;
        let heads = heads_ahead(&worths);
        if !heads.is_empty() {
            page = read().await?;
            worths = self.weigh_after(&page.found.rows, &heads).await?;
        }
        self.meters.weighed(&worths);
        Ok((page, worths))
    }

    /// Weighs rows that were read after the ledger had `heads`: whoever wrote those had committed them to the database before.
    async fn weigh_after(&self, rows: &[Row], heads: &Heads) -> Result<Vec<Worth>, Failure> {
        let worths = self.weigh(rows).await?.into_iter();
        let judged = worths.map(|worth| match worth {
            Worth::Good(known) => match heads.get(&known.tag) {
                Some(head) if head.version > known.version => Worth::RolledBack(head.clone()),
                _ => Worth::Good(known),
            },
            worth => worth,
        });
        Ok(judged.collect())
    }
}

fn heads_ahead(worths: &[Worth]) -> Heads {
    let ahead = worths.iter().filter_map(|worth| match worth {
        Worth::RolledBack(head) => Some((head.tag, head.clone())),
        _ => None,
    });
    ahead.collect()
}

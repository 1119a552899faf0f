//! Current rows with what they are worth. The database is read before the ledger here, as it has to say first which records there
//! are; so what looks rolled back is read once more, as somebody may have written it between the two reads.

use crate::{failure::Failure, find::search_failure, node::Node, row::Worth};
use store::{Page, Row, Search};

impl Node {
    /// The current row of a record, a deletion included.
    pub(crate) async fn current_row(&self, rtype: &str, id: &str) -> Result<Option<(Row, Worth)>, Failure> {
        let mut again = false;
        loop {
            let Some(row) = self.store.read(rtype, id).await.map_err(search_failure)? else { return Ok(None) };
            let worth = self.weigh_current(std::slice::from_ref(&row)).await?.into_iter().next();
            let worth = worth.unwrap_or(Worth::Injected);
            if again || !is_behind(&worth) {
                return Ok(Some((row, worth)));
            }
            again = true;
        }
    }

    /// The current rows of a patient's records of `types`.
    pub(crate) async fn current_records(&self, patient: &str, types: &[&str]) -> Result<Vec<(Row, Worth)>, Failure> {
        let mut again = false;
        loop {
            let found = self.store.patient_records(patient, types).await.map_err(search_failure)?;
            let worths = self.weigh_current(&found.rows).await?;
            if again || !worths.iter().any(is_behind) {
                return Ok(found.rows.into_iter().zip(worths).collect());
            }
            again = true;
        }
    }

    /// The page that answers a search, and what each of its rows is worth.
    pub(crate) async fn current_page(&self, search: Search) -> Result<(Page, Vec<Worth>), Failure> {
        let mut again = false;
        loop {
            let page = self.store.search(search.clone()).await.map_err(search_failure)?;
            let worths = self.weigh_current(&page.found.rows).await?;
            if again || !worths.iter().any(is_behind) {
                return Ok((page, worths));
            }
            again = true;
        }
    }
}

fn is_behind(worth: &Worth) -> bool {
    matches!(worth, Worth::RolledBack(_))
}

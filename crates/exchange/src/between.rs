//! Searches by what records refer to and by what refers to them: a match stands only on records in between that the caller may see.
//!
//! Who finds `Observation?subject:Patient.gender=female` is told something of Patients. So each match is followed to the records that it
//! rests on, by its own bytes and theirs, never by the database's index; each must agree with the ledger, and both a search and a read
//! must be allowed to show it. What the caller may not see supports nothing, without a word. What supports stands in the audit trail.

use crate::{caller::Caller, disclose::Cleared, failure::Failure, include::EXAMINED_MAX, node::Node, row::Worth};
use futures::future::BoxFuture;
use record::fhir::IssueType;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use store::{Criterion, Row, Search, extract, rests_on};

/// Rows of one step through the records that may support a match.
const STEP_LEN: usize = 50;

/// What was found in between so far.
#[derive(Default)]
struct Links {
    /// Whether any record that the caller may see meets a search, by the search.
    known: HashMap<String, bool>,
    examined: usize,
    supports: Vec<Cleared>,
    /// Type and id of the rows that do not agree with the ledger.
    withheld: BTreeSet<(String, String)>,
    malformed: u64,
}

/// The matches that stand, and what they stand on.
#[derive(Default)]
pub(crate) struct Supported {
    pub(crate) matches: Vec<Cleared>,
    pub(crate) supports: Vec<Cleared>,
    /// Rows in between that do not agree with the ledger.
    pub(crate) withheld: u64,
}

impl Node {
    /// Those of `matches` that stand by each chained criterion; all when there is none.
    pub(crate) async fn supported(
        &self,
        caller: &Caller,
        criteria: &[Criterion],
        matches: Vec<Cleared>,
    ) -> Result<Supported, Failure> {
        let chained: Vec<&Criterion> = criteria.iter().filter(|criterion| criterion.is_chained()).collect();
        if chained.is_empty() {
            return Ok(Supported { matches, ..Supported::default() });
        }
        let mut links = Links::default();
        let mut stand = Vec::with_capacity(matches.len());
        for one in matches {
            let mut stands = true;
            for criterion in &chained {
                stands = stands && self.is_supported(caller, &one.row, criterion, &mut links).await?;
            }
            if stands {
                stand.push(one);
            }
        }
        let withheld = links.withheld.len() as u64 + links.malformed;
        Ok(Supported { matches: stand, supports: links.supports, withheld })
    }

    /// Whether a record rests on another one that the caller may see.
    fn is_supported<'a>(
        &'a self,
        caller: &'a Caller,
        row: &'a Row,
        criterion: &'a Criterion,
        links: &'a mut Links,
    ) -> BoxFuture<'a, Result<bool, Failure>> {
        Box::pin(async move {
            let content: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            for (search, beyond) in rests_on(&row.rtype, &row.id, &content, criterion) {
                let name = format!("{search:?}");
                let known = links.known.get(&name).copied();
                let stands = match known {
                    Some(known) => known,
                    None => self.any_meets(caller, search, beyond, links).await?,
                };
                links.known.insert(name, stands);
                if stands {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Whether any record that the caller may see meets a search, and by `beyond` stands itself.
    async fn any_meets(
        &self,
        caller: &Caller,
        search: Search,
        beyond: &Criterion,
        links: &mut Links,
    ) -> Result<bool, Failure> {
        let mut search = Search { count: STEP_LEN, total: false, ..search };
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            links.examined += page.found.rows.len() + page.found.malformed.len();
            if links.examined > EXAMINED_MAX {
                let text = format!(
                    "more than {EXAMINED_MAX} records would have to be looked at that matches refer to or that refer to them: narrow the \
                     search, or ask for fewer matches by `_count`"
                );
                return Err(Failure::invalid(IssueType::TooCostly, "", text));
            }
            links.malformed += page.found.malformed.len() as u64;
            for (row, worth) in page.found.rows.into_iter().zip(worths) {
                if !worth.may_be_shown() {
                    links.withheld.insert((row.rtype, row.id));
                    continue;
                }
                let content: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
                let values = extract(&row.rtype, &content);
                // Of what is chained itself nothing can be said here.
                if search.criteria.iter().any(|criterion| criterion.holds(&row, &values) == Some(false)) {
                    continue;
                }
                let Some(decided) = self.decide_to_show(caller, &row).await? else { continue };
                if !beyond.is_chained() || self.is_supported(caller, &row, beyond, links).await? {
                    links.supports.push(Cleared { pending: worth == Worth::Pending, row, decided });
                    return Ok(true);
                }
            }
            match page.next {
                Some(next) => search.after = Some(next),
                None => return Ok(false),
            }
        }
    }
}

//! Searches by what records refer to and by what refers to them: a match stands only on records in between that the caller may see.
//!
//! Who finds `Observation?subject:Patient.gender=female` is told something of Patients. So each match is followed to the records that it
//! rests on, by its own bytes and theirs, never by the database's index; each must agree with the ledger, and both a search and a read
//! must be allowed to show it. What the caller may not see supports nothing, without a word: pages are filled with what stands, and
//! begin and end there. What supports stands in the audit trail.

use crate::{
    caller::Caller,
    disclose::{Cleared, sound_of},
    failure::Failure,
    find::Asked,
    include::EXAMINED_MAX,
    node::Node,
    row::Worth,
};
use futures::future::BoxFuture;
use policy::Action;
use record::fhir::IssueType;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use store::{Criterion, Cursor, Match, PAGE_MAX, Row, Search, extract, rests_on};

/// Rows of one step through the records that may support a match.
const STEP_LEN: usize = 50;

/// What was found in between so far.
#[derive(Default)]
pub(crate) struct Links {
    /// Those among `seen` that support whatever meets a search, by the search: a chain's record stands before those that it rests on. None
    /// if the caller may see no such record. A search holds the whole criterion that its records must meet.
    known: HashMap<String, Option<Vec<usize>>>,
    seen: Vec<Cleared>,
    /// Those of `seen` on which a match stands.
    used: BTreeSet<usize>,
    examined: usize,
    /// Type and id of the rows that do not agree with the ledger.
    withheld: BTreeSet<(String, String)>,
    malformed: u64,
}

impl Links {
    /// Counts records that were looked at.
    pub(crate) fn examine(&mut self, records: usize) -> Result<(), Failure> {
        self.examined += records;
        if self.examined <= EXAMINED_MAX {
            return Ok(());
        }
        let text = format!(
            "more than {EXAMINED_MAX} records would have to be looked at that match, that matches refer to or that refer to them: narrow \
             the search, or ask for fewer matches by `_count`"
        );
        Err(Failure::invalid(IssueType::TooCostly, "", text))
    }

    /// Rows in between that do not agree with the ledger.
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld.len() as u64 + self.malformed
    }

    /// What matches stand on.
    pub(crate) fn supports(self) -> Vec<Cleared> {
        let used = self.used;
        self.seen.into_iter().enumerate().filter(|(index, _)| used.contains(index)).map(|(_, one)| one).collect()
    }
}

/// A page of matches that stand.
pub(crate) struct ChainedPage {
    /// Each with where the page would end after it.
    pub(crate) matches: Vec<(Cleared, Cursor)>,
    pub(crate) next: Option<Cursor>,
    /// Matching rows that do not agree with the ledger.
    pub(crate) withheld: u64,
}

/// The types of the records that matches of a criterion rest on.
pub(crate) fn types_between(criterion: &Criterion) -> BTreeSet<&str> {
    let beyond = criterion.any.iter().flat_map(|value| match value {
        Match::To { rtype, criterion } | Match::From { rtype, criterion, .. } => {
            let mut types = types_between(criterion);
            types.insert(rtype);
            types
        }
        _ => BTreeSet::new(),
    });
    beyond.collect()
}

impl Node {
    /// The page of matches that stand, of a search with chains: read on until it is full, and one further on says whether there are more.
    pub(crate) async fn chained_page(
        &self,
        caller: &Caller,
        asked: &Asked,
        links: &mut Links,
    ) -> Result<ChainedPage, Failure> {
        let mut search = asked.search.clone();
        let (mut found, mut withheld) = (Vec::new(), 0);
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            links.examine(page.found.rows.len() + page.found.malformed.len())?;
            withheld += page.found.malformed.len() as u64;
            for ((row, worth), end) in page.found.rows.into_iter().zip(worths).zip(page.ends) {
                for (row, pending) in sound_of(vec![row], vec![worth], &mut withheld) {
                    let decided = self.decide(caller, Action::Search, &crate::facts::Target::of(&row)).await?;
                    let one = Cleared { row, pending, decided, frame: None };
                    if one.decided.decision.allow
                        && self.stands_by_chains(caller, &asked.search.criteria, &one, links).await?
                    {
                        found.push((one, end.clone()));
                    }
                }
                if found.len() > asked.search.count {
                    found.truncate(asked.search.count);
                    let next = found.last().map(|(_, end)| end.clone());
                    return Ok(ChainedPage { matches: found, next, withheld });
                }
            }
            match page.next {
                Some(next) => (search.after, search.count) = (Some(next), PAGE_MAX.min(search.count.max(STEP_LEN))),
                None => break,
            }
        }
        Ok(ChainedPage { matches: found, next: None, withheld })
    }

    /// Whether a match stands by each chained criterion, if there is one.
    pub(crate) async fn stands_by_chains(
        &self,
        caller: &Caller,
        criteria: &[Criterion],
        one: &Cleared,
        links: &mut Links,
    ) -> Result<bool, Failure> {
        let mut on = Vec::new();
        for criterion in criteria.iter().filter(|criterion| criterion.is_chained()) {
            match self.supports(caller, &one.row, criterion, links).await? {
                Some(supports) => on.extend(supports),
                None => return Ok(false),
            }
        }
        links.used.extend(on);
        Ok(true)
    }

    /// The record that supports another one and those that it rests on itself, if the caller may see one.
    fn supports<'a>(
        &'a self,
        caller: &'a Caller,
        row: &'a Row,
        criterion: &'a Criterion,
        links: &'a mut Links,
    ) -> BoxFuture<'a, Result<Option<Vec<usize>>, Failure>> {
        Box::pin(async move {
            let content: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
            for (search, beyond) in rests_on(&row.rtype, &row.id, &content, criterion) {
                let name = format!("{search:?}");
                let known = links.known.get(&name).cloned();
                let supports = match known {
                    Some(known) => known,
                    None => self.any_meets(caller, search, beyond, links).await?,
                };
                links.known.insert(name, supports.clone());
                if supports.is_some() {
                    return Ok(supports);
                }
            }
            Ok(None)
        })
    }

    /// A record that the caller may see, that meets a search, and that by `beyond` is supported itself.
    async fn any_meets(
        &self,
        caller: &Caller,
        search: Search,
        beyond: &Criterion,
        links: &mut Links,
    ) -> Result<Option<Vec<usize>>, Failure> {
        let mut search = Search { count: STEP_LEN, total: false, ..search };
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            links.examine(page.found.rows.len() + page.found.malformed.len())?;
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
                let further = match beyond.is_chained() {
                    true => self.supports(caller, &row, beyond, links).await?,
                    false => Some(Vec::new()),
                };
                if let Some(further) = further {
                    let on = [links.seen.len()].into_iter().chain(further).collect();
                    links.seen.push(Cleared { pending: worth == Worth::Pending, row, decided, frame: None });
                    return Ok(Some(on));
                }
            }
            match page.next {
                Some(next) => search.after = Some(next),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_the_types_of_all_its_links() {
        let types = |rtype: &str, name: &str| {
            let criterion = Criterion::parse(rtype, name, "x").unwrap();
            types_between(&criterion).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(types("Observation", "encounter.patient.gender"), ["Encounter", "Patient"]);
        assert_eq!(types("Patient", "_has:Observation:patient:encounter.class"), ["Encounter", "Observation"]);
        assert_eq!(types("Observation", "code"), [""; 0]);
    }
}

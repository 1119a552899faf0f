//! Changes that are found or computed rather than sent: patches, and writes to the one record that meets a condition.
//!
//! A patch and a condition tell what is in a record, so each asks for a decision of its own before that of the write: a patch for a read, a
//! condition for a search. Source: FHIR R4 `http.html`, «patch» and the conditional interactions.

use crate::{
    boxed,
    caller::Caller,
    disclose::{Cleared, readable, shared},
    facts::Target,
    failure::Failure,
    find::Asked,
    ingest::{ATTEMPTS, Written, admit, check, check_type, expect_version},
    node::Node,
    row::Worth,
    subscription::{SUBSCRIPTION, not_alone},
    write::{Draft, Trail, new_record_id},
};
use contract::AccessAction;
use policy::Action;
use record::{
    TimeMs, commit,
    fhir::{Interaction, Issue, IssueType, Limits, PatchError, patched},
};
use store::{Search, Unless, extract};

/// The record that meets a condition, or what must still hold when one is created because none does.
pub(crate) enum Matched {
    One { id: String, version: u64 },
    None(Unless),
}

impl Node {
    /// Changes parts of a record by a JSON Patch (RFC 6902). What the patch does not touch keeps its characters.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn patch(
        &self,
        caller: &Caller,
        rtype: &str,
        id: &str,
        patch: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        check_type(rtype)?;
        if rtype == SUBSCRIPTION {
            return Err(not_alone());
        }
        for attempt in 1.. {
            let time = self.now();
            let draft = self.draft_patched(caller, rtype, id, patch, if_match, time).await?;
            let written = Written::of(&draft, time);
            let trail = Trail::of(Interaction::Patch, AccessAction::Write);
            match self.write(caller, time, vec![draft], Vec::new(), &trail).await {
                // Somebody else was faster. The caller named no version, so the patch is applied to theirs.
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                Err(failure) => return Err(failure),
                Ok(()) => return Ok(written),
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// The next version of a record as a patch makes it of the current one.
    pub(crate) async fn draft_patched(
        &self,
        caller: &Caller,
        rtype: &str,
        id: &str,
        patch: &[u8],
        if_match: Option<u64>,
        time: TimeMs,
    ) -> Result<Draft, Failure> {
        let name = format!("{rtype}/{id}");
        let Some((row, previous)) = self.current(rtype, id).await? else { return Err(Failure::NotFound(name)) };
        // Whether a patch applies, and what comes of it, tells what is in the record.
        let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Read, AccessAction::Read) };
        let read = [format!("{name}/_history/{}", row.version)];
        self.leave_trail(caller, row.patient.as_deref(), &[commit(&row.salt, &row.bytes)], &read, &trail).await?;
        if row.deleted {
            return Err(Failure::Gone(name));
        }
        expect_version(&row, if_match)?;
        let after = patched(&readable(&row)?, patch, Limits::RESOURCE).map_err(not_patched)?;
        check(&after)?;
        self.draft_after(caller, row, previous, &after, time).await
    }

    /// Writes the next version of the one record that meets a condition, or creates it when none does.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn update_matching(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        bytes: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        let resource = admit(rtype, bytes)?;
        let own = resource.id().map(std::borrow::Cow::into_owned);
        for attempt in 1.. {
            let written = match self.the_one_matching(caller, rtype, query).await? {
                Matched::One { id, version } => {
                    if own.as_ref().is_some_and(|own| *own != id) {
                        let text = "the record that meets the condition has another id than the body: leave the id out";
                        return Err(Failure::invalid(IssueType::Structure, "id", text));
                    }
                    self.replace(caller, &id, &resource, if_match.or(Some(version))).await
                }
                Matched::None(_) if if_match.is_some() => return Err(none_matches(rtype)),
                Matched::None(unless) => {
                    let id = match &own {
                        Some(own) => {
                            self.is_free(caller, rtype, own).await?;
                            own.clone()
                        }
                        None => new_record_id(),
                    };
                    self.create_as(caller, &id, &resource, vec![unless]).await
                }
            };
            match written {
                // The record has moved on: whether it still meets the condition has to be seen.
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                written => return written,
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Demands that nothing stands under an id that a client chose for a new record.
    pub(crate) async fn is_free(&self, caller: &Caller, rtype: &str, id: &str) -> Result<(), Failure> {
        let Some((row, _)) = self.current(rtype, id).await? else { return Ok(()) };
        self.allow(caller, Action::Search, &Target::of(&row)).await?;
        Err(Failure::Conflict(format!(
            "`{rtype}/{id}` exists and does not meet the condition: leave the id out, or update it by its id"
        )))
    }

    /// Patches the one record that meets a condition.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn patch_matching(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        patch: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        for attempt in 1.. {
            let patched = match self.the_one_matching(caller, rtype, query).await? {
                Matched::One { id, version } => self.patch(caller, rtype, &id, patch, if_match.or(Some(version))).await,
                Matched::None(_) => return Err(Failure::NotFound(format!("{rtype} that meets the condition"))),
            };
            match patched {
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                patched => return patched,
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// Deletes the one record that meets a condition, if there is one.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn delete_matching(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        if_match: Option<u64>,
    ) -> Result<(), Failure> {
        for attempt in 1.. {
            let deleted = match self.the_one_matching(caller, rtype, query).await? {
                Matched::One { id, version } => self.delete(caller, rtype, &id, if_match.or(Some(version))).await,
                Matched::None(_) if if_match.is_some() => return Err(none_matches(rtype)),
                Matched::None(_) => return Ok(()),
            };
            match deleted {
                Err(Failure::Precondition(_)) if if_match.is_none() && attempt < ATTEMPTS => {}
                deleted => return deleted,
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    /// The one record that meets a condition; several are an error. What was found, and that nothing was, is in the trail.
    pub(crate) async fn the_one_matching(&self, caller: &Caller, rtype: &str, query: &str) -> Result<Matched, Failure> {
        check_type(rtype)?;
        let condition = self.condition(rtype, query)?;
        let found = self.matching(caller, &condition).await?;
        self.trail_of_search(caller, &condition, shared(found.iter())).await?;
        match found.as_slice() {
            [] => Ok(Matched::None(Unless { rtype: rtype.to_owned(), criteria: condition.search.criteria })),
            [one] => Ok(Matched::One { id: one.row.id.clone(), version: one.row.version }),
            _ => Err(Failure::Precondition(
                "more than one record meets the condition: make it more selective".to_owned(),
            )),
        }
    }

    /// At most two current records that meet a condition, each of which the caller may find.
    ///
    /// One that it may not find denies the request: to pass it over would write beside it. One that does not agree with the ledger, or
    /// whose own bytes do not meet the condition, ends it: the database's index decides over no write.
    pub(crate) async fn matching(&self, caller: &Caller, condition: &Asked) -> Result<Vec<Cleared>, Failure> {
        let search = Search { count: 2, total: false, after: None, ..condition.search.clone() };
        let rtype = search.rtype.clone();
        // Whether something meets a condition is told by what comes of it.
        self.allow_condition(caller, &rtype).await?;
        let (page, worths) = self.current_page(search).await?;
        // Whose such a row is, only its columns say: so it is not decided over, and not named.
        if !page.found.malformed.is_empty() || !worths.iter().all(Worth::may_be_shown) {
            return Err(Failure::Tampered(format!("{rtype} that meets the condition")));
        }
        let mut found = Vec::new();
        for (row, worth) in page.found.rows.into_iter().zip(worths) {
            let decided = self.allow(caller, Action::Search, &Target::of(&row)).await?;
            let values = extract(&row.rtype, &readable(&row)?.value());
            if !condition.search.criteria.iter().all(|criterion| criterion.holds(&row, &values) == Some(true)) {
                return Err(Failure::Tampered(format!("{rtype}/{}", row.id)));
            }
            found.push(Cleared { pending: worth == Worth::Pending, row, decided, frame: None });
        }
        Ok(found)
    }
}

fn none_matches(rtype: &str) -> Failure {
    Failure::Precondition(format!("no {rtype} meets the condition, so no version of it can match"))
}

/// A patch that cannot be applied: the sender's mistake, or a record that is another than the sender thought.
pub(crate) fn not_patched(error: PatchError) -> Failure {
    match error {
        PatchError::TestFailed { .. } | PatchError::NoSuchPlace { .. } => Failure::Conflict(error.to_string()),
        error => Failure::Invalid(vec![Issue::from(error)]),
    }
}

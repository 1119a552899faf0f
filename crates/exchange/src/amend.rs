//! Changes that are found or computed rather than sent: patches, and writes to the one record that meets a condition.
//!
//! A patch and a condition tell what is in a record, so each asks for a decision of its own before that of the write: a patch for a read, a
//! condition for a search. Source: FHIR R4 `http.html`, «patch» and the conditional interactions.

use crate::{
    caller::Caller,
    disclose::readable,
    facts::Target,
    failure::Failure,
    ingest::{ATTEMPTS, Written, admit, check, check_type, expect_version},
    node::Node,
    write::{Draft, Trail},
};
use contract::AccessAction;
use policy::Action;
use record::{
    TimeMs, commit,
    fhir::{Interaction, Issue, IssueType, Limits, PatchError, patched},
};
use store::{Criterion, Unless};

/// The record that meets a condition, or what must still hold when one is created because none does.
pub(crate) enum Matched {
    One(String),
    None(Unless),
}

impl Node {
    /// Changes parts of a record by a JSON Patch (RFC 6902). What the patch does not touch keeps its characters.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn patch(
        &self,
        caller: &Caller,
        rtype: &str,
        id: &str,
        patch: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        check_type(rtype)?;
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
        if row.deleted {
            return Err(Failure::Gone(name));
        }
        expect_version(&row, if_match)?;
        // Whether a patch applies, and what comes of it, tells what is in the record.
        let decided = self.allow(caller, Action::Read, &Target::of(&row)).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Read, AccessAction::Read) };
        let read = [format!("{name}/_history/{}", row.version)];
        self.leave_trail(caller, row.patient.as_deref(), &[commit(&row.salt, &row.bytes)], &read, &trail).await?;
        let after = patched(&readable(&row)?, patch, Limits::RESOURCE).map_err(not_patched)?;
        check(&after)?;
        self.draft_after(caller, row, previous, &after, time).await
    }

    /// Writes the next version of the one record that meets a condition, or creates it when none does.
    #[tracing::instrument(level = "debug", skip_all)]
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
        match self.the_one_matching(caller, rtype, query).await? {
            Matched::One(id) => {
                if own.is_some_and(|own| own != id) {
                    let text = "the record that meets the condition has another id than the body: leave the id out";
                    return Err(Failure::invalid(IssueType::Invalid, "id", text));
                }
                self.replace(caller, &id, &resource, if_match).await
            }
            Matched::None(_) if if_match.is_some() => Err(none_matches(rtype)),
            Matched::None(unless) => {
                let id = own.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
                if self.current(rtype, &id).await?.is_some() {
                    return Err(Failure::Conflict(format!(
                        "`{rtype}/{id}` exists and does not meet the condition: leave the id out, or update it by its id"
                    )));
                }
                self.create_as(caller, &id, &resource, vec![unless]).await
            }
        }
    }

    /// Patches the one record that meets a condition.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn patch_matching(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        patch: &[u8],
        if_match: Option<u64>,
    ) -> Result<Written, Failure> {
        match self.the_one_matching(caller, rtype, query).await? {
            Matched::One(id) => self.patch(caller, rtype, &id, patch, if_match).await,
            Matched::None(_) => Err(Failure::NotFound(format!("{rtype} that meets the condition"))),
        }
    }

    /// Deletes the one record that meets a condition, if there is one.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn delete_matching(
        &self,
        caller: &Caller,
        rtype: &str,
        query: &str,
        if_match: Option<u64>,
    ) -> Result<(), Failure> {
        match self.the_one_matching(caller, rtype, query).await? {
            Matched::One(id) => self.delete(caller, rtype, &id, if_match).await,
            Matched::None(_) if if_match.is_some() => Err(none_matches(rtype)),
            Matched::None(_) => Ok(()),
        }
    }

    /// The one record that meets a condition; several are an error.
    pub(crate) async fn the_one_matching(&self, caller: &Caller, rtype: &str, query: &str) -> Result<Matched, Failure> {
        check_type(rtype)?;
        let criteria = self.criteria(rtype, query)?;
        let mut found = self.matching(caller, rtype, &criteria).await?;
        match (found.pop(), found.pop()) {
            (None, _) => Ok(Matched::None(Unless { rtype: rtype.to_owned(), criteria })),
            (Some(id), None) => Ok(Matched::One(id)),
            (Some(_), Some(_)) => Err(Failure::Precondition(
                "more than one record meets the condition: make it more selective".to_owned(),
            )),
        }
    }

    /// The ids of at most two current records that meet all criteria, each of which the caller may find.
    ///
    /// One that it may not find denies the request: to pass it over would write beside it.
    pub(crate) async fn matching(
        &self,
        caller: &Caller,
        rtype: &str,
        criteria: &[Criterion],
    ) -> Result<Vec<String>, Failure> {
        let search = store::Search { criteria: criteria.to_vec(), count: 2, total: false, ..store::Search::of(rtype) };
        // What does not agree with the ledger decides nothing.
        let (page, worths) = self.current_page(search).await?;
        let sound = page.found.rows.into_iter().zip(worths).filter(|(_, worth)| worth.may_be_shown());
        let mut ids = Vec::new();
        for (row, _) in sound {
            self.allow(caller, Action::Search, &Target::of(&row)).await?;
            ids.push(row.id);
        }
        Ok(ids)
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

//! Breaking the glass: opened with a reason and a limit, closed, reviewed by somebody else.

use crate::{
    caller::Caller,
    desk::OpenOverride,
    failure::Failure,
    node::Node,
    write::{Also, Occasion, Touched, Trail},
};
use contract::{AccessAction, Event, OVERRIDE_MS_MAX};
use policy::Action;
use record::{
    Id16, Purpose,
    fhir::{Interaction, IssueType},
};

/// The longest reason or comment, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// What the audit trail says as reason: the words themselves stay on the desk and, committed to, on the ledger.
const REASON_ON_FILE: &str = "emergency; the reason given is on file";

impl Node {
    /// Opens the glass over one patient for at most four hours. Takes effect at once.
    pub async fn open_override(
        &self,
        caller: &Caller,
        patient: &str,
        reason: &str,
        minutes: u32,
    ) -> Result<OpenOverride, Failure> {
        check_text("reason", reason)?;
        let ms = u64::from(minutes) * 60_000;
        if ms == 0 || ms > OVERRIDE_MS_MAX {
            let text = format!("`minutes` must be 1 to {}", OVERRIDE_MS_MAX / 60_000);
            return Err(Failure::invalid(IssueType::Value, "", text));
        }
        self.allow_about(caller, Action::OpenOverride, patient).await?;
        let (now, id) = (self.now(), self.new_id()?);
        let opened = OpenOverride {
            id,
            patient: patient.to_owned(),
            user: caller.user.clone(),
            reason: reason.to_owned(),
            opened: now,
            until: now.plus_ms(ms),
            closed: None,
            reviewed: None,
        };
        let event = Event::OverrideOpened { id, until: opened.until, reason: reason.as_bytes() };
        let occasion = Occasion::Opened { reason: REASON_ON_FILE, until: opened.until };
        self.record_override(caller, patient, event, Some(occasion)).await?;
        self.desk.put(opened.clone()).await?;
        tracing::warn!(id = %id, until = %opened.until, "the glass was broken: a privacy officer must review it");
        Ok(opened)
    }

    /// Closes an override of one's own.
    pub async fn close_override(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let mut opened = self.find_override(id).await?;
        if opened.user != caller.user || caller.app.is_some() {
            return Err(Failure::Denied {
                sentence: "only who broke the glass closes it".to_owned(),
                suppressed: false,
            });
        }
        if opened.closed.is_some() {
            return Err(Failure::Conflict("this override is closed already".to_owned()));
        }
        opened.closed = Some(self.now());
        // The desk first: access must end even if the trace fails.
        self.desk.put(opened.clone()).await?;
        let caller = caller.for_purpose(Purpose::BreakGlass);
        let event = Event::OverrideClosed { id, reason: b"closed by hand" };
        self.record_override(&caller, &opened.patient, event, Some(Occasion::Closed)).await
    }

    /// Says whether an override was justified. Not by the person who opened it.
    pub async fn review_override(
        &self,
        caller: &Caller,
        id: Id16,
        justified: bool,
        comment: &str,
    ) -> Result<(), Failure> {
        check_text("comment", comment)?;
        let mut opened = self.find_override(id).await?;
        self.allow_about(caller, Action::ReviewOverride, &opened.patient).await?;
        if opened.user == caller.user {
            return Err(Failure::Denied {
                sentence: "nobody reviews an override of their own".to_owned(),
                suppressed: false,
            });
        }
        if opened.reviewed.is_some() {
            return Err(Failure::Conflict("this override is reviewed already".to_owned()));
        }
        if opened.closed.is_none() && self.now() < opened.until {
            return Err(Failure::Conflict("this override is still open: it is reviewed when it has ended".to_owned()));
        }
        let event = Event::OverrideReviewed { id, justified, text: comment.as_bytes() };
        self.record_override(caller, &opened.patient, event, None).await?;
        opened.reviewed = Some(justified);
        Ok(self.desk.put(opened).await?)
    }

    /// The organisation's overrides, for its privacy officer.
    pub async fn overrides(&self, caller: &Caller, reviewed: Option<bool>) -> Result<Vec<OpenOverride>, Failure> {
        self.allow_operation(caller, Action::ReviewOverride).await?;
        let all = self.desk.list::<OpenOverride>(None).await?;
        Ok(all.into_iter().filter(|o| reviewed.is_none_or(|wanted| o.reviewed.is_some() == wanted)).collect())
    }

    async fn find_override(&self, id: Id16) -> Result<OpenOverride, Failure> {
        let found = self.desk.get::<OpenOverride>(&id.to_hex()).await?;
        found.ok_or_else(|| Failure::NotFound(format!("override/{id}")))
    }

    async fn record_override(
        &self,
        caller: &Caller,
        patient: &str,
        event: Event<'_>,
        occasion: Option<Occasion>,
    ) -> Result<(), Failure> {
        let subject = self.subject(patient).await?;
        let time = self.now();
        let mut gathered = self.empty();
        self.also(&mut gathered, &self.author(caller, time), &Also { subject: subject.clone(), event })?;
        let trail = Trail { event: occasion, ..Trail::of(Interaction::Operation, AccessAction::Write) };
        self.trail(&mut gathered, caller, time, &Touched::nothing(&subject), &trail)?;
        self.put(gathered).await
    }
}

/// A text from a person: there, and not too long.
pub(crate) fn check_text(name: &str, text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        let text = format!("`{name}` must be 1 to {TEXT_BYTES_MAX} bytes of text");
        return Err(Failure::invalid(IssueType::Value, "", text));
    }
    Ok(())
}

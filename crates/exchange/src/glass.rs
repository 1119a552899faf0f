//! Breaking the glass: opened with a reason and a limit, told to the patient and the privacy officer, closed, reviewed by somebody else.

use crate::{
    boxed,
    caller::Caller,
    desk::{OpenOverride, Paper},
    facts::ORG_SYSTEM,
    failure::Failure,
    node::Node,
    owed::{Owed, Owing, Step},
    subject::Subject,
    take::to_the_end,
    write::{Draft, Occasion, Trail, new_record_id},
};
use contract::{AccessAction, Event, OVERRIDE_MS_MAX};
use policy::Action;
use record::{
    Id16, Purpose, TimeMs,
    fhir::{Interaction, IssueType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest reason or comment, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// What the audit trail says as reason: the words themselves stay on the desk and, committed to, on the ledger.
const REASON_ON_FILE: &str = "emergency; the reason given is on file";
/// Names an override in its Task.
const OVERRIDE_SYSTEM: &str = "https://vitaltrace.org/override";
const TASK_SYSTEM: &str = "https://vitaltrace.org/fhir/CodeSystem/task";
const REASON_SYSTEM: &str = "https://vitaltrace.org/fhir/CodeSystem/override-reason";
const OUTCOME_SYSTEM: &str = "https://vitaltrace.org/fhir/CodeSystem/override-outcome";

/// Codes of reasons, and what they say.
pub const OVERRIDE_REASONS: [(&str, &str); 5] = [
    ("unconscious", "the patient cannot say what is needed to know"),
    ("life-threatening", "a delay would endanger the patient's life"),
    ("incapacitated", "the patient cannot decide"),
    ("danger-to-others", "somebody else is in danger"),
    ("other", "as the words say"),
];

/// Why the glass is broken: a code of [`OVERRIDE_REASONS`], and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason<'a> {
    /// The code.
    pub code: &'a str,
    /// The words.
    pub text: &'a str,
}

/// What a review found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was needed.
    Justified,
    /// It was not.
    NotJustified,
    /// That is not found out yet: the override stays unreviewed.
    FollowUp,
}

impl Outcome {
    fn code(self) -> &'static str {
        match self {
            Self::Justified => "justified",
            Self::NotJustified => "not-justified",
            Self::FollowUp => "follow-up",
        }
    }
}

impl OpenOverride {
    /// Whether it opens anything: written, not closed, and its time not up.
    pub(crate) fn is_open(&self, now: TimeMs) -> bool {
        self.closed.is_none() && now < self.until && !self.owed.iter().any(|owed| owed.step == Step::OverrideOpened)
    }

    /// Where it stands in the review queue.
    pub fn state(&self, now: TimeMs) -> &'static str {
        match (self.reviewed, self.closed, &self.follow_up) {
            (Some(_), ..) => "reviewed",
            (None, None, _) if now < self.until => "open",
            (None, _, Some(_)) => "follow-up",
            _ => "waiting",
        }
    }

    fn task(&self, status: &str, outcome: Option<Outcome>, at: TimeMs) -> Value {
        let mut task = json!({
            "resourceType": "Task", "status": status, "intent": "order", "priority": "urgent",
            "identifier": [{"system": OVERRIDE_SYSTEM, "value": self.id}],
            "code": {"coding": [{"system": TASK_SYSTEM, "code": "override-review"}], "text": "Review of broken glass"},
            "description": "Say whether breaking the glass was justified. The reason given is in the list of overrides.",
            "for": {"reference": format!("Patient/{}", self.patient)},
            "authoredOn": self.opened.to_instant(), "lastModified": at.to_instant(),
            "requester": {"display": self.user},
            "performerType": [{"text": "privacy officer"}],
            "reasonCode": self.reason_concept(),
            "restriction": {"period": {"start": self.opened.to_instant()}}
        });
        if let Some(outcome) = outcome {
            task["businessStatus"] = json!({"coding": [{"system": OUTCOME_SYSTEM, "code": outcome.code()}]});
        }
        task
    }

    fn reason_concept(&self) -> Value {
        let display = OVERRIDE_REASONS.iter().find(|(code, _)| *code == self.code).map(|(_, display)| *display);
        json!({"coding": [{"system": REASON_SYSTEM, "code": self.code, "display": display.unwrap_or("as the words say")}]})
    }

    /// What the patient is told.
    fn notice(&self, node: &Node, text: &str, at: TimeMs) -> Value {
        json!({
            "resourceType": "Communication", "status": "completed", "priority": "urgent", "sent": at.to_instant(),
            "category": [{
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/communication-category", "code": "notification"}],
                "text": "break-glass"
            }],
            "identifier": [{"system": OVERRIDE_SYSTEM, "value": self.id}],
            "subject": {"reference": format!("Patient/{}", self.patient)},
            "recipient": [{"reference": format!("Patient/{}", self.patient)}],
            "sender": {"identifier": {"system": ORG_SYSTEM, "value": node.org}, "display": node.org},
            "reasonCode": [self.reason_concept()],
            "payload": [{"contentString": text}]
        })
    }
}

impl Owing for OpenOverride {
    fn owed(&mut self) -> &mut Vec<Owed> {
        &mut self.owed
    }

    fn event<'a>(&'a self, owed: &'a Owed) -> Event<'a> {
        match &owed.step {
            Step::OverrideReviewed { justified, comment } => {
                Event::OverrideReviewed { id: self.id, justified: *justified, text: comment.as_bytes() }
            }
            Step::OverrideClosed => Event::OverrideClosed { id: self.id, reason: b"closed by hand" },
            _ => Event::OverrideOpened { id: self.id, until: self.until, reason: self.reason.as_bytes() },
        }
    }

    fn occasion(&self, owed: &Owed) -> Option<Occasion> {
        match owed.step {
            Step::OverrideOpened => Some(Occasion::Opened { reason: REASON_ON_FILE, until: self.until }),
            Step::OverrideClosed => Some(Occasion::Closed),
            _ => None,
        }
    }

    async fn drafts(&self, node: &Node, owed: &Owed, subject: &Subject) -> Result<Vec<Draft>, Failure> {
        match &owed.step {
            Step::OverrideOpened => {
                let text = format!(
                    "{} of {} broke the glass over your restricted records, until {}. A privacy officer reviews it.",
                    self.user, node.org, self.until
                );
                let mut drafts = vec![node.made(&self.notice(node, &text, owed.at), subject, owed.at)?];
                if let Some(id) = &self.task {
                    drafts.push(node.made_as(id, &self.task("requested", None, owed.at), subject, owed.at)?);
                }
                Ok(drafts)
            }
            Step::OverrideReviewed { justified, .. } => {
                let (word, outcome) = match justified {
                    true => ("justified", Outcome::Justified),
                    false => ("not justified", Outcome::NotJustified),
                };
                let text = format!(
                    "A privacy officer of {} found that breaking the glass over your records on {} was {word}.",
                    node.org, self.opened
                );
                let mut drafts = vec![node.made(&self.notice(node, &text, owed.at), subject, owed.at)?];
                drafts.extend(node.next_of_task(self, "completed", outcome, subject, owed.at).await?);
                Ok(drafts)
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Node {
    /// Opens the glass over one patient for at most four hours. Takes effect at once.
    #[boxed]
    pub async fn open_override<'a>(
        &'a self,
        caller: &'a Caller,
        patient: &'a str,
        reason: Reason<'a>,
        minutes: u32,
    ) -> Result<OpenOverride, Failure> {
        check_text("reason", reason.text)?;
        if !OVERRIDE_REASONS.iter().any(|(code, _)| *code == reason.code) {
            let codes: Vec<&str> = OVERRIDE_REASONS.iter().map(|(code, _)| *code).collect();
            let text = format!("`code` must be one of {}", codes.join(", "));
            return Err(Failure::invalid(IssueType::CodeInvalid, "", text));
        }
        let ms = u64::from(minutes) * 60_000;
        if ms == 0 || ms > OVERRIDE_MS_MAX {
            let text = format!("`minutes` must be 1 to {}", OVERRIDE_MS_MAX / 60_000);
            return Err(Failure::invalid(IssueType::Value, "", text));
        }
        self.allow_about(caller, Action::OpenOverride, patient).await?;
        let now = self.now();
        let opened = OpenOverride {
            id: self.new_id()?,
            patient: patient.to_owned(),
            user: caller.user.clone(),
            code: reason.code.to_owned(),
            reason: reason.text.to_owned(),
            opened: now,
            until: now.plus_ms(ms),
            closed: None,
            reviewed: None,
            follow_up: None,
            task: Some(new_record_id()),
            owed: vec![self.owe(caller, Step::OverrideOpened, now)?],
        };
        let (node, caller) = (self.clone(), caller.clone());
        to_the_end(async move { node.write_opening(&caller, opened).await }).await
    }

    async fn write_opening(&self, caller: &Caller, opened: OpenOverride) -> Result<OpenOverride, Failure> {
        let id = Paper::id(&opened);
        // The desk first: what is written afterwards can be closed and reviewed, whatever happens in between.
        self.desk.put(opened.clone()).await?;
        if let Err(failure) = self.pay::<OpenOverride>(&id).await {
            // It may be written or not. Nobody acts under it; once it is written, it is closed as well, and waits for its review.
            let closed = self.owe(caller, Step::OverrideClosed, self.now())?;
            self.change(&id, |paper: &mut OpenOverride| {
                paper.closed = Some(closed.at);
                paper.owed.push(closed);
                Ok(())
            })
            .await?;
            self.pay_surely::<OpenOverride>(&id).await;
            return Err(failure);
        }
        tracing::warn!(id, until = %opened.until, "the glass was broken: a privacy officer must review it");
        Ok(OpenOverride { owed: Vec::new(), ..opened })
    }

    /// Closes an override of one's own. Access ends with that, also when the ledger hears of it later.
    #[boxed]
    pub async fn close_override(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let caller = caller.for_purpose(Purpose::BreakGlass);
        let closing = self.owe(&caller, Step::OverrideClosed, self.now())?;
        let change = |opened: &mut OpenOverride| {
            if opened.user != caller.user || caller.app.is_some() {
                return Err(Failure::Denied {
                    sentence: "only who broke the glass closes it".to_owned(),
                    suppressed: false,
                });
            }
            if opened.closed.is_some() {
                return Err(Failure::Conflict("this override is closed already".to_owned()));
            }
            opened.closed = Some(closing.at);
            opened.owed.push(closing.clone());
            Ok(())
        };
        let found = self.find_override(id).await?;
        if let Err(failure) = self.change(&id.to_hex(), change).await {
            if let Failure::Denied { sentence, .. } = &failure {
                let denied = Some(sentence.clone());
                let trail = Trail { denied, ..Trail::of(Interaction::Operation, AccessAction::Write) };
                self.leave_trail(&caller, Some(&found.patient), &[], &[], &trail).await?;
            }
            return Err(failure);
        }
        let node = self.clone();
        to_the_end(async move {
            node.pay_surely::<OpenOverride>(&id.to_hex()).await;
            Ok(())
        })
        .await
    }

    /// Says whether an override was justified, or that this is still to be found out. Not by the person who opened it.
    #[boxed]
    pub async fn review_override(
        &self,
        caller: &Caller,
        id: Id16,
        outcome: Outcome,
        comment: &str,
    ) -> Result<(), Failure> {
        check_text("comment", comment)?;
        let found = self.find_override(id).await?;
        self.allow_about(caller, Action::ReviewOverride, &found.patient).await?;
        let now = self.now();
        let justified = outcome == Outcome::Justified;
        let review = self.owe(caller, Step::OverrideReviewed { justified, comment: comment.to_owned() }, now)?;
        let change = |opened: &mut OpenOverride| {
            if opened.user == caller.user {
                return Err(Failure::Denied {
                    sentence: "nobody reviews an override of their own".to_owned(),
                    suppressed: false,
                });
            }
            if opened.reviewed.is_some() {
                return Err(Failure::Conflict("this override is reviewed already".to_owned()));
            }
            if opened.closed.is_none() && now < opened.until {
                let text = "this override is still open: it is reviewed when it has ended";
                return Err(Failure::Conflict(text.to_owned()));
            }
            match outcome {
                Outcome::FollowUp => opened.follow_up = Some(comment.to_owned()),
                _ => {
                    opened.reviewed = Some(justified);
                    opened.owed.push(review.clone());
                }
            }
            Ok(())
        };
        let changed = self.change(&id.to_hex(), change).await?;
        let (node, caller) = (self.clone(), caller.clone());
        to_the_end(async move {
            if outcome == Outcome::FollowUp {
                return node.note_follow_up(&caller, &changed, now).await;
            }
            node.pay_surely::<OpenOverride>(&id.to_hex()).await;
            Ok(())
        })
        .await
    }

    /// The Task says that a review goes on. The ledger hears nothing of it: the override stays unreviewed.
    async fn note_follow_up(&self, caller: &Caller, opened: &OpenOverride, now: TimeMs) -> Result<(), Failure> {
        let subject = self.subject(&opened.patient).await?;
        let task = self.next_of_task(opened, "in-progress", Outcome::FollowUp, &subject, now).await?;
        let trail = Trail::of(Interaction::Update, AccessAction::Write);
        match task {
            Some(task) => {
                let gathered = self.gather(caller, now, vec![task])?;
                self.commit(caller, now, gathered, Vec::new(), &trail).await
            }
            None => self.leave_trail(caller, Some(&opened.patient), &[], &[], &trail).await,
        }
    }

    /// The next version of an override's Task; none, when its row does not agree with the ledger: a review does not wait for that.
    async fn next_of_task(
        &self,
        opened: &OpenOverride,
        status: &str,
        outcome: Outcome,
        subject: &Subject,
        at: TimeMs,
    ) -> Result<Option<Draft>, Failure> {
        let Some(id) = &opened.task else { return Ok(None) };
        match self.current("Task", id).await {
            Ok(Some((row, previous))) => {
                self.made_after(&row, previous, &opened.task(status, Some(outcome), at), subject, at).map(Some)
            }
            Ok(None) | Err(Failure::Tampered(_) | Failure::Gone(_)) => {
                tracing::warn!(override_id = %opened.id, "the Task of an override cannot be brought up to date");
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The organisation's overrides, for its privacy officer.
    #[boxed]
    pub async fn overrides(&self, caller: &Caller, reviewed: Option<bool>) -> Result<Vec<OpenOverride>, Failure> {
        self.allow_operation(caller, Action::ReviewOverride).await?;
        let all = self.desk.list::<OpenOverride>(None).await?;
        Ok(all.into_iter().filter(|o| reviewed.is_none_or(|wanted| o.reviewed.is_some() == wanted)).collect())
    }

    async fn find_override(&self, id: Id16) -> Result<OpenOverride, Failure> {
        let found = self.desk.get::<OpenOverride>(&id.to_hex()).await?;
        found.ok_or_else(|| Failure::NotFound(format!("override/{id}")))
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

//! Alarms: raised by analytics, seen and acknowledged by people, on the ledger at every step.
//!
//! An alarm is shown as soon as it is found, from the desk: help does not wait for a busy database. Its records and its entry follow, and an
//! acknowledgement waits for these.

use crate::{
    assess::{Drafted, Found, priority},
    boxed,
    caller::Caller,
    desk::Paper,
    facts::Target,
    failure::Failure,
    live::Told,
    node::Node,
    protocol::protocol,
    run::Run,
    subject::Subject,
    take::to_the_end,
    write::{Also, Draft, Trail},
};
use analytics::{Alarm, AlarmChange, Finding};
use contract::{AccessAction, AlarmStep, Event, Priority};
use policy::Action;
use record::{Id16, TimeMs, fhir::Interaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    pin::pin,
    sync::Mutex,
    time::{Duration, Instant},
};

const TASK_SYSTEM: &str = "https://vitaltrace.org/fhir/CodeSystem/task";
/// How long an acknowledgement waits for an alarm's records.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);
const ALARM_SYSTEM: &str = "https://vitaltrace.org/alarm";

/// An alarm on the desk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaisedAlarm {
    /// The alarm on the ledger.
    id: Id16,
    /// The Patient's id.
    patient: String,
    /// The alarm's name, such as `spo2-low`.
    name: String,
    /// IEC 60601-1-8 priority.
    priority: String,
    /// What it is about, in words.
    what: String,
    /// Whether it is about the equipment.
    technical: bool,
    /// When it began to sound, by the sensor's clock.
    raised: TimeMs,
    /// The id of its DetectedIssue.
    issue: String,
    /// The id of its Flag.
    flag: String,
    /// The id of the Task with the protocol to follow, where there is one.
    #[serde(default)]
    task: Option<String>,
    /// When its condition was over.
    ended: Option<TimeMs>,
    /// Who took notice, and when.
    acknowledged: Option<(String, TimeMs)>,
    /// Whether its records are written. Until then it has no DetectedIssue, no Flag and no Task.
    #[serde(default = "recorded")]
    is_recorded: bool,
    /// Since when nobody had answered it for too long.
    #[serde(default)]
    escalated: Option<TimeMs>,
}

/// Papers of before say nothing of it, and were put on the desk after the records.
fn recorded() -> bool {
    true
}

impl Paper for RaisedAlarm {
    const KIND: &'static str = "alarm";
    fn id(&self) -> String {
        self.id.to_hex()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

impl RaisedAlarm {
    /// What was found, before anything of it is written.
    fn found(id: Id16, patient: &str, finding: &Finding, alarm: &Alarm) -> Self {
        let priority = match priority(finding.severity) {
            Some(Priority::High) => "high",
            Some(Priority::Medium) => "medium",
            Some(Priority::Low) | None => "low",
        };
        Self {
            id,
            patient: patient.to_owned(),
            name: alarm.name.to_owned(),
            priority: priority.to_owned(),
            what: in_words(finding, alarm),
            technical: alarm.technical,
            raised: finding.until,
            issue: String::new(),
            flag: String::new(),
            task: None,
            ended: None,
            acknowledged: None,
            is_recorded: false,
            escalated: None,
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        match self.priority.as_str() {
            "high" => Priority::High,
            "medium" => Priority::Medium,
            _ => Priority::Low,
        }
    }

    fn to_json(&self) -> Value {
        let acknowledged = self.acknowledged.as_ref().map(|(by, at)| json!({"by": by, "at": at.to_instant()}));
        let record = |rtype: &str, id: &str| self.is_recorded.then(|| format!("{rtype}/{id}"));
        json!({
            "id": self.id, "name": self.name, "priority": self.priority, "what": self.what, "technical": self.technical,
            "raised": self.raised.to_instant(), "ended": self.ended.map(TimeMs::to_instant), "acknowledged": acknowledged,
            "flag": record("Flag", &self.flag), "issue": record("DetectedIssue", &self.issue),
            "task": self.task.as_ref().map(|id| format!("Task/{id}")), "escalated": self.escalated.map(TimeMs::to_instant)
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether it still waits for somebody, and nobody was told yet that it does.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.is_open() && self.acknowledged.is_none() && self.escalated.is_none()
    }

    pub(crate) fn alarm_id(&self) -> Id16 {
        self.id
    }

    /// The id of its Flag, once it is written.
    pub(crate) fn flag(&self) -> Option<&str> {
        self.is_recorded.then_some(self.flag.as_str())
    }

    /// Whether it was shown and nothing of it is written, with nobody who would.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_open() && !self.is_recorded
    }

    pub(crate) fn end(&mut self, at: TimeMs) {
        self.ended = Some(at);
    }

    pub(crate) fn escalate(&mut self, at: TimeMs) {
        self.escalated = Some(at);
    }

    /// The Task with the protocol to follow; none where none is known.
    fn to_task(&self, at: TimeMs) -> Option<Value> {
        let protocol = protocol(&self.name)?;
        let issue = json!({"reference": format!("DetectedIssue/{}", self.issue)});
        Some(json!({
            "resourceType": "Task", "status": "requested", "intent": "proposal", "priority": "stat",
            "identifier": [{"system": ALARM_SYSTEM, "value": self.id}],
            "code": {"coding": [{"system": TASK_SYSTEM, "code": "alarm-protocol"}], "text": protocol.title},
            "description": format!("{} (alarm {}: {}). Source: {}.", protocol.steps, self.name, self.what, protocol.source),
            "focus": issue, "reasonReference": {"reference": format!("Flag/{}", self.flag)},
            "for": {"reference": format!("Patient/{}", self.patient)},
            "authoredOn": at.to_instant(), "lastModified": at.to_instant(),
            "requester": {"display": "analytics engine"}, "performerType": [{"text": "who treats the patient"}]
        }))
    }
}

impl Node {
    /// A patient's alarms at this organisation, the latest first, and the pause of their sound that is under way.
    #[boxed]
    pub async fn alarms(&self, caller: &Caller, patient: &str) -> Result<(Vec<Value>, Option<Value>), Failure> {
        let target = Target {
            rtype: "DetectedIssue",
            id: None,
            patient: Some(patient),
            label: "N",
            author: &self.org,
            value: None,
        };
        let decided = self.allow(caller, Action::Search, &target).await?;
        let mut alarms = self.desk.list::<RaisedAlarm>(Some(patient)).await?;
        alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.raised));
        let written = alarms.iter().filter(|alarm| alarm.is_recorded);
        let names: Vec<String> = written.map(|alarm| format!("DetectedIssue/{}", alarm.issue)).collect();
        let trail = Trail {
            query: Some(format!("alarm?patient={patient}")),
            under: decided.under,
            ..Trail::of(Interaction::Search, AccessAction::Search)
        };
        self.leave_trail(caller, Some(patient), &[], &names, &trail).await?;
        Ok((alarms.iter().map(RaisedAlarm::to_json).collect(), self.paused(patient).await?))
    }

    /// Somebody takes notice of an alarm: it falls silent, and who it was stays written.
    #[boxed]
    pub async fn acknowledge(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let (node, caller) = (self.clone(), caller.clone());
        to_the_end(async move { node.acknowledge_alarm(&caller, id).await }).await
    }

    async fn acknowledge_alarm(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let patient = self.alarm(id).await?.patient;
        self.allow_about(caller, Action::Acknowledge, &patient).await?;
        self.recorded(id).await?;
        let one = self.sensing.alarms_of(&patient).lock().await;
        let mut alarm = self.alarm(id).await?;
        if let Some((by, _)) = &alarm.acknowledged {
            return Err(Failure::Conflict(format!("this alarm was acknowledged already, by `{by}`")));
        }
        let now = self.now();
        let subject = self.subject(&alarm.patient).await?;
        let request_priority = match alarm.priority() {
            Priority::High => "stat",
            Priority::Medium => "urgent",
            Priority::Low => "routine",
        };
        let communication = json!({
            "resourceType": "Communication", "status": "completed", "priority": request_priority, "sent": now.to_instant(),
            "category": [{
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/communication-category", "code": "alert"}],
                "text": "alarm acknowledged"
            }],
            "subject": {"reference": format!("Patient/{}", alarm.patient)},
            "about": [
                {"reference": format!("Flag/{}", alarm.flag)}, {"reference": format!("DetectedIssue/{}", alarm.issue)}
            ],
            "sender": {
                "identifier": {"system": crate::facts::ORG_SYSTEM, "value": caller.user}, "display": caller.user
            },
            "payload": [{"contentString": format!("{} acknowledged: {}", alarm.name, alarm.what)}]
        });
        let draft = self.made(&communication, &subject, now)?;
        let mut gathered = self.gather(caller, now, vec![draft])?;
        let event = Event::Alarm { id, step: AlarmStep::Acknowledged, priority: alarm.priority() };
        self.also(&mut gathered, &self.author(caller, now), &Also { subject, event })?;
        self.commit(caller, now, gathered, Vec::new(), &Trail::of(Interaction::Create, AccessAction::Write)).await?;
        alarm.acknowledged = Some((caller.user.clone(), now));
        self.sensing.unanswered.answered(id);
        self.tell_alarm(&alarm);
        self.desk.put(alarm.clone()).await?;
        // The engine may be waiting for its writer, and the writer for this lock.
        drop(one);
        self.feed_acknowledged(&alarm.patient, &alarm.name, now, &caller.user).await;
        tracing::info!(alarm = %id, "an alarm was acknowledged");
        Ok(())
    }

    async fn alarm(&self, id: Id16) -> Result<RaisedAlarm, Failure> {
        let alarm = self.desk.get::<RaisedAlarm>(&id.to_hex()).await?;
        alarm.ok_or_else(|| Failure::NotFound(format!("alarm/{id}")))
    }

    /// Waits until an alarm's records are written: what is said of it would have nothing to refer to.
    async fn recorded(&self, id: Id16) -> Result<(), Failure> {
        let until = Instant::now() + RECORDED_WITHIN;
        loop {
            let mut written = pin!(self.sensing.alarm_written.notified());
            written.as_mut().enable();
            let alarm = self.alarm(id).await?;
            if alarm.is_recorded {
                return Ok(());
            }
            if !alarm.is_open() {
                return Err(Failure::Conflict("this alarm was over before anything of it could be written".to_owned()));
            }
            if tokio::time::timeout_at(until.into(), written).await.is_err() {
                return Err(Failure::Busy);
            }
        }
    }

    /// Shows an alarm that was found just now to whoever looks at the patient. Nothing of it is written yet.
    pub(crate) async fn announce(&self, patient: &str, finding: &Finding, alarm: &Alarm) {
        if let Err(error) = self.announce_raised(patient, finding, alarm).await {
            tracing::warn!(%error, "an alarm is shown only when it is written");
        }
    }

    async fn announce_raised(&self, patient: &str, finding: &Finding, alarm: &Alarm) -> Result<(), Failure> {
        if alarm.change != AlarmChange::Raised {
            return Ok(());
        }
        let raised = match self.open_alarm(patient, alarm.name).await? {
            Some(known) if known.is_recorded => return Ok(()),
            // It was announced before, and could not be written.
            Some(known) => known,
            None => RaisedAlarm::found(self.new_id()?, patient, finding, alarm),
        };
        // On the desk first: whoever is shown it can acknowledge it.
        self.desk.put(raised.clone()).await?;
        self.tell_alarm(&raised);
        self.sensing.unanswered.wait(raised.id, raised.priority(), self.now());
        Ok(())
    }

    async fn open_alarm(&self, patient: &str, name: &str) -> Result<Option<RaisedAlarm>, Failure> {
        let all = self.desk.list::<RaisedAlarm>(Some(patient)).await?;
        Ok(all.into_iter().find(|known| known.name == name && known.is_open()))
    }

    /// Writes what happened to an alarm. May be called again with the same finding when it failed.
    pub(crate) async fn write_alarm(
        &self,
        patient: &str,
        run: &Mutex<Run>,
        found: &Found,
        alarm: &Alarm,
    ) -> Result<(), Failure> {
        let _one = self.sensing.alarms_of(patient).lock().await;
        let open = self.open_alarm(patient, alarm.name).await?;
        match (&alarm.change, open) {
            (AlarmChange::Ended, None) | (AlarmChange::Acknowledged { .. }, _) => Ok(()),
            // It sounds already, since before a restart.
            (AlarmChange::Raised, Some(known)) if known.is_recorded => Ok(()),
            (AlarmChange::Raised, Some(announced)) => self.raise(patient, run, found, announced).await,
            (AlarmChange::Raised, None) => {
                let raised = RaisedAlarm::found(self.new_id()?, patient, &found.finding, alarm);
                self.raise(patient, run, found, raised).await
            }
            (AlarmChange::Ended, Some(known)) if known.is_recorded => self.end_alarm(patient, run, found, known).await,
            (AlarmChange::Ended, Some(mut announced)) => {
                tracing::warn!(alarm = %announced.id, "an alarm was shown and ended, and could not be written");
                announced.ended = Some(found.finding.until);
                self.tell_alarm(&announced);
                self.desk.put(announced).await?;
                self.sensing.alarm_written.notify_waiters();
                Ok(())
            }
        }
    }

    async fn raise(
        &self,
        patient: &str,
        run: &Mutex<Run>,
        found: &Found,
        mut raised: RaisedAlarm,
    ) -> Result<(), Failure> {
        let priority = raised.priority();
        let mut drafted = self.draft_finding(patient, run, found, self.now()).await?;
        let Drafted { time, drafts, .. } = &mut drafted;
        let id_of = |rtype: &str| drafts.iter().find(|draft| draft.rtype == rtype).map(|draft| draft.id.clone());
        raised.issue = id_of("DetectedIssue").unwrap_or_default();
        raised.flag = id_of("Flag").unwrap_or_default();
        raised.is_recorded = true;
        if priority == Priority::High
            && let Some(task) = raised.to_task(*time)
        {
            let task = self.made(&task, &self.subject(patient).await?, *time)?;
            raised.task = Some(task.id.clone());
            drafts.push(task);
        }
        self.allow_drafted(patient, &drafted).await?;
        let event = Event::Alarm { id: raised.id, step: AlarmStep::Raised, priority };
        self.commit_findings(patient, run, vec![(found, drafted)], Some(event)).await?;
        tracing::warn!(alarm = %raised.id, priority = raised.priority, "an alarm was raised");
        self.tell_alarm(&raised);
        self.meters.alarm(&raised.priority, raised.technical);
        if raised.is_unanswered() {
            self.sensing.unanswered.wait(raised.id, priority, self.now());
        }
        self.desk.put(raised).await?;
        self.sensing.alarm_written.notify_waiters();
        Ok(())
    }

    async fn end_alarm(
        &self,
        patient: &str,
        run: &Mutex<Run>,
        found: &Found,
        mut known: RaisedAlarm,
    ) -> Result<(), Failure> {
        let mut drafted = self.draft_finding(patient, run, found, self.now()).await?;
        let Drafted { time, drafts, .. } = &mut drafted;
        // The Flag that was raised ends; the issue says how it went.
        let flag = drafts.iter().position(|draft| draft.rtype == "Flag").map(|at| drafts.remove(at));
        let subject = self.subject(patient).await?;
        drafts.extend(self.closed_task(&known, &subject, *time).await?);
        self.allow_drafted(patient, &drafted).await?;
        let event = Event::Alarm { id: known.id, step: AlarmStep::Ended, priority: known.priority() };
        self.commit_findings(patient, run, vec![(found, drafted)], Some(event)).await?;
        known.ended = Some(found.finding.until);
        self.sensing.unanswered.answered(known.id);
        self.tell_alarm(&known);
        self.desk.put(known.clone()).await?;
        tracing::info!(alarm = %known.id, "an alarm ended");
        let Some(mut value) = flag.map(|flag| flag.value) else { return Ok(()) };
        value["id"] = known.flag.clone().into();
        let bytes = serde_json::to_vec(&value).map_err(|e| Failure::ours("a Flag is not JSON", e))?;
        if let Err(error) = self.update(&self.engine(), "Flag", &known.flag, &bytes, None).await {
            tracing::warn!(%error, alarm = %known.id, "the alarm ended, its Flag does not say so");
        }
        Ok(())
    }

    /// The version of an alarm's Task that says that it is over; none when people closed it, or its row does not agree with the ledger: an alarm's
    /// end does not wait for that.
    async fn closed_task(&self, alarm: &RaisedAlarm, subject: &Subject, at: TimeMs) -> Result<Option<Draft>, Failure> {
        let Some(id) = &alarm.task else { return Ok(None) };
        let (row, previous) = match self.current("Task", id).await {
            Ok(Some((row, previous))) if !row.deleted => (row, previous),
            Ok(_) | Err(Failure::Tampered(_) | Failure::Gone(_)) => {
                tracing::warn!(alarm = %alarm.id, "the Task of an alarm cannot be closed");
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let mut task: Value = serde_json::from_slice(&row.bytes).map_err(|e| Failure::ours("a Task is not JSON", e))?;
        let open = ["draft", "requested", "received", "accepted", "ready", "in-progress", "on-hold"];
        if !open.iter().any(|status| task["status"] == *status) {
            return Ok(None);
        }
        task["status"] = "completed".into();
        task["businessStatus"] = json!({"text": "the alarm ended"});
        task["lastModified"] = at.to_instant().into();
        self.made_after(&row, previous, &task, subject, at).map(Some)
    }

    /// The patient's alarms that are not over, for whoever begins to look.
    pub(crate) async fn open_alarms(&self, patient: &str) -> Result<Vec<Value>, Failure> {
        let all = self.desk.list::<RaisedAlarm>(Some(patient)).await?;
        Ok(all.iter().filter(|alarm| alarm.is_open()).map(RaisedAlarm::to_json).collect())
    }

    /// Shows an alarm to whoever looks at the patient.
    pub(crate) fn tell_alarm(&self, alarm: &RaisedAlarm) {
        self.tell(&alarm.patient, || Told::Alarm(alarm.to_json()));
    }
}

/// An alarm in words, such as `spo2 84.0 % (limit 91.0 %)`.
fn in_words(finding: &Finding, alarm: &Alarm) -> String {
    let signal = finding.signal.as_deref().unwrap_or(alarm.name);
    let number = |name: &str| {
        finding.measures.iter().find(|measure| measure.name == name).map(|m| format!("{:.1} {}", m.value, m.unit))
    };
    match (number("value"), number("limit")) {
        (Some(value), Some(limit)) => format!("{signal} {value} (limit {limit})"),
        (None, Some(limit)) => format!("{signal} is silent (limit {limit})"),
        _ => signal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saturation_is_low() -> RaisedAlarm {
        RaisedAlarm {
            id: Id16([1; 16]),
            patient: "p1".into(),
            name: "spo2-low".into(),
            priority: "high".into(),
            what: "spo2 84.0 % (limit 91.0 %)".into(),
            technical: false,
            raised: TimeMs(1_000),
            issue: "i1".into(),
            flag: "f1".into(),
            task: None,
            ended: None,
            acknowledged: None,
            is_recorded: true,
            escalated: None,
        }
    }

    #[test]
    fn an_alarm_is_shown_with_who_acknowledged_it() {
        let mut alarm = saturation_is_low();
        assert_eq!(alarm.to_json()["acknowledged"], Value::Null);
        assert_eq!(alarm.priority(), Priority::High);
        alarm.acknowledged = Some(("paramedic".into(), TimeMs(2_000)));
        let shown = alarm.to_json();
        assert_eq!(shown["acknowledged"], json!({"by": "paramedic", "at": "1970-01-01T00:00:02.000Z"}));
        assert_eq!(shown["id"], "01".repeat(16));
    }

    #[test]
    fn an_alarm_of_high_priority_prepares_a_task_with_its_protocol_that_is_valid_fhir() {
        let alarm = saturation_is_low();
        let task = alarm.to_task(TimeMs(2_000)).unwrap();
        crate::made::parse(&task).unwrap();
        assert_eq!((&task["focus"]["reference"], &task["status"]), (&json!("DetectedIssue/i1"), &json!("requested")));
        assert!(task["description"].as_str().unwrap().contains("British Thoracic Society"));
        assert_eq!(RaisedAlarm { name: "spo2-silent".into(), ..alarm }.to_task(TimeMs(2_000)), None);
    }
}

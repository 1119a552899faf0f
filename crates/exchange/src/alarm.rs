//! Alarms: raised by analytics, seen and acknowledged by people, on the ledger at every step.

use crate::{
    assess::priority,
    caller::Caller,
    desk::Paper,
    facts::Target,
    failure::Failure,
    node::Node,
    take::to_the_end,
    write::{Also, Trail},
};
use analytics::{Alarm, AlarmChange, Finding};
use contract::{AccessAction, AlarmStep, Event, Priority};
use policy::Action;
use record::{Id16, TimeMs, fhir::Interaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    /// When its condition was over.
    ended: Option<TimeMs>,
    /// Who took notice, and when.
    acknowledged: Option<(String, TimeMs)>,
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
    fn priority(&self) -> Priority {
        match self.priority.as_str() {
            "high" => Priority::High,
            "medium" => Priority::Medium,
            _ => Priority::Low,
        }
    }

    fn to_json(&self) -> Value {
        let acknowledged = self.acknowledged.as_ref().map(|(by, at)| json!({"by": by, "at": at.to_instant()}));
        json!({
            "id": self.id, "name": self.name, "priority": self.priority, "what": self.what, "technical": self.technical,
            "raised": self.raised.to_instant(), "ended": self.ended.map(TimeMs::to_instant), "acknowledged": acknowledged,
            "flag": format!("Flag/{}", self.flag), "issue": format!("DetectedIssue/{}", self.issue)
        })
    }
}

impl Node {
    /// A patient's alarms at this organisation, the latest first.
    pub async fn alarms(&self, caller: &Caller, patient: &str) -> Result<Vec<Value>, Failure> {
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
        let names: Vec<String> = alarms.iter().map(|alarm| format!("DetectedIssue/{}", alarm.issue)).collect();
        let trail = Trail {
            query: Some(format!("alarm?patient={patient}")),
            under: decided.under,
            ..Trail::of(Interaction::Search, AccessAction::Search)
        };
        self.leave_trail(caller, Some(patient), &[], &names, &trail).await?;
        Ok(alarms.iter().map(RaisedAlarm::to_json).collect())
    }

    /// Somebody takes notice of an alarm: it falls silent, and who it was stays written.
    pub async fn acknowledge(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let (node, caller) = (self.clone(), caller.clone());
        to_the_end(async move { node.acknowledge_alarm(&caller, id).await }).await
    }

    async fn acknowledge_alarm(&self, caller: &Caller, id: Id16) -> Result<(), Failure> {
        let one = self.sensing.alarms.lock().await;
        let alarm = self.desk.get::<RaisedAlarm>(&id.to_hex()).await?;
        let mut alarm = alarm.ok_or_else(|| Failure::NotFound(format!("alarm/{id}")))?;
        self.allow_about(caller, Action::Acknowledge, &alarm.patient).await?;
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
        self.desk.put(alarm.clone()).await?;
        // The engine may be waiting for its writer, and the writer for this lock.
        drop(one);
        self.feed_acknowledged(&alarm.patient, &alarm.name, now, &caller.user).await;
        tracing::info!(alarm = %id, "an alarm was acknowledged");
        Ok(())
    }

    /// Writes what happened to an alarm. May be called again with the same finding when it failed.
    pub(crate) async fn write_alarm(&self, patient: &str, finding: &Finding, alarm: &Alarm) -> Result<(), Failure> {
        let _one = self.sensing.alarms.lock().await;
        let open = self.desk.list::<RaisedAlarm>(Some(patient)).await?;
        let open = open.into_iter().find(|known| known.name == alarm.name && known.ended.is_none());
        match (&alarm.change, open) {
            // It sounds already, since before a restart.
            (AlarmChange::Raised, Some(_)) | (AlarmChange::Ended, None) | (AlarmChange::Acknowledged { .. }, _) => {
                Ok(())
            }
            (AlarmChange::Raised, None) => self.raise(patient, finding, alarm).await,
            (AlarmChange::Ended, Some(known)) => self.end_alarm(patient, finding, known).await,
        }
    }

    async fn raise(&self, patient: &str, finding: &Finding, alarm: &Alarm) -> Result<(), Failure> {
        let priority = priority(finding.severity).unwrap_or(Priority::Low);
        let time = self.now();
        let drafts = self.draft_finding(patient, finding, time).await?;
        let id_of = |rtype: &str| drafts.iter().find(|draft| draft.rtype == rtype).map(|draft| draft.id.clone());
        let raised = RaisedAlarm {
            id: self.new_id()?,
            patient: patient.to_owned(),
            name: alarm.name.to_owned(),
            priority: match priority {
                Priority::High => "high",
                Priority::Medium => "medium",
                Priority::Low => "low",
            }
            .to_owned(),
            what: in_words(finding, alarm),
            technical: alarm.technical,
            raised: finding.until,
            issue: id_of("DetectedIssue").unwrap_or_default(),
            flag: id_of("Flag").unwrap_or_default(),
            ended: None,
            acknowledged: None,
        };
        let event = Event::Alarm { id: raised.id, step: AlarmStep::Raised, priority };
        self.commit_finding(patient, finding, (time, drafts), Some(event)).await?;
        tracing::warn!(alarm = %raised.id, priority = raised.priority, "an alarm was raised");
        Ok(self.desk.put(raised).await?)
    }

    async fn end_alarm(&self, patient: &str, finding: &Finding, mut known: RaisedAlarm) -> Result<(), Failure> {
        let time = self.now();
        let mut drafts = self.draft_finding(patient, finding, time).await?;
        // The Flag that was raised ends; the issue says how it went.
        let flag = drafts.iter().position(|draft| draft.rtype == "Flag").map(|at| drafts.remove(at));
        let event = Event::Alarm { id: known.id, step: AlarmStep::Ended, priority: known.priority() };
        self.commit_finding(patient, finding, (time, drafts), Some(event)).await?;
        known.ended = Some(finding.until);
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

    #[test]
    fn an_alarm_is_shown_with_who_acknowledged_it() {
        let mut alarm = RaisedAlarm {
            id: Id16([1; 16]),
            patient: "p1".into(),
            name: "spo2-low".into(),
            priority: "high".into(),
            what: "spo2 84.0 % (limit 91.0 %)".into(),
            technical: false,
            raised: TimeMs(1_000),
            issue: "i1".into(),
            flag: "f1".into(),
            ended: None,
            acknowledged: None,
        };
        assert_eq!(alarm.to_json()["acknowledged"], Value::Null);
        assert_eq!(alarm.priority(), Priority::High);
        alarm.acknowledged = Some(("paramedic".into(), TimeMs(2_000)));
        let shown = alarm.to_json();
        assert_eq!(shown["acknowledged"], json!({"by": "paramedic", "at": "1970-01-01T00:00:02.000Z"}));
        assert_eq!(shown["id"], "01".repeat(16));
    }
}

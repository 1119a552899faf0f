//! Alarms that nobody answers, and pauses of their sound.
//!
//! Source: IEC 60601-1-8. An alarm that nobody acknowledges *escalates*: it is shown again as such, and its Flag says so, of which everybody
//! hears who subscribed to alarms. *Audio paused* keeps a patient's alarms silent for a while, shown all the same; who paused, and until when,
//! stays written. How long either takes is our own choice: the standard leaves it to whoever is responsible for the ward.

use crate::{
    alarm::RaisedAlarm, boxed, caller::Caller, desk::Paper, failure::Failure, live::Told, node::Node, take::to_the_end,
    write::Trail,
};
use contract::{AccessAction, Priority};
use policy::Action;
use record::{
    Id16, TimeMs,
    fhir::{Interaction, IssueType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often it is looked for alarms that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An alarm that could not be escalated is looked at again after so long, in milliseconds.
const AGAIN_MS: u64 = 10_000;
/// The most alarms that are waited for: those of 4,096 patients and more.
const UNANSWERED_MAX: usize = 16_384;
/// The longest pause, in minutes.
pub const PAUSE_MINUTES_MAX: u32 = 10;
const ESCALATED: &str = "https://vitaltrace.org/fhir/StructureDefinition/alarm-escalated";

/// How long an alarm waits for somebody before it escalates. One of low priority does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escalation {
    /// One of high priority.
    pub high: Duration,
    /// One of medium priority.
    pub medium: Duration,
}

impl Default for Escalation {
    fn default() -> Self {
        Self { high: Duration::from_secs(120), medium: Duration::from_secs(300) }
    }
}

/// Alarms that nobody acknowledged yet, and when each escalates.
pub(crate) struct Unanswered {
    after: Escalation,
    due: Mutex<HashMap<Id16, TimeMs>>,
}

impl Unanswered {
    pub(crate) fn new(after: Escalation) -> Self {
        Self { after, due: Mutex::default() }
    }

    /// Waits for somebody who answers an alarm that is shown from `now` on.
    pub(crate) fn wait(&self, id: Id16, priority: Priority, now: TimeMs) {
        let after = match priority {
            Priority::High => self.after.high,
            Priority::Medium => self.after.medium,
            Priority::Low => return,
        };
        self.look_at(id, now.plus_ms(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
    }

    /// One that is waited for already escalates when it would have.
    fn look_at(&self, id: Id16, due: TimeMs) {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < UNANSWERED_MAX {
            all.entry(id).or_insert(due);
        }
    }

    /// Somebody answered it, or it is over.
    pub(crate) fn answered(&self, id: Id16) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Takes those that escalate now.
    fn due(&self, now: TimeMs) -> Vec<Id16> {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<Id16> = all.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect();
        all.retain(|_, due| *due > now);
        due
    }
}

/// A pause of the sound of a patient's alarms, on the desk: the last one of each patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pause {
    patient: String,
    by: String,
    from: TimeMs,
    until: TimeMs,
}

impl Paper for Pause {
    const KIND: &'static str = "alarm-pause";
    fn id(&self) -> String {
        self.patient.clone()
    }
    fn patient(&self) -> String {
        self.patient.clone()
    }
}

impl Pause {
    fn to_json(&self) -> Value {
        json!({"by": self.by, "from": self.from.to_instant(), "until": self.until.to_instant()})
    }
}

impl Node {
    /// Keeps a patient's alarms silent for so many minutes, or lets them sound again before that: with 0. Gives the pause as it stands.
    #[boxed]
    pub async fn pause_alarms(&self, caller: &Caller, patient: &str, minutes: u32) -> Result<Value, Failure> {
        if minutes > PAUSE_MINUTES_MAX {
            let text = format!("alarms are paused for at most {PAUSE_MINUTES_MAX} minutes; 0 ends a pause");
            return Err(Failure::invalid(IssueType::Value, "", text));
        }
        self.allow_about(caller, Action::Acknowledge, patient).await?;
        let (node, caller, patient) = (self.clone(), caller.clone(), patient.to_owned());
        to_the_end(async move { node.pause(&caller, &patient, minutes).await }).await
    }

    async fn pause(&self, caller: &Caller, patient: &str, minutes: u32) -> Result<Value, Failure> {
        let _one = self.sensing.alarms_of(patient).lock().await;
        let now = self.now();
        let known = self.pause_of(patient, now).await?;
        if minutes == 0 && known.is_none() {
            return Err(Failure::Conflict("no pause is under way".to_owned()));
        }
        let until = now.plus_ms(u64::from(minutes) * 60_000);
        let pause = Pause { patient: patient.to_owned(), by: caller.user.clone(), from: now, until };
        let said = match minutes {
            0 => "alarms sound again".to_owned(),
            _ => format!("the sound of alarms is paused until {}", until.to_instant()),
        };
        let communication = json!({
            "resourceType": "Communication", "status": "completed", "priority": "routine", "sent": now.to_instant(),
            "category": [{
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/communication-category", "code": "alert"}],
                "text": "alarm sound paused"
            }],
            "subject": {"reference": format!("Patient/{patient}")},
            "sender": {
                "identifier": {"system": crate::facts::ORG_SYSTEM, "value": caller.user}, "display": caller.user
            },
            "payload": [{"contentString": said}]
        });
        let subject = self.subject(patient).await?;
        let draft = self.made(&communication, &subject, now)?;
        let gathered = self.gather(caller, now, vec![draft])?;
        self.commit(caller, now, gathered, Vec::new(), &Trail::of(Interaction::Create, AccessAction::Write)).await?;
        self.desk.put(pause.clone()).await?;
        let shown = pause.to_json();
        self.tell(patient, || Told::Paused(shown.clone()));
        tracing::info!(minutes, "the sound of a patient's alarms was paused");
        Ok(shown)
    }

    /// The pause that is under way.
    async fn pause_of(&self, patient: &str, now: TimeMs) -> Result<Option<Pause>, Failure> {
        Ok(self.desk.get::<Pause>(patient).await?.filter(|pause| pause.until > now))
    }

    /// The same, for whoever looks.
    pub(crate) async fn paused(&self, patient: &str) -> Result<Option<Value>, Failure> {
        Ok(self.pause_of(patient, self.now()).await?.as_ref().map(Pause::to_json))
    }

    /// Takes up the alarms that nobody had answered when the node stopped. One that was shown and never written is over: where its condition
    /// is still there, it is found anew, and nobody could answer this one.
    pub(crate) async fn resume_vigil(&self) -> Result<(), Failure> {
        let now = self.now();
        for mut alarm in self.desk.list::<RaisedAlarm>(None).await? {
            if alarm.is_lost() {
                tracing::warn!(alarm = %alarm.alarm_id(), "an alarm was shown before the node stopped, and not written");
                alarm.end(now);
                self.desk.put(alarm).await?;
            } else if alarm.is_unanswered() {
                self.sensing.unanswered.wait(alarm.alarm_id(), alarm.priority(), now);
            }
        }
        Ok(())
    }

    /// Escalates alarms as they become due.
    pub(crate) async fn keep_vigil(self) {
        let mut stopping = self.stopping();
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            for id in self.sensing.unanswered.due(self.now()) {
                // Each by itself: what is written about one patient holds up nobody else.
                let node = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = node.escalate(id).await {
                        tracing::warn!(%error, alarm = %id, "an alarm that nobody answers could not be escalated; it is tried again");
                        node.sensing.unanswered.look_at(id, node.now().plus_ms(AGAIN_MS));
                    }
                });
            }
        }
    }

    async fn escalate(&self, id: Id16) -> Result<(), Failure> {
        let Some(alarm) = self.desk.get::<RaisedAlarm>(&id.to_hex()).await? else { return Ok(()) };
        let _one = self.sensing.alarms_of(&Paper::patient(&alarm)).lock().await;
        let Some(mut alarm) = self.desk.get::<RaisedAlarm>(&id.to_hex()).await? else { return Ok(()) };
        if !alarm.is_unanswered() {
            return Ok(());
        }
        let now = self.now();
        alarm.escalate(now);
        self.desk.put(alarm.clone()).await?;
        self.tell_alarm(&alarm);
        self.meters.escalated();
        tracing::warn!(alarm = %id, "nobody answers an alarm: it escalates");
        // Whoever looks has seen it by now, whatever became of the Flag's row.
        if let Err(error) = self.flag_escalated(&alarm, now).await {
            tracing::warn!(%error, alarm = %id, "an alarm escalated, its Flag does not say so");
        }
        Ok(())
    }

    async fn flag_escalated(&self, alarm: &RaisedAlarm, at: TimeMs) -> Result<(), Failure> {
        let flag = alarm.flag().ok_or(Failure::Busy)?;
        let Some((row, _)) = self.current("Flag", flag).await? else {
            return Err(Failure::NotFound(format!("Flag/{flag}")));
        };
        let mut value: Value =
            serde_json::from_slice(&row.bytes).map_err(|e| Failure::ours("a Flag is not JSON", e))?;
        let extension = json!({"url": ESCALATED, "valueInstant": at.to_instant()});
        match value["extension"].as_array_mut() {
            Some(all) => all.push(extension),
            None => value["extension"] = json!([extension]),
        }
        let bytes = serde_json::to_vec(&value).map_err(|e| Failure::ours("a Flag is not JSON", e))?;
        self.update(&self.engine(), "Flag", flag, &bytes, None).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_escalates_by_its_priority_once_and_not_when_it_was_answered() {
        let (high_ms, medium_ms) = (2_000, 5_000);
        let after = Escalation { high: Duration::from_millis(high_ms), medium: Duration::from_millis(medium_ms) };
        let (unanswered, begin) = (Unanswered::new(after), TimeMs(1_000));
        let [high, medium, low, answered] = [1, 2, 3, 4].map(|n| Id16([n; 16]));
        unanswered.wait(high, Priority::High, begin);
        unanswered.wait(medium, Priority::Medium, begin);
        unanswered.wait(low, Priority::Low, begin);
        unanswered.wait(answered, Priority::High, begin);
        unanswered.answered(answered);
        // It was written a second after it was shown.
        unanswered.wait(high, Priority::High, begin.plus_ms(1_000));
        assert_eq!(unanswered.due(begin.plus_ms(high_ms - 1)), []);
        assert_eq!(unanswered.due(begin.plus_ms(high_ms)), [high]);
        assert_eq!(unanswered.due(begin.plus_ms(medium_ms)), [medium]);
        assert_eq!(unanswered.due(begin.plus_ms(u64::from(u32::MAX))), []);
    }
}

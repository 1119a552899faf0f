//! Resources that the node makes itself: associations of devices, results of analytics, answers to alarms.

use crate::{
    caller::Caller,
    facts::Target,
    failure::Failure,
    node::Node,
    subject::Subject,
    write::{Draft, new_record_id},
};
use policy::Action;
use record::{
    Commitment, Purpose, Role, TimeMs,
    fhir::{self, Limits, Resource},
};
use serde_json::Value;
use store::Row;

impl Node {
    /// The analytics engine, which acts for the organisation's own treatment.
    pub(crate) fn engine(&self) -> Caller {
        self.machine("analytics-engine", Role::Engine)
    }

    /// A program or device of the organisation, which acts for treatment.
    pub(crate) fn machine(&self, name: &str, role: Role) -> Caller {
        Caller {
            user: name.to_owned(),
            role,
            org: self.org.clone(),
            org_role: self.role,
            patient: None,
            purpose: Purpose::Treat,
            request: String::new(),
            address: self.org.as_str().to_owned(),
            base: String::new(),
            app: None,
            login: None,
            person_since: None,
        }
    }

    /// The first version of a resource of ours under a new id.
    pub(crate) fn made(&self, resource: &Value, subject: &Subject, time: TimeMs) -> Result<Draft, Failure> {
        self.made_as(&new_record_id(), resource, subject, time)
    }

    /// The same under an id that was chosen before.
    pub(crate) fn made_as(
        &self,
        id: &str,
        resource: &Value,
        subject: &Subject,
        time: TimeMs,
    ) -> Result<Draft, Failure> {
        let resource = parse(resource)?;
        Ok(Draft {
            rtype: resource.rtype().as_str().to_owned(),
            version: 1,
            previous: None,
            bytes: resource.stamped(id, 1, time),
            value: resource.value(),
            deleted: false,
            label: resource.confidentiality().code().to_owned(),
            subject: subject.clone(),
            wrapped: None,
            id: id.to_owned(),
        })
    }

    /// The same as the version after a row.
    pub(crate) fn made_after(
        &self,
        row: &Row,
        previous: Commitment,
        resource: &Value,
        subject: &Subject,
        time: TimeMs,
    ) -> Result<Draft, Failure> {
        let version = row.version + 1;
        let bytes = parse(resource)?.stamped(&row.id, version, time);
        let first = self.made_as(&row.id, resource, subject, time)?;
        Ok(Draft { version, previous: Some(previous), bytes, ..first })
    }
}

impl Node {
    /// Decides whether the node itself may write a version of a record about a patient.
    pub(crate) async fn allow_made(&self, machine: &Caller, patient: &str, draft: &Draft) -> Result<(), Failure> {
        let action = if draft.version == 1 { Action::Create } else { Action::Update };
        let target = Target {
            rtype: &draft.rtype,
            id: Some(&draft.id),
            patient: Some(patient),
            label: &draft.label,
            author: &self.org,
            value: Some((&draft.value).into()),
        };
        self.allow(machine, action, &target).await.map(|_| ())
    }
}

/// Reads and checks a resource of ours as strictly as one from outside.
pub(crate) fn parse(resource: &Value) -> Result<Resource, Failure> {
    let ours = |why: String| Failure::ours("a resource that the node made is wrong", why);
    let bytes = serde_json::to_vec(resource).map_err(|e| ours(e.to_string()))?;
    let resource = Resource::parse(&bytes, Limits::RESOURCE).map_err(|e| ours(e.to_string()))?;
    fhir::check(&resource).map_err(|problems| {
        let first = problems.first().map(|problem| format!("{} at {}", problem.fault, problem.expression));
        ours(first.unwrap_or_default())
    })?;
    Ok(resource)
}

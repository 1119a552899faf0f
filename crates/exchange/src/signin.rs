//! Who came in: logins, apps that people let in, tokens that were given, refused and ended, in the trail beside accesses.
//!
//! Each is an audit event of its own that discloses nothing, carried by an access entry without a set, as that of an operation is. A
//! patient's stand in the patient's own trail; those of everybody else are about nobody, and the privacy officer's to read.

use crate::{
    boxed,
    failure::Failure,
    node::Node,
    write::{Trail, new_record_id},
};
use contract::{AccessAction, Author};
use record::{
    Purpose, Role,
    fhir::{AuditEvent, AuditOutcome, Event, Interaction, Machine, Party, User},
};

/// What the trail calls somebody who is not known: no user is called so.
pub const UNKNOWN: &str = "unknown";

/// What became of somebody who came in or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Came in, or was given something.
    In,
    /// Was refused.
    Refused,
    /// What was given is over.
    Out,
}

/// Somebody at the door, and what became of it. Nothing in it is a secret.
#[derive(Debug, Clone, Copy)]
pub struct SignIn<'a> {
    /// What became of it.
    pub came: Came,
    /// The same for people: which app, what it was given, how often it failed.
    pub says: &'a str,
    /// The user and the role, if it is known who it is.
    pub user: Option<(&'a str, Role)>,
    /// Of a patient's login: the id of the Patient.
    pub patient: Option<&'a str>,
    /// The app by which it was, if it was by one.
    pub app: Option<&'a str>,
    /// The network address that it came from.
    pub address: &'a str,
    /// Names the request in the audit trail.
    pub request: &'a str,
    /// For what people of the role usually act.
    pub purpose: Purpose,
}

impl Node {
    /// Makes the trace of somebody who came in, was refused or went durable.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn note_sign_in<'a>(&'a self, sign_in: SignIn<'a>) -> Result<(), Failure> {
        let time = self.now();
        let subject = match sign_in.patient {
            Some(patient) => match self.subject(patient).await {
                Ok(subject) => subject,
                // A login may be about a patient who is not enrolled, or no more; and a row that does not agree with the ledger is no reason
                // to give a token that the trail does not have.
                Err(failure) => {
                    if !matches!(failure, Failure::NotFound(_)) {
                        tracing::warn!(%failure, "a login is written down as about nobody");
                    }
                    self.nobody()
                }
            },
            None => self.nobody(),
        };
        let id = new_record_id();
        let org = self.org.as_str();
        let patient = subject.patient.as_ref().map(|patient| format!("Patient/{patient}"));
        let who = sign_in.user.map_or(UNKNOWN, |(user, _)| user);
        let party = |display| Party { display: Some(display), ..Party::default() };
        let purposes = [sign_in.purpose];
        let event = AuditEvent {
            id: &id,
            recorded: time,
            event: if sign_in.came == Came::Out { Event::Logout } else { Event::Login },
            outcome: match sign_in.came {
                Came::Refused => AuditOutcome::MinorFailure,
                Came::In | Came::Out => AuditOutcome::Success,
            },
            outcome_text: Some(sign_in.says),
            client: Machine { who: party(sign_in.app.unwrap_or(who)), address: sign_in.address },
            server: Machine { who: party(org), address: org },
            user: sign_in.user.map(|(user, role)| User {
                who: Party { identifier: Some((crate::facts::ORG_SYSTEM, user)), ..party(user) },
                role: Some(role.as_str()),
                purposes: &purposes,
            }),
            site: org,
            patient: patient.as_deref(),
            data: &[],
            query: None,
            request_id: Some(sign_in.request).filter(|request| !request.is_empty()),
            confidentiality: None,
        };
        let author = Author {
            org: self.org.clone(),
            access_policy: self.policies().access.digest(),
            actor: self.own.actor(who),
            purpose: sign_in.purpose,
            time,
        };
        let denied = (sign_in.came == Came::Refused).then(|| sign_in.says.to_owned());
        let trail = Trail { denied, ..Trail::of(Interaction::Operation, AccessAction::Write) };
        let access = self.access_of(&author, &subject, &event, &[], &trail)?;
        self.accesses.note(vec![access]).await
    }
}

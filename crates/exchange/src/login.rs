//! Logins that the directory keeps: a PractitionerRole of this organisation that names a login says who comes in by it, in which role, and for
//! how long.
//!
//! The record decides, and the list of logins follows it: at once where it is written, at the start, and every minute, as periods begin and
//! end. What the database does not show, or shows otherwise than the ledger has it, changes no login: whoever has the database alone lets
//! nobody in and keeps nobody out.

use crate::{
    boxed, caller::Caller, facts::Target, failure::Failure, find::search_failure, node::Node, write::Draft,
    write::Trail,
};
use contract::AccessAction;
use policy::{Action, Meant, period, user_system};
use record::{
    OrgRole, Role, TimeMs,
    fhir::{Interaction, IssueType},
};
use serde_json::Value;
use std::{collections::HashSet, sync::Arc, time::Duration};
use store::{Criterion, PAGE_MAX, Row, Search, Unless};

/// The FHIR type.
const PRACTITIONER_ROLE: &str = "PractitionerRole";
/// Logins that the directory keeps at most.
const LOGINS_MAX: usize = 10_000;
/// How often it is looked whether a period has begun or ended.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the directory says of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The record that says so: `PractitionerRole/id`.
    pub by: String,
    /// Whether anybody comes in by it now, and as what; none when it is over, or has not begun.
    pub is: Option<Entitled>,
}

/// Who comes in by a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitled {
    /// The login's name.
    pub name: String,
    /// What it may be.
    pub role: Role,
    /// Who it is in the directory: `Practitioner/id`.
    pub practitioner: Option<String>,
}

/// Whoever keeps the list of logins.
pub trait Logins: Send + Sync {
    /// Why nobody can be let in as a record would say; for whoever writes it.
    fn refuses(&self, by: &str, entitled: &Entitled) -> Option<String>;
    /// The records that logins are kept by.
    fn kept(&self) -> Vec<String>;
    /// Has the list follow what the directory says. Of a record that is not named nothing is known: its login stays as it is.
    fn follow(&self, said: &[Login]);
}

/// What a record of this organisation says of a login, whenever it is; none when it names no login.
struct Said {
    name: String,
    /// None when its codes are no single role.
    role: Option<Role>,
    practitioner: Option<String>,
    active: bool,
    /// None when it is not readable.
    period: Option<(TimeMs, TimeMs)>,
}

impl Said {
    fn read(value: &Value, system: &str) -> Option<Self> {
        let identifiers = value["identifier"].as_array()?;
        let name = identifiers.iter().find(|identifier| identifier["system"] == system)?["value"].as_str()?;
        let role = match Meant::roles_of(value).unwrap_or_default().as_slice() {
            [first, others @ ..] if others.iter().all(|other| other == first) => Some(*first),
            _ => None,
        };
        let practitioner = value["practitioner"]["reference"].as_str();
        let practitioner = practitioner.filter(|reference| reference.starts_with("Practitioner/"));
        let always = Some((TimeMs(0), TimeMs(u64::MAX)));
        Some(Self {
            name: name.to_owned(),
            role,
            practitioner: practitioner.map(str::to_owned),
            active: value["active"] != false,
            period: if value["period"].is_null() { always } else { period(&value["period"]) },
        })
    }

    fn at(self, now: TimeMs) -> Option<Entitled> {
        let Self { name, role, practitioner, active, period } = self;
        let is_now = active && period.is_some_and(|(first, last)| first <= now && now <= last);
        role.filter(|_| is_now).map(|role| Entitled { name, role, practitioner })
    }
}

/// Roles that people of an organisation of this kind have by a login of the directory. Patients' logins are about a record of theirs, and
/// devices and engines are no people.
fn people_of(org: OrgRole) -> &'static [Role] {
    match org {
        OrgRole::Hospital => &[Role::Doctor, Role::Nurse, Role::Administrator, Role::Custodian, Role::PrivacyOfficer],
        OrgRole::Ems => {
            &[Role::Dispatcher, Role::Responder, Role::Administrator, Role::Custodian, Role::PrivacyOfficer]
        }
        OrgRole::Insurer => &[Role::Insurer, Role::Custodian, Role::PrivacyOfficer],
        OrgRole::Compliance => &[Role::Compliance, Role::Custodian],
    }
}

fn wrong(place: &str, text: impl Into<String>) -> Failure {
    Failure::invalid(IssueType::BusinessRule, place, text)
}

impl Node {
    /// Begins to have the list of logins follow the directory.
    #[boxed]
    pub async fn keep_logins(&self, logins: Arc<dyn Logins>) {
        if self.logins.set(logins).is_err() {
            return;
        }
        let node = self.clone();
        let keeping = tokio::spawn(async move {
            loop {
                node.follow_directory().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        self.also_run(keeping).await;
    }

    /// Has the list of logins follow the directory as it is now.
    pub(crate) async fn follow_directory(&self) {
        let Some(logins) = self.logins.get().cloned() else { return };
        let _one = self.following.lock().await;
        let kept = logins.kept();
        match self.directory(kept).await {
            // A list is written to the disk.
            Ok(said) => drop(tokio::task::spawn_blocking(move || logins.follow(&said)).await),
            Err(error) => tracing::warn!(%error, "the directory cannot be read: logins stay as they are"),
        }
    }

    /// What the directory says of logins now, the earliest record first; and of those records that logins are kept by.
    async fn directory(&self, kept: Vec<String>) -> Result<Vec<Login>, Failure> {
        let (now, mut said, mut seen) = (self.now(), Vec::new(), HashSet::new());
        let mut search = self.named_logins(None)?;
        loop {
            let (page, worths) = self.current_page(search.clone()).await?;
            for (row, worth) in page.found.rows.iter().zip(&worths) {
                if worth.may_be_shown() && seen.insert(format!("{}/{}", row.rtype, row.id)) {
                    said.extend(self.said_by(row, now));
                }
            }
            match page.next {
                Some(next) if said.len() < LOGINS_MAX => search.after = Some(next),
                Some(_) => {
                    tracing::error!(LOGINS_MAX, "the directory names more logins than are followed");
                    break;
                }
                None => break,
            }
        }
        // Deleted ones, those that name no login any more, and those that the database does not bring up.
        for by in kept.into_iter().filter(|by| !seen.contains(by)) {
            let Some(id) = by.strip_prefix("PractitionerRole/") else { continue };
            match self.sound_row(PRACTITIONER_ROLE, id, None).await {
                Ok((row, ..)) => said.push(self.said_by(&row, now).unwrap_or(Login { by, is: None })),
                Err(Failure::Gone(_)) => said.push(Login { by, is: None }),
                Err(error) => {
                    tracing::warn!(%error, "a record of the directory is not as the ledger has it: its login stays as it is")
                }
            }
        }
        Ok(said)
    }

    /// What a row that may be shown says, if it is this organisation's and about a login.
    fn said_by(&self, row: &Row, now: TimeMs) -> Option<Login> {
        if row.author != self.org || row.deleted {
            return None;
        }
        let value: Value = serde_json::from_slice(&row.bytes).ok()?;
        let said = Said::read(&value, &user_system(&self.org))?;
        Some(Login { by: format!("{}/{}", row.rtype, row.id), is: said.at(now) })
    }

    /// The records that name a login of this organisation: this one, or any.
    fn named_logins(&self, name: Option<&str>) -> Result<Search, Failure> {
        let criterion = self.naming(name)?;
        Ok(Search { count: PAGE_MAX, total: false, ..Search::of(PRACTITIONER_ROLE).with(criterion) })
    }

    fn naming(&self, name: Option<&str>) -> Result<Criterion, Failure> {
        let token = format!("{}|{}", user_system(&self.org), name.unwrap_or_default());
        Criterion::parse(PRACTITIONER_ROLE, "identifier", &token)
            .map_err(|e| Failure::ours("logins cannot be looked for", e))
    }

    /// Refuses what the directory cannot say of logins, and says under which conditions the drafts may be written; none when they are about
    /// no login of ours.
    pub(crate) async fn check_logins(&self, caller: &Caller, drafts: &[Draft]) -> Result<Option<Vec<Unless>>, Failure> {
        let (mut conditions, mut names, mut is_about_logins) = (Vec::new(), HashSet::new(), false);
        for draft in drafts.iter().filter(|draft| draft.rtype == PRACTITIONER_ROLE) {
            let system = user_system(&self.org);
            let before = match draft.version {
                1 => None,
                _ => self.store.read(PRACTITIONER_ROLE, &draft.id).await.map_err(search_failure)?,
            };
            let before = before.and_then(|row| {
                let value: Value = serde_json::from_slice(&row.bytes).ok()?;
                Said::read(&value, &system)
            });
            let said = Said::read(&draft.value, &system).filter(|_| !draft.deleted);
            is_about_logins |= before.is_some() || said.is_some();
            let is_own = |said: &&Said| said.name == caller.user;
            if before.iter().chain(&said).any(|said| is_own(&said)) {
                return Err(Failure::Denied {
                    sentence: "nobody changes the login that they came in by: another custodian does".to_owned(),
                    suppressed: false,
                });
            }
            let Some(said) = said else { continue };
            let entitled = self.checked(&draft.name(), &draft.value, said)?;
            if let Some(before) = &before
                && before.name != entitled.name
            {
                let text = format!(
                    "this record keeps the login `{}`: delete it, and name the other in a new one",
                    before.name
                );
                return Err(wrong("PractitionerRole.identifier", text));
            }
            if !names.insert(entitled.name.clone()) {
                let text = format!("the login `{}` is named twice", entitled.name);
                return Err(wrong("PractitionerRole.identifier", text));
            }
            if before.is_none() {
                self.is_unnamed(&entitled.name, &draft.id).await?;
                let criteria = vec![self.naming(Some(&entitled.name))?];
                conditions.push(Unless { rtype: PRACTITIONER_ROLE.to_owned(), criteria });
            }
        }
        Ok(is_about_logins.then_some(conditions))
    }

    /// What a record would say of a login, if that can be said.
    fn checked(&self, by: &str, value: &Value, said: Said) -> Result<Entitled, Failure> {
        let may = people_of(self.role);
        let Some(role) = said.role.filter(|role| may.contains(role)) else {
            let roles: Vec<&str> = may.iter().map(|role| role.as_str()).collect();
            let text = format!(
                "a login of this organisation has one role, in `code` of system https://vitaltrace.org/fhir/CodeSystem/role: {}",
                roles.join(", ")
            );
            return Err(wrong("PractitionerRole.code", text));
        };
        if said.period.is_none() {
            return Err(wrong("PractitionerRole.period", "it is not readable when the login begins and ends"));
        }
        if !value["organization"].is_null()
            && crate::facts::member_of(&value["organization"]).is_some_and(|member| member != self.org)
        {
            return Err(wrong("PractitionerRole.organization", "a login is one of this organisation"));
        }
        let entitled = Entitled { name: said.name, role, practitioner: said.practitioner };
        match self.logins.get().and_then(|logins| logins.refuses(by, &entitled)) {
            Some(text) => Err(wrong("PractitionerRole.identifier", text)),
            None => Ok(entitled),
        }
    }

    async fn is_unnamed(&self, name: &str, id: &str) -> Result<(), Failure> {
        let (page, worths) = self.current_page(self.named_logins(Some(name))?).await?;
        let other = page.found.rows.iter().zip(&worths).find(|(row, worth)| worth.may_be_shown() && row.id != id);
        match other {
            Some((row, _)) => {
                let text = format!("the login `{name}` is kept by `{PRACTITIONER_ROLE}/{}`: change that", row.id);
                Err(wrong("PractitionerRole.identifier", text))
            }
            None => Ok(()),
        }
    }

    /// Decides whether the caller may invite whom a record of the directory lets in: whoever may change it. It is in the trail.
    #[boxed]
    pub async fn entitled_to_invite(&self, caller: &Caller, id: &str) -> Result<Entitled, Failure> {
        let (row, ..) = self.sound_row(PRACTITIONER_ROLE, id, None).await?;
        let decided = self.allow(caller, Action::Update, &Target::of(&row)).await?;
        let said = self.said_by(&row, self.now()).and_then(|login| login.is);
        let entitled = said.ok_or_else(|| {
            Failure::Conflict(format!(
                "`{PRACTITIONER_ROLE}/{id}` lets nobody in now: it names no login of ours, or is over"
            ))
        })?;
        if entitled.name == caller.user {
            let sentence = "nobody invites themselves: another custodian does".to_owned();
            return Err(Failure::Denied { sentence, suppressed: false });
        }
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Write) };
        let name = format!("{PRACTITIONER_ROLE}/{id}/_history/{}", row.version);
        self.leave_trail(caller, None, &[], &[name], &trail).await?;
        Ok(entitled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SYSTEM: &str = "https://vitaltrace.org/org/mercy/user";
    const ROLES: &str = "https://vitaltrace.org/fhir/CodeSystem/role";

    fn role(more: Value) -> Value {
        let mut value = json!({
            "resourceType": "PractitionerRole",
            "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": "1"}, {"system": SYSTEM, "value": "ana"}],
            "practitioner": {"reference": "Practitioner/ana"},
            "code": [{"coding": [{"system": ROLES, "code": "nurse"}]}]
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    }

    #[test]
    fn a_record_lets_somebody_in_while_it_is_active_and_within_its_period() {
        let now: TimeMs = TimeMs(1_764_500_000_000);
        let at = |value: &Value| Said::read(value, SYSTEM).and_then(|said| said.at(now));
        let ana =
            Entitled { name: "ana".to_owned(), role: Role::Nurse, practitioner: Some("Practitioner/ana".to_owned()) };
        assert_eq!(at(&role(json!({}))), Some(ana.clone()));
        assert_eq!(
            at(&role(json!({"active": true, "period": {"start": "2025-11-30", "end": "2025-11-30"}}))),
            Some(ana)
        );
        for over in [
            json!({"active": false}),
            json!({"period": {"end": "2025-11-29"}}),
            json!({"period": {"start": "2025-12-01"}}),
            json!({"period": {"start": "soon"}}),
            json!({"code": [{"coding": [{"system": ROLES, "code": "nurse"}, {"system": ROLES, "code": "doctor"}]}]}),
            json!({"code": []}),
        ] {
            assert_eq!(at(&role(over.clone())), None, "{over}");
        }
        let of_another = "https://vitaltrace.org/org/aegis/user";
        assert!(Said::read(&role(json!({})), of_another).is_none(), "another organisation's login is not ours to keep");
        assert!(Said::read(&role(json!({"identifier": []})), SYSTEM).is_none());
    }
}

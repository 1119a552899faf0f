//! Questions to the access policy and its answers, remembered: a decision rests on nothing but policy and question.

use crate::recent::Recent;
use policy::{Action, Decision, Facts, Person, Policy, Record, Request};
use record::{OrgId, OrgRole, Purpose, RecordType, Role};

/// Answers that are remembered: twice as many at most, some 500 bytes each.
const ANSWERS_MAX: usize = 16_384;

/// A policy that remembers its answers.
pub(crate) struct Remembering {
    answers: Recent<Question, Decision>,
}

impl Remembering {
    pub(crate) fn new() -> Self {
        Self { answers: Recent::new(ANSWERS_MAX) }
    }

    /// As the policy decides. The policy must be the same each time.
    pub(crate) fn decide(&self, policy: &Policy, request: &Request<'_>) -> Decision {
        let question = Question::of(request);
        if let Some(answer) = self.answers.get(&question) {
            return answer;
        }
        let answer = policy.decide(request);
        self.answers.put(question, answer.clone());
        answer
    }
}

/// Everything that a request says.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    user: String,
    role: Role,
    org: OrgId,
    org_role: OrgRole,
    own_patient: Option<String>,
    action: Action,
    fhir_type: String,
    record_type: RecordType,
    patient: Option<String>,
    label: String,
    author: OrgId,
    purpose: Purpose,
    facts: Facts,
}

impl Question {
    fn of(request: &Request<'_>) -> Self {
        // Taken apart whole, so that whatever a request is given besides cannot be forgotten here.
        let Request { person, action, record, purpose, facts } = request;
        let Person { user, role, org, org_role, patient: own_patient } = person;
        let Record { fhir_type, record_type, patient, label, author } = record;
        Self {
            user: (*user).to_owned(),
            role: *role,
            org: (*org).clone(),
            org_role: *org_role,
            own_patient: own_patient.map(str::to_owned),
            action: *action,
            fhir_type: (*fhir_type).to_owned(),
            record_type: *record_type,
            patient: patient.map(str::to_owned),
            label: (*label).to_owned(),
            author: (*author).clone(),
            purpose: *purpose,
            facts: *facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Bundle, Consented};

    #[test]
    fn an_answer_is_remembered_for_the_same_question_alone() {
        let policy = Bundle::builtin().load().unwrap();
        let remembering = Remembering::new();
        let (mercy, other): (OrgId, OrgId) = ("mercy".parse().unwrap(), "other".parse().unwrap());
        let org_role = OrgRole::Hospital;
        let asked = Request {
            person: Person { user: "dr", role: Role::Doctor, org: &mercy, org_role, patient: None },
            action: Action::Read,
            record: Record {
                fhir_type: "Condition",
                record_type: RecordType::MedicalRecord,
                patient: Some("p"),
                label: "N",
                author: &mercy,
            },
            purpose: Purpose::Treat,
            facts: Facts::default(),
        };
        let mut questions = vec![asked.clone(); 9];
        questions[1].facts.consent = Consented::Deny;
        questions[2].record.label = "V";
        questions[3].purpose = Purpose::Payment;
        questions[4].person.role = Role::Patient;
        questions[5].person = Person { role: Role::Patient, patient: Some("p"), ..asked.person.clone() };
        questions[6].record.author = &other;
        questions[7].action = Action::Erase;
        questions[8].facts.break_glass = true;
        for _ in 0..2 {
            for question in &questions {
                assert_eq!(remembering.decide(&policy, question), policy.decide(question));
            }
        }
        assert_eq!(remembering.answers.len(), questions.len());
        let allowed = questions.iter().filter(|question| policy.decide(question).allow).count();
        assert!(allowed > 0 && allowed < questions.len(), "{allowed}");
    }
}

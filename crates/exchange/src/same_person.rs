//! `Patient/$match`: which patients a description may be of, and how surely.
//!
//! Source: FHIR R4 `patient-operation-match.html`. Only a common identifier makes a match certain, and only where what else is known does not
//! contradict it: names and dates of birth are shared by strangers, and a patient who is taken for another is hurt by it.

use crate::{
    boxed,
    caller::Caller,
    disclose::{Cleared, Remarks, link, readable, shared, sound_of},
    failure::Failure,
    node::Node,
    parameters::part,
    write::Trail,
};
use contract::AccessAction;
use policy::Action;
use record::fhir::{Found, Interaction, IssueType, Limits, Node as JsonNode, Resource, SearchMode, SearchSet};
use std::collections::{BTreeMap, BTreeSet};
use store::{Criterion, IndexValue, Match, Search, TextMatch, extract, normalise};

/// Patients that are looked at for each thing by which they are found, at most.
const CANDIDATES_MAX: usize = 200;
/// Patients in an answer, at most; and when the client does not say.
const COUNT_MAX: usize = 50;

/// What is compared of a person.
#[derive(Debug, Default)]
struct Person {
    /// System and value; only identifiers with both.
    identifiers: BTreeSet<(String, String)>,
    families: BTreeSet<String>,
    givens: BTreeSet<String>,
    birthdate: Option<String>,
    gender: Option<String>,
    /// Telephone numbers and e-mail addresses, as they are written.
    contacts: BTreeSet<String>,
    postal_codes: BTreeSet<String>,
}

/// How surely two descriptions are of one person.
///
/// Source of the codes: <http://terminology.hl7.org/CodeSystem/match-grade>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Possible,
    Probable,
    Certain,
}

impl Grade {
    fn code(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Probable => "probable",
            Self::Certain => "certain",
        }
    }
}

/// What each thing in common counts, in hundredths. They are ours: R4 leaves the weights to the server.
const FAMILY: u32 = 30;
const GIVEN: u32 = 20;
const BIRTHDATE: u32 = 35;
const GENDER: u32 = 3;
const CONTACT: u32 = 7;
const POSTAL_CODE: u32 = 5;
/// From here on a match without a common identifier is probable: name and date of birth agree.
const PROBABLE: u32 = 85;
/// From here on it is possible: family name and date of birth agree, or as much else.
const POSSIBLE: u32 = 60;

impl Person {
    fn of(patient: &Resource) -> Self {
        let mut person = Self::default();
        for row in extract("Patient", &patient.value()) {
            match (row.param.as_ref(), row.value) {
                ("identifier", IndexValue::Token { system, code, .. }) if !system.is_empty() => {
                    person.identifiers.insert((system, code));
                }
                ("family", IndexValue::Text(text)) => _ = person.families.insert(normalise(&text)),
                ("given", IndexValue::Text(text)) => _ = person.givens.insert(normalise(&text)),
                ("address-postalcode", IndexValue::Text(text)) => _ = person.postal_codes.insert(normalise(&text)),
                ("phone" | "email", IndexValue::Token { code, .. }) => _ = person.contacts.insert(code),
                _ => {}
            }
        }
        let text = |name| patient.root().get(name).and_then(JsonNode::as_str).map(std::borrow::Cow::into_owned);
        person.birthdate = text("birthDate");
        person.gender = text("gender").filter(|gender| gender != "unknown");
        person
    }

    /// Hundredths of a full match, and the grade; none when they are not taken for one person.
    fn compared(&self, other: &Self) -> Option<(u32, Grade)> {
        let common = |of: fn(&Self) -> &BTreeSet<String>| !of(self).is_disjoint(of(other));
        let apart = |of: fn(&Self) -> &BTreeSet<String>| {
            !of(self).is_empty() && !of(other).is_empty() && of(self).is_disjoint(of(other))
        };
        let both = |of: fn(&Self) -> &Option<String>| of(self).as_ref().zip(of(other).as_ref());
        let born = both(|person| &person.birthdate);
        let (same_birth, other_birth) = (born.is_some_and(|(a, b)| a == b), born.is_some_and(|(a, b)| a != b));
        let gender = both(|person| &person.gender);
        let other_gender = gender.is_some_and(|(a, b)| a != b);
        if !self.identifiers.is_disjoint(&other.identifiers) {
            // Numbers are shared too: of a policy in a family, of a card that was lent.
            let other_name = apart(|person| &person.families) && apart(|person| &person.givens);
            let contradictions = [other_birth, other_gender, other_name].into_iter().filter(|of| *of).count();
            return Some(match contradictions {
                0 => (100, Grade::Certain),
                1 => (PROBABLE, Grade::Probable),
                _ => (POSSIBLE, Grade::Possible),
            });
        }
        let score = [
            (common(|person| &person.families), FAMILY),
            (common(|person| &person.givens), GIVEN),
            (same_birth, BIRTHDATE),
            (gender.is_some_and(|(a, b)| a == b), GENDER),
            (common(|person| &person.contacts), CONTACT),
            (common(|person| &person.postal_codes), POSTAL_CODE),
        ];
        let score: u32 = score.into_iter().filter(|(agrees, _)| *agrees).map(|(_, weight)| weight).sum();
        // Less than what a common identifier gives, whatever agrees.
        let score = score.min(99);
        let contradicted = other_birth || other_gender;
        match score {
            PROBABLE.. if !contradicted => Some((score, Grade::Probable)),
            POSSIBLE.. => Some((score, Grade::Possible)),
            _ => None,
        }
    }

    /// The searches that find whoever this may be.
    fn searches(&self) -> Vec<Vec<Criterion>> {
        let tokens = |param: &str, any: Vec<Match>| Criterion { param: param.to_owned(), negate: false, any };
        let mut searches = Vec::new();
        if !self.identifiers.is_empty() {
            let token = |(system, code): &(String, String)| Match::Token {
                system: Some(system.clone()),
                code: Some(code.clone()),
            };
            searches.push(vec![tokens("identifier", self.identifiers.iter().map(token).collect())]);
        }
        if let Some(born) = &self.birthdate
            && let Ok(criterion) = Criterion::parse("Patient", "birthdate", born)
        {
            let named = |name: &String| Match::Text { text: name.clone(), how: TextMatch::Prefix };
            for (param, names) in [("family", &self.families), ("given", &self.givens)] {
                if !names.is_empty() {
                    searches.push(vec![criterion.clone(), tokens(param, names.iter().map(named).collect())]);
                }
            }
        }
        if !self.families.is_empty() && !self.contacts.is_empty() {
            let token = |code: &String| Match::Token { system: None, code: Some(code.clone()) };
            searches.push(vec![tokens("telecom", self.contacts.iter().map(token).collect())]);
        }
        searches
    }
}

/// What is asked: whom, only if certain, and how many at most.
struct Wanted {
    person: Person,
    certain: bool,
    count: usize,
}

impl Wanted {
    fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let parse =
            |bytes: &[u8]| Resource::parse(bytes, Limits::RESOURCE).map_err(|e| Failure::Invalid(vec![e.into()]));
        let body = parse(bytes)?;
        let missing = || {
            let text = "send a Parameters with a Patient as its parameter `resource`";
            Failure::invalid(IssueType::Required, "Parameters.parameter", text)
        };
        if body.rtype() != "Parameters" {
            return Err(missing());
        }
        let patient = parse(part(&body, "resource", "resource").ok_or_else(missing)?.raw().as_bytes())?;
        if patient.rtype() != "Patient" {
            return Err(missing());
        }
        let certain = part(&body, "onlyCertainMatches", "valueBoolean").and_then(JsonNode::as_bool);
        let count = part(&body, "count", "valueInteger").and_then(JsonNode::as_u64);
        let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(COUNT_MAX).clamp(1, COUNT_MAX);
        Ok(Self { person: Person::of(&patient), certain: certain.unwrap_or(false), count })
    }
}

impl Node {
    /// The patients that a description may be of and that the caller may find, the surest first.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn same_person(&self, caller: &Caller, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let wanted = Wanted::read(bytes)?;
        let searches = wanted.person.searches();
        if searches.is_empty() {
            let text =
                "too little is known to find anybody: an identifier with its system, or a date of birth with a name";
            return Err(Failure::invalid(IssueType::Incomplete, "", text));
        }
        self.allow_type(caller, Action::Search, "Patient").await?;
        let (mut withheld, mut cut) = (0, false);
        let mut candidates = BTreeMap::new();
        for criteria in searches {
            let search = Search { criteria, count: CANDIDATES_MAX, total: false, ..Search::of("Patient") };
            let (page, worths) = self.current_page(search).await?;
            withheld += page.found.malformed.len() as u64;
            cut |= page.next.is_some();
            for (row, pending) in sound_of(page.found.rows, worths, &mut withheld) {
                candidates.insert(row.id.clone(), (row, pending));
            }
        }
        let mut matches = Vec::new();
        for (row, pending) in candidates.into_values() {
            let Some((score, grade)) = Person::of(&readable(&row)?).compared(&wanted.person) else { continue };
            if wanted.certain && grade != Grade::Certain {
                continue;
            }
            if let Some(decided) = self.decide_to_show(caller, &row).await? {
                matches.push((score, grade, Cleared { row, pending, decided, frame: None }));
            }
        }
        // Several that are certain are none: somebody has to look.
        let certain = matches.iter().filter(|(_, grade, _)| *grade == Grade::Certain).count();
        if wanted.certain && certain > 1 {
            matches.clear();
        }
        matches.sort_by(|(a, _, one), (b, _, other)| b.cmp(a).then_with(|| one.row.id.cmp(&other.row.id)));
        matches.truncate(wanted.count);
        let mut told = shared(matches.iter().map(|(_, _, one)| one));
        if told.is_empty() {
            told.entry(None).or_default();
        }
        self.leave_trails(caller, told, &Trail::of(Interaction::Operation, AccessAction::Search)).await?;
        let total = (withheld == 0 && !cut).then_some(matches.len() as u64);
        let entry = |(score, grade, one): (u32, Grade, Cleared)| Found {
            grade: Some((score, grade.code())),
            ..one.found(caller, SearchMode::Match)
        };
        let mut entries: Vec<Found> = matches.into_iter().map(entry).collect();
        entries.extend(Remarks { withheld, cut, ..Remarks::default() }.found());
        let links = vec![("self".to_owned(), link(caller, "Patient/$match", ""))];
        Ok(SearchSet { total, links, entries }.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(text: &str) -> Person {
        Person::of(&Resource::parse(text.as_bytes(), Limits::RESOURCE).unwrap())
    }

    #[test]
    fn only_a_common_identifier_makes_a_match_certain_and_contradictions_lower_it() {
        let known = person(
            r#"{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"7"}],"name":[{"family":"Müller","given":["Ada","Eve"]}],
            "birthDate":"1970-01-02","gender":"female","telecom":[{"system":"phone","value":"555-7"}],"address":[{"postalCode":"1234"}]}"#,
        );
        let cases = [
            (r#""identifier":[{"system":"urn:mrn","value":"7"}]"#, Some("certain")),
            (r#""identifier":[{"system":"urn:mrn","value":"7"}],"birthDate":"1980-01-01""#, Some("probable")),
            (r#""identifier":[{"system":"urn:mrn","value":"7"}],"gender":"male""#, Some("probable")),
            (
                r#""identifier":[{"system":"urn:mrn","value":"7"}],"name":[{"family":"Married","given":["Ada"]}]"#,
                Some("certain"),
            ),
            (
                r#""identifier":[{"system":"urn:mrn","value":"7"}],"name":[{"family":"Other","given":["Ole"]}]"#,
                Some("probable"),
            ),
            (
                r#""identifier":[{"system":"urn:mrn","value":"7"}],"birthDate":"1980-01-01","gender":"male""#,
                Some("possible"),
            ),
            (r#""identifier":[{"system":"urn:other","value":"7"}]"#, None),
            (r#""identifier":[{"value":"7"}]"#, None),
            (r#""name":[{"family":"MULLER","given":["ada"]}],"birthDate":"1970-01-02""#, Some("probable")),
            (
                r#""name":[{"family":"Muller","given":["ada"]}],"birthDate":"1970-01-02","gender":"male""#,
                Some("possible"),
            ),
            (r#""name":[{"family":"Müller"}],"birthDate":"1970-01-02""#, Some("possible")),
            (r#""name":[{"family":"Müller","given":["Ada"]}]"#, None),
            (
                r#""name":[{"family":"Müller","given":["Ada"]}],"gender":"female","telecom":[{"system":"phone","value":"555-7"}],
                "birthDate":"1971-01-02""#,
                Some("possible"),
            ),
            (r#""birthDate":"1970-01-02""#, None),
            (r#""gender":"female""#, None),
        ];
        for (said, grade) in cases {
            let wanted = person(&format!(r#"{{"resourceType":"Patient",{said}}}"#));
            assert_eq!(known.compared(&wanted).map(|(_, grade)| grade.code()), grade, "{said}");
        }
        let (score, _) = known.compared(&known).unwrap();
        assert_eq!(score, 100);
    }
}

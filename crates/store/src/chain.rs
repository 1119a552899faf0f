//! Searches by what records refer to, and by what refers to them: `subject:Patient.name=x`, `_has:Observation:patient:code=x`.
//!
//! A match of such a search says something of records in between. Who may see the match may not be allowed to see those; the store does
//! not know. [`rests_on`] gives the searches that find them, so that the caller can decide over them and verify them, link by link.

use crate::{
    extract::{IndexValue, extract, kind, reference_targets},
    search::{ALTERNATIVES_MAX, BadSearch, Criterion, Match, Search},
};
use serde_json::Value;

/// The most links of one criterion.
pub const CHAIN_LINKS_MAX: usize = 3;
/// The most types that a link may lead to when none is named.
const TARGETS_MAX: usize = 8;

const TOO_LONG: &str = "more than three links; search for the records in between first";
const NO_TYPE: &str = "it leads to many types; name one, as in `subject:Patient.name`";
const NO_WAY: &str = "no reference leads that way";

/// Whether a parameter's name is that of a chain.
pub(crate) fn is_chain(name: &str) -> bool {
    name.starts_with("_has:") || name.contains('.')
}

/// Reads a chain; `links` of it may still follow.
pub(crate) fn parse(rtype: &str, name: &str, value: &str, links: usize) -> Result<Criterion, BadSearch> {
    let not_offered = |why| BadSearch::NotOffered { what: name.to_owned(), why };
    let Some(links) = links.checked_sub(1) else { return Err(not_offered(TOO_LONG)) };
    let unknown =
        |rtype: &str, param: &str| BadSearch::UnknownParameter { rtype: rtype.to_owned(), param: param.to_owned() };
    if let Some(rest) = name.strip_prefix("_has:") {
        let mut parts = rest.splitn(3, ':');
        let (Some(from), Some(param), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadSearch::Value { param: "_has".to_owned() });
        };
        if kind(from, param).is_none() {
            return Err(unknown(from, param));
        }
        if !reference_targets(from, param).contains(&rtype) {
            return Err(not_offered(NO_WAY));
        }
        let criterion = Box::new(Criterion::parse_linked(from, rest, value, links)?);
        return Ok(Criterion::one("_has", Match::From { rtype: from.to_owned(), param: param.to_owned(), criterion }));
    }
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let (param, named) = first.split_once(':').map_or((first, None), |(param, named)| (param, Some(named)));
    if kind(rtype, param).is_none() {
        return Err(unknown(rtype, param));
    }
    let mut targets = reference_targets(rtype, param);
    if let Some(named) = named {
        targets.retain(|target| *target == named);
    } else if targets.len() > 1 {
        // Those that have what is asked for.
        let asked = rest.split(['.', ':']).next().unwrap_or_default();
        targets.retain(|target| asked == "_has" || kind(target, asked).is_some());
    }
    match targets.len() {
        0 => Err(not_offered(NO_WAY)),
        1..=TARGETS_MAX => {
            let to = |target: &&str| {
                let criterion = Box::new(Criterion::parse_linked(target, rest, value, links)?);
                Ok(Match::To { rtype: (*target).to_owned(), criterion })
            };
            let any = targets.iter().map(to).collect::<Result<_, BadSearch>>()?;
            Ok(Criterion { param: param.to_owned(), negate: false, any })
        }
        _ => Err(not_offered(NO_TYPE)),
    }
}

/// The searches for the records on the other end of a criterion's links from one match, `id` with its content; none when the criterion
/// has no link. The match stands on any one of the records that they find; each may itself rest on others, by the criterion that
/// stands beside its search.
///
/// What a match refers to is taken from `content`, which the caller has verified, and not from the index.
pub fn rests_on<'a>(rtype: &str, id: &str, content: &Value, criterion: &'a Criterion) -> Vec<(Search, &'a Criterion)> {
    let mut searches = Vec::new();
    for link in &criterion.any {
        match link {
            Match::To { rtype: target, criterion: beyond } => {
                let mut ids: Vec<String> = extract(rtype, content)
                    .into_iter()
                    .filter(|row| row.param == criterion.param)
                    .filter_map(|row| match row.value {
                        IndexValue::Reference { rtype, id } if rtype == *target => Some(id),
                        _ => None,
                    })
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                for some in ids.chunks(ALTERNATIVES_MAX) {
                    let any = some.iter().map(|id| Match::Token { system: None, code: Some(id.clone()) }).collect();
                    let named = Criterion { param: "_id".to_owned(), negate: false, any };
                    searches.push((Search::of(target).with(named).with((**beyond).clone()), &**beyond));
                }
            }
            Match::From { rtype: from, param, criterion: beyond } => {
                let referring = Criterion::reference(param, rtype, id);
                searches.push((Search::of(from).with(referring).with((**beyond).clone()), &**beyond));
            }
            _ => {}
        }
    }
    searches
}

impl Criterion {
    /// Whether matches rest on other records than themselves.
    pub fn is_chained(&self) -> bool {
        self.any.iter().any(|value| matches!(value, Match::To { .. } | Match::From { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn shown(criterion: &Criterion) -> String {
        let any = criterion.any.iter().map(|value| match value {
            Match::To { rtype, criterion } => format!("-> {rtype} ({})", shown(criterion)),
            Match::From { rtype, param, criterion } => format!("<- {rtype}.{param} ({})", shown(criterion)),
            Match::Token { code, .. } => code.clone().unwrap_or_default(),
            other => format!("{other:?}"),
        });
        format!("{} {}", criterion.param, any.collect::<Vec<_>>().join(" or "))
    }

    fn check(rtype: &str, name: &str, expected: Expect) {
        let read = Criterion::parse(rtype, name, "x");
        expected.assert_eq(&read.map_or_else(|bad| bad.to_string(), |criterion| shown(&criterion)));
    }

    #[test]
    fn chains_are_read_in_both_directions_and_through_each_other() {
        check("Observation", "patient.identifier", expect!["patient -> Patient (identifier x)"]);
        check("Observation", "subject:Patient.gender", expect!["subject -> Patient (gender x)"]);
        check(
            "Observation",
            "subject.identifier",
            expect![
                "subject -> Device (identifier x) or -> Group (identifier x) or -> Location (identifier x) or -> Patient (identifier x)"
            ],
        );
        check("Patient", "_has:Observation:patient:code", expect!["_has <- Observation.patient (code x)"]);
        check(
            "Encounter",
            "patient._has:Observation:patient:code",
            expect!["patient -> Patient (_has <- Observation.patient (code x))"],
        );
        check(
            "Patient",
            "_has:Observation:patient:encounter.class",
            expect!["_has <- Observation.patient (encounter -> Encounter (class x))"],
        );
    }

    #[test]
    fn what_leads_nowhere_or_too_far_is_refused() {
        check(
            "Observation",
            "code.identifier",
            expect!["`code.identifier` is not offered: no reference leads that way"],
        );
        check(
            "Observation",
            "subject:Encounter.class",
            expect!["`subject:Encounter.class` is not offered: no reference leads that way"],
        );
        check(
            "Observation",
            "focus._id",
            expect!["`focus._id` is not offered: it leads to many types; name one, as in `subject:Patient.name`"],
        );
        check("Observation", "patient.colour", expect!["`Patient` has no search parameter `colour`"]);
        check(
            "Encounter",
            "_has:Observation:patient:code",
            expect!["`_has:Observation:patient:code` is not offered: no reference leads that way"],
        );
        check(
            "Encounter",
            "_has:Observation:code:code",
            expect!["`_has:Observation:code:code` is not offered: no reference leads that way"],
        );
        check(
            "Encounter",
            "_has:Observation",
            expect!["the value of search parameter `_has` has not the form of its kind"],
        );
        check(
            "Encounter",
            "part-of.part-of.part-of.class",
            expect!["part-of -> Encounter (part-of -> Encounter (part-of -> Encounter (class x)))"],
        );
        check(
            "Encounter",
            "part-of.part-of.part-of.part-of.class",
            expect!["`part-of.class` is not offered: more than three links; search for the records in between first"],
        );
    }

    #[test]
    fn a_match_says_by_its_content_what_it_rests_on() {
        let content = json!({"resourceType": "Observation", "subject": {"reference": "Patient/p"}});
        let criterion = Criterion::parse("Observation", "subject:Patient.gender", "female").unwrap();
        assert!(criterion.is_chained());
        let expected =
            Search::of("Patient").with(Criterion::code("_id", "p")).with(Criterion::code("gender", "female"));
        let beyond = Criterion::code("gender", "female");
        assert_eq!(rests_on("Observation", "o", &content, &criterion), [(expected, &beyond)]);

        let criterion = Criterion::parse("Patient", "_has:Observation:patient:code", "c").unwrap();
        let beyond = Criterion::code("code", "c");
        let expected =
            Search::of("Observation").with(Criterion::reference("patient", "Patient", "p")).with(beyond.clone());
        assert_eq!(rests_on("Patient", "p", &json!({}), &criterion), [(expected, &beyond)]);
        assert_eq!(rests_on("Observation", "o", &content, &beyond), []);
    }
}

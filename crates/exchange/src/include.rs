//! What goes along with the matches of a search: the records that they refer to, and those that refer to them.
//!
//! Nothing leaves here that a read of it would not show to the same caller. References are taken from bytes that agree with the ledger,
//! never from the database's index, so that nobody brings a record into an answer by changing the index.

use crate::{
    caller::Caller,
    disclose::Cleared,
    facts::{Decided, Target},
    failure::Failure,
    node::Node,
};
use policy::Action;
use record::fhir::{IssueType, Parameter, RESOURCE_TYPES};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use store::{ALTERNATIVES_MAX, Criterion, IndexValue, Kind, Match, Row, Search, extract, kind, reference_targets};

/// The most records that go along with one page of matches.
pub(crate) const INCLUDED_MAX: usize = 500;
/// The most records that are looked at for one answer, whether the caller may see them or not.
pub(crate) const EXAMINED_MAX: usize = 5_000;
/// The most `_include` and `_revinclude` of one search.
const INCLUDES_MAX: usize = 16;
/// How often includes are applied to what they brought, at most.
const ROUNDS_MAX: usize = 16;
/// Rows of one step through the records that refer to matches.
const STEP_LEN: usize = 500;

/// Which way a reference leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From a match: `_include`.
    Out,
    /// To a match: `_revinclude`.
    In,
}

/// One `_include` or `_revinclude` that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Include {
    way: Way,
    /// The type that refers.
    rtype: String,
    /// By which parameter.
    param: String,
    /// The only type to which, when one is named.
    target: Option<String>,
    /// Whether it holds for what goes along as well, and not for the matches alone.
    iterate: bool,
}

/// What goes along, and what would if the database agreed with the ledger.
#[derive(Default)]
pub(crate) struct Included {
    pub(crate) cleared: Vec<Cleared>,
    /// Rows that do not agree with the ledger.
    pub(crate) withheld: u64,
    /// Records on the ledger that neither database nor vault could give.
    pub(crate) lost: u64,
}

impl Include {
    /// Reads the values of an `_include` or `_revinclude` of a search of types `searched`, and adds them to `includes`.
    pub(crate) fn read(searched: &[&str], parameter: &Parameter, includes: &mut Vec<Self>) -> Result<(), Failure> {
        let name = parameter.name.as_str();
        let iterate = match parameter.modifier.as_deref() {
            None => false,
            // The second is what R3 calls it, and what many clients still send.
            Some("iterate" | "recurse") => true,
            Some(modifier) => {
                let text = format!("`{name}:{modifier}` is not offered: there is `{name}:iterate`");
                return Err(Failure::invalid(IssueType::NotSupported, "", text));
            }
        };
        let way = if name == "_include" { Way::Out } else { Way::In };
        for value in &parameter.values {
            if includes.len() == INCLUDES_MAX {
                let text = format!("a search has at most {INCLUDES_MAX} of `_include` and `_revinclude`");
                return Err(Failure::invalid(IssueType::TooCostly, "", text));
            }
            let include = Self::parse(searched, way, iterate, &value.text());
            includes.push(include.map_err(|(kind, why)| Failure::invalid(kind, "", format!("`{name}`: {why}")))?);
        }
        Ok(())
    }

    /// Whether it asks for the Provenance of the matches, which are of type `searched`.
    pub(crate) fn is_of_provenance(&self, searched: &str) -> bool {
        self.way == Way::In
            && self.rtype == "Provenance"
            && self.param == "target"
            && self.target.as_deref().is_none_or(|target| target == searched)
    }

    fn parse(searched: &[&str], way: Way, iterate: bool, text: &str) -> Result<Self, (IssueType, String)> {
        let parts: Vec<&str> = text.split(':').collect();
        let (rtype, param, target) = match parts.as_slice() {
            [rtype, param] => (*rtype, *param, None),
            [rtype, param, target] => (*rtype, *param, Some(*target)),
            _ => {
                return Err((
                    IssueType::Value,
                    "write it as `Type:parameter` or `Type:parameter:TargetType`".to_owned(),
                ));
            }
        };
        if kind(rtype, param) != Some(Kind::Reference) {
            let why = format!("`{rtype}` has no search parameter `{param}` of kind reference here");
            return Err((IssueType::NotSupported, why));
        }
        let targets = reference_targets(rtype, param);
        if let Some(target) = target.filter(|target| !targets.contains(target)) {
            return Err((IssueType::NotSupported, format!("`{rtype}:{param}` leads to no `{target}`")));
        }
        let meets = match way {
            _ if iterate => !targets.is_empty(),
            Way::Out => searched.contains(&rtype) && !targets.is_empty(),
            Way::In => match target {
                Some(target) => searched.contains(&target),
                None => searched.iter().any(|searched| targets.contains(searched)),
            },
        };
        if !meets {
            let searched = if let [rtype] = searched { format!("`{rtype}`") } else { "other types".to_owned() };
            let why = match way {
                Way::Out => format!("the search is for {searched}, and `{rtype}:{param}` leads nowhere from it"),
                Way::In => format!("the search is for {searched}, and `{rtype}:{param}` does not lead to it"),
            };
            return Err((IssueType::NotSupported, why));
        }
        Ok(Self { way, rtype: rtype.to_owned(), param: param.to_owned(), target: target.map(str::to_owned), iterate })
    }

    /// `Type:parameter` of everything that may be included in a search of each type, and reversely included in it.
    pub(crate) fn offered() -> BTreeMap<&'static str, Offered> {
        let mut offered: BTreeMap<&'static str, Offered> = BTreeMap::new();
        for rtype in RESOURCE_TYPES {
            for (param, _) in store::indexed(rtype).into_iter().filter(|(_, kind)| *kind == Kind::Reference) {
                let (name, targets) = (format!("{rtype}:{param}"), reference_targets(rtype, param));
                for target in &targets {
                    offered.entry(target).or_default().to.push(name.clone());
                }
                if !targets.is_empty() {
                    offered.entry(rtype).or_default().from.push(name);
                }
            }
        }
        offered
    }
}

/// What may be included in a search of one type.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// By `_include`.
    pub(crate) from: Vec<String>,
    /// By `_revinclude`.
    pub(crate) to: Vec<String>,
}

/// What was found so far.
#[derive(Default)]
struct Gathering {
    /// Type and id of everything that was looked at, the matches first: each record stands in an answer once.
    seen: BTreeSet<(String, String)>,
    examined: usize,
    candidates: Vec<(Row, bool)>,
    /// Type and id of the rows that do not agree with the ledger.
    withheld: BTreeSet<(String, String)>,
    malformed: u64,
    /// By FHIR type, as sets count them.
    lost: BTreeMap<String, u64>,
}

impl Gathering {
    fn examine(&mut self, records: usize) -> Result<(), Failure> {
        self.examined += records;
        if self.examined > EXAMINED_MAX { Err(too_costly()) } else { Ok(()) }
    }

    fn is_new(&mut self, rtype: &str, id: &str) -> bool {
        self.seen.insert((rtype.to_owned(), id.to_owned()))
    }

    fn included(self, cleared: Vec<Cleared>) -> Included {
        Included { cleared, withheld: self.withheld.len() as u64 + self.malformed, lost: self.lost.values().sum() }
    }
}

impl Node {
    /// What goes along with `matches`, which the caller may see; `patient` is the one that the search is limited to.
    pub(crate) async fn included(
        &self,
        caller: &Caller,
        includes: &[Include],
        matches: &[Cleared],
        patient: Option<&str>,
    ) -> Result<Included, Failure> {
        if includes.is_empty() || matches.is_empty() {
            return Ok(Included::default());
        }
        let mut gathering = Gathering { seen: names_of(matches), ..Gathering::default() };
        let all: Vec<&Include> = includes.iter().collect();
        let iterating: Vec<&Include> = includes.iter().filter(|include| include.iterate).collect();
        self.along(&all, matches, patient, &mut gathering).await?;
        let mut cleared = self.cleared_of(caller, &mut gathering).await?;
        let (mut fresh, mut rounds) = (0..cleared.len(), 0);
        while !iterating.is_empty() && !fresh.is_empty() {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(too_costly());
            }
            // Only what the caller may see leads on: else it would be told what leads to what.
            self.along(&iterating, &cleared[fresh.clone()], patient, &mut gathering).await?;
            cleared.append(&mut self.cleared_of(caller, &mut gathering).await?);
            fresh = fresh.end..cleared.len();
            if cleared.len() > INCLUDED_MAX {
                return Err(too_costly());
            }
        }
        Ok(gathering.included(cleared))
    }

    /// Gathers what goes along with some records.
    async fn along(
        &self,
        includes: &[&Include],
        records: &[Cleared],
        patient: Option<&str>,
        gathering: &mut Gathering,
    ) -> Result<(), Failure> {
        let named = names_of(records);
        let of = |way| includes.iter().copied().filter(|include| include.way == way).collect::<Vec<&Include>>();
        let (out, inward) = (of(Way::Out), of(Way::In));
        for one in records.iter().filter(|_| !out.is_empty()) {
            for (rtype, id) in references(&one.row, &out) {
                self.referred(&rtype, &id, gathering).await?;
            }
        }
        for include in &inward {
            self.referring(include, records, &named, gathering).await?;
        }
        if let (Some(patient), false) = (patient, inward.is_empty()) {
            self.hidden(&inward, patient, &named, gathering).await?;
        }
        Ok(())
    }

    /// The records of `types` that records refer to, whom the caller may see, and those of them that these refer to.
    pub(crate) async fn referred_by(
        &self,
        caller: &Caller,
        records: &[Cleared],
        types: &[&str],
    ) -> Result<Included, Failure> {
        let mut gathering = Gathering { seen: names_of(records), ..Gathering::default() };
        for one in records {
            self.referred_of(&one.row, types, &mut gathering).await?;
        }
        let mut cleared = self.cleared_of(caller, &mut gathering).await?;
        for one in &cleared {
            self.referred_of(&one.row, types, &mut gathering).await?;
        }
        cleared.append(&mut self.cleared_of(caller, &mut gathering).await?);
        Ok(gathering.included(cleared))
    }

    async fn referred_of(&self, row: &Row, types: &[&str], gathering: &mut Gathering) -> Result<(), Failure> {
        let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
        for of in extract(&row.rtype, &value) {
            if let IndexValue::Reference { rtype, id } = of.value
                && types.contains(&rtype.as_str())
            {
                self.referred(&rtype, &id, gathering).await?;
            }
        }
        Ok(())
    }

    /// What was gathered since and the caller may see. What it may not is passed over without a word.
    async fn cleared_of(&self, caller: &Caller, gathering: &mut Gathering) -> Result<Vec<Cleared>, Failure> {
        let mut cleared = Vec::new();
        for (row, pending) in std::mem::take(&mut gathering.candidates) {
            if let Some(decided) = self.decide_to_show(caller, &row).await? {
                cleared.push(Cleared { row, pending, decided, frame: None });
            }
            if cleared.len() > INCLUDED_MAX {
                return Err(too_costly());
            }
        }
        Ok(cleared)
    }

    /// Found by a search, and shown as a read shows it: both must be allowed.
    pub(crate) async fn decide_to_show(&self, caller: &Caller, row: &Row) -> Result<Option<Decided>, Failure> {
        let target = Target::of(row);
        let found = self.decide(caller, Action::Search, &target).await?;
        let decided = self.decide(caller, Action::Read, &target).await?;
        Ok((found.decision.allow && decided.decision.allow).then_some(decided))
    }

    /// A record that a match refers to, as a read finds it.
    async fn referred(&self, rtype: &str, id: &str, gathering: &mut Gathering) -> Result<(), Failure> {
        if !RESOURCE_TYPES.contains(&rtype) || !gathering.is_new(rtype, id) {
            return Ok(());
        }
        gathering.examine(1)?;
        match self.sound_row(rtype, id, None).await {
            Ok((row, pending, _)) if !row.deleted => gathering.candidates.push((row, pending)),
            Ok(_) | Err(Failure::NotFound(_) | Failure::Gone(_)) => {}
            Err(Failure::Tampered(_)) => {
                gathering.withheld.insert((rtype.to_owned(), id.to_owned()));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The records that refer to matches, as a search finds them.
    async fn referring(
        &self,
        include: &Include,
        matches: &[Cleared],
        named: &BTreeSet<(String, String)>,
        gathering: &mut Gathering,
    ) -> Result<(), Failure> {
        for some in matches.chunks(ALTERNATIVES_MAX) {
            let any =
                some.iter().map(|one| Match::Reference { rtype: Some(one.row.rtype.clone()), id: one.row.id.clone() });
            let criterion = Criterion { param: include.param.clone(), negate: false, any: any.collect() };
            let mut search = Search { count: STEP_LEN, total: false, ..Search::of(&include.rtype).with(criterion) };
            loop {
                let (page, worths) = self.current_page(search.clone()).await?;
                gathering.examine(page.found.rows.len())?;
                gathering.malformed += page.found.malformed.len() as u64;
                for (row, worth) in page.found.rows.into_iter().zip(worths) {
                    if !worth.may_be_shown() {
                        gathering.withheld.insert((row.rtype, row.id));
                    } else if refers(&row, include, named) && gathering.is_new(&row.rtype, &row.id) {
                        let pending = worth == crate::row::Worth::Pending;
                        gathering.candidates.push((row, pending));
                    }
                }
                match page.next {
                    Some(next) => search.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// What no query can say: that a row which refers to a match may have been hidden.
    async fn hidden(
        &self,
        inward: &[&Include],
        patient: &str,
        named: &BTreeSet<(String, String)>,
        gathering: &mut Gathering,
    ) -> Result<(), Failure> {
        let types: BTreeSet<&str> = inward.iter().map(|include| include.rtype.as_str()).collect();
        let set = self.patient_set(patient, &types.into_iter().collect::<Vec<_>>()).await?;
        gathering.lost.extend(set.lost);
        for sound in set.sound.into_iter().filter(|sound| sound.repaired) {
            let row = sound.row;
            let refers = inward.iter().any(|include| include.rtype == row.rtype && refers(&row, include, named));
            if refers && gathering.is_new(&row.rtype, &row.id) {
                gathering.candidates.push((row, sound.pending));
            }
        }
        Ok(())
    }
}

fn names_of(records: &[Cleared]) -> BTreeSet<(String, String)> {
    records.iter().map(|one| (one.row.rtype.clone(), one.row.id.clone())).collect()
}

/// Type and id of what a row's bytes refer to by any of the includes.
fn references(row: &Row, includes: &[&Include]) -> BTreeSet<(String, String)> {
    let value: Value = serde_json::from_slice(&row.bytes).unwrap_or_default();
    let found = extract(&row.rtype, &value).into_iter().filter_map(|of| match of.value {
        IndexValue::Reference { rtype, id } => {
            let wanted = |include: &&Include| {
                include.param == of.param && include.target.as_ref().is_none_or(|target| *target == rtype)
            };
            includes.iter().any(wanted).then_some((rtype, id))
        }
        _ => None,
    });
    found.collect()
}

/// Whether a row's bytes refer to one of the records that are named.
fn refers(row: &Row, include: &Include, named: &BTreeSet<(String, String)>) -> bool {
    references(row, &[include]).iter().any(|name| named.contains(name))
}

pub(crate) fn too_costly() -> Failure {
    let text = format!(
        "more than {INCLUDED_MAX} records go along with one page, or more than {EXAMINED_MAX} would have to be looked at: ask for fewer \
         matches by `_count`, or for less by `_include` and `_revinclude`"
    );
    Failure::invalid(IssueType::TooCostly, "", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::fhir::SearchUrl;

    fn include(way: Way, rtype: &str, param: &str, target: Option<&str>) -> Include {
        let target = target.map(str::to_owned);
        Include { way, rtype: rtype.to_owned(), param: param.to_owned(), target, iterate: false }
    }

    /// What is read of a query of includes, or why it is refused.
    fn check(searched: &str, query: &str, expected: Result<&[Include], IssueType>) {
        let mut includes = Vec::new();
        let parameters = SearchUrl::parse_query(query).unwrap();
        let read = parameters.iter().try_for_each(|parameter| Include::read(&[searched], parameter, &mut includes));
        match (read, expected) {
            (Ok(()), Ok(expected)) => assert_eq!(includes, expected, "{query}"),
            (Err(Failure::Invalid(issues)), Err(kind)) => assert_eq!(issues[0].kind, kind, "{query}: {issues:?}"),
            (read, _) => panic!("{query}: {read:?}, {includes:?}"),
        }
    }

    #[test]
    fn includes_are_read_and_what_leads_nowhere_is_refused() {
        let some = [
            include(Way::Out, "Observation", "subject", Some("Patient")),
            include(Way::Out, "Observation", "encounter", None),
            include(Way::In, "Observation", "has-member", None),
        ];
        let query =
            "_include=Observation:subject:Patient&_include=Observation:encounter&_revinclude=Observation:has-member";
        check("Observation", query, Ok(&some));
        for (searched, query, kind) in [
            ("Observation", "_include:logical=Observation:subject", IssueType::NotSupported),
            ("Observation", "_include:iterate=Observation:code", IssueType::NotSupported),
            ("Observation", "_include=Observation", IssueType::Value),
            ("Observation", "_include=*", IssueType::Value),
            ("Observation", "_include=Observation:*", IssueType::NotSupported),
            ("Observation", "_include=Observation:code", IssueType::NotSupported),
            ("Observation", "_include=Observation:nothing", IssueType::NotSupported),
            ("Observation", "_include=Observation:subject:Encounter", IssueType::NotSupported),
            ("Observation", "_include=Encounter:patient", IssueType::NotSupported),
            ("Observation", "_revinclude=Encounter:patient", IssueType::NotSupported),
            ("Patient", "_revinclude=Observation:subject:Device", IssueType::NotSupported),
        ] {
            check(searched, query, Err(kind));
        }
        let iterate = Include { iterate: true, ..include(Way::Out, "Encounter", "service-provider", None) };
        for name in ["_include:iterate", "_include:recurse"] {
            check("Observation", &format!("{name}=Encounter:service-provider"), Ok(std::slice::from_ref(&iterate)));
        }
        let many = vec!["_revinclude=Observation:patient"; INCLUDES_MAX].join("&");
        check("Patient", &many, Ok(&vec![include(Way::In, "Observation", "patient", None); INCLUDES_MAX]));
        check("Patient", &format!("{many}&_revinclude=Observation:patient"), Err(IssueType::TooCostly));
    }

    #[test]
    fn whatever_is_offered_is_understood() {
        let offered = Include::offered();
        assert!(offered["Patient"].to.iter().any(|name| name == "Observation:patient"));
        for (rtype, Offered { from, to }) in &offered {
            for (way, name) in from.iter().map(|name| (Way::Out, name)).chain(to.iter().map(|name| (Way::In, name))) {
                assert!(Include::parse(&[rtype], way, false, name).is_ok(), "{rtype} {name}");
            }
        }
    }
}

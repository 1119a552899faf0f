//! Two overrides, which two persons at each of two organisations open, close and review while blocks pass.

use super::{Ledger, Small, after_blocks, explore};
use crate::{
    AccessAction, Body, OverrideStep,
    state::{self, Organisation},
    testing::{Said, commitment, digest, id, org, said, tag},
};
use record::{Digest, Id16, OrgId, Purpose, TimeMs};
use stateright::Property;
use std::collections::BTreeMap;

const ORGS: [&str; 2] = ["mercy", "rescue"];
/// Overrides end by themselves after so many blocks.
const UNTIL_BLOCKS: u64 = 2;
const BLOCKS: u64 = 3;

/// An override as people remember it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Glass {
    org: OrgId,
    opener: Digest,
    closed: Option<TimeMs>,
    reviewer: Option<Digest>,
}

type Memory = BTreeMap<Id16, Glass>;

fn overriding(name: &str, n: u8, step: OverrideStep, actor: u8) -> Said {
    said(name, Body::Override { id: id(n), step, reason: commitment(1) }).purpose(Purpose::BreakGlass).actor(actor)
}

fn says() -> Vec<Said> {
    let steps = [OverrideStep::Opened(after_blocks(UNTIL_BLOCKS)), OverrideStep::Closed, OverrideStep::Reviewed(false)];
    let mut says = Vec::new();
    for (n, name) in [1, 2].into_iter().flat_map(|n| ORGS.map(|name| (n, name))) {
        for (step, actor) in steps.into_iter().flat_map(|step| [1, 2].map(|actor| (step, actor))) {
            says.push(overriding(name, n, step, actor));
        }
    }
    // Closed a while ago, and told late.
    says.push(overriding("mercy", 1, OverrideStep::Closed, 1).later(-1_000));
    says
}

fn judge(said: &Said, after: &mut Ledger<Memory>) -> Option<&'static str> {
    let Body::Override { id, step, .. } = &said.entry.body else { return None };
    let now = after.now();
    let at = TimeMs(now.0.saturating_add_signed(said.offset_ms));
    let (org, actor) = (said.org.clone(), said.entry.actor);
    match (step, after.memory.get_mut(id)) {
        (OverrideStep::Opened(_), Some(_)) => Some("an override is opened twice"),
        (OverrideStep::Opened(_), None) => {
            after.memory.insert(*id, Glass { org, opener: actor, closed: None, reviewer: None });
            None
        }
        (_, None) => Some("something is done about an override that is not there"),
        (_, Some(glass)) if glass.org != org => Some("an organisation acts on the override of another one"),
        (OverrideStep::Closed, Some(glass)) => {
            let twice = glass.closed.replace(at).is_some();
            twice.then_some("an override is closed twice")
        }
        (OverrideStep::Reviewed(_), Some(glass)) => {
            let open = glass.closed.is_none() && now < after_blocks(UNTIL_BLOCKS);
            let wrong = open || glass.opener == actor || glass.reviewer.is_some();
            glass.reviewer = Some(actor);
            wrong.then_some("an override is reviewed while it is open, by its opener, or twice")
        }
    }
}

fn unreviewed_is_counted(_: &Small<Memory>, ledger: &Ledger<Memory>) -> bool {
    ORGS.into_iter().map(org).all(|org| {
        let waiting = ledger.memory.values().filter(|glass| glass.org == org && glass.reviewer.is_none()).count();
        let member: Option<Organisation> = ledger.get(&state::organisation_key(&org));
        member.is_some_and(|member| member.unreviewed == waiting as u64)
    })
}

fn it_lets_through_exactly_while_it_is_open(small: &Small<Memory>, ledger: &Ledger<Memory>) -> bool {
    let now = ledger.now();
    ORGS.into_iter().flat_map(|name| [1, 2].map(|n| (name, n))).all(|(name, n)| {
        let (action, set, audit) = (AccessAction::Read, digest(7), tag(1).of_audit(&org(name)));
        let (under, commitment) = (Some(id(n)), commitment(1));
        let body = Body::Access { action, set, count: 1, denied: false, under, audit, commitment };
        let open = ledger.memory.get(&id(n)).is_some_and(|glass| {
            let closed = glass.closed.is_some_and(|closed| closed < now);
            glass.org == org(name) && !closed && now < after_blocks(UNTIL_BLOCKS)
        });
        small.decide(ledger, &said(name, body).purpose(Purpose::BreakGlass)).is_ok() == open
    })
}

fn reviewed(ledger: &Ledger<Memory>, closed: bool) -> bool {
    ledger.memory.values().any(|glass| glass.reviewer.is_some() && glass.closed.is_some() == closed)
}

#[test]
fn every_order_of_the_steps_of_two_overrides_counts_what_is_unreviewed_and_lets_nobody_review_its_own() {
    let mut small = Small::new(says(), judge);
    small.blocks = BLOCKS;
    small.properties = vec![
        Property::always("what is unreviewed is counted", unreviewed_is_counted),
        Property::always("it lets through exactly while it is open", it_lets_through_exactly_while_it_is_open),
        Property::sometimes("one is reviewed after it was closed", |_, ledger: &Ledger<Memory>| reviewed(ledger, true)),
        Property::sometimes("one is reviewed after it ran out", |_, ledger: &Ledger<Memory>| reviewed(ledger, false)),
    ];
    explore("two overrides", small);
}

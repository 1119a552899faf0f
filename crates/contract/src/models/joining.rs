//! Who comes in, who goes, and whether somebody can always decide.

use super::{Ledger, Small, explore};
use crate::{
    Body, MemberStep, PublicKey,
    state::{self, Roll, Seat, Succession},
    testing::{MEMBERS, Said, id, joining, org, public, said},
};
use record::{Id16, OrgId};
use stateright::Property;
use std::collections::{BTreeMap, BTreeSet};

/// The members as people remember them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Club {
    members: BTreeSet<OrgId>,
    /// In favour, by what they voted on.
    votes: BTreeMap<Id16, BTreeSet<OrgId>>,
    /// How many came in and how many went.
    joined: u8,
    left: u8,
}

impl Default for Club {
    fn default() -> Self {
        let members = MEMBERS[..4].iter().map(|(name, _)| org(name)).collect();
        Self { members, votes: BTreeMap::new(), joined: 0, left: 0 }
    }
}

fn step(name: &str, member: &str, step: MemberStep) -> Said {
    said(name, Body::Member { member: org(member), step }).nobody()
}

/// Nobody comes in or goes out against its will but by more than two thirds of those who are members then.
fn judge(said: &Said, after: &mut Ledger<Club>) -> Option<&'static str> {
    let Body::Member { member, step } = &said.entry.body else { return None };
    let roll: Roll = after.get(&state::roll_key())?;
    let now: BTreeSet<OrgId> = roll.members.into_iter().map(|voter| voter.org).collect();
    let Club { members, votes, joined, left } = &mut after.memory;
    let stranger = !members.contains(&said.org);
    let carried = match step {
        MemberStep::Voted(id, true) => {
            let cast = votes.entry(*id).or_default();
            let again = !cast.insert(said.org.clone());
            if again {
                return Some("a member votes twice");
            }
            cast.intersection(members).count() * 3 > members.len() * 2
        }
        MemberStep::Left => *member == said.org,
        _ => false,
    };
    let changed = now != *members;
    *joined += u8::from(now.len() > members.len());
    *left += u8::from(now.len() < members.len());
    *members = now;
    match (stranger, changed, carried) {
        (true, ..) => Some("a stranger is heard"),
        (_, true, false) => Some("somebody came or went without the votes"),
        (_, false, true) => Some("the votes were there and nothing happened"),
        _ => None,
    }
}

/// Every set that is settled is of members, or of those who were members when it was settled, and what decided the epoch before makes a
/// quorum of it.
fn somebody_can_decide(_: &Small<Club>, ledger: &Ledger<Club>) -> bool {
    let succession: Option<Succession> = ledger.get(&state::succession_key());
    let Some(succession) = succession else { return false };
    let now = succession.epoch(ledger.blocks);
    (now..=now + 2).all(|epoch| {
        let before: &[PublicKey] = succession.keys(epoch.saturating_sub(1));
        let keys = succession.keys(epoch);
        let kept = keys.iter().filter(|key| before.contains(key)).count();
        let quorum = keys.len() - keys.len().saturating_sub(1) / 3;
        !keys.is_empty() && (kept >= quorum || (keys.len() < 4 && kept + 1 == keys.len()))
    })
}

/// In the epoch after next those decide who are members and took their seats, and nobody else.
fn those_decide_who_took_their_seats(_: &Small<Club>, ledger: &Ledger<Club>) -> bool {
    let succession: Option<Succession> = ledger.get(&state::succession_key());
    let Some(succession) = succession else { return false };
    let mut seated: Vec<PublicKey> = Vec::new();
    for member in &ledger.memory.members {
        let seat: Option<Seat> = ledger.get(&state::seat_key(member));
        seated.extend(seat.filter(|seat| seat.consensus_from.is_some()).map(|seat| seat.consensus_key));
    }
    seated.sort();
    succession.keys(succession.epoch(ledger.blocks) + 2) == seated
}

#[test]
fn every_order_of_joining_leaving_removing_and_rotating_leaves_a_set_that_can_decide() {
    let mut says = vec![
        step("acme", "valley", MemberStep::JoinProposed(joining())).id(1),
        step("acme", "rescue", MemberStep::RemovalProposed).id(2),
        step("valley", "valley", MemberStep::Seated(public(30))),
        step("valley", "valley", MemberStep::Left),
        step("mercy", "mercy", MemberStep::Left),
        step("acme", "acme", MemberStep::Seated(public(40))),
    ];
    for name in ["acme", "county", "mercy", "rescue", "valley"] {
        says.push(step(name, "valley", MemberStep::Voted(id(1), true)));
        says.push(step(name, "rescue", MemberStep::Voted(id(2), true)));
    }
    let mut small = Small::new(says, judge);
    small.genesis.members.truncate(4);
    // Every block is an epoch.
    small.genesis.epoch_blocks = 1;
    small.blocks = 2;
    small.properties = vec![
        Property::always("somebody can decide", somebody_can_decide),
        Property::always("those decide who took their seats", those_decide_who_took_their_seats),
        Property::sometimes("one comes in and two go", |_, ledger: &Ledger<Club>| {
            ledger.memory.joined == 1 && ledger.memory.left >= 2
        }),
        Property::sometimes("the one that came in decides", |_, ledger: &Ledger<Club>| {
            let succession: Option<Succession> = ledger.get(&state::succession_key());
            succession.is_some_and(|succession| succession.keys(ledger.blocks + 2).contains(&public(30)))
        }),
    ];
    explore("a club of four and one who would join", small);
}

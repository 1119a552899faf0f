//! What members decide together: policies, holds, recoveries.

use super::{Ledger, Small, explore};
use crate::{
    Body, CustodyStep, PolicyKind, PolicyStep,
    state::{self, ActivePolicy, Custody, Hold, PolicyTerm, Proposal},
    testing::{ACCESS_POLICY, MEMBERS, Said, digest, id, pseudonym, said},
};
use record::{Digest, Id16, OrgId, OrgRole, Pseudonym};
use stateright::Property;
use std::collections::{BTreeMap, BTreeSet};

const NEW_POLICY: Digest = Digest([2; 32]);

/// A proposal as people remember it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Ballot {
    height: u64,
    yes: BTreeSet<OrgId>,
    no: BTreeSet<OrgId>,
    over: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Chamber {
    ballots: BTreeMap<Digest, Ballot>,
    /// Documents that came into force, in order.
    activated: Vec<Digest>,
}

fn policy(name: &str, document: Digest, step: PolicyStep) -> Said {
    said(name, Body::Policy { kind: PolicyKind::Access, document, step }).nobody()
}

/// Insurers, or compliance entities, or those who care: they must not change a policy without the others.
fn of_class(org: &OrgId, roles: &[OrgRole]) -> bool {
    MEMBERS.iter().any(|(name, role)| *name == org.as_str() && roles.contains(role))
}

/// The members of a model with so many: all, or the first three.
fn members<const COUNT: usize>() -> Vec<OrgId> {
    MEMBERS[..COUNT].iter().map(|(name, _)| name.parse().unwrap()).collect()
}

/// More than two thirds of the members are needed, and at least half of each class, said with other words than the contract says it.
fn is_enough<const COUNT: usize>(yes: &BTreeSet<OrgId>) -> bool {
    let members = members::<COUNT>();
    let classes: [&[OrgRole]; 3] = [&[OrgRole::Insurer], &[OrgRole::Compliance], &[OrgRole::Ems, OrgRole::Hospital]];
    let half = |roles: &&[OrgRole]| {
        let of = |orgs: &mut dyn Iterator<Item = &OrgId>| orgs.filter(|org| of_class(org, roles)).count();
        of(&mut yes.iter()) * 2 >= of(&mut members.iter())
    };
    yes.len() * 3 > COUNT * 2 && classes.iter().all(half)
}

/// Enough votes are needed; when they cannot be reached any more, that is the end of it.
fn judge_policy<const COUNT: usize>(said: &Said, after: &mut Ledger<Chamber>) -> Option<&'static str> {
    let Body::Policy { document, step, .. } = &said.entry.body else { return None };
    let height = after.blocks;
    let Chamber { ballots, activated } = &mut after.memory;
    let ballot = ballots.get_mut(document);
    match (step, ballot) {
        (PolicyStep::Proposed(from), ballot) => {
            let could = |no: &BTreeSet<OrgId>| {
                is_enough::<COUNT>(&members::<COUNT>().into_iter().filter(|org| !no.contains(org)).collect())
            };
            let open = ballot.is_some_and(|ballot| !ballot.over && could(&ballot.no));
            let in_force = *activated.last().unwrap_or(&ACCESS_POLICY) == *document;
            ballots.insert(*document, Ballot { height: *from, ..Ballot::default() });
            (open || in_force || *from <= height).then_some("what is open or in force is proposed, or for the past")
        }
        (PolicyStep::Voted(yes), Some(ballot)) => {
            let wrong = ballot.over || ballot.yes.contains(&said.org) || ballot.no.contains(&said.org);
            if *yes { &mut ballot.yes } else { &mut ballot.no }.insert(said.org.clone());
            wrong.then_some("a member votes twice, or on what is over")
        }
        (PolicyStep::Activated, Some(ballot)) => {
            let wrong = ballot.over || ballot.height > height || !is_enough::<COUNT>(&ballot.yes);
            ballot.over = true;
            activated.push(*document);
            wrong.then_some("a policy comes into force without the votes, before its height, or twice")
        }
        (PolicyStep::Written(_), Some(_)) | (_, None) => Some("a policy is decided that was not proposed"),
    }
}

fn the_policy_in_force_is_the_last_that_was_activated(_: &Small<Chamber>, ledger: &Ledger<Chamber>) -> bool {
    let last = *ledger.memory.activated.last().unwrap_or(&ACCESS_POLICY);
    let active: Option<ActivePolicy> = ledger.get(&state::policy_key(PolicyKind::Access));
    let terms = [ACCESS_POLICY, NEW_POLICY].map(|document| {
        let term: Option<PolicyTerm> = ledger.get(&state::policy_term_key(PolicyKind::Access, &document));
        term.is_some_and(|term| term.until.is_none()) == (document == last)
    });
    active.is_some_and(|active| active.document == last) && terms == [true, true]
}

fn the_state_has_every_vote_once(_: &Small<Chamber>, ledger: &Ledger<Chamber>) -> bool {
    ledger.memory.ballots.iter().all(|(document, ballot)| {
        let held: Option<Proposal> = ledger.get(&state::proposal_key(PolicyKind::Access, document));
        held.is_some_and(|held| held.votes.iter().eq(&ballot.yes) && held.against.iter().eq(&ballot.no))
    })
}

fn policy_properties(returns: usize) -> Vec<Property<Small<Chamber>>> {
    let reached: fn(&Small<Chamber>, &Ledger<Chamber>) -> bool = match returns {
        1 => |_, ledger| ledger.memory.activated.len() == 1,
        _ => |_, ledger| ledger.memory.activated == [NEW_POLICY, ACCESS_POLICY],
    };
    vec![
        Property::always(
            "the policy in force is the last activated",
            the_policy_in_force_is_the_last_that_was_activated,
        ),
        Property::always("the state has every vote once", the_state_has_every_vote_once),
        Property::sometimes("policies come into force", reached),
        Property::sometimes("one is voted down", |small, ledger: &Ledger<Chamber>| {
            ledger.memory.ballots.values().any(|ballot| ballot.no.len() * 3 >= small.genesis.members.len())
        }),
    ]
}

#[test]
fn every_vote_of_five_members_on_a_policy_needs_two_thirds_each_class_and_its_height() {
    let mut says: Vec<Said> = MEMBERS
        .into_iter()
        .flat_map(|(name, _)| [true, false].map(|yes| policy(name, NEW_POLICY, PolicyStep::Voted(yes))))
        .collect();
    says.push(policy("mercy", NEW_POLICY, PolicyStep::Proposed(1)));
    says.push(policy("watch", NEW_POLICY, PolicyStep::Proposed(2)));
    says.push(policy("acme", NEW_POLICY, PolicyStep::Activated));
    let mut small = Small::new(says, judge_policy::<5>);
    small.blocks = 2;
    small.properties = policy_properties(1);
    explore("a policy before five members", small);
}

#[test]
fn every_change_between_two_policies_of_three_members_leaves_one_in_force() {
    let members = ["acme", "county", "mercy"];
    let mut says = Vec::new();
    for document in [ACCESS_POLICY, NEW_POLICY] {
        for name in members {
            says.extend([true, false].map(|yes| policy(name, document, PolicyStep::Voted(yes))));
        }
        says.push(policy("mercy", document, PolicyStep::Proposed(1)));
        says.push(policy("mercy", document, PolicyStep::Proposed(2)));
        says.push(policy("acme", document, PolicyStep::Activated));
    }
    let mut small = Small::new(says, judge_policy::<3>);
    small.genesis.members.truncate(3);
    small.blocks = 2;
    small.properties = policy_properties(2);
    explore("two policies before three members", small);
}

/// A hold or an erasure as people remember it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kept {
    org: OrgId,
    patient: Option<Pseudonym>,
    open: bool,
}

type Holds = BTreeMap<Id16, Kept>;

fn custody(name: &str, n: u8, step: CustodyStep) -> Said {
    said(name, Body::Custody { id: id(n), step, records: digest(1), count: 1 })
}

fn judge_hold(said: &Said, after: &mut Ledger<Holds>) -> Option<&'static str> {
    let Body::Custody { id, step, .. } = &said.entry.body else { return None };
    let (org, patient) = (said.org.clone(), said.entry.patient);
    let held = after.memory.values().any(|kept| kept.open && kept.patient == patient);
    match (step, after.memory.get_mut(id)) {
        (CustodyStep::Held, None) => {
            after.memory.insert(*id, Kept { org, patient, open: true });
            None
        }
        (CustodyStep::Released, Some(kept)) if kept.org == org && kept.patient == patient && kept.open => {
            kept.open = false;
            None
        }
        (CustodyStep::Erased, None) if !held => {
            after.memory.insert(*id, Kept { org, patient, open: false });
            None
        }
        (CustodyStep::Erased, _) => Some("what is held is erased, or twice"),
        _ => Some("a hold is put twice, or released twice, by another organisation or for another patient"),
    }
}

fn holds_are_counted(_: &Small<Holds>, ledger: &Ledger<Holds>) -> bool {
    [1, 2].map(pseudonym).into_iter().all(|patient| {
        let open = ledger.memory.values().filter(|kept| kept.open && kept.patient == Some(patient)).count();
        let counted: Option<Hold> = ledger.get(&state::hold_key(&patient));
        counted.map_or(0, |hold| hold.open as usize) == open
    })
}

#[test]
fn every_order_of_holds_and_releases_keeps_what_is_held_from_being_erased() {
    let mut says = Vec::new();
    for (n, name) in [1, 2, 3].into_iter().flat_map(|n| ["mercy", "watch"].map(|name| (n, name))) {
        for (step, patient) in
            [CustodyStep::Held, CustodyStep::Released, CustodyStep::Erased].into_iter().flat_map(|s| [(s, 1), (s, 2)])
        {
            says.push(custody(name, n, step).patient(patient));
        }
    }
    let mut small = Small::new(says, judge_hold);
    small.properties = vec![
        Property::always("holds are counted", holds_are_counted),
        Property::sometimes("what was held is erased", |_, ledger: &Ledger<Holds>| {
            let erased = ledger.memory.get(&id(3)).is_some_and(|kept| !kept.open && kept.patient == Some(pseudonym(1)));
            erased && ledger.memory.values().filter(|kept| kept.patient == Some(pseudonym(1))).count() == 3
        }),
    ];
    explore("three custodies of two patients", small);
}

/// A recovery as people remember it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Recovery {
    by: Option<OrgId>,
    votes: BTreeSet<OrgId>,
    done: bool,
}

fn judge_recovery(said: &Said, after: &mut Ledger<Recovery>) -> Option<&'static str> {
    let Body::Custody { step, .. } = &said.entry.body else { return None };
    let Recovery { by, votes, done } = &mut after.memory;
    let wrong = match step {
        CustodyStep::RecoverProposed => by.replace(said.org.clone()).is_some(),
        CustodyStep::RecoverVoted => by.is_none() || *done || !votes.insert(said.org.clone()),
        CustodyStep::Recovered => {
            let early = votes.len() * 2 <= MEMBERS.len();
            early || by.as_ref() != Some(&said.org) || std::mem::replace(done, true)
        }
        _ => true,
    };
    wrong.then_some("a recovery without its votes, by somebody else, or twice")
}

fn the_recovery_is_what_the_state_says(_: &Small<Recovery>, ledger: &Ledger<Recovery>) -> bool {
    let held: Option<Custody> = ledger.get(&state::custody_key(&id(1)));
    let Recovery { by, votes, done } = &ledger.memory;
    match held {
        None => by.is_none(),
        Some(held) => {
            by.as_ref() == Some(&held.org)
                && held.votes.iter().eq(votes)
                && (held.step == CustodyStep::Recovered) == *done
        }
    }
}

#[test]
fn every_vote_of_five_members_on_a_recovery_needs_more_than_half_of_them() {
    let steps = [CustodyStep::RecoverProposed, CustodyStep::RecoverVoted, CustodyStep::Recovered];
    let says = MEMBERS.into_iter().flat_map(|(name, _)| steps.map(|step| custody(name, 1, step))).collect();
    let mut small = Small::new(says, judge_recovery);
    small.properties = vec![
        Property::always("the state says what happened", the_recovery_is_what_the_state_says),
        Property::sometimes("three votes are enough", |_, ledger: &Ledger<Recovery>| {
            ledger.memory.done && ledger.memory.votes.len() == 3
        }),
    ];
    explore("a recovery before five members", small);
}

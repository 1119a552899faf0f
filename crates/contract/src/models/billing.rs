//! Two claims over two services, by two providers, at two insurers.

use super::{Ledger, Small, explore};
use crate::{
    Body,
    ClaimStep::{self, Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted},
    state::{self, Claim, Nullifier},
    testing::{Said, commitment, digest, id, org, said},
};
use record::{Digest, Id16, OrgId};
use stateright::Property;
use std::collections::BTreeMap;

/// What became of a claim that was billed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Bill {
    /// The services that it asks money for now.
    services: Vec<Digest>,
    /// Who decided to pay it.
    accepted: Option<OrgId>,
    paid: bool,
    /// The step by which it came back, if it did.
    returned: Option<u8>,
}

type Bills = BTreeMap<Id16, Bill>;

fn says() -> Vec<Said> {
    let mut says = Vec::new();
    for claim in [1, 2] {
        let mut say = |name: &str, insurer: &str, step, services: &[u8]| {
            let services = services.iter().map(|service| digest(*service)).collect();
            let (insurer, amount) = (org(insurer), commitment(1));
            says.push(said(name, Body::Claim { id: id(claim), step, insurer, amount, services }));
        };
        for insurer in ["acme", "bravo"] {
            for provider in ["county", "mercy"] {
                for services in [&[1][..], &[2], &[1, 2]] {
                    say(provider, insurer, Submitted, services);
                }
                say(provider, insurer, PreauthorisationRequested, &[]);
                say(provider, insurer, Cancelled, &[]);
                // Not theirs to say.
                say(provider, insurer, Accepted, &[]);
            }
            for step in [Preauthorised, Accepted, Rejected, Paid] {
                say("acme", insurer, step, &[]);
                say("bravo", insurer, step, &[]);
            }
        }
    }
    says
}

fn judge(said: &Said, after: &mut Ledger<Bills>) -> Option<&'static str> {
    let Body::Claim { id, step, services, .. } = &said.entry.body else { return None };
    let bill = after.memory.get_mut(id);
    match (step, bill) {
        (Submitted, None) => {
            after.memory.insert(*id, Bill { services: services.clone(), ..Bill::default() });
            None
        }
        (Submitted, Some(bill)) if bill.services.is_empty() => {
            bill.services.clone_from(services);
            None
        }
        (Submitted, Some(_)) => Some("a claim is billed twice"),
        (Accepted, Some(bill)) if !bill.services.is_empty() && bill.accepted.is_none() => {
            bill.accepted = Some(said.org.clone());
            None
        }
        (Accepted, _) => Some("a claim is accepted that was not billed, or twice"),
        (Paid, Some(bill)) if bill.accepted.as_ref() == Some(&said.org) && !bill.paid => {
            bill.paid = true;
            None
        }
        (Paid, _) => Some("a claim is paid that the insurer did not accept, or twice"),
        (Rejected | Cancelled, Some(bill)) if bill.accepted.is_none() => {
            bill.services.clear();
            bill.returned = Some(*step as u8);
            None
        }
        (Rejected | Cancelled, Some(_)) => Some("an accepted claim is taken back"),
        (Preauthorised | PreauthorisationRequested, Some(_)) => Some("what was billed is asked about again"),
        (_, None) => None,
    }
}

fn no_service_is_billed_by_two(_: &Small<Bills>, ledger: &Ledger<Bills>) -> bool {
    let mut billed: Vec<&Digest> = ledger.memory.values().flat_map(|bill| &bill.services).collect();
    billed.sort();
    billed.windows(2).all(|two| two[0] != two[1])
}

fn nullifiers_name_their_claims(_: &Small<Bills>, ledger: &Ledger<Bills>) -> bool {
    ledger.memory.iter().all(|(id, bill)| {
        bill.services.iter().all(|service| {
            let held: Option<Nullifier> = ledger.get(&state::nullifier_key(service));
            held.is_some_and(|held| held.claim == *id)
        })
    })
}

fn the_state_says_what_happened(_: &Small<Bills>, ledger: &Ledger<Bills>) -> bool {
    ledger.memory.iter().all(|(id, bill)| {
        let held: Option<Claim> = ledger.get(&state::claim_key(id));
        held.is_some_and(|held| {
            let addressed = bill.accepted.as_ref().is_none_or(|insurer| *insurer == held.insurer);
            addressed
                && match held.step {
                    Paid => bill.paid,
                    Accepted => bill.accepted.is_some() && !bill.paid,
                    Submitted => !bill.services.is_empty() && bill.accepted.is_none(),
                    _ => bill.services.is_empty(),
                }
        })
    })
}

fn both_are_paid(_: &Small<Bills>, ledger: &Ledger<Bills>) -> bool {
    ledger.memory.values().filter(|bill| bill.paid).count() == 2
}

fn paid_after(ledger: &Ledger<Bills>, step: ClaimStep) -> bool {
    ledger.memory.values().any(|bill| bill.paid && bill.returned == Some(step as u8))
}

#[test]
fn every_order_of_the_steps_of_two_claims_bills_no_service_twice_and_pays_what_was_accepted() {
    let mut small = Small::new(says(), judge);
    let mut second = small.genesis.members[0].clone();
    second.org = org("bravo");
    small.genesis.members.insert(1, second);
    small.properties = vec![
        Property::always("no service is billed by two claims", no_service_is_billed_by_two),
        Property::always("the nullifier of what is billed names its claim", nullifiers_name_their_claims),
        Property::always("the state says what happened", the_state_says_what_happened),
        Property::sometimes("both claims are paid", both_are_paid),
        Property::sometimes("what was rejected is paid", |_, ledger: &Ledger<Bills>| paid_after(ledger, Rejected)),
        Property::sometimes("what was cancelled is paid", |_, ledger: &Ledger<Bills>| paid_after(ledger, Cancelled)),
    ];
    explore("two claims", small);
}

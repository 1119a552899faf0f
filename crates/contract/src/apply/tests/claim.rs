//! Claims: every step in its order, by whom it may be taken, and services that are billed once.

use crate::{
    Body, ClaimStep,
    ClaimStep::{Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted},
    testing::{Said, World, check, commitment, digest, id, org, said},
};

pub(super) fn claim(name: &str, n: u8, step: ClaimStep, services: &[u8]) -> Said {
    to(name, "acme", n, step, services)
}
pub(super) fn to(name: &str, insurer: &str, n: u8, step: ClaimStep, services: &[u8]) -> Said {
    let services = services.iter().map(|service| digest(*service)).collect();
    said(name, Body::Claim { id: id(n), step, insurer: org(insurer), amount: commitment(n), services })
}

#[test]
fn a_claim_goes_its_way() {
    check(
        &mut World::new(),
        [
            (claim("mercy", 1, PreauthorisationRequested, &[]), "applied"),
            (claim("mercy", 1, PreauthorisationRequested, &[]), "ClaimStep"),
            (claim("acme", 1, Preauthorised, &[]), "applied"),
            (claim("acme", 1, Paid, &[]), "ClaimStep"),
            (claim("mercy", 1, Submitted, &[1, 2]), "applied"),
            (claim("mercy", 1, Submitted, &[1, 2]), "ClaimStep"),
            (claim("acme", 1, Paid, &[]), "ClaimStep"),
            (claim("acme", 1, Accepted, &[]), "applied"),
            (claim("acme", 1, Rejected, &[]), "ClaimStep"),
            (claim("mercy", 1, Cancelled, &[]), "ClaimStep"),
            (claim("acme", 1, Paid, &[]), "applied"),
            (claim("acme", 1, Paid, &[]), "ClaimStep"),
        ],
    );
}

#[test]
fn emergencies_are_billed_without_asking_before() {
    let mut world = World::new();
    check(&mut world, [(claim("rescue", 1, Submitted, &[1]), "applied"), (claim("acme", 1, Accepted, &[]), "applied")]);
}

#[test]
fn each_side_takes_its_own_steps() {
    check(
        &mut World::new(),
        [
            (claim("acme", 1, Submitted, &[1]), "Role"),
            (claim("watch", 1, Submitted, &[1]), "Role"),
            (to("mercy", "county", 1, Submitted, &[1]), "Insurer"),
            (to("mercy", "nobody", 1, Submitted, &[1]), "Insurer"),
            (claim("mercy", 1, Submitted, &[1]).nobody(), "PatientMissing"),
            (claim("mercy", 1, Submitted, &[1]), "applied"),
            (claim("mercy", 1, Accepted, &[]), "Role"),
            (claim("county", 1, Cancelled, &[]), "OtherOrg"),
            (to("acme", "other", 1, Accepted, &[]), "Insurer"),
            (claim("acme", 9, Accepted, &[]), "ClaimStep"),
        ],
    );
}

#[test]
fn no_service_is_billed_by_two_claims_whoever_bills_it() {
    check(
        &mut World::new(),
        [
            (claim("mercy", 1, Submitted, &[]), "Services"),
            (claim("mercy", 1, Submitted, &[1, 1]), "Services"),
            (claim("mercy", 1, Submitted, &[2, 1]), "Services"),
            (claim("mercy", 1, PreauthorisationRequested, &[1]), "Services"),
            (claim("mercy", 1, Submitted, &[1, 2]), "applied"),
            (claim("county", 2, Submitted, &[2, 3]), "BilledBefore"),
            (claim("county", 2, Submitted, &[3]), "applied"),
        ],
    );
}

#[test]
fn what_was_rejected_or_cancelled_is_billed_again_under_the_same_claim_only() {
    check(
        &mut World::new(),
        [
            (claim("mercy", 1, Submitted, &[1]), "applied"),
            (claim("acme", 1, Rejected, &[]), "applied"),
            (claim("mercy", 2, Submitted, &[1]), "BilledBefore"),
            (claim("mercy", 1, Submitted, &[1, 2]), "applied"),
            (claim("mercy", 1, Cancelled, &[]), "applied"),
            (claim("mercy", 2, Submitted, &[1]), "BilledBefore"),
            (claim("county", 1, Submitted, &[1]), "OtherOrg"),
            (claim("mercy", 1, Submitted, &[1]), "applied"),
        ],
    );
}

//! Custody of records by holds and votes, accepted and refused.

use crate::{
    Body, CustodyStep,
    testing::{Said, World, check, digest, id, said},
};

pub(super) fn custody(name: &str, n: u8, step: CustodyStep) -> Said {
    said(name, Body::Custody { id: id(n), step, records: digest(1), count: 3 })
}

#[test]
fn a_hold_forbids_erasing_until_it_is_released() {
    use CustodyStep::{Erased, Held, Released};
    check(
        &mut World::new(),
        [
            (custody("acme", 1, Held), "Role"),
            (custody("watch", 1, Held), "applied"),
            (custody("watch", 1, Held), "NotNew"),
            (custody("mercy", 2, Held), "applied"),
            (custody("mercy", 3, Erased), "Held"),
            (custody("mercy", 3, Erased).patient(2), "applied"),
            (custody("mercy", 1, Released), "OtherOrg"),
            (custody("watch", 1, Released), "applied"),
            (custody("watch", 1, Released), "Over"),
            (custody("mercy", 4, Erased), "Held"),
            (custody("mercy", 2, Released), "applied"),
            (custody("watch", 4, Erased), "Role"),
            (custody("mercy", 4, Erased), "applied"),
            (custody("mercy", 4, Erased), "NotNew"),
            (custody("mercy", 9, Released), "Unknown"),
        ],
    );
}

#[test]
fn a_recovery_needs_more_than_half_of_the_members() {
    use CustodyStep::{RecoverProposed, RecoverVoted, Recovered, Released};
    check(
        &mut World::new(),
        [
            (custody("acme", 1, RecoverProposed), "Role"),
            (custody("mercy", 1, RecoverVoted), "Unknown"),
            (custody("mercy", 1, RecoverProposed), "applied"),
            (custody("mercy", 1, Recovered), "Votes"),
            (custody("county", 1, RecoverVoted), "applied"),
            (custody("county", 1, RecoverVoted), "VotedAlready"),
            (custody("acme", 1, RecoverVoted), "applied"),
            (custody("mercy", 1, Recovered), "Votes"),
            (custody("watch", 1, RecoverVoted), "applied"),
            (custody("watch", 1, Recovered), "OtherOrg"),
            (custody("mercy", 1, Released), "Over"),
            (custody("mercy", 1, Recovered), "applied"),
            (custody("mercy", 1, Recovered), "Over"),
            (custody("rescue", 1, RecoverVoted), "Over"),
        ],
    );
}

#[test]
fn a_hold_is_not_lifted_by_the_release_of_another_one() {
    use CustodyStep::{Erased, Held, Released};
    // Holds are counted by patient: a hold of one's own on anybody, released in another patient's log, lifted that one's hold.
    check(
        &mut World::new(),
        [
            (custody("watch", 1, Held), "applied"),
            (custody("mercy", 2, Held).patient(3), "applied"),
            (custody("mercy", 2, Released), "OtherPatient"),
            (custody("mercy", 4, Held).nobody(), "applied"),
            (custody("mercy", 4, Released), "OtherPatient"),
            (custody("mercy", 4, Released).nobody(), "applied"),
            (custody("mercy", 3, Erased), "Held"),
            (custody("watch", 1, Released).nobody(), "OtherPatient"),
            (custody("watch", 1, Released), "applied"),
            (custody("mercy", 3, Erased), "applied"),
            (custody("mercy", 2, Released).patient(3), "applied"),
        ],
    );
}

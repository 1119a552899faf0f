//! Accesses, grants, overrides, investigations.

use crate::{
    AccessAction, Body, ClaimStep, GATHERED_MAX, GrantStep, InvestigationStep, OVERRIDE_MS_MAX, OverrideStep, merkle,
    testing::{Said, World, check, commitment, digest, genesis, id, org, said, tag},
};
use record::{Digest, Purpose, RecordType, TimeMs};

pub(super) const HOUR_MS: u64 = 3_600_000;

pub(super) fn access(name: &str, audit: u8, under: Option<u8>) -> Said {
    asked(name, audit, under, 1, digest(7), false)
}

pub(super) fn asked(name: &str, audit: u8, under: Option<u8>, count: u32, set: Digest, denied: bool) -> Said {
    let (audit, under, commitment) = (tag(audit).of_audit(&org(name)), under.map(id), commitment(audit));
    said(name, Body::Access { action: AccessAction::Read, set, count, denied, under, audit, commitment })
}

pub(super) fn writing(mut said: Said) -> Said {
    if let Body::Access { action, .. } = &mut said.entry.body {
        *action = AccessAction::Write;
    }
    said
}

pub(super) fn overriding(name: &str, step: OverrideStep) -> Said {
    said(name, Body::Override { id: id(1), step, reason: commitment(1) }).purpose(Purpose::BreakGlass)
}

pub(super) fn grant(name: &str, step: GrantStep, until: Option<TimeMs>) -> Said {
    said(name, Body::Grant { id: id(2), step, consent: commitment(1), until })
}

pub(super) fn case(name: &str, step: InvestigationStep) -> Said {
    said(name, Body::Investigation { id: id(3), step, document: commitment(1) }).purpose(Purpose::Compliance)
}

/// The time so many milliseconds after the first block's.
pub(super) fn after_ms(ms: u64) -> TimeMs {
    genesis().time.plus_ms(1000 + ms)
}

#[test]
fn an_audit_event_never_gets_another_version_and_no_access_names_a_record_or_anothers_audit_event() {
    let rewritten = Body::Record {
        tag: tag(1).of_audit(&org("mercy")),
        kind: RecordType::Permission,
        version: 2,
        previous: Some(commitment(1)),
        commitment: commitment(9),
        deleted: false,
        codes: vec![],
        attachments: vec![],
    };
    let naming = |audit| {
        let (action, set, count, denied, under) = (AccessAction::Read, digest(7), 1, false, None);
        said("mercy", Body::Access { action, set, count, denied, under, audit, commitment: commitment(2) })
    };
    check(
        &mut World::new(),
        [
            (access("mercy", 1, None), "applied"),
            (said("mercy", rewritten), "AuditIsFinal"),
            (naming(tag(2)), "AuditTag"),
            (naming(tag(2).of_audit(&org("county"))), "AuditTag"),
            (naming(tag(2).of_audit(&org("mercy"))), "applied"),
        ],
    );
}

#[test]
fn the_count_goes_with_the_set() {
    let nothing = merkle::root([]);
    check(
        &mut World::new(),
        [
            (asked("mercy", 1, None, 0, nothing, false), "applied"),
            (asked("mercy", 2, None, 0, digest(7), false), "Set"),
            (asked("mercy", 3, None, 1, nothing, false), "Set"),
            (asked("mercy", 4, None, 1, digest(7), true), "Set"),
            (asked("mercy", 5, None, 0, nothing, true), "applied"),
        ],
    );
}

pub(super) fn gathered(name: &str, count: u32, ms: u32) -> Said {
    said(name, Body::Accesses { root: digest(7), count, ms })
}

#[test]
fn several_accesses_within_a_second_are_one_entry_of_those_who_need_no_ground() {
    let by_force = |said: Said| said.purpose(Purpose::BreakGlass);
    check(
        &mut World::new(),
        [
            (gathered("mercy", 2, 0), "applied"),
            (gathered("mercy", 2, 1_000), "applied"),
            (gathered("mercy", 2, 1_001), "Gathered"),
            (gathered("mercy", 1, 0), "Gathered"),
            (gathered("mercy", 0, 0), "Gathered"),
            (gathered("mercy", GATHERED_MAX, 0), "applied"),
            (gathered("mercy", GATHERED_MAX + 1, 0), "Gathered"),
            (gathered("watch", 2, 0), "GroundMissing"),
            (gathered("watch", 2, 0).nobody(), "applied"),
            (by_force(gathered("rescue", 2, 0)), "GroundMissing"),
        ],
    );
}

#[test]
fn breaking_the_glass_rests_on_an_open_override_of_the_same_patient_and_organisation() {
    let forced = |name: &str, audit, under| access(name, audit, under).purpose(Purpose::BreakGlass);
    let mut world = World::new();
    check(
        &mut world,
        [
            (forced("rescue", 10, None), "GroundMissing"),
            (forced("rescue", 10, Some(1)), "GroundNotInForce"),
            (overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS))), "applied"),
            (forced("rescue", 10, Some(1)), "applied"),
            (forced("mercy", 11, Some(1)), "GroundNotInForce"),
            (forced("rescue", 12, Some(1)).patient(2), "GroundNotInForce"),
            (overriding("rescue", OverrideStep::Closed), "applied"),
            (forced("rescue", 13, Some(1)), "GroundNotInForce"),
            // Read before it was closed, anchored after.
            (forced("rescue", 14, Some(1)).later(-4_000), "applied"),
            (asked("rescue", 15, None, 0, merkle::root([]), true).purpose(Purpose::BreakGlass), "applied"),
            (writing(forced("rescue", 16, None)), "applied"),
        ],
    );
}

#[test]
fn an_override_ends_by_itself() {
    let mut world = World::new();
    check(&mut world, [(overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS))), "applied")]);
    world.wait(HOUR_MS);
    check(&mut world, [(access("rescue", 10, Some(1)), "GroundNotInForce")]);
}

#[test]
fn an_override_is_still_the_patients_after_midnight_of_the_months_end() {
    let mut world = World::new();
    let last = TimeMs::from_instant("2026-11-30T23:59:58Z").unwrap();
    world.block.time = last;
    check(
        &mut world,
        [
            (overriding("rescue", OverrideStep::Opened(last.plus_ms(HOUR_MS))), "applied"),
            (access("rescue", 10, Some(1)).patient(2), "GroundNotInForce"),
            (access("rescue", 11, Some(1)).patient(2), "applied"),
        ],
    );
}

#[test]
fn an_override_is_opened_by_providers_for_a_limited_time() {
    let opened = |name: &str, ms| overriding(name, OverrideStep::Opened(after_ms(ms)));
    let table = [
        (opened("rescue", OVERRIDE_MS_MAX), "applied"),
        (opened("mercy", 1), "applied"),
        (opened("rescue", OVERRIDE_MS_MAX + 1), "Limit"),
        (opened("rescue", 0), "Limit"),
        (opened("acme", HOUR_MS), "Role"),
        (opened("watch", HOUR_MS), "Role"),
        (opened("rescue", HOUR_MS).purpose(Purpose::EmergencyTreat), "Purpose"),
        (opened("rescue", HOUR_MS).nobody(), "PatientMissing"),
    ];
    for (said, expected) in table {
        assert_eq!(World::new().say(said), expected);
    }
}

#[test]
fn an_override_is_reviewed_once_after_its_end_by_somebody_else() {
    let reviewed = || overriding("rescue", OverrideStep::Reviewed(true)).actor(2);
    let mut world = World::new();
    check(
        &mut world,
        [
            (reviewed(), "Unknown"),
            (overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS))), "applied"),
            (overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS))), "NotNew"),
            (overriding("mercy", OverrideStep::Closed), "OtherOrg"),
            (overriding("rescue", OverrideStep::Closed).patient(2), "OtherPatient"),
            (reviewed(), "StillOpen"),
        ],
    );
    assert_eq!(world.organisation("rescue").unreviewed, 1);
    check(
        &mut world,
        [
            (overriding("rescue", OverrideStep::Closed), "applied"),
            (overriding("rescue", OverrideStep::Closed), "Over"),
            (reviewed().actor(1), "OwnReview"),
            (reviewed(), "applied"),
            (reviewed(), "Over"),
        ],
    );
    assert_eq!(world.organisation("rescue").unreviewed, 0);
}

#[test]
fn an_override_that_ran_out_can_be_reviewed() {
    let mut world = World::new();
    check(&mut world, [(overriding("rescue", OverrideStep::Opened(after_ms(1_000))), "applied")]);
    check(&mut world, [(overriding("rescue", OverrideStep::Reviewed(false)).actor(2), "applied")]);
}

#[test]
fn grants_are_issued_and_revoked_once_by_providers() {
    let mut world = World::new();
    check(
        &mut world,
        [
            (grant("mercy", GrantStep::Revoked, None), "Unknown"),
            (grant("acme", GrantStep::Issued, None), "Role"),
            (grant("mercy", GrantStep::Issued, Some(after_ms(0))), "Limit"),
            (grant("mercy", GrantStep::Issued, None).nobody(), "PatientMissing"),
            (grant("mercy", GrantStep::Issued, Some(after_ms(HOUR_MS))), "applied"),
            (grant("mercy", GrantStep::Issued, None), "NotNew"),
            (access("county", 10, Some(2)), "applied"),
            (access("county", 11, Some(2)).patient(2), "GroundNotInForce"),
            (grant("county", GrantStep::Revoked, None).patient(2), "OtherPatient"),
            (grant("county", GrantStep::Revoked, None), "applied"),
            (grant("county", GrantStep::Revoked, None), "Over"),
            (access("county", 11, Some(2)), "GroundNotInForce"),
            (access("county", 12, Some(2)).later(-3_000), "applied"),
        ],
    );
}

#[test]
fn a_grant_ends_by_itself() {
    let mut world = World::new();
    check(&mut world, [(grant("mercy", GrantStep::Issued, Some(after_ms(HOUR_MS))), "applied")]);
    world.wait(HOUR_MS);
    check(&mut world, [(access("mercy", 10, Some(2)), "GroundNotInForce")]);
}

#[test]
fn insurers_may_name_the_claims_that_are_theirs() {
    let claim = Body::Claim {
        id: id(4),
        step: ClaimStep::PreauthorisationRequested,
        insurer: org("acme"),
        amount: commitment(1),
        services: vec![],
    };
    check(
        &mut World::new(),
        [
            (said("mercy", claim), "applied"),
            (access("acme", 1, Some(4)), "applied"),
            (access("county", 2, Some(4)), "GroundNotInForce"),
        ],
    );
}

#[test]
fn compliance_reads_within_its_own_open_case() {
    check(
        &mut World::new(),
        [
            (access("watch", 1, None), "GroundMissing"),
            (access("watch", 1, None).nobody(), "applied"),
            (access("watch", 2, Some(3)), "GroundNotInForce"),
            (case("mercy", InvestigationStep::Opened), "Role"),
            (case("watch", InvestigationStep::Opened).purpose(Purpose::Treat), "Purpose"),
            (case("watch", InvestigationStep::Concluded), "Unknown"),
            (case("watch", InvestigationStep::Opened), "applied"),
            (case("watch", InvestigationStep::Opened), "NotNew"),
            (access("watch", 2, Some(3)), "applied"),
            (access("watch", 3, Some(3)).patient(2), "GroundNotInForce"),
            (access("mercy", 3, Some(3)), "GroundNotInForce"),
            (case("watch", InvestigationStep::Concluded), "applied"),
            (case("watch", InvestigationStep::Concluded), "Over"),
            (access("watch", 3, Some(3)), "GroundNotInForce"),
        ],
    );
}

#[test]
fn nothing_rests_on_what_began_later() {
    // What was opened after the access did not permit it; clocks of two gateways may differ by two seconds.
    let forced = |audit| access("rescue", audit, Some(1)).purpose(Purpose::BreakGlass);
    check(
        &mut World::new(),
        [
            (overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS))), "applied"),
            (forced(1).later(-3_001), "GroundNotInForce"),
            (forced(1).later(-4_000), "applied"),
            (grant("mercy", GrantStep::Issued, None), "applied"),
            (access("county", 2, Some(2)).later(-3_001), "GroundNotInForce"),
            (access("county", 2, Some(2)).later(-4_000), "applied"),
            (case("watch", InvestigationStep::Opened), "applied"),
            (access("watch", 3, Some(3)).later(-3_001), "GroundNotInForce"),
            (access("watch", 3, Some(3)).later(-4_000), "applied"),
        ],
    );
}

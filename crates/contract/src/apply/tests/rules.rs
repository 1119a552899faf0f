//! Every reason for a refusal, for each kind that knows it: one table, which is compared with what the rules are said to be.

use super::{
    claim::{claim, to},
    device::{batch, bound, revoked, unbound},
    disposal::{FOUNDING, counting, disposal, naming, roll_up, with},
    governance::custody,
    log::alarm,
    permission::{HOUR_MS, access, after_ms, asked, case, gathered, grant, overriding},
    versions::{carrying, deleting, showing, version, written},
};
use crate::{
    AlarmStep, AttachmentKind, Body, ClaimStep, CustodyStep, GrantStep, HandoffStep, InvestigationStep, MemberStep,
    OverrideStep, PolicyKind, PolicyPart, PolicyStep, Priority, Reject, apply, merkle, state,
    testing::{Said, World, commitment, digest, id, org, pseudonym, public, said, tag},
};
use crate::{Reach, testing::joining, to_cbor};
use record::{Purpose, RecordType};
use std::collections::{BTreeMap, BTreeSet};

/// What each kind can be refused for, besides what holds for all: [`EVERY_KIND`].
const RULES: [(&str, &[Reject]); 18] = {
    use Reject::*;
    [
        ("record", &[Role, Codes, Attachments, Version, Previous, NothingToDelete, AuditIsFinal]),
        ("access", &[Set, GroundMissing, GroundNotInForce, AuditTag]),
        ("accesses", &[Gathered, GroundMissing]),
        ("grant", &[Role, PatientMissing, NotNew, Limit, Unknown, OtherPatient, Over]),
        (
            "override",
            &[
                Role,
                PatientMissing,
                NotNew,
                Purpose,
                Limit,
                Unknown,
                OtherOrg,
                OtherPatient,
                Over,
                StillOpen,
                OwnReview,
            ],
        ),
        (
            "device",
            &[
                Role,
                PatientMissing,
                DeviceBound,
                NotNew,
                DeviceKey,
                Unknown,
                BindingEnded,
                OtherPatient,
                OtherOrg,
                Over,
            ],
        ),
        ("batch", &[Role, PatientMissing, Unknown, OtherOrg, OtherPatient, BindingEnded, Set, Counter, Gaps]),
        (
            "disposal",
            &[
                Role,
                PatientMissing,
                Unknown,
                OtherOrg,
                OtherPatient,
                NoRetention,
                Counter,
                TooEarly,
                Set,
                NotRolledUp,
                Held,
                CaseOpen,
            ],
        ),
        ("analytics", &[Role, PatientMissing, NotNew]),
        ("alarm", &[Role, NotNew, Unknown, Over, OtherOrg]),
        ("handoff", &[Role, PatientMissing, NotNew, OtherOrg, Same, NoMember, Unknown, Over]),
        ("claim", &[PatientMissing, Role, ClaimStep, Insurer, OtherOrg, Services, BilledBefore]),
        ("investigation", &[Role, Purpose, NotNew, Unknown, OtherOrg, Over]),
        ("dispute", &[Unknown, Role, NotAccepted, Same, NotNew]),
        ("link", &[Role, PatientMissing, Same, NotNew]),
        ("custody", &[NotNew, Unknown, Role, OtherOrg, OtherPatient, Over, Set, Held, VotedAlready, Votes]),
        ("policy", &[NotNew, Height, Unknown, Over, VotedAlready, Votes, Document]),
        (
            "member",
            &[OtherOrg, MemberKey, NotNew, Unknown, Over, VotedAlready, Reach, OwnRemoval, Validators, MembersFull],
        ),
    ]
};

/// What every entry can be refused for, whatever its kind. `NoMember` is not in the table: [`super::super::apply`] is behind
/// `execute`, which calls a block with a stranger's submission invalid as a whole. The last test of this file goes past it.
const EVERY_KIND: [Reject; 4] = [Reject::NoMember, Reject::Ahead, Reject::PolicyNotInForce, Reject::MonthMissing];

/// Takes as many members as there may be: `member::no_more_join_than_there_may_be` is its case.
const WHEN_FULL: Reject = Reject::MembersFull;

/// Entries in blocks of their own, of which all but the last are applied, and what becomes of the last.
struct Case {
    before: Vec<Said>,
    last: Said,
    verdict: Option<Reject>,
}

/// After `before`, `last` is applied.
fn good(before: &[Said], last: Said) -> Case {
    Case { before: before.to_vec(), last, verdict: None }
}
/// After `before`, `last` is refused for `reason`.
fn bad(before: &[Said], last: Said, reason: Reject) -> Case {
    Case { before: before.to_vec(), last, verdict: Some(reason) }
}

fn records() -> Vec<Case> {
    use RecordType::{MedicalRecord, Permission, Sensed};
    let first = || version("mercy", MedicalRecord, 1);
    let gone = || deleting(version("mercy", MedicalRecord, 2));
    vec![
        good(&[], first()),
        good(&[first()], version("county", MedicalRecord, 2)),
        good(&[first()], gone()),
        good(&[first(), gone()], version("mercy", MedicalRecord, 3)),
        good(&[], carrying(showing(first(), "8867-4", 1), &[AttachmentKind::EssentialCopy], 1)),
        bad(&[], version("watch", MedicalRecord, 1), Reject::Role),
        bad(&[first()], version("watch", Permission, 2), Reject::Role),
        bad(&[], showing(version("mercy", Sensed, 1), "a b", 1), Reject::Codes),
        bad(&[], carrying(first(), &[AttachmentKind::EssentialCopy; 2], 1), Reject::Attachments),
        bad(&[], written("mercy", MedicalRecord, 2, None, 1), Reject::Version),
        bad(&[first()], first(), Reject::Version),
        bad(&[], written("mercy", MedicalRecord, 1, Some(7), 1), Reject::Previous),
        bad(&[first()], written("mercy", MedicalRecord, 2, Some(7), 2), Reject::Previous),
        bad(&[], deleting(first()), Reject::NothingToDelete),
        bad(&[first(), gone()], deleting(version("mercy", MedicalRecord, 3)), Reject::NothingToDelete),
        bad(&[access("mercy", 1, None)], mistagged(version("mercy", Permission, 2)), Reject::AuditIsFinal),
        bad(&[], first().later(2_001), Reject::Ahead),
        bad(&[], first().policy(digest(9)), Reject::PolicyNotInForce),
        bad(&[], first().unlinked(), Reject::MonthMissing),
    ]
}

/// The same with the tag of the other kind of record.
fn mistagged(mut said: Said) -> Said {
    match &mut said.entry.body {
        Body::Record { tag, .. } => *tag = tag.of_audit(&said.entry.org),
        Body::Access { audit, .. } => *audit = audit.of_record(),
        _ => {}
    }
    said
}

fn accesses() -> Vec<Case> {
    let forced = |under| access("rescue", 9, under).purpose(Purpose::BreakGlass);
    let opened = || overriding("rescue", OverrideStep::Opened(after_ms(HOUR_MS)));
    vec![
        good(&[], access("mercy", 1, None)),
        good(&[], asked("mercy", 1, None, 0, merkle::root([]), true)),
        good(&[opened()], forced(Some(1))),
        good(&[grant("mercy", GrantStep::Issued, None)], access("county", 1, Some(2))),
        good(&[case("watch", InvestigationStep::Opened)], access("watch", 1, Some(3))),
        good(&[claim("mercy", 4, ClaimStep::Submitted, &[1])], access("acme", 1, Some(4))),
        bad(&[], asked("mercy", 1, None, 1, merkle::root([]), false), Reject::Set),
        bad(&[], asked("mercy", 1, None, 1, digest(7), true), Reject::Set),
        bad(&[], forced(None), Reject::GroundMissing),
        bad(&[], access("watch", 1, None), Reject::GroundMissing),
        bad(&[], forced(Some(1)), Reject::GroundNotInForce),
        bad(&[claim("mercy", 4, ClaimStep::Submitted, &[1])], access("county", 1, Some(4)), Reject::GroundNotInForce),
        bad(&[], mistagged(access("mercy", 1, None)), Reject::AuditTag),
        good(&[], gathered("mercy", 2, 1_000)),
        bad(&[], gathered("mercy", 1, 0), Reject::Gathered),
        bad(&[], gathered("mercy", 2, 1_001), Reject::Gathered),
        bad(&[], gathered("watch", 2, 0), Reject::GroundMissing),
    ]
}

fn grants() -> Vec<Case> {
    use GrantStep::{Issued, Revoked};
    let issued = || grant("mercy", Issued, None);
    vec![
        good(&[], issued()),
        good(&[issued()], grant("county", Revoked, None)),
        bad(&[], grant("acme", Issued, None), Reject::Role),
        bad(&[], issued().nobody(), Reject::PatientMissing),
        bad(&[issued()], issued(), Reject::NotNew),
        bad(&[], grant("mercy", Issued, Some(after_ms(0))), Reject::Limit),
        bad(&[], grant("mercy", Revoked, None), Reject::Unknown),
        bad(&[issued()], grant("mercy", Revoked, None).patient(2), Reject::OtherPatient),
        bad(&[issued(), grant("mercy", Revoked, None)], grant("mercy", Revoked, None), Reject::Over),
    ]
}

fn overrides() -> Vec<Case> {
    use OverrideStep::{Closed, Opened, Reviewed};
    let opened = || overriding("rescue", Opened(after_ms(HOUR_MS)));
    let closed = || overriding("rescue", Closed);
    let reviewed = || overriding("rescue", Reviewed(true)).actor(2);
    vec![
        good(&[], opened()),
        good(&[opened()], closed()),
        good(&[opened(), closed()], reviewed()),
        good(&[overriding("rescue", Opened(after_ms(1_000)))], reviewed()),
        bad(&[], overriding("acme", Opened(after_ms(HOUR_MS))), Reject::Role),
        bad(&[], opened().nobody(), Reject::PatientMissing),
        bad(&[opened()], opened(), Reject::NotNew),
        bad(&[], opened().purpose(Purpose::Treat), Reject::Purpose),
        bad(&[], overriding("rescue", Opened(after_ms(0))), Reject::Limit),
        bad(&[], closed(), Reject::Unknown),
        bad(&[opened()], overriding("mercy", Closed), Reject::OtherOrg),
        bad(&[opened()], closed().patient(2), Reject::OtherPatient),
        bad(&[opened(), closed()], closed(), Reject::Over),
        bad(&[opened(), closed(), reviewed()], reviewed(), Reject::Over),
        bad(&[opened()], reviewed(), Reject::StillOpen),
        bad(&[opened(), closed()], reviewed().actor(1), Reject::OwnReview),
    ]
}

fn devices() -> Vec<Case> {
    let first = || bound("rescue", 1, 1, 1);
    let ended = || unbound("rescue", 1, 1);
    vec![
        good(&[], first()),
        good(&[first()], ended()),
        good(&[first()], unbound("mercy", 1, 1)),
        good(&[first()], revoked("mercy", 1, 1, Some(1))),
        good(&[], revoked("rescue", 1, 1, None)),
        bad(&[], bound("acme", 1, 1, 1), Reject::Role),
        bad(&[], first().nobody(), Reject::PatientMissing),
        bad(&[first()], bound("rescue", 1, 2, 1), Reject::DeviceBound),
        bad(&[first(), ended()], first(), Reject::NotNew),
        bad(&[first()], bound("rescue", 2, 2, 1), Reject::DeviceKey),
        bad(&[revoked("rescue", 1, 1, None)], first(), Reject::DeviceKey),
        bad(&[first()], revoked("rescue", 2, 1, None), Reject::DeviceKey),
        bad(&[], ended(), Reject::Unknown),
        bad(&[first(), ended()], ended(), Reject::BindingEnded),
        bad(&[first()], revoked("rescue", 1, 1, None), Reject::BindingEnded),
        bad(&[first()], ended().patient(2), Reject::OtherPatient),
        bad(&[bound("mercy", 1, 1, 1)], ended(), Reject::OtherOrg),
        bad(&[bound("mercy", 1, 1, 1)], revoked("rescue", 1, 1, Some(1)), Reject::OtherOrg),
        bad(&[revoked("rescue", 1, 1, None)], revoked("rescue", 1, 1, None), Reject::Over),
    ]
}

fn batches() -> Vec<Case> {
    let first = || bound("rescue", 1, 1, 1);
    let frames = || batch("rescue", 1, 1, 3, 3, &[]);
    let without_frames = |first, last| batch("rescue", 1, first, last, 0, &[]);
    let mut of_nothing = frames();
    if let Body::Batch { root, .. } = &mut of_nothing.entry.body {
        *root = merkle::root([]);
    }
    let late = |ms| batch("rescue", 1, 1, 3, 3, &[]).later(ms);
    let ended = unbound("rescue", 1, 1).later(-crate::BATCH_CLOSE_MS.cast_signed());
    vec![
        good(&[first()], frames()),
        good(&[first(), frames()], batch("rescue", 1, 5, 9, 3, &[(4, 4), (6, 7)])),
        good(&[first()], without_frames(0, 0)),
        good(&[first(), ended.clone()], late(-1_000)),
        bad(&[first()], batch("acme", 1, 1, 3, 3, &[]), Reject::Role),
        bad(&[first()], frames().nobody(), Reject::PatientMissing),
        bad(&[], frames(), Reject::Unknown),
        bad(&[first()], batch("mercy", 1, 1, 3, 3, &[]), Reject::OtherOrg),
        bad(&[first()], frames().patient(2), Reject::OtherPatient),
        bad(&[first(), ended], late(-999), Reject::BindingEnded),
        bad(&[first()], of_nothing, Reject::Set),
        bad(&[first(), frames()], frames(), Reject::Counter),
        bad(&[first(), frames()], batch("rescue", 1, 5, 5, 1, &[]), Reject::Gaps),
        bad(&[first()], without_frames(1, 1), Reject::Gaps),
    ]
}

/// The frames are as old as the state knows to half a minute; the policy keeps them no longer.
fn disposals() -> Vec<Case> {
    let young =
        [bound("rescue", 1, 1, 1), batch("rescue", 1, 1, 10, 10, &[]), roll_up("rescue", 1, RecordType::Sensed)];
    let old = |more: &[Said]| {
        let waiting = (0..30).map(|n| alarm(100 + n));
        young.iter().cloned().chain(waiting).chain(more.iter().cloned()).collect::<Vec<_>>()
    };
    let elsewhere = with(disposal(0, 10), |body| {
        if let Body::Disposal { document, .. } = body {
            *document = digest(2);
        }
    });
    let held = said("mercy", Body::Custody { id: id(9), step: CustodyStep::Held, records: digest(1), count: 1 });
    vec![
        good(&old(&[]), disposal(0, 10)),
        bad(&old(&[]), said("acme", disposal(0, 10).entry.body), Reject::Role),
        bad(&old(&[]), disposal(0, 10).nobody(), Reject::PatientMissing),
        bad(&[], disposal(0, 10), Reject::Unknown),
        bad(&old(&[]), said("mercy", disposal(0, 10).entry.body), Reject::OtherOrg),
        bad(&old(&[]), disposal(0, 10).patient(2), Reject::OtherPatient),
        bad(&old(&[]), elsewhere, Reject::NoRetention),
        bad(&old(&[disposal(0, 10)]), disposal(0, 10), Reject::Counter),
        bad(&young, disposal(0, 10), Reject::TooEarly),
        bad(&old(&[]), counting(disposal(0, 10), 11), Reject::Set),
        bad(&old(&[]), naming(disposal(0, 10), &[2], &[]), Reject::NotRolledUp),
        bad(&old(&[held]), disposal(0, 10), Reject::Held),
        bad(&old(&[case("watch", InvestigationStep::Opened)]), disposal(0, 10), Reject::CaseOpen),
    ]
}

fn care() -> Vec<Case> {
    use HandoffStep::{Accepted, Offered};
    let result = |name: &str| {
        let body = Body::Analytics { result: tag(1), inputs: digest(1), model: digest(2), priority: None };
        said(name, body).id(9)
    };
    let alarm = |name: &str, step| said(name, Body::Alarm { id: id(1), step, priority: Priority::High });
    let handoff = |name: &str, step, from: &str, to: &str| {
        said(name, Body::Handoff { id: id(1), step, from: org(from), to: org(to) })
    };
    let offered = || handoff("rescue", Offered, "rescue", "mercy");
    let accepted = || handoff("mercy", Accepted, "rescue", "mercy");
    let link = |name: &str, other| said(name, Body::Link { other: pseudonym(other), same: true }).id(9);
    let raised = || alarm("mercy", AlarmStep::Raised);
    vec![
        good(&[], result("mercy")),
        bad(&[], result("acme"), Reject::Role),
        bad(&[], result("mercy").nobody(), Reject::PatientMissing),
        bad(&[result("mercy")], result("mercy"), Reject::NotNew),
        good(&[], raised()),
        good(&[raised()], alarm("county", AlarmStep::Acknowledged)),
        good(&[raised()], alarm("mercy", AlarmStep::Ended)),
        bad(&[], alarm("watch", AlarmStep::Raised), Reject::Role),
        bad(&[raised()], raised(), Reject::NotNew),
        bad(&[], alarm("mercy", AlarmStep::Ended), Reject::Unknown),
        bad(&[raised(), alarm("mercy", AlarmStep::Ended)], alarm("mercy", AlarmStep::Ended), Reject::Over),
        bad(&[raised()], alarm("county", AlarmStep::Ended), Reject::OtherOrg),
        good(&[], offered()),
        good(&[offered()], accepted()),
        bad(&[], handoff("rescue", Offered, "rescue", "acme"), Reject::Role),
        bad(&[], offered().nobody(), Reject::PatientMissing),
        bad(&[offered()], offered(), Reject::NotNew),
        bad(&[], handoff("county", Offered, "rescue", "mercy"), Reject::OtherOrg),
        bad(&[offered()], handoff("county", Accepted, "rescue", "county"), Reject::OtherOrg),
        bad(&[], handoff("rescue", Offered, "rescue", "rescue"), Reject::Same),
        bad(&[], handoff("rescue", Offered, "rescue", "stranger"), Reject::NoMember),
        bad(&[], accepted(), Reject::Unknown),
        bad(&[offered(), accepted()], accepted(), Reject::Over),
        good(&[], link("mercy", 2)),
        bad(&[], link("acme", 2), Reject::Role),
        bad(&[], link("mercy", 2).nobody(), Reject::PatientMissing),
        bad(&[], link("mercy", 1), Reject::Same),
        bad(&[link("mercy", 2)], link("mercy", 2), Reject::NotNew),
    ]
}

fn claims() -> Vec<Case> {
    use ClaimStep::{Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted};
    let submitted = || claim("mercy", 1, Submitted, &[1]);
    let requested = || claim("mercy", 1, PreauthorisationRequested, &[]);
    let accepted = || claim("acme", 1, Accepted, &[]);
    vec![
        good(&[], requested()),
        good(&[requested()], claim("acme", 1, Preauthorised, &[])),
        good(&[requested()], claim("acme", 1, Rejected, &[])),
        good(&[], submitted()),
        good(&[submitted()], accepted()),
        good(&[submitted()], claim("mercy", 1, Cancelled, &[])),
        good(&[submitted(), accepted()], claim("acme", 1, Paid, &[])),
        bad(&[], submitted().nobody(), Reject::PatientMissing),
        bad(&[], claim("acme", 1, Submitted, &[1]), Reject::Role),
        bad(&[submitted()], claim("mercy", 1, Accepted, &[]), Reject::Role),
        bad(&[submitted()], claim("acme", 1, Paid, &[]), Reject::ClaimStep),
        bad(&[], to("mercy", "county", 1, Submitted, &[1]), Reject::Insurer),
        bad(&[submitted()], to("mercy", "county", 1, Cancelled, &[]), Reject::Insurer),
        bad(&[submitted()], claim("county", 1, Cancelled, &[]), Reject::OtherOrg),
        bad(&[], claim("mercy", 1, Submitted, &[]), Reject::Services),
        bad(&[], claim("mercy", 1, Submitted, &[1, 1]), Reject::Services),
        bad(&[submitted()], claim("county", 2, Submitted, &[1]), Reject::BilledBefore),
    ]
}

fn cases_and_disputes() -> Vec<Case> {
    use InvestigationStep::{Concluded, Opened};
    let opened = || case("watch", Opened);
    let dispute = |name: &str, accepted, branch| {
        let (accepted, branch) = (commitment(accepted), commitment(branch));
        said(name, Body::Dispute { tag: tag(1), version: 1, accepted, branch }).id(9)
    };
    let first = || version("mercy", RecordType::MedicalRecord, 1);
    vec![
        good(&[], opened()),
        good(&[opened()], case("watch", Concluded)),
        bad(&[], case("mercy", Opened), Reject::Role),
        bad(&[], opened().purpose(Purpose::Treat), Reject::Purpose),
        bad(&[opened()], opened(), Reject::NotNew),
        bad(&[], case("watch", Concluded), Reject::Unknown),
        bad(&[opened()], case("audit", Concluded), Reject::OtherOrg),
        bad(&[opened(), case("watch", Concluded)], case("watch", Concluded), Reject::Over),
        good(&[first()], dispute("county", 1, 9)),
        bad(&[], dispute("county", 1, 9), Reject::Unknown),
        bad(&[first()], dispute("acme", 1, 9), Reject::Role),
        bad(&[first()], dispute("county", 2, 9), Reject::NotAccepted),
        bad(&[first()], dispute("county", 1, 1), Reject::Same),
        bad(&[first(), dispute("county", 1, 9)], dispute("county", 1, 9), Reject::NotNew),
    ]
}

fn custodies() -> Vec<Case> {
    use CustodyStep::{Erased, Held, RecoverProposed, RecoverVoted, Recovered, Released};
    let held = || custody("mercy", 1, Held);
    let proposed = || custody("mercy", 1, RecoverProposed);
    let voted = |name: &str| custody(name, 1, RecoverVoted);
    let recovered = || custody("mercy", 1, Recovered);
    let mut of_nothing = custody("mercy", 1, Erased);
    if let Body::Custody { count, .. } = &mut of_nothing.entry.body {
        *count = 0;
    }
    let carried = [proposed(), voted("mercy"), voted("county"), voted("rescue"), voted("watch")];
    vec![
        good(&[], held()),
        good(&[held()], custody("mercy", 1, Released)),
        good(&[], custody("mercy", 1, Erased)),
        good(&[], proposed()),
        good(&[proposed()], voted("acme")),
        good(&carried, recovered()),
        bad(&[held()], held(), Reject::NotNew),
        bad(&[], custody("mercy", 1, Released), Reject::Unknown),
        bad(&[], custody("acme", 1, Held), Reject::Role),
        bad(&[], custody("watch", 1, Erased), Reject::Role),
        bad(&[], custody("acme", 1, RecoverProposed), Reject::Role),
        bad(&[held()], custody("watch", 1, Released), Reject::OtherOrg),
        bad(&carried, custody("watch", 1, Recovered), Reject::OtherOrg),
        bad(&[held()], custody("mercy", 1, Released).patient(2), Reject::OtherPatient),
        bad(&[proposed()], custody("mercy", 1, Released), Reject::Over),
        bad(&[held()], voted("acme"), Reject::Over),
        bad(&[held()], recovered(), Reject::Over),
        bad(&[], of_nothing, Reject::Set),
        bad(&[held()], custody("county", 2, Erased), Reject::Held),
        bad(&[proposed(), voted("acme")], voted("acme"), Reject::VotedAlready),
        bad(&[proposed(), voted("acme")], recovered(), Reject::Votes),
    ]
}

fn policies() -> Vec<Case> {
    use PolicyStep::{Activated, Proposed, Voted};
    let policy = |name: &str, step| {
        said(name, Body::Policy { kind: PolicyKind::Derivation, document: digest(2), step }).nobody()
    };
    let part = |part, of| PolicyPart { part, of, bytes: vec![1] };
    let other = |step| said("mercy", Body::Policy { kind: PolicyKind::Derivation, document: digest(9), step }).nobody();
    let (unwritten, garbled) = (other(Proposed(2)), other(PolicyStep::Written(part(0, 1))));
    let proposed = || policy("mercy", Proposed(2));
    let for_it = |names: &[&str]| -> Vec<Said> {
        let votes = names.iter().map(|name| policy(name, Voted(true)));
        std::iter::once(proposed()).chain(votes).collect()
    };
    let carried = for_it(&["acme", "county", "mercy", "rescue", "watch"]);
    let mut active = carried.clone();
    active.push(policy("acme", Activated));
    vec![
        good(&[], proposed()),
        good(&[proposed()], policy("acme", Voted(false))),
        good(&carried, policy("acme", Activated)),
        bad(&[proposed()], proposed(), Reject::NotNew),
        bad(&active, policy("mercy", Proposed(99)), Reject::NotNew),
        bad(&[], policy("mercy", Proposed(1)), Reject::Height),
        bad(&[policy("mercy", Proposed(99))], policy("mercy", Activated), Reject::Height),
        bad(&[], policy("mercy", Voted(true)), Reject::Unknown),
        bad(&[], unwritten, Reject::Unknown),
        bad(&[], policy("mercy", PolicyStep::Written(part(0, 1))), Reject::NotNew),
        bad(&[], garbled, Reject::Document),
        bad(&active, policy("mercy", Voted(true)), Reject::Over),
        bad(&active, policy("mercy", Activated), Reject::Over),
        bad(&[proposed(), policy("acme", Voted(true))], policy("acme", Voted(false)), Reject::VotedAlready),
        bad(&for_it(&["acme", "county", "mercy"]), policy("acme", Activated), Reject::Votes),
    ]
}

fn members() -> Vec<Case> {
    use MemberStep::{EntryKeyRotated, JoinProposed, Left, Moved, RemovalProposed, Seated, Voted};
    let member = |name: &str, member: &str, step| said(name, Body::Member { member: org(member), step }).nobody();
    let rotated = |name: &str, key| member(name, "mercy", EntryKeyRotated(key));
    let proposed = || member("mercy", "valley", JoinProposed(joining())).id(1);
    let removal = || member("acme", "mercy", RemovalProposed).id(1);
    let voted = |name: &str, yes| member(name, "valley", Voted(id(1), yes));
    let mut carried = vec![proposed()];
    carried.extend(["acme", "audit", "county", "mercy", "rescue"].map(|name| voted(name, true)));
    let seated = |name: &str, n| member(name, name, Seated(public(n)));
    let unreachable = Reach { wrap_key: String::new(), address: String::new() };
    vec![
        good(&[], rotated("mercy", public(1))),
        good(&[], proposed()),
        good(&[], removal()),
        good(&[], seated("mercy", 1)),
        good(&[], member("mercy", "mercy", Left)),
        good(&[], member("mercy", "mercy", Moved(joining().reach))),
        good(&carried, seated("valley", 30)),
        bad(&[], rotated("county", public(1)), Reject::OtherOrg),
        bad(&[], rotated("mercy", public(150)), Reject::MemberKey),
        bad(&[], member("mercy", "mercy", Moved(unreachable)), Reject::Reach),
        bad(&[], member("acme", "mercy", JoinProposed(joining())), Reject::NotNew),
        bad(&[], member("acme", "nobody", RemovalProposed), Reject::Unknown),
        bad(&[], member("mercy", "mercy", RemovalProposed), Reject::OwnRemoval),
        bad(&[removal()], member("mercy", "mercy", Voted(id(1), false)), Reject::OwnRemoval),
        bad(&carried, voted("watch", true), Reject::Over),
        bad(&[proposed(), voted("acme", true)], voted("acme", false), Reject::VotedAlready),
        bad(&[seated("mercy", 1)], seated("acme", 2), Reject::Validators),
    ]
}

fn all() -> Vec<Case> {
    let mut all = records();
    all.extend(
        [accesses(), grants(), overrides(), devices(), batches(), disposals(), care(), claims()].into_iter().flatten(),
    );
    all.extend([cases_and_disputes(), custodies(), policies(), members()].into_iter().flatten());
    all
}

/// Five members, and a second organisation of compliance.
fn world() -> World {
    let mut world = World::new();
    let mut second = world.genesis.members[4].clone();
    (second.org, second.entry_key, second.consensus_key) = (org("audit"), public(110), public(160));
    world.genesis.members.insert(1, second);
    world.state.insert(state::retention_key(&FOUNDING), to_cbor(&state::Retention { keep_s: 0 }));
    world
}

#[test]
fn every_kind_has_accepted_cases_and_one_for_each_reason_that_it_is_refused_for() {
    let mut accepted = BTreeSet::new();
    let mut reached: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    for Case { before, last, verdict } in all() {
        let mut world = world();
        for said in before {
            assert_eq!(world.say(said.clone()), "applied", "{said:?}");
        }
        let kind = last.entry.kind();
        let expected = verdict.map_or("applied".to_owned(), |reason| format!("{reason:?}"));
        assert_eq!(world.say(last.clone()), expected, "{last:?}");
        match verdict {
            None => _ = accepted.insert(kind),
            Some(reason) => _ = reached.entry(kind).or_default().insert(reason.code()),
        }
    }
    assert_eq!(accepted, RULES.iter().map(|(kind, _)| *kind).collect());
    for (kind, reasons) in RULES {
        let mut expected: BTreeSet<u8> = reasons.iter().map(|reason| reason.code()).collect();
        expected.remove(&WHEN_FULL.code());
        if kind == "record" {
            expected.extend(EVERY_KIND[1..].iter().map(|reason| reason.code()));
        }
        assert_eq!(reached[kind], expected, "{kind}");
    }
}

#[test]
fn no_reason_for_a_refusal_is_without_a_case() {
    let mut reasons: BTreeSet<u8> = all().iter().filter_map(|case| case.verdict).map(Reject::code).collect();
    reasons.insert(WHEN_FULL.code());
    assert_eq!(reasons, Reject::ALL.iter().map(|reason| reason.code()).collect());
}

#[test]
fn no_sequence_of_entries_is_refused_for_a_reason_that_its_kind_does_not_list() {
    let mut seen = 0;
    for (kind, reason) in crate::execute::tests::refusals() {
        let listed = RULES.iter().find(|rule| rule.0 == kind).is_some_and(|rule| rule.1.contains(&reason));
        assert!(listed || EVERY_KIND.contains(&reason), "{kind} is refused for {reason:?}");
        seen += 1;
    }
    assert!(seen > 1_000, "{seen} refusals");
}

#[test]
fn an_entry_of_a_stranger_is_refused_also_where_no_block_is_in_between() {
    let mut world = World::new();
    assert_eq!(world.say(alarm(1)), "applied");
    let stranger = unbound("stranger", 1, 1).entry;
    let verdict = apply::apply(&world.state, &world.block, &stranger, &stranger.digest());
    assert_eq!(verdict, Err(Reject::NoMember));
}

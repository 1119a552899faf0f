//! Policies: written, proposed, voted by class, activated.

use crate::{
    Body, Class, DerivationPolicy, Lack, PolicyKind, PolicyPart, PolicyStep, document, is_lost, lacking,
    state::{self, ActivePolicy, PolicyBytes, PolicyText, Voter},
    testing::{Said, World, check, digest, org, said},
};
use PolicyStep::{Activated, Proposed, Voted, Written};
use record::{Digest, OrgId, OrgRole};

fn step(name: &str, document: Digest, step: PolicyStep) -> Said {
    said(name, Body::Policy { kind: PolicyKind::Derivation, document, step }).nobody()
}

#[test]
fn a_policy_needs_more_than_two_thirds_each_class_and_its_height() {
    let policy = |name: &str, what| step(name, digest(2), what);
    let mut world = World::new();
    check(
        &mut world,
        [
            (policy("mercy", Voted(true)), "Unknown"),
            (policy("mercy", Activated), "Unknown"),
            (policy("mercy", Proposed(3)), "Height"),
            (policy("mercy", Proposed(13)), "applied"),
            (policy("county", Proposed(13)), "NotNew"),
            (policy("mercy", Voted(true)), "applied"),
            (policy("mercy", Voted(true)), "VotedAlready"),
            (policy("mercy", Voted(false)), "VotedAlready"),
            (policy("county", Voted(true)), "applied"),
            (policy("acme", Voted(true)), "applied"),
            (policy("rescue", Voted(true)), "applied"),
            (policy("mercy", Activated), "Height"),
            // Four of five are in favour, and nobody of the oversight.
            (policy("mercy", Activated), "Votes"),
            (policy("watch", Voted(true)), "applied"),
            (policy("watch", Activated), "applied"),
            (policy("watch", Activated), "Over"),
            (policy("watch", Voted(true)), "Over"),
            (policy("mercy", Proposed(99)), "NotNew"),
        ],
    );
    let active: ActivePolicy = world.get(&state::policy_key(PolicyKind::Derivation)).unwrap();
    assert_eq!(active, ActivePolicy { document: digest(2), height: 15 });
}

#[test]
fn what_cannot_be_carried_any_more_may_be_proposed_again() {
    let policy = |name: &str, what| step(name, digest(2), what);
    check(
        &mut World::new(),
        [
            (policy("mercy", Proposed(100)), "applied"),
            // One of three care providers does not end it.
            (policy("rescue", Voted(false)), "applied"),
            (policy("mercy", Proposed(100)), "NotNew"),
            // The only payer does.
            (policy("acme", Voted(false)), "applied"),
            (policy("mercy", Proposed(100)), "applied"),
            (policy("acme", Voted(true)), "applied"),
        ],
    );
}

fn voters(members: &[(&str, OrgRole)]) -> Vec<Voter> {
    members.iter().map(|(name, role)| Voter { org: org(name), role: *role }).collect()
}

fn names(names: &str) -> Vec<OrgId> {
    names.split_whitespace().map(org).collect()
}

#[test]
fn no_class_changes_a_policy_alone_and_none_of_two_is_without_a_voice() {
    use Class::{Care, Oversight, Payers};
    use Lack::{Members, Of};
    use OrgRole::{Compliance, Ems, Hospital, Insurer};
    let seven = voters(&[
        ("a", Hospital),
        ("b", Hospital),
        ("c", Ems),
        ("d", Hospital),
        ("i", Insurer),
        ("j", Insurer),
        ("w", Compliance),
    ]);
    let check =
        |members: &[Voter], votes: &str, expected: &[Lack]| assert_eq!(lacking(&names(votes), members), expected);
    check(&seven, "", &[Members(5), Of(Care, 2), Of(Payers, 1), Of(Oversight, 1)]);
    check(&seven, "a b c d", &[Members(1), Of(Payers, 1), Of(Oversight, 1)]);
    check(&seven, "a b c d w", &[Of(Payers, 1)]);
    check(&seven, "a i j w", &[Members(1), Of(Care, 1)]);
    check(&seven, "a b c j w", &[]);
    check(&seven, "a b c j stranger w", &[]);
    check(&voters(&[("a", Hospital), ("c", Ems)]), "a", &[Members(1)]);
    check(&voters(&[("a", Hospital), ("c", Ems)]), "a c", &[]);
    check(&voters(&[("a", Hospital)]), "a", &[]);
    let lost = |against: &str| is_lost(&names(against), &seven);
    assert!(!lost("") && !lost("a b") && !lost("i") && lost("i j") && lost("w") && lost("a b c"));
}

fn parts(text: &[u8]) -> (Digest, Vec<PolicyPart>) {
    (document::digest(PolicyKind::Derivation, text), document::parts(PolicyKind::Derivation, text).unwrap())
}

#[test]
fn a_document_is_proposed_when_its_parts_are_there_and_its_digest_names_them() {
    // Two parts: what is missing to the second is a comment.
    let text = format!("{}\n# {}", DerivationPolicy::builtin_text(), "x".repeat(document::POLICY_PART_BYTES));
    let (name, parts) = parts(text.as_bytes());
    let [first, second] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    let writes = |who: &str, part: &PolicyPart| step(who, name, Written(part.clone()));
    let mut bent = second.clone();
    bent.bytes[0] ^= 1;
    let short = PolicyPart { bytes: b"short".to_vec(), ..first.clone() };
    let mut world = World::new();
    check(
        &mut world,
        [
            (step("mercy", name, Proposed(50)), "Unknown"),
            (writes("mercy", second), "Document"),
            (writes("mercy", &short), "Document"),
            (writes("county", first), "applied"),
            // Somebody else's part is no part of one's own.
            (writes("mercy", second), "Document"),
            (writes("mercy", first), "applied"),
            (writes("mercy", &bent), "Document"),
            (writes("mercy", second), "applied"),
            (writes("county", second), "NotNew"),
            (writes("mercy", first), "NotNew"),
            (step("county", name, Proposed(50)), "applied"),
        ],
    );
    let held: PolicyText = world.get(&state::policy_text_key(PolicyKind::Derivation, &name)).unwrap();
    assert_eq!(held, PolicyText { org: org("mercy"), parts: 2 });
    let bytes = (0..2).flat_map(|part| {
        let key = state::policy_part_key(PolicyKind::Derivation, &name, &held.org, part);
        world.get::<PolicyBytes>(&key).unwrap().bytes
    });
    assert_eq!(bytes.collect::<Vec<_>>(), text.as_bytes());
}

#[test]
fn parts_that_are_no_parts_of_a_policy_are_refused() {
    let no_policy = b"version = 2";
    let (name, parts) = parts(no_policy);
    let access = document::digest(PolicyKind::Access, no_policy);
    let cedar = |document| {
        let body = Body::Policy { kind: PolicyKind::Access, document, step: Written(parts[0].clone()) };
        said("mercy", body).nobody()
    };
    let bent = |part, of, length: usize| step("mercy", name, Written(PolicyPart { part, of, bytes: vec![0; length] }));
    check(
        &mut World::new(),
        [
            (step("mercy", name, Written(parts[0].clone())), "Document"),
            (bent(0, 0, 1), "Document"),
            (bent(1, 1, 1), "Document"),
            (bent(0, 1, 0), "Document"),
            (bent(0, 2, document::POLICY_PART_BYTES - 1), "Document"),
            (bent(u32::MAX, u32::MAX, 1), "Document"),
            (bent(31, 33, document::POLICY_PART_BYTES), "Document"),
            // What a Cedar set says is not read in execution.
            (cedar(name), "Document"),
            (cedar(access), "applied"),
        ],
    );
}

//! What holds for every entry: time, policy, and its patient's log.

use crate::{
    AlarmStep, Body, POLICY_GRACE_MS, Parent, PolicyKind, PolicyStep, Priority, merkle,
    state::{self, LogHead},
    testing::{ACCESS_POLICY, Said, World, check, digest, id, pseudonym, said},
};

pub(super) fn alarm(n: u8) -> Said {
    said("mercy", Body::Alarm { id: id(n), step: AlarmStep::Raised, priority: Priority::Low })
}

#[test]
fn late_entries_are_taken_and_early_ones_refused() {
    check(
        &mut World::new(),
        [
            (alarm(1).later(2_000), "applied"),
            (alarm(2).later(2_001), "Ahead"),
            (alarm(3).later(-30 * 24 * 3_600_000), "applied"),
        ],
    );
}

#[test]
fn the_first_entry_under_a_pseudonym_links_to_the_month_before() {
    check(
        &mut World::new(),
        [
            (alarm(1).unlinked(), "MonthMissing"),
            (alarm(1), "applied"),
            (alarm(2).unlinked(), "applied"),
            // Two gateways may both have seen the log empty.
            (alarm(3), "applied"),
            (alarm(4).patient(2).unlinked(), "MonthMissing"),
            (alarm(5).nobody().unlinked(), "applied"),
        ],
    );
}

#[test]
fn a_log_is_the_tree_over_its_applied_entries() {
    let mut world = World::new();
    let mut leaves = Vec::new();
    for (said, applied) in [(alarm(1), true), (alarm(1), false), (alarm(2), true), (alarm(3).patient(2), false)] {
        let Parent { height, time, .. } = world.block.clone();
        let submission = world.submission(said);
        let digest = submission.submission.entries[0].digest();
        let executed = world.execute(&[submission]).unwrap();
        world.commit(executed);
        if applied {
            leaves.push(state::log_leaf(height, time, &digest));
        }
    }
    let head: LogHead = world.get(&state::log_key(&pseudonym(1))).unwrap();
    assert_eq!((head.frontier.size(), head.height), (2, 3));
    assert_eq!(head.frontier.root(), merkle::root(leaves));
    assert_eq!(world.block.log.size(), 4);
}

#[test]
fn a_refused_entry_consumes_its_number_and_touches_nothing_else() {
    let mut world = World::new();
    world.say(alarm(1));
    let submission = world.submission(alarm(1));
    let executed = world.execute(&[submission]).unwrap();
    let lane = state::lane_key(&"mercy".parse().unwrap(), 0);
    assert_eq!(executed.writes.keys().collect::<Vec<_>>(), [&lane]);
    assert_eq!((executed.receipts.len(), executed.log.size()), (1, 2));
}

#[test]
fn what_was_decided_before_a_change_of_policy_is_not_lost() {
    let new = digest(0xbb);
    let step = |name: &str, step| said(name, Body::Policy { kind: PolicyKind::Access, document: new, step }).nobody();
    let mut world = World::new();
    check(
        &mut world,
        [
            (alarm(1).policy(new), "PolicyNotInForce"),
            (step("mercy", PolicyStep::Proposed(6)), "applied"),
            (step("mercy", PolicyStep::Voted(true)), "applied"),
            (step("county", PolicyStep::Voted(true)), "applied"),
            (step("acme", PolicyStep::Voted(true)), "applied"),
            (step("watch", PolicyStep::Voted(true)), "applied"),
            (alarm(1).policy(new), "PolicyNotInForce"),
            (step("acme", PolicyStep::Activated), "applied"),
            (alarm(1).policy(new), "applied"),
            (alarm(2).policy(ACCESS_POLICY), "applied"),
        ],
    );
    world.wait(POLICY_GRACE_MS);
    let early = -i64::try_from(POLICY_GRACE_MS).unwrap();
    check(
        &mut world,
        [
            (alarm(3).policy(ACCESS_POLICY), "PolicyNotInForce"),
            (alarm(3).policy(ACCESS_POLICY).later(early), "applied"),
            (alarm(4).policy(new), "applied"),
        ],
    );
}

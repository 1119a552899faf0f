//! What no sequence of entries may break, tried with random ones.

mod lanes;
mod order;

use crate::{
    AccessAction, AlarmStep, Body, ClaimStep, CustodyStep, DeviceStep, Entry, GrantStep, HandoffStep, InvalidBlock,
    InvestigationStep, Joining, MemberStep, OverrideStep, PolicyKind, PolicyStep, Priority, Reject, Signature,
    SignedSubmission, Submission, merkle,
    state::{
        self, ActivePolicy, Binding, Claim, Custody, DeviceHead, Held, Hold, KeyOwner, LogHead, Membership, Nullifier,
        Organisation, Override, Proposal, RecordHead, Roll, Seat, Succession,
    },
    testing::{
        ACCESS_POLICY, MEMBERS, Said, World, commitment, digest, id, joining, org, pseudonym, public, said, seeded, tag,
    },
};
use proptest::prelude::*;
use record::{Digest, Id16, Purpose, RecordTag, RecordType};
use std::collections::{BTreeMap, BTreeSet};

/// Six dice: kind, organisation, thing, step, patient, luck.
type Dice = [u8; 6];

fn pick<T: Copy>(items: &[T], die: u8) -> T {
    items[usize::from(die) % items.len()]
}

/// An entry about one of few things, so that entries meet; mostly the one that comes next, sometimes nonsense.
fn propose(world: &World, dice: Dice) -> Said {
    let [kind, who, thing, step, patient, luck] = dice;
    let kind = kind % 20;
    let n = thing % 3 + 1;
    let lucky = !luck.is_multiple_of(8);
    // A thing mostly stays with one patient and one organisation, else few stories would come to their end.
    let patient = if patient.is_multiple_of(4) { luck % 3 + 1 } else { n };
    let name = if kind == 4 && !who.is_multiple_of(4) { "rescue" } else { pick(&MEMBERS, who).0 };
    // Whoever left has nothing to say.
    let roll: Roll = world.get(&state::roll_key()).unwrap_or_else(|| founders(world));
    let speaks = roll.members.iter().find(|voter| voter.org.as_str() == name).unwrap_or(&roll.members[0]);
    let name = if who == 7 { roll.members[roll.members.len() - 1].org.as_str() } else { speaks.org.as_str() };
    let until = world.block.time.plus_ms(u64::from(luck) * 1_000);
    let body = match kind {
        0 | 1 => record(world, n, step, lucky),
        2 => Body::Access {
            action: AccessAction::Read,
            set: if luck % 5 == 0 { merkle::root([]) } else { digest(luck) },
            count: u32::from(luck % 5),
            denied: step % 7 == 0,
            under: (luck % 3 == 0).then(|| id(n)),
            audit: if luck % 16 == 0 { tag(n) } else { tag(luck).of_audit(&org(name)) },
            commitment: commitment(luck),
        },
        3 => Body::Grant {
            id: id(n),
            step: pick(&[GrantStep::Issued, GrantStep::Revoked], step),
            consent: commitment(luck),
            until: Some(until),
        },
        4 => {
            let steps = [OverrideStep::Opened(until), OverrideStep::Closed, OverrideStep::Reviewed(true)];
            Body::Override { id: id(n), step: pick(&steps, step), reason: commitment(luck) }
        }
        5 => device(world, n, step, luck),
        6 | 7 => batch(world, n, step, luck),
        8 => {
            let step = pick(&[AlarmStep::Raised, AlarmStep::Acknowledged, AlarmStep::Ended], step);
            Body::Alarm { id: id(n), step, priority: Priority::Medium }
        }
        9 => {
            let step = pick(&[HandoffStep::Offered, HandoffStep::Accepted], step);
            let (from, to) = if step == HandoffStep::Offered { (name, "mercy") } else { ("rescue", name) };
            Body::Handoff { id: id(n), step, from: org(from), to: org(to) }
        }
        10 | 11 => claim(n, step, luck),
        12 => {
            let step = pick(&[InvestigationStep::Opened, InvestigationStep::Concluded], step);
            Body::Investigation { id: id(n), step, document: commitment(luck) }
        }
        13 => {
            use CustodyStep::{Erased, Held, RecoverProposed, RecoverVoted, Recovered, Released};
            let step = pick(&[Held, Released, Erased, RecoverProposed, RecoverVoted, Recovered], step);
            Body::Custody { id: id(n), step, records: digest(luck), count: 1 }
        }
        14 => Body::Analytics { result: tag(n), inputs: digest(luck), model: digest(2), priority: None },
        15 => Body::Link { other: pseudonym(luck % 4), same: step.is_multiple_of(2) },
        16 => {
            let head = world.get::<RecordHead>(&state::record_key(&tag(n)));
            let (version, accepted) = head.map_or((1, commitment(luck)), |head| (head.version, head.commitment));
            Body::Dispute { tag: tag(n), version, accepted, branch: commitment(step % 4) }
        }
        17 => policy(world, thing, step, luck),
        _ => membership(world, name, step, luck),
    };
    let purpose = pick(&[Purpose::BreakGlass, Purpose::Compliance], kind / 12);
    let said = said(name, body).purpose(purpose).actor(luck % 3).patient(patient).lane(u32::from(luck % 2));
    let said = said.later(-i64::from(luck % 4) * 500);
    let said = match &said.entry.body {
        // Votes name the entry that proposed.
        Body::Member { step: MemberStep::JoinProposed(_) | MemberStep::RemovalProposed, .. } => said.id(n),
        _ => said,
    };
    if luck % 16 == 7 { said.nobody() } else { said }
}

fn founders(world: &World) -> Roll {
    Roll { members: world.genesis.members.iter().map(|m| state::Voter { org: m.org.clone(), role: m.role }).collect() }
}

/// The founders come and go, and one that is no founder joins.
fn membership(world: &World, name: &str, step: u8, luck: u8) -> Body {
    let other = pick(&["mercy", "watch", "valley"], luck);
    let (member, step) = match step % 16 {
        0 => (name, MemberStep::Left),
        1 | 2 => (name, MemberStep::EntryKeyRotated(public(luck))),
        3..=5 => (name, MemberStep::Seated(public(luck))),
        6 => (other, MemberStep::RemovalProposed),
        7 => (name, MemberStep::Moved(joining().reach)),
        8 | 9 => {
            let joining = Joining { entry_key: public(luck), consensus_key: public(luck ^ 1), ..joining() };
            (other, MemberStep::JoinProposed(joining))
        }
        _ => {
            let open = (1..=3).find_map(|n| {
                let held = world.get::<Membership>(&state::membership_key(&id(n)))?;
                let fresh = !held.done && !held.votes.contains(&org(name));
                fresh.then_some((held.member, n))
            });
            let (member, n) = open.unwrap_or((org(other), luck));
            return Body::Member { member, step: MemberStep::Voted(id(n), !luck.is_multiple_of(8)) };
        }
    };
    Body::Member { member: org(member), step }
}

fn record(world: &World, n: u8, step: u8, lucky: bool) -> Body {
    let head = world.get::<RecordHead>(&state::record_key(&tag(n)));
    // Nonsense follows the right version by the wrong number.
    let next = if lucky { 1 } else { 2 };
    Body::Record {
        tag: tag(n),
        kind: pick(&RecordType::ALL, step),
        version: head.as_ref().map_or(0, |head| head.version) + next,
        previous: head.map(|head| head.commitment),
        commitment: commitment(step),
        deleted: step.is_multiple_of(5),
        codes: vec![],
        attachments: vec![],
    }
}

fn device(world: &World, n: u8, step: u8, luck: u8) -> Body {
    let bound = world.get::<DeviceHead>(&state::device_key(&digest(n))).and_then(|head| head.binding);
    let key = public(n * 10 + step % 2);
    let step = match (step % 9, bound) {
        (0, bound) => DeviceStep::Revoked(key, bound),
        (1..=4, Some(binding)) => DeviceStep::Unbound(binding),
        _ => DeviceStep::Bound(id(luck), key),
    };
    Body::Device { device: digest(n), step }
}

fn batch(world: &World, n: u8, step: u8, luck: u8) -> Body {
    let bound = world.get::<DeviceHead>(&state::device_key(&digest(n))).and_then(|head| head.binding);
    let binding = bound.unwrap_or(id(n));
    let last = world.get::<Binding>(&state::binding_key(&binding)).map_or(0, |binding| binding.last);
    let (first, count) = (last + u64::from(!luck.is_multiple_of(8)), u32::from(step % 4 + 1));
    let last = first + u64::from(count) - 1;
    Body::Batch { binding, root: digest(luck), count, first, last, gaps: vec![], refused: 0 }
}

/// Mostly the step that brings the other document into force.
fn policy(world: &World, thing: u8, step: u8, luck: u8) -> Body {
    let kind = if thing.is_multiple_of(4) { PolicyKind::Derivation } else { PolicyKind::Access };
    let (first, second) = (if kind == PolicyKind::Access { ACCESS_POLICY } else { digest(0xde) }, digest(0xbb));
    let active = world.get::<ActivePolicy>(&state::policy_key(kind)).map_or(first, |active| active.document);
    let document = if active == first { second } else { first };
    let proposed = PolicyStep::Proposed(world.block.height + u64::from(luck % 4));
    let pending = world.get::<Proposal>(&state::proposal_key(kind, &document)).filter(|held| !held.activated);
    let next = match pending {
        None => proposed,
        Some(held) if held.votes.len() > 3 => PolicyStep::Activated,
        Some(_) => PolicyStep::Voted(step != 1),
    };
    let step = match luck % 8 {
        0 if step.is_multiple_of(2) => PolicyStep::Proposed(world.block.height + u64::from(luck % 4)),
        0 => PolicyStep::Activated,
        _ => next,
    };
    Body::Policy { kind, document, step }
}

fn claim(n: u8, step: u8, luck: u8) -> Body {
    use ClaimStep::{Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted};
    let all = [PreauthorisationRequested, Preauthorised, Submitted, Accepted, Rejected, Paid, Cancelled, Submitted];
    let step = pick(&all, step);
    let services: BTreeSet<Digest> = [digest(luck % 4), digest(luck % 3)].into();
    let services = if step == Submitted { services.into_iter().collect() } else { vec![] };
    Body::Claim { id: id(n), step, insurer: org("acme"), amount: commitment(luck), services }
}

/// Everything that was applied, in order.
#[derive(Default)]
struct History {
    applied: Vec<Entry>,
    refused: Vec<(&'static str, Reject)>,
}

/// Plays the dice in blocks of three entries.
fn play(rolls: &[Dice]) -> (World, History) {
    let (mut world, mut history) = (World::new(), History::default());
    for block in rolls.chunks(3) {
        let mut submissions: Vec<_> = block
            .iter()
            .map(|dice| {
                let proposed = propose(&world, *dice);
                world.submission(proposed)
            })
            .collect();
        let executed = loop {
            match world.execute(&submissions) {
                Ok(executed) => break executed,
                // It left in this very block.
                Err(InvalidBlock::UnknownOrg(left)) => submissions.retain(|signed| {
                    let stays = signed.submission.org != left;
                    if !stays {
                        world.forget(signed);
                    }
                    stays
                }),
                Err(other) => panic!("{other}"),
            }
        };
        if submissions.is_empty() {
            continue;
        }
        for (signed, receipt) in submissions.iter().zip(&executed.receipts) {
            let entry = &signed.submission.entries[0];
            match receipt.refused {
                None => history.applied.push(entry.clone()),
                Some(reject) => history.refused.push((entry.kind(), reject)),
            }
        }
        world.commit(executed);
        // What is in a final block is not taken again.
        let again = world.execute(&submissions);
        assert!(again.is_err(), "{again:?}");
    }
    (world, history)
}

fn all_invariants_hold(world: &World, history: &History) {
    logs_count_what_was_applied(world, history);
    versions_are_contiguous(world, history);
    unreviewed_overrides_are_counted(world);
    services_are_billed_by_one_claim(world, history);
    frames_are_counted_once(history);
    devices_have_one_patient(world);
    holds_are_counted(world);
    one_policy_of_each_kind_is_in_force(world);
    somebody_can_decide(world);
}

/// The set of every epoch that is settled is not empty, is of members' keys as they stand or stood, and of those in it as many decided the
/// epoch before as are a quorum of it.
fn somebody_can_decide(world: &World) {
    let succession: Succession = world.get(&state::succession_key()).unwrap();
    assert!((1..=3).contains(&succession.sets().len()));
    let now = succession.epoch(world.block.height);
    for epoch in now..now + 3 {
        let (before, keys) = (succession.keys(epoch.saturating_sub(1)), succession.keys(epoch));
        let kept = keys.iter().filter(|key| before.contains(key)).count();
        let quorum = keys.len() - (keys.len() - 1) / 3;
        assert!(!keys.is_empty() && (kept >= quorum || (keys.len() < 4 && kept + 1 >= keys.len())), "epoch {epoch}");
        for key in keys {
            assert!(world.get::<KeyOwner>(&state::key_owner_key(key)).unwrap().from.is_some());
        }
    }
    let roll: Roll = world.get(&state::roll_key()).unwrap();
    for state::Voter { org, .. } in &roll.members {
        let seat: Seat = world.get(&state::seat_key(org)).unwrap();
        let sits = succession.keys(now + 2).contains(&seat.consensus_key);
        assert!(seat.left_at.is_none() && sits == seat.consensus_from.is_some(), "{org}");
    }
}

fn logs_count_what_was_applied(world: &World, history: &History) {
    let mut expected: BTreeMap<u8, u64> = BTreeMap::new();
    for n in 1..=3 {
        let filed = history.applied.iter().filter(|entry| entry.patient == Some(pseudonym(n))).count();
        expected.insert(n, filed as u64);
    }
    for (n, count) in expected {
        let size = world.get::<LogHead>(&state::log_key(&pseudonym(n))).map_or(0, |head| head.frontier.size());
        assert_eq!(size, count, "patient {n}");
    }
    assert_eq!(world.block.log.size(), (history.applied.len() + history.refused.len()) as u64);
}

fn versions_are_contiguous(world: &World, history: &History) {
    let mut versions: BTreeMap<RecordTag, Vec<u64>> = BTreeMap::new();
    for entry in &history.applied {
        match &entry.body {
            Body::Record { tag, version, .. } => versions.entry(*tag).or_default().push(*version),
            Body::Access { audit, .. } => assert!(audit.is_audit()),
            _ => {}
        }
    }
    for (tag, versions) in versions {
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
        assert_eq!(world.get::<RecordHead>(&state::record_key(&tag)).unwrap().version, versions.len() as u64);
    }
}

fn unreviewed_overrides_are_counted(world: &World) {
    let overrides: Vec<Override> = (1..=3).filter_map(|n| world.get(&state::override_key(&id(n)))).collect();
    for (name, _) in MEMBERS {
        let open = overrides.iter().filter(|held| held.org == org(name) && held.reviewed.is_none()).count();
        let Organisation { unreviewed, .. } = world.organisation(name);
        assert_eq!(unreviewed, open as u64, "{name}");
    }
}

fn services_are_billed_by_one_claim(world: &World, history: &History) {
    let mut billed: BTreeMap<Digest, Id16> = BTreeMap::new();
    for entry in &history.applied {
        let Body::Claim { id, services, .. } = &entry.body else { continue };
        for service in services {
            assert_eq!(billed.entry(*service).or_insert(*id), id);
            assert_eq!(world.get::<Nullifier>(&state::nullifier_key(service)).unwrap().claim, *id);
        }
        assert!(world.get::<Claim>(&state::claim_key(id)).is_some());
    }
}

fn frames_are_counted_once(history: &History) {
    let mut last: BTreeMap<Id16, u64> = BTreeMap::new();
    for entry in &history.applied {
        let Body::Batch { binding, first, last: end, .. } = &entry.body else { continue };
        let before = last.insert(*binding, *end).unwrap_or(0);
        assert!(before < *first && first <= end);
    }
}

fn devices_have_one_patient(world: &World) {
    for n in 1..=3 {
        let Some(head) = world.get::<DeviceHead>(&state::device_key(&digest(n))) else { continue };
        let open: Vec<Id16> = (0..=255)
            .map(id)
            .filter(|id| {
                let binding = world.get::<Binding>(&state::binding_key(id));
                binding.is_some_and(|binding| binding.device == digest(n) && binding.until.is_none())
            })
            .collect();
        assert_eq!(open, head.binding.into_iter().collect::<Vec<_>>());
    }
}

fn holds_are_counted(world: &World) {
    let held = |n: u8| {
        let custody = world.get::<Custody>(&state::custody_key(&id(n)));
        let open = custody.is_some_and(|custody| custody.step == CustodyStep::Held);
        world.get::<Held>(&state::held_key(&id(n))).filter(|_| open).map(|held| held.patient)
    };
    for patient in (1..=3).map(pseudonym) {
        let open = (1..=3).filter(|n| held(*n) == Some(patient)).count();
        let counted = world.get::<Hold>(&state::hold_key(&patient)).map_or(0, |hold| hold.open);
        assert_eq!(counted as usize, open, "{patient:?}");
    }
}

fn one_policy_of_each_kind_is_in_force(world: &World) {
    for kind in [PolicyKind::Access, PolicyKind::Derivation] {
        let active: ActivePolicy = world.get(&state::policy_key(kind)).unwrap();
        for document in [ACCESS_POLICY, digest(0xbb), digest(0xde)] {
            let term = world.get::<state::PolicyTerm>(&state::policy_term_key(kind, &document));
            let in_force = term.is_some_and(|term| term.until.is_none());
            assert_eq!(in_force, document == active.document, "{kind:?} {document}");
        }
    }
}

proptest! {
    #![proptest_config(seeded(256))]

    #[test]
    fn no_sequence_of_entries_breaks_an_invariant(rolls in prop::collection::vec(any::<Dice>(), 1..200)) {
        let (world, history) = play(&rolls);
        all_invariants_hold(&world, &history);
    }
}

/// Games of 200 dice by the generator of Knuth's MMIX: fixed, so that what is said of them never changes.
fn games() -> Vec<Vec<Dice>> {
    let mut dice = 1u64;
    let rolls: Vec<Dice> = (0..12_000)
        .map(|_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice.to_be_bytes()[..6].try_into().unwrap()
        })
        .collect();
    rolls.chunks(200).map(<[Dice]>::to_vec).collect()
}

/// Every refusal in the games, with the kind of the entry.
pub(crate) fn refusals() -> Vec<(&'static str, Reject)> {
    games().iter().flat_map(|game| play(game).1.refused).collect()
}

#[test]
fn the_dice_reach_every_kind_and_both_verdicts() {
    let (mut kinds, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let (mut reviewed, mut later_versions, mut activated) = (0, 0, 0);
    let (mut joined, mut left, mut seated) = (0, 0, 0);
    for game in games() {
        let (world, history) = play(&game);
        all_invariants_hold(&world, &history);
        joined += u32::from(world.get::<Organisation>(&state::organisation_key(&org("valley"))).is_some());
        left += world.get::<Roll>(&state::roll_key()).map_or(0, |roll| usize::from(roll.members.len() < 5));
        seated +=
            world.get::<Succession>(&state::succession_key()).map_or(0, |held| usize::from(held.sets().len() > 1));
        for entry in &history.applied {
            kinds.insert(entry.kind());
            match entry.body {
                Body::Override { step: OverrideStep::Reviewed(_), .. } => reviewed += 1,
                Body::Record { version: 3.., .. } => later_versions += 1,
                Body::Policy { step: PolicyStep::Activated, .. } => activated += 1,
                _ => {}
            }
        }
        refused.extend(history.refused.iter().map(|(_, reason)| reason.code()));
    }
    let all = [
        "access",
        "alarm",
        "analytics",
        "batch",
        "claim",
        "custody",
        "device",
        "dispute",
        "grant",
        "handoff",
        "investigation",
        "link",
        "member",
        "override",
        "policy",
        "record",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    let rare = [reviewed, later_versions, activated];
    assert!(rare.iter().all(|times| *times > 0), "reviews, later versions, activations: {rare:?}");
    assert!(joined > 0 && left > 0 && seated > 0, "joined {joined}, left {left}, changed its validators {seated}");
    use Reject::{BilledBefore, Counter, DeviceBound, Held, NotNew, OtherPatient, OwnReview, Role, StillOpen, Version};
    for reason in [BilledBefore, Counter, DeviceBound, Held, NotNew, OtherPatient, OwnReview, Role, StillOpen, Version]
    {
        assert!(refused.contains(&reason.code()), "never refused for {reason:?}");
    }
}

#[test]
fn a_stranger_or_a_gap_makes_the_block_invalid() {
    let mut world = World::new();
    let alarm = || said("mercy", Body::Alarm { id: id(1), step: AlarmStep::Raised, priority: Priority::Low });
    let submission = world.submission(alarm()).submission.clone();
    let stranger = SignedSubmission::new(Submission { org: org("stranger"), ..submission }, Signature([0; 64]));
    assert_eq!(world.execute(&[stranger]), Err(InvalidBlock::UnknownOrg(org("stranger"))));
    let gap = world.submission(alarm());
    let expected = InvalidBlock::OutOfOrder { org: org("mercy"), lane: 0, expected: 1, got: 2 };
    assert_eq!(world.execute(&[gap]), Err(expected));
}

//! What the mempool takes, in which order it gives, and what it lets go of.

use super::*;
use contract::{
    AccessAction, Attachment, AttachmentKind, CUSTODIANS_MIN, Entry, GENESIS_VERSION, Header, Holding, Member,
    MemberStep, Submission, merkle::Frontier,
};
use ed25519_dalek::SigningKey;
use record::{Commitment, Id16, OrgRole, Purpose, RecordTag, RecordType, TimeMs};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from(key.verifying_key().to_bytes())
}

fn genesis() -> Genesis {
    let member = |name: &str, seed: u8| Member {
        org: name.parse().unwrap(),
        role: OrgRole::Hospital,
        entry_key: public(&key(seed)),
        consensus_key: public(&key(seed + 100)),
        wrap_key: String::new(),
        address: "127.0.0.1:1".into(),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".into(),
        time: TimeMs(0),
        members: vec![member("a", 1), member("b", 2)],
        access_policy: Digest([0; 32]),
        derivation_policy: Digest([0; 32]),
        epoch_blocks: contract::EPOCH_BLOCKS_DEFAULT,
    }
}

fn entry(org: &str, salt: u8, body: Option<Body>) -> Entry {
    let body = body.unwrap_or(Body::Access {
        action: AccessAction::Read,
        set: Digest([salt; 32]),
        count: 1,
        denied: false,
        under: None,
        audit: RecordTag(Digest([salt; 32])),
        commitment: Commitment(Digest([salt; 32])),
    });
    Entry {
        id: Id16([salt; 16]),
        org: org.parse().unwrap(),
        time: TimeMs(0),
        purpose: Purpose::ALL[0],
        policy: Digest([0; 32]),
        actor: Digest([0; 32]),
        patient: None,
        month: None,
        body,
    }
}

/// `a1:5+3` is lane 1 of `a`, entries 5 to 7; a further letter makes another content.
fn submission(text: &str) -> SignedSubmission {
    let (org, rest) = text.split_at(1);
    let (lane, rest) = rest.split_once(':').unwrap();
    let (first, rest) = rest.split_once('+').unwrap();
    let salt = rest.bytes().last().unwrap();
    let count: u64 = rest.trim_end_matches(char::is_alphabetic).parse().unwrap();
    let entries = (0..count).map(|_| entry(org, salt, None)).collect();
    sign(org, lane.parse().unwrap(), first.parse().unwrap(), entries)
}

fn sign(org: &str, lane: u32, first_seq: u64, entries: Vec<Entry>) -> SignedSubmission {
    let key = key(if org == "a" { 1 } else { 2 });
    Submission { chain: genesis().id(), org: org.parse().unwrap(), lane, first_seq, entries }.sign(&key)
}

fn admit(mempool: &Mempool, signed: SignedSubmission) -> Result<Accepted, SubmitError> {
    mempool.admit(signed, true)
}

fn name(signed: &SignedSubmission) -> String {
    let Submission { org, lane, first_seq, entries, .. } = &signed.submission;
    format!("{org}{lane}:{first_seq}+{}", entries.len())
}

fn block(height: u64, submissions: Vec<SignedSubmission>) -> Block {
    let zero = Digest([0; 32]);
    let header = Header {
        version: 1,
        chain: zero,
        epoch: 0,
        view: height,
        leader: public(&key(1)),
        parent_view: 0,
        parent: zero,
        height,
        time: TimeMs(height),
        entry_count: 0,
        body: zero,
        log_size: 0,
        log_root: zero,
        state_root: zero,
        ops_root: zero,
        ops_start: 0,
        ops_end: 1,
        validators: zero,
        next_validators: zero,
    };
    Block { header, frontier: Frontier::default(), submissions, holdings: Vec::new() }
}

fn select(mempool: &Mempool, at: &[(&str, u32, u64)], entries_max: usize) -> String {
    let lane = |(org, lane, seq): &(&str, u32, u64)| LaneAt {
        lane: (org.parse().unwrap(), *lane),
        seq: *seq,
        key: public(&key(if *org == "a" { 1 } else { 2 })),
    };
    let lanes: Vec<LaneAt> = at.iter().map(lane).collect();
    let selected = mempool.select(&lanes, Some(&Custodians::founding(&genesis())), 1 << 20, entries_max);
    selected.iter().map(|chosen| name(&chosen.pending.signed)).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_submission_meets_its_answer() {
    let (mempool, _news) = Mempool::new(&genesis());
    let check = |text: &str, expected: &str| {
        let answer = match admit(&mempool, submission(text)) {
            Ok(accepted) => format!("{accepted:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(answer, expected, "{text}");
    };
    check("a1:1+3", "New");
    check("a1:1+3", "Pending");
    check("a1:1+3x", "`a` lane 1 has another submission at sequence number 1");
    check("a1:3+1", "`a` lane 1 has another submission at sequence number 3");
    check("a1:6+2", "New");
    check("a1:5+2", "`a` lane 1 has another submission at sequence number 6");
    check("a1:4+2", "New");
    check("b1:1+1", "New");
    check("a1:9000000+1", "`a` lane 1 is at 0: 9000000 is too far ahead");
    mempool.finalize(&block(1, vec![submission("a1:1+3")]));
    check("a1:1+3", "Final");
    check("a1:2+1", "Final");
    check("a1:3+4", "`a` lane 1 has another submission at sequence number 3");
    assert_eq!(mempool.size().0, 3);
}

#[test]
fn a_bad_signature_or_a_stranger_is_refused() {
    let (mempool, _news) = Mempool::new(&genesis());
    let good = submission("a1:1+1");
    let mut signature = good.signature;
    signature.0[0] ^= 1;
    let forged = SignedSubmission::new(good.submission.clone(), signature);
    assert!(matches!(admit(&mempool, forged), Err(SubmitError::Invalid(SubmissionError::BadSignature { .. }))));
    let stranger = Submission {
        chain: genesis().id(),
        org: "c".parse().unwrap(),
        lane: 1,
        first_seq: 1,
        entries: vec![entry("c", 1, None)],
    };
    let refused = admit(&mempool, stranger.sign(&key(3)));
    assert!(matches!(refused, Err(SubmitError::Invalid(SubmissionError::UnknownOrg { .. }))));
    assert_eq!(mempool.size(), (0, 0));
}

#[test]
fn lanes_take_turns_and_stay_in_order() {
    let (mempool, _news) = Mempool::new(&genesis());
    for text in ["a1:1+1", "a1:2+1", "a1:4+1", "a2:1+2", "b1:1+1", "b1:2+1"] {
        admit(&mempool, submission(text)).unwrap();
    }
    let start = [("a", 1, 0), ("a", 2, 0), ("b", 1, 0)];
    assert_eq!(select(&mempool, &start, 100), "a1:1+1 a2:1+2 b1:1+1 a1:2+1 b1:2+1");
    assert_eq!(select(&mempool, &start, 4), "a1:1+1 a2:1+2 b1:1+1");
    assert_eq!(select(&mempool, &[("a", 1, 3), ("b", 1, 1)], 100), "a1:4+1 b1:2+1");
}

#[test]
fn what_is_in_a_block_about_to_be_final_does_not_hurry_the_next() {
    let (mempool, _news) = Mempool::new(&genesis());
    admit(&mempool, submission("a1:1+1")).unwrap();
    assert!(mempool.has_fresh());
    mempool.saw(&block(5, vec![submission("a1:1+1")]));
    assert!(!mempool.has_fresh());
    admit(&mempool, submission("a1:2+1")).unwrap();
    assert!(mempool.has_fresh());
    // Another block became final at that height: what was seen in the orphan waits again.
    mempool.finalize(&block(5, vec![]));
    assert!(mempool.has_fresh());
    mempool.finalize(&block(6, vec![submission("a1:1+1"), submission("a1:2+1")]));
    assert!(!mempool.has_fresh());
    assert_eq!(mempool.size(), (0, 0));
}

#[test]
fn a_gap_is_told_and_filled() {
    let (mempool, _news) = Mempool::new(&genesis());
    admit(&mempool, submission("a1:5+1")).unwrap();
    assert!(!mempool.has_fresh());
    let org: OrgId = "a".parse().unwrap();
    assert_eq!(mempool.gaps(9), vec![(org.clone(), 1, 1, 5)]);
    let (peer, _news) = Mempool::new(&genesis());
    for text in ["a1:1+2", "a1:3+2", "a1:5+1"] {
        admit(&peer, submission(text)).unwrap();
    }
    let sent: Vec<String> = peer.between(&org, 1, 1, 5, 1 << 20).iter().map(|p| name(&p.signed)).collect();
    assert_eq!(sent, ["a1:1+2", "a1:3+2"]);
    assert!(peer.between(&org, 1, 5, 1, 1 << 20).is_empty());
}

#[test]
fn own_submissions_are_told_again_less_and_less_often() {
    let (mempool, _news) = Mempool::new(&genesis());
    admit(&mempool, submission("a1:1+1")).unwrap();
    let other = submission("b1:1+1");
    mempool.admit(other, false).unwrap();
    let rounds: Vec<usize> = (0..40).filter(|_| !mempool.overdue(1 << 20).is_empty()).collect();
    assert_eq!(rounds, [1, 2, 4, 8, 16, 32]);
}

#[test]
fn a_changed_member_must_be_read_again() {
    let (mempool, _news) = Mempool::new(&genesis());
    admit(&mempool, submission("b1:1+1")).unwrap();
    let member: OrgId = "b".parse().unwrap();
    let rotated = Body::Member { member: member.clone(), step: MemberStep::Left };
    mempool.finalize(&block(1, vec![sign("a", 1, 1, vec![entry("a", 1, Some(rotated))])]));
    assert_eq!(mempool.size().0, 0);
    let again = submission("b1:1+1");
    assert!(mempool.unknown([&again]).contains(&Unknown::Member(member.clone(), 1)));
    mempool.learn(vec![Unknown::Member(member, 1)], vec![None]);
    assert!(admit(&mempool, again).is_err());
}

/// What was read from the state before a member changed its key could be learned after: the node refused what the member signed from then
/// on, until it was restarted.
#[test]
fn a_key_that_was_read_before_it_changed_is_not_learned_after() {
    let (mempool, _news) = Mempool::new(&genesis());
    let member: OrgId = "b".parse().unwrap();
    let organisation = |seed: u8| {
        let entry_key = public(&key(seed));
        contract::to_cbor(&Organisation { role: OrgRole::Hospital, entry_key, left: false, unreviewed: 0 })
    };
    let rotates = |seq: u64, new: u8| {
        let step = MemberStep::EntryKeyRotated(public(&key(new)));
        let body = Body::Member { member: member.clone(), step };
        block(seq, vec![sign("b", 1, seq, vec![entry("b", 1, Some(body))])])
    };
    mempool.finalize(&rotates(1, 7));
    let by_seed = |seed: u8| {
        let org = member.clone();
        let entries = vec![entry("b", 3, None)];
        Submission { chain: genesis().id(), org, lane: 1, first_seq: 3, entries }.sign(&key(seed))
    };
    let read = mempool.unknown([&by_seed(7)]);
    mempool.finalize(&rotates(2, 8));
    mempool.learn(read, vec![Some(organisation(7))]);
    assert!(matches!(admit(&mempool, by_seed(7)), Err(SubmitError::Invalid(SubmissionError::UnknownOrg { .. }))));
    mempool.learn(mempool.unknown([&by_seed(8)]), vec![Some(organisation(8))]);
    let refused = admit(&mempool, by_seed(7)).map_err(|error| error.to_string());
    assert_eq!(refused, Err("the signature of `b` does not hold".to_owned()));
    assert_eq!(admit(&mempool, by_seed(8)), Ok(Accepted::New));
}

/// A node that was started again took the founders' keys for those that count: it refused what a member with another key signed.
#[test]
fn keys_are_those_of_the_state_that_a_node_starts_with_and_older_news_is_none() {
    let (mempool, _news) = Mempool::new(&genesis());
    let member: OrgId = "b".parse().unwrap();
    let by = |seed: u8| {
        let entries = vec![entry("b", seed, None)];
        Submission { chain: genesis().id(), org: member.clone(), lane: 1, first_seq: 1, entries }.sign(&key(seed))
    };
    let keys =
        |seed: u8| HashMap::from([("a".parse().unwrap(), public(&key(1))), (member.clone(), public(&key(seed)))]);
    admit(&mempool, by(2)).unwrap();
    admit(&mempool, submission("a1:1+1")).unwrap();
    mempool.set_members(keys(7), 0);
    assert_eq!(mempool.size().0, 1, "what holds by the founder's key waits no more");
    assert!(admit(&mempool, by(2)).is_err());
    assert_eq!(admit(&mempool, by(7)), Ok(Accepted::New));
    // The key changes, and somebody has read it before.
    let step = MemberStep::EntryKeyRotated(public(&key(8)));
    let body = Body::Member { member: member.clone(), step };
    mempool.finalize(&block(1, vec![sign("b", 2, 1, vec![entry("b", 1, Some(body))])]));
    mempool.set_members(keys(7), 0);
    assert!(!mempool.pool().members.contains_key(&member));
    mempool.set_members(keys(8), mempool.changes());
    assert_eq!(admit(&mempool, by(8)), Ok(Accepted::New));
}

#[test]
fn one_member_cannot_crowd_out_another() {
    let (mut mempool, _news) = Mempool::new(&genesis());
    mempool.submissions_max = 4;
    for text in ["a1:1+1", "a1:2+1"] {
        admit(&mempool, submission(text)).unwrap();
    }
    assert!(matches!(admit(&mempool, submission("a1:3+1")), Err(SubmitError::Full { .. })));
    assert_eq!(admit(&mempool, submission("b1:1+1")), Ok(Accepted::New));
}

/// The founders had shares that never changed: with every member that joined, more could wait than there is room for.
#[test]
fn the_room_is_shared_between_the_members_that_there_are_and_never_becomes_more() {
    let (mut mempool, _news) = Mempool::new(&genesis());
    mempool.submissions_max = 12;
    let roll = |names: &str| {
        let member = |name: char| (name.to_string().parse().unwrap(), public(&key(if name == 'a' { 1 } else { 2 })));
        names.chars().map(member).collect()
    };
    let mut lanes = 0..;
    let mut room = |mempool: &Mempool, org: &str| {
        let mut taken = 0;
        loop {
            let entries = vec![entry(org, 1, None)];
            match admit(mempool, sign(org, lanes.next().unwrap(), 1, entries)) {
                Ok(accepted) => assert_eq!(accepted, Accepted::New),
                Err(error) => break assert_eq!(error, SubmitError::Full { org: org.parse().unwrap() }),
            }
            taken += 1;
        }
        taken
    };
    assert_eq!(room(&mempool, "a"), 6);
    mempool.set_members(roll("abcd"), 0);
    // Who joined has as much as the others; one that has more than its share keeps it and gets no more.
    assert_eq!(["a", "b", "c", "d"].map(|org| room(&mempool, org)), [0, 3, 3, 3]);
    mempool.finalize(&block(1, vec![sign("a", 0, 1, vec![entry("a", 1, None)])]));
    assert_eq!(room(&mempool, "a"), 0);
    assert_eq!(mempool.size().0, 5 + 9);
    // Two left, of whom nothing waits any more.
    for org in ["c", "d"] {
        mempool.pool().forget(&org.parse().unwrap());
    }
    mempool.set_members(roll("ab"), 0);
    assert_eq!(["a", "b"].map(|org| room(&mempool, org)), [1, 3]);
    assert_eq!(mempool.size().0, 12);
    assert_eq!(mempool.pool().shares.len(), 2);
}

/// A submission of one entry that names one attachment.
fn naming(org: &str, lane: u32, seq: u64) -> SignedSubmission {
    let salt = seq as u8;
    let body = Body::Record {
        tag: RecordTag(Digest([salt; 32])),
        kind: RecordType::Permission,
        version: 1,
        previous: None,
        commitment: Commitment(Digest([salt; 32])),
        deleted: false,
        codes: Vec::new(),
        attachments: vec![Attachment { digest: Digest([salt; 32]), length: 1, kind: AttachmentKind::EssentialCopy }],
    };
    sign(org, lane, seq, vec![entry(org, salt, Some(body))])
}

fn receipt(signed: &SignedSubmission, by: &str) -> Holding {
    let key = key(if by == "a" { 1 } else { 2 });
    Holding::sign(&genesis().id(), &signed.digest(), by.parse().unwrap(), &key)
}

/// Tells the mempool of a custodian's receipt, by the custodian itself.
fn hold(mempool: &Mempool, signed: &SignedSubmission, by: &str) {
    mempool.hold(&signed.digest(), receipt(signed, by), true).unwrap();
}

#[test]
fn what_names_attachments_waits_for_two_receipts_and_its_lane_with_it_and_no_other() {
    let (mempool, _news) = Mempool::new(&genesis());
    let named = naming("a", 1, 2);
    for signed in
        [submission("a1:1+1"), named.clone(), submission("a1:3+1"), submission("a2:1+1"), submission("b1:1+1")]
    {
        admit(&mempool, signed).unwrap();
    }
    let start = [("a", 1, 0), ("a", 2, 0), ("b", 1, 0)];
    assert_eq!(select(&mempool, &start, 100), "a1:1+1 a2:1+1 b1:1+1");
    assert_eq!(mempool.held_up(), (1, 2));
    hold(&mempool, &named, "b");
    hold(&mempool, &named, "b");
    assert_eq!(select(&mempool, &start, 100), "a1:1+1 a2:1+1 b1:1+1");
    hold(&mempool, &named, "a");
    assert_eq!(select(&mempool, &start, 100), "a1:1+1 a2:1+1 b1:1+1 a1:2+1 a1:3+1");
    assert_eq!(mempool.held_up(), (0, 2));
    // A block shows them sorted, whoever came first.
    let at = LaneAt { lane: ("a".parse().unwrap(), 1), seq: 1, key: public(&key(1)) };
    let chosen = mempool.select(&[at], Some(&Custodians::founding(&genesis())), 1 << 20, 1);
    assert_eq!(chosen[0].holdings, Some(vec![receipt(&named, "a"), receipt(&named, "b")]));
    // Without knowing who may hold, nothing that needs it is chosen.
    let at = LaneAt { lane: ("a".parse().unwrap(), 1), seq: 1, key: public(&key(1)) };
    assert!(mempool.select(&[at], None, 1 << 20, 100).is_empty());
}

#[test]
fn what_lacks_receipts_neither_hurries_a_block_nor_takes_another_lanes_place_in_it() {
    let (mempool, _news) = Mempool::new(&genesis());
    let named = naming("a", 1, 1);
    admit(&mempool, named.clone()).unwrap();
    // A gap does neither.
    admit(&mempool, submission("a2:2+1")).unwrap();
    assert!(!mempool.has_fresh());
    admit(&mempool, submission("b1:1+1")).unwrap();
    assert!(mempool.has_fresh());
    assert_eq!(mempool.live_lanes(1), [("b".parse().unwrap(), 1)]);
    let fresh = mempool.fresh();
    hold(&mempool, &named, "a");
    assert!(!fresh.has_changed().unwrap());
    hold(&mempool, &named, "b");
    assert!(fresh.has_changed().unwrap());
    assert_eq!(mempool.live_lanes(1), [("a".parse().unwrap(), 1)]);
}

#[test]
fn receipts_that_come_before_their_submission_are_kept_and_checked_then() {
    let (mempool, _news) = Mempool::new(&genesis());
    let named = naming("a", 1, 1);
    hold(&mempool, &named, "a");
    // Another peer's word of `b` is not kept before it can be checked, and a forged one by `b` itself falls when it is.
    mempool.hold(&named.digest(), receipt(&named, "b"), false).unwrap();
    let forged = Holding { custodian: "b".parse().unwrap(), ..receipt(&named, "a") };
    mempool.hold(&named.digest(), forged, true).unwrap();
    admit(&mempool, named.clone()).unwrap();
    assert_eq!(mempool.holdings_of(&named.digest()), [receipt(&named, "a")]);
    mempool.hold(&named.digest(), receipt(&named, "b"), false).unwrap();
    assert_eq!(select(&mempool, &[("a", 1, 0)], 9), "a1:1+1");
}

#[test]
fn receipts_that_do_not_hold_or_are_nobodys_are_not_taken() {
    let (mempool, _news) = Mempool::new(&genesis());
    let (named, other) = (naming("a", 1, 1), naming("a", 1, 2));
    admit(&mempool, named.clone()).unwrap();
    let of_another = receipt(&other, "b");
    assert!(mempool.hold(&named.digest(), of_another, true).is_err());
    let stranger = Holding { custodian: "c".parse().unwrap(), ..receipt(&named, "a") };
    assert_eq!(mempool.hold(&named.digest(), stranger, true), Ok(()));
    assert!(mempool.holdings_of(&named.digest()).is_empty());
    let known = |by: &str| mempool.knows(&named, &receipt(&named, by), &public(&key(if by == "a" { 1 } else { 2 })));
    hold(&mempool, &named, "a");
    assert!(known("a") && !known("b"));
    assert!(!mempool.knows(&named, &receipt(&named, "a"), &public(&key(9))), "by another key it was not checked");
}

#[test]
fn receipts_of_who_is_no_custodian_any_more_count_no_more() {
    let (mempool, _news) = Mempool::new(&genesis());
    let named = naming("a", 1, 1);
    admit(&mempool, named.clone()).unwrap();
    hold(&mempool, &named, "a");
    hold(&mempool, &named, "b");
    assert!(mempool.has_fresh());
    // `b` goes by another key now, and a third hospital came.
    let mut members = genesis();
    members.members[1].entry_key = public(&key(7));
    let third = Member { org: "c".parse().unwrap(), entry_key: public(&key(3)), ..members.members[0].clone() };
    members.members.push(third);
    mempool.set_custodians(Custodians::founding(&members));
    assert!(!mempool.has_fresh());
    assert_eq!(mempool.held_up(), (1, 3));
    let of_third = Holding::sign(&genesis().id(), &named.digest(), "c".parse().unwrap(), &key(3));
    mempool.hold(&named.digest(), of_third, true).unwrap();
    assert!(mempool.has_fresh());
    // Where one is left, one is enough; where nobody may hold, nobody must.
    for left in [1, 0] {
        let mut members = genesis();
        members.members.truncate(left);
        if left == 0 {
            members.members = vec![Member { role: OrgRole::Insurer, ..genesis().members.remove(0) }];
        }
        mempool.set_custodians(Custodians::founding(&members));
        assert_eq!((mempool.held_up(), mempool.has_fresh()), ((0, left), true));
    }
}

#[test]
fn receipts_that_lack_are_asked_for_less_and_less_often_and_every_member_has_its_share() {
    let (mempool, _news) = Mempool::new(&genesis());
    let named = naming("a", 1, 1);
    admit(&mempool, named.clone()).unwrap();
    let rounds: Vec<usize> = (0..40).filter(|_| !mempool.unheld().is_empty()).collect();
    assert_eq!(rounds, [1, 2, 4, 8, 16, 32]);
    hold(&mempool, &named, "a");
    hold(&mempool, &named, "b");
    assert!((0..40).all(|_| mempool.unheld().is_empty()));

    // One member announces much that it hands over to nobody; what another one lacks is asked for all the same.
    let (mempool, _news) = Mempool::new(&genesis());
    for lane in 1..=10 {
        for seq in 1..=100 {
            admit(&mempool, naming("a", lane, seq)).unwrap();
        }
    }
    admit(&mempool, naming("b", 1, 1)).unwrap();
    mempool.unheld();
    let asked = mempool.unheld();
    assert!(asked.contains(&naming("b", 1, 1).digest()));
    assert!(asked.len() <= UNHELD_MAX && asked.len() > UNHELD_MAX / CUSTODIANS_MIN);
}

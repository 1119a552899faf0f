//! What a custodian signs for, what it asks for, and what it takes from peers.

use super::*;
use crate::{
    attachments::{Outgoing, Ways},
    mempool::{Mempool, News, UNHELD_MAX},
    peers::Peers,
    vault::{SqliteVault, Vault},
};
use bytes::Bytes;
use contract::{
    Attachment, AttachmentKind, Body, Custodians, Entry, GENESIS_VERSION, Genesis, Member, SignedSubmission,
    Submission,
    state::{Organisation, Roll, Voter, organisation_key},
};
use ed25519_dalek::SigningKey;
use futures::executor::block_on;
use record::{Commitment, Id16, OrgRole, Purpose, RecordTag, RecordType, TimeMs, sha256};
use std::path::Path;
use tokio::sync::mpsc;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    key(seed).verifying_key().to_bytes().into()
}

/// `a` and `b` may hold, `c` is an insurer.
fn genesis() -> Genesis {
    let member = |name: &str, seed: u8, role| Member {
        org: name.parse().unwrap(),
        role,
        entry_key: public(seed),
        consensus_key: public(seed + 100),
        wrap_key: String::new(),
        address: "127.0.0.1:1".into(),
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".into(),
        time: TimeMs(0),
        members: vec![
            member("a", 1, OrgRole::Hospital),
            member("b", 2, OrgRole::Ems),
            member("c", 3, OrgRole::Insurer),
        ],
        access_policy: Digest([0; 32]),
        derivation_policy: Digest([0; 32]),
        epoch_blocks: contract::EPOCH_BLOCKS_DEFAULT,
    }
}

/// A submission of the insurer that names these bytes.
fn naming(seq: u64, bodies: &[&[u8]]) -> SignedSubmission {
    let attachment = |body: &&[u8]| Attachment {
        digest: sha256(&[body]),
        length: body.len() as u32,
        kind: AttachmentKind::EssentialCopy,
    };
    let entry = Entry {
        id: Id16([seq as u8; 16]),
        org: "c".parse().unwrap(),
        time: TimeMs(0),
        purpose: Purpose::ALL[0],
        policy: Digest([0; 32]),
        actor: Digest([0; 32]),
        patient: None,
        month: None,
        body: Body::Record {
            tag: RecordTag(Digest([seq as u8; 32])),
            kind: RecordType::Permission,
            version: 1,
            previous: None,
            commitment: Commitment(Digest([0; 32])),
            deleted: false,
            codes: Vec::new(),
            attachments: bodies.iter().map(attachment).collect(),
        },
    };
    let org = "c".parse().unwrap();
    Submission { chain: genesis().id(), org, lane: 1, first_seq: seq, entries: vec![entry] }.sign(&key(3))
}

/// The node of `a`, as far as attachments go.
struct Node {
    attachments: Attachments,
    mempool: Arc<Mempool>,
    vault: Arc<SqliteVault>,
    news: News,
    sent: mpsc::Receiver<Outgoing>,
    kept: mpsc::Receiver<(Digest, Bytes)>,
}

impl Node {
    fn start(dir: &Path) -> Self {
        let genesis = genesis();
        let (mempool, news) = Mempool::new(&genesis);
        let mempool = Arc::new(mempool);
        let vault = Arc::new(SqliteVault::open(&dir.join("vault.sqlite")).unwrap());
        let custody = Custody::new("a".parse().unwrap(), genesis.id(), EntryKey::from(key(1)));
        let peers = Arc::new(Peers::new(&genesis, public(101)));
        let ((outbox, sent), (keep, kept)) = (mpsc::channel(64), mpsc::channel(64));
        let ways = Ways { outbox, keep, timers: mpsc::channel(1).0 };
        let attachments = Attachments::new(vault.clone(), true, Some(custody), peers, mempool.clone(), ways);
        Self { attachments, mempool, vault, news, sent, kept }
    }

    /// A submission comes, and the custodian looks at it.
    fn hears_of(&mut self, signed: &SignedSubmission) {
        self.mempool.learn(self.mempool.unknown([signed]), vec![None]);
        self.mempool.admit(signed.clone(), false).unwrap();
        let pending = self.news.naming.try_recv().unwrap();
        block_on(self.attachments.consider(vec![pending])).unwrap();
    }

    /// A peer pushes these bytes, and what is to be kept is kept.
    fn is_given(&mut self, body: &[u8]) {
        self.is_given_together(&[body]);
    }

    fn is_given_together(&mut self, bodies: &[&[u8]]) {
        let push = Message::Push(bodies.iter().map(|body| body.to_vec().into()).collect());
        block_on(self.attachments.receive(public(103), push)).unwrap();
        while let Ok(kept) = self.kept.try_recv() {
            block_on(self.attachments.keep(vec![kept])).unwrap();
        }
    }

    /// What was sent since the last look: to how many, and what.
    fn sent(&mut self) -> Vec<(usize, Message)> {
        let mut sent = Vec::new();
        while let Ok(Outgoing { to, message }) = self.sent.try_recv() {
            sent.push((to.len(), message));
        }
        sent
    }

    /// Signed and told to all since the last look, for this submission.
    fn signed_for(&mut self, signed: &SignedSubmission) -> bool {
        let holding = Holding::sign(&genesis().id(), &signed.digest(), "a".parse().unwrap(), &key(1));
        let told = (2, Message::Held(vec![Told { submission: signed.digest(), holding }]));
        self.sent().contains(&told)
    }
}

#[test]
fn a_custodian_signs_when_its_vault_has_the_last_of_what_is_named_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let signed = naming(1, &[b"first", b"second", b"first"]);
    node.hears_of(&signed);
    assert!(!node.signed_for(&signed));
    node.is_given(b"second");
    assert!(!node.signed_for(&signed));
    node.is_given(b"other");
    node.is_given(b"first");
    assert!(node.signed_for(&signed));
    assert_eq!(block_on(node.vault.status()).unwrap().held, 2, "what nobody names is not kept");
    assert_eq!(node.mempool.holdings_of(&signed.digest()).len(), 1);
    // Told once.
    node.is_given(b"first");
    assert!(!node.signed_for(&signed));
}

#[test]
fn what_comes_in_one_message_is_taken_in_piece_by_piece_and_given_to_who_asks_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let signed = naming(1, &[b"first", b"second"]);
    node.hears_of(&signed);
    let too_long = vec![7; crate::ATTACHMENT_BYTES_MAX + 1];
    node.is_given_together(&[b"first", &too_long, b"other", b"second"]);
    assert!(node.signed_for(&signed));
    assert_eq!(block_on(node.vault.status()).unwrap().held, 2);
    let [first, second, unknown] = [&b"first"[..], b"second", b"unknown"].map(|body| sha256(&[body]));
    let pull = Message::Pull(vec![first, second, first, unknown]);
    block_on(node.attachments.receive(public(102), pull)).unwrap();
    let sent = node.sent();
    let [(1, Message::Push(given))] = &sent[..] else { panic!("{sent:?}") };
    let mut given: Vec<&[u8]> = given.iter().map(|bytes| &bytes[..]).collect();
    given.sort_unstable();
    assert_eq!(given, [&b"first"[..], b"second"]);
}

#[test]
fn bytes_that_came_before_they_were_named_are_signed_for_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    node.is_given(b"early");
    assert_eq!(block_on(node.vault.status()).unwrap().held, 0);
    let signed = naming(1, &[b"early"]);
    node.hears_of(&signed);
    assert_eq!(block_on(node.vault.status()).unwrap().held, 1);
    assert!(node.signed_for(&signed));
}

#[test]
fn a_custodian_that_restarts_has_what_it_signed_for_and_signs_again() {
    let dir = tempfile::tempdir().unwrap();
    let signed = naming(1, &[b"body"]);
    let mut node = Node::start(dir.path());
    node.hears_of(&signed);
    node.is_given(b"body");
    assert!(node.signed_for(&signed));
    drop(node);
    let mut node = Node::start(dir.path());
    node.hears_of(&signed);
    assert!(node.signed_for(&signed));
}

#[test]
fn a_custodian_with_another_key_signs_again_for_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let (first, second) = (naming(1, &[b"body"]), naming(2, &[b"later"]));
    node.hears_of(&first);
    node.hears_of(&second);
    node.is_given(b"body");
    assert!(node.signed_for(&first));
    block_on(node.attachments.sign_by(EntryKey::from(key(9)))).unwrap();
    let by_new = |signed: &SignedSubmission| {
        let holding = Holding::sign(&genesis().id(), &signed.digest(), "a".parse().unwrap(), &key(9));
        Told { submission: signed.digest(), holding }
    };
    assert!(node.sent().contains(&(2, Message::Held(vec![by_new(&first)]))));
    node.is_given(b"later");
    assert!(node.sent().contains(&(2, Message::Held(vec![by_new(&second)]))));
    // Whoever asks is told of no receipt by the key before, but of what was believed while that counted.
    block_on(node.attachments.receive(public(103), Message::Ask(vec![second.digest()]))).unwrap();
    assert_eq!(node.sent(), [(1, Message::Held(vec![by_new(&second)]))]);
    // The mempool believes it once the ledger has the new key.
    assert_eq!(node.mempool.holdings_of(&second.digest()), []);
    let organisation = |seed| {
        let entry_key = public(seed);
        let held = Organisation { role: OrgRole::Hospital, entry_key, left: false, unreviewed: 0 };
        contract::to_cbor(&held)
    };
    let org: record::OrgId = "a".parse().unwrap();
    let roll = Roll { members: vec![Voter { org: org.clone(), role: OrgRole::Hospital }] };
    let values = [(organisation_key(&org), organisation(9))].into();
    node.mempool.set_custodians(Custodians::of_state(&roll, &values).unwrap());
    for _ in 0..3 {
        block_on(node.attachments.look_for_holdings()).unwrap();
    }
    assert_eq!(node.mempool.holdings_of(&second.digest()), [by_new(&second).holding]);
}

#[test]
fn nobody_signs_for_what_it_erased() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let (first, second) = (naming(1, &[b"erased", b"more"]), naming(2, &[b"erased"]));
    node.hears_of(&first);
    node.is_given(b"erased");
    block_on(node.attachments.erase(sha256(&[b"erased"]))).unwrap();
    // The last that was missing comes; the other one is gone by then.
    node.is_given(b"more");
    assert!(!node.signed_for(&first));
    node.hears_of(&second);
    node.is_given(b"erased");
    assert!(!node.signed_for(&second));
    // Nor is it asked for.
    for _ in 0..4 {
        block_on(node.attachments.look_for_holdings()).unwrap();
    }
    assert!(!node.sent().iter().any(|(_, message)| matches!(message, Message::Pull(_))));
}

#[test]
fn what_is_missing_is_asked_of_its_author_first_and_then_of_all_and_less_and_less_often() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    node.hears_of(&naming(1, &[b"missing"]));
    let mut asked = Vec::new();
    for round in 0..40 {
        block_on(node.attachments.look_for_holdings()).unwrap();
        let pull = Message::Pull(vec![sha256(&[b"missing"])]);
        asked.extend(node.sent().into_iter().filter(|(_, message)| *message == pull).map(|(to, _)| (round, to)));
    }
    assert_eq!(asked, [(1, 1), (2, 2), (4, 2), (8, 2), (16, 2), (32, 2)]);
    // Once it has come nobody is asked any more.
    node.is_given(b"missing");
    for _ in 40..80 {
        block_on(node.attachments.look_for_holdings()).unwrap();
    }
    assert!(!node.sent().iter().any(|(_, message)| matches!(message, Message::Pull(_))));
}

#[test]
fn one_who_announces_much_and_hands_over_nothing_takes_nobodys_turn() {
    let mut wanted = Wanted::default();
    let (mempool, mut news) = Mempool::new(&genesis());
    let flood = 1_000;
    for seq in 1..=flood {
        let signed = naming(seq, &[&seq.to_be_bytes()]);
        mempool.learn(mempool.unknown([&signed]), vec![None]);
        mempool.admit(signed, false).unwrap();
        wanted.want(news.naming.try_recv().unwrap());
    }
    let asked = |wanted: &mut Wanted| wanted.ask().iter().map(|(_, digests)| digests.len()).sum::<usize>();
    assert_eq!(asked(&mut wanted), 0);
    assert_eq!(asked(&mut wanted), PULLS_MAX * PULL_MAX);
    // What left the mempool is not wanted any more, and leaves nothing behind.
    let all: Vec<Digest> = wanted.submissions.keys().copied().collect();
    all.iter().for_each(|submission| wanted.forget(submission));
    assert!(wanted.submissions.is_empty() && wanted.of.is_empty());
}

#[test]
fn receipts_that_are_known_are_told_to_who_asks_and_forged_ones_end_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let signed = naming(1, &[b"body"]);
    node.hears_of(&signed);
    let submission = signed.digest();
    let chain = genesis().id();
    let of_b = Told { submission, holding: Holding::sign(&chain, &submission, "b".parse().unwrap(), &key(2)) };
    let forged = Told { holding: Holding { custodian: "a".parse().unwrap(), ..of_b.holding.clone() }, ..of_b.clone() };
    let from_c = |told: Vec<Told>| (public(103), Message::Held(told));
    let (from, message) = from_c(vec![forged, of_b.clone()]);
    block_on(node.attachments.receive(from, message)).unwrap();
    assert!(node.mempool.holdings_of(&submission).is_empty());
    let (from, message) = from_c(vec![of_b.clone()]);
    block_on(node.attachments.receive(from, message)).unwrap();
    node.is_given(b"body");
    node.sent();
    block_on(node.attachments.receive(public(103), Message::Ask(vec![submission, Digest([7; 32])]))).unwrap();
    let own = Told { submission, holding: Holding::sign(&chain, &submission, "a".parse().unwrap(), &key(1)) };
    assert_eq!(node.sent(), [(1, Message::Held(vec![of_b, own]))]);
    assert_eq!(Custodians::founding(&genesis()).count(), 2);
}

#[test]
fn longer_lists_than_a_message_may_have_are_not_read() {
    let read = |message: &Message| minicbor::decode::<Message>(&contract::to_cbor(message)).is_ok();
    assert!(read(&Message::Ask(vec![Digest([1; 32]); UNHELD_MAX])));
    assert!(!read(&Message::Ask(vec![Digest([1; 32]); UNHELD_MAX + 1])));
    assert!(read(&Message::Pull(vec![Digest([1; 32]); PULL_MAX])));
    assert!(!read(&Message::Pull(vec![Digest([1; 32]); PULL_MAX + 1])));
    let holding = Holding::sign(&Digest([0; 32]), &Digest([0; 32]), "a".parse().unwrap(), &key(1));
    let told = Told { submission: Digest([1; 32]), holding };
    assert!(read(&Message::Held(vec![told.clone(); TOLD_MAX])));
    assert!(!read(&Message::Held(vec![told; TOLD_MAX + 1])));
    // What is announced and not there allocates nothing.
    let announced = [0x82, 0x03, 0x81, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(minicbor::decode::<Message>(&announced).is_err());
}

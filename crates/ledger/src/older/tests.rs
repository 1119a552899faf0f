//! What passes for an older block, and what does not.

use super::*;
use crate::epochs::{self, verifier};
use commonware_codec::ReadExt as _;
use commonware_consensus::{
    simplex::types::{Finalize, Proposal},
    types::{Epoch, Round, View},
};
use commonware_utils::iter::NonEmpty;
use contract::{
    AccessAction, Block, Body, Entry, GENESIS_VERSION, HEADER_VERSION, Header, Member, PublicKey, Submission,
    merkle::Frontier, state::entry_leaf,
};
use ed25519_dalek::SigningKey;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Commitment, Id16, OrgRole, Purpose, RecordTag, TimeMs, sha256};

/// Blocks of an epoch, and of the chain.
const EPOCH: u64 = 4;
const TOP: u64 = 8;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from(key.verifying_key().to_bytes())
}

fn genesis() -> Genesis {
    let member = |(seed, name): (u8, &str)| Member {
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
        members: (1..).zip(["a", "b", "c", "d"]).map(member).collect(),
        access_policy: Digest([0; 32]),
        derivation_policy: Digest([0; 32]),
        epoch_blocks: EPOCH,
    }
}

fn entry(salt: u64) -> Entry {
    let digest = sha256(&[&salt.to_be_bytes()]);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.0[..16]);
    let body = Body::Access {
        action: AccessAction::Read,
        set: digest,
        count: 1,
        denied: false,
        under: None,
        audit: RecordTag(digest),
        commitment: Commitment(digest),
    };
    Entry {
        id: Id16(id),
        org: "a".parse().unwrap(),
        time: TimeMs(0),
        purpose: Purpose::ALL[0],
        policy: Digest([0; 32]),
        actor: Digest([0; 32]),
        patient: None,
        month: None,
        body,
    }
}

/// The certificate by `signers` of the four, over a block.
fn certify(genesis: &Genesis, block: &ChainBlock, signers: std::ops::Range<u8>) -> Vec<u8> {
    let header = block.header();
    let round = Round::new(Epoch::new(header.epoch), View::new(header.view));
    let proposal = Proposal::new(round, View::new(header.parent_view), block.digest());
    let vote = |seed: u8| {
        let mut secret = bytes::Bytes::copy_from_slice(&key(seed + 101).to_bytes());
        let key = ed25519::PrivateKey::read(&mut secret).unwrap();
        let scheme = epochs::scheme(genesis, &genesis.validators(), Some(&key)).unwrap();
        Finalize::sign(&scheme, proposal.clone()).unwrap()
    };
    let votes: Vec<_> = signers.map(vote).collect();
    let scheme = verifier(genesis, &genesis.validators()).unwrap();
    let votes = NonEmpty::try_new(votes.into_iter()).unwrap();
    Finalization::from_owned_finalizes(&scheme, votes, &Sequential).unwrap().encode().to_vec()
}

/// A chain of blocks with two entries each, the second refused; those at even heights and at the end of an epoch have certificates.
fn chain(genesis: &Genesis) -> (Vec<Older>, Wanted) {
    let (mut older, mut log, mut parent) = (Vec::new(), Frontier::default(), genesis.id());
    for height in 1..=TOP {
        let submission = Submission {
            chain: genesis.id(),
            org: "a".parse().unwrap(),
            lane: 0,
            first_seq: 1 + 2 * height,
            entries: vec![entry(2 * height), entry(2 * height + 1)],
        };
        let signed = submission.sign(&key(1));
        let (frontier, time, verdicts) = (log.clone(), TimeMs(height), vec![0, 3]);
        for (digest, verdict) in signed.entry_digests().iter().zip(&verdicts) {
            log.push(entry_leaf(height, time, *verdict, digest));
        }
        let submissions = vec![signed];
        let header = Header {
            version: HEADER_VERSION,
            chain: genesis.id(),
            epoch: genesis.epoch(height),
            view: 1 + height,
            leader: public(&key(101)),
            parent_view: height,
            parent,
            height,
            time,
            entry_count: 2,
            body: Block::body_digest(&frontier, &submissions, &Vec::new()),
            log_size: log.size(),
            log_root: log.root(),
            state_root: Digest([1; 32]),
            ops_root: Digest([2; 32]),
            ops_start: 0,
            ops_end: height,
            validators: genesis.validators_digest(),
            next_validators: genesis.validators_digest(),
        };
        parent = header.digest();
        let block = ChainBlock::new(Block { header, frontier, submissions, holdings: Vec::new() }).unwrap();
        let certified = height % 2 == 0 || genesis.epoch(height + 1) != genesis.epoch(height);
        let certificate = if certified { certify(genesis, &block, 0..3) } else { Vec::new() };
        older.push(Older { block: block.block().to_bytes(), verdicts, certificate });
    }
    older.reverse();
    (older, Wanted { height: TOP, digest: parent })
}

fn deciders(genesis: &Genesis) -> Deciders {
    Deciders::from([(0, Arc::new(verifier(genesis, &genesis.validators()).unwrap()))])
}

#[test]
fn a_chain_fits_from_its_top_down_to_the_first_block() {
    let (genesis, mut rng) = (genesis(), StdRng::seed_from_u64(1));
    let (older, mut wanted) = chain(&genesis);
    for came in &older {
        let fits = fit(came, &wanted, &genesis, &deciders(&genesis), &mut rng);
        let (fitting, next) = fits.map_err(|why| (wanted.height, why)).unwrap();
        assert_eq!(fitting.block.header().height, wanted.height);
        assert_eq!(fitting.certificate.is_some(), !came.certificate.is_empty());
        wanted = next;
    }
    assert_eq!((wanted.height, wanted.digest), (0, genesis.id()));
}

#[test]
fn no_changed_answer_passes_for_an_older_block() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (genesis, mut rng) = (genesis(), StdRng::seed_from_u64(seed));
    let (older, wanted) = chain(&genesis);
    let deciders = deciders(&genesis);
    let mut check = |change: &dyn Fn(&mut Older), why: Option<Unfit>| {
        let mut came = older[0].clone();
        change(&mut came);
        let refused = fit(&came, &wanted, &genesis, &deciders, &mut rng).err();
        assert!(refused.is_some(), "{came:?}");
        assert!(why.is_none() || why == refused, "{refused:?} is not {why:?}");
    };
    check(&|came| *came = older[1].clone(), Some(Unfit::OtherBlock));
    check(&|came| came.verdicts = vec![0, 0], Some(Unfit::Verdicts));
    check(&|came| came.verdicts = vec![], Some(Unfit::Verdicts));
    check(&|came| came.verdicts = vec![0, 4], Some(Unfit::Verdicts));
    check(&|came| came.verdicts = vec![0, 3, 0], Some(Unfit::Verdicts));
    check(&|came| came.certificate = older[2].certificate.clone(), Some(Unfit::Certificate));
    let block = ChainBlock::from_bytes(&older[0].block).unwrap();
    check(&|came| came.certificate.push(0), Some(Unfit::Certificate));
    // Of another consortium, by the same keys.
    let other = Genesis { name: "other".into(), ..genesis.clone() };
    check(&|came| came.certificate = certify(&other, &block, 0..4), Some(Unfit::Certificate));
    let mut places = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let (part, bit) = (places.random_range(0..3), places.random_range(0..8u32));
        let came = &older[0];
        let bytes = [came.block.len(), came.verdicts.len(), came.certificate.len()][part];
        let at = places.random_range(0..bytes);
        let change = move |came: &mut Older| {
            let bytes = [&mut came.block, &mut came.verdicts, &mut came.certificate];
            bytes[part][at] ^= 1 << bit;
        };
        check(&change, None);
    }
}

#[test]
fn the_last_block_of_an_epoch_needs_its_certificate() {
    let (genesis, mut rng) = (genesis(), StdRng::seed_from_u64(2));
    let (older, mut wanted) = chain(&genesis);
    for came in &older {
        let bare = Older { certificate: Vec::new(), ..came.clone() };
        let last = genesis.epoch(wanted.height + 1) != genesis.epoch(wanted.height);
        let refused = fit(&bare, &wanted, &genesis, &deciders(&genesis), &mut rng).err();
        assert_eq!(refused, last.then_some(Unfit::NoCertificate), "height {}", wanted.height);
        wanted = fit(came, &wanted, &genesis, &deciders(&genesis), &mut rng).map_err(|why| why.to_string()).unwrap().1;
    }
}

//! Evidence of a consortium whose validators have changed, and what those who decide no more can do.

use super::world::{World, certificate, three_months};
use crate::{
    Anchor, BadKnownBlock, Finality, Handover, KnownBlock, Limits, Parts, Refused, anchor, assemble, verify_through,
};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use contract::{Header, PublicKey, validators_digest};
use record::Digest;

fn keys(n: u64) -> Vec<PrivateKey> {
    (0..4).map(|i| PrivateKey::from_seed(4_000 + 10 * n + i)).collect()
}

fn public(keys: &[PrivateKey]) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> =
        keys.iter().map(|key| <[u8; 32]>::try_from(key.public_key().as_ref()).unwrap().into()).collect();
    keys.sort();
    keys
}

/// The world's header, moved to the last block of `epoch`, decided by `now`.
fn header(world: &World, base: &Finality, epoch: u64, now: &[PrivateKey], next: &[PrivateKey]) -> Header {
    let base = Header::from_bytes(&base.header).unwrap();
    Header {
        epoch,
        height: (epoch + 1) * world.genesis.epoch_blocks - 1,
        validators: validators_digest(&public(now)),
        next_validators: validators_digest(&public(next)),
        ..base
    }
}

fn signed(world: &World, header: &Header, by: &[PrivateKey]) -> Vec<u8> {
    certificate(&world.genesis.namespace(), by, &header.digest(), (header.epoch, 9), &[0, 1, 2])
}

fn handover(world: &World, base: &Finality, epoch: u64, now: &[PrivateKey], next: &[PrivateKey]) -> Handover {
    let header = header(world, base, epoch, now, next);
    Handover { header: header.to_bytes(), certificate: signed(world, &header, now), validators: public(next) }
}

fn close(world: &World, finality: &mut Finality, epoch: u64, by: &[PrivateKey]) {
    let header = header(world, finality, epoch, by, by);
    (finality.certificate, finality.header) = (signed(world, &header, by), header.to_bytes());
}

/// The founders decide to epoch 1, others to epoch 5, and others again, of whom a quorum signs the header in epoch 9.
fn changed_twice() -> (World, Parts) {
    let world = three_months();
    let mut parts = world.prove();
    let base = parts.finality.clone();
    parts.finality.handovers =
        vec![handover(&world, &base, 1, &world.validators, &keys(1)), handover(&world, &base, 5, &keys(1), &keys(2))];
    close(&world, &mut parts.finality, 9, &keys(2));
    (world, parts)
}

fn through(world: &World, parts: Parts, checkpoint: Option<&KnownBlock>) -> Result<u64, Refused> {
    let file = assemble(parts).to_bytes();
    verify_through(&file, &world.id(), checkpoint, &Limits::default()).map(|report| report.height)
}

fn check(edit: impl FnOnce(&World, &mut Finality), expected: Result<u64, Refused>) {
    let (world, mut parts) = changed_twice();
    edit(&world, &mut parts.finality);
    assert_eq!(through(&world, parts, None), expected);
}

const HEIGHT: u64 = 10 * 1024 - 1;

#[test]
fn evidence_after_two_changes_of_validators_verifies_from_the_genesis_id_alone() {
    check(|_, _| {}, Ok(HEIGHT));
    // A block after which nothing changes may stand among them, and so may several of one epoch.
    check(
        |world, finality| {
            let base = finality.clone();
            finality.handovers.insert(1, handover(world, &base, 3, &keys(1), &keys(1)));
            let mut earlier = header(world, &base, 5, &keys(1), &keys(2));
            earlier.height -= 7;
            let certificate = signed(world, &earlier, &keys(1));
            let (header, validators) = (earlier.to_bytes(), public(&keys(2)));
            finality.handovers.insert(2, Handover { header, certificate, validators });
        },
        Ok(HEIGHT),
    );
}

#[test]
fn whoever_decides_no_more_signs_nothing_that_is_believed() {
    // The founders, after they handed over; and those after them.
    for retired in [three_months().validators, keys(1)] {
        check(|world, finality| close(world, finality, 9, &retired), Err(Refused::OtherValidators));
        check(
            |world, finality| {
                let header = header(world, finality, 9, &keys(2), &keys(2));
                (finality.certificate, finality.header) = (signed(world, &header, &retired), header.to_bytes());
            },
            Err(Refused::NoQuorum { height: HEIGHT }),
        );
    }
    // Nor is anybody believed before the epoch that is theirs.
    check(|world, finality| close(world, finality, 5, &keys(2)), Err(Refused::Handovers));
    check(
        |world, finality| {
            _ = finality.handovers.pop();
            close(world, finality, 5, &keys(2));
        },
        Err(Refused::OtherValidators),
    );
}

#[test]
fn every_handover_is_signed_by_those_whom_the_last_one_named() {
    check(|_, finality| finality.handovers.swap(0, 1), Err(Refused::OtherValidators));
    check(|_, finality| _ = finality.handovers.remove(0), Err(Refused::OtherValidators));
    check(|_, finality| _ = finality.handovers.pop(), Err(Refused::OtherValidators));
    check(|_, finality| finality.handovers.clear(), Err(Refused::OtherValidators));
    check(|_, finality| finality.handovers[0].validators.reverse(), Err(Refused::OtherValidators));
    check(|_, finality| finality.handovers[1].validators = public(&keys(3)), Err(Refused::OtherValidators));
    check(
        |_, finality| {
            let first = finality.handovers[0].clone();
            finality.handovers.insert(0, first);
        },
        Err(Refused::Handovers),
    );
    check(
        |world, finality| {
            let base = finality.clone();
            let mut moved = header(world, &base, 1, &world.validators, &keys(1));
            moved.epoch = 2;
            finality.handovers[0].header = moved.to_bytes();
        },
        Err(Refused::OtherEpoch { height: 2 * 1024 - 1 }),
    );
    check(
        |world, finality| {
            let header = header(world, finality, 1, &world.validators, &keys(1));
            let namespace = world.genesis.namespace();
            // Signed for another epoch, and by too few.
            finality.handovers[0].certificate =
                certificate(&namespace, &world.validators, &header.digest(), (2, 9), &[0, 1, 2]);
        },
        Err(Refused::NoQuorum { height: 2 * 1024 - 1 }),
    );
    check(
        |world, finality| {
            let header = header(world, finality, 1, &world.validators, &keys(1));
            let namespace = world.genesis.namespace();
            finality.handovers[0].certificate =
                certificate(&namespace, &world.validators, &header.digest(), (1, 9), &[0, 1]);
        },
        Err(Refused::NoQuorum { height: 2 * 1024 - 1 }),
    );
}

#[test]
fn a_set_of_nobody_decides_nothing() {
    check(
        |world, finality| {
            let mut last = header(world, finality, 5, &keys(1), &keys(2));
            last.next_validators = validators_digest(&[]);
            let certificate = signed(world, &last, &keys(1));
            finality.handovers[1] = Handover { header: last.to_bytes(), certificate, validators: Vec::new() };
            let mut header = Header::from_bytes(&finality.header).unwrap();
            header.validators = validators_digest(&[]);
            finality.header = header.to_bytes();
        },
        Err(Refused::OtherValidators),
    );
}

/// More than two thirds of the founders got into wrong hands after they had handed over, and sign a history in which they never did.
#[test]
fn a_side_history_by_retired_keys_does_not_go_through_a_later_checkpoint() {
    let (world, parts) = changed_twice();
    let mut side = parts.clone();
    side.finality.handovers.clear();
    close(&world, &mut side.finality, 9, &world.validators);
    // From the genesis id alone the two histories cannot be told apart.
    assert_eq!(through(&world, side.clone(), None), Ok(HEIGHT));
    let known = Header::from_bytes(&parts.finality.handovers[1].header).unwrap();
    let checkpoint = KnownBlock { height: known.height, block: known.digest() };
    assert_eq!(through(&world, parts.clone(), Some(&checkpoint)), Ok(HEIGHT));
    let passes_by = Err(Refused::NotThroughCheckpoint { height: known.height });
    assert_eq!(through(&world, side.clone(), Some(&checkpoint)), passes_by);
    // The true block put into it leads away from the founders; one of theirs at that height is another.
    side.finality.handovers = parts.finality.handovers.clone();
    assert_eq!(through(&world, side.clone(), Some(&checkpoint)), Err(Refused::OtherValidators));
    side.finality.handovers = vec![handover(&world, &parts.finality, 5, &world.validators, &world.validators)];
    assert_eq!(through(&world, side, Some(&checkpoint)), Err(Refused::OtherHistory { height: known.height }));
    // The header itself may be the checkpoint; a later one it cannot have gone through.
    let header = Header::from_bytes(&parts.finality.header).unwrap();
    let own = KnownBlock { height: HEIGHT, block: header.digest() };
    assert_eq!(through(&world, parts.clone(), Some(&own)), Ok(HEIGHT));
    let later = KnownBlock { height: HEIGHT + 1, block: Digest([9; 32]) };
    assert_eq!(through(&world, parts, Some(&later)), Err(Refused::NotThroughCheckpoint { height: HEIGHT + 1 }));
}

/// Where a node may begin that has nothing else: what it is shown is believed by the same rules.
#[test]
fn a_header_that_holds_says_who_decided_it() {
    let (world, parts) = changed_twice();
    let (id, finality) = (world.genesis.id(), parts.finality);
    let header = Header::from_bytes(&finality.header).unwrap();
    let validators = finality.handovers[1].validators.clone();
    assert_eq!(validators_digest(&validators), header.validators);
    assert_eq!(anchor(&finality, &id, None), Ok(Anchor { header, validators }));
    let other = KnownBlock { height: HEIGHT, block: Digest([9; 32]) };
    assert_eq!(anchor(&finality, &id, Some(&other)), Err(Refused::OtherHistory { height: HEIGHT }));
    let early = Finality { handovers: Vec::new(), ..finality };
    assert_eq!(anchor(&early, &id, None), Err(Refused::OtherValidators));
}

#[test]
fn a_known_block_is_read_from_its_height_and_its_digest() {
    let digest = "07".repeat(32);
    let known = KnownBlock { height: 12, block: Digest([7; 32]) };
    assert_eq!(format!("12:{digest}").parse(), Ok(known));
    for text in ["", "12", ":", &format!("x:{digest}"), &format!("12:{}", &digest[2..]), &format!("-1:{digest}")] {
        assert_eq!(text.parse::<KnownBlock>(), Err(BadKnownBlock), "{text}");
    }
}

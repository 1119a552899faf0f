//! Consortia and blocks: honest worlds at random, and genesis documents, headers and certificates that were forged by those who sign them.

use crate::{
    Finality, Handover,
    bodies::{integer, one},
    case::bent,
    world::{World, at, certificate},
};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use contract::{
    Genesis, Header, Member, PublicKey,
    state::{Key, VALUE_BYTES_MAX},
    validators_digest,
};
use ed25519_dalek::SigningKey;
use rand::{RngExt as _, rngs::StdRng};
use record::{Digest, OrgRole, TimeMs, sha256};
use std::collections::BTreeMap;

/// Encodings of points of small order, canonical and not, and of no point at all.
const BAD_KEYS: [[u8; 2]; 6] = [[0x00, 0x00], [0x01, 0x00], [0x01, 0x80], [0xee, 0x7f], [0xed, 0x7f], [0x02, 0x00]];

/// Some months of a patient: with and without a log, with versions, deletions, and entries that came late.
pub(crate) fn honest(rng: &mut StdRng) -> World {
    let mut world = World::new(1);
    let mut names: Vec<String> = Vec::new();
    let mut month = 0;
    for _ in 0..rng.random_range(1..5) {
        month += rng.random_range(1..4);
        let (year, name) = (2026 + (8 + month) / 12, (8 + month) % 12 + 1);
        for day in 1..=rng.random_range(1..4) {
            world.block(Some(&format!("{year}-{name:02}-{day:02}T10:00:00Z")));
            for _ in 0..rng.random_range(0..6) {
                match rng.random_range(0..6) {
                    0 => world.access("ambulance"),
                    4 => gather(&mut world, rng),
                    1 if !names.is_empty() => world.delete("mercy", &names.remove(0)),
                    2 if month > 2 => {
                        let late = if name == 1 {
                            format!("{}-12-15T00:00:00Z", year - 1)
                        } else {
                            format!("{year}-{:02}-15T00:00:00Z", name - 1)
                        };
                        world.access_late("mercy", at(&late));
                    }
                    3 if !names.is_empty() => world.record("mercy", &one(&names, rng), "again"),
                    _ => {
                        let record = format!("Observation/o{}", rng.random::<u32>());
                        world.record("mercy", &record, "new");
                        names.push(record);
                    }
                }
            }
        }
    }
    // Any of the records may be kept closed.
    world.opened.retain(|_| rng.random_bool(0.8));
    world
}

/// Several accesses by one entry, of which some are shown, and the audit events of some of these.
fn gather(world: &mut World, rng: &mut StdRng) {
    let before = world.gathered.len();
    let ids = world.gather("mercy", rng.random_range(2..7));
    for (opening, id) in world.gathered.split_off(before).into_iter().zip(ids) {
        if rng.random_bool(0.7) {
            world.gathered.push(opening);
            world.opened.push(world.audit_event(&id));
        }
    }
}

/// A genesis document, a header and a certificate that belong together as far as whoever signs them wants.
pub(crate) fn forged(world: &World, good: &Finality, rng: &mut StdRng) -> (&'static str, Digest, Finality) {
    let mut genesis = world.genesis.clone();
    let mut validators = world.validators.clone();
    let kind = one(&["genesis", "header", "certificate", "handover"], rng);
    if kind == "genesis" {
        edit(&mut genesis, &mut validators, rng);
    }
    let mut document = genesis.to_bytes();
    if kind == "genesis" && rng.random_bool(0.2) {
        document = bent(&document, rng);
    }
    let id = sha256(&[b"vitaltrace/genesis/1\0", &document]);
    let genesis = Genesis::from_bytes(&document).unwrap_or(genesis);
    let mut header = Header::from_bytes(&good.header).unwrap();
    header.chain = id;
    header.validators = genesis.validators_digest();
    header.epoch = genesis.epoch(header.height);
    let mut handovers = Vec::new();
    if kind == "handover" {
        (handovers, validators) = handed_over(&genesis, &validators, &mut header, rng);
    }
    let mut header_bytes = header.to_bytes();
    if kind == "header" {
        if rng.random::<bool>() {
            edit_header(&mut header, rng);
            header_bytes = header.to_bytes();
        } else {
            header_bytes = bent(&header_bytes, rng);
        }
    }
    let digest = sha256(&[b"vitaltrace/header/1\0", &header_bytes]);
    let namespace = format!("vitaltrace/1/{id}").into_bytes();
    let quorum = validators.len() - (validators.len() - 1) / 3;
    let count = match rng.random_range(0..4) {
        0 => rng.random_range(0..=validators.len()),
        1 => quorum - 1,
        _ => quorum,
    };
    let mut signers: Vec<usize> = (0..validators.len()).collect();
    while signers.len() > count {
        signers.remove(rng.random_range(0..signers.len()));
    }
    // Now and then of another epoch than the header's.
    let epoch = if rng.random_bool(0.9) { header.epoch } else { small_integer(rng) };
    let mut certificate = certificate(&namespace, &validators, &digest, (epoch, rng.random_range(1..1000)), &signers);
    if kind == "certificate" && rng.random::<bool>() {
        certificate = bent(&certificate, rng);
    } else if kind == "certificate" {
        // Another number of validators than there are: the last of the eight bytes before the bitmap.
        let bitmap = certificate.len() - 64 * signers.len() - 1 - validators.len().div_ceil(8);
        certificate[bitmap - 1] = certificate[bitmap - 1].wrapping_add(one(&[0, 1, 255], rng));
    }
    (kind, id, Finality { genesis: document, header: header_bytes, certificate, handovers })
}

/// Blocks by which the founders handed over to others, and those to others again, mostly as they should; the header is moved behind them.
/// Gives who decides the header.
fn handed_over(
    genesis: &Genesis,
    founders: &[PrivateKey],
    header: &mut Header,
    rng: &mut StdRng,
) -> (Vec<Handover>, Vec<PrivateKey>) {
    let blocks = genesis.epoch_blocks;
    let (mut handovers, mut now, mut epoch) = (Vec::new(), founders.to_vec(), 0);
    for n in 0..rng.random_range(1..4) {
        epoch += rng.random_range(u64::from(n > 0)..3);
        let next: Vec<PrivateKey> =
            (0..rng.random_range(1..6)).map(|i| PrivateKey::from_seed(7_000 + 10 * n + i)).collect();
        let mut keys = public(&next);
        let mut last = Header { epoch, ..header.clone() };
        last.height = (epoch + 1) * blocks - 1;
        last.validators = validators_digest(&public(&now));
        last.next_validators = validators_digest(&keys);
        match rng.random_range(0..16) {
            0 => last.height += 1,
            1 => last.epoch += 1,
            2 => last.validators = last.next_validators,
            3 => last.next_validators = last.validators,
            4 => keys.reverse(),
            5 => keys.clear(),
            6 => keys.extend(keys.clone()),
            7 => last.chain = last.body,
            8 => last.version = 2,
            _ => {}
        }
        let quorum = now.len() - (now.len() - 1) / 3;
        let count = if rng.random_bool(0.95) { quorum } else { quorum - 1 };
        let signers: Vec<usize> = (0..count).collect();
        let namespace = genesis.namespace();
        let mut signed = certificate(&namespace, &now, &last.digest(), (last.epoch, 3), &signers);
        if rng.random_bool(0.05) {
            signed = bent(&signed, rng);
        }
        handovers.push(Handover { header: last.to_bytes(), certificate: signed, validators: keys });
        now = next;
        // The old ones decide to the end of the epoch, the new ones from the next one on.
    }
    if rng.random_bool(0.05) {
        handovers.reverse();
    }
    if rng.random_bool(0.05) {
        _ = handovers.pop();
    }
    epoch += if rng.random_bool(0.95) { rng.random_range(1..4) } else { 0 };
    header.epoch = epoch;
    header.height = epoch * blocks + rng.random_range(0..blocks);
    header.validators = validators_digest(&public(&now));
    (handovers, now)
}

/// Public keys, sorted as validators are.
fn public(keys: &[PrivateKey]) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> =
        keys.iter().map(|key| <[u8; 32]>::try_from(key.public_key().as_ref()).unwrap().into()).collect();
    keys.sort();
    keys
}

fn small_integer(rng: &mut StdRng) -> u64 {
    rng.random_range(0..4)
}

fn edit(genesis: &mut Genesis, validators: &mut Vec<PrivateKey>, rng: &mut StdRng) {
    let member = rng.random_range(0..genesis.members.len());
    match rng.random_range(0..11) {
        10 => genesis.epoch_blocks = one(&[0, 1, 3, 4, 8, 1_000_000, 1_000_001, u64::MAX], rng),
        0 => genesis.version = rng.random_range(0..3),
        1 => genesis.name = one(&["", "\u{e4}\u{1d11e} \u{2028}", "a \"name\"\\ in\nlines\u{7f}\u{1}"], rng).to_owned(),
        2 => genesis.time = TimeMs(integer(rng)),
        3 => genesis.members.swap(0, member),
        4 => genesis.members[member].org = one(&["a", "mercy", "zz", "ambulance"], rng).parse().unwrap(),
        5 => genesis.members[member].entry_key = bad_key(rng),
        6 => genesis.members[member].consensus_key = bad_key(rng),
        7 => genesis.members[member].entry_key = genesis.members[0].consensus_key,
        8 if rng.random() => genesis.members[member].address = "x".repeat(rng.random_range(0..300)),
        8 => genesis.members[member].wrap_key = "x".repeat(rng.random_range(0..300)),
        _ => {
            for i in 0..rng.random_range(1..40) {
                let validator = PrivateKey::from_seed(5000 + i);
                genesis.members.push(Member {
                    org: format!("x{i:02}").parse().unwrap(),
                    role: one(&OrgRole::ALL, rng),
                    entry_key: SigningKey::from_bytes(&sha256(&[b"extra", &i.to_be_bytes()]).0)
                        .verifying_key()
                        .to_bytes()
                        .into(),
                    consensus_key: <[u8; 32]>::try_from(validator.public_key().as_ref()).unwrap().into(),
                    wrap_key: String::new(),
                    address: String::new(),
                });
                validators.push(validator);
            }
        }
    }
}

/// 32 bytes whose first and last are given, the others as they must be to make one large or one small number.
fn bad_key(rng: &mut StdRng) -> PublicKey {
    if rng.random_bool(0.4) {
        return rng.random::<[u8; 32]>().into();
    }
    let [first, last] = one(&BAD_KEYS, rng);
    let mut key = if first > 0x80 { [0xff; 32] } else { [0; 32] };
    (key[0], key[31]) = (first, last);
    key.into()
}

fn edit_header(header: &mut Header, rng: &mut StdRng) {
    match rng.random_range(0..10) {
        0 => header.version = rng.random_range(0..3),
        1 => header.chain = sha256(&[b"other"]),
        2 => (header.epoch, header.view) = (integer(rng), integer(rng)),
        3 => header.leader = rng.random::<[u8; 32]>().into(),
        4 => header.height = integer(rng),
        5 => header.time = TimeMs(integer(rng)),
        6 => header.state_root = sha256(&[b"other"]),
        7 => header.validators = sha256(&[b"other"]),
        8 => {
            (header.height, header.time) =
                (header.height.saturating_add(integer(rng)), header.time.plus_ms(integer(rng)))
        }
        _ => (header.log_size, header.ops_start, header.ops_end) = (integer(rng), integer(rng), integer(rng)),
    }
}

/// A value of any length that the state allows, mostly short.
fn any_value(rng: &mut StdRng) -> Vec<u8> {
    let length =
        if rng.random_bool(0.05) { VALUE_BYTES_MAX - rng.random_range(0..2) } else { rng.random_range(0..200) };
    vec![7; length]
}

/// Blocks of which the first writes `size` keys, and the others write many of them again; now and then the last removes them all.
pub(crate) fn writes(size: u64, blocks: u64, rng: &mut StdRng) -> Vec<BTreeMap<Key, Option<Vec<u8>>>> {
    let keys: Vec<Key> = (0..size).map(|_| Digest(rng.random())).collect();
    let mut all: Vec<BTreeMap<Key, Option<Vec<u8>>>> = Vec::new();
    for block in 0..blocks {
        let share = if block == 0 { 1.0 } else { rng.random_range(0.1..1.0) };
        let written = keys.iter().filter(|_| rng.random_bool(share)).copied().collect::<Vec<_>>();
        all.push(written.into_iter().map(|key| (key, Some(any_value(rng)))).collect());
    }
    if blocks > 1 && rng.random_bool(0.2) {
        all.push(keys.into_iter().map(|key| (key, None)).collect());
    }
    all
}

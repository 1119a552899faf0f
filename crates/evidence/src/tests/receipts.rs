//! Receipts and checkpoints: they hold in the forms that others read, and nothing changed about them does.

use super::world::{COSIGNED_S, World, entry_key, night, whole_night};
use crate::{
    BadCheckpoint, BadReceipt, Bundle, Cosignature, LedgerLog, Limits, Receipt, assemble, checkpoint, read_checkpoint,
    read_receipt, receipts, verify,
};
use contract::{Entry, Header, PublicKey, state::entry_leaf};
use expect_test::expect_file;
use record::{Digest, OrgId};

struct Taken {
    world: World,
    log: LedgerLog,
    receipts: Vec<Receipt>,
    note: String,
    /// The preimage of the leaf of the first entry, and its leaf.
    first: (Vec<u8>, Digest),
}

fn taken() -> Taken {
    let (world, binding) = night();
    let bytes = assemble(world.prove_shown(&whole_night(&world, binding))).to_bytes();
    let limits = Limits::default();
    verify(&bytes, &world.id(), &limits).unwrap();
    let bundle = Bundle::from_bytes(&bytes, &limits).unwrap();
    let log = LedgerLog::after(&Header::from_bytes(&bundle.finality().header).unwrap());
    let (receipts, note) = receipts(&bundle);
    let logged = &bundle.months()[0].log.entries()[0];
    let digest = Entry::from_bytes(&logged.entry).unwrap().digest();
    let leaf = [&logged.height.to_be_bytes()[..], &logged.time.0.to_be_bytes(), &[0], digest.as_ref()].concat();
    let first = (leaf, entry_leaf(logged.height, logged.time, 0, &digest));
    Taken { world, log, receipts, note: note.unwrap(), first }
}

fn key_of(org: &str) -> PublicKey {
    entry_key(org).verifying_key().to_bytes().into()
}

fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn there_is_a_receipt_for_each_entry_and_each_organisation_that_signed() {
    let Taken { world, log, receipts, first, .. } = taken();
    assert_eq!(receipts.len(), 8 * 3);
    let Receipt { org, key, leaf, bytes, .. } = &receipts[0];
    assert_eq!((*key, leaf), (key_of(org.as_str()), &first.0));
    let (head, inclusion) = read_receipt(bytes, &world.id(), org, key, &first.1).unwrap();
    assert_eq!((head, inclusion.index), (log.head, 0));
}

#[test]
fn the_published_receipt_and_checkpoint_hold() {
    let Taken { world, receipts, note, first, .. } = taken();
    let receipt = &receipts[0];
    let lines = [
        ("chain", world.id().to_hex()),
        ("organisation", receipt.org.to_string()),
        ("key", hex(key_of(receipt.org.as_str()).as_bytes())),
        ("leaf-bytes", hex(&first.0)),
        ("leaf", first.1.to_hex()),
        ("receipt", hex(&receipt.bytes)),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    expect_file!["../../../../spec/vectors/receipt-1.txt"].assert_eq(&text);
    expect_file!["../../../../spec/vectors/checkpoint-1.txt"].assert_eq(&note);
}

#[test]
fn a_receipt_holds_for_its_entry_its_organisation_and_its_key_only() {
    let Taken { world, receipts, first, .. } = taken();
    let (chain, good, leaf) = (world.id(), &receipts[0], first.1);
    let (name, key) = (&good.org, key_of(good.org.as_str()));
    let check = |bytes: &[u8], chain: &Digest, name: &OrgId, key: &PublicKey, leaf: &Digest| {
        read_receipt(bytes, chain, name, key, leaf).map(|_| ())
    };
    assert_eq!(check(&good.bytes, &chain, name, &key, &leaf), Ok(()));
    let other = record::sha256(&[b"other"]);
    assert_eq!(check(&good.bytes, &chain, name, &key, &other), Err(BadReceipt::Signature));
    assert_eq!(check(&good.bytes, &other, name, &key, &leaf), Err(BadReceipt::Malformed));
    assert_eq!(check(&good.bytes, &chain, &org("mercy"), &key, &leaf), Err(BadReceipt::Malformed));
    assert_eq!(check(&good.bytes, &chain, name, &key_of("mercy"), &leaf), Err(BadReceipt::Malformed));
    for at in 0..good.bytes.len() {
        let mut bytes = good.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(check(&bytes, &chain, name, &key, &leaf).is_err(), "byte {at}");
    }
}

#[test]
fn a_checkpoint_holds_with_every_cosignature_and_with_no_byte_changed() {
    let Taken { world, log, note, .. } = taken();
    let chain = world.id();
    let read = |note: &[u8]| read_checkpoint(note, &chain, |org| Some(key_of(org.as_str())));
    let checkpoint = read(note.as_bytes()).unwrap();
    let times: Vec<u64> = checkpoint.cosignatures.iter().map(|cosignature| cosignature.time_s).collect();
    assert_eq!((checkpoint.head, times), (log.head, vec![COSIGNED_S, COSIGNED_S + 2, COSIGNED_S + 3]));
    for at in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1 << (at % 8);
        // A line by a name or key that nobody knows is passed over, as C2SP asks; whatever is left is what was signed.
        if let Ok(other) = read(&bytes) {
            assert_eq!(other.head, checkpoint.head, "byte {at}");
            assert_eq!(other.cosignatures.len(), checkpoint.cosignatures.len() - 1, "byte {at}");
            assert!(other.cosignatures.iter().all(|one| checkpoint.cosignatures.contains(one)), "byte {at}");
        }
    }
    let other = record::sha256(&[b"another consortium"]);
    let refused = read_checkpoint(note.as_bytes(), &other, |org| Some(key_of(org.as_str())));
    assert!(matches!(refused, Err(BadCheckpoint::OtherLog { .. })), "{refused:?}");
}

#[test]
fn a_cosignature_of_another_head_or_time_is_refused() {
    let Taken { world, log, note, .. } = taken();
    let chain = world.id();
    let read = |note: &str| read_checkpoint(note.as_bytes(), &chain, |org| Some(key_of(org.as_str())));
    let good = read(&note).unwrap();
    let mut head = log.head;
    head.size += 1;
    let moved = checkpoint(&chain, &head, &good.cosignatures);
    assert_eq!(read(&moved), Err(BadCheckpoint::Signature(org("ambulance"))));
    let later = Cosignature { time_s: good.cosignatures[0].time_s + 1, ..good.cosignatures[0].clone() };
    assert_eq!(read(&checkpoint(&chain, &log.head, &[later])), Err(BadCheckpoint::Signature(org("ambulance"))));
}

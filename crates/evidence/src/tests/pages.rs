//! The vectors of the pages on certificates and state proofs: a change of one is a change of format.

use super::world::{Proven, World, at, certificate};
use crate::{Finality, StateProof, absent, current, finality};
use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
use contract::{
    Header,
    state::{Key, log_key, record_key},
};
use expect_test::expect_file;
use record::{Digest, record_tag, sha256};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn world() -> World {
    let mut world = World::new(1);
    world.block(Some("2026-10-31T22:15:00Z"));
    world.record("ambulance", "Patient/p1", "found unconscious");
    world.access("mercy");
    world.block(Some("2026-11-01T00:30:00Z"));
    world.record("mercy", "Patient/p1", "identified");
    world
}

#[test]
fn the_published_certificates_hold_or_are_refused() {
    let world = world();
    let (good, _) = world.prove_value(log_key(&world.patient.pseudonym(at("2026-10-31T22:15:00Z").month())));
    let header = Header::from_bytes(&good.header).unwrap();
    let (namespace, round) = (world.genesis.namespace(), (header.epoch, header.view));
    let by = |namespace: &[u8], keys: &[PrivateKey], digest: &Digest, round: (u64, u64), signers: &[usize]| {
        certificate(namespace, keys, digest, round, signers)
    };
    let usual = |signers: &[usize]| by(&namespace, &world.validators, &header.digest(), round, signers);
    let strangers: Vec<PrivateKey> = (500..504).map(PrivateKey::from_seed).collect();
    let changed = |at: usize, change: u8| {
        let mut bytes = usual(&[0, 1, 2]);
        bytes[at] ^= change;
        bytes
    };
    let holds = [usual(&[0, 1, 2]), usual(&[1, 2, 3]), usual(&[0, 1, 2, 3])];
    let refused = [
        ("too-few", usual(&[1, 3])),
        ("strangers", by(&namespace, &strangers, &header.digest(), round, &[0, 1, 2])),
        ("other-chain", by(&World::new(2).genesis.namespace(), &world.validators, &header.digest(), round, &[0, 1, 2])),
        ("other-header", by(&namespace, &world.validators, &sha256(&[b"other"]), round, &[0, 1, 2])),
        ("other-epoch", by(&namespace, &world.validators, &header.digest(), (1, header.view), &[0, 1, 2])),
        ("view-changed", changed(1, 0x01)),
        ("signer-changed", changed(43, 0x09)),
        ("bit-beyond", changed(43, 0x14)),
        ("signature-changed", changed(100, 0x01)),
        ("cut-off", usual(&[0, 1, 2])[..236].to_vec()),
        ("added", [usual(&[0, 1, 2]), vec![0]].concat()),
        ("nothing", Vec::new()),
    ];
    let holding = |bytes: &[u8]| {
        let finality = Finality { certificate: bytes.to_vec(), ..good.clone() };
        finality::check(&finality, &world.id(), None).is_ok()
    };
    let mut lines = vec![
        format!("genesis {}", hex(&good.genesis)),
        format!("chain {}", world.id()),
        format!("header {}", hex(&good.header)),
        format!("digest {}", header.digest()),
    ];
    let mut keys: Vec<String> = world.validators.iter().map(|key| hex(key.public_key().as_ref())).collect();
    keys.sort();
    lines.extend(keys.iter().map(|key| format!("validator {key}")));
    for bytes in &holds {
        assert!(holding(bytes), "{}", hex(bytes));
        lines.push(format!("holds {}", hex(bytes)));
    }
    for (why, bytes) in &refused {
        assert!(!holding(bytes), "{why}");
        lines.push(format!("refused {why} {}", hex(bytes)));
    }
    expect_file!["../../../../spec/vectors/certificate-1.txt"].assert_eq(&(lines.join("\n") + "\n"));
}

/// Lines of the file, each compared with the verifier as it is added.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn value(&mut self, holds: bool, root: &Digest, key: &Key, value: &[u8], proof: &[u8]) {
        let given = StateProof { value: value.to_vec(), proof: proof.to_vec() };
        let line = format!("current {root} {key} {} {}", hex(value), hex(proof));
        assert_eq!(current(key, &given, root), holds, "{line}");
        self.0.push(if holds { line } else { format!("not-{line}") });
    }

    fn nothing(&mut self, holds: bool, root: &Digest, key: &Key, proof: &[u8]) {
        let line = format!("absent {root} {key} {}", hex(proof));
        assert_eq!(absent(key, proof, root), holds, "{line}");
        self.0.push(if holds { line } else { format!("not-{line}") });
    }
}

/// Everything about one value that is there: its proof, and what is none.
fn check_value(lines: &mut Lines, root: &Digest, key: &Key, proof: &StateProof) {
    let StateProof { value, proof } = proof;
    lines.value(true, root, key, value, proof);
    lines.value(false, &sha256(&[b"another root"]), key, value, proof);
    lines.value(false, root, &record_key(&record::RecordTag(sha256(&[b"another"]))), value, proof);
    lines.value(false, root, key, b"another value", proof);
    lines.value(false, root, key, value, &proof[..proof.len() - 1]);
    lines.value(false, root, key, value, &[&proof[..], &[0]].concat());
    for at in (0..proof.len()).step_by(37) {
        let mut changed = proof.clone();
        changed[at] ^= 0x10;
        lines.value(false, root, key, value, &changed);
    }
}

#[test]
fn the_published_state_proofs_hold_or_do_not() {
    let before = world();
    let tag = record_tag(&before.patient, "Patient/p1");
    let (october, record) = (log_key(&before.patient.pseudonym(at("2026-10-31T22:15:00Z").month())), record_key(&tag));
    let never = [b"one".as_slice(), b"two"].map(|name| record_key(&record::RecordTag(sha256(&[name]))));
    let mut after = before.clone();
    after.block(None);
    after.record("mercy", "Patient/p1", "discharged");

    let mut lines = Lines::default();
    let (finality, mut proofs) = before.prove_keys(&[october, record, never[0], never[1]]);
    let root = Header::from_bytes(&finality.header).unwrap().state_root;
    let (Proven::Absent(second), Proven::Absent(first)) = (proofs.remove(3), proofs.remove(2)) else { panic!() };
    let (Proven::Value(old), Proven::Value(log)) = (proofs.remove(1), proofs.remove(0)) else { panic!() };
    check_value(&mut lines, &root, &october, &log);
    check_value(&mut lines, &root, &record, &old);
    for (key, proof) in never.iter().zip([&first, &second]) {
        lines.nothing(true, &root, key, proof);
        for (key, proof) in [(&record, proof.clone()), (&october, proof.clone()), (key, proof[1..].to_vec())] {
            lines.nothing(false, &root, key, &proof);
        }
    }
    // What was current is so no more.
    let (finality, mut proofs) = after.sealed().prove_keys(&[record]);
    let later = Header::from_bytes(&finality.header).unwrap().state_root;
    let Proven::Value(new) = proofs.remove(0) else { panic!() };
    lines.value(true, &later, &record, &new.value, &new.proof);
    lines.value(false, &later, &record, &old.value, &old.proof);
    lines.value(false, &later, &record, &old.value, &new.proof);
    lines.value(false, &root, &record, &new.value, &new.proof);
    // A state without keys.
    let mut empty = World::new(1);
    empty.writes.clear();
    let (finality, mut proofs) = empty.prove_keys(&[record]);
    let root = Header::from_bytes(&finality.header).unwrap().state_root;
    let Proven::Absent(nothing) = proofs.remove(0) else { panic!() };
    lines.nothing(true, &root, &record, &nothing);
    lines.nothing(true, &root, &october, &nothing);
    lines.nothing(false, &later, &record, &nothing);
    expect_file!["../../../../spec/vectors/state-proof-1.txt"].assert_eq(&(lines.0.join("\n") + "\n"));
}

//! Mutated evidence with this verifier's verdicts, for a second verifier to be compared with.
//!
//! `cargo run --release -p evidence --example mutants COUNT FILE [SEED]` writes COUNT lines of JSON: what was checked, the genesis id that
//! was trusted, whether it was accepted, and the report. Most mutants are signed and proven anew by keys of the test consortium, so that
//! they get past the certificate and the deep checks decide.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a tool of the tests, which speaks to whoever runs it"
)]

mod bodies;
mod case;
mod consortium;
mod overrides;
mod resource;

#[path = "../../src/tests/mutate.rs"]
mod mutate;
#[path = "../../src/tests/world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

// Where the shared files look for what they test.
use evidence::{
    BoundDevice, CHUNK_BYTES, CurrentRecord, CurrentValue, EVIDENCE_FORMAT, Finality, GatheredAccess, Handover,
    LedgerLog, Limits, Log, LogPart, LoggedEntry, MonthLog, Opened, OpenedLink, Parts, Place, Policies, Refused,
    Report, StateProof, UnreviewedProof, Witness, assemble, part, speak, verify,
};

use contract::state::{binding_key, device_signer_key, organisation_key, record_key};
use evidence::{RecordProof, Unreviewed, absent, current, verify_record, verify_unreviewed};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Commitment, Digest, commit, record_tag, sha256};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{BufWriter, Write as _},
};
use world::{ORGS, Proven, Shown, World, following, rounds, three_months, whole_night};

const SEED: u64 = 0x5eed_2026;
const USAGE: &str = "usage: mutants COUNT FILE [SEED]";

fn main() {
    let mut arguments = env::args().skip(1);
    let count: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{USAGE}"));
    let file = arguments.next().unwrap_or_else(|| panic!("{USAGE}"));
    let seed: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    println!("seed {seed}");
    let mut lines = Lines {
        rng: StdRng::seed_from_u64(seed),
        file: BufWriter::new(File::create(file).unwrap()),
        told: BTreeMap::new(),
    };
    // Shares of COUNT. What was signed anew is worth more than what dies at a digest.
    lines.honest(count / 50);
    lines.unsigned(count * 3 / 20);
    lines.consortia(count / 5);
    lines.shown(count / 10);
    lines.logs(count / 4);
    lines.gathered(count / 20);
    lines.records(count / 10);
    lines.overrides(count / 20);
    let rest = count.saturating_sub(lines.total());
    lines.proofs(rest);
    lines.file.flush().unwrap();
    for (kind, (accepted, all)) in &lines.told {
        println!("{kind}: {all}, of them {accepted} accepted");
    }
    println!("{} in all", lines.total());
}

/// The file that is written, and how many of each kind were accepted.
struct Lines {
    rng: StdRng,
    file: BufWriter<File>,
    told: BTreeMap<&'static str, (usize, usize)>,
}

impl Lines {
    fn total(&self) -> usize {
        self.told.values().map(|(_, all)| all).sum()
    }

    fn tell(&mut self, kind: &'static str, accepted: bool, mut line: Value) {
        line["kind"] = kind.into();
        line["accepted"] = accepted.into();
        writeln!(self.file, "{line}").unwrap();
        let counts = self.told.entry(kind).or_default();
        counts.0 += usize::from(accepted);
        counts.1 += 1;
    }

    fn bundle(&mut self, kind: &'static str, genesis_id: &Digest, bytes: &[u8]) {
        let verdict = verify(bytes, genesis_id, &Limits::default());
        // As text, since integers of 64 bits do not survive every reader of JSON.
        let report = verdict.as_ref().ok().map(|report| serde_json::to_string_pretty(report).unwrap());
        let why = verdict.as_ref().err().map(ToString::to_string);
        let line =
            json!({ "check": "bundle", "genesis": genesis_id, "file": hex(bytes), "report": report, "why": why });
        self.tell(kind, verdict.is_ok(), line);
    }

    fn record_proof(&mut self, kind: &'static str, genesis_id: &Digest, bytes: &[u8]) {
        let verdict = verify_record(bytes, genesis_id, &Limits::default());
        let report = verdict.as_ref().ok().map(|report| serde_json::to_string_pretty(report).unwrap());
        let why = verdict.as_ref().err().map(ToString::to_string);
        let line =
            json!({ "check": "record", "genesis": genesis_id, "file": hex(bytes), "report": report, "why": why });
        self.tell(kind, verdict.is_ok(), line);
    }

    fn unreviewed(&mut self, kind: &'static str, genesis_id: &Digest, bytes: &[u8]) {
        let verdict = verify_unreviewed(bytes, genesis_id, &Limits::default());
        let report = verdict.as_ref().ok().map(|counted| serde_json::to_string_pretty(counted).unwrap());
        let said = verdict.as_ref().ok().map(Unreviewed::sentences);
        let why = verdict.as_ref().err().map(ToString::to_string);
        let line = json!({ "check": "unreviewed", "genesis": genesis_id, "file": hex(bytes), "report": report, "said": said, "why": why });
        self.tell(kind, verdict.is_ok(), line);
    }

    /// Worlds that nobody changed: months with and without a log, records in many versions, deletions, entries that came late.
    fn honest(&mut self, count: usize) {
        for _ in 0..count {
            let world = consortium::honest(&mut self.rng);
            let bytes = assemble(world.prove()).to_bytes();
            let verdict = verify(&bytes, &world.id(), &Limits::default());
            assert!(verdict.is_ok(), "honest evidence is refused: {verdict:?}");
            self.bundle("honest", &world.id(), &bytes);
        }
    }

    /// Changes without any key.
    fn unsigned(&mut self, count: usize) {
        let world = three_months();
        let other = following(&world);
        let (good, donor) = (world.prove(), other.prove());
        let (good_bytes, donor_bytes) = (assemble(good.clone()).to_bytes(), assemble(donor.clone()).to_bytes());
        let (dark, binding) = rounds();
        let mut later = dark.clone();
        later.block(None);
        later.record("mercy", "Patient/p1", "moved");
        // All of the night, and a part of it.
        let shown = [None, Some((3, 4))].map(|range| {
            let parts = |world: &World| world.prove_shown(&Shown { range, ..whole_night(world, binding) });
            let (good, donor) = (parts(&dark), parts(&later));
            let bytes = [&good, &donor].map(|parts| assemble(parts.clone()).to_bytes());
            (good, donor, bytes)
        });
        for i in 0..count {
            let (shown_good, shown_donor, [shown_bytes, shown_donor_bytes]) = &shown[i / 4 % 2];
            let bytes = if i % 4 == 0 {
                mutate::mutate_bytes(shown_bytes, shown_donor_bytes, &mut self.rng)
            } else if i % 4 == 1 {
                assemble(mutate::mutate_shown(shown_good, shown_donor, &mut self.rng)).to_bytes()
            } else if i % 4 == 2 {
                mutate::mutate_bytes(&good_bytes, &donor_bytes, &mut self.rng)
            } else {
                assemble(mutate::mutate_parts(&good, &donor, &mut self.rng)).to_bytes()
            };
            self.bundle("unsigned", &world.id(), &bytes);
        }
    }

    /// A night with all that can be shown of it, proven and signed as it is, where the state says of records, devices and members what
    /// whoever decides likes; some of it changed behind that.
    fn shown(&mut self, count: usize) {
        let (world, binding) = rounds();
        let tag = record_tag(&world.patient, "Patient/p1");
        for _ in 0..count {
            let mut world = world.clone();
            let member = bodies::one(&ORGS, &mut self.rng).0;
            let entry_key = world::entry_key(member).verifying_key().to_bytes().into();
            let keys = [
                record_key(&tag),
                binding_key(&binding),
                device_signer_key(&world::device_key(9)),
                organisation_key(&member.parse().unwrap()),
            ];
            let values =
                bodies::shown_values(any_commitment(&mut self.rng), world::device_key(9), entry_key, &mut self.rng);
            let written = keys.into_iter().zip(values).filter(|(_, value)| value.is_some());
            world.writes.push(written.collect());
            let range = bodies::one(&[None, Some((3, 4)), Some((2, 2))], &mut self.rng);
            let mut shown = Shown { range, ..whole_night(&world, binding) };
            if self.rng.random_bool(0.1) {
                // Of an audit event the state holds nothing, and its absence there is proven all the same.
                shown.current.push(tag.of_audit(&member.parse().unwrap()));
            }
            let mut parts = world.prove_shown(&shown);
            if range == Some((2, 2)) {
                // What is opened is committed to outside of this range.
                parts.opened.clear();
            }
            if self.rng.random_bool(0.3) {
                parts = mutate::mutate_shown(&parts, &parts, &mut self.rng);
            }
            self.bundle("shown", &world.id(), &assemble(parts).to_bytes());
        }
    }

    /// Other genesis documents, headers and certificates, signed by whoever they name.
    fn consortia(&mut self, count: usize) {
        let world = three_months();
        let good = world.prove();
        for _ in 0..count {
            let (kind, id, finality) = consortium::forged(&world, &good.finality, &mut self.rng);
            self.bundle(kind, &id, &assemble(Parts { finality, ..good.clone() }).to_bytes());
        }
    }

    /// Logs of every kind of entry, proven and signed as they are, with faults before and after.
    fn logs(&mut self, count: usize) {
        const BATCH: usize = 200;
        let world = three_months();
        for from in (0..count).step_by(BATCH) {
            let cases = BATCH.min(count - from);
            for (kind, bytes) in case::proven(&world, cases, &mut self.rng) {
                self.bundle(kind, &world.id(), &bytes);
            }
        }
    }

    /// Accesses that one entry commits to together, honest but for one, which may not be gathered.
    fn gathered(&mut self, count: usize) {
        for _ in 0..count {
            let (seed, number) = (self.rng.random(), self.rng.random_range(2..6));
            let wrong = self.rng.random_range(0..number);
            let mut world = World::new(1);
            world.block(Some("2026-11-20T23:00:00Z"));
            world.access("mercy");
            world.gather_edited("mercy", number, |place, access| {
                if place == wrong {
                    case::misplace(access, &mut StdRng::seed_from_u64(seed));
                }
            });
            self.bundle("gathered", &world.id(), &assemble(world.prove()).to_bytes());
        }
    }

    /// Proofs of single records, whose heads say anything.
    fn records(&mut self, count: usize) {
        const BATCH: usize = 200;
        let world = three_months();
        for from in (0..count).step_by(BATCH) {
            let cases: Vec<_> = (from..count.min(from + BATCH))
                .map(|i| {
                    let name = format!("Observation/o{i}");
                    let bytes = resource::bytes(&name, &mut self.rng);
                    let (tag, salt) = (record_tag(&world.patient, &name), sha256(&[b"salt", name.as_bytes()]));
                    let head = bodies::record_head(commit(&salt, &bytes), &mut self.rng);
                    (tag, salt, bytes, head)
                })
                .collect();
            let mut sealed = world.sealed();
            sealed.writes.push(cases.iter().map(|(tag, .., head)| (record_key(tag), Some(head.clone()))).collect());
            let keys: Vec<Digest> = cases.iter().map(|(tag, ..)| record_key(tag)).collect();
            let (finality, proofs) = sealed.prove_keys(&keys);
            for ((tag, salt, bytes, _), proof) in cases.into_iter().zip(proofs) {
                let Proven::Value(head) = proof else { panic!("it was written") };
                let salt = if self.rng.random_bool(0.05) { sha256(&[b"other"]) } else { salt };
                let file = RecordProof::new(finality.clone(), tag, head, salt, bytes).to_bytes();
                let file = if self.rng.random_bool(0.2) { case::bent(&file, &mut self.rng) } else { file };
                self.record_proof("record", &world.id(), &file);
            }
        }
    }

    /// Counts of overrides, whose members say anything.
    fn overrides(&mut self, count: usize) {
        const BATCH: usize = 10;
        let world = three_months();
        let full = overrides::full(&world, &mut self.rng);
        for bytes in full.iter().take(count) {
            self.unreviewed("full", &world.id(), bytes);
        }
        for from in (full.len()..count).step_by(BATCH) {
            for (kind, id, bytes) in overrides::proven(&world, BATCH.min(count - from), &mut self.rng) {
                self.unreviewed(kind, &id, &bytes);
            }
        }
    }

    /// State proofs alone, of databases of many sizes and ages, the empty one among them.
    fn proofs(&mut self, count: usize) {
        let end = self.total() + count;
        // Young databases pass the end of a chunk of the bitmap, one operation after the other; old ones have peaks without active operations.
        let young = (0..4).chain(240..258).map(|size| (size, 1));
        for (size, blocks) in young.chain((0u64..).map(|i| (20 + 37 * i % 300, 2 + i % 11))) {
            let mut world = World::new(1);
            world.writes = consortium::writes(size, blocks, &mut self.rng);
            let written: Vec<Digest> = world.writes.iter().flat_map(|writes| writes.keys().copied()).collect();
            let mut keys =
                vec![sha256(&[b"absent", &size.to_be_bytes()]), sha256(&[b"absent too", &size.to_be_bytes()])];
            keys.extend((0..3).filter(|_| !written.is_empty()).map(|_| bodies::one(&written, &mut self.rng)));
            let (finality, proofs) = world.prove_keys(&keys);
            let root = contract::Header::from_bytes(&finality.header).unwrap().state_root;
            for (key, proof) in keys.iter().zip(proofs) {
                for bend in 0..3 {
                    if self.total() == end {
                        return;
                    }
                    let mut bytes =
                        |bytes: &[u8]| if bend == 0 { bytes.to_vec() } else { case::bent(bytes, &mut self.rng) };
                    match &proof {
                        Proven::Value(proof) => {
                            let proof = StateProof { value: proof.value.clone(), proof: bytes(&proof.proof) };
                            let line = json!({ "check": "current", "key": key, "root": root, "value": hex(&proof.value), "proof": hex(&proof.proof) });
                            self.tell("current", current(key, &proof, &root), line);
                        }
                        Proven::Absent(proof) => {
                            let proof = bytes(proof);
                            let line = json!({ "check": "absent", "key": key, "root": root, "proof": hex(&proof) });
                            self.tell("absent", absent(key, &proof, &root), line);
                        }
                    }
                }
            }
        }
    }
}

/// A commitment of nothing in particular.
fn any_commitment(rng: &mut StdRng) -> Commitment {
    Commitment(Digest(rng.random()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! A small consortium with one patient: files entries block by block, and proves what stands at the end.

use crate::{
    BoundDevice, CHUNK_BYTES, CurrentRecord, CurrentValue, Finality, GatheredAccess, LedgerLog, Limits, Log,
    LoggedEntry, MonthLog, Opened, OpenedLink, Parts, Place, Policies, Refused, Report, StateProof, UnreviewedProof,
    Witness, assemble, part, speak, verify,
};
use bytes::Bytes;
use commonware_codec::{DecodeExt as _, Encode as _, RangeCfg};
use commonware_consensus::{
    simplex::{
        scheme::ed25519::Scheme,
        types::{Finalization, Finalize, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    Sha256, Signer as _,
    certificate::Signers,
    ed25519::{PrivateKey, PublicKey},
    sha256,
};
use commonware_parallel::Sequential;
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, deterministic};
use commonware_storage::{
    journal::contiguous::variable::Config as JournalConfig,
    merkle::full::Config as MerkleConfig,
    mmr,
    qmdb::{
        current::{VariableConfig, ordered::variable},
        floor::Proportional,
    },
    translator::EightCap,
};
use commonware_utils::{NZU16, NZU64, NZUsize, Participant, TryCollect as _, ordered::Set};
use contract::{
    AccessAction, Body, DeviceStep, Entry, Gathered, Genesis, HEADER_VERSION, Header, InvestigationStep, LastMonth,
    Member, MonthOpening, OverrideStep, Parent, PolicyKind, Signature, SignedSubmission, Submission, execute,
    merkle::{self, Frontier},
    state::{
        Key, LogHead, Retention, VALUE_BYTES_MAX, binding_key, device_signer_key, entry_leaf, log_key, log_leaf,
        organisation_key, policy_key, record_key, retention_key, roll_key,
    },
    to_cbor,
};
use ed25519_dalek::{Signer as _, SigningKey};
use record::{
    Commitment, Digest, Id16, Month, OrgId, OrgRole, PatientKey, Pseudonym, Purpose, RecordTag, RecordType, TimeMs,
    audit_tag, commit, record_tag, salt, sha256,
};
use std::collections::{BTreeMap, HashMap};

type Db = variable::Db<
    mmr::Family,
    deterministic::Context,
    sha256::Digest,
    Vec<u8>,
    Sha256,
    EightCap,
    CHUNK_BYTES,
    Sequential,
>;

/// How keys and values are read: values are bounded.
type ValueCodec = ((), (RangeCfg<usize>, ()));

/// Everything there is to prove.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) genesis: Genesis,
    /// In the order of the genesis document.
    pub(crate) validators: Vec<PrivateKey>,
    pub(crate) patient: PatientKey,
    pub(crate) opened: Vec<Opened>,
    /// Accesses that one entry commits to together, by its digest.
    pub(crate) gathered: Vec<(Digest, Gathered)>,
    /// The block that entries are being filed into.
    block: Parent,
    ids: u64,
    /// Next sequence number of each organisation.
    seqs: BTreeMap<String, u64>,
    waiting: Vec<(Month, SignedSubmission)>,
    state: HashMap<Key, Vec<u8>>,
    logs: BTreeMap<Pseudonym, PatientLog>,
    versions: BTreeMap<String, (u64, Commitment)>,
    /// What the author of the next month's first entry takes for the last month, where it is not the latest before.
    pub(crate) mistaken: Option<LastMonth>,
    /// What the contract wrote, one map for each block.
    pub(crate) writes: Vec<BTreeMap<Key, Option<Vec<u8>>>>,
    /// The log over all entries.
    pub(crate) ledger: Vec<Digest>,
}

/// What a bundle shows beside the patient's months.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    pub(crate) current: Vec<RecordTag>,
    pub(crate) devices: Vec<(Id16, u8)>,
    /// Places of all entries.
    pub(crate) places: bool,
    /// Members, and whether each signs.
    pub(crate) witnesses: Vec<(&'static str, bool)>,
    /// Only the entries of these heights.
    pub(crate) range: Option<(u64, u64)>,
}

/// When the organisations of the tests cosign, in seconds since 1970: 2026-11-25T00:00:00Z, and a second later for each.
pub(crate) const COSIGNED_S: u64 = 1_795_564_800;

#[derive(Clone)]
struct PatientLog {
    month: Month,
    frontier: Frontier,
    entries: Vec<LoggedEntry>,
    links: Vec<OpenedLink>,
}

/// A proof as the engine gives it: the value and its proof, or the proof that there is none.
pub(crate) enum Proven {
    Value(StateProof),
    Absent(Vec<u8>),
}

pub(crate) const ORGS: [(&str, OrgRole); 4] = [
    ("ambulance", OrgRole::Ems),
    ("insurance", OrgRole::Insurer),
    ("mercy", OrgRole::Hospital),
    ("regulator", OrgRole::Compliance),
];

impl World {
    /// Four organisations, no entries yet; `name` makes another consortium with other keys.
    pub(crate) fn new(name: u64) -> Self {
        let validators: Vec<PrivateKey> = (0..4).map(|i| PrivateKey::from_seed(100 * name + i)).collect();
        let members = ORGS
            .iter()
            .zip(&validators)
            .map(|((org, role), validator)| Member {
                org: org.parse().unwrap(),
                role: *role,
                entry_key: entry_key(org).verifying_key().to_bytes().into(),
                consensus_key: <[u8; 32]>::try_from(validator.public_key().as_ref()).unwrap().into(),
                wrap_key: "age1example".to_owned(),
                address: "localhost:7000".to_owned(),
            })
            .collect();
        let genesis = Genesis {
            version: 1,
            name: format!("test {name}"),
            time: at("2026-08-01T00:00:00Z"),
            members,
            access_policy: sha256(&[b"access"]),
            derivation_policy: sha256(&[b"derivation"]),
            epoch_blocks: 1024,
        };
        genesis.check().unwrap();
        Self {
            block: Parent { height: 1, time: genesis.time, log: Frontier::default() },
            genesis,
            validators,
            patient: PatientKey::from_bytes([7; 32]),
            opened: Vec::new(),
            gathered: Vec::new(),
            ids: 0,
            seqs: BTreeMap::new(),
            waiting: Vec::new(),
            state: HashMap::new(),
            logs: BTreeMap::new(),
            versions: BTreeMap::new(),
            mistaken: None,
            writes: Vec::new(),
            ledger: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> Digest {
        self.genesis.id()
    }

    /// Ends the block, which the contract executes, and begins the next at a time, or a second later.
    pub(crate) fn block(&mut self, instant: Option<&str>) {
        let (months, submissions): (Vec<Month>, Vec<SignedSubmission>) = self.waiting.drain(..).unzip();
        let executed = execute(&self.genesis, &self.block, &submissions, &self.state).unwrap();
        for ((month, receipt), signed) in months.into_iter().zip(&executed.receipts).zip(submissions) {
            assert_eq!(receipt.refused, None, "{:?}", signed.submission.entries);
            self.ledger.push(entry_leaf(self.block.height, self.block.time, 0, &receipt.digest));
            let log = self.logs.get_mut(&self.patient.pseudonym(month)).unwrap();
            log.frontier.push(log_leaf(self.block.height, self.block.time, &receipt.digest));
            let entry = signed.submission.entries[0].to_bytes();
            log.entries.push(LoggedEntry { height: self.block.height, time: self.block.time, entry });
        }
        for (key, value) in &executed.writes {
            match value {
                Some(value) => self.state.insert(*key, value.clone()),
                None => self.state.remove(key),
            };
        }
        self.writes.push(executed.writes);
        let time = instant.map_or(self.block.time.plus_ms(1000), at);
        self.block = Parent { height: self.block.height + 1, time, log: executed.log };
    }

    /// Files an entry about the patient in this block.
    pub(crate) fn file(&mut self, org: &str, id: Id16, body: Body) {
        self.file_at(org, id, body, self.block.time);
    }

    /// Files an entry that was made at another time than the block's, as one that waited was.
    pub(crate) fn file_at(&mut self, org: &str, id: Id16, body: Body, time: TimeMs) {
        let month = time.month();
        let pseudonym = self.patient.pseudonym(month);
        let mut link = None;
        if !self.logs.contains_key(&pseudonym) {
            let last = self.logs.values().filter(|log| log.month < month).max_by_key(|log| log.month).map_or_else(
                || LastMonth::none(&self.patient, month),
                |log| LastMonth {
                    pseudonym: self.patient.pseudonym(log.month),
                    count: log.frontier.size(),
                    root: log.frontier.root(),
                },
            );
            let opening = MonthOpening::new(&self.patient, &id, self.mistaken.take().unwrap_or(last));
            link = Some(opening.link());
            let links = vec![OpenedLink { entry: 0, opening }];
            let log = PatientLog { month, frontier: Frontier::default(), entries: Vec::new(), links };
            self.logs.insert(pseudonym, log);
        }
        let entry = Entry { month: link, ..self.entry(org, id, body, time) };
        let seq = self.seqs.entry(org.to_owned()).or_default();
        *seq += 1;
        let submission = Submission {
            chain: self.genesis.id(),
            org: entry.org.clone(),
            lane: 1,
            first_seq: *seq,
            entries: vec![entry],
        };
        self.waiting.push((month, submission.sign(&entry_key(org))));
    }

    /// An entry about the patient, which is not filed.
    fn entry(&self, org: &str, id: Id16, body: Body, time: TimeMs) -> Entry {
        Entry {
            id,
            org: org.parse().unwrap(),
            time,
            purpose: match body {
                Body::Override { .. } => Purpose::BreakGlass,
                _ if org == "regulator" => Purpose::Compliance,
                _ => Purpose::Treat,
            },
            policy: self.genesis.access_policy,
            actor: match body {
                Body::Override { step: OverrideStep::Reviewed(_), .. } => sha256(&[b"officer", org.as_bytes()]),
                _ => sha256(&[b"actor", org.as_bytes()]),
            },
            patient: Some(self.patient.pseudonym(time.month())),
            month: None,
            body,
        }
    }

    /// Files the next version of a record, and keeps its bytes for opening.
    pub(crate) fn record(&mut self, org: &str, name: &str, text: &str) {
        let (resource_type, resource_id) = name.split_once('/').unwrap();
        let bytes =
            format!(r#"{{"resourceType":"{resource_type}","id":"{resource_id}","note":"{text}"}}"#).into_bytes();
        let previous = self.versions.get(name).copied();
        let version = previous.map_or(1, |(version, _)| version + 1);
        let (id, author) = (self.next_id(), org.parse::<OrgId>().unwrap());
        let salt = salt(&self.patient, name, version, &author, &id);
        let commitment = commit(&salt, &bytes);
        let tag = record_tag(&self.patient, name);
        self.file(
            org,
            id,
            Body::Record {
                tag,
                kind: if resource_type == "Observation" { RecordType::Sensed } else { RecordType::MedicalRecord },
                version,
                previous: previous.map(|(_, commitment)| commitment),
                commitment,
                deleted: false,
                codes: Vec::new(),
                attachments: Vec::new(),
            },
        );
        self.versions.insert(name.to_owned(), (version, commitment));
        self.opened.push(Opened { record: name.to_owned(), version, salt, bytes });
    }

    /// Files a disclosure with its audit event, whose bytes are not kept.
    pub(crate) fn access(&mut self, org: &str) {
        let id = self.next_id();
        let body = self.disclosure(org, &id, None);
        self.file(org, id, body);
    }

    /// Files a disclosure that names the audit event of that entry in the place of one of its own.
    pub(crate) fn access_again(&mut self, org: &str, first: Id16) {
        let body = self.disclosure(org, &first, None);
        let id = self.next_id();
        self.file(org, id, body);
    }

    /// Files a disclosure under an investigation.
    pub(crate) fn access_under(&mut self, org: &str, investigation: Id16) {
        let id = self.next_id();
        let body = self.disclosure(org, &id, Some(investigation));
        self.file(org, id, body);
    }

    /// Files one entry that commits to as many disclosures, 50 ms apart. Also the ids of these.
    pub(crate) fn gather(&mut self, org: &str, count: u64) -> Vec<Id16> {
        self.gather_edited(org, count, |_, _| {})
    }

    /// The same by an organisation that edits what it commits to, each by its place.
    pub(crate) fn gather_edited(&mut self, org: &str, count: u64, edit: impl Fn(u64, &mut Entry)) -> Vec<Id16> {
        const APART_MS: u64 = 50;
        let outer = self.next_id();
        let ids: Vec<Id16> = (0..count).map(|_| self.next_id()).collect();
        let encoded = (0..).zip(&ids).map(|(place, id)| {
            let time = self.block.time.plus_ms(place * APART_MS);
            let mut access = self.entry(org, *id, self.disclosure(org, id, None), time);
            edit(place, &mut access);
            access.to_bytes()
        });
        let encoded: Vec<Vec<u8>> = encoded.collect();
        let leaves: Vec<Digest> = encoded.iter().map(|bytes| merkle::leaf(Entry::digest_of(bytes).as_ref())).collect();
        let (count, ms) = (u32::try_from(count).unwrap(), u32::try_from((count - 1) * APART_MS).unwrap());
        self.file(org, outer, Body::Accesses { root: merkle::root(leaves.clone()), count, ms });
        let digest = self.waiting.last().unwrap().1.submission.entries[0].digest();
        let paths = merkle::inclusion_paths(&leaves, &(0..u64::from(count)).collect::<Vec<_>>()).unwrap();
        let opened = (0..).zip(encoded).zip(paths).map(|((place, access), path)| Gathered { place, access, path });
        self.gathered.extend(opened.map(|opening| (digest, opening)));
        ids
    }

    /// Files a disclosure that happened in a month that is over.
    pub(crate) fn access_late(&mut self, org: &str, time: TimeMs) {
        let id = self.next_id();
        let body = self.disclosure(org, &id, None);
        self.file_at(org, id, body, time);
    }

    /// Breaks the glass for a minute.
    pub(crate) fn break_glass(&mut self, org: &str) -> Id16 {
        let (id, until) = (self.next_id(), self.block.time.plus_ms(60_000));
        let reason = Commitment(sha256(&[b"reason"]));
        self.file(org, id, Body::Override { id, step: OverrideStep::Opened(until), reason });
        id
    }

    /// Files that somebody else there found an override justified.
    pub(crate) fn review(&mut self, org: &str, opened: Id16) {
        let (id, reason) = (self.next_id(), Commitment(sha256(&[b"found"])));
        self.file(org, id, Body::Override { id: opened, step: OverrideStep::Reviewed(true), reason });
    }

    pub(crate) fn investigate(&mut self, org: &str) -> Id16 {
        let id = self.next_id();
        let document = Commitment(sha256(&[b"order", id.as_ref()]));
        self.file(org, id, Body::Investigation { id, step: InvestigationStep::Opened, document });
        id
    }

    /// What was written about the patient before stays on the ledger, and the next patient's records begin.
    pub(crate) fn next_patient(&mut self, key: PatientKey) {
        self.block(None);
        self.patient = key;
        self.logs.clear();
        self.versions.clear();
        self.opened.clear();
        self.gathered.clear();
    }

    /// Files the deletion of a record, which has no bytes.
    pub(crate) fn delete(&mut self, org: &str, name: &str) {
        let (version, previous) = self.versions[name];
        let (id, author) = (self.next_id(), org.parse::<OrgId>().unwrap());
        let salt = salt(&self.patient, name, version + 1, &author, &id);
        let body = Body::Record {
            tag: record_tag(&self.patient, name),
            kind: RecordType::MedicalRecord,
            version: version + 1,
            previous: Some(previous),
            commitment: commit(&salt, b""),
            deleted: true,
            codes: Vec::new(),
            attachments: Vec::new(),
        };
        self.file(org, id, body);
        self.opened.push(Opened { record: name.to_owned(), version: version + 1, salt, bytes: Vec::new() });
    }

    /// What a quorum of colluding validators could do: the patient's last log becomes what they like, with a valid certificate.
    pub(crate) fn collude(&mut self, edit: impl FnOnce(&mut Vec<LoggedEntry>)) {
        self.block(None);
        let (pseudonym, log) = self.logs.iter_mut().max_by_key(|(_, log)| log.month).unwrap();
        edit(&mut log.entries);
        log.frontier = Frontier::default();
        for logged in &log.entries {
            log.frontier.push(log_leaf(
                logged.height,
                logged.time,
                &Entry::from_bytes(&logged.entry).unwrap().digest(),
            ));
        }
        let head = LogHead { frontier: log.frontier.clone(), height: log.entries.last().unwrap().height };
        self.writes.push([(log_key(pseudonym), Some(to_cbor(&head)))].into());
        self.block.height += 1;
    }

    /// Binds a device by the key of that number to the patient.
    pub(crate) fn bind(&mut self, org: &str, device: &str, key: u8) -> Id16 {
        let id = self.next_id();
        let step = DeviceStep::Bound(id, device_key(key));
        self.file(org, id, Body::Device { device: sha256(&[device.as_bytes()]), step });
        id
    }

    /// Revokes a device's key, which ends the binding.
    pub(crate) fn revoke(&mut self, org: &str, device: &str, key: u8, binding: Id16) {
        let id = self.next_id();
        let step = DeviceStep::Revoked(device_key(key), Some(binding));
        self.file(org, id, Body::Device { device: sha256(&[device.as_bytes()]), step });
    }

    /// Files a batch of three frames, whose first has that counter.
    pub(crate) fn batch(&mut self, org: &str, binding: Id16, first: u64) {
        let id = self.next_id();
        let root = merkle::root((first..first + 3).map(|counter| merkle::leaf(&counter.to_be_bytes())));
        self.file(
            org,
            id,
            Body::Batch { binding, root, count: 3, first, last: first + 2, gaps: Vec::new(), refused: 0 },
        );
    }

    /// The patient's pseudonym of the block's month.
    pub(crate) fn pseudonym(&self) -> Pseudonym {
        self.patient.pseudonym(self.block.time.month())
    }

    /// The policy in force keeps frames for so many seconds; that it was written on the ledger is not shown.
    pub(crate) fn keep_frames(&mut self, keep_s: u32) {
        let key = retention_key(&self.genesis.derivation_policy);
        self.state.insert(key, to_cbor(&Retention { keep_s }));
    }

    /// Files that five frames of a binding made under that pseudonym, up to counter 6, were let go, and rolled up in a record.
    pub(crate) fn let_go(&mut self, org: &str, binding: Id16, bound: Pseudonym, record: &str) {
        let id = self.next_id();
        let (roll_ups, document) = (vec![record_tag(&self.patient, record)], self.genesis.derivation_policy);
        let (after, last, count, concluded) = (0, 6, 5, Vec::new());
        self.file(org, id, Body::Disposal { binding, bound, after, last, count, document, roll_ups, concluded });
    }

    /// The audit event of a disclosure.
    pub(crate) fn audit_event(&self, id: &Id16) -> Opened {
        let bytes = format!(r#"{{"resourceType":"AuditEvent","id":"{id}"}}"#).into_bytes();
        Opened { record: format!("AuditEvent/{id}"), version: 1, salt: sha256(&[b"audit", id.as_ref()]), bytes }
    }

    fn disclosure(&self, org: &str, id: &Id16, under: Option<Id16>) -> Body {
        let Opened { record, salt, bytes, .. } = self.audit_event(id);
        Body::Access {
            action: AccessAction::Read,
            set: sha256(&[b"set"]),
            count: 1,
            denied: false,
            under,
            audit: audit_tag(&self.patient, &record, &org.parse().unwrap()),
            commitment: commit(&salt, &bytes),
        }
    }

    pub(crate) fn next_id(&mut self) -> Id16 {
        self.ids += 1;
        Id16(u128::from(self.ids).to_be_bytes())
    }

    /// The patient's months from first to last, those without entries included.
    pub(crate) fn prove(&self) -> Parts {
        self.prove_shown(&Shown::default())
    }

    /// The patient's months, and what else is to be shown.
    pub(crate) fn prove_shown(&self, shown: &Shown) -> Parts {
        let months: Vec<Month> = self.logs.values().map(|log| log.month).collect();
        let (Some(first), Some(last)) = (months.iter().min(), months.iter().max()) else {
            return self.prove_all(&[], shown);
        };
        self.prove_all(&(first.0..=last.0).map(Month).collect::<Vec<_>>(), shown)
    }

    pub(crate) fn prove_months(&self, months: &[Month]) -> Parts {
        self.prove_all(months, &Shown::default())
    }

    fn prove_all(&self, months: &[Month], shown: &Shown) -> Parts {
        let sealed = self.sealed();
        let pseudonyms: Vec<Pseudonym> = months.iter().map(|month| self.patient.pseudonym(*month)).collect();
        let mut keys = vec![policy_key(PolicyKind::Access), policy_key(PolicyKind::Derivation)];
        keys.extend(pseudonyms.iter().map(log_key));
        keys.extend(shown.current.iter().map(record_key));
        keys.extend(shown.devices.iter().flat_map(|(id, key)| [binding_key(id), device_signer_key(&device_key(*key))]));
        keys.extend(shown.witnesses.iter().map(|(org, _)| organisation_key(&org.parse().unwrap())));
        let (finality, mut proofs) = sealed.prove_keys(&keys);
        let mut rest = proofs.split_off(2).into_iter();
        let mut policies = proofs.into_iter().map(|proof| match proof {
            Proven::Value(proof) => proof,
            Proven::Absent(_) => unreachable!("policies are written first"),
        });
        let policies = Policies { access: policies.next().unwrap(), derivation: policies.next().unwrap() };
        let months: Vec<MonthLog> = months
            .iter()
            .zip(&pseudonyms)
            .map(|(month, pseudonym)| {
                let log = match rest.next().unwrap() {
                    Proven::Absent(proof) => Log::Absent { proof },
                    Proven::Value(head) => {
                        let PatientLog { entries, links, .. } = sealed.logs[pseudonym].clone();
                        match shown.range {
                            Some(range) => Log::Part(part(head, &entries, range).unwrap()),
                            None => Log::Present { head, entries, links },
                        }
                    }
                };
                MonthLog { month: *month, pseudonym: *pseudonym, log }
            })
            .collect();
        let current = shown.current.iter().map(|tag| {
            let value = match rest.next().unwrap() {
                Proven::Value(head) => CurrentValue::Present { head },
                Proven::Absent(proof) => CurrentValue::Absent { proof },
            };
            CurrentRecord { tag: *tag, value }
        });
        let current = current.collect();
        let mut next = || match rest.next().unwrap() {
            Proven::Value(proof) => proof,
            Proven::Absent(_) => panic!("there is no such value"),
        };
        let devices =
            shown.devices.iter().map(|(binding, _)| BoundDevice { binding: *binding, bound: next(), key: next() });
        let devices = devices.collect();
        let log = LedgerLog::after(&Header::from_bytes(&finality.header).unwrap());
        let witnesses = (0..).zip(&shown.witnesses).map(|(i, (name, signs))| {
            let (org, member, signer) = (name.parse().unwrap(), next(), entry_key(name));
            let key = signer.verifying_key().to_bytes().into();
            let sign = |message: &[u8]| Signature(signer.sign(message).to_bytes());
            let word = signs.then(|| speak(&log, &org, &key, COSIGNED_S + i, sign));
            Witness { org, member, word }
        });
        let witnesses = witnesses.collect();
        let places = if shown.places { sealed.places(&months) } else { Vec::new() };
        let accesses = accesses(&months, &self.gathered);
        let opened = self.opened.clone();
        Parts { finality, policies, months, opened, current, devices, places, witnesses, accesses }
    }

    /// Where the entries of the months stand in the log over all entries.
    fn places(&self, months: &[MonthLog]) -> Vec<Place> {
        let given =
            months.iter().flat_map(|part| (0..).zip(part.log.entries()).map(move |(at, logged)| (part, at, logged)));
        let (keys, indices): (Vec<_>, Vec<u64>) = given
            .map(|(part, at, logged)| {
                let digest = Entry::from_bytes(&logged.entry).unwrap().digest();
                let leaf = entry_leaf(logged.height, logged.time, 0, &digest);
                ((part.month, at), self.ledger.iter().position(|known| *known == leaf).unwrap() as u64)
            })
            .unzip();
        let paths = merkle::inclusion_paths(&self.ledger, &indices).unwrap();
        let placed = keys.into_iter().zip(indices).zip(paths);
        placed.map(|(((month, entry), index), path)| Place { month, entry, index, path }).collect()
    }

    /// The proof of one value that exists.
    pub(crate) fn prove_value(&self, key: Key) -> (Finality, StateProof) {
        let (finality, mut proofs) = self.sealed().prove_keys(&[key]);
        match proofs.remove(0) {
            Proven::Value(proof) => (finality, proof),
            Proven::Absent(_) => panic!("there is no such value"),
        }
    }

    /// How many overrides of these members nobody has reviewed.
    pub(crate) fn prove_unreviewed(&self, orgs: &[&str]) -> UnreviewedProof {
        let keys = orgs.iter().map(|org| organisation_key(&org.parse().unwrap()));
        let keys: Vec<Key> = [roll_key()].into_iter().chain(keys).collect();
        let (finality, proofs) = self.sealed().prove_keys(&keys);
        let mut proofs = proofs.into_iter().map(|proof| match proof {
            Proven::Value(proof) => proof,
            Proven::Absent(_) => panic!("there is no such value"),
        });
        UnreviewedProof::new(finality, proofs.next().unwrap(), proofs.collect())
    }

    /// The world after the block that is being filled, which becomes the last.
    pub(crate) fn sealed(&self) -> Self {
        let mut sealed = self.clone();
        sealed.block(None);
        sealed
    }

    /// Plays all blocks into a database, and proves the keys at its end.
    pub(crate) fn prove_keys(&self, keys: &[Key]) -> (Finality, Vec<Proven>) {
        let (blocks, keys) = (self.writes.clone(), keys.to_vec());
        let (root, ops_root, proofs) = deterministic::Runner::default().start(|context| async move {
            let mut db = Db::init(context.child("state"), config(), None).await.unwrap();
            for writes in blocks {
                let mut batch = db.new_batch();
                for (key, value) in writes {
                    batch = batch.write(sha256::Digest(key.0), value);
                }
                let batch = batch.merkleize(&db, None, &mut Proportional).await.unwrap();
                db = db.apply_batch(batch).await.unwrap().commit().await.unwrap();
            }
            let mut proofs = Vec::new();
            for key in keys {
                let key = sha256::Digest(key.0);
                proofs.push(match db.get(&key).await.unwrap() {
                    Some(value) => {
                        let proof = db.key_value_proof(key).await.unwrap().encode().to_vec();
                        Proven::Value(StateProof { value, proof })
                    }
                    None => Proven::Absent(db.exclusion_proof(&key).await.unwrap().encode().to_vec()),
                });
            }
            (Digest(db.root().0), Digest(db.ops_root().0), proofs)
        });
        let header = self.header(root, ops_root);
        let certificate = self.certificate(&header, &[0, 1, 2]);
        let (genesis, handovers) = (self.genesis.to_bytes(), Vec::new());
        (Finality { genesis, header: header.to_bytes(), certificate, handovers }, proofs)
    }

    /// The header of the last block.
    pub(crate) fn header(&self, state_root: Digest, ops_root: Digest) -> Header {
        let height = self.block.height - 1;
        Header {
            version: HEADER_VERSION,
            chain: self.id(),
            epoch: self.genesis.epoch(height),
            view: height + 3,
            leader: self.genesis.members[0].consensus_key,
            parent_view: height + 2,
            parent: sha256(&[b"parent"]),
            height,
            time: TimeMs(self.block.time.0 - 1000),
            entry_count: 1,
            body: sha256(&[b"body"]),
            log_size: self.block.log.size(),
            log_root: self.block.log.root(),
            state_root,
            ops_root,
            ops_start: 0,
            ops_end: 1,
            validators: self.genesis.validators_digest(),
            next_validators: self.genesis.validators_digest(),
        }
    }

    /// The certificate of a header by some of the validators. Fewer than a quorum is what no engine would assemble.
    pub(crate) fn certificate(&self, header: &Header, signers: &[usize]) -> Vec<u8> {
        certificate(&self.genesis.namespace(), &self.validators, &header.digest(), (header.epoch, header.view), signers)
    }

    pub(crate) fn verify(&self, parts: Parts) -> Result<Report, Refused> {
        verify(&assemble(parts).to_bytes(), &self.id(), &Limits::default())
    }
}

/// The accesses whose entries, named by their digests, the months give.
pub(crate) fn accesses(months: &[MonthLog], gathered: &[(Digest, Gathered)]) -> Vec<GatheredAccess> {
    let entries = months.iter().flat_map(|part| (0..).zip(part.log.entries()).map(move |at| (part.month, at)));
    let entries = entries.map(|(month, (at, logged))| (Entry::digest_of(&logged.entry), (month, at)));
    let entries: HashMap<Digest, (Month, u64)> = entries.collect();
    let given = gathered.iter().filter_map(|(digest, opening)| Some((entries.get(digest)?, opening.clone())));
    given
        .map(|(&(month, entry), Gathered { place, access, path })| GatheredAccess { month, entry, place, access, path })
        .collect()
}

/// A finalization by some of `keys`, in the engine's encoding.
pub(crate) fn certificate(
    namespace: &[u8],
    keys: &[PrivateKey],
    digest: &Digest,
    (epoch, view): (u64, u64),
    signers: &[usize],
) -> Vec<u8> {
    let set: Set<PublicKey> = keys
        .iter()
        .map(|key| PublicKey::decode(Bytes::copy_from_slice(key.public_key().as_ref())).unwrap())
        .try_collect()
        .unwrap();
    let round = Round::new(Epoch::new(epoch), View::new(view));
    let proposal = Proposal::new(round, View::new(view - 1), sha256::Digest(digest.0));
    let mut votes: Vec<_> = keys
        .iter()
        .map(|key| {
            let scheme = Scheme::signer(namespace, set.clone(), key.clone()).unwrap();
            Finalize::sign(&scheme, proposal.clone()).unwrap()
        })
        .collect();
    let verifier = Scheme::verifier(namespace, set);
    let all = commonware_utils::iter::NonEmpty::try_new(votes.clone().into_iter()).unwrap();
    let mut finalization = Finalization::from_owned_finalizes(&verifier, all, &Sequential).unwrap();
    let mut chosen = signers.iter().map(|i| votes[*i].attestation.clone()).collect::<Vec<_>>();
    chosen.sort_by_key(|vote| vote.signer);
    votes.clear();
    let indices: Vec<Participant> = chosen.iter().map(|vote| vote.signer).collect();
    finalization.certificate.signers = Signers::new(keys.len() as u32, indices).unwrap();
    finalization.certificate.signatures = chosen.into_iter().map(|vote| vote.signature).collect();
    finalization.encode().to_vec()
}

/// The public key of a device.
pub(crate) fn device_key(number: u8) -> contract::PublicKey {
    SigningKey::from_bytes(&[number; 32]).verifying_key().to_bytes().into()
}

/// The key that an organisation signs its submissions with.
pub(crate) fn entry_key(org: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(&[b"entry key", org.as_bytes()]).0)
}

pub(crate) fn at(instant: &str) -> TimeMs {
    TimeMs::from_instant(instant).unwrap()
}

fn config() -> VariableConfig<EightCap, ValueCodec, Sequential> {
    let page_cache = CacheRef::new(NZU16!(4096), NZUsize!(64));
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: "merkle-journal".into(),
            metadata_partition: "merkle-metadata".into(),
            items_per_blob: NZU64!(4096),
            write_buffer: NZUsize!(65536),
            replay_buffer: NZUsize!(65536),
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: JournalConfig {
            partition: "operations".into(),
            items_per_section: NZU64!(4096),
            compression: None,
            codec_config: ((), (RangeCfg::from(0..=VALUE_BYTES_MAX), ())),
            page_cache,
            write_buffer: NZUsize!(65536),
            replay_buffer: NZUsize!(65536),
        },
        grafted_metadata_partition: "grafted".into(),
        translator: EightCap,
        init_cache: Some(NZUsize!(1024)),
        init_buffer: NZUsize!(1 << 16),
        init_concurrency: (),
    }
}

/// A patient over three months with entries of four organisations: 5 in September, 4 in October, 7 in November.
pub(crate) fn three_months() -> World {
    let mut world = World::new(1);
    for instant in ["2026-09-03T10:00:00Z", "2026-09-04T10:00:00Z"] {
        world.block(Some(instant));
        world.record("mercy", "Patient/p1", "born");
        world.access("ambulance");
    }
    world.record("mercy", "AllergyIntolerance/a1", "penicillin");
    world.block(Some("2026-10-09T08:00:00Z"));
    world.record("ambulance", "Encounter/e1", "accident");
    world.access("mercy");
    world.block(None);
    world.record("mercy", "AllergyIntolerance/a1", "penicillin, severe");
    world.access("insurance");
    world.block(Some("2026-11-20T23:00:00Z"));
    world.record("mercy", "Patient/p1", "moved");
    let investigation = world.investigate("regulator");
    for _ in 0..5 {
        world.block(None);
        world.access_under("regulator", investigation);
    }
    world
}

/// The same patient a little later.
pub(crate) fn following(world: &World) -> World {
    let mut later = world.clone();
    later.block(None);
    later.record("mercy", "Patient/p1", "married");
    later.access("ambulance");
    later
}

/// A night with a device: an ambulance writes and measures, a hospital writes on and revokes the device's key a little later.
/// Also the binding, whose device has the key number 9.
pub(crate) fn night() -> (World, Id16) {
    night_with(|_, _| {})
}

/// The same night. The hospital reads five times within a second before it revokes the key, which is one entry, of which three accesses are
/// shown and the audit events of two of them opened; then the ambulance does twice, and neither is shown.
pub(crate) fn rounds() -> (World, Id16) {
    night_with(|world, height| match height {
        4 => {
            let ids = world.gather("mercy", 5);
            world.gathered.retain(|(_, opening)| [0, 2, 3].contains(&opening.place));
            for id in [ids[0], ids[3]] {
                world.opened.push(world.audit_event(&id));
            }
        }
        5 => {
            let shown = world.gathered.clone();
            world.gather("ambulance", 2);
            world.gathered = shown;
        }
        _ => {}
    })
}

/// A night, and what else happens at the beginning of its blocks.
fn night_with(besides: impl Fn(&mut World, u64)) -> (World, Id16) {
    let mut world = World::new(1);
    world.block(Some("2026-10-31T22:15:00Z"));
    world.record("ambulance", "Patient/p1", "found unconscious");
    world.access("mercy");
    let binding = world.bind("ambulance", "oximeter", 9);
    world.batch("ambulance", binding, 1);
    world.block(Some("2026-11-01T00:30:00Z"));
    world.record("mercy", "Patient/p1", "identified");
    world.batch("ambulance", binding, 4);
    world.block(None);
    besides(&mut world, 4);
    world.revoke("mercy", "oximeter", 9, binding);
    world.block(None);
    besides(&mut world, 5);
    world.batch("ambulance", binding, 7);
    world.opened.remove(0);
    (world, binding)
}

/// All that can be shown of the night, and a record that was never written.
pub(crate) fn whole_night(world: &World, binding: Id16) -> Shown {
    Shown {
        current: ["Patient/p1", "Patient/p2"].map(|name| record_tag(&world.patient, name)).to_vec(),
        devices: vec![(binding, 9)],
        places: true,
        witnesses: vec![("ambulance", true), ("insurance", false), ("mercy", true), ("regulator", true)],
        range: None,
    }
}

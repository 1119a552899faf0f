//! A small consortium for tests: five members, one patient unless said otherwise, every entry through `execute`.

use crate::{
    Body, Entry, Executed, Genesis, InvalidBlock, Joining, Member, MonthLink, Parent, PolicyKind, PublicKey, Reach,
    Signature, SignedSubmission, Submission, execute,
    merkle::Frontier,
    state::{self, Key, State},
    to_cbor, touched,
};
use ed25519_dalek::SigningKey;
use minicbor::Decode;
use proptest::{prelude::ProptestConfig, test_runner::RngSeed};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Pseudonym, Purpose, RecordTag, TimeMs};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

pub(crate) const MEMBERS: [(&str, OrgRole); 5] = [
    ("acme", OrgRole::Insurer),
    ("county", OrgRole::Hospital),
    ("mercy", OrgRole::Hospital),
    ("rescue", OrgRole::Ems),
    ("watch", OrgRole::Compliance),
];

pub(crate) const ACCESS_POLICY: Digest = Digest([0xac; 32]);
/// Documents that tests propose by names alone: they count as written. Tests of the writing have real ones.
pub(crate) const WRITTEN: [Digest; 4] = [ACCESS_POLICY, Digest([2; 32]), Digest([0xbb; 32]), Digest([0xde; 32])];

/// The state's values which say that [`WRITTEN`] are on the ledger.
pub(crate) fn written_policies() -> impl Iterator<Item = (Key, Vec<u8>)> {
    let both = [PolicyKind::Access, PolicyKind::Derivation].into_iter();
    let keys = both.flat_map(|kind| WRITTEN.map(|document| state::policy_text_key(kind, &document)));
    keys.map(|key| (key, to_cbor(&state::PolicyText { org: org("mercy"), parts: 1 })))
}

pub(crate) fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}
pub(crate) fn id(n: u8) -> Id16 {
    Id16([n; 16])
}
pub(crate) fn digest(n: u8) -> Digest {
    Digest([n; 32])
}
pub(crate) fn tag(n: u8) -> RecordTag {
    RecordTag(digest(n))
}
pub(crate) fn commitment(n: u8) -> Commitment {
    Commitment(digest(n))
}
pub(crate) fn pseudonym(n: u8) -> Pseudonym {
    Pseudonym(digest(n))
}
pub(crate) fn public(n: u8) -> PublicKey {
    SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes().into()
}

pub(crate) fn genesis() -> Genesis {
    let member = |(i, (name, role)): (usize, (&str, OrgRole))| Member {
        org: org(name),
        role,
        entry_key: public(100 + i as u8),
        consensus_key: public(150 + i as u8),
        wrap_key: format!("age1{name}"),
        address: format!("127.0.0.1:{}", 9000 + i),
    };
    Genesis {
        version: 1,
        name: "test".to_owned(),
        time: TimeMs::from_instant("2026-11-21T10:00:00Z").unwrap(),
        members: MEMBERS.into_iter().enumerate().map(member).collect(),
        access_policy: ACCESS_POLICY,
        derivation_policy: digest(0xde),
        epoch_blocks: 8,
    }
}

/// A sixth organisation that would like to join.
pub(crate) fn joining() -> Joining {
    let reach = Reach { wrap_key: "age1valley".to_owned(), address: "valley.example:9005".to_owned() };
    Joining { role: OrgRole::Hospital, entry_key: public(29), consensus_key: public(30), reach }
}

/// An entry to be, with everything set that a case does not care about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) org: OrgId,
    pub(crate) lane: u32,
    pub(crate) entry: Entry,
    /// Added to the block's time.
    pub(crate) offset_ms: i64,
}

/// `org` says `body` about patient 1, at the block's time, for treatment.
pub(crate) fn said(name: &str, body: Body) -> Said {
    let entry = Entry {
        id: id(0),
        org: org(name),
        time: TimeMs(0),
        purpose: Purpose::Treat,
        policy: ACCESS_POLICY,
        actor: digest(1),
        patient: Some(pseudonym(1)),
        month: Some(MonthLink(commitment(0))),
        body,
    };
    Said { org: org(name), lane: 0, entry, offset_ms: 0 }
}

impl Said {
    pub(crate) fn purpose(mut self, purpose: Purpose) -> Self {
        self.entry.purpose = purpose;
        self
    }
    pub(crate) fn actor(mut self, n: u8) -> Self {
        self.entry.actor = digest(n);
        self
    }
    pub(crate) fn patient(mut self, n: u8) -> Self {
        self.entry.patient = Some(pseudonym(n));
        self
    }
    pub(crate) fn nobody(mut self) -> Self {
        self.entry.patient = None;
        self
    }
    pub(crate) fn unlinked(mut self) -> Self {
        self.entry.month = None;
        self
    }
    pub(crate) fn policy(mut self, document: Digest) -> Self {
        self.entry.policy = document;
        self
    }
    pub(crate) fn later(mut self, ms: i64) -> Self {
        self.offset_ms = ms;
        self
    }
    pub(crate) fn lane(mut self, lane: u32) -> Self {
        self.lane = lane;
        self
    }
    pub(crate) fn id(mut self, n: u8) -> Self {
        self.entry.id = id(n);
        self
    }
}

/// A ledger of one's own: state, block, and how far each lane is.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) state: HashMap<Key, Vec<u8>>,
    pub(crate) block: Parent,
    lanes: BTreeMap<(OrgId, u32), u64>,
    entries: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let genesis = genesis();
        let block = Parent { height: 1, time: genesis.time.plus_ms(1000), log: Frontier::default() };
        Self { genesis, state: written_policies().collect(), block, lanes: BTreeMap::new(), entries: 0 }
    }

    /// A submission with the lane's next number.
    pub(crate) fn submission(&mut self, said: Said) -> SignedSubmission {
        let Said { org, lane, mut entry, offset_ms } = said;
        entry.time = TimeMs(self.block.time.0.checked_add_signed(offset_ms).unwrap());
        if entry.id == id(0) {
            self.entries += 1;
            entry.id = Id16(u128::from(self.entries).to_be_bytes());
        }
        let seq = self.lanes.entry((org.clone(), lane)).or_default();
        *seq += 1;
        let submission = Submission { chain: self.genesis.id(), org, lane, first_seq: *seq, entries: vec![entry] };
        SignedSubmission::new(submission, Signature([0; 64]))
    }

    /// A submission that no block took: its number is free again.
    pub(crate) fn forget(&mut self, signed: &SignedSubmission) {
        let lane = (signed.submission.org.clone(), signed.submission.lane);
        let seq = self.lanes.entry(lane).or_default();
        *seq = (*seq).min(signed.submission.first_seq - 1);
    }

    /// Executes on nothing but the values that [`touched`] names, twice, and compares.
    pub(crate) fn execute(&self, submissions: &[SignedSubmission]) -> Result<Executed, InvalidBlock> {
        let keys = touched(submissions);
        let before = keys.iter().filter_map(|key| Some((*key, self.state.get(key)?.clone()))).collect();
        let executed = execute(&self.genesis, &self.block, submissions, &before);
        assert_eq!(executed, execute(&self.genesis, &self.block, submissions, &self.state));
        executed
    }

    /// Takes a block over.
    pub(crate) fn commit(&mut self, executed: Executed) {
        for (key, value) in executed.writes {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        let time = self.block.time.plus_ms(1000);
        self.block = Parent { height: self.block.height + 1, time, log: executed.log };
    }

    /// A block with one entry; what became of it, by name.
    pub(crate) fn say(&mut self, said: Said) -> String {
        let submission = self.submission(said);
        let executed = self.execute(&[submission]).unwrap();
        let verdict = executed.receipts[0].refused.map_or("applied".to_owned(), |reject| format!("{reject:?}"));
        self.commit(executed);
        verdict
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.block.time = self.block.time.plus_ms(ms);
    }

    pub(crate) fn get<T: for<'b> Decode<'b, ()>>(&self, key: &Key) -> Option<T> {
        Some(minicbor::decode(self.state.get(key)?).unwrap())
    }

    pub(crate) fn organisation(&self, name: &str) -> state::Organisation {
        self.get(&state::organisation_key(&org(name))).unwrap()
    }
}

impl State for HashMap<Key, Vec<u8>> {
    fn read(&self, key: &Key) -> Option<&[u8]> {
        self.get(key).map(Vec::as_slice)
    }
}

/// So many cases from a seed that is printed; `VITALTRACE_SEED` repeats it.
pub(crate) fn seeded(cases: u32) -> ProptestConfig {
    let given = std::env::var("VITALTRACE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("{cases} cases, VITALTRACE_SEED={seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::with_cases(cases) }
}

/// Runs a table: each line is an entry in a block of its own, and what becomes of it.
pub(crate) fn check<const N: usize>(world: &mut World, table: [(Said, &str); N]) {
    for (line, (said, expected)) in table.into_iter().enumerate() {
        let shown = format!("line {line}: {} says {:?}", said.org, said.entry.body);
        assert_eq!(world.say(said), expected, "{shown}");
    }
}

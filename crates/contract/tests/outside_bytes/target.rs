//! What a fuzzer tries: bytes as every format that comes from outside, and bytes as dice for well-formed entries.
//!
//! An ordinary test runs it on a bounded number of inputs; `fuzz/` runs it for as long as one likes.

use contract::{
    AccessAction, AlarmStep, Attachment, AttachmentKind, Block, Body, ClaimStep, Code, CustodyStep, DeviceStep, Entry,
    Gap, Genesis, GrantStep, HandoffStep, Header, InvestigationStep, Joining, Member, MemberStep, MonthLink,
    OverrideStep, Parent, PolicyKind, PolicyPart, PolicyStep, Priority, PublicKey, Reach, Signature, SignedSubmission,
    Submission, execute,
    merkle::{self, Frontier},
    touched,
};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Pseudonym, Purpose, RecordTag, RecordType, TimeMs};
use std::collections::HashMap;

/// The most entries that one input is made into.
const ENTRIES_MAX: usize = 64;
const ACCESS_POLICY: Digest = Digest([0xac; 32]);
const ORGS: [(&str, OrgRole); 4] = [
    ("acme", OrgRole::Insurer),
    ("mercy", OrgRole::Hospital),
    ("rescue", OrgRole::Ems),
    ("watch", OrgRole::Compliance),
];

/// Tries one input; how many formats took it, and how many entries were applied.
pub(crate) fn attempt(bytes: &[u8]) -> (usize, usize) {
    (decode(bytes), play(bytes))
}

/// What decodes is the encoding of what it decodes to; how many formats decoded it.
pub(crate) fn decode(bytes: &[u8]) -> usize {
    let signed = SignedSubmission::from_bytes(bytes).ok();
    if let Some(signed) = &signed {
        assert!(signed.verify(&signed.submission.chain, &[0; 32].into()).is_err(), "a small-order key signs");
        run(&founders(), &mut HashMap::new(), 1, std::slice::from_ref(signed));
    }
    let encodings = [
        signed.map(|value| value.to_bytes()),
        Entry::from_bytes(bytes).ok().map(|value| value.to_bytes()),
        Header::from_bytes(bytes).ok().map(|value| value.to_bytes()),
        Block::from_bytes(bytes).ok().map(|value| value.to_bytes()),
        Genesis::from_bytes(bytes).ok().map(|value| value.to_bytes()),
    ];
    encodings.into_iter().flatten().map(|encoded| assert_eq!(encoded, bytes)).count()
}

/// Entries from dice, executed one after another, never panic; how many were applied.
pub(crate) fn play(bytes: &[u8]) -> usize {
    let (genesis, mut state, mut applied) = (founders(), HashMap::new(), 0);
    let mut dice = Dice(bytes);
    let mut lanes: HashMap<OrgId, u64> = HashMap::new();
    for height in 1..=ENTRIES_MAX as u64 {
        if dice.0.is_empty() {
            break;
        }
        let entry = dice.entry(TimeMs(genesis.time.0 + height * 1_000));
        let encoded = entry.to_bytes();
        assert_eq!(Entry::from_bytes(&encoded).as_ref(), Ok(&entry));
        let seq = lanes.entry(entry.org.clone()).or_default();
        *seq += 1;
        let (chain, org) = (genesis.id(), entry.org.clone());
        let submission = Submission { chain, org, lane: 0, first_seq: *seq, entries: vec![entry] };
        let signed = SignedSubmission::new(submission, Signature([0; 64]));
        applied += run(&genesis, &mut state, height, &[signed]);
    }
    applied
}

/// Executes a block on the keys that it announces and on all; how many entries were applied.
fn run(
    genesis: &Genesis,
    state: &mut HashMap<Digest, Vec<u8>>,
    height: u64,
    submissions: &[SignedSubmission],
) -> usize {
    let time = TimeMs(genesis.time.0 + height * 1_000);
    let parent = Parent { height, time, log: Frontier::default() };
    let keys = touched(submissions);
    let before = keys.iter().filter_map(|key| Some((*key, state.get(key)?.clone()))).collect();
    let executed = execute(genesis, &parent, submissions, &before);
    assert_eq!(executed, execute(genesis, &parent, submissions, state), "an unannounced key decides");
    let Ok(executed) = executed else { return 0 };
    for (key, value) in executed.writes {
        match value {
            Some(value) => _ = state.insert(key, value),
            None => _ = state.remove(&key),
        }
    }
    executed.receipts.iter().filter(|receipt| receipt.refused.is_none()).count()
}

/// Keys are never looked at here: nothing is signed.
pub(crate) fn founders() -> Genesis {
    let key = |n: usize| PublicKey::from([u8::try_from(n).unwrap_or(0); 32]);
    let member = |(n, (name, role)): (usize, (&str, OrgRole))| Member {
        org: org(name),
        role,
        entry_key: key(n + 1),
        consensus_key: key(n + 101),
        wrap_key: String::new(),
        address: String::new(),
    };
    Genesis {
        version: 1,
        name: "fuzz".to_owned(),
        time: TimeMs(1_795_000_000_000),
        members: ORGS.into_iter().enumerate().map(member).collect(),
        access_policy: ACCESS_POLICY,
        derivation_policy: Digest([0xde; 32]),
        epoch_blocks: 8,
    }
}

#[expect(clippy::expect_used, reason = "the names are those of this file")]
fn org(name: &str) -> OrgId {
    name.parse().expect("a name")
}

/// Bytes as dice; when there are none left, every die shows 0.
pub(crate) struct Dice<'a>(pub(crate) &'a [u8]);

impl Dice<'_> {
    fn die(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.die()) % of.len()].clone()
    }
    fn flag(&mut self) -> bool {
        self.die().is_multiple_of(2)
    }
    /// Of a record, or now and then of an audit event.
    fn tag(&mut self) -> RecordTag {
        let tag = RecordTag(self.digest());
        if self.die() < 10 { tag.of_audit(&self.org()) } else { tag.of_record() }
    }
    /// Of some organisation's audit event, or now and then of anything.
    fn audit_tag(&mut self) -> RecordTag {
        let tag = RecordTag(self.digest());
        if self.die() < 10 { tag } else { tag.of_audit(&self.org()) }
    }
    fn maybe<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(some(self)) } else { None }
    }
    fn several<T>(&mut self, mut some: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.die() % 4).map(|_| some(self)).collect()
    }
    /// Few values, so that entries meet; and those at the edges.
    fn integer(&mut self) -> u64 {
        match self.die() {
            n @ 0..=200 => u64::from(n % 8),
            n @ 201..=230 => u64::MAX - u64::from(n % 3),
            n => u64::from(n) << (n % 56),
        }
    }
    fn small(&mut self) -> u32 {
        u32::try_from(self.integer()).unwrap_or(u32::MAX)
    }
    fn digest(&mut self) -> Digest {
        match self.die() % 8 {
            0 => merkle::root([]),
            n => Digest([n; 32]),
        }
    }
    fn commitment(&mut self) -> Commitment {
        Commitment(self.digest())
    }
    fn id(&mut self) -> Id16 {
        Id16([self.die() % 4; 16])
    }
    fn joining(&mut self) -> Joining {
        let reach = Reach { wrap_key: "age1new".to_owned(), address: "new.example:9000".to_owned() };
        Joining { role: OrgRole::Ems, entry_key: self.key(), consensus_key: self.key(), reach }
    }
    fn key(&mut self) -> PublicKey {
        self.digest().0.into()
    }
    fn org(&mut self) -> OrgId {
        org(self.one(&["acme", "mercy", "rescue", "watch", "stranger"]))
    }
    fn time(&mut self, now: TimeMs) -> TimeMs {
        let edges = [now.0, now.0 + 1_500, now.0 + 2_001, now.0 - 3_000, now.0 - 40 * 86_400_000, 0, u64::MAX];
        TimeMs(self.one(&edges))
    }
    fn priority(&mut self) -> Priority {
        self.one(&[Priority::Low, Priority::Medium, Priority::High])
    }

    /// A well-formed entry, which the rules may well refuse.
    pub(crate) fn entry(&mut self, now: TimeMs) -> Entry {
        Entry {
            id: Id16([self.die(); 16]),
            org: self.org(),
            time: if self.die() < 200 { now } else { self.time(now) },
            purpose: self.one(&[Purpose::Treat, Purpose::BreakGlass, Purpose::Compliance, Purpose::Fraud]),
            policy: if self.die() < 240 { ACCESS_POLICY } else { self.digest() },
            actor: self.digest(),
            patient: if self.die() < 220 { Some(Pseudonym(self.digest())) } else { None },
            month: if self.die() < 240 { Some(MonthLink(self.commitment())) } else { None },
            body: self.body(now),
        }
    }

    fn body(&mut self, now: TimeMs) -> Body {
        match self.die() % 16 {
            0 => Body::Record {
                tag: self.tag(),
                kind: self.one(&RecordType::ALL),
                version: self.integer(),
                previous: self.maybe(Self::commitment),
                commitment: self.commitment(),
                deleted: self.die() < 60,
                codes: self.several(|dice| {
                    let texts = ["loinc", "8867-4", "", "a b", "\u{1d11e}"].map(str::to_owned);
                    Code { system: dice.one(&texts), code: dice.one(&texts) }
                }),
                attachments: self.several(|dice| Attachment {
                    digest: dice.digest(),
                    length: dice.small(),
                    kind: dice.one(&[AttachmentKind::EssentialCopy, AttachmentKind::WrappedKey]),
                }),
            },
            1 => {
                use AccessAction::{Export, Frames, Read, Search, Summary, Write};
                Body::Access {
                    action: self.one(&[Read, Search, Summary, Write, Frames, Export]),
                    set: self.digest(),
                    count: self.small(),
                    denied: self.die() < 60,
                    under: self.maybe(Self::id),
                    audit: self.audit_tag(),
                    commitment: self.commitment(),
                }
            }
            2 => Body::Grant {
                id: self.id(),
                step: self.one(&[GrantStep::Issued, GrantStep::Revoked]),
                consent: self.commitment(),
                until: self.maybe(|dice| dice.time(now)),
            },
            3 => {
                let opened = OverrideStep::Opened(self.time(now));
                let steps = [opened, OverrideStep::Closed, OverrideStep::Reviewed(self.flag())];
                Body::Override { id: self.id(), step: self.one(&steps), reason: self.commitment() }
            }
            4 => {
                let (id, key) = (self.id(), self.key());
                let revoked = DeviceStep::Revoked(key, self.maybe(Self::id));
                let steps = [DeviceStep::Bound(id, key), DeviceStep::Unbound(id), revoked];
                Body::Device { device: self.digest(), step: self.one(&steps) }
            }
            5 => Body::Batch {
                binding: self.id(),
                root: self.digest(),
                count: self.small(),
                first: self.integer(),
                last: self.integer(),
                gaps: self.several(|dice| Gap { first: dice.integer(), last: dice.integer() }),
                refused: self.small(),
            },
            6 => Body::Analytics {
                result: self.tag(),
                inputs: self.digest(),
                model: self.digest(),
                priority: self.maybe(Self::priority),
            },
            7 => Body::Alarm {
                id: self.id(),
                step: self.one(&[AlarmStep::Raised, AlarmStep::Acknowledged, AlarmStep::Ended]),
                priority: self.priority(),
            },
            8 => Body::Handoff {
                id: self.id(),
                step: self.one(&[HandoffStep::Offered, HandoffStep::Accepted]),
                from: self.org(),
                to: self.org(),
            },
            9 => {
                use ClaimStep::{
                    Accepted, Cancelled, Paid, PreauthorisationRequested, Preauthorised, Rejected, Submitted,
                };
                let steps = [Submitted, PreauthorisationRequested, Preauthorised, Accepted, Rejected, Paid, Cancelled];
                Body::Claim {
                    id: self.id(),
                    step: self.one(&steps),
                    insurer: if self.flag() { org("acme") } else { self.org() },
                    amount: self.commitment(),
                    services: self.several(Self::digest),
                }
            }
            10 => Body::Investigation {
                id: self.id(),
                step: self.one(&[InvestigationStep::Opened, InvestigationStep::Concluded]),
                document: self.commitment(),
            },
            11 => Body::Dispute {
                tag: self.tag(),
                version: self.integer(),
                accepted: self.commitment(),
                branch: self.commitment(),
            },
            12 => Body::Link { other: Pseudonym(self.digest()), same: self.flag() },
            13 => {
                use CustodyStep::{Erased, Held, RecoverProposed, RecoverVoted, Recovered, Released};
                let step = self.one(&[Held, Released, Erased, RecoverProposed, RecoverVoted, Recovered]);
                Body::Custody { id: self.id(), step, records: self.digest(), count: self.small() }
            }
            14 => {
                let step = match self.die() % 4 {
                    0 => PolicyStep::Proposed(self.integer()),
                    1 => PolicyStep::Voted(self.flag()),
                    2 => PolicyStep::Activated,
                    _ => {
                        let bytes = vec![self.die(); usize::from(self.die())];
                        PolicyStep::Written(PolicyPart { part: self.small(), of: self.small(), bytes })
                    }
                };
                let kind = self.one(&[PolicyKind::Access, PolicyKind::Derivation]);
                Body::Policy { kind, document: self.digest(), step }
            }
            _ => {
                let steps = [
                    MemberStep::EntryKeyRotated(self.key()),
                    MemberStep::JoinProposed(self.joining()),
                    MemberStep::RemovalProposed,
                    MemberStep::Seated(self.key()),
                    MemberStep::Moved(self.joining().reach),
                    MemberStep::Voted(self.id(), self.flag()),
                    MemberStep::Left,
                ];
                Body::Member { member: self.org(), step: self.one(&steps) }
            }
        }
    }
}

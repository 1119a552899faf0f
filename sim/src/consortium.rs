//! Four organisations, their keys, and entries that they write.

use crate::vault::Shelf;
use contract::{
    Attachment, AttachmentKind, Body, Entry, GENESIS_VERSION, Genesis, Holding, Joining, Member, MemberStep, PublicKey,
    Reach, SignedSubmission, Submission,
};
use ed25519_dalek::SigningKey;
use ledger::{Config, ConsensusKey, EntryKey, Part, VaultPlace};
use record::{Commitment, Digest, Id16, OrgId, OrgRole, Purpose, RecordTag, RecordType, TimeMs, sha256};
use std::{net::SocketAddr, path::Path, sync::Arc};

/// Memory of a node for pages, in bytes: a simulation holds little, and makes many nodes.
const CACHE_BYTES: usize = 2 * 1024 * 1024;
/// Short, so that every run goes through several epochs.
const EPOCH_BLOCKS: u64 = 8;

struct Keys {
    org: OrgId,
    entry: SigningKey,
    consensus: [u8; 32],
}

/// Four organisations: an ambulance service, a hospital, an insurer and a regulator, in that order; and a fifth that would like to join,
/// [`NEWCOMER`].
pub struct Consortium {
    /// What they founded.
    pub genesis: Genesis,
    keys: Vec<Keys>,
}

/// The place of the organisation that is no founder: a hospital.
pub const NEWCOMER: usize = 4;

/// The members' names and roles, sorted by name.
const MEMBERS: [(&str, OrgRole); 4] = [
    ("ambulance", OrgRole::Ems),
    ("hospital", OrgRole::Hospital),
    ("insurer", OrgRole::Insurer),
    ("regulator", OrgRole::Compliance),
];

impl Consortium {
    /// Members whose keys are drawn from `seed`, each listening on its address.
    pub fn new(seed: u64, addresses: &[SocketAddr; 4]) -> Self {
        let secret =
            |label: &str, org: &str| sha256(&[b"sim\0", &seed.to_be_bytes(), label.as_bytes(), org.as_bytes()]).0;
        let public = |secret: &[u8; 32]| PublicKey::from(SigningKey::from_bytes(secret).verifying_key().to_bytes());
        let (mut keys, mut members) = (Vec::new(), Vec::new());
        for ((name, role), address) in MEMBERS.into_iter().zip(addresses) {
            let (entry, consensus) = (secret("entry", name), secret("consensus", name));
            let Ok(org) = name.parse::<OrgId>() else { continue };
            members.push(Member {
                org: org.clone(),
                role,
                entry_key: public(&entry),
                consensus_key: public(&consensus),
                wrap_key: String::new(),
                address: address.to_string(),
            });
            keys.push(Keys { org, entry: SigningKey::from_bytes(&entry), consensus });
        }
        if let Ok(org) = "university".parse::<OrgId>() {
            let (entry, consensus) = (secret("entry", "university"), secret("consensus", "university"));
            keys.push(Keys { org, entry: SigningKey::from_bytes(&entry), consensus });
        }
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "simulation".into(),
            time: TimeMs(0),
            members,
            access_policy: sha256(&[b"access policy"]),
            derivation_policy: sha256(&[b"derivation policy"]),
            epoch_blocks: EPOCH_BLOCKS,
        };
        Self { genesis, keys }
    }

    /// Configuration of a member's node. Without a folder its vault is a new one in memory.
    pub fn config(&self, member: usize, listen: SocketAddr, data_dir: Option<&Path>) -> Config {
        let Keys { org, entry, consensus } = &self.keys[member];
        let key = ConsensusKey::from(*consensus);
        let mut config =
            Config::new(self.genesis.clone(), org.clone(), key, listen, data_dir.unwrap_or_else(|| Path::new("")));
        config.cache_bytes = CACHE_BYTES;
        config.entry_key = Some(EntryKey::from(entry.clone()));
        if data_dir.is_none() {
            config.vault = VaultPlace::Given(Arc::new(Shelf::default()));
        }
        if member == NEWCOMER {
            config.part = Part::Later(OrgRole::Hospital);
        }
        config
    }

    /// What the newcomer is proposed as.
    pub fn joining(&self, address: SocketAddr) -> Joining {
        let Keys { entry, consensus, .. } = &self.keys[NEWCOMER];
        let public = |key: &SigningKey| PublicKey::from(key.verifying_key().to_bytes());
        Joining {
            role: OrgRole::Hospital,
            entry_key: public(entry),
            consensus_key: public(&SigningKey::from_bytes(consensus)),
            reach: Reach { wrap_key: "age1university".to_owned(), address: address.to_string() },
        }
    }

    /// Another consensus key of a member: the secret and the public half.
    pub fn other_key(&self, member: usize) -> ([u8; 32], PublicKey) {
        let secret = sha256(&[b"sim\0other", &self.keys[member].consensus]).0;
        (secret, SigningKey::from_bytes(&secret).verifying_key().to_bytes().into())
    }

    /// A member says something about the membership of `about`; the label makes the entry's id.
    pub fn says(&self, member: usize, label: &str, about: usize, step: MemberStep) -> Entry {
        let body = Body::Member { member: self.org(about).clone(), step };
        Entry { body, ..self.entry(member, label, &[]) }
    }

    /// A member's name.
    pub fn org(&self, member: usize) -> &OrgId {
        &self.keys[member].org
    }

    /// An entry that the contract applies: the first version of a record that no other label has.
    pub fn entry(&self, member: usize, label: &str, attachments: &[&[u8]]) -> Entry {
        let digest =
            |kind: &str| sha256(&[kind.as_bytes(), &[0], self.org(member).as_str().as_bytes(), &[0], label.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&digest("id").0[..16]);
        let attachments = attachments.iter().map(|bytes| Attachment {
            digest: sha256(&[bytes]),
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            kind: AttachmentKind::EssentialCopy,
        });
        Entry {
            id: Id16(id),
            org: self.org(member).clone(),
            time: self.genesis.time,
            purpose: Purpose::ALL[0],
            policy: self.genesis.access_policy,
            actor: digest("actor"),
            patient: None,
            month: None,
            body: Body::Record {
                tag: RecordTag(digest("tag")).of_record(),
                kind: RecordType::Permission,
                version: 1,
                previous: None,
                commitment: Commitment(digest("commitment")),
                deleted: false,
                codes: Vec::new(),
                attachments: attachments.collect(),
            },
        }
    }

    /// The state key of the record of [`Self::entry`].
    pub fn record_key(&self, member: usize, label: &str) -> Digest {
        match self.entry(member, label, &[]).body {
            Body::Record { tag, .. } => contract::state::record_key(&tag),
            _ => Digest([0; 32]),
        }
    }

    /// Entries under the member's signature.
    pub fn submission(&self, member: usize, lane: u32, first_seq: u64, entries: Vec<Entry>) -> SignedSubmission {
        let chain = self.genesis.id();
        let org = self.org(member).clone();
        Submission { chain, org, lane, first_seq, entries }.sign(&self.keys[member].entry)
    }

    /// The word of `custodian` that it holds all that a submission names, signed by `signer`.
    pub fn holding(&self, custodian: usize, signer: usize, submission: &Digest) -> Holding {
        Holding::sign(&self.genesis.id(), submission, self.org(custodian).clone(), &self.keys[signer].entry)
    }

    /// `count` new entries under the member's signature; they continue `lane` at `first_seq`.
    pub fn new_entries(&self, member: usize, lane: u32, first_seq: u64, count: u64) -> SignedSubmission {
        let entry = |seq: u64| self.entry(member, &format!("{lane}-{seq}"), &[]);
        self.submission(member, lane, first_seq, (first_seq..first_seq + count).map(entry).collect())
    }
}

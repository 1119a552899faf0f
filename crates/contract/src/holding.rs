//! Holding receipts: custodians' word that they hold, durably, every attachment which a submission names. A block shows them beside the
//! submissions, and nobody votes to finalise one that lacks any.

use crate::{
    Attachment, Block, Body, FormatError, Genesis, PublicKey, Signature, SignedSubmission, from_cbor,
    state::{self, Key, Organisation, Roll},
    to_cbor,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use record::{Digest, OrgId, OrgRole, sha256};
use std::collections::{BTreeMap, HashMap};

/// Custodians that must hold what a submission names, before it may stand in a block: as many as there are, where there are fewer.
pub const CUSTODIANS_MIN: usize = 2;

const HOLDING_DOMAIN: &[u8] = b"vitaltrace/holding/1\0";

/// Whether organisations of this role keep attachments: encrypted copies and wrapped patient keys. Nobody else is given any.
pub fn may_hold(role: OrgRole) -> bool {
    match role {
        OrgRole::Ems | OrgRole::Hospital | OrgRole::Compliance => true,
        OrgRole::Insurer => false,
    }
}

/// A custodian's word that it holds every attachment which one submission names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Holding {
    /// Who holds them.
    #[n(0)]
    pub custodian: OrgId,
    /// By the custodian's entry key over SHA-256(domain ‖ genesis id ‖ [`SignedSubmission::digest`] ‖ name of the custodian).
    #[n(1)]
    pub signature: Signature,
}

/// A holding receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the holding receipt of `{custodian}` does not hold")]
pub struct BadHolding {
    /// In whose name it was made.
    pub custodian: OrgId,
}

/// Why a block shows too little, or too much, of who holds what it names. Such a block is never valid on its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// Not one list of receipts for each submission that names attachments.
    #[error("{got} lists of holding receipts for {expected} submissions that name attachments")]
    Lists {
        /// Lists in the block.
        got: usize,
        /// Submissions that name attachments.
        expected: usize,
    },
    /// Not the receipts of as many custodians as must be, each once, sorted by name.
    #[error("`{org}` lane {lane} entry {seq} needs receipts of {expected} custodians, each once and in order")]
    Custodians {
        /// The submission's organisation.
        org: OrgId,
        /// Its lane.
        lane: u32,
        /// Its first sequence number.
        seq: u64,
        /// How many receipts it must have.
        expected: usize,
    },
    /// In the name of an organisation that is no custodian.
    #[error("`{0}` is no custodian")]
    NoCustodian(OrgId),
    /// A receipt does not hold.
    #[error(transparent)]
    Bad(#[from] BadHolding),
}

/// What a custodian signs for a submission.
fn said(chain: &Digest, submission: &Digest, custodian: &OrgId) -> Digest {
    sha256(&[HOLDING_DOMAIN, chain.as_ref(), submission.as_ref(), custodian.as_str().as_bytes()])
}

impl Holding {
    /// `custodian` says that it holds all that the submission of this digest names: only ever after its vault has it on disk.
    pub fn sign(chain: &Digest, submission: &Digest, custodian: OrgId, key: &SigningKey) -> Self {
        let signature = Signature(key.sign(said(chain, submission, &custodian).as_ref()).to_bytes());
        Self { custodian, signature }
    }

    /// Checks that the holder of `key` said so, strictly (RFC 8032, no small-order keys).
    pub fn verify(&self, chain: &Digest, submission: &Digest, key: &PublicKey) -> Result<(), BadHolding> {
        let bad = || BadHolding { custodian: self.custodian.clone() };
        let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| bad())?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(said(chain, submission, &self.custodian).as_ref(), &signature).map_err(|_| bad())
    }
}

impl SignedSubmission {
    /// The attachments that its entries name.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.submission.entries.iter().flat_map(|entry| match &entry.body {
            Body::Record { attachments, .. } => attachments.as_slice(),
            _ => &[],
        })
    }

    /// Whether its entries name any, so that it needs holding receipts.
    pub fn has_attachments(&self) -> bool {
        self.attachments().next().is_some()
    }
}

/// The members that may hold attachments in one state, with the keys that they sign their receipts by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Custodians(BTreeMap<OrgId, PublicKey>);

impl Custodians {
    /// Of a state that has nothing yet: those among the founders.
    pub fn founding(genesis: &Genesis) -> Self {
        let custodians = genesis.members.iter().filter(|member| may_hold(member.role));
        Self(custodians.map(|member| (member.org.clone(), member.entry_key)).collect())
    }

    /// The keys of the state that [`Self::of_state`] needs, by its roll: one [`Organisation`] for each member.
    pub fn keys(roll: &Roll) -> Vec<Key> {
        roll.members.iter().map(|member| state::organisation_key(&member.org)).collect()
    }

    /// Of a state with that roll; `values` has those of [`Self::keys`].
    pub fn of_state(roll: &Roll, values: &HashMap<Key, Vec<u8>>) -> Result<Self, FormatError> {
        let mut custodians = BTreeMap::new();
        for member in &roll.members {
            let Some(value) = values.get(&state::organisation_key(&member.org)) else { continue };
            let organisation: Organisation = from_cbor("organisation", value, state::VALUE_BYTES_MAX)?;
            if may_hold(organisation.role) && !organisation.left {
                custodians.insert(member.org.clone(), organisation.entry_key);
            }
        }
        Ok(Self(custodians))
    }

    /// The key that a custodian signs by; none for whoever is no custodian.
    pub fn key(&self, org: &OrgId) -> Option<&PublicKey> {
        self.0.get(org)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many receipts a submission that names attachments needs. Of two custodians one at least is not the author.
    pub fn needed(&self) -> usize {
        self.0.len().min(CUSTODIANS_MIN)
    }

    /// Checks that a block shows who holds what its submissions name. `is_known` says whether a receipt was checked before, by this key.
    pub fn check(
        &self,
        chain: &Digest,
        block: &Block,
        is_known: impl Fn(&SignedSubmission, &Holding, &PublicKey) -> bool,
    ) -> Result<(), NotHeld> {
        let naming: Vec<&SignedSubmission> =
            block.submissions.iter().filter(|signed| signed.has_attachments()).collect();
        if naming.len() != block.holdings.len() {
            return Err(NotHeld::Lists { got: block.holdings.len(), expected: naming.len() });
        }
        let expected = self.needed();
        for (signed, holdings) in naming.into_iter().zip(&block.holdings) {
            let submission = &signed.submission;
            let sorted = holdings.windows(2).all(|two| two[0].custodian < two[1].custodian);
            if holdings.len() != expected || !sorted {
                let (org, lane, seq) = (submission.org.clone(), submission.lane, submission.first_seq);
                return Err(NotHeld::Custodians { org, lane, seq, expected });
            }
            for holding in holdings {
                let no_custodian = || NotHeld::NoCustodian(holding.custodian.clone());
                let key = self.key(&holding.custodian).ok_or_else(no_custodian)?;
                if !is_known(signed, holding, key) {
                    holding.verify(chain, &signed.digest(), key)?;
                }
            }
        }
        Ok(())
    }
}

/// The encoding of a block's holding receipts; nothing at all when it has none.
pub(crate) fn encoded(holdings: &Vec<Vec<Holding>>) -> Vec<u8> {
    if holdings.is_empty() { Vec::new() } else { to_cbor(holdings) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AlarmStep, AttachmentKind, Header, Priority,
        merkle::Frontier,
        state::Voter,
        testing::{MEMBERS, World, commitment, digest, genesis, id, org, public, said, tag},
    };
    use record::{RecordType, TimeMs};

    const CHAIN: Digest = Digest([0xcc; 32]);

    fn naming(attachments: u8) -> SignedSubmission {
        let attachment = |n| Attachment { digest: digest(n), length: 1, kind: AttachmentKind::EssentialCopy };
        let body = Body::Record {
            tag: tag(1),
            kind: RecordType::Permission,
            version: 1,
            previous: None,
            commitment: commitment(1),
            deleted: false,
            codes: Vec::new(),
            attachments: (0..attachments).map(attachment).collect(),
        };
        World::new().submission(said("mercy", body))
    }

    fn other() -> SignedSubmission {
        let body = Body::Alarm { id: id(1), step: AlarmStep::Raised, priority: Priority::Low };
        World::new().submission(said("rescue", body))
    }

    /// The entry key of a member of the tests' consortium.
    fn secret(custodian: &OrgId) -> SigningKey {
        let nth = MEMBERS.iter().position(|(name, _)| org(name) == *custodian).unwrap();
        SigningKey::from_bytes(&[100 + nth as u8; 32])
    }

    fn held(signed: &SignedSubmission, by: &str) -> Vec<Holding> {
        let receipt = |name: &str| Holding::sign(&CHAIN, &signed.digest(), org(name), &secret(&org(name)));
        by.split_whitespace().map(receipt).collect()
    }

    fn block(submissions: Vec<SignedSubmission>, holdings: Vec<Vec<Holding>>) -> Block {
        let frontier = Frontier::default();
        let zero = digest(0);
        let header = Header {
            version: 1,
            chain: CHAIN,
            epoch: 0,
            view: 1,
            leader: public(1),
            parent_view: 0,
            parent: zero,
            height: 1,
            time: TimeMs(1),
            entry_count: submissions.iter().map(|s| s.submission.entries.len() as u32).sum(),
            body: Block::body_digest(&frontier, &submissions, &holdings),
            log_size: 0,
            log_root: zero,
            state_root: zero,
            ops_root: zero,
            ops_start: 0,
            ops_end: 1,
            validators: zero,
            next_validators: zero,
        };
        Block { header, frontier, submissions, holdings }
    }

    fn verdict(custodians: &Custodians, block: &Block) -> String {
        assert_eq!(Block::from_bytes(&block.to_bytes()).as_ref(), Ok(block));
        match custodians.check(&CHAIN, block, |_, _, _| false) {
            Ok(()) => "held".to_owned(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn a_receipt_holds_for_its_chain_its_submission_its_custodian_and_its_key_only() {
        let (custodian, of) = (org("county"), digest(7));
        let key = secret(&custodian);
        let public: PublicKey = key.verifying_key().to_bytes().into();
        let good = Holding::sign(&CHAIN, &of, custodian.clone(), &key);
        assert_eq!(good.verify(&CHAIN, &of, &public), Ok(()));
        let bad = Err(BadHolding { custodian });
        assert_eq!(good.verify(&digest(1), &of, &public), bad);
        assert_eq!(good.verify(&CHAIN, &digest(8), &public), bad);
        let another: PublicKey = SigningKey::from_bytes(&[99; 32]).verifying_key().to_bytes().into();
        assert_eq!(good.verify(&CHAIN, &of, &another), bad);
        assert_eq!(good.verify(&CHAIN, &of, &[0; 32].into()), bad);
        let renamed = Holding { custodian: org("mercy"), ..good.clone() };
        assert!(renamed.verify(&CHAIN, &of, &public).is_err());
        for at in 0..64 {
            let mut changed = good.clone();
            changed.signature.0[at] ^= 1;
            assert_eq!(changed.verify(&CHAIN, &of, &public), bad);
        }
    }

    #[test]
    fn a_block_shows_two_custodians_for_each_submission_that_names_attachments() {
        let custodians = Custodians::founding(&genesis());
        let (signed, plain) = (naming(3), other());
        let check = |holdings: Vec<Vec<Holding>>, expected: &str| {
            let block = block(vec![plain.clone(), signed.clone()], holdings);
            assert_eq!(verdict(&custodians, &block), expected);
        };
        let two = "`mercy` lane 0 entry 1 needs receipts of 2 custodians, each once and in order";
        check(vec![held(&signed, "county mercy")], "held");
        check(vec![held(&signed, "county watch")], "held");
        check(vec![], "0 lists of holding receipts for 1 submissions that name attachments");
        check(
            vec![held(&signed, "county mercy"); 2],
            "2 lists of holding receipts for 1 submissions that name attachments",
        );
        check(vec![held(&signed, "mercy")], two);
        check(vec![held(&signed, "mercy mercy")], two);
        check(vec![held(&signed, "mercy county")], two);
        check(vec![held(&plain, "county mercy")], "the holding receipt of `county` does not hold");
        let mut insurer = held(&signed, "county mercy");
        insurer[0].custodian = org("acme");
        check(vec![insurer], "`acme` is no custodian");
        // Nothing to hold, nothing to show.
        assert_eq!(verdict(&custodians, &block(vec![plain.clone()], vec![])), "held");
    }

    #[test]
    fn where_fewer_than_two_may_hold_as_many_as_there_are_must() {
        let signed = naming(1);
        let mut founders = genesis();
        let mut check = |left: &[&str], by: &str, expected: &str| {
            founders.members = genesis().members.into_iter().filter(|m| left.contains(&m.org.as_str())).collect();
            let holdings = vec![held(&signed, by)];
            assert_eq!(verdict(&Custodians::founding(&founders), &block(vec![signed.clone()], holdings)), expected);
        };
        check(&["acme", "county"], "county", "held");
        check(&["acme", "mercy"], "mercy", "held");
        check(&["acme"], "", "held");
        check(&["acme", "county"], "", "`mercy` lane 0 entry 1 needs receipts of 1 custodians, each once and in order");
        check(&["acme", "county"], "mercy", "`mercy` is no custodian");
    }

    #[test]
    fn custodians_are_the_members_of_the_state_whose_role_may_hold() {
        let roll =
            Roll { members: genesis().members.into_iter().map(|m| Voter { org: m.org, role: m.role }).collect() };
        let value = |role, left, key| to_cbor(&Organisation { role, entry_key: public(key), left, unreviewed: 0 });
        let values: HashMap<Key, Vec<u8>> = [
            ("acme", value(OrgRole::Insurer, false, 1)),
            ("county", value(OrgRole::Hospital, false, 2)),
            ("mercy", value(OrgRole::Hospital, true, 3)),
            ("watch", value(OrgRole::Compliance, false, 4)),
        ]
        .map(|(name, value)| (state::organisation_key(&org(name)), value))
        .into();
        let custodians = Custodians::of_state(&roll, &values).unwrap();
        assert_eq!((custodians.count(), custodians.needed()), (2, 2));
        assert_eq!(custodians.key(&org("county")), Some(&public(2)));
        assert_eq!(custodians.key(&org("watch")), Some(&public(4)));
        assert_eq!(custodians.key(&org("acme")), None);
        assert_eq!(Custodians::keys(&roll).len(), 5);
    }

    #[test]
    fn a_block_without_receipts_is_encoded_as_before_there_were_any() {
        let plain = block(vec![other()], vec![]);
        assert_eq!(plain.to_bytes()[0], 0x83);
        assert_eq!(block(vec![naming(1)], vec![vec![]]).to_bytes()[0], 0x84);
        // An empty list of lists says nothing, and has no place.
        let mut bytes = plain.to_bytes();
        bytes[0] = 0x84;
        bytes.push(0x80);
        assert!(Block::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_list_of_more_receipts_than_a_submission_needs_is_no_block() {
        let signed = naming(1);
        let receipt = held(&signed, "county").remove(0);
        let many = block(vec![signed], vec![vec![receipt; CUSTODIANS_MIN + 1]]);
        assert!(Block::from_bytes(&many.to_bytes()).is_err());
    }
}

//! A block: the header that validators sign, and the submissions that it orders.

use crate::{
    FormatError, PublicKey, SignedSubmission,
    cbor::encodes_to,
    from_cbor,
    holding::{self, CUSTODIANS_MIN, Holding},
    merkle::Frontier,
    to_cbor,
};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use record::{Digest, OrgId, TimeMs, sha256};

/// The longest encoded block, in bytes.
pub const BLOCK_BYTES_MAX: usize = 3 * 1024 * 1024;
/// The longest encoded header, in bytes.
pub const HEADER_BYTES_MAX: usize = 1024;
/// The format that this version of the software reads and writes.
pub const HEADER_VERSION: u32 = 1;

const HEADER_DOMAIN: &[u8] = b"vitaltrace/header/1\0";
const BODY_DOMAIN: &[u8] = b"vitaltrace/body/1\0";

/// What a quorum of validators signs. Its digest names the block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Header {
    /// [`HEADER_VERSION`].
    #[n(0)]
    pub version: u32,
    /// Genesis id.
    #[n(1)]
    pub chain: Digest,
    /// Consensus epoch of the proposal.
    #[n(2)]
    pub epoch: u64,
    /// Consensus view of the proposal.
    #[n(3)]
    pub view: u64,
    /// Consensus key of the proposer.
    #[n(4)]
    pub leader: PublicKey,
    /// Consensus view of the parent.
    #[n(5)]
    pub parent_view: u64,
    /// Digest of the parent's header; zeros at height 0.
    #[n(6)]
    pub parent: Digest,
    /// One more than the parent's.
    #[n(7)]
    pub height: u64,
    /// Block time: above the parent's.
    #[n(8)]
    pub time: TimeMs,
    /// Entries in this block, applied and refused.
    #[n(9)]
    pub entry_count: u32,
    /// Digest of the body.
    #[n(10)]
    pub body: Digest,
    /// Leaves of the entry log after this block.
    #[n(11)]
    pub log_size: u64,
    /// RFC 9162 root of the entry log after this block.
    #[n(12)]
    pub log_root: Digest,
    /// Root of the authenticated state after this block: what state proofs are checked against.
    #[n(13)]
    pub state_root: Digest,
    /// Root of the state's operations: what state sync is checked against.
    #[n(14)]
    pub ops_root: Digest,
    /// First operation that state sync must fetch.
    #[n(15)]
    pub ops_start: u64,
    /// One past the last operation.
    #[n(16)]
    pub ops_end: u64,
    /// Digest of the validator set that decides this block.
    #[n(17)]
    pub validators: Digest,
    /// Digest of the set that decides the next epoch.
    #[n(18)]
    pub next_validators: Digest,
}

/// A header with what it orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is signed.
    pub header: Header,
    /// The entry log's frontier before this block, so that the root can be recomputed from the block alone.
    pub frontier: Frontier,
    /// In order of application.
    pub submissions: Vec<SignedSubmission>,
    /// Who holds what they name: a list for each submission that names attachments, in their order, sorted by custodian.
    pub holdings: Vec<Vec<Holding>>,
}

/// An array of header, frontier and submissions, and of the holding receipts if there are any.
impl<C> Encode<C> for Block {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, context: &mut C) -> Result<(), encode::Error<W::Error>> {
        let Self { header, frontier, submissions, holdings } = self;
        e.array(if holdings.is_empty() { 3 } else { 4 })?;
        e.encode_with(header, context)?.encode_with(frontier, context)?.encode_with(submissions, context)?;
        if holdings.is_empty() { Ok(()) } else { e.encode_with(holdings, context)?.ok() }
    }
}

impl Header {
    /// Reads a header.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        from_cbor("block header", bytes, HEADER_BYTES_MAX)
    }

    /// The deterministic encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// What validators sign and what names the block: SHA-256(domain ‖ encoding).
    pub fn digest(&self) -> Digest {
        sha256(&[HEADER_DOMAIN, &self.to_bytes()])
    }
}

impl Block {
    /// Reads a block, and checks that header and body belong together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::from_bytes_knowing(bytes, |_, _, _| None)
    }

    /// Reads a block like [`Block::from_bytes`]. Where `known` has the very submission at that organisation's lane and first sequence
    /// number, that one is taken and not read a second time.
    pub fn from_bytes_knowing(
        bytes: &[u8],
        known: impl Fn(&OrgId, u32, u64) -> Option<SignedSubmission>,
    ) -> Result<Self, FormatError> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(FormatError::TooLarge { what: "block", got: bytes.len(), max: BLOCK_BYTES_MAX });
        }
        let malformed = |why: &str| FormatError::Malformed { what: "block", why: why.to_owned() };
        let block = Self::decode_knowing(bytes, known).map_err(|e| malformed(&e.to_string()))?;
        if !encodes_to(&block, bytes) {
            return Err(FormatError::NotDeterministic { what: "block" });
        }
        if block.header.body != Self::body_digest(&block.frontier, &block.submissions, &block.holdings) {
            return Err(malformed("the header names another body"));
        }
        let entries: usize = block.submissions.iter().map(|s| s.submission.entries.len()).sum();
        if block.header.entry_count as usize != entries {
            return Err(malformed("the header counts other entries"));
        }
        for signed in &block.submissions {
            signed.check_shape().map_err(|e| malformed(&e.to_string()))?;
        }
        Ok(block)
    }

    fn decode_knowing(
        bytes: &[u8],
        known: impl Fn(&OrgId, u32, u64) -> Option<SignedSubmission>,
    ) -> Result<Self, decode::Error> {
        let mut d = Decoder::new(bytes);
        let parts = d.array()?;
        if !matches!(parts, Some(3 | 4)) {
            return Err(decode::Error::message("a block is an array of three or four"));
        }
        let (header, frontier) = (d.decode()?, d.decode()?);
        let count = d.array()?.ok_or_else(|| decode::Error::message("an array of a length that is not said"))?;
        let mut submissions = Vec::new();
        for _ in 0..count {
            let rest = bytes.get(d.position()..).unwrap_or_default();
            let same = SignedSubmission::place(rest).and_then(|(org, lane, first_seq)| known(&org, lane, first_seq));
            match same.filter(|same| rest.starts_with(same.encoded())) {
                Some(same) => {
                    d.set_position(d.position() + same.encoded().len());
                    submissions.push(same);
                }
                None => submissions.push(d.decode()?),
            }
        }
        let holdings = if parts == Some(4) { decode_holdings(&mut d, submissions.len())? } else { Vec::new() };
        Ok(Self { header, frontier, submissions, holdings })
    }

    /// The deterministic encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// What [`Header::body`] must be: SHA-256(domain ‖ encoding of frontier and submissions, and of holding receipts if there are any).
    pub fn body_digest(frontier: &Frontier, submissions: &[SignedSubmission], holdings: &Vec<Vec<Holding>>) -> Digest {
        let (frontier, mut head) = (to_cbor(frontier), Encoder::new(Vec::new()));
        let Ok(_) = head.array(submissions.len() as u64) else { unreachable!("writing to a vector never fails") };
        let mut parts = vec![BODY_DOMAIN, &frontier, head.writer()];
        parts.extend(submissions.iter().map(SignedSubmission::encoded));
        let holdings = holding::encoded(holdings);
        parts.push(&holdings);
        sha256(&parts)
    }
}

/// Lists of holding receipts: at most one for each submission, of at most as many as a submission needs.
fn decode_holdings(d: &mut Decoder<'_>, lists_max: usize) -> Result<Vec<Vec<Holding>>, decode::Error> {
    let lists = bounded(d, lists_max)?;
    let mut holdings = Vec::new();
    for _ in 0..lists {
        let count = bounded(d, CUSTODIANS_MIN)?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(d.decode()?);
        }
        holdings.push(list);
    }
    Ok(holdings)
}

/// The length of an array that has at most `max` items.
fn bounded(d: &mut Decoder<'_>, max: usize) -> Result<usize, decode::Error> {
    let length = d.array()?.and_then(|length| usize::try_from(length).ok());
    length
        .filter(|length| *length <= max)
        .ok_or_else(|| decode::Error::message("an array of more items than it may have"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AlarmStep, Body, Priority,
        testing::{World, digest, id, public, said},
    };

    fn block() -> Block {
        let alarm = Body::Alarm { id: id(1), step: AlarmStep::Raised, priority: Priority::Low };
        let (frontier, submissions) = (Frontier::default(), vec![World::new().submission(said("mercy", alarm))]);
        let header = Header {
            version: HEADER_VERSION,
            chain: digest(1),
            epoch: 0,
            view: 1,
            leader: public(1),
            parent_view: 0,
            parent: digest(0),
            height: 1,
            time: TimeMs(1),
            entry_count: 1,
            body: Block::body_digest(&frontier, &submissions, &Vec::new()),
            log_size: 1,
            log_root: digest(2),
            state_root: digest(3),
            ops_root: digest(4),
            ops_start: 0,
            ops_end: 1,
            validators: digest(5),
            next_validators: digest(6),
        };
        Block { header, frontier, submissions, holdings: Vec::new() }
    }

    #[test]
    fn a_known_submission_is_taken_for_the_same_bytes_only() {
        let block = block();
        let known = block.submissions[0].clone();
        let asked = std::cell::Cell::new(0);
        let read = |known: &SignedSubmission| {
            Block::from_bytes_knowing(&block.to_bytes(), |org, lane, first_seq| {
                let submission = &block.submissions[0].submission;
                assert_eq!((org, lane, first_seq), (&submission.org, submission.lane, submission.first_seq));
                asked.set(asked.get() + 1);
                Some(known.clone())
            })
        };
        assert_eq!(read(&known).as_ref(), Ok(&block));
        let other = SignedSubmission::new(known.submission.clone(), crate::Signature([9; 64]));
        assert_eq!(read(&other).as_ref(), Ok(&block));
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn header_and_body_belong_together() {
        assert_eq!(Block::from_bytes(&block().to_bytes()), Ok(block()));
        let check = |change: fn(&mut Block), why: &str| {
            let mut other = block();
            change(&mut other);
            let expected = FormatError::Malformed { what: "block", why: why.to_owned() };
            assert_eq!(Block::from_bytes(&other.to_bytes()), Err(expected));
        };
        check(|block| block.submissions.clear(), "the header names another body");
        check(|block| block.frontier.push(digest(9)), "the header names another body");
        check(|block| block.header.body = digest(9), "the header names another body");
        check(|block| block.holdings.push(Vec::new()), "the header names another body");
        check(|block| block.header.entry_count = 2, "the header counts other entries");
    }
}

//! The bundle: what one patient's evidence consists of, and how it is put together. Layout: `spec/evidence.md`.

use crate::{Limits, Refused, bounded, state::PROOF_BYTES_MAX};
use contract::{
    ENTRY_BYTES_MAX, FormatError, GENESIS_BYTES_MAX, HEADER_BYTES_MAX, MEMBERS_MAX, MonthOpening, PublicKey, Signature,
    from_cbor,
    merkle::{Frontier, PATH_LEN_MAX},
    to_cbor,
};
use minicbor::{Decode, Decoder, Encode, decode::Error};
use record::{Digest, Id16, Month, OrgId, Pseudonym, RecordTag, Salt, TimeMs};

/// First element of every bundle; the number is the format's version.
pub const EVIDENCE_FORMAT: &str = "vitaltrace/evidence/1";
/// The most months of one bundle: a hundred years.
pub const MONTHS_MAX: usize = 1_200;
/// The most entries of one month's log in a bundle.
pub const ENTRIES_MAX: usize = 1_000_000;
/// The most changes of validators before one header.
pub const HANDOVERS_MAX: usize = 4_096;
/// The most opened month links of one month.
pub const OPENINGS_MAX: usize = 1_024;
/// The most opened records of one bundle.
pub const OPENED_MAX: usize = 1_000_000;
/// The most records whose current version is shown.
pub const CURRENT_MAX: usize = 1_000_000;
/// The most bindings whose device key is shown.
pub const DEVICES_MAX: usize = 100_000;
/// The longest opened record, in bytes.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest name of a record, `Type/id`, in bytes.
const RECORD_NAME_BYTES_MAX: usize = 256;
/// The longest certificate, in bytes: 256 signatures of 64 bytes, their bitmap and the proposal.
const CERTIFICATE_BYTES_MAX: usize = 32 * 1024;

/// All evidence about one patient's months.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Bundle {
    /// [`EVIDENCE_FORMAT`].
    #[n(0)]
    format: String,
    #[n(1)]
    finality: Finality,
    #[n(2)]
    policies: Policies,
    #[cbor(n(3), decode_with = "read::months")]
    months: Vec<MonthLog>,
    #[cbor(n(4), decode_with = "read::opened")]
    opened: Vec<Opened>,
    #[cbor(n(5), decode_with = "read::current")]
    current: Vec<CurrentRecord>,
    #[cbor(n(6), decode_with = "read::devices")]
    devices: Vec<BoundDevice>,
    #[cbor(n(7), decode_with = "read::places")]
    places: Vec<Place>,
    #[cbor(n(8), decode_with = "read::witnesses")]
    witnesses: Vec<Witness>,
    #[cbor(n(9), decode_with = "read::accesses")]
    accesses: Vec<GatheredAccess>,
}

/// What proves that a header is final: the document that names the validators, the header, and their certificate over it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Finality {
    /// The genesis document in its binary form.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "read::genesis_bytes")]
    pub genesis: Vec<u8>,
    /// The header in its deterministic encoding.
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "read::header_bytes")]
    pub header: Vec<u8>,
    /// The engine's finalization of the header's digest: proposal, bitmap of signers, ed25519 signatures.
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "read::certificate_bytes")]
    pub certificate: Vec<u8>,
    /// Where the validators changed before the header, by height, from the founders on; also a checkpoint that the reader asked for.
    #[cbor(n(3), decode_with = "read::handovers")]
    pub handovers: Vec<Handover>,
}

/// A final block, and who decides from the next epoch on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Handover {
    /// Its header in its deterministic encoding.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "read::header_bytes")]
    pub header: Vec<u8>,
    /// The engine's finalization of the header's digest.
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "read::certificate_bytes")]
    pub certificate: Vec<u8>,
    /// Consensus keys of those who decide the next epoch, sorted.
    #[cbor(n(2), decode_with = "read::validators")]
    pub validators: Vec<PublicKey>,
}

/// A value of the ledger's state with the proof that it is the current one under the header's state root. The reader knows the key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct StateProof {
    /// The value in its deterministic encoding.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "read::value_bytes")]
    pub value: Vec<u8>,
    /// The engine's proof.
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "read::proof_bytes")]
    pub proof: Vec<u8>,
}

/// The policies in force at the header.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Policies {
    /// Who may.
    #[n(0)]
    pub access: StateProof,
    /// What goes on the ledger.
    #[n(1)]
    pub derivation: StateProof,
}

/// One month of a patient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MonthLog {
    /// Which month.
    #[n(0)]
    pub month: Month,
    /// The patient's pseudonym in it.
    #[n(1)]
    pub pseudonym: Pseudonym,
    /// What was filed under it.
    #[n(2)]
    pub log: Log,
}

/// What was filed under a pseudonym.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Log {
    /// There is a log.
    #[n(0)]
    Present {
        /// The log's head, proven.
        #[n(0)]
        head: StateProof,
        /// Every entry, in the ledger's order.
        #[cbor(n(1), decode_with = "read::entries")]
        entries: Vec<LoggedEntry>,
        /// What the month links of these entries commit to, as far as it is opened; sorted by entry.
        #[cbor(n(2), decode_with = "read::links")]
        links: Vec<OpenedLink>,
    },
    /// There is none.
    #[n(1)]
    Absent {
        /// The engine's proof that the log's key has no value.
        #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "read::proof_bytes")]
        proof: Vec<u8>,
    },
    /// There is a log, of which the file gives the entries of a range of heights.
    #[n(2)]
    Part(#[n(0)] LogPart),
}

/// The entries of a log in a range of heights, with both neighbours: that these are all in the range can be recomputed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LogPart {
    /// The log's head, proven.
    #[n(0)]
    pub head: StateProof,
    /// The tree over the leaves before those given: the neighbour before the range, or the first entry in it, continues it.
    #[n(1)]
    pub before: Frontier,
    /// The last entry before the range, which begins above it; none where the log begins with the range.
    #[n(2)]
    pub left: Option<Neighbour>,
    /// Every entry in the range, in the ledger's order.
    #[cbor(n(3), decode_with = "read::entries")]
    pub entries: Vec<LoggedEntry>,
    /// The first entry after the range, which ends below it; none where the range goes to the header.
    #[n(4)]
    pub right: Option<Neighbour>,
    /// RFC 9162 consistency path from the tree that ends with what is given to the whole log.
    #[cbor(n(5), decode_with = "read::path")]
    pub rest: Vec<Digest>,
}

/// An entry beside a range: where it stands is shown, what it says is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Neighbour {
    /// Height of its block.
    #[n(0)]
    pub height: u64,
    /// Time of its block.
    #[n(1)]
    pub time: TimeMs,
    /// Digest of the entry.
    #[n(2)]
    pub digest: Digest,
}

/// An entry as it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LoggedEntry {
    /// Height of its block.
    #[n(0)]
    pub height: u64,
    /// Time of its block.
    #[n(1)]
    pub time: TimeMs,
    /// The entry in its deterministic encoding.
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "read::entry_bytes")]
    pub entry: Vec<u8>,
}

/// What the month link of one entry commits to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct OpenedLink {
    /// Index of the entry in its month's log.
    #[n(0)]
    pub entry: u64,
    /// The month before, as its author saw it.
    #[n(1)]
    pub opening: MonthOpening,
}

/// A version of a record, opened: the exact bytes that an entry commits to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Opened {
    /// `Type/id`.
    #[cbor(n(0), decode_with = "read::record_name")]
    pub record: String,
    /// Which version.
    #[n(1)]
    pub version: u64,
    /// The salt of the commitment.
    #[n(2)]
    pub salt: Salt,
    /// The bytes, exactly as stored.
    #[cbor(n(3), encode_with = "minicbor::bytes::encode", decode_with = "read::record_bytes")]
    pub bytes: Vec<u8>,
}

/// What the ledger has of a record at the header.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CurrentRecord {
    /// The record.
    #[n(0)]
    pub tag: RecordTag,
    /// Its latest version, or that there is none.
    #[n(1)]
    pub value: CurrentValue,
}

/// The latest version of a record, proven.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CurrentValue {
    /// There is one.
    #[n(0)]
    Present {
        /// The record's head, proven.
        #[n(0)]
        head: StateProof,
    },
    /// There is none.
    #[n(1)]
    Absent {
        /// The engine's proof that the record's key has no value.
        #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "read::proof_bytes")]
        proof: Vec<u8>,
    },
}

/// The key that a device's frames were signed by under a binding, and what the ledger has of that key at the header.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BoundDevice {
    /// The binding.
    #[n(0)]
    pub binding: Id16,
    /// The binding's value, proven: it names device and key.
    #[n(1)]
    pub bound: StateProof,
    /// The key's value, proven: whose it is, and whether it was revoked.
    #[n(2)]
    pub key: StateProof,
}

/// Where an entry of the file stands in the log over all entries.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Place {
    /// The month of the file that gives the entry.
    #[n(0)]
    pub month: Month,
    /// Its index among the entries that the file gives of this month.
    #[n(1)]
    pub entry: u64,
    /// Its index in the log over all entries.
    #[n(2)]
    pub index: u64,
    /// RFC 9162 inclusion path under the header's log root.
    #[cbor(n(3), decode_with = "read::path")]
    pub path: Vec<Digest>,
}

/// An access that an entry of the file commits to together with others, opened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GatheredAccess {
    /// The month of the file that gives the entry.
    #[n(0)]
    pub month: Month,
    /// The entry's index among the entries that the file gives of this month.
    #[n(1)]
    pub entry: u64,
    /// Which of the entry's accesses, from 0.
    #[n(2)]
    pub place: u32,
    /// The access's own entry, which is not on the ledger, in its deterministic encoding.
    #[cbor(n(3), encode_with = "minicbor::bytes::encode", decode_with = "read::entry_bytes")]
    pub access: Vec<u8>,
    /// RFC 9162 inclusion path of its digest under the entry's root.
    #[cbor(n(4), decode_with = "read::path")]
    pub path: Vec<Digest>,
}

/// A member with its key at the header, and what it says about the log over all entries.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Witness {
    /// The member.
    #[n(0)]
    pub org: OrgId,
    /// The member's value, proven: it names its entry key.
    #[n(1)]
    pub member: StateProof,
    /// Its signatures, where the file has them.
    #[n(2)]
    pub word: Option<Word>,
}

/// An organisation's word on the log over all entries: one tree head, signed in the two forms that others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Word {
    /// Signature of its COSE receipts: the same for all entries under one root.
    #[n(0)]
    pub receipt: Signature,
    /// When it cosigned the checkpoint, in seconds since 1970.
    #[n(1)]
    pub time_s: u64,
    /// Signature of its C2SP cosignature.
    #[n(2)]
    pub cosignature: Signature,
}

/// What a prover brings: finality, state proofs and months all of the same header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// What proves the header.
    pub finality: Finality,
    /// Policies in force at that header.
    pub policies: Policies,
    /// The patient's months; whole months.
    pub months: Vec<MonthLog>,
    /// Opened records.
    pub opened: Vec<Opened>,
    /// Current versions of records.
    pub current: Vec<CurrentRecord>,
    /// Device keys of bindings.
    pub devices: Vec<BoundDevice>,
    /// Places in the log over all entries.
    pub places: Vec<Place>,
    /// Members, and what they say about that log.
    pub witnesses: Vec<Witness>,
    /// Accesses that entries commit to together, as far as they are opened.
    pub accesses: Vec<GatheredAccess>,
}

impl Parts {
    /// About no patient: the header, and the policies in force at it.
    pub fn of_nobody(finality: Finality, policies: Policies) -> Self {
        Self {
            finality,
            policies,
            months: Vec::new(),
            opened: Vec::new(),
            current: Vec::new(),
            devices: Vec::new(),
            places: Vec::new(),
            witnesses: Vec::new(),
            accesses: Vec::new(),
        }
    }
}

/// Puts a bundle together in the one order that the format allows. Nothing is checked: [`crate::prove`] does both.
pub fn assemble(parts: Parts) -> Bundle {
    let Parts { finality, policies, mut months, mut opened, mut current, .. } = parts;
    let Parts { mut devices, mut places, mut witnesses, mut accesses, .. } = parts;
    months.sort_by_key(|part| part.month);
    for part in &mut months {
        if let Log::Present { links, .. } = &mut part.log {
            links.sort_by_key(|link| link.entry);
        }
    }
    opened.sort_by(|a, b| (&a.record, a.version).cmp(&(&b.record, b.version)));
    // An organisation may have named one audit event by two accesses: its bytes are given once.
    opened.dedup();
    current.sort_by_key(|shown| shown.tag);
    devices.sort_by_key(|shown| shown.binding);
    places.sort_by_key(|place| (place.month, place.entry));
    witnesses.sort_by(|a, b| a.org.cmp(&b.org));
    accesses.sort_by_key(|access| (access.month, access.entry, access.place));
    let format = EVIDENCE_FORMAT.to_owned();
    Bundle { format, finality, policies, months, opened, current, devices, places, witnesses, accesses }
}

impl Bundle {
    /// Reads a bundle within `limits`. Says nothing about whether it holds.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, Refused> {
        check_format(bytes, limits.bundle_bytes_max, EVIDENCE_FORMAT)?;
        let bundle: Self = from_cbor("evidence bundle", bytes, limits.bundle_bytes_max)?;
        let logged: usize = bundle.months.iter().map(|part| part.log.len()).sum();
        let entries = logged.saturating_add(bundle.accesses.len());
        for (what, got, max) in [
            ("months", bundle.months.len(), limits.months_max),
            ("entries", entries, limits.entries_max),
            ("opened records", bundle.opened.len(), limits.opened_max),
            ("current versions", bundle.current.len(), limits.opened_max),
        ] {
            if got > max {
                return Err(Refused::TooMany { what, got, max });
            }
        }
        Ok(bundle)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// What proves the header.
    pub fn finality(&self) -> &Finality {
        &self.finality
    }

    /// The policies in force.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The months, in order of time.
    pub fn months(&self) -> &[MonthLog] {
        &self.months
    }

    /// The opened records.
    pub fn opened(&self) -> &[Opened] {
        &self.opened
    }

    /// Current versions of records, in order of their tags.
    pub fn current(&self) -> &[CurrentRecord] {
        &self.current
    }

    /// Device keys, in order of their bindings.
    pub fn devices(&self) -> &[BoundDevice] {
        &self.devices
    }

    /// Places in the log over all entries, in the file's order of the entries.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Members, in order of their names.
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Opened accesses that entries commit to together, in the file's order of the entries and in their order there.
    pub fn accesses(&self) -> &[GatheredAccess] {
        &self.accesses
    }

    /// The same bundle in pieces, as [`assemble`] takes them.
    pub fn into_parts(self) -> Parts {
        let Self { format: _, finality, policies, months, opened, current, devices, places, witnesses, accesses } =
            self;
        Parts { finality, policies, months, opened, current, devices, places, witnesses, accesses }
    }
}

impl Log {
    /// The entries that the bundle gives.
    pub fn entries(&self) -> &[LoggedEntry] {
        match self {
            Self::Present { entries, .. } => entries,
            Self::Part(part) => &part.entries,
            Self::Absent { .. } => &[],
        }
    }

    /// How many entries the bundle gives.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether the bundle gives no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Checks the size and the name of the format, before anything else of a file is read.
pub(crate) fn check_format(bytes: &[u8], max: usize, expected: &'static str) -> Result<(), Refused> {
    if bytes.len() > max {
        return Err(FormatError::TooLarge { what: "evidence file", got: bytes.len(), max }.into());
    }
    let mut decoder = Decoder::new(bytes);
    let name = decoder.array().and_then(|_| decoder.str());
    match name {
        Ok(name) if name == expected => Ok(()),
        _ => Err(Refused::UnknownFormat { expected }),
    }
}

/// The fields with a bound of their own.
pub(crate) mod read {
    use super::*;

    pub(crate) fn months<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<MonthLog>, Error> {
        bounded::array(d, ctx, MONTHS_MAX)
    }
    pub(crate) fn opened<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Opened>, Error> {
        bounded::array(d, ctx, OPENED_MAX)
    }
    pub(crate) fn entries<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<LoggedEntry>, Error> {
        bounded::array(d, ctx, ENTRIES_MAX)
    }
    pub(crate) fn handovers<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Handover>, Error> {
        bounded::array(d, ctx, HANDOVERS_MAX)
    }
    pub(crate) fn validators<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<PublicKey>, Error> {
        bounded::array(d, ctx, MEMBERS_MAX)
    }
    pub(crate) fn members<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<StateProof>, Error> {
        bounded::array(d, ctx, MEMBERS_MAX)
    }
    pub(crate) fn links<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<OpenedLink>, Error> {
        bounded::array(d, ctx, OPENINGS_MAX)
    }
    pub(crate) fn current<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<CurrentRecord>, Error> {
        bounded::array(d, ctx, CURRENT_MAX)
    }
    pub(crate) fn devices<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<BoundDevice>, Error> {
        bounded::array(d, ctx, DEVICES_MAX)
    }
    pub(crate) fn places<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Place>, Error> {
        bounded::array(d, ctx, ENTRIES_MAX)
    }
    pub(crate) fn accesses<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<GatheredAccess>, Error> {
        bounded::array(d, ctx, ENTRIES_MAX)
    }
    pub(crate) fn path<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Digest>, Error> {
        bounded::array(d, ctx, PATH_LEN_MAX)
    }
    pub(crate) fn witnesses<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Witness>, Error> {
        bounded::array(d, ctx, MEMBERS_MAX)
    }
    pub(crate) fn genesis_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, GENESIS_BYTES_MAX)
    }
    pub(crate) fn header_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, HEADER_BYTES_MAX)
    }
    pub(crate) fn certificate_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, CERTIFICATE_BYTES_MAX)
    }
    pub(crate) fn value_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, contract::state::VALUE_BYTES_MAX)
    }
    pub(crate) fn proof_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, PROOF_BYTES_MAX)
    }
    pub(crate) fn entry_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, ENTRY_BYTES_MAX)
    }
    pub(crate) fn record_bytes<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u8>, Error> {
        bounded::bytes(d, RECORD_BYTES_MAX)
    }
    pub(crate) fn record_name<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<String, Error> {
        let name = d.str()?;
        if name.len() > RECORD_NAME_BYTES_MAX {
            return Err(Error::message("the name of a record is too long"));
        }
        Ok(name.to_owned())
    }
}

//! Witnesses: what organisations say about the log over all entries, and their words in the forms that others read.

use crate::{
    Bundle, Cosignature, Inclusion, Refused, Subject, Witness, Word, checkpoint, finality::Final, place::APPLIED,
    receipt, signed, verify::value,
};
use contract::{
    Entry, Header, PublicKey, Signature,
    merkle::TreeHead,
    state::{Organisation, VALUE_BYTES_MAX, entry_leaf_bytes, organisation_key},
};
use record::{Digest, Id16, OrgId};

/// A head of the log over all entries, as organisations speak about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Genesis id.
    pub chain: Digest,
    /// Size and root.
    pub head: TreeHead,
}

impl Log {
    /// The log after a block.
    pub fn after(header: &Header) -> Self {
        Self { chain: header.chain, head: TreeHead { size: header.log_size, root: header.log_root } }
    }
}

/// An organisation's word on a head that it knows to be final: `sign` signs with its entry key, `time_s` is now in seconds since 1970.
pub fn speak(log: &Log, org: &OrgId, key: &PublicKey, time_s: u64, sign: impl Fn(&[u8]) -> Signature) -> Word {
    Word {
        receipt: sign(&receipt::message(&log.chain, org, key, &log.head.root)),
        time_s,
        cosignature: sign(&checkpoint::message(&log.chain, &log.head, time_s)),
    }
}

/// A member's key at the header, and when it cosigned, if it did.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) org: OrgId,
    pub(crate) key: PublicKey,
    pub(crate) cosigned_s: Option<u64>,
}

/// Checks every member's key, and its signatures where they are given.
pub(crate) fn check(given: &[Witness], at: &Final) -> Result<Vec<Checked>, Refused> {
    let log = Log::after(&at.header);
    let mut checked: Vec<Checked> = Vec::new();
    for Witness { org, member, word } in given {
        if checked.last().is_some_and(|last| last.org >= *org) {
            return Err(Refused::Order { what: "witnesses" });
        }
        let member: Organisation = value(Subject::Member(org.clone()), &organisation_key(org), member, at)?;
        let key = member.entry_key;
        if let Some(word) = word
            && (member.left || !word.holds(&log, org, &key))
        {
            return Err(Refused::Word { organisation: org.clone() });
        }
        checked.push(Checked { org: org.clone(), key, cosigned_s: word.map(|word| word.time_s) });
    }
    Ok(checked)
}

impl Word {
    /// Whether both signatures are the organisation's, over this head.
    pub fn holds(&self, log: &Log, org: &OrgId, key: &PublicKey) -> bool {
        let receipt = receipt::message(&log.chain, org, key, &log.head.root);
        let checkpoint = checkpoint::message(&log.chain, &log.head, self.time_s);
        signed::holds(key, &receipt, &self.receipt) && signed::holds(key, &checkpoint, &self.cosignature)
    }
}

/// A receipt that was taken out of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whose.
    pub org: OrgId,
    /// The key that it signed by.
    pub key: PublicKey,
    /// For which entry.
    pub entry: Id16,
    /// What the entry's leaf in the log is the digest of: the statement that the receipt is for.
    pub leaf: Vec<u8>,
    /// The COSE_Sign1.
    pub bytes: Vec<u8>,
}

/// The words of a bundle in the forms that others read: a receipt for each entry that has a place and each organisation that signed, and the
/// checkpoint. The bundle must have been verified: nothing is checked here, and what does not fit together is left out.
pub fn receipts(bundle: &Bundle) -> (Vec<Receipt>, Option<String>) {
    let Ok(header) = Header::from_bytes(&bundle.finality().header) else { return (Vec::new(), None) };
    let log = Log::after(&header);
    let words: Vec<(&OrgId, PublicKey, &Word)> = bundle
        .witnesses()
        .iter()
        .filter_map(|Witness { org, member, word }| {
            let member: Organisation = contract::from_cbor("state value", &member.value, VALUE_BYTES_MAX).ok()?;
            Some((org, member.entry_key, word.as_ref()?))
        })
        .collect();
    let mut receipts = Vec::new();
    for place in bundle.places() {
        let part = bundle.months().iter().find(|part| part.month == place.month);
        let logged = part.zip(usize::try_from(place.entry).ok()).and_then(|(part, at)| part.log.entries().get(at));
        let Some(logged) = logged else { continue };
        let Ok(entry) = Entry::from_bytes(&logged.entry) else { continue };
        let leaf = entry_leaf_bytes(logged.height, logged.time, APPLIED, &entry.digest());
        let inclusion = Inclusion { size: log.head.size, index: place.index, path: place.path.clone() };
        receipts.extend(words.iter().map(|(org, key, word)| Receipt {
            org: (*org).clone(),
            key: *key,
            entry: entry.id,
            leaf: leaf.clone(),
            bytes: receipt::receipt(&log.chain, org, key, &word.receipt, &inclusion),
        }));
    }
    let cosignatures: Vec<Cosignature> = words
        .into_iter()
        .map(|(org, key, word)| Cosignature { org: org.clone(), key, time_s: word.time_s, signature: word.cosignature })
        .collect();
    let note = (!cosignatures.is_empty()).then(|| checkpoint::checkpoint(&log.chain, &log.head, &cosignatures));
    (receipts, note)
}

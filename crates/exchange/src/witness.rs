//! The organisation's own voice about the log of all entries, and what the other members say.

use crate::{clock::now, node::Node, signer::Signer};
use contract::{Header, PublicKey, Signature, from_cbor, to_cbor};
use ed25519_dalek::Signer as _;
use evidence::{Cosignature, LedgerLog, Word, checkpoint, speak};
use ledger::{Speaker, WORD_BYTES_MAX};
use record::{Digest, OrgId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long evidence waits for the members' signatures on the log. Whoever has not answered then is named in the file as silent.
const WITNESS_WAIT: Duration = Duration::from_secs(3);

/// After which time the question is asked anew, as a connection may just have come about.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Says for the organisation what it thinks of the log of all entries, by the key that signs its entries. Clones share the key.
#[derive(Clone)]
pub(crate) struct Voice(Signer);

impl Voice {
    pub(crate) fn new(signer: Signer) -> Self {
        Self(signer)
    }

    /// The organisation's word on a log that its node followed to a final header, and the key that it holds by.
    fn word(&self, log: &LedgerLog) -> (PublicKey, Word) {
        let key = self.0.key();
        let public = key.verifying_key().to_bytes().into();
        let sign = |message: &[u8]| Signature(key.sign(message).to_bytes());
        (public, speak(log, self.0.org(), &public, now().0 / 1000, sign))
    }

    /// How the ledger node answers others who ask for the word.
    pub(crate) fn speaker(&self) -> Speaker {
        let voice = self.clone();
        Speaker::new(move |header: &Header| {
            let (_, word) = voice.word(&LedgerLog::after(header));
            to_cbor(&(voice.0.org().clone(), word))
        })
    }
}

impl Node {
    /// The log of all entries after the latest final block that this node has, as a C2SP checkpoint that the organisation cosigned just now.
    pub fn note(&self) -> String {
        let status = self.ledger.status();
        let head = contract::merkle::TreeHead { size: status.log_size, root: status.log_root };
        let chain: Digest = self.genesis.id();
        let (key, word) = self.voice.word(&LedgerLog { chain, head });
        let org = self.org.clone();
        let cosignature = Cosignature { org, key, time_s: word.time_s, signature: word.cosignature };
        checkpoint(&chain, &head, &[cosignature])
    }

    /// What members with these keys say about the log after a header: this organisation, and the others as far as they answer in time. What
    /// does not hold counts as no answer.
    pub(crate) async fn words(&self, header: &Header, members: &BTreeMap<OrgId, PublicKey>) -> BTreeMap<OrgId, Word> {
        let log = LedgerLog::after(header);
        let mut words = BTreeMap::new();
        let mut hear = |org: OrgId, word: Word| match members.get(&org) {
            Some(key) if word.holds(&log, &org, key) => _ = words.insert(org, word),
            Some(_) => tracing::warn!(%org, height = header.height, "a member's word on the log does not hold"),
            None => {}
        };
        hear(self.org.clone(), self.voice.word(&log).1);
        let until = Instant::now() + WITNESS_WAIT;
        let mut everybody = false;
        while !everybody && Instant::now() < until {
            let again = until.min(Instant::now() + ASK_AGAIN);
            let mut answers = self.ledger.ask_words(header.height).await;
            while let Ok(answer) = timeout_at(again, answers.next()).await {
                let Some(answer) = answer else {
                    everybody = true;
                    break;
                };
                match from_cbor::<(OrgId, Word)>("word", &answer, WORD_BYTES_MAX) {
                    Ok((org, word)) => hear(org, word),
                    Err(error) => tracing::warn!(%error, "a member's word on the log cannot be read"),
                }
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::merkle::TreeHead;
    use ed25519_dalek::SigningKey;
    use record::sha256;
    use std::path::PathBuf;

    #[test]
    fn a_word_is_the_organisations_and_fits_what_nodes_carry() {
        let org: OrgId = "o".repeat(record::ORG_ID_BYTES_MAX).parse().unwrap();
        let (chain, key) = (sha256(&[b"chain"]), SigningKey::from_bytes(&[7; 32]));
        let voice = Voice::new(Signer::new(org.clone(), chain, PathBuf::new(), key, Vec::new()));
        let log = LedgerLog { chain, head: TreeHead { size: 9, root: sha256(&[b"root"]) } };
        let (key, word) = voice.word(&log);
        assert!(word.holds(&log, &org, &key));
        assert!(to_cbor(&(org, word)).len() <= WORD_BYTES_MAX);
    }
}

//! The key that this organisation signs by: replaced while people write, and what it signed before is still known as its own.
//!
//! A member's entry key changes by an entry of its own: what stands in later blocks holds by the new key only. Whatever was signed by then
//! and is not final has to be signed again; it keeps its numbers, so that nothing is applied twice and nothing that was answered is lost.

use crate::{
    failure::Failure,
    keys::{KeyError, NextKey, Replaces, entry_in_place, note_older},
};
use contract::{Genesis, PublicKey, SignedSubmission, from_cbor, state};
use ed25519_dalek::SigningKey;
use record::{Digest, OrgId};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// For so long what is sealed goes into the database by the key before, and to the ledger by the next one: other gateways, which read the
/// database, may have the block that replaced the key a moment later, and know the key before in any case.
const SEALS_BY_BEFORE: Duration = Duration::from_secs(2);

/// The entry key of the organisation, and what it signed by it. Clones share it.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Inner>);

struct Inner {
    org: OrgId,
    chain: Digest,
    /// Where the keys lie.
    folder: PathBuf,
    keys: RwLock<Keys>,
    /// The key that the ledger's custodian signs by. One look at what the ledger says at a time.
    custodian: tokio::sync::Mutex<PublicKey>,
    /// The last look broke off.
    is_unsure: AtomicBool,
    /// As the last look had it: [`Standing::Spent`].
    is_spent: AtomicBool,
}

struct Keys {
    present: SigningKey,
    older: Vec<PublicKey>,
    /// The one before, and until when it seals.
    before: Option<(SigningKey, Instant)>,
}

/// What the ledger says of the entry key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It counts, or this node does not know better yet.
    Counts,
    /// The key that was drawn last took its place just now.
    Replaced,
    /// Another key took its place, which is not here.
    Spent,
}

impl Signer {
    /// `older`: public halves of the keys before.
    pub(crate) fn new(org: OrgId, chain: Digest, folder: PathBuf, present: SigningKey, older: Vec<PublicKey>) -> Self {
        let custodian = tokio::sync::Mutex::new(public(&present));
        let keys = RwLock::new(Keys { present, older, before: None });
        let (is_unsure, is_spent) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Inner { org, chain, folder, keys, custodian, is_unsure, is_spent }))
    }

    /// The organisation.
    pub(crate) fn org(&self) -> &OrgId {
        &self.0.org
    }

    /// The chain that it signs for.
    pub(crate) fn chain(&self) -> Digest {
        self.0.chain
    }

    /// The present key.
    pub(crate) fn key(&self) -> SigningKey {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).present.clone()
    }

    /// The key to seal with what goes into the database: for a moment after a change the one before.
    pub(crate) fn sealing_key(&self) -> SigningKey {
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.before.take_if(|(_, until)| Instant::now() >= *until);
        keys.before.as_ref().map_or(&keys.present, |(before, _)| before).clone()
    }

    /// Goes over to another key.
    fn go_over(&self, next: SigningKey, older: Vec<PublicKey>) {
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.older = older;
        if public(&keys.present) != public(&next) {
            let before = std::mem::replace(&mut keys.present, next);
            keys.before = Some((before, Instant::now() + SEALS_BY_BEFORE));
        }
    }

    /// Whether the last look at what the ledger says broke off, so that there is to be another.
    pub(crate) fn is_unsure(&self) -> bool {
        self.0.is_unsure.load(Ordering::Relaxed)
    }

    /// Whether another key took this one's place, which is not here.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.is_spent.load(Ordering::Relaxed)
    }

    /// The public half of the present key.
    pub(crate) fn public(&self) -> PublicKey {
        public(&self.key())
    }

    /// Whether this organisation signed that, by its present key or an older one.
    pub(crate) fn is_own(&self, signed: &SignedSubmission) -> bool {
        let keys = {
            let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
            [&[public(&keys.present)], keys.older.as_slice()].concat()
        };
        signed.submission.org == self.0.org && keys.iter().any(|key| signed.verify(&self.0.chain, key).is_ok())
    }

    /// The same submission, signed by the present key. `from_journal`: nobody but this gateway can have written it; anything else must be
    /// signed by this organisation already.
    pub(crate) fn sign_again(&self, bytes: &[u8], from_journal: bool) -> Option<Vec<u8>> {
        let signed = SignedSubmission::from_bytes(bytes).ok()?;
        let ours = signed.submission.org == self.0.org && signed.submission.chain == self.0.chain;
        (ours && (from_journal || self.is_own(&signed))).then(|| signed.submission.clone().sign(&self.key()).to_bytes())
    }

    /// Draws the next key, which counts nowhere yet; or reads the one that an earlier attempt drew, if it can still come to count. `leaked`:
    /// what the present one signed is believed no more once it is replaced, where only the database has it.
    pub(crate) async fn draw_next(&self, ledger: &ledger::Handle, leaked: bool) -> Result<PublicKey, Failure> {
        let (folder, present) = (self.0.folder.clone(), self.public());
        let drawn = on_disk(move || {
            let next = NextKey::draw(&folder, Replaces::Entry)?;
            note_older(&folder, &present, !leaked)?;
            Ok(next.public_key())
        })
        .await?;
        match value::<state::KeyOwner>(ledger, state::key_owner_key(&drawn)).await? {
            None => Ok(drawn),
            Some(owner) if owner.org == self.0.org && owner.from.is_some() && owner.until.is_none() => Err(
                Failure::Conflict("the entry key was replaced just now by the one that was drawn before".to_owned()),
            ),
            // A key is named once: this one can never count again.
            Some(_) => {
                let folder = self.0.folder.clone();
                on_disk(move || Ok(NextKey::draw_another(&folder, Replaces::Entry)?.public_key())).await
            }
        }
    }

    /// Puts the key that was drawn last in the place of the present one, if the ledger's latest state says that it counts, and has the
    /// ledger's custodian sign by it.
    pub(crate) async fn follow(&self, ledger: &ledger::Handle, genesis: &Genesis) -> Result<Standing, Failure> {
        let mut custodian = self.0.custodian.lock().await;
        self.0.is_unsure.store(true, Ordering::Relaxed);
        let standing = self.look(ledger, genesis).await?;
        self.0.is_spent.store(standing == Standing::Spent, Ordering::Relaxed);
        // Not only when the key was replaced just now: the look that replaced it may have broken off before this.
        let key = self.key();
        if *custodian != public(&key) {
            let told = ledger.sign_by(key.clone().into()).await;
            told.map_err(|e| Failure::ours("the ledger node does not sign by the new entry key", e))?;
            *custodian = public(&key);
        }
        self.0.is_unsure.store(false, Ordering::Relaxed);
        Ok(standing)
    }

    async fn look(&self, ledger: &ledger::Handle, genesis: &Genesis) -> Result<Standing, Failure> {
        let org = &self.0.org;
        let held: Option<state::Organisation> = value(ledger, state::organisation_key(org)).await?;
        let counts = held.map(|held| held.entry_key);
        let counts = counts.or_else(|| genesis.member(org).map(|member| member.entry_key));
        let present = self.public();
        let Some(counts) = counts.filter(|counts| *counts != present) else { return Ok(Standing::Counts) };
        let signer = self.clone();
        // File and memory change in one piece of work, which goes on to its end whoever stops waiting for it.
        let is_placed = on_disk(move || {
            let Some((key, older)) = place(&signer.0.folder, &counts)? else { return Ok(false) };
            signer.go_over(key, older);
            Ok(true)
        });
        if is_placed.await? {
            tracing::info!(%org, "entries are signed by a new key from now on");
            return Ok(Standing::Replaced);
        }
        // A key that this node does not know of yet may count in blocks that it has not yet.
        let owner: Option<state::KeyOwner> = value(ledger, state::key_owner_key(&present)).await?;
        let spent = owner.is_some_and(|owner| owner.until.is_some());
        Ok(if spent { Standing::Spent } else { Standing::Counts })
    }
}

/// The key that counts, if it is in the folder: the drawn one is put in place, and one that is there already is read. And the older ones.
fn place(folder: &Path, counts: &PublicKey) -> Result<Option<(SigningKey, Vec<PublicKey>)>, KeyError> {
    let drawn = NextKey::drawn(folder, Replaces::Entry)?.filter(|next| next.public_key() == *counts);
    let key = match drawn {
        Some(next) => Some(next.put_in_place(folder)?),
        // An earlier look broke off after the file was in place, or somebody else put it there.
        None => Some(entry_in_place(folder)?).filter(|key| public(key) == *counts),
    };
    key.map(|key| Ok((key, crate::keys::older(folder)?))).transpose()
}

fn public(key: &SigningKey) -> PublicKey {
    key.verifying_key().to_bytes().into()
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, KeyError> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|e| Failure::ours("the keys could not be looked at", e))?;
    done.map_err(|e| Failure::ours("the entry key could not be replaced", e))
}

async fn value<T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>>(
    ledger: &ledger::Handle,
    key: state::Key,
) -> Result<Option<T>, Failure> {
    let values = ledger.get(vec![key]).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
    let read = |value: Vec<u8>| from_cbor("state", &value, state::VALUE_BYTES_MAX);
    let value = values.into_iter().next().flatten().map(read).transpose();
    value.map_err(|e| Failure::ours("the ledger's state cannot be read", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Body, Entry, GrantStep, Submission};
    use record::{Commitment, Id16, Purpose, TimeMs, sha256};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn submission(org: &str, by: u8) -> SignedSubmission {
        let org: OrgId = org.parse().unwrap();
        let entry = Entry {
            id: Id16([1; 16]),
            org: org.clone(),
            time: TimeMs(1),
            purpose: Purpose::Treat,
            policy: Digest([0; 32]),
            actor: Digest([0; 32]),
            patient: None,
            month: None,
            body: Body::Grant {
                id: Id16([1; 16]),
                step: GrantStep::Issued,
                consent: Commitment(Digest([0; 32])),
                until: None,
            },
        };
        let chain = sha256(&[b"chain"]);
        Submission { chain, org, lane: 1, first_seq: 1, entries: vec![entry] }.sign(&key(by))
    }

    fn signer(older: &[u8]) -> Signer {
        let older = older.iter().map(|seed| public(&key(*seed))).collect();
        Signer::new("mercy".parse().unwrap(), sha256(&[b"chain"]), PathBuf::new(), key(3), older)
    }

    #[test]
    fn what_older_keys_signed_is_known_as_our_own_and_what_others_signed_is_not() {
        let check = |older: &[u8], org: &str, by: u8, own: bool| {
            assert_eq!(signer(older).is_own(&submission(org, by)), own, "{older:?} {org} {by}");
        };
        check(&[], "mercy", 3, true);
        check(&[], "mercy", 2, false);
        check(&[1, 2], "mercy", 1, true);
        check(&[1, 2], "mercy", 2, true);
        check(&[1, 2], "mercy", 4, false);
        check(&[1, 2], "acme", 3, false);
    }

    #[test]
    fn nothing_that_the_database_alone_has_and_nobody_of_ours_signed_is_signed_again() {
        let check = |org: &str, by: u8, from_journal: bool, signs: bool| {
            let again = signer(&[2]).sign_again(&submission(org, by).to_bytes(), from_journal);
            assert_eq!(again.is_some(), signs, "{org} {by} {from_journal}");
            if let Some(again) = again {
                assert_eq!(again, submission(org, 3).to_bytes());
            }
        };
        check("mercy", 2, false, true);
        check("mercy", 3, false, true);
        // By a key that somebody else may have, or anybody's.
        check("mercy", 1, false, false);
        check("mercy", 1, true, true);
        check("acme", 2, true, false);
        assert_eq!(signer(&[2]).sign_again(b"no submission", true), None);
    }

    #[test]
    fn a_key_that_counts_is_put_in_place_once_and_found_there_by_who_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let first = public(&crate::keys::OrgKeys::create(dir.path()).unwrap().entry);
        let next = NextKey::draw(dir.path(), Replaces::Entry).unwrap().public_key();
        note_older(dir.path(), &first, true).unwrap();
        let placed = |counts: &PublicKey| place(dir.path(), counts).unwrap().map(|(key, older)| (public(&key), older));
        assert_eq!(placed(&public(&key(9))), None);
        // The second time as after a look that broke off between the file and the memory.
        for _ in 0..2 {
            assert_eq!(placed(&next), Some((next, vec![first])));
        }
        assert_eq!(placed(&first), None);
    }

    #[test]
    fn for_a_moment_after_a_change_the_key_before_seals_and_the_next_one_signs() {
        let signer = signer(&[]);
        assert_eq!(signer.sealing_key().to_bytes(), key(3).to_bytes());
        signer.go_over(key(4), vec![public(&key(3))]);
        // However long what follows takes.
        let seals_until = |until: Instant| signer.0.keys.write().unwrap().before.as_mut().unwrap().1 = until;
        seals_until(Instant::now() + Duration::from_secs(3600));
        // To go over to the same key once more changes nothing.
        signer.go_over(key(4), vec![public(&key(3))]);
        assert_eq!((signer.sealing_key().to_bytes(), signer.key().to_bytes()), (key(3).to_bytes(), key(4).to_bytes()));
        let sealed = submission("mercy", 3);
        assert_eq!(signer.sign_again(&sealed.to_bytes(), true), Some(submission("mercy", 4).to_bytes()));
        seals_until(Instant::now());
        assert_eq!(signer.sealing_key().to_bytes(), key(4).to_bytes());
        assert!(signer.0.keys.read().unwrap().before.is_none(), "it is wiped");
    }
}

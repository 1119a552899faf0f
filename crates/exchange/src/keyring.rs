//! Patient keys that this organisation may hold: found, unwrapped, checked, and kept in memory only.

use crate::{failure::Failure, mirror::Mirror, wrap};
use contract::{AttachmentKind, Body, Entry, may_hold};
use record::{Month, OrgId, OrgRole, PatientKey, Pseudonym, record_tag};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::Store;

/// Keys that are kept in memory; the rest are unwrapped again when needed.
const KEYS_MAX: usize = 20_000;
/// How long peers may take to hand over a wrapped key.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// The name under which the database keeps the one file that is wrapped to all custodians.
pub(crate) fn custodians() -> Option<OrgId> {
    "custodians".parse().ok()
}

/// Finds patient keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keyring {
    role: OrgRole,
    identity: Arc<age::x25519::Identity>,
    store: Store,
    ledger: ledger::Handle,
    mirror: Mirror,
    known: Arc<Mutex<HashMap<String, PatientKey>>>,
}

impl Keyring {
    pub(crate) fn new(
        role: OrgRole,
        identity: age::x25519::Identity,
        store: Store,
        ledger: ledger::Handle,
        mirror: Mirror,
    ) -> Self {
        Self { role, identity: Arc::new(identity), store, ledger, mirror, known: Arc::default() }
    }

    /// The key of a patient; none when there is no such patient or this organisation may not hold it.
    ///
    /// The database's copy is tried first. It is believed only if the enrolment on the ledger names it; otherwise the vaults are asked.
    pub(crate) async fn key(&self, patient: &str) -> Result<Option<PatientKey>, Failure> {
        if !may_hold(self.role) {
            return Ok(None);
        }
        if let Some(key) = self.cached(patient) {
            return Ok(Some(key));
        }
        let name = format!("Patient/{patient}");
        let found = match self.in_database(patient, &name).await? {
            Some(key) => Some(key),
            None => self.in_vault(&name).await?,
        };
        if let Some(key) = &found {
            self.learn(patient, key.clone());
        }
        Ok(found)
    }

    fn cached(&self, patient: &str) -> Option<PatientKey> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(patient).cloned()
    }

    /// Keeps a key that was just made or found.
    pub(crate) fn learn(&self, patient: &str, key: PatientKey) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEYS_MAX
            && let Some(any) = known.keys().next().cloned()
        {
            known.remove(&any);
        }
        known.insert(patient.to_owned(), key);
    }

    /// Forgets a key that was destroyed.
    pub(crate) fn forget(&self, patient: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(patient);
    }

    /// Forgets the keys that give a pseudonym in one of `months`.
    pub(crate) fn forget_under(&self, pseudonym: Pseudonym, months: &[Month]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, key| !months.iter().any(|month| key.pseudonym(*month) == pseudonym));
    }

    /// Opens a wrapped key; none when it was not wrapped for this organisation, or was changed.
    pub(crate) fn open(&self, wrapped: &[u8]) -> Option<PatientKey> {
        wrap::unwrap(wrapped, &self.identity).ok()
    }

    async fn in_database(&self, patient: &str, name: &str) -> Result<Option<PatientKey>, Failure> {
        let Some(custodians) = custodians() else { return Ok(None) };
        let wrapped = self.store.wrapped_keys(patient).await.map_err(crate::find::search_failure)?;
        let wrapped = wrapped.into_iter().find(|wrapped| wrapped.org == custodians);
        let Some(wrapped) = wrapped else { return Ok(None) };
        let Ok(key) = wrap::unwrap(&wrapped.bytes, &self.identity) else { return Ok(None) };
        // The enrolment on the ledger names the very bytes that were wrapped: nobody plants a key of their own.
        let enrolment = self.mirror.version(record_tag(&key, name), 1).await?;
        let named = enrolment.is_some_and(|first| first.wrapped_key == Some(record::sha256(&[&wrapped.bytes])));
        Ok(named.then_some(key))
    }

    async fn in_vault(&self, name: &str) -> Result<Option<PatientKey>, Failure> {
        let Some(tag) = self.mirror.tag(name.to_owned()).await? else { return Ok(None) };
        let Some(first) = self.mirror.version(tag, 1).await? else { return Ok(None) };
        let Some(entry) = self.mirror.entry(first.entry, &first.org).await? else { return Ok(None) };
        let entry = Entry::from_bytes(&entry.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
        let Body::Record { attachments, .. } = entry.body else { return Ok(None) };
        for attachment in attachments.iter().filter(|a| a.kind == AttachmentKind::WrappedKey) {
            let wrapped = self.ledger.fetch_attachment(attachment.digest, FETCH_TIMEOUT).await;
            let wrapped = wrapped.map_err(|e| Failure::ours("the vault did not answer", e))?;
            let key = wrapped.and_then(|wrapped| wrap::unwrap(&wrapped, &self.identity).ok());
            if let Some(key) = key.filter(|key| record_tag(key, name) == tag) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

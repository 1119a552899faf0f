//! Copies that a lost folder took with it, made again: a submission that names some waits until custodians have them.

use crate::{failure::Failure, node::Node};
use contract::{Attachment, AttachmentKind, Body, Entry, SignedSubmission, seal_copy};
use record::{record_tag, sha256};

impl Node {
    /// Puts what the submission names and this vault lacks into it, as far as the database has what it was made of. Gives how many it
    /// still lacks.
    pub(crate) async fn attach_again(&self, signed: &SignedSubmission) -> Result<usize, Failure> {
        let (mut made, mut lacking) = (Vec::new(), 0);
        for entry in &signed.submission.entries {
            let Body::Record { attachments, .. } = &entry.body else { continue };
            for attachment in attachments {
                let held = self.ledger.attachment(attachment.digest).await;
                if held.map_err(|e| Failure::ours("the vault did not answer", e))?.is_some() {
                    continue;
                }
                match self.made_again(entry, attachment).await? {
                    Some(bytes) => made.push(bytes),
                    None => lacking += 1,
                }
            }
        }
        if !made.is_empty() {
            tracing::info!(copies = made.len(), "copies that this vault lacked were made again from the database");
            let put = self.ledger.put_attachments(made).await;
            put.map_err(|e| Failure::ours("the vault did not take an essential copy", e))?;
        }
        Ok(lacking)
    }

    /// One attachment, to the byte. The database is believed as far as its digest goes.
    async fn made_again(&self, entry: &Entry, attachment: &Attachment) -> Result<Option<Vec<u8>>, Failure> {
        let place = self.store.entry(entry.id).await.map_err(crate::find::search_failure)?;
        let Some(key) = place.and_then(|place| place.record) else { return Ok(None) };
        let row = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        let Some(row) = row else { return Ok(None) };
        let is_it = |bytes: &Vec<u8>| sha256(&[bytes]) == attachment.digest;
        if attachment.kind == AttachmentKind::WrappedKey {
            let Some(patient) = &row.patient else { return Ok(None) };
            let wrapped = self.store.wrapped_keys(patient).await.map_err(crate::find::search_failure)?;
            return Ok(wrapped.into_iter().map(|wrapped| wrapped.bytes).find(is_it));
        }
        let patient_key = match &row.patient {
            Some(patient) => self.patient_key(patient).await?,
            None => None,
        };
        let name = format!("{}/{}", row.rtype, row.id);
        let keys = patient_key.into_iter().chain([self.own.clone()]);
        let mut keys = keys.filter(|key| record_tag(key, &name) == row.tag);
        let copy = keys.next().map(|key| seal_copy(&key, &name, row.version, &entry.org, &entry.id, &row.bytes));
        Ok(copy.filter(is_it))
    }
}

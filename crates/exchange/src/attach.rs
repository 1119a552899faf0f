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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Caller, keys::OrgKeys, node::Settings};
    use contract::{DerivationPolicy, EPOCH_BLOCKS_DEFAULT, Genesis};
    use record::{OrgRole, Purpose, Role};
    use std::{
        net::{SocketAddr, TcpListener},
        path::Path,
        time::Duration,
    };

    /// What a node may take before the test gives up; no test asserts a time.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// An address that nobody listens on, below the range from which outgoing connections take theirs.
    fn free_address() -> SocketAddr {
        loop {
            let mut bytes = [0; 2];
            getrandom::fill(&mut bytes).unwrap();
            let port = 15_000 + u16::from_be_bytes(bytes) % 17_000;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                return listener.local_addr().unwrap();
            }
        }
    }

    /// A consortium of one hospital, so that nobody else has any copies.
    async fn start(folder: &Path) -> Node {
        let org: record::OrgId = "mercy".parse().unwrap();
        let keys = folder.join("keys");
        let keys = if keys.exists() { OrgKeys::load(&keys) } else { OrgKeys::create(&keys) }.unwrap();
        let listen = free_address();
        let genesis = folder.join("genesis");
        if !genesis.exists() {
            let founding = Genesis {
                version: 1,
                name: "test".to_owned(),
                time: crate::clock::now(),
                members: vec![keys.member(org.clone(), OrgRole::Hospital, listen.to_string())],
                access_policy: ::policy::Bundle::builtin().digest(),
                derivation_policy: DerivationPolicy::builtin().unwrap().digest(),
                epoch_blocks: EPOCH_BLOCKS_DEFAULT,
            };
            std::fs::write(&genesis, founding.to_bytes()).unwrap();
        }
        let genesis = Genesis::from_bytes(&std::fs::read(&genesis).unwrap()).unwrap();
        let settings = Settings {
            org,
            role: OrgRole::Hospital,
            genesis,
            keys,
            data: folder.join("data"),
            database: folder.join("cloud.db").into(),
            ledger: listen,
            part: ledger::Part::Founder,
            peers: Vec::new(),
            peers_max: None,
            cache_bytes: None,
            escalation: Default::default(),
            begin: ledger::Begin::Blocks,
            policies: Vec::new(),
            without: Default::default(),
        };
        Node::start(settings).await.unwrap()
    }

    fn doctor(node: &Node) -> Caller {
        Caller {
            user: "dr".to_owned(),
            role: Role::Doctor,
            org: node.org.clone(),
            org_role: node.role,
            patient: None,
            purpose: Purpose::Treat,
            request: "test".to_owned(),
            address: "127.0.0.1".to_owned(),
            base: "http://gateway/fhir".to_owned(),
            app: None,
            login: None,
            person_since: None,
        }
    }

    /// Final submissions that name attachments, in order.
    async fn naming(node: &Node) -> Vec<SignedSubmission> {
        let mut found = Vec::new();
        for height in 1..=node.ledger_height() {
            let block = node.ledger.block(height).await.unwrap().unwrap();
            found.extend(block.submissions().iter().filter(|signed| signed.has_attachments()).cloned());
        }
        found
    }

    /// Which of the attachments are in the vault, in order.
    async fn held(node: &Node, submissions: &[SignedSubmission]) -> Vec<bool> {
        let mut held = Vec::new();
        for attachment in submissions.iter().flat_map(SignedSubmission::attachments) {
            let bytes = node.ledger.attachment(attachment.digest).await.unwrap();
            assert!(bytes.as_ref().is_none_or(|bytes| sha256(&[bytes]) == attachment.digest));
            held.push(bytes.is_some());
        }
        held
    }

    fn lose_vault(folder: &Path) {
        for file in std::fs::read_dir(folder.join("data/ledger")).unwrap().map(|file| file.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().starts_with("vault") {
                std::fs::remove_file(file).unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn copies_and_wrapped_keys_are_made_again_to_the_byte_from_what_the_database_has() {
        let folder = tempfile::tempdir().unwrap();
        let node = start(folder.path()).await;
        let caller = doctor(&node);
        let patient = br#"{"resourceType":"Patient","name":[{"family":"Nobody"}]}"#;
        let patient = node.create(&caller, "Patient", patient, None).await.unwrap().record;
        let allergy = format!(
            r#"{{"resourceType":"AllergyIntolerance","patient":{{"reference":"{patient}"}},"code":{{"text":"Latex"}}}}"#
        );
        let allergy = node.create(&caller, "AllergyIntolerance", allergy.as_bytes(), None).await.unwrap().record;
        assert!(node.settle(PATIENCE).await);
        let submissions = naming(&node).await;
        // Two copies, and the patient's wrapped key.
        assert_eq!(held(&node, &submissions).await, [true; 3]);
        for signed in &submissions {
            assert_eq!(node.attach_again(signed).await, Ok(0), "nothing is lacking");
        }
        node.stop().await;

        lose_vault(folder.path());
        let node = start(folder.path()).await;
        assert_eq!(held(&node, &submissions).await, [false; 3]);
        for signed in &submissions {
            assert_eq!(node.attach_again(signed).await, Ok(0));
        }
        assert_eq!(held(&node, &submissions).await, [true; 3]);
        node.stop().await;

        // Of a row that was changed no copy is made, as it would be another one; what else there is, is.
        lose_vault(folder.path());
        let database = rusqlite::Connection::open(folder.path().join("cloud.db")).unwrap();
        let changed =
            "UPDATE version SET bytes = CAST(replace(CAST(bytes AS TEXT), 'Latex', 'Wheat') AS BLOB) WHERE id = ?1";
        assert_eq!(database.execute(changed, [allergy.split_once('/').unwrap().1]).unwrap(), 1);
        drop(database);
        let node = start(folder.path()).await;
        let mut lacking = 0;
        for signed in &submissions {
            lacking += node.attach_again(signed).await.unwrap();
        }
        assert_eq!(lacking, 1);
        assert_eq!(held(&node, &submissions).await.iter().filter(|held| **held).count(), 2);
        node.stop().await;
    }
}

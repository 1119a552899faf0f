//! Where a policy is taken from: a folder, a file, the ledger by digest, or what is in force.

use super::{BadInput, Connection, digest_of};
use crate::policies::Folder;
use contract::PolicyKind;
use policy::{BUNDLE_BYTES_MAX, Bundle};
use record::Digest;
use std::{path::Path, time::Duration};

/// How often a document that the node does not know is asked for again.
const NEWS_TRIES: u32 = 10;
const NEWS_PAUSE: Duration = Duration::from_millis(300);

/// The policies of one side of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) access: Option<Bundle>,
    pub(crate) derivation: Option<String>,
}

impl Source {
    /// Finds what a word of the command line means.
    pub(crate) async fn find(word: &str, connection: &Connection) -> anyhow::Result<Self> {
        if word == "active" {
            let list = connection.anonymous()?.get("/policy").await?.good()?.json()?;
            let mut both = Self::default();
            for kind in ["access", "derivation"] {
                both.add(Self::on_ledger(digest_of(&list["in_force"][kind]["document"])?, connection).await?);
            }
            return Ok(both);
        }
        if let Ok(digest) = word.parse::<Digest>() {
            return Self::on_ledger(digest, connection).await;
        }
        let path = Path::new(word);
        if path.is_dir() {
            let Folder { access, derivation, .. } = Folder::read(path)?;
            return Ok(Self { access, derivation });
        }
        let bad = |e: std::io::Error| BadInput(format!("cannot read `{word}`: {e}"));
        if std::fs::metadata(path).map_err(bad)?.len() > BUNDLE_BYTES_MAX as u64 {
            return Err(BadInput(format!("`{word}` has more than {BUNDLE_BYTES_MAX} bytes")).into());
        }
        Self::of(std::fs::read(path).map_err(bad)?)
    }

    /// The documents as the ledger has them.
    pub(crate) fn documents(&self) -> Vec<(PolicyKind, Vec<u8>)> {
        let access = self.access.as_ref().map(|bundle| (PolicyKind::Access, bundle.to_bytes()));
        let derivation = self.derivation.as_ref().map(|text| (PolicyKind::Derivation, text.clone().into_bytes()));
        access.into_iter().chain(derivation).collect()
    }

    async fn on_ledger(digest: Digest, connection: &Connection) -> anyhow::Result<Self> {
        let (client, path) = (connection.anonymous()?, format!("/policy/{digest}"));
        let mut answer = client.get(&path).await?;
        // What another member has just proposed may be final here a moment later.
        for _ in 0..NEWS_TRIES {
            if answer.status.as_u16() != 404 {
                break;
            }
            tokio::time::sleep(NEWS_PAUSE).await;
            answer = client.get(&path).await?;
        }
        if answer.status.as_u16() == 404 {
            return Err(BadInput(format!("the ledger holds no policy {digest}")).into());
        }
        let source = Self::of(answer.good()?.bytes)?;
        // The digest is what members vote on: the gateway is not believed that these are its bytes.
        let named = source.documents().iter().any(|(kind, bytes)| contract::document::digest(*kind, bytes) == digest);
        if named { Ok(source) } else { anyhow::bail!("the gateway sent another policy than {digest}") }
    }

    /// What bytes are: a bundle, or the text of a derivation policy.
    fn of(bytes: Vec<u8>) -> anyhow::Result<Self> {
        if let Ok(bundle) = Bundle::from_bytes(&bytes) {
            return Ok(Self { access: Some(bundle), derivation: None });
        }
        let text = String::from_utf8(bytes).map_err(|_| BadInput("this is no policy document".to_owned()))?;
        Ok(Self { access: None, derivation: Some(text) })
    }

    fn add(&mut self, other: Self) {
        self.access = other.access.or(self.access.take());
        self.derivation = other.derivation.or(self.derivation.take());
    }
}

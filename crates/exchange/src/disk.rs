//! What the node takes up on the disk, by parts and for each entry of the ledger.

use crate::{failure::Failure, node::Node};
use ledger::DiskUse;
use std::time::{Duration, Instant};

/// How often the node's folder is looked at while somebody asks: a look reads the size of every file in it.
const DISK_LOOKED_AT_EVERY: Duration = Duration::from_secs(30);

/// What a look showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    ledger: DiskUse,
    mirror_bytes: u64,
    /// Entries in final blocks at that time.
    entries: u64,
}

impl Used {
    /// Bytes of each part with its name.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.ledger.parts().into_iter().chain([("mirror", self.mirror_bytes)])
    }

    /// Bytes for each entry of what the ledger consists of, with the part's name, and in all. Nothing while there are no entries.
    pub(crate) fn per_entry(&self) -> Vec<(&'static str, f64)> {
        if self.entries == 0 {
            return Vec::new();
        }
        let parts = self.ledger.of_entries();
        let all = parts.iter().map(|(_, bytes)| bytes).sum();
        let each = |(name, bytes): (&'static str, u64)| (name, bytes as f64 / self.entries as f64);
        parts.into_iter().chain([("all", all)]).map(each).collect()
    }
}

/// The latest look, and when it was.
#[derive(Default)]
pub(crate) struct Disk(tokio::sync::Mutex<Option<(Instant, Used)>>);

impl Node {
    /// What the node takes up, not older than [`DISK_LOOKED_AT_EVERY`], nor from before the first entry. However many ask, one looks, on a thread that may block.
    pub(crate) async fn disk_use(&self) -> Result<Used, Failure> {
        let mut last = self.disk.0.lock().await;
        if let Some((at, used)) = *last
            && at.elapsed() < DISK_LOOKED_AT_EVERY
            && used.entries > 0
        {
            return Ok(used);
        }
        let (ledger, mirror) = (self.ledger.clone(), self.mirror.clone());
        let entries = ledger.status().log_size;
        let look = move || std::io::Result::Ok((ledger.disk_use()?, mirror.disk_bytes()?));
        let (ledger, mirror_bytes) = tokio::task::spawn_blocking(look)
            .await
            .map_err(|e| Failure::ours("nobody looked at the disk", e))?
            .map_err(|e| Failure::ours("the node's folder cannot be looked at", e))?;
        let used = Used { ledger, mirror_bytes, entries };
        *last = Some((Instant::now(), used));
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_each_entry_are_those_of_the_ledger_alone() {
        let ledger = DiskUse {
            blocks_bytes: 1000,
            certificates_bytes: 200,
            state_bytes: 700,
            verdicts_bytes: 50,
            checkpoints_bytes: 50,
            vault_bytes: 9000,
            other_bytes: 9000,
        };
        let used = Used { ledger, mirror_bytes: 9000, entries: 4 };
        let expected = [
            ("blocks", 250.0),
            ("certificates", 50.0),
            ("state", 175.0),
            ("verdicts", 12.5),
            ("checkpoints", 12.5),
            ("all", 500.0),
        ];
        assert_eq!(used.per_entry(), expected);
        assert_eq!(used.parts().map(|(_, bytes)| bytes).sum::<u64>(), 29_000);
        assert!(Used { entries: 0, ..used }.per_entry().is_empty());
    }
}

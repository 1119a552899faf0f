//! What a node's folder takes up on the disk, part by part.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Unit of the system's count of allocated blocks, in bytes. Source: POSIX `st_blocks`, as Linux counts it.
const ALLOCATED_UNIT_BYTES: u64 = 512;

/// Bytes that a node's folder takes up, as allocated on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Final blocks.
    pub blocks_bytes: u64,
    /// Their certificates.
    pub certificates_bytes: u64,
    /// The authenticated state.
    pub state_bytes: u64,
    /// Why entries were refused.
    pub verdicts_bytes: u64,
    /// State proofs of the ends of epochs.
    pub checkpoints_bytes: u64,
    /// Encrypted copies and wrapped keys.
    pub vault_bytes: u64,
    /// What the node remembers of its votes, and the rest.
    pub other_bytes: u64,
}

impl DiskUse {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("blocks", self.blocks_bytes),
            ("certificates", self.certificates_bytes),
            ("state", self.state_bytes),
            ("verdicts", self.verdicts_bytes),
            ("checkpoints", self.checkpoints_bytes),
            ("vault", self.vault_bytes),
            ("other", self.other_bytes),
        ]
    }

    /// What grows with every entry of the ledger, with its name: what all nodes keep of it, without the vault.
    pub fn of_entries(&self) -> [(&'static str, u64); 5] {
        let [blocks, certificates, state, verdicts, checkpoints, ..] = self.parts();
        [blocks, certificates, state, verdicts, checkpoints]
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The folder, inside a node's own, in which the engine keeps its files: a folder for each of its stores.
pub(crate) const ENGINE: &str = "engine";

/// Looks at every file of the node's folder `data_dir`, of which the engine's stores have names that begin with `store`.
pub(crate) fn measure(data_dir: &Path, store: &str) -> io::Result<DiskUse> {
    let mut used = DiskUse::default();
    for entry in entries(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == ENGINE {
            for partition in entries(&entry.path())? {
                let partition = partition?;
                let bytes = allocated_bytes(&partition.path())?;
                let name = partition.file_name();
                *part(&mut used, name.to_string_lossy().strip_prefix(store).unwrap_or_default()) += bytes;
            }
        } else if name.starts_with("vault.sqlite") {
            used.vault_bytes += allocated_bytes(&entry.path())?;
        } else {
            used.other_bytes += allocated_bytes(&entry.path())?;
        }
    }
    Ok(used)
}

/// The part that a store of the engine belongs to, by its name without the node's.
fn part<'a>(used: &'a mut DiskUse, name: &str) -> &'a mut u64 {
    let name = name.strip_prefix('-').unwrap_or(name);
    let name = name.strip_prefix("older-").unwrap_or(name);
    match name.split('-').next().unwrap_or_default() {
        "blocks" => &mut used.blocks_bytes,
        "finalizations" => &mut used.certificates_bytes,
        "state" => &mut used.state_bytes,
        "verdicts" => &mut used.verdicts_bytes,
        "checkpoints" => &mut used.checkpoints_bytes,
        _ => &mut used.other_bytes,
    }
}

/// Nothing for a folder that is gone: the node writes and removes files meanwhile.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// Of a file, or of all files below a folder.
fn allocated_bytes(path: &Path) -> io::Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks().saturating_mul(ALLOCATED_UNIT_BYTES));
    }
    let mut bytes = 0u64;
    for entry in entries(path)? {
        bytes = bytes.saturating_add(allocated_bytes(&entry?.path())?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_for_the_part_that_it_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let written = |name: &str, kib: usize| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = fs::File::create(path).unwrap();
            io::Write::write_all(&mut file, &vec![1; kib * 1024]).unwrap();
            file.sync_all().unwrap();
        };
        written("engine/mercy-blocks-value/0", 64);
        written("engine/mercy-older-blocks-key/0", 32);
        written("engine/mercy-finalizations-value/0", 128);
        written("engine/mercy-state-log-data/7", 256);
        written("engine/mercy-state-merkle-journal/1", 4);
        written("engine/mercy-verdicts-value/0", 8);
        written("engine/mercy-checkpoints-value/0", 12);
        written("engine/mercystate_sync_metadata/left", 4);
        written("engine/mercy-simplex-3/0", 16);
        written("vault.sqlite", 512);
        written("vault.sqlite-wal", 20);
        written("blame/some", 4);
        let used = measure(dir.path(), "mercy").unwrap();
        let kib = used.parts().map(|(name, bytes)| (name, bytes / 1024));
        let expected = [
            ("blocks", 96),
            ("certificates", 128),
            ("state", 260),
            ("verdicts", 8),
            ("checkpoints", 12),
            ("vault", 532),
            ("other", 24),
        ];
        assert_eq!(kib, expected);
        assert_eq!(used.total_bytes() / 1024, expected.iter().map(|(_, kib)| kib).sum::<u64>());
    }

    #[test]
    fn a_folder_that_is_not_there_takes_up_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(measure(&dir.path().join("none"), "mercy").unwrap(), DiskUse::default());
    }
}

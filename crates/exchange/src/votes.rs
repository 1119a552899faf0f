//! Whether a validator still knows what it voted for: how often it started by its key is written beside the key and in the ledger's folder.
//!
//! The journal of its votes lies in the ledger's folder. A validator without it, or with an old copy of it, could sign what excludes a vote that it
//! gave before; others would prove that and shut it out. A folder that knows of fewer starts than the key does is such a one.

use crate::keys::{KeyError, OrgKeys, write_whole};
use contract::PublicKey;
use std::{fs, io, path::Path};

/// In both folders: the public half of the consensus key, and how many starts there were by it.
const STARTS: &str = "consensus.starts";

/// Counts a start, and says whether the validator may vote after it. A start after which it may not is not counted: as long as the key is
/// the same, none that follows may vote either.
pub fn remembers_its_votes(keys: &OrgKeys, ledger: &Path) -> Result<bool, KeyError> {
    let key = PublicKey::from(keys.consensus.verifying_key().to_bytes());
    let (by_key, in_ledger) = (starts(&keys.folder, &key)?, starts(ledger, &key)?);
    if in_ledger < by_key {
        return Ok(false);
    }
    fs::create_dir_all(ledger).map_err(|source| KeyError::File { path: ledger.to_owned(), source })?;
    let line = format!("{} {}", hex::encode(key.as_bytes()), in_ledger.saturating_add(1));
    // A crash in between leaves the ledger's folder with one start more, which is no harm.
    write_whole(ledger, STARTS, &line)?;
    write_whole(&keys.folder, STARTS, &line)?;
    Ok(true)
}

/// How many starts by `key` a folder knows of: none, where it names another.
fn starts(folder: &Path, key: &PublicKey) -> Result<u64, KeyError> {
    let path = folder.join(STARTS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read.map_err(|source| KeyError::File { path: path.clone(), source })?,
    };
    let (of, count) = text.trim_end().split_once(' ').ok_or(KeyError::Malformed { path: path.clone() })?;
    let count = count.parse().map_err(|_| KeyError::Malformed { path })?;
    Ok(if of == hex::encode(key.as_bytes()) { count } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{NextKey, Replaces};

    /// Copies the ledger's folder as a backup would.
    fn copy(ledger: &Path, backup: &Path) {
        fs::create_dir_all(backup).unwrap();
        fs::copy(ledger.join(STARTS), backup.join(STARTS)).unwrap();
    }

    #[test]
    fn a_validator_whose_ledger_folder_is_gone_or_an_older_copy_may_not_vote_until_it_has_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, ledger, backup] = ["keys", "ledger", "backup"].map(|name| dir.path().join(name));
        let mut keys = OrgKeys::create(&folder).unwrap();
        for _ in 0..3 {
            assert!(remembers_its_votes(&keys, &ledger).unwrap());
        }
        copy(&ledger, &backup);
        // What was restored before anything was signed since is as good as the folder itself.
        fs::remove_dir_all(&ledger).unwrap();
        copy(&backup, &ledger);
        assert!(remembers_its_votes(&keys, &ledger).unwrap());
        copy(&backup, &ledger);
        assert!(!remembers_its_votes(&keys, &ledger).unwrap(), "an older copy");
        fs::remove_dir_all(&ledger).unwrap();
        for _ in 0..3 {
            assert!(!remembers_its_votes(&keys, &ledger).unwrap(), "nothing is left");
        }
        NextKey::draw(&folder, Replaces::Consensus).unwrap().put_in_place(&folder).unwrap();
        keys = OrgKeys::load(&folder).unwrap();
        assert!(remembers_its_votes(&keys, &ledger).unwrap(), "the new key signed nothing");
        fs::remove_dir_all(&ledger).unwrap();
        assert!(!remembers_its_votes(&keys, &ledger).unwrap());
    }

    #[test]
    fn a_start_that_broke_off_between_the_two_folders_keeps_no_validator_from_voting() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, ledger, before] = ["keys", "ledger", "before"].map(|name| dir.path().join(name));
        let keys = OrgKeys::create(&folder).unwrap();
        assert!(remembers_its_votes(&keys, &ledger).unwrap());
        copy(&folder, &before);
        assert!(remembers_its_votes(&keys, &ledger).unwrap());
        copy(&before, &folder);
        assert!(remembers_its_votes(&keys, &ledger).unwrap());
        // Keys from a backup that was made before the first start.
        fs::remove_file(folder.join(STARTS)).unwrap();
        assert!(remembers_its_votes(&keys, &ledger).unwrap());
    }

    #[test]
    fn a_file_that_says_nothing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [folder, ledger] = ["keys", "ledger"].map(|name| dir.path().join(name));
        let keys = OrgKeys::create(&folder).unwrap();
        fs::create_dir_all(&ledger).unwrap();
        for text in ["", "often", "00 many"] {
            fs::write(ledger.join(STARTS), text).unwrap();
            let refused = remembers_its_votes(&keys, &ledger);
            assert!(matches!(refused, Err(KeyError::Malformed { path }) if path == ledger.join(STARTS)), "{text:?}");
        }
    }
}

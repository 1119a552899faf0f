//! The files that the rules read: what git tracks, as far as it is text.

use super::counted;
use crate::run::output;
use std::{fs, path::Path, process::Command};

/// Files that are named one by one when none was looked at.
const NAMED_MAX: usize = 10;

/// One tracked text file.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// All tracked text files, in order of their paths, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) files: Vec<File>,
    gone: Vec<String>,
    binary: Vec<String>,
    untracked: Vec<String>,
}

impl Sources {
    /// Reads what git tracks under `root`.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        for path in git(root, &["ls-files", "-z", "--cached"])? {
            match fs::read(root.join(&path)).map(String::from_utf8) {
                Ok(Ok(text)) => sources.files.push(File { path, text }),
                Ok(Err(_)) => sources.binary.push(path),
                Err(_) => sources.gone.push(path),
            }
        }
        sources.untracked = git(root, &["ls-files", "-z", "--others", "--exclude-standard"])?;
        Ok(sources)
    }

    /// Files that end so.
    pub(super) fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Whether a file or folder is there for everybody who clones: tracked, not only present.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let names = self.files.iter().map(|file| &file.path).chain(&self.binary);
        path.is_empty() || names.into_iter().any(|name| name == path || name.starts_with(&folder))
    }

    /// What no rule looked at.
    pub(super) fn left_out(&self) -> Vec<String> {
        let kinds = [
            ("not looked at, because git does not track it yet", &self.untracked),
            ("not looked at, because it is no text", &self.binary),
            ("not looked at, because it is tracked and gone", &self.gone),
        ];
        let told = kinds.into_iter().filter(|(_, paths)| !paths.is_empty());
        told.map(|(why, paths)| {
            let more =
                paths.len().checked_sub(NAMED_MAX).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
            let named = paths[..paths.len().min(NAMED_MAX)].join(" ");
            format!("{why}: {}: {named}{}", counted(paths.len(), "file"), more.unwrap_or_default())
        })
        .collect()
    }

    /// For tests: files from pairs of path and text.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        Self { files, ..Self::default() }
    }
}

fn git(root: &Path, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    // In a container the checkout may belong to another user; listing its files runs nothing of it.
    let listed = output(Command::new("git").current_dir(root).args(["-c", "safe.directory=*"]).args(arguments))?;
    let mut paths: Vec<String> = listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_a_file_in_it_is() {
        let sources = Sources::of(&[("docs/decisions/0001-profile.md", "")]);
        assert!(sources.has("docs"));
        assert!(sources.has("docs/decisions/0001-profile.md"));
        assert!(!sources.has("doc"));
        assert!(!sources.has("docs/decisions/0002-month.md"));
    }
}

//! System packages: what a bare Debian 12 with Rust still lacks.

use crate::run::{output, say, streamed};
use anyhow::bail;
use std::{env, path::Path, process::Command};

/// A program of the system that the build or the tests call.
struct Package {
    /// What it is looked up by on the `PATH`.
    binary: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    /// What it is needed for.
    purpose: &'static str,
}

/// One line for each. SQLite and the cryptography under TLS are built from source by the C compiler, which is not listed: without it
/// this program could not have been linked.
const PACKAGES: &[Package] = &[
    Package { binary: "git", package: "git", purpose: "lists the files that `tidy` reads" },
    Package { binary: "curl", package: "curl", purpose: "follows the operators' page in a test" },
    Package {
        binary: "node",
        package: "nodejs",
        purpose: "runs the second verifier, its tests, and clients of others",
    },
    Package {
        binary: "pg_ctlcluster",
        package: "postgresql",
        purpose: "the server of many gateways, in tests of the store",
    },
    Package { binary: "mosquitto", package: "mosquitto", purpose: "the broker of sensors, in tests of the gateway" },
    Package { binary: "mosquitto_pub", package: "mosquitto-clients", purpose: "sends frames to it as anybody may" },
    Package { binary: "openssl", package: "openssl", purpose: "makes the certificates of these servers" },
    Package { binary: "cvc5", package: "cvc5", purpose: "proves what a change of policies changes" },
    Package {
        binary: "python3",
        package: "python3-venv",
        purpose: "runs packages that are not ours: one that checks receipts, clients",
    },
    Package {
        binary: "npm",
        package: "npm",
        purpose: "fetches clients of others, and what the second verifier is built with",
    },
];

/// Sees to it that every package is there: installs what is missing where it may, else says what to install.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let missing = missing(PACKAGES, |binary| folders.iter().any(|folder| is_program(&folder.join(binary))));
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        say(&format!("`{}` is missing: {}", package.binary, package.purpose));
    }
    let names: Vec<&str> = missing.iter().map(|package| package.package).collect();
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || !folders.iter().any(|folder| is_program(&folder.join("apt-get"))) {
        bail!("install these packages first: apt-get install {}", names.join(" "));
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "--quiet", "--yes", "--no-install-recommends"]);
    install.args(&names);
    if !streamed(update)? || !streamed(install)? {
        bail!("these packages could not be installed: {}", names.join(" "));
    }
    Ok(())
}

fn missing(packages: &[Package], there: impl Fn(&str) -> bool) -> Vec<&Package> {
    packages.iter().filter(|package| !there(package.binary)).collect()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        let packages = [("psql", "postgresql-client"), ("sh", "dash")].map(|(binary, package)| Package {
            binary,
            package,
            purpose: "a test",
        });
        let missing: Vec<&str> = missing(&packages, |binary| binary == "sh").iter().map(|p| p.package).collect();
        assert_eq!(missing, ["postgresql-client"]);
    }

    #[test]
    fn a_folder_or_a_plain_file_is_no_program() {
        assert!(is_program(Path::new("/bin/sh")));
        assert!(!is_program(Path::new("/bin")));
        assert!(!is_program(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))));
    }
}

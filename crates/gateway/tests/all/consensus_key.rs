//! An organisation changes the key that its validator votes by, and an attempt that broke off is gone on with.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use crate::consortium::{Consortium, good, vitaltrace};
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Output,
};

const RESCUE: &str = "rescue-one";
const MERCY: &str = "mercy-hospital";

fn config(consortium: &Consortium, org: &str) -> String {
    consortium.node(org).dir.display().to_string()
}

fn keys(consortium: &Consortium) -> PathBuf {
    consortium.node(MERCY).dir.join("keys")
}

fn rotate(consortium: &Consortium) -> Output {
    vitaltrace(["member", "rotate-key", "--config", &config(consortium, MERCY)])
}

/// The consensus key and the height from which it decides, as another organisation's node shows them.
fn shown(consortium: &Consortium) -> (String, u64) {
    let list = good(vitaltrace(["member", "list", "--json", "--config", &config(consortium, RESCUE)]));
    let list: Value = serde_json::from_str(&list).unwrap();
    let member = list["members"].as_array().unwrap().iter().find(|member| member["org"] == MERCY).unwrap().clone();
    (member["consensus_key"].as_str().unwrap().to_owned(), member["decides_from"].as_u64().unwrap())
}

/// How many entries about members the ledger has.
fn said(consortium: &Consortium) -> usize {
    let list =
        good(vitaltrace(["ledger", "entries", "--kind", "member", "--json", "--config", &config(consortium, RESCUE)]));
    serde_json::from_str::<Value>(&list).unwrap()["entries"].as_array().unwrap().len()
}

/// The key was drawn, the members were told, and the command ended before the key was in its place. Each further attempt told them of the same key
/// once more, which the ledger refused, as a key is named once: the validator could never vote by it, nor get another.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_consensus_key_that_broke_off_is_gone_on_with_and_a_spent_key_is_drawn_anew() {
    let consortium = Consortium::running(&[]).await;
    let (present, next) = (keys(&consortium).join("consensus.key"), keys(&consortium).join("consensus.next.key"));
    let (first_key, _) = shown(&consortium);
    let first = fs::read(&present).unwrap();
    good(rotate(&consortium));
    consortium.settle().await;
    let (second_key, decides_from) = shown(&consortium);
    assert_ne!(second_key, first_key);
    assert!(!next.exists(), "the new key is in place");
    let second = fs::read(&present).unwrap();

    // As if it had ended before that.
    fs::rename(&present, &next).unwrap();
    fs::write(&present, &first).unwrap();
    fs::set_permissions(&present, fs::Permissions::from_mode(0o600)).unwrap();
    let before = said(&consortium);
    good(rotate(&consortium));
    consortium.settle().await;
    assert_eq!(fs::read(&present).unwrap(), second, "the key that decides is in place");
    assert_eq!(shown(&consortium), (second_key.clone(), decides_from));
    assert_eq!(said(&consortium), before, "the members were told a second time");

    // Drawn by an attempt long ago, and replaced since: no key is named twice.
    fs::write(&next, &first).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    good(rotate(&consortium));
    consortium.settle().await;
    let (third_key, _) = shown(&consortium);
    assert!(third_key != first_key && third_key != second_key, "another key was drawn");
    assert!(!next.exists());
    let third = fs::read(&present).unwrap();
    assert!(third != first && third != second);
}

/// Two commands at the same moment each told the members of a key of its own, and the file held one of them: not always the one that decides.
#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_the_consensus_key_at_the_same_moment_are_refused_clearly() {
    let consortium = Consortium::running(&[]).await;
    let before = shown(&consortium);
    let first = fs::read(keys(&consortium).join("consensus.key")).unwrap();
    // Another command is at it.
    let path = keys(&consortium).join("consensus.lock");
    let held = File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    held.lock().unwrap();
    let refused = rotate(&consortium);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("another command is replacing this key just now"), "{said}");
    assert_eq!(shown(&consortium), before);
    assert_eq!(fs::read(keys(&consortium).join("consensus.key")).unwrap(), first);
    assert!(!keys(&consortium).join("consensus.next.key").exists(), "nothing was drawn");
    held.unlock().unwrap();

    // Really at the same moment: one or both are good, and the key in place is the one that decides.
    let config = config(&consortium, MERCY);
    let together: Vec<_> = (0..2)
        .map(|_| {
            let config = config.clone();
            std::thread::spawn(move || vitaltrace(["member", "rotate-key", "--config", &config]))
        })
        .collect();
    let ended: Vec<Output> = together.into_iter().map(|command| command.join().unwrap()).collect();
    let codes: Vec<_> = ended.iter().map(|ended| ended.status.code()).collect();
    assert!(codes.contains(&Some(0)) && codes.iter().all(|code| [Some(0), Some(2)].contains(code)), "{codes:?}");
    consortium.settle().await;
    let (decides, _) = shown(&consortium);
    let text = fs::read_to_string(keys(&consortium).join("consensus.key")).unwrap();
    let seed: [u8; 32] = hex::decode(text.trim()).unwrap().try_into().unwrap();
    let in_place = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    assert_eq!(hex::encode(in_place.as_bytes()), decides, "the key in place is not the one that decides");
}

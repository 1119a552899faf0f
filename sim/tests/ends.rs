//! Certificates of the last blocks of epochs come back to who lost them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod seed;
mod story;

use commonware_runtime::{Clock as _, Storage as _};
use std::time::Duration;
use story::{INSURER, REGULATOR, Site, listen, run};

/// Stops a member at the end of an epoch, and gives its height.
async fn stop_at_an_end(site: &mut Site, member: usize) -> u64 {
    let blocks = site.consortium.genesis.epoch_blocks;
    for _ in 0..100_000 {
        let height = site.handle(member).status().height;
        if height % blocks == blocks - 1 {
            site.kill(member).await;
            return height;
        }
        site.context.sleep(Duration::from_millis(5)).await;
    }
    panic!("member {member} was never at the end of an epoch");
}

/// Takes a stopped member's certificates away.
async fn take_certificates(site: &Site, member: usize) {
    let store = site.consortium.config(member, listen(member, 0), None).store;
    for part in ["metadata", "key", "value"] {
        site.context.remove(&format!("{store}-finalizations-{part}"), None).await.unwrap();
    }
}

#[test]
fn the_certificates_that_epochs_begin_with_are_asked_for_where_a_crash_took_them() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        site.epochs_later(0, 2).await;
        let end = stop_at_an_end(&mut site, INSURER).await;
        take_certificates(&site, INSURER).await;
        let config = site.consortium.config(INSURER, listen(INSURER, 0), None);
        site.begin(INSURER, config).await;
        // Its vote is needed.
        site.kill(REGULATOR).await;
        site.epochs_later(0, 2).await;
        site.reaches(INSURER, end + 1).await;
        let blocks = site.consortium.genesis.epoch_blocks;
        for end in (blocks - 1..=end).step_by(blocks as usize) {
            let block = site.handle(INSURER).block(end).await.unwrap().unwrap();
            assert!(block.certificate.is_some(), "nobody gave it the certificate of height {end}");
        }
        // Within an epoch nobody misses it.
        let within = site.handle(INSURER).block(1).await.unwrap().unwrap();
        assert!(within.certificate.is_none(), "it lost none");
    });
}

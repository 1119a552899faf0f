//! Certificates of the last blocks of epochs come back to who lost them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod seed;
mod story;

use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _};
use ledger::{AllEpochs, join};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use story::{INSURER, REGULATOR, Site, listen, run};

#[test]
fn the_certificates_that_epochs_begin_with_are_asked_for_where_a_crash_took_them() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        site.epochs_later(0, 2).await;
        let end = site.stop_at_an_end(INSURER).await;
        site.take_certificates(INSURER).await;
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

/// Stands at the regulator's place without a node: hears in which epochs others vote, and may have certificates to give.
#[derive(Clone, Default)]
struct Bystander(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// The epoch of each vote that it heard.
    voted: Vec<u64>,
    /// How often it was asked for a certificate.
    asked: usize,
    /// What it answers, by height.
    certificates: BTreeMap<u64, Vec<u8>>,
}

impl Bystander {
    fn begin(site: &Site) -> Self {
        let config = site.consortium.config(REGULATOR, listen(REGULATOR, 0), None);
        let context = site.context.child("bystander");
        let channels = join(&context, &config).unwrap();
        let bystander = Self::default();
        let (hears, answers) = (bystander.clone(), bystander.clone());
        let mut votes = AllEpochs::new(&context.child("votes"), channels.votes);
        context.child("hear").spawn(move |_| async move {
            while let Some((epoch, _)) = votes.recv().await {
                hears.0.lock().unwrap().voted.push(epoch);
            }
        });
        context.child("answer").spawn(move |_| async move {
            let _open = (channels.certificates, channels.resolver, channels.backfill, channels.blocks);
            let _also = (channels.gossip, channels.attachments, channels.words, channels.task);
            let (mut sender, mut receiver) = channels.questions;
            while let Ok((peer, bytes)) = receiver.recv().await {
                if let Some((id, height)) = asks_for_a_certificate(bytes.as_ref()) {
                    let answer = {
                        let mut heard = answers.0.lock().unwrap();
                        heard.asked += 1;
                        answer(id, heard.certificates.get(&height).map(Vec::as_slice).unwrap_or_default())
                    };
                    let _ = sender.send(Recipients::One(peer), answer, false);
                }
            }
        });
        bystander
    }

    /// What it heard since the last time.
    fn heard(&self) -> Heard {
        let mut heard = self.0.lock().unwrap();
        let certificates = heard.certificates.clone();
        std::mem::replace(&mut *heard, Heard { certificates, ..Heard::default() })
    }
}

/// The number of a question about a certificate, and the height that it is about.
fn asks_for_a_certificate(question: &[u8]) -> Option<(u64, u64)> {
    let mut decoder = minicbor::Decoder::new(question);
    decoder.array().ok()?;
    (decoder.u32().ok()? == 0).then_some(())?;
    decoder.array().ok()?;
    let id = decoder.u64().ok()?;
    decoder.array().ok()?;
    (decoder.u32().ok()? == 3).then_some(())?;
    decoder.array().ok()?;
    Some((id, decoder.u64().ok()?))
}

fn answer(id: u64, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.array(2).unwrap().u32(1).unwrap().array(2).unwrap().u64(id).unwrap().bytes(bytes).unwrap();
    encoder.into_writer()
}

/// A member had the last block of its epoch without its certificate, which a failing disk had left behind. It went on to the next epoch alone, and the
/// others stood still, who needed its vote to end the one before.
#[test]
fn a_node_with_the_last_block_of_an_epoch_and_no_certificate_votes_on_in_that_epoch_until_it_has_it() {
    run(|context| async move {
        let mut site = Site::open_some(context, &[0, 1, INSURER], |_| {}).await;
        let bystander = Bystander::begin(&site);
        site.epochs_later(0, 1).await;
        let end = site.stop_at_an_end(INSURER).await;
        let blocks = site.consortium.genesis.epoch_blocks;
        let (epoch, mut certificates) = (end / blocks, BTreeMap::new());
        for end in (blocks - 1..=end).step_by(blocks as usize) {
            let block = site.handle(0).block(end).await.unwrap().unwrap();
            certificates.insert(end, block.certificate.clone().unwrap());
        }
        site.kill(0).await;
        site.kill(1).await;
        // What its engine had noted would give it the certificate again.
        site.take_certificates(INSURER).await;
        site.take_votes(INSURER, epoch).await;
        bystander.heard();
        let config = site.consortium.config(INSURER, listen(INSURER, 0), None);
        site.begin(INSURER, config).await;
        site.reaches(INSURER, end).await;
        let minute = Duration::from_secs(60);
        site.context.sleep(minute).await;
        let heard = bystander.heard();
        assert!(!heard.voted.is_empty(), "it gave up");
        let elsewhere = heard.voted.iter().find(|voted| **voted != epoch);
        assert_eq!(
            elsewhere, None,
            "it voted in another epoch than {epoch}, of which it has not the end's certificate"
        );
        // It asks, and ever more seldom where nobody has it.
        assert!((1..20).contains(&heard.asked), "it asked {} times in a minute", heard.asked);

        bystander.0.lock().unwrap().certificates = certificates;
        site.context.sleep(minute).await;
        assert!(bystander.heard().voted.contains(&(epoch + 1)), "it has the certificate and does not go on");
        site.context.sleep(minute).await;
        let heard = bystander.heard();
        assert!(!heard.voted.is_empty() && heard.voted.iter().all(|voted| *voted == epoch + 1), "{:?}", heard.voted);
        assert_eq!((heard.asked, site.handle(INSURER).status().height), (0, end), "it asks for what it has");
    });
}

//! Who comes late takes over the state, goes on with the others, and fetches the blocks before; under a seed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests; what was seen is printed"
)]

mod seed;
mod story;

use commonware_codec::DecodeExt as _;
use commonware_cryptography::ed25519;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic};
use contract::{Body, Entry, Joining, MemberStep};
use evidence::{KnownBlock, Limits};
use futures::{
    channel::oneshot,
    future::{Either, select},
};
use ledger::{Begin, Config, ConsensusKey, Part, Peer, StartError, join};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::{Digest, OrgRole};
use seed::seed;
use sim::NEWCOMER;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use story::{INSURER, REGULATOR, Site, listen, run};

const STATE: Begin = Begin::State { known: None };

/// Entries that are applied, some that are refused, and versions that follow each other: over as many blocks as there are rounds.
async fn write(site: &mut Site, lane: u32, rounds: u64) {
    for round in 0..rounds {
        let entries = site.consortium.new_entries(0, lane, 1 + round * 20, 20);
        site.handle(0).submit(&entries.to_bytes()).await.unwrap();
        let record = site.consortium.entry(1, &format!("{lane}-{round}"), &[]);
        let twice = site.consortium.submission(1, lane, 1 + round * 2, vec![record.clone(), record]);
        site.handle(0).submit(&twice.to_bytes()).await.unwrap();
        let height = site.handle(0).status().height;
        site.reaches(0, height + 2).await;
    }
}

/// Waits until a member has every block, and demands that it has what another one has: blocks, verdicts, roots, state.
async fn has_all_that(site: &Site, member: usize, other: usize) {
    for _ in 0..2_400 {
        if site.handle(member).status().blocks_from == 1 {
            break;
        }
        site.context.sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(site.handle(member).status().blocks_from, 1, "older blocks are missing");
    let height = site.handle(other).status().height;
    site.reaches(member, height).await;
    let mut refused = 0;
    for height in 1..=height {
        let ours = site.handle(member).block(height).await.unwrap().unwrap_or_else(|| panic!("no block {height}"));
        let theirs = site.handle(other).block(height).await.unwrap().unwrap();
        assert_eq!((&ours.block, ours.digest, &ours.receipts), (&theirs.block, theirs.digest, &theirs.receipts));
        refused += ours.receipts.iter().filter(|receipt| receipt.verdict != 0).count();
        if height % site.consortium.genesis.epoch_blocks == site.consortium.genesis.epoch_blocks - 1 {
            assert!(ours.certificate.is_some(), "no certificate of height {height}");
        }
    }
    assert!(refused > 0, "nothing was refused");
    let keys: Vec<Digest> = (1..=40).map(|seq| site.consortium.record_key(0, &format!("3-{seq}"))).collect();
    let ours = site.handle(member).get(keys.clone()).await.unwrap();
    assert!(ours.iter().all(Option::is_some));
    assert_eq!(ours, site.handle(other).get(keys).await.unwrap());
}

/// The configuration of the newcomer, which begins with the state.
fn newcomer(site: &Site) -> Config {
    let mut config = site.consortium.config(NEWCOMER, listen(NEWCOMER, 0), None);
    config.begin = STATE;
    config
}

/// Votes the newcomer in, and gives the key of its seat.
async fn vote_in(site: &mut Site) -> contract::PublicKey {
    let joining = site.consortium.joining(listen(NEWCOMER, site.lives[NEWCOMER]));
    site.say(0, 0, "join", NEWCOMER, MemberStep::JoinProposed(joining.clone())).await;
    site.carry("join", NEWCOMER, &[0, 1, 2]).await;
    joining.consensus_key
}

#[test]
fn one_that_joins_late_takes_over_the_state_votes_and_fetches_the_blocks_before() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        write(&mut site, 3, 12).await;
        let key = vote_in(&mut site).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        let status = site.handle(NEWCOMER).status();
        let epoch = site.consortium.genesis.epoch_blocks;
        assert!(
            status.began_at > 0 && (status.began_at + 1) % epoch == 0,
            "it began at the end of an epoch: {status:?}"
        );
        assert_eq!(status.blocks_from, status.began_at + 1, "it has none of the blocks before, and says so");
        // Neither does it show any, and it proves what the state says all the same.
        assert_eq!(site.handle(NEWCOMER).block(1).await, Ok(None));
        let (file, _) = site.evidence(NEWCOMER).await;
        evidence::verify(&file, &site.consortium.genesis.id(), &Limits::default()).unwrap();
        // The others go on, and so does it.
        write(&mut site, 4, 4).await;
        site.say(NEWCOMER, NEWCOMER, "seat", NEWCOMER, MemberStep::Seated(key)).await;
        site.epochs_later(0, 2).await;
        // Four of five are a quorum: its votes are needed.
        site.kill(REGULATOR).await;
        site.epochs_later(0, 1).await;
        has_all_that(&site, NEWCOMER, 0).await;
        // Once more, from what is on its disk.
        site.kill(NEWCOMER).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        assert_eq!(site.handle(NEWCOMER).status().blocks_from, 1);
        has_all_that(&site, NEWCOMER, 0).await;
    });
}

#[test]
fn one_that_lost_its_disk_takes_over_the_state_while_the_others_go_on_and_votes_by_another_key() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        site.join().await;
        write(&mut site, 3, 6).await;
        site.kill(REGULATOR).await;
        write(&mut site, 5, 6).await;
        let (secret, public) = site.consortium.other_key(REGULATOR);
        let mut config = site.consortium.config(REGULATOR, listen(REGULATOR, 0), None);
        (config.store, config.begin) = ("regulator-again".to_owned(), STATE);
        config.part = Part::Watcher(OrgRole::Compliance);
        site.begin(REGULATOR, config.clone()).await;
        assert!(site.handle(REGULATOR).status().blocks_from > 1);
        write(&mut site, 6, 4).await;
        site.say(REGULATOR, REGULATOR, "rotate", REGULATOR, MemberStep::Seated(public)).await;
        site.kill(REGULATOR).await;
        config.part = Part::Later(OrgRole::Compliance);
        config.consensus_key = ConsensusKey::from(secret);
        site.begin(REGULATOR, config).await;
        site.epochs_later(0, 3).await;
        // Of five, without the insurer its vote is needed.
        site.kill(INSURER).await;
        site.epochs_later(0, 2).await;
        has_all_that(&site, REGULATOR, 0).await;
        // A joined member, whose validators changed since, is shown by evidence of one that never saw it join.
        let (file, changes) = site.evidence(REGULATOR).await;
        let report = evidence::verify(&file, &site.consortium.genesis.id(), &Limits::default()).unwrap();
        assert_eq!((report.validators, changes), (5, 2));
    });
}

#[test]
fn a_latecomer_that_is_killed_again_and_again_has_all_in_the_end() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        write(&mut site, 3, 16).await;
        vote_in(&mut site).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        let mut rng = StdRng::seed_from_u64(seed());
        for _ in 0..12 {
            site.kill(NEWCOMER).await;
            let lane = 100 + u32::from(site.lives[NEWCOMER]);
            write(&mut site, lane, 1).await;
            let mut config = newcomer(&site);
            config.listen = listen(NEWCOMER, site.lives[NEWCOMER]);
            site.lives[NEWCOMER] += 1;
            let context = site.context.child("killed").with_attribute("life", site.lives[NEWCOMER]);
            let opening = context.child("open").spawn(move |context| async move {
                if let Some(Ok((_, task))) = sim::open(context, config).await {
                    let _ = task.await;
                }
            });
            // Before it is up, or a moment afterwards.
            site.context.sleep(Duration::from_millis(rng.random_range(0..12_000))).await;
            opening.abort();
            site.context.sleep(Duration::from_secs(2)).await;
            site.begin(NEWCOMER, newcomer(&site)).await;
        }
        has_all_that(&site, NEWCOMER, 0).await;
    });
}

/// A node that had taken over the state at the end of an epoch was killed before the next block, and lost that end's certificate. It went back to the epoch
/// before, of which it has nothing, and stopped each time that it was started.
#[test]
fn a_latecomer_that_lost_the_certificate_of_the_end_that_it_began_at_goes_on_from_there() {
    run(|context| async move {
        let mut site = Site::open_some(context, &[0, 1, INSURER], |_| {}).await;
        write(&mut site, 3, 12).await;
        vote_in(&mut site).await;
        // Of four, three must vote: nothing follows that end while two are away.
        let end = site.stop_at_an_end(INSURER).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        let at = |site: &Site| {
            let status = site.handle(NEWCOMER).status();
            (status.began_at, status.height)
        };
        assert_eq!(at(&site), (end, end));
        site.kill(NEWCOMER).await;
        site.take_certificates(NEWCOMER).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        site.context.sleep(Duration::from_secs(5)).await;
        assert_eq!(at(&site), (end, end), "it began somewhere else");
        let config = site.consortium.config(INSURER, listen(INSURER, 0), None);
        site.begin(INSURER, config).await;
        site.reaches(0, end + 1).await;
        // It goes on with the others, and got that end's certificate again like any other.
        write(&mut site, 4, 4).await;
        has_all_that(&site, NEWCOMER, 0).await;
    });
}

#[test]
fn answers_that_do_not_hold_are_passed_over() {
    // Of four the newcomer asks some, by chance: told again until the liar was among them.
    let is_asked = (0..8).any(|_| {
        let (sent, lies) = std::sync::mpsc::channel();
        run(|context| beside_a_liar(context, sent));
        lies.try_recv().is_ok()
    });
    assert!(is_asked, "nobody asked the liar");
}

/// A newcomer takes over the state where the insurer's place is taken by one that answers every question with something else, and tells of it.
async fn beside_a_liar(context: deterministic::Context, sent: std::sync::mpsc::Sender<()>) {
    let mut site = Site::open_some(context, &[0, 1, REGULATOR], |_| {}).await;
    let mut config = site.consortium.config(INSURER, listen(INSURER, 0), None);
    let Joining { consensus_key, reach, .. } = site.consortium.joining(listen(NEWCOMER, 0));
    config.peers = vec![Peer { consensus_key, address: reach.address }];
    let liar = site.context.child("liar");
    let channels = join(&liar, &config).unwrap();
    let mut rng = StdRng::seed_from_u64(seed());
    liar.spawn(move |_| async move {
        let _open = (channels.votes, channels.certificates, channels.resolver, channels.backfill);
        let _also = (channels.blocks, channels.gossip, channels.attachments, channels.task);
        let (mut sender, mut receiver) = channels.questions;
        while let Ok((peer, bytes)) = receiver.recv().await {
            let Some(lie) = lie(bytes.as_ref(), &mut rng) else { continue };
            let _ = sent.send(());
            let _ = sender.send(Recipients::One::<ed25519::PublicKey>(peer), lie, false);
        }
    });
    write(&mut site, 3, 12).await;
    vote_in(&mut site).await;
    site.begin(NEWCOMER, newcomer(&site)).await;
    assert!(site.handle(NEWCOMER).status().blocks_from > 1);
    has_all_that(&site, NEWCOMER, 0).await;
}

/// An answer in the form of one, to a question.
fn lie(question: &[u8], rng: &mut StdRng) -> Option<Vec<u8>> {
    let mut decoder = minicbor::Decoder::new(question);
    decoder.array().ok()?;
    (decoder.u32().ok()? == 0).then_some(())?;
    decoder.array().ok()?;
    let id = decoder.u64().ok()?;
    let mut bytes = vec![0; rng.random_range(1..300)];
    rng.fill(&mut bytes[..]);
    // A list of as many things as there are bytes, or nothing in order at all.
    bytes[0] = *[0x81, 0x83, 0x84, 0x00].get(rng.random_range(0..4)).unwrap();
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.array(2).ok()?.u32(1).ok()?.array(2).ok()?.u64(id).ok()?.bytes(&bytes).ok()?;
    Some(encoder.into_writer())
}

/// Carries what two nodes have to say to each other, on the channels that a latecomer needs, and questions about the state only when it may.
struct Relay {
    /// Whether it carries questions about the state.
    opened: Arc<AtomicBool>,
    /// Whether it heard one.
    asked: Arc<AtomicBool>,
}

impl Relay {
    /// Stands at the place of a member, between the newcomer and the ambulance.
    fn begin(site: &Site, place: usize) -> Self {
        let mut config = site.consortium.config(place, listen(place, 0), None);
        let Joining { consensus_key, reach, .. } = site.consortium.joining(listen(NEWCOMER, 0));
        config.peers = vec![Peer { consensus_key, address: reach.address }];
        let key = |key: contract::PublicKey| {
            ed25519::PublicKey::decode(bytes::Bytes::copy_from_slice(key.as_bytes())).unwrap()
        };
        let (ambulance, newcomer) = (key(site.consortium.genesis.members[0].consensus_key), key(consensus_key));
        let context = site.context.child("relay");
        let channels = join(&context, &config).unwrap();
        let relay = Self { opened: Arc::default(), asked: Arc::default() };
        for (mut sender, mut receiver) in [channels.questions, channels.backfill] {
            let (ambulance, newcomer) = (ambulance.clone(), newcomer.clone());
            let (opened, asked) = (relay.opened.clone(), relay.asked.clone());
            context.child("carry").spawn(move |_| async move {
                while let Ok((from, bytes)) = receiver.recv().await {
                    let about_state = from == newcomer && is_about_state(bytes.as_ref());
                    asked.fetch_or(about_state, Ordering::Relaxed);
                    let to = if from == newcomer { &ambulance } else { &newcomer };
                    if opened.load(Ordering::Relaxed) || !about_state {
                        let _ = sender.send(Recipients::One(to.clone()), bytes, false);
                    }
                }
            });
        }
        context.child("open").spawn(move |_| async move {
            let _open = (channels.votes, channels.certificates, channels.resolver, channels.blocks);
            let _also = (channels.gossip, channels.attachments, channels.words);
            channels.task.await
        });
        relay
    }
}

/// Whether a message is a question about the state.
fn is_about_state(message: &[u8]) -> bool {
    let read = || {
        let mut decoder = minicbor::Decoder::new(message);
        decoder.array().ok()?;
        let question = decoder.u32().ok()? == 0;
        decoder.array().ok()?;
        decoder.u64().ok()?;
        decoder.array().ok()?;
        Some(question && decoder.u32().ok()? == 1)
    };
    read().unwrap_or(false)
}

/// Operations of the state that are removed together.
const SECTION: u64 = 1 << 16;
/// Records that are overwritten again and again.
const RECORDS: u64 = 2_000;

/// Writes versions of the same records until a whole section of the state's operations is no longer needed, and removed.
async fn overwrite_a_section(site: &Site) {
    let first: Vec<Entry> = (0..RECORDS).map(|nth| site.consortium.entry(1, &format!("over-{nth}"), &[])).collect();
    let mut last = first.clone();
    let mut seq = 1;
    for round in 1.. {
        for part in last.chunks(contract::ENTRIES_MAX) {
            let signed = site.consortium.submission(1, 9, seq, part.to_vec());
            site.handle(1).submit(&signed.to_bytes()).await.unwrap();
            seq += part.len() as u64;
        }
        while site.handle(1).status().pending > 0 {
            site.context.sleep(Duration::from_millis(50)).await;
        }
        let height = site.handle(1).status().height;
        let header = site.handle(1).block(height).await.unwrap().unwrap().header().clone();
        if header.ops_start > SECTION {
            eprintln!("{round} rounds, height {height}, operations from {} to {}", header.ops_start, header.ops_end);
            break;
        }
        last = last.iter().enumerate().map(|(nth, before)| next_version(site, round, nth, before)).collect();
    }
    // It is kept for some hundred blocks more.
    for _ in 0..2_400 {
        if pruned_chunks(site).await >= SECTION / (8 * ledger::CHUNK_BYTES as u64) {
            return;
        }
        site.context.sleep(Duration::from_millis(250)).await;
    }
    panic!("nothing was removed until height {}", site.handle(0).status().height);
}

/// How much of the state the ambulance's node has removed, in parts of the bitmap of what is current.
async fn pruned_chunks(site: &Site) -> u64 {
    let metrics = site.handle(0).engine_metrics().await.unwrap();
    let line = metrics.lines().find(|line| line.contains("pruned_chunks") && !line.starts_with('#')).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn next_version(site: &Site, round: u64, nth: usize, before: &Entry) -> Entry {
    let mut entry = site.consortium.entry(1, &format!("over-{nth}-{round}"), &[]);
    if let (Body::Record { tag, version, previous, .. }, Body::Record { tag: of, version: last, commitment, .. }) =
        (&mut entry.body, &before.body)
    {
        (*tag, *version, *previous) = (*of, last + 1, Some(*commitment));
    }
    entry
}

/// One that was still fetching when the others removed what it needs went on asking for it until somebody started it again.
#[test]
fn a_latecomer_takes_over_a_later_state_when_nobody_has_that_of_its_first_epoch_any_more() {
    run(|context| async move {
        let mut site = Site::open_some(context, &[0, 1, INSURER], |config| config.state_blocks = 0).await;
        write(&mut site, 3, 12).await;
        // Before it is a member, the newcomer reaches the relay only.
        let relay = Relay::begin(&site, REGULATOR);
        let config = newcomer(&site);
        let context = site.context.child("latecomer");
        let (up, opened) = oneshot::channel();
        let task = context.spawn(move |context| async move {
            if let Some(Ok((handle, task))) = sim::open(context, config).await {
                let _ = up.send(handle);
                let _ = task.await;
            }
        });
        while !relay.asked.load(Ordering::Relaxed) {
            site.context.sleep(Duration::from_millis(250)).await;
        }
        let first = site.handle(0).status().height;
        overwrite_a_section(&site).await;
        relay.opened.store(true, Ordering::Relaxed);
        let patience = Box::pin(site.context.sleep(Duration::from_secs(600)));
        let Either::Left((Ok(handle), _)) = select(opened, patience).await else {
            panic!("it goes on asking for what nobody has");
        };
        let began_at = handle.status().began_at;
        assert!(began_at > first, "it began at {began_at}, and the others were at {first} when it asked");
        site.nodes[NEWCOMER] = Some(story::Node { task, handle });
        // The others connect with it, and it goes on with them.
        vote_in(&mut site).await;
        site.lives[NEWCOMER] += 1;
        write(&mut site, 4, 2).await;
        has_all_that(&site, NEWCOMER, 0).await;
        // Once more, from what is on its disk.
        site.kill(NEWCOMER).await;
        site.begin(NEWCOMER, newcomer(&site)).await;
        assert_eq!(
            (site.handle(NEWCOMER).status().began_at, site.handle(NEWCOMER).status().blocks_from),
            (began_at, 1)
        );
        has_all_that(&site, NEWCOMER, 0).await;
    });
}

#[test]
fn a_latecomer_takes_no_ledger_that_does_not_go_through_the_block_it_knows() {
    run(|context| async move {
        let mut site = Site::open(context).await;
        write(&mut site, 3, 12).await;
        vote_in(&mut site).await;
        let height = 5;
        let mut config = newcomer(&site);
        config.begin = Begin::State { known: Some(KnownBlock { height, block: Digest([7; 32]) }) };
        config.listen = listen(NEWCOMER, 50);
        let opened = sim::open(site.context.child("refuses"), config.clone()).await.unwrap();
        assert_eq!(opened.err(), Some(StartError::NotThroughCheckpoint(height)));
        // A block that has a certificate of its own: the last of an epoch.
        let height = site.consortium.genesis.epoch_blocks - 1;
        let block = site.handle(0).block(height).await.unwrap().unwrap().digest;
        config.begin = Begin::State { known: Some(KnownBlock { height, block }) };
        site.begin(NEWCOMER, config).await;
        assert!(site.handle(NEWCOMER).status().blocks_from > 1);
        has_all_that(&site, NEWCOMER, 0).await;
    });
}

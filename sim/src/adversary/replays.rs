//! Sends again what others sent: submissions, blocks, certificates, requests, and now and then a vote, which is not its own to send.

use crate::{machine::Machine, world::World};
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, IoBuf, Spawner as _, Supervisor as _};
use ledger::{Channel, Channels};
use rand::RngExt as _;
use std::{collections::VecDeque, time::Duration};

/// Messages that it remembers of each channel.
const REMEMBERED_MAX: usize = 64;

/// Listens on every channel and answers with something old. Of a thousand messages so many are answered: those who send others' votes
/// are shut out, and then they can replay nothing more.
pub(super) fn begin(machine: &Machine, channels: Channels<Machine>, world: &World) {
    let Channels {
        votes, certificates, resolver, backfill, blocks, gossip, attachments, words, questions, task, ..
    } = channels;
    machine.child("network").spawn(move |_| task);
    for (channel, per_mille) in [
        (votes, 2),
        (certificates, 200),
        (resolver, 200),
        (backfill, 200),
        (blocks, 400),
        (gossip, 400),
        (attachments, 400),
        (words, 400),
        (questions, 400),
    ] {
        let world = world.clone();
        machine.child("replay").spawn(move |machine| replay(machine, channel, per_mille, world));
    }
}

async fn replay(machine: Machine, channel: Channel<Machine>, per_mille: u32, world: World) {
    let (mut sender, mut receiver) = channel;
    let mut remembered: VecDeque<IoBuf> = VecDeque::new();
    while let Ok((_, message)) = receiver.recv().await {
        remembered.push_back(message);
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_front();
        }
        let chosen = {
            let mut state = world.state();
            let chosen = state.random.random_range(0..remembered.len());
            (state.random.random_range(0..1000) < per_mille).then_some(chosen)
        };
        let Some(old) = chosen.and_then(|chosen| remembered.get(chosen)) else { continue };
        machine.sleep(Duration::from_millis(5)).await;
        world.state().faults.misdeeds += 1;
        let _ = sender.send(Recipients::All, old.clone(), false);
    }
}

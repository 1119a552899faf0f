//! What the simulated machines share: the qualities of links and disks, who lives, and how often something was done to them.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Digest;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Members of the simulated consortium.
pub const MEMBERS: usize = 4;

/// A direction of a connection between two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The least time that a message takes, in milliseconds.
    pub latency_ms: u64,
    /// At most so much is added, in milliseconds.
    pub jitter_ms: u64,
    /// Of a thousand messages so many are lost and sent again, which delays all that follow, as TCP does.
    pub lost_per_mille: u32,
    /// Whether anything passes.
    pub open: bool,
}

/// How a machine's disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Writing and syncing take up to so long, in milliseconds; 0 for no time at all.
    pub(crate) slow_ms: u64,
    /// After so many operations every further one fails, until the machine starts again.
    pub(crate) fails_after: Option<u64>,
}

/// How a life of a machine ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// What the task that panicked said.
    pub(crate) words: String,
    /// Whether the disk had failed, after which a node must stop.
    pub(crate) disk_failed: bool,
}

/// What was done to the machines of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nodes killed.
    pub crashes: u64,
    /// Times that all were killed at once.
    pub outages: u64,
    /// Files that kept only a part of what was written and not yet synced when their machine was killed.
    pub torn_files: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// Connections cut.
    pub resets: u64,
    /// Messages lost and sent again.
    pub lost_messages: u64,
    /// Operations that a slow disk kept waiting.
    pub slow_operations: u64,
    /// Nodes that stopped because their disk failed.
    pub disk_failures: u64,
    /// Nodes that lost all they had on disk.
    pub lost_folders: u64,
    /// Of them, those that took over the state at the end of an epoch.
    pub takeovers: u64,
    /// Nodes that lost their certificates.
    pub lost_certificates: u64,
    /// Of them, those that had the last block of an epoch as their latest.
    pub lost_ends: u64,
    /// What the adversary did that the protocol forbids.
    pub misdeeds: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.outages += other.outages;
        self.torn_files += other.torn_files;
        self.partitions += other.partitions;
        self.resets += other.resets;
        self.lost_messages += other.lost_messages;
        self.slow_operations += other.slow_operations;
        self.disk_failures += other.disk_failures;
        self.lost_folders += other.lost_folders;
        self.takeovers += other.takeovers;
        self.lost_certificates += other.lost_certificates;
        self.lost_ends += other.lost_ends;
        self.misdeeds += other.misdeeds;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, outages, torn_files, partitions, resets, lost_messages, .. } = self;
        write!(f, "{crashes} crashes, {outages} outages, {torn_files} torn files, {partitions} partitions, ")?;
        write!(f, "{resets} connections cut, {lost_messages} messages lost, ")?;
        let Self { slow_operations, disk_failures, lost_folders, takeovers, misdeeds, .. } = self;
        write!(f, "{slow_operations} slow disk operations, {disk_failures} failed disks, ")?;
        write!(f, "{lost_folders} lost folders ({takeovers} states taken over), ")?;
        let Self { lost_certificates, lost_ends, .. } = self;
        write!(
            f,
            "{lost_certificates} files of certificates lost ({lost_ends} at the end of an epoch), {misdeeds} misdeeds"
        )
    }
}

pub(crate) struct Machine {
    /// Counts its starts; what an earlier life still does reaches nobody.
    pub(crate) life: u64,
    pub(crate) alive: bool,
    /// How far its clock is off, in milliseconds.
    pub(crate) skew_ms: i64,
    pub(crate) disk: Disk,
    pub(crate) death: Option<Death>,
}

/// What an adversary without a node did, as it knows best itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Misdeeds {
    /// Blocks that it proposed and nobody may vote for.
    pub(crate) blocks: BTreeSet<Digest>,
    /// Votes that others gave to finalise one of them.
    pub(crate) votes: u64,
    /// The epochs in which it broke the rules.
    pub(crate) epochs: BTreeSet<u64>,
    /// Epochs and views in which it voted to notarise, and to finalise, over all its lives.
    pub(crate) voted: [BTreeSet<(u64, u64)>; 2],
}

pub(crate) struct State {
    /// Draws what happens to single messages and writes.
    pub(crate) random: StdRng,
    pub(crate) links: [[Link; MEMBERS]; MEMBERS],
    /// Links that stay closed, whatever else happens.
    pub(crate) cut: [[bool; MEMBERS]; MEMBERS],
    pub(crate) machines: [Machine; MEMBERS],
    /// Where somebody listens now, by the address that is dialled.
    pub(crate) listening: HashMap<SocketAddr, SocketAddr>,
    /// Who dialled in which life and was not accepted yet, by the address of the listener.
    pub(crate) dialled: HashMap<SocketAddr, VecDeque<(usize, u64)>>,
    /// Addresses given out to listeners.
    pub(crate) addresses: u32,
    pub(crate) faults: Faults,
    pub(crate) wrong: Misdeeds,
}

/// The shared state of a run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    /// A world of perfect machines with the links given. `skew_ms`: how far each machine's clock is off.
    pub(crate) fn new(seed: u64, links: [[Link; MEMBERS]; MEMBERS], skew_ms: [i64; MEMBERS]) -> Self {
        let disk = Disk { slow_ms: 0, fails_after: None };
        let machine = |skew_ms| Machine { life: 0, alive: false, skew_ms, disk, death: None };
        Self(Arc::new(Mutex::new(State {
            random: StdRng::seed_from_u64(seed ^ 0x0077_6f72_6c64),
            links,
            cut: [[false; MEMBERS]; MEMBERS],
            machines: skew_ms.map(machine),
            listening: HashMap::new(),
            dialled: HashMap::new(),
            addresses: 0,
            faults: Faults::default(),
            wrong: Misdeeds::default(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a machine's next life, with a disk that works.
    pub(crate) fn begin(&self, member: usize) -> u64 {
        let machine = &mut self.state().machines[member];
        machine.life += 1;
        machine.alive = true;
        machine.death = None;
        machine.disk.fails_after = None;
        machine.life
    }

    /// Ends a machine's life: from now on nothing that it does reaches anybody.
    pub(crate) fn end(&self, member: usize) {
        self.state().machines[member].alive = false;
    }

    pub(crate) fn lives(&self, member: usize, life: u64) -> bool {
        let machine = &self.state().machines[member];
        machine.alive && machine.life == life
    }

    /// Which life a machine is in, or was in last.
    pub(crate) fn life(&self, member: usize) -> u64 {
        self.state().machines[member].life
    }

    /// A task of that life panicked.
    pub(crate) fn died(&self, member: usize, life: u64, words: String) {
        let machine = &mut self.state().machines[member];
        if machine.life != life || machine.death.is_some() {
            return;
        }
        machine.alive = false;
        machine.death = Some(Death { words, disk_failed: machine.disk.fails_after == Some(0) });
    }

    pub(crate) fn death(&self, member: usize) -> Option<Death> {
        self.state().machines[member].death.clone()
    }

    /// How long the next message on a link takes.
    pub(crate) fn delay(&self, from: usize, to: usize) -> Duration {
        let mut state = self.state();
        let link = state.links[from][to];
        let mut ms = link.latency_ms + state.random.random_range(0..=link.jitter_ms);
        let mut again_ms = 200;
        while state.random.random_range(0..1000) < link.lost_per_mille && again_ms < 2_000 {
            state.faults.lost_messages += 1;
            ms += again_ms;
            again_ms *= 2;
        }
        Duration::from_millis(ms)
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        let state = self.state();
        state.links[from][to].open && !state.cut[from][to]
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults
    }
}

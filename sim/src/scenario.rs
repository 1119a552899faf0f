//! What happens in a run, all of it drawn from one seed: load, links, clocks, faults, and who breaks the rules how.

use crate::{
    Adversary,
    world::{Link, MEMBERS},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// The most that a machine's clock is off, in milliseconds: two clocks then differ by less than voters allow a block's time to.
pub const SKEW_MS_MAX: i64 = 800;
/// Blocks of an epoch: few enough for several epochs in nearly every run.
const EPOCH_BLOCKS: RangeInclusive<u64> = 4..=12;
/// How likely a run is to cost a member its disk, if it may.
const LOST_FOLDER: f64 = 0.4;
/// The most faults of a stretch between two outages.
const FAULTS_MAX: u64 = 6;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The member's node is killed, and starts again when the fault ends.
    Crash(usize),
    /// The member's node is killed and everything on its disk is lost. It starts again when the fault ends, takes over the state at the end of
    /// an epoch, and votes no more: by the same key it might vote a second time in a view.
    LostFolder(usize),
    /// The member's node is killed, and the file with its certificates is lost, so that it has blocks without their own. It starts again when the
    /// fault ends.
    LostCertificates(usize),
    /// The member's disk fails after so many operations more, which ends the node; it starts again at once, on the disk as it was.
    FailingDisk(usize, u64),
    /// The member's disk takes up to so many milliseconds for each write and sync.
    SlowDisk(usize, u64),
    /// Nothing passes between members that are `true` and members that are `false`.
    Partition([bool; MEMBERS]),
    /// Links take so many milliseconds more, and lose so many of a thousand messages.
    BadLinks(u64, u32),
}

/// Something that goes wrong for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When, in milliseconds of the stretch that it belongs to.
    pub at_ms: u64,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// What.
    pub wrong: Wrong,
}

/// A stretch of a run. The next one begins after all nodes were killed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// How long, in milliseconds.
    pub ms: u64,
    /// Sorted by their beginning.
    pub faults: Vec<Fault>,
}

/// Everything about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What it is drawn from; the runtime's own choices are drawn from it too.
    pub seed: u64,
    /// The links when nothing is wrong.
    pub link: Link,
    /// How far each machine's clock is off, in milliseconds.
    pub skew_ms: [i64; MEMBERS],
    /// Entries that each member writes in all.
    pub entries: u64,
    /// The longest pause between two submissions of a member, in milliseconds.
    pub pause_ms: u64,
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
    /// The member that breaks the rules, and how.
    pub adversary: Option<(usize, Adversary)>,
    /// The epoch from which on it does, if it has no node.
    pub from_epoch: u64,
    /// At least one.
    pub stretches: Vec<Stretch>,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut scenario = Self::calm(seed);
        scenario.link.latency_ms = random.random_range(1..60);
        scenario.link.jitter_ms = random.random_range(0..40);
        scenario.link.lost_per_mille = if random.random_bool(0.3) { random.random_range(1..20) } else { 0 };
        scenario.skew_ms = std::array::from_fn(|_| random.random_range(-SKEW_MS_MAX..=SKEW_MS_MAX));
        scenario.entries = random.random_range(10..120);
        scenario.pause_ms = random.random_range(100..1_200);
        scenario.epoch_blocks = random.random_range(EPOCH_BLOCKS);
        scenario.from_epoch = if random.random_bool(0.5) { 0 } else { random.random_range(1..3) };
        if random.random_bool(0.5) {
            let adversary = Adversary::ALL[random.random_range(0..Adversary::ALL.len())];
            scenario.adversary = Some((random.random_range(0..MEMBERS), adversary));
        }
        let stretches = random.random_range(1..=3);
        scenario.stretches = (0..stretches).map(|_| stretch(&mut random)).collect();
        let member = random.random_range(0..MEMBERS);
        if random.random_bool(LOST_FOLDER) && scenario.may_lose(member) {
            let nth = random.random_range(0..stretches);
            let Stretch { ms, faults } = &mut scenario.stretches[nth];
            let (at_ms, for_ms) = (random.random_range(0..*ms), random.random_range(100..8_000));
            faults.push(Fault { at_ms, for_ms, wrong: Wrong::LostFolder(member) });
            faults.sort_by_key(|fault| fault.at_ms);
        }
        scenario
    }

    /// Nothing goes wrong, and all keep to the rules.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            link: Link { latency_ms: 10, jitter_ms: 5, lost_per_mille: 0, open: true },
            skew_ms: [0; MEMBERS],
            entries: 20,
            pause_ms: 400,
            epoch_blocks: 8,
            adversary: None,
            from_epoch: 0,
            stretches: vec![Stretch { ms: 8_000, faults: Vec::new() }],
        }
    }

    /// Whether the ledger can bear that a member loses its disk. Three of four must vote and do; and of two who hold a copy one must be left.
    fn may_lose(&self, member: usize) -> bool {
        self.adversary.is_none_or(|(byzantine, how)| how == Adversary::WithholdsAttachments && byzantine != member)
    }

    /// Whether a member keeps to the rules.
    pub fn is_honest(&self, member: usize) -> bool {
        self.adversary.is_none_or(|(byzantine, _)| byzantine != member)
    }

    /// The members that keep to the rules.
    pub fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MEMBERS).filter(|member| self.is_honest(*member))
    }
}

fn stretch(random: &mut StdRng) -> Stretch {
    let ms = random.random_range(4_000..20_000);
    let count = random.random_range(0..=FAULTS_MAX);
    let mut faults: Vec<Fault> = (0..count).map(|_| fault(random, ms)).collect();
    faults.sort_by_key(|fault| fault.at_ms);
    Stretch { ms, faults }
}

fn fault(random: &mut StdRng, ms: u64) -> Fault {
    let member = random.random_range(0..MEMBERS);
    let wrong = match random.random_range(0..10) {
        0..3 => Wrong::Crash(member),
        3 => Wrong::LostCertificates(member),
        4 => Wrong::FailingDisk(member, random.random_range(0..1_000)),
        5 | 6 => Wrong::SlowDisk(member, random.random_range(1..200)),
        7 | 8 => Wrong::Partition(std::array::from_fn(|_| random.random_bool(0.5))),
        _ => Wrong::BadLinks(random.random_range(1..500), random.random_range(0..200)),
    };
    Fault { at_ms: random.random_range(0..ms), for_ms: random.random_range(100..8_000), wrong }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, link, skew_ms, entries, pause_ms, epoch_blocks, adversary, from_epoch, stretches } = self;
        writeln!(f, "seed {seed}: {entries} entries of each member, a submission every {pause_ms} ms or sooner")?;
        writeln!(f, "  links {link:?}, clocks off by {skew_ms:?} ms, epochs of {epoch_blocks} blocks")?;
        writeln!(f, "  adversary {adversary:?}, from epoch {from_epoch} on")?;
        for Stretch { ms, faults } in stretches {
            writeln!(f, "  a stretch of {ms} ms")?;
            for Fault { at_ms, for_ms, wrong } in faults {
                writeln!(f, "    at {at_ms} ms for {for_ms} ms: {wrong:?}")?;
            }
        }
        write!(f, "  then all is well, and within {:?} all must be final", HEALED)
    }
}

/// Once nothing is wrong any more, everything that was acknowledged is final on every honest node within this (simulated) time.
pub const HEALED: Duration = Duration::from_secs(60);

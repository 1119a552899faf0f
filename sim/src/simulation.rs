//! One run of the consortium: real nodes on simulated machines, faults and load as the scenario says, and the checkers at the end.

use crate::{
    Consortium, Scenario,
    adversary::{self, Rogue},
    checker::{self, Broken, Evidence},
    machine::{Files, Machine, words},
    scenario::{HEALED, Stretch, Wrong},
    seen::{Chains, Seen, Values},
    submitter::Submitter,
    tampering::Tampering,
    vault::Shelf,
    world::{Faults, MEMBERS, World},
};
use commonware_runtime::{
    Blob as _, Clock as _, Handle as Task, Runner as _, Spawner as _, Storage as _, Supervisor as _,
    deterministic::{self, FaultConfig, PartialWriteMode, WriteConfig},
};
use commonware_utils::probability;
use contract::may_hold;
use ledger::{Begin, Config, Handle, KEYS_MAX, Part, Running, StartError, VaultPlace, start};
use rand::RngExt as _;
use record::{Digest, TimeMs};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;

/// Where the first member listens; each further one is at the next port.
pub(crate) const PORT: u16 = 4000;
/// When a run begins: seconds since 1970, in the midst of a month.
const BEGIN_S: u64 = 1_781_500_000;
/// The longest that a run may take, in simulated time.
const RUN_MAX: Duration = Duration::from_secs(600);
/// How often the run looks at its machines.
const TICK: Duration = Duration::from_millis(25);
/// How often a gateway submits again what is not final.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the tasks of a killed node may take to be gone.
const GONE: Duration = Duration::from_millis(10);

/// What was seen of a run in which everything held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Height of the chain.
    pub height: u64,
    /// Epochs that have ended.
    pub epochs: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Of them, how many the contract refused.
    pub refused: u64,
    /// What was done to the nodes.
    pub faults: Faults,
    /// Simulated time from the moment that nothing was wrong any more until all was final.
    pub healed: Duration,
    /// Simulated time of the whole run.
    pub lasted: Duration,
    /// The epochs in which an adversary without a node broke the rules.
    pub misdeeds_in: BTreeSet<u64>,
    /// Blocks led by the adversary.
    pub led_by_adversary: u64,
    /// Holding receipts of the adversary in final blocks.
    pub signed_by_adversary: u64,
    /// Attachments that honest custodians lack at the end.
    pub missing_attachments: u64,
    /// Submissions that wait for holding receipts at the end.
    pub held_up: u64,
    /// Digest of everything that the runtime did: equal for equal seeds.
    pub trace: String,
    /// Votes by which a validator broke the rules, as each honest node kept them.
    pub blames: Vec<Vec<Vec<u8>>>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A node did not start.
    #[error("member {0} did not start: {1}")]
    Start(usize, StartError),
    /// A node stopped by itself, and its disk had not failed.
    #[error("member {0} stopped: {1}")]
    Stopped(usize, String),
    /// Something was not final in time.
    #[error("not final within {HEALED:?}: {0}")]
    Late(String),
    /// A property did not hold.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The simulation itself failed.
    #[error("the run ended with `{0}`")]
    Panicked(String),
}

enum Node {
    Down,
    Starting { task: Task<()>, files: Files, life: u64, started: oneshot::Receiver<Result<Handle, StartError>> },
    Up { task: Task<()>, files: Files, handle: Handle, gateway: Task<()> },
}

/// What lasts longer than a stretch.
struct Run<'a> {
    scenario: &'a Scenario,
    consortium: Arc<Consortium>,
    world: World,
    seen: Seen,
    submitters: Vec<Submitter>,
    /// Each member's, over all lives of its node.
    vaults: Vec<Shelf>,
    /// How often each member lost its disk.
    losses: [AtomicU64; MEMBERS],
    /// Looks at the machines so far: what the vaults tell the time by.
    clock: Arc<AtomicU64>,
    tampering: Option<Tampering>,
}

/// A fault that has begun, and when it ends.
struct Begun {
    wrong: Wrong,
    until: Duration,
}

/// Runs a scenario to its end and checks everything.
pub fn simulate(scenario: &Scenario) -> Result<Outcome, Failure> {
    caught(scenario, None)
}

/// Runs a scenario and lies to the checkers about it, which must notice.
pub fn simulate_and_lie(scenario: &Scenario, tampering: Tampering) -> Result<Outcome, Failure> {
    caught(scenario, Some(tampering))
}

fn caught(scenario: &Scenario, tampering: Option<Tampering>) -> Result<Outcome, Failure> {
    catch_unwind(AssertUnwindSafe(|| run(scenario, tampering)))
        .unwrap_or_else(|panic| Err(Failure::Panicked(words(&*panic))))
}

fn run(scenario: &Scenario, tampering: Option<Tampering>) -> Result<Outcome, Failure> {
    let consortium = Arc::new(consortium(scenario));
    let world = World::new(scenario.seed, [[scenario.link; MEMBERS]; MEMBERS], scenario.skew_ms);
    let submitters = (0..MEMBERS).map(|member| Submitter::new(&consortium, scenario.seed, member)).collect();
    let clock = Arc::new(AtomicU64::new(0));
    let lies = |member| scenario.adversary.is_some_and(|(liar, how)| liar == member && adversary::lies(how));
    let vaults = (0..MEMBERS).map(|member| Shelf::new(clock.clone(), lies(member))).collect();
    let (seen, losses) = (Seen::default(), std::array::from_fn(|_| AtomicU64::new(0)));
    let run = Run { scenario, consortium, world, seen, submitters, vaults, losses, clock, tampering };
    if let Some((member, adversary)) = scenario.adversary {
        adversary::prepare(&run.world, member, adversary);
    }
    // What was written and not synced when all machines are killed survives in part.
    let kept = WriteConfig {
        failure_rate: probability!(0.0),
        retention_rate: probability!(0.5),
        mode: PartialWriteMode::Subset,
    };
    let config = deterministic::Config::new()
        .with_seed(scenario.seed)
        .with_start_time(UNIX_EPOCH + Duration::from_secs(BEGIN_S))
        .with_timeout(Some(RUN_MAX))
        .with_storage_fault_config(FaultConfig::default().write(kept));
    let mut runner = deterministic::Runner::new(config);
    let (last, before) = scenario.stretches.split_last().ok_or_else(|| Failure::Late("no stretch".into()))?;
    for stretch in before {
        let (done, checkpoint) = runner.start_and_recover(|context| run.stretch(context, stretch));
        done?;
        run.outage();
        runner = deterministic::Runner::from(checkpoint);
    }
    runner.start(|context| run.last_stretch(context, last))
}

/// The consortium of a scenario.
pub fn consortium(scenario: &Scenario) -> Consortium {
    let mut consortium = Consortium::new(scenario.seed, &std::array::from_fn(listen));
    consortium.genesis.epoch_blocks = scenario.epoch_blocks;
    consortium
}

fn listen(member: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], PORT + member as u16))
}

fn now(context: &deterministic::Context) -> Duration {
    context.current().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() - Duration::from_secs(BEGIN_S)
}

impl Run<'_> {
    /// All machines were killed.
    fn outage(&self) {
        let mut state = self.world.state();
        state.listening.clear();
        state.dialled.clear();
        state.faults.outages += 1;
        for machine in &mut state.machines {
            machine.alive = false;
        }
    }

    async fn stretch(&self, context: deterministic::Context, stretch: &Stretch) -> Result<(), Failure> {
        let mut nodes: Vec<Node> = (0..MEMBERS).map(|_| Node::Down).collect();
        self.play(&context, &mut nodes, stretch).await
    }

    async fn last_stretch(&self, context: deterministic::Context, stretch: &Stretch) -> Result<Outcome, Failure> {
        let mut nodes: Vec<Node> = (0..MEMBERS).map(|_| Node::Down).collect();
        self.play(&context, &mut nodes, stretch).await?;
        self.heal();
        let healing = now(&context);
        while !self.is_settled(&nodes) {
            if now(&context) > healing + HEALED {
                return Err(Failure::Late(self.progress(&nodes)));
            }
            self.tick(&context, &mut nodes, &[]).await?;
        }
        let healed = now(&context) - healing;
        self.conclude(&context, &nodes, healed).await
    }

    /// Lets the faults of a stretch happen while the members write.
    async fn play(
        &self,
        context: &deterministic::Context,
        nodes: &mut [Node],
        stretch: &Stretch,
    ) -> Result<(), Failure> {
        let begin = now(context);
        let end = begin + Duration::from_millis(stretch.ms);
        let mut waiting = stretch.faults.iter().peekable();
        let mut begun: Vec<Begun> = Vec::new();
        while now(context) < end {
            let time = now(context);
            while let Some(fault) = waiting.next_if(|fault| begin + Duration::from_millis(fault.at_ms) <= time) {
                begun.push(Begun { wrong: fault.wrong, until: time + Duration::from_millis(fault.for_ms) });
                self.begin_fault(context, nodes, fault.wrong).await;
            }
            begun.retain(|begun| begun.until > time);
            self.set_qualities(&begun);
            let down: Vec<usize> = begun.iter().filter_map(Begun::keeps_down).collect();
            self.write(time);
            self.tick(context, nodes, &down).await?;
        }
        Ok(())
    }

    /// The members' clients write on.
    fn write(&self, time: Duration) {
        let Scenario { seed, entries, pause_ms, .. } = *self.scenario;
        let since = Duration::from_secs(BEGIN_S) + time;
        for (member, submitter) in self.submitters.iter().enumerate() {
            let skew_ms = self.scenario.skew_ms[member];
            let now = TimeMs((since.as_millis() as u64).saturating_add_signed(skew_ms));
            submitter.write(&self.consortium, seed, now, entries, pause_ms);
        }
    }

    async fn begin_fault(&self, context: &deterministic::Context, nodes: &mut [Node], wrong: Wrong) {
        match wrong {
            Wrong::Crash(member) => {
                self.world.state().faults.crashes += 1;
                self.kill(context, nodes, member).await;
            }
            Wrong::LostFolder(member) => {
                self.world.state().faults.lost_folders += 1;
                self.kill(context, nodes, member).await;
                self.losses[member].fetch_add(1, Ordering::Relaxed);
                self.vaults[member].lose();
            }
            Wrong::LostCertificates(member) => self.lose_certificates(context, nodes, member).await,
            Wrong::FailingDisk(member, after) => self.world.state().machines[member].disk.fails_after = Some(after),
            Wrong::Partition(_) => self.world.state().faults.partitions += 1,
            Wrong::SlowDisk(..) | Wrong::BadLinks(..) => {}
        }
    }

    async fn lose_certificates(&self, context: &deterministic::Context, nodes: &mut [Node], member: usize) {
        let blocks = self.scenario.epoch_blocks;
        let at_an_end =
            matches!(&nodes[member], Node::Up { handle, .. } if handle.status().height % blocks == blocks - 1);
        self.kill(context, nodes, member).await;
        let store = self.config(member).store;
        let mut lost = false;
        for part in ["metadata", "key", "value"] {
            lost |= context.remove(&format!("{store}-finalizations-{part}"), None).await.is_ok();
        }
        let mut state = self.world.state();
        state.faults.lost_certificates += u64::from(lost);
        state.faults.lost_ends += u64::from(lost && at_an_end);
    }

    /// Links and disks as the faults that have begun leave them.
    fn set_qualities(&self, begun: &[Begun]) {
        let mut links = [[self.scenario.link; MEMBERS]; MEMBERS];
        let mut slow = [0; MEMBERS];
        for Begun { wrong, .. } in begun {
            match *wrong {
                Wrong::SlowDisk(member, slow_ms) => slow[member] = slow_ms,
                Wrong::Partition(side) => {
                    for (from, to) in (0..MEMBERS).flat_map(|from| (0..MEMBERS).map(move |to| (from, to))) {
                        links[from][to].open &= side[from] == side[to];
                    }
                }
                Wrong::BadLinks(more_ms, lost) => {
                    for link in links.iter_mut().flatten() {
                        link.latency_ms += more_ms;
                        link.lost_per_mille += lost;
                    }
                }
                Wrong::Crash(_) | Wrong::LostFolder(_) | Wrong::LostCertificates(_) | Wrong::FailingDisk(..) => {}
            }
        }
        let mut state = self.world.state();
        state.links = links;
        for (machine, slow_ms) in state.machines.iter_mut().zip(slow) {
            machine.disk.slow_ms = slow_ms;
        }
    }

    fn heal(&self) {
        self.set_qualities(&[]);
        for machine in &mut self.world.state().machines {
            machine.disk.fails_after = None;
        }
    }

    /// Starts what is down and not kept down, notices what died, and lets some time pass.
    async fn tick(&self, context: &deterministic::Context, nodes: &mut [Node], down: &[usize]) -> Result<(), Failure> {
        for member in 0..MEMBERS {
            if let Some(death) = self.world.death(member) {
                if !death.disk_failed {
                    return Err(Failure::Stopped(member, death.words));
                }
                self.world.state().faults.disk_failures += 1;
                self.kill(context, nodes, member).await;
            }
            match &mut nodes[member] {
                Node::Down if !down.contains(&member) => nodes[member] = self.begin(context, member)?,
                Node::Starting { started, .. } => match started.try_recv() {
                    Ok(Ok(_)) if self.is_puppet(member) => {}
                    Ok(Ok(handle)) => self.came_up(context, nodes, member, handle),
                    Ok(Err(StartError::DataDir(_))) if self.disk_fails(member) => {
                        self.world.state().faults.disk_failures += 1;
                        self.kill(context, nodes, member).await;
                    }
                    Ok(Err(error)) => return Err(Failure::Start(member, error)),
                    Err(_) => {}
                },
                _ => {}
            }
        }
        context.sleep(TICK).await;
        self.clock.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn disk_fails(&self, member: usize) -> bool {
        self.world.state().machines[member].disk.fails_after == Some(0)
    }

    /// Whether the adversary is at the member's place instead of a node.
    fn is_puppet(&self, member: usize) -> bool {
        self.scenario.adversary.is_some_and(|(byzantine, how)| byzantine == member && !how.runs_a_node())
    }

    /// The configuration of a member's node in its next life.
    fn config(&self, member: usize) -> Config {
        let mut config = self.consortium.config(member, listen(member), None);
        config.vault = VaultPlace::Given(Arc::new(self.vaults[member].clone()));
        let losses = self.losses[member].load(Ordering::Relaxed);
        if losses > 0 {
            // Nothing of the disk is found again under another name.
            config.store = format!("{}-{losses}", config.org);
            config.begin = Begin::State { known: None };
            config.part = Part::Watcher(self.consortium.genesis.members[member].role);
        }
        config
    }

    fn begin(&self, context: &deterministic::Context, member: usize) -> Result<Node, Failure> {
        let config = self.config(member);
        let machine = Machine::start(context, &self.world, member);
        let (files, life) = (machine.files(), machine.life());
        let (up, started) = oneshot::channel();
        let task = if let Some((_, how)) = self.scenario.adversary.filter(|_| self.is_puppet(member)) {
            let (world, consortium, seen) = (self.world.clone(), self.consortium.clone(), self.seen.clone());
            let from_epoch = self.scenario.from_epoch;
            let rogue = Rogue { member, how, from_epoch, config, world, consortium, seen };
            machine.spawn(move |machine| async move {
                if let Err(error) = adversary::begin(machine, rogue) {
                    let _ = up.send(Err(error));
                }
                std::future::pending::<()>().await;
            })
        } else {
            let world = self.world.clone();
            machine.spawn(move |machine| async move {
                match start(machine, config).await {
                    Ok((handle, running)) => {
                        let _ = up.send(Ok(handle));
                        Running::wait(running).await;
                        world.died(member, life, "one of its tasks ended".to_owned());
                    }
                    Err(error) => _ = up.send(Err(error)),
                }
                std::future::pending::<()>().await;
            })
        };
        Ok(Node::Starting { task, files, life, started })
    }

    /// A node is up: its member's gateway follows it, and submits to it.
    fn came_up(&self, context: &deterministic::Context, nodes: &mut [Node], member: usize, handle: Handle) {
        let Node::Starting { task, files, life, .. } = std::mem::replace(&mut nodes[member], Node::Down) else {
            return;
        };
        let (seen, submitter, node) = (self.seen.clone(), self.submitters[member].clone(), handle.clone());
        let clock = self.clock.clone();
        let how = self.scenario.adversary.filter(|(byzantine, _)| *byzantine == member).map(|(_, how)| how);
        let hands_over = adversary::hands_over(how);
        // The chain is looked at now and then: who waits for the same news together is woken in an order that no seed decides.
        let gateway = context.child("gateway").spawn(move |context| async move {
            let (mut height, mut next, mut again_at) = (1, 0, context.current() + AGAIN);
            loop {
                while node.status().height >= height
                    && let Ok(Some(block)) = node.block(height).await
                {
                    submitter.learn(&block);
                    seen.note(member, life, block, clock.load(Ordering::Relaxed));
                    height += 1;
                }
                next = submitter.submit(&node, next, hands_over).await;
                if context.current() >= again_at {
                    (next, again_at) = (0, context.current() + AGAIN);
                }
                context.sleep(TICK).await;
            }
        });
        nodes[member] = Node::Up { task, files, handle, gateway };
    }

    /// Kills a node without a word. Of its open files each keeps all that was written or only what was synced.
    async fn kill(&self, context: &deterministic::Context, nodes: &mut [Node], member: usize) {
        self.world.end(member);
        self.world.state().machines[member].death = None;
        let (task, files) = match std::mem::replace(&mut nodes[member], Node::Down) {
            Node::Down => return,
            Node::Starting { task, files, .. } => (task, files),
            Node::Up { task, files, gateway, .. } => {
                gateway.abort();
                (task, files)
            }
        };
        let open = files.open();
        task.abort();
        context.sleep(GONE).await;
        for file in open {
            if self.world.state().random.random_bool(0.5) && file.sync().await.is_ok() {
                self.world.state().faults.torn_files += 1;
            }
        }
    }

    /// Whether all honest nodes are up, have the same blocks, and all that was acknowledged is final for each of them.
    fn is_settled(&self, nodes: &[Node]) -> bool {
        let honest: Vec<usize> = self.scenario.honest().collect();
        let wanted: u64 = honest.iter().map(|member| self.submitters[*member].journal().last_seq()).sum();
        let settled = |member: &usize| {
            let Node::Up { handle, .. } = &nodes[*member] else { return false };
            self.submitters[*member].journal().is_settled() && handle.status().log_size >= wanted
        };
        honest.iter().all(settled)
    }

    fn progress(&self, nodes: &[Node]) -> String {
        let line = |member: usize| {
            let journal = self.submitters[member].journal();
            let node = match &nodes[member] {
                Node::Down => "down".to_owned(),
                Node::Starting { .. } => "starting".to_owned(),
                Node::Up { handle, .. } => {
                    let status = handle.status();
                    format!("height {} log {} pending {}", status.height, status.log_size, status.pending)
                }
            };
            format!("member {member}: {} of {} entries final, {node}", journal.final_seq, journal.last_seq())
        };
        (0..MEMBERS).map(line).collect::<Vec<_>>().join("; ")
    }

    /// Every honest custodian gets every attachment that a final entry names.
    async fn wait_for_attachments(
        &self,
        context: &deterministic::Context,
        honest: &[(usize, &Handle)],
    ) -> Result<(), Failure> {
        let healing = now(context);
        let chain = self.seen.chains().first();
        let submissions = chain.values().flat_map(|block| block.submissions());
        let named: BTreeSet<Digest> = submissions.flat_map(|signed| signed.attachments()).map(|a| a.digest).collect();
        let custodian = |member: usize| may_hold(self.consortium.genesis.members[member].role);
        for (member, handle) in honest.iter().filter(|(member, _)| custodian(*member)) {
            loop {
                let vault = handle.vault_status().await.map_err(|e| Failure::Stopped(*member, e.to_string()))?;
                let lacks = named.iter().filter(|digest| !self.vaults[*member].holds(digest)).count();
                if vault.missing == 0 && lacks == 0 {
                    break;
                }
                if now(context) > healing + HEALED {
                    return Err(Failure::Late(format!("member {member} lacks {lacks} of {} attachments", named.len())));
                }
                context.sleep(TICK).await;
            }
        }
        Ok(())
    }

    /// The states of the honest nodes, and the chain that led to them. Who breaks the rules may still be writing, so the states are
    /// read again until nothing became final meanwhile.
    async fn read_states(
        &self,
        context: &deterministic::Context,
        honest: &[(usize, &Handle)],
    ) -> Result<(BTreeMap<usize, Values>, Chains), Failure> {
        let begin = now(context);
        while now(context) <= begin + HEALED {
            let chains = self.seen.chains().clone();
            let size = chains.first().into_iter().next_back().map_or(0, |(_, block)| block.header().log_size);
            let all_there = || honest.iter().all(|(_, handle)| handle.status().log_size == size);
            if all_there() {
                let keys = checker::replay(&self.consortium, &chains)?.keys;
                let mut values: BTreeMap<usize, Values> = BTreeMap::new();
                for (member, handle) in honest {
                    for keys in keys.chunks(KEYS_MAX) {
                        let read = handle.get(keys.to_vec()).await;
                        let read = read.map_err(|e| Failure::Stopped(*member, e.to_string()))?;
                        values.entry(*member).or_default().extend(keys.iter().copied().zip(read));
                    }
                }
                // A block that the states had already is called final a moment later.
                context.sleep(TICK).await;
                if all_there() {
                    return Ok((values, chains));
                }
            }
            context.sleep(TICK).await;
        }
        Err(Failure::Late("the chain never came to rest".to_owned()))
    }

    /// Reads what the checkers need, and lets them check.
    async fn conclude(
        &self,
        context: &deterministic::Context,
        nodes: &[Node],
        healed: Duration,
    ) -> Result<Outcome, Failure> {
        // Everybody gets to the height that somebody is at.
        let honest: Vec<(usize, &Handle)> = self
            .scenario
            .honest()
            .filter_map(|member| match &nodes[member] {
                Node::Up { handle, .. } => Some((member, handle)),
                _ => None,
            })
            .collect();
        let top = honest.iter().map(|(_, handle)| handle.status().height).max().unwrap_or(0);
        let healing = now(context);
        while honest.iter().any(|(member, _)| self.seen.chains().height(*member) < top) {
            if now(context) > healing + HEALED {
                return Err(Failure::Late(format!("height {top}; {}", self.progress(nodes))));
            }
            context.sleep(TICK).await;
        }
        self.wait_for_attachments(context, &honest).await?;
        let (mut values, mut chains) = self.read_states(context, &honest).await?;
        let (mut blames, mut missing_attachments, mut held_up) = (Vec::new(), 0, 0);
        for (member, handle) in &honest {
            let lost = self.losses[*member].load(Ordering::Relaxed) > 0;
            self.world.state().faults.takeovers += u64::from(lost && handle.status().began_at > 0);
            blames.push(handle.blames());
            let vault = handle.vault_status().await.map_err(|e| Failure::Stopped(*member, e.to_string()))?;
            missing_attachments += vault.missing;
            held_up = held_up.max(handle.status().pending_for_holding as u64);
        }
        let mut wrong = self.world.state().wrong.clone();
        if let (Some(tampering), Some(member)) = (self.tampering, self.scenario.honest().last()) {
            tampering.of_chains(&mut chains);
            tampering.of_values(&mut values);
            tampering.of_misdeeds(&mut wrong, &chains);
            tampering.of_vaults(&self.vaults);
            tampering.of_journal(&self.submitters[member]);
        }
        let evidence = Evidence {
            scenario: self.scenario,
            consortium: &self.consortium,
            chains: &chains,
            submitters: &self.submitters,
            vaults: &self.vaults,
            values: &values,
            blames: &blames,
            wrong: &wrong,
            tampering: self.tampering,
        };
        checker::check(&evidence)?;
        let first = chains.first();
        let byzantine =
            self.scenario.adversary.map(|(member, _)| self.consortium.genesis.members[member].consensus_key);
        let led = first.values().filter(|block| Some(block.header().leader) == byzantine).count();
        let shown = first.values().flat_map(|block| block.block.holdings.iter().flatten());
        let org = self.scenario.adversary.map(|(member, _)| self.consortium.org(member).clone());
        let signed_by_adversary = shown.filter(|holding| Some(&holding.custodian) == org.as_ref()).count() as u64;
        let receipts = || first.values().flat_map(|block| &block.receipts);
        Ok(Outcome {
            height: first.len() as u64,
            epochs: first.len() as u64 / self.scenario.epoch_blocks,
            entries: receipts().count() as u64,
            refused: receipts().filter(|receipt| receipt.verdict != 0).count() as u64,
            faults: self.world.faults(),
            healed,
            lasted: now(context),
            misdeeds_in: wrong.epochs,
            led_by_adversary: led as u64,
            signed_by_adversary,
            missing_attachments,
            held_up,
            trace: context.auditor().state(),
            blames,
        })
    }
}

impl Begun {
    /// Whose node stays down while it lasts.
    fn keeps_down(&self) -> Option<usize> {
        match self.wrong {
            Wrong::Crash(member) | Wrong::LostFolder(member) | Wrong::LostCertificates(member) => Some(member),
            _ => None,
        }
    }
}

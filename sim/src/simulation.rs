//! One run of the consortium on the deterministic runtime.

use crate::{Adversary, Consortium, adversary};
use commonware_runtime::{Clock as _, Handle as Task, Runner as _, Spawner as _, Supervisor as _, deterministic};
use ledger::{Config, Handle, Running, StartError, Status, start};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use record::Digest;
use std::{net::SocketAddr, time::Duration};
use tokio::sync::oneshot;

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Everything random is drawn from it.
    pub seed: u64,
    /// Submissions of each member.
    pub submissions: u64,
    /// Entries of each submission.
    pub entries: u64,
    /// Whether one node, drawn from the seed, is killed in the midst and started again.
    pub crash: bool,
    /// What the last member does instead of its part. It brings no entries then.
    pub adversary: Option<Adversary>,
}

/// What was seen at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Entries in the log.
    pub log_size: u64,
    /// How many of them were applied, by each node's receipts.
    pub applied: Vec<u64>,
    /// Log root and state root of each node at the last height that all have.
    pub roots: Vec<(Digest, Digest)>,
    /// Digest of everything that the runtime did: equal for equal seeds.
    pub trace: String,
    /// Votes by which a validator broke the rules, as each node kept them.
    pub blames: Vec<Vec<Vec<u8>>>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A node did not start.
    Start(StartError),
    /// A node stopped by itself.
    Stopped,
    /// Entries were not final everywhere in simulated time.
    Late(Vec<u64>),
}

struct Node {
    task: Task<()>,
    handle: Handle,
}

fn listen(member: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000 + member as u16))
}

async fn begin(
    context: &deterministic::Context,
    consortium: &Consortium,
    member: usize,
    life: u16,
) -> Result<Node, Failure> {
    // The simulated network never gives an address back: in another life a node listens elsewhere, and dials its peers itself.
    let address = SocketAddr::from(([127, 0, 0, 1], 4000 + 100 * life + member as u16));
    let config = consortium.config(member, address, None);
    let context = context.child("node").with_attribute("member", member).with_attribute("life", life);
    let (handle, task) = open(context, config).await?;
    Ok(Node { task, handle })
}

/// Starts one node, for stories that no [`Plan`] tells. It ends when the task is aborted; its storage is free some simulated time later.
pub async fn open(context: deterministic::Context, config: Config) -> Result<(Handle, Task<()>), Failure> {
    let (up, started) = oneshot::channel();
    let task = context.spawn(move |context| async move {
        match start(context, config).await {
            Ok((handle, running)) => {
                let _ = up.send(Ok(handle));
                Running::wait(running).await;
            }
            Err(error) => {
                let _ = up.send(Err(error));
            }
        }
    });
    let handle = started.await.map_err(|_| Failure::Stopped)?.map_err(Failure::Start)?;
    Ok((handle, task))
}

/// Runs the plan to its end.
pub fn simulate(plan: Plan) -> Result<Outcome, Failure> {
    let config = deterministic::Config::new().with_seed(plan.seed).with_timeout(Some(Duration::from_secs(900)));
    deterministic::Runner::new(config).start(|context| run(context, plan))
}

async fn run(context: deterministic::Context, plan: Plan) -> Result<Outcome, Failure> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let consortium = Consortium::new(plan.seed, &[0, 1, 2, 3].map(listen));
    let mut nodes = Vec::new();
    let honest = if plan.adversary.is_some() { 3 } else { 4 };
    let mut _adversary = None;
    if let Some(adversary) = plan.adversary {
        let config = consortium.config(3, listen(3), None);
        let context = context.child("byzantine");
        _adversary = Some(adversary::begin(&context, &config, adversary).map_err(Failure::Start)?);
    }
    for member in 0..honest {
        nodes.push(begin(&context, &consortium, member, 0).await?);
    }
    let victim = random.random_range(0..honest);
    let crash_at = if plan.crash { plan.submissions / 2 } else { u64::MAX };
    for nth in 0..plan.submissions {
        if nth == crash_at {
            nodes[victim].task.abort();
        }
        for (member, node) in nodes.iter().enumerate() {
            let signed = consortium.new_entries(member, 1, 1 + nth * plan.entries, plan.entries);
            let dead = member == victim && nth >= crash_at;
            // What the dead node would have taken is submitted at another's door.
            let door = if dead { &nodes[(member + 1) % honest] } else { node };
            door.handle.submit(&signed.to_bytes()).await.map_err(|_| Failure::Stopped)?;
        }
        context.sleep(Duration::from_millis(random.random_range(1..400))).await;
    }
    if plan.crash {
        context.sleep(Duration::from_secs(random.random_range(1..20))).await;
        nodes[victim] = begin(&context, &consortium, victim, 1).await?;
        // A submitter submits again what it has no receipt for; what is final already changes nothing.
        for nth in 0..plan.submissions {
            let signed = consortium.new_entries(victim, 1, 1 + nth * plan.entries, plan.entries);
            nodes[victim].handle.submit(&signed.to_bytes()).await.map_err(|_| Failure::Stopped)?;
        }
    }
    let expected = plan.submissions * plan.entries * honest as u64;
    let statuses = settle(&context, &nodes, expected).await?;
    let common = statuses.iter().map(|status| status.height).min().unwrap_or(0);
    let (mut applied, mut roots) = (Vec::new(), Vec::new());
    for node in &nodes {
        let mut blocks = node.handle.blocks_from(1);
        let mut count = 0;
        loop {
            let block = blocks.next().await.map_err(|_| Failure::Stopped)?;
            count += block.receipts.iter().filter(|receipt| receipt.verdict == 0).count() as u64;
            if block.header().height == common {
                roots.push((block.header().log_root, block.header().state_root));
                break;
            }
        }
        applied.push(count);
    }
    let log_size = statuses.iter().map(|status| status.log_size).max().unwrap_or(0);
    let blames = nodes.iter().map(|node| node.handle.blames()).collect();
    Ok(Outcome { log_size, applied, roots, trace: context.auditor().state(), blames })
}

/// Waits until all nodes have `expected` entries.
async fn settle(context: &deterministic::Context, nodes: &[Node], expected: u64) -> Result<Vec<Status>, Failure> {
    for _ in 0..600 {
        let statuses: Vec<Status> = nodes.iter().map(|node| node.handle.status()).collect();
        if statuses.iter().all(|status| status.log_size >= expected) {
            return Ok(statuses);
        }
        context.sleep(Duration::from_millis(500)).await;
    }
    Err(Failure::Late(nodes.iter().map(|node| node.handle.status().log_size).collect()))
}

//! A consortium on the deterministic runtime whose members come, go and say so, for stories that no scenario tells.
#![allow(dead_code, reason = "each test file uses its part")]

use super::seed::seed;
use commonware_runtime::{Clock as _, Handle as Task, Runner as _, Storage as _, Supervisor as _, deterministic};
use contract::{MemberStep, PolicyKind, state};
use evidence::{Finality, Parts, Policies, StateProof, assemble};
use ledger::{Config, Handle, Proof};
use sim::{Consortium, NEWCOMER};
use std::{net::SocketAddr, time::Duration};

pub(crate) const REGULATOR: usize = 3;
pub(crate) const INSURER: usize = 2;

pub(crate) struct Node {
    pub(crate) task: Task<()>,
    pub(crate) handle: Handle,
}

/// The consortium, its nodes by member, and how far each member's lane is.
pub(crate) struct Site {
    pub(crate) context: deterministic::Context,
    pub(crate) consortium: Consortium,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) seqs: [u64; 5],
    /// How often the node of each member began.
    pub(crate) lives: [u16; 5],
}

pub(crate) fn listen(member: usize, life: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000 + 100 * life + member as u16))
}

impl Site {
    pub(crate) async fn open(context: deterministic::Context) -> Self {
        Self::open_with(context, |_| {}).await
    }

    /// The founders' nodes with what `change` makes of their configuration.
    pub(crate) async fn open_with(context: deterministic::Context, change: impl Fn(&mut Config)) -> Self {
        Self::open_some(context, &[0, 1, 2, 3], change).await
    }

    /// Some of the founders' nodes. The addresses of the others stay free.
    pub(crate) async fn open_some(
        context: deterministic::Context,
        members: &[usize],
        change: impl Fn(&mut Config),
    ) -> Self {
        let consortium = Consortium::new(seed(), &[0, 1, 2, 3].map(|member| listen(member, 0)));
        let mut site = Self { context, consortium, nodes: (0..5).map(|_| None).collect(), seqs: [0; 5], lives: [0; 5] };
        for &member in members {
            let mut config = site.consortium.config(member, listen(member, 0), None);
            change(&mut config);
            site.begin(member, config).await;
        }
        site
    }

    pub(crate) async fn begin(&mut self, member: usize, mut config: Config) {
        // The simulated network never gives an address back: in another life a node listens elsewhere, and dials its peers itself.
        config.listen = listen(member, self.lives[member]);
        self.lives[member] += 1;
        let life = self.lives[member];
        let context = self.context.child("node").with_attribute("member", member).with_attribute("life", life);
        let (handle, task) = sim::open(context, config).await.unwrap().unwrap();
        self.nodes[member] = Some(Node { task, handle });
    }

    pub(crate) async fn kill(&mut self, member: usize) {
        self.nodes[member].take().unwrap().task.abort();
        self.context.sleep(Duration::from_secs(2)).await;
    }

    /// Stops a member at the end of an epoch, and gives its height.
    pub(crate) async fn stop_at_an_end(&mut self, member: usize) -> u64 {
        let blocks = self.consortium.genesis.epoch_blocks;
        for _ in 0..100_000 {
            let height = self.handle(member).status().height;
            if height % blocks == blocks - 1 {
                self.kill(member).await;
                return height;
            }
            self.context.sleep(Duration::from_millis(5)).await;
        }
        panic!("member {member} was never at the end of an epoch");
    }

    /// Takes a stopped member's certificates away.
    pub(crate) async fn take_certificates(&self, member: usize) {
        let store = self.consortium.config(member, listen(member, 0), None).store;
        for part in ["metadata", "key", "value"] {
            self.context.remove(&format!("{store}-finalizations-{part}"), None).await.unwrap();
        }
    }

    /// Takes away what a stopped member noted of an epoch's votes.
    pub(crate) async fn take_votes(&self, member: usize, epoch: u64) {
        let store = self.consortium.config(member, listen(member, 0), None).store;
        self.context.remove(&format!("{store}-simplex-{epoch}"), None).await.unwrap();
    }

    pub(crate) fn handle(&self, member: usize) -> &Handle {
        &self.nodes[member].as_ref().unwrap().handle
    }

    /// A member says something about the membership of `about`, at the door of `door`; waits until it is applied.
    pub(crate) async fn say(&mut self, door: usize, member: usize, label: &str, about: usize, step: MemberStep) {
        self.seqs[member] += 1;
        let seq = self.seqs[member];
        let entry = self.consortium.says(member, label, about, step);
        let (digest, signed) = (entry.digest(), self.consortium.submission(member, 7, seq, vec![entry]));
        let mut blocks = self.handle(door).blocks_from(self.handle(door).status().height);
        self.handle(door).submit(&signed.to_bytes()).await.unwrap();
        for _ in 0..600 {
            let block = blocks.next().await.unwrap();
            if let Some(receipt) = block.receipts.iter().find(|receipt| receipt.digest == digest) {
                let verdict = contract::Reject::from_code(receipt.verdict);
                assert_eq!((receipt.verdict, verdict), (0, None), "{label}");
                return;
            }
        }
        panic!("{label} is not final after 600 blocks");
    }

    /// Waits until the node of `member` is at the beginning of the epoch that is `after` epochs from now.
    pub(crate) async fn epochs_later(&self, member: usize, after: u64) {
        let blocks = self.consortium.genesis.epoch_blocks;
        let wanted = (self.handle(member).status().height / blocks + after) * blocks;
        self.reaches(member, wanted).await;
    }

    pub(crate) async fn reaches(&self, member: usize, height: u64) {
        for _ in 0..1_200 {
            if self.handle(member).status().height >= height {
                return;
            }
            self.context.sleep(Duration::from_millis(250)).await;
        }
        let heights: Vec<_> = self.nodes.iter().flatten().map(|node| node.handle.status().height).collect();
        panic!("member {member} is not at height {height} in simulated time: {heights:?}");
    }

    pub(crate) async fn carry(&mut self, proposal: &str, about: usize, voters: &[usize]) {
        let id = self.consortium.says(0, proposal, about, MemberStep::Left).id;
        for voter in voters {
            self.say(0, *voter, &format!("{proposal}-{voter}"), about, MemberStep::Voted(id, true)).await;
        }
    }

    pub(crate) async fn join(&mut self) {
        let joining = self.consortium.joining(listen(NEWCOMER, self.lives[NEWCOMER]));
        self.say(0, 0, "join", NEWCOMER, MemberStep::JoinProposed(joining.clone())).await;
        self.carry("join", NEWCOMER, &[0, 1, 2]).await;
        let config = self.consortium.config(NEWCOMER, listen(NEWCOMER, 0), None);
        self.begin(NEWCOMER, config).await;
        let height = self.handle(0).status().height;
        self.reaches(NEWCOMER, height).await;
        // By its own door.
        self.say(NEWCOMER, NEWCOMER, "seat", NEWCOMER, MemberStep::Seated(joining.consensus_key)).await;
        self.epochs_later(0, 2).await;
    }

    /// Evidence of the policies in force, and how many times the validators had changed.
    pub(crate) async fn evidence(&self, member: usize) -> (Vec<u8>, usize) {
        let keys = [PolicyKind::Access, PolicyKind::Derivation].map(state::policy_key).to_vec();
        self.file(self.handle(member).prove(keys).await.unwrap())
    }

    pub(crate) fn file(&self, proof: Proof) -> (Vec<u8>, usize) {
        let (genesis, handovers) = (self.consortium.genesis.to_bytes(), proof.handovers);
        let changes = handovers.len();
        let finality = Finality { genesis, header: proof.header, certificate: proof.certificate, handovers };
        let mut proofs = proof.proofs.into_iter().map(|p| StateProof { value: p.value.unwrap(), proof: p.proof });
        let policies = Policies { access: proofs.next().unwrap(), derivation: proofs.next().unwrap() };
        (assemble(Parts::of_nobody(finality, policies)).to_bytes(), changes)
    }
}

pub(crate) fn run<F: Future<Output = ()>>(story: impl FnOnce(deterministic::Context) -> F) {
    let config = deterministic::Config::new().with_seed(seed()).with_timeout(Some(Duration::from_secs(3_600)));
    deterministic::Runner::new(config).start(story);
}

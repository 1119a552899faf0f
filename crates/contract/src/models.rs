//! Small configurations of the rules, explored exhaustively: every order of every step that a few organisations could try.
//!
//! The explorer is the crate `stateright`, breadth first. A model is a list of things that are tried in every state; [`apply`] decides,
//! and what it refuses leads nowhere. Heads of logs are left out of the states, because they count every entry and so no two
//! states would ever be the same.

mod billing;
mod binding;
mod glass;
mod joining;
mod voting;

use crate::{
    Genesis, Parent, Reject, apply, genesis_state,
    merkle::Frontier,
    state::{self, Key, State},
    testing::{Said, genesis, written_policies},
};
use minicbor::Decode;
use record::TimeMs;
use stateright::{Checker as _, Model, Property};
use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What a model begins with: the same in all of its states, so that it need not be compared.
#[derive(Debug, Clone)]
struct Founding(Arc<BTreeMap<Key, Vec<u8>>>);

impl PartialEq for Founding {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Hash for Founding {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The ledger's state, where its next block stands, and what the model remembers beside it.
#[derive(Debug, Clone, PartialEq, Hash)]
struct Ledger<M> {
    founding: Founding,
    written: BTreeMap<Key, Option<Vec<u8>>>,
    /// Blocks since the beginning.
    blocks: u64,
    memory: M,
    /// What a step broke.
    broken: Option<&'static str>,
}

impl<M> State for Ledger<M> {
    fn read(&self, key: &Key) -> Option<&[u8]> {
        self.written.get(key).map_or_else(|| self.founding.0.get(key), Option::as_ref).map(Vec::as_slice)
    }
}

impl<M> Ledger<M> {
    fn get<T: for<'b> Decode<'b, ()>>(&self, key: &Key) -> Option<T> {
        apply::value(self, key)
    }

    /// The time of the block that the next entry is in.
    fn now(&self) -> TimeMs {
        after_blocks(self.blocks)
    }
}

/// Blocks are a second apart.
fn after_blocks(blocks: u64) -> TimeMs {
    TimeMs(1_000_000 + blocks * 1_000)
}

/// What can be tried in a state.
#[derive(Clone, PartialEq)]
enum Try {
    /// Somebody says something.
    Say(Box<Said>),
    /// A block passes.
    Wait,
}

impl fmt::Debug for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => write!(f, "a block passes"),
            Self::Say(said) => write!(f, "{} as {:?} says {:?}", said.org, said.entry.actor, said.entry.body),
        }
    }
}

/// A step that was accepted, and the state after it; remembers it in `memory`, and says what it breaks.
type Judge<M> = fn(said: &Said, after: &mut Ledger<M>) -> Option<&'static str>;

/// What a model remembers beside the state, to compare it with.
trait Remembers: fmt::Debug + Clone + Default + PartialEq + Hash + Send + Sync + 'static {}
impl<M: fmt::Debug + Clone + Default + PartialEq + Hash + Send + Sync + 'static> Remembers for M {}

/// One small configuration.
struct Small<M: Remembers> {
    genesis: Genesis,
    /// What is tried in every state.
    says: Vec<Said>,
    /// How many blocks may pass.
    blocks: u64,
    judge: Judge<M>,
    properties: Vec<Property<Self>>,
}

impl<M: Remembers> Small<M> {
    fn new(says: Vec<Said>, judge: Judge<M>) -> Self {
        Self { genesis: genesis(), says, blocks: 0, judge, properties: Vec::new() }
    }

    fn decide(&self, ledger: &Ledger<M>, said: &Said) -> Result<apply::Writes, Reject> {
        let time = ledger.now();
        let mut entry = said.entry.clone();
        entry.time = TimeMs(time.0.saturating_add_signed(said.offset_ms));
        let parent = Parent { height: ledger.blocks, time, log: Frontier::default() };
        // Nothing but logs depends on the digest.
        apply::apply(ledger, &parent, &entry, &record::Digest([0; 32]))
    }
}

impl<M: Remembers> Model for Small<M> {
    type State = Ledger<M>;
    type Action = Try;

    fn init_states(&self) -> Vec<Self::State> {
        let mut founding = genesis_state(&self.genesis);
        founding.extend(written_policies());
        let founding = Founding(Arc::new(founding));
        vec![Ledger { founding, written: BTreeMap::new(), blocks: 0, memory: M::default(), broken: None }]
    }

    fn actions(&self, ledger: &Self::State, actions: &mut Vec<Try>) {
        if ledger.broken.is_none() {
            actions.extend(self.says.iter().cloned().map(|said| Try::Say(Box::new(said))));
            actions.extend((ledger.blocks < self.blocks).then_some(Try::Wait));
        }
    }

    fn next_state(&self, ledger: &Self::State, tried: Try) -> Option<Self::State> {
        let mut after = ledger.clone();
        match tried {
            Try::Wait => after.blocks += 1,
            Try::Say(said) => {
                let log = said.entry.patient.as_ref().map(state::log_key);
                let writes = self.decide(ledger, &said).ok()?;
                after.written.extend(writes.into_iter().filter(|(key, _)| Some(*key) != log));
                after.broken = (self.judge)(&said, &mut after);
            }
        }
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::always("no step breaks a rule", |_, ledger: &Ledger<M>| ledger.broken.is_none())];
        properties.extend(self.properties.iter().cloned());
        properties
    }
}

/// Explores all of it, and demands that every property holds; prints how much there was.
fn explore<M: Remembers>(name: &str, small: Small<M>) {
    let checked = small.checker().spawn_bfs().join();
    for (property, path) in checked.discoveries() {
        let ledger = path.last_state().clone();
        let steps = path.into_actions();
        let wanted = checked.model().properties().into_iter().find(|known| known.name == property);
        if wanted.is_some_and(|known| known.expectation.discovery_is_failure()) {
            panic!("{name}: «{property}» does not hold ({:?}) after {steps:#?}\n{:?}", ledger.broken, ledger.memory);
        }
    }
    checked.assert_properties();
    println!("{name}: {} states, {} steps deep", checked.unique_state_count(), checked.max_depth());
}

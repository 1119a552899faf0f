//! A simulated machine: the engine's deterministic runtime with a clock, a network and a disk of its own, which can fail.
//!
//! All machines of a run share one runtime, so that one seed decides everything. A node sees nothing but its machine.

mod disk;
mod network;

use crate::world::World;
use commonware_runtime::{
    Clock, Error, Handle, Metrics, Name, Resolver, Spawner, Supervisor,
    deterministic::Context,
    signal::Signal,
    telemetry::metrics::{Metric, Registered},
};
use futures::FutureExt as _;
use governor::clock::{Clock as GovernorClock, ReasonablyRealtime};
use rand::{TryCryptoRng, TryRng};
use std::{
    any::Any,
    convert::Infallible,
    future::{Future, pending},
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) use disk::Files;

/// One life of a machine.
pub(crate) struct Machine {
    inner: Context,
    /// Connections outlast the task that opened them.
    wires: Arc<Context>,
    world: World,
    member: usize,
    life: u64,
    files: Files,
}

impl Machine {
    /// Starts the machine of a member.
    pub(crate) fn start(context: &Context, world: &World, member: usize) -> Self {
        let life = world.begin(member);
        let inner = context.child("machine").with_attribute("member", member).with_attribute("life", life);
        let wires = context.child("wires").with_attribute("member", member).with_attribute("life", life);
        Self { inner, wires: Arc::new(wires), world: world.clone(), member, life, files: Files::default() }
    }

    /// Which of the machine's lives it is.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    /// What this life has open on its disk.
    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    fn with(&self, inner: Context) -> Self {
        let Self { wires, world, member, life, files, .. } = self;
        Self { inner, wires: wires.clone(), world: world.clone(), member: *member, life: *life, files: files.clone() }
    }

    /// Waits for ever once this life is over: a dead machine does nothing more.
    async fn live(&self) {
        if !self.world.lives(self.member, self.life) {
            pending::<()>().await;
        }
    }

    fn skew_ms(&self) -> i64 {
        self.world.state().machines[self.member].skew_ms
    }
}

fn shifted(time: SystemTime, by_ms: i64) -> SystemTime {
    let by = Duration::from_millis(by_ms.unsigned_abs());
    if by_ms < 0 { time.checked_sub(by) } else { time.checked_add(by) }.unwrap_or(time)
}

/// What a panicking task said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

impl Supervisor for Machine {
    fn name(&self) -> Name {
        self.inner.name()
    }

    fn child(&self, label: &'static str) -> Self {
        self.with(self.inner.child(label))
    }

    fn with_attribute(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.inner = self.inner.with_attribute(key, value);
        self
    }
}

impl Spawner for Machine {
    fn shared(mut self, blocking: bool) -> Self {
        self.inner = self.inner.shared(blocking);
        self
    }

    fn dedicated(mut self) -> Self {
        self.inner = self.inner.dedicated();
        self
    }

    /// A task that panics takes its machine with it, and nobody else's.
    fn spawn<F, Fut, T>(self, f: F) -> Handle<T>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let Self { inner, wires, world, member, life, files } = self;
        inner.spawn(move |inner| {
            let task = f(Self { inner, wires, world: world.clone(), member, life, files });
            async move {
                match AssertUnwindSafe(task).catch_unwind().await {
                    Ok(value) => value,
                    Err(panic) => {
                        world.died(member, life, words(&*panic));
                        pending().await
                    }
                }
            }
        })
    }

    async fn stop(self, value: i32, timeout: Option<Duration>) -> Result<(), Error> {
        self.inner.stop(value, timeout).await
    }

    fn stopped(&self) -> Signal {
        self.inner.stopped()
    }
}

impl Metrics for Machine {
    fn register<N: Into<String>, H: Into<String>, M: Metric>(&self, name: N, help: H, metric: M) -> Registered<M> {
        self.inner.register(name, help, metric)
    }

    fn encode(&self) -> String {
        self.inner.encode()
    }
}

impl Clock for Machine {
    fn current(&self) -> SystemTime {
        shifted(self.inner.current(), self.skew_ms())
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.sleep(duration)
    }

    fn sleep_until(&self, deadline: SystemTime) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.inner.sleep_until(shifted(deadline, -self.skew_ms()))
    }
}

impl GovernorClock for Machine {
    type Instant = SystemTime;

    fn now(&self) -> SystemTime {
        self.current()
    }
}
impl ReasonablyRealtime for Machine {}

impl Resolver for Machine {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        self.inner.resolve(host).await
    }
}

impl TryRng for Machine {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.inner.try_next_u32()
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.inner.try_next_u64()
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.inner.try_fill_bytes(bytes)
    }
}
impl TryCryptoRng for Machine {}

//! Connections between machines: each message takes the time that its link takes, in order, and waits while the link is closed.

use super::Machine;
use commonware_runtime::{
    Clock as _, Error, IoBufs, Listener, ListenerOf, Network, Sink, SinkOf, Spawner as _, StreamOf, Supervisor as _,
    deterministic::Context,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// Messages under way on a connection; a sender of more waits.
const UNDER_WAY_MAX: usize = 1024;
/// How often a message that waits for its link looks whether it is open.
const LOOK: Duration = Duration::from_millis(50);
/// A connection on which nothing passes is given up after this time, as an operating system does.
const GIVE_UP: Duration = Duration::from_secs(4);
/// How long dialling somebody takes from whom nothing comes back.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The sending end of a connection.
pub(crate) struct Outward {
    machine: Machine,
    to: usize,
    /// Nothing overtakes.
    last: SystemTime,
    under_way: mpsc::Sender<(SystemTime, IoBufs)>,
}

impl Outward {
    fn new(machine: Machine, to: usize, mut inner: SinkOf<Context>) -> Self {
        let (under_way, mut messages) = mpsc::channel::<(SystemTime, IoBufs)>(UNDER_WAY_MAX);
        let (world, from, life) = (machine.world.clone(), machine.member, machine.life);
        machine.wires.child("link").spawn(move |context| async move {
            while let Some((at, message)) = messages.recv().await {
                context.sleep_until(at).await;
                let mut waited = Duration::ZERO;
                while !world.passes(from, to) {
                    if waited >= GIVE_UP {
                        world.state().faults.resets += 1;
                        return;
                    }
                    context.sleep(LOOK).await;
                    waited += LOOK;
                }
                if !world.lives(from, life) || inner.send(message).await.is_err() {
                    return;
                }
            }
        });
        Self { last: machine.inner.current(), machine, to, under_way }
    }
}

impl Sink for Outward {
    async fn send(&mut self, bufs: impl Into<IoBufs> + Send) -> Result<(), Error> {
        let bufs = bufs.into();
        self.machine.live().await;
        let arrival = self.machine.inner.current() + self.machine.world.delay(self.machine.member, self.to);
        self.last = self.last.max(arrival);
        self.under_way.send((self.last, bufs)).await.map_err(|_| Error::SendFailed)
    }
}

/// Where a machine is called.
pub(crate) struct Door {
    machine: Machine,
    address: SocketAddr,
    inner: ListenerOf<Context>,
}

impl Listener for Door {
    type Sink = Outward;
    type Stream = StreamOf<Context>;

    async fn accept(&mut self) -> Result<(SocketAddr, Self::Sink, Self::Stream), Error> {
        let (address, sink, stream) = self.inner.accept().await?;
        let dialled = |machine: &Machine| machine.world.state().dialled.get_mut(&self.address)?.pop_front();
        let from = dialled(&self.machine).ok_or(Error::ReadFailed)?;
        Ok((address, Outward::new(self.machine.child("accepted"), from, sink), stream))
    }

    fn local_addr(&self) -> Result<SocketAddr, std::io::Error> {
        self.inner.local_addr()
    }
}

impl Network for Machine {
    type Listener = Door;

    /// The runtime never gives an address back: in another life the machine is found behind another one.
    async fn bind(&self, socket: SocketAddr) -> Result<Door, Error> {
        let address = {
            let mut state = self.world.state();
            state.addresses += 1;
            let ip = Ipv4Addr::from(0x0a00_0000 + state.addresses);
            SocketAddr::new(IpAddr::V4(ip), 1)
        };
        let inner = self.inner.bind(address).await?;
        self.world.state().listening.insert(socket, address);
        Ok(Door { machine: self.child("door"), address, inner })
    }

    async fn dial(&self, socket: SocketAddr) -> Result<(Outward, StreamOf<Context>), Error> {
        self.live().await;
        let to = usize::from(socket.port() - crate::simulation::PORT);
        let address = self.world.state().listening.get(&socket).copied().ok_or(Error::ConnectionFailed)?;
        if !self.world.passes(self.member, to) || !self.world.passes(to, self.member) {
            self.inner.sleep(DIAL_TIMEOUT).await;
            return Err(Error::ConnectionFailed);
        }
        self.world.state().dialled.entry(address).or_default().push_back(self.member);
        match self.inner.dial(address).await {
            Ok((sink, stream)) => Ok((Outward::new(self.child("dialled"), to, sink), stream)),
            Err(error) => {
                self.world.state().dialled.entry(address).or_default().pop_back();
                Err(error)
            }
        }
    }
}

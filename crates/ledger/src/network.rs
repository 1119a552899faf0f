//! The network half of a node: authenticated connections to the other members, and a channel for each kind of message.

use crate::{
    Scheme, ask, attachments,
    block::{ChainBlock, Known, engine_key},
    config::{Config, Peer, StartError},
    gossip,
    node::Runtime,
    words,
};
use commonware_codec::ReadExt as _;
use commonware_consensus::{
    marshal::{self, standard::Standard},
    simplex,
};
use commonware_cryptography::{ChaCha20Poly1305, ed25519, sha256};
use commonware_p2p::{
    Address, AddressableManager as _, Ingress,
    authenticated::lookup::{self, Network, Oracle, Receiver, Sender},
    max_message_size,
    utils::mux,
};
use commonware_runtime::{Handle as Task, Quota};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, ordered::Map};
use contract::Genesis;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

/// Messages that wait in an engine's mailbox.
pub(crate) const MAILBOX: NonZeroUsize = NZUsize!(1024);

/// Both ends of a channel.
pub type Channel<E> = (Sender<ed25519::PublicKey, E>, Receiver<ed25519::PublicKey>);

/// The connections of a member, as consensus and the node's other parts use them.
///
/// A node has its own; this is public for simulations of members that do not keep to the protocol.
pub struct Channels<E: Runtime> {
    pub(crate) oracle: Oracle<ed25519::PublicKey>,
    /// Votes of consensus.
    pub votes: Channel<E>,
    /// Certificates of consensus.
    pub certificates: Channel<E>,
    /// Asking for certificates.
    pub resolver: Channel<E>,
    /// Asking for blocks.
    pub backfill: Channel<E>,
    /// Blocks that are proposed.
    pub blocks: Channel<E>,
    /// Submissions that wait.
    pub gossip: Channel<E>,
    /// Attachments.
    pub attachments: Channel<E>,
    /// What members say about final headers.
    pub words: Channel<E>,
    /// Questions of latecomers.
    pub questions: Channel<E>,
    /// Ends when the network fails.
    pub task: Task<()>,
}

/// A member's address: an IP address and port, or a host name and port.
pub(crate) fn address(text: &str) -> Option<Address> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(Address::Symmetric(socket));
    }
    let (host, port) = text.rsplit_once(':')?;
    let ingress = Ingress::Dns { host: Hostname::new(host).ok()?, port: port.parse().ok()? };
    // Where such a peer connects from is not known; the handshake proves who it is.
    let egress = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    Some(Address::Asymmetric { ingress, egress })
}

fn addresses(genesis: &Genesis, peers: &[Peer]) -> Result<Map<ed25519::PublicKey, Address>, StartError> {
    let mut addresses = BTreeMap::new();
    for member in &genesis.members {
        let bad = || StartError::BadAddress { org: member.org.clone(), address: member.address.clone() };
        let key = engine_key(&member.consensus_key).ok_or_else(|| StartError::NoMember(member.org.clone()))?;
        addresses.insert(key, address(&member.address).ok_or_else(bad)?);
    }
    for peer in peers {
        let key = engine_key(&peer.consensus_key).ok_or(StartError::BadPeer)?;
        addresses.entry(key).or_insert(address(&peer.address).ok_or(StartError::BadPeer)?);
    }
    Map::try_from(addresses.into_iter().collect::<Vec<_>>()).map_err(|_| StartError::Died)
}

fn per_second(messages: NonZeroU32) -> Quota {
    Quota::per_second(messages)
}

fn network_config(
    config: &Config,
    signer: ed25519::PrivateKey,
    message_bytes_max: u32,
) -> lookup::Config<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Sake {
        signer,
        synchrony_bound: Duration::from_secs(5),
        max_handshake_age: Duration::from_secs(10),
        version: sake::Version::V1,
    };
    let peers_max = NonZeroUsize::new(config.peers_max).unwrap_or(NonZeroUsize::MIN);
    // The engine's `local` values reconnect within a second, which few and known peers can afford, and let several members' nodes share an address.
    let mut network = lookup::Config::local(
        Cups::<_, ChaCha20Poly1305>::new(handshake, cups::Version::V1),
        &config.genesis.namespace(),
        config.listen,
        peers_max,
        message_bytes_max,
        MAILBOX,
    );
    network.tracked_peer_sets = NZUsize!(1);
    // Peers prove who they are; where they connect from may change.
    network.bypass_ip_check = true;
    network
}

/// Connects a member with the others.
pub fn join<E: Runtime>(context: &E, config: &Config) -> Result<Channels<E>, StartError> {
    let genesis = &config.genesis;
    let key = consensus_key(config)?;
    let count = u32::try_from(contract::MEMBERS_MAX).unwrap_or(u32::MAX);
    let message_bytes_max = max_message_size(&[
        mux::prefixed(simplex::max_payload_size::<Scheme, sha256::Digest>(count)),
        marshal::max_payload_size::<Standard<ChainBlock>, Scheme>(count, &Known::default()),
        gossip::MESSAGE_BYTES_MAX,
        attachments::MESSAGE_BYTES_MAX,
        words::MESSAGE_BYTES_MAX,
        ask::MESSAGE_BYTES_MAX,
    ]);
    let (mut network, mut oracle) =
        Network::new(context.child("network"), network_config(config, key, message_bytes_max));
    oracle.track(0, addresses(genesis, &config.peers)?);
    Ok(Channels {
        oracle,
        votes: network.register(0, per_second(NZU32!(2048))),
        certificates: network.register(1, per_second(NZU32!(2048))),
        resolver: network.register(2, per_second(NZU32!(256))),
        backfill: network.register(3, per_second(NZU32!(256))),
        blocks: network.register(4, per_second(NZU32!(256))),
        gossip: network.register(5, per_second(NZU32!(512))),
        attachments: network.register(6, per_second(NZU32!(256))),
        words: network.register(7, per_second(NZU32!(32))),
        questions: network.register(8, per_second(NZU32!(256))),
        task: network.start(),
    })
}

/// The engine's form of the member's secret key.
pub(crate) fn consensus_key(config: &Config) -> Result<ed25519::PrivateKey, StartError> {
    ed25519::PrivateKey::read(&mut bytes::Bytes::copy_from_slice(config.consensus_key.bytes()))
        .map_err(|_| StartError::OtherKey(config.org.clone()))
}

//! Who the members are, as the final state says: whom this node connects with, and who may hold what.

use crate::{
    block::engine_key,
    config::Peer,
    mempool::Mempool,
    network::address,
    node::Runtime,
    peers::{Known, Peers},
    spaced::Dbs,
    state,
};
use commonware_cryptography::ed25519;
use commonware_p2p::{Address, AddressableManager as _, authenticated::lookup::Oracle};
use commonware_utils::ordered::Map;
use contract::{
    Custodians, FormatError, PublicKey, from_cbor,
    state::{
        KeyOwner, Organisation, Roll, Seat, Succession, VALUE_BYTES_MAX, Voter, key_owner_key, organisation_key,
        roll_key, seat_key, succession_key,
    },
};
use record::OrgId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    marker::PhantomData,
    sync::Arc,
};
use tokio::sync::watch;

/// Keeps the network and [`Peers`] to what the state says.
pub(crate) struct Roster<E> {
    pub(crate) oracle: Oracle<ed25519::PublicKey>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) mempool: Arc<Mempool>,
    /// Whom the configuration names beside the members.
    pub(crate) extra: Vec<Peer>,
    /// The most that the network was made for.
    pub(crate) peers_max: usize,
    /// Height of the last final block with a change of membership.
    pub(crate) changed: watch::Receiver<u64>,
    pub(crate) tracked: u64,
    pub(crate) runtime: PhantomData<E>,
}

fn read<T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>>(value: Option<Vec<u8>>) -> Option<T> {
    let read: Result<T, FormatError> = from_cbor("state", &value?, VALUE_BYTES_MAX);
    read.ok()
}

impl<E: Runtime> Roster<E> {
    /// Reads the members, when they may have changed or `always`. `None`: the state cannot be read.
    pub(crate) async fn refresh(&mut self, dbs: &Dbs<E>, height: u64, always: bool) -> Option<()> {
        let news = self.changed.has_changed().unwrap_or(false);
        self.changed.mark_unchanged();
        if height == 0 || !(news || always) {
            return Some(());
        }
        let changes = self.mempool.changes();
        let mut values = state::read(dbs, &[roll_key(), succession_key()]).await?.into_iter();
        let roll: Roll = read(values.next().flatten())?;
        let succession: Succession = read(values.next().flatten())?;
        let (mut organisations, mut entry_keys) = (HashMap::new(), HashMap::new());
        let mut known = Vec::with_capacity(roll.members.len());
        let mut addresses = BTreeMap::new();
        for Voter { org, .. } in &roll.members {
            let values = state::read(dbs, &[organisation_key(org), seat_key(org)]).await?;
            let [organisation, seat]: [Option<Vec<u8>>; 2] = values.try_into().ok()?;
            organisations.insert(organisation_key(org), organisation.clone()?);
            let (organisation, seat): (Organisation, Seat) = (read(organisation)?, read(seat)?);
            self.add(&mut addresses, org, &seat.consensus_key, &seat.reach.address);
            entry_keys.insert(org.clone(), organisation.entry_key);
            known.push(Known { org: org.clone(), role: organisation.role, key: seat.consensus_key });
        }
        // Who decides still and is a member no more, or by another key.
        let keys: BTreeSet<PublicKey> = succession.sets().iter().flat_map(|set| &set.keys).copied().collect();
        for key in keys {
            let owner: Option<KeyOwner> = read(state::read(dbs, &[key_owner_key(&key)]).await?.pop()?);
            let Some(KeyOwner { org, .. }) = owner else { continue };
            let seat: Option<Seat> = read(state::read(dbs, &[seat_key(&org)]).await?.pop()?);
            if let Some(seat) = seat {
                self.add(&mut addresses, &org, &key, &seat.reach.address);
            }
        }
        self.peers.set(known);
        self.mempool.set_members(entry_keys, changes);
        self.mempool.set_custodians(Custodians::of_state(&roll, &organisations).ok()?);
        self.track(addresses);
        Some(())
    }

    fn add(&self, addresses: &mut BTreeMap<ed25519::PublicKey, Address>, org: &OrgId, key: &PublicKey, text: &str) {
        match (engine_key(key), address(text)) {
            (Some(key), Some(address)) => _ = addresses.entry(key).or_insert(address),
            _ => tracing::warn!(%org, "a member's address is no `host:port`: it has to connect by itself"),
        }
    }

    fn track(&mut self, mut addresses: BTreeMap<ed25519::PublicKey, Address>) {
        for peer in &self.extra {
            if let (Some(key), Some(address)) = (engine_key(&peer.consensus_key), address(&peer.address)) {
                addresses.entry(key).or_insert(address);
            }
        }
        if addresses.len() > self.peers_max {
            tracing::error!(
                members = addresses.len(),
                peers_max = self.peers_max,
                "more members than `peers_max`: some are not connected with"
            );
        }
        if let Ok(map) = Map::try_from(addresses.into_iter().take(self.peers_max).collect::<Vec<_>>()) {
            self.tracked = self.tracked.saturating_add(1);
            self.oracle.track(self.tracked, map);
        }
    }
}

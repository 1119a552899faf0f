//! Who the members are, as the ledger's state says; and what this organisation does about it: propose, vote, leave, change its keys.

use crate::{
    boxed,
    caller::Caller,
    custody::why,
    failure::Failure,
    mirror::FinalEntry,
    node::Node,
    row::PENDING_MS_MAX,
    signer::Standing,
    take::to_the_end,
    wrap::Custodian,
    write::{Also, Touched, Trail},
};
use contract::{AccessAction, Body, Entry, Event, Joining, MemberStep, PublicKey, Reach, from_cbor, may_hold, state};
use minicbor::{Decode, Encode};
use policy::Action;
use record::{Id16, OrgId, OrgRole, TimeMs, fhir::Interaction};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long a step waits to become final before it is answered.
const FINAL_WAIT: Duration = Duration::from_secs(30);
/// How long a look for keys that were replaced lately waits for the mirror.
const NEWS_WAIT: Duration = Duration::from_secs(1);
/// The most entries about members that are looked through for one's own.
const ENTRIES_MAX: usize = 1_000;

/// A member, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberShown {
    /// Its name.
    pub org: OrgId,
    /// What it is.
    pub role: OrgRole,
    /// Signs its entries, and since which height.
    pub entry_key: PublicKey,
    /// The height since which it does.
    pub entry_from: u64,
    /// Signs its votes, once it has taken its seat.
    pub consensus_key: PublicKey,
    /// The height since which it decides; none while it has no seat.
    pub decides_from: Option<u64>,
    /// Whether it is in the set that decides now.
    pub decides: bool,
    /// Patient keys are wrapped to it.
    pub wrap_key: String,
    /// Where its validator listens.
    pub address: String,
}

/// Keys, each with the height since which it does not count any more.
pub(crate) type EntryKeys = Arc<[(PublicKey, Option<u64>)]>;

/// Entry keys that members named, as far as the mirror was looked through.
#[derive(Default)]
pub(crate) struct NamedKeys {
    /// Index of the first entry that was not looked through.
    next: u64,
    /// Which keys members named for their entries, whether they came to count or not.
    keys: HashMap<OrgId, Vec<PublicKey>>,
    /// From which height on members signed by another key, and the time of the block that said so.
    changes: HashMap<OrgId, Vec<(u64, TimeMs)>>,
    /// What is known of members' keys, and at which height of the mirror it was.
    known: HashMap<OrgId, (u64, EntryKeys)>,
}

impl NamedKeys {
    fn read(&mut self, place: &FinalEntry) {
        let Ok(entry) = Entry::from_bytes(&place.bytes) else { return };
        let Body::Member { member, step } = entry.body else { return };
        match step {
            MemberStep::JoinProposed(joining) => self.keys.entry(member).or_default().push(joining.entry_key),
            MemberStep::EntryKeyRotated(key) => {
                self.changes.entry(member.clone()).or_default().push((place.height.saturating_add(1), place.time));
                self.keys.entry(member).or_default().push(key);
            }
            _ => {}
        }
    }
}

/// Whether the mirror was waited for already: once is enough for a page of rows.
#[derive(Default)]
pub(crate) struct News {
    awaited: bool,
}

/// The members and how the ledger is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// By name.
    pub members: Vec<MemberShown>,
    /// The epoch of the latest block.
    pub epoch: u64,
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
    /// How many decide this epoch and the next two.
    pub validators: [usize; 3],
}

impl Node {
    pub(crate) async fn values<T: Encode<()> + for<'b> Decode<'b, ()>>(
        &self,
        keys: Vec<state::Key>,
    ) -> Result<Vec<Option<T>>, Failure> {
        let values = self.ledger.get(keys).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let read =
            |value: Option<Vec<u8>>| value.map(|value| from_cbor("state", &value, state::VALUE_BYTES_MAX)).transpose();
        let read: Result<Vec<_>, _> = values.into_iter().map(read).collect();
        read.map_err(|e| Failure::ours("the ledger's state cannot be read", e))
    }

    /// Members of the latest final state with their seats, by name. Before the first block, the founders.
    async fn seated(&self) -> Result<Vec<(OrgId, state::Organisation, state::Seat)>, Failure> {
        let roll: Option<state::Roll> = self.values(vec![state::roll_key()]).await?.pop().flatten();
        let Some(state::Roll { members }) = roll else {
            let founding = contract::genesis_state(&self.genesis);
            let read = |key: state::Key| founding.get(&key).map(Vec::as_slice);
            let members = self.genesis.members.iter().filter_map(|member| {
                let organisation =
                    from_cbor("state", read(state::organisation_key(&member.org))?, state::VALUE_BYTES_MAX);
                let seat = from_cbor("state", read(state::seat_key(&member.org))?, state::VALUE_BYTES_MAX);
                Some((member.org.clone(), organisation.ok()?, seat.ok()?))
            });
            return Ok(members.collect());
        };
        let members: Vec<OrgId> = members.into_iter().map(|voter| voter.org).collect();
        let organisations = self.values(members.iter().map(state::organisation_key).collect()).await?;
        let seats = self.values(members.iter().map(state::seat_key).collect()).await?;
        let all = members.into_iter().zip(organisations).zip(seats);
        Ok(all.filter_map(|((org, organisation), seat)| Some((org, organisation?, seat?))).collect())
    }

    /// Who the members are, by the latest final state.
    pub(crate) async fn member_names(&self) -> Result<Vec<OrgId>, Failure> {
        Ok(self.seated().await?.into_iter().map(|(org, ..)| org).collect())
    }

    /// To whom patient keys are wrapped.
    pub(crate) async fn custodians(&self) -> Result<Vec<Custodian>, Failure> {
        let members = self.seated().await?.into_iter().filter(|(_, organisation, _)| may_hold(organisation.role));
        Ok(members.map(|(org, _, seat)| Custodian { org, wrap_key: seat.reach.wrap_key }).collect())
    }

    /// The key that an organisation signs its entries by, as the state says now.
    pub(crate) async fn entry_key(&self, org: &OrgId) -> Result<Option<PublicKey>, Failure> {
        let held: Option<state::Organisation> = self.values(vec![state::organisation_key(org)]).await?.pop().flatten();
        let founder = || self.genesis.member(org).map(|member| member.entry_key);
        Ok(held.map(|held| held.entry_key).or_else(founder))
    }

    /// Every member, and who decides.
    #[boxed]
    pub async fn members(&self) -> Result<Membership, Failure> {
        let succession = self.values::<state::Succession>(vec![state::succession_key()]).await?.pop().flatten();
        let succession =
            succession.unwrap_or_else(|| state::Succession::new(self.genesis.epoch_blocks, self.genesis.validators()));
        let epoch = succession.epoch(self.ledger.status().height);
        let shown = |(org, organisation, seat): (OrgId, state::Organisation, state::Seat)| MemberShown {
            org,
            role: organisation.role,
            entry_key: organisation.entry_key,
            entry_from: seat.entry_from,
            consensus_key: seat.consensus_key,
            decides_from: seat.consensus_from,
            decides: succession.keys(epoch).binary_search(&seat.consensus_key).is_ok(),
            wrap_key: seat.reach.wrap_key,
            address: seat.reach.address,
        };
        let members = self.seated().await?.into_iter().map(shown).collect();
        let validators = [0, 1, 2].map(|later| succession.keys(epoch.saturating_add(later)).len());
        Ok(Membership { members, epoch, epoch_blocks: succession.epoch_blocks, validators })
    }

    /// Proposes that an organisation joins. Gives the id that members vote by; the own vote is a step of its own.
    #[boxed]
    pub async fn propose_joining(&self, caller: &Caller, member: OrgId, joining: Joining) -> Result<Id16, Failure> {
        self.take_step(caller, member, MemberStep::JoinProposed(joining)).await
    }

    /// Proposes that a member is removed. Gives the id that members vote by.
    #[boxed]
    pub async fn propose_removal(&self, caller: &Caller, member: OrgId) -> Result<Id16, Failure> {
        self.take_step(caller, member, MemberStep::RemovalProposed).await
    }

    /// Votes on what was proposed under an id. Answered when the vote counts.
    #[boxed]
    pub async fn vote_on_member(&self, caller: &Caller, id: Id16, yes: bool) -> Result<(), Failure> {
        let held: Option<state::Membership> = self.values(vec![state::membership_key(&id)]).await?.pop().flatten();
        let held = held.ok_or_else(|| Failure::NotFound(format!("member/{id}")))?;
        self.take_step(caller, held.member, MemberStep::Voted(id, yes)).await?;
        Ok(())
    }

    /// This organisation leaves.
    #[boxed]
    pub async fn leave(&self, caller: &Caller) -> Result<(), Failure> {
        self.take_step(caller, self.org.clone(), MemberStep::Left).await?;
        Ok(())
    }

    /// This organisation decides by this consensus key from the epoch after next; gives the height. Asked again it says the same, and nothing
    /// is written. [`Failure::Precondition`]: the key was named before, and another one is needed.
    #[boxed]
    pub async fn take_seat(&self, caller: &Caller, key: PublicKey) -> Result<u64, Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        if let Some(decides) = self.seated_by(&key).await? {
            return decides;
        }
        let taken = self.take_step(caller, self.org.clone(), MemberStep::Seated(key)).await;
        // An earlier attempt that broke off may have become final just before.
        match (self.seated_by(&key).await?, taken) {
            (Some(decides), _) => decides,
            (None, Err(failure)) => Err(failure),
            (None, Ok(_)) => Err(Failure::Ours("the ledger names no seat of this organisation".to_owned())),
        }
    }

    /// Since which height this organisation decides by a key; or that it never can, as somebody named the key before. `None`: it may take its
    /// seat by it.
    async fn seated_by(&self, key: &PublicKey) -> Result<Option<Result<u64, Failure>>, Failure> {
        let seat: Option<state::Seat> = self.values(vec![state::seat_key(&self.org)]).await?.pop().flatten();
        if let Some(seat) = seat.filter(|seat| seat.consensus_key == *key) {
            return Ok(seat.consensus_from.map(Ok));
        }
        let owner: Option<state::KeyOwner> = self.values(vec![state::key_owner_key(key)]).await?.pop().flatten();
        let spent = || {
            Failure::Precondition(
                "the consensus key was named before and can never decide: another one has to be drawn".to_owned(),
            )
        };
        Ok(owner.map(|_| Err(spent())))
    }

    /// This organisation signs its entries by a new key, drawn here, from the next block on; whatever is not final by then is signed again.
    /// `leaked`: somebody else may have the present key. Gives the new key, and the height of the first block that it counts for.
    #[boxed]
    pub async fn rotate_entry_key(&self, caller: &Caller, leaked: bool) -> Result<(PublicKey, u64), Failure> {
        let (node, caller) = (self.clone(), caller.clone());
        to_the_end(async move { node.replace_entry_key(&caller, leaked).await }).await
    }

    async fn replace_entry_key(&self, caller: &Caller, leaked: bool) -> Result<(PublicKey, u64), Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        let Ok(_one) = self.replacing.try_lock() else {
            return Err(Failure::Conflict("the entry key is being replaced already".to_owned()));
        };
        // What an earlier attempt drew may count by now.
        self.follow_entry_key().await?;
        self.takes_writes()?;
        let key = self.signer.draw_next(&self.ledger, leaked).await?;
        self.take_step(caller, self.org.clone(), MemberStep::EntryKeyRotated(key)).await?;
        self.look_for_entry_key().await;
        if self.signer.public() != key {
            return Err(Failure::Conflict(
                "the new entry key counts on the ledger, and the gateway could not go over to it: its log says why, and it tries again with \
                 every block"
                    .to_owned(),
            ));
        }
        let seat: Option<state::Seat> = self.values(vec![state::seat_key(&self.org)]).await?.pop().flatten();
        let seat = seat.ok_or_else(|| Failure::Ours("the ledger names no seat of this organisation".to_owned()))?;
        Ok((key, seat.entry_from))
    }

    /// Takes a new entry key into use as soon as the ledger says that it counts.
    async fn follow_entry_key(&self) -> Result<(), Failure> {
        let was_spent = self.signer.is_spent();
        match self.signer.follow(&self.ledger, &self.genesis).await? {
            Standing::Counts => {}
            Standing::Replaced => self.lane.again(),
            Standing::Spent if was_spent => {}
            Standing::Spent => {
                tracing::error!(
                    org = %self.org,
                    "the entry key was replaced elsewhere: nothing is written until the latest folder of keys is in its place"
                );
            }
        }
        Ok(())
    }

    /// The same, where nobody waits for what comes of it.
    pub(crate) async fn look_for_entry_key(&self) {
        if let Err(error) = self.follow_entry_key().await {
            tracing::warn!(%error, "the entry key could not be looked up");
        }
    }

    /// Keys by which an organisation signed until a moment ago: what they signed may lie in the database still and be signed again.
    pub(crate) async fn entry_keys_lately(&self, org: &OrgId, news: &mut News) -> Result<Vec<PublicKey>, Failure> {
        if !std::mem::replace(&mut news.awaited, true) {
            // The state may name the next key before the mirror has the entry that says so.
            let (mut mirrored, height) = (self.mirror.watch_height(), self.ledger.status().height);
            let _ = tokio::time::timeout(NEWS_WAIT, mirrored.wait_for(|at| *at >= height)).await;
        }
        let keys = self.entry_keys_ever(org).await?;
        // By the ledger's own clock, which stands still when the ledger does: nothing is signed again then.
        let now = self.ledger.status().time;
        let named = self.named_keys.lock().await;
        let young = |time: &TimeMs| now.0.saturating_sub(time.0) <= PENDING_MS_MAX;
        let changes = named.changes.get(org).map(Vec::as_slice).unwrap_or_default();
        let lately: Vec<u64> = changes.iter().filter(|(_, time)| young(time)).map(|(from, _)| *from).collect();
        Ok(keys.iter().filter(|(_, until)| until.is_some_and(|at| lately.contains(&at))).map(|(key, _)| *key).collect())
    }

    /// Every key that an organisation ever signed its entries by, with the height since which it does not any more.
    pub(crate) async fn entry_keys_ever(&self, org: &OrgId) -> Result<EntryKeys, Failure> {
        let mut named = self.named_keys.lock().await;
        let mirrored = self.mirror.height();
        if let Some((at, keys)) = named.known.get(org)
            && *at == mirrored
        {
            return Ok(keys.clone());
        }
        // Each entry is looked through once.
        loop {
            let entries = self.mirror.entries(named.next, Some("member".to_owned()), ENTRIES_MAX).await?;
            let Some(last) = entries.last() else { break };
            named.next = last.index + 1;
            entries.iter().filter(|place| place.refused == 0).for_each(|place| named.read(place));
        }
        let founder = self.genesis.member(org).map(|member| member.entry_key);
        let of_org = named.keys.get(org).map(Vec::as_slice).unwrap_or_default();
        let all: Vec<PublicKey> = founder.into_iter().chain(of_org.iter().copied()).collect();
        let mut keys = Vec::new();
        for some in all.chunks(ledger::KEYS_MAX) {
            let owners = self.values::<state::KeyOwner>(some.iter().map(state::key_owner_key).collect()).await?;
            for (key, owner) in some.iter().zip(owners) {
                match owner {
                    // One that was proposed only never signed anything.
                    Some(owner) if owner.org == *org && owner.from.is_some() => keys.push((*key, owner.until)),
                    // Before the first block the state has none.
                    None if Some(*key) == founder => keys.push((*key, None)),
                    _ => {}
                }
            }
        }
        let keys: EntryKeys = keys.into();
        // Whoever writes to the database can name any number of others, which have none.
        if !all.is_empty() {
            named.known.insert(org.clone(), (mirrored, keys.clone()));
        }
        Ok(keys)
    }

    /// This organisation is reached elsewhere.
    #[boxed]
    pub async fn moves(&self, caller: &Caller, reach: Reach) -> Result<(), Failure> {
        self.take_step(caller, self.org.clone(), MemberStep::Moved(reach)).await?;
        Ok(())
    }

    /// Writes a step with its audit event, and waits until it is final.
    async fn take_step(&self, caller: &Caller, member: OrgId, step: MemberStep) -> Result<Id16, Failure> {
        self.allow_operation(caller, Action::Operate).await?;
        self.takes_writes()?;
        let time = self.now();
        let author = self.author(caller, time);
        let subject = self.nobody();
        let mut gathered = self.empty();
        let event = Event::MemberChanged { member, step };
        let derived = self.also(&mut gathered, &author, &Also { subject: subject.clone(), event })?;
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        self.trail(&mut gathered, caller, time, &Touched::nothing(&subject), &trail)?;
        let since = self.ledger.status().log_size;
        self.put(gathered).await?;
        self.step_is_final(derived.entry.id, since).await?;
        Ok(derived.entry.id)
    }

    async fn step_is_final(&self, id: Id16, since: u64) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + FINAL_WAIT;
        let mut height = self.mirror.watch_height();
        loop {
            height.mark_unchanged();
            let entries = self.mirror.entries(since, Some("member".to_owned()), ENTRIES_MAX).await?;
            let mine = |bytes: &[u8]| Entry::from_bytes(bytes).is_ok_and(|entry| entry.id == id);
            if let Some(entry) = entries.into_iter().find(|entry| mine(&entry.bytes)) {
                let refused = || Failure::Conflict(format!("the ledger refused it: {}", why(&entry)));
                return if entry.refused == 0 { Ok(()) } else { Err(refused()) };
            }
            if !matches!(tokio::time::timeout_at(until, height.changed()).await, Ok(Ok(()))) {
                return Err(Failure::Conflict(format!(
                    "`{id}` is written and becomes final when enough validators are there: see `vitaltrace ledger status`"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Digest, Purpose};

    #[test]
    fn keys_that_members_named_are_known_by_member_and_by_when_they_came_to_count() {
        let org = |name: &str| name.parse::<OrgId>().unwrap();
        let key = |n: u8| PublicKey::from([n; 32]);
        let joining = Joining {
            role: OrgRole::Hospital,
            entry_key: key(1),
            consensus_key: key(2),
            reach: Reach { wrap_key: "key".to_owned(), address: "host:1".to_owned() },
        };
        let mut named = NamedKeys::default();
        let steps = [
            ("mercy", MemberStep::JoinProposed(joining)),
            ("mercy", MemberStep::Seated(key(3))),
            ("mercy", MemberStep::EntryKeyRotated(key(4))),
            ("acme", MemberStep::EntryKeyRotated(key(5))),
        ];
        for (index, (member, step)) in (0..).zip(steps) {
            let entry = Entry {
                id: Id16([1; 16]),
                org: org("mercy"),
                time: TimeMs(1),
                purpose: Purpose::SystemAdmin,
                policy: Digest([0; 32]),
                actor: Digest([0; 32]),
                patient: None,
                month: None,
                body: Body::Member { member: org(member), step },
            };
            let (height, time, digest, bytes) = (index + 10, TimeMs(index), Digest([0; 32]), entry.to_bytes());
            named.read(&FinalEntry { index, height, time, digest, bytes, lane: 1, seq: index + 1, refused: 0 });
        }
        assert_eq!(named.keys[&org("mercy")], [key(1), key(4)]);
        assert_eq!(named.changes[&org("mercy")], [(13, TimeMs(2))]);
        assert_eq!(
            (&named.keys[&org("acme")][..], &named.changes[&org("acme")][..]),
            (&[key(5)][..], &[(14, TimeMs(3))][..])
        );
    }
}

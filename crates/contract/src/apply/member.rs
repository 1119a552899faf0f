//! Rules for who the members are, by which keys, and who of them decides.
//!
//! Joining and removing need more than two thirds of all members, as a policy does: whoever has so many is a quorum of the ledger anyway,
//! and fewer than a third can neither let anybody in nor hold anybody up. The vote that makes it so many brings it into force. No class of
//! members has a veto: it could keep out or keep in whom it likes, which is none of the things that classes are asked about.
//!
//! To be a member and to decide are two things. A member takes its seat by an entry of its own, so that nobody is counted who has not said
//! that its validator is there; and only so many seats change in an epoch that those who sat before are a quorum of the new set.

use super::{Case, Reject, ensure, governance};
use crate::{
    Entry, Joining, MEMBER_TEXT_BYTES_MAX, MEMBERS_MAX, MemberStep, PublicKey, Reach,
    state::{self, Key, KeyOwner, Membership, Organisation, Roll, Seat, Succession, Voter},
};
use ed25519_dalek::VerifyingKey;
use record::{Id16, OrgId};

/// The keys that a step reads or writes, besides those that only the state names.
pub(super) fn reads(entry: &Entry, member: &OrgId, step: &MemberStep, keys: &mut Vec<Key>) {
    keys.extend([state::organisation_key(member), state::seat_key(member)]);
    match step {
        MemberStep::JoinProposed(joining) => {
            keys.extend([joining.entry_key, joining.consensus_key].iter().map(state::key_owner_key));
            keys.extend([state::membership_key(&entry.id), state::roll_key()]);
        }
        MemberStep::RemovalProposed => keys.extend([state::membership_key(&entry.id), state::roll_key()]),
        MemberStep::Voted(id, _) => {
            keys.extend([state::membership_key(id), state::roll_key(), state::succession_key()]);
        }
        MemberStep::Left => keys.extend([state::roll_key(), state::succession_key()]),
        MemberStep::EntryKeyRotated(key) => keys.push(state::key_owner_key(key)),
        MemberStep::Seated(key) => keys.extend([state::key_owner_key(key), state::succession_key()]),
        MemberStep::Moved(_) => {}
    }
}

/// One step of membership. Which of them a member takes for itself, and which are about another, is the step's.
pub(super) fn member(case: &mut Case<'_>, member: &OrgId, step: &MemberStep) -> Result<(), Reject> {
    match step {
        MemberStep::JoinProposed(joining) => propose_joining(case, member, joining),
        MemberStep::RemovalProposed => propose_removal(case, member),
        MemberStep::Voted(id, yes) => vote(case, member, id, *yes),
        MemberStep::Left => {
            case.org_is(member)?;
            leave(case, member)
        }
        MemberStep::EntryKeyRotated(key) => rotate_entry_key(case, member, key),
        MemberStep::Seated(key) => take_seat(case, member, key),
        MemberStep::Moved(reach) => {
            case.org_is(member)?;
            ensure(is_reach(reach), Reject::Reach)?;
            let seat = seat(case, member)?;
            let same = seat.reach.wrap_key == reach.wrap_key;
            let wrap_from = if same { seat.wrap_from } else { case.block.height.saturating_add(1) };
            case.put(state::seat_key(member), &Seat { reach: reach.clone(), wrap_from, ..seat });
            Ok(())
        }
    }
}

fn propose_joining(case: &mut Case<'_>, member: &OrgId, joining: &Joining) -> Result<(), Reject> {
    ensure(is_reach(&joining.reach), Reject::Reach)?;
    ensure(!is_member(case, member), Reject::NotNew)?;
    let keys = [joining.entry_key, joining.consensus_key];
    ensure(joining.entry_key != joining.consensus_key, Reject::MemberKey)?;
    for key in keys {
        // Proposed for the same organisation before, and never used, is as good as new.
        let owner = case.get::<KeyOwner>(&state::key_owner_key(&key));
        let free = owner.is_none_or(|owner| owner.org == *member && owner.from.is_none());
        ensure(is_strong(&key) && free, Reject::MemberKey)?;
    }
    propose(case, member, Some(joining.clone()))?;
    for key in keys {
        case.put(state::key_owner_key(&key), &KeyOwner { org: member.clone(), from: None, until: None });
    }
    Ok(())
}

fn propose_removal(case: &mut Case<'_>, member: &OrgId) -> Result<(), Reject> {
    ensure(is_member(case, member), Reject::Unknown)?;
    ensure(case.entry.org != *member, Reject::OwnRemoval)?;
    propose(case, member, None)
}

fn propose(case: &mut Case<'_>, member: &OrgId, joining: Option<Joining>) -> Result<(), Reject> {
    let key = state::membership_key(&case.entry.id);
    ensure(case.state.read(&key).is_none(), Reject::NotNew)?;
    let (by, height) = (case.entry.org.clone(), case.block.height);
    let (member, votes, against) = (member.clone(), Vec::new(), Vec::new());
    case.put(key, &Membership { member, joining, by, height, votes, against, done: false });
    Ok(())
}

/// A vote, and what comes into force by it. A member of which the removal is proposed is counted and has no vote, so that no fewer than
/// four can remove one.
fn vote(case: &mut Case<'_>, member: &OrgId, id: &Id16, yes: bool) -> Result<(), Reject> {
    let key = state::membership_key(id);
    let mut held = case.get::<Membership>(&key).filter(|held| held.member == *member).ok_or(Reject::Unknown)?;
    let members = governance::members(case);
    let lost = |held: &Membership| governance::in_favour(&held.against, &members) * 3 >= members.len();
    ensure(!held.done && !lost(&held), Reject::Over)?;
    ensure(case.entry.org != *member, Reject::OwnRemoval)?;
    // Of a membership that ended since, everything that was open ended with it.
    let left_at = case.get::<Seat>(&state::seat_key(member)).and_then(|seat| seat.left_at);
    ensure(left_at.is_none_or(|left_at| left_at < held.height), Reject::Over)?;
    ensure(is_member(case, member) == held.joining.is_none(), Reject::Over)?;
    let org = case.entry.org.clone();
    let (mine, other) = if yes { (&mut held.votes, &held.against) } else { (&mut held.against, &held.votes) };
    ensure(!other.contains(&org), Reject::VotedAlready)?;
    governance::cast(mine, &org)?;
    if governance::in_favour(&held.votes, &members) * 3 > members.len() * 2 {
        match &held.joining {
            Some(joining) => join(case, member, joining, members)?,
            None => leave(case, member)?,
        }
        held.done = true;
    }
    case.put(key, &held);
    Ok(())
}

/// From the next block on the organisation is a member; it decides nothing before it takes its seat.
fn join(case: &mut Case<'_>, member: &OrgId, joining: &Joining, mut members: Vec<Voter>) -> Result<(), Reject> {
    ensure(members.len() < MEMBERS_MAX, Reject::MembersFull)?;
    if let Err(at) = members.binary_search_by(|voter| voter.org.cmp(member)) {
        members.insert(at, Voter { org: member.clone(), role: joining.role });
    }
    let key = state::organisation_key(member);
    let unreviewed = case.get::<Organisation>(&key).map_or(0, |before| before.unreviewed);
    let next = case.block.height.saturating_add(1);
    let Joining { role, entry_key, consensus_key, reach } = joining.clone();
    let seat = Seat { consensus_key, reach, entry_from: next, consensus_from: None, wrap_from: next, left_at: None };
    case.put(key, &Organisation { role, entry_key, left: false, unreviewed });
    case.put(state::seat_key(member), &seat);
    case.put(state::roll_key(), &Roll { members });
    let owner = KeyOwner { org: member.clone(), from: Some(next), until: None };
    case.put(state::key_owner_key(&entry_key), &owner);
    Ok(())
}

/// The member speaks no more from the next block on, and decides no more from the epoch after next.
fn leave(case: &mut Case<'_>, member: &OrgId) -> Result<(), Reject> {
    let key = state::organisation_key(member);
    let organisation = case.get::<Organisation>(&key).ok_or(Reject::Unknown)?;
    let seat = seat(case, member)?;
    unseat(case, member, &seat)?;
    let height = case.block.height;
    let mut members = governance::members(case);
    members.retain(|voter| voter.org != *member);
    case.put(state::roll_key(), &Roll { members });
    end(case, member, &organisation.entry_key, Some(seat.entry_from), height.saturating_add(1));
    case.put(key, &Organisation { left: true, ..organisation });
    case.put(state::seat_key(member), &Seat { left_at: Some(height), consensus_from: None, ..seat });
    Ok(())
}

/// A member replaces its own entry key by one that nobody has used: from the next block on it signs by the new one.
fn rotate_entry_key(case: &mut Case<'_>, member: &OrgId, key: &PublicKey) -> Result<(), Reject> {
    case.org_is(member)?;
    let owner_key = state::key_owner_key(key);
    ensure(is_strong(key) && case.state.read(&owner_key).is_none(), Reject::MemberKey)?;
    let seat = seat(case, member)?;
    let next = case.block.height.saturating_add(1);
    end(case, member, &case.member.entry_key.clone(), Some(seat.entry_from), next);
    let rotated = Organisation { entry_key: *key, ..case.member.clone() };
    case.put(state::organisation_key(member), &rotated);
    case.put(state::seat_key(member), &Seat { entry_from: next, ..seat });
    case.put(owner_key, &KeyOwner { org: member.clone(), from: Some(next), until: None });
    Ok(())
}

/// A member decides from the epoch after next by the key that it joined with, or by a new one in the place of its last: the answer to a
/// node that lost its folder, which must not vote again by a key whose votes it has forgotten.
fn take_seat(case: &mut Case<'_>, member: &OrgId, key: &PublicKey) -> Result<(), Reject> {
    case.org_is(member)?;
    let held = seat(case, member)?;
    let first = held.consensus_from.is_none() && held.consensus_key == *key;
    let owner_key = state::key_owner_key(key);
    ensure(first || (is_strong(key) && case.state.read(&owner_key).is_none()), Reject::MemberKey)?;
    let succession = case.get::<Succession>(&state::succession_key()).ok_or(Reject::Unknown)?;
    let old = held.consensus_from.map(|_| &held.consensus_key);
    let changed = succession.changed(case.block.height, old, Some(*key)).ok_or(Reject::Validators)?;
    let from = succession.counts_from(case.block.height);
    succeed(case, &changed);
    if !first {
        end(case, member, &held.consensus_key, held.consensus_from, from);
    }
    case.put(state::seat_key(member), &Seat { consensus_key: *key, consensus_from: Some(from), ..held });
    case.put(owner_key, &KeyOwner { org: member.clone(), from: Some(from), until: None });
    Ok(())
}

/// Takes the member's key out of the set of the epoch after next.
fn unseat(case: &mut Case<'_>, member: &OrgId, seat: &Seat) -> Result<(), Reject> {
    let succession = case.get::<Succession>(&state::succession_key()).ok_or(Reject::Unknown)?;
    let until = succession.counts_from(case.block.height);
    end(case, member, &seat.consensus_key, seat.consensus_from, until);
    if seat.consensus_from.is_some() {
        let changed = succession.changed(case.block.height, Some(&seat.consensus_key), None);
        succeed(case, &changed.ok_or(Reject::Validators)?);
    }
    Ok(())
}

/// The set of the epoch after next is also kept for those who follow the sets from the founders' on.
fn succeed(case: &mut Case<'_>, changed: &Succession) {
    if let Some(set) = changed.sets().last().filter(|set| set.previous.is_some()) {
        case.put(state::set_key(set.from), set);
    }
    case.put(state::succession_key(), changed);
}

/// A key counts no more from the height `until` on; one that never counted is spent.
fn end(case: &mut Case<'_>, member: &OrgId, key: &PublicKey, from: Option<u64>, until: u64) {
    let owner = KeyOwner { org: member.clone(), from: Some(from.unwrap_or(until)), until: Some(until) };
    case.put(state::key_owner_key(key), &owner);
}

fn seat(case: &Case<'_>, member: &OrgId) -> Result<Seat, Reject> {
    case.get::<Seat>(&state::seat_key(member)).ok_or(Reject::Unknown)
}

fn is_member(case: &Case<'_>, member: &OrgId) -> bool {
    case.get::<Organisation>(&state::organisation_key(member)).is_some_and(|organisation| !organisation.left)
}

fn is_strong(key: &PublicKey) -> bool {
    VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak())
}

fn is_reach(reach: &Reach) -> bool {
    let texts = [&reach.wrap_key, &reach.address];
    let printable = texts.iter().all(|text| {
        (1..=MEMBER_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let port = reach.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    printable && port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

//! Rules for who the members are, and by which keys.

use super::{Case, Reject, ensure};
use crate::{
    MemberStep,
    state::{self, Key, KeyOwner, Organisation},
};
use ed25519_dalek::VerifyingKey;
use record::OrgId;

pub(super) fn key(step: &MemberStep) -> Option<Key> {
    match step {
        MemberStep::EntryKeyRotated(key) => Some(state::key_owner_key(key)),
        MemberStep::JoinProposed(..) | MemberStep::Voted(_) | MemberStep::Left => None,
    }
}

/// A member replaces its own entry key by one that nobody has used: from the next block on it signs by the new one. Who is a
/// member does not change under this version of the rules.
pub(super) fn member(case: &mut Case<'_>, member: &OrgId, step: &MemberStep) -> Result<(), Reject> {
    let MemberStep::EntryKeyRotated(key) = step else { return Err(Reject::MembershipFixed) };
    case.org_is(member)?;
    let strong = VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| !key.is_weak());
    let owner_key = state::key_owner_key(key);
    ensure(strong && case.state.read(&owner_key).is_none(), Reject::MemberKey)?;
    let rotated = Organisation { entry_key: *key, ..case.member.clone() };
    case.put(state::organisation_key(member), &rotated);
    case.put(owner_key, &KeyOwner { org: member.clone() });
    Ok(())
}

//! Rules for policies: which was in force, what their documents say, and how members put another one in its place.

use super::{
    Case, Reject, ensure,
    governance::{cast, in_favour, members},
};
use crate::{
    DerivationPolicy, PolicyKind, PolicyPart, PolicyStep, document,
    state::{self, ActivePolicy, Key, PolicyBytes, PolicyTerm, PolicyText, Proposal, Retention, Voter},
};
use record::{Digest, OrgId, OrgRole};

/// How long after its end a policy may still have decided, in milliseconds: one day, for a gateway that was cut off from the
/// ledger and went on caring. Audit names such entries.
pub const POLICY_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// A class of members whose interests are alike, so that none of them changes a policy alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Care providers: emergency medical services and hospitals.
    Care,
    /// Payers: insurers.
    Payers,
    /// Oversight: compliance entities.
    Oversight,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Care, Self::Payers, Self::Oversight];

    /// The class of an organisation.
    pub fn of(role: OrgRole) -> Self {
        match role {
            OrgRole::Ems | OrgRole::Hospital => Self::Care,
            OrgRole::Insurer => Self::Payers,
            OrgRole::Compliance => Self::Oversight,
        }
    }

    /// The class in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Care => "care providers",
            Self::Payers => "payers",
            Self::Oversight => "oversight",
        }
    }
}

/// What a policy still lacks before the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// So many more votes of any members.
    Members(usize),
    /// So many more votes of members of a class.
    Of(Class, usize),
}

/// What `votes` lack to carry a policy: more than two thirds of the members, and at least half of each class that has members.
/// Votes of those who are no members today do not count. Nothing when it is carried.
pub fn lacking(votes: &[OrgId], members: &[Voter]) -> Vec<Lack> {
    let needed = members.len() * 2 / 3 + 1;
    let all = needed.saturating_sub(in_favour(votes, members));
    let mut lacking: Vec<Lack> = (all > 0).then_some(Lack::Members(all)).into_iter().collect();
    for class in Class::ALL {
        let voters: Vec<Voter> = members.iter().filter(|voter| Class::of(voter.role) == class).cloned().collect();
        let missing = voters.len().div_ceil(2).saturating_sub(in_favour(votes, &voters));
        lacking.extend((missing > 0).then_some(Lack::Of(class, missing)));
    }
    lacking
}

/// Whether no more votes can carry it: everybody who is not against it would not be enough.
pub fn is_lost(against: &[OrgId], members: &[Voter]) -> bool {
    let others = members.iter().map(|voter| &voter.org).filter(|org| against.binary_search(org).is_err());
    !lacking(&others.cloned().collect::<Vec<_>>(), members).is_empty()
}

/// The access policy named was in force at the entry's time, or ended less than [`POLICY_GRACE_MS`] before. What was decided
/// before a change of policy and is anchored after it is not lost.
pub(super) fn check_policy(case: &Case<'_>) -> Result<(), Reject> {
    let term = case.get::<PolicyTerm>(&state::policy_term_key(PolicyKind::Access, &case.entry.policy));
    let holds =
        term.is_some_and(|term| term.until.is_none_or(|until| case.entry.time < until.plus_ms(POLICY_GRACE_MS)));
    ensure(holds, Reject::PolicyNotInForce)
}

/// Every key that a step on a document may read or write, but the term that an activation ends.
pub(super) fn reads(org: &OrgId, kind: PolicyKind, document: &Digest, step: &PolicyStep, keys: &mut Vec<Key>) {
    keys.extend([state::policy_text_key(kind, document), state::retention_key(document)]);
    if let PolicyStep::Written(PolicyPart { part, of, .. }) = step {
        let last = part.checked_add(1) == Some(*of);
        // The last part is where the document is put together.
        let first = if last && *of <= document::POLICY_PARTS_MAX { 0 } else { *part };
        keys.extend((first..=*part).map(|part| state::policy_part_key(kind, document, org, part)));
        return;
    }
    keys.extend([state::policy_key(kind), state::proposal_key(kind, document), state::roll_key()]);
    keys.push(state::policy_term_key(kind, document));
}

/// Written in parts by any member, proposed by any, voted once by each, in force when [`lacking`] lacks nothing and its height is
/// reached. What was activated and replaced, or cannot be carried any more, may be proposed again.
pub(super) fn policy(
    case: &mut Case<'_>,
    kind: PolicyKind,
    document: &Digest,
    step: &PolicyStep,
) -> Result<(), Reject> {
    if let PolicyStep::Written(part) = step {
        return write(case, kind, document, part);
    }
    let key = state::proposal_key(kind, document);
    let held = case.get::<Proposal>(&key);
    let active = case.get::<ActivePolicy>(&state::policy_key(kind)).ok_or(Reject::Unknown)?;
    let members = members(case);
    let org = case.entry.org.clone();
    let height = case.block.height;
    let proposal = match (step, held) {
        (PolicyStep::Written(_), _) => return Ok(()),
        (PolicyStep::Proposed(from), held) => {
            let closed = |held: &Proposal| held.activated || is_lost(&held.against, &members);
            ensure(active.document != *document && held.as_ref().is_none_or(closed), Reject::NotNew)?;
            ensure(*from > height, Reject::Height)?;
            ensure(case.state.read(&state::policy_text_key(kind, document)).is_some(), Reject::Unknown)?;
            Proposal { org, height: *from, votes: Vec::new(), against: Vec::new(), activated: false }
        }
        (_, None) => return Err(Reject::Unknown),
        (PolicyStep::Voted(yes), Some(mut held)) => {
            ensure(!held.activated, Reject::Over)?;
            let (mine, other) = if *yes { (&mut held.votes, &held.against) } else { (&mut held.against, &held.votes) };
            ensure(!other.contains(&org), Reject::VotedAlready)?;
            cast(mine, &org)?;
            held
        }
        (PolicyStep::Activated, Some(held)) => {
            ensure(!held.activated, Reject::Over)?;
            ensure(height >= held.height, Reject::Height)?;
            ensure(lacking(&held.votes, &members).is_empty(), Reject::Votes)?;
            let ended = PolicyTerm { until: Some(case.block.time) };
            case.put(state::policy_term_key(kind, &active.document), &ended);
            case.put(state::policy_term_key(kind, document), &PolicyTerm { until: None });
            case.put(state::policy_key(kind), &ActivePolicy { document: *document, height });
            Proposal { activated: true, ..held }
        }
    };
    case.put(key, &proposal);
    Ok(())
}

/// A part of a document, kept under its writer's name, so that nobody else's parts stand in its way. With the last one the document
/// is put together: the digest must name it, and a derivation policy must be one. A Cedar set is not read here, as no policy engine
/// takes part in execution: gateways do before they propose or vote.
fn write(case: &mut Case<'_>, kind: PolicyKind, document: &Digest, part: &PolicyPart) -> Result<(), Reject> {
    let text = state::policy_text_key(kind, document);
    ensure(case.state.read(&text).is_none(), Reject::NotNew)?;
    ensure(document::fits(part), Reject::Document)?;
    let org = case.entry.org.clone();
    if part.part + 1 == part.of {
        let mut bytes = Vec::new();
        for earlier in 0..part.part {
            let held = case.get::<PolicyBytes>(&state::policy_part_key(kind, document, &org, earlier));
            bytes.extend(held.ok_or(Reject::Document)?.bytes);
        }
        bytes.extend(&part.bytes);
        ensure(document::digest(kind, &bytes) == *document, Reject::Document)?;
        if kind == PolicyKind::Derivation {
            let policy = derivation_policy(&bytes).ok_or(Reject::Document)?;
            if let Some(retention) = policy.retention() {
                case.put(state::retention_key(document), &Retention { keep_s: retention.keep_s });
            }
        }
        case.put(text, &PolicyText { org: org.clone(), parts: part.of });
    }
    case.put(state::policy_part_key(kind, document, &org, part.part), &PolicyBytes { bytes: part.bytes.clone() });
    Ok(())
}

fn derivation_policy(bytes: &[u8]) -> Option<DerivationPolicy> {
    DerivationPolicy::parse(std::str::from_utf8(bytes).ok()?).ok()
}

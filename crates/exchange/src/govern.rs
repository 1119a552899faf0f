//! Policies by vote: proposed with their documents, voted by the members, activated when they are due.

use crate::{
    boxed,
    caller::Caller,
    failure::Failure,
    inforce::{KINDS, read, word},
    mirror::FinalEntry,
    node::Node,
    write::{Also, Touched, Trail},
};
use contract::{
    AccessAction, Body, Class, Entry, Event, Lack, PolicyKind, PolicyStep, Reject, document, is_lost, lacking,
    state::{self, ActivePolicy, PolicyTerm, PolicyText, Proposal, Roll, Voter},
};
use policy::Action;
use record::{Digest, Id16, OrgId, Purpose, Role, fhir::Interaction};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a proposal or a vote waits to become final before it is answered.
const FINAL_WAIT: Duration = Duration::from_secs(30);
/// How long a vote waits for a proposal of another member to become final here.
const NEWS_WAIT: Duration = Duration::from_secs(10);
/// Blocks that a proposal needs to be final before its height: a height below that is no use.
const NOTICE_BLOCKS: u64 = 5;
/// Blocks by which each further member waits longer before it activates what the proposer has not.
const TURN_BLOCKS: u64 = 20;
/// Blocks after which an activation that did not become final is tried again.
const AGAIN_BLOCKS: u64 = 60;
/// Entries about policies that are looked at in one go.
const ENTRIES_AT_ONCE: usize = 64;

/// When a policy comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this height.
    At(u64),
    /// So many blocks from now.
    In(u64),
}

/// A proposal that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Which kind of policy.
    pub kind: PolicyKind,
    /// Names its document.
    pub document: Digest,
    /// In force from this height, if voted.
    pub height: u64,
}

/// A proposal before the members.
struct Ballot {
    kind: PolicyKind,
    document: Digest,
    proposal: Proposal,
    members: Vec<Voter>,
}

impl Ballot {
    fn lacks(&self) -> Vec<Lack> {
        lacking(&self.proposal.votes, &self.members)
    }

    fn is_lost(&self) -> bool {
        is_lost(&self.proposal.against, &self.members)
    }

    /// When a member may activate it: the proposer as soon as it is due, the others one after the other if that does not happen.
    fn turn_of(&self, org: &OrgId) -> u64 {
        let others = self.members.iter().filter(|voter| voter.org != self.proposal.org);
        let place = others.map(|voter| &voter.org).position(|other| other == org);
        let turns = if *org == self.proposal.org { Some(0) } else { place.map(|place| place as u64 + 1) };
        turns.map_or(u64::MAX, |turns| self.proposal.height.saturating_add(turns * TURN_BLOCKS))
    }
}

impl Node {
    /// Puts a policy document before the members, and votes for it at once. Answered when others can vote.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn propose_policy(
        &self,
        caller: &Caller,
        kind: PolicyKind,
        bytes: &[u8],
        when: When,
    ) -> Result<Proposed, Failure> {
        self.allow_operation(caller, Action::Govern).await?;
        let refuse = |text: String| Failure::invalid(record::fhir::IssueType::Invalid, "", text);
        read(kind, bytes).map_err(|why| refuse(format!("this is no {} policy: {why}", word(kind))))?;
        let parts = document::parts(kind, bytes)
            .ok_or_else(|| refuse(format!("a policy has at most {} bytes", document::bytes_max(kind))))?;
        let document = document::digest(kind, bytes);
        let now = self.mirror.height();
        let height = match when {
            When::At(height) => height,
            When::In(blocks) => now.saturating_add(blocks),
        };
        if height < now + NOTICE_BLOCKS {
            let text = format!(
                "the ledger is at height {now}: a policy comes into force {NOTICE_BLOCKS} blocks later at the earliest"
            );
            return Err(Failure::Conflict(text));
        }
        let active: Option<ActivePolicy> = self.ledger_value(state::policy_key(kind)).await?;
        if active.is_some_and(|active| active.document == document) {
            return Err(Failure::Conflict("this policy is in force already".to_owned()));
        }
        if let Some(open) = self.ballot_of(kind, document).await?
            && !open.proposal.activated
            && !open.is_lost()
        {
            return Err(Failure::Conflict(format!(
                "`{}` proposed this policy, and the vote is open",
                open.proposal.org
            )));
        }
        let known: Option<PolicyText> = self.ledger_value(state::policy_text_key(kind, &document)).await?;
        let mut steps: Vec<PolicyStep> = match known {
            Some(_) => Vec::new(),
            None => parts.into_iter().map(PolicyStep::Written).collect(),
        };
        steps.extend([PolicyStep::Proposed(height), PolicyStep::Voted(true)]);
        self.take_policy_steps(caller, kind, document, steps, true).await?;
        Ok(Proposed { kind, document, height })
    }

    /// Votes on a policy. Who votes for one must be able to read it: else the members put in force what some of them cannot follow.
    /// Answered when the vote counts.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn vote_policy(&self, caller: &Caller, document: Digest, yes: bool) -> Result<PolicyKind, Failure> {
        self.allow_operation(caller, Action::Govern).await?;
        let ballot = self.proposal(document).await?;
        let kind = ballot.kind;
        if ballot.proposal.activated {
            return Err(Failure::Conflict("this vote is over: the policy was put in force".to_owned()));
        }
        if ballot.proposal.votes.contains(&self.org) || ballot.proposal.against.contains(&self.org) {
            return Err(Failure::Conflict("this organisation has voted already".to_owned()));
        }
        if yes {
            let bytes = self.policy_bytes(kind, &document).await?;
            let bytes = bytes.ok_or_else(|| Failure::Conflict("the ledger does not hold this document".to_owned()))?;
            read(kind, &bytes).map_err(|why| {
                Failure::Conflict(format!("this program cannot read the policy, and does not vote for it: {why}"))
            })?;
        }
        self.take_policy_steps(caller, kind, document, vec![PolicyStep::Voted(yes)], true).await?;
        Ok(kind)
    }

    /// The policies in force and every proposal there was, for everybody: they say nothing about anybody's health.
    #[boxed]
    pub async fn policies_shown(&self) -> Result<Value, Failure> {
        let mut in_force = serde_json::Map::new();
        for kind in KINDS {
            let active: Option<ActivePolicy> = self.ledger_value(state::policy_key(kind)).await?;
            let (document, height) =
                active.map_or((self.digest_in_use(kind), 0), |active| (active.document, active.height));
            let used = self.digest_in_use(kind) == document;
            let shown = json!({"document": document, "since_height": height, "read_by_this_node": used});
            in_force.insert(word(kind).to_owned(), shown);
        }
        let mut proposals = Vec::new();
        for (kind, document) in self.proposals_since(&mut 0).await? {
            if let Some(ballot) = self.ballot_of(kind, document).await? {
                proposals.push(self.shown(&ballot).await?);
            }
        }
        Ok(json!({"height": self.mirror.height(), "in_force": in_force, "proposals": proposals}))
    }

    /// The bytes of a policy document on the ledger.
    #[boxed]
    pub async fn policy_document(&self, document: Digest) -> Result<(PolicyKind, Vec<u8>), Failure> {
        for kind in KINDS {
            if let Some(bytes) = self.policy_bytes(kind, &document).await? {
                return Ok((kind, bytes));
            }
        }
        Err(Failure::NotFound(format!("policy {document}")))
    }

    async fn shown(&self, ballot: &Ballot) -> Result<Value, Failure> {
        let Ballot { kind, document, proposal, members } = ballot;
        let term: Option<PolicyTerm> = self.ledger_value(state::policy_term_key(*kind, document)).await?;
        let (lacks, lost) = (ballot.lacks(), ballot.is_lost());
        let state = match term {
            Some(PolicyTerm { until: None }) => "in force",
            Some(_) if proposal.activated => "replaced",
            _ if lost => "voted down",
            _ if !lacks.is_empty() => "open",
            _ if self.mirror.height() < proposal.height => "carried",
            _ => "due",
        };
        let lacks: Vec<String> =
            if proposal.activated { Vec::new() } else { lacks.iter().map(lack_in_words).collect() };
        let silent = members.iter().map(|voter| &voter.org);
        let silent: Vec<&OrgId> =
            silent.filter(|org| !proposal.votes.contains(org) && !proposal.against.contains(org)).collect();
        Ok(json!({
            "kind": word(*kind), "document": document, "proposed_by": proposal.org, "height": proposal.height,
            "state": state, "for": proposal.votes, "against": proposal.against, "silent": silent, "lacks": lacks
        }))
    }

    /// The proposal of a document, as soon as it is final here, or after a while.
    async fn proposal(&self, document: Digest) -> Result<Ballot, Failure> {
        let until = tokio::time::Instant::now() + NEWS_WAIT;
        let mut height = self.mirror.watch_height();
        loop {
            height.mark_unchanged();
            for kind in KINDS {
                if let Some(ballot) = self.ballot_of(kind, document).await? {
                    return Ok(ballot);
                }
            }
            if !matches!(tokio::time::timeout_at(until, height.changed()).await, Ok(Ok(()))) {
                return Err(Failure::NotFound(format!("proposal of the policy {document}")));
            }
        }
    }

    async fn ballot_of(&self, kind: PolicyKind, document: Digest) -> Result<Option<Ballot>, Failure> {
        let proposal: Option<Proposal> = self.ledger_value(state::proposal_key(kind, &document)).await?;
        let roll: Option<Roll> = self.ledger_value(state::roll_key()).await?;
        let (Some(proposal), Some(roll)) = (proposal, roll) else { return Ok(None) };
        Ok(Some(Ballot { kind, document, proposal, members: roll.members }))
    }

    /// Documents that were proposed in entries from `next` on, which is set to where the next look begins.
    async fn proposals_since(&self, next: &mut u64) -> Result<BTreeSet<(PolicyKind, Digest)>, Failure> {
        let mut proposed = BTreeSet::new();
        loop {
            let entries = self.mirror.entries(*next, Some("policy".to_owned()), ENTRIES_AT_ONCE).await?;
            let Some(last) = entries.last() else { return Ok(proposed) };
            *next = last.index + 1;
            for entry in entries.iter().filter(|entry| entry.refused == 0) {
                let Ok(entry) = Entry::from_bytes(&entry.bytes) else { continue };
                if let Body::Policy { kind, document, step: PolicyStep::Proposed(_) } = entry.body {
                    proposed.insert((kind, document));
                }
            }
        }
    }

    /// Writes steps with an audit event about them, and waits until they count when `wait`.
    async fn take_policy_steps(
        &self,
        caller: &Caller,
        kind: PolicyKind,
        document: Digest,
        steps: Vec<PolicyStep>,
        wait: bool,
    ) -> Result<(), Failure> {
        self.takes_writes()?;
        let (time, nobody) = (self.now(), self.nobody());
        let author = self.author(caller, time);
        let (mut gathered, mut ids) = (self.empty(), Vec::new());
        for step in steps {
            let event = Event::PolicyMoved { kind, document, step };
            let derived = self.also(&mut gathered, &author, &Also { subject: nobody.clone(), event })?;
            ids.push(derived.entry.id);
        }
        let trail = Trail::of(Interaction::Operation, AccessAction::Write);
        self.trail(&mut gathered, caller, time, &Touched::nothing(&nobody), &trail)?;
        self.put(gathered).await?;
        if wait { self.all_accepted(&ids).await } else { Ok(()) }
    }

    /// Waits until entries are final, and fails when the ledger refused one of them.
    async fn all_accepted(&self, ids: &[Id16]) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + FINAL_WAIT;
        let mut height = self.mirror.watch_height();
        for id in ids {
            loop {
                height.mark_unchanged();
                match self.mirror.entry(*id, &self.org).await? {
                    Some(FinalEntry { refused: 0, .. }) => break,
                    Some(FinalEntry { refused, .. }) => {
                        let why =
                            Reject::from_code(refused).map_or_else(|| format!("code {refused}"), |r| r.to_string());
                        return Err(Failure::Conflict(format!("the ledger refused it: {why}")));
                    }
                    None => {}
                }
                if !matches!(tokio::time::timeout_at(until, height.changed()).await, Ok(Ok(()))) {
                    let text = "it is written, and becomes final when enough validators are there: see `vitaltrace ledger status`";
                    return Err(Failure::Conflict(text.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Activates what members carried and whose height has come, for ever.
    pub(crate) async fn activate_policies(self) {
        let mut height = self.mirror.watch_height();
        let (mut next, mut open, mut tried) = (0, BTreeSet::new(), BTreeMap::new());
        loop {
            height.mark_unchanged();
            if let Err(error) = self.activate_due(&mut next, &mut open, &mut tried).await {
                tracing::warn!(%error, "policies that may be due could not be looked at");
            }
            if height.changed().await.is_err() {
                return;
            }
        }
    }

    async fn activate_due(
        &self,
        next: &mut u64,
        open: &mut BTreeSet<(PolicyKind, Digest)>,
        tried: &mut BTreeMap<(PolicyKind, Digest), u64>,
    ) -> Result<(), Failure> {
        open.append(&mut self.proposals_since(next).await?);
        let now = self.mirror.height();
        for (kind, document) in open.clone() {
            let Some(ballot) = self.ballot_of(kind, document).await? else { continue };
            if ballot.proposal.activated || ballot.is_lost() {
                // Proposed again, it is in a later entry.
                open.remove(&(kind, document));
                continue;
            }
            let recently = tried.get(&(kind, document)).is_some_and(|at| now < at + AGAIN_BLOCKS);
            if recently || now + 1 < ballot.turn_of(&self.org) || !ballot.lacks().is_empty() {
                continue;
            }
            tried.insert((kind, document), now);
            let clerk = Caller { purpose: Purpose::SystemAdmin, ..self.machine("policy-clerk", Role::Custodian) };
            self.take_policy_steps(&clerk, kind, document, vec![PolicyStep::Activated], false).await?;
            tracing::info!(%document, height = now, "the members carried this {} policy: it is activated", word(kind));
        }
        Ok(())
    }
}

fn lack_in_words(lack: &Lack) -> String {
    match lack {
        Lack::Members(1) => "one more member".to_owned(),
        Lack::Members(more) => format!("{more} more members"),
        Lack::Of(class, 1) => format!("one more of the {}", plural(*class)),
        Lack::Of(class, more) => format!("{more} more of the {}", plural(*class)),
    }
}

fn plural(class: Class) -> &'static str {
    match class {
        Class::Oversight => "compliance entities",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::OrgRole;

    #[test]
    fn the_proposer_activates_first_and_every_other_member_has_a_turn_of_its_own() {
        let org = |name: &str| name.parse::<OrgId>().unwrap();
        let voter = |name: &str, role| Voter { org: org(name), role };
        let ballot = Ballot {
            kind: PolicyKind::Access,
            document: Digest([1; 32]),
            proposal: Proposal {
                org: org("mercy"),
                height: 100,
                votes: vec![org("acme"), org("mercy")],
                against: vec![],
                activated: false,
            },
            members: vec![
                voter("acme", OrgRole::Insurer),
                voter("mercy", OrgRole::Hospital),
                voter("watch", OrgRole::Compliance),
            ],
        };
        let turns = ["mercy", "acme", "watch", "stranger"].map(|name| ballot.turn_of(&org(name)));
        assert_eq!(turns, [100, 100 + TURN_BLOCKS, 100 + 2 * TURN_BLOCKS, u64::MAX]);
        let words: Vec<String> = ballot.lacks().iter().map(lack_in_words).collect();
        assert_eq!(words, ["one more member", "one more of the compliance entities"]);
        assert!(!ballot.is_lost());
    }
}

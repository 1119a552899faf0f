//! Evidence about one patient, as one file that anybody can verify.

use crate::{boxed, caller::Caller, failure::Failure, mirror::FinalEntry, node::Node, row::bytes_are, write::Trail};
use contract::{
    AccessAction, Body, Entry, Gathered, LastMonth, MonthOpening, PolicyKind, PublicKey, from_cbor,
    merkle::Frontier,
    state::{self, Key},
};
use evidence::{
    Finality, GatheredAccess, Limits, Log, LoggedEntry, MonthLog, Opened, OpenedLink, Parts, Place, Policies,
    StateProof, Witness,
};
use policy::Action;
use record::{
    Digest, Id16, Month, OrgId, PatientKey, Pseudonym,
    fhir::{Interaction, IssueType},
};
use std::{collections::BTreeMap, time::Duration};
use store::{Row, VersionKey};

mod alone;
mod beside;
mod sealed;

use beside::Beside;
use sealed::{PROVEN_KEYS_MAX, Sealed};

/// How often the ledger is asked anew because the patient's log grew while it was proven; what came last is then given without what else
/// could be shown of it.
const ROUNDS_MAX: usize = 4;
/// How long evidence waits until the mirror has what the ledger proved.
const MIRROR_WAIT: Duration = Duration::from_secs(10);

/// Which evidence is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    /// For a compliance entity: its open case.
    pub case: Option<Id16>,
    /// Height of a block that the reader knows to be final: the evidence goes through it.
    pub through: Option<u64>,
    /// Only entries of this height and above.
    pub from: Option<u64>,
    /// Only entries of this height and below.
    pub to: Option<u64>,
}

impl Scope {
    /// The range of heights that is asked for, where it is not everything up to `height`.
    fn range(&self, height: u64) -> Option<(u64, u64)> {
        let range = (self.from.unwrap_or(0), self.to.unwrap_or(height).min(height));
        (self.from.is_some() || self.to.is_some()).then_some(range)
    }
}

/// A patient's months under a header.
struct Filed {
    months: Vec<MonthLog>,
    given: Vec<Given>,
}

/// An entry that the evidence gives.
struct Given {
    month: Month,
    /// Its index among those that are given of the month.
    at: u64,
    /// Its index in the log of all entries.
    index: u64,
    entry: Entry,
}

impl Node {
    /// A patient's log with its opened records, and what the ledger has of these now, as one file that anybody can verify: all of the log, or
    /// all in a range of heights.
    #[tracing::instrument(level = "debug", skip_all)]
    #[boxed]
    pub async fn prove(&self, caller: &Caller, patient: &str, scope: Scope) -> Result<Vec<u8>, Failure> {
        if let (Some(from), Some(to)) = (scope.from, scope.to)
            && from > to
        {
            let text = format!("there are no heights from {from} to {to}: `from` must not be above `to`");
            return Err(Failure::invalid(IssueType::Value, "", text));
        }
        let decided = self.allow_about(caller, Action::Prove, patient).await?;
        if scope.case.is_some() && scope.case != decided.under {
            return Err(Failure::NotFound("this case, open and about this patient".to_owned()));
        }
        let key = self.patient_key(patient).await?;
        let key = key.ok_or_else(|| Failure::NotFound(format!("Patient/{patient}")))?;
        let bundle = self.assemble(&key, scope).await?;
        let trail = Trail { under: decided.under, ..Trail::of(Interaction::Operation, AccessAction::Export) };
        self.leave_trail(caller, Some(patient), &[], &[format!("Patient/{patient}")], &trail).await?;
        Ok(bundle)
    }

    async fn assemble(&self, key: &PatientKey, scope: Scope) -> Result<Vec<u8>, Failure> {
        let months = self.months();
        let members = self.member_names().await?;
        let policies = [PolicyKind::Access, PolicyKind::Derivation].map(state::policy_key);
        let needed = || {
            let logs = months.iter().map(move |month| state::log_key(&key.pseudonym(*month)));
            policies.into_iter().chain(members.iter().map(state::organisation_key)).chain(logs)
        };
        // Which records and devices there are to be shown is known only from the logs, so these are proven twice.
        let mut asked = Beside::default();
        let mut round = 0;
        let (sealed, filed, beside) = loop {
            let keys: Vec<Key> = needed().chain(asked.keys()).collect();
            let full = keys.len() > PROVEN_KEYS_MAX;
            let sealed = self.seal(&keys).await?;
            self.mirrored(sealed.header.height).await?;
            let filed = self.filed(key, &months, &sealed, scope.range(sealed.header.height)).await?;
            let beside = self.beside(filed.given.iter().map(|given| &given.entry)).await?;
            round += 1;
            if beside.is_in(&asked) || full || round == ROUNDS_MAX {
                break (sealed, filed, beside);
            }
            asked = beside;
        };
        // First, as the others speak about the latest headers only.
        let witnesses = self.witnesses(members, &sealed).await;
        let (mut opened, mut accesses) = (Vec::new(), Vec::new());
        for given in &filed.given {
            opened.extend(self.open_record(&given.entry).await?);
            if matches!(given.entry.body, Body::Accesses { .. }) {
                self.open_accesses(given, &mut accesses, &mut opened).await?;
            }
        }
        let policy = |key: Key| sealed.value(&key).ok_or_else(|| Failure::Ours("the ledger has no policy".to_owned()));
        let [access, derivation] = policies;
        let handovers = match scope.through {
            None => sealed.handovers.clone(),
            Some(_) => self.handovers(sealed.header.height, scope.through).await?,
        };
        let parts = Parts {
            policies: Policies { access: policy(access)?, derivation: policy(derivation)? },
            opened,
            current: beside.current(&sealed),
            devices: beside.devices(&sealed),
            places: self.places(&filed, sealed.header.log_size).await?,
            accesses,
            witnesses,
            months: filed.months,
            finality: Finality {
                genesis: self.genesis.to_bytes(),
                header: sealed.header.to_bytes(),
                certificate: sealed.certificate,
                handovers,
            },
        };
        // What is given away is checked first by the same rules that a stranger will apply.
        let (bytes, _report) = evidence::prove(parts, &self.genesis.id(), &Limits::default())
            .map_err(|e| Failure::ours("the evidence does not verify", e))?;
        Ok(bytes)
    }

    /// Waits until the mirror has the blocks up to a height: what is proven must be there to be shown.
    async fn mirrored(&self, height: u64) -> Result<(), Failure> {
        let mut mirrored = self.mirror.watch_height();
        let waiting = mirrored.wait_for(|at| *at >= height);
        let waited = tokio::time::timeout(MIRROR_WAIT, waiting).await;
        waited
            .map_err(|e| Failure::ours("the mirror is behind the ledger", e))?
            .map_err(|e| Failure::ours("the mirror stopped", e))?;
        Ok(())
    }

    /// The months of a patient, or the entries of a range of heights in each.
    async fn filed(
        &self,
        key: &PatientKey,
        months: &[Month],
        sealed: &Sealed,
        range: Option<(u64, u64)>,
    ) -> Result<Filed, Failure> {
        let mut filed = Filed { months: Vec::with_capacity(months.len()), given: Vec::new() };
        let mut earlier: Vec<Past> = Vec::new();
        for month in months {
            let pseudonym = key.pseudonym(*month);
            let log_key = state::log_key(&pseudonym);
            let log = if let Some(head) = sealed.value(&log_key) {
                let entries = self.mirror.log(pseudonym, sealed.header.height).await?;
                let (log, given) = month_log(key, *month, head, entries, range, &mut earlier)?;
                filed.given.extend(given);
                log
            } else {
                let proof = sealed.absence(&log_key);
                Log::Absent { proof: proof.ok_or_else(|| Failure::Ours("the ledger proved too little".to_owned()))? }
            };
            filed.months.push(MonthLog { month: *month, pseudonym, log });
        }
        // A month after the last entry says nothing, and would only make the file look as if something were left out.
        while filed.months.last().is_some_and(|last| matches!(last.log, Log::Absent { .. })) {
            filed.months.pop();
        }
        Ok(filed)
    }

    /// Where the entries stand in the log of all entries, of which there are `size`. None at all, if the mirror does not have that log from
    /// its beginning.
    async fn places(&self, filed: &Filed, size: u64) -> Result<Vec<Place>, Failure> {
        let mut given: Vec<&Given> = filed.given.iter().collect();
        given.sort_by_key(|given| given.index);
        let Some(paths) = self.mirror.paths(given.iter().map(|given| given.index).collect(), size).await? else {
            tracing::warn!("evidence goes out without places: the mirror does not have the log from its beginning");
            return Ok(Vec::new());
        };
        let place = |(given, path): (&Given, Vec<Digest>)| Place {
            month: given.month,
            entry: given.at,
            index: given.index,
            path,
        };
        Ok(given.into_iter().zip(paths).map(place).collect())
    }

    /// The members at the header with their keys, each with its word on the log if it gave one in time.
    async fn witnesses(&self, members: Vec<OrgId>, sealed: &Sealed) -> Vec<Witness> {
        let member = |org: OrgId| {
            let proof = sealed.value(&state::organisation_key(&org))?;
            let held: state::Organisation = from_cbor("member", &proof.value, state::VALUE_BYTES_MAX).ok()?;
            (!held.left).then_some((org, (proof, held.entry_key)))
        };
        let members: BTreeMap<OrgId, (StateProof, PublicKey)> = members.into_iter().filter_map(member).collect();
        let keys = members.iter().map(|(org, (_, key))| (org.clone(), *key)).collect();
        let mut words = self.words(&sealed.header, &keys).await;
        let witness = |(org, (member, _)): (OrgId, (StateProof, PublicKey))| {
            let word = words.remove(&org);
            Witness { org, member, word }
        };
        members.into_iter().map(witness).collect()
    }

    /// The bytes and salt of the version that an entry commits to, if a good row or an essential copy has them.
    async fn open_record(&self, entry: &Entry) -> Result<Option<Opened>, Failure> {
        let Some((tag, version, commitment)) = crate::row::committed(entry) else { return Ok(None) };
        let Some(name) = self.name_of(tag, entry.id).await? else { return Ok(None) };
        let Some((rtype, id)) = name.split_once('/') else { return Ok(None) };
        let key = VersionKey { rtype: rtype.to_owned(), id: id.to_owned(), version };
        let row = self.store.vread(key).await.map_err(crate::find::search_failure)?;
        let fits = |row: &Row| row.tag == tag && record::commit(&row.salt, &row.bytes) == commitment;
        Ok(row.filter(fits).map(|row| Opened { record: name, version, salt: row.salt, bytes: row.bytes }))
    }

    /// The accesses that an entry commits to together, as far as rows open them, and their audit events.
    async fn open_accesses(
        &self,
        given: &Given,
        accesses: &mut Vec<GatheredAccess>,
        opened: &mut Vec<Opened>,
    ) -> Result<(), Failure> {
        let found = self.store.gathered(given.entry.id).await.map_err(crate::find::search_failure)?;
        let mut shown = BTreeMap::new();
        for row in found.rows.iter().filter(|row| row.author == given.entry.org) {
            let Some(gathered) = row.gathered.as_deref().and_then(|bytes| Gathered::from_bytes(bytes).ok()) else {
                continue;
            };
            let Ok(access) = gathered.open(&given.entry) else { continue };
            let Some((tag, version, commitment)) = crate::row::committed(&access) else { continue };
            let holds = row.tag == tag && row.version == version && bytes_are(row, &commitment);
            let is_better =
                shown.get(&gathered.place).is_none_or(|(_, held): &(_, Option<&Row>)| held.is_none() && holds);
            if is_better {
                shown.insert(gathered.place, (gathered, holds.then_some(row)));
            }
        }
        for (place, (Gathered { access, path, .. }, row)) in shown {
            accesses.push(GatheredAccess { month: given.month, entry: given.at, place, access, path });
            opened.extend(row.map(|row| Opened {
                record: format!("{}/{}", row.rtype, row.id),
                version: row.version,
                salt: row.salt,
                bytes: row.bytes.clone(),
            }));
        }
        Ok(())
    }

    /// What a record is called: remembered, or as the database says; wrong names open nothing.
    async fn name_of(&self, tag: record::RecordTag, entry: Id16) -> Result<Option<String>, Failure> {
        if let Some(name) = self.mirror.name(tag).await? {
            return Ok(Some(name));
        }
        let place = self.store.entry(entry).await.map_err(crate::find::search_failure)?;
        Ok(place.and_then(|place| place.record).map(|key| format!("{}/{}", key.rtype, key.id)))
    }
}

/// One month's log, or a part of it, and the entries that are given. `earlier` gets the log, for the links of the months after.
fn month_log(
    key: &PatientKey,
    month: Month,
    head: StateProof,
    entries: Vec<FinalEntry>,
    range: Option<(u64, u64)>,
    earlier: &mut Vec<Past>,
) -> Result<(Log, Vec<Given>), Failure> {
    let read = |place: &FinalEntry| Entry::from_bytes(&place.bytes);
    let read = entries.iter().map(read).collect::<Result<Vec<Entry>, _>>();
    let read = read.map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
    let indices: Vec<u64> = entries.iter().map(|place| place.index).collect();
    let leaf = |place: &FinalEntry| state::log_leaf(place.height, place.time, &place.digest);
    let past = Past::new(key.pseudonym(month), entries.iter().map(leaf));
    let logged: Vec<LoggedEntry> = entries
        .into_iter()
        .map(|place| LoggedEntry { height: place.height, time: place.time, entry: place.bytes })
        .collect();
    let (log, begin) = match range {
        Some(range) => {
            let part = evidence::part(head, &logged, range);
            let part = part.ok_or_else(|| Failure::Ours("the mirror lacks a log that the ledger has".to_owned()))?;
            let begin = part.before.size().saturating_add(u64::from(part.left.is_some()));
            (Log::Part(part), usize::try_from(begin).unwrap_or(usize::MAX))
        }
        None => {
            let opening = read.first().and_then(|entry| open_link(key, entry, month, earlier));
            let links = opening.into_iter().map(|opening| OpenedLink { entry: 0, opening }).collect();
            (Log::Present { head, entries: logged, links }, 0)
        }
    };
    earlier.push(past);
    let given = read.into_iter().zip(indices).skip(begin).take(log.len());
    let given = (0..).zip(given).map(|(at, (entry, index))| Given { month, at, index, entry });
    Ok((log, given.collect()))
}

/// A month's log: its root at every count.
struct Past {
    pseudonym: Pseudonym,
    roots: Vec<Digest>,
}

impl Past {
    fn new(pseudonym: Pseudonym, leaves: impl Iterator<Item = Digest>) -> Self {
        let mut frontier = Frontier::default();
        let mut roots = vec![frontier.root()];
        for leaf in leaves {
            frontier.push(leaf);
            roots.push(frontier.root());
        }
        Self { pseudonym, roots }
    }
}

/// Opens the link of a month's first entry: to the log before it, as far as its author saw it, or to none.
///
/// The author may have seen nothing where there is a log now, since entries came late. When those are in an earlier month than the
/// one that the link names, a verifier could not tell this from a month that was left out: then the link stays closed.
fn open_link(key: &PatientKey, entry: &Entry, month: Month, earlier: &[Past]) -> Option<MonthOpening> {
    let link = entry.month?;
    let none = earlier.is_empty().then(|| LastMonth::none(key, month));
    let seen = earlier.iter().rev().flat_map(|past| {
        let counts = past.roots.iter().enumerate().rev();
        counts.map(|(count, root)| LastMonth { pseudonym: past.pseudonym, count: count as u64, root: *root })
    });
    none.into_iter()
        .chain(seen)
        .map(|last| MonthOpening::new(key, &entry.id, last))
        .find(|opening| opening.verify(&link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Body, merkle};
    use record::{Purpose, TimeMs, sha256};

    const DECEMBER: Month = Month(12 * 2026 + 11);

    fn key() -> PatientKey {
        PatientKey::from_bytes([7; 32])
    }

    /// A log of so many entries in a month.
    fn past(month: Month, entries: u8) -> Past {
        let leaves: Vec<Digest> = (0..entries).map(|i| sha256(&[b"leaf", &[i]])).collect();
        let roots = (0..=leaves.len()).map(|count| merkle::root(leaves[..count].iter().copied())).collect();
        Past { pseudonym: key().pseudonym(month), roots }
    }

    /// December's first entry continues `last`; how far its link is opened beside these logs, as the month named and its entries.
    fn check(last: LastMonth, earlier: &[Past], expected: Option<(Month, u64)>) {
        let id = Id16([2; 16]);
        let entry = Entry {
            id,
            org: "mercy".parse().unwrap(),
            time: TimeMs(1),
            purpose: Purpose::Treat,
            policy: sha256(&[b"policy"]),
            actor: sha256(&[b"actor"]),
            patient: Some(key().pseudonym(DECEMBER)),
            month: Some(MonthOpening::new(&key(), &id, last).link()),
            body: Body::Link { other: key().pseudonym(DECEMBER), same: true },
        };
        let opened = open_link(&key(), &entry, DECEMBER, earlier);
        let expected = expected.map(|(month, count)| (key().pseudonym(month), count));
        assert_eq!(opened.map(|opening| (opening.previous, opening.count)), expected);
    }

    #[test]
    fn a_link_is_opened_to_what_its_author_saw_as_far_as_a_verifier_accepts_it() {
        let [october, november] = [DECEMBER.previous().previous(), DECEMBER.previous()];
        let none = LastMonth::none(&key(), DECEMBER);
        check(none, &[], Some((november, 0)));
        // Late entries began the month that was named as empty.
        check(none, &[past(november, 1)], Some((november, 0)));
        check(none, &[past(october, 3), past(november, 1)], Some((november, 0)));
        // Late entries are in the month before that.
        check(none, &[past(october, 3)], None);
        // Late entries were added to the month named, and to the one after it.
        let seen = LastMonth { pseudonym: key().pseudonym(october), count: 2, root: past(october, 2).roots[2] };
        check(seen, &[past(october, 3), past(november, 1)], Some((october, 2)));
        check(seen, &[past(november, 1)], None);
    }
}

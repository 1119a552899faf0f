//! Letting frames go: what the derivation policy keeps no longer is rolled up, said on the ledger, and then taken out of the database.
//!
//! ```text
//! final batches past the term ─► nothing holds them ─► their frames, verified ─► roll-up ─┐
//!                                                   roll-up + «disposal» entry, one write ┘─► final
//! rows under counters that the ledger's state says were let go ─► taken out, some at a time
//! ```
//!
//! Each step begins with what the ledger's final state says, so that a process that ends in between goes on where it was: a roll-up has the
//! same id whoever writes it, the ledger takes a disposal once, and rows go only by one that is final.

mod keeper;

use crate::{
    failure::Failure,
    find::search_failure,
    inventory::Inventory,
    kept::frame_in,
    measured::beside,
    mirror::Batch,
    node::Node,
    row::Worth,
    write::{Also, Trail},
};
use contract::{
    AccessAction, BATCH_CLOSE_MS, Body, DeviceStep, Entry, Event, LetGo, PolicyKind, PolicyStep, ROLL_UPS_MAX,
    Retention, document, from_cbor,
    state::{self, Binding, Cases, Investigation, Timeline},
};
use keeper::{Keeper, Watched};
use record::{Digest, Id16, Pseudonym, Role, TimeMs, commit, fhir::Interaction, sha256};
use sensing::{
    Frame,
    rollup::{Context, NotRolledUp, RollUp},
};
use serde_json::Value;
use std::time::Duration;
use store::{PAGE_MAX, Put, Removal};

/// Who lets frames go, in the audit trail.
const WHO: &str = "retention";
/// How often frames are looked for that may go.
const EVERY: Duration = Duration::from_secs(15);
/// How soon again while rows of what was let go are still there: others write in between.
const EVERY_WITH_ROWS: Duration = Duration::from_millis(200);
/// The most bindings whose frames are rolled up in one round: six hours of a device as a rule.
const DISPOSALS_AT_ONCE: usize = 4;
/// Rows that are taken out in one transaction.
const ROWS_AT_ONCE: usize = 256;
/// The most transactions that take rows out in one round.
const WRITES_AT_ONCE: usize = 64;
/// Bindings that are looked up in the ledger's state together, each by two keys.
const LOOKED_UP_AT_ONCE: usize = 128;
/// After how long a document that is not on the ledger yet is written there again, in milliseconds.
const WRITTEN_AGAIN_MS: u64 = 5 * 60 * 1000;
/// Frames of which some are missing or changed go after so many terms: until then an audit may name it, and a recovery may mend it.
const TERMS_OF_DAMAGED: u64 = 2;
/// How far behind the ledger's clock ours may be judged, in milliseconds: a block's time is that of its proposer.
const CLOCK_MARGIN_MS: u64 = 3_000;
/// What ids of roll-ups are made under.
const ROLL_UP_DOMAIN: &[u8] = b"vitaltrace/roll-up/1\0";

/// A binding as the ledger's state has it.
struct Known {
    id: Id16,
    binding: Binding,
    timeline: Timeline,
}

/// Frames that are old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    last: u64,
    /// All of them were final before.
    before: TimeMs,
}

/// What became of frames that are old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The entry is on its way.
    Sent(Id16),
    /// An investigation or a hold keeps them, some are missing, or it is not known whose they are.
    HeldBack,
    /// An earlier attempt is on its way.
    Waiting,
}

/// The frames of a range, rolled up.
struct Rolled {
    roll_up: RollUp,
    count: u64,
    first: u64,
    is_whole: bool,
    patient: Option<String>,
    device: Option<sensing::DeviceId>,
}

impl Node {
    /// Lets frames go as long as the node runs.
    pub(crate) async fn let_frames_go(self) {
        let mut keeper = Keeper::default();
        loop {
            let wait = match self.let_go_once(&mut keeper).await {
                Ok(true) => EVERY_WITH_ROWS,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "frames past their term could not be let go; trying again");
                    EVERY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One round: takes out rows of what was let go, and lets go what is due. Tells whether more rows wait to be taken out.
    async fn let_go_once(&self, keeper: &mut Keeper) -> Result<bool, Failure> {
        self.learn_bindings(keeper).await?;
        let retention = self.retention_in_force(keeper).await?;
        let now = TimeMs(self.now().0.saturating_sub(CLOCK_MARGIN_MS));
        if retention.is_none() {
            keeper.again.clear();
            self.meters.frames_due.set(0);
            self.meters.frames_held_back.set(0);
            if keeper.is_clear {
                return Ok(false);
            }
        }
        keeper.is_clear = false;
        let erased = self.mirror.erased().await?;
        let (mut writes, mut disposals, mut due_count) = (WRITES_AT_ONCE, DISPOSALS_AT_ONCE, 0);
        let (mut rows_wait, mut is_clear) = (false, true);
        let all: Vec<Id16> = keeper.bindings.keys().copied().collect();
        for some in all.chunks(LOOKED_UP_AT_ONCE) {
            for known in self.known(some).await? {
                let watched = keeper.bindings.get(&known.id).copied().unwrap_or(Watched { cleared: 0 });
                if erased.has_patient(&known.binding.patient) {
                    // Nothing of theirs is left to let go.
                    keeper.forget(known.id);
                    continue;
                }
                let let_go = known.timeline.let_go;
                if let_go > watched.cleared {
                    // One binding's trouble is not another's.
                    match self.take_out_let_go(&known, &mut writes).await {
                        Ok(cleared) => {
                            keeper.bindings.insert(known.id, Watched { cleared: cleared.min(let_go) });
                            rows_wait |= writes == 0 && cleared < let_go;
                            is_clear &= cleared >= let_go;
                        }
                        Err(error) => {
                            tracing::warn!(binding = %known.id, %error, "rows of frames that were let go stay; trying again");
                            is_clear = false;
                        }
                    }
                }
                let is_over = known.binding.until.is_some_and(|until| until.plus_ms(2 * BATCH_CLOSE_MS) < now);
                if is_over && known.binding.last == let_go && watched.cleared == let_go {
                    keeper.forget(known.id);
                    continue;
                }
                let is_under_way = keeper.sent.contains_key(&known.id) && self.is_waiting(keeper, known.id).await?;
                let Some(retention) = retention else { continue };
                let Some(due) = due(&known.timeline, known.binding.last, retention.keep_s, now) else {
                    keeper.again.remove(&known.id);
                    continue;
                };
                due_count += 1;
                if is_under_way || disposals == 0 || self.is_waiting(keeper, known.id).await? {
                    continue;
                }
                disposals -= 1;
                let outcome = self.dispose(&known, due, retention, now).await.unwrap_or_else(|error| {
                    tracing::warn!(binding = %known.id, %error, "frames past their term could not be let go; trying again");
                    Outcome::HeldBack
                });
                match outcome {
                    Outcome::Sent(entry) => {
                        keeper.again.remove(&known.id);
                        keeper.sent.insert(known.id, entry);
                    }
                    Outcome::HeldBack => keeper.again_later(known.id, self.now(), retention.keep_s),
                    Outcome::Waiting => {}
                }
            }
        }
        keeper.is_clear = is_clear && keeper.sent.is_empty();
        self.meters.frames_due.set(due_count);
        self.meters.frames_held_back.set(i64::try_from(keeper.again.len()).unwrap_or(i64::MAX));
        Ok(rows_wait)
    }

    /// Learns which bindings this organisation made since the last round.
    async fn learn_bindings(&self, keeper: &mut Keeper) -> Result<(), Failure> {
        loop {
            let page = self.mirror.entries(keeper.next, Some("device".to_owned()), PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            keeper.next = last.index + 1;
            for place in page.iter().filter(|place| place.refused == 0) {
                let entry =
                    Entry::from_bytes(&place.bytes).map_err(|e| Failure::ours("a mirrored entry cannot be read", e))?;
                if let Body::Device { step: DeviceStep::Bound(id, _), .. } = entry.body
                    && entry.org == self.org
                {
                    keeper.bindings.insert(id, Watched { cleared: 0 });
                }
            }
        }
    }

    /// The retention in force, once the ledger knows of it. The document that a consortium was founded on is written there first.
    async fn retention_in_force(&self, keeper: &mut Keeper) -> Result<Option<Retention>, Failure> {
        let policies = self.policies();
        let Some(retention) = policies.derivation.retention() else { return Ok(None) };
        let (kind, name) = (PolicyKind::Derivation, policies.derivation.digest());
        let known: Option<state::Retention> = self.ledger_value(state::retention_key(&name)).await?;
        if known.is_some() {
            return Ok(Some(retention));
        }
        let is_under_way = keeper.written.is_some_and(|written| self.now() < written.plus_ms(WRITTEN_AGAIN_MS));
        // Who has no frames leaves it to those who have some.
        if is_under_way || keeper.bindings.is_empty() || self.takes_writes().is_err() {
            return Ok(None);
        }
        let bytes = self.policy_bytes(kind, &name).await?;
        let Some(parts) = bytes.as_deref().and_then(|bytes| document::parts(kind, bytes)) else {
            tracing::warn!(document = %name, "the derivation policy is not here as a document, and lets no frames go");
            return Ok(None);
        };
        let (author, mut gathered) = (self.author(&self.machine(WHO, Role::Engine), self.now()), self.empty());
        for part in parts {
            let event = Event::PolicyMoved { kind, document: name, step: PolicyStep::Written(part) };
            self.also(&mut gathered, &author, &Also { subject: self.nobody(), event })?;
        }
        self.put(gathered).await?;
        keeper.written = Some(self.now());
        tracing::info!(document = %name, "the derivation policy is written on the ledger, which lets frames go by it from then on");
        Ok(None)
    }

    /// What the ledger's state has of some bindings, those without a batch left out.
    async fn known(&self, ids: &[Id16]) -> Result<Vec<Known>, Failure> {
        let keys = ids.iter().flat_map(|id| [state::binding_key(id), state::timeline_key(id)]).collect();
        let values = self.ledger.get(keys).await.map_err(|e| Failure::ours("the ledger did not answer", e))?;
        let mut known = Vec::new();
        for (id, pair) in ids.iter().zip(values.chunks(2)) {
            let [Some(binding), Some(timeline)] = pair else { continue };
            let binding = from_cbor("binding", binding, state::VALUE_BYTES_MAX);
            let timeline = from_cbor("timeline", timeline, state::VALUE_BYTES_MAX);
            match (binding, timeline) {
                (Ok(binding), Ok(timeline)) => known.push(Known { id: *id, binding, timeline }),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(binding = %id, %error, "the ledger's state of a binding cannot be read, and its frames stay");
                }
            }
        }
        Ok(known)
    }

    /// Whether a disposal of the binding is on its way, or was refused a short time ago.
    async fn is_waiting(&self, keeper: &mut Keeper, binding: Id16) -> Result<bool, Failure> {
        if let Some(entry) = keeper.sent.get(&binding).copied() {
            let Some(place) = self.mirror.entry(entry, &self.org).await? else { return Ok(true) };
            keeper.sent.remove(&binding);
            if place.refused != 0 {
                let why = crate::custody::why(&place);
                tracing::warn!(%binding, %why, "the ledger refused to let frames go");
                let keep_s = self.policies().derivation.retention().map_or(u32::MAX, |retention| retention.keep_s);
                keeper.again_later(binding, self.now(), keep_s);
            }
        }
        Ok(keeper.again.get(&binding).is_some_and(|again| self.now() < again.not_before))
    }

    /// Takes out rows of frames that were let go by what this node has of the ledger, so that whoever asks for them here is told so. Tells
    /// up to which counter none is left.
    async fn take_out_let_go(&self, known: &Known, writes: &mut usize) -> Result<u64, Failure> {
        let Some(device) = self.device_called(&known.binding.device).await? else { return Ok(known.timeline.let_go) };
        let key = sensing::device_key(known.binding.key.as_bytes());
        let key = key.map_err(|e| Failure::ours("a binding's key cannot be used", e))?;
        let batches = self.mirror.batches(known.id).await?;
        let Some(first) = batches.between(0, u64::MAX).first().map(|batch| batch.first) else { return Ok(0) };
        // The mirror follows the ledger.
        let last = batches.let_go().last().map_or(0, |let_go| let_go.last).min(known.timeline.let_go);
        let mut from = (first, None);
        loop {
            let rows = self.store.filed_frames(device.as_str(), from, last, ROWS_AT_ONCE).await;
            let rows = rows.map_err(search_failure)?;
            let Some(next) = rows.last().map(|row| (row.counter.unwrap_or(last), Some(row.place))) else {
                return Ok(last);
            };
            let is_last = rows.len() < ROWS_AT_ONCE;
            from = next;
            if *writes == 0 {
                return Ok(first.saturating_sub(1));
            }
            // A row in the place of another frame is not this binding's to take out, and what stays of one is what its columns say: an audit
            // names those that are not as they should be, and a recovery takes them out.
            let (of, binding) = (device.clone(), known.id);
            let own = beside(move || {
                let frames = rows.iter().filter_map(|row| Some((row, frame_in(row.bytes.as_ref()?)?)));
                let own = frames.filter(|(row, frame)| {
                    let within = (first..=last).contains(&frame.counter());
                    let filed = (row.binding, row.counter, row.digest);
                    let is_filed_so = filed == (Some(binding), Some(frame.counter()), Some(frame.digest()));
                    within && is_filed_so && *frame.device() == of && frame.is_signed_by(&key)
                });
                own.map(|(row, _)| Removal::LetGo(row.place)).collect::<Vec<_>>()
            });
            let removals = own.await?;
            if !removals.is_empty() {
                let count = removals.len() as u64;
                self.store.put(Put { removals, ..Put::default() }).await.map_err(crate::write::put_failure)?;
                self.meters.frames_let_go.inc_by(count);
                *writes -= 1;
            }
            if is_last {
                return Ok(last);
            }
        }
    }

    /// Rolls frames up and says that they go, in one write.
    async fn dispose(&self, known: &Known, due: Due, retention: Retention, now: TimeMs) -> Result<Outcome, Failure> {
        self.takes_writes()?;
        let after = known.timeline.let_go;
        let batches = self.mirror.batches(known.id).await?;
        let of = batches.between(after.saturating_add(1), due.last.saturating_add(1)).to_vec();
        let rolled = match self.roll_up(&of, retention).await? {
            Ok(rolled) => rolled,
            Err(error) => {
                tracing::warn!(binding = %known.id, %error, "frames past their term cannot be rolled up, and stay");
                return Ok(Outcome::HeldBack);
            }
        };
        let terms = u64::from(retention.keep_s) * 1_000 * TERMS_OF_DAMAGED;
        if !rolled.is_whole && now < due.before.plus_ms(terms) {
            tracing::warn!(binding = %known.id, "frames past their term are missing or changed, and stay for another term: run an audit");
            return Ok(Outcome::HeldBack);
        }
        let (Some(patient), Some(device)) = (&rolled.patient, &rolled.device) else {
            tracing::warn!(binding = %known.id, "whose frames past their term are is not known here, and they stay");
            return Ok(Outcome::HeldBack);
        };
        let time = self.now();
        let Some(key) = self.patient_key(patient).await? else { return Ok(Outcome::HeldBack) };
        let pseudonyms = self.pseudonyms(&key);
        match self.refuse_held(patient, &pseudonyms).await {
            Err(Failure::Conflict(_)) => return Ok(Outcome::HeldBack),
            other => other?,
        }
        let named = [key.pseudonym(time.month()), known.binding.patient];
        let Some(concluded) = self.concluded_cases(&pseudonyms, &named).await? else { return Ok(Outcome::HeldBack) };
        let reference = crate::bind::device_id(device).map(|id| format!("Device/{id}"));
        let about = format!("Patient/{patient}");
        let context = Context {
            patient: &about,
            device,
            device_reference: reference.as_deref(),
            binding: known.id,
            counters: (rolled.first, due.last),
            frames: rolled.count,
            issued: time,
        };
        let observations = rolled.roll_up.observations(&context);
        if observations.len() > ROLL_UPS_MAX {
            tracing::warn!(binding = %known.id, "frames past their term have more signals than a disposal names, and stay");
            return Ok(Outcome::HeldBack);
        }
        let subject = self.subject(patient).await?;
        let engine = self.machine(WHO, Role::Engine);
        let (mut drafts, mut roll_ups) = (Vec::new(), Vec::new());
        for (place, observation) in (0u64..).zip(&observations) {
            let id = roll_up_id(known.id, after, due.last, place);
            roll_ups.push(format!("Observation/{id}"));
            let draft = match self.current_row("Observation", &id).await? {
                None => self.made_as(&id, observation, &subject, time)?,
                Some((_, Worth::Pending)) => return Ok(Outcome::Waiting),
                // An earlier disposal was refused. Its roll-up stays if it says what this one says, and has another version otherwise.
                Some((row, Worth::Good(_))) if row.author == self.org => {
                    if !row.deleted && says(&row.bytes, observation) {
                        continue;
                    }
                    let previous = commit(&row.salt, &row.bytes);
                    self.made_after(&row, previous, observation, &subject, time)?
                }
                Some(_) => {
                    tracing::warn!(binding = %known.id, record = id, "a record that is no roll-up of ours stands in the place of one, and frames past their term stay: run an audit");
                    return Ok(Outcome::HeldBack);
                }
            };
            self.allow_made(&engine, patient, &draft).await?;
            drafts.push(draft);
        }
        let author = self.author(&engine, time);
        let mut gathered = self.gather(&engine, time, drafts)?;
        let entry = self.new_id()?;
        let event = Event::FramesLetGo(LetGo {
            binding: known.id,
            bound: known.binding.patient,
            after,
            last: due.last,
            count: rolled.count,
            roll_ups: &roll_ups,
            concluded: &concluded,
        });
        self.also_as(entry, &mut gathered, &author, &Also { subject, event })?;
        let trail = Trail::of(Interaction::Create, AccessAction::Write);
        match self.commit(&engine, time, gathered, Vec::new(), &trail).await {
            // Another gateway of the organisation was first.
            Err(Failure::Precondition(_)) => Ok(Outcome::Waiting),
            written => {
                written?;
                tracing::info!(binding = %known.id, %entry, last = due.last, frames = rolled.count, "frames are let go by policy");
                Ok(Outcome::Sent(entry))
            }
        }
    }

    /// Reads the frames of some batches, a batch at a time, and rolls them up as far as their device signed them.
    async fn roll_up(&self, of: &[Batch], retention: Retention) -> Result<Result<Rolled, NotRolledUp>, Failure> {
        let mut inventory = Inventory::begin(self).await?;
        let mut rolled = Rolled {
            roll_up: RollUp::new(retention.roll_up_s),
            count: 0,
            first: of.first().map_or(0, |batch| batch.first),
            is_whole: true,
            patient: None,
            device: None,
        };
        for batch in of {
            let Some(assessed) = inventory.batch(batch.index).await? else { continue };
            rolled.is_whole &= assessed.removed.is_empty() && assessed.modified.is_empty();
            rolled.is_whole &= assessed.batch.is_readable();
            rolled.patient = rolled.patient.or(assessed.patient);
            rolled.device = rolled.device.or(assessed.device);
            let (held, mut roll_up) = (assessed.held, rolled.roll_up);
            let done = beside(move || {
                let mut taken = 0u64;
                let frames = held.iter().filter_map(|held| frame_in(&held.right.bytes));
                let outcome = frames.map(Frame::into_pack).try_for_each(|pack| {
                    taken += 1;
                    roll_up.take(pack.device_time, &pack.signals)
                });
                outcome.map(|()| (roll_up, taken))
            });
            match done.await? {
                Ok((roll_up, taken)) => (rolled.roll_up, rolled.count) = (roll_up, rolled.count + taken),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(rolled))
    }

    /// The concluded investigations under `named`; none while one under any of a patient's pseudonyms is open.
    async fn concluded_cases(
        &self,
        pseudonyms: &[Pseudonym],
        named: &[Pseudonym],
    ) -> Result<Option<Vec<Id16>>, Failure> {
        let (mut concluded, mut all) = (Vec::new(), pseudonyms.to_vec());
        all.extend(named.iter().filter(|one| !pseudonyms.contains(one)));
        for pseudonym in all {
            let cases: Option<Cases> = self.ledger_value(state::cases_key(&pseudonym)).await?;
            let cases = cases.unwrap_or_default();
            if cases.more {
                return Ok(None);
            }
            for id in cases.ids {
                let case: Option<Investigation> = self.ledger_value(state::investigation_key(&id)).await?;
                if case.is_none_or(|case| case.concluded.is_none()) {
                    return Ok(None);
                }
                if named.contains(&pseudonym) {
                    concluded.push(id);
                }
            }
        }
        concluded.sort();
        concluded.dedup();
        Ok(Some(concluded))
    }

    /// What is kept for how long, and what is due, without a word about anybody.
    pub(crate) fn retention_shown(&self) -> serde_json::Value {
        let retention = self.policies().derivation.retention();
        serde_json::json!({
            "keep_s": retention.map(|retention| retention.keep_s),
            "roll_up_s": retention.map(|retention| retention.roll_up_s),
            "bindings_due": self.meters.frames_due.get(),
            "bindings_held_back": self.meters.frames_held_back.get(),
            "frames_taken_out": self.meters.frames_let_go.get(),
        })
    }
}

/// Whether a stored roll-up says what a new one says, whenever each was made.
fn says(stored: &[u8], observation: &Value) -> bool {
    let Ok(mut stored) = serde_json::from_slice::<Value>(stored) else { return false };
    let mut new = observation.clone();
    for one in [&mut stored, &mut new] {
        if let Some(elements) = one.as_object_mut() {
            for element in ["id", "meta", "issued"] {
                elements.remove(element);
            }
        }
    }
    stored == new
}

/// The first frames of a binding that are old enough, up to the end of a batch; `last` is the counter of its last one.
fn due(timeline: &Timeline, last: u64, keep_s: u32, now: TimeMs) -> Option<Due> {
    let is_old = |due: &Due| due.before.plus_ms(u64::from(keep_s) * 1_000) <= now;
    let cuts = timeline.cuts.iter().map(|cut| Due { last: cut.last, before: cut.before });
    let whole = Due { last, before: timeline.before };
    cuts.chain([whole]).filter(|due| due.last > timeline.let_go).find(is_old)
}

/// What the records of a disposal's roll-up are called, `Observation/id`, whoever wrote them.
pub(crate) fn roll_ups_of(binding: Id16, let_go: &crate::mirror::LetGo) -> Vec<String> {
    let places = 0..let_go.roll_ups.len() as u64;
    places.map(|place| format!("Observation/{}", roll_up_id(binding, let_go.after, let_go.last, place))).collect()
}

/// The id of a roll-up: the same whoever writes it, and of none but these frames.
fn roll_up_id(binding: Id16, after: u64, last: u64, place: u64) -> String {
    let numbers = [after, last, place].map(u64::to_be_bytes).concat();
    let Digest(bytes) = sha256(&[ROLL_UP_DOMAIN, binding.as_ref(), &numbers]);
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::state::Cut;

    #[test]
    fn the_first_frames_past_their_term_are_due_and_none_that_are_younger() {
        let cut = |last, before| Cut { last, before: TimeMs(before) };
        let timeline = Timeline {
            let_go: 10,
            before: TimeMs(90_000),
            next_cut: TimeMs(0),
            cuts: vec![cut(10, 10_000), cut(20, 20_000), cut(30, 50_000)],
        };
        let at = |now| due(&timeline, 40, 60, TimeMs(now)).map(|due| due.last);
        assert_eq!([0, 79_999, 80_000, 109_999].map(at), [None, None, Some(20), Some(20)]);
        let rest = Timeline { let_go: 30, ..timeline.clone() };
        let at = |now| due(&rest, 40, 60, TimeMs(now)).map(|due| due.last);
        assert_eq!([149_999, 150_000].map(at), [None, Some(40)]);
        assert_eq!(due(&Timeline { let_go: 40, ..timeline }, 40, 60, TimeMs(u64::MAX)), None);
    }

    #[test]
    fn a_roll_up_that_stands_is_taken_for_another_only_when_it_says_the_same() {
        let made =
            serde_json::json!({"resourceType": "Observation", "issued": "2026-11-21T10:00:00Z", "valueInteger": 3});
        let stored = r#"{"resourceType":"Observation","id":"x","meta":{"versionId":"1"},"issued":"2026-11-20T10:00:00Z","valueInteger":3}"#;
        assert!(says(stored.as_bytes(), &made));
        assert!(!says(stored.replace(":3", ":4").as_bytes(), &made));
        assert!(!says(b"{", &made));
    }

    #[test]
    fn a_roll_up_has_one_id_for_the_same_frames_and_another_for_others() {
        let id = |last, place| roll_up_id(Id16([1; 16]), 0, last, place);
        assert_eq!(id(10, 0), id(10, 0));
        assert_eq!(id(10, 0).len(), 32);
        for other in [id(11, 0), id(10, 1), roll_up_id(Id16([2; 16]), 0, 10, 0)] {
            assert_ne!(id(10, 0), other);
        }
        assert!(record::fhir::is_id(&id(10, 0)));
    }
}

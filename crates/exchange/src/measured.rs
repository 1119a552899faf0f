//! What sensors said among the matches of a search: a search for the Observations of one patient finds the measurements in frames as well.
//!
//! The database's index only says where to look. Each frame is read with its device's signature and under the ledger's batch, each
//! measurement in it meets the search by its own bytes, and is decided over, like any other record. What the caller may not see takes no
//! place: pages are filled with what is shown, and begin and end there.

use crate::{
    bind::sensed,
    caller::Caller,
    disclose::Cleared,
    facts::Target,
    failure::Failure,
    find::{Asked, Both, Reached, search_failure},
    include::EXAMINED_MAX,
    kept::{frame_of, is_filed},
    kinds::{kind_of, kinds_for, says_none, times_for},
    node::Node,
    sensed::{Named, measurements, unverified},
};
use policy::Action;
use record::{Digest, Id16, TimeMs, fhir::IssueType};
use sensing::{Frame, Reading};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt,
    str::FromStr,
};
use store::{Criterion, Cursor, FrameCursor, FrameFilter, FramePage, FrameQuery, Match, PAGE_MAX, Sort, extract};

/// Frames of the first step of a page.
const STEP_LEN: usize = 50;
/// The measurements of so many frames are held at a time.
const CHUNK_LEN: usize = 50;
/// The most measurements that are made for one answer, of at most [`EXAMINED_MAX`] frames.
const MADE_MAX: usize = 100_000;
/// The most bytes of them, one after the other.
const MADE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// With so many bytes of measurements a page is full.
const PAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// So many kinds of frames are kept to judge whether the caller may hear that there are more.
const SAMPLED_MAX: usize = 16;
/// The place behind all measurements of a frame.
const WHOLE: usize = usize::MAX;

/// Where the measurements of a search stand among its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Behind all of them: nobody asked for an order.
    Behind,
    /// Among them, by date.
    ByDate { newest_first: bool },
}

/// What of a search is looked for in frames.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    patient: String,
    criteria: Vec<Criterion>,
    order: Order,
    /// Whether no frame can meet the criteria, whatever it says.
    is_vain: bool,
    /// When the one frame was measured that is looked for.
    at: Option<TimeMs>,
}

/// The place of a measurement: its frame's, and which of the frame it is, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    frame: FrameCursor,
    member: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.frame, self.member)
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (frame, member) = text.rsplit_once('_').ok_or(())?;
        Ok(Self { frame: frame.parse().map_err(|_| ())?, member: member.parse().map_err(|_| ())? })
    }
}

/// Measurements that the caller may see.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) found: Vec<(Cleared, Place)>,
    /// Whether there may be more of them.
    pub(crate) more: bool,
    /// Up to where was looked, when that is not up to the last one found.
    pub(crate) end: Option<Place>,
    /// Frames that do not agree with the ledger and that the caller may hear of.
    pub(crate) withheld: u64,
    /// Frames that are gone of the batches of those that were looked at, for whoever may hear of them.
    pub(crate) gone: u64,
}

/// How far is looked.
struct Bounds {
    /// So many measurements are wanted...
    room: usize,
    /// ... or so many bytes of them.
    bytes: usize,
    /// So many frames are looked at.
    frames: usize,
}

/// A frame that the ledger bears out.
#[derive(Clone)]
struct Sound {
    reading: Reading,
    pending: bool,
    org: record::OrgId,
    end: FrameCursor,
}

/// A measurement that meets the search.
struct Candidate {
    one: store::Row,
    frame: Digest,
    pending: bool,
    place: Place,
}

/// What some frames say that meets the search, and how much had to be made to know it.
#[derive(Default)]
struct Made {
    candidates: Vec<Candidate>,
    count: usize,
    bytes: usize,
}

/// Whether Observations are searched for, among others or alone.
fn is_for_observations(asked: &Asked) -> bool {
    asked.search.types().any(|rtype| rtype == "Observation")
}

impl Wanted {
    /// What of a search frames answer. None where it is not about one patient's Observations, among others or alone.
    pub(crate) fn of(asked: &Asked) -> Option<Self> {
        let patient = asked.patient.clone().filter(|_| is_for_observations(asked))?;
        let order = match asked.search.sort.as_slice() {
            _ if !asked.sorted => Order::Behind,
            [Sort { param, descending }] if param == "date" => Order::ByDate { newest_first: *descending },
            _ => return None,
        };
        let criteria = asked.search.criteria.clone();
        // Of what is chained a measurement says nothing.
        let is_vain = criteria.iter().any(says_none);
        (!criteria.iter().any(Criterion::is_chained)).then_some(Self { patient, criteria, order, is_vain, at: None })
    }

    /// What of a search for one patient's Observations frames would answer, if its order and its chains let them.
    pub(crate) fn left_out_of(asked: &Asked) -> Option<Self> {
        let patient = asked.patient.clone().filter(|_| is_for_observations(asked))?;
        let criteria: Vec<Criterion> = asked.search.criteria.iter().filter(|of| !of.is_chained()).cloned().collect();
        let is_vain = criteria.iter().any(says_none);
        Self::of(asked).is_none().then_some(Self { patient, criteria, order: Order::Behind, is_vain, at: None })
    }

    /// Everything that was measured of a patient.
    pub(crate) fn all_of(patient: &str) -> Self {
        Self { patient: patient.to_owned(), criteria: Vec::new(), order: Order::Behind, is_vain: false, at: None }
    }

    /// Whether measurements stand among the records, and not behind them.
    pub(crate) fn is_among(&self) -> bool {
        self.order != Order::Behind
    }

    fn newest_first(&self) -> bool {
        self.order == Order::ByDate { newest_first: true }
    }

    fn query(&self) -> FrameQuery {
        let time = |ms: i64| TimeMs(u64::try_from(ms).unwrap_or_default());
        let (from, to) = times_for(&self.criteria);
        if let Some(at) = self.at {
            let of = FrameFilter::Patient(self.patient.clone());
            return FrameQuery { from: at, to: at.plus_ms(1), ..FrameQuery::of(of) };
        }
        let of = FrameFilter::Kinds(self.patient.clone(), kinds_for(&self.criteria));
        FrameQuery { from: time(from), to: time(to), newest_first: self.newest_first(), ..FrameQuery::of(of) }
    }

    /// Which of a record and a measurement stands first.
    fn record_first(&self, record: &Cursor, measured: &Place) -> bool {
        // A record without a time comes last.
        let compared = record.time().map(|time| time.cmp(&measured.frame.measured_at()));
        match self.order {
            Order::Behind => true,
            Order::ByDate { newest_first: false } => compared.is_some_and(Ordering::is_le),
            Order::ByDate { newest_first: true } => compared.is_some_and(Ordering::is_ge),
        }
    }
}

/// A page of records and measurements, and where it ended unless it is the last. It is as long as was asked for, or ends where one of the
/// two lists was not looked through further.
pub(crate) fn page_of_both(
    wanted: &Wanted,
    asked: &Asked,
    (records, next): (Vec<(Cleared, Cursor)>, Option<Cursor>),
    measured: Measured,
) -> (Vec<Cleared>, Option<Both>) {
    let mut reached = asked.reached();
    let (mut records, mut frames) = (VecDeque::from(records), VecDeque::from(measured.found));
    let mut page = Vec::new();
    while page.len() < asked.search.count {
        let record_first = match (records.front(), frames.front()) {
            (Some((_, record)), Some((_, measured))) => wanted.record_first(record, measured),
            // Measurements may stand before it that were not looked at.
            (Some((_, record)), None) if measured.end.is_some_and(|end| !wanted.record_first(record, &end)) => break,
            (Some(_), None) => true,
            // Records may stand before it that were not looked at.
            (None, Some((_, measured))) if next.as_ref().is_some_and(|next| wanted.record_first(next, measured)) => {
                break;
            }
            (None, Some(_)) => false,
            (None, None) => break,
        };
        if record_first {
            if let Some((one, end)) = records.pop_front() {
                reached.records = Reached::To(end);
                page.push(one);
            }
        } else if let Some((one, place)) = frames.pop_front() {
            reached.frames = Reached::To(place);
            page.push(one);
        }
    }
    match (records.is_empty(), next) {
        (false, _) => {}
        (true, Some(next)) => reached.records = Reached::To(next),
        (true, None) => reached.records = Reached::All,
    }
    match (frames.is_empty(), measured.more, measured.end) {
        (true, false, _) => reached.frames = Reached::All,
        (true, true, Some(end)) => reached.frames = Reached::To(end),
        _ => {}
    }
    let is_last = reached == Both { records: Reached::All, frames: Reached::All };
    (page, (!is_last).then_some(reached))
}

impl Node {
    /// What of a search frames answer: what sensors said of one patient, or the measurement that is named.
    pub(crate) async fn wanted(&self, asked: &Asked) -> Result<Option<Wanted>, Failure> {
        let criteria = &asked.search.criteria;
        let named = criteria.iter().filter(|criterion| criterion.param == "_id" && !criterion.negate);
        let mut named = named.filter_map(|criterion| match criterion.any.as_slice() {
            [Match::Token { code: Some(id), .. }] => id.parse::<Named>().ok(),
            _ => None,
        });
        let Some(named) = named.next_back().filter(|_| is_for_observations(asked)) else {
            return Ok(Wanted::of(asked));
        };
        if criteria.iter().any(Criterion::is_chained) {
            return Ok(None);
        }
        let row = self.store.frame(named.frame()).await.map_err(search_failure)?;
        let row = row.filter(|row| asked.patient.as_ref().is_none_or(|patient| *patient == row.patient));
        Ok(row.map(|row| Wanted {
            patient: row.patient,
            criteria: criteria.clone(),
            order: Order::Behind,
            is_vain: false,
            at: Some(row.measured_at),
        }))
    }

    /// The measurements behind `reached` that the caller may see, at most `room`; fewer where more frames than a bound were looked at.
    pub(crate) async fn measured(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        reached: Reached<Place>,
        room: usize,
    ) -> Result<Measured, Failure> {
        let bounds = Bounds { room, bytes: PAGE_BYTES_MAX, frames: EXAMINED_MAX };
        let mut found = Vec::new();
        let looked =
            self.look_through(caller, wanted, reached, &bounds, &mut |one, place| found.push((one, place))).await?;
        Ok(Measured { found, ..looked })
    }

    /// Gives every measurement that the caller may see to `fold`, and says how many frames do not agree with the ledger, and how many are
    /// gone. Refuses where there are more than are looked at.
    pub(crate) async fn all_measured(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        mut fold: impl FnMut(Cleared) + Send,
    ) -> Result<(u64, u64), Failure> {
        let bounds = Bounds { room: usize::MAX, bytes: usize::MAX, frames: EXAMINED_MAX };
        let looked = self.look_through(caller, wanted, Reached::Nothing, &bounds, &mut |one, _| fold(one)).await?;
        if looked.more { Err(too_many()) } else { Ok((looked.withheld, looked.gone)) }
    }

    /// Whether sensors said something that the caller may find if the search lets it: one step is looked at, by those who may see what
    /// sensors say.
    pub(crate) async fn is_measured(&self, caller: &Caller, wanted: Option<Wanted>) -> Result<bool, Failure> {
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_vain) else { return Ok(false) };
        if !self.may_know(caller, &wanted).await? {
            return Ok(false);
        }
        let bounds = Bounds { room: 0, bytes: 0, frames: STEP_LEN };
        Ok(self.look_through(caller, &wanted, Reached::Nothing, &bounds, &mut |_, _| {}).await?.more)
    }

    /// Gives measurements to `take` in their order. Of what it answers, nothing is in `found`.
    async fn look_through(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        reached: Reached<Place>,
        bounds: &Bounds,
        take: &mut (dyn FnMut(Cleared, Place) + Send),
    ) -> Result<Measured, Failure> {
        let mut looked = Measured::default();
        // By binding and batch: a batch may lie on two pages.
        let mut gone: BTreeMap<(Id16, u64), u64> = BTreeMap::new();
        let last = match reached {
            Reached::All => return Ok(looked),
            _ if wanted.is_vain => return Ok(looked),
            Reached::To(place) => Some(place),
            Reached::Nothing => None,
        };
        let limit = bounds.room.saturating_add(1).clamp(STEP_LEN, PAGE_MAX);
        let mut query = FrameQuery { limit, ..wanted.query() };
        query.after = last.map(|place| match place.member {
            WHOLE => place.frame,
            // The last frame of the page before may have more to say.
            _ => place.frame.just_before(query.newest_first),
        });
        let (mut frames, mut count, mut bytes) = (0, 0, 0);
        let (mut taken, mut held, mut last_taken) = (0, 0, None);
        let mut sample: Vec<(i64, Sound)> = Vec::new();
        loop {
            let page = self.store.frames(query.clone()).await.map_err(search_failure)?;
            frames += page.frames.len() + page.malformed;
            let next = page.next;
            let mut left = self.sound(caller, wanted, page, &mut looked.withheld, &mut gone).await?.into_iter();
            if !gone.is_empty() && self.may_know(caller, wanted).await? {
                looked.gone = gone.values().sum();
            }
            loop {
                let chunk: Vec<Sound> = left.by_ref().take(CHUNK_LEN).collect();
                let Some(end) = chunk.last().map(|sound| sound.end) else { break };
                for sound in &chunk {
                    let kind = kind_of(&sound.reading.signals);
                    if sample.len() < SAMPLED_MAX && sample.iter().all(|(other, _)| *other != kind) {
                        sample.push((kind, sound.clone()));
                    }
                }
                let made = self.candidates(wanted, chunk).await?;
                (count, bytes) = (count + made.count, bytes + made.bytes);
                for Candidate { one: row, frame, pending, place } in made.candidates {
                    if last.is_some_and(|last| last.frame == place.frame && place.member <= last.member) {
                        continue;
                    }
                    let decided = self.decide(caller, Action::Search, &Target::of(&row)).await?;
                    if !decided.decision.allow {
                        continue;
                    }
                    if taken == bounds.room || held > bounds.bytes {
                        (looked.more, looked.end) = (true, last_taken);
                        return Ok(looked);
                    }
                    (taken, held, last_taken) = (taken + 1, held + row.bytes.len(), Some(place));
                    take(Cleared { row, pending, decided, frame: Some(frame) }, place);
                }
                if (count > MADE_MAX || bytes > MADE_BYTES_MAX) && (left.len() > 0 || next.is_some()) {
                    let end = Place { frame: end, member: WHOLE };
                    return self.cut(caller, wanted, looked, taken, end, sample).await;
                }
            }
            match next {
                Some(next) if frames >= bounds.frames => {
                    let end = Place { frame: next, member: WHOLE };
                    return self.cut(caller, wanted, looked, taken, end, sample).await;
                }
                Some(next) => (query.after, query.limit) = (Some(next), PAGE_MAX.min(bounds.frames - frames)),
                None => return Ok(looked),
            }
        }
    }

    /// What is said where more frames are than are looked at. That there are is nothing for those who may see none: whoever has found
    /// nothing and may see neither what sensors say as a rule nor what these said is told that this is all.
    async fn cut(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        looked: Measured,
        taken: usize,
        end: Place,
        sample: Vec<(i64, Sound)>,
    ) -> Result<Measured, Failure> {
        let mut more = taken > 0 || self.may_know(caller, wanted).await?;
        for (_, sound) in sample {
            if more {
                break;
            }
            let patient = wanted.patient.clone();
            let rows = beside(move || measurements(&sound.reading, &patient, &sound.org)).await??;
            more = self.may_see_any(caller, &rows).await?;
        }
        Ok(Measured { more, end: more.then_some(end), ..looked })
    }

    /// Whether the caller may see what sensors say of the patient, whatever it is.
    async fn may_know(&self, caller: &Caller, wanted: &Wanted) -> Result<bool, Failure> {
        let any = sensed(&wanted.patient, None, &self.org);
        Ok(self.decide(caller, Action::Search, &any).await?.decision.allow)
    }

    async fn may_see_any(&self, caller: &Caller, rows: &[store::Row]) -> Result<bool, Failure> {
        for row in rows {
            if self.decide(caller, Action::Search, &Target::of(row)).await?.decision.allow {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The frames of a page that the ledger bears out, in their order; counts the others, where the caller may hear of them, and those that
    /// are gone of the same batches.
    async fn sound(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        page: FramePage,
        withheld: &mut u64,
        gone: &mut BTreeMap<(Id16, u64), u64>,
    ) -> Result<Vec<Sound>, Failure> {
        let (malformed, ends) = (page.malformed, page.ends);
        let (mut rows, frames) = beside(move || {
            let frames = page.frames.iter().map(|row| frame_of(row).filter(|frame| is_filed(row, frame)));
            let frames: Vec<Option<Frame>> = frames.collect();
            (page.frames, frames)
        })
        .await?;
        let mut groups: BTreeMap<Id16, Vec<(Frame, TimeMs)>> = BTreeMap::new();
        let mut places: HashMap<Digest, FrameCursor> = HashMap::with_capacity(rows.len());
        for ((row, frame), end) in rows.iter().zip(frames).zip(ends) {
            let Some(frame) = frame else { continue };
            places.insert(frame.digest(), end);
            groups.entry(row.binding).or_default().push((frame, row.received_at));
        }
        let (mut sound, mut good) = (Vec::with_capacity(rows.len()), HashSet::with_capacity(rows.len()));
        for (binding, mut frames) in groups {
            frames.sort_unstable_by_key(|(frame, _)| frame.counter());
            let Some((first, _)) = frames.first() else { continue };
            let Some(ties) = self.ties(first, binding, &wanted.patient).await? else { continue };
            let borne_out = self.borne_out(&ties, frames).await?;
            good.extend(borne_out.let_go.iter().map(|counter| (binding, *counter)));
            gone.extend(borne_out.gone.into_iter().map(|(first, count)| ((binding, first), count)));
            for (reading, pending) in borne_out.readings {
                let Some(end) = places.get(&reading.digest) else { continue };
                good.insert((reading.binding, reading.counter));
                sound.push(Sound { reading, pending, org: ties.org.clone(), end: *end });
            }
        }
        let newest_first = wanted.newest_first();
        sound.sort_by(|a, b| if newest_first { b.end.cmp(&a.end) } else { a.end.cmp(&b.end) });
        rows.retain(|row| !good.contains(&(row.binding, row.counter)));
        *withheld += self.heard_of(caller, wanted, malformed, rows).await?;
        Ok(sound)
    }

    /// Of how many frames that do not agree with the ledger the caller may hear: by what they say, or where that cannot be read, by what
    /// sensors say as a rule.
    async fn heard_of(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        malformed: usize,
        rows: Vec<store::Frame>,
    ) -> Result<u64, Failure> {
        if malformed + rows.len() == 0 {
            return Ok(0);
        }
        let (patient, org) = (wanted.patient.clone(), self.org.clone());
        let said = beside(move || {
            let said = rows.iter().map(|row| frame_of(row).map(|frame| unverified(frame, row, &patient, &org)));
            said.collect::<Vec<_>>()
        })
        .await?;
        let as_a_rule = self.may_know(caller, wanted).await?;
        let mut told = if as_a_rule { malformed as u64 } else { 0 };
        for said in said {
            told += u64::from(match said.transpose()?.filter(|rows| !rows.is_empty()) {
                Some(rows) => self.may_see_any(caller, &rows).await?,
                None => as_a_rule,
            });
        }
        Ok(told)
    }

    /// What some frames say that meets the search, in their order.
    async fn candidates(&self, wanted: &Wanted, sound: Vec<Sound>) -> Result<Made, Failure> {
        let (patient, criteria) = (wanted.patient.clone(), wanted.criteria.clone());
        beside(move || {
            let mut made = Made::default();
            for Sound { reading, pending, org, end } in sound {
                for (member, row) in measurements(&reading, &patient, &org)?.into_iter().enumerate() {
                    (made.count, made.bytes) = (made.count + 1, made.bytes + row.bytes.len());
                    let values = extract(&row.rtype, &serde_json::from_slice(&row.bytes).unwrap_or_default());
                    if criteria.iter().all(|criterion| criterion.holds(&row, &values) == Some(true)) {
                        let place = Place { frame: end, member };
                        made.candidates.push(Candidate { one: row, frame: reading.digest, pending, place });
                    }
                }
            }
            Ok(made)
        })
        .await?
    }
}

/// Work on many frames, beside the tasks that answer others.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::ours("frames were not looked at to the end", e))
}

fn too_many() -> Failure {
    let text = format!(
        "more than {EXAMINED_MAX} frames of sensors would have to be looked at to count what they say: narrow the search by `date` and `code`, or read `$signals`"
    );
    Failure::invalid(IssueType::TooCostly, "", text)
}

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
    kept::frame_of,
    kinds::{kinds_for, times_for},
    node::Node,
    sensed::measurements,
};
use policy::Action;
use record::{Digest, Id16, TimeMs, fhir::IssueType};
use sensing::{Frame, Reading};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    str::FromStr,
};
use store::{Criterion, Cursor, FrameCursor, FrameFilter, FramePage, FrameQuery, PAGE_MAX, Sort, extract};

/// Frames of the first step of a page.
const STEP_LEN: usize = 50;

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
    /// Whether there are more of them.
    pub(crate) more: bool,
    /// Frames that do not agree with the ledger.
    pub(crate) withheld: u64,
}

/// A measurement that meets the search.
struct Candidate {
    one: store::Row,
    frame: Digest,
    pending: bool,
    place: Place,
}

impl Wanted {
    /// What of a search frames answer. None where it is not about one patient's Observations.
    pub(crate) fn of(asked: &Asked) -> Option<Self> {
        let patient = asked.patient.clone().filter(|_| asked.search.rtype == "Observation")?;
        let order = match &asked.search.sort {
            _ if !asked.sorted => Order::Behind,
            Sort::Date { param, newest_first } if param == "date" => Order::ByDate { newest_first: *newest_first },
            _ => return None,
        };
        let criteria = asked.search.criteria.clone();
        // Of what is chained a measurement says nothing.
        (!criteria.iter().any(Criterion::is_chained)).then_some(Self { patient, criteria, order })
    }

    /// What of a search for one patient's Observations frames would answer, if its order and its chains let them.
    pub(crate) fn left_out_of(asked: &Asked) -> Option<Self> {
        let patient = asked.patient.clone().filter(|_| asked.search.rtype == "Observation")?;
        let criteria = asked.search.criteria.iter().filter(|of| !of.is_chained()).cloned().collect();
        Self::of(asked).is_none().then_some(Self { patient, criteria, order: Order::Behind })
    }

    /// Everything that was measured of a patient.
    pub(crate) fn all_of(patient: &str) -> Self {
        Self { patient: patient.to_owned(), criteria: Vec::new(), order: Order::Behind }
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
        let of = FrameFilter::Kinds(self.patient.clone(), kinds_for(&self.criteria));
        FrameQuery { from: time(from), to: time(to), newest_first: self.newest_first(), ..FrameQuery::of(of) }
    }

    /// Which of a record and a measurement stands first.
    fn record_first(&self, record: &Cursor, measured: &Place) -> bool {
        let compared = record.key().cmp(&measured.frame.measured_at());
        match self.order {
            Order::Behind => true,
            Order::ByDate { newest_first: false } => compared != Ordering::Greater,
            Order::ByDate { newest_first: true } => compared != Ordering::Less,
        }
    }
}

/// A page of records and measurements, as long as was asked for, and where it ended unless it is the last.
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
            (record, None) if record.is_none() => break,
            (record, _) => record.is_some(),
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
    if frames.is_empty() && !measured.more {
        reached.frames = Reached::All;
    }
    let is_last = reached == Both { records: Reached::All, frames: Reached::All };
    (page, (!is_last).then_some(reached))
}

impl Node {
    /// The measurements behind `reached` that the caller may see, at most `room`.
    pub(crate) async fn measured(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        reached: Reached<Place>,
        room: usize,
    ) -> Result<Measured, Failure> {
        let found = self.look_through(caller, wanted, reached, room).await;
        let says_more = found.as_ref().map_or_else(|failure| *failure == too_many(), |found| found.withheld > 0);
        if says_more {
            // That there are many frames, or some that were changed, is nothing for those who may see none.
            let any = sensed(&wanted.patient, None, &self.org);
            if !self.decide(caller, Action::Search, &any).await?.decision.allow {
                return Ok(Measured { withheld: 0, ..found.unwrap_or_default() });
            }
        }
        found
    }

    async fn look_through(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        reached: Reached<Place>,
        room: usize,
    ) -> Result<Measured, Failure> {
        let mut query = FrameQuery { limit: room.saturating_add(1).clamp(STEP_LEN, PAGE_MAX), ..wanted.query() };
        let last = match reached {
            Reached::All => return Ok(Measured::default()),
            Reached::To(place) => Some(place),
            Reached::Nothing => None,
        };
        // The last frame of the page before may have more to say.
        query.after = last.map(|place| place.frame.just_before(query.newest_first));
        let (mut measured, mut examined) = (Measured::default(), 0);
        loop {
            let page = self.store.frames(query.clone()).await.map_err(search_failure)?;
            examined += page.frames.len() + page.malformed;
            if examined > EXAMINED_MAX {
                return Err(too_many());
            }
            let next = page.next;
            for candidate in self.candidates(wanted, page, &mut measured.withheld).await? {
                let place = candidate.place;
                if last.is_some_and(|last| last.frame == place.frame && place.member <= last.member) {
                    continue;
                }
                let Candidate { one: row, frame, pending, .. } = candidate;
                let decided = self.decide(caller, Action::Search, &Target::of(&row)).await?;
                if !decided.decision.allow {
                    continue;
                }
                if measured.found.len() == room {
                    measured.more = true;
                    return Ok(measured);
                }
                measured.found.push((Cleared { row, pending, decided, frame: Some(frame) }, place));
            }
            match next {
                Some(next) => (query.after, query.limit) = (Some(next), PAGE_MAX),
                None => return Ok(measured),
            }
        }
    }

    /// Whether sensors said something that the caller would find if the search let it.
    pub(crate) async fn is_measured(&self, caller: &Caller, wanted: Option<Wanted>) -> Result<bool, Failure> {
        match wanted {
            // Whether there is more than is looked at is not worth a refusal here.
            Some(wanted) => Ok(self.measured(caller, &wanted, Reached::Nothing, 0).await.is_ok_and(|found| found.more)),
            None => Ok(false),
        }
    }

    /// What the frames of a page say that meets the search, in their order; counts those that do not agree with the ledger.
    async fn candidates(
        &self,
        wanted: &Wanted,
        page: FramePage,
        withheld: &mut u64,
    ) -> Result<Vec<Candidate>, Failure> {
        let (patient, criteria) = (wanted.patient.clone(), wanted.criteria.clone());
        let all = page.frames.len();
        *withheld += page.malformed as u64;
        let mut groups: BTreeMap<Id16, Vec<(Frame, TimeMs)>> = BTreeMap::new();
        let mut places: HashMap<Digest, FrameCursor> = HashMap::with_capacity(all);
        let read = beside(move || {
            page.frames
                .iter()
                .map(frame_of)
                .zip(page.frames.iter().map(|row| (row.binding, row.received_at)))
                .zip(page.ends)
                .filter_map(|((frame, row), end)| Some((frame?, row, end)))
                .collect::<Vec<_>>()
        })
        .await?;
        *withheld += (all - read.len()) as u64;
        for (frame, (binding, received_at), end) in read {
            places.insert(frame.digest(), end);
            groups.entry(binding).or_default().push((frame, received_at));
        }
        let mut readings: Vec<(Reading, bool, record::OrgId, FrameCursor)> = Vec::with_capacity(places.len());
        for (binding, mut frames) in groups {
            frames.sort_unstable_by_key(|(frame, _)| frame.counter());
            let of_binding = frames.len();
            let Some((first, _)) = frames.first() else { continue };
            let Some(ties) = self.ties(first, binding, &patient).await? else {
                *withheld += of_binding as u64;
                continue;
            };
            let borne_out = self.borne_out(&ties, frames).await?;
            *withheld += (of_binding - borne_out.len()) as u64;
            readings.extend(borne_out.into_iter().filter_map(|(reading, pending)| {
                let end = *places.get(&reading.digest)?;
                Some((reading, pending, ties.org.clone(), end))
            }));
        }
        let newest_first = wanted.newest_first();
        readings.sort_by(|(.., a), (.., b)| if newest_first { b.cmp(a) } else { a.cmp(b) });
        beside(move || {
            let mut candidates = Vec::new();
            for (reading, pending, org, frame) in readings {
                for (member, row) in measurements(&reading, &patient, &org)?.into_iter().enumerate() {
                    let values = extract(&row.rtype, &serde_json::from_slice(&row.bytes).unwrap_or_default());
                    if criteria.iter().all(|criterion| criterion.holds(&row, &values) == Some(true)) {
                        let place = Place { frame, member };
                        candidates.push(Candidate { one: row, frame: reading.digest, pending, place });
                    }
                }
            }
            Ok(candidates)
        })
        .await?
    }
}

/// Work on many frames, beside the tasks that answer others.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::ours("frames were not looked at to the end", e))
}

fn too_many() -> Failure {
    let text = format!(
        "more than {EXAMINED_MAX} frames of sensors would have to be looked at: narrow the search by `date` and `code`, or read `$signals`"
    );
    Failure::invalid(IssueType::TooCostly, "", text)
}

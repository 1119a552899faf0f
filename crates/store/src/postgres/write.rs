//! The writing connection: one transaction for a group of puts, a statement for each table.
//!
//! ```text
//! begin, writers' lock, fence, what the puts ask about ─► check each put ─► savepoint, rows of all ─► submissions ─► commit
//!                                                                │ conflict: that put alone      │ refused: back to the savepoint,
//!                                                                ▼ fails                         ▼ the puts one by one
//! ```
//!
//! All writers of a database take turns by one lock, which the server frees when the transaction ends. So nothing that a put was
//! checked against changes before it is committed, and versions become visible in the order of their places.

use super::{
    columns::filed,
    schema,
    server::{Server, ServerError},
    session::{Purpose, Session, Step, TURN_S_MAX, WRITE_S_MAX},
    stage::{Newest, Stage, Standing},
};
use crate::{
    int64::{clamp, int},
    put::{Expected, Put, PutError, Unless},
    row::EntryPlace,
    seal::SealedSubmission,
    select::{Dialect, ids},
    store::OpenError,
};
use record::OrgId;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant},
};
use tokio_postgres::{Row as Columns, types::ToSql};

/// The lock that all writers of a database take for each transaction. "VtTr", and 2.
const WRITERS_LOCK: i64 = 0x5674_5472_0000_0002;
/// After the server could not be reached, it is tried again after this time, then after twice as long, up to the second one.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long the work of a transaction may take, its turn included: what the server itself allows the slowest statement, and a little more.
/// A server that has not answered then counts as lost, as one does that was frozen and keeps its connections.
pub(super) const WORK_WAIT: Duration = Duration::from_secs(TURN_S_MAX + WRITE_S_MAX + 10);
/// The longest that the check of a condition may run, in seconds: the other puts of the group wait meanwhile.
const CONDITION_S_MAX: u64 = 10;
/// How long a commit may take, the standbys included that it waits for. Then it is in doubt.
const COMMIT_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to undo a transaction. Then the connection is given up, which undoes it as well.
const ROLLBACK_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to bring a database from an earlier format to this one.
const FORMAT_WAIT: Duration = Duration::from_secs(3_600);
/// How long it may take to gather statistics.
const STATISTICS_WAIT: Duration = Duration::from_secs(3_600);
/// The least time that the server is given to say what became of a commit, of which it waits for its turn all but the last part.
const VERDICT_WAIT_MIN: Duration = Duration::from_secs(2);
const VERDICT_WAIT_LAST: Duration = Duration::from_secs(1);
/// The row of the fence of a writer that has not written for so long is removed when another one opens.
const FENCE_KEPT: &str = "30 days";

const BEGIN: &str = "BEGIN";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
/// How long this transaction waits for the lock.
const TURN: &str = "SELECT set_config('lock_timeout', $1, true)";
/// What became of a transaction is told by this row alone, whatever it wrote.
const FENCE: &str = "INSERT INTO fence (writer, org, last, at) VALUES ($1, $2, $3, now()) \
    ON CONFLICT (writer) DO UPDATE SET last = excluded.last, at = excluded.at";
/// Asks for it by a write, so that this commit waits for the standbys that the other one was to wait for.
const SEEN: &str = "UPDATE fence SET at = now() WHERE writer = $1 AND last = $2 RETURNING 1";
const BATCH: &str = "SAVEPOINT batch";
const PUT: &str = "SAVEPOINT put";
const CONDITIONS: &str = "SAVEPOINT conditions";
/// What the database has of templates, by the place of their names: a number, whether that has the sample, and the number that it would have
/// otherwise.
const TEMPLATES: &str = "SELECT k.place, t.number, t.sample = k.sample, nextval('template_number') \
    FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k (name, sample, place) LEFT JOIN template t ON t.name = k.name";
/// The longest that a statement may run from here on in the transaction.
const LONGEST: &str = "SELECT set_config('statement_timeout', $1, true)";

/// The one connection of this process that writes.
pub(crate) struct Writer {
    server: Server,
    org: OrgId,
    session: Option<Session>,
    /// Drawn at opening: names this writer in the fence.
    id: i64,
    /// Of the last transaction.
    number: i64,
    backoff: Duration,
    retry_at: Option<Instant>,
}

/// How a commit failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// The server said no: nothing was written.
    Undone(PutError),
    /// The server said nothing of the transaction of this number.
    Unknown { number: i64 },
}

impl From<ServerError> for PutError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Lost(why) => {
                tracing::warn!(why, "a write found no database server");
                Self::Unavailable
            }
            ServerError::Stale(why) => {
                tracing::warn!(why, "a write found other tables");
                Self::Unavailable
            }
            ServerError::NoTurn => Self::Busy,
            ServerError::Refused(_) => Self::NotWritten(error.to_string()),
        }
    }
}

impl Writer {
    pub(crate) fn open(server: Server, org: OrgId) -> Result<Self, OpenError> {
        let opened = server.wait_for(WORK_WAIT, async {
            let session = Session::open(&server, Purpose::Write).await?;
            let is_behind = schema::is_behind(&session).await?;
            Ok::<_, OpenError>((session, is_behind))
        });
        let (session, is_behind) = opened?;
        let session = server.wait_for(if is_behind { FORMAT_WAIT } else { WORK_WAIT }, async {
            schema::bring_up(&session).await?;
            let old = format!("DELETE FROM fence WHERE at < now() - interval '{FENCE_KEPT}'");
            session.execute(&old, &[]).await?;
            Ok::<_, OpenError>(session)
        })?;
        // Random enough for a name.
        let id = i64::from_ne_bytes(RandomState::new().build_hasher().finish().to_ne_bytes());
        Ok(Self { server, org, session: Some(session), id, number: 0, backoff: BACKOFF_MIN, retry_at: None })
    }

    /// Sees to it that there is a connection.
    pub(crate) fn ready(&mut self) -> Result<(), PutError> {
        if self.session.as_ref().is_some_and(|session| !session.is_lost()) {
            return Ok(());
        }
        self.session = None;
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(PutError::Unavailable);
        }
        match self.server.wait(Session::open(&self.server, Purpose::Write)) {
            Ok(session) => {
                tracing::info!("connected with the database server again");
                (self.session, self.backoff, self.retry_at) = (Some(session), BACKOFF_MIN, None);
                Ok(())
            }
            Err(error) => {
                self.retry_at = Some(Instant::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                Err(error.into())
            }
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn session(&self) -> Result<&Session, ServerError> {
        self.session.as_ref().ok_or_else(|| ServerError::Lost("no connection".into()))
    }

    /// Ends the transaction after a failure, or the connection with it.
    pub(super) fn failed(&mut self, error: ServerError) -> PutError {
        self.give_up(&error);
        error.into()
    }

    fn give_up(&mut self, error: &ServerError) {
        match error {
            ServerError::Lost(_) | ServerError::Stale(_) => self.session = None,
            ServerError::NoTurn | ServerError::Refused(_) => self.rollback(),
        }
    }

    /// Begins the next transaction when the others are done; `more` is asked in the same breath.
    pub(super) async fn start(&mut self, more: &[Step<'_>]) -> Result<Vec<Vec<Columns>>, ServerError> {
        self.number += 1;
        let org = self.org.as_str();
        let mut steps = vec![
            Step::new(BEGIN, &[]),
            Step::new(LOCK, &[&WRITERS_LOCK]),
            Step::new(FENCE, &[&self.id, &org, &self.number]),
        ];
        let own = steps.len();
        steps.extend(more.iter().map(|step| Step { sql: step.sql, parameters: step.parameters.clone() }));
        let mut answers = self.session()?.pipeline(&steps).await?;
        Ok(answers.split_off(own))
    }

    /// Begins a transaction and inserts all of each put but its ledger entries, or nothing of it. An error is one of all of them.
    pub(crate) fn insert(&mut self, puts: &[&Put]) -> Result<Vec<Result<(), PutError>>, PutError> {
        let server = self.server.clone();
        server.wait_for(WORK_WAIT, self.insert_all(puts)).map_err(|error| self.failed(error))
    }

    async fn insert_all(&mut self, puts: &[&Put]) -> Result<Vec<Result<(), PutError>>, ServerError> {
        let mut results = Vec::with_capacity(puts.len());
        let run = run_of(puts);
        let wanted = Wanted::of(run);
        let answers = self.start(&wanted.steps()).await?;
        let session = self.session()?;
        insert_run(session, run, wanted.stage(answers)?, &mut results).await?;
        while let Some(first) = puts.get(results.len()) {
            if first.removals.is_empty() {
                let run = run_of(&puts[results.len()..]);
                let wanted = Wanted::of(run);
                let answers = session.pipeline(&wanted.steps()).await?;
                insert_run(session, run, wanted.stage(answers)?, &mut results).await?;
            } else {
                results.push(insert_one(session, first).await?);
            }
        }
        Ok(results)
    }

    /// Files the submissions of a group, and where each of its entries stands. The lane is ours alone, so whatever else stands at
    /// these numbers was not written by us.
    pub(crate) fn submissions(
        &mut self,
        org: &OrgId,
        sealed: &[SealedSubmission],
        entries: &[EntryPlace],
    ) -> Result<(), PutError> {
        let org = org.as_str();
        let lanes: Vec<i64> = sealed.iter().map(|one| i64::from(one.lane)).collect();
        let counts: Vec<i64> = sealed.iter().map(|one| i64::from(one.count)).collect();
        let bytes: Vec<&[u8]> = sealed.iter().map(|one| one.bytes.as_slice()).collect();
        let firsts = sealed.iter().map(|one| int(one.first_seq, "a sequence number that is too large"));
        let firsts: Vec<i64> = firsts.collect::<Result<_, _>>()?;
        // Of an id that is there twice, the later one counts.
        let entries: BTreeMap<_, _> = entries.iter().map(|entry| (entry.id.as_bytes().as_slice(), entry)).collect();
        let ids: Vec<&[u8]> = entries.keys().copied().collect();
        let orgs: Vec<&str> = entries.values().map(|entry| entry.org.as_str()).collect();
        let entry_lanes: Vec<i64> = entries.values().map(|entry| i64::from(entry.lane)).collect();
        let seqs = entries.values().map(|entry| int(entry.seq, "a sequence number that is too large"));
        let seqs: Vec<i64> = seqs.collect::<Result<_, _>>()?;
        let records = || entries.values().map(|entry| entry.record.as_ref());
        let rtypes: Vec<Option<Cow<'_, str>>> = records().map(|key| key.map(|key| filed(&key.rtype))).collect();
        let names: Vec<Option<Cow<'_, str>>> = records().map(|key| key.map(|key| filed(&key.id))).collect();
        let versions =
            records().map(|key| key.map(|key| int(key.version, "a version number that is too large")).transpose());
        let versions: Vec<Option<i64>> = versions.collect::<Result<_, _>>()?;
        let steps = [
            Step::new(
                "INSERT INTO submission (org, lane, first_seq, count, bytes) SELECT $1, s.* FROM \
                 unnest($2::int8[], $3::int8[], $4::int8[], $5::bytea[]) AS s \
                 ON CONFLICT (org, lane, first_seq) DO UPDATE SET count = excluded.count, bytes = excluded.bytes",
                &[&org, &lanes, &firsts, &counts, &bytes],
            ),
            Step::new(
                "INSERT INTO entry (id, org, lane, seq, rtype, record, version) SELECT * FROM \
                 unnest($1::bytea[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::int8[]) \
                 ON CONFLICT (id) DO UPDATE SET org = excluded.org, lane = excluded.lane, seq = excluded.seq, \
                 rtype = excluded.rtype, record = excluded.record, version = excluded.version",
                &[&ids, &orgs, &entry_lanes, &seqs, &rtypes, &names, &versions],
            ),
        ];
        let filed = self.session().and_then(|session| self.server.wait_for(WORK_WAIT, session.pipeline(&steps)));
        let filed = filed.map(|_| ());
        filed.map_err(|error| self.failed(error))
    }

    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        let committed =
            self.session().and_then(|session| self.server.wait_for(COMMIT_WAIT, session.execute("COMMIT", &[])));
        match committed {
            Ok(_) => Ok(()),
            Err(error @ (ServerError::Refused(_) | ServerError::NoTurn | ServerError::Stale(_))) => {
                Err(CommitError::Undone(self.failed(error)))
            }
            Err(error @ ServerError::Lost(_)) => {
                tracing::warn!(%error, "the database server went away in a commit");
                self.session = None;
                Err(CommitError::Unknown { number: self.number })
            }
        }
    }

    /// What became of the transaction of this number, the last one, whose commit was not answered; none if the server does not say it
    /// within `wait`.
    ///
    /// It has ended once the lock is free, however long the server took to notice that the connection was gone.
    pub(crate) fn verdict(&mut self, number: i64, wait: Duration) -> Option<bool> {
        let since = Instant::now();
        loop {
            if self.ready().is_ok() {
                let left = wait.saturating_sub(since.elapsed()).max(VERDICT_WAIT_MIN);
                match self.server.wait_for(left, self.is_committed(number, left - VERDICT_WAIT_LAST)) {
                    Ok(committed) => return Some(committed),
                    Err(error) => {
                        tracing::warn!(%error, "what became of a commit is not known yet");
                        self.give_up(&error);
                    }
                }
            }
            if since.elapsed() >= wait {
                return None;
            }
            std::thread::sleep(BACKOFF_MIN);
        }
    }

    async fn is_committed(&self, number: i64, turn: Duration) -> Result<bool, ServerError> {
        let turn = turn.min(Duration::from_secs(TURN_S_MAX)).as_millis().to_string();
        let steps = [
            Step::new(BEGIN, &[]),
            Step::new(TURN, &[&turn]),
            Step::new(LOCK, &[&WRITERS_LOCK]),
            Step::new(SEEN, &[&self.id, &number]),
            Step::new("COMMIT", &[]),
        ];
        let answers = self.session()?.pipeline(&steps).await?;
        Ok(answers.get(3).is_some_and(|rows| !rows.is_empty()))
    }

    /// Which of the submissions the database has, decided for good: the transactions of this gateway's earlier processes have ended
    /// once the lock is ours.
    pub(crate) fn decide(&mut self, org: &OrgId, submissions: &[&SealedSubmission]) -> Result<Vec<bool>, PutError> {
        let server = self.server.clone();
        let decided = server.wait_for(WORK_WAIT, async {
            self.start(&[]).await?;
            let session = self.session()?;
            let mut held = Vec::with_capacity(submissions.len());
            for submission in submissions {
                let Ok(first_seq) = i64::try_from(submission.first_seq) else {
                    held.push(false);
                    continue;
                };
                let sql = "SELECT 1 FROM submission WHERE org = $1 AND lane = $2 AND first_seq = $3 AND count = $4 AND bytes = $5";
                let (lane, count) = (i64::from(submission.lane), i64::from(submission.count));
                let rows = session.query(sql, &[&org.as_str(), &lane, &first_seq, &count, &submission.bytes]).await?;
                held.push(!rows.is_empty());
            }
            session.execute("COMMIT", &[]).await?;
            Ok::<_, ServerError>(held)
        });
        decided.map_err(|error| self.failed(error))
    }

    /// Undoes the transaction. A failure of it is one of the connection, which undoes it as well.
    pub(crate) fn rollback(&mut self) {
        let undone =
            self.session().and_then(|session| self.server.wait_for(ROLLBACK_WAIT, session.execute("ROLLBACK", &[])));
        if undone.is_err() {
            self.session = None;
        }
    }

    pub(crate) fn optimize(&mut self) -> Result<(), PutError> {
        self.ready()?;
        let analyze = format!("SET LOCAL statement_timeout = 0; ANALYZE {}", schema::TABLES_LARGE);
        let done = self.session().and_then(|session| {
            let asked = async { Ok(session.client.batch_execute(&analyze).await?) };
            self.server.wait_for(STATISTICS_WAIT, asked)
        });
        done.map_err(|error| self.failed(error))
    }
}

/// The puts from the first on that take nothing out.
fn run_of<'a, 'b>(puts: &'b [&'a Put]) -> &'b [&'a Put] {
    let run = puts.iter().take_while(|put| put.removals.is_empty()).count();
    &puts[..run]
}

/// Checks puts one after the other and sends their rows together. Gives fewer results than puts when what they were checked against is
/// not known any more.
async fn insert_run<'a>(
    session: &Session,
    puts: &[&'a Put],
    mut stage: Stage<'a>,
    results: &mut Vec<Result<(), PutError>>,
) -> Result<(), ServerError> {
    let before = results.len();
    // Puts before this one are sent.
    let mut sent = 0;
    for (at, put) in puts.iter().enumerate() {
        if put.conditions.iter().any(|unless| sees(unless, &stage)) {
            if !send(session, &mut stage).await? {
                return insert_each(session, &puts[sent..at], results, before + sent).await;
            }
            sent = at;
        }
        let checked = check(session, put).await?;
        results.push(checked.and_then(|()| stage.add(put)));
    }
    if !stage.is_empty() && !send(session, &mut stage).await? {
        return insert_each(session, &puts[sent..], results, before + sent).await;
    }
    Ok(())
}

/// Whether a condition may be met by what is not sent yet.
fn sees(unless: &Unless, stage: &Stage<'_>) -> bool {
    stage.has_type(&unless.rtype)
        || (!stage.is_empty() && unless.criteria.iter().any(crate::search::Criterion::is_chained))
}

/// Whether all rows were taken; if not, none.
async fn send(session: &Session, stage: &mut Stage<'_>) -> Result<bool, ServerError> {
    let other = match stage.send(session, BATCH).await {
        Ok(None) => return Ok(true),
        Ok(Some(frame)) => format!("counter {} of a device stands for another frame", frame.counter),
        Err(ServerError::Refused(why)) => why,
        Err(error) => return Err(error),
    };
    tracing::debug!(why = other, "puts that were refused together are inserted one by one");
    session.execute("ROLLBACK TO SAVEPOINT batch", &[]).await?;
    Ok(false)
}

/// Inserts puts one by one; their results take the place of those from `from` on.
async fn insert_each(
    session: &Session,
    puts: &[&Put],
    results: &mut Vec<Result<(), PutError>>,
    from: usize,
) -> Result<(), ServerError> {
    results.truncate(from);
    for put in puts {
        results.push(insert_one(session, put).await?);
    }
    Ok(())
}

async fn insert_one(session: &Session, put: &Put) -> Result<Result<(), PutError>, ServerError> {
    session.execute(PUT, &[]).await?;
    let inserted = match insert_alone(session, put).await {
        Ok(inserted) => inserted,
        Err(error @ ServerError::Refused(_)) => Err(error.into()),
        Err(error) => return Err(error),
    };
    if inserted.is_err() {
        session.execute("ROLLBACK TO SAVEPOINT put", &[]).await?;
    }
    session.execute("RELEASE SAVEPOINT put", &[]).await?;
    Ok(inserted)
}

async fn insert_alone(session: &Session, put: &Put) -> Result<Result<(), PutError>, ServerError> {
    if let Err(error) = check(session, put).await? {
        return Ok(Err(error));
    }
    for removal in &put.removals {
        super::remove::remove(session, removal).await?;
    }
    let wanted = Wanted::of(&[put]);
    let answers = session.pipeline(&wanted.steps()).await?;
    let mut stage = wanted.stage(answers)?;
    if let Err(error) = stage.add(put) {
        return Ok(Err(error));
    }
    let other = stage.send(session, BATCH).await?;
    let conflict =
        |frame: &crate::row::Frame| PutError::FrameConflict { device: frame.device.clone(), counter: frame.counter };
    Ok(other.map_or(Ok(()), |frame| Err(conflict(frame))))
}

/// Whether no condition of a put is met. A question that the server refuses or that takes too long fails this put alone.
async fn check(session: &Session, put: &Put) -> Result<Result<(), PutError>, ServerError> {
    const SHOWN: i64 = 2;
    if put.conditions.is_empty() {
        return Ok(Ok(()));
    }
    if put.conditions.iter().any(|unless| unless.criteria.is_empty()) {
        return Ok(Err(PutError::Invalid("a condition without criteria")));
    }
    let asked = put.conditions.iter().map(|Unless { rtype, criteria }| ids(Dialect::Postgres, rtype, criteria, SHOWN));
    let asked: Vec<_> = asked.collect();
    // Refused before the savepoint is there, one would end the transaction for all.
    for sql in &asked {
        session.prepared(&sql.text).await?;
    }
    let longest = format!("{CONDITION_S_MAX}s");
    let mut steps = vec![Step::new(CONDITIONS, &[]), Step::new(LONGEST, &[&longest])];
    steps.extend(asked.iter().map(|sql| Step {
        sql: &sql.text,
        parameters: sql.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect(),
    }));
    // What the savepoint brings back are the limit, and the transaction when the server refused a question.
    steps.extend([Step::new("ROLLBACK TO SAVEPOINT conditions", &[]), Step::new("RELEASE SAVEPOINT conditions", &[])]);
    let answers = match session.pipeline(&steps).await {
        Ok(answers) => answers,
        Err(error @ ServerError::Refused(_)) => return Ok(Err(error.into())),
        Err(error) => return Err(error),
    };
    for (condition, (unless, found)) in put.conditions.iter().zip(answers.iter().skip(2)).enumerate() {
        if !found.is_empty() {
            // Somebody may have changed the form of an id.
            let ids = found.iter().filter_map(|columns| columns.try_get(0).ok()).collect();
            return Ok(Err(PutError::Matched { condition, rtype: unless.rtype.clone(), ids }));
        }
    }
    Ok(Ok(()))
}

/// What has to be known of the database before puts can be checked.
struct Wanted<'a> {
    keys: Vec<(&'a str, &'a str)>,
    rtypes: Vec<Cow<'a, str>>,
    ids: Vec<Cow<'a, str>>,
    /// Versions whose number alone must not be there.
    any: Vec<(&'a str, &'a str, i64)>,
    any_rtypes: Vec<Cow<'a, str>>,
    any_ids: Vec<Cow<'a, str>>,
    any_numbers: Vec<i64>,
    /// Names of templates, each once, and their samples.
    templates: Vec<&'a [u8]>,
    samples: Vec<&'a [u8]>,
    records: i64,
}

impl<'a> Wanted<'a> {
    fn of(puts: &[&'a Put]) -> Self {
        let rows = || puts.iter().flat_map(|put| &put.records);
        let keys: HashSet<(&str, &str)> = rows().map(|new| (new.row.rtype.as_str(), new.row.id.as_str())).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let any = rows().filter(|new| new.expected == Expected::Any);
        let any: Vec<_> =
            any.map(|new| (new.row.rtype.as_str(), new.row.id.as_str(), clamp(new.row.version))).collect();
        let templates = rows().filter_map(|new| new.template.as_deref());
        let templates: BTreeMap<&[u8], &[u8]> =
            templates.map(|template| (template.name.as_bytes().as_slice(), template.sample.as_slice())).collect();
        Self {
            templates: templates.keys().copied().collect(),
            samples: templates.values().copied().collect(),
            rtypes: keys.iter().map(|(rtype, _)| filed(rtype)).collect(),
            ids: keys.iter().map(|(_, id)| filed(id)).collect(),
            keys,
            any_rtypes: any.iter().map(|(rtype, _, _)| filed(rtype)).collect(),
            any_ids: any.iter().map(|(_, id, _)| filed(id)).collect(),
            any_numbers: any.iter().map(|(_, _, number)| *number).collect(),
            any,
            records: clamp(rows().count() as u64),
        }
    }

    fn steps(&self) -> Vec<Step<'_>> {
        if self.records == 0 {
            return Vec::new();
        }
        let mut steps = vec![
            Step::new("SELECT setval('version_place', nextval('version_place') + $1 - 1)", &[&self.records]),
            Step::new(
                "SELECT k.place, n.version, n.vid FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (rtype, id, place) \
                 CROSS JOIN LATERAL (SELECT v.version, v.vid FROM version v WHERE v.rtype = k.rtype AND v.id = k.id \
                 ORDER BY v.version DESC LIMIT 1) n",
                &[&self.rtypes, &self.ids],
            ),
        ];
        if !self.any.is_empty() {
            steps.push(Step::new(
                "SELECT k.place FROM unnest($1::text[], $2::text[], $3::int8[]) WITH ORDINALITY AS k (rtype, id, version, place) \
                 WHERE EXISTS (SELECT 1 FROM version v WHERE v.rtype = k.rtype AND v.id = k.id AND v.version = k.version OFFSET 0)",
                &[&self.any_rtypes, &self.any_ids, &self.any_numbers],
            ));
        }
        if !self.templates.is_empty() {
            steps.push(Step::new(TEMPLATES, &[&self.templates, &self.samples]));
        }
        steps
    }

    fn stage(self, answers: Vec<Vec<Columns>>) -> Result<Stage<'a>, ServerError> {
        let mut answers = answers.into_iter();
        let at = |place: i64| usize::try_from(place - 1).unwrap_or(usize::MAX);
        let places = answers.next().unwrap_or_default();
        let last: i64 = places.first().map_or(Ok(0), |columns| columns.try_get(0))?;
        let mut newest = HashMap::new();
        for columns in answers.next().unwrap_or_default() {
            let (place, vid) = (columns.try_get(0)?, columns.try_get(2)?);
            // One without a number is nobody's newest, and keeps no other put from being written.
            let Ok(version) = columns.try_get(1) else { continue };
            newest.extend(self.keys.get(at(place)).map(|key| (*key, Newest { version, vid })));
        }
        let mut there = HashSet::new();
        if !self.any.is_empty() {
            for columns in answers.next().unwrap_or_default() {
                there.extend(self.any.get(at(columns.try_get(0)?)).copied());
            }
        }
        let mut templates = HashMap::new();
        for columns in answers.next().unwrap_or_default() {
            let Some(name) = self.templates.get(at(columns.try_get(0)?)) else { continue };
            // A number that is none of ours may be a version's place.
            let found = columns.try_get::<_, Option<i64>>(1)?.filter(|number| *number > 0);
            let is_sound: Option<bool> = columns.try_get(2)?;
            let number = match found {
                Some(number) => number,
                None => columns.try_get(3)?,
            };
            templates.insert(*name, Standing { number, is_sound: found.is_some() && is_sound == Some(true) });
        }
        Ok(Stage::new(newest, there, last.saturating_sub(self.records).saturating_add(1), templates))
    }
}

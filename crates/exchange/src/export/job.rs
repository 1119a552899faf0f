//! The files of exports, and how far each is.

use crate::{failure::Failure, node::private_folder};
use record::{
    Id16, TimeMs,
    fhir::{Issue, IssueType, Outcome},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Exports that are made at the same time; whoever asks for more is asked to wait.
const RUNNING_MAX: usize = 2;
/// Exports that lie here at the same time, of all users and of one.
const KEPT_MAX: usize = 16;
const KEPT_OF_USER_MAX: usize = 4;
/// How long it is told that an export came to nothing, in milliseconds.
const FAILED_MS: u64 = 10 * 60 * 1000;
/// How long the files of an export lie here, in milliseconds: a day.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Bytes of the files of one export.
const BYTES_MAX: u64 = 4 << 30;
/// What is said of an export beside its files, in the folder of each.
const MANIFEST: &str = "manifest.json";
/// The type of what is said about an export.
const OUTCOME: &str = "OperationOutcome";

/// One file of an export: resources of one type, one on each line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFile {
    /// The FHIR type.
    pub rtype: String,
    /// How many.
    pub count: u64,
}

/// An export as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    user: String,
    /// The request that began it.
    pub request: String,
    /// When it began: what was written since need not be in it.
    pub begun: TimeMs,
    /// How far it is.
    pub state: ExportState,
}

/// How far an export is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportState {
    /// So many patients of so many are done.
    Running(u64, u64),
    /// Its files can be fetched.
    Done {
        /// Records, by their types.
        files: Vec<ExportFile>,
        /// What is missing from them: OperationOutcomes.
        errors: Option<ExportFile>,
        /// They are taken away then.
        until: TimeMs,
    },
    /// It came to nothing.
    Failed(String),
}

/// Every export of this gateway that is made or lies here.
pub(crate) struct Exports {
    folder: PathBuf,
    jobs: Mutex<HashMap<Id16, Arc<Job>>>,
    permits: Arc<Semaphore>,
}

/// Says whether whoever asked for an export may still come in.
pub type GoesOn = Box<dyn Fn() -> bool + Send + Sync>;

/// One export.
pub(super) struct Job {
    /// Asked before each record, and before the files can be fetched.
    goes_on: GoesOn,
    /// Whether it said no: that is not taken back.
    over: AtomicBool,
    id: Id16,
    request: String,
    folder: PathBuf,
    /// Nobody wants it any more.
    dropped: AtomicBool,
    done: AtomicU64,
    of: AtomicU64,
    shown: Mutex<Export>,
}

impl Exports {
    /// Finds the exports that lie in a folder. Those that were not done when the program ended are taken away: their callers ask again.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        private_folder(&folder)?;
        let mut jobs = HashMap::new();
        for found in fs::read_dir(&folder)? {
            let folder = found?.path();
            let id = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Id16>().ok());
            let manifest = fs::read(folder.join(MANIFEST)).ok();
            let shown = manifest.and_then(|bytes| serde_json::from_slice::<Export>(&bytes).ok());
            match id.zip(shown) {
                Some((id, shown)) => _ = jobs.insert(id, Arc::new(Job::new(id, folder, shown, Box::new(|| true)))),
                None => fs::remove_dir_all(&folder).or_else(|_| fs::remove_file(&folder))?,
            }
        }
        Ok(Self { folder, jobs: Mutex::new(jobs), permits: Arc::new(Semaphore::new(RUNNING_MAX)) })
    }

    pub(super) fn begin(
        &self,
        id: Id16,
        user: &str,
        request: &str,
        now: TimeMs,
        goes_on: GoesOn,
    ) -> Result<(Arc<Job>, Files), Failure> {
        self.forget_old(now);
        let mut jobs = lock(&self.jobs);
        let of_user = jobs.values().filter(|job| lock(&job.shown).user == user).count();
        if of_user >= KEPT_OF_USER_MAX {
            let text = format!("{of_user} exports of yours lie here: take those away that you do not need any more");
            return Err(Failure::Conflict(text));
        }
        // The permit goes when nothing is written any more, also of an export that was taken away meanwhile.
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Failure::Busy)?;
        if jobs.len() >= KEPT_MAX {
            return Err(Failure::Busy);
        }
        let folder = self.folder.join(id.to_hex());
        private_folder(&folder).map_err(failed)?;
        let (user, request, state) = (user.to_owned(), request.to_owned(), ExportState::Running(0, 0));
        let shown = Export { user, request, begun: now, state };
        let job = Arc::new(Job::new(id, folder.clone(), shown, goes_on));
        jobs.insert(id, Arc::clone(&job));
        Ok((job, Files { folder, files: BTreeMap::new(), bytes: 0, _permit: permit }))
    }

    /// What became of an export.
    pub(super) async fn end(&self, job: &Job, made: Result<Files, Failure>, now: TimeMs) {
        let state = match made {
            Ok(files) => files.close(now).await,
            Err(failure) => Err(failure),
        };
        let state = state.and_then(|state| job.goes_on().map(|()| state));
        let state = state.unwrap_or_else(|failure| {
            tracing::warn!(%failure, id = %job.id, "an export came to nothing");
            let ours = matches!(failure, Failure::Ours(_));
            ExportState::Failed(if ours { "something of ours failed".to_owned() } else { failure.to_string() })
        });
        // Whoever takes it away meanwhile has the same lock.
        let jobs = lock(&self.jobs);
        let kept = match jobs.contains_key(&job.id) {
            true => job.keep(state),
            // What was written since it was taken away.
            false => remove(&job.folder),
        };
        drop(jobs);
        if let Err(error) = kept {
            tracing::warn!(%error, id = %job.id, "an export is not kept");
            self.forget(job.id);
        }
    }

    /// An export of this user.
    pub(super) fn state(&self, id: Id16, user: &str, now: TimeMs) -> Result<Export, Failure> {
        self.forget_old(now);
        Ok(self.job_of(id, user)?.show())
    }

    /// The place of a file of an export that is done.
    pub(super) fn file(&self, id: Id16, user: &str, rtype: &str) -> Result<PathBuf, Failure> {
        let job = self.job_of(id, user)?;
        let missing =
            || Failure::NotFound(format!("the file `{}` of this export", rtype.chars().take(64).collect::<String>()));
        let ExportState::Done { files, errors, .. } = job.state() else { return Err(missing()) };
        let mut all = files.iter().chain(&errors);
        let found = all.find(|file| file.rtype == rtype).ok_or_else(missing)?;
        Ok(job.folder.join(file_name(&found.rtype)))
    }

    pub(super) fn take_away(&self, id: Id16, user: &str) -> Result<(), Failure> {
        self.job_of(id, user)?;
        self.forget(id);
        Ok(())
    }

    /// Takes all exports away: a patient was erased whose records may be in any of them.
    pub(crate) fn clear(&self) {
        let all: Vec<Id16> = lock(&self.jobs).keys().copied().collect();
        all.into_iter().for_each(|id| self.forget(id));
    }

    fn job_of(&self, id: Id16, user: &str) -> Result<Arc<Job>, Failure> {
        let job = lock(&self.jobs).get(&id).cloned();
        let job = job.filter(|job| lock(&job.shown).user == user);
        job.ok_or_else(|| {
            Failure::NotFound(
                "such an export: it was never asked for by you, is over, or must be asked for again".into(),
            )
        })
    }

    fn forget_old(&self, now: TimeMs) {
        let is_old = |job: &Job| match job.state() {
            ExportState::Done { until, .. } => until <= now,
            ExportState::Failed(_) => lock(&job.shown).begun.plus_ms(FAILED_MS) <= now,
            ExportState::Running(..) => false,
        };
        let old: Vec<Id16> = lock(&self.jobs).values().filter(|job| is_old(job)).map(|job| job.id).collect();
        old.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(&self, id: Id16) {
        let mut jobs = lock(&self.jobs);
        let Some(job) = jobs.remove(&id) else { return };
        job.dropped.store(true, Ordering::Relaxed);
        if let Err(error) = remove(&job.folder) {
            // A file that was being written: it goes when the export ends.
            tracing::warn!(%error, %id, "the files of an export could not be taken away yet");
        }
    }
}

impl Job {
    fn new(id: Id16, folder: PathBuf, shown: Export, goes_on: GoesOn) -> Self {
        Self {
            goes_on,
            over: AtomicBool::new(false),
            id,
            request: shown.request.clone(),
            folder,
            dropped: AtomicBool::new(false),
            done: AtomicU64::new(0),
            of: AtomicU64::new(0),
            shown: Mutex::new(shown),
        }
    }

    /// The request that began it.
    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// So many patients of so many are done. Fails when nobody wants it any more.
    pub(super) fn is_at(&self, done: u64, of: u64) -> Result<(), Failure> {
        self.done.store(done, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
        self.goes_on()
    }

    /// Fails when nobody wants it any more, or may have it.
    pub(super) fn goes_on(&self) -> Result<(), Failure> {
        if self.dropped.load(Ordering::Relaxed) {
            return Err(Failure::Gone("the export".to_owned()));
        }
        if self.over.load(Ordering::Relaxed) || !(self.goes_on)() {
            self.over.store(true, Ordering::Relaxed);
            let text = "what it was asked for by has ended meanwhile: the session, the login or the app's registration";
            return Err(Failure::Conflict(text.to_owned()));
        }
        Ok(())
    }

    fn state(&self) -> ExportState {
        self.show().state
    }

    fn show(&self) -> Export {
        let mut shown = lock(&self.shown).clone();
        if let ExportState::Running(done, of) = &mut shown.state {
            (*done, *of) = (self.done.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed));
        }
        shown
    }

    /// Says what became of it, here and, if it is done, over the end of the program.
    fn keep(&self, state: ExportState) -> io::Result<()> {
        let mut shown = lock(&self.shown);
        shown.state = state;
        if matches!(shown.state, ExportState::Done { .. }) {
            fs::write(self.folder.join(MANIFEST), serde_json::to_vec(&*shown)?)?;
        }
        Ok(())
    }
}

/// The files of an export while they are written.
pub(super) struct Files {
    folder: PathBuf,
    files: BTreeMap<String, (BufWriter<File>, u64)>,
    bytes: u64,
    _permit: OwnedSemaphorePermit,
}

impl Files {
    /// Adds a resource to the file of its type. It stays as it was written, but for line breaks between its parts.
    pub(super) async fn add(&mut self, rtype: &str, resource: &[u8]) -> Result<(), Failure> {
        self.bytes += resource.len() as u64 + 1;
        if self.bytes > BYTES_MAX {
            let text = format!(
                "the export would have more than {BYTES_MAX} bytes: ask for fewer types or patients, or since a time"
            );
            return Err(Failure::TooLarge(text));
        }
        if !self.files.contains_key(rtype) {
            let file = File::create(self.folder.join(file_name(rtype))).await.map_err(failed)?;
            self.files.insert(rtype.to_owned(), (BufWriter::new(file), 0));
        }
        let Some((file, count)) = self.files.get_mut(rtype) else { return Ok(()) };
        *count += 1;
        file.write_all(&one_line(resource)).await.map_err(failed)
    }

    /// Says what is missing.
    pub(super) async fn warn(&mut self, kind: IssueType, text: String) -> Result<(), Failure> {
        let outcome = Outcome::new(Issue::warning(kind, text));
        self.add(OUTCOME, outcome.to_json().as_bytes()).await
    }

    async fn close(self, now: TimeMs) -> Result<ExportState, Failure> {
        let (mut files, mut errors) = (Vec::new(), None);
        for (rtype, (mut file, count)) in self.files {
            file.flush().await.map_err(failed)?;
            file.get_ref().sync_all().await.map_err(failed)?;
            let file = ExportFile { rtype, count };
            if file.rtype == OUTCOME { errors = Some(file) } else { files.push(file) }
        }
        Ok(ExportState::Done { files, errors, until: now.plus_ms(KEPT_MS) })
    }
}

/// A resource on one line: JSON has line breaks between its parts alone.
fn one_line(resource: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> =
        resource.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    line
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file_name(rtype: &str) -> String {
    format!("{rtype}.ndjson")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: io::Error) -> Failure {
    Failure::ours("an export's file could not be written", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: TimeMs = TimeMs(KEPT_MS);

    fn id(n: u8) -> Id16 {
        Id16([n; 16])
    }

    fn always() -> GoesOn {
        Box::new(|| true)
    }

    #[test]
    fn an_export_ends_with_what_it_was_asked_for_by() {
        let folder = tempfile::tempdir().unwrap();
        let exports = Exports::open(folder.path().join("exports")).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let session = Arc::clone(&ended);
        let goes_on: GoesOn = Box::new(move || !session.load(Ordering::Relaxed));
        let (job, _files) = exports.begin(id(1), "ann", "$export", TimeMs(0), goes_on).unwrap();
        assert_eq!(job.is_at(1, 3), Ok(()));
        ended.store(true, Ordering::Relaxed);
        assert!(matches!(job.is_at(2, 3), Err(Failure::Conflict(why)) if why.contains("has ended meanwhile")));
        ended.store(false, Ordering::Relaxed);
        assert!(job.goes_on().is_err(), "a no is not taken back");
    }

    #[tokio::test]
    async fn files_of_an_export_whose_session_ended_while_the_last_was_written_are_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let exports = Exports::open(folder.path().join("exports")).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let session = Arc::clone(&ended);
        let goes_on: GoesOn = Box::new(move || !session.load(Ordering::Relaxed));
        let (job, mut files) = exports.begin(id(1), "ann", "$export", TimeMs(0), goes_on).unwrap();
        files.add("Patient", b"{}").await.unwrap();
        ended.store(true, Ordering::Relaxed);
        exports.end(&job, Ok(files), TimeMs(0)).await;
        let state = exports.state(id(1), "ann", TimeMs(0)).unwrap().state;
        assert!(matches!(&state, ExportState::Failed(why) if why.contains("has ended meanwhile")), "{state:?}");
        assert!(exports.file(id(1), "ann", "Patient").is_err());
    }

    #[tokio::test]
    async fn the_files_of_an_export_are_for_who_asked_and_lie_there_for_a_day_and_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exports");
        let exports = Exports::open(path.clone()).unwrap();
        let (job, mut files) = exports.begin(id(1), "ann", "Patient/$export", TimeMs(0), always()).unwrap();
        assert_eq!(exports.state(id(1), "ann", TimeMs(1)).unwrap().state, ExportState::Running(0, 0));
        job.is_at(1, 2).unwrap();
        assert_eq!(exports.state(id(1), "ann", TimeMs(1)).unwrap().state, ExportState::Running(1, 2));
        files.add("Patient", b"{\"a\": 1.10,\r\n \"b\":\"x\"}").await.unwrap();
        files.add("Patient", b"{}").await.unwrap();
        files.warn(IssueType::Incomplete, "one is missing".into()).await.unwrap();
        assert!(exports.file(id(1), "ann", "Patient").is_err(), "not before it is done");
        exports.end(&job, Ok(files), TimeMs(0)).await;
        for exports in [exports, Exports::open(path.clone()).unwrap()] {
            let shown = exports.state(id(1), "ann", TimeMs(1)).unwrap();
            let ExportState::Done { files, errors, until } = shown.state else { panic!("{:?}", shown.state) };
            assert_eq!((files, until), (vec![ExportFile { rtype: "Patient".into(), count: 2 }], DAY));
            assert_eq!(errors.map(|errors| errors.count), Some(1));
            let file = exports.file(id(1), "ann", "Patient").unwrap();
            assert_eq!(fs::read_to_string(file).unwrap(), "{\"a\": 1.10,   \"b\":\"x\"}\n{}\n");
            for (user, rtype) in [("ben", "Patient"), ("ann", "Condition"), ("ann", "../manifest")] {
                assert!(matches!(exports.file(id(1), user, rtype), Err(Failure::NotFound(_))), "{user} {rtype}");
            }
            assert!(matches!(exports.state(id(1), "ben", TimeMs(1)), Err(Failure::NotFound(_))));
        }
        let exports = Exports::open(path.clone()).unwrap();
        assert!(matches!(exports.state(id(1), "ann", DAY), Err(Failure::NotFound(_))));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_export_that_nobody_wants_any_more_ends_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exports");
        let exports = Exports::open(path.clone()).unwrap();
        let (first, files) = exports.begin(id(1), "ann", "$export", TimeMs(0), always()).unwrap();
        let (second, mut others) = exports.begin(id(2), "ann", "$export", TimeMs(0), always()).unwrap();
        assert!(matches!(exports.begin(id(3), "ben", "$export", TimeMs(0), always()), Err(Failure::Busy)));
        for n in 4..6 {
            assert!(exports.begin(id(n), "ann", "$export", TimeMs(0), always()).is_err());
        }
        assert!(matches!(exports.take_away(id(1), "ben"), Err(Failure::NotFound(_))));
        exports.take_away(id(1), "ann").unwrap();
        assert!(first.goes_on().is_err() && second.goes_on().is_ok());
        exports.end(&first, Ok(files), TimeMs(0)).await;
        others.add("Patient", b"{}").await.unwrap();
        exports.clear();
        exports.end(&second, Ok(others), TimeMs(0)).await;
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        // What the end of the program interrupted.
        exports.begin(id(3), "ben", "$export", TimeMs(0), always()).unwrap();
        let again = Exports::open(path.clone()).unwrap();
        assert!(matches!(again.state(id(3), "ben", TimeMs(1)), Err(Failure::NotFound(_))));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}

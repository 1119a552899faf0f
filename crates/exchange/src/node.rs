//! One organisation's node: everything that the path of a record passes through, started and stopped together.

use crate::{
    accesses::Accesses,
    beside::{Threads, behind_those_who_read, with_the_ledgers_niceness},
    boxed,
    clock::now,
    desk::Desk,
    disk::Disk,
    export::Exports,
    failure::Failure,
    filing::Filing,
    inforce::Policies,
    keyring::Keyring,
    keys::OrgKeys,
    lane::{Lane, RESUBMIT_AFTER},
    login::Logins,
    members::NamedKeys,
    meters::Meters,
    mirror::Mirror,
    orphan::{Orphan, later_submissions, signed_lanes},
    recent::Recent,
    row::{SAID_MAX, Said},
    sense::Sensing,
    signer::{Signer, Standing},
    subscription::{Channels, Subscriptions},
    vigil::Escalation,
    without::Without,
    witness::Voice,
};
use contract::{Genesis, PolicyKind, SubmissionError, from_cbor, state};
use ledger::{Accepted, SubmitError};
use record::{Commitment, Id16, OrgId, OrgRole, PatientKey, TimeMs};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::{SealedSubmission, Store};
use tokio::{sync::watch, task::JoinHandle};

/// Connections to the database that read at the same time.
const STORE_READERS: usize = 4;
/// What a node is started with.
pub struct Settings {
    /// The organisation.
    pub org: OrgId,
    /// What it is.
    pub role: OrgRole,
    /// The consortium.
    pub genesis: Genesis,
    /// The organisation's keys.
    pub keys: OrgKeys,
    /// The node's private folder.
    pub data: PathBuf,
    /// The shared cloud database.
    pub database: store::Address,
    /// Where the validator listens.
    pub ledger: SocketAddr,
    /// What the node is to the consortium.
    pub part: ledger::Part,
    /// Nodes to connect with beside the members.
    pub peers: Vec<ledger::Peer>,
    /// The most nodes that this one connects with; by the founders' number, if not said.
    pub peers_max: Option<usize>,
    /// Memory for pages of the ledger's state and blocks, in bytes; the ledger's own choice, if not said.
    pub cache_bytes: Option<usize>,
    /// How long alarms wait for somebody.
    pub escalation: Escalation,
    /// How the ledger node begins when its folder is empty.
    pub begin: ledger::Begin,
    /// Policy documents beside those that the program comes with: the ones that the genesis document names, when it founds itself on
    /// others.
    pub policies: Vec<(PolicyKind, Vec<u8>)>,
    /// Parts of custody that a measurement leaves out: nothing, anywhere else.
    pub without: Without,
}

/// Why a node does not start. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's private folder cannot be used.
    #[error("the folder `{path}` cannot be used: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The threads of analytics do not start.
    #[error("no threads for analytics: {0}")]
    Threads(String),
    /// A policy in force is not at hand, or cannot be read.
    #[error("{0}")]
    Policy(String),
    /// The desk failed.
    #[error(transparent)]
    Desk(#[from] crate::desk::DeskError),
    /// The mirror failed.
    #[error(transparent)]
    Mirror(#[from] crate::mirror::MirrorError),
    /// The file of accesses failed.
    #[error(transparent)]
    Accesses(#[from] crate::accesses::AccessesError),
    /// The store failed.
    #[error("the store did not open: {0}")]
    Store(String),
    /// The ledger failed.
    #[error("the ledger node did not start: {0}")]
    Ledger(String),
    /// The entry key was replaced, and its successor is not here.
    #[error(
        "`{0}` signs its entries by another key since: put the latest `entry.key` into its folder of keys, and `entry.older` beside it, as the ledger refuses the older one"
    )]
    SpentKey(OrgId),
    /// Something is to be left out of the custody of records that may be somebody's.
    #[error("`{0}` was not founded to be measured on one machine: nothing is left out of its custody")]
    NotMeasured(String),
    /// The operating system failed.
    #[error("the operating system gave no random bytes: {0}")]
    Randomness(String),
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// What clones of a node share.
pub struct Inner {
    pub(crate) org: OrgId,
    pub(crate) role: OrgRole,
    pub(crate) genesis: Genesis,
    pub(crate) without: Without,
    /// Signs this organisation's entries.
    pub(crate) signer: Signer,
    /// One replacement of the entry key at a time.
    pub(crate) replacing: tokio::sync::Mutex<()>,
    /// Entry keys that members named, as far as the mirror was looked through.
    pub(crate) named_keys: tokio::sync::Mutex<NamedKeys>,
    /// Signs what this organisation says about the log.
    pub(crate) voice: Voice,
    pub(crate) own: PatientKey,
    pub(crate) store: Store,
    pub(crate) ledger: ledger::Handle,
    pub(crate) mirror: Mirror,
    pub(crate) desk: Desk,
    /// One change of an override or case at a time.
    pub(crate) papers: tokio::sync::Mutex<()>,
    /// Accesses that are not in the database yet.
    pub(crate) accesses: Accesses,
    /// What their audit events are found by.
    pub(crate) filing: Filing,
    pub(crate) exports: Exports,
    pub(crate) keyring: Keyring,
    pub(crate) lane: Lane,
    /// Entries of earlier lanes that are still to be brought to the ledger.
    pub(crate) orphaned: AtomicU64,
    pub(crate) meters: Meters,
    pub(crate) disk: Disk,
    pub(crate) policies: Policies,
    pub(crate) sensing: Sensing,
    /// What the bytes say that a commitment stands for.
    pub(crate) said: Recent<Commitment, Arc<Said>>,
    pub(crate) audited: tokio::sync::Mutex<crate::audit::Progress>,
    /// What is subscribed to here.
    pub(crate) subscriptions: Subscriptions,
    /// Set when subscriptions are served.
    pub(crate) channels: OnceLock<Arc<dyn Channels>>,
    /// Set when logins follow the directory; they do so one change at a time.
    pub(crate) logins: OnceLock<Arc<dyn Logins>>,
    pub(crate) following: tokio::sync::Mutex<()>,
    stopping: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl std::ops::Deref for Node {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Node {
    /// Starts the ledger node, opens the store, resumes the lane, and begins to follow the ledger.
    #[boxed]
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let Settings { org, role, genesis, keys, data, database, ledger: listen, part, .. } = settings;
        let Settings { peers, peers_max, cache_bytes, escalation, begin, policies, without, .. } = settings;
        without.check(&genesis.name, listen)?;
        private_folder(&data).map_err(|source| StartError::Folder { path: data.clone(), source })?;
        let threads = Threads::start().map_err(|e| StartError::Threads(e.to_string()))?;
        let desk = Desk::open(&data.join("desk.db"))?;
        let mirror = Mirror::open(&data.join("mirror.db"))?;
        let accesses = Accesses::open(&data)?;
        let subscriptions = Subscriptions::open(&data.join("subscriptions.db"))?;
        let exports = data.join("exports");
        let exports = Exports::open(exports.clone()).map_err(|source| StartError::Folder { path: exports, source })?;

        let mut config = ledger::Config::new(
            genesis.clone(),
            org.clone(),
            keys.consensus.to_bytes().into(),
            listen,
            data.join("ledger"),
        );
        (config.part, config.peers, config.begin) = (part, peers, begin);
        config.entry_key = Some(keys.entry.clone().into());
        config.peers_max = peers_max.unwrap_or(config.peers_max);
        config.cache_bytes = cache_bytes.unwrap_or(config.cache_bytes);
        let (folder, older) = (keys.folder.clone(), keys.older.clone());
        let signer = Signer::new(org.clone(), genesis.id(), folder, keys.entry.clone(), older);
        let voice = Voice::new(signer.clone());
        config.speaker = Some(voice.speaker());
        let ledger = tokio::task::spawn_blocking(move || with_the_ledgers_niceness(move || ledger::run_tokio(config)))
            .await
            .map_err(|e| StartError::Ledger(e.to_string()))?
            .map_err(|e| StartError::Ledger(e.to_string()))?;

        // A crash may have come between the block that replaced the key and its file.
        let standing = signer.follow(&ledger, &genesis).await;
        if !matches!(standing, Ok(Standing::Counts | Standing::Replaced)) {
            ledger.stop().await;
            return Err(standing.map_or_else(|e| StartError::Ledger(e.to_string()), |_| StartError::SpentKey(org)));
        }

        let policies = match Policies::start(&ledger, &genesis, policies).await {
            Ok(policies) => policies,
            Err(why) => {
                ledger.stop().await;
                return Err(StartError::Policy(why));
            }
        };

        let config = store::Config {
            database,
            journal: data.join("journal"),
            org: org.clone(),
            readers: STORE_READERS,
            before_writing: behind_those_who_read,
        };
        let opened = tokio::task::spawn_blocking(move || Store::open(config))
            .await
            .map_err(|e| StartError::Store(e.to_string()))?
            .map_err(|e| StartError::Store(e.to_string()))?;
        // The journal has one lane. A new journal begins a new one: nobody knows for sure where an earlier one ended.
        let end = opened.lanes.first().copied();
        let number = end.map_or_else(new_lane, |end| Ok(end.lane))?;
        let meters = Meters::new();
        let lane = Lane::new(number, meters.finality.clone());
        let settled = mirror.lane_seq(org.clone(), number).await?.max(own_lane(&ledger, &org, number).await?);
        let reader = opened.reader().map_err(|e| StartError::Store(e.to_string()))?;
        let unreadable = |e: store::ReadError| StartError::Store(e.to_string());
        let (mut orphans, mut orphaned) = (Vec::new(), 0);
        for orphan in signed_lanes(&reader, &signer).await.map_err(unreadable)? {
            let waiting = orphan.last_seq.saturating_sub(own_lane(&ledger, &org, orphan.lane).await?);
            if orphan.lane != number && waiting > 0 {
                orphaned += waiting;
                orphans.push(orphan);
            }
        }
        // A journal that is behind the database, such as one from a backup, is covered by the signed copies there.
        let last = end.map_or(0, |end| end.last_seq);
        let later = later_submissions(&reader, &signer, number, last.max(settled)).await.map_err(unreadable)?;
        lane.resume(settled, last, opened.kept.iter().cloned().chain(later.iter().cloned()).collect());
        let sealer = lane.sealer(signer.clone());
        let store = opened.start(Box::new(sealer)).map_err(|e| StartError::Store(e.to_string()))?;

        let keyring = Keyring::new(role, keys.wrap.clone(), store.clone(), ledger.clone(), mirror.clone());
        let node = Self {
            inner: Arc::new(Inner {
                org,
                role,
                genesis,
                without,
                signer,
                replacing: tokio::sync::Mutex::default(),
                named_keys: tokio::sync::Mutex::default(),
                voice,
                own: keys.own.clone(),
                store,
                ledger,
                mirror,
                desk,
                papers: tokio::sync::Mutex::default(),
                accesses,
                filing: Filing::new(),
                exports,
                keyring,
                lane,
                orphaned: AtomicU64::new(orphaned),
                meters,
                disk: Disk::default(),
                policies,
                sensing: Sensing::new(escalation, threads),
                said: Recent::new(SAID_MAX),
                audited: tokio::sync::Mutex::default(),
                subscriptions,
                channels: OnceLock::new(),
                logins: OnceLock::new(),
                following: tokio::sync::Mutex::default(),
                stopping: watch::Sender::new(false),
                tasks: tokio::sync::Mutex::default(),
            }),
        };
        node.resume_sensing().await.map_err(|e| StartError::Store(e.to_string()))?;
        node.resume_vigil().await.map_err(|e| StartError::Store(e.to_string()))?;
        let tasks = vec![
            tokio::spawn(node.clone().follow()),
            tokio::spawn(node.clone().submit(orphans, later)),
            tokio::spawn(node.clone().batch_frames()),
            tokio::spawn(node.clone().let_frames_go()),
            tokio::spawn(node.clone().keep_vigil()),
            tokio::spawn(node.clone().write_accesses()),
            tokio::spawn(node.clone().activate_policies()),
        ];
        *node.tasks.lock().await = tasks;
        Ok(node)
    }

    /// Stops: seals what is under way, closes the store and the ledger node.
    #[boxed]
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        if !self.sensing.engines_ended().await {
            tracing::warn!("not all that was found is written: the frames say it again");
        }
        if let Err(error) = self.flush_frames().await {
            tracing::warn!(%error, "frames that were received last are batched after the next start");
        }
        if let Err(error) = self.accesses.written().await {
            tracing::warn!(%error, "accesses that were noted last are written after the next start");
        }
        let mut tasks = self.tasks.lock().await;
        for task in tasks.drain(..) {
            task.abort();
            // An aborted task ends with an error by design.
            let _ = task.await;
        }
        if let Err(error) = self.mirror.write_names().await {
            tracing::warn!(%error, "names of records are found again by the next audit");
        }
        self.accesses.close().await;
        self.store.close().await;
        self.ledger.stop().await;
    }

    /// Has a task stop with the node.
    pub(crate) async fn also_run(&self, task: JoinHandle<()>) {
        self.tasks.lock().await.push(task);
    }

    /// Height of the last final block that this node has looked at.
    pub fn ledger_height(&self) -> u64 {
        self.mirror.height()
    }

    /// Says when the node is stopping.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Brings committed submissions to the ledger, and again until they are final; those of earlier lanes first, as what was written
    /// since may build on them. `later`: what the database has of the present lane and the journal has not.
    async fn submit(self, orphans: Vec<Orphan>, later: Vec<SealedSubmission>) {
        self.bring_orphans(orphans).await;
        for sealed in &later {
            self.attach(&sealed.bytes).await;
        }
        loop {
            if self.signer.is_spent() {
                // Nothing that is signed here is taken: it waits until the key that counts is here.
                self.look_for_entry_key().await;
                if self.signer.is_spent() {
                    self.lane.wait(RESUBMIT_AFTER).await;
                    continue;
                }
            }
            let due = self.lane.due();
            let mut submissions = due.submissions;
            if let Some(first) = due.from_store {
                match self.store.submissions_since(&self.org, self.lane.number(), first, store::PAGE_MAX).await {
                    Ok(stored) => submissions.extend(stored.into_iter().map(|s| (s.first_seq, s.bytes))),
                    Err(error) => tracing::warn!(%error, "submissions cannot be read from the database"),
                }
            }
            let brought = !submissions.is_empty();
            for (first, bytes) in submissions {
                match self.bring(&bytes, self.lane.is_ours(first, &bytes)).await {
                    Ok(_) => self.lane.submitted(first),
                    Err(
                        error @ (SubmitError::Full { .. }
                        | SubmitError::TooFarAhead { .. }
                        | SubmitError::Changed { .. }
                        | SubmitError::Stopped),
                    ) => {
                        tracing::debug!(%error, first, "the ledger did not take a submission now");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        break;
                    }
                    // It was said when it came to be so.
                    Err(_) if self.signer.is_spent() => break,
                    // One bad copy must not hold up the others.
                    Err(error) => tracing::error!(%error, first, "a submission of ours is not acceptable"),
                }
            }
            if brought {
                tokio::time::sleep(self.lane.apart()).await;
            }
            self.lane.wait(RESUBMIT_AFTER).await;
        }
    }

    /// Brings a submission to the ledger, and signs it again when the entry key was replaced since. `from_journal`: as
    /// [`Signer::sign_again`] has it.
    pub(crate) async fn bring(&self, bytes: &[u8], from_journal: bool) -> Result<Accepted, SubmitError> {
        match self.ledger.submit(bytes).await {
            // Once it was signed again, what the older key signed contradicts it.
            Err(
                error @ (SubmitError::Invalid(SubmissionError::BadSignature { .. }) | SubmitError::Conflict { .. }),
            ) => {
                // The ledger may have the next key before this gateway has looked.
                self.look_for_entry_key().await;
                match self.signer.sign_again(bytes, from_journal).filter(|again| again != bytes) {
                    Some(again) => self.ledger.submit(&again).await,
                    None => Err(error),
                }
            }
            answer => answer,
        }
    }

    /// Entries that this organisation has answered for and that are not final yet.
    pub(crate) fn unsettled(&self) -> u64 {
        self.in_lane() + self.accesses.waiting()
    }

    /// Those of them that the database has.
    pub(crate) fn in_lane(&self) -> u64 {
        self.lane.unsettled() + self.orphaned.load(Ordering::Relaxed)
    }

    /// A new id: random but for its beginning, the time, which its entry tells anyway. So entries of one time lie side by side in indexes.
    pub(crate) fn new_id(&self) -> Result<Id16, Failure> {
        let mut random = [0u8; 10];
        getrandom::fill(&mut random).map_err(|e| Failure::ours("the operating system gave no random bytes", e))?;
        Ok(Id16(uuid::Builder::from_unix_timestamp_millis(self.now().0, &random).into_uuid().into_bytes()))
    }

    /// Waits until everything that this gateway wrote is final, or the time is over.
    #[boxed]
    pub async fn settle(&self, at_most: Duration) -> bool {
        let mut height = self.mirror.watch_height();
        let waiting = async {
            while self.unsettled() > 0 {
                if let Err(error) = self.accesses.written().await {
                    tracing::debug!(%error, "accesses wait for the database");
                }
                let _ = tokio::time::timeout(RESUBMIT_AFTER, height.changed()).await;
            }
        };
        tokio::time::timeout(at_most, waiting).await.is_ok()
    }

    /// Now.
    pub(crate) fn now(&self) -> TimeMs {
        now()
    }
}

/// The number of a lane that nobody has used.
fn new_lane() -> Result<u32, StartError> {
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).map_err(|e| StartError::Randomness(e.to_string()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// How far the organisation's lane is in this node's own final state.
async fn own_lane(ledger: &ledger::Handle, org: &OrgId, lane: u32) -> Result<u64, StartError> {
    let values = ledger.get(vec![state::lane_key(org, lane)]).await.map_err(|e| StartError::Ledger(e.to_string()))?;
    let Some(Some(value)) = values.into_iter().next() else { return Ok(0) };
    let lane: state::Lane =
        from_cbor("lane", &value, state::VALUE_BYTES_MAX).map_err(|e| StartError::Ledger(e.to_string()))?;
    Ok(lane.seq)
}

/// Makes the folder if need be, for its owner alone: the desk holds reasons and names, exports hold records.
pub(crate) fn private_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

//! The archive: one data directory, its catalogue and its cold store.
//!
//! What is here: opening and closing, and the store path. Offload and eviction are in [`crate::mover`], retrieval and recall in [`crate::recall`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{Catalogue, CopyStanding, Origin, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, NodeId};
use filmroom_index::part10::FileMeta;

use crate::bandwidth::Bandwidth;
use crate::cold::{ArchiveRule, ColdSettings, ColdStore};
use crate::commit::Committer;
use crate::data_dir::DataDir;
use crate::durable;
use crate::error::{ArchiveError, StoreError};
use crate::hot::{HotStore, Incoming, Received, Spool, Sweep};
use crate::mover::Signals;
use crate::pack::Layout;
use crate::recall::Recalls;
use crate::restore::{Forecast, Restores};
use crate::rules::Rules;

/// What the configuration says about the archive.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory
    pub data_dir: PathBuf,
    /// Bytes of the disk that stay free: beyond, objects are refused with A700
    pub reserve: u64,
    /// Whether what is received stays in the system's page cache until that needs the room; otherwise long objects go past it to the disk
    pub page_cache: bool,
    /// Part of the disk, 0 to 1, beyond which hot copies of verified packs are evicted, least recently used first
    pub high_watermark: f64,
    /// Part of the disk down to which they are evicted
    pub low_watermark: f64,
    /// Hot copies unused for this long are evicted
    pub evict_after: Duration,
    /// Recalled files may take this many bytes of the disk beyond what was received; more is spooled, sent and dropped
    pub recall_budget: u64,
    /// Who may send, for objects that are adopted after a crash: only their bytes and their source are known then
    pub senders: Senders,
    /// The cold store; none: hot only
    pub cold: Option<ColdSettings>,
    /// A series quiet for this long is packed
    pub offload_after: Duration,
    /// How what is offloaded from now on lies in the cold store
    pub layout: Layout,
    /// How often the mover looks for work when nothing wakes it
    pub mover_interval: Duration,
    /// What is otherwise for some series
    pub rules: Rules,
}

/// What the store path has to know of a sender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its AE title
    pub source: AeTitle,
    /// Issuer of Patient ID for objects that name none
    pub default_issuer: Option<String>,
    /// What to do with a differing duplicate
    pub duplicates: DuplicatePolicy,
}

/// What the configuration says of all senders.
#[derive(Clone, Debug)]
pub struct Senders {
    /// This node itself: for objects whose file names no source, and the rule for AE titles that are not listed
    pub own: Sender,
    /// Those that are listed
    pub listed: Vec<Sender>,
    /// Those whose rejection notes are obeyed; those of others wait for a person
    pub may_reject: Vec<AeTitle>,
}

impl Senders {
    /// The sender with an AE title.
    pub fn of(&self, title: Option<&AeTitle>) -> Sender {
        let Some(title) = title else { return self.own.clone() };
        let listed = self.listed.iter().find(|sender| sender.source == *title);
        listed.cloned().unwrap_or_else(|| Sender {
            source: title.clone(),
            ..self.own.clone()
        })
    }
}

/// The archive of one node. Cheap to clone. What it does with the cold store is in [`crate::mover`] and [`crate::recall`].
#[derive(Clone, Debug)]
pub struct Archive {
    pub(crate) inner: Arc<Inner>,
}

/// What the archive's parts share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) node: NodeId,
    pub(crate) catalogue: Catalogue,
    pub(crate) clock: Clock,
    pub(crate) hot: HotStore,
    pub(crate) cold: Option<ColdStore>,
    /// How many bytes a second may move to and from it.
    pub(crate) bandwidth: Arc<Bandwidth>,
    /// What the mover and those who wait for it tell each other.
    pub(crate) mover: Signals,
    /// Recalls under way, for those who want the same pack.
    pub(crate) recalls: Recalls,
    /// What the cold store has archived by now.
    pub(crate) forecast: Forecast,
    /// Restores, between those who ask for them and those who wait.
    pub(crate) restores: Restores,
    /// One rejection note at a time.
    pub(crate) withdrawals: tokio::sync::Mutex<()>,
    pub(crate) committer: Committer,
    /// Keeps the data directory locked.
    _data_dir: Arc<DataDir>,
}

impl Archive {
    /// Locks the data directory, reads the node's identity (or makes it), empties `incoming/`, sweeps the hot store against the catalogue: files of
    /// objects that are not on record as hot here are removed, unknown ones are adopted. Starts the committer.
    pub async fn open(settings: Settings, catalogue: Catalogue, clock: Clock) -> Result<Archive, ArchiveError> {
        let archive = Archive::open_unswept(settings, catalogue, clock).await?;
        let swept = archive.inner.sweep().run().await?;
        tracing::info!(node = %archive.inner.node, ?swept, "the hot store agrees with the catalogue");
        Ok(archive)
    }

    /// The same without the sweep: for who only looks, and wants to find everything as it is.
    pub async fn open_unswept(settings: Settings, catalogue: Catalogue, clock: Clock) -> Result<Archive, ArchiveError> {
        let (data_dir, hot) = open_data(&settings).await?;
        if catalogue.is_rebuilding().await? {
            return Err(ArchiveError::Rebuilding);
        }
        match catalogue.copy_standing().await? {
            CopyStanding::InUse => {}
            CopyStanding::Closed { target } => return Err(ArchiveError::CatalogueClosed(target)),
            CopyStanding::Incomplete => return Err(ArchiveError::CatalogueIncomplete),
        }
        let data_dir = Arc::new(data_dir);
        let node = data_dir.node();
        // An empty catalogue would adopt what the disk holds as if it had just come in, without what was decided about it.
        if catalogue.is_unused_by(node).await? && hot.holds_files().map_err(ArchiveError::disk(&settings.data_dir))? {
            return Err(ArchiveError::CatalogueLost(settings.data_dir));
        }
        let cold = match &settings.cold {
            Some(cold) => Some(ColdStore::open(cold).await?),
            None => None,
        };
        let committer = Committer::start(node, catalogue.clone(), hot.clone(), clock.clone(), Arc::clone(&data_dir));
        let archive_days = settings.cold.as_ref().and_then(|cold| cold.archive);
        let archive_rule = ArchiveRule {
            allowed: archive_days,
            others: archive_days.filter(|_| !settings.rules.forbid_archive()),
        };
        let bandwidth = settings.cold.as_ref().map(|cold| cold.bandwidth.clone()).unwrap_or_default();
        let bandwidth = Arc::new(Bandwidth::new(&bandwidth, &clock));
        let inner = Inner {
            bandwidth,
            settings,
            node,
            catalogue,
            clock,
            hot,
            cold,
            mover: Signals::default(),
            recalls: Recalls::default(),
            forecast: Forecast::new(archive_rule),
            restores: Restores::default(),
            withdrawals: tokio::sync::Mutex::new(()),
            committer,
            _data_dir: data_dir,
        };
        Ok(Archive { inner: Arc::new(inner) })
    }

    /// This node's identity.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The catalogue.
    pub fn catalogue(&self) -> &Catalogue {
        &self.inner.catalogue
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// What is missing for full service, in words for an operator; empty when ready. Looks at the catalogue and the disk.
    pub async fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        match tokio::time::timeout(Duration::from_secs(2), self.inner.catalogue.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => missing.push(error.to_string()),
            Err(_) => missing.push("the catalogue does not answer".to_owned()),
        }
        if let Err(error) = self.inner.hot.check_space() {
            missing.push(error.to_string());
        }
        if !self.inner.committer.is_running() {
            missing.push("the committer has stopped: nothing can be stored".to_owned());
        }
        if self.cold_down() {
            missing.push("the cold store does not answer".to_owned());
        }
        missing
    }

    /// Opens a file for an object that is about to be received. Refused with [`StoreError::Full`] when the disk is at its reserve.
    pub async fn receive(&self, meta: FileMeta) -> Result<Incoming, StoreError> {
        self.inner.hot.check_space().inspect_err(StoreError::count)?;
        Ok(Incoming::new(&self.inner.hot, &self.inner.clock, meta))
    }

    /// A file without a name for what is sent once and dropped. Blocks.
    pub fn spool(&self) -> Result<Spool, StoreError> {
        Spool::open(&self.inner.hot)
    }

    /// Makes a received object durable and findable: when this returns, it can be acknowledged as the outcome says. A rejection
    /// note has taken effect then, or is on record as waiting.
    pub async fn commit(&self, received: Received, sender: Sender) -> Result<Outcome, StoreError> {
        self.commit_from(received, sender, Origin::default()).await
    }

    /// The same, and the audit says where it came from.
    pub async fn commit_from(&self, received: Received, sender: Sender, origin: Origin) -> Result<Outcome, StoreError> {
        let sop_class = received.meta.sop_class.clone();
        let outcome = self
            .inner
            .committer
            .commit(received, sender, origin)
            .await
            .inspect_err(StoreError::count)?;
        self.obey_stored(&sop_class, &outcome).await;
        Ok(outcome)
    }

    /// Waits for the committer to finish what it has, stops recalls, then closes the catalogue.
    pub async fn close(&self) {
        self.inner.committer.close().await;
        self.inner.recalls.close().await;
        self.inner.catalogue.close().await;
    }
}

impl Inner {
    /// What compares the hot store with the catalogue.
    pub(crate) fn sweep(&self) -> Sweep<'_> {
        Sweep {
            hot: &self.hot,
            catalogue: &self.catalogue,
            clock: &self.clock,
            node: self.node,
            senders: &self.settings.senders,
        }
    }
}

/// Locks a data directory and opens the hot store in it.
pub(crate) async fn open_data(settings: &Settings) -> Result<(DataDir, HotStore), ArchiveError> {
    let (path, reserve, page_cache) = (settings.data_dir.clone(), settings.reserve, settings.page_cache);
    blocking(move || {
        let data_dir = DataDir::open(&path)?;
        let hot = HotStore::open(&path, reserve, page_cache).map_err(ArchiveError::disk(&path))?;
        // The embedded catalogue was just opened, perhaps made: the names of its files must be as durable as its commits.
        durable::sync_dir(&path).map_err(ArchiveError::disk(&path))?;
        Ok((data_dir, hot))
    })
    .await
}

/// Runs what touches the disk off the async workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ArchiveError::disk(std::path::Path::new("data directory"))(std::io::Error::other(
            error,
        ))),
    }
}

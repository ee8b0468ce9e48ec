//! What can go wrong for a caller of the archive, in the caller's terms.

use filmroom_index::catalogue;
use filmroom_index::header::ScanError;
use filmroom_index::model::Timestamp;
use time::OffsetDateTime;

use crate::cold::ColdError;

/// Why an object was not stored. None of these was acknowledged; the sender keeps its copy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full up to its reserve: A700.
    #[error("the disk is full up to the reserve of {reserve} bytes")]
    Full {
        /// Bytes that stay free
        reserve: u64,
    },
    /// The data set is none: C000.
    #[error("the data set cannot be read: {0}")]
    BadDataSet(#[from] ScanError),
    /// A UID is missing or malformed, or the data set's differs from the command's: A900.
    #[error("{0}")]
    Mismatch(String),
    /// The disk failed: A700.
    #[error("the disk failed: {0}")]
    Disk(#[from] std::io::Error),
    /// The catalogue failed: A700 where it is not available, C-something where it refuses this row.
    #[error(transparent)]
    Catalogue(#[from] catalogue::Error),
    /// The node is stopping: A700.
    #[error("the node is shutting down")]
    Stopping,
}

impl StoreError {
    /// Counts a refusal by its reason.
    pub(crate) fn count(&self) {
        let reason = match self {
            StoreError::Full { .. } => "full",
            StoreError::BadDataSet(_) => "bad_data_set",
            StoreError::Mismatch(_) => "mismatch",
            StoreError::Disk(_) => "disk",
            StoreError::Catalogue(_) => "catalogue",
            StoreError::Stopping => "stopping",
        };
        metrics::counter!("filmroom_store_refused_total", "reason" => reason).increment(1);
    }
}

/// Why an instance cannot be sent now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RetrieveError {
    /// S3 has archived its pack.
    #[error("archived in {tier}, {restore}")]
    Archived {
        /// ARCHIVE_ACCESS or DEEP_ARCHIVE_ACCESS
        tier: &'static str,
        /// What is done about it
        restore: RestoreOutlook,
    },
    /// The cold store does not answer.
    #[error("the cold store does not answer: {0}")]
    ColdDown(String),
    /// What was read is not what was stored.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No copy within reach of this node.
    #[error("no copy is within reach of this node")]
    Unreachable,
    /// Its pack was replaced by another one while it was waited for.
    #[error("it lies in another pack by now")]
    Moved,
    /// It was withdrawn or superseded while it was waited for.
    #[error("it is not served any more")]
    Withdrawn,
    /// The disk or the catalogue failed.
    #[error("failed here: {0}")]
    Local(String),
}

/// Whether and when what S3 has archived comes back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreOutlook {
    /// Its restore is under way.
    #[error("expected back at {}", moment(*.0))]
    Expected(Timestamp),
    /// Whoever asks may not have it restored.
    #[error("not to be restored for who asks")]
    NotAllowed,
    /// It would exceed what whoever asks may have restored in 24 hours.
    #[error("over the restore budget of who asks")]
    OverBudget,
    /// The restore could not be asked for.
    #[error("its restore failed: {0}")]
    Failed(String),
}

/// Why a command on a study failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No study has this UID or Accession Number.
    #[error("no study is named {0:?}")]
    NoSuchStudy(String),
    /// No rejection note with this SOP Instance UID is in a state that can be changed so.
    #[error("{0} is no rejection note that is {1}: see `filmroom rejections list`")]
    NoSuchNote(String, &'static str),
    /// A rejection note is not obeyed.
    #[error("the note is not obeyed: {0}")]
    Note(String),
    /// There is no cold store in the configuration.
    #[error("no cold store is configured: set cold.url")]
    NoColdStore,
    /// A rebuild is to fill a catalogue that is not empty.
    #[error(
        "the catalogue is not empty: a rebuild makes a whole one. Move the database away (SQLite: the file of catalogue.url and its -wal and -shm), or name a new, \
         empty one in catalogue.url, and try again"
    )]
    NotEmpty,
    /// A rebuild has not ended.
    #[error("the catalogue is being made anew and is not complete: run `filmroom rebuild` until it ends")]
    Rebuilding,
    /// The catalogue was copied to another database, which is used instead.
    #[error("this catalogue was copied to {0}, which is used instead: set catalogue.url to that")]
    CatalogueClosed(String),
    /// The catalogue is being copied here.
    #[error("the catalogue is being copied into this database and is not complete: run `filmroom catalogue copy` until it has handed over")]
    CatalogueIncomplete,
    /// There are images on the disk, and a catalogue that knows nothing at all.
    #[error(
        "{0} holds images, and the catalogue is empty: set catalogue.url to the one that they are in, or make it anew by `filmroom rebuild`"
    )]
    CatalogueLost(std::path::PathBuf),
    /// Another node runs on this data directory.
    #[error("{0}: another filmroom serves this data directory")]
    Locked(std::path::PathBuf),
    /// The disk failed.
    #[error("{path}: {error}")]
    Disk {
        /// What was touched
        path: std::path::PathBuf,
        /// What the system said
        error: std::io::Error,
    },
    /// The catalogue failed.
    #[error(transparent)]
    Catalogue(#[from] catalogue::Error),
    /// The cold store failed.
    #[error(transparent)]
    Cold(#[from] ColdError),
    /// Some instances are being restored out of the archive.
    #[error("{restoring} of {total} instances are being restored, expected at {}: ask again then", moment(*expected_at))]
    Restoring {
        /// How many
        restoring: usize,
        /// Of how many
        total: usize,
        /// When the last of them is expected
        expected_at: Timestamp,
    },
    /// Some instances could not be recalled.
    #[error("{failed} of {total} instances could not be recalled; first: {first}")]
    Incomplete {
        /// How many
        failed: usize,
        /// Of how many
        total: usize,
        /// The first one's reason
        first: String,
    },
}

impl ArchiveError {
    /// Says which file the disk failed on.
    pub(crate) fn disk(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> ArchiveError + use<> {
        let path = path.to_owned();
        move |error| ArchiveError::Disk { path, error }
    }
}

/// A moment for people, in UTC to the minute.
pub(crate) fn moment(at: Timestamp) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    format!("{date} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_restore_is_told_when_to_ask_again() {
        let outlook = RestoreOutlook::Expected(Timestamp(1_795_507_260_000_000));
        assert_eq!(outlook.to_string(), "expected back at 2026-11-24 08:01 UTC");
    }
}

//! Erasing: every version of an object, for good.
//!
//! # Invariants
//! - Nothing is said to be gone that may be there: a version that the store keeps, or may keep, is told.
//! - What Object Lock protects is left alone. Its governance mode is never bypassed: who wants that ends the retention by hand.
//! - Erasing what is not there is done.
//!
//! # Crash story
//! Versions go one by one. What is left of a key after a kill is erased by the next attempt.

use filmroom_index::model::Timestamp;
use metrics::{counter, describe_counter};

use super::{ColdError, ColdStore, measured};

/// What is left under a key that was erased.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Erased {
    /// Nothing: no version, no delete marker, no unfinished upload
    Gone,
    /// Versions that Object Lock keeps; all others are gone
    Locked {
        /// When the last of them may be removed; none: when somebody takes a legal hold away, or the store does not say
        until: Option<Timestamp>,
        /// How many
        versions: u64,
    },
}

impl ColdStore {
    /// Removes every version and delete marker of a key, and uploads of it that were not finished. May be repeated. [`ColdError::Refused`] where a permission is
    /// missing, or where the store keeps versions and does not tell which: then it may still be there.
    pub async fn erase(&self, key: &str) -> Result<Erased, ColdError> {
        let erase = async {
            match self {
                ColdStore::S3(store) => store.erase(key).await,
                ColdStore::Directory(store) => store.erase(key).await.map(|()| Erased::Gone),
            }
        };
        let erased = measured("erase", erase).await?;
        let left = match erased {
            Erased::Gone => "nothing",
            Erased::Locked { .. } => "locked",
        };
        counter!("filmroom_cold_erased_total", "left" => left).increment(1);
        Ok(erased)
    }
}

pub(super) fn describe_metrics() {
    describe_counter!(
        "filmroom_cold_erased_total",
        "Keys that were erased from the cold store, by what is left of them: nothing, or versions that Object Lock keeps"
    );
}

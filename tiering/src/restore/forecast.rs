//! What S3 has archived by now, as far as its own rule tells.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use filmroom_index::catalogue::{ArchiveCutoffs, PackState};
use filmroom_index::model::Timestamp;

use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ArchiveDays, ArchiveTier};

/// S3 counts in days.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The days after which the store archives what nobody reads: those of the configuration, until the store's own are read.
#[derive(Debug)]
pub(crate) struct Forecast {
    days: RwLock<Option<ArchiveDays>>,
}

impl Forecast {
    pub(crate) fn new(configured: Option<ArchiveDays>) -> Forecast {
        Forecast {
            days: RwLock::new(configured),
        }
    }

    pub(super) fn set(&self, days: Option<ArchiveDays>) {
        *self.days.write().unwrap_or_else(PoisonError::into_inner) = days;
    }

    pub(super) fn days(&self) -> Option<ArchiveDays> {
        *self.days.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// When what is archived by now was read last, by the store's rule.
    pub fn archive_cutoffs(&self) -> ArchiveCutoffs {
        self.inner.cutoffs()
    }
}

impl Inner {
    pub(crate) fn cutoffs(&self) -> ArchiveCutoffs {
        cutoffs(self.forecast.days(), self.clock.now())
    }
}

fn cutoffs(days: Option<ArchiveDays>, now: Timestamp) -> ArchiveCutoffs {
    let days = days.unwrap_or_default();
    let before = |days: Option<u32>| Some(now.before(DAY.saturating_mul(days?)));
    ArchiveCutoffs {
        access: before(days.access),
        deep: before(days.deep),
    }
}

/// What a pack's state tells of its last access: had it been before, the store would have archived it, or deeper. A day is added, so that the forecast believes
/// it for a day.
pub(crate) fn used_since(seen: PackState, cutoffs: ArchiveCutoffs) -> Option<Timestamp> {
    let cutoff = match seen {
        PackState::Verified => cutoffs.access.max(cutoffs.deep),
        PackState::ArchiveAccess => cutoffs.deep,
        _ => None,
    };
    cutoff.map(|cutoff| cutoff.after(DAY))
}

/// The state of a pack that was seen in a tier.
pub(crate) fn pack_state(archived: Option<ArchiveTier>) -> PackState {
    match archived {
        None => PackState::Verified,
        Some(ArchiveTier::Archive) => PackState::ArchiveAccess,
        Some(ArchiveTier::DeepArchive) => PackState::DeepArchiveAccess,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: ArchiveDays = ArchiveDays {
        access: Some(90),
        deep: Some(180),
    };

    fn day(day: u32) -> Timestamp {
        Timestamp(0).after(DAY * day)
    }

    #[test]
    fn what_is_older_than_the_days_of_the_store_is_taken_to_be_archived() {
        let now = cutoffs(Some(DAYS), day(1000));
        assert_eq!((now.access, now.deep), (Some(day(910)), Some(day(820))));
        assert_eq!(cutoffs(None, day(1000)), ArchiveCutoffs::default());
        let predict = |clock| now.predict(PackState::Verified, 1 << 20, clock);
        assert_eq!(predict(day(910)), PackState::Verified);
        assert_eq!(predict(day(909)), PackState::ArchiveAccess);
        assert_eq!(predict(day(819)), PackState::DeepArchiveAccess);
    }

    #[test]
    fn a_pack_that_is_seen_where_it_was_not_expected_was_read_since() {
        let now = cutoffs(Some(DAYS), day(1000));
        let corrected = used_since(PackState::Verified, now).unwrap();
        assert_eq!(now.predict(PackState::Verified, 1 << 20, corrected), PackState::Verified);
        let tomorrow = cutoffs(Some(DAYS), day(1002));
        assert_eq!(tomorrow.predict(PackState::Verified, 1 << 20, corrected), PackState::ArchiveAccess);
        let corrected = used_since(PackState::ArchiveAccess, now).unwrap();
        assert_eq!(now.predict(PackState::ArchiveAccess, 1 << 20, corrected), PackState::ArchiveAccess);
        assert_eq!(used_since(PackState::DeepArchiveAccess, now), None);
        assert_eq!(used_since(PackState::Verified, ArchiveCutoffs::default()), None);
    }
}

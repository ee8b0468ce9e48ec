//! What S3 has archived by now, as far as its own rule tells.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use filmroom_index::catalogue::{ArchiveCutoffs, PackState};
use filmroom_index::model::Timestamp;

use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ArchiveRule, ArchiveTier};

/// S3 counts in days.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The days after which the store archives what nobody reads: those of the configuration, until the store's own are read.
#[derive(Debug)]
pub(crate) struct Forecast {
    rule: RwLock<ArchiveRule>,
}

impl Forecast {
    pub(crate) fn new(configured: ArchiveRule) -> Forecast {
        Forecast {
            rule: RwLock::new(configured),
        }
    }

    pub(super) fn set(&self, rule: ArchiveRule) {
        *self.rule.write().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    pub(crate) fn rule(&self) -> ArchiveRule {
        *self.rule.read().unwrap_or_else(PoisonError::into_inner)
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
        cutoffs(self.forecast.rule(), self.clock.now())
    }
}

fn cutoffs(rule: ArchiveRule, now: Timestamp) -> ArchiveCutoffs {
    let days = rule.allowed.unwrap_or_default();
    let before = |days: Option<u32>| Some(now.before(DAY.saturating_mul(days?)));
    ArchiveCutoffs {
        access: before(days.access),
        deep: before(days.deep),
        tagged_only: rule.heeds_tags(),
    }
}

/// What a pack's state tells of its last access: had it been before, the store would have archived it, or deeper. A day is added, so that the forecast believes
/// it for a day.
pub(crate) fn used_since(seen: PackState, cutoffs: ArchiveCutoffs) -> Option<Timestamp> {
    if cutoffs.tagged_only {
        // It may be readable because of its tag.
        return None;
    }
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
    use filmroom_index::catalogue::ArchiveTag;

    use super::*;
    use crate::cold::ArchiveDays;

    const DAYS: ArchiveDays = ArchiveDays {
        access: Some(90),
        deep: Some(180),
    };

    fn day(day: u32) -> Timestamp {
        Timestamp(0).after(DAY * day)
    }

    #[test]
    fn what_is_older_than_the_days_of_the_store_is_taken_to_be_archived() {
        let now = cutoffs(ArchiveRule::of_all(Some(DAYS)), day(1000));
        assert_eq!((now.access, now.deep), (Some(day(910)), Some(day(820))));
        assert_eq!(cutoffs(ArchiveRule::default(), day(1000)), ArchiveCutoffs::default());
        let predict = |clock| now.predict(PackState::Verified, 1 << 20, clock, None);
        assert_eq!(predict(day(910)), PackState::Verified);
        assert_eq!(predict(day(909)), PackState::ArchiveAccess);
        assert_eq!(predict(day(819)), PackState::DeepArchiveAccess);
    }

    #[test]
    fn where_the_store_goes_by_tags_what_has_none_is_never_archived() {
        let rule = ArchiveRule {
            allowed: Some(DAYS),
            others: None,
        };
        let now = cutoffs(rule, day(1000));
        let predict = |tag| now.predict(PackState::Verified, 1 << 20, day(1), tag);
        assert_eq!(predict(Some(ArchiveTag::Yes)), PackState::DeepArchiveAccess);
        assert_eq!(predict(Some(ArchiveTag::No)), PackState::Verified);
        assert_eq!(predict(None), PackState::Verified);
        assert_eq!(used_since(PackState::Verified, now), None);
    }

    #[test]
    fn a_pack_that_is_seen_where_it_was_not_expected_was_read_since() {
        let now = cutoffs(ArchiveRule::of_all(Some(DAYS)), day(1000));
        let corrected = used_since(PackState::Verified, now).unwrap();
        assert_eq!(now.predict(PackState::Verified, 1 << 20, corrected, None), PackState::Verified);
        let tomorrow = cutoffs(ArchiveRule::of_all(Some(DAYS)), day(1002));
        assert_eq!(
            tomorrow.predict(PackState::Verified, 1 << 20, corrected, None),
            PackState::ArchiveAccess
        );
        let corrected = used_since(PackState::ArchiveAccess, now).unwrap();
        assert_eq!(
            now.predict(PackState::ArchiveAccess, 1 << 20, corrected, None),
            PackState::ArchiveAccess
        );
        assert_eq!(used_since(PackState::DeepArchiveAccess, now), None);
        assert_eq!(used_since(PackState::Verified, ArchiveCutoffs::default()), None);
    }
}

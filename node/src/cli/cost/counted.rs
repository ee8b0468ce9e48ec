//! The catalogue's counts, as the populations that the model reckons with: pure.
//!
//! What came in the last months goes on coming, and what was restored in them goes on being restored. Instances are spread over the ages of the packs that
//! hold them; where they were sampled, the sample is scaled to the packs' bytes.

use filmroom_index::catalogue::{MIN_ARCHIVED, PackGroup, PackState, RestoreGroup, SizeSample};
use filmroom_index::model::RestoreTier;
use filmroom_tiering::cost::{Amount, Cohort, Flow, MONTH_DAYS, Population, Seen, Sizes, manifest_bytes};

/// Months that are looked back on for what goes on; a month of the catalogue has 30 days.
const LOOK_BACK: u32 = 3;

/// An archive as it is.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Counted {
    /// Its packs
    pub(super) packs: Population,
    /// The same as one object per instance
    pub(super) instances: Population,
    /// Packs by what the store said of them last
    pub(super) observed: [(PackState, Amount); 3],
    /// Packs that come in a month and may be archived
    pub(super) arriving: Sizes,
    /// Packs that come in a month and are never archived
    pub(super) arriving_kept: Sizes,
    /// Packs that came in the last month
    pub(super) arrived: Sizes,
    /// Months whose mean that is
    pub(super) months: u32,
    /// The share of the archived packs that is restored in a month
    pub(super) read: f64,
    /// The share of restores out of Archive Access that is Expedited
    pub(super) expedited: f64,
    /// What was restored in the last month
    pub(super) restored: Amount,
    /// Expedited
    pub(super) restored_expedited: Amount,
}

impl Counted {
    /// From what the catalogue counts.
    pub(super) fn new(groups: &[PackGroup], sample: &SizeSample, restores: &[RestoreGroup]) -> Counted {
        let mut packs = Population::default();
        for group in groups {
            packs.cohorts.push(Cohort {
                days: f64::from(group.days),
                seen: if group.kept { Seen::Kept } else { seen(group.state) },
                sizes: sizes(group),
            });
        }
        let total = packs.total();
        let all = all_instances(sample, total);
        let share = |bytes: f64| if total.bytes > 0.0 { bytes / total.bytes } else { 0.0 };
        let instances = Population {
            cohorts: packs
                .cohorts
                .iter()
                .map(|cohort| Cohort {
                    sizes: all * share(cohort.sizes.total().bytes),
                    ..*cohort
                })
                .collect(),
            manifest: None,
        };
        let members = if total.objects > 0.0 {
            all.total().objects / total.objects
        } else {
            0.0
        };
        packs.manifest = Some(manifest_bytes(members));
        let months = groups.iter().map(|group| group.months + 1).max().unwrap_or(1).clamp(1, LOOK_BACK);
        let came = |months: u32, kept: bool| {
            groups
                .iter()
                .filter(|g| g.months < months && g.kept == kept)
                .fold(Sizes::default(), |sum, g| sum + sizes(g))
        };
        let a_month = MONTH_DAYS / 30.0 / f64::from(months);
        let restored = |within: u32, tier: Option<RestoreTier>, from: Option<PackState>| {
            let counts = |r: &&RestoreGroup| {
                r.months < within && tier.is_none_or(|tier| tier == r.tier) && from.is_none_or(|from| from == r.archived_in)
            };
            restores
                .iter()
                .filter(counts)
                .fold(Amount::default(), |sum, r| sum + amount(r.restores, r.bytes))
        };
        let observed = [PackState::Verified, PackState::ArchiveAccess, PackState::DeepArchiveAccess].map(|state| {
            let of = groups.iter().filter(|group| group.state == state);
            (
                state,
                of.fold(Amount::default(), |sum, group| sum + amount(group.packs, group.bytes)),
            )
        });
        let archived: f64 = observed.iter().skip(1).map(|(_, amount)| amount.objects).sum();
        let lately = restored(months, None, None).objects;
        let from_archive = restored(months, None, Some(PackState::ArchiveAccess)).objects;
        let expedited = restored(months, Some(RestoreTier::Expedited), Some(PackState::ArchiveAccess)).objects;
        let part = |part: f64, all: f64| if all > 0.0 { (part / all).clamp(0.0, 1.0) } else { 0.0 };
        Counted {
            instances,
            packs,
            observed,
            arriving: came(months, false) * a_month,
            arriving_kept: came(months, true) * a_month,
            arrived: came(1, false) + came(1, true),
            months,
            // What was restored is archived no more, and was then.
            read: part(lately / f64::from(months), archived + lately),
            expedited: part(expedited, from_archive),
            restored: restored(1, None, None),
            restored_expedited: restored(1, Some(RestoreTier::Expedited), None),
        }
    }

    /// What was asked of the store in the last month.
    pub(super) fn flow_of_packs(&self) -> Flow {
        Flow {
            puts: 2.0 * self.arrived.total().objects,
            restored: self.restored,
            expedited: self.restored_expedited,
        }
    }

    /// The same, had every instance been an object. Those too small to be archived would not have had to be restored.
    pub(super) fn flow_of_instances(&self) -> Flow {
        let (packs, instances) = (self.packs.total(), self.instances.total());
        let mut large = Amount::default();
        for cohort in &self.instances.cohorts {
            large += cohort.sizes.large;
        }
        let each = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        let as_instances = |amount: Amount| Amount {
            objects: amount.objects * each(large.objects, packs.objects),
            bytes: amount.bytes * each(large.bytes, packs.bytes),
        };
        Flow {
            puts: self.arrived.total().objects * each(instances.objects, packs.objects),
            restored: as_instances(self.restored),
            expedited: as_instances(self.restored_expedited),
        }
    }
}

fn amount(objects: u64, bytes: u64) -> Amount {
    Amount {
        objects: objects as f64,
        bytes: bytes as f64,
    }
}

fn seen(state: PackState) -> Seen {
    match state {
        PackState::ArchiveAccess => Seen::Archive,
        PackState::DeepArchiveAccess => Seen::DeepArchive,
        _ => Seen::Readable,
    }
}

fn sizes(group: &PackGroup) -> Sizes {
    let amount = amount(group.packs, group.bytes);
    match group.small {
        true => Sizes {
            small: amount,
            ..Sizes::default()
        },
        false => Sizes {
            large: amount,
            ..Sizes::default()
        },
    }
}

/// All instances in packs.
fn all_instances(sample: &SizeSample, packs: Amount) -> Sizes {
    let mut all = Sizes::default();
    for group in sample.groups.iter().filter(|group| group.packed) {
        let side = if group.from < MIN_ARCHIVED {
            &mut all.small
        } else {
            &mut all.large
        };
        *side += amount(group.objects, group.bytes);
    }
    let sampled = all.total().bytes;
    if sample.complete || sampled <= 0.0 {
        all
    } else {
        all * (packs.bytes / sampled)
    }
}

#[cfg(test)]
mod tests {
    use filmroom_index::catalogue::SizeGroup;

    use super::*;

    fn group(state: PackState, days: u32, small: bool, months: u32, packs: u64) -> PackGroup {
        PackGroup {
            state,
            days,
            small,
            kept: false,
            months,
            packs,
            bytes: packs * if small { 10_000 } else { 1_000_000 },
        }
    }

    fn sample(complete: bool) -> SizeSample {
        let size = |from, packed, objects| SizeGroup {
            from,
            packed,
            objects,
            bytes: objects * from.max(1000),
        };
        SizeSample {
            groups: vec![size(0, true, 80), size(131_072, true, 20), size(131_072, false, 7)],
            looked_at: 107,
            complete,
        }
    }

    #[test]
    fn what_came_and_was_restored_in_the_last_months_goes_on() {
        let groups = [
            group(PackState::Verified, 3, false, 0, 30),
            group(PackState::Verified, 40, true, 1, 30),
            group(PackState::ArchiveAccess, 100, false, 3, 70),
            group(PackState::DeepArchiveAccess, 400, false, 12, 20),
        ];
        let restore = |months, tier, archived_in, restores| RestoreGroup {
            months,
            tier,
            archived_in,
            restores,
            bytes: restores * 1_000_000,
        };
        let restores = [
            restore(0, RestoreTier::Expedited, PackState::ArchiveAccess, 4),
            restore(1, RestoreTier::Standard, PackState::ArchiveAccess, 4),
            restore(2, RestoreTier::Bulk, PackState::DeepArchiveAccess, 2),
            restore(7, RestoreTier::Expedited, PackState::ArchiveAccess, 100),
        ];
        let counted = Counted::new(&groups, &sample(true), &restores);
        assert_eq!(counted.months, 3);
        assert!((counted.arriving.total().objects - 20.0 * MONTH_DAYS / 30.0).abs() < 1e-9);
        assert_eq!((counted.read, counted.expedited), (10.0 / 3.0 / 100.0, 0.5));
        assert_eq!(counted.restored_expedited, amount(4, 4_000_000));
        assert_eq!(counted.flow_of_packs().puts, 60.0);
        assert_eq!(counted.observed.map(|(_, amount)| amount.objects), [60.0, 70.0, 20.0]);
        let mut never = groups;
        never[0].kept = true;
        let kept = Counted::new(&never, &sample(true), &restores);
        assert_eq!(kept.arriving_kept.total().objects * 3.0, 30.0 * MONTH_DAYS / 30.0);
        assert_eq!(kept.packs.cohorts[0].seen, Seen::Kept);
        // A young archive's months are those that it has.
        assert_eq!(Counted::new(&groups[..1], &sample(true), &[]).months, 1);
    }

    #[test]
    fn instances_are_all_of_them_and_a_sample_stands_for_the_bytes_of_the_packs() {
        let groups = [
            group(PackState::Verified, 3, false, 0, 3),
            group(PackState::Verified, 100, false, 3, 1),
        ];
        let exact = Counted::new(&groups, &sample(true), &[]);
        assert_eq!(exact.instances.total().objects, 100.0);
        assert_eq!(exact.packs.manifest, Some(manifest_bytes(25.0)));
        assert_eq!(exact.flow_of_instances().puts, 75.0);
        let scaled = Counted::new(&groups, &sample(false), &[]);
        assert!((scaled.instances.total().bytes - 4e6).abs() < 1.0);
        let nothing = Counted::new(&[], &SizeSample::default(), &[]);
        assert_eq!(
            (nothing.packs.total(), nothing.flow_of_instances()),
            (Amount::default(), Flow::default())
        );
    }
}

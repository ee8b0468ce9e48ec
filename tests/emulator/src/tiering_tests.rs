//! What becomes of an object with time.

use s3s::dto::{IntelligentTieringAccessTier, IntelligentTieringFilter, IntelligentTieringStatus, Tiering};

use super::*;

fn rule(archive: i32, deep: i32, prefix: &str) -> Rule {
    let tiering = |tier: &'static str, days| Tiering {
        access_tier: IntelligentTieringAccessTier::from_static(tier),
        days,
    };
    let configuration = IntelligentTieringConfiguration {
        filter: Some(IntelligentTieringFilter {
            prefix: Some(prefix.to_owned()),
            ..Default::default()
        }),
        id: "rule".to_owned(),
        status: IntelligentTieringStatus::from_static("Enabled"),
        tierings: vec![tiering("ARCHIVE_ACCESS", archive), tiering("DEEP_ARCHIVE_ACCESS", deep)],
    };
    Rule::new(&configuration).unwrap()
}

fn object(size: u64) -> Object {
    Object {
        class: INTELLIGENT_TIERING.to_owned(),
        size,
        last_access: 0.0,
        tier: None,
        restore: None,
        tags: BTreeMap::new(),
        etag: String::new(),
        crc64: None,
        multipart: false,
        pending: false,
        version: Version::default(),
    }
}

#[test]
fn an_object_nobody_reads_goes_down_tier_by_tier_and_each_move_is_told_once() {
    let (rules, mut object) = ([rule(90, 180, "p/")], object(MONITORED));
    assert_eq!(settle(&mut object, "p/k", &rules, 0.0, 90.0 * DAY - 1.0), []);
    let archived = Happening::Archived(Tier::ArchiveAccess, 90.0 * DAY);
    assert_eq!(settle(&mut object, "p/k", &rules, 0.0, 90.0 * DAY), [archived]);
    assert_eq!(settle(&mut object, "p/k", &rules, 0.0, 179.0 * DAY), []);
    let deep = Happening::Archived(Tier::DeepArchiveAccess, 180.0 * DAY);
    assert_eq!(settle(&mut object, "p/k", &rules, 0.0, 500.0 * DAY), [deep]);
    assert_eq!(settle(&mut object, "p/k", &[], 0.0, 900.0 * DAY), []);
    assert_eq!(object.tier, Some(Tier::DeepArchiveAccess));
}

#[test]
fn small_objects_other_classes_and_other_prefixes_stay() {
    let rules = [rule(90, 180, "p/")];
    let standard = Object {
        class: "STANDARD".to_owned(),
        ..object(MONITORED)
    };
    for (mut object, key) in [(object(MONITORED - 1), "p/k"), (object(MONITORED), "q/k"), (standard, "p/k")] {
        assert_eq!(settle(&mut object, key, &rules, 0.0, 1000.0 * DAY), []);
        assert_eq!(object.tier, None);
    }
}

#[test]
fn of_several_configurations_the_shortest_time_counts() {
    let mut object = object(MONITORED);
    settle(&mut object, "p/k", &[rule(200, 300, ""), rule(100, 400, "p/")], 0.0, 150.0 * DAY);
    assert_eq!(object.tier, Some(Tier::ArchiveAccess));
}

#[test]
fn a_restored_object_is_idle_from_its_completion_and_is_archived_again() {
    let rules = [rule(90, 180, "")];
    let restoring = Object {
        tier: Some(Tier::DeepArchiveAccess),
        restore: Some(Restore {
            tier: Speed::Standard,
            requested: 0.0,
            ready: DAY,
            told: false,
        }),
        ..object(MONITORED)
    };
    let mut before = restoring.clone();
    assert_eq!(settle(&mut before, "k", &rules, 0.0, DAY - 1.0), []);
    assert_eq!(before, restoring);
    let mut after = restoring.clone();
    assert_eq!(settle(&mut after, "k", &rules, 0.0, 2.0 * DAY), [Happening::Restored(DAY)]);
    assert_eq!((after.tier, after.restore, after.last_access), (None, None, DAY));
    let mut later = restoring.clone();
    let archived = Happening::Archived(Tier::ArchiveAccess, 91.0 * DAY);
    assert_eq!(
        settle(&mut later, "k", &rules, 0.0, 100.0 * DAY),
        [Happening::Restored(DAY), archived]
    );
    let mut early = restoring;
    assert_eq!(settle(&mut early, "k", &rules, 10.0, DAY - 5.0), [Happening::Restored(DAY - 5.0)]);
    assert_eq!(early.tier, Some(Tier::DeepArchiveAccess));
    assert_eq!(settle(&mut early, "k", &rules, 10.0, DAY), []);
    assert_eq!(early.tier, None);
}

#[test]
fn restores_take_longer_the_deeper_the_slower_and_the_larger() {
    let delays = Delays::default();
    let hours = |tier, speed, size| delays.of(tier, speed, size).map(|seconds| seconds / 3600.0);
    assert_eq!(hours(Tier::ArchiveAccess, Speed::Expedited, MONITORED), Some(0.05));
    assert_eq!(hours(Tier::ArchiveAccess, Speed::Expedited, EXPEDITED_LIMIT), Some(4.0));
    assert_eq!(hours(Tier::ArchiveAccess, Speed::Bulk, MONITORED), Some(8.0));
    assert_eq!(hours(Tier::DeepArchiveAccess, Speed::Standard, MONITORED), Some(12.0));
    assert_eq!(hours(Tier::DeepArchiveAccess, Speed::Bulk, MONITORED), Some(48.0));
    assert_eq!(hours(Tier::DeepArchiveAccess, Speed::Expedited, MONITORED), None);
}

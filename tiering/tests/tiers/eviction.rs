//! Eviction: what goes, what stays, and what is asked before.

use filmroom_index::catalogue::PackState;
use filmroom_tiering::cold::ColdError;
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::recall::RetrieveTerms;
use filmroom_tiering::rules::{Condition, Effects, Keep, Rule, Rules};

use crate::bucket::Bucket;
use crate::node::{HOUR, Node, SR, STUDY, Slice, eventually, series};

/// A report in the study.
fn report() -> Slice {
    Slice {
        class: SR,
        modality: "SR",
        ..series(9, 1, 1, 200_000).remove(0)
    }
}

#[tokio::test]
async fn series_unused_for_long_leave_the_disk_and_reports_and_small_series_stay() {
    let node = Node::start_with(|s| s.evict_after = 10 * HOUR).await;
    let (big, small) = (series(1, 1, 4, 100_000), series(2, 1, 2, 1000));
    node.store_all(&[big.clone(), small, vec![report()]].concat()).await;
    node.archive.offload(STUDY).await.unwrap();
    node.pass(9 * HOUR);
    assert_eq!(node.hot_files().len(), 7);
    node.pass(3 * HOUR);
    eventually("the big series is evicted", async || node.hot_files().len() == 3).await;
    let hot: Vec<String> = node
        .locate(STUDY)
        .await
        .into_iter()
        .filter(|l| l.hot)
        .map(|l| l.series_uid.to_string())
        .collect();
    assert_eq!(hot, ["2.25.2", "2.25.2", "2.25.9"]);
    // A person may evict them all the same.
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    assert_eq!(node.hot_files().len(), 0);
}

#[tokio::test]
async fn a_series_that_is_used_stays() {
    let node = Node::start_with(|s| s.evict_after = 10 * HOUR).await;
    let (used, unused) = (series(1, 1, 2, 100_000), series(2, 1, 2, 100_000));
    node.store_all(&[used.clone(), unused].concat()).await;
    node.archive.offload(STUDY).await.unwrap();
    node.pass(8 * HOUR);
    let instances = node
        .locate(STUDY)
        .await
        .into_iter()
        .filter(|l| l.series_uid.as_str() == "2.25.1")
        .collect();
    let retrieval = node.archive.retrieve(instances, RetrieveTerms::readable_only(false));
    crate::node::Retrieved::from(retrieval).await.assert_complete(&used);
    node.pass(4 * HOUR);
    eventually("the unused series is evicted", async || node.hot_files().len() == 2).await;
    assert!(
        node.locate(STUDY)
            .await
            .iter()
            .all(|l| l.hot == (l.series_uid.as_str() == "2.25.1"))
    );
}

#[tokio::test]
async fn a_disk_beyond_its_watermark_is_emptied_of_what_is_verified_and_of_nothing_else() {
    let node = Node::start_with(|s| (s.high_watermark, s.low_watermark) = (0.0, 0.0)).await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    node.store_all(&series(2, 1, 3, 100_000)).await;
    // The catalogue forgets a hot copy first, then the file goes.
    eventually("the verified series is evicted", async || node.hot_files().len() == 3).await;
    assert_eq!(node.hot_instances(STUDY).await, 3);
    assert!(node.locate(STUDY).await.iter().all(|l| l.hot == l.packed.is_none()));
}

#[tokio::test]
async fn what_the_cold_store_does_not_have_as_it_was_verified_is_not_evicted() {
    let node = Node::start().await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    let pack = &node.packs()[0];
    let whole = std::fs::read(pack).unwrap();
    std::fs::write(pack, &whole[..whole.len() - 1]).unwrap();
    match node.archive.evict(STUDY).await {
        Err(ArchiveError::Cold(ColdError::Differs { .. })) => {}
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(pack).unwrap();
    match node.archive.evict(STUDY).await {
        Err(ArchiveError::Cold(ColdError::NotFound { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(node.hot_files().len(), 3);
    assert_eq!(node.hot_instances(STUDY).await, 3);
    std::fs::write(pack, whole).unwrap();
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
}

#[tokio::test]
async fn what_s3_has_archived_meanwhile_is_not_evicted() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| {
        s.cold.as_mut().unwrap().location = bucket.location();
        s.evict_after = 10 * HOUR;
    })
    .await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    bucket.archive(&bucket.packs()[0]);
    node.pass(20 * HOUR);
    eventually("that is on record", async || {
        let states = node.locate(STUDY).await.into_iter().filter_map(|l| l.packed).map(|p| p.state);
        states.eq([PackState::ArchiveAccess; 3])
    })
    .await;
    assert_eq!(node.archive.evict(STUDY).await.unwrap(), 0);
    assert_eq!(node.hot_files().len(), 3);
}

#[tokio::test]
async fn what_s3_has_archived_goes_from_a_full_disk_after_everything_else_if_it_is_sound() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    node.store_all(&series(1, 1, 3, 100_000)).await;
    node.archive.offload(STUDY).await.unwrap();
    let archived = bucket.packs().remove(0);
    node.store_all(&[series(2, 1, 3, 100_000), vec![report()]].concat()).await;
    node.archive.offload(STUDY).await.unwrap();
    bucket.archive(&archived);
    assert_eq!(
        node.archive.evict(STUDY).await.unwrap() / 100_000,
        5,
        "a person's wish is for what comes back at once"
    );
    assert_eq!(node.hot_files().len(), 3);

    // The same disk, and it is full from now on; the archived copy is damaged at first.
    let whole = bucket.replace(&archived, b"something else");
    let mut node = node;
    (node.settings.high_watermark, node.settings.low_watermark) = (0.0, 0.0);
    let node = node.restart(|_| {}).await;
    eventually("the damage is on record", async || {
        node.locate(STUDY)
            .await
            .iter()
            .filter_map(|l| l.packed.as_ref())
            .filter(|p| p.damaged)
            .count()
            == 3
    })
    .await;
    assert_eq!(node.hot_files().len(), 3);
    bucket.replace(&archived, &whole);
    bucket.archive(&archived);
    node.archive.evict(STUDY).await.unwrap();
    eventually("what is archived is evicted", async || node.hot_files().is_empty()).await;
    assert_eq!(node.hot_instances(STUDY).await, 0);
}

#[tokio::test]
async fn what_a_rule_keeps_stays_and_what_it_keeps_longer_goes_last() {
    let keep = |series: u32, keep: Keep| Rule {
        name: series.to_string(),
        conditions: vec![Condition::Modality(vec![format!("M{series}")])],
        effects: Effects {
            evict_after: Some(keep),
            ..Effects::default()
        },
    };
    let node = Node::start_with(|s| {
        s.evict_after = 10 * HOUR;
        s.rules = Rules::new(vec![
            keep(1, Keep::Always),
            keep(2, Keep::For(100 * HOUR)),
            keep(3, Keep::For(HOUR)),
        ]);
    })
    .await;
    let modality = |n: usize, modality: &'static str| series(n, 1, 2, 100_000).into_iter().map(move |slice| Slice { modality, ..slice });
    let all: Vec<Slice> = modality(1, "M1")
        .chain(modality(2, "M2"))
        .chain(modality(3, "M3"))
        .chain(modality(4, "M4"))
        .collect();
    node.store_all(&all).await;
    node.archive.offload(STUDY).await.unwrap();
    let hot = async || {
        let located = node.locate(STUDY).await;
        let hot: std::collections::BTreeSet<String> = located.iter().filter(|l| l.hot).map(|l| l.series_uid.to_string()).collect();
        hot.into_iter().collect::<Vec<_>>()
    };
    node.pass(3 * HOUR);
    eventually("what a rule keeps for an hour goes", async || {
        hot().await == ["2.25.1", "2.25.2", "2.25.4"]
    })
    .await;
    node.pass(9 * HOUR);
    eventually("what no rule keeps goes", async || hot().await == ["2.25.1", "2.25.2"]).await;
    node.pass(90 * HOUR);
    eventually("what a rule keeps longer goes", async || hot().await == ["2.25.1"]).await;
    node.pass(10_000 * HOUR);
    tokio::time::sleep(3 * node.settings.mover_interval).await;
    assert_eq!(hot().await, ["2.25.1"]);
}

#[tokio::test]
async fn a_full_disk_takes_what_is_kept_for_ever_from_nobody() {
    let always = Rule {
        name: "always".into(),
        conditions: vec![Condition::Modality(vec!["M1".into()])],
        effects: Effects {
            evict_after: Some(Keep::Always),
            ..Effects::default()
        },
    };
    let node = Node::start_with(|s| {
        (s.high_watermark, s.low_watermark) = (0.0, 0.0);
        s.rules = Rules::new(vec![always]);
    })
    .await;
    let kept = series(1, 1, 2, 100_000).into_iter().map(|slice| Slice { modality: "M1", ..slice });
    node.store_all(&kept.chain(series(2, 1, 2, 100_000)).collect::<Vec<_>>()).await;
    node.archive.offload(STUDY).await.unwrap();
    eventually("the other series is evicted", async || node.hot_files().len() == 2).await;
    tokio::time::sleep(3 * node.settings.mover_interval).await;
    assert_eq!(node.hot_files().len(), 2);
}

#[tokio::test]
async fn an_open_reader_outlives_the_eviction_of_its_file() {
    let node = Node::start().await;
    let slices = series(1, 1, 1, 3_000_000);
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    let mut retrieval = node.archive.retrieve(node.locate(STUDY).await, RetrieveTerms::readable_only(false));
    let release = retrieval.next().await.unwrap();
    node.archive.evict(STUDY).await.unwrap();
    assert_eq!(node.hot_files().len(), 0);
    let mut retrieved = crate::node::Retrieved::default();
    retrieved.add(release).await;
    retrieved.assert_complete(&slices);
}

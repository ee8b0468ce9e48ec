//! Offload: what is verified, what is refused, what waits for the cold store.

use filmroom_index::catalogue::Outcome;
use filmroom_tiering::archive::Settings;
use filmroom_tiering::bandwidth::Rate;
use filmroom_tiering::cold::ColdError;
use filmroom_tiering::error::ArchiveError;
use filmroom_tiering::schedule::Schedule;

use crate::bucket::{Bucket, Mood};
use crate::node::{HOUR, Node, STUDY, eventually, files_below, series};

#[tokio::test]
async fn a_study_is_packed_verified_evicted_and_comes_back_byte_for_byte() {
    let node = Node::start().await;
    let slices = [series(1, 1, 12, 40_000), series(2, 1, 3, 300_000), series(3, 1, 1, 2_000_000)].concat();
    node.store_all(&slices).await;
    node.archive.offload(STUDY).await.unwrap();
    assert_eq!(node.packs().len(), 3);
    assert_eq!(node.hot_files().len(), slices.len());

    let bytes: u64 = node.hot_files().iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(node.archive.evict(STUDY).await.unwrap(), bytes);
    assert_eq!(node.hot_files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(node.hot_instances(STUDY).await, 0);

    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(node.hot_files().len(), slices.len());
    assert_eq!(node.hot_instances(STUDY).await, slices.len());
    assert_eq!(files_below(&node.settings.data_dir.join("incoming")).len(), 0);
}

#[tokio::test]
async fn a_quiet_series_is_offloaded_by_itself_and_a_newcomer_makes_a_further_pack() {
    let node = Node::start().await;
    node.store_all(&series(1, 1, 4, 1000)).await;
    node.pass(2 * HOUR);
    eventually("one pack", async || node.packs().len() == 1).await;
    node.store_all(&series(1, 5, 1, 1000)).await;
    node.pass(2 * HOUR);
    eventually("two packs", async || node.packs().len() == 2).await;
    node.offload_and_evict(STUDY).await;
    node.retrieve(STUDY).await.assert_complete(&series(1, 1, 5, 1000));
}

#[tokio::test]
async fn at_an_hour_in_which_nothing_is_uploaded_a_command_says_so_and_the_study_goes_later() {
    let upload = |settings: &mut Settings, rate| settings.cold.as_mut().unwrap().bandwidth.upload = Schedule::always(rate);
    let mut node = Node::start_with(|settings| upload(settings, Rate::Paused)).await;
    node.store_all(&series(1, 1, 2, 1000)).await;
    let refused = node.archive.offload(STUDY).await.unwrap_err();
    assert!(refused.to_string().contains("[bandwidth] upload lets nothing pass"), "{refused}");
    assert!(node.packs().is_empty());
    upload(&mut node.settings, Rate::Unlimited);
    let node = node.restart(|_| {}).await;
    // It was asked for, and has not been quiet for long.
    eventually("the pack", async || node.packs().len() == 1).await;
}

#[tokio::test]
async fn a_hot_file_that_rotted_is_quarantined_and_the_rest_is_verified() {
    let node = Node::start().await;
    let slices = series(1, 1, 5, 10_000);
    node.store_all(&slices).await;
    let rotten = node
        .locate(STUDY)
        .await
        .into_iter()
        .find(|l| l.sop_instance.as_str() == "2.25.1.3")
        .unwrap();
    let file = node
        .hot_files()
        .into_iter()
        .find(|f| f.to_string_lossy().contains(&rotten.object.to_string()))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    node.offload_and_evict(STUDY).await;
    let quarantined = node.archive.catalogue().quarantined(10).await.unwrap();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].object, rotten.object);
    assert!(quarantined[0].reason.contains("SHA-256"), "{}", quarantined[0].reason);
    // No pack holds it, not even one of quarantined objects, and it is not lost either: a person may want to look at it.
    for pack in node.packs() {
        let pack = std::fs::read(pack).unwrap();
        assert!(!pack.windows(10).any(|w| w == b"2.25.1.3.d"));
    }
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let rest: Vec<_> = slices.into_iter().filter(|s| s.number != 3).collect();
    node.retrieve(STUDY).await.assert_complete(&rest);
}

#[tokio::test]
async fn a_hot_file_that_is_missing_keeps_nothing_else_from_being_verified() {
    let node = Node::start().await;
    let slices = series(1, 1, 5, 10_000);
    node.store_all(&slices).await;
    std::fs::remove_file(&node.hot_files()[0]).unwrap();
    node.archive.offload(STUDY).await.unwrap();
    assert_eq!(node.locate(STUDY).await.iter().filter(|l| l.packed.is_some()).count(), 4);
}

#[tokio::test]
async fn while_the_cold_store_is_down_storing_goes_on_and_packs_wait() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    bucket.set(Mood::Down);
    node.store_all(&series(1, 1, 3, 10_000)).await;
    node.pass(2 * HOUR);
    eventually("the store is known to be down", async || node.archive.cold_down()).await;
    node.store_all(&series(2, 1, 3, 10_000)).await;
    bucket.set(Mood::Well);
    node.archive.offload(STUDY).await.unwrap();
    assert!(!node.archive.cold_down());
    assert_eq!(bucket.packs().len(), 2);
}

#[tokio::test]
async fn a_cold_store_that_refuses_fails_the_command_with_its_reason() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    bucket.set(Mood::Refusing);
    assert_eq!(node.store(&series(1, 1, 1, 1000)[0]).await, Outcome::Served);
    match node.archive.offload(STUDY).await {
        Err(ArchiveError::Cold(ColdError::Refused(why))) => assert!(why.contains("403"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_study_that_is_not_there_is_named() {
    let node = Node::start().await;
    let name = |error| match error {
        Err(ArchiveError::NoSuchStudy(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(name(node.archive.offload("1.2.3").await), "1.2.3");
    assert_eq!(name(node.archive.evict("A17").await.map(drop)), "A17");
    assert_eq!(name(node.archive.recall("1.2.3").await.map(drop)), "1.2.3");
}

#[tokio::test]
async fn a_journal_entry_reaches_the_cold_store_before_discarded_bytes_leave_the_disk() {
    let node = Node::start().await;
    let slices = series(1, 1, 2, 1000);
    node.store_all(&slices).await;
    let object = node.locate(STUDY).await[0].object;
    let catalogue = node.archive.catalogue();
    catalogue.quarantine(object, "a test", node.now()).await.unwrap();
    assert!(catalogue.discard(object, "somebody", node.now()).await.unwrap());
    eventually("the file is removed", async || node.hot_files().len() == 1).await;
    let journal = files_below(&node.dir.path().join("cold"));
    assert_eq!(journal.len(), 2, "{journal:?}");
    assert!(
        journal
            .iter()
            .all(|p| p.parent().unwrap().ends_with(STUDY) && p.file_name().unwrap().to_string_lossy().starts_with("journal-"))
    );
    assert_eq!(catalogue.journal_pending(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_node_that_restarts_takes_its_own_leases_back_at_once() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    bucket.set(Mood::Silent);
    node.store_all(&series(1, 1, 3, 10_000)).await;
    node.pass(2 * HOUR);
    eventually("a pack is under way", async || !bucket.asked("HEAD").is_empty()).await;
    let node = node.restart(|_| bucket.set(Mood::Well)).await;
    eventually("it is put", async || bucket.packs().len() == 1).await;
    node.archive.offload(STUDY).await.unwrap();
}

#[tokio::test]
async fn an_upload_survives_a_server_that_dies_in_the_middle_and_comes_back() {
    let bucket = Bucket::start().await;
    let node = Node::start_with(|s| s.cold.as_mut().unwrap().location = bucket.location()).await;
    bucket.set(Mood::Dying(0));
    let slices = series(1, 1, 10, 50_000);
    node.store_all(&slices).await;
    node.pass(2 * HOUR);
    eventually("the server is dead", async || bucket.mood() == Mood::Down).await;
    eventually("it is noticed", async || node.archive.cold_down()).await;
    assert_eq!(bucket.packs(), Vec::<String>::new());
    bucket.set(Mood::Well);
    eventually("the pack is there", async || bucket.packs().len() == 1).await;
    node.offload_and_evict(STUDY).await;
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert_eq!(bucket.asked("PUT").len(), 2);
}

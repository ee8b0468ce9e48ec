//! A directory as cold store.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use filmroom_tiering::cold::{Class, ColdError, ColdLocation, ColdStore};
use tempfile::TempDir;

use crate::contract::{self, Checksums};
use crate::{body, noise, read_object, settings};

async fn directory() -> (TempDir, ColdStore) {
    let root = tempfile::tempdir().unwrap();
    let store = store_in(root.path()).await;
    (root, store)
}

async fn store_in(root: &Path) -> ColdStore {
    ColdStore::open(&settings(ColdLocation::Directory(root.to_path_buf())))
        .await
        .unwrap()
}

/// Waits until some unfinished file lies in the store, or none does.
async fn unfinished(root: &Path, expected: bool) {
    for _ in 0..100 {
        let series = fs::read_dir(root.join("1.2/3.4"));
        let found = series
            .into_iter()
            .flatten()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".part"));
        if found == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an unfinished file lies there: {}", !expected);
}

#[tokio::test]
async fn what_is_put_is_there() {
    let (root, store) = directory().await;
    contract::what_is_put_is_there(&store, Checksums::NotKept).await;
    unfinished(root.path(), false).await;
}

#[tokio::test]
async fn everything_is_listed_once_study_by_study() {
    let (root, store) = directory().await;
    contract::everything_is_listed_once_study_by_study(&store).await;
    // What a put has not finished, and what a NAS keeps beside, is none of it.
    fs::write(root.path().join("1.2/.journal-2.json.part"), "").unwrap();
    fs::create_dir_all(root.path().join(".snapshot/1.2")).unwrap();
    fs::write(root.path().join(".snapshot/1.2/journal-3.json"), "").unwrap();
    assert_eq!(futures::StreamExt::count(store.list("")).await, 1103);
    let nothing = store_in(&root.path().join("unmounted")).await;
    let answer = futures::StreamExt::next(&mut nothing.list("")).await;
    assert!(matches!(answer, Some(Err(ColdError::Unavailable(_)))), "{answer:?}");
}

#[tokio::test]
async fn ranges_are_read() {
    contract::ranges_are_read(&directory().await.1).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (_root, store) = directory().await;
    contract::what_is_not_there_is_not_found(&store).await;
}

#[tokio::test]
async fn a_repeated_put_is_the_same_object() {
    let (_root, store) = directory().await;
    contract::a_repeated_put_is_the_same_object(&store, Checksums::NotKept).await;
}

#[tokio::test]
async fn a_put_that_fails_or_is_dropped_leaves_nothing() {
    let (root, store) = directory().await;
    let clean = async |_: &str| unfinished(root.path(), false).await;
    contract::a_put_that_fails_leaves_nothing(&store, clean).await;
    contract::a_put_that_is_dropped_leaves_nothing(&store, async |_| unfinished(root.path(), true).await, clean).await;
}

#[tokio::test]
async fn a_root_that_is_not_there_is_not_made_and_not_taken_for_an_empty_one() {
    let mount = tempfile::tempdir().unwrap();
    let root = mount.path().join("archive");
    let store = store_in(&root).await;
    let bytes = noise(1, 1000);
    let answers = [
        store.head("1.2/3.4/a.zip").await.map(drop),
        store.get("1.2/3.4/a.zip", None).await.map(drop),
        store.put("1.2/3.4/a.zip", Class::Pack, 1000, body(&bytes)).await.map(drop),
    ];
    for answer in answers {
        assert!(
            matches!(&answer, Err(ColdError::Unavailable(what)) if what.contains("mount")),
            "{answer:?}"
        );
    }
    assert!(!root.exists());
    // It comes back by itself.
    fs::create_dir(&root).unwrap();
    store.put("1.2/3.4/a.zip", Class::Pack, 1000, body(&bytes)).await.unwrap();
    assert_eq!(read_object(&store, "1.2/3.4/a.zip").await.unwrap(), bytes);
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_by_the_next_put_of_the_key() {
    let (root, store) = directory().await;
    let series = root.path().join("1.2/3.4");
    fs::create_dir_all(&series).unwrap();
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    for (name, touched) in [
        (".a.zip.1.part", two_days_ago),
        (".a.zip.2.part", SystemTime::now()),
        (".b.zip.1.part", two_days_ago),
    ] {
        let file = fs::File::create(series.join(name)).unwrap();
        file.set_modified(touched).unwrap();
    }
    store.put("1.2/3.4/a.zip", Class::Pack, 10, body(&noise(1, 10))).await.unwrap();
    let mut left: Vec<String> = fs::read_dir(series)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    // Another node may be writing the second; the third is another key's.
    assert_eq!(left, [".a.zip.2.part", ".b.zip.1.part", "a.zip"]);
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_refused() {
    let (root, store) = directory().await;
    fs::write(root.path().join("1.2"), "in the way").unwrap();
    let answer = store.put("1.2/3.4/a.zip", Class::Pack, 10, body(&noise(1, 10))).await;
    assert!(matches!(answer, Err(ColdError::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn an_object_that_was_cut_short_fails_instead_of_ending() {
    let (root, store) = directory().await;
    let bytes = noise(1, 10_000_000);
    store.put("1.2/3.4/a.zip", Class::Pack, 10_000_000, body(&bytes)).await.unwrap();
    let stream = store.get("1.2/3.4/a.zip", None).await.unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(root.path().join("1.2/3.4/a.zip"))
        .unwrap()
        .set_len(5_000_000)
        .unwrap();
    assert!(crate::read(stream).await.is_err());
}

#[tokio::test]
async fn a_key_does_not_lead_out_of_the_root() {
    let (root, store) = directory().await;
    let outside = root.path().with_extension("outside");
    for key in [
        format!("../{}", outside.file_name().unwrap().to_str().unwrap()),
        outside.to_str().unwrap().to_owned(),
    ] {
        let answer = store.put(&key, Class::Pack, 10, body(&noise(1, 10))).await;
        assert!(matches!(answer, Err(ColdError::Refused(_))), "{answer:?}");
        assert!(!outside.exists());
    }
}

//! What every cold store does.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use filmroom_tiering::cold::{Class, ColdError, ColdStore};
use futures::StreamExt;

use crate::{body, failing_body, noise, read, read_object};

/// Whether a HEAD tells the CRC-64/NVME.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Checksums {
    Kept,
    NotKept,
}

/// Lengths on both sides of what goes in one request, and whole numbers of parts.
const LENGTHS: [usize; 7] = [0, 1, 1_000_000, 16 << 20, (16 << 20) + 1, 32 << 20, 40_000_000];

pub(crate) async fn what_is_put_is_there(store: &ColdStore, checksums: Checksums) {
    for (length, seed) in LENGTHS.into_iter().zip(1..) {
        let bytes = noise(seed, length);
        let key = format!("1.2/3.4/{length}.zip");
        assert_eq!(store.head(&key).await.unwrap(), None);
        let crc64 = store.put(&key, Class::Pack, length as u64, body(&bytes)).await.unwrap();
        assert_eq!(crc64, checksum(CrcAlgorithm::Crc64Nvme, &bytes));
        let head = store.head(&key).await.unwrap().unwrap();
        assert_eq!(head.length, length as u64);
        assert_eq!(head.crc64, (checksums == Checksums::Kept).then_some(crc64), "{length}");
        assert!(head.archived.is_none() && !head.restoring);
        assert!(read_object(store, &key).await.unwrap() == bytes, "{length}");
    }
}

/// More objects than a page of S3's listing has, of studies whose UIDs begin alike.
pub(crate) async fn everything_is_listed_once_study_by_study(store: &ColdStore) {
    use futures::TryStreamExt;
    let keys = (0..1100u32)
        .map(|n| format!("1.2.{}/3.4/{n:04}.json.zst", n % 5))
        .chain(["1.2/journal-1.json", "1.2/3.4/0.zip", "1.2.3.4/3.4/0.zip"].map(str::to_owned));
    let mut expected: Vec<(String, u64)> = keys.enumerate().map(|(n, key)| (key, n as u64 % 7)).collect();
    futures::stream::iter(expected.clone())
        .for_each_concurrent(16, async |(key, length)| {
            let bytes = noise(8, length as usize);
            store.put(&key, Class::Record, length, body(&bytes)).await.unwrap();
        })
        .await;
    let listed: Vec<(String, u64)> = store
        .list("")
        .map_ok(|listed| (listed.key, listed.length))
        .try_collect()
        .await
        .unwrap();
    let mut folders: Vec<&str> = listed.iter().map(|(key, _)| key.split('/').next().unwrap()).collect();
    folders.dedup();
    assert_eq!(folders.len(), 7, "what belongs to a study comes together: {folders:?}");
    let of_one: Vec<&String> = listed.iter().map(|(key, _)| key).filter(|key| key.starts_with("1.2.3/")).collect();
    assert!(of_one.is_sorted());
    let mut sorted = listed.clone();
    sorted.sort();
    expected.sort();
    assert!(sorted == expected);
    let below: Vec<String> = store.list("1.2/").map_ok(|listed| listed.key).try_collect().await.unwrap();
    assert_eq!(below.len(), 2);
    assert!(store.list("9.9/").next().await.is_none());
}

pub(crate) async fn ranges_are_read(store: &ColdStore) {
    let bytes = noise(99, 20_000_000);
    store
        .put("1.2/3.4/ranges.zip", Class::Pack, 20_000_000, body(&bytes))
        .await
        .unwrap();
    for range in [0..1, 0..20_000_000, 19_999_999..20_000_000, 5_000_000..17_000_001, 7..7, 0..0] {
        let read = read(store.get("1.2/3.4/ranges.zip", Some(range.clone())).await.unwrap())
            .await
            .unwrap();
        assert!(read == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    // Half of what was asked for is nothing that anybody wants.
    for range in [0..20_000_001, 20_000_000..20_000_001, 30_000_000..40_000_000] {
        let answer = store.get("1.2/3.4/ranges.zip", Some(range.clone())).await.map(drop);
        assert!(matches!(answer, Err(ColdError::Differs { .. })), "{range:?}: {answer:?}");
    }
}

pub(crate) async fn what_is_not_there_is_not_found(store: &ColdStore) {
    assert_eq!(store.head("1.2/3.4/nothing.zip").await.unwrap(), None);
    for range in [None, Some(5..10)] {
        let answer = store.get("1.2/3.4/nothing.zip", range).await.map(drop);
        assert!(matches!(answer, Err(ColdError::NotFound { .. })), "{answer:?}");
    }
}

pub(crate) async fn a_repeated_put_is_the_same_object(store: &ColdStore, checksums: Checksums) {
    for length in [1000, 20_000_000] {
        let bytes = noise(5, length);
        let key = format!("1.2/3.4/twice-{length}.zip");
        for _ in 0..2 {
            let crc64 = store.put(&key, Class::Pack, length as u64, body(&bytes)).await.unwrap();
            let head = store.head(&key).await.unwrap().unwrap();
            assert_eq!(head.crc64, (checksums == Checksums::Kept).then_some(crc64));
        }
        assert!(read_object(store, &key).await.unwrap() == bytes);
    }
}

/// `clean` looks for what a put should not have left behind.
pub(crate) async fn a_put_that_fails_leaves_nothing(store: &ColdStore, clean: impl AsyncFn(&str)) {
    for length in [1000u64, 40_000_000] {
        let part = noise(6, length as usize * 9 / 10);
        let whole = noise(6, length as usize);
        let longer = noise(6, length as usize + 1);
        let bodies = [
            ("fails in the middle", failing_body(&part), "the disk failed"),
            ("fails behind the last byte", failing_body(&whole), "the disk failed"),
            ("ends early", body(&part), "it ended after"),
            ("goes on", body(&longer), "it goes on after"),
        ];
        for (name, body, reason) in bodies {
            let key = format!("1.2/3.4/failed-{length}.zip");
            match store.put(&key, Class::Pack, length, body).await {
                Err(ColdError::Source(error)) => assert!(error.to_string().contains(reason), "{name}: {error}"),
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(store.head(&key).await.unwrap(), None, "{name}");
            clean(&key).await;
        }
    }
}

/// A put whose body never ends is dropped when the body has been asked for its last byte: all parts before it are in flight or in the store.
/// `under_way` sees the put before it is dropped.
pub(crate) async fn a_put_that_is_dropped_leaves_nothing(store: &ColdStore, under_way: impl AsyncFn(&str), clean: impl AsyncFn(&str)) {
    let key = "1.2/3.4/dropped.zip";
    let bytes = noise(7, 50_000_000);
    let (stuck, at_the_end) = tokio::sync::oneshot::channel::<()>();
    let never = futures::stream::once(async move {
        stuck.send(()).unwrap();
        std::future::pending::<std::io::Result<Bytes>>().await
    });
    let until_the_end = async {
        at_the_end.await.unwrap();
        under_way(key).await;
    };
    tokio::select! {
        put = store.put(key, Class::Pack, 50_000_001, body(&bytes).chain(never).boxed()) => panic!("{put:?}"),
        () = until_the_end => {}
    }
    clean(key).await;
    assert_eq!(store.head(key).await.unwrap(), None);
}

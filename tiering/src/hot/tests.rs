use std::fs::File;

use bytes::Bytes;
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, Uid};
use filmroom_index::part10::FileMeta;
use sha2::{Digest as _, Sha256};

use super::*;

fn store() -> (tempfile::TempDir, HotStore) {
    let dir = tempfile::tempdir().unwrap();
    let hot = HotStore::open(dir.path(), 0, false).unwrap();
    (dir, hot)
}

fn staged(hot: &HotStore, content: &[u8]) -> Staged {
    let mut staged = Staged::create(hot, ObjectId::new(Timestamp(1_795_000_000_000_000))).unwrap();
    staged.write(content).unwrap();
    drop(staged.sync().unwrap());
    staged
}

fn meta() -> FileMeta {
    FileMeta {
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        sop_instance: Uid::parse("2.25.1").unwrap(),
        transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
        source: Some(AeTitle::parse("CT1").unwrap()),
    }
}

#[test]
fn a_staged_file_that_is_placed_stays_and_another_goes() {
    let (dir, hot) = store();
    let (mut placed, dropped) = (staged(&hot, b"whole"), staged(&hot, b"half"));
    let object = placed.object();
    let results = hot.place(&mut [&mut placed]);
    assert!(matches!(results[..], [Ok(())]));
    drop((placed, dropped));
    assert_eq!(fs::read(hot.path(object)).unwrap(), b"whole");
    assert!(hot.path(object).starts_with(dir.path().join("hot/2026-11-18/11")));
    assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    assert!(hot.holds(object, 5) && !hot.holds(object, 6));
}

#[test]
fn a_file_that_cannot_be_placed_fails_alone() {
    let (dir, hot) = store();
    let (mut good, mut bad) = (staged(&hot, b"good"), staged(&hot, b"bad"));
    fs::remove_file(dir.path().join(format!("incoming/{}.part", bad.object()))).unwrap();
    let results = hot.place(&mut [&mut bad, &mut good]);
    assert!(matches!(results[..], [Err(_), Ok(())]), "{results:?}");
    assert!(hot.holds(good.object(), 4));
}

#[test]
fn an_hour_directory_that_was_tidied_away_is_made_again() {
    let (dir, hot) = store();
    let mut first = staged(&hot, b"1");
    assert!(hot.place(&mut [&mut first])[0].is_ok());
    fs::remove_dir_all(dir.path().join("hot/2026-11-18")).unwrap();
    let mut second = staged(&hot, b"2");
    assert!(hot.place(&mut [&mut second])[0].is_ok());
    assert!(hot.holds(second.object(), 1));
}

#[test]
fn removal_of_what_is_not_there_is_no_error() {
    let (_dir, hot) = store();
    let mut file = staged(&hot, b"1");
    assert!(hot.place(&mut [&mut file])[0].is_ok());
    hot.remove(&[file.object(), ObjectId::new(Timestamp(0))]).unwrap();
    assert!(!hot.holds(file.object(), 1));
}

#[tokio::test]
async fn a_reader_hands_on_the_data_set_in_chunks_of_any_size() {
    let (_dir, hot) = store();
    for length in [0, 1, 1000, CHUNK_EDGE - 1, CHUNK_EDGE, CHUNK_EDGE + 1, 3_000_000] {
        let data_set: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let content = [meta().encode(), data_set.clone()].concat();
        let mut file = staged(&hot, &content);
        assert!(hot.place(&mut [&mut file])[0].is_ok());
        for max in [997, 65_536, usize::MAX] {
            let mut reader = hot.read(file.object(), content.len() as u64).await.unwrap();
            assert_eq!(reader.length(), length as u64);
            let mut read = Vec::new();
            while let Some(chunk) = reader.next(max).await.unwrap() {
                assert!(!chunk.is_empty() && chunk.len() <= max.min(1 << 20));
                read.extend_from_slice(&chunk);
            }
            assert!(read == data_set, "{length} bytes in chunks of {max}");
            assert_eq!(reader.next(max).await.unwrap(), None);
        }
    }
}

/// Where the first read of a file ends, in bytes of the data set.
const CHUNK_EDGE: usize = (1 << 20) - 300;

#[tokio::test]
async fn a_file_of_another_length_is_an_error_not_an_end() {
    let (_dir, hot) = store();
    let content = [meta().encode(), vec![0; 2_000_000]].concat();
    let mut file = staged(&hot, &content);
    assert!(hot.place(&mut [&mut file])[0].is_ok());
    let length = content.len() as u64;
    assert!(hot.read(file.object(), length + 1).await.is_err());
    let mut reader = hot.read(file.object(), length).await.unwrap();
    File::options()
        .write(true)
        .open(hot.path(file.object()))
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let end = loop {
        match reader.next(usize::MAX).await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_unlinked_file_can_be_read() {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, b"..data set").unwrap();
    let mut reader = DataSetReader::new(file, 2, 8, Buffers::default());
    assert_eq!(reader.next(4).await.unwrap().unwrap(), "data");
    assert_eq!(reader.next(40).await.unwrap().unwrap(), " set");
    assert_eq!(reader.next(4).await.unwrap(), None);
}

#[test]
fn a_full_disk_refuses_a_staged_file() {
    let dir = tempfile::tempdir().unwrap();
    let hot = HotStore::open(dir.path(), u64::MAX, false).unwrap();
    assert!(matches!(
        Staged::create(&hot, ObjectId::new(Timestamp(0))),
        Err(StoreError::Full { reserve: u64::MAX })
    ));
    assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
}

/// Elements that the scanner walks over: PixelData of that length, and nothing else.
fn pixels(length: u32) -> Vec<u8> {
    let mut data_set = b"\xe0\x7f\x10\x00OW\0\0".to_vec();
    data_set.extend_from_slice(&length.to_le_bytes());
    data_set.resize(data_set.len() + usize::try_from(length).unwrap(), 0);
    data_set
}

#[tokio::test]
async fn a_disk_that_fills_while_an_object_comes_refuses_it() {
    let object = pixels(64 << 20);
    // Others write and delete on this disk too, so it takes more than one try to be at the reserve in the middle of the object.
    for _ in 0..50 {
        let dir = tempfile::tempdir().unwrap();
        let available = HotStore::open(dir.path(), 0, false).unwrap().space().unwrap().available;
        let hot = HotStore::open(dir.path(), available - (4 << 20), false).unwrap();
        let mut incoming = Incoming::new(&hot, &Clock::System, meta());
        let mut taken = 0;
        for fragment in object.chunks(1 << 20) {
            match incoming.write(Bytes::copy_from_slice(fragment)).await {
                Ok(()) => taken += 1,
                Err(StoreError::Full { .. }) if taken > 1 => return,
                Err(StoreError::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            // The file system is asked every 100 ms.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    panic!("the reserve was passed 50 times");
}

#[tokio::test]
async fn digests_are_of_all_that_came_however_it_came() {
    let (_dir, hot) = store();
    let preface = meta().encode();
    // A buffer that is not full, one that is exactly full, one that is too small for the last bytes, several.
    for length in [1_000, 1 << 20, (1 << 20) + 2, 3 << 20] {
        let data_set = pixels(u32::try_from(length - preface.len() - 12).unwrap());
        let file = [preface.as_slice(), &data_set].concat();
        assert_eq!(file.len(), length);
        for fragment in [data_set.len(), 100_000, 1 << 18] {
            let mut incoming = Incoming::new(&hot, &Clock::System, meta());
            for fragment in data_set.chunks(fragment) {
                incoming.write(Bytes::copy_from_slice(fragment)).await.unwrap();
            }
            let received = incoming.finish().await.unwrap();
            assert_eq!(
                received.sha256.0,
                <[u8; 32]>::from(Sha256::digest(&data_set)),
                "{length} in {fragment}"
            );
            assert_eq!(received.crc32, crc32fast::hash(&file), "{length} in {fragment}");
            assert_eq!(received.length, length as u64);
            drop(received.file.end().await.unwrap());
        }
    }
}

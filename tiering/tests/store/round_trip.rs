//! What was received is what is served, byte for byte.

use std::collections::BTreeSet;

use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Outcome;
use filmroom_index::header::scan;
use filmroom_index::model::Uid;
use filmroom_index::part10::read_preface;
use sha2::{Digest as _, Sha256};

use crate::node::{Node, Object, Slice, files_below, fixture, fixture_path, object_of, sender};

/// The fixtures that are whole objects, as a sender sends them: named by what the data set says, not by what a file's meta group has kept of it.
fn whole_fixtures() -> Vec<(String, Object)> {
    let root = fixture_path("");
    let mut found = Vec::new();
    for path in files_below(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let Some(mut object) = object_of(&path) else { continue };
        let Ok(header) = scan(&object.data_set, &object.meta.transfer_syntax) else {
            continue;
        };
        let uid = |tag| header.attributes.text(tag).and_then(|text| Uid::parse(text).ok());
        let (Some(class), Some(instance)) = (uid(tags::SOP_CLASS_UID), uid(tags::SOP_INSTANCE_UID)) else {
            continue;
        };
        if uid(tags::STUDY_INSTANCE_UID).is_some() && uid(tags::SERIES_INSTANCE_UID).is_some() {
            (object.meta.sop_class, object.meta.sop_instance) = (class, instance);
            found.push((name, object));
        }
    }
    found
}

#[tokio::test]
async fn every_fixture_is_served_byte_for_byte_in_its_own_transfer_syntax() {
    let node = Node::start().await;
    let mut syntaxes = BTreeSet::new();
    let objects = whole_fixtures();
    assert!(objects.len() > 110, "{}", objects.len());
    for (name, object) in objects {
        let outcome = node.store(&object).await;
        let served = matches!(outcome, Ok(Outcome::Served | Outcome::Redundant { .. } | Outcome::Corrected { .. }));
        assert!(served, "{name}: {outcome:?}");
        assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set, "{name}");
        syntaxes.insert(object.meta.transfer_syntax.to_string());
    }
    assert!(syntaxes.len() >= 15, "{syntaxes:?}");
    node.expect_incoming(0).await;
}

#[tokio::test]
async fn digests_are_of_the_data_set_and_of_the_file() {
    let node = Node::start().await;
    let object = fixture("ct/CT_small.dcm");
    let received = node.receive(&object).await.unwrap();
    let (sha256, crc32, length) = (received.sha256, received.crc32, received.length);
    node.archive.commit(received, sender("CT1")).await.unwrap();
    let file = std::fs::read(&node.hot_files()[0]).unwrap();
    assert_eq!(sha256.0, <[u8; 32]>::from(Sha256::digest(&object.data_set)));
    assert_eq!(crc32, crc32fast::hash(&file));
    assert_eq!(length, file.len() as u64);
    let preface = read_preface(&file).unwrap();
    assert_eq!(preface.source, object.meta.source);
    assert_eq!(preface.transfer_syntax, object.meta.transfer_syntax);
}

#[tokio::test]
async fn an_object_of_many_buffers_is_whole_whatever_the_fragments() {
    let node = Node::start().await;
    for (n, fragment) in [1021, 65_536, 262_144, 300_001, 5_000_000].into_iter().enumerate() {
        let mut slice = Slice::new(&format!("2.25.{n}"));
        slice.pixels = (0..3_000_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let object = slice.object();
        let mut incoming = node.archive.receive(object.meta.clone()).await.unwrap();
        for bytes in object.data_set.chunks(fragment) {
            incoming.write(bytes::Bytes::copy_from_slice(bytes)).await.unwrap();
        }
        let received = incoming.finish().await.unwrap();
        assert_eq!(received.sha256.0, <[u8; 32]>::from(Sha256::digest(&object.data_set)));
        let outcome = node.archive.commit(received, sender("CT1")).await.unwrap();
        assert_eq!(outcome, Outcome::Served);
        assert!(
            node.served(&object.meta.sop_instance).await.unwrap() == object.data_set,
            "fragments of {fragment}"
        );
    }
}

#[tokio::test]
async fn files_lie_in_the_hour_of_their_arrival() {
    let node = Node::start().await;
    node.store(&Slice::new("2.25.1").object()).await.unwrap();
    let file = &node.hot_files()[0];
    let place: Vec<&str> = file.iter().rev().take(3).map(|s| s.to_str().unwrap()).collect();
    let [name, hour, date] = place[..] else { panic!("{file:?}") };
    assert!(name.ends_with(".dcm") && hour.len() == 2 && date.len() == 10, "{file:?}");
}

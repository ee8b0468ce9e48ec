//! Answers of Amazon S3 that no server at hand gives: what is archived, overloaded, damaged on the way. They are sent as its documentation has them.

use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use filmroom_tiering::cold::{ArchiveTier, Class, ColdError, ColdLocation, ColdStore};

use crate::canned::{Answer, Canned, KEY, PATIENT, answer, cut, error};
use crate::{body, noise, read, settings};

#[tokio::test]
async fn an_archived_object_is_told_with_its_tier() {
    for (members, expected) in [
        (
            "<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>ARCHIVE_ACCESS</AccessTier>",
            ArchiveTier::Archive,
        ),
        (
            "<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>DEEP_ARCHIVE_ACCESS</AccessTier>",
            ArchiveTier::DeepArchive,
        ),
        ("<StorageClass>GLACIER</StorageClass>", ArchiveTier::Archive),
        ("<StorageClass>DEEP_ARCHIVE</StorageClass>", ArchiveTier::DeepArchive),
        // Nobody says which: the slower one, rather than a promise that is not kept.
        ("", ArchiveTier::DeepArchive),
        ("<AccessTier>A_NEW_ONE</AccessTier>", ArchiveTier::DeepArchive),
    ] {
        let server = Canned::start(vec![error("403 Forbidden", "InvalidObjectState", members)]).await;
        match server.store(PATIENT).await.get(KEY, None).await.map(drop) {
            Err(ColdError::Archived { tier, key }) => assert_eq!((tier, key.as_str()), (expected, KEY), "{members}"),
            other => panic!("{members}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_head_tells_archive_and_restore() {
    for (headers, archived, restoring) in [
        ("x-amz-storage-class: INTELLIGENT_TIERING\r\n", None, false),
        ("x-amz-archive-status: ARCHIVE_ACCESS\r\n", Some(ArchiveTier::Archive), false),
        (
            "x-amz-archive-status: DEEP_ARCHIVE_ACCESS\r\nx-amz-restore: ongoing-request=\"true\"\r\n",
            Some(ArchiveTier::DeepArchive),
            true,
        ),
        ("x-amz-storage-class: GLACIER\r\n", Some(ArchiveTier::Archive), false),
        ("x-amz-storage-class: DEEP_ARCHIVE\r\n", Some(ArchiveTier::DeepArchive), false),
        (
            "x-amz-storage-class: DEEP_ARCHIVE\r\nx-amz-restore: ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"\r\n",
            None,
            false,
        ),
    ] {
        let head = Answer {
            body: Bytes::new(),
            ..answer("200 OK", headers, "four")
        };
        let server = Canned::start(vec![head]).await;
        let head = server.store(PATIENT).await.head(KEY).await.unwrap().unwrap();
        assert_eq!(
            (head.length, head.crc64, head.archived, head.restoring),
            (4, None, archived, restoring),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn a_composite_checksum_is_none_of_the_whole() {
    let headers = "x-amz-checksum-crc64nvme: AAAAAAAAAAE=-2\r\nx-amz-checksum-type: COMPOSITE\r\n";
    let head = Answer {
        body: Bytes::new(),
        ..answer("200 OK", headers, "four")
    };
    let server = Canned::start(vec![head]).await;
    assert_eq!(server.store(PATIENT).await.head(KEY).await.unwrap().unwrap().crc64, None);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let slow_down = error("503 Slow Down", "SlowDown", "");
    let server = Canned::start(vec![slow_down.clone(), slow_down.clone(), answer("200 OK", "", "bytes")]).await;
    let stream = server.store(PATIENT).await.get(KEY, None).await.unwrap();
    assert_eq!(read(stream).await.unwrap(), b"bytes");
    assert_eq!(server.asked().len(), 3);

    let server = Canned::start(vec![slow_down]).await;
    let answer = server.store(PATIENT).await.get(KEY, None).await.map(drop);
    assert!(matches!(answer, Err(ColdError::Unavailable(_))), "{answer:?}");
    assert_eq!(server.asked().len(), 3);

    for (status, code) in [
        ("403 Forbidden", "AccessDenied"),
        ("403 Forbidden", "SignatureDoesNotMatch"),
        ("403 Forbidden", "InvalidAccessKeyId"),
        ("404 Not Found", "NoSuchBucket"),
        ("400 Bad Request", "ExpiredToken"),
        ("301 Moved Permanently", "PermanentRedirect"),
    ] {
        let server = Canned::start(vec![error(status, code, "")]).await;
        let answer = server.store(PATIENT).await.get(KEY, None).await.map(drop);
        assert!(
            matches!(&answer, Err(ColdError::Refused(what)) if what.contains(code)),
            "{answer:?}"
        );
        assert_eq!(server.asked().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn what_arrived_damaged_is_said_to_differ() {
    let server = Canned::start(vec![error("400 Bad Request", "BadDigest", "")]).await;
    let answer = server.store(PATIENT).await.put(KEY, Class::Pack, 4, body(&noise(1, 4))).await;
    assert!(matches!(answer, Err(ColdError::Differs { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_put_carries_class_checksum_and_key_of_encryption() {
    let server = Canned::start(vec![answer("200 OK", "ETag: \"1\"\r\n", "")]).await;
    let bytes = noise(1, 1000);
    let crc64 = server.store(PATIENT).await.put(KEY, Class::Pack, 1000, body(&bytes)).await.unwrap();
    assert_eq!(crc64, checksum(CrcAlgorithm::Crc64Nvme, &bytes));
    let request = server.asked().remove(0);
    let base64 = base64::engine::general_purpose::STANDARD
        .encode(crc64.to_be_bytes())
        .to_ascii_lowercase();
    for expected in [
        "put /bucket/p/1.2/3.4/a.zip",
        "x-amz-storage-class: intelligent_tiering",
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-central-1:1:key/2",
        &format!("x-amz-checksum-crc64nvme: {base64}"),
        "content-length: 1000",
    ] {
        assert!(request.contains(expected), "{expected} is not in {request}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_the_checksum_says_fails() {
    let crc64 = base64::engine::general_purpose::STANDARD.encode(checksum(CrcAlgorithm::Crc64Nvme, b"right").to_be_bytes());
    let headers = format!("x-amz-checksum-crc64nvme: {crc64}\r\nx-amz-checksum-type: FULL_OBJECT\r\n");
    for (body, intact) in [("right", true), ("wrong", false)] {
        let server = Canned::start(vec![answer("200 OK", &headers, body)]).await;
        let stream = server.store(PATIENT).await.get(KEY, None).await.unwrap();
        assert_eq!(read(stream).await.is_ok(), intact);
    }
}

#[tokio::test]
async fn a_body_that_breaks_every_time_fails_and_does_not_end() {
    let whole = answer("200 OK", "ETag: \"1\"\r\n", noise(1, 1000));
    let rest = answer("206 Partial Content", "ETag: \"1\"\r\n", noise(1, 600));
    let server = Canned::start(vec![cut(whole, 400, false), cut(rest, 0, false)]).await;
    let stream = server.store(PATIENT).await.get(KEY, None).await.unwrap();
    assert!(read(stream).await.is_err());
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(
        asked[1].contains("range: bytes=400-999") && asked[1].contains("if-match: \"1\""),
        "{}",
        asked[1]
    );
}

#[tokio::test]
async fn who_falls_silent_is_given_up() {
    let short = Duration::from_millis(300);
    let silent = Answer {
        head: String::new(),
        body: Bytes::new(),
        silent: true,
    };
    let server = Canned::start(vec![silent]).await;
    let store = server.store(short).await;
    let start = Instant::now();
    let answers = [store.head(KEY).await.map(drop), store.get(KEY, None).await.map(drop)];
    for answer in answers {
        assert!(matches!(answer, Err(ColdError::Unavailable(_))), "{answer:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20));

    let whole = answer("200 OK", "ETag: \"1\"\r\n", noise(1, 1000));
    let server = Canned::start(vec![cut(whole, 400, true)]).await;
    let stream = server.store(short).await.get(KEY, None).await.unwrap();
    let start = Instant::now();
    assert!(read(stream).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_at_once() {
    let location = ColdLocation::S3 {
        bucket: "bucket".to_owned(),
        prefix: String::new(),
        endpoint: Some("minio:9000 in the cellar".to_owned()),
        region: "eu-central-1".to_owned(),
        kms_key: None,
        credentials: None,
    };
    let opened = ColdStore::open(&settings(location)).await;
    assert!(
        matches!(&opened, Err(ColdError::Refused(what)) if what.contains("cellar")),
        "{opened:?}"
    );
}

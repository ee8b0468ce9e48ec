//! What S3 answers about its archive tiers.

use filmroom_index::model::RestoreTier;
use filmroom_tiering::cold::{ArchiveDays, ColdError, ColdLocation, ColdStore, RestoreAnswer};

use crate::canned::{Answer, Canned, KEY, PATIENT, answer, error};
use crate::settings;

#[tokio::test]
async fn every_answer_to_a_restore_is_told_and_none_is_asked_for_twice() {
    for (said, expected) in [
        (answer("202 Accepted", "", ""), RestoreAnswer::Accepted),
        (answer("200 OK", "", ""), RestoreAnswer::Accepted),
        (error("409 Conflict", "RestoreAlreadyInProgress", ""), RestoreAnswer::InProgress),
        (
            error("403 Forbidden", "ObjectAlreadyInActiveTierError", ""),
            RestoreAnswer::AlreadyReadable,
        ),
        (
            error("503 Service Unavailable", "GlacierExpeditedRetrievalNotAvailable", ""),
            RestoreAnswer::NoCapacity,
        ),
    ] {
        let server = Canned::start(vec![said]).await;
        let found = server.store(PATIENT).await.restore(KEY, RestoreTier::Expedited).await.unwrap();
        assert_eq!((found, server.asked().len()), (expected, 1));
        let request = server.asked().remove(0);
        assert!(request.starts_with("post /bucket/p/1.2/3.4/a.zip?restore"), "{request}");
    }
}

#[tokio::test]
async fn a_restore_names_its_tier_and_no_days() {
    for (tier, named) in [
        (RestoreTier::Bulk, "Bulk"),
        (RestoreTier::Standard, "Standard"),
        (RestoreTier::Expedited, "Expedited"),
    ] {
        let server = Canned::start(vec![answer("202 Accepted", "", "")]).await;
        server.store(PATIENT).await.restore(KEY, tier).await.unwrap();
        let body = server.bodies().remove(0);
        assert!(
            body.contains(&format!("<GlacierJobParameters><Tier>{named}</Tier></GlacierJobParameters>")),
            "{body}"
        );
        assert!(!body.contains("Days"), "{body}");
    }
}

#[tokio::test]
async fn a_restore_that_fails_says_whether_trying_again_helps() {
    let restore = async |answers: Vec<Answer>| {
        let server = Canned::start(answers).await;
        let answer = server.store(PATIENT).await.restore(KEY, RestoreTier::Standard).await;
        (answer, server.asked().len())
    };
    let slow = error("503 Slow Down", "SlowDown", "");
    let (overloaded, asked) = restore(vec![slow.clone()]).await;
    assert!(matches!(overloaded, Err(ColdError::Unavailable(_))), "{overloaded:?}");
    assert_eq!(asked, 3);
    let (soon, _) = restore(vec![slow, answer("202 Accepted", "", "")]).await;
    assert_eq!(soon.unwrap(), RestoreAnswer::Accepted);
    let (missing, _) = restore(vec![error("404 Not Found", "NoSuchKey", "")]).await;
    assert!(matches!(missing, Err(ColdError::NotFound { .. })), "{missing:?}");
    for (status, code) in [
        ("403 Forbidden", "AccessDenied"),
        ("400 Bad Request", "InvalidArgument"),
        ("501 Not Implemented", "NotImplemented"),
    ] {
        let (refused, asked) = restore(vec![error(status, code, "")]).await;
        assert!(
            matches!(&refused, Err(ColdError::Refused(what)) if what.contains(code)),
            "{refused:?}"
        );
        assert_eq!(asked, 1, "{code}");
    }
}

#[tokio::test]
async fn the_buckets_configuration_is_read_to_its_last_page() {
    let page = |id: &str, prefix: &str, tier: &str, days: u32, next: &str| {
        answer(
            "200 OK",
            "Content-Type: application/xml\r\n",
            format!(
                "<ListBucketIntelligentTieringConfigurationsOutput xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{next}\
                 <IntelligentTieringConfiguration><Id>{id}</Id><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>\
                 <Tiering><Days>{days}</Days><AccessTier>{tier}</AccessTier></Tiering></IntelligentTieringConfiguration>\
                 </ListBucketIntelligentTieringConfigurationsOutput>"
            ),
        )
    };
    let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>two</NextContinuationToken>";
    let server = Canned::start(vec![
        page("a", "p/", "ARCHIVE_ACCESS", 90, more),
        page("b", "", "DEEP_ARCHIVE_ACCESS", 365, "<IsTruncated>false</IsTruncated>"),
    ])
    .await;
    let days = server.store(PATIENT).await.archive_rule().await.unwrap().allowed;
    assert_eq!(
        days,
        Some(ArchiveDays {
            access: Some(90),
            deep: Some(365)
        })
    );
    assert!(server.asked()[1].contains("continuation-token=two"), "{}", server.asked()[1]);
}

#[tokio::test]
async fn who_may_not_read_the_configuration_is_told_so() {
    let server = Canned::start(vec![error("403 Forbidden", "AccessDenied", "")]).await;
    let answer = server.store(PATIENT).await.archive_rule().await;
    assert!(matches!(answer, Err(ColdError::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn a_directory_archives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = ColdLocation::Directory(folder.path().to_path_buf());
    let store = ColdStore::open(&settings(location)).await.unwrap();
    assert_eq!(store.restore(KEY, RestoreTier::Bulk).await.unwrap(), RestoreAnswer::AlreadyReadable);
    assert_eq!(store.archive_rule().await.unwrap().allowed, None);
}

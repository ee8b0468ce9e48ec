//! The embedded catalogue copied to PostgreSQL. On SQLite the promises are about what is refused.

use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Catalogue, CatalogueCopy, CopyError, CopyProgress, CopyReport, CopyStanding, Outcome};

use crate::answering::ask;
use crate::cold::offload;
use crate::database::{Database, Kind};
use crate::matching::context;
use crate::objects::{Changed, bytes, slice, tick};
use crate::store::{store, store_all};

const DEFINED: &str = "
    SELECT string_agg(line, ';' ORDER BY line) FROM (
        SELECT indexdef AS line FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL
        SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = current_schema()::regnamespace
    ) AS lines";

fn quiet(_: CopyProgress) {}

/// A catalogue with a bit of everything, and text that is hard to write down.
async fn filled(database: &Database) -> Catalogue {
    let catalogue = database.open().await;
    let mut batch = Vec::new();
    for instance in 1..700 {
        let name = format!("M\u{fc}ller\\{instance}\tN\n'\"\\N^J\u{fc}rgen");
        batch.push(slice(1 + instance % 7, 1 + instance % 3, instance).with(tags::PATIENT_COMMENTS, VR::LT, &name));
    }
    store_all(&catalogue, &batch).await;
    offload(&catalogue).await;
    store(&catalogue, &slice(2, 2, 1).with_bytes("corrected")).await;
    store(&catalogue, &slice(2, 2, 1).with_bytes("other").sent_by("PACS2")).await;
    catalogue
}

/// The same once the server has seen the last copy's connection end.
async fn once_free<T, F: Future<Output = Result<T, CopyError>>>(attempt: impl Fn() -> F) -> Result<T, CopyError> {
    loop {
        match attempt().await {
            Err(CopyError::Busy) => tokio::time::sleep(Duration::from_millis(10)).await,
            done => return done,
        }
    }
}

async fn begin(source: &Catalogue, target: &Database) -> Result<CatalogueCopy, CopyError> {
    once_free(|| async { CatalogueCopy::begin(source, &target.url(), tick()).await }).await
}

pub(crate) async fn a_catalogue_that_is_copied_while_it_changes_is_equal_and_takes_over(target: Database) {
    let original = Database::make(Kind::Sqlite).await;
    let source = filled(&original).await;
    if matches!(target.kind, Kind::Sqlite) {
        let refused = CatalogueCopy::begin(&source, &target.url(), tick()).await;
        assert!(matches!(refused, Err(CopyError::NotPostgres)), "{refused:?}");
        return;
    }
    // What was defined before is defined afterwards.
    target.open().await.close().await;
    let defined = target.text(DEFINED).await;

    let writing = {
        let source = source.clone();
        tokio::spawn(async move {
            for instance in 1000..1300 {
                let arrival = slice(1 + instance % 11, 1, instance);
                assert_eq!(store(&source, &arrival).await, Outcome::Served);
                if instance % 3 == 0 {
                    store(&source, &arrival.again().with_bytes("corrected meanwhile")).await;
                }
            }
        })
    };
    let mut copy = begin(&source, &target).await.unwrap();
    copy.catch_up(&mut quiet).await.unwrap();
    let first = copy.compare(&mut quiet).await.unwrap();
    assert!(first.rows > 1400, "{first:?}");
    assert_eq!(source.copy_standing().await.unwrap(), CopyStanding::InUse);
    let incomplete = target.open().await;
    assert_eq!(incomplete.copy_standing().await.unwrap(), CopyStanding::Incomplete);
    incomplete.close().await;
    writing.await.unwrap();
    store(&source, &slice(3, 3, 3000)).await;

    let last = copy.hand_over(tick(), &mut quiet).await.unwrap();
    assert!(last.changes > first.changes && last.rows > first.rows, "{first:?} {last:?}");
    let CopyStanding::Closed { target: named } = source.copy_standing().await.unwrap() else {
        panic!("the source is still in use")
    };
    assert!(named.starts_with("postgres://") && named.contains("/filmroom_"), "{named}");
    let again = begin(&source, &target).await;
    assert!(matches!(again, Err(CopyError::Closed(_))), "{again:?}");

    let catalogue = target.open().await;
    assert_eq!(catalogue.copy_standing().await.unwrap(), CopyStanding::InUse);
    assert_eq!(target.text(DEFINED).await, defined);
    target.counts_are_right().await;
    let mut query = filmroom_index::dataset::DataSet::new();
    query.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "IMAGE");
    for (tag, vr) in [
        (tags::STUDY_INSTANCE_UID, VR::UI),
        (tags::SERIES_INSTANCE_UID, VR::UI),
        (tags::SOP_INSTANCE_UID, VR::UI),
        (tags::PATIENT_ID, VR::LO),
        (tags::PATIENT_COMMENTS, VR::LT),
        (tags::INSTANCE_NUMBER, VR::IS),
    ] {
        query.put_text(tag, vr, "");
    }
    assert_eq!(
        ask(&catalogue, &query, &context()).await,
        ask(&source, &query, &context()).await,
        "the copy answers as the source did"
    );
    // Row ids go on where the source left off.
    assert_eq!(store(&catalogue, &slice(99, 1, 1)).await, Outcome::Served);
    assert!(matches!(
        store(&catalogue, &slice(1, 2, 7).again()).await,
        Outcome::Redundant { .. }
    ));
    target.counts_are_right().await;
}

pub(crate) async fn a_copy_that_was_interrupted_goes_on(target: Database) {
    let original = Database::make(Kind::Sqlite).await;
    let source = filled(&original).await;
    if matches!(target.kind, Kind::Sqlite) {
        let catalogue = target.open().await;
        CatalogueCopy::abandon(&catalogue, "postgres://nobody@127.0.0.1:1/nothing")
            .await
            .unwrap();
        return;
    }
    let mut ended: Option<CopyReport> = None;
    for attempt in 1..200u32 {
        let instance = 2000 + attempt;
        store(&source, &slice(1 + instance % 7, 1, instance)).await;
        let limit = Duration::from_millis(u64::from(attempt) * 20);
        let catching_up = async {
            let mut copy = begin(&source, &target).await.unwrap();
            copy.catch_up(&mut quiet).await.unwrap();
            copy.compare(&mut quiet).await.unwrap()
        };
        // Dropped wherever it is.
        if let Ok(report) = tokio::time::timeout(limit, catching_up).await {
            ended = Some(report);
            break;
        }
    }
    let report = ended.unwrap();
    let mut copy = begin(&source, &target).await.unwrap();
    assert_eq!(copy.compare(&mut quiet).await.unwrap().rows, report.rows);
    // A row that differs is found, and the target cannot be used.
    target
        .run("", "UPDATE objects SET sha256 = decode(repeat('00', 32), 'hex') WHERE id = 7")
        .await;
    let differs = copy.compare(&mut quiet).await;
    assert!(
        matches!(&differs, Err(CopyError::Differs { table, .. }) if table == "objects"),
        "{differs:?}"
    );
    drop(copy);
    once_free(|| async { CatalogueCopy::abandon(&source, &target.url()).await })
        .await
        .unwrap();
    assert_eq!(source.copy_standing().await.unwrap(), CopyStanding::InUse);
    let mut arrival = slice(5, 5, 5);
    arrival.sha256 = Some(bytes("as ever"));
    assert_eq!(store(&source, &arrival).await, Outcome::Served);
    let refused = begin(&source, &target).await;
    assert!(matches!(refused, Err(CopyError::OtherCopy)), "{refused:?}");
}

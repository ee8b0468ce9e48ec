//! Retrieves: which instances an identifier names, and where they are.

use std::time::{Duration, Instant};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Catalogue, Error, Located, PackState};
use filmroom_index::dataset::DataSet;
use filmroom_index::query::{Query, Root};

use crate::database::Database;
use crate::matching::LIMIT;
use crate::objects::{Changed, node, slice};
use crate::store::store;

pub(crate) fn query(root: Root, level: &str, keys: &[(Tag, VR, &str)]) -> Query {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr, text) in keys {
        identifier.put_text(*tag, *vr, *text);
    }
    Query::retrieve(root, &identifier).unwrap()
}

async fn locate(catalogue: &Catalogue, query: &Query) -> Vec<Located> {
    catalogue.locate(node(1), query).await.unwrap()
}

fn names(located: &[Located]) -> Vec<&str> {
    located.iter().map(|located| located.sop_instance.as_str()).collect()
}

pub(crate) async fn instances_come_by_study_series_and_number(database: Database) {
    let catalogue = database.open().await;
    let unnumbered = slice(1, 1, 3).with(tags::INSTANCE_NUMBER, VR::IS, "none");
    for arrival in [slice(1, 2, 1), slice(1, 1, 10), slice(1, 1, 2), unnumbered, slice(2, 1, 1)] {
        store(&catalogue, &arrival).await;
    }
    let study = (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1");
    let of_study = ["1.2.1.1.2", "1.2.1.1.10", "1.2.1.1.3", "1.2.1.2.1"];
    let all = [&of_study[..], &["1.2.2.1.1"]].concat();
    for (root, level, keys, expected) in [
        (Root::Study, "STUDY", vec![study], &of_study[..]),
        (Root::Patient, "STUDY", vec![study, (tags::PATIENT_ID, VR::LO, "P1")], &of_study),
        (Root::Patient, "STUDY", vec![study, (tags::PATIENT_ID, VR::LO, "P2")], &[]),
        (Root::Patient, "PATIENT", vec![(tags::PATIENT_ID, VR::LO, "P1")], &all),
        (Root::Study, "STUDY", vec![(tags::ACCESSION_NUMBER, VR::SH, "A1")], &all),
        (
            Root::Study,
            "SERIES",
            vec![(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.2")],
            &of_study[3..],
        ),
        (
            Root::Study,
            "IMAGE",
            vec![(tags::SOP_INSTANCE_UID, VR::UI, "1.2.1.1.10")],
            &of_study[1..2],
        ),
        (
            Root::Study,
            "IMAGE",
            vec![study, (tags::SOP_INSTANCE_UID, VR::UI, "1.2.2.1.1")],
            &[],
        ),
        (Root::Study, "STUDY", vec![(tags::STUDY_INSTANCE_UID, VR::UI, "9.9")], &[]),
    ] {
        let located = locate(&catalogue, &query(root, level, &keys)).await;
        assert_eq!(names(&located), expected, "{level} {keys:?}");
    }
}

pub(crate) async fn a_location_says_where_the_bytes_are(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    let study = query(Root::Study, "STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1")]);
    let located = locate(&catalogue, &study).await.remove(0);
    assert_eq!(
        (located.object, located.sha256, located.length),
        (arrival.object, arrival.sha256, arrival.length)
    );
    assert_eq!(
        (&located.transfer_syntax, &located.sop_class),
        (&arrival.transfer_syntax, &arrival.sop_class)
    );
    assert_eq!((&located.study_uid, &located.series_uid), (&arrival.study, &arrival.series));
    assert!(located.hot && located.packed.is_none());
    assert!(!catalogue.locate(node(2), &study).await.unwrap()[0].hot);

    for sql in [
        "INSERT INTO packs (series, node, cold_key, length, serving, state) SELECT id, 1, 'a/b.zip', 1, 'served', 'archive_access' FROM series",
        "UPDATE objects SET pack = (SELECT id FROM packs), pack_offset = 77",
        "DELETE FROM hot_copies",
    ] {
        database.run(sql, sql).await;
    }
    let located = locate(&catalogue, &study).await.remove(0);
    let packed = located.packed.unwrap();
    assert!(!located.hot);
    assert_eq!(
        (packed.key.as_str(), packed.state, packed.offset),
        ("a/b.zip", PackState::ArchiveAccess, 77)
    );

    let sql = "UPDATE objects SET state = 'superseded'";
    database.run(sql, sql).await;
    assert_eq!(locate(&catalogue, &study).await, []);
}

pub(crate) async fn a_patient_id_of_several_issuers_is_refused(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1).with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "H1")).await;
    store(&catalogue, &slice(2, 1, 1).with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "H2")).await;
    let id = (tags::PATIENT_ID, VR::LO, "P1");
    let error = catalogue
        .locate(node(1), &query(Root::Patient, "PATIENT", &[id]))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::SeveralPatients { patients: 2 }));
    assert!(error.to_string().len() <= 64);
    let keys = [id, (tags::ISSUER_OF_PATIENT_ID, VR::LO, "H2")];
    assert_eq!(
        names(&locate(&catalogue, &query(Root::Patient, "PATIENT", &keys)).await),
        ["1.2.2.1.1"]
    );
    // A study is one study, whoever gave its patient a number.
    let accession = query(Root::Study, "STUDY", &[(tags::ACCESSION_NUMBER, VR::SH, "A1")]);
    assert_eq!(locate(&catalogue, &accession).await.len(), 2);
}

pub(crate) async fn a_study_is_named_by_its_uid_or_accession_number(database: Database) {
    let catalogue = database.open().await;
    for arrival in [
        slice(1, 1, 1),
        slice(2, 1, 1),
        slice(3, 1, 1).with(tags::ACCESSION_NUMBER, VR::SH, ""),
    ] {
        store(&catalogue, &arrival).await;
    }
    for (name, expected) in [
        ("1.2.1", &["1.2.1"][..]),
        (" A1 ", &["1.2.1", "1.2.2"]),
        ("A", &[]),
        ("A%", &[]),
        ("", &[]),
        ("\0", &[]),
        ("' OR 1=1 --", &[]),
    ] {
        let named = catalogue.studies_named(name).await.unwrap();
        assert_eq!(named.iter().map(|uid| uid.as_str()).collect::<Vec<_>>(), expected, "{name:?}");
    }
}

fn names_like(pattern: &str) -> Query {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, "PATIENT");
    identifier.put_text(tags::PATIENT_NAME, VR::PN, pattern);
    Query::find(Root::Patient, &identifier).unwrap()
}

/// So many patients that to look at all takes a while.
async fn crowd(database: &Database) -> Catalogue {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let columns = "patients (patient_id, issuer, own_study, name, name_folded, birth_date, sex, studies, series, instances)";
    let values = "'N' || n, '', '', 'x', 'xxxxxxxxxxxxxxxxxxxxxxxx^' || n, '', '', 1, 1, 1";
    let numbers = "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 300000)";
    database
        .run(
            &format!("{numbers} INSERT INTO {columns} SELECT {values} FROM k"),
            &format!("INSERT INTO {columns} SELECT {values} FROM generate_series(1, 300000) n"),
        )
        .await;
    catalogue
}

pub(crate) async fn no_more_than_the_cap_and_one_is_found(database: Database) {
    let catalogue = crowd(&database).await;
    assert_eq!(catalogue.find(&names_like("x*"), 100, LIMIT).await.unwrap().len(), 101);
    assert_eq!(catalogue.find(&names_like("*^7777"), 100, LIMIT).await.unwrap().len(), 1);
    assert_eq!(catalogue.find(&names_like("*"), 0, LIMIT).await.unwrap().len(), 1);
}

pub(crate) async fn a_search_ends_at_its_time_limit_and_nothing_waits_for_it(database: Database) {
    let catalogue = crowd(&database).await;
    let slow = names_like("*x*x*x*x*x*z*");
    let whole = Instant::now();
    assert!(catalogue.find(&slow, 10, LIMIT).await.unwrap().is_empty());
    let whole = whole.elapsed();
    let limit = whole / 20;

    let started = Instant::now();
    let error = catalogue.find(&slow, 10, limit).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut), "{error}");
    assert!(started.elapsed() < whole / 2, "{:?} of {whole:?}", started.elapsed());

    // Callers that went away: more of them than there are connections. The store path does not notice, the next search is
    // not the one that is interrupted.
    let started = Instant::now();
    for _ in 0..40 {
        let _ = tokio::time::timeout(limit / 4, catalogue.find(&slow, 10, LIMIT)).await;
    }
    for number in 2..12 {
        store(&catalogue, &slice(number, 1, 1)).await;
        assert_eq!(catalogue.find(&names_like("muller*"), 10, LIMIT).await.unwrap().len(), 1);
    }
    assert!(
        started.elapsed() < whole * 20 + Duration::from_secs(5),
        "{:?} of {whole:?}",
        started.elapsed()
    );
}

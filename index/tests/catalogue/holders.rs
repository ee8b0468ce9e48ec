//! Patients, studies and series: what describes them, what contradicts them, how much of them is served.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Outcome};
use filmroom_index::dataset::{DataSet, Value};

use crate::database::Database;
use crate::objects::{Changed, node, slice, uid};
use crate::store::{store, store_all};

pub(crate) async fn counts_and_lists_follow_what_is_served(database: Database) {
    let catalogue = database.open().await;
    let mut batch: Vec<Arrival> = (1..=5).map(|instance| slice(1, 1, instance)).collect();
    let mut report = slice(1, 2, 1).with(tags::MODALITY, VR::CS, "SR");
    report.sop_class = uid("1.2.840.10008.5.1.4.1.1.88.11");
    report.length = 50;
    batch.push(report);
    batch.push(slice(2, 1, 1));
    store_all(&catalogue, &batch).await;
    store(&catalogue, &slice(1, 1, 6)).await;
    let studies = catalogue.studies(node(1), Some("P1"), 10).await.unwrap();
    assert_eq!(studies.len(), 2);
    let study = studies.iter().find(|study| study.study_uid == uid("1.2.1")).unwrap();
    assert_eq!((study.series, study.instances, study.bytes), (2, 7, 6050));
    assert_eq!(study.modalities, ["CT", "SR"]);
    assert_eq!((study.hot_instances, study.packed_instances), (7, 0));
    assert_eq!(
        (
            study.patient_id.as_str(),
            study.accession_number.as_str(),
            study.study_date.as_str()
        ),
        ("P1", "A1", "20261124")
    );
    let classes = database.text("SELECT sop_classes FROM studies WHERE study_uid = '1.2.1'").await;
    assert_eq!(classes, "1.2.840.10008.5.1.4.1.1.2\\1.2.840.10008.5.1.4.1.1.88.11");
    assert_eq!(catalogue.studies(node(1), Some("P2"), 10).await.unwrap(), []);
    assert_eq!(catalogue.studies(node(1), None, 1).await.unwrap().len(), 1);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.studies, counts.series, counts.instances), (1, 2, 3, 8));
    assert_eq!((counts.of_node.hot_objects, counts.of_node.hot_bytes), (8, 7050));
    assert_eq!(catalogue.counts(node(9)).await.unwrap().of_node.hot_objects, 0);
    database.counts_are_right().await;
}

pub(crate) async fn without_a_patient_id_every_study_is_a_patient_of_its_own(database: Database) {
    let catalogue = database.open().await;
    let nameless = |study, instance| slice(study, 1, instance).with(tags::PATIENT_ID, VR::LO, "");
    store_all(&catalogue, &[nameless(1, 1), nameless(1, 2), nameless(2, 1)]).await;
    assert_eq!(catalogue.counts(node(1)).await.unwrap().patients, 2);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 0);
    database.counts_are_right().await;
}

pub(crate) async fn one_patient_id_of_two_issuers_is_two_patients(database: Database) {
    let catalogue = database.open().await;
    let mut configured = slice(1, 1, 1);
    configured.default_issuer = Some("HOSPITAL-A".to_owned());
    let stated = slice(2, 1, 1).with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOSPITAL-B");
    let mut both = slice(3, 1, 1).with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HOSPITAL-B");
    both.default_issuer = Some("HOSPITAL-A".to_owned());
    // PS3.3 C.7.1.1: the qualifiers may name what no local issuer does.
    let mut qualified = slice(5, 1, 1);
    let mut qualifiers = DataSet::new();
    qualifiers.put_text(tags::UNIVERSAL_ENTITY_ID, VR::UT, "2.16.840.1.1");
    qualified.header.attributes.put(
        tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
        VR::SQ,
        Value::Items(vec![qualifiers]),
    );
    qualified.default_issuer = Some("HOSPITAL-A".to_owned());
    store_all(&catalogue, &[configured, stated, both, slice(4, 1, 1), qualified]).await;
    assert_eq!(catalogue.counts(node(1)).await.unwrap().patients, 4);
    assert_eq!(
        database.text("SELECT issuer FROM patients WHERE issuer LIKE '2.%'").await,
        "2.16.840.1.1"
    );
}

pub(crate) async fn another_name_or_birth_date_is_stored_and_listed_once(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    for (study, name) in [(2, "MULLER^JURGEN"), (3, "Müller^Jürgen^^^"), (4, "")] {
        store(&catalogue, &slice(study, 1, 1).with(tags::PATIENT_NAME, VR::PN, name)).await;
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 0);
    for instance in 1..=3 {
        let other = slice(5, 1, instance)
            .with(tags::PATIENT_NAME, VR::PN, "Maier^Hans")
            .with(tags::PATIENT_BIRTH_DATE, VR::DA, "19800101");
        assert_eq!(store(&catalogue, &other).await, Outcome::Served);
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 2);
    let name = "SELECT on_record || ' ' || arrived FROM conflicts WHERE kind = 'name'";
    assert_eq!(database.text(name).await, "Müller^Jürgen Maier^Hans");
    assert_eq!(database.text("SELECT name_folded FROM patients").await, "muller^jurgen");
}

pub(crate) async fn a_study_of_two_patients_keeps_its_first_and_is_listed(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let second = slice(1, 1, 2).with(tags::PATIENT_ID, VR::LO, "P2");
    assert_eq!(store_all(&catalogue, &[first, second]).await, [Outcome::Served, Outcome::Served]);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.studies, counts.instances, counts.conflicts), (1, 2, 1));
    let studies = catalogue.studies(node(1), None, 10).await.unwrap();
    assert_eq!((studies[0].patient_id.as_str(), studies[0].instances), ("P1", 2));
    database.counts_are_right().await;
}

pub(crate) async fn what_is_missing_is_filled_in(database: Database) {
    let catalogue = database.open().await;
    store(
        &catalogue,
        &slice(1, 1, 1)
            .with(tags::PATIENT_NAME, VR::PN, "")
            .with(tags::PATIENT_BIRTH_DATE, VR::DA, ""),
    )
    .await;
    store(&catalogue, &slice(2, 1, 1)).await;
    assert_eq!(
        database.text("SELECT name_folded || birth_date FROM patients").await,
        "muller^jurgen19700101"
    );
}

pub(crate) async fn a_study_is_described_by_the_first_object_that_is_served(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    // The same SOP Instance UID in a study of its own: quarantined, the study holds nothing that is found.
    let mut stray = slice(1, 1, 1)
        .again()
        .with_bytes("stray")
        .with(tags::PATIENT_ID, VR::LO, "P7")
        .with(tags::PATIENT_NAME, VR::PN, "Wrong^Name")
        .with(tags::STUDY_DESCRIPTION, VR::LO, "stray")
        .with(tags::MODALITY, VR::CS, "OT");
    stray.study = uid("1.2.7");
    stray.series = uid("1.2.7.1");
    assert!(matches!(store(&catalogue, &stray).await, Outcome::Quarantined { .. }));
    assert_eq!(catalogue.counts(node(1)).await.unwrap().studies, 1);
    let real = slice(7, 1, 1).with(tags::PATIENT_ID, VR::LO, "P7");
    assert_eq!(store(&catalogue, &real).await, Outcome::Served);
    let described = "SELECT p.name_folded || ' ' || st.description || ' ' || st.modalities || ' ' || se.modality
                     FROM series se JOIN studies st ON st.id = se.study JOIN patients p ON p.id = st.patient WHERE st.study_uid = '1.2.7'";
    assert_eq!(database.text(described).await, "muller^jurgen Thorax CT CT");
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 0);
    database.counts_are_right().await;
}

pub(crate) async fn a_header_comes_back_as_it_was_and_takes_little_room(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=30)
        .map(|instance| {
            let mut arrival = slice(1, instance % 2, instance);
            for element in 0..200 {
                arrival = arrival.with(
                    dicom_core::Tag(0x0019, 0x1000 + element),
                    VR::LO,
                    &format!("private value {element}"),
                );
            }
            arrival.with(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-12.5\\7.25\\{instance}.125"))
        })
        .collect();
    store_all(&catalogue, &batch[..7]).await;
    store_all(&catalogue, &batch[7..]).await;
    let objects: Vec<_> = batch.iter().rev().map(|arrival| arrival.object).collect();
    let headers = catalogue.headers(&objects).await.unwrap();
    assert_eq!(headers.len(), batch.len());
    for (arrival, (object, header)) in batch.iter().rev().zip(&headers) {
        assert_eq!(arrival.object, *object);
        assert_eq!(arrival.header, *header);
    }
    let stored = database.number("SELECT CAST(max(length(header)) AS BIGINT) FROM objects").await;
    assert!(stored < 100, "{stored} bytes a slice");
    assert_eq!(catalogue.headers(&[]).await.unwrap(), []);
}

pub(crate) async fn a_study_sent_again_under_the_right_patient_id_is_his(database: Database) {
    let catalogue = database.open().await;
    let wrong = slice(1, 1, 1).with(tags::PATIENT_ID, VR::LO, "WRONG");
    store(&catalogue, &wrong).await;
    catalogue
        .quarantine(wrong.object, "wrong patient", crate::objects::tick())
        .await
        .unwrap();
    let right = [slice(1, 1, 2), slice(1, 1, 3)];
    assert_eq!(store_all(&catalogue, &right).await, [Outcome::Served, Outcome::Served]);
    let studies = catalogue.studies(node(1), Some("P1"), 10).await.unwrap();
    assert_eq!((studies.len(), studies[0].instances), (1, 2));
    assert_eq!(catalogue.studies(node(1), Some("WRONG"), 10).await.unwrap(), []);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.conflicts), (1, 0));
    database.counts_are_right().await;
}

//! Answers: what comes back of what was found.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AnswerContext, Arrival, Catalogue};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::Availability;
use filmroom_index::query::{Query, Root};

use crate::database::Database;
use crate::matching::{LIMIT, context};
use crate::objects::{Changed, node, slice, uid};
use crate::store::store;

const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";

/// Two studies of one patient: CT with two series and an SR, and one more slice.
async fn filled(database: &Database) -> Catalogue {
    let catalogue = database.open().await;
    let mut report = slice(1, 3, 1)
        .with(tags::MODALITY, VR::CS, "SR")
        .with(tags::STATION_NAME, VR::SH, "REPORTS");
    report.sop_class = uid(SR);
    for arrival in [
        slice(1, 1, 1).with(tags::STATION_NAME, VR::SH, "CT1"),
        slice(1, 1, 2),
        slice(1, 2, 1),
        report,
        slice(2, 1, 1),
    ] {
        store(&catalogue, &arrival).await;
    }
    catalogue
}

pub(crate) fn identifier(level: &str, keys: &[(Tag, VR, &str)]) -> DataSet {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr, text) in keys {
        identifier.put(
            *tag,
            *vr,
            Value::Text(text.split('\\').filter(|t| !t.is_empty()).map(str::to_owned).collect()),
        );
    }
    identifier
}

pub(crate) async fn ask(catalogue: &Catalogue, identifier: &DataSet, context: &AnswerContext) -> Vec<DataSet> {
    let query = Query::find(Root::Patient, identifier).unwrap();
    let ids = catalogue.find(&query, 1000, LIMIT).await.unwrap();
    catalogue.answers(&query, &ids, context).await.unwrap()
}

async fn only(catalogue: &Catalogue, level: &str, keys: &[(Tag, VR, &str)]) -> DataSet {
    let mut answers = ask(catalogue, &identifier(level, keys), &context()).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(crate) async fn what_is_counted_comes_with_every_level(database: Database) {
    let catalogue = filled(&database).await;
    let patient = only(
        &catalogue,
        "PATIENT",
        &[
            (tags::PATIENT_ID, VR::LO, "P1"),
            (tags::PATIENT_NAME, VR::PN, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_SERIES, VR::IS, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, VR::IS, ""),
        ],
    )
    .await;
    assert_eq!(patient.text(tags::PATIENT_NAME), Some("Müller^Jürgen"));
    assert_eq!(patient.text(tags::NUMBER_OF_PATIENT_RELATED_STUDIES), Some("2"));
    assert_eq!(patient.text(tags::NUMBER_OF_PATIENT_RELATED_SERIES), Some("4"));
    assert_eq!(patient.text(tags::NUMBER_OF_PATIENT_RELATED_INSTANCES), Some("5"));

    let study = only(
        &catalogue,
        "STUDY",
        &[
            (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1"),
            (tags::MODALITIES_IN_STUDY, VR::CS, ""),
            (tags::SOP_CLASSES_IN_STUDY, VR::UI, ""),
            (tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS, ""),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, ""),
            (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS, ""),
        ],
    )
    .await;
    assert_eq!(study.texts(tags::MODALITIES_IN_STUDY), ["CT", "SR"]);
    assert_eq!(study.texts(tags::SOP_CLASSES_IN_STUDY), ["1.2.840.10008.5.1.4.1.1.2", SR]);
    assert_eq!(study.text(tags::NUMBER_OF_STUDY_RELATED_SERIES), Some("3"));
    assert_eq!(study.text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES), Some("4"));
    assert_eq!(study.text(tags::NUMBER_OF_PATIENT_RELATED_STUDIES), Some("2"));
    assert_eq!(study.text(tags::QUERY_RETRIEVE_LEVEL), Some("STUDY"));
    assert_eq!(study.text(tags::RETRIEVE_AE_TITLE), Some("FILMROOM"));
    assert_eq!(study.text(tags::INSTANCE_AVAILABILITY), Some("ONLINE"));

    let series = only(
        &catalogue,
        "SERIES",
        &[
            (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.1"),
            (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, ""),
            (tags::PATIENT_ID, VR::LO, ""),
            (tags::STUDY_DATE, VR::DA, ""),
        ],
    )
    .await;
    assert_eq!(series.text(tags::NUMBER_OF_SERIES_RELATED_INSTANCES), Some("2"));
    assert_eq!(series.text(tags::PATIENT_ID), Some("P1"));
    assert_eq!(series.text(tags::STUDY_DATE), Some("20261124"));
}

pub(crate) async fn every_asked_key_comes_back(database: Database) {
    let catalogue = filled(&database).await;
    let mut asked = identifier(
        "STUDY",
        &[
            (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1"),
            (tags::STATION_NAME, VR::SH, ""),
            (tags::SERIES_DESCRIPTION, VR::LO, ""),
            (tags::SOP_INSTANCE_UID, VR::UI, ""),
            (tags::INSTANCE_NUMBER, VR::IS, ""),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
            (Tag(0x4008, 0x0212), VR::CS, ""),
            (Tag(0x0009, 0x0010), VR::LO, "ACME"),
            (Tag(0x0009, 0x1001), VR::LO, ""),
        ],
    );
    asked.put(tags::ROWS, VR::US, Value::Bytes(Vec::new()));
    asked.put(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::Items(Vec::new()));
    let answers = ask(&catalogue, &asked, &context()).await;
    let answer = answers.first().unwrap();
    for (tag, _) in asked.iter() {
        assert!(answer.get(tag).is_some(), "{tag}");
    }
    // Where it was made is told of a study, by its first series; what a single series or image is called is not.
    assert_eq!(answer.text(tags::STATION_NAME), Some("CT1"));
    for tag in [tags::SERIES_DESCRIPTION, tags::SOP_INSTANCE_UID, tags::INSTANCE_NUMBER, tags::ROWS] {
        assert!(answer.get(tag).unwrap().is_empty(), "{tag}");
    }
    assert_eq!(answer.text(Tag(0x0009, 0x0010)), Some("ACME"));
    assert_eq!(answer.get(tags::PROCEDURE_CODE_SEQUENCE).unwrap().value, Value::Items(Vec::new()));
}

pub(crate) async fn an_answer_does_not_contradict_its_query(database: Database) {
    let catalogue = filled(&database).await;
    for (key, station, modality) in [
        ((tags::STATION_NAME, VR::SH, "REPORTS"), None, None),
        ((tags::STATION_NAME, VR::SH, "CT*"), Some("CT1"), None),
        ((tags::MODALITY, VR::CS, "SR"), Some("CT1"), Some("SR")),
    ] {
        let mut keys = vec![(tags::MODALITY, VR::CS, ""), (tags::STATION_NAME, VR::SH, "")];
        keys.retain(|(tag, ..)| *tag != key.0);
        keys.push(key);
        let answer = only(&catalogue, "STUDY", &keys).await;
        assert_eq!(
            (answer.text(tags::STATION_NAME), answer.text(tags::MODALITY)),
            (station, modality),
            "{key:?}"
        );
    }
    let other = only(
        &catalogue,
        "STUDY",
        &[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.2"), (tags::MODALITY, VR::CS, "")],
    )
    .await;
    assert_eq!(other.text(tags::MODALITY), Some("CT"));
}

fn code(value: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODE_MEANING, VR::LO, meaning);
    item
}

pub(crate) async fn sequences_and_private_attributes_come_from_the_header(database: Database) {
    let catalogue = database.open().await;
    let mut arrival: Arrival = slice(1, 1, 1)
        .with(Tag(0x0009, 0x0010), VR::LO, "OTHER")
        .with(Tag(0x0009, 0x1001), VR::LO, "of another")
        .with(Tag(0x0009, 0x0011), VR::LO, "ACME")
        .with(Tag(0x0009, 0x1101), VR::LO, "of ACME");
    let attributes = &mut arrival.header.attributes;
    attributes.put(tags::ROWS, VR::US, Value::Bytes(vec![0, 2]));
    attributes.put(tags::PIXEL_DATA_PROVIDER_URL, VR::OB, Value::Bulk { offset: 9, length: 9000 });
    attributes.put(
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
        VR::SQ,
        Value::Items(vec![code("1", "one"), code("2", "two")]),
    );
    store(&catalogue, &arrival).await;

    let mut asked = identifier(
        "IMAGE",
        &[
            (tags::SOP_INSTANCE_UID, VR::UI, "1.2.1.1.1"),
            (Tag(0x0009, 0x0010), VR::LO, "ACME"),
            (Tag(0x0009, 0x1001), VR::LO, ""),
        ],
    );
    asked.put(tags::ROWS, VR::US, Value::Bytes(Vec::new()));
    asked.put(tags::PIXEL_DATA_PROVIDER_URL, VR::UR, Value::Text(Vec::new()));
    asked.put(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, Value::Items(Vec::new()));
    let whole = ask(&catalogue, &asked, &context()).await.remove(0);
    assert_eq!(whole.get(tags::ROWS).unwrap().value, Value::Bytes(vec![0, 2]));
    assert_eq!(whole.items(tags::REQUEST_ATTRIBUTES_SEQUENCE), [code("1", "one"), code("2", "two")]);
    assert_eq!(whole.text(Tag(0x0009, 0x1001)), Some("of ACME"));
    assert!(whole.get(tags::PIXEL_DATA_PROVIDER_URL).unwrap().is_empty());

    let mut inside = DataSet::new();
    inside.put(tags::CODE_VALUE, VR::SH, Value::Text(Vec::new()));
    inside.put(tags::CODING_SCHEME_DESIGNATOR, VR::SH, Value::Text(Vec::new()));
    asked.put(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, Value::Items(vec![inside]));
    let part = ask(&catalogue, &asked, &context()).await.remove(0);
    let items = part.items(tags::REQUEST_ATTRIBUTES_SEQUENCE);
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].text(tags::CODE_VALUE), Some("2"));
    assert_eq!(items[1].get(tags::CODE_MEANING), None);
    assert!(items[1].get(tags::CODING_SCHEME_DESIGNATOR).unwrap().is_empty());
}

pub(crate) async fn answers_keep_the_order_of_their_keys_and_leave_out_what_is_gone(database: Database) {
    let catalogue = filled(&database).await;
    let query = Query::find(Root::Study, &identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "")])).unwrap();
    let ids = catalogue.find(&query, 1000, LIMIT).await.unwrap();
    assert_eq!(ids.len(), 2);
    let backwards = [ids[1], i64::MAX, ids[0]];
    let answers = catalogue.answers(&query, &backwards, &context()).await.unwrap();
    let uids: Vec<_> = answers
        .iter()
        .map(|answer| answer.text(tags::STUDY_INSTANCE_UID).unwrap())
        .collect();
    assert_eq!(uids, ["1.2.2", "1.2.1"]);
}

pub(crate) async fn what_is_not_served_is_not_found(database: Database) {
    let catalogue = filled(&database).await;
    let sql = "UPDATE objects SET state = 'quarantined' WHERE sop_instance_uid = '1.2.1.1.2'";
    database.run(sql, sql).await;
    let images = ask(
        &catalogue,
        &identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, "")]),
        &context(),
    )
    .await;
    assert_eq!(images.len(), 4);
    let sql = "UPDATE series SET instances = 0 WHERE series_uid = '1.2.1.3'";
    database.run(sql, sql).await;
    let series = ask(
        &catalogue,
        &identifier("SERIES", &[(tags::SERIES_INSTANCE_UID, VR::UI, "")]),
        &context(),
    )
    .await;
    assert_eq!(series.len(), 3);
}

pub(crate) async fn availability_is_the_worst_of_what_can_be_retrieved(database: Database) {
    let catalogue = filled(&database).await;
    let availability = async |level: &str, key: (Tag, VR, &str), context: AnswerContext| {
        let answers = ask(&catalogue, &identifier(level, &[key]), &context).await;
        answers.first().unwrap().text(tags::INSTANCE_AVAILABILITY).unwrap().to_owned()
    };
    let study = (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1");
    let first = (tags::SOP_INSTANCE_UID, VR::UI, "1.2.1.1.1");

    let elsewhere = AnswerContext {
        node: node(2),
        ..context()
    };
    assert_eq!(availability("STUDY", study, elsewhere).await, "UNAVAILABLE");

    // The first slice is packed and gone from here, the others are hot.
    for sql in [
        "INSERT INTO packs (series, node, cold_key, length, serving, state)
         SELECT series, 1, 'pack', 1, 'served', 'planned' FROM objects WHERE sop_instance_uid = '1.2.1.1.1'",
        "UPDATE objects SET pack = (SELECT id FROM packs), pack_offset = 0 WHERE sop_instance_uid = '1.2.1.1.1'",
        "DELETE FROM hot_copies WHERE object = (SELECT id FROM objects WHERE sop_instance_uid = '1.2.1.1.1')",
    ] {
        database.run(sql, sql).await;
    }
    recount_hot(&database).await;
    let down = || AnswerContext {
        cold_down: true,
        ..context()
    };
    let slow = || AnswerContext {
        deep_archive: Availability::Offline,
        ..context()
    };
    for (state, context, image, whole) in [
        // Not yet verified: nothing of it may be trusted, and the rest counts.
        ("planned", context(), "UNAVAILABLE", "ONLINE"),
        ("uploaded", context(), "UNAVAILABLE", "ONLINE"),
        ("verified", context(), "ONLINE", "ONLINE"),
        ("verified", down(), "OFFLINE", "OFFLINE"),
        ("archive_access", context(), "NEARLINE", "NEARLINE"),
        ("archive_access", down(), "OFFLINE", "OFFLINE"),
        ("deep_archive_access", context(), "NEARLINE", "NEARLINE"),
        ("deep_archive_access", slow(), "OFFLINE", "OFFLINE"),
        ("archive_access", slow(), "NEARLINE", "NEARLINE"),
    ] {
        let sql = format!("UPDATE packs SET state = '{state}'");
        database.run(&sql, &sql).await;
        assert_eq!(availability("IMAGE", first, context.clone()).await, image, "{state}");
        assert_eq!(availability("STUDY", study, context.clone()).await, whole, "{state}");
        assert_eq!(
            availability("PATIENT", (tags::PATIENT_ID, VR::LO, "P1"), context.clone()).await,
            whole,
            "{state}"
        );
        assert_eq!(
            availability("SERIES", (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.2"), context).await,
            "ONLINE"
        );
    }
    // A rotten file is no copy.
    let sql = "UPDATE hot_copies SET state = 'rotten' WHERE object = (SELECT id FROM objects WHERE sop_instance_uid = '1.2.1.2.1')";
    database.run(sql, sql).await;
    recount_hot(&database).await;
    let series = (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.2");
    assert_eq!(availability("SERIES", series, context()).await, "UNAVAILABLE");
}

/// What the statements above did to the copies, counted as those of the catalogue count it.
async fn recount_hot(database: &Database) {
    let sql =
        "UPDATE series_nodes SET hot_objects = (SELECT count(*) FROM objects o JOIN hot_copies h ON h.object = o.id AND h.state = 'held'
               WHERE o.series = series_nodes.series AND h.node = series_nodes.node)";
    database.run(sql, sql).await;
}

pub(crate) async fn a_hot_copy_of_what_is_not_served_is_none_of_what_is(database: Database) {
    let catalogue = filled(&database).await;
    let series = identifier("SERIES", &[(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1.1")]);
    let availability = async || {
        let answers = ask(&catalogue, &series, &context()).await;
        answers.first().unwrap().text(tags::INSTANCE_AVAILABILITY).unwrap().to_owned()
    };
    assert_eq!(availability().await, "ONLINE");
    // One slice is quarantined, another is archived and gone from here: there are as many hot copies as served instances, and not of the same.
    for sql in [
        "INSERT INTO packs (series, node, cold_key, length, serving, state)
         SELECT series, 1, 'pack', 1, 'served', 'archive_access' FROM objects WHERE sop_instance_uid = '1.2.1.1.1'",
        "UPDATE objects SET pack = (SELECT id FROM packs), pack_offset = 0 WHERE sop_instance_uid = '1.2.1.1.1'",
        "DELETE FROM hot_copies WHERE object = (SELECT id FROM objects WHERE sop_instance_uid = '1.2.1.1.1')",
        "UPDATE objects SET state = 'quarantined' WHERE sop_instance_uid = '1.2.1.1.2'",
        "UPDATE series SET instances = instances - 1 WHERE series_uid = '1.2.1.1'",
    ] {
        database.run(sql, sql).await;
    }
    recount_hot(&database).await;
    assert_eq!(availability().await, "NEARLINE");
}

//! What is asked of an archive all day is found through an index.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::*;
use crate::catalogue::ArchiveCutoffs;
use crate::model::{AeTitle, Availability, NodeId};
use crate::query::Root;

type Key = (Tag, VR, &'static str);

/// How SQLite goes about a search, a line a step.
async fn plan(level: Level, keys: &[Key]) -> String {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level.as_str());
    for (tag, vr, value) in keys {
        identifier.put_text(*tag, *vr, *value);
    }
    let query = Query::find(Root::Study, &identifier).unwrap();
    explained(|statement| push_matching(statement, level, &Conditions::of(&query), 100)).await
}

/// How SQLite goes about a statement, a line a step.
async fn explained(push: impl FnOnce(&mut Statement)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&format!("sqlite:{}", folder.path().join("catalogue.db").display()))
        .await
        .unwrap();
    let (mut connection, _stop) = catalogue.search_within(Duration::from_secs(60)).await.unwrap();
    let mut statement = Statement::new(&connection);
    statement.push("EXPLAIN QUERY PLAN ");
    push(&mut statement);
    let steps: Vec<(i64, i64, i64, String)> = statement.fetch(&mut connection).await.unwrap();
    let steps: Vec<String> = steps.into_iter().map(|(.., step)| step).collect();
    steps.join("\n")
}

#[tokio::test]
async fn what_is_asked_all_day_leads_through_an_index() {
    let day = (tags::STUDY_DATE, VR::DA, "20240229");
    let asked: [(&[Key], &str); 6] = [
        (
            &[(tags::PATIENT_ID, VR::LO, "4711")],
            "SEARCH p USING INDEX sqlite_autoindex_patients_1",
        ),
        (
            &[(tags::ACCESSION_NUMBER, VR::SH, "A1")],
            "SEARCH s USING INDEX studies_by_accession_number",
        ),
        (
            &[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3")],
            "SEARCH s USING INDEX sqlite_autoindex_studies_1",
        ),
        (&[day], "SEARCH s USING INDEX studies_by_date"),
        (
            &[day, (tags::MODALITIES_IN_STUDY, VR::CS, "CT")],
            "SEARCH s USING INDEX studies_by_date",
        ),
        (
            &[(tags::PATIENT_NAME, VR::PN, "MUELLER^AN*")],
            "SEARCH p USING INDEX patients_by_name",
        ),
    ];
    for (keys, step) in asked {
        let plan = plan(Level::Study, keys).await;
        assert!(plan.contains(step), "{keys:?}:\n{plan}");
        assert!(!plan.contains("SCAN s") && !plan.contains("SCAN p"), "{keys:?}:\n{plan}");
    }
}

#[tokio::test]
async fn a_part_of_a_name_is_sought_in_the_index_of_names_where_nothing_else_narrows() {
    let part = (tags::PATIENT_NAME, VR::PN, "*SON*");
    let alone = plan(Level::Study, &[part]).await;
    for step in [
        "SCAN p USING COVERING INDEX patients_by_name",
        "SEARCH p USING INTEGER PRIMARY KEY",
        "SEARCH s USING INDEX studies_by_patient",
    ] {
        assert!(alone.contains(step), "{step}:\n{alone}");
    }
    let on_a_day = plan(Level::Study, &[part, (tags::STUDY_DATE, VR::DA, "20240229")]).await;
    assert!(on_a_day.contains("SEARCH s USING INDEX studies_by_date"), "{on_a_day}");
    assert!(!on_a_day.contains("SCAN p"), "{on_a_day}");
}

#[tokio::test]
async fn images_of_a_sop_class_are_sought_below_their_series() {
    let keys = [
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
    ];
    let day = (tags::STUDY_DATE, VR::DA, "20240229");
    for (level, keys) in [(Level::Image, &keys[..]), (Level::Study, &[day, keys[2]])] {
        let plan = plan(level, keys).await;
        assert!(plan.contains("SEARCH o USING INDEX objects_by_series (series=?)"), "{plan}");
        assert!(
            plan.contains("SEARCH ki USING COVERING INDEX sqlite_autoindex_kinds_1 (sop_class_uid=?)"),
            "{plan}"
        );
        assert!(!plan.contains("SCAN o") && !plan.contains("AUTOMATIC"), "{plan}");
    }
}

#[tokio::test]
async fn whether_all_of_an_entity_is_hot_is_told_by_its_series() {
    let context = AnswerContext {
        retrieve_ae: AeTitle::parse("FILMROOM").unwrap(),
        node: NodeId(uuid::Uuid::nil()),
        deep_archive: Availability::Nearline,
        cutoffs: ArchiveCutoffs::default(),
        cold_down: false,
    };
    for level in [Level::Patient, Level::Study, Level::Series] {
        let plan = explained(|statement| records::push_records(statement, level, &[1, 2], &context)).await;
        assert!(plan.contains("SEARCH sn USING PRIMARY KEY (series=? AND node=?)"), "{plan}");
        assert!(plan.contains("SEARCH o USING INDEX objects_unserved (series=?)"), "{plan}");
        assert!(
            !plan.contains("SCAN o") && !plan.contains("SCAN se") && !plan.contains("AUTOMATIC"),
            "{plan}"
        );
    }
}

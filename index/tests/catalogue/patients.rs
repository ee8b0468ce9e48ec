//! Merges and relinks: who is found under which ID, what is answered of him, what arrives later, and what an undo gives back.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{
    Arrival, Catalogue, Error, Outcome, Overlaid, OverlayEvent, OverlayKind, OverlayRefusal, PatientDecision, PatientOverlay, Undone,
};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{PatientId, Timestamp};
use filmroom_index::query::{Query, Root};
use uuid::Uuid;

use crate::answering::ask;
use crate::database::Database;
use crate::matching::context;
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all};

pub(crate) fn patient(text: &str) -> PatientId {
    text.parse().unwrap()
}

pub(crate) fn decision(at: Timestamp) -> PatientDecision<'static> {
    PatientDecision {
        reason: "two files, one person",
        actor: "admin",
        message: "",
        at,
    }
}

pub(crate) async fn merge(catalogue: &Catalogue, from: &str, into: &str) -> Result<Overlaid, Error> {
    catalogue
        .merge_patients(&patient(from), &patient(into), None, &decision(tick()))
        .await
}

pub(crate) async fn relink(catalogue: &Catalogue, study: u32, to: &str) -> Result<Overlaid, Error> {
    let study = uid(&format!("1.2.{study}"));
    catalogue.relink_study(&study, &patient(to), None, &decision(tick())).await
}

pub(crate) async fn undo(catalogue: &Catalogue, overlay: Uuid) -> Result<Overlaid, Error> {
    catalogue.undo_overlay(overlay, &decision(tick())).await
}

/// A slice of another patient.
fn of(study: u32, instance: u32, id: &str, name: &str, birth_date: &str) -> Arrival {
    slice(study, 1, instance)
        .with(tags::PATIENT_ID, VR::LO, id)
        .with(tags::PATIENT_NAME, VR::PN, name)
        .with(tags::PATIENT_BIRTH_DATE, VR::DA, birth_date)
}

/// Studies 1 and 2 are of an unknown man, study 3 is of Jo Doe, study 4 of somebody else.
async fn filled(database: &Database) -> Catalogue {
    let catalogue = database.open().await;
    let arrivals = [
        of(1, 1, "TMP1", "Unknown^Man", ""),
        of(1, 2, "TMP1", "Unknown^Man", ""),
        of(2, 1, "TMP1", "Unknown^Man", ""),
        of(3, 1, "P3", "Doe^Jo", "19700101"),
        of(4, 1, "P4", "Maier^Eva", "19800202"),
    ];
    store_all(&catalogue, &arrivals).await;
    catalogue
}

fn identifier(level: &str, keys: &[(Tag, VR, &str)]) -> DataSet {
    let mut identifier = DataSet::new();
    identifier.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr) in [
        (tags::PATIENT_ID, VR::LO),
        (tags::PATIENT_NAME, VR::PN),
        (tags::PATIENT_BIRTH_DATE, VR::DA),
        (tags::STUDY_INSTANCE_UID, VR::UI),
        (tags::NUMBER_OF_PATIENT_RELATED_STUDIES, VR::IS),
        (tags::NUMBER_OF_PATIENT_RELATED_INSTANCES, VR::IS),
        (tags::OTHER_PATIENT_I_DS_SEQUENCE, VR::SQ),
    ] {
        let value = if vr == VR::SQ {
            Value::Items(Vec::new())
        } else {
            Value::Text(Vec::new())
        };
        identifier.put(tag, vr, value);
    }
    for (tag, vr, text) in keys {
        identifier.put_text(*tag, *vr, *text);
    }
    identifier
}

async fn answers(catalogue: &Catalogue, level: &str, keys: &[(Tag, VR, &str)]) -> Vec<DataSet> {
    ask(catalogue, &identifier(level, keys), &context()).await
}

fn text(answer: &DataSet, tag: Tag) -> &str {
    answer.text(tag).unwrap_or_default()
}

/// ID, name, birth date, number of studies.
async fn patients(catalogue: &Catalogue, keys: &[(Tag, VR, &str)]) -> Vec<String> {
    let answers = answers(catalogue, "PATIENT", keys).await;
    let line = |answer: &DataSet| {
        let tags = [
            tags::PATIENT_ID,
            tags::PATIENT_NAME,
            tags::PATIENT_BIRTH_DATE,
            tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
        ];
        tags.map(|tag| text(answer, tag)).join(" ")
    };
    answers.iter().map(line).collect()
}

/// Study Instance UIDs under a Patient ID.
async fn studies(catalogue: &Catalogue, id: &str) -> Vec<String> {
    let answers = answers(catalogue, "STUDY", &[(tags::PATIENT_ID, VR::LO, id)]).await;
    assert!(answers.iter().all(|answer| text(answer, tags::PATIENT_ID) == id));
    let mut uids: Vec<String> = answers
        .iter()
        .map(|answer| text(answer, tags::STUDY_INSTANCE_UID).to_owned())
        .collect();
    uids.sort();
    uids
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> OverlayRefusal {
    match result {
        Err(Error::Overlay(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

const ALL: [&str; 3] = ["1.2.1", "1.2.2", "1.2.3"];

pub(crate) async fn merged_patients_are_one_under_either_id(database: Database) {
    let catalogue = filled(&database).await;
    let merged = merge(&catalogue, "TMP1", "P3").await.unwrap();
    assert_eq!((merged.studies, merged.repeated), (2, false));
    database.counts_are_right().await;
    for id in ["TMP1", "P3"] {
        assert_eq!(studies(&catalogue, id).await, ALL, "{id}");
        let line = format!("{id} Doe^Jo 19700101 3");
        assert_eq!(patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, id)]).await, [line], "{id}");
    }
    // Without the ID he is the one who is left; he is found under either name, and no answer contradicts its query.
    assert_eq!(patients(&catalogue, &[]).await, ["P3 Doe^Jo 19700101 3", "P4 Maier^Eva 19800202 1"]);
    let by_name = patients(&catalogue, &[(tags::PATIENT_NAME, VR::PN, "unknown*")]).await;
    assert_eq!(by_name, ["P3 Unknown^Man 19700101 3"]);
    let both = [(tags::PATIENT_ID, VR::LO, "TMP1"), (tags::PATIENT_NAME, VR::PN, "Doe^Jo")];
    assert_eq!(patients(&catalogue, &both).await, ["TMP1 Doe^Jo 19700101 3"]);
    let stranger = [(tags::PATIENT_ID, VR::LO, "TMP1"), (tags::PATIENT_BIRTH_DATE, VR::DA, "19800202")];
    assert_eq!(patients(&catalogue, &stranger).await, [""; 0]);
    // The other ID is told to whoever asks.
    let answer = &answers(&catalogue, "STUDY", &[(tags::PATIENT_ID, VR::LO, "TMP1")]).await[0];
    let others = answer.items(tags::OTHER_PATIENT_I_DS_SEQUENCE);
    assert_eq!(others.iter().map(|item| text(item, tags::PATIENT_ID)).collect::<Vec<_>>(), ["P3"]);
    let by_wildcard = patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "P*")]).await;
    assert_eq!(by_wildcard, ["P3 Doe^Jo 19700101 3", "P4 Maier^Eva 19800202 1"]);
    let listed = catalogue.studies(node(1), Some("TMP1"), 10).await.unwrap();
    assert_eq!(listed.iter().map(|study| study.patient_id.as_str()).collect::<Vec<_>>(), ["P3"; 3]);
}

pub(crate) async fn a_retrieve_under_either_id_brings_the_priors_of_both(database: Database) {
    let catalogue = filled(&database).await;
    merge(&catalogue, "TMP1", "P3").await.unwrap();
    for id in ["TMP1", "P3"] {
        let query = Query::retrieve(Root::Patient, &identifier("PATIENT", &[(tags::PATIENT_ID, VR::LO, id)])).unwrap();
        let located = catalogue.locate(node(1), &query).await.unwrap();
        let uids: Vec<&str> = located.iter().map(|instance| instance.sop_instance.as_str()).collect();
        assert_eq!(uids, ["1.2.1.1.1", "1.2.1.1.2", "1.2.2.1.1", "1.2.3.1.1"], "{id}");
        let keys = [(tags::PATIENT_ID, VR::LO, id), (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1")];
        let query = Query::retrieve(Root::Patient, &identifier("STUDY", &keys)).unwrap();
        assert_eq!(catalogue.locate(node(1), &query).await.unwrap().len(), 2, "{id}");
    }
}

pub(crate) async fn what_arrives_for_a_merged_patient_joins_and_an_undo_puts_it_where_its_bytes_say(database: Database) {
    let catalogue = filled(&database).await;
    let overlay = merge(&catalogue, "TMP1", "P3").await.unwrap().overlay.overlay;
    store_all(
        &catalogue,
        &[
            of(5, 1, "TMP1", "Unknown^Man", ""),
            of(3, 2, "TMP1", "Unknown^Man", ""),
            of(6, 1, "P3", "Doe^Jo", "19700101"),
        ],
    )
    .await;
    // One of the same patient's study under his other ID contradicts nothing.
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap(), []);
    let line = "P3 Doe^Jo 19700101 5";
    assert_eq!(patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "P3")]).await, [line]);
    database.counts_are_right().await;
    let undone = undo(&catalogue, overlay).await.unwrap();
    assert_eq!((undone.studies, undone.overlay.undone.is_some()), (3, true));
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1", "1.2.2", "1.2.5"]);
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.3", "1.2.6"]);
    let line = "TMP1 Unknown^Man  3";
    assert_eq!(patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "TMP1")]).await, [line]);
    database.counts_are_right().await;
    assert_eq!(refusal(undo(&catalogue, overlay).await), OverlayRefusal::UndoneAlready(overlay));
}

pub(crate) async fn merges_chain_form_no_circle_and_are_undone_in_any_order(database: Database) {
    let catalogue = filled(&database).await;
    let first = merge(&catalogue, "TMP1", "P3").await.unwrap().overlay.overlay;
    let second = merge(&catalogue, "P3", "P4").await.unwrap().overlay.overlay;
    for id in ["TMP1", "P3", "P4"] {
        assert_eq!(studies(&catalogue, id).await.len(), 4, "{id}");
    }
    assert!(matches!(
        refusal(merge(&catalogue, "P4", "TMP1").await),
        OverlayRefusal::Circle { .. }
    ));
    assert!(matches!(
        refusal(merge(&catalogue, "TMP1", "P4").await),
        OverlayRefusal::MergedAlready { overlay, .. } if overlay == first
    ));
    assert!(matches!(refusal(merge(&catalogue, "P4", "P4").await), OverlayRefusal::Same(_)));
    // The one in the middle is taken out first.
    undo(&catalogue, first).await.unwrap();
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1", "1.2.2"]);
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.3", "1.2.4"]);
    database.counts_are_right().await;
    undo(&catalogue, second).await.unwrap();
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.3"]);
    assert_eq!(database.number("SELECT count(*) FROM patients WHERE survivor IS NOT NULL").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM studies WHERE said IS NOT NULL").await, 0);
    database.counts_are_right().await;
}

pub(crate) async fn a_relinked_study_is_the_other_patients_and_so_is_what_follows_it(database: Database) {
    let catalogue = filled(&database).await;
    let relinked = relink(&catalogue, 2, "P3").await.unwrap();
    assert_eq!(relinked.studies, 1);
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1"]);
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.2", "1.2.3"]);
    assert_eq!(
        patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "P3")]).await,
        ["P3 Doe^Jo 19700101 2"]
    );
    // More of it, under the wrong ID and under the right one; and an image sent again with the ID put right.
    let resent = of(2, 1, "P3", "Doe^Jo", "19700101").with_bytes("put right");
    store(&catalogue, &of(2, 2, "TMP1", "Unknown^Man", "")).await;
    store(&catalogue, &of(2, 3, "P3", "Doe^Jo", "19700101")).await;
    assert!(matches!(store(&catalogue, &resent.again()).await, Outcome::Corrected { .. }));
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap(), []);
    assert_eq!(
        patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "P3")]).await,
        ["P3 Doe^Jo 19700101 2"]
    );
    database.counts_are_right().await;
    // Of anybody else it is a contradiction, as ever.
    store(&catalogue, &of(2, 4, "P4", "Maier^Eva", "19800202")).await;
    let conflicts = catalogue.conflicts(false, 10).await.unwrap();
    assert_eq!(
        (conflicts.len(), conflicts[0].on_record.as_str(), conflicts[0].arrived.as_str()),
        (1, "P3", "P4")
    );
    // The patient whom it goes to may be merged before or after.
    merge(&catalogue, "P3", "P4").await.unwrap();
    assert_eq!(studies(&catalogue, "P4").await, ["1.2.2", "1.2.3", "1.2.4"]);
    undo(&catalogue, relinked.overlay.overlay).await.unwrap();
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1", "1.2.2"]);
    assert_eq!(studies(&catalogue, "P4").await, ["1.2.3", "1.2.4"]);
    database.counts_are_right().await;
}

pub(crate) async fn of_several_relinks_the_latest_in_force_holds(database: Database) {
    let catalogue = filled(&database).await;
    let first = relink(&catalogue, 2, "P3").await.unwrap().overlay.overlay;
    let second = relink(&catalogue, 2, "P4").await.unwrap().overlay.overlay;
    assert!(relink(&catalogue, 2, "P4").await.unwrap().repeated);
    assert_eq!(studies(&catalogue, "P4").await, ["1.2.2", "1.2.4"]);
    undo(&catalogue, second).await.unwrap();
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.2", "1.2.3"]);
    undo(&catalogue, first).await.unwrap();
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1", "1.2.2"]);
    assert!(matches!(
        refusal(relink(&catalogue, 2, "TMP1").await),
        OverlayRefusal::BelongsAlready { .. }
    ));
    assert!(matches!(
        refusal(relink(&catalogue, 9, "P3").await),
        OverlayRefusal::UnknownStudy(_)
    ));
    database.counts_are_right().await;
}

pub(crate) async fn a_patient_of_whom_nothing_is_here_is_named_with_his_issuer(database: Database) {
    let catalogue = filled(&database).await;
    assert!(matches!(
        refusal(merge(&catalogue, "TMP1", "P9").await),
        OverlayRefusal::UnknownPatient(_)
    ));
    merge(&catalogue, "TMP1", "P9^^^CLINIC").await.unwrap();
    // What nobody says of him those say who were merged into him.
    assert_eq!(
        patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "P9")]).await,
        ["P9 Unknown^Man  2"]
    );
    let his = of(9, 1, "P9", "Nine^Nina", "19990909").with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "CLINIC");
    store(&catalogue, &his).await;
    assert_eq!(
        patients(&catalogue, &[(tags::PATIENT_ID, VR::LO, "TMP1")]).await,
        ["TMP1 Nine^Nina 19990909 3"]
    );
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap(), []);
    // The same ID of another issuer is another patient.
    store(
        &catalogue,
        &of(10, 1, "P9", "Ten^Tim", "20001010").with(tags::ISSUER_OF_PATIENT_ID, VR::LO, "OTHER"),
    )
    .await;
    assert!(matches!(
        refusal(merge(&catalogue, "P9", "P3").await),
        OverlayRefusal::SeveralIssuers { issuers, .. } if issuers == ["CLINIC", "OTHER"]
    ));
    let query = Query::retrieve(Root::Patient, &identifier("PATIENT", &[(tags::PATIENT_ID, VR::LO, "P9")])).unwrap();
    assert!(matches!(
        catalogue.locate(node(1), &query).await,
        Err(Error::SeveralPatients { patients: 2 })
    ));
    database.counts_are_right().await;
}

pub(crate) async fn the_same_message_again_changes_nothing_whatever_was_decided_since(database: Database) {
    let catalogue = filled(&database).await;
    let message = PatientDecision {
        message: "HIS|4711",
        actor: "HIS",
        ..decision(tick())
    };
    let (from, into) = (patient("TMP1"), patient("P3"));
    let first = catalogue.merge_patients(&from, &into, None, &message).await.unwrap();
    let again = catalogue.merge_patients(&from, &into, None, &message).await.unwrap();
    assert_eq!((again.repeated, again.overlay), (true, first.overlay.clone()));
    undo(&catalogue, first.overlay.overlay).await.unwrap();
    let again = catalogue.merge_patients(&from, &into, None, &message).await.unwrap();
    assert!(again.repeated && again.overlay.undone.is_some());
    assert_eq!(studies(&catalogue, "P3").await, ["1.2.3"]);
    // A person may decide so again.
    assert!(!merge(&catalogue, "TMP1", "P3").await.unwrap().repeated);
    assert_eq!(studies(&catalogue, "P3").await, ALL);
    assert_eq!(catalogue.patient_overlays(false, 10).await.unwrap().len(), 1);
    assert_eq!(catalogue.overlays_of(&from).await.unwrap().len(), 2);
}

pub(crate) async fn decisions_are_journalled_where_a_rebuild_finds_them_and_audited_for_both(database: Database) {
    let catalogue = filled(&database).await;
    let overlay = merge(&catalogue, "TMP1", "P3").await.unwrap().overlay.overlay;
    let relinked = relink(&catalogue, 4, "P3").await.unwrap().overlay.overlay;
    undo(&catalogue, overlay).await.unwrap();
    undo(&catalogue, relinked).await.unwrap();
    let entries = catalogue.journal_pending(10).await.unwrap();
    let told: Vec<(Option<String>, String, String)> = entries
        .iter()
        .map(|entry| {
            let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
            assert_eq!(body["version"], filmroom_index::catalogue::JOURNAL_VERSION);
            let word = |name: &str| body[name].as_str().unwrap().to_owned();
            let study = entry.study_uid.as_ref().map(|study| study.as_str().to_owned());
            (study, word("action"), word("overlay"))
        })
        .collect();
    let study = Some("1.2.4".to_owned());
    let (overlay, relinked) = (overlay.to_string(), relinked.to_string());
    assert_eq!(
        told,
        [
            (None, "merged".to_owned(), overlay.clone()),
            (study.clone(), "relinked".to_owned(), relinked.clone()),
            (None, "unmerged".to_owned(), overlay),
            (study, "relink_undone".to_owned(), relinked),
        ]
    );
    for (action, id) in [
        ("patient-merged", "TMP1"),
        ("patient-merged", "P3"),
        ("patient-unmerged", "TMP1"),
        ("study-relinked", "P4"),
    ] {
        let sql = format!("SELECT count(*) FROM audit WHERE action = '{action}' AND actor = 'admin' AND patient_id = '{id}'");
        assert_eq!(database.number(&sql).await, 1, "{action} {id}");
    }
}

pub(crate) async fn a_decision_about_patients_settles_a_conflict(database: Database) {
    let catalogue = filled(&database).await;
    store(&catalogue, &of(4, 2, "P3", "Doe^Jo", "19700101")).await;
    let conflict = catalogue.conflicts(false, 10).await.unwrap().remove(0);
    let done = catalogue
        .relink_study(&uid("1.2.4"), &patient("P3"), Some(conflict.id), &decision(tick()))
        .await
        .unwrap();
    assert!(!done.repeated);
    assert_eq!(catalogue.conflicts(false, 10).await.unwrap(), []);
    let settled = catalogue.conflict(conflict.id).await.unwrap().unwrap();
    assert_eq!(settled.decision, "relinked 1.2.4 to P3");
    // Nothing is changed for a conflict that is not open.
    let again = catalogue
        .merge_patients(&patient("TMP1"), &patient("P3"), Some(conflict.id), &decision(tick()))
        .await;
    assert_eq!(refusal(again), OverlayRefusal::NoConflict(conflict.id));
    assert_eq!(studies(&catalogue, "TMP1").await, ["1.2.1", "1.2.2"]);
}

pub(crate) async fn what_the_journal_tells_makes_the_same_of_an_empty_catalogue(database: Database) {
    let catalogue = filled(&database).await;
    merge(&catalogue, "TMP1", "P3").await.unwrap();
    let undone = merge(&catalogue, "P3", "P4").await.unwrap().overlay.overlay;
    relink(&catalogue, 2, "P4").await.unwrap();
    undo(&catalogue, undone).await.unwrap();
    let mut events: Vec<OverlayEvent> = Vec::new();
    for overlay in catalogue.patient_overlays(true, 10).await.unwrap() {
        if let Some(undone) = overlay.undone.clone() {
            let overlay = overlay.overlay;
            events.push(OverlayEvent::Undone { overlay, undone });
        }
        events.push(OverlayEvent::Made(PatientOverlay { undone: None, ..overlay }));
    }
    let before = [studies(&catalogue, "TMP1").await, studies(&catalogue, "P4").await];
    assert_eq!(before, [vec!["1.2.1", "1.2.3"], vec!["1.2.2", "1.2.4"]]);
    let overlays = catalogue.patient_overlays(true, 10).await.unwrap();
    // Told before anything has arrived, told again, and in whatever order.
    for arrived_first in [false, true] {
        database.clear().await;
        if arrived_first {
            filled(&database).await;
        }
        assert_eq!(catalogue.replay_overlays(&events).await.unwrap(), 0);
        assert_eq!(catalogue.replay_overlays(&events).await.unwrap(), 0);
        if !arrived_first {
            filled(&database).await;
        }
        assert_eq!([studies(&catalogue, "TMP1").await, studies(&catalogue, "P4").await], before);
        let again = catalogue.patient_overlays(true, 10).await.unwrap();
        assert_eq!(
            again.iter().collect::<std::collections::HashSet<_>>(),
            overlays.iter().collect::<std::collections::HashSet<_>>()
        );
        database.counts_are_right().await;
    }
}

pub(crate) async fn of_merges_that_contradict_each_other_the_later_holds(database: Database) {
    let catalogue = filled(&database).await;
    let made = |from: &str, into: &str| {
        let at = tick();
        OverlayEvent::Made(PatientOverlay {
            overlay: filmroom_index::model::ObjectId::new(at).0,
            kind: OverlayKind::Merge { from: patient(from) },
            into: patient(into),
            actor: "admin".to_owned(),
            reason: String::new(),
            message: String::new(),
            at,
            undone: None,
        })
    };
    // That the first two were undone was lost.
    let events = [
        made("TMP1^^^", "P3^^^"),
        made("P3^^^", "P4^^^"),
        made("TMP1^^^", "P4^^^"),
        made("P4^^^", "P3^^^"),
    ];
    assert_eq!(catalogue.replay_overlays(&events).await.unwrap(), 2);
    for id in ["TMP1", "P3", "P4"] {
        assert_eq!(studies(&catalogue, id).await.len(), 4, "{id}");
    }
    assert_eq!(patients(&catalogue, &[]).await, ["P3 Doe^Jo 19700101 4"]);
    let lost = OverlayEvent::Undone {
        overlay: Uuid::from_u128(7),
        undone: Undone {
            at: tick(),
            actor: String::new(),
            reason: String::new(),
        },
    };
    assert_eq!(catalogue.replay_overlays(&[lost]).await.unwrap(), 0);
    database.counts_are_right().await;
}

pub(crate) async fn patients_merged_both_ways_at_once_form_no_circle(database: Database) {
    let catalogue = filled(&database).await;
    let other = database.open().await;
    let (one, two) = (patient("TMP1"), patient("P3"));
    let (there, here) = (decision(tick()), decision(tick()));
    let arriving: Vec<Arrival> = (20..30).map(|study| of(study, 1, "TMP1", "Unknown^Man", "")).collect();
    let (back, forth, ()) = tokio::join!(
        catalogue.merge_patients(&one, &two, None, &there),
        other.merge_patients(&two, &one, None, &here),
        async {
            for arrival in &arriving {
                store(&catalogue, arrival).await;
            }
        }
    );
    assert!(back.is_ok() != forth.is_ok(), "{back:?} {forth:?}");
    for id in ["TMP1", "P3"] {
        assert_eq!(studies(&catalogue, id).await.len(), 13, "{id}");
    }
    database.counts_are_right().await;
}

//! Quarantine and what a person decides about it.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Outcome;

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all};

fn actions(entries: &[filmroom_index::catalogue::JournalEntry]) -> Vec<String> {
    let action = |entry: &filmroom_index::catalogue::JournalEntry| {
        let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
        body["action"].as_str().unwrap().to_owned()
    };
    entries.iter().map(action).collect()
}

pub(crate) async fn a_quarantined_object_is_not_counted_and_can_come_back(database: Database) {
    let catalogue = database.open().await;
    let (first, second) = (slice(1, 1, 1), slice(1, 2, 1));
    store_all(&catalogue, &[first.clone(), second.clone()]).await;
    catalogue.quarantine(first.object, "wrong patient", tick()).await.unwrap();
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.series, counts.instances, counts.quarantined), (1, 1, 1));
    database.counts_are_right().await;
    catalogue.quarantine(first.object, "again", tick()).await.unwrap();
    assert_eq!(catalogue.quarantined(10).await.unwrap()[0].reason, "wrong patient");
    catalogue.quarantine(second.object, "all of it", tick()).await.unwrap();
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.studies, counts.series, counts.instances), (0, 0, 0, 0));
    assert_eq!(database.text("SELECT modalities || sop_classes FROM studies").await, "");
    database.counts_are_right().await;
    assert!(catalogue.accept(first.object, &|_| None, "admin", tick()).await.unwrap());
    assert!(!catalogue.accept(first.object, &|_| None, "admin", tick()).await.unwrap());
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.studies, counts.series, counts.instances), (1, 1, 1, 1));
    assert_eq!(
        actions(&catalogue.journal_pending(10).await.unwrap()),
        ["quarantined", "quarantined", "accepted"]
    );
    assert_eq!(
        database
            .number("SELECT count(*) FROM audit WHERE action = 'accepted' AND actor = 'admin' AND patient_id = 'P1'")
            .await,
        1
    );
    database.counts_are_right().await;
}

pub(crate) async fn accepting_supersedes_what_was_served(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let stranger = first.clone().again().with_bytes("other").sent_by("PACS2");
    let mut elsewhere = first.clone().again().with_bytes("third");
    elsewhere.study = uid("1.2.5");
    elsewhere.series = uid("1.2.5.1");
    store_all(&catalogue, &[stranger.clone(), elsewhere.clone()]).await;
    let served = async || {
        let uid = first.sop_instance.clone();
        catalogue.served_versions(node(1), std::slice::from_ref(&uid)).await.unwrap()[&uid].object
    };
    assert!(catalogue.accept(stranger.object, &|_| None, "admin", tick()).await.unwrap());
    assert_eq!(served().await, stranger.object);
    database.counts_are_right().await;
    assert!(catalogue.accept(elsewhere.object, &|_| None, "admin", tick()).await.unwrap());
    assert_eq!(served().await, elsewhere.object);
    database.counts_are_right().await;
    assert_eq!(catalogue.counts(node(1)).await.unwrap().studies, 1);
    assert_eq!(
        actions(&catalogue.journal_pending(10).await.unwrap()),
        ["superseded", "accepted", "superseded", "accepted"]
    );
    // A retry of the accepted object answers that it is served.
    assert_eq!(
        store(&catalogue, &elsewhere).await,
        Outcome::Corrected {
            superseded: stranger.object
        }
    );
}

pub(crate) async fn discarded_bytes_do_not_come_back(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    assert!(!catalogue.discard(first.object, "admin", tick()).await.unwrap(), "served");
    catalogue.quarantine(first.object, "wrong patient", tick()).await.unwrap();
    offload(&catalogue).await;
    assert!(catalogue.discard(first.object, "admin", tick()).await.unwrap());
    assert!(!catalogue.discard(first.object, "admin", tick()).await.unwrap());
    assert!(!catalogue.accept(first.object, &|_| None, "admin", tick()).await.unwrap());
    assert_eq!(catalogue.counts(node(1)).await.unwrap().quarantined, 0);
    assert!(matches!(
        store(&catalogue, &first.clone().again()).await,
        Outcome::Quarantined { .. }
    ));
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 0);
    assert!(
        matches!(store(&catalogue, &first).await, Outcome::Rejected { .. }),
        "the object itself stays what it became"
    );
    database.counts_are_right().await;
}

pub(crate) async fn nothing_is_decided_about_an_unknown_object(database: Database) {
    let catalogue = database.open().await;
    let unknown = slice(1, 1, 1).object;
    catalogue.quarantine(unknown, "?", tick()).await.unwrap();
    assert!(!catalogue.accept(unknown, &|_| None, "admin", tick()).await.unwrap());
    assert!(!catalogue.discard(unknown, "admin", tick()).await.unwrap());
    assert_eq!(catalogue.journal_pending(10).await.unwrap(), []);
}

pub(crate) async fn what_is_accepted_belongs_to_the_patient_that_it_names(database: Database) {
    let catalogue = database.open().await;
    let issuer_of = |source: &filmroom_index::model::AeTitle| (source.as_str() == "CT2").then(|| "HOSPITAL-B".to_owned());
    let other = |of: &filmroom_index::catalogue::Arrival| {
        let other = of.clone().again().with_bytes("other").sent_by("CT2");
        other
            .with(tags::PATIENT_ID, VR::LO, "P2")
            .with(tags::PATIENT_NAME, VR::PN, "Maier^Hans")
    };
    // The only one of its study: the study is its patient's.
    let alone = slice(1, 1, 1);
    let accepted = other(&alone);
    store_all(&catalogue, &[alone, accepted.clone()]).await;
    assert!(catalogue.accept(accepted.object, &issuer_of, "admin", tick()).await.unwrap());
    assert_eq!(
        database
            .text("SELECT p.patient_id || '/' || p.issuer || '/' || p.name FROM patients p WHERE p.instances > 0")
            .await,
        "P2/HOSPITAL-B/Maier^Hans"
    );
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap(), []);
    database.counts_are_right().await;
    // One of two: a study of two patients is listed, and stays where it is.
    let (first, second) = (slice(2, 1, 1), slice(2, 1, 2));
    let accepted = other(&first);
    store_all(&catalogue, &[first, second, accepted.clone()]).await;
    assert!(catalogue.accept(accepted.object, &issuer_of, "admin", tick()).await.unwrap());
    let conflict = &catalogue.conflicts(false, 10).await.unwrap()[0];
    assert_eq!((conflict.kind.as_str(), conflict.patient_id.as_str()), ("patient_of_study", "P1"));
    assert_eq!(conflict.arrived, "P2 of HOSPITAL-B");
    database.counts_are_right().await;
}

//! Storing: what becomes of an arrival.

use std::path::PathBuf;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Catalogue, Error, Outcome};
use filmroom_index::model::{DuplicatePolicy, NodeId, ObjectId};

use crate::cold::offload;
use crate::database::{Database, Kind};
use crate::objects::{Changed, node, slice, tick, uid};

/// Stores one object on node 1.
pub(crate) async fn store(catalogue: &Catalogue, arrival: &Arrival) -> Outcome {
    store_all(catalogue, std::slice::from_ref(arrival)).await.remove(0)
}

/// Stores a batch on node 1, as who receives does it: in his thread, and if something is in the way of that, as everybody does.
pub(crate) async fn store_all(catalogue: &Catalogue, batch: &[Arrival]) -> Vec<Outcome> {
    if let Ok(prepared) = catalogue.prepare_in_thread(node(1), batch).await {
        let outcomes = prepared.commit().await.unwrap();
        assert_eq!(outcomes.len(), batch.len());
        return outcomes;
    }
    let results = catalogue.ingest(node(1), batch).await;
    assert_eq!(results.len(), batch.len());
    results.into_iter().map(Result::unwrap).collect()
}

/// Lets go of doomed files, as the mover does.
pub(crate) async fn take_doomed(catalogue: &Catalogue, node: NodeId, journalled: bool, limit: u32) -> Vec<ObjectId> {
    let doomed = catalogue.doomed(node, journalled, limit).await.unwrap();
    catalogue.doomed_removed(node, &doomed).await.unwrap();
    doomed
}

async fn served(catalogue: &Catalogue, arrival: &Arrival) -> Option<ObjectId> {
    let uid = arrival.sop_instance.clone();
    let versions = catalogue.served_versions(node(1), std::slice::from_ref(&uid)).await.unwrap();
    versions.get(&uid).map(|version| version.object)
}

async fn states(database: &Database) -> String {
    let list = match database.kind {
        crate::database::Kind::Sqlite => "SELECT group_concat(state, ' ') FROM (SELECT state FROM objects ORDER BY id)",
        crate::database::Kind::Postgres(_) => "SELECT string_agg(state, ' ' ORDER BY id) FROM objects",
    };
    database.text(list).await
}

pub(crate) async fn the_first_of_its_uid_is_served(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    assert_eq!(store(&catalogue, &arrival).await, Outcome::Served);
    let uids = [arrival.sop_instance.clone(), uid("1.2.3.4.5.6.7")];
    let served = catalogue.served_versions(node(1), &uids).await.unwrap();
    assert_eq!(served.len(), 1);
    let version = &served[&arrival.sop_instance];
    assert_eq!(
        (version.object, version.sha256, version.length),
        (arrival.object, arrival.sha256, arrival.length)
    );
    assert!(version.hot && !version.verified);
    let elsewhere = catalogue.served_versions(node(2), &uids).await.unwrap();
    assert!(!elsewhere[&arrival.sop_instance].hot);
    assert_eq!(
        database
            .text("SELECT detail FROM audit WHERE action = 'store' AND actor = 'CT1'")
            .await,
        "1 instances"
    );
    database.counts_are_right().await;
}

pub(crate) async fn equal_bytes_are_not_kept_twice_where_the_copy_was_seen(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let again = first.clone().again().sent_by("PACS2").seen(first.object);
    assert_eq!(store(&catalogue, &again).await, Outcome::Redundant { kept: first.object });
    assert_eq!(served(&catalogue, &first).await, Some(first.object));
    assert_eq!(take_doomed(&catalogue, node(2), true, 10).await, []);
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [again.object]);
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, []);
    database.counts_are_right().await;
}

pub(crate) async fn equal_bytes_are_not_kept_twice_where_a_verified_pack_has_them(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    offload(&catalogue).await;
    let again = first.clone().again();
    assert_eq!(store(&catalogue, &again).await, Outcome::Redundant { kept: first.object });
}

pub(crate) async fn equal_bytes_take_the_place_of_a_copy_that_nobody_saw(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let again = first.clone().again();
    assert_eq!(store(&catalogue, &again).await, Outcome::Served);
    assert_eq!(served(&catalogue, &first).await, Some(again.object));
    assert_eq!(states(&database).await, "deleted served");
    // What may be left of the first file may go, and the first is never packed.
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [first.object]);
    let claim = catalogue
        .claim_offload(node(1), tick(), std::time::Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim.members.iter().map(|member| member.object).collect::<Vec<_>>(), [again.object]);
    database.counts_are_right().await;
}

pub(crate) async fn a_corrected_resend_is_served_and_the_old_version_kept(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let second = first
        .clone()
        .again()
        .with_bytes("second")
        .with(tags::STUDY_DESCRIPTION, VR::LO, "Abdomen")
        .with(tags::MODALITY, VR::CS, "CR");
    assert_eq!(store(&catalogue, &second).await, Outcome::Corrected { superseded: first.object });
    let back = first.clone().again();
    assert_eq!(states(&database).await, "superseded served");
    assert_eq!(database.text("SELECT description || modalities FROM studies").await, "AbdomenCR");
    assert_eq!(store(&catalogue, &back).await, Outcome::Corrected { superseded: second.object });
    assert_eq!(database.text("SELECT description || modalities FROM studies").await, "ThoraxCT");
    assert_eq!(served(&catalogue, &first).await, Some(back.object));
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, []);
    database.counts_are_right().await;
}

pub(crate) async fn what_is_superseded_is_journalled_packed_or_not(database: Database) {
    let catalogue = database.open().await;
    let (first, other) = (slice(1, 1, 1), slice(1, 1, 2));
    store_all(&catalogue, &[first.clone(), other.clone()]).await;
    offload(&catalogue).await;
    store(&catalogue, &first.clone().again().with_bytes("second")).await;
    let pending = catalogue.journal_pending(10).await.unwrap();
    assert_eq!(pending.len(), 1);
    let body: serde_json::Value = serde_json::from_str(&pending[0].body).unwrap();
    assert_eq!(body["action"], "superseded");
    assert_eq!(body["object"], first.object.to_string());
    assert_eq!(body["sop_instance"], first.sop_instance.as_str());
    assert_eq!(body["id"], pending[0].entry.to_string());
    assert_eq!(pending[0].study_uid, Some(first.study));
    // Until it is packed, the file of the other does not say what became of it.
    store(&catalogue, &slice(1, 1, 3)).await;
    store(&catalogue, &slice(1, 1, 3).with_bytes("second")).await;
    let all = catalogue.journal_pending(10).await.unwrap();
    assert_eq!(all.len(), 2);
    catalogue.journal_written(&[all[0].id, all[1].id]).await.unwrap();
    assert_eq!(catalogue.journal_pending(10).await.unwrap(), []);
}

pub(crate) async fn what_comes_from_elsewhere_is_quarantined(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let other = |word| first.clone().again().with_bytes(word);
    let mut other_study = other("study");
    other_study.study = uid("1.2.2");
    let mut other_series = other("series");
    other_series.series = uid("1.2.1.2");
    let arrivals = [
        other("source").sent_by("PACS2"),
        other_study,
        other_series,
        other("patient").with(tags::PATIENT_ID, VR::LO, "P2"),
        other("policy").policy(DuplicatePolicy::Keep),
    ];
    for arrival in arrivals {
        match store(&catalogue, &arrival).await {
            Outcome::Quarantined { reason } => assert!(!reason.is_empty() && reason.chars().count() <= 64),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(served(&catalogue, &first).await, Some(first.object));
    let quarantined = catalogue.quarantined(10).await.unwrap();
    assert_eq!(quarantined.len(), 5);
    assert!(
        quarantined
            .iter()
            .all(|row| row.sop_instance == first.sop_instance && row.length == 1000)
    );
    assert!(quarantined.is_sorted_by(|a, b| a.received_at > b.received_at));
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.studies, counts.series, counts.instances, counts.quarantined), (1, 1, 1, 5));
    assert_eq!((counts.of_node.hot_objects, counts.of_node.hot_bytes), (6, 6000));
    database.counts_are_right().await;
}

pub(crate) async fn a_refused_duplicate_is_not_kept(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    for _ in 0..2 {
        let second = first.clone().again().with_bytes("second").policy(DuplicatePolicy::Reject);
        assert!(matches!(store(&catalogue, &second).await, Outcome::Rejected { .. }));
        assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [second.object]);
    }
    assert_eq!(served(&catalogue, &first).await, Some(first.object));
}

pub(crate) async fn quarantined_bytes_sent_again_are_refused_and_not_kept_twice(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let stranger = first.clone().again().with_bytes("other").sent_by("PACS2");
    let Outcome::Quarantined { reason } = store(&catalogue, &stranger).await else {
        panic!("served")
    };
    let again = stranger.again();
    assert_eq!(store(&catalogue, &again).await, Outcome::Rejected { reason });
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [again.object]);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().quarantined, 1);
}

pub(crate) async fn the_same_object_again_answers_what_it_became(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let batch = [
        first.clone(),
        first.clone().again().seen(first.object),
        first.clone().again().with_bytes("other").sent_by("PACS2"),
        first.clone().again().with_bytes("refused").policy(DuplicatePolicy::Reject),
        first.clone().again().with_bytes("second"),
        slice(1, 1, 2),
    ];
    let mut outcomes = Vec::new();
    for arrival in &batch {
        outcomes.push(store(&catalogue, arrival).await);
    }
    assert!(matches!(
        outcomes.as_slice(),
        [
            Outcome::Served,
            Outcome::Redundant { .. },
            Outcome::Quarantined { .. },
            Outcome::Rejected { .. },
            Outcome::Corrected { .. },
            Outcome::Served
        ]
    ));
    let before = states(&database).await;
    assert_eq!(store_all(&catalogue, &batch).await, outcomes);
    for (arrival, outcome) in batch.iter().zip(&outcomes) {
        assert_eq!(store(&catalogue, arrival).await, *outcome);
    }
    assert_eq!(states(&database).await, before);
    // One known object in a batch of new ones; and the same object twice in one batch.
    let fresh = slice(1, 1, 9);
    let mixed = [batch[0].clone(), fresh.clone(), batch[2].clone(), fresh];
    assert_eq!(
        store_all(&catalogue, &mixed).await,
        [outcomes[0].clone(), Outcome::Served, outcomes[2].clone(), Outcome::Served]
    );
    database.counts_are_right().await;
}

pub(crate) async fn one_uid_several_times_in_a_batch_is_judged_in_order(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let equal = first.clone().again();
    let corrected = first.clone().again().with_bytes("second");
    let stranger = first.clone().again().with_bytes("other").sent_by("PACS2");
    let back = first.clone().again();
    let outcomes = store_all(&catalogue, &[first.clone(), equal, corrected.clone(), stranger, back.clone()]).await;
    assert_eq!(outcomes[0], Outcome::Served);
    assert_eq!(outcomes[1], Outcome::Redundant { kept: first.object });
    assert_eq!(outcomes[2], Outcome::Corrected { superseded: first.object });
    assert!(matches!(outcomes[3], Outcome::Quarantined { .. }));
    assert_eq!(
        outcomes[4],
        Outcome::Corrected {
            superseded: corrected.object
        }
    );
    assert_eq!(served(&catalogue, &first).await, Some(back.object));
    assert_eq!(states(&database).await.matches("superseded").count(), 2);
    database.counts_are_right().await;
}

pub(crate) async fn a_poisoned_row_fails_alone(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=9).map(|instance| slice(1, 1, instance)).collect();
    database
        .run(
            "CREATE TRIGGER poison BEFORE INSERT ON objects WHEN NEW.sop_instance_uid = '1.2.1.1.5'
             BEGIN SELECT RAISE(ABORT, 'poison'); END",
            "ALTER TABLE objects ADD CONSTRAINT poison CHECK (sop_instance_uid <> '1.2.1.1.5')",
        )
        .await;
    let results = catalogue.ingest(node(1), &batch).await;
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(Outcome::Served) if i != 4 => {}
            Err(Error::Refused(_)) if i == 4 => {}
            other => panic!("{i}: {other:?}"),
        }
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 8);
    database.counts_are_right().await;
}

pub(crate) async fn no_text_makes_a_row_that_cannot_be_stored(database: Database) {
    let catalogue = database.open().await;
    let long = "Ä".repeat(20_000);
    let mut arrival = slice(1, 1, 1)
        .with(tags::PATIENT_NAME, VR::PN, &format!("Doe\0^{long}"))
        .with(tags::PATIENT_ID, VR::LO, &format!("P\0{long}"))
        .with(tags::STUDY_DESCRIPTION, VR::LO, "'; DROP TABLE objects; -- \0 \u{7}")
        .with(tags::SERIES_NUMBER, VR::IS, "three")
        .with(tags::STUDY_DATE, VR::DA, "yesterday\0");
    arrival.default_issuer = Some("\0".to_owned());
    assert_eq!(store(&catalogue, &arrival).await, Outcome::Served);
    let headers = catalogue.headers(&[arrival.object]).await.unwrap();
    assert_eq!(headers[0].1.attributes.text(tags::SERIES_NUMBER), Some("three"));
    assert_eq!(database.text("SELECT study_date FROM studies").await, "yesterday");
    assert_eq!(catalogue.studies(node(1), None, 10).await.unwrap().len(), 1);
    let event = filmroom_index::catalogue::AuditEvent {
        user: "\0".to_owned(),
        patient_id: "\0".to_owned(),
        detail: long,
        ..filmroom_index::catalogue::AuditEvent::new(tick(), "find", "A\0B")
    };
    catalogue.audit(&[event]).await.unwrap();
    assert_eq!(database.text("SELECT actor FROM audit WHERE action = 'find'").await, "AB");
}

pub(crate) async fn an_interrupted_ingest_can_be_repeated(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=20).map(|instance| slice(1, instance % 3, instance)).collect();
    for micros in (0..200).map(|step| step * 150) {
        let limit = std::time::Duration::from_micros(micros);
        let _ = tokio::time::timeout(limit, catalogue.ingest(node(1), &batch)).await;
    }
    assert!(
        store_all(&catalogue, &batch)
            .await
            .iter()
            .all(|outcome| *outcome == Outcome::Served)
    );
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 20);
    database.counts_are_right().await;
}

pub(crate) async fn what_is_prepared_is_known_when_it_is_committed_and_leaves_nothing_when_it_is_dropped(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=3).map(|instance| slice(1, 1, instance)).collect();
    let prepared = catalogue.prepare_in_thread(node(1), &batch).await.unwrap();
    assert_eq!(served(&catalogue, &batch[0]).await, None, "not committed");
    drop(prepared);
    assert_eq!(store(&catalogue, &batch[1]).await, Outcome::Served, "the next has its turn");
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 1);
    let prepared = catalogue.prepare(node(1), &batch).await.unwrap();
    assert_eq!(
        prepared.commit().await.unwrap(),
        [Outcome::Served, Outcome::Served, Outcome::Served]
    );
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 3);
    let more: Vec<Arrival> = (4..=5).map(|instance| slice(1, 1, instance)).collect();
    for arrival in &more {
        let prepared = catalogue.prepare_in_thread(node(1), std::slice::from_ref(arrival)).await.unwrap();
        assert_eq!(
            prepared.commit_unflushed().await.unwrap(),
            [Outcome::Served],
            "the next need not wait for the flush"
        );
        assert_ne!(served(&catalogue, arrival).await, None, "others see it");
    }
    catalogue.flush().unwrap();
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 5);
    database.counts_are_right().await;
}

/// What comes in every day takes no trip to another thread.
pub(crate) async fn what_is_received_every_day_is_written_in_the_thread_of_who_receives(database: Database) {
    let catalogue = database.open().await;
    // Its node and kind are made by everybody's connection.
    store(&catalogue, &slice(1, 1, 1)).await;
    let renamed = slice(1, 1, 5).with(tags::PATIENT_NAME, VR::PN, "DOE^JANET");
    let batches = [
        ("a further slice", vec![slice(1, 1, 2)]),
        ("a new series", vec![slice(1, 2, 3), slice(1, 2, 4)]),
        ("a new study", vec![slice(2, 1, 1)]),
        ("several studies", vec![slice(2, 2, 2), slice(3, 1, 1), slice(1, 3, 6)]),
        ("a patient who is called otherwise", vec![renamed.clone()]),
        (
            "another patient in a study",
            vec![slice(1, 1, 7).with(tags::PATIENT_ID, VR::LO, "P2")],
        ),
    ];
    for (what, batch) in batches {
        let prepared = catalogue.prepare_in_thread(node(1), &batch).await.unwrap();
        assert_eq!(prepared.is_in_thread(), matches!(database.kind, Kind::Sqlite), "{what}");
        prepared.commit().await.unwrap();
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 2);
    let prepared = catalogue.prepare_in_thread(node(1), &[renamed]).await.unwrap();
    assert!(!prepared.is_in_thread(), "a resend is everybody's");
    drop(prepared);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 10);
    database.counts_are_right().await;
}

/// SQLite writes its log beside the file, not beside the link; a server may be set to write bytes in other words.
pub(crate) async fn a_database_that_somebody_has_moved_or_set_up_otherwise_takes_what_it_is_given(database: Database) {
    let mut url = database.url();
    match &database.kind {
        Kind::Sqlite => {
            database.open().await.close().await;
            let file = PathBuf::from(url.trim_start_matches("sqlite:"));
            let link = file.parent().unwrap().parent().unwrap().join("link.db");
            std::os::unix::fs::symlink(&file, &link).unwrap();
            url = format!("sqlite:{}", link.display());
        }
        Kind::Postgres(_) => {
            let name = url.rsplit('/').next().unwrap().to_owned();
            database
                .run("", &format!("ALTER DATABASE {name} SET bytea_output = 'escape'"))
                .await;
        }
    }
    let catalogue = Catalogue::open(&url).await.unwrap();
    for instance in 1..=3 {
        assert_eq!(store(&catalogue, &slice(1, 1, instance)).await, Outcome::Served);
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 3);
}

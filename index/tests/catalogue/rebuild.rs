//! The catalogue made anew: what was on record in one is put into another, and says the same.

use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{
    Arrival, Catalogue, ColdLayout, Described, FoundFile, HotFile, Loaded, NoteState, NoteVerdict, Outcome, RebuildStart, Rebuilt,
    RebuiltPack, RebuiltPart, StudyDecisions, Verdict,
};
use filmroom_index::model::{ObjectId, ServingState, Timestamp};
use filmroom_index::rejection;

use crate::database::Database;
use crate::objects::{Changed, bytes, node, slice, tick};
use crate::rejections::note;
use crate::store::store;

pub(crate) fn rebuilt(arrival: &Arrival, state: ServingState) -> Rebuilt {
    Rebuilt {
        arrival: arrival.clone(),
        state,
        reason: String::new(),
        counterpart: None,
        place: Some((0, 70)),
        hot: None,
        deletion: None,
    }
}

pub(crate) fn part(described: Option<Described>, objects: Vec<Rebuilt>) -> RebuiltPart {
    let first = &objects[0].arrival;
    RebuiltPart {
        study: first.study.clone(),
        series: first.series.clone(),
        described,
        packs: vec![RebuiltPack {
            layout: ColdLayout::Pack,
            manifest: None,
            key: format!("{}/{}/{}.zip", first.study, first.series, first.object),
            length: 5000,
            crc64: Some(u64::MAX - 7),
            serving: ServingState::Served,
            node: node(5),
            put_at: Timestamp(5),
            etag: None,
        }],
        objects,
    }
}

fn verdict(state: Option<ServingState>) -> Verdict {
    Verdict {
        state,
        ..Verdict::served(tick())
    }
}

async fn load(catalogue: &Catalogue, parts: &[RebuiltPart]) -> Loaded {
    catalogue.rebuild_load(node(1), parts).await.unwrap()
}

pub(crate) async fn only_an_empty_catalogue_is_rebuilt_and_an_open_rebuild_goes_on(database: Database) {
    let catalogue = database.open().await;
    assert!(!catalogue.is_rebuilding().await.unwrap());
    assert_eq!(catalogue.rebuild_begin().await.unwrap(), RebuildStart::Begun);
    load(&catalogue, &[part(None, vec![rebuilt(&slice(1, 1, 1), ServingState::Served)])]).await;
    assert!(catalogue.is_rebuilding().await.unwrap());
    assert_eq!(catalogue.rebuild_begin().await.unwrap(), RebuildStart::Resumed);
    catalogue.rebuild_end("admin", "done", tick()).await.unwrap();
    assert!(!catalogue.is_rebuilding().await.unwrap());
    assert_eq!(catalogue.rebuild_begin().await.unwrap(), RebuildStart::NotEmpty);
    assert_eq!(
        database
            .number("SELECT count(*) FROM audit WHERE action = 'rebuild' AND actor = 'admin'")
            .await,
        1
    );
    database.counts_are_right().await;
}

pub(crate) async fn a_series_loaded_from_what_was_described_answers_as_before(database: Database) {
    let catalogue = database.open().await;
    // The second describes the study; the issuer is known to the configuration only.
    let mut first = slice(1, 1, 1);
    first.default_issuer = Some("CLINIC".to_owned());
    let second = first
        .clone()
        .again()
        .with_bytes("second")
        .with(tags::STUDY_DESCRIPTION, VR::LO, "Abdomen");
    store(&catalogue, &first).await;
    store(&catalogue, &second).await;
    let columns =
        "SELECT st.description || p.issuer || p.name || st.known_since || se.modality FROM studies st JOIN patients p ON p.id = st.patient
                   JOIN series se ON se.study = st.id";
    let before = database.text(columns).await;
    assert!(before.starts_with("AbdomenCLINICMüller"), "{before}");
    let claim = catalogue
        .claim_offload(node(1), tick(), Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let described = catalogue.described(claim.series, tick()).await.unwrap();
    assert_eq!(described.issuer_of(Some("P1")), Some("CLINIC".to_owned()));
    assert_eq!(described.issuer_of(Some("P2")), None);
    let header = catalogue.headers(&[first.object]).await.unwrap();
    database.clear().await;

    let mut objects = vec![rebuilt(&first, ServingState::Superseded), rebuilt(&second, ServingState::Served)];
    for object in &mut objects {
        object.arrival.default_issuer = described.issuer_of(Some("P1"));
    }
    assert_eq!(
        load(&catalogue, &[part(Some(described), objects)]).await,
        Loaded { objects: 2, settled: 0 }
    );
    assert_eq!(database.text(columns).await, before);
    assert_eq!(catalogue.headers(&[first.object]).await.unwrap(), header);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().packs_verified, 1);
    assert_eq!(database.number("SELECT count(*) FROM conflicts").await, 0);
    database.counts_are_right().await;
}

pub(crate) async fn what_another_node_is_about_to_commit_is_counted_by_a_load(database: Database) {
    let (catalogue, other) = (database.open().await, database.open().await);
    store(&catalogue, &slice(1, 1, 1)).await;
    let arriving = [slice(1, 1, 2)];
    let prepared = other.prepare(node(2), &arriving).await.unwrap();
    let parts = [part(None, vec![rebuilt(&slice(1, 2, 1), ServingState::Served)])];
    let mut loading = std::pin::pin!(load(&catalogue, &parts));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut loading).await;
    assert_eq!(early.ok(), None, "it waits for the study");
    prepared.commit().await.unwrap();
    assert_eq!(loading.await.objects, 1);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 3);
    database.counts_are_right().await;
}

pub(crate) async fn what_is_loaded_twice_is_there_once(database: Database) {
    let catalogue = database.open().await;
    let parts = [part(
        None,
        (1..=3).map(|n| rebuilt(&slice(1, 1, n), ServingState::Served)).collect(),
    )];
    assert_eq!(load(&catalogue, &parts).await.objects, 3);
    assert_eq!(load(&catalogue, &parts).await.objects, 0);
    assert_eq!(database.number("SELECT count(*) FROM objects").await, 3);
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 1);
    let key = &parts[0].packs[0].key;
    assert_eq!(catalogue.rebuild_known(&[key, "other.zip"]).await.unwrap().len(), 1);
    database.counts_are_right().await;
}

pub(crate) async fn of_two_that_seem_served_the_newer_one_is(database: Database) {
    let catalogue = database.open().await;
    let old = slice(1, 1, 1);
    let new = old.clone().again().with_bytes("second");
    let newest = new.clone().again().with_bytes("third");
    let parts = [&new, &old, &newest].map(|arrival| part(None, vec![rebuilt(arrival, ServingState::Served)]));
    assert_eq!(load(&catalogue, &parts).await, Loaded { objects: 3, settled: 2 });
    assert_eq!(
        database
            .text("SELECT state FROM objects WHERE state = 'served' AND received_at = (SELECT max(received_at) FROM objects)")
            .await,
        "served"
    );
    database.counts_are_right().await;
}

pub(crate) async fn the_newest_description_stays_in_whatever_order_they_come(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let claim = catalogue
        .claim_offload(node(1), tick(), Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let described = catalogue.described(claim.series, tick()).await.unwrap();
    for newest_first in [true, false] {
        database.clear().await;
        let says = |text: &str, at: i64| {
            let mut described = described.clone();
            described.at = Timestamp(described.at.0 + at);
            described.study.description = text.to_owned();
            described.patient.name = text.to_owned();
            described
        };
        let mut parts = vec![
            part(Some(says("old", 1)), vec![rebuilt(&slice(1, 1, 1), ServingState::Quarantined)]),
            part(Some(says("new", 2)), vec![rebuilt(&slice(1, 1, 2), ServingState::Quarantined)]),
            // Of format 1: it only knows the first of its objects.
            part(None, vec![rebuilt(&slice(1, 1, 3), ServingState::Quarantined)]),
        ];
        if newest_first {
            parts.reverse();
        }
        load(&catalogue, &parts).await;
        assert_eq!(database.text("SELECT description FROM studies").await, "new");
        assert_eq!(database.text("SELECT name FROM patients").await, "new");
        // A person's decision since then is newer still.
        let accepted = slice(1, 1, 4).with(tags::STUDY_DESCRIPTION, VR::LO, "accepted");
        load(&catalogue, &[part(None, vec![rebuilt(&accepted, ServingState::Served)])]).await;
        assert_eq!(database.text("SELECT description FROM studies").await, "new");
        catalogue.rebuild_describe(&[(accepted.object, tick())], &|_| None).await.unwrap();
        assert_eq!(database.text("SELECT description FROM studies").await, "accepted");
        database.counts_are_right().await;
    }
}

pub(crate) async fn a_note_in_force_stays_in_force_and_a_refused_one_refused(database: Database) {
    let catalogue = database.open().await;
    let (obeyed, refused) = (note(1, 1, "113001"), note(2, 1, "113037"));
    let (withdrawn, coming) = (slice(1, 1, 1), slice(1, 1, 2));
    let mut gone = rebuilt(&withdrawn, ServingState::Rejected);
    gone.reason = "113001 Rejected for Quality Reasons".to_owned();
    load(
        &catalogue,
        &[part(None, vec![gone]), part(None, vec![rebuilt(&obeyed, ServingState::Served)])],
    )
    .await;
    load(&catalogue, &[part(None, vec![rebuilt(&refused, ServingState::Served)])]).await;
    let listed = [&withdrawn, &coming].map(|arrival| rejection::Listed {
        study: arrival.study.clone(),
        sop_instance: arrival.sop_instance.clone(),
        series: arrival.series.clone(),
    });
    let decided = |note: &Arrival, state, listed: &[rejection::Listed]| NoteVerdict {
        object: note.object,
        code: "113001".to_owned(),
        state,
        reason: String::new(),
        actor: "CT1".to_owned(),
        at: tick(),
        listed: listed.to_vec(),
    };
    let decisions = StudyDecisions {
        study: obeyed.study.clone(),
        verdicts: Vec::new(),
        notes: vec![
            decided(&obeyed, NoteState::Obeyed, &listed),
            decided(&refused, NoteState::Refused, &[]),
        ],
        resolved: Vec::new(),
    };
    for _ in 0..2 {
        catalogue.rebuild_decide(&decisions, &|_| None).await.unwrap();
    }
    assert_eq!(catalogue.rejections_waiting(node(1), 10).await.unwrap().len(), 0);
    let on_record = catalogue.rejection(&obeyed.sop_instance).await.unwrap();
    assert_eq!(
        (on_record[0].state, on_record[0].listed, on_record[0].actor.as_str()),
        (NoteState::Obeyed, 2, "")
    );
    assert_eq!(
        catalogue.rejection(&refused.sop_instance).await.unwrap()[0].state,
        NoteState::Refused
    );
    assert!(
        matches!(store(&catalogue, &coming).await, Outcome::Withdrawn { .. }),
        "what it lists and comes later"
    );
    let effect = catalogue.undo_note(&obeyed.sop_instance, "admin", tick()).await.unwrap().unwrap();
    assert_eq!((effect.listed, effect.changed), (2, 2));
    database.counts_are_right().await;
}

pub(crate) async fn what_the_journal_said_of_a_file_is_kept_until_it_is_found(database: Database) {
    let catalogue = database.open().await;
    let (packed, loose) = (slice(1, 1, 1), slice(1, 1, 2));
    load(&catalogue, &[part(None, vec![rebuilt(&packed, ServingState::Served)])]).await;
    let said = Verdict {
        sha256: Some(bytes("received")),
        reason: "rot".to_owned(),
        ..verdict(Some(ServingState::Quarantined))
    };
    let decisions = StudyDecisions {
        study: packed.study.clone(),
        verdicts: vec![(packed.object, said.clone()), (loose.object, said.clone())],
        notes: Vec::new(),
        resolved: Vec::new(),
    };
    catalogue.rebuild_decide(&decisions, &|_| None).await.unwrap();
    let ids: Vec<ObjectId> = vec![packed.object, loose.object];
    let kept = catalogue.rebuild_verdicts(&ids).await.unwrap();
    assert_eq!(kept.len(), 1, "what is on record is as it should be");
    assert_eq!(kept[&loose.object], said);
    let mut found = rebuilt(&loose, ServingState::Quarantined);
    (found.place, found.hot) = (None, Some(HotFile::Rotten));
    let mut files = part(None, vec![found]);
    files.packs.clear();
    load(&catalogue, &[files]).await;
    assert_eq!(database.text("SELECT state FROM hot_copies").await, "rotten");
    assert_eq!(
        database.text("SELECT state FROM series_nodes").await,
        "evicted",
        "a rotten file is never packed"
    );
    database.counts_are_right().await;
}

pub(crate) async fn a_node_that_was_never_swept_is_told_apart(database: Database) {
    let catalogue = database.open().await;
    let slices: Vec<Arrival> = (1..=2).map(|n| slice(1, 1, n)).collect();
    let objects = slices.iter().map(|arrival| rebuilt(arrival, ServingState::Served)).collect();
    load(&catalogue, &[part(None, objects)]).await;
    assert!(!catalogue.is_swept(node(1)).await.unwrap());
    let files: Vec<FoundFile> = slices
        .iter()
        .map(|arrival| FoundFile {
            object: arrival.object,
            written_at: tick(),
        })
        .collect();
    for _ in 0..2 {
        catalogue.found_files(node(1), &files).await.unwrap();
    }
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.of_node.hot_objects, counts.of_node.hot_bytes), (2, 2000));
    assert_eq!(catalogue.recalled_bytes(node(1)).await.unwrap(), 0);
    assert_eq!(database.text("SELECT state FROM series_nodes").await, "packed");
    catalogue.swept(node(1), tick()).await.unwrap();
    assert!(catalogue.is_swept(node(1)).await.unwrap() && !catalogue.is_swept(node(2)).await.unwrap());
    let candidates = catalogue
        .eviction_candidates(node(1), tick(), None, filmroom_index::catalogue::Evictable::Readable, 10)
        .await
        .unwrap();
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].packs[0].3, Some(u64::MAX - 7));
    database.counts_are_right().await;
}

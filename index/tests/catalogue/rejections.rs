//! Rejection notes: what they take out of service, whenever they come, and how it comes back.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use filmroom_index::catalogue::{Arrival, Catalogue, JOURNAL_VERSION, NoteEffect, NoteState, Outcome};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{ServingState, Uid};
use filmroom_index::rejection::{Listed, Note, Rejection};

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all};

/// The object of a note: a Key Object Selection titled with a code, in series 99 of a study.
pub(crate) fn note(study: u32, number: u32, code: &str) -> Arrival {
    let mut name = DataSet::new();
    name.put_text(tags::CODE_VALUE, VR::SH, code);
    name.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM");
    let mut arrival = slice(study, 99, number).with(tags::MODALITY, VR::CS, "KO");
    arrival.sop_class = uid(uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE);
    arrival
        .header
        .attributes
        .put(tags::CONCEPT_NAME_CODE_SEQUENCE, VR::SQ, Value::Items(vec![name]));
    arrival
}

/// What is read in a note that lists some objects.
pub(crate) fn listing(rejection: Rejection, objects: &[&Arrival]) -> Note {
    let listed = objects.iter().map(|object| Listed {
        study: object.study.clone(),
        series: object.series.clone(),
        sop_instance: object.sop_instance.clone(),
    });
    Note {
        rejection,
        listed: listed.collect(),
    }
}

async fn obey(catalogue: &Catalogue, note: &Arrival, rejection: Rejection, objects: &[&Arrival]) -> Option<NoteEffect> {
    catalogue.obey(note.object, &listing(rejection, objects), tick()).await.unwrap()
}

async fn state(catalogue: &Catalogue, object: &Arrival) -> ServingState {
    catalogue.known_objects(node(1), &[object.object]).await.unwrap()[&object.object].state
}

async fn withdrawn(catalogue: &Catalogue) -> u64 {
    catalogue.counts(node(1)).await.unwrap().instances
}

fn effect(listed: u64, changed: u64, kept: u64) -> Option<NoteEffect> {
    Some(NoteEffect { listed, changed, kept })
}

pub(crate) async fn a_note_takes_what_it_lists_out_of_service_and_nothing_else(database: Database) {
    let catalogue = database.open().await;
    let (ct, mr, kept) = (slice(1, 1, 1), slice(1, 2, 1).with(tags::MODALITY, VR::CS, "MR"), slice(1, 1, 2));
    let elsewhere = slice(2, 1, 1);
    let note = note(1, 1, "113037");
    store_all(&catalogue, &[ct.clone(), mr.clone(), kept.clone(), elsewhere.clone()]).await;
    assert_eq!(store(&catalogue, &note).await, Outcome::Served);
    let waiting = catalogue.rejections_waiting(node(1), 10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].object, waiting[0].applied), (1, note.object, false));
    assert_eq!(
        catalogue.rejections_waiting(node(2), 10).await.unwrap(),
        [],
        "it lies on another node"
    );
    // One instance is in another study than the note says, one is not here.
    let mut moved = elsewhere.clone();
    moved.study = ct.study.clone();
    let content = [&ct, &mr, &moved, &slice(1, 1, 9)];
    assert_eq!(obey(&catalogue, &note, Rejection::PatientSafety, &content).await, effect(4, 2, 0));
    assert_eq!(state(&catalogue, &ct).await, ServingState::Rejected);
    assert_eq!(state(&catalogue, &mr).await, ServingState::Rejected);
    assert_eq!(state(&catalogue, &kept).await, ServingState::Served);
    assert_eq!(state(&catalogue, &elsewhere).await, ServingState::Served);
    database.counts_are_right().await;
    let study = &catalogue.studies(node(1), None, 10).await.unwrap()[1];
    assert_eq!((study.instances, study.series), (2, 2));
    assert_eq!(study.modalities, ["CT", "KO"]);
    assert!(catalogue.rejections_waiting(node(1), 10).await.unwrap().is_empty());
    assert_eq!(
        obey(&catalogue, &note, Rejection::PatientSafety, &content).await,
        None,
        "once is enough"
    );
    let on_record = &catalogue.rejections(10).await.unwrap()[0];
    assert_eq!((on_record.state, on_record.listed), (NoteState::Obeyed, 4));
    assert_eq!(on_record.rejection, Some(Rejection::PatientSafety));
    let items = catalogue.rejection_items(note.object, None, 10).await.unwrap();
    let states: Vec<Option<ServingState>> = items.iter().map(|item| item.state).collect();
    assert_eq!(
        states,
        [Some(ServingState::Rejected), None, Some(ServingState::Rejected), None],
        "{items:?}"
    );
    let next = catalogue
        .rejection_items(note.object, Some((&items[1].study, &items[1].sop_instance)), 10)
        .await
        .unwrap();
    assert_eq!(next, items[2..]);
}

pub(crate) async fn a_note_is_journalled_by_study_and_audited(database: Database) {
    let catalogue = database.open().await;
    let slices: Vec<Arrival> = (1..=3).map(|n| slice(1, 1, n)).chain([slice(2, 1, 1)]).collect();
    let note = note(1, 1, "113001");
    store_all(&catalogue, &slices).await;
    store(&catalogue, &note).await;
    offload(&catalogue).await;
    let all: Vec<&Arrival> = slices.iter().collect();
    obey(&catalogue, &note, Rejection::Quality, &all).await;
    let entries = catalogue.journal_pending(10).await.unwrap();
    let bodies: Vec<serde_json::Value> = entries.iter().map(|entry| serde_json::from_str(&entry.body).unwrap()).collect();
    assert_eq!(
        entries
            .iter()
            .flat_map(|entry| &entry.study_uid)
            .map(Uid::as_str)
            .collect::<Vec<_>>(),
        ["1.2.1", "1.2.2"]
    );
    for body in &bodies {
        assert_eq!(
            (&body["action"], &body["code"], &body["version"]),
            (&"rejected".into(), &"113001".into(), &JOURNAL_VERSION.into())
        );
        assert_eq!(body["note"], note.sop_instance.as_str());
    }
    let objects: Vec<&str> = bodies[0]["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["sop_instance"].as_str().unwrap())
        .collect();
    assert_eq!(objects, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]);
    let audited = "SELECT count(*) FROM audit WHERE action = 'rejected' AND actor = 'CT1' AND patient_id = 'P1'";
    assert_eq!(database.number(audited).await, 2);
    // A note of nothing that is here is in force all the same, and the journal says so.
    let early = note_of(9);
    store(&catalogue, &early).await;
    obey(&catalogue, &early, Rejection::Quality, &[&slice(8, 1, 1)]).await;
    let last = catalogue.journal_pending(10).await.unwrap().pop().unwrap();
    assert_eq!(last.study_uid, Some(early.study));
    assert!(last.body.contains("\"objects\":[]"), "{}", last.body);
}

fn note_of(study: u32) -> Arrival {
    note(study, 1, "113001")
}

pub(crate) async fn what_a_note_lists_and_comes_later_is_withheld_and_kept(database: Database) {
    let catalogue = database.open().await;
    let (listed, other) = (slice(1, 1, 1), slice(1, 1, 2));
    let note = note(1, 1, "113038");
    store(&catalogue, &note).await;
    obey(&catalogue, &note, Rejection::WorklistEntry, &[&listed]).await;
    let reason = "113038 Incorrect Modality Worklist Entry".to_owned();
    let withheld = Outcome::Withdrawn { reason: reason.clone() };
    assert_eq!(
        store_all(&catalogue, &[listed.clone(), other]).await,
        [withheld.clone(), Outcome::Served]
    );
    assert_eq!(store(&catalogue, &listed).await, withheld, "the same object stays what it is");
    assert_eq!(state(&catalogue, &listed).await, ServingState::Rejected);
    assert_eq!(withdrawn(&catalogue).await, 2);
    database.counts_are_right().await;
    // The same bytes again are refused and not kept twice; other bytes wait for a person; in another study it is taken.
    assert_eq!(
        store(&catalogue, &listed.clone().again()).await,
        Outcome::Rejected { reason: reason.clone() }
    );
    let other_bytes = listed.clone().again().with_bytes("corrected");
    assert_eq!(store(&catalogue, &other_bytes).await, Outcome::Quarantined { reason });
    let mut elsewhere = listed.clone().again().with_bytes("elsewhere");
    elsewhere.study = uid("1.2.7");
    assert!(matches!(store(&catalogue, &elsewhere).await, Outcome::Quarantined { .. }));
    assert_eq!(withdrawn(&catalogue).await, 2);
    // It goes to the cold store as what it is.
    offload(&catalogue).await;
    assert_eq!(database.number("SELECT count(*) FROM packs WHERE serving = 'rejected'").await, 1);
    // A person may take the other bytes all the same, and the note does not take them back.
    assert!(catalogue.accept(other_bytes.object, &|_| None, "admin", tick()).await.unwrap());
    assert_eq!(withdrawn(&catalogue).await, 3);
    database.counts_are_right().await;
}

pub(crate) async fn a_resend_of_what_was_withdrawn_stays_out_of_service(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let note = note(1, 1, "113039");
    store_all(&catalogue, &[first.clone(), note.clone()]).await;
    obey(&catalogue, &note, Rejection::RetentionExpired, &[&first]).await;
    assert!(matches!(store(&catalogue, &first.clone().again()).await, Outcome::Rejected { .. }));
    let corrected = first.clone().again().with_bytes("corrected");
    assert!(matches!(store(&catalogue, &corrected).await, Outcome::Quarantined { .. }));
    assert_eq!(withdrawn(&catalogue).await, 0);
    database.counts_are_right().await;
}

pub(crate) async fn an_undone_note_gives_back_exactly_what_it_withdrew(database: Database) {
    let catalogue = database.open().await;
    let slices: Vec<Arrival> = (1..=3).map(|n| slice(1, 1, n)).collect();
    let late = slice(1, 1, 4);
    store_all(&catalogue, &slices).await;
    catalogue.quarantine(slices[2].object, "before", tick()).await.unwrap();
    let (one, two) = (note(1, 1, "113037"), note(1, 2, "113001"));
    store_all(&catalogue, &[one.clone(), two.clone()]).await;
    obey(
        &catalogue,
        &one,
        Rejection::PatientSafety,
        &[&slices[0], &slices[1], &slices[2], &late],
    )
    .await;
    obey(&catalogue, &two, Rejection::Quality, &[&slices[1]]).await;
    store(&catalogue, &late).await;
    assert_eq!(withdrawn(&catalogue).await, 2);
    let undone = catalogue.undo_note(&one.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(undone, effect(4, 2, 1), "what came later comes into service, too");
    assert_eq!(state(&catalogue, &slices[0]).await, ServingState::Served);
    assert_eq!(
        state(&catalogue, &slices[1]).await,
        ServingState::Rejected,
        "the other note lists it"
    );
    assert_eq!(state(&catalogue, &slices[2]).await, ServingState::Quarantined);
    assert_eq!(state(&catalogue, &late).await, ServingState::Served);
    database.counts_are_right().await;
    assert_eq!(catalogue.undo_note(&one.sop_instance, "admin", tick()).await.unwrap(), None);
    let undone = catalogue.undo_note(&two.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(undone, effect(1, 1, 0));
    database.counts_are_right().await;
    let restored = "SELECT count(*) FROM audit WHERE action = 'restored' AND actor = 'admin'";
    assert_eq!(database.number(restored).await, 2);
    let last = catalogue.journal_pending(10).await.unwrap().pop().unwrap();
    assert!(last.body.contains("\"action\":\"restored\""), "{}", last.body);
    // A note that was undone may be applied again.
    let again = catalogue.apply_note(&one.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(again, Some(one.object));
    assert!(catalogue.rejections_waiting(node(1), 10).await.unwrap()[0].applied);
    let again = obey(
        &catalogue,
        &one,
        Rejection::PatientSafety,
        &[&slices[0], &slices[1], &slices[2], &late],
    )
    .await;
    assert_eq!(again, effect(4, 3, 0));
    database.counts_are_right().await;
}

pub(crate) async fn what_is_served_since_is_not_pushed_aside_by_an_undo(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let note = note(1, 1, "113037");
    store_all(&catalogue, &[first.clone(), note.clone()]).await;
    obey(&catalogue, &note, Rejection::PatientSafety, &[&first]).await;
    let corrected = first.clone().again().with_bytes("corrected");
    store(&catalogue, &corrected).await;
    assert!(catalogue.accept(corrected.object, &|_| None, "admin", tick()).await.unwrap());
    let undone = catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(undone, effect(1, 0, 1));
    assert_eq!(state(&catalogue, &corrected).await, ServingState::Served);
    assert_eq!(state(&catalogue, &first).await, ServingState::Rejected);
    database.counts_are_right().await;
}

pub(crate) async fn only_a_served_note_counts_and_notes_do_not_withdraw_notes(database: Database) {
    let catalogue = database.open().await;
    let image = slice(1, 1, 1);
    let (one, two) = (note(1, 1, "113037"), note(1, 2, "113037"));
    store_all(&catalogue, &[image.clone(), one.clone(), two.clone()]).await;
    catalogue.quarantine(one.object, "rotten", tick()).await.unwrap();
    assert_eq!(obey(&catalogue, &one, Rejection::PatientSafety, &[&image]).await, None);
    assert_eq!(state(&catalogue, &image).await, ServingState::Served);
    let refused = catalogue.rejection(&one.sop_instance).await.unwrap();
    assert_eq!(
        (refused[0].state, refused[0].reason.as_str()),
        (NoteState::Refused, "the note itself is not served")
    );
    assert_eq!(catalogue.apply_note(&one.sop_instance, "admin", tick()).await.unwrap(), None);
    // Each lists the other.
    catalogue.accept(one.object, &|_| None, "admin", tick()).await.unwrap();
    assert_eq!(
        catalogue.apply_note(&one.sop_instance, "admin", tick()).await.unwrap(),
        Some(one.object)
    );
    assert_eq!(
        obey(&catalogue, &one, Rejection::PatientSafety, &[&two, &one, &image]).await,
        effect(3, 1, 0)
    );
    assert_eq!(
        obey(&catalogue, &two, Rejection::PatientSafety, &[&one, &image]).await,
        effect(2, 0, 0)
    );
    assert_eq!(state(&catalogue, &one).await, ServingState::Served);
    assert_eq!(state(&catalogue, &two).await, ServingState::Served);
    // A note that is listed before it comes is served all the same.
    let three = note(1, 3, "113037");
    let four = note(1, 4, "113037");
    store(&catalogue, &four).await;
    obey(&catalogue, &four, Rejection::PatientSafety, &[&three]).await;
    assert_eq!(store(&catalogue, &three).await, Outcome::Served);
    database.counts_are_right().await;
}

pub(crate) async fn a_note_of_expired_data_hides_itself_too(database: Database) {
    let catalogue = database.open().await;
    let image = slice(1, 1, 1);
    let note = note(1, 1, "113039");
    store_all(&catalogue, &[image.clone(), note.clone()]).await;
    assert_eq!(
        obey(&catalogue, &note, Rejection::RetentionExpired, &[&image]).await,
        effect(1, 2, 0)
    );
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.studies, counts.instances), (0, 0, 0));
    database.counts_are_right().await;
    // Its sender had Success, and has it again.
    assert_eq!(
        store(&catalogue, &note.clone().again()).await,
        Outcome::Redundant { kept: note.object }
    );
    let undone = catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(undone, effect(1, 2, 0));
    assert_eq!(withdrawn(&catalogue).await, 2);
    database.counts_are_right().await;
}

pub(crate) async fn a_refused_note_is_an_object_like_any_other(database: Database) {
    let catalogue = database.open().await;
    let image = slice(1, 1, 1);
    let note = note(1, 1, "113037");
    store_all(&catalogue, &[image.clone(), note.clone()]).await;
    assert!(catalogue.refuse_note(note.object, "CT1 may not reject", tick()).await.unwrap());
    assert!(!catalogue.refuse_note(note.object, "again", tick()).await.unwrap());
    assert_eq!(obey(&catalogue, &note, Rejection::PatientSafety, &[&image]).await, None);
    assert_eq!(withdrawn(&catalogue).await, 2);
    assert_eq!(catalogue.rejections_refused().await.unwrap(), 1);
    assert_eq!(catalogue.rejections(10).await.unwrap()[0].reason, "CT1 may not reject");
    assert_eq!(
        database
            .number("SELECT count(*) FROM audit WHERE action = 'reject_refused' AND actor = 'CT1'")
            .await,
        1
    );
    assert_eq!(
        catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap(),
        None,
        "nothing is to be undone"
    );
    assert_eq!(
        catalogue.apply_note(&note.sop_instance, "admin", tick()).await.unwrap(),
        Some(note.object)
    );
    assert_eq!(obey(&catalogue, &note, Rejection::PatientSafety, &[&image]).await, effect(1, 1, 0));
    let audited = "SELECT count(*) FROM audit WHERE action = 'rejected' AND actor = 'admin'";
    assert_eq!(database.number(audited).await, 1, "the person is answerable");
    assert_eq!(catalogue.rejections_refused().await.unwrap(), 0);
}

pub(crate) async fn a_key_object_that_rejects_nothing_waits_for_nothing(database: Database) {
    let catalogue = database.open().await;
    let of_interest = note(1, 1, "113000");
    let mut long = note(1, 2, "113037");
    long.header.attributes.remove(tags::CONCEPT_NAME_CODE_SEQUENCE);
    long.header.partial = true;
    store_all(&catalogue, &[of_interest, long.clone()]).await;
    let waiting = catalogue.rejections_waiting(node(1), 10).await.unwrap();
    assert_eq!(waiting.len(), 1, "whose title is beyond what was kept has to be read");
    assert_eq!(catalogue.rejections(10).await.unwrap()[0].rejection, None);
    assert_eq!(catalogue.not_a_note(long.object).await.unwrap(), 1);
    assert_eq!(catalogue.rejections(10).await.unwrap(), []);
    let known = note(1, 3, "113037");
    store(&catalogue, &known).await;
    assert_eq!(catalogue.not_a_note(known.object).await.unwrap(), 0, "its title says what it is");
}

pub(crate) async fn notes_and_images_at_once_leave_nothing_served_that_is_listed(database: Database) {
    let notes: Vec<Arrival> = (1..=4).map(|n| note(1, n, "113037")).collect();
    let images: Vec<Arrival> = (1..=64).map(|n| slice(1 + n % 3, 1, n)).collect();
    let all: Vec<&Arrival> = images.iter().collect();
    let catalogue = database.open().await;
    store_all(&catalogue, &notes).await;
    let mut at_once = tokio::task::JoinSet::new();
    for (note, listed) in notes.iter().zip(all.chunks(16)) {
        let (catalogue, object, content) = (catalogue.clone(), note.object, listing(Rejection::PatientSafety, listed));
        at_once.spawn(async move { assert!(catalogue.obey(object, &content, tick()).await.unwrap().is_some()) });
    }
    for batch in images.chunks(8) {
        let (catalogue, batch) = (catalogue.clone(), batch.to_vec());
        at_once.spawn(async move { drop(store_all(&catalogue, &batch).await) });
    }
    at_once.join_all().await;
    assert_eq!(withdrawn(&catalogue).await, 4, "the notes alone are served");
    assert_eq!(database.number("SELECT count(*) FROM objects WHERE state = 'rejected'").await, 64);
    database.counts_are_right().await;
    for note in &notes {
        assert_eq!(
            catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap(),
            effect(16, 16, 0)
        );
    }
    assert_eq!(withdrawn(&catalogue).await, 68);
    database.counts_are_right().await;
}

pub(crate) async fn a_note_of_five_thousand_instances_is_one_transition(database: Database) {
    let catalogue = database.open().await;
    let images: Vec<Arrival> = (1..=5000).map(|n| slice(1, 1 + n % 7, n)).collect();
    for batch in images.chunks(250) {
        store_all(&catalogue, batch).await;
    }
    let note = note(1, 1, "113037");
    store(&catalogue, &note).await;
    let all: Vec<&Arrival> = images.iter().collect();
    let started = std::time::Instant::now();
    assert_eq!(obey(&catalogue, &note, Rejection::PatientSafety, &all).await, effect(5000, 5000, 0));
    let obeyed = started.elapsed();
    assert_eq!(withdrawn(&catalogue).await, 1);
    assert_eq!(catalogue.journal_pending(100).await.unwrap().len(), 10, "entries are bounded");
    assert_eq!(
        catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap(),
        effect(5000, 5000, 0)
    );
    println!("obeyed in {obeyed:?}, undone in {:?}", started.elapsed() - obeyed);
    database.counts_are_right().await;
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

pub(crate) async fn conflicts_are_listed_until_a_person_resolves_them(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let other = |n| slice(2, 1, n).with(tags::PATIENT_NAME, VR::PN, "Maier^Hans");
    store(&catalogue, &other(1)).await;
    let open = catalogue.conflicts(false, 10).await.unwrap();
    assert_eq!(open.len(), 1);
    let conflict = &open[0];
    assert_eq!((conflict.kind.as_str(), conflict.patient_id.as_str()), ("name", "P1"));
    assert_eq!(
        (conflict.on_record.as_str(), conflict.arrived.as_str()),
        ("Müller^Jürgen", "Maier^Hans")
    );
    assert!(catalogue.resolve_conflict(conflict.id, "admin", tick()).await.unwrap());
    assert!(!catalogue.resolve_conflict(conflict.id, "admin", tick()).await.unwrap());
    assert!(!catalogue.resolve_conflict(conflict.id + 1, "admin", tick()).await.unwrap());
    assert_eq!(catalogue.conflicts(false, 10).await.unwrap(), []);
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap().len(), 1);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().conflicts, 0);
    // More of the same study says nothing new.
    store(&catalogue, &other(2)).await;
    assert_eq!(catalogue.conflicts(false, 10).await.unwrap(), []);
    assert_eq!(
        database
            .number("SELECT count(*) FROM audit WHERE action = 'resolved' AND actor = 'admin'")
            .await,
        1
    );
}

/// Of all that is listed here.
pub(crate) async fn a_note_that_is_not_there_changes_nothing(database: Database) {
    let catalogue = database.open().await;
    let nothing: Uid = uid("1.9");
    assert_eq!(catalogue.undo_note(&nothing, "admin", tick()).await.unwrap(), None);
    assert_eq!(catalogue.apply_note(&nothing, "admin", tick()).await.unwrap(), None);
    assert_eq!(catalogue.rejection(&nothing).await.unwrap(), []);
    assert_eq!(obey(&catalogue, &note_of(1), Rejection::Quality, &[&slice(1, 1, 1)]).await, None);
    assert!(!catalogue.refuse_note(note_of(1).object, "?", tick()).await.unwrap());
    assert_eq!(catalogue.journal_pending(10).await.unwrap(), []);
}

pub(crate) async fn a_note_alone_does_not_keep_a_study_with_the_wrong_patient(database: Database) {
    let catalogue = database.open().await;
    let wrong = slice(1, 1, 1);
    let note = note(1, 1, "113038");
    store_all(&catalogue, &[wrong.clone(), note.clone()]).await;
    obey(&catalogue, &note, Rejection::WorklistEntry, &[&wrong]).await;
    let right = |n| slice(1, 2, n).with(tags::PATIENT_ID, VR::LO, "P2");
    assert_eq!(
        store_all(&catalogue, &[right(1), right(2)]).await,
        [Outcome::Served, Outcome::Served]
    );
    assert_eq!(catalogue.conflicts(true, 10).await.unwrap(), []);
    assert_eq!(catalogue.studies(node(1), Some("P1"), 10).await.unwrap(), []);
    assert_eq!(catalogue.studies(node(1), Some("P2"), 10).await.unwrap()[0].instances, 3);
    database.counts_are_right().await;
    // What comes back by an undo is a conflict of two patients no sooner than it says so.
    catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(withdrawn(&catalogue).await, 4);
    database.counts_are_right().await;
}

pub(crate) async fn a_note_that_a_person_accepts_waits_to_be_obeyed(database: Database) {
    let catalogue = database.open().await;
    let note = note(1, 1, "113037");
    let other = note.clone().again().with_bytes("other").sent_by("PACS2");
    assert_eq!(store(&catalogue, &note).await, Outcome::Served);
    obey(&catalogue, &note, Rejection::PatientSafety, &[&slice(1, 1, 1)]).await;
    assert!(matches!(store(&catalogue, &other).await, Outcome::Quarantined { .. }));
    assert_eq!(
        catalogue.rejections_waiting(node(1), 10).await.unwrap(),
        [],
        "a quarantined note does nothing"
    );
    assert!(catalogue.accept(other.object, &|_| None, "admin", tick()).await.unwrap());
    assert_eq!(catalogue.rejections_waiting(node(1), 10).await.unwrap()[0].object, other.object);
    obey(&catalogue, &other, Rejection::PatientSafety, &[&slice(1, 1, 2)]).await;
    // Both versions are in force until a person undoes the note.
    for n in 1..=2 {
        assert!(matches!(store(&catalogue, &slice(1, 1, n)).await, Outcome::Withdrawn { .. }));
    }
    let undone = catalogue.undo_note(&note.sop_instance, "admin", tick()).await.unwrap();
    assert_eq!(undone, effect(2, 2, 0));
    database.counts_are_right().await;
}

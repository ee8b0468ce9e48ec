use filmroom_index::catalogue::JOURNAL_VERSION;
use filmroom_index::model::Digest;
use serde_json::{Value as Json, json};

use super::*;

fn id(number: u128) -> ObjectId {
    ObjectId(Uuid::from_u128(number))
}

/// An entry made in a minute of the same hour.
fn entry(minute: u32, action: &str, more: Json) -> Entry {
    let mut body = json!({
        "version": JOURNAL_VERSION, "id": Uuid::from_u128(u128::from(minute)), "at": format!("2026-11-24T08:{minute:02}:00.5Z"), "action": action,
        "study": "1.2", "reason": "", "actor": "admin",
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parse(body.to_string().as_bytes()).unwrap()
}

fn about(object: u128) -> Json {
    json!({ "object": id(object) })
}

fn note(minute: u32, action: &str, objects: &[u128]) -> Entry {
    let objects: Vec<Json> = objects.iter().map(|object| about(*object)).collect();
    entry(
        minute,
        action,
        json!({ "note": "1.9", "note_object": id(99), "code": "113001", "objects": objects }),
    )
}

fn state(decided: &Decided, object: u128) -> Option<ServingState> {
    decided.verdicts[&id(object)].state
}

#[test]
fn the_last_entry_about_an_object_says_what_it_is_in_whatever_order_they_come() {
    let entries = || {
        vec![
            entry(
                1,
                "quarantined",
                json!({ "object": id(1), "reason": "rot", "sha256": "01".repeat(32) }),
            ),
            entry(2, "accepted", about(1)),
            entry(3, "superseded", json!({ "object": id(1), "counterpart": id(2) })),
            entry(4, "quarantined", about(3)),
            entry(5, "discarded", json!({ "object": id(3), "reason": "wrong" })),
        ]
    };
    let mut backwards = entries();
    backwards.reverse();
    for entries in [entries(), backwards] {
        let decided = replay(entries);
        assert_eq!(state(&decided, 1), Some(ServingState::Superseded));
        assert!(!decided.verdicts[&id(1)].accepted);
        assert_eq!(
            decided.verdicts[&id(2)].counterpart,
            Some(id(1)),
            "who superseded it is served, unless anything else is said of it"
        );
        assert_eq!(state(&decided, 2), None);
        assert!(decided.verdicts[&id(2)].describes());
        assert_eq!(state(&decided, 3), Some(ServingState::Deleted));
        assert_eq!(
            (decided.verdicts[&id(3)].reason.as_str(), decided.verdicts[&id(3)].counterpart),
            ("wrong", None)
        );
    }
}

#[test]
fn what_a_note_withdrew_comes_back_only_when_it_is_undone() {
    let decided = replay(vec![note(1, "rejected", &[1, 2]), note(1, "rejected", &[3])]);
    assert_eq!(state(&decided, 3), Some(ServingState::Rejected));
    assert_eq!(decided.verdicts[&id(1)].reason, "113001 Rejected for Quality Reasons");
    assert_eq!(decided.notes[&id(99)].state, NoteState::Obeyed);
    let undone = replay(vec![note(1, "rejected", &[1, 2]), note(2, "restored", &[1])]);
    assert_eq!(
        (state(&undone, 1), state(&undone, 2)),
        (Some(ServingState::Served), Some(ServingState::Rejected))
    );
    assert_eq!(
        (undone.verdicts[&id(1)].reason.as_str(), undone.notes[&id(99)].state),
        ("", NoteState::Undone)
    );
    let again = replay(vec![
        note(1, "rejected", &[1]),
        note(2, "restored", &[1]),
        note(3, "rejected", &[1]),
    ]);
    assert_eq!(
        (state(&again, 1), again.notes[&id(99)].state),
        (Some(ServingState::Rejected), NoteState::Obeyed)
    );
    let refused = replay(vec![note(1, "refused", &[])]);
    assert_eq!((refused.notes[&id(99)].state, refused.verdicts.len()), (NoteState::Refused, 0));
}

#[test]
fn what_a_long_note_lists_is_put_together() {
    let listed = |n: u32| json!({ "note_object": id(99), "code": "113001", "listed": [{ "study": "1.2", "series": "1.3", "sop_instance": format!("1.4.{n}") }] });
    let decided = replay(vec![
        note(1, "rejected", &[]),
        entry(2, "listed", listed(1)),
        entry(2, "listed", listed(2)),
    ]);
    let note = &decided.notes[&id(99)];
    assert_eq!(
        (note.listed.len(), note.state, note.actor.as_str()),
        (2, NoteState::Obeyed, "admin")
    );
}

#[test]
fn a_discarded_object_in_no_pack_leaves_a_tombstone() {
    let instance = json!({
        "sop_class": "1.2", "transfer_syntax": "1.3", "sha256": "02".repeat(32), "crc32": 7, "length": 8, "received_at": 9, "source": "CT1",
        "header": {"00080060": {"vr": "CS", "Value": ["CT"]}}, "partial": false,
    });
    let decided = replay(vec![entry(
        1,
        "discarded",
        json!({ "object": id(1), "series": "1.3", "sop_instance": "1.4", "instance": instance }),
    )]);
    let tombstone = &decided.tombstones[0];
    assert_eq!((tombstone.object, tombstone.sha256, tombstone.length), (id(1), Digest([2; 32]), 8));
    assert_eq!(tombstone.header.attributes.text(dicom_dictionary_std::tags::MODALITY), Some("CT"));
}

#[test]
fn a_resolved_conflict_is_read() {
    let more = json!({ "kind": "name", "on_record": "A", "arrived": "B", "source": "CT1", "found_at": "2026-11-24T07:00:00Z" });
    let decided = replay(vec![entry(1, "resolved", more)]);
    assert_eq!(
        (decided.resolved[0].kind.as_str(), decided.resolved[0].arrived.as_str()),
        ("name", "B")
    );
    assert!(decided.resolved[0].found_at < decided.resolved[0].resolved_at);
}

#[test]
fn what_is_not_understood_is_an_error_and_not_passed_over() {
    let text = |body: Json| parse(body.to_string().as_bytes());
    let id = Uuid::from_u128(1);
    assert!(matches!(parse(b"{"), Err(EntryError::Shape(_))));
    assert!(matches!(
        text(json!({ "version": JOURNAL_VERSION + 1 })),
        Err(EntryError::Version(_))
    ));
    let known = |action: &str, at: &str| json!({ "version": 1, "id": id, "at": at, "action": action, "object": id });
    assert!(matches!(text(known("melted", "2026-11-24T08:00:00Z")), Err(EntryError::Action(_))));
    assert!(matches!(
        text(known("superseded", "2026-11-24T08:00:00Z")),
        Err(EntryError::Lacks(_))
    ));
    assert!(matches!(text(known("accepted", "yesterday")), Err(EntryError::Lacks(_))));
    assert!(text(known("accepted", "2026-11-24T08:00:00.123456Z")).is_ok(), "version 1 is read");
}

fn deletion(minute: u32, action: &str, number: u128, objects: &[u128]) -> Entry {
    let objects: Vec<Json> = objects
        .iter()
        .map(|object| json!({ "object": id(*object), "series": "1.3", "sop_instance": format!("1.4.{object}"), "refused": true }))
        .collect();
    entry(
        minute,
        action,
        json!({
            "deletion": Uuid::from_u128(number), "level": "study", "subject": "1.2", "subject_study": "1.2", "despite": "",
            "asked": "2026-11-24T08:00:00Z", "due": "2026-12-24T08:00:00Z", "objects": objects,
        }),
    )
}

#[test]
fn what_is_deleted_keeps_what_it_was_until_every_deletion_of_it_is_taken_back() {
    let decided = replay(vec![
        entry(1, "quarantined", json!({ "object": id(2), "reason": "rot" })),
        deletion(2, "deleted", 7, &[1, 2]),
        deletion(3, "deleted", 8, &[2, 3]),
        deletion(4, "taken_back", 7, &[]),
        deletion(5, "lifted", 8, &[]),
    ]);
    let under = |object: u128| decided.verdicts[&id(object)].deletion;
    assert_eq!(
        (under(1), under(2), under(3)),
        (None, Some(Uuid::from_u128(8)), Some(Uuid::from_u128(8)))
    );
    assert_eq!((state(&decided, 1), state(&decided, 2)), (None, Some(ServingState::Quarantined)));
    let (first, second) = (&decided.deletions[&Uuid::from_u128(7)], &decided.deletions[&Uuid::from_u128(8)]);
    assert!(first.taken_back.is_some() && first.lifted.is_none());
    assert!(second.taken_back.is_none() && second.lifted.is_some());
    assert_eq!((first.refused.len(), first.objects, first.actor.as_str()), (2, 2, "admin"));
    assert!(parse(br#"{"version":3,"id":"00000000-0000-0000-0000-000000000001","at":"2026-11-24T08:00:00Z","action":"deleted"}"#).is_err());
}

#[test]
fn digests_that_were_learnt_say_nothing_else_of_an_object() {
    let learnt = json!({ "objects": [{ "object": id(1), "sha256": "0a".repeat(32), "crc32": 7 }, { "object": id(2), "sha256": "0b".repeat(32), "crc32": 8 }] });
    let decided = replay(vec![entry(1, "learnt", learnt), entry(2, "quarantined", about(2))]);
    assert_eq!(decided.digests[&id(1)], (Digest([10; 32]), 7));
    assert_eq!(decided.digests[&id(2)].1, 8);
    assert!(!decided.verdicts.contains_key(&id(1)));
    assert_eq!(state(&decided, 2), Some(ServingState::Quarantined));
}

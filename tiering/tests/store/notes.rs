//! Rejection notes: what one of them does not keep the others from.

use std::time::Duration;

use filmroom_index::catalogue::{NoteState, Outcome, RejectionNote};
use filmroom_index::model::{AeTitle, Uid};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::node::{CT_IMAGE, Node, Object, Slice, open_with, settings};

const KEY_OBJECT: &str = "1.2.840.10008.5.1.4.1.1.88.59";

fn element(group: u16, element: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let mut bytes = [group.to_le_bytes(), element.to_le_bytes()].concat();
    bytes.extend_from_slice(vr.as_bytes());
    if vr == "SQ" {
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    [bytes, value].concat()
}

/// A sequence of one item.
fn sequence(group: u16, number: u16, item: &[Vec<u8>]) -> Vec<u8> {
    let item = item.concat();
    let length = u32::try_from(item.len()).unwrap().to_le_bytes();
    let value = [&[0xfe, 0xff, 0x00, 0xe0], length.as_slice(), item.as_slice()].concat();
    element(group, number, "SQ", &value)
}

/// A Key Object Selection with a title that lists one image.
fn note(instance: &str, code: &str, image: &Slice) -> Object {
    let data_set = [
        element(0x0008, 0x0016, "UI", KEY_OBJECT.as_bytes()),
        element(0x0008, 0x0018, "UI", instance.as_bytes()),
        element(0x0008, 0x0060, "CS", b"KO"),
        element(0x0010, 0x0010, "PN", b"Somebody^Else"),
        element(0x0010, 0x0020, "LO", image.patient.as_bytes()),
        element(0x0020, 0x000d, "UI", image.study.as_bytes()),
        element(0x0020, 0x000e, "UI", b"2.25.299"),
        sequence(
            0x0040,
            0xa043,
            &[
                element(0x0008, 0x0100, "SH", code.as_bytes()),
                element(0x0008, 0x0102, "SH", b"DCM"),
                element(0x0008, 0x0104, "LO", b"Title"),
            ],
        ),
        sequence(
            0x0040,
            0xa375,
            &[
                sequence(
                    0x0008,
                    0x1115,
                    &[
                        sequence(
                            0x0008,
                            0x1199,
                            &[
                                element(0x0008, 0x1150, "UI", CT_IMAGE.as_bytes()),
                                element(0x0008, 0x1155, "UI", image.instance.as_bytes()),
                            ],
                        ),
                        element(0x0020, 0x000e, "UI", image.series.as_bytes()),
                    ],
                ),
                element(0x0020, 0x000d, "UI", image.study.as_bytes()),
            ],
        ),
    ];
    let mut object = image.object();
    object.meta.sop_class = Uid::parse(KEY_OBJECT).unwrap();
    object.meta.sop_instance = Uid::parse(instance).unwrap();
    object.data_set = data_set.concat();
    object
}

/// A node to which CT1 may send rejection notes.
async fn start() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.senders.may_reject = vec![AeTitle::parse("CT1").unwrap()];
    let archive = open_with(settings).await.unwrap();
    Node { dir, archive }
}

/// Runs SQL behind the catalogue's back.
async fn run(node: &Node, sql: &str) {
    let url = format!("sqlite:{}", node.data("catalogue.db").display());
    let options = url.parse::<sqlx::sqlite::SqliteConnectOptions>().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The oldest version of a note.
async fn on_record(node: &Node, note: &Object) -> RejectionNote {
    let mut versions = node.archive.catalogue().rejection(&note.meta.sop_instance).await.unwrap();
    versions.pop().unwrap()
}

#[tokio::test]
async fn a_waiting_note_of_which_another_version_is_served_is_refused() {
    let node = start().await;
    let image = Slice::new("2.25.1");
    node.store(&image.object()).await.unwrap();
    let first = note("2.25.91", "113037", &Slice::new("2.25.5"));
    node.store(&first).await.unwrap();
    assert_eq!(on_record(&node, &first).await.state, NoteState::Obeyed);
    // As if the node had stopped before it was obeyed. Its correction rejects nothing.
    run(&node, "DELETE FROM rejection_items; UPDATE rejections SET state = 'waiting'").await;
    let corrected = note("2.25.91", "113000", &image);
    let outcome = tokio::time::timeout(Duration::from_secs(10), node.store(&corrected))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(outcome, Outcome::Corrected { .. }), "{outcome:?}");
    let refused = on_record(&node, &first).await;
    assert_eq!(
        (refused.state, refused.reason.as_str()),
        (NoteState::Refused, "another version of the note is served")
    );
    // Those that come later are obeyed.
    node.store(&note("2.25.92", "113037", &image)).await.unwrap();
    assert_eq!(node.served(&image.object().meta.sop_instance).await, None);
}

#[tokio::test]
async fn a_note_that_the_catalogue_fails_on_keeps_no_other_out_of_force() {
    let node = start().await;
    let (kept, image) = (Slice::new("2.25.1"), Slice::new("2.25.2"));
    for slice in [&kept, &image] {
        node.store(&slice.object()).await.unwrap();
    }
    run(
        &node,
        "CREATE TRIGGER broken BEFORE UPDATE ON rejections WHEN OLD.note_uid = '2.25.91' BEGIN SELECT RAISE(ABORT, 'broken'); END",
    )
    .await;
    let (broken, good) = (note("2.25.91", "113037", &kept), note("2.25.92", "113037", &image));
    for note in [&broken, &good] {
        let outcome = tokio::time::timeout(Duration::from_secs(10), node.store(note)).await.unwrap();
        assert_eq!(outcome.unwrap(), Outcome::Served);
    }
    assert_eq!(on_record(&node, &broken).await.state, NoteState::Waiting);
    assert_eq!(on_record(&node, &good).await.state, NoteState::Obeyed);
    assert_eq!(node.served(&image.object().meta.sop_instance).await, None);
    // What was wrong is put right: it waited for that.
    run(&node, "DROP TRIGGER broken").await;
    node.store(&note("2.25.93", "113037", &image)).await.unwrap();
    assert_eq!(on_record(&node, &broken).await.state, NoteState::Obeyed);
    assert_eq!(node.served(&kept.object().meta.sop_instance).await, None);
}

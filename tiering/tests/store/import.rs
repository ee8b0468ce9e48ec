//! Files from elsewhere.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use filmroom_index::catalogue::Outcome;
use filmroom_index::model::Uid;
use filmroom_index::part10::PrefaceError;
use filmroom_tiering::StoreError;
use filmroom_tiering::import::{ImportError, ImportErrorKind, Imported, Member, Terms};

use crate::node::{Node, Slice, fixture, fixture_path, sender};

impl Node {
    async fn import(&self, path: &Path, member: Option<&Member>, link: bool) -> Result<Imported, ImportError> {
        let terms = Terms {
            sender: sender("FILMROOM"),
            user: "",
            link,
        };
        self.archive.import(path, member, terms).await
    }
}

#[tokio::test]
async fn an_imported_file_is_served_with_the_bytes_of_its_data_set() {
    let node = Node::start().await;
    let object = fixture("ct/CT_small.dcm");
    let imported = node.import(&fixture_path("ct/CT_small.dcm"), None, false).await.unwrap();
    assert_eq!(
        (&imported.sop_instance, imported.outcome),
        (&object.meta.sop_instance, Outcome::Served)
    );
    assert!(imported.notes.is_empty());
    assert!(node.served(&imported.sop_instance).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn a_linked_file_is_the_same_inode_and_is_served_with_the_bytes_of_its_data_set() {
    let node = Node::start().await;
    let object = fixture("ct/CT_small.dcm");
    // Beside the data directory: on the same file system.
    let source = node.data("original.dcm");
    std::fs::copy(fixture_path("ct/CT_small.dcm"), &source).unwrap();
    let imported = node.import(&source, None, true).await.unwrap();
    assert_eq!((imported.outcome, imported.not_linked), (Outcome::Served, None));
    let hot = node.hot_files();
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!((hot.len(), inode(&hot[0])), (1, inode(&source)));
    assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);

    // The same file again is redundant, and the archive keeps no further name of it.
    let again = node.import(&source, None, true).await.unwrap();
    assert!(matches!(again.outcome, Outcome::Redundant { .. }));
    node.expect_incoming(0).await;
    assert_eq!(std::fs::metadata(&source).unwrap().nlink(), 2);

    // Whoever deletes the original takes nothing away.
    std::fs::remove_file(&source).unwrap();
    let node = node.restart(|_| {}).await;
    assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn what_cannot_be_linked_is_copied_and_says_why() {
    let node = Node::start().await;
    let source = node.data("original.dcm");
    std::fs::copy(fixture_path("ct/CT_small.dcm"), &source).unwrap();
    let link = node.data("link.dcm");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    let imported = node.import(&link, None, true).await.unwrap();
    assert_eq!(imported.not_linked.as_deref(), Some("not a regular file"));
    assert_eq!(imported.outcome, Outcome::Served);
    assert_eq!(std::fs::metadata(&source).unwrap().nlink(), 1);
    node.expect_incoming(0).await;
}

#[tokio::test]
async fn the_data_set_is_believed_where_its_file_names_another_object() {
    for link in [false, true] {
        let node = Node::start().await;
        let object = Slice::new("2.25.7").object();
        let mut meta = object.meta.clone();
        meta.sop_instance = Uid::parse("2.25.8").unwrap();
        let path = node.data("mismatch.dcm");
        std::fs::write(&path, [meta.encode(), object.data_set.clone()].concat()).unwrap();
        let imported = node.import(&path, None, link).await.unwrap();
        assert_eq!((imported.sop_instance.as_str(), imported.outcome), ("2.25.7", Outcome::Served));
        assert!(
            imported.notes[0].contains("2.25.7") && imported.notes[0].contains("2.25.8"),
            "{:?}",
            imported.notes
        );
        assert_eq!(imported.not_linked.is_some(), link);
        assert!(node.served(&object.meta.sop_instance).await.unwrap() == object.data_set);
        // Its preface here names it right, as one that is adopted after a crash must.
        let hot = std::fs::read(&node.hot_files()[0]).unwrap();
        let preface = filmroom_index::part10::read_preface(&hot).unwrap();
        assert_eq!(preface.sop_instance, Some(imported.sop_instance));
    }
}

#[tokio::test]
async fn a_member_of_an_archive_is_stored_only_if_it_is_what_the_directory_says() {
    let node = Node::start().await;
    let file = std::fs::read(fixture_path("ct/CT_small.dcm")).unwrap();
    let archive = node.data("archive.zip");
    std::fs::write(&archive, [b"header".as_slice(), &file, b"rest"].concat()).unwrap();
    let member = Member {
        offset: 6,
        stored: file.len() as u64,
        length: file.len() as u64,
        crc32: crc32fast::hash(&file),
        deflated: false,
    };
    let damaged = Member {
        crc32: !member.crc32,
        ..member.clone()
    };
    let error = node.import(&archive, Some(&damaged), false).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Refused);
    assert!(node.hot_files().is_empty());
    let imported = node.import(&archive, Some(&member), true).await.unwrap();
    assert_eq!(imported.outcome, Outcome::Served);
    assert!(imported.not_linked.is_some());
}

#[tokio::test]
async fn what_is_no_image_of_a_patient_is_refused_with_its_reason() {
    let node = Node::start().await;
    let import = async |name: &str| node.import(&fixture_path(name), None, false).await.unwrap_err();
    let other = import("SOURCES.tsv").await;
    assert!(matches!(other, ImportError::Preface(PrefaceError::NoPrefix)));
    assert_eq!(other.kind(), ImportErrorKind::NotDicom);
    for bare in ["ExplVR_LitEndNoMeta", "ExplVR_BigEndNoMeta"] {
        let error = import(&format!("broken/{bare}.dcm")).await;
        assert!(matches!(error, ImportError::Bare));
        assert_eq!(error.kind(), ImportErrorKind::Refused);
    }
    assert!(matches!(
        import("broken/meta_missing_tsyntax.dcm").await,
        ImportError::Preface(PrefaceError::NoTransferSyntax)
    ));
    let cut = import("broken/MR_truncated.dcm").await;
    assert!(matches!(cut, ImportError::Store(StoreError::BadDataSet(_))));
    assert_eq!(cut.kind(), ImportErrorKind::Refused);
    assert!(matches!(import("does-not-exist.dcm").await, ImportError::Unreadable(_)));
    assert!(matches!(import("ct").await, ImportError::Unreadable(_)));
    assert!(node.hot_files().is_empty());
    node.expect_incoming(0).await;
}

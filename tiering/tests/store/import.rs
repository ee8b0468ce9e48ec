//! Files from elsewhere.

use filmroom_index::catalogue::Outcome;
use filmroom_tiering::StoreError;
use filmroom_tiering::import::ImportError;

use crate::node::{Node, fixture, fixture_path, sender};

#[tokio::test]
async fn an_imported_file_is_served_with_the_bytes_of_its_data_set() {
    let node = Node::start().await;
    let object = fixture("ct/CT_small.dcm");
    let (uid, outcome) = node
        .archive
        .import(&fixture_path("ct/CT_small.dcm"), sender("FILMROOM"))
        .await
        .unwrap();
    assert_eq!((&uid, outcome), (&object.meta.sop_instance, Outcome::Served));
    assert!(node.served(&uid).await.unwrap() == object.data_set);
}

#[tokio::test]
async fn what_is_no_image_of_a_patient_is_refused_with_its_reason() {
    let node = Node::start().await;
    let import = async |name: &str| node.archive.import(&fixture_path(name), sender("FILMROOM")).await.unwrap_err();
    assert!(matches!(import("SOURCES.tsv").await, ImportError::NotDicom(_)));
    assert!(matches!(import("broken/no_meta.dcm").await, ImportError::NotDicom(_)));
    assert!(matches!(import("broken/meta_missing_tsyntax.dcm").await, ImportError::NotDicom(_)));
    assert!(matches!(
        import("broken/MR_truncated.dcm").await,
        ImportError::Store(StoreError::BadDataSet(_))
    ));
    assert!(matches!(import("does-not-exist.dcm").await, ImportError::Unreadable(_)));
    assert!(matches!(import("ct").await, ImportError::Unreadable(_)));
    assert!(node.hot_files().is_empty());
    node.expect_incoming(0).await;
}

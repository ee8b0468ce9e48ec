//! C-STORE of real files.

use filmroom_scp::dimse::Status;

use crate::node::{Part10, files, fixture, fixtures, settings, start, store, take_apart};

/// Fixtures that a modality could send: broken ones and a DICOMDIR have tests of their own.
fn sendable() -> Vec<Part10> {
    let skipped = [fixtures().join("broken"), fixtures().join("dicomdir")];
    files(&fixtures())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "dcm"))
        .filter(|path| !skipped.iter().any(|directory| path.starts_with(directory)))
        .filter_map(|path| take_apart(&path))
        .collect()
}

/// The element of a data set in Explicit VR that is easiest to find: its UID.
fn study_of(file: &Part10) -> Option<String> {
    let tag = [0x20u8, 0x00, 0x0D, 0x00];
    let at = file.data_set.windows(4).position(|bytes| bytes == tag)?;
    let value = &file.data_set[at + 8..];
    let length = match &file.data_set[at + 4..at + 6] {
        b"UI" => usize::from(u16::from_le_bytes([file.data_set[at + 6], file.data_set[at + 7]])),
        _ => usize::from(u16::from_le_bytes([file.data_set[at + 4], file.data_set[at + 5]])),
    };
    let text = String::from_utf8(value.get(..length)?.to_vec()).ok()?;
    Some(text.trim_end_matches(['\0', ' ']).to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_is_stored_byte_for_byte_in_its_own_transfer_syntax() {
    let node = start(settings(), 0).await;
    let (mut compared, mut refused) = (0, 0);
    for file in sendable() {
        let kind = (file.sop_class.as_str(), file.transfer_syntax.as_str());
        let mut association = node.associate("CT1", &[kind]).await.unwrap();
        // A hanging protocol, and deflated images.
        if association.contexts().is_empty() {
            refused += 1;
            continue;
        }
        let response = store(&mut association, 1, &file.request(), &file.data_set).await;
        association.release().await.unwrap();
        let name = format!("{} in {}", file.sop_instance, file.transfer_syntax);
        // The same UID in several syntaxes is among the files: a later one may be another object.
        if response.status != Status::Success {
            // Files whose meta group is not about their data set, without Study Instance UID, or with a UID that others have.
            let known = [Status::DoesNotMatchSopClass, Status::DuplicateRefused].contains(&response.status);
            assert!(known, "{name}: {} {:?}", response.status, response.comment);
            refused += 1;
            continue;
        }
        let Some(study) = study_of(&file) else { continue };
        let served = node.served(&study).await;
        let Some(instance) = served.iter().find(|instance| instance.sop_instance.as_str() == file.sop_instance) else {
            panic!("{name}: acknowledged and not served")
        };
        if instance.transfer_syntax.as_str() == file.transfer_syntax {
            // Of odd length, it was sent with the NUL that the standard asks for.
            let mut sent = file.data_set;
            sent.resize(sent.len().next_multiple_of(2), 0);
            assert!(node.file_of(instance).data_set == sent, "{name}: other bytes");
            compared += 1;
        }
    }
    assert!(compared > 80 && refused < 20, "{compared} files were compared, {refused} refused");
    assert_eq!(node.incoming(), 0);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resend_is_success_and_another_source_with_other_bytes_is_not() {
    let node = start(settings(), 0).await;
    let mut file = fixture("ct/CT_small.dcm");
    assert_eq!(node.store_as("CT1", &file).await.status, Status::Success);
    assert_eq!(node.store_as("CT1", &file).await.status, Status::Success);
    assert_eq!(node.store_as("OTHER", &file).await.status, Status::Success);
    let last = file.data_set.len() - 1;
    file.data_set[last] ^= 1;
    let response = node.store_as("OTHER", &file).await;
    assert_eq!(response.status, Status::DuplicateRefused);
    assert!(response.comment.is_some_and(|comment| comment.len() <= 64));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_associations_store_at_once() {
    let node = std::sync::Arc::new(start(settings(), 0).await);
    let file = std::sync::Arc::new(fixture("ct/CT_small.dcm"));
    let tasks: Vec<_> = (0..8)
        .map(|sender| {
            let (node, file) = (node.clone(), file.clone());
            tokio::spawn(async move {
                let kind = (file.sop_class.as_str(), file.transfer_syntax.as_str());
                let mut association = node.associate(&format!("CT{sender}"), &[kind]).await.unwrap();
                for _ in 0..20 {
                    let response = store(&mut association, 1, &file.request(), &file.data_set).await;
                    assert_eq!(response.status, Status::Success, "{:?}", response.comment);
                }
                association.release().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let study = study_of(&file).unwrap();
    assert_eq!(node.served(&study).await.len(), 1);
    std::sync::Arc::into_inner(node).unwrap().end().await;
}

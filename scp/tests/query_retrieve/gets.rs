use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::dataset::DataSet;
use filmroom_index::model::Uid;
use filmroom_index::model::transfer_syntax::{EXPLICIT_LITTLE, IMPLICIT_LITTLE, encoding};
use filmroom_scp::association::Association;
use filmroom_scp::dimse::{CGetRequest, CStoreRequest, CStoreResponse, Command, Priority, Request, Response, Status};
use filmroom_scp::negotiate::ProposedContext;
use tokio::io::DuplexStream;

use crate::support::{
    CT, GET, Image, Lab, MR, Reply, Stored, WITHOUT_BULK_DATA, ask, cancel, context, identifier, next, reply, series, storage_context,
    study_key,
};

async fn start(association: &mut Association<DuplexStream>, identifier: &DataSet) {
    let request = Request::Get(CGetRequest {
        message_id: 7,
        sop_class: association.contexts()[0].abstract_syntax.to_string(),
        priority: Priority::High,
    });
    ask(association, request, identifier).await;
}

/// Images and Pending responses until the final one. `answer` says what becomes of an image; `cancel_after` how many images are enough.
async fn fetched(
    association: &mut Association<DuplexStream>,
    answer: impl Fn(&CStoreRequest) -> Status,
    cancel_after: usize,
) -> (Vec<Stored>, Vec<Reply>, Reply) {
    let (mut images, mut pendings) = (Vec::new(), Vec::new());
    loop {
        let (context, command, bytes) = next(association).await;
        let Command::Request(Request::Store(request)) = command else {
            let reply = reply(command, &bytes);
            if reply.retrieve.status != Status::Pending {
                return (images, pendings, reply);
            }
            pendings.push(reply);
            continue;
        };
        let status = answer(&request);
        images.push((request.clone(), bytes));
        if images.len() == cancel_after {
            cancel(association, 7).await;
        }
        let response = Response::Store(CStoreResponse {
            message_id: request.message_id,
            sop_class: request.sop_class,
            sop_instance: request.sop_instance,
            status,
            comment: None,
        });
        association.send(context, &Command::Response(response), None).await.unwrap();
    }
}

async fn got(lab: &Lab, contexts: Vec<ProposedContext>, identifier: &DataSet) -> (Vec<Stored>, Vec<Reply>, Reply) {
    let mut association = lab.associate("VIEWER", [vec![context(GET)], contexts].concat()).await;
    start(&mut association, identifier).await;
    fetched(&mut association, |_| Status::Success, usize::MAX).await
}

/// MPEG-4 AVC/H.264 High Profile
const VIDEO: &str = "1.2.840.10008.1.2.4.102";
/// PS3.4 Z: from the catalogue alone, in whatever syntax was accepted.
#[tokio::test]
async fn an_image_comes_without_its_bulk_data_and_without_opening_its_file() {
    let lab = Lab::new(|_| {}).await;
    let images = mixed();
    lab.store(&images).await;
    lab.hide_files();
    let list = images.iter().map(Image::uid).collect::<Vec<_>>().join("\\");
    let contexts = [
        context(WITHOUT_BULK_DATA),
        storage_context(CT, EXPLICIT_LITTLE),
        storage_context(MR, IMPLICIT_LITTLE),
    ];
    let mut association = lab.associate("VIEWER", contexts.to_vec()).await;
    start(&mut association, &identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, &list)])).await;
    let (got, pendings, end) = fetched(&mut association, |_| Status::Success, usize::MAX).await;
    assert_eq!(pendings[0].counts(), Some([3, 0, 0, 0]));
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 3, 0, 0])));
    for (image, (request, bytes)) in images.iter().zip(&got) {
        assert_eq!(request.sop_instance, image.uid());
        let mut expected = image.data_set();
        expected.remove(tags::PIXEL_DATA);
        let syntax = if image.sop_class == MR { IMPLICIT_LITTLE } else { EXPLICIT_LITTLE };
        assert_eq!(*bytes, expected.encode(encoding(&Uid::parse(syntax).unwrap())));
    }
    // The model has one level (PS3.4 Y.6.1).
    for level in ["STUDY", "SERIES", "PATIENT"] {
        let mut key = study_key(&images[0]);
        key.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
        start(&mut association, &key).await;
        let (none, _, end) = fetched(&mut association, |_| Status::Success, usize::MAX).await;
        assert_eq!((none.len(), end.retrieve.status), (0, Status::DoesNotMatchSopClass), "{level}");
    }
}

fn mixed() -> Vec<Image> {
    let mut images = series(Image::default(), 3);
    images[1].sop_class = MR;
    images[2].transfer_syntax = IMPLICIT_LITTLE;
    images[2].pixels = 200_000;
    images
}

#[tokio::test]
async fn a_study_comes_back_byte_for_byte_on_the_same_association() {
    let lab = Lab::new(|_| {}).await;
    let images = mixed();
    lab.store(&images).await;
    let contexts = vec![
        storage_context(CT, EXPLICIT_LITTLE),
        storage_context(CT, IMPLICIT_LITTLE),
        storage_context(MR, EXPLICIT_LITTLE),
    ];
    let (got, pendings, end) = got(&lab, contexts, &study_key(&images[0])).await;
    assert_eq!(pendings[0].counts(), Some([3, 0, 0, 0]));
    assert_eq!((end.retrieve.status, end.counts()), (Status::Success, Some([0, 3, 0, 0])));
    assert_eq!(got.len(), 3);
    for (image, (request, bytes)) in images.iter().zip(&got) {
        assert_eq!(request.sop_instance, image.uid());
        assert_eq!(*bytes, image.bytes());
        assert_eq!((request.priority, &request.move_originator), (Priority::High, &None));
    }
}

#[tokio::test]
async fn what_the_requestor_did_not_propose_is_a_listed_failure() {
    let lab = Lab::new(|_| {}).await;
    let mut images = mixed();
    // Which is turned into nothing else
    images[2].transfer_syntax = VIDEO;
    lab.store(&images).await;
    let (some, _, end) = got(&lab, vec![storage_context(CT, EXPLICIT_LITTLE)], &study_key(&images[0])).await;
    assert_eq!(some.len(), 1);
    assert_eq!(
        (end.retrieve.status, end.counts()),
        (Status::WarningSubOperations, Some([0, 1, 2, 0]))
    );
    assert_eq!(end.failed, [images[1].uid(), images[2].uid()]);
    assert_eq!(end.retrieve.comment.as_deref(), Some("2 class or transfer syntax not accepted"));

    let (none, _, end) = got(&lab, vec![], &study_key(&images[0])).await;
    assert!(none.is_empty());
    assert_eq!(
        (end.retrieve.status, end.counts()),
        (Status::CannotPerformSubOperations, Some([0, 0, 3, 0]))
    );
    assert_eq!(end.failed, images.iter().map(Image::uid).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_the_scp_role_nothing_is_sent() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image::default()]).await;
    let (none, _, end) = got(&lab, vec![context(CT)], &study_key(&Image::default())).await;
    assert!(none.is_empty());
    assert_eq!(end.retrieve.status, Status::CannotPerformSubOperations);
}

#[tokio::test]
async fn the_requestors_answers_are_counted() {
    let lab = Lab::new(|_| {}).await;
    let images = series(Image::default(), 3);
    lab.store(&images).await;
    let mut association = lab
        .associate("VIEWER", vec![context(GET), storage_context(CT, EXPLICIT_LITTLE)])
        .await;
    start(&mut association, &study_key(&images[0])).await;
    let answer = |request: &CStoreRequest| match request.sop_instance.rsplit('.').next() {
        Some("1") => Status::from_code(0xB000),
        Some("2") => Status::from_code(0xA900),
        _ => Status::Success,
    };
    let (_, _, end) = fetched(&mut association, answer, usize::MAX).await;
    assert_eq!(
        (end.retrieve.status, end.counts()),
        (Status::WarningSubOperations, Some([0, 1, 1, 1]))
    );
    assert_eq!(end.failed, [images[1].uid()]);
}

#[tokio::test]
async fn a_cancel_between_two_images_is_heard() {
    let lab = Lab::new(|_| {}).await;
    let images = series(Image::default(), 10);
    lab.store(&images).await;
    let mut association = lab
        .associate("VIEWER", vec![context(GET), storage_context(CT, EXPLICIT_LITTLE)])
        .await;
    start(&mut association, &study_key(&images[0])).await;
    let (got, _, end) = fetched(&mut association, |_| Status::Success, 4).await;
    assert_eq!(got.len(), 4);
    assert_eq!((end.retrieve.status, end.counts()), (Status::Cancel, Some([6, 4, 0, 0])));
    // The association goes on.
    start(&mut association, &study_key(&images[0])).await;
    let (got, _, end) = fetched(&mut association, |_| Status::Success, usize::MAX).await;
    assert_eq!((got.len(), end.retrieve.status), (10, Status::Success));
}

#[tokio::test]
async fn an_empty_key_gets_nothing() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image::default()]).await;
    let empty = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "")]);
    let (none, _, end) = got(&lab, vec![storage_context(CT, EXPLICIT_LITTLE)], &empty).await;
    assert!(none.is_empty());
    assert_eq!(end.retrieve.status, Status::DoesNotMatchSopClass);
}

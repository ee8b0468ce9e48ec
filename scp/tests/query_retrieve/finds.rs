use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_scp::association::Outgoing;
use filmroom_scp::dimse::{CFindRequest, Command, Priority, Request, Response, Status, StatusClass};

use crate::support::{FIND, Image, Lab, ask, cancel, context, find, identifier, next, series};

fn request(message_id: u16) -> Request {
    Request::Find(CFindRequest {
        message_id,
        sop_class: FIND.to_owned(),
        priority: Priority::Medium,
    })
}

#[tokio::test]
async fn every_match_is_answered_with_the_keys_asked_for() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&series(Image::default(), 3)).await;
    lab.store(&[Image {
        study: 2,
        patient_id: "P2",
        name: "ROE^RICHARD",
        ..Image::default()
    }])
    .await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    let asked = identifier(
        "STUDY",
        &[
            (tags::PATIENT_NAME, VR::PN, "doe*"),
            (tags::STUDY_INSTANCE_UID, VR::UI, ""),
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, ""),
        ],
    );
    let (answers, end) = find(&mut association, FIND, &asked).await;
    assert_eq!(end.status, Status::Success);
    assert_eq!(answers.len(), 1);
    let (status, answer) = &answers[0];
    assert_eq!(*status, Status::Pending);
    let text = |tag| answer.text(tag).unwrap();
    assert_eq!(text(tags::STUDY_INSTANCE_UID), Image::default().study_uid());
    assert_eq!(text(tags::PATIENT_NAME), "DOE^JANE");
    assert_eq!(text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES), "3");
    assert_eq!(text(tags::QUERY_RETRIEVE_LEVEL), "STUDY");
    assert_eq!(text(tags::RETRIEVE_AE_TITLE), "FILMROOM");
    assert_eq!(text(tags::INSTANCE_AVAILABILITY), "ONLINE");
}

#[tokio::test]
async fn more_matches_than_the_cap_fail_as_a_whole_and_say_so() {
    let lab = Lab::new(|settings| settings.find_cap = 2).await;
    lab.store(&series(Image::default(), 3)).await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    let (answers, end) = find(
        &mut association,
        FIND,
        &identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, "")]),
    )
    .await;
    assert!(answers.is_empty());
    assert_eq!(end.status, Status::OutOfResources);
    assert_eq!(end.comment.as_deref(), Some("more than 2 matches, narrow the query"));

    let (answers, end) = find(
        &mut association,
        FIND,
        &identifier("IMAGE", &[(tags::INSTANCE_NUMBER, VR::IS, "2")]),
    )
    .await;
    assert_eq!((answers.len(), end.status), (1, Status::Success));
}

#[tokio::test]
async fn a_cancel_between_two_answers_ends_the_query() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&series(Image::default(), 120)).await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    ask(
        &mut association,
        request(7),
        &identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, "")]),
    )
    .await;
    let mut answers = 0;
    let end = loop {
        let (_, command, _) = next(&mut association).await;
        let Command::Response(Response::Find(response)) = command else {
            panic!("{command:?}");
        };
        if response.status.class() != StatusClass::Pending {
            break response;
        }
        answers += 1;
        match answers {
            // Of another operation: not meant.
            1 => cancel(&mut association, 6).await,
            2 => cancel(&mut association, 7).await,
            _ => {}
        }
    };
    assert_eq!((end.status, end.message_id), (Status::Cancel, 7));
    assert!(answers < 120, "{answers}");
    let (answers, end) = find(&mut association, FIND, &identifier("STUDY", &[])).await;
    assert_eq!((answers.len(), end.status), (1, Status::Success));
}

#[tokio::test]
async fn an_identifier_at_fault_is_refused_with_its_element_and_the_association_lives_on() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image::default()]).await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    let mut no_level = identifier("STUDY", &[]);
    no_level.remove(tags::QUERY_RETRIEVE_LEVEL);
    let (_, end) = find(&mut association, FIND, &no_level).await;
    assert_eq!(end.status, Status::DoesNotMatchSopClass);
    assert_eq!(end.offending, Some(tags::QUERY_RETRIEVE_LEVEL));
    assert!(end.comment.is_some());

    let (_, end) = find(&mut association, FIND, &identifier("PATIENT", &[])).await;
    assert_eq!(end.status, Status::DoesNotMatchSopClass);

    let context = association.contexts()[0].id;
    for (garbage, comment) in [
        (vec![0xEE; 77], "identifier: "),
        (vec![0; (1 << 20) + 2], "the identifier is longer than 1 MiB"),
    ] {
        let command = Command::Request(request(9));
        association.send(context, &command, Some(Outgoing::Bytes(&garbage))).await.unwrap();
        let (_, command, _) = next(&mut association).await;
        let Command::Response(Response::Find(end)) = command else {
            panic!("{command:?}");
        };
        assert_eq!(end.status, Status::CannotUnderstand);
        assert!(end.comment.as_ref().unwrap().starts_with(comment), "{end:?}");
    }
    let (answers, end) = find(&mut association, FIND, &identifier("STUDY", &[])).await;
    assert_eq!((answers.len(), end.status), (1, Status::Success));
}

#[tokio::test]
async fn a_key_that_is_not_matched_is_told_with_every_answer() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image::default()]).await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    let asked = identifier("STUDY", &[(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "77")]);
    let (answers, end) = find(&mut association, FIND, &asked).await;
    assert_eq!(end.status, Status::Success);
    assert_eq!(
        answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
        [Status::PendingOptionalKeys]
    );
    assert_eq!(answers[0].1.text(tags::NUMBER_OF_STUDY_RELATED_INSTANCES), Some("1"));
}

#[tokio::test]
async fn a_name_beyond_latin_1_is_answered_in_unicode_whatever_the_query_was_written_in() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image {
        name: "Yamada^Tarou=山田^太郎",
        ..Image::default()
    }])
    .await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    let asked = identifier("STUDY", &[(tags::PATIENT_NAME, VR::PN, "YAMADA*")]);
    let (answers, _) = find(&mut association, FIND, &asked).await;
    let (_, answer) = &answers[0];
    assert_eq!(answer.text(tags::SPECIFIC_CHARACTER_SET), Some("ISO_IR 192"));
    assert_eq!(answer.text(tags::PATIENT_NAME), Some("Yamada^Tarou=山田^太郎"));
}

#[tokio::test]
async fn the_character_set_is_told_where_it_is_asked_for() {
    let lab = Lab::new(|_| {}).await;
    lab.store(&[Image::default()]).await;
    let mut association = lab.associate("VIEWER", vec![context(FIND)]).await;
    for (asked, told) in [
        (None, None),
        (Some(""), Some("ISO_IR 100")),
        (Some("ISO_IR 192"), Some("ISO_IR 100")),
    ] {
        let mut key = identifier("STUDY", &[(tags::PATIENT_NAME, VR::PN, "")]);
        if let Some(asked) = asked {
            key.put_text(tags::SPECIFIC_CHARACTER_SET, VR::CS, asked);
        }
        let (answers, _) = find(&mut association, FIND, &key).await;
        assert_eq!(answers[0].1.text(tags::SPECIFIC_CHARACTER_SET), told, "{asked:?}");
    }
}

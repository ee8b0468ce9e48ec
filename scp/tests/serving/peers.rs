//! A client that shares nothing with our association: dicom-ul's.

use dicom_ul::association::client::ClientAssociationOptions;
use dicom_ul::pdu::{PDataValue, PDataValueType};
use filmroom_scp::dimse::{CEchoRequest, Command, Request, Response, Status};

use crate::node::{fixture, settings, start};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dicom_uls_client_echoes_and_stores() {
    let node = start(settings(), 0).await;
    let address = node.address;
    let file = fixture("ct/CT_small.dcm");
    let client = tokio::task::spawn_blocking(move || {
        let mut association = ClientAssociationOptions::new()
            .calling_ae_title("RUST")
            .called_ae_title("FILMROOM")
            .with_presentation_context("1.2.840.10008.1.1", vec![EXPLICIT])
            .with_presentation_context(file.sop_class.clone(), vec![file.transfer_syntax.clone()])
            .establish(address)
            .unwrap();
        assert_eq!(association.acceptor_max_pdu_length(), 131_072);
        let contexts: Vec<u8> = association.presentation_contexts().iter().map(|context| context.id).collect();
        let value = |context, value_type, data: &[u8]| PDataValue {
            presentation_context_id: context,
            value_type,
            is_last: true,
            data: data.to_vec(),
        };
        let mut ask = |values: Vec<PDataValue>| {
            association.send(&dicom_ul::Pdu::PData { data: values }).unwrap();
            match association.receive().unwrap() {
                dicom_ul::Pdu::PData { data } => Command::decode(&data[0].data).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let echo = Command::Request(Request::Echo(CEchoRequest { message_id: 4 })).encode();
        match ask(vec![value(contexts[0], PDataValueType::Command, &echo)]) {
            Command::Response(Response::Echo(echo)) => assert_eq!((echo.message_id, echo.status), (4, Status::Success)),
            other => panic!("{other:?}"),
        }
        let store = Command::Request(Request::Store(file.request())).encode();
        let both = vec![
            value(contexts[1], PDataValueType::Command, &store),
            value(contexts[1], PDataValueType::Data, &file.data_set),
        ];
        match ask(both) {
            Command::Response(Response::Store(store)) => assert_eq!(store.status, Status::Success),
            other => panic!("{other:?}"),
        }
        association.release().unwrap();
    });
    client.await.unwrap();
    node.end().await;
}

//! What a requestor says and hears.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::header::scan_message;
use filmroom_index::model::transfer_syntax;
use filmroom_scp::association::{Association, Event, Outgoing};
use filmroom_scp::dimse::{CFindRequest, CFindResponse, Command, Priority, Request, Response, RetrieveResponse, Status, StatusClass};
use filmroom_scp::negotiate::ProposedContext;
use tokio::io::{AsyncRead, AsyncWrite};

use super::images::{Image, PATIENCE, uid};

pub(crate) fn context(abstract_syntax: &str) -> ProposedContext {
    ProposedContext {
        abstract_syntax: uid(abstract_syntax),
        transfer_syntaxes: vec![uid(transfer_syntax::EXPLICIT_LITTLE)],
        also_scp: false,
    }
}

pub(crate) fn storage_context(abstract_syntax: &str, transfer_syntax: &str) -> ProposedContext {
    ProposedContext {
        abstract_syntax: uid(abstract_syntax),
        transfer_syntaxes: vec![uid(transfer_syntax)],
        also_scp: true,
    }
}

/// An identifier of texts.
pub(crate) fn identifier(level: &str, keys: &[(Tag, VR, &str)]) -> DataSet {
    let mut set = DataSet::new();
    set.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    for (tag, vr, text) in keys {
        let values = text.split('\\').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        set.put(*tag, *vr, Value::Text(values));
    }
    set
}

pub(crate) fn study_key(image: &Image) -> DataSet {
    identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, &image.study_uid())])
}

/// Sends a request with an identifier.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    request: Request,
    identifier: &DataSet,
) {
    let context = association.contexts().first().unwrap().clone();
    let bytes = identifier.encode(transfer_syntax::encoding(&context.transfer_syntax));
    association
        .send(context.id, &Command::Request(request), Some(Outgoing::Bytes(&bytes)))
        .await
        .unwrap();
}

pub(crate) async fn cancel<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>, message_id: u16) {
    let context = association.contexts().first().unwrap().id;
    let command = Command::Request(Request::Cancel { message_id });
    association.send(context, &command, None).await.unwrap();
}

/// The next message and its data set.
pub(crate) async fn next<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>) -> (u8, Command, Vec<u8>) {
    let event = tokio::time::timeout(PATIENCE, association.receive()).await.unwrap().unwrap();
    let Event::Message { context, command } = event else {
        panic!("released");
    };
    let bytes = association.read_data_set(1 << 24).await.unwrap().unwrap();
    (context, command, bytes)
}

/// A C-FIND and all its responses: the answers, and the final one.
pub(crate) async fn find<S: AsyncRead + AsyncWrite + Unpin + Send>(
    association: &mut Association<S>,
    sop_class: &str,
    identifier: &DataSet,
) -> (Vec<(Status, DataSet)>, CFindResponse) {
    let request = Request::Find(CFindRequest {
        message_id: 1,
        sop_class: sop_class.to_owned(),
        priority: Priority::Medium,
    });
    ask(association, request, identifier).await;
    let mut answers = Vec::new();
    loop {
        let (_, command, bytes) = next(association).await;
        let Command::Response(Response::Find(response)) = command else {
            panic!("{command:?}");
        };
        if response.status.class() != StatusClass::Pending {
            return (answers, response);
        }
        let answer = scan_message(&bytes, &uid(transfer_syntax::EXPLICIT_LITTLE)).unwrap().attributes;
        answers.push((response.status, answer));
    }
}

/// A response to a C-MOVE or C-GET, and the Failed SOP Instance UID List of its data set.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) retrieve: RetrieveResponse,
    pub(crate) failed: Vec<String>,
}

impl Reply {
    /// remaining, completed, failed, warning
    pub(crate) fn counts(&self) -> Option<[u16; 4]> {
        let counts = self.retrieve.counts?;
        Some([counts.remaining, counts.completed, counts.failed, counts.warning])
    }
}

/// Reads a message as a response to a retrieve.
pub(crate) fn reply(command: Command, bytes: &[u8]) -> Reply {
    let retrieve = match command {
        Command::Response(Response::Move(response)) => response.retrieve,
        Command::Response(Response::Get(response)) => response.retrieve,
        other => panic!("{other:?}"),
    };
    let failed = match bytes {
        [] => Vec::new(),
        bytes => {
            let set = scan_message(bytes, &uid(transfer_syntax::EXPLICIT_LITTLE)).unwrap().attributes;
            assert_eq!(set.len(), 1, "{set:?}");
            set.texts(tags::FAILED_SOP_INSTANCE_UID_LIST).to_vec()
        }
    };
    Reply { retrieve, failed }
}

/// All responses to a retrieve, the final one last.
pub(crate) async fn replies<S: AsyncRead + AsyncWrite + Unpin + Send>(association: &mut Association<S>) -> (Vec<Reply>, Reply) {
    let mut pendings = Vec::new();
    loop {
        let (_, command, bytes) = next(association).await;
        let reply = reply(command, &bytes);
        if reply.retrieve.status != Status::Pending {
            return (pendings, reply);
        }
        assert!(reply.failed.is_empty());
        pendings.push(reply);
    }
}

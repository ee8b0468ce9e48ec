//! C-GET (PS3.4 C.4.3): the images come back on the requester's own association.
//!
//! One C-STORE is outstanding at a time. An image whose SOP class the requester did not propose with the SCP role (PS3.7 D.3.3.4), in its stored transfer
//! syntax or one that it can be turned into, is a failed sub-operation, as one is that cannot be read in the time that is waited for restores: C-GET has no later.
//!
//! Composite Instance Retrieve Without Bulk Data (PS3.4 Z) is the same with shorter data sets ([`without_bulk`](super::without_bulk)), sent in
//! the stored syntax or in any other that was accepted: where there are no pixels, there is nothing to decompress.

use std::collections::HashMap;

use filmroom_index::catalogue::Located;
use filmroom_index::dataset::DataSet;
use filmroom_index::header::Header;
use filmroom_index::model::{ObjectId, Uid, transfer_syntax};
use filmroom_index::query::Root;
use filmroom_tiering::hot::DataSetReader;
use filmroom_tiering::recall::Release;
use filmroom_transcode::Error as TranscodeError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::{Delivered, Operation, without_bulk};
use crate::association::{AcceptedContext, Association, AssociationError, Outgoing};
use crate::deliveries::terms::{retrieve_terms, wait};
use crate::dimse::{CGetRequest, CStoreRequest, CStoreResponse, Command, Priority, Request, Status};
use crate::services::Context;
use crate::services::interruption::{Ended, Interruption, ask, interpret, listen};
use crate::services::sub_operations::Reason;
use crate::settings::{Peer, Service};
use crate::transcoding::{Transcoder, choices};

/// Headers that are read from the catalogue at a time; each may be a megabyte.
const HEADERS: usize = 16;

/// Serves one C-GET.
pub async fn serve_get<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CGetRequest,
) -> Result<(), AssociationError> {
    let operation = Operation::new(node, Service::Get, context, request.message_id, request.sop_class);
    let mut get = Get {
        operation,
        priority: request.priority,
        last_id: 0,
        transcoder: Transcoder::new(node.archive.clone(), node.settings.codec.clone()),
    };
    let ended = get.run(association).await;
    get.operation.conclude(association, ended).await
}

struct Get<'a> {
    operation: Operation<'a>,
    priority: Priority,
    /// Message id of our last C-STORE: ours and the requester's are counted apart (PS3.7 9.3.1)
    last_id: u16,
    transcoder: Transcoder,
}

impl Get<'_> {
    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(&mut self, association: &mut Association<S>) -> Result<(), Ended> {
        let caller = association.peer().calling.clone();
        let asked = self.operation.read(association).await?;
        let instances = self.operation.plan(association, &asked, caller.as_str()).await?;
        let node = self.operation.node;
        let unlisted = Peer::new(caller);
        let peer = node.settings.peer(&unlisted.title).unwrap_or(&unlisted);
        let without_bulk = asked.root == Root::Instance;
        let from_objects = match without_bulk {
            true => self.store_from_catalogue(association, instances).await?,
            false => instances,
        };
        let terms = retrieve_terms(peer, peer.partial_series || without_bulk, wait(&node.settings, peer));
        let mut retrieval = node.archive.retrieve(from_objects, terms);
        loop {
            let release = tokio::select! {
                biased;
                event = association.receive() => {
                    interpret(association, self.operation.message_id, event?).await?.check()?;
                    continue;
                }
                () = sleep_until(self.operation.cadence.due()) => {
                    self.operation.pending(association).await?;
                    continue;
                }
                release = retrieval.next() => release,
            };
            match release {
                Some(Release::Ready(instance, data_set)) if without_bulk => self.store_header(association, &instance, data_set).await?,
                Some(Release::Ready(instance, data_set)) => self.store(association, &instance, data_set).await?,
                Some(Release::Failed(instance, error)) => {
                    let failed = Delivered::failed(&instance.sop_instance, Reason::from(&error), error);
                    self.operation.record(failed);
                }
                None => return Ok(()),
            }
        }
    }

    /// Sends what the catalogue holds of each instance, where it holds all but bulk data; the others are returned.
    async fn store_from_catalogue<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instances: Vec<Located>,
    ) -> Result<Vec<Located>, Ended> {
        let (node, id) = (self.operation.node, self.operation.message_id);
        let limit = node.settings.find_limit;
        let mut others = Vec::new();
        for chunk in instances.chunks(HEADERS) {
            let objects: Vec<ObjectId> = chunk.iter().map(|instance| instance.object).collect();
            let headers = node.archive.catalogue().headers(&objects);
            let headers = ask(association, id, limit, Status::CannotPerformSubOperations, headers).await?;
            let mut headers: HashMap<ObjectId, Header> = headers.into_iter().collect();
            for instance in chunk {
                listen(association, id).await?;
                match headers.remove(&instance.object).and_then(without_bulk::strip) {
                    Some(data_set) => self.store_data_set(association, instance, &data_set).await?,
                    None => others.push(instance.clone()),
                }
            }
        }
        Ok(others)
    }

    /// Sends an instance without its bulk data, which the catalogue has in part only.
    async fn store_header<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instance: &Located,
        object: DataSetReader,
    ) -> Result<(), Ended> {
        match without_bulk::read(object, &instance.transfer_syntax).await {
            Ok(data_set) => self.store_data_set(association, instance, &data_set).await,
            Err(error) => {
                self.operation
                    .record(Delivered::failed(&instance.sop_instance, Reason::Local, error));
                Ok(())
            }
        }
    }

    async fn store_data_set<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instance: &Located,
        data_set: &DataSet,
    ) -> Result<(), Ended> {
        let of_class = |context: &&AcceptedContext| context.abstract_syntax == instance.sop_class && context.requestor_scp;
        let stored = |context: &&AcceptedContext| context.transfer_syntax == instance.transfer_syntax;
        let mut fitting = association.contexts().iter().filter(of_class);
        let fitting = fitting.clone().find(stored).or_else(|| fitting.next());
        let Some((context, encoding)) = fitting.map(|context| (context.id, transfer_syntax::encoding(&context.transfer_syntax))) else {
            self.not_accepted(instance);
            return Ok(());
        };
        let bytes = data_set.encode(encoding);
        self.transmit(association, instance, context, Outgoing::Bytes(&bytes)).await
    }

    /// Sends one instance, in the best accepted transfer syntax that it can be had in. A C-CANCEL meanwhile ends the operation once the answer is there.
    async fn store<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instance: &Located,
        mut data_set: DataSetReader,
    ) -> Result<(), Ended> {
        let caller = association.peer().calling.clone();
        let preferred = self
            .operation
            .node
            .settings
            .peer(&caller)
            .map(|peer| peer.transfer_syntaxes.as_slice());
        let choices = choices(
            instance,
            association.contexts(),
            |context| context.requestor_scp,
            preferred.unwrap_or_default(),
        );
        let choices: Vec<(u8, Uid)> = choices
            .into_iter()
            .map(|context| (context.id, context.transfer_syntax.clone()))
            .collect();
        let mut failure = None;
        for (context, syntax) in choices {
            if syntax == instance.transfer_syntax {
                return self.transmit(association, instance, context, Outgoing::Object(&mut data_set)).await;
            }
            // What failed once fails again: only the encoding of the result differs.
            if failure.is_some() {
                continue;
            }
            match self.transcode(association, instance, &data_set, &syntax).await? {
                Ok(mut transcoded) => {
                    return self
                        .transmit(association, instance, context, Outgoing::Object(&mut transcoded))
                        .await;
                }
                Err(error) => failure = Some(format!("{} to {syntax}: {error}", instance.transfer_syntax)),
            }
        }
        match failure {
            Some(failure) => self
                .operation
                .record(Delivered::failed(&instance.sop_instance, Reason::NotTranscoded, failure)),
            None => self.not_accepted(instance),
        }
        Ok(())
    }

    /// Transcodes, saying Pending meanwhile; a C-CANCEL ends the operation.
    async fn transcode<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instance: &Located,
        data_set: &DataSetReader,
        to: &Uid,
    ) -> Result<Result<DataSetReader, TranscodeError>, Ended> {
        let mut transcoding = std::pin::pin!(self.transcoder.transcode(instance, data_set, to));
        loop {
            tokio::select! {
                biased;
                event = association.receive() => interpret(association, self.operation.message_id, event?).await?.check()?,
                () = sleep_until(self.operation.cadence.due()) => self.operation.pending(association).await?,
                result = &mut transcoding => return Ok(result),
            }
        }
    }

    fn not_accepted(&mut self, instance: &Located) {
        let (class, syntax) = (&instance.sop_class, &instance.transfer_syntax);
        let detail = format!("no context with the SCP role for {class} in {syntax}, nor in what that can be turned into");
        self.operation
            .record(Delivered::failed(&instance.sop_instance, Reason::NotAccepted, detail));
    }

    /// Sends one instance and waits for the answer. A C-CANCEL meanwhile ends the operation once the answer is there.
    async fn transmit<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        instance: &Located,
        context: u8,
        data_set: Outgoing<'_>,
    ) -> Result<(), Ended> {
        self.last_id = self.last_id.wrapping_add(1);
        let request = Command::Request(Request::Store(CStoreRequest {
            message_id: self.last_id,
            sop_class: instance.sop_class.to_string(),
            sop_instance: instance.sop_instance.to_string(),
            priority: self.priority,
            move_originator: None,
        }));
        association.send(context, &request, Some(data_set)).await?;
        let (response, cancelled) = self.response(association).await?;
        self.operation.record(Delivered::answered(&instance.sop_instance, response.status));
        if cancelled { Err(Ended::Cancelled) } else { Ok(()) }
    }

    /// The answer to our last C-STORE, and whether a C-CANCEL came before it.
    async fn response<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
    ) -> Result<(CStoreResponse, bool), Ended> {
        let deadline = Instant::now() + self.operation.node.settings.timers.idle;
        let mut cancelled = false;
        loop {
            let event = tokio::select! {
                biased;
                event = association.receive() => event?,
                () = sleep_until(deadline) => return Err(AssociationError::TimedOut("C-STORE response").into()),
                () = sleep_until(self.operation.cadence.due()) => {
                    self.operation.pending(association).await?;
                    continue;
                }
            };
            match interpret(association, self.operation.message_id, event).await? {
                Interruption::Stored(response) if response.message_id == self.last_id => return Ok((response, cancelled)),
                Interruption::Stored(_) | Interruption::Nothing => {}
                Interruption::Cancelled => cancelled = true,
                Interruption::Released => return Err(Ended::Released),
            }
        }
    }
}

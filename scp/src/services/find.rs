//! C-FIND (PS3.4 C.4.1): Query SCP.
//!
//! # Mechanics
//! The keys of everything that matches are searched first, up to a cap; then the answers are read by key, a chunk at a time, so that no
//! database connection waits for a slow peer. C-CANCEL is heard at any time, between two answers at the latest. More matches than the cap, or a
//! search beyond its time limit, fail as a whole with A700: a list that looks complete and is not would be worse than none.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::AnswerContext;
use filmroom_index::dataset::DataSet;
use filmroom_index::model::Encoding;
use filmroom_index::query::Query;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::Instrument;

use crate::association::{Association, AssociationError, Outgoing};
use crate::dimse::{CFindRequest, CFindResponse, Command, Response, Status};
use crate::services::identifier::{self, Asked, Refusal};
use crate::services::interruption::{Ended, ask, listen};
use crate::services::{Context, audit};
use crate::settings::Service;

/// Answers that are read from the catalogue at a time.
const CHUNK: usize = 100;

/// Serves one request.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CFindRequest,
) -> Result<(), AssociationError> {
    Find {
        node,
        context,
        request,
        answers: 0,
    }
    .serve(association)
    .await
}

struct Find<'a> {
    node: &'a Context,
    context: u8,
    request: CFindRequest,
    answers: u64,
}

impl Find<'_> {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(mut self, association: &mut Association<S>) -> Result<(), AssociationError> {
        let started = Instant::now();
        let (query, ended) = match self.query(association).await {
            Ok((query, asked)) => {
                let ended = self.answer(association, &query, &asked).await;
                (Some((query, asked)), ended)
            }
            Err(ended) => (None, Err(ended)),
        };
        let status = status(&ended);
        let result = match ended {
            Ok(()) | Err(Ended::Cancelled) => self.conclude(association, status, None).await,
            Err(Ended::Refused(refusal)) => self.conclude(association, status, Some(refusal)).await,
            Err(Ended::Released) => Ok(()),
            Err(Ended::Association(error)) => Err(error),
        };
        tracing::info!(answers = self.answers, %status, "C-FIND ended");
        metrics::histogram!("filmroom_find_seconds").record(started.elapsed());
        metrics::counter!("filmroom_finds_total", "status" => status.to_string()).increment(1);
        metrics::counter!("filmroom_find_answers_total").increment(self.answers);
        if let Some((query, asked)) = query {
            self.audit(association, &query, &asked, status).await;
        }
        result
    }

    async fn query<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, association: &mut Association<S>) -> Result<(Query, Asked), Ended> {
        let asked = identifier::read(association, Service::Find, self.context).await?;
        Ok((Query::find_extended(asked.root, &asked.identifier, asked.extensions)?, asked))
    }

    /// Searches, and sends an answer for every match.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        query: &Query,
        asked: &Asked,
    ) -> Result<(), Ended> {
        let node = self.node;
        let catalogue = node.archive.catalogue();
        let (id, busy) = (self.request.message_id, Status::OutOfResources);
        let (cap, limit) = (node.settings.find_cap, node.settings.find_limit);
        let keys = ask(association, id, limit, busy, catalogue.find(query, cap, limit)).await?;
        if keys.len() > cap {
            let comment = format!("more than {cap} matches, narrow the query");
            return Err(Refusal::new(busy, comment).into());
        }
        let completion = AnswerContext {
            node: node.archive.node(),
            retrieve_ae: node.settings.ae_title.clone(),
            cold_down: node.archive.cold_down(),
            deep_archive: node.settings.deep_archive,
            cutoffs: node.archive.archive_cutoffs(),
        };
        let pending = match query.unsupported.is_empty() {
            true => Status::Pending,
            false => Status::PendingOptionalKeys,
        };
        for chunk in keys.chunks(CHUNK) {
            let answers = ask(association, id, limit, busy, catalogue.answers(query, chunk, &completion)).await?;
            for mut answer in answers {
                listen(association, id).await?;
                if let Some(element) = asked.identifier.get(tags::SPECIFIC_CHARACTER_SET) {
                    // Whatever it says: encoding puts the answer's own set there, but only if it is asked for or needed.
                    answer.put(tags::SPECIFIC_CHARACTER_SET, element.vr, element.value.clone());
                }
                let data_set = answer.encode(asked.encoding);
                let response = self.response(pending, None, None, Some(answer));
                association.send(self.context, &response, Some(Outgoing::Bytes(&data_set))).await?;
                self.answers += 1;
            }
        }
        Ok(())
    }

    async fn conclude<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        association: &mut Association<S>,
        status: Status,
        refusal: Option<Refusal>,
    ) -> Result<(), AssociationError> {
        let (offending, comment) = match refusal {
            Some(refusal) => (refusal.offending, Some(refusal.comment)),
            None => (None, None),
        };
        let response = self.response(status, offending, comment, None);
        association.send(self.context, &response, None).await
    }

    fn response(&self, status: Status, offending: Option<Tag>, comment: Option<String>, identifier: Option<DataSet>) -> Command {
        Command::Response(Response::Find(CFindResponse {
            message_id: self.request.message_id,
            sop_class: self.request.sop_class.clone(),
            status,
            offending,
            comment,
            identifier,
        }))
    }

    /// Who asked for what. The next request need not wait for the disk.
    async fn audit<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        association: &mut Association<S>,
        query: &Query,
        asked: &Asked,
        status: Status,
    ) {
        let mut event = audit::event(self.node, association.peer(), "find");
        event.patient_id = audit::value(query, tags::PATIENT_ID);
        event.study_uid = audit::value(query, tags::STUDY_INSTANCE_UID);
        event.outcome = audit::outcome(status);
        event.sop_class.clone_from(&self.request.sop_class);
        event.query = asked.identifier.encode(Encoding::ExplicitLittle);
        let keys: Vec<String> = query.keys.iter().map(|key| key.tag.to_string()).collect();
        let (level, answers) = (query.level.as_str(), self.answers);
        event.detail = format!("{level} by {}: {answers} answers, status {status}", keys.join(" "));
        let node = self.node.clone();
        association
            .let_go_on(async move { audit::write(&node, &[event]).await }.in_current_span())
            .await;
    }
}

fn status(ended: &Result<(), Ended>) -> Status {
    match ended {
        Ok(()) => Status::Success,
        Err(Ended::Refused(refusal)) => refusal.status,
        // The peer is not there to hear it; the audit and the metrics are told that the query was not finished.
        Err(Ended::Cancelled | Ended::Released | Ended::Association(_)) => Status::Cancel,
    }
}

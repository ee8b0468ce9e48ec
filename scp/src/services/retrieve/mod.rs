//! C-MOVE and C-GET (PS3.4 C.4.2, C.4.3): Retrieve SCP.
//!
//! # Mechanics
//! The identifier becomes the list of served instances and where they lie. The archive releases them, series by series, as they become readable;
//! C-MOVE ([`move_`]) sends them over associations of its own, C-GET ([`get`]) over the requester's. What both have in common is here: the
//! plan, Pending responses, the final response, audit and metrics.
//!
//! Pending is said at once, then after news (not more often than every half second) and every `retrieve.pending_interval` when nothing moves:
//! viewers are known to give up after 30 s of silence.
//!
//! # Crash
//! A retrieve changes nothing that lasts but for what it promises to deliver later, which is on record before it is promised ([`later`]). What was sent before a crash is in the audit as begun; the requester sees its association lost and asks again.

mod cadence;
mod get;
mod later;
mod move_;
mod without_bulk;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AuditEvent, AuditOutcome, Located};
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::model::{Encoding, Level, Uid};
use filmroom_index::query::Query;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

pub use get::serve_get;
pub use move_::serve_move;

use self::cadence::Cadence;
use crate::association::{Association, AssociationError, Outgoing};
use crate::dimse::{CGetResponse, CMoveResponse, Command, Response, RetrieveResponse, Status, StatusClass};
use crate::services::identifier::{self, Asked, Refusal};
use crate::services::interruption::{Ended, ask};
use crate::services::sub_operations::{End, Reason, SubOperation, SubOperations};
use crate::services::{Context, audit};
use crate::settings::Service;

/// One C-MOVE or C-GET.
struct Operation<'a> {
    node: &'a Context,
    /// Move or Get
    service: Service,
    context: u8,
    message_id: u16,
    sop_class: String,
    encoding: Encoding,
    started: Instant,
    books: SubOperations,
    cadence: Cadence,
    /// In the audit: level and destination
    what: String,
    /// One event a study, once something is to be sent
    audit: Vec<AuditEvent>,
}

/// What became of one instance, and the long version of it for the log.
struct Delivered {
    operation: SubOperation,
    detail: String,
}

impl Delivered {
    /// The destination answered a C-STORE (PS3.4 B.2.3): a warning is an image that was stored.
    fn answered(instance: &Uid, status: Status) -> Delivered {
        let operation = match status.class() {
            StatusClass::Success => SubOperation::Completed,
            StatusClass::Warning => SubOperation::Warning,
            _ => SubOperation::Failed {
                instance: instance.clone(),
                reason: Reason::Refused(status),
            },
        };
        Delivered {
            operation,
            detail: format!("answered with {status}"),
        }
    }

    /// A delivery has sent it while the retrieve ran.
    fn by_delivery() -> Delivered {
        Delivered {
            operation: SubOperation::Completed,
            detail: "sent by a delivery meanwhile".to_owned(),
        }
    }

    fn failed(instance: &Uid, reason: Reason, detail: impl ToString) -> Delivered {
        Delivered {
            operation: SubOperation::Failed {
                instance: instance.clone(),
                reason,
            },
            detail: detail.to_string(),
        }
    }
}

impl<'a> Operation<'a> {
    fn new(node: &'a Context, service: Service, context: u8, message_id: u16, sop_class: String) -> Operation<'a> {
        Operation {
            node,
            service,
            context,
            message_id,
            sop_class,
            encoding: Encoding::ImplicitLittle,
            started: Instant::now(),
            books: SubOperations::default(),
            cadence: Cadence::new(node.settings.pending_interval),
            what: String::new(),
            audit: Vec::new(),
        }
    }

    async fn read<S: AsyncRead + AsyncWrite + Unpin + Send>(&mut self, association: &mut Association<S>) -> Result<Asked, Ended> {
        let asked = identifier::read(association, self.service, self.context).await?;
        self.encoding = asked.encoding;
        Ok(asked)
    }

    /// Finds what is asked for, says how much it is, and writes down that it leaves for `destination`.
    async fn plan<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        asked: &Asked,
        destination: &str,
    ) -> Result<Vec<Located>, Ended> {
        let query = Query::retrieve(asked.root, &asked.identifier)?;
        let instances = self.locate(association, &query).await?;
        self.begin(association, &query, &instances, destination).await?;
        Ok(instances)
    }

    /// Finds once more what is asked for, after a wait in which nothing was sent. What is other than `before` is counted and written down anew.
    async fn plan_again<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        asked: &Asked,
        destination: &str,
        before: Vec<Located>,
    ) -> Result<Vec<Located>, Ended> {
        let query = Query::retrieve(asked.root, &asked.identifier)?;
        let instances = self.locate(association, &query).await?;
        let key = |instance: &Located| (instance.object, instance.study_uid.clone());
        if !instances.iter().map(key).eq(before.iter().map(key)) {
            tracing::info!(
                before = before.len(),
                now = instances.len(),
                "what is asked for changed while it waited"
            );
            self.begin(association, &query, &instances, destination).await?;
        }
        Ok(instances)
    }

    async fn locate<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        association: &mut Association<S>,
        query: &Query,
    ) -> Result<Vec<Located>, Ended> {
        let (catalogue, limit) = (self.node.archive.catalogue(), self.node.settings.find_limit);
        let (id, busy) = (self.message_id, Status::CannotCountMatches);
        if query.level == Level::Patient {
            let patients = ask(association, id, limit, busy, catalogue.find(query, 1, limit)).await?;
            if patients.len() > 1 {
                return Err(Ended::Refused(Refusal {
                    status: Status::DoesNotMatchSopClass,
                    offending: Some(tags::PATIENT_ID),
                    comment: "several issuers have this Patient ID, retrieve by study".to_owned(),
                }));
            }
        }
        let mut instances = ask(association, id, limit, busy, catalogue.locate(self.node.archive.node(), query)).await?;
        // They come by study, series and number: what two items of a list name twice is side by side.
        instances.dedup_by(|one, other| one.object == other.object);
        Ok(instances)
    }

    /// Says how much is to be sent, and writes it down.
    async fn begin<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        query: &Query,
        instances: &[Located],
        destination: &str,
    ) -> Result<(), Ended> {
        self.books = SubOperations::new(instances.len());
        // Of what was begun before and is not to be sent any more, the end is written down all the same.
        for event in &mut self.audit {
            event.instances = 0;
        }
        if instances.is_empty() {
            return Ok(());
        }
        self.pending(association).await?;
        self.what = format!("{} to {destination}", query.level.as_str());
        let begun = match self.service {
            Service::Get => "get-begun",
            _ => "move-begun",
        };
        let begun: Vec<AuditEvent> = studies(instances)
            .filter_map(|study| {
                let mut event = audit::event(self.node, association.peer(), begun);
                event.patient_id = audit::value(query, tags::PATIENT_ID);
                event.study_uid = study.first()?.study_uid.to_string();
                event.destination = destination.to_owned();
                event.instances = u64::try_from(study.len()).unwrap_or(u64::MAX);
                event.detail = format!("{} begun, {} instances in all", self.what, instances.len());
                Some(event)
            })
            .collect();
        audit::write(self.node, &begun).await;
        self.audit
            .retain(|earlier| begun.iter().all(|event| event.study_uid != earlier.study_uid));
        self.audit.extend(begun);
        Ok(())
    }

    /// What is asked for may not leave for `destination` at the wish of this AE: that is written down with what was asked.
    fn not_authorized<S: AsyncRead + AsyncWrite + Unpin + Send>(&mut self, association: &Association<S>, asked: &Asked, destination: &str) {
        let mut event = audit::event(self.node, association.peer(), "refuse");
        if let Ok(query) = Query::retrieve(asked.root, &asked.identifier) {
            event.patient_id = audit::value(&query, tags::PATIENT_ID);
            event.study_uid = audit::value(&query, tags::STUDY_INSTANCE_UID);
        }
        event.destination = destination.to_owned();
        self.what = format!("to {destination}");
        self.audit.push(event);
    }

    fn record(&mut self, delivered: Delivered) {
        let service = identifier::verb(self.service);
        let label = delivered.operation.label();
        metrics::counter!("filmroom_sub_operations_total", "service" => service, "result" => label).increment(1);
        let image = !matches!(delivered.operation, SubOperation::Failed { .. });
        if image && !self.books.any_arrived() {
            metrics::histogram!("filmroom_retrieve_first_image_seconds", "service" => service).record(self.started.elapsed());
        }
        if let SubOperation::Failed { instance, .. } = &delivered.operation {
            tracing::debug!(%instance, detail = delivered.detail, "sub-operation failed");
        }
        if self.books.record(delivered.operation) {
            tracing::warn!(detail = delivered.detail, "first sub-operation that failed in this way");
        }
        self.cadence.news();
    }

    /// Says how far it is.
    async fn pending<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
    ) -> Result<(), AssociationError> {
        let response = self.response(RetrieveResponse {
            counts: Some(self.books.counts()),
            ..self.plain(Status::Pending)
        });
        association.send(self.context, &response, None).await?;
        self.cadence.said();
        Ok(())
    }

    /// Sends the final response where there is somebody to hear it; writes log, metrics and audit.
    async fn conclude<S: AsyncRead + AsyncWrite + Unpin + Send>(
        mut self,
        association: &mut Association<S>,
        ended: Result<(), Ended>,
    ) -> Result<(), AssociationError> {
        let (status, outcome, result) = match ended {
            Ok(()) => self.finish(association, End::Complete).await,
            Err(Ended::Cancelled) => self.finish(association, End::Cancelled).await,
            Err(Ended::Refused(refusal)) => {
                tracing::info!(status = %refusal.status, comment = refusal.comment, "refused");
                let status = refusal.status;
                let response = self.response(RetrieveResponse {
                    offending: refusal.offending,
                    comment: Some(refusal.comment),
                    ..self.plain(status)
                });
                let sent = association.send(self.context, &response, None).await;
                (status.to_string(), audit::outcome(status), sent)
            }
            Err(Ended::Released) => ("released".to_owned(), AuditOutcome::Minor, Ok(())),
            Err(Ended::Association(error)) => ("lost".to_owned(), AuditOutcome::Minor, Err(error)),
        };
        let summary = self.books.summary();
        tracing::info!(status, summary, "retrieve ended");
        let service = identifier::verb(self.service);
        metrics::histogram!("filmroom_retrieve_seconds", "service" => service).record(self.started.elapsed());
        metrics::counter!("filmroom_retrieves_total", "service" => service, "status" => status.clone()).increment(1);
        let now = self.node.archive.clock().now();
        for event in &mut self.audit {
            event.at = now;
            if event.action != "refuse" {
                event.action = service;
            }
            event.outcome = outcome;
            event.detail = format!("{} ended with {status}: {summary}", self.what);
        }
        audit::write(self.node, &self.audit).await;
        result
    }

    async fn finish<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        end: End,
    ) -> (String, AuditOutcome, Result<(), AssociationError>) {
        let conclusion = self.books.conclude(end);
        let data_set = (!conclusion.failed.is_empty()).then(|| failed_list(&conclusion.failed).encode(self.encoding));
        let response = self.response(RetrieveResponse {
            counts: Some(conclusion.counts),
            comment: conclusion.comment,
            failed: conclusion.failed,
            ..self.plain(conclusion.status)
        });
        let outgoing = data_set.as_deref().map(Outgoing::Bytes);
        (
            conclusion.status.to_string(),
            audit::outcome(conclusion.status),
            association.send(self.context, &response, outgoing).await,
        )
    }

    fn plain(&self, status: Status) -> RetrieveResponse {
        RetrieveResponse {
            message_id: self.message_id,
            sop_class: self.sop_class.clone(),
            status,
            counts: None,
            offending: None,
            comment: None,
            failed: Vec::new(),
        }
    }

    fn response(&self, retrieve: RetrieveResponse) -> Command {
        Command::Response(match self.service {
            Service::Get => Response::Get(CGetResponse { retrieve }),
            _ => Response::Move(CMoveResponse { retrieve }),
        })
    }
}

/// The studies of a list that is sorted by study.
fn studies(instances: &[Located]) -> impl Iterator<Item = &[Located]> {
    instances.chunk_by(|one, other| one.study_uid == other.study_uid)
}

/// The data set of a final response (PS3.4 C.4.2.1.4.2).
fn failed_list(failed: &[Uid]) -> DataSet {
    let mut data_set = DataSet::new();
    let uids = failed.iter().map(ToString::to_string).collect();
    data_set.put(tags::FAILED_SOP_INSTANCE_UID_LIST, VR::UI, Value::Text(uids));
    data_set
}

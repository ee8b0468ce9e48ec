//! Requesting associations that are still open: the way to a requester that cannot be called (PS3.4 J.3.3.1.2, note 1).
//!
//! Mechanics: an association has a [`Mailbox`]; what it was asked for is noted at the [`Desk`], where the reporter finds it. A report goes to the
//! association's own task, which sends it between two messages and passes the answer back.
//!
//! Invariants: one report at a time on an association, for no operations window is negotiated (PS3.7 D.3.3.3). Nothing at the desk outlives its
//! association.
//!
//! Crash story: nothing is kept here. A report whose answer did not come is made again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filmroom_index::model::{AeTitle, Encoding, Uid};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{SOP_CLASS, SOP_INSTANCE};
use crate::association::{Association, AssociationError, Outgoing};
use crate::dimse::{Command, NEventReportRequest, NEventReportResponse, Request, Status};

/// Commitments noted of one association; what else it asks for is reported on another.
const MAX_EXPECTED: usize = 1000;

/// The answer to a report is waited for this long.
const RESPONSE: Duration = Duration::from_secs(120);

type Key = (AeTitle, Uid);

/// Where it is noted who may be told on which association.
#[derive(Debug, Default)]
pub struct Desk {
    lines: Mutex<HashMap<Key, Line>>,
}

/// An open association on which a report can be made.
#[derive(Clone, Debug)]
pub struct Line {
    reports: mpsc::Sender<Report>,
    context: u8,
    /// How the event information has to be encoded
    pub encoding: Encoding,
    /// When the request was taken
    pub since: Instant,
}

/// A report for the task of an association.
#[derive(Debug)]
pub struct Report {
    context: u8,
    event_type: u16,
    information: Vec<u8>,
    answer: oneshot::Sender<Status>,
}

impl Desk {
    /// The association of a request, if it is still open.
    pub fn line(&self, requester: &AeTitle, transaction: &Uid) -> Option<Line> {
        self.lines()
            .get(&(requester.clone(), transaction.clone()))
            .filter(|line| !line.reports.is_closed())
            .cloned()
    }

    /// It was reported: nothing is expected any more.
    pub fn forget(&self, requester: &AeTitle, transaction: &Uid) {
        self.lines().remove(&(requester.clone(), transaction.clone()));
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Key, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Makes a report and waits for its answer; none if the association ends before, or the answer does not come.
    pub async fn report(&self, event_type: u16, information: Vec<u8>) -> Option<Status> {
        let (answer, answered) = oneshot::channel();
        let report = Report {
            context: self.context,
            event_type,
            information,
            answer,
        };
        let exchange = async {
            self.reports.send(report).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(RESPONSE, exchange).await.ok().flatten()
    }
}

/// What an association's task has to do with the desk.
#[derive(Debug)]
pub struct Mailbox {
    desk: Arc<Desk>,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    expected: Vec<Key>,
    /// The report that was made and not answered
    owed: Option<(u16, oneshot::Sender<Status>)>,
    last_message: u16,
}

impl Mailbox {
    /// The mailbox of a new association.
    pub fn new(desk: Arc<Desk>) -> Mailbox {
        let (sender, reports) = mpsc::channel(1);
        Mailbox {
            desk,
            sender,
            reports,
            expected: Vec::new(),
            owed: None,
            last_message: 0,
        }
    }

    /// A request was taken on a context: its report may be made there.
    pub fn expect_report(&mut self, requester: AeTitle, transaction: Uid, context: u8, encoding: Encoding) {
        let key = (requester, transaction);
        let mut lines = self.desk.lines();
        self.expected.retain(|expected| lines.contains_key(expected));
        if self.expected.len() < MAX_EXPECTED {
            let line = Line {
                reports: self.sender.clone(),
                context,
                encoding,
                since: Instant::now(),
            };
            lines.insert(key.clone(), line);
            self.expected.push(key);
        }
    }

    /// The next report to be made; never while another is not answered. Cancel-safe.
    pub async fn next(&mut self) -> Report {
        if let Some((_, answer)) = &mut self.owed {
            // Until the answer is there, or nobody waits for it any more.
            answer.closed().await;
            self.owed = None;
        }
        match self.reports.recv().await {
            Some(report) => report,
            // Its sender is in this mailbox.
            None => std::future::pending().await,
        }
    }

    /// Sends a report.
    pub async fn deliver<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        association: &mut Association<S>,
        report: Report,
    ) -> Result<(), AssociationError> {
        self.last_message = self.last_message.wrapping_add(1);
        let request = NEventReportRequest {
            message_id: self.last_message,
            sop_class: SOP_CLASS.to_owned(),
            sop_instance: SOP_INSTANCE.to_owned(),
            event_type: report.event_type,
        };
        let command = Command::Request(Request::EventReport(request));
        let information = Outgoing::Bytes(&report.information);
        association.send(report.context, &command, Some(information)).await?;
        self.owed = Some((self.last_message, report.answer));
        Ok(())
    }

    /// An answer came. Whatever its status says, the requester has been told.
    pub fn answered(&mut self, response: &NEventReportResponse) {
        if let Some((message_id, answer)) = self.owed.take_if(|(message_id, _)| *message_id == response.message_id) {
            tracing::debug!(message_id, status = %response.status, "report answered");
            // Whoever waited may have given up.
            let _ = answer.send(response.status);
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut lines = self.desk.lines();
        for key in &self.expected {
            if lines.get(key).is_some_and(|line| line.reports.same_channel(&self.sender)) {
                lines.remove(key);
            }
        }
    }
}

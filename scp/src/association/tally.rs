//! What passed on one association: for its closing line in the log and for the metrics.

use metrics::{counter, gauge};

use crate::dimse::{Command, Operation, Request, Response, Status, StatusClass};

/// Counts of one association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests received
    pub requests: u64,
    /// Final responses sent or received that say success
    pub succeeded: u64,
    /// … that say warning or cancel
    pub warned: u64,
    /// … that say failure
    pub failed: u64,
}

impl Tally {
    pub(super) fn received(&mut self, command: &Command) {
        match command {
            Command::Request(Request::Cancel { .. }) => {}
            Command::Request(_) => self.requests += 1,
            Command::Response(response) => self.answered(response, "scu"),
        }
    }

    pub(super) fn sent(&mut self, command: &Command) {
        if let Command::Response(response) = command {
            if !response.is_documented() {
                let (operation, status) = (response.operation().name(), response.status());
                tracing::error!(operation, %status, "a status that the conformance statement does not have");
            }
            self.answered(response, "scp");
        }
    }

    fn answered(&mut self, response: &Response, role: &'static str) {
        let (service, status) = (label(response), response.status());
        match status.class() {
            StatusClass::Pending => return,
            StatusClass::Success => self.succeeded += 1,
            StatusClass::Warning | StatusClass::Cancel => self.warned += 1,
            StatusClass::Failure => self.failed += 1,
        }
        counter!("filmroom_dimse_operations_total", "service" => service, "role" => role, "status" => status_label(status)).increment(1);
    }
}

fn label(response: &Response) -> &'static str {
    match response.operation() {
        Operation::Echo => "echo",
        Operation::Store => "store",
        Operation::Find => "find",
        Operation::Move => "move",
        Operation::Get => "get",
        Operation::Action => "action",
        Operation::EventReport => "event_report",
        Operation::Unrecognized => "unrecognized",
    }
}

/// A label of bounded variety: what a peer makes up is counted by its class.
fn status_label(status: Status) -> String {
    match (status, status.class()) {
        (Status::Other(_), StatusClass::Warning) => "other warning".to_owned(),
        (Status::Other(_), _) => "other failure".to_owned(),
        (named, _) => named.to_string(),
    }
}

/// Counts an association as open for as long as it lives.
#[derive(Debug)]
pub(super) struct Open(&'static str);

impl Open {
    pub(super) fn new(role: &'static str) -> Open {
        counter!("filmroom_associations_total", "role" => role).increment(1);
        gauge!("filmroom_associations_open", "role" => role).increment(1.0);
        Open(role)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("filmroom_associations_open", "role" => self.0).decrement(1.0);
    }
}

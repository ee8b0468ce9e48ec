//! Associations that we open.

use std::sync::Arc;

use filmroom_index::catalogue::Located;
use filmroom_index::model::AeTitle;
use filmroom_tiering::hot::DataSetReader;
use tokio::net::TcpStream;

use crate::association::{Association, AssociationError};
use crate::dimse::Status;
use crate::settings::{Peer, Settings};

/// Sends instances to one AE for one request: opens associations as the instances' SOP classes and transfer syntaxes need them, closes them when
/// they have been idle for 10 s, reopens them.
#[derive(Debug)]
pub struct Sender {
    open: Vec<Association<TcpStream>>,
}

/// What became of one C-STORE sub-operation.
#[derive(Debug)]
pub enum Sent {
    /// The destination's status
    Answered(Status),
    /// The destination did not accept the SOP class, or not in the stored transfer syntax
    NotAccepted(String),
    /// The association could not be opened or was lost
    Failed(AssociationError),
}

impl Sender {
    /// A sender to a destination; nothing is opened yet. `planned` are all instances that may be sent, so that one negotiation covers them.
    pub fn new(settings: Arc<Settings>, destination: &Peer, planned: &[Located], originator: Option<(AeTitle, u16)>) -> Sender {
        let _ = (settings, destination, planned, originator);
        todo!()
    }

    /// Sends one instance.
    pub async fn send(&mut self, instance: &Located, data_set: DataSetReader) -> Sent {
        let _ = (instance, data_set);
        todo!()
    }

    /// Closes associations that have been idle; returns when the next one would be.
    pub async fn close_idle(&mut self) {
        todo!()
    }

    /// Releases what is open.
    pub async fn finish(self) {
        todo!()
    }
}

/// C-ECHO to an AE: the status and the round trip.
pub async fn echo(settings: &Settings, destination: &Peer) -> Result<(Status, std::time::Duration), AssociationError> {
    let _ = (settings, destination);
    todo!()
}

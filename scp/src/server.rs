//! Accepts connections and serves each in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use filmroom_tiering::Archive;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// A listening DICOM server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Binds the port.
    pub async fn bind(settings: Arc<Settings>, archive: Archive) -> std::io::Result<Server> {
        let _ = (settings, archive);
        todo!()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        todo!()
    }

    /// Serves until cancelled; then takes no new associations, lets running operations end for at most `grace`, and aborts the rest.
    pub async fn run(self, stop: CancellationToken, grace: std::time::Duration) {
        let _ = (stop, grace);
        todo!()
    }
}

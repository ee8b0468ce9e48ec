//! Who walks through the archive for a command: the node that runs on the data directory, or this process.

use filmroom_tiering::Archive;
use filmroom_tiering::error::ArchiveError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::act::{ask, os_user};
use crate::config::Config;
use crate::strides::Step;

/// Who walks.
pub(super) enum Walker<'a> {
    /// The node that runs on the data directory
    Running(&'a Config),
    /// This process
    Here(Archive),
}

impl<'a> Walker<'a> {
    /// This process, if it could open the data directory; the node that has it otherwise.
    pub(super) fn of(opened: anyhow::Result<Archive>, config: &'a Config) -> anyhow::Result<Walker<'a>> {
        match opened {
            Ok(archive) => Ok(Walker::Here(archive)),
            Err(error) if matches!(error.downcast_ref(), Some(ArchiveError::Locked(_))) => Ok(Walker::Running(config)),
            Err(error) => Err(error),
        }
    }

    /// Has one stride done: by the node under `route`, or as `here` says, in the name of who runs this process.
    pub(super) async fn stride<Order: Serialize, Place: Serialize, Stride: DeserializeOwned>(
        &self,
        step: Step<Order, Place>,
        route: &str,
        here: impl AsyncFnOnce(&Archive, Step<Order, Place>, &str) -> Result<Stride, ArchiveError>,
    ) -> anyhow::Result<Stride> {
        match self {
            Walker::Here(archive) => Ok(here(archive, step, &os_user()).await?),
            Walker::Running(config) => ask(config, route, &step).await,
        }
    }

    /// Closes what was opened.
    pub(super) async fn finish(self) {
        if let Walker::Here(archive) = self {
            archive.close().await;
        }
    }
}

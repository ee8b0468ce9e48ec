//! Brings cold instances back: one GET per pack, shared by everybody who waits for it.

use filmroom_index::catalogue::Located;

use crate::error::RetrieveError;
use crate::hot::DataSetReader;

/// Instances on their way to a destination, as [`crate::Archive::retrieve`] releases them. Dropped, it stops what it started.
#[derive(Debug)]
pub struct Retrieval {}

/// What becomes of one instance of a retrieval.
#[derive(Debug)]
pub enum Release {
    /// It can be sent now.
    Ready(Located, DataSetReader),
    /// It cannot.
    Failed(Located, RetrieveError),
}

impl Retrieval {
    /// The next instance that is released, or is known to fail; none when all were. Cancel-safe.
    pub async fn next(&mut self) -> Option<Release> {
        todo!()
    }
}

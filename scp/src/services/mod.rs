//! One module a service: each reads its request, does its work and sends its responses on the association that it is given.

pub mod audit;
pub mod commitment;
pub mod echo;
pub mod find;
pub mod identifier;
pub mod interruption;
pub mod retrieve;
pub mod store;
pub mod sub_operations;

use std::sync::Arc;

use filmroom_tiering::Archive;

use crate::destinations::Places;
use crate::services::commitment::desk::Desk;
use crate::settings::Settings;

/// What a service works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// Settings
    pub settings: Arc<Settings>,
    /// The archive
    pub archive: Archive,
    /// Where a storage commitment may be reported on the association that asked for it
    pub desk: Arc<Desk>,
    /// Who sends to which destination
    pub places: Arc<Places>,
}

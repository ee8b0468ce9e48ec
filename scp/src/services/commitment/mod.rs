//! Storage Commitment Push Model SCP (PS3.4 J): whoever has our report may delete its own copy, so it says what is true.
//!
//! - [`action`]: N-ACTION: what is asked for is put on record, then answered.
//! - [`check`]: whether each instance is safe, by the catalogue and by reading.
//! - [`event`]: N-EVENT-REPORT's event information.
//! - [`desk`]: requesting associations that are still open, for requesters that cannot be called.
//! - [`reporter`]: works on what is on record until the report is answered.

pub mod action;
mod check;
pub mod desk;
mod event;
pub mod reporter;

/// The well-known SOP class and its instance (PS3.4 J.3.5).
pub use dicom_dictionary_std::uids::{STORAGE_COMMITMENT_PUSH_MODEL as SOP_CLASS, STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE as SOP_INSTANCE};

/// Most references of one request: more is refused with 0213.
pub const MAX_REFERENCES: u64 = 100_000;

//! Packs that S3 has archived, and how they come back.
//!
//! # Layout
//! - [`forecast`]: what is archived by now, by the store's rule; [`inspect`]: what a HEAD says of a pack.
//! - [`request`]: asking for packs, and waiting for them; [`worker`]: what asks S3 and looks; [`pace`]: how fast, how long, how often: pure.
//!
//! A restore is a row of the catalogue, shared by everybody who waits for the pack, on any node: `wanted → restoring → readable | failed`.

mod forecast;
mod inspect;
mod pace;
mod request;
mod worker;

pub(crate) use forecast::{Forecast, pack_state, used_since};
pub(crate) use inspect::Verified;
pub(crate) use request::{ArchivedPack, Restores, last};
pub(crate) use worker::work;

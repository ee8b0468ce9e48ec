//! Between the tiers: series are packed, verified, evicted, recalled and released, on a real catalogue, with a directory or a bucket as cold store.

// Everything here is a test, though clippy knows only those functions as such that say so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod adoption;
mod bucket;
#[cfg(feature = "failpoints")]
mod crash;
mod erase;
mod eviction;
mod instance;
mod integrity;
mod late_put;
#[cfg(feature = "failpoints")]
mod mending;
mod node;
mod offload;
mod recall;
mod repacking;
mod retrieval;
mod two_nodes;

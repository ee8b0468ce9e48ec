//! A node on a socket: what it stores and refuses, its limits, its stop, and clients that are not ours.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // A panic is how a test fails.

mod limits;
mod node;
mod peers;
mod raw;
mod refusals;
mod store;

//! C-FIND, C-MOVE and C-GET against a real archive: SQLite, hot files, a directory as cold store.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by a panic"
)]

mod deliveries;
mod finds;
mod gets;
mod moves;
mod places;
mod support;

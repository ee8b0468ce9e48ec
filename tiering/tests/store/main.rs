//! The store path on real files and a real catalogue: received, committed, resent, swept.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that tests share fail by panicking, as tests do"
)]

mod duplicates;
mod faults;
mod import;
mod node;
mod notes;
mod round_trip;
mod sweep;

//! Stored data sets in other transfer syntaxes: native ones, decoded ones, and a codec process that fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails by a panic"
)]

mod child;
mod native;
mod pixels;
mod support;

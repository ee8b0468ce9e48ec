//! The catalogue of filmroom: what exists, where each byte of it is, and what is being done about it.
//!
//! This crate knows no network and no files. It holds the words that the other crates share and the SQL behind them.
//!
//! # Layout
//! - [`model`]: UIDs, AE titles, levels, digests, serving states: every type that names a DICOM idea exists once, here.
//! - [`clock`]: the time of day, steered in tests.
//! - [`dataset`]: a decoded data set, as the header of an object, a query or an answer; its JSON and its encodings.
//! - [`header`]: the push scanner that stands in front of every byte from the network; [`charset`] decodes its text.
//! - [`part10`]: the preamble and File Meta Information that stand before a data set in a file.
//! - [`rejection`]: rejection notes, read.
//! - [`retention`]: how long images have to be kept.
//! - [`query`]: a C-FIND or C-MOVE identifier as matching and return keys, with a pure reference matcher.
//! - [`catalogue`]: the database, SQLite or PostgreSQL.

#[cfg(feature = "database")]
pub mod catalogue;
pub mod charset;
pub mod clock;
pub mod dataset;
pub mod header;
pub mod model;
pub mod part10;
pub mod query;
pub mod rejection;
pub mod retention;

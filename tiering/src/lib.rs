//! Where the bytes of filmroom lie: on local disk while they are wanted, in packs in the cold store for ever.
//!
//! This crate knows no DIMSE. [`Archive`] is what the services hold: it receives, commits, retrieves, offloads, evicts and recalls.
//!
//! # Layout
//! - [`archive`]: opens and locks a data directory, and ties the pieces below to the catalogue.
//! - [`hot`]: files on local disk: staged, committed, opened, removed; the sweep at start-up.
//! - [`commit`]: the committer: durability paid once for many.
//! - [`pack`]: how a series lies in the cold store, in packs or as one object per instance, as a pure function of its members; [`manifest`]: the object that
//!   tells of them.
//! - [`import`]: files from elsewhere, by the same path. [`adopt`]: objects that another program put into the cold store, indexed where they lie.
//! - [`rules`]: which series stay hot longer, are never archived, leave at once, lie in another layout: pure.
//! - [`repack`]: adopted objects, packed as our own.
//! - `erase`: what was deleted on purpose, out of the cold store.
//! - [`cold`]: the cold store, S3 or a directory. [`bandwidth`]: how many bytes a second, by the hour.
//! - [`policy`]: what to pack together, what to evict: pure.
//! - [`mover`]: offload, verify, evict, write the journal. `rounds`: when loops look for work.
//! - [`rebuild`]: the catalogue made anew.
//! - [`fsck`]: the catalogue compared with hot files and cold objects.
//! - [`recall`]: cold instances made readable, one GET per pack however many ask.
//! - [`cost`]: what an archive costs in S3: pure.
//! - [`schedule`]: a value by day of the week and time of day: pure.
//! - `restore`: packs that S3 has archived, brought back.
//! - [`integrity`]: whether what is kept is what was stored, and how it is made good again.
//! - [`withdraw`]: rejection notes, obeyed.

mod admission;
pub mod adopt;
mod approach;
pub mod archive;
pub mod bandwidth;
pub mod cold;
mod commit;
pub mod cost;
mod data_dir;
mod durable;
mod erase;
pub mod error;
pub mod fsck;
pub mod hot;
pub mod import;
pub mod integrity;
pub mod manifest;
pub mod mover;
pub mod pack;
pub mod policy;
pub mod rebuild;
pub mod recall;
pub mod repack;
mod restore;
mod rounds;
pub mod rules;
pub mod schedule;
mod withdraw;

pub use archive::{Archive, Settings};
pub use data_dir::{DataDir, node_of};
pub use durable::make_dirs;
pub use error::{RestoreOutlook, RetrieveError, StoreError};

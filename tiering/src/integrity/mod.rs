//! Whether what is kept is what was stored, and how it is made good again.
//!
//! # Layout
//! - [`hot_file`]: hot copies: read whole and compared; a bad one is set aside and comes back out of its pack.
//! - [`pack`]: packs: looked at by HEAD; a lost or altered one is put again out of hot copies.
//! - [`manifest`]: the manifest beside a pack: compared with the catalogue, and written anew.
//! - [`scrub`]: everything looked at again and again.
//! - [`pace`]: how fast files are read for that.
//!
//! # Invariants
//! - What is found bad is on record as bad before anything else is done about it, so that nothing counts on it meanwhile.
//! - Bad bytes are never deleted: they are set aside, or stay where they are as long as nothing better is known.
//! - A pack is read for one reason only: to bring back a hot file that is bad, and while it can be read at once. Everything else is known by HEAD, for a GET
//!   starts S3's archive clock again.

mod hot_file;
mod manifest;
mod pace;
mod pack;
mod scrub;

pub use hot_file::HotFault;
pub use manifest::ManifestFault;
pub use pace::Pace;
pub use pack::PackFault;
pub use scrub::ScrubSettings;

/// What became of a repair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mended {
    /// It is as it was stored. How that was done.
    Good(String),
    /// What nothing else has of it is safe, the rest is not here: what is missing.
    Partly(String),
    /// A hot copy whose pack S3 has archived: the object is cold from now on, to be recalled like any other.
    Cold(String),
    /// No good copy is within reach of this node: why.
    Lost(String),
    /// Not now: why.
    Later(String),
    /// It is on record no more: evicted, deleted, packed anew.
    Gone,
}

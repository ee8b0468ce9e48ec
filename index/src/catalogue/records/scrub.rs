//! How far the scrub is.

use crate::model::Timestamp;

/// What a scrub goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubOf {
    /// The hot copies of one node
    Hot,
    /// The packs, which all nodes share
    Cold,
}

impl ScrubOf {
    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            ScrubOf::Hot => "hot",
            ScrubOf::Cold => "cold",
        }
    }
}

/// What was looked at so far, or in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubTally {
    /// Hot copies, or packs
    pub checked: u64,
    /// Bytes that were read for it
    pub bytes: u64,
    /// Those that were bad
    pub bad: u64,
}

/// A scrub on record. Times are by the clocks of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubProgress {
    /// When the pass under way began; none between two
    pub began_at: Option<Timestamp>,
    /// Row id of what the pass under way looked at last
    pub position: i64,
    /// What it has looked at
    pub tally: ScrubTally,
    /// When the last complete pass began
    pub last_began_at: Option<Timestamp>,
    /// When it ended
    pub last_ended_at: Option<Timestamp>,
    /// What it looked at
    pub last: ScrubTally,
}

/// A scrub that is leased to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubClaim {
    /// Row of the scrub
    pub scrub: i64,
    /// Fencing number of the lease
    pub fence: i64,
    /// How far it is
    pub progress: ScrubProgress,
}

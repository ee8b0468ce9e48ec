//! How urgently an archived pack is wanted back.

use std::fmt;

/// The speed of a restore, in S3's words for its retrieval options. What is later in the order is faster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RestoreTier {
    /// Hours: 5 to 12 from Archive Access, up to 48 from Deep Archive Access
    Bulk,
    /// Hours: 3 to 5 from Archive Access, up to 12 from Deep Archive Access
    Standard,
    /// Minutes, for what is smaller than 250 MB and in Archive Access
    Expedited,
}

impl RestoreTier {
    /// As it stands in the configuration and in the catalogue.
    pub fn as_str(self) -> &'static str {
        match self {
            RestoreTier::Bulk => "bulk",
            RestoreTier::Standard => "standard",
            RestoreTier::Expedited => "expedited",
        }
    }

    /// The tier of that name; none if there is none.
    pub fn parse(text: &str) -> Option<RestoreTier> {
        let all = [RestoreTier::Bulk, RestoreTier::Standard, RestoreTier::Expedited];
        all.into_iter().find(|tier| tier.as_str() == text)
    }
}

impl fmt::Display for RestoreTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

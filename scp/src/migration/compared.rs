//! What came of a comparison: of one study, and in all.

use filmroom_index::catalogue::FoundStudy;
use filmroom_index::model::Uid;

/// One study at both places.
#[derive(Clone, Debug)]
pub struct Compared {
    /// What the remote tells of it
    pub study: FoundStudy,
    /// Series and images at the remote
    pub there: (u64, u64),
    /// Series and images that are served here
    pub here: (u64, u64),
    /// Images that are at the remote and not here
    pub missing: Vec<Uid>,
    /// Images of the remote that are in quarantine here, and why
    pub quarantined: Vec<(Uid, String)>,
    /// Images of the remote that were withdrawn, replaced or deleted here
    pub withdrawn: Vec<Uid>,
    /// Images that are here and not at the remote
    pub more: Vec<Uid>,
    /// Images whose bytes were compared and are the same
    pub same_bytes: u64,
    /// Images whose bytes are others here than at the remote
    pub other_bytes: Vec<Uid>,
    /// Images that the remote sent in another transfer syntax than is kept here, so that bytes say nothing
    pub other_syntax: u64,
    /// What could not be compared, and why
    pub unknown: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Studies that the remote told of
    pub studies: u64,
    /// Of those, the ones of which everything is here
    pub equal: u64,
    /// Studies that the last migration found at the remote, which does not have them any more
    pub gone: u64,
    /// Series and images at the remote
    pub there: (u64, u64),
    /// Images at the remote that are not here
    pub missing: u64,
    /// Images at the remote that are in quarantine here
    pub quarantined: u64,
    /// Images at the remote that were withdrawn here
    pub withdrawn: u64,
    /// Images here that are not at the remote, in studies that it has
    pub more: u64,
    /// Images whose bytes are the same
    pub same_bytes: u64,
    /// Images whose bytes are others
    pub other_bytes: u64,
    /// Images whose bytes could not be compared, since they were sent in another transfer syntax
    pub other_syntax: u64,
    /// Questions that the remote did not answer in full, and studies that could not be compared
    pub unknown: Vec<String>,
}

impl Compared {
    /// Whether everything that the remote has is here, as it has it.
    pub fn is_equal(&self) -> bool {
        self.missing.is_empty() && self.quarantined.is_empty() && self.other_bytes.is_empty() && self.unknown.is_empty()
    }

    /// Whether the remote does not have it any more.
    pub fn is_gone(&self) -> bool {
        self.there.1 == 0 && self.unknown.is_empty()
    }
}

impl Totals {
    /// Whether everything that the remote has is here, as far as it was compared.
    pub fn is_equal(&self) -> bool {
        self.missing == 0 && self.quarantined == 0 && self.other_bytes == 0 && self.unknown.is_empty()
    }

    /// One more study.
    pub(super) fn add(&mut self, compared: &Compared) {
        let count = |uids: usize| uids as u64;
        if compared.is_gone() {
            self.gone += 1;
            return;
        }
        self.studies += 1;
        self.equal += u64::from(compared.is_equal());
        self.there = (self.there.0 + compared.there.0, self.there.1 + compared.there.1);
        self.missing += count(compared.missing.len());
        self.quarantined += count(compared.quarantined.len());
        self.withdrawn += count(compared.withdrawn.len());
        self.more += count(compared.more.len());
        self.same_bytes += compared.same_bytes;
        self.other_bytes += count(compared.other_bytes.len());
        self.other_syntax += compared.other_syntax;
        let study = &compared.study.study_uid;
        self.unknown.extend(compared.unknown.iter().map(|why| format!("{study}: {why}")));
    }
}

//! One look at a series: the flights of its packs, and what their end means for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use filmroom_index::catalogue::{PackKey, PackState, Packed};
use filmroom_index::model::ObjectId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::errand::Errand;
use super::flight::{Event, Wanted};
use super::flights::{PLACES, Terms};
use crate::cold::ArchiveTier;
use crate::error::RetrieveError;
use crate::restore::ArchivedPack;

/// The flights that one look at a series has boarded.
pub(super) struct Round {
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) ended: Vec<CancellationToken>,
    /// Packs of which it is not known yet whether they can be read
    pub(super) closed: BTreeSet<PackKey>,
    pub(super) members: HashMap<PackKey, Vec<usize>>,
    pub(super) packs: HashMap<PackKey, Packed>,
    pub(super) indexes: HashMap<ObjectId, Vec<usize>>,
}

impl Round {
    /// Boards the flights of all packs of a series together.
    pub(super) fn board(errand: &Errand, packs: BTreeMap<PackKey, (Packed, Vec<usize>)>) -> Round {
        let (passenger, events) = mpsc::unbounded_channel();
        let terms = Terms {
            keep: errand.keep,
            probe: packs.len() > PLACES,
        };
        let mut round = Round {
            events,
            ended: Vec::new(),
            closed: packs.keys().copied().collect(),
            members: HashMap::new(),
            packs: HashMap::new(),
            indexes: HashMap::new(),
        };
        for (pack, (packed, members)) in packs {
            let mut wanted = Vec::new();
            for index in &members {
                let Some(located) = errand.located(*index) else { continue };
                let indexes = round.indexes.entry(located.object).or_default();
                indexes.push(*index);
                if indexes.len() == 1 {
                    wanted.push(Wanted {
                        object: located.object,
                        offset: located.packed.as_ref().map_or(0, |packed| packed.offset),
                        length: located.length,
                        sha256: located.sha256,
                    });
                }
            }
            round.members.insert(pack, members);
            let ended = errand.node.recalls.board(&errand.node, &packed, &wanted, terms, &passenger);
            round.ended.push(ended);
            round.packs.insert(pack, packed);
        }
        round
    }

    /// A pack that answered that it is archived in a tier.
    pub(super) fn archived(&self, pack: PackKey, tier: &str) -> Option<ArchivedPack> {
        let archived_in = match tier == ArchiveTier::Archive.as_str() {
            true => PackState::ArchiveAccess,
            false => PackState::DeepArchiveAccess,
        };
        self.packs.get(&pack).map(|packed| ArchivedPack::seen(packed, archived_in))
    }
}

/// Whether a pack that cannot be read for this reason withholds its series.
pub(super) fn withholds(error: &RetrieveError) -> bool {
    match error {
        RetrieveError::Archived { .. } | RetrieveError::ColdDown(_) | RetrieveError::Local(_) => true,
        RetrieveError::Damaged(_) | RetrieveError::Unreachable | RetrieveError::Withdrawn | RetrieveError::Moved => false,
    }
}

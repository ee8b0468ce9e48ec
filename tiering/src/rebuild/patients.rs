//! The journal about patients: who was merged with whom. It is about studies that come later, too, so it lies in a folder of its own and is
//! replayed before them.

use futures::{StreamExt, TryStreamExt};

use super::listing::PATIENTS;
use super::study::entries;
use super::{Rebuild, journal};
use crate::cold::ColdStore;
use crate::error::ArchiveError;

/// Entries that are put on record in one transaction.
const OVERLAYS: usize = 500;

impl Rebuild<'_> {
    /// The journal about patients, a page at a time: entries are listed in the order in which they were made.
    pub(super) async fn patients(&mut self, cold: &ColdStore) -> Result<(), ArchiveError> {
        let mut pages = cold.list(&format!("{PATIENTS}/")).try_chunks(OVERLAYS);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| ArchiveError::from(error.1))?;
            let keys = page
                .into_iter()
                .map(|listed| listed.key)
                .filter(|key| key.ends_with(".json"))
                .collect();
            let (entries, damage) = entries(cold, keys).await?;
            self.report.entries += entries.len() as u64;
            self.report.damage(damage);
            let decided = journal::replay(entries);
            self.report.settled += self.catalogue.replay_overlays(&decided.overlays).await?;
            fail::fail_point!("rebuild::after_patients");
        }
        Ok(())
    }
}

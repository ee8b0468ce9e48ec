//! The order to pack what was adopted, and what came of it.

use std::time::Duration;

use filmroom_index::catalogue::{ForeignLeft, OriginalsLeft};
use filmroom_index::model::{Timestamp, Uid};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::Archive;
use crate::cold::ColdError;
use crate::error::ArchiveError;
use crate::mover::PATIENCE;
use crate::mover::signals::What;

/// How often it is counted what is left to do.
const COUNTING: Duration = Duration::from_secs(1);

/// What is to be packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Study Instance UIDs or Accession Numbers; none: everything that was adopted
    pub studies: Vec<String>,
    /// Remove the originals, in every version, once what was packed is verified
    pub remove_originals: bool,
    /// Restore what S3 has archived
    pub restore: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repacked {
    /// Objects that were packed
    pub packed: u64,
    /// Adopted objects that are left as they were
    pub left: ForeignLeft,
    /// Until when some of them are restored, to be packed then
    pub restoring_until: Option<Timestamp>,
    /// Originals on record
    pub originals: OriginalsLeft,
}

impl Archive {
    /// Packs what was adopted, of some studies or all; returns when everything that can be read is packed and verified, and the originals are removed if that was
    /// asked for, but for those that the cold store keeps. The mover has to run ([`Archive::run`]), and goes on by itself when nobody waits.
    ///
    /// # Errors
    /// The cold store refuses, `[bandwidth]` lets nothing pass, or there was no progress for five minutes.
    pub async fn repack(&self, order: &Order) -> Result<Repacked, ArchiveError> {
        let node = &self.inner;
        self.cold()?;
        let mut events = node.mover.listen();
        let mut studies: Option<Vec<Uid>> = None;
        for name in &order.studies {
            studies.get_or_insert_default().extend(self.studies_named(name).await?);
        }
        let studies = studies.as_deref();
        let before = node.catalogue.foreign_left(studies).await?;
        let now = node.clock.now();
        node.catalogue
            .request_repack(studies, order.remove_originals, order.restore, now)
            .await?;
        fail::fail_point!("repack::after_order");
        node.mover.wake();
        let (mut left, mut moved) = (None, Instant::now());
        let mut last = "the mover does not get on with it".to_owned();
        loop {
            let standing = node.catalogue.repack_standing(studies).await?;
            let originals = match standing.open {
                0 => Some(node.catalogue.originals_left(studies).await?),
                _ => None,
            };
            let going = originals.as_ref().map_or(0, |originals| originals.going);
            match originals {
                Some(originals) if going == 0 || !order.remove_originals => {
                    let left = node.catalogue.foreign_left(studies).await?;
                    return Ok(Repacked {
                        packed: before.objects.saturating_sub(left.objects),
                        left,
                        restoring_until: standing.restoring_until,
                        originals,
                    });
                }
                _ => {}
            }
            if left != Some((standing.open, going)) {
                (left, moved) = (Some((standing.open, going)), Instant::now());
            }
            if standing.open > 0 && (node.bandwidth.upload.is_paused() || node.bandwidth.download.is_paused()) {
                let why = "[bandwidth] lets nothing pass at this hour; what was adopted is packed as soon as it does";
                return Err(ColdError::Refused(why.to_owned()).into());
            }
            if moved.elapsed() > PATIENCE {
                return Err(ColdError::Unavailable(last).into());
            }
            // One that lags has missed what the count above tells.
            if let Ok(Ok(event)) = timeout(COUNTING, events.recv()).await
                && studies.is_none_or(|studies| studies.contains(&event.study))
            {
                match event.what {
                    What::Moved => moved = Instant::now(),
                    What::Failed(why) => last = why,
                    What::Refused(why) => return Err(ColdError::Refused(why).into()),
                }
            }
        }
    }
}

//! Adoption: objects that another program put into the bucket of the cold store (an S3 File Gateway, Dicoogle), indexed where they lie. Nothing is copied.
//!
//! # Mechanics
//! The bucket is listed in strides, as `fsck` walks: whoever has it done asks for the next one with the [`Place`] that the last one reached. Of what is neither ours nor
//! on record the [`head`] is read, [`READERS`] at once; what is DICOM is put on record [`BATCH`] by batch, and a [`record`] of it beside the manifests, so that a
//! rebuild needs no foreign object. The digest of its bytes is learnt when somebody has it recalled, or when it is packed ([`crate::repack`]).
//!
//! # Invariants
//! - A foreign object is listed, asked for and read; never written, tagged, restored or removed by an adoption.
//! - Each GET is on condition of the entity tag that was listed. One GET an object, as a rule, and none of what is on record: it starts the archive clock of the
//!   object again, once.
//! - What is archived is counted and named, and taken up by a later run when somebody has restored it.
//! - Nothing that is served gives way to what is adopted.
//! - Memory is bounded by a page of the listing, [`BATCH`] headers and [`LINES`] lines of the report.
//!
//! # Crash story
//! How far an adoption has come is what the catalogue has: the next run lists anew and reads what is not on record. What was committed and has no record yet gets it before
//! anything else is done.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use filmroom_index::catalogue::{Adopted, KnownForeign};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore, Listed, Listing};
use crate::error::ArchiveError;
use crate::fsck::is_ours;
use head::{Cost, Without};
use settle::settle_owed;

mod head;
pub(crate) mod record;
mod report;
mod settle;

pub use head::Guess;
pub use report::{Became, Line, Stride, Tally};

/// Heads that are read at once.
const READERS: usize = 16;

/// Objects that are put on record together: so many may have to be read again after a kill.
pub(crate) const BATCH: usize = 64;

/// Records that are put at once.
const RECORDS: usize = 8;

/// Objects without a record that are looked at together.
const OWED: u32 = 512;

/// How long a stride takes, about.
const STRIDE: Duration = Duration::from_secs(2);

/// Lines of the report that one stride brings at most; it ends there.
const LINES: usize = 500;

/// No object that is shorter is DICOM: preamble, prefix, and an element of File Meta Information.
const SHORTEST: u64 = 140;

/// Pauses before a store that is overloaded, or does not answer, is asked again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// What is to be adopted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Prefixes in the bucket; none: all of it
    pub prefixes: Vec<String>,
    /// Only list: nothing is read, nothing put on record
    pub dry_run: bool,
}

/// How far a run has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// Which of the prefixes
    prefix: usize,
    /// The key that was dealt with last
    after: String,
    /// How long headers were lately
    guess: Guess,
}

impl Archive {
    /// Goes one stride of an adoption: from its beginning, or from where the last stride ended. `actor` stands in the audit.
    ///
    /// # Errors
    /// The catalogue or the cold store do not answer: what was put on record is, and the run can be started again.
    pub async fn adopt(&self, order: &Order, place: Option<Place>, actor: &str) -> Result<Stride, ArchiveError> {
        let cold = self.cold()?;
        let begins = place.is_none();
        let mut walk = Walk {
            node: &self.inner,
            cold,
            order,
            actor,
            place: place.unwrap_or_default(),
            tally: Tally::default(),
            lines: Vec::new(),
            unnamed: 0,
        };
        if begins && !order.dry_run {
            settle_owed(walk.node, cold).await?;
        }
        let ended = walk.go().await?;
        let Walk {
            place,
            tally,
            lines,
            unnamed,
            ..
        } = walk;
        let next = (!ended).then_some(place);
        Ok(Stride {
            next,
            tally,
            lines,
            unnamed,
        })
    }
}

struct Walk<'a> {
    node: &'a std::sync::Arc<Inner>,
    cold: &'a ColdStore,
    order: &'a Order,
    actor: &'a str,
    place: Place,
    tally: Tally,
    lines: Vec<Line>,
    unnamed: u64,
}

impl Walk<'_> {
    /// Walks until the stride is over; whether the run has ended.
    async fn go(&mut self) -> Result<bool, ArchiveError> {
        let end = Instant::now() + STRIDE;
        // A directory cannot be listed from a key on.
        let unbroken = matches!(self.cold, ColdStore::Directory(_));
        loop {
            let Some(mut listing) = self.listing() else { return Ok(true) };
            loop {
                let mut page = Vec::new();
                while page.len() < BATCH
                    && let Some(listed) = listing.next().await.transpose()?
                {
                    page.push(listed);
                }
                let (last, whole) = (page.last().map(|listed| listed.key.clone()), page.len() == BATCH);
                self.page(page).await?;
                if let Some(last) = last {
                    self.place.after = last;
                }
                if !whole {
                    break;
                }
                if (Instant::now() >= end || self.lines.len() + BATCH > LINES) && !unbroken {
                    return Ok(false);
                }
            }
            self.place.prefix += 1;
            self.place.after.clear();
        }
    }

    /// What is listed next; none at the end.
    fn listing(&self) -> Option<Listing> {
        let prefix = match self.order.prefixes.get(self.place.prefix) {
            Some(prefix) => format!("/{}", prefix.trim_start_matches('/')),
            None if self.order.prefixes.is_empty() && self.place.prefix == 0 => "/".to_owned(),
            None => return None,
        };
        let after = Some(self.place.after.as_str()).filter(|after| !after.is_empty());
        Some(self.cold.list_after(&prefix, after))
    }

    /// Deals with some listed objects.
    async fn page(&mut self, page: Vec<Listed>) -> Result<(), ArchiveError> {
        self.tally.listed += page.len() as u64;
        let relative: HashMap<String, String> = page
            .iter()
            .filter_map(|listed| Some((self.cold.relative(&listed.key)?, listed.key.clone())))
            .collect();
        let known_ours = {
            let keys: Vec<&str> = relative.keys().map(String::as_str).collect();
            self.node.catalogue.rebuild_known(&keys).await?
        };
        let ours: HashSet<&String> = relative
            .iter()
            .filter(|(key, _)| known_ours.contains(*key) || is_ours(key))
            .map(|(_, absolute)| absolute)
            .collect();
        self.tally.ours += ours.len() as u64;
        let page: Vec<Listed> = page.into_iter().filter(|listed| !ours.contains(&listed.key)).collect();
        let keys: Vec<&str> = page.iter().map(|listed| listed.key.as_str()).collect();
        let known = self.node.catalogue.known_foreign(&keys).await?;
        let mut wanted = Vec::new();
        for listed in page {
            match known.get(&listed.key) {
                Some(known) => self.look_again(&listed, known).await,
                None if self.is_worth_reading(&listed) => wanted.push(listed),
                None => {}
            }
        }
        if self.order.dry_run {
            self.tally.adopted += wanted.len() as u64;
            self.tally.adopted_bytes += wanted.iter().map(|listed| listed.length).sum::<u64>();
            return Ok(());
        }
        let adopted = self.read(wanted).await?;
        self.commit(adopted).await
    }

    /// One that was adopted before. What was overwritten since is damaged on record, unless it is an original that nothing needs: it is never taken for what was
    /// adopted.
    async fn look_again(&mut self, listed: &Listed, known: &KnownForeign) {
        let same = listed.length == known.length && (listed.etag == known.etag || listed.etag.is_empty());
        if same {
            self.tally.known += 1;
            return;
        }
        self.tally.overwritten += 1;
        let why = format!(
            "it has {} bytes and the entity tag {} instead of {} and {}",
            listed.length, listed.etag, known.length, known.etag
        );
        if !self.order.dry_run && !known.original {
            self.node.damaged(known.pack, &listed.key, &why).await;
        }
        self.say(&listed.key, Became::Overwritten, why);
    }

    /// Whether the listing does not tell already that it is nothing to be adopted now.
    fn is_worth_reading(&mut self, listed: &Listed) -> bool {
        if listed.archived {
            self.is_archived(listed, "its storage class");
            return false;
        }
        if listed.length < SHORTEST {
            self.tally.passed_over += 1;
            self.say(
                &listed.key,
                Became::PassedOver,
                format!("not a DICOM file: it has {} bytes", listed.length),
            );
            return false;
        }
        if listed.key.chars().any(char::is_control) {
            self.tally.refused += 1;
            self.say(&listed.key, Became::Refused, "its key has control characters".to_owned());
            return false;
        }
        true
    }

    fn is_archived(&mut self, listed: &Listed, tier: &str) {
        self.tally.archived += 1;
        self.tally.archived_bytes += listed.length;
        let why = format!("archived ({tier}), {} bytes: restore it and adopt again", listed.length);
        self.say(&listed.key, Became::Archived, why);
    }

    /// Reads heads; what is no object to be adopted is said.
    async fn read(&mut self, wanted: Vec<Listed>) -> Result<Vec<Adopted>, ArchiveError> {
        let (node, cold, first) = (self.node, self.cold, self.place.guess.next());
        let mut read = stream::iter(wanted)
            .map(|listed| async move {
                let mut cost = Cost::default();
                let head = patiently(node, cold, &listed, first, &mut cost).await;
                (listed, head, cost)
            })
            .buffered(READERS);
        let mut adopted = Vec::new();
        while let Some((listed, head, cost)) = read.next().await {
            self.tally.gets += cost.gets;
            self.tally.got_bytes += cost.bytes;
            match head {
                Ok(head) => {
                    self.place.guess.learn(head.needed);
                    adopted.push(self.arrival(listed, head));
                }
                Err(Without::PassedOver(why)) => {
                    self.tally.passed_over += 1;
                    self.say(&listed.key, Became::PassedOver, why);
                }
                Err(Without::Refused(why)) => {
                    self.tally.refused += 1;
                    self.say(&listed.key, Became::Refused, why);
                }
                Err(Without::Gone(why)) => {
                    self.tally.refused += 1;
                    self.say(&listed.key, Became::Refused, why);
                }
                Err(Without::Archived(tier)) => self.is_archived(&listed, tier),
                Err(Without::Failed(error)) => return Err(error.into()),
            }
        }
        Ok(adopted)
    }

    fn say(&mut self, key: &str, result: Became, why: String) {
        if self.lines.len() >= LINES {
            self.unnamed += 1;
            return;
        }
        self.lines.push(Line {
            key: key.strip_prefix('/').unwrap_or(key).to_owned(),
            result,
            why,
        });
    }
}

/// Reads a head; a store that is overloaded, or does not answer, is given time.
async fn patiently(
    node: &std::sync::Arc<Inner>,
    cold: &ColdStore,
    listed: &Listed,
    first: u64,
    cost: &mut Cost,
) -> Result<head::Head, Without> {
    for pause in PAUSES {
        match head::read(node, cold, listed, first, cost).await {
            Err(Without::Failed(ColdError::Unavailable(why))) => {
                tracing::info!(key = listed.key, why, ?pause, "the head of an object is read again");
                sleep(pause).await;
            }
            other => return other,
        }
    }
    head::read(node, cold, listed, first, cost).await
}

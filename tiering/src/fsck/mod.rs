//! `fsck`: the catalogue compared with hot files and cold objects, in both directions.
//!
//! # Mechanics
//! A run is a row of passes ([`Order::passes`]), each of which looks at one kind of thing in an order that does not change: hot copies and packs by their rows,
//! hot files by their hours, cold objects by their keys, objects by their rows. It is walked in strides of about [`STRIDE`]; whoever has it done asks for the
//! next one with the [`Place`] that the last one reached, so that a run survives its caller as well as the node. What is found is looked at once more before
//! it is reported, for a node that runs stores, evicts, uploads and deletes meanwhile.
//!
//! # Invariants
//! - Without [`Order::repair`] nothing is changed but the catalogue's word on what is damaged, so that nothing counts on it.
//! - A repair needs a good copy; nothing good is touched, and what is not ours is named and left alone.
//! - A pack is read only where that costs no archive clock, or where [`Order::read`] says so.
//! - Memory is bounded by a page of rows, an hour of file names, a page of keys.
//!
//! # Crash story
//! Findings are on record before the place of a pass is; a run that is started again goes on at its first pass that has not ended, and may see some things
//! twice. A pass of one study has no place on record: it begins again.

use std::sync::Mutex;
use std::time::Duration;

use filmroom_index::catalogue::{Finding, FindingKind, Pass, PassState};
use filmroom_index::model::{Timestamp, Uid};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Archive;
use crate::archive::Inner;
use crate::cold::{ColdStore, Listing};
use crate::error::ArchiveError;
use crate::integrity::Pace;
use remedy::{Found, Remedy};

mod cold_objects;
mod cold_rows;
mod hot_files;
mod hot_rows;
mod key;
mod objects;
mod remedy;
mod stranger;
mod tell;

pub(crate) use key::is_ours;
pub(crate) use tell::{count, describe_metrics};

/// How long a stride takes, about: one thing is looked at whole, however large it is.
const STRIDE: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The local disk
    Hot,
    /// The cold store, and objects whose bytes are nowhere
    Cold,
    /// Both
    All,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is looked at
    pub scope: Scope,
    /// Study Instance UID: only this study
    pub study: Option<Uid>,
    /// Repair what a good copy is of
    pub repair: bool,
    /// Read packs of S3 that are readable at once: it costs requests, and starts their archive clocks again
    pub read: bool,
    /// Bytes a second that are read at most
    pub rate: Option<u64>,
    /// Begin anew, whatever was begun before
    pub restart: bool,
}

/// How far a run has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The pass that is under way
    pub pass: Pass,
    /// What was dealt with last
    pub position: String,
    /// When the pass began, by the database's clock
    pub began_at: Timestamp,
    /// Things that it has looked at
    pub checked: u64,
    /// Bytes that it has read
    pub bytes: u64,
    /// Things that there are to look at in this pass, about; 0 where nobody knows
    pub of: u64,
    /// Whether the run goes on with one that was interrupted
    pub resumed: bool,
}

/// What one stride has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stride {
    /// Where the next one begins; none: the run has ended
    pub next: Option<Place>,
    /// What was found in this one
    pub found: u64,
    /// What of it was repaired
    pub repaired: u64,
    /// The pass that it was in
    pub pass: Pass,
    /// When that began, by the database's clock
    pub began_at: Timestamp,
    /// Whether it went on with what was interrupted
    pub resumed: bool,
    /// Things that the pass has looked at
    pub checked: u64,
    /// Things that there are to look at in it, about; 0 where nobody knows
    pub of: u64,
}

impl Order {
    /// The passes of a run, in their order. Which files of a disk are unknown cannot be said of one study.
    pub fn passes(&self) -> Vec<Pass> {
        let (hot, cold) = (self.scope != Scope::Cold, self.scope != Scope::Hot);
        let mut passes = Vec::new();
        if hot {
            passes.push(Pass::HotRows);
        }
        if hot && self.study.is_none() {
            passes.push(Pass::HotFiles);
        }
        if cold {
            passes.extend([Pass::ColdRows, Pass::ColdObjects, Pass::Objects]);
        }
        passes
    }

    /// The kinds of what such a run may find.
    pub fn kinds(&self) -> Vec<FindingKind> {
        self.passes()
            .into_iter()
            .flat_map(|pass| kinds(pass, true).iter().copied())
            .collect()
    }
}

/// What a pass finds; `read`: with packs read.
fn kinds(pass: Pass, read: bool) -> &'static [FindingKind] {
    match pass {
        Pass::HotRows => &[FindingKind::HotMissing, FindingKind::HotWrongSize, FindingKind::HotAltered],
        Pass::HotFiles => &[FindingKind::HotUnknown, FindingKind::HotUnrecorded, FindingKind::HotForeign],
        Pass::ColdRows if read => &[
            FindingKind::PackMissing,
            FindingKind::PackWrongSize,
            FindingKind::PackAltered,
            FindingKind::PackCorrupt,
            FindingKind::PackWrongTier,
            FindingKind::ManifestMissing,
            FindingKind::ManifestAltered,
        ],
        Pass::ColdRows => &[
            FindingKind::PackMissing,
            FindingKind::PackWrongSize,
            FindingKind::PackAltered,
            FindingKind::PackWrongTier,
            FindingKind::ManifestMissing,
            FindingKind::ManifestAltered,
        ],
        Pass::ColdObjects => &[
            FindingKind::PackUnknown,
            FindingKind::PackOrphan,
            FindingKind::ManifestOrphan,
            FindingKind::ObjectUnknown,
        ],
        Pass::Objects => &[FindingKind::ObjectLost],
    }
}

impl Archive {
    /// Walks one stride of a run: from its beginning, or from where it was interrupted, or from where the last stride ended. `actor` stands in the audit of
    /// repairs.
    ///
    /// # Errors
    /// The catalogue, the cold store or the disk do not answer: the run goes on from the last place when they do.
    pub async fn fsck(&self, order: &Order, place: Option<Place>, actor: &str) -> Result<Stride, ArchiveError> {
        let mut place = match place {
            Some(place) => place,
            None => self.begin_fsck(order).await?,
        };
        let walk = Walk {
            archive: self,
            node: &self.inner,
            order,
            pace: order.rate.map_or_else(Pace::unlimited, Pace::new),
            actor,
            listing: Mutex::default(),
        };
        let (end, mut tally) = (Instant::now() + STRIDE, Tally::default());
        let ended = loop {
            let page = walk.page(&mut place).await?;
            place.checked += page.checked;
            place.bytes += page.bytes;
            walk.settle(page.found, &mut tally).await?;
            fail::fail_point!("fsck::after_page");
            if page.ended || (Instant::now() >= end && !walk.is_unbroken(place.pass)) {
                break page.ended;
            }
        };
        let (pass, began_at, checked, of, resumed) = (place.pass, place.began_at, place.checked, place.of, place.resumed);
        let next = walk.reached(place, ended).await?;
        if tally.found > 0 || ended {
            count(&self.inner).await;
        }
        Ok(Stride {
            next,
            found: tally.found,
            repaired: tally.repaired,
            pass,
            began_at,
            resumed,
            checked,
            of,
        })
    }

    /// Where a run begins: at the first pass that was interrupted, or at the first of all.
    async fn begin_fsck(&self, order: &Order) -> Result<Place, ArchiveError> {
        let node = &self.inner;
        if order.scope != Scope::Hot {
            self.cold()?;
        }
        let passes = order.passes();
        let first = passes.first().copied().unwrap_or(Pass::HotRows);
        if order.study.is_some() {
            return Ok(Place {
                pass: first,
                position: String::new(),
                began_at: node.catalogue.database_time().await?,
                checked: 0,
                bytes: 0,
                of: 0,
                resumed: false,
            });
        }
        let (mut pass, mut resumed) = (first, false);
        if !order.restart {
            for candidate in passes {
                let state = node.catalogue.pass_state(node.node, candidate).await?;
                if state.is_some_and(|state| state.ended_at.is_none()) {
                    (pass, resumed) = (candidate, true);
                    break;
                }
            }
        }
        let state = node.catalogue.pass_begin(node.node, pass, order.restart).await?;
        let of = node.catalogue.pass_size(node.node, pass).await?;
        Ok(Place::at(pass, state, of, resumed))
    }
}

impl Place {
    fn at(pass: Pass, state: PassState, of: u64, resumed: bool) -> Place {
        Place {
            pass,
            of,
            resumed,
            position: state.position,
            began_at: state.began_at,
            checked: state.checked,
            bytes: state.bytes,
        }
    }
}

/// What was looked at in one go.
#[derive(Default)]
struct Page {
    found: Vec<Found>,
    checked: u64,
    bytes: u64,
    ended: bool,
}

#[derive(Default)]
struct Tally {
    found: u64,
    repaired: u64,
}

/// One stride.
struct Walk<'a> {
    archive: &'a Archive,
    node: &'a Inner,
    order: &'a Order,
    pace: Pace,
    actor: &'a str,
    /// The listing of the cold store that the pages of this stride are of
    listing: Mutex<Option<Listing>>,
}

impl Walk<'_> {
    async fn page(&self, place: &mut Place) -> Result<Page, ArchiveError> {
        match place.pass {
            Pass::HotRows => self.hot_rows(place).await,
            Pass::HotFiles => self.hot_files(place).await,
            Pass::ColdRows => self.cold_rows(place).await,
            Pass::ColdObjects => self.cold_objects(place).await,
            Pass::Objects => self.objects(place).await,
        }
    }

    fn cold(&self) -> Result<&ColdStore, ArchiveError> {
        self.archive.cold()
    }

    /// A directory cannot be listed from a key on: it is looked through in one stride.
    fn is_unbroken(&self, pass: Pass) -> bool {
        pass == Pass::ColdObjects && matches!(self.node.cold, Some(ColdStore::Directory(_)))
    }

    /// Puts findings on record, and repairs them if that was asked for.
    async fn settle(&self, found: Vec<Found>, tally: &mut Tally) -> Result<(), ArchiveError> {
        let findings: Vec<Finding> = found.iter().map(|found| found.finding.clone()).collect();
        for news in self.node.catalogue.found(self.node.node, &findings).await? {
            let (kind, subject, detail) = (news.kind.as_str(), &news.subject, &news.detail);
            tracing::error!(kind, subject, detail, "the archive does not agree with itself");
        }
        tally.found += found.len() as u64;
        for found in found {
            if !self.order.repair && !matches!(found.remedy, Remedy::Done(_)) {
                continue;
            }
            tally.repaired += u64::from(self.repair(&found).await?);
            fail::fail_point!("fsck::after_repair");
        }
        Ok(())
    }

    /// Puts on record how far the pass has come, or that it has ended and the next one begins.
    async fn reached(&self, place: Place, ended: bool) -> Result<Option<Place>, ArchiveError> {
        let (catalogue, node, pass) = (&self.node.catalogue, self.node.node, place.pass);
        let study = self.order.study.as_ref().map(Uid::as_str);
        if study.is_none() {
            catalogue
                .pass_reached(node, pass, &place.position, place.checked, place.bytes)
                .await?;
        }
        if !ended {
            return Ok(Some(place));
        }
        let reads = matches!(self.node.cold, Some(ColdStore::Directory(_))) || self.order.read;
        catalogue.close_unseen(node, kinds(pass, reads), study, place.began_at).await?;
        let next = self.order.passes().into_iter().skip_while(|other| *other != pass).nth(1);
        let Some(next) = next else {
            if study.is_none() {
                catalogue.pass_ended(node, pass).await?;
            }
            return Ok(None);
        };
        if study.is_some() {
            return Ok(Some(Place {
                pass: next,
                position: String::new(),
                checked: 0,
                bytes: 0,
                ..place
            }));
        }
        // In this order: a run that is interrupted here goes on with the pass that has ended, which takes no time.
        let state = catalogue.pass_begin(node, next, true).await?;
        catalogue.pass_ended(node, pass).await?;
        let of = catalogue.pass_size(node, next).await?;
        Ok(Some(Place::at(next, state, of, place.resumed)))
    }
}

//! Adopted objects are packed as our own, when somebody asks for it: read whole from where another program put them, once, and put in the layout of the rules.
//!
//! # Mechanics
//! An order ([`Order`]) is a row for each series in the catalogue (`index::catalogue::repacks`). One loop takes the next series by lease and fence: of its objects it
//! [`choose`]s what fits one pack, [`gather`]s their bytes into files of a while, [`put`]s the pack with its manifest, compares it as every other, and then the
//! catalogue has the objects belong to it, in one transaction; until nothing of the series is left. The foreign objects are *originals* from then on: they are left
//! where they lie, or go to the eraser (`erase::originals`). What the cold store has archived is passed over and counted, or restored where that was asked for.
//!
//! # Invariants
//! - Until that transaction the foreign object is the verified cold copy: retrieval, eviction, deletion, `fsck` and a rebuild know nothing of the new pack. After
//!   it they know nothing else.
//! - No original is removed before what was packed from it is verified, and was found as it was verified right before.
//! - What is read is what was adopted: by entity tag, by length, by SHA-256 where that is known. What is not is damaged on record, and is not packed.
//! - What is deleted is not packed. A pack that was begun with it is removed before its deletion ends.
//! - The disk holds one pack of such files at most, and they never take its reserve.
//!
//! # Crash story
//! - While it is read: the files lie in `incoming/`, which the next start empties. They are read again.
//! - After the keys are on record, while pack and manifest are put, or before the transaction: the same objects make the same keys, which are put again; where
//!   others are to be packed by then, what was begun is removed first. `fsck` leaves what is begun alone. A rebuild at that moment finds pack and manifest, and
//!   prefers them: the record of the adoption, which still tells of the same object ids, makes the foreign objects originals. A pack without its manifest is
//!   what it is after any offload that was killed there: named, and not read.
//! - After the transaction: a rebuild finds the same. The order to remove originals is in the catalogue only: with it lost they are left, and the command is given
//!   again.
//! - While originals are removed: see `erase::originals`. An original that is gone and still told of by a record is, after a rebuild, an original on record that is
//!   not there, which nobody asks for.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use filmroom_index::catalogue::{self, ForeignMember, PackState, RepackClaim};
use filmroom_index::model::{RestoreTier, Timestamp};
use futures::{FutureExt, StreamExt, stream};
use metrics::{counter, describe_counter};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::archive::Inner;
use crate::cold::{ColdError, ColdStore};
use crate::erase::removal::Kept;
use crate::error::RestoreOutlook;
use crate::mover::signals::What;
use crate::mover::transfer::Setback;
use crate::pack::Layout;
use crate::policy;
use crate::recall::RestoreTerms;
use crate::restore::{ArchivedPack, Verified, pack_state};
use crate::rounds::Rounds;

mod choose;
mod gather;
mod order;
mod put;

pub use order::{Order, Repacked};

/// How long a claim holds without being renewed.
const LEASE: Duration = Duration::from_secs(120);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(30);

/// Objects that were archived when they were seen last, of which one take asks the cold store.
const LOOKS: usize = 256;

/// Objects that the cold store is asked for at once.
const AT_ONCE: usize = 8;

/// So often a series may bring nothing, and have brought something on record each time: it has so many objects at most, divided by [`LOOKS`].
const FRUITLESS: i64 = 200;

/// What has no end that is known, a legal hold on what was begun, is looked at again after this long.
const ENDLESS: Duration = Duration::from_secs(24 * 60 * 60);

/// What came of one take.
enum Outcome {
    /// So many objects are in packs of ours.
    Packed(usize),
    /// Something else is on record than before: it is to be looked at again.
    Again,
    /// Nothing is left to be packed.
    Ended,
    /// What is left is expected then.
    Restoring(Timestamp),
    /// The cold store keeps a pack that was begun and is to go.
    Locked(Kept),
}

/// Works until cancelled.
pub(crate) async fn work(node: &Arc<Inner>, cold: &ColdStore, stop: &CancellationToken) {
    describe_counter!("filmroom_repacked_objects_total", "Adopted objects that were packed");
    let mut rounds = Rounds::new(node.mover.house_wakes(), node.settings.mover_interval, stop);
    while let Some(drained) = rounds.next(drain(node, cold).boxed()).await {
        if let Err(error) = drained {
            tracing::warn!(%error, "what is to be packed of adopted objects cannot be got at");
        }
    }
}

/// Works until nothing is due, nothing may pass, or the cold store is down.
async fn drain(node: &Arc<Inner>, cold: &ColdStore) -> catalogue::Result<()> {
    // The lease would be held until the hour at which anything may pass again.
    while !node.bandwidth.upload.is_paused() && !node.bandwidth.download.is_paused() {
        let Some(claim) = node.catalogue.claim_repack(node.node, node.clock.now(), LEASE).await? else {
            return Ok(());
        };
        if attempt(node, cold, &claim).await.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Gets one series further. Breaks when there is no use in trying another one now.
async fn attempt(node: &Arc<Inner>, cold: &ColdStore, claim: &RepackClaim) -> ControlFlow<()> {
    let outcome = tokio::select! {
        outcome = step(node, cold, claim) => outcome,
        lost = keep_lease(node, claim) => Err(Setback::Catalogue(lost)),
    };
    match record(node, claim, outcome).await {
        Ok(next) => next,
        Err(catalogue::Error::LeaseLost) => {
            let why = "what was to be packed has changed meanwhile, or another node has it";
            tracing::info!(study = %claim.study_uid, series = %claim.series_uid, why);
            // If it is still this node's it is looked at again, after a pause: what was read was read for nothing.
            match node.catalogue.repack_failed(claim, why, pause(claim), node.clock.now()).await {
                Ok(()) | Err(catalogue::Error::LeaseLost) => {}
                Err(error) => tracing::warn!(%error, "the lease of a series was not given up; it runs out"),
            }
            ControlFlow::Continue(())
        }
        Err(error) => {
            tracing::warn!(study = %claim.study_uid, %error, "the catalogue did not take what became of adopted objects; their lease runs out");
            ControlFlow::Break(())
        }
    }
}

async fn step(node: &Arc<Inner>, cold: &ColdStore, claim: &RepackClaim) -> Result<Outcome, Setback> {
    let archived: Vec<&ForeignMember> = claim.members.iter().filter(|member| member.state != PackState::Verified).collect();
    if !archived.is_empty() {
        look(node, cold, claim, archived).await?;
        return Ok(Outcome::Again);
    }
    let layout = layout(node, claim).await?;
    let chosen = choose::next(&claim.members, layout);
    if chosen.is_empty() {
        return end(node, cold, claim).await;
    }
    let copies = gather::gather(node, cold, claim, chosen).await?;
    if copies.is_empty() {
        return Ok(Outcome::Again);
    }
    fail::fail_point!("repack::after_read");
    put::put(node, cold, claim, layout, copies).await
}

/// How a series lies in the cold store from now on.
async fn layout(node: &Inner, claim: &RepackClaim) -> catalogue::Result<Layout> {
    let subjects = node.catalogue.subjects(&BTreeSet::from([claim.series])).await?;
    let treatment = |subject| node.settings.treatment(subject, node.clock.now()).layout;
    Ok(subjects.get(&claim.series).map_or(node.settings.layout, treatment))
}

/// Asks the cold store where some objects are that were archived: they may have been restored, by whomever.
async fn look(node: &Inner, cold: &ColdStore, claim: &RepackClaim, archived: Vec<&ForeignMember>) -> Result<(), Setback> {
    let look = |member: &ForeignMember| {
        let (pack, key, length) = (member.pack, member.key.clone(), member.length);
        async move {
            let verified = Verified {
                pack,
                key: &key,
                length,
                crc64: None,
                damaged: false,
            };
            (pack, node.inspect(cold, verified).await)
        }
    };
    let looks: Vec<_> = archived.into_iter().take(LOOKS).map(look).collect();
    // All of them first: who asks records what he sees, and whoever waited here for the catalogue would keep him from going on.
    let looked: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    for (pack, head) in looked {
        match head {
            Ok(head) => seen(node, claim, pack, pack_state(head.archived)).await?,
            // That is on record, unless nothing needs it any more.
            Err(ColdError::NotFound { .. } | ColdError::Differs { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Puts on record where an object was seen, after the order: it is not looked at again because of that.
async fn seen(node: &Inner, claim: &RepackClaim, pack: catalogue::PackKey, state: PackState) -> catalogue::Result<()> {
    let at = node.clock.now().max(claim.asked_at);
    node.catalogue.pack_seen(pack, state, None, at).await
}

/// Nothing more of a series can be packed now.
async fn end(node: &Arc<Inner>, cold: &ColdStore, claim: &RepackClaim) -> Result<Outcome, Setback> {
    if let Some(kept) = put::take_back(node, cold, claim, &[]).await? {
        return Ok(Outcome::Locked(kept));
    }
    if !claim.restore {
        return Ok(Outcome::Ended);
    }
    let archived = node.catalogue.archived_foreign(claim.series).await?;
    if archived.is_empty() {
        return Ok(Outcome::Ended);
    }
    let packs: Vec<ArchivedPack> = archived
        .into_iter()
        .map(|(pack, archived_in, length)| ArchivedPack { pack, archived_in, length })
        .collect();
    let terms = RestoreTerms {
        requester: node.settings.senders.own.source.clone(),
        tier: RestoreTier::Bulk,
        budget_per_day: None,
        wait: Duration::ZERO,
    };
    match node.request_restore(&packs, &terms).await {
        RestoreOutlook::Expected(at) => Ok(Outcome::Restoring(at)),
        outlook => Err(ColdError::Unavailable(format!("what is archived of series {}: {outlook}", claim.series_uid)).into()),
    }
}

async fn record(node: &Inner, claim: &RepackClaim, outcome: Result<Outcome, Setback>) -> catalogue::Result<ControlFlow<()>> {
    let (study, now) = (&claim.study_uid, node.clock.now());
    let error = match outcome {
        Ok(Outcome::Packed(objects)) => {
            counter!("filmroom_repacked_objects_total").increment(objects as u64);
            node.mover.tell(study, What::Moved);
            return Ok(ControlFlow::Continue(()));
        }
        Ok(Outcome::Again) if claim.attempts < FRUITLESS => {
            node.catalogue.repack_again(claim).await?;
            return Ok(ControlFlow::Continue(()));
        }
        Ok(Outcome::Again) => ColdError::Unavailable("nothing of it can be read".to_owned()),
        Ok(Outcome::Ended) => {
            node.catalogue.repack_ended(claim).await?;
            // Its originals may be to be erased.
            node.mover.wake();
            node.mover.tell(study, What::Moved);
            return Ok(ControlFlow::Continue(()));
        }
        Ok(Outcome::Restoring(at)) => {
            tracing::info!(study = %study, series = %claim.series_uid, "what is archived of a series is restored, and packed then");
            node.catalogue
                .repack_restoring(claim, at.max(now.after(Duration::from_secs(1))))
                .await?;
            return Ok(ControlFlow::Continue(()));
        }
        Ok(Outcome::Locked((until, why))) => {
            tracing::warn!(study = %study, why, "the cold store keeps a pack that was begun and is to go");
            let until = until.map_or(ENDLESS, |until| {
                Duration::from_micros(u64::try_from(until.0 - now.0).unwrap_or_default())
            });
            node.catalogue
                .repack_failed(claim, &why, until.max(Duration::from_secs(1)), now)
                .await?;
            return Ok(ControlFlow::Continue(()));
        }
        Err(Setback::Cold(error)) => error,
        // This row cannot be read, however often it is tried: others can.
        Err(Setback::Catalogue(error @ (catalogue::Error::Corrupt(_) | catalogue::Error::Refused(_)))) => {
            ColdError::Source(std::io::Error::other(error))
        }
        Err(Setback::Catalogue(error)) => return Err(error),
    };
    let pause = pause(claim);
    let text = error.to_string();
    node.catalogue.repack_failed(claim, &text, pause, now).await?;
    match error {
        ColdError::Unavailable(_) => {
            tracing::info!(study = %study, error = text, ?pause, "adopted objects wait for the cold store");
            node.mover.tell(study, What::Failed(text));
            Ok(ControlFlow::Break(()))
        }
        ColdError::Refused(_) => {
            tracing::error!(study = %study, error = text, ?pause, "the cold store refuses to have adopted objects packed");
            node.mover.tell(study, What::Refused(text));
            Ok(ControlFlow::Continue(()))
        }
        _ => {
            tracing::error!(study = %study, error = text, ?pause, "adopted objects cannot be packed");
            node.mover.tell(study, What::Failed(text));
            Ok(ControlFlow::Continue(()))
        }
    }
}

/// How long a series waits after an attempt that failed.
fn pause(claim: &RepackClaim) -> Duration {
    policy::backoff(u32::try_from(claim.attempts).unwrap_or(u32::MAX), policy::jitter())
}

/// Renews the lease for ever; ends when it is lost.
async fn keep_lease(node: &Inner, claim: &RepackClaim) -> catalogue::Error {
    loop {
        sleep(RENEWAL).await;
        match node.catalogue.renew_repack(claim, LEASE).await {
            Ok(()) => node.mover.tell(&claim.study_uid, What::Moved),
            Err(catalogue::Error::LeaseLost) => return catalogue::Error::LeaseLost,
            Err(error) => tracing::warn!(study = %claim.study_uid, %error, "the lease of a series that is packed was not renewed"),
        }
    }
}

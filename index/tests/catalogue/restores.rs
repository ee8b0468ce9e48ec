//! Restores: one a pack, shared, within budgets.

use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{
    AcceptedRestore, Arrival, Catalogue, Error, Located, OpenRestores, PackKey, PackState, Packed, RestoreClaim, RestoreGrant,
    RestoreState, RestoreWish,
};
use filmroom_index::model::{AeTitle, RestoreTier, Timestamp};
use filmroom_index::query::Root;

use crate::cold::offload;
use crate::database::Database;
use crate::locating::query;
use crate::objects::{node, slice, tick};
use crate::store::store_all;

const LEASE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Long before and long after anything that happens here.
const PAST: Timestamp = Timestamp(0);
const FUTURE: Timestamp = Timestamp(i64::MAX);

/// Verified packs of 5000 bytes, one a series.
pub(crate) async fn packs(catalogue: &Catalogue, series: u32) -> Vec<Packed> {
    let batch: Vec<Arrival> = (1..=series).map(|series| slice(1, series, 1)).collect();
    store_all(catalogue, &batch).await;
    offload(catalogue).await;
    located(catalogue).await
}

pub(crate) async fn instances(catalogue: &Catalogue) -> Vec<Located> {
    catalogue
        .locate(
            node(1),
            &query(Root::Study, "STUDY", &[(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1")]),
        )
        .await
        .unwrap()
}

pub(crate) async fn located(catalogue: &Catalogue) -> Vec<Packed> {
    let instances = instances(catalogue).await;
    instances.into_iter().map(|located| located.packed.unwrap()).collect()
}

fn viewer() -> AeTitle {
    AeTitle::parse("VIEWER").unwrap()
}

fn wish(pack: PackKey, tier: RestoreTier) -> RestoreWish {
    RestoreWish {
        pack,
        archived_in: PackState::ArchiveAccess,
        tier,
        takes: HOUR,
    }
}

pub(crate) async fn want(catalogue: &Catalogue, pack: PackKey, tier: RestoreTier, now: Timestamp) {
    let granted = catalogue.request_restores(&viewer(), &[wish(pack, tier)], None, now).await.unwrap();
    assert!(matches!(granted, RestoreGrant::Granted(_)), "{granted:?}");
}

async fn claimed(catalogue: &Catalogue) -> RestoreClaim {
    catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap().unwrap()
}

async fn accepted(catalogue: &Catalogue, claim: &RestoreClaim, tier: RestoreTier, at: Timestamp) {
    let accepted = AcceptedRestore {
        tier,
        archived_in: PackState::ArchiveAccess,
        requested_at: at,
        expected_at: at.after(HOUR),
        remark: "",
    };
    catalogue.restore_accepted(claim, accepted, HOUR, at).await.unwrap();
}

pub(crate) async fn a_restore_is_asked_for_once_however_many_want_it(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    let now = tick();
    let wanting = (0..10).map(|_| want(&catalogue, pack, RestoreTier::Standard, now));
    futures_join(wanting).await;
    assert_eq!(database.number("SELECT count(*) FROM restores").await, 1);
    let claim = claimed(&catalogue).await;
    assert_eq!((claim.pack, claim.bytes, claim.study_uid.as_str()), (pack, 5000, "1.2.1"));
    assert_eq!(
        (claim.state, claim.wanted, claim.accepted),
        (RestoreState::Wanted, RestoreTier::Standard, None)
    );
    assert_eq!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap(), None, "leased");
    assert_eq!(located(&catalogue).await[0].restored_at, Some(now.after(HOUR)));
}

/// Runs some futures of one task side by side.
async fn futures_join(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

pub(crate) async fn a_more_urgent_wish_makes_an_open_restore_faster(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    let now = tick();
    want(&catalogue, pack, RestoreTier::Bulk, now).await;
    let claim = claimed(&catalogue).await;
    accepted(&catalogue, &claim, RestoreTier::Bulk, now).await;
    assert_eq!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap(), None, "not due");
    let faster = RestoreWish {
        takes: Duration::from_secs(60),
        ..wish(pack, RestoreTier::Expedited)
    };
    let RestoreGrant::Granted(standing) = catalogue.request_restores(&viewer(), &[faster], None, now).await.unwrap() else {
        panic!("joining costs nothing");
    };
    assert_eq!(
        (standing[0].state, standing[0].tier),
        (RestoreState::Restoring, RestoreTier::Expedited)
    );
    assert_eq!(standing[0].expected_at, now.after(Duration::from_secs(60)));
    let stale = catalogue.restore_goes_on(&claim, PackState::ArchiveAccess, FUTURE, HOUR, now).await;
    assert!(
        matches!(stale, Err(Error::LeaseLost)),
        "whoever worked on it may not write over the wish"
    );
    let upgrade = claimed(&catalogue).await;
    assert_eq!(
        (upgrade.wanted, upgrade.accepted),
        (RestoreTier::Expedited, Some(RestoreTier::Bulk))
    );
    accepted(&catalogue, &upgrade, RestoreTier::Expedited, now).await;
    // What is wanted slower later makes nothing slower.
    want(&catalogue, pack, RestoreTier::Standard, now).await;
    assert_eq!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap(), None);
    assert_eq!(catalogue.pack_restores(&[pack]).await.unwrap()[0].tier, RestoreTier::Expedited);
}

pub(crate) async fn a_faster_wish_leaves_a_restore_out_of_deep_archive_as_it_is(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    let now = tick();
    let deep = RestoreWish {
        archived_in: PackState::DeepArchiveAccess,
        ..wish(pack, RestoreTier::Standard)
    };
    catalogue.request_restores(&viewer(), &[deep], None, now).await.unwrap();
    let claim = claimed(&catalogue).await;
    // Another node was told by a late event that the pack is in Archive Access.
    let faster = wish(pack, RestoreTier::Expedited);
    let RestoreGrant::Granted(standing) = catalogue.request_restores(&viewer(), &[faster], None, now).await.unwrap() else {
        panic!("joining costs nothing");
    };
    assert_eq!((standing[0].state, standing[0].tier), (RestoreState::Wanted, RestoreTier::Standard));
    assert_eq!(
        catalogue.claim_restore(node(1), FUTURE, LEASE).await.unwrap(),
        None,
        "leased as before"
    );
    accepted(&catalogue, &claim, RestoreTier::Standard, now).await;
}

pub(crate) async fn a_budget_grants_all_of_a_request_or_nothing(database: Database) {
    let catalogue = database.open().await;
    let packs = packs(&catalogue, 3).await;
    let wishes: Vec<RestoreWish> = packs.iter().map(|packed| wish(packed.pack, RestoreTier::Standard)).collect();
    let ask = async |wishes: &[RestoreWish], now| catalogue.request_restores(&viewer(), wishes, Some(12_000), now).await.unwrap();
    let now = tick();
    assert_eq!(ask(&wishes, now).await, RestoreGrant::OverBudget { spent: 0, wanted: 15_000 });
    assert_eq!(database.number("SELECT count(*) FROM restores").await, 0);
    assert!(matches!(ask(&wishes[..2], now).await, RestoreGrant::Granted(_)));
    assert_eq!(
        ask(&wishes[2..], now).await,
        RestoreGrant::OverBudget {
            spent: 10_000,
            wanted: 5000
        }
    );
    // Joining costs nothing, and somebody else's budget is another.
    assert!(matches!(ask(&wishes[..2], now).await, RestoreGrant::Granted(_)));
    let other = AeTitle::parse("OTHER").unwrap();
    let granted = catalogue.request_restores(&other, &wishes[2..], Some(5000), now).await.unwrap();
    assert!(matches!(granted, RestoreGrant::Granted(_)));
    // What S3 was never asked for is not spent.
    for _ in 0..3 {
        let claim = claimed(&catalogue).await;
        catalogue.restore_failed(&claim, "gone", now).await.unwrap();
    }
    assert!(matches!(ask(&wishes[1..], now).await, RestoreGrant::Granted(_)));
    assert!(matches!(ask(&wishes[..1], now).await, RestoreGrant::OverBudget { .. }));
    assert!(
        matches!(ask(&wishes[..1], now.after(DAY + HOUR)).await, RestoreGrant::Granted(_)),
        "another day"
    );
}

pub(crate) async fn requests_at_once_do_not_spend_a_budget_twice(database: Database) {
    let catalogue = database.open().await;
    let packs = packs(&catalogue, 8).await;
    let now = tick();
    let asking = packs.iter().map(|packed| async {
        let wishes = [wish(packed.pack, RestoreTier::Standard)];
        catalogue.request_restores(&viewer(), &wishes, Some(20_000), now).await.unwrap();
    });
    futures_join(asking).await;
    assert_eq!(database.number("SELECT count(*) FROM restores").await, 4);
}

pub(crate) async fn a_restore_goes_from_wanted_to_readable(database: Database) {
    let catalogue = database.open().await;
    let packed = packs(&catalogue, 1).await.remove(0);
    let now = tick();
    catalogue.pack_seen(packed.pack, PackState::ArchiveAccess, None, now).await.unwrap();
    want(&catalogue, packed.pack, RestoreTier::Standard, now).await;
    let open = |wanted, restoring| OpenRestores {
        wanted,
        restoring,
        bytes: 5000,
    };
    assert_eq!(catalogue.open_restores().await.unwrap(), open(1, 0));
    let claim = claimed(&catalogue).await;
    let reply = AcceptedRestore {
        tier: RestoreTier::Standard,
        archived_in: PackState::DeepArchiveAccess,
        requested_at: now,
        expected_at: now.after(HOUR),
        remark: "",
    };
    catalogue.restore_accepted(&claim, reply, Duration::ZERO, now).await.unwrap();
    assert_eq!(catalogue.open_restores().await.unwrap(), open(0, 1));
    assert_eq!(located(&catalogue).await[0].state, PackState::DeepArchiveAccess, "as S3 said last");
    let claim = claimed(&catalogue).await;
    assert_eq!((claim.state, claim.requested_at), (RestoreState::Restoring, Some(now)));
    let later = now.after(2 * HOUR);
    catalogue
        .restore_goes_on(&claim, PackState::DeepArchiveAccess, later, Duration::ZERO, now)
        .await
        .unwrap();
    assert_eq!(located(&catalogue).await[0].restored_at, Some(later));
    let claim = claimed(&catalogue).await;
    catalogue.restore_readable(&claim, later).await.unwrap();
    let after = located(&catalogue).await.remove(0);
    assert_eq!(
        (after.state, after.restored_at, after.archive_clock),
        (PackState::Verified, None, later)
    );
    let listed = catalogue.restores(10).await.unwrap().remove(0);
    assert_eq!(
        (listed.state, listed.accepted),
        (RestoreState::Readable, Some(RestoreTier::Standard))
    );
    assert_eq!((listed.requester, listed.cold_key, listed.bytes), (viewer(), packed.key, 5000));
    assert_eq!(
        (listed.wanted_at, listed.requested_at, listed.ended_at),
        (now, Some(now), Some(later))
    );
    assert!(
        matches!(catalogue.restore_readable(&claim, later).await, Err(Error::LeaseLost)),
        "it has ended"
    );
    // The next time is another restore.
    want(&catalogue, packed.pack, RestoreTier::Standard, later).await;
    assert_eq!(database.number("SELECT count(*) FROM restores").await, 2);
    assert_eq!(
        catalogue.pack_restores(&[packed.pack]).await.unwrap()[0].state,
        RestoreState::Wanted
    );
}

pub(crate) async fn a_restore_is_due_when_either_clock_says_so(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    let now = tick();
    want(&catalogue, pack, RestoreTier::Standard, now).await;
    accepted(&catalogue, &claimed(&catalogue).await, RestoreTier::Standard, now).await;
    let soon = now.after(HOUR - Duration::from_secs(1));
    assert_eq!(catalogue.claim_restore(node(1), soon, LEASE).await.unwrap(), None);
    let claim = catalogue.claim_restore(node(1), now.after(HOUR), LEASE).await.unwrap().unwrap();
    catalogue
        .restore_goes_on(&claim, PackState::ArchiveAccess, FUTURE, Duration::ZERO, FUTURE)
        .await
        .unwrap();
    assert!(
        catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap().is_some(),
        "the database's clock"
    );
}

pub(crate) async fn what_a_dead_node_restored_is_taken_over(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    want(&catalogue, pack, RestoreTier::Standard, tick()).await;
    let dead = catalogue.claim_restore(node(1), PAST, Duration::ZERO).await.unwrap().unwrap();
    let taken = catalogue.claim_restore(node(2), PAST, LEASE).await.unwrap().unwrap();
    assert_eq!((taken.key, taken.fence), (dead.key, dead.fence + 1));
    assert!(matches!(catalogue.restore_readable(&dead, tick()).await, Err(Error::LeaseLost)));
    assert!(located(&catalogue).await[0].restored_at.is_some());
    // A node that starts again takes back its own.
    catalogue.release_restores(node(1)).await.unwrap();
    assert_eq!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap(), None);
    catalogue.release_restores(node(2)).await.unwrap();
    assert!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap().is_some());
    assert!(matches!(catalogue.restore_readable(&taken, tick()).await, Err(Error::LeaseLost)));
}

pub(crate) async fn an_event_or_a_successful_read_makes_a_restore_due(database: Database) {
    let catalogue = database.open().await;
    let packed = packs(&catalogue, 1).await.remove(0);
    let now = tick();
    assert!(!catalogue.hasten_restore(&packed.key).await.unwrap(), "nothing is under way");
    catalogue.pack_archived(&packed.key, PackState::ArchiveAccess, now).await.unwrap();
    assert_eq!(located(&catalogue).await[0].state, PackState::ArchiveAccess);
    want(&catalogue, packed.pack, RestoreTier::Standard, now).await;
    accepted(&catalogue, &claimed(&catalogue).await, RestoreTier::Standard, now).await;
    assert!(catalogue.hasten_restore(&packed.key).await.unwrap());
    let early = claimed(&catalogue).await;
    // An event that comes while it is being looked at counts too.
    assert!(catalogue.hasten_restore(&packed.key).await.unwrap());
    let goes_on = catalogue.restore_goes_on(&early, PackState::ArchiveAccess, FUTURE, HOUR, now).await;
    assert!(matches!(goes_on, Err(Error::LeaseLost)));
    let claim = claimed(&catalogue).await;
    catalogue
        .restore_goes_on(&claim, PackState::ArchiveAccess, FUTURE, HOUR, now)
        .await
        .unwrap();
    assert_eq!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap(), None);
    catalogue.pack_opened(packed.pack, now).await.unwrap();
    assert!(catalogue.claim_restore(node(1), PAST, LEASE).await.unwrap().is_some());
}

pub(crate) async fn a_restore_that_failed_or_waits_says_why(database: Database) {
    let catalogue = database.open().await;
    let pack = packs(&catalogue, 1).await[0].pack;
    let now = tick();
    want(&catalogue, pack, RestoreTier::Standard, now).await;
    let claim = claimed(&catalogue).await;
    catalogue.restore_waits(&claim, "no answer", Duration::ZERO, now).await.unwrap();
    let claim = claimed(&catalogue).await;
    assert_eq!(claim.attempts, 1);
    assert_eq!(catalogue.pack_restores(&[pack]).await.unwrap()[0].error, "no answer");
    catalogue.restore_failed(&claim, "AccessDenied", Timestamp(1)).await.unwrap();
    let standing = catalogue.pack_restores(&[pack]).await.unwrap().remove(0);
    assert_eq!((standing.state, standing.error.as_str()), (RestoreState::Failed, "AccessDenied"));
    assert_eq!(catalogue.open_restores().await.unwrap(), OpenRestores::default());
    assert_eq!(catalogue.forget_restores(1000 * 365 * DAY).await.unwrap(), 0);
    assert_eq!(catalogue.forget_restores(Duration::ZERO).await.unwrap(), 1);
    let never = catalogue
        .request_restores(&viewer(), &[wish(PackKey(999), RestoreTier::Bulk)], None, now)
        .await;
    assert!(matches!(never, Err(Error::Corrupt(_))));
}

pub(crate) async fn it_is_learnt_how_long_restores_take(database: Database) {
    let catalogue = database.open().await;
    let packs = packs(&catalogue, 2).await;
    for (packed, hours) in packs.iter().zip([3, 4]) {
        let now = tick();
        want(&catalogue, packed.pack, RestoreTier::Standard, now).await;
        let claim = claimed(&catalogue).await;
        accepted(&catalogue, &claim, RestoreTier::Standard, now).await;
        let later = now.after(hours * HOUR);
        let claim = catalogue.claim_restore(node(1), later, LEASE).await.unwrap().unwrap();
        catalogue.restore_readable(&claim, later).await.unwrap();
    }
    // One that was readable without a restore says nothing about restores.
    want(&catalogue, packs[0].pack, RestoreTier::Standard, tick()).await;
    catalogue.restore_readable(&claimed(&catalogue).await, tick()).await.unwrap();
    let times = catalogue.restore_times().await.unwrap();
    assert_eq!(times.iter().map(|time| time.took).collect::<Vec<_>>(), [4 * HOUR, 3 * HOUR]);
    assert!(
        times
            .iter()
            .all(|time| (time.archived_in, time.tier) == (PackState::ArchiveAccess, RestoreTier::Standard))
    );
}

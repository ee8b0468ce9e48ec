//! Offload: claims, packs, leases.

use std::time::Duration;

use filmroom_index::catalogue::{Arrival, Catalogue, ColdLayout, Error, NewPack, OffloadClaim, PackClaim, PackState};
use filmroom_index::model::ServingState;

use crate::database::Database;
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all};

const LEASE: Duration = Duration::from_secs(600);
/// A lease that has run out when the next statement looks.
const NONE: Duration = Duration::ZERO;

/// One pack for each serving state among the members.
pub(crate) fn packs(claim: &OffloadClaim) -> Vec<NewPack> {
    let mut packs: Vec<NewPack> = Vec::new();
    for member in &claim.members {
        let offset = 1000 * claim.members.iter().position(|other| other.object == member.object).unwrap() as u64;
        match packs.iter_mut().find(|pack| pack.state == member.state) {
            Some(pack) => pack.members.push((member.object, offset)),
            None => packs.push(NewPack {
                layout: ColdLayout::Pack,
                manifest: None,
                key: format!("{}/{}/{}.zip", claim.study_uid, claim.series_uid, member.object),
                length: 5000,
                state: member.state,
                members: vec![(member.object, offset)],
            }),
        }
    }
    packs
}

pub(crate) async fn claim(catalogue: &Catalogue) -> OffloadClaim {
    catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap().unwrap()
}

pub(crate) async fn verify(catalogue: &Catalogue, pack: &PackClaim) {
    catalogue.pack_uploaded(pack, u64::MAX - 7).await.unwrap();
    catalogue.pack_verified(pack, tick()).await.unwrap();
}

/// Packs and verifies everything that is due on node 1.
pub(crate) async fn offload(catalogue: &Catalogue) {
    while let Some(claim) = catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap() {
        catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    }
    while let Some(pack) = catalogue.claim_pack(node(1), LEASE).await.unwrap() {
        verify(catalogue, &pack).await;
    }
}

pub(crate) async fn a_quiet_series_is_claimed_once(database: Database) {
    let catalogue = database.open().await;
    let quiet_since = tick();
    let batch: Vec<Arrival> = (1..=3).map(|instance| slice(1, 1, instance)).collect();
    store_all(&catalogue, &batch).await;
    assert_eq!(catalogue.claim_offload(node(1), quiet_since, LEASE).await.unwrap(), None);
    assert_eq!(catalogue.claim_offload(node(2), tick(), LEASE).await.unwrap(), None);
    let claim = claim(&catalogue).await;
    assert_eq!((claim.study_uid.as_str(), claim.series_uid.as_str()), ("1.2.1", "1.2.1.1"));
    let member = &claim.members[1];
    assert_eq!(claim.members.len(), 3);
    assert_eq!(
        (member.object, &member.sop_instance, Some(member.sha256)),
        (batch[1].object, &batch[1].sop_instance, batch[1].sha256)
    );
    assert_eq!(
        (member.instance_number, member.state, member.length),
        (Some(2), ServingState::Served, 1000)
    );
    assert_eq!(
        (member.crc32, member.received_at, &member.source),
        (0xdead_beef, batch[1].received_at, &batch[1].source)
    );
    assert_eq!(catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap(), None, "leased");
}

pub(crate) async fn an_offload_can_be_asked_for_at_once(database: Database) {
    let catalogue = database.open().await;
    let quiet_since = tick();
    store_all(&catalogue, &[slice(1, 1, 1), slice(1, 2, 1), slice(2, 1, 1)]).await;
    assert_eq!(catalogue.request_offload(node(1), &uid("1.2.1")).await.unwrap(), 2);
    assert_eq!(catalogue.offload_backlog(&uid("1.2.1")).await.unwrap(), (0, 2));
    for _ in 0..2 {
        let claim = catalogue.claim_offload(node(1), quiet_since, LEASE).await.unwrap().unwrap();
        catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    }
    assert_eq!(catalogue.claim_offload(node(1), quiet_since, LEASE).await.unwrap(), None);
    assert_eq!(catalogue.offload_backlog(&uid("1.2.1")).await.unwrap(), (2, 0));
    while let Some(pack) = catalogue.claim_pack(node(1), LEASE).await.unwrap() {
        verify(&catalogue, &pack).await;
    }
    assert_eq!(catalogue.offload_backlog(&uid("1.2.1")).await.unwrap(), (0, 0));
    assert_eq!(catalogue.request_offload(node(1), &uid("1.2.1")).await.unwrap(), 0);
}

pub(crate) async fn a_pack_goes_from_planned_to_verified(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 2), slice(1, 1, 1)]).await;
    let claim = claim(&catalogue).await;
    let planned = packs(&claim);
    catalogue.plan_packs(&claim, &planned).await.unwrap();
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert_eq!(
        (&pack.key, pack.state, pack.length, pack.crc64),
        (&planned[0].key, PackState::Planned, 5000, None)
    );
    assert_eq!((pack.series, pack.study_uid.as_str(), pack.attempts), (claim.series, "1.2.1", 1));
    let offsets: Vec<_> = pack.members.iter().map(|(member, offset)| (member.object, *offset)).collect();
    assert_eq!(offsets, planned[0].members);
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None, "leased");
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.packs_pending, 1);
    catalogue.pack_uploaded(&pack, u64::MAX - 7).await.unwrap();
    assert!(!catalogue.served_versions(node(1), &[uid("1.2.1.1.1")]).await.unwrap()[&uid("1.2.1.1.1")].verified);
    catalogue.pack_verified(&pack, tick()).await.unwrap();
    assert!(catalogue.served_versions(node(1), &[uid("1.2.1.1.1")]).await.unwrap()[&uid("1.2.1.1.1")].verified);
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!(
        (counts.of_node.packs_pending, counts.packs_verified, counts.pack_bytes),
        (0, 1, 5000)
    );
    assert_eq!(catalogue.studies(node(1), None, 1).await.unwrap()[0].packed_instances, 2);
    assert!(
        matches!(catalogue.pack_failed(&pack, "late", NONE).await, Err(Error::LeaseLost)),
        "verified is never unsaid"
    );
    // Further instances of the series make a further pack.
    store(&catalogue, &slice(1, 1, 3)).await;
    let more = self::claim(&catalogue).await;
    assert_eq!(more.members.len(), 1);
}

pub(crate) async fn what_a_crash_interrupted_is_due_again(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 1), slice(1, 1, 2)]).await;
    // Claimed, then dead.
    let dead = claim(&catalogue).await;
    catalogue.release_leases(node(2)).await.unwrap();
    assert_eq!(
        catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap(),
        None,
        "another node's start ends no lease"
    );
    catalogue.release_leases(node(1)).await.unwrap();
    assert!(matches!(catalogue.plan_packs(&dead, &packs(&dead)).await, Err(Error::LeaseLost)));
    let claim = claim(&catalogue).await;
    // Planned; the answer was lost, the plan is made again.
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 1);
    // Claimed and uploaded, then dead.
    let dead = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    catalogue.pack_uploaded(&dead, 7).await.unwrap();
    catalogue.release_leases(node(1)).await.unwrap();
    assert!(matches!(catalogue.pack_verified(&dead, tick()).await, Err(Error::LeaseLost)));
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert_eq!(
        (pack.pack, pack.state, pack.crc64, pack.attempts),
        (dead.pack, PackState::Uploaded, Some(7), 2)
    );
    catalogue.pack_uploaded(&pack, 7).await.unwrap();
    catalogue.pack_verified(&pack, tick()).await.unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None);
}

pub(crate) async fn a_lease_that_ran_out_is_lost_to_the_next(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let slow = catalogue.claim_offload(node(1), tick(), NONE).await.unwrap().unwrap();
    let quick = claim(&catalogue).await;
    assert!(quick.fence > slow.fence);
    assert!(matches!(catalogue.plan_packs(&slow, &packs(&slow)).await, Err(Error::LeaseLost)));
    catalogue.plan_packs(&quick, &packs(&quick)).await.unwrap();

    let slow = catalogue.claim_pack(node(1), NONE).await.unwrap().unwrap();
    // Nobody took it yet: the lease can still be extended.
    catalogue.renew_pack(&slow, NONE).await.unwrap();
    let quick = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert!(quick.fence > slow.fence && quick.pack == slow.pack);
    let lost = [
        catalogue.renew_pack(&slow, LEASE).await,
        catalogue.pack_uploaded(&slow, 1).await,
        catalogue.pack_failed(&slow, "slow", NONE).await,
        catalogue.pack_rotten(&slow, slow.members[0].0.object, "slow", tick()).await,
        catalogue.pack_verified(&slow, tick()).await,
    ];
    assert!(lost.iter().all(|result| matches!(result, Err(Error::LeaseLost))), "{lost:?}");
    verify(&catalogue, &quick).await;
    assert_eq!(catalogue.counts(node(1)).await.unwrap().quarantined, 0);
}

pub(crate) async fn a_renewed_lease_is_held(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let claim = claim(&catalogue).await;
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    let pack = catalogue.claim_pack(node(1), NONE).await.unwrap().unwrap();
    catalogue.renew_pack(&pack, LEASE).await.unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None);
}

pub(crate) async fn a_failed_pack_is_due_again_when_told(database: Database) {
    let catalogue = database.open().await;
    store(&catalogue, &slice(1, 1, 1)).await;
    let claim = claim(&catalogue).await;
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    catalogue.pack_uploaded(&pack, 7).await.unwrap();
    catalogue.pack_failed(&pack, "no space\0", LEASE).await.unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None, "not yet");
    assert_eq!(database.text("SELECT error FROM packs").await, "no space");
    catalogue.request_offload(node(1), &uid("1.2.1")).await.unwrap();
    let again = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert_eq!((again.state, again.crc64, again.attempts), (PackState::Planned, None, 2));
    catalogue.pack_failed(&again, "again", NONE).await.unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap().attempts, 3);
}

pub(crate) async fn members_that_changed_since_the_claim_are_not_planned(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store_all(&catalogue, &[first.clone(), slice(1, 1, 2)]).await;
    let stale = claim(&catalogue).await;
    store(&catalogue, &first.again().with_bytes("second")).await;
    assert!(matches!(catalogue.plan_packs(&stale, &packs(&stale)).await, Err(Error::LeaseLost)));
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 0);
    // Due again at once, and now the old version goes to a pack that says what it is.
    let claim = claim(&catalogue).await;
    let planned = packs(&claim);
    assert_eq!(
        planned.iter().map(|pack| (pack.state, pack.members.len())).collect::<Vec<_>>(),
        [(ServingState::Superseded, 1), (ServingState::Served, 2)]
    );
    catalogue.plan_packs(&claim, &planned).await.unwrap();
}

pub(crate) async fn a_pack_says_of_its_members_what_they_were_when_planned(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let claim = claim(&catalogue).await;
    catalogue.plan_packs(&claim, &packs(&claim)).await.unwrap();
    store(&catalogue, &first.again().with_bytes("second")).await;
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert_eq!(pack.members[0].0.state, ServingState::Served);
    assert_eq!(
        catalogue.journal_pending(10).await.unwrap().len(),
        1,
        "what changed since is in the journal"
    );
}

pub(crate) async fn a_rotten_member_dissolves_its_pack_and_is_never_packed(database: Database) {
    let catalogue = database.open().await;
    let (rotten, sound) = (slice(1, 1, 1), slice(1, 1, 2));
    store_all(&catalogue, &[rotten.clone(), sound.clone()]).await;
    let first = claim(&catalogue).await;
    catalogue.plan_packs(&first, &packs(&first)).await.unwrap();
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    catalogue
        .pack_rotten(&pack, rotten.object, "SHA-256 differs", tick())
        .await
        .unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None);
    let quarantined = catalogue.quarantined(10).await.unwrap();
    assert_eq!(
        (quarantined[0].object, quarantined[0].reason.as_str()),
        (rotten.object, "SHA-256 differs")
    );
    assert_eq!(catalogue.journal_pending(10).await.unwrap().len(), 1);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 1);
    let second = claim(&catalogue).await;
    assert_eq!(
        second.members.iter().map(|member| member.object).collect::<Vec<_>>(),
        [sound.object]
    );
    catalogue.plan_packs(&second, &packs(&second)).await.unwrap();
    offload(&catalogue).await;
    assert_eq!(catalogue.offload_backlog(&uid("1.2.1")).await.unwrap(), (0, 0));
    assert_eq!(catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap(), None);
    assert!(
        !catalogue.accept(rotten.object, &|_| None, "admin", tick()).await.unwrap(),
        "its bytes are not what was received"
    );
    database.counts_are_right().await;
    // The sender still has the good bytes.
    let good = rotten.clone().again();
    assert_eq!(store(&catalogue, &good).await, filmroom_index::catalogue::Outcome::Served);
    database.counts_are_right().await;
}

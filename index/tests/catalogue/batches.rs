//! Objects of one instance each: put, verified and erased by the batch of which one manifest tells.

use std::time::Duration;

use filmroom_index::catalogue::{Arrival, Catalogue, ColdLayout, Error, NewPack, PackClaim, PackKey, PackState};
use filmroom_index::model::Timestamp;

use crate::cold::claim;
use crate::database::Database;
use crate::deletions::{delete, end_erasing, instance, journal};
use crate::objects::{node, slice, tick};
use crate::store::{store_all, take_doomed};

const LEASE: Duration = Duration::from_secs(600);
const MANIFEST: &str = "1.2.1/1.2.1.1/batch.json.zst";

/// A study of one series whose images are planned as one batch.
async fn planned(catalogue: &Catalogue, images: u32) -> Vec<Arrival> {
    let all: Vec<Arrival> = (1..=images).map(|number| slice(1, 1, number)).collect();
    store_all(catalogue, &all).await;
    let claim = claim(catalogue).await;
    let objects = claim.members.iter().map(|member| NewPack {
        layout: ColdLayout::Instance,
        manifest: Some(MANIFEST.to_owned()),
        key: format!("{}/{}/{}.dcm", claim.study_uid, claim.series_uid, member.object),
        length: member.length,
        state: member.state,
        members: vec![(member.object, 0)],
    });
    catalogue.plan_packs(&claim, &objects.collect::<Vec<_>>()).await.unwrap();
    all
}

async fn claimed(catalogue: &Catalogue) -> PackClaim {
    catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap()
}

async fn verified(catalogue: &Catalogue, images: u32) -> Vec<Arrival> {
    let all = planned(catalogue, images).await;
    let batch = claimed(catalogue).await;
    let put: Vec<(&PackClaim, u64)> = batch.leased().map(|one| (one, 7)).collect();
    catalogue.batch_uploaded(&put).await.unwrap();
    catalogue.batch_verified(&batch.leased().collect::<Vec<_>>(), tick()).await.unwrap();
    all
}

pub(crate) async fn a_batch_is_claimed_as_a_whole_and_verified_in_one(database: Database) {
    let catalogue = database.open().await;
    let all = planned(&catalogue, 4).await;
    let batch = claimed(&catalogue).await;
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None, "all are leased");
    let leased: Vec<&PackClaim> = batch.leased().collect();
    let members: Vec<_> = leased
        .iter()
        .map(|one| (one.layout, one.members.len(), one.members[0].0.object))
        .collect();
    let expected: Vec<_> = all.iter().map(|arrival| (ColdLayout::Instance, 1, arrival.object)).collect();
    assert_eq!(members, expected);
    assert!(
        leased
            .iter()
            .all(|one| one.manifest.as_deref() == Some(MANIFEST) && one.state == PackState::Planned)
    );

    // The next start has it again, whole; who had it before changes nothing any more.
    catalogue.release_leases(node(1)).await.unwrap();
    let again = claimed(&catalogue).await;
    assert_eq!(again.leased().count(), 4);
    let put: Vec<(&PackClaim, u64)> = batch.leased().map(|one| (one, 7)).collect();
    assert!(matches!(catalogue.batch_uploaded(&put).await, Err(Error::LeaseLost)));
    let put: Vec<(&PackClaim, u64)> = again.leased().zip(7..).collect();
    catalogue.batch_uploaded(&put).await.unwrap();
    // One of them is lost: none is verified.
    let mut stale = again.batch[1].clone();
    stale.fence -= 1;
    assert!(matches!(
        catalogue.batch_verified(&[&again, &stale], tick()).await,
        Err(Error::LeaseLost)
    ));
    assert_eq!(database.number("SELECT count(*) FROM packs WHERE verified_at IS NOT NULL").await, 0);
    catalogue.batch_verified(&again.leased().collect::<Vec<_>>(), tick()).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM packs WHERE state = 'verified'").await, 4);
    assert_eq!(catalogue.known_manifests(&[MANIFEST, "other"]).await.unwrap().len(), 1);
    let put = catalogue.batch_as_put(MANIFEST, &[again.pack]).await.unwrap();
    assert_eq!(
        put.iter().map(|(one, _)| one.crc64).collect::<Vec<_>>(),
        [Some(8), Some(9), Some(10)]
    );
    assert!(put.iter().all(|(one, put_by)| one.members.len() == 1 && *put_by == node(1)));
    let firsts: Vec<bool> = {
        let mut firsts = Vec::new();
        for one in again.leased() {
            firsts.push(catalogue.tells_of_manifest(one.pack).await.unwrap());
        }
        firsts
    };
    assert_eq!(firsts, [true, false, false, false]);
}

pub(crate) async fn one_that_fails_leaves_its_batch_and_the_others_go_on(database: Database) {
    let catalogue = database.open().await;
    planned(&catalogue, 3).await;
    let batch = claimed(&catalogue).await;
    let alone = "1.2.1/1.2.1.1/alone.json.zst";
    // Even the first one, by which the batch was claimed.
    catalogue.leave_batch(&batch, alone, "differs", Duration::ZERO).await.unwrap();
    let one = claimed(&catalogue).await;
    assert_eq!((one.pack, one.manifest.as_deref(), one.batch.len()), (batch.pack, Some(alone), 0));
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None, "the others are leased");
    let put: Vec<(&PackClaim, u64)> = batch.batch.iter().map(|one| (one, 7)).collect();
    catalogue.batch_uploaded(&put).await.unwrap();
    catalogue.renew_pack(&batch, LEASE).await.unwrap();
    catalogue
        .batch_verified(&batch.batch.iter().collect::<Vec<_>>(), tick())
        .await
        .unwrap();
    assert_eq!(database.number("SELECT count(*) FROM packs WHERE state = 'verified'").await, 2);
    // A failure of all sets all back.
    catalogue.pack_failed(&one, "down", Duration::from_secs(3600)).await.unwrap();
    assert_eq!(catalogue.claim_pack(node(1), LEASE).await.unwrap(), None);
}

pub(crate) async fn what_is_erased_of_a_batch_goes_together_and_the_rest_is_told_anew(database: Database) {
    let catalogue = database.open().await;
    let all = verified(&catalogue, 4).await;
    for gone in [1, 2] {
        delete(&catalogue, &instance(&all[gone])).await;
    }
    journal(&catalogue).await;
    catalogue.begin_erasing(Timestamp(i64::MAX / 2), true).await.unwrap();
    take_doomed(&catalogue, node(1), true, 10).await;
    let claim = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!(
        (claim.manifest.as_deref(), claim.together.len(), claim.keep.len()),
        (Some(MANIFEST), 1, 0)
    );
    assert_eq!(
        catalogue.claim_erasure(node(2), tick(), LEASE).await.unwrap(),
        None,
        "both are leased"
    );
    let gone = claim.leased();
    let packs: Vec<PackKey> = gone.iter().map(|one| one.pack).collect();
    let stay: Vec<PackKey> = catalogue
        .batch_as_put(MANIFEST, &packs)
        .await
        .unwrap()
        .iter()
        .map(|(one, _)| one.pack)
        .collect();
    assert_eq!(stay.len(), 2);
    let new = "1.2.1/1.2.1.1/new.json.zst";
    catalogue.erasure_replacing(&claim, new).await.unwrap();
    assert!(catalogue.is_erasing(new).await.unwrap());
    assert!(matches!(
        catalogue.batch_retold(&claim, &gone, new, &stay[..1]).await,
        Err(Error::LeaseLost)
    ));
    catalogue.batch_retold(&claim, &gone, new, &stay).await.unwrap();
    catalogue.batch_erased(&claim, &gone).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 2);
    assert_eq!(
        catalogue
            .known_manifests(&[MANIFEST, new])
            .await
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [new]
    );
    assert_eq!(end_erasing(&catalogue, tick()).await, 2);
    database.counts_are_right().await;
}

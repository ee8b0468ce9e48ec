//! Whether an instance can be promised: how it stands on record, and what is done about it.

use std::time::Duration;

use filmroom_index::catalogue::{Catalogue, Outcome, SeriesKey, Standing};
use filmroom_index::model::{DuplicatePolicy, Timestamp};

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{Changed, node, slice, tick};
use crate::store::store;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const LEASE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

async fn standing(catalogue: &Catalogue, number: u128, instance: &str) -> Option<Standing> {
    catalogue
        .standings(node(number), &[instance, "1.7.7"])
        .await
        .unwrap()
        .remove(instance)
}

pub(crate) async fn an_instance_stands_as_it_is_on_record(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    let instance = first.sop_instance.as_str();
    assert_eq!(standing(&catalogue, 1, instance).await, None);
    store(&catalogue, &first).await;
    let here = standing(&catalogue, 1, instance).await.unwrap();
    let copy = here.served.clone().unwrap();
    assert_eq!((copy.object, copy.sop_class.as_str(), copy.length), (first.object, CT, 1000));
    assert_eq!(Some(copy.sha256), first.sha256);
    assert!(copy.hot && !copy.verified && copy.elsewhere.is_none() && here.known && !here.quarantined);
    let there = standing(&catalogue, 2, instance).await.unwrap().served.unwrap();
    assert_eq!((there.hot, there.elsewhere), (false, Some(node(1))));
    // Another version arrives from elsewhere and waits for a person.
    store(&catalogue, &first.clone().again().with_bytes("other").sent_by("PACS2")).await;
    let doubted = standing(&catalogue, 1, instance).await.unwrap();
    assert!(doubted.quarantined && doubted.served.is_some_and(|served| served.object == first.object));
    // A correction is the version that counts.
    let corrected = slice(1, 1, 2);
    store(&catalogue, &corrected).await;
    let newer = corrected.clone().again().with_bytes("corrected");
    store(&catalogue, &newer).await;
    let served = standing(&catalogue, 1, corrected.sop_instance.as_str())
        .await
        .unwrap()
        .served
        .unwrap();
    assert_eq!((served.object, Some(served.sha256)), (newer.object, newer.sha256));
    // A tombstone alone is nothing.
    let refused = slice(1, 1, 3);
    store(&catalogue, &refused).await;
    catalogue.quarantine(refused.object, "by hand", tick()).await.unwrap();
    assert!(standing(&catalogue, 1, refused.sop_instance.as_str()).await.unwrap().quarantined);
    catalogue.discard(refused.object, "admin", tick()).await.unwrap();
    let gone = standing(&catalogue, 1, refused.sop_instance.as_str()).await.unwrap();
    assert_eq!(gone, Standing::default());
    // In a verified pack.
    offload(&catalogue).await;
    let packed = standing(&catalogue, 1, corrected.sop_instance.as_str())
        .await
        .unwrap()
        .served
        .unwrap();
    assert!(packed.verified && packed.hot);
    catalogue
        .evict(node(1), packed.series, filmroom_index::catalogue::Evictable::Readable)
        .await
        .unwrap();
    let cold = standing(&catalogue, 1, corrected.sop_instance.as_str())
        .await
        .unwrap()
        .served
        .unwrap();
    assert!(cold.verified && !cold.hot && cold.elsewhere.is_none());
}

pub(crate) async fn the_offload_of_what_somebody_waits_for_is_hastened_once_it_is_quiet(database: Database) {
    let catalogue = database.open().await;
    let mut arrival = slice(1, 1, 1);
    // Received just now, by the database's clock.
    arrival.received_at = Timestamp(i64::MAX / 2);
    store(&catalogue, &arrival).await;
    let series = standing(&catalogue, 1, arrival.sop_instance.as_str())
        .await
        .unwrap()
        .served
        .unwrap()
        .series;
    let long_ago = Timestamp(0);
    assert_eq!(
        catalogue.hasten_offload(&[series, SeriesKey(99)], DAY).await.unwrap(),
        0,
        "it may go on arriving"
    );
    let sql = "UPDATE series_nodes SET last_received = 1";
    database.run(sql, sql).await;
    assert_eq!(catalogue.claim_offload(node(1), long_ago, LEASE).await.unwrap(), None);
    assert_eq!(catalogue.hasten_offload(&[series, SeriesKey(99)], DAY).await.unwrap(), 1);
    assert_eq!(catalogue.hasten_offload(&[series], DAY).await.unwrap(), 0, "asked for already");
    assert!(catalogue.claim_offload(node(1), long_ago, LEASE).await.unwrap().is_some());
}

pub(crate) async fn a_damaged_hot_file_is_out_of_service_unless_its_bytes_are_elsewhere(database: Database) {
    let catalogue = database.open().await;
    let (alone, packed) = (slice(1, 1, 1), slice(2, 1, 1));
    store(&catalogue, &packed).await;
    offload(&catalogue).await;
    store(&catalogue, &alone).await;
    for arrival in [&alone, &packed] {
        catalogue
            .hot_copy_rotten(node(2), arrival.object, "not this node's", tick())
            .await
            .unwrap();
    }
    assert_eq!(catalogue.counts(node(1)).await.unwrap().quarantined, 0);
    for arrival in [&alone, &packed] {
        catalogue
            .hot_copy_rotten(node(1), arrival.object, "SHA-256 differs", tick())
            .await
            .unwrap();
    }
    let quarantined = catalogue.quarantined(10).await.unwrap();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(
        (quarantined[0].object, quarantined[0].reason.as_str()),
        (alone.object, "SHA-256 differs")
    );
    assert_eq!(catalogue.journal_pending(10).await.unwrap().len(), 1);
    let cold = standing(&catalogue, 1, packed.sop_instance.as_str()).await.unwrap().served.unwrap();
    assert!(cold.verified && !cold.hot, "read from its pack from now on");
    database.counts_are_right().await;
    assert!(
        !catalogue.accept(alone.object, &|_| None, "admin", tick()).await.unwrap(),
        "its bytes are not what was received"
    );
    let instance = alone.sop_instance.as_str();
    assert!(standing(&catalogue, 1, instance).await.unwrap().quarantined);
    // The sender still has the good bytes.
    let good = alone.clone().again().policy(DuplicatePolicy::Keep);
    assert_eq!(store(&catalogue, &good).await, Outcome::Served);
    database.counts_are_right().await;
    // What is served is what the sender has, and can be promised; other bytes still count.
    let healed = standing(&catalogue, 1, instance).await.unwrap();
    assert!(!healed.quarantined && healed.served.is_some_and(|served| served.object == good.object));
    store(&catalogue, &alone.clone().again().with_bytes("other").sent_by("PACS2")).await;
    assert!(standing(&catalogue, 1, instance).await.unwrap().quarantined);
}

//! Deliveries: what is promised to a destination, who sends it, and that nothing is sent twice.

use std::time::Duration;

use filmroom_index::catalogue::{
    Arrival, AuditEvent, Catalogue, DeliveryClaim, DeliveryKey, DeliveryState, DeliveryTally, Error, ItemLease, ItemTaken, NewDelivery,
    OpenedDelivery, PackState,
};
use filmroom_index::model::{AeTitle, ObjectId, Timestamp};

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{Changed, node, slice, tick};
use crate::store::store_all;

const LEASE: Duration = Duration::from_secs(600);
/// A lease or a pause that has run out when the next statement looks.
const NONE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

fn event() -> AuditEvent {
    AuditEvent::new(tick(), "deliver", "")
}

/// Series `series` of study 1 with so many instances, on node 1.
async fn stored(catalogue: &Catalogue, series: u32, instances: u32) -> Vec<Arrival> {
    let batch: Vec<Arrival> = (1..=instances).map(|instance| slice(1, series, instance)).collect();
    store_all(catalogue, &batch).await;
    batch
}

fn objects(arrivals: &[Arrival]) -> Vec<ObjectId> {
    arrivals.iter().map(|arrival| arrival.object).collect()
}

async fn open_until(catalogue: &Catalogue, destination: &str, objects: &[ObjectId], deadline: Timestamp) -> OpenedDelivery {
    let new = NewDelivery {
        destination: &title(destination),
        requester: &title("PACS"),
        asked_at: tick(),
        deadline,
        since: None,
        objects,
        audit: AuditEvent::new(tick(), "deliver-asked", "PACS"),
    };
    catalogue.open_delivery(&new).await.unwrap()
}

async fn open(catalogue: &Catalogue, destination: &str, objects: &[ObjectId]) -> OpenedDelivery {
    open_until(catalogue, destination, objects, tick().after(HOUR)).await
}

/// Everything that is open is due.
async fn due(database: &Database) {
    let sql = "UPDATE deliveries SET next_at = 0";
    database.run(sql, sql).await;
}

async fn claim_on(catalogue: &Catalogue, number: u128) -> Option<DeliveryClaim> {
    catalogue.claim_delivery(node(number), tick(), LEASE, &[]).await.unwrap()
}

async fn waiting(catalogue: &Catalogue, claim: &DeliveryClaim) -> usize {
    catalogue.delivery_page(node(1), claim, None, 100_000).await.unwrap().items.len()
}

async fn take(catalogue: &Catalogue, claim: &DeliveryClaim, index: usize) -> ItemLease {
    let page = catalogue.delivery_page(node(1), claim, None, 100_000).await.unwrap();
    match catalogue
        .take_delivery_item(node(1), claim, page.items[index].key, LEASE)
        .await
        .unwrap()
    {
        ItemTaken::Taken(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn tally(catalogue: &Catalogue, key: Option<DeliveryKey>) -> (DeliveryState, DeliveryTally) {
    let all = catalogue.deliveries(100).await.unwrap();
    let one = all.into_iter().find(|delivery| Some(delivery.key) == key).unwrap();
    (one.state, one.tally)
}

pub(crate) async fn what_is_open_already_is_joined(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 3).await);
    let (early, late) = (tick().after(HOUR), tick().after(HOUR * 2));
    let first = open_until(&catalogue, "VIEWER", &images[..2], early).await;
    assert_eq!((first.added, first.joined), (2, 0));
    let second = open_until(&catalogue, "VIEWER", &images, late).await;
    assert_eq!((second.added, second.joined), (1, 2));
    let third = open_until(&catalogue, "VIEWER", &images, early).await;
    assert_eq!((third.key, third.added, third.joined), (None, 0, 3));
    assert_eq!(open(&catalogue, "OTHER", &images).await.added, 3, "another destination's own");
    // Who joined was promised until its own deadline.
    let of_viewer: Vec<_> = catalogue.deliveries(10).await.unwrap();
    let deadlines: Vec<_> = of_viewer
        .iter()
        .filter(|d| d.destination == title("VIEWER"))
        .map(|d| d.deadline)
        .collect();
    assert_eq!(deadlines, [late, late]);
    let detail = "SELECT detail FROM audit WHERE action = 'deliver-asked' ORDER BY id LIMIT 1";
    assert_eq!(
        database.text(detail).await,
        format!(
            "delivery {}: 2 instances when they are readable, 0 more that other deliveries have already",
            first.key.unwrap().0
        )
    );
    let counts = catalogue.delivery_counts().await.unwrap();
    assert_eq!((counts.open, counts.waiting), (3, 6));
}

pub(crate) async fn a_delivery_of_thousands_comes_in_whole_series(database: Database) {
    let catalogue = database.open().await;
    let mut images = Vec::new();
    for (series, instances) in [(1, 700), (2, 700), (3, 5)] {
        images.extend(objects(&stored(&catalogue, series, instances).await));
    }
    assert_eq!(open(&catalogue, "VIEWER", &images).await.added, 1405);
    assert_eq!(claim_on(&catalogue, 1).await, None, "its C-MOVE is ending");
    due(&database).await;
    let claim = claim_on(&catalogue, 2).await.unwrap();
    assert_eq!(
        (claim.destination.as_str(), claim.requester.as_str(), claim.attempts),
        ("VIEWER", "PACS", 0)
    );
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = catalogue.delivery_page(node(1), &claim, after, 500).await.unwrap();
        after = page.last;
        if after.is_none() {
            break;
        }
        let series: Vec<_> = page
            .items
            .iter()
            .map(|item| item.instance.as_ref().unwrap().series_uid.to_string())
            .collect();
        assert!(
            page.items.iter().all(|item| item.instance.as_ref().unwrap().hot),
            "located for the node that asks"
        );
        pages.push((series[0].clone(), series.len()));
        assert!(series.iter().all(|uid| *uid == series[0]));
    }
    let expected = [("1.2.1.1", 700), ("1.2.1.2", 700), ("1.2.1.3", 5)];
    assert_eq!(pages, expected.map(|(uid, count)| (uid.to_owned(), count)));
}

pub(crate) async fn a_delivery_is_worked_on_by_one_node_and_taken_over_when_that_is_dead(database: Database) {
    let catalogues = [database.open().await, database.open().await];
    let images = objects(&stored(&catalogues[0], 1, 2).await);
    open(&catalogues[0], "VIEWER", &images).await;
    due(&database).await;
    let (one, two) = tokio::join!(claim_on(&catalogues[0], 1), claim_on(&catalogues[1], 2));
    assert!(one.is_some() != two.is_some(), "{one:?} {two:?}");
    let dead = one.or(two).unwrap();
    let under_way = take(&catalogues[0], &dead, 0).await;
    assert_eq!(claim_on(&catalogues[1], 2).await, None, "leased");
    catalogues[0].renew_delivery(&dead, NONE).await.unwrap();
    let alive = claim_on(&catalogues[1], 2).await.unwrap();
    assert!(alive.fence > dead.fence);
    for lost in [
        catalogues[0].renew_delivery(&dead, LEASE).await.unwrap_err(),
        catalogues[0].delivery_waits(&dead, "", NONE, true).await.unwrap_err(),
        catalogues[0].end_delivery(&dead, &event()).await.unwrap_err(),
        catalogues[0].expire_delivery(&dead, &event()).await.unwrap_err(),
        catalogues[0].delivery_items_withdrawn(&dead, &[under_way.item]).await.unwrap_err(),
        catalogues[0]
            .take_delivery_item(node(1), &dead, under_way.item, LEASE)
            .await
            .unwrap_err(),
    ] {
        assert!(matches!(lost, Error::LeaseLost), "{lost:?}");
    }
    // What the dead node was sending is left alone as long as it may still be under way.
    let busy = catalogues[1]
        .take_delivery_item(node(2), &alive, under_way.item, LEASE)
        .await
        .unwrap();
    assert_eq!(busy, ItemTaken::Busy);
    catalogues[0].renew_delivery_item(&under_way, NONE).await.unwrap();
    let taken = catalogues[1]
        .take_delivery_item(node(2), &alive, under_way.item, LEASE)
        .await
        .unwrap();
    assert!(matches!(taken, ItemTaken::Taken(_)));
    let lost = catalogues[0].renew_delivery_item(&under_way, LEASE).await.unwrap_err();
    assert!(matches!(lost, Error::LeaseLost), "{lost:?}");
    // It was not dead: the destination has the image, and that is so.
    catalogues[0].delivery_item_sent(&under_way).await.unwrap();
    assert_eq!(waiting(&catalogues[1], &alive).await, 1);
}

pub(crate) async fn a_node_that_starts_again_gives_up_its_leases(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 1).await);
    open(&catalogue, "VIEWER", &images).await;
    due(&database).await;
    let before = claim_on(&catalogue, 1).await.unwrap();
    let item = take(&catalogue, &before, 0).await;
    catalogue.release_deliveries(node(2)).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None, "another node's start");
    catalogue.release_deliveries(node(1)).await.unwrap();
    let lost = catalogue.renew_delivery(&before, LEASE).await.unwrap_err();
    assert!(matches!(lost, Error::LeaseLost), "{lost:?}");
    let claim = claim_on(&catalogue, 1).await.unwrap();
    let again = take(&catalogue, &claim, 0).await;
    assert!(again.fence > item.fence);
}

pub(crate) async fn what_was_sent_is_sent_no_more(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 3).await);
    let opened = open(&catalogue, "VIEWER", &images).await;
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    let item = take(&catalogue, &claim, 0).await;
    catalogue.delivery_item_sent(&item).await.unwrap();
    assert_eq!(waiting(&catalogue, &claim).await, 2);
    let taken = catalogue.take_delivery_item(node(1), &claim, item.item, LEASE).await.unwrap();
    assert_eq!(taken, ItemTaken::Sent);
    let twice = take(&catalogue, &claim, 0).await;
    let other = catalogue.take_delivery_item(node(2), &claim, twice.item, LEASE).await.unwrap();
    assert_eq!(other, ItemTaken::Busy);
    catalogue.delivery_item_given_back(&twice).await.unwrap();
    let twice = take(&catalogue, &claim, 0).await;
    assert_eq!(catalogue.end_delivery(&claim, &event()).await.unwrap(), None, "two wait");
    catalogue.delivery_item_sent(&twice).await.unwrap();
    catalogue.delivery_item_sent(&twice).await.unwrap();
    let last = take(&catalogue, &claim, 0).await;
    catalogue.delivery_item_sent(&last).await.unwrap();
    let ended = catalogue.end_delivery(&claim, &event()).await.unwrap().unwrap();
    assert_eq!(
        (Some(ended.key), ended.state, ended.tally.sent),
        (opened.key, DeliveryState::Done, 3)
    );
    assert_eq!(
        database
            .text("SELECT actor || ' ' || destination || ' ' || study_uid || ' ' || detail FROM audit WHERE action = 'deliver'")
            .await,
        format!("PACS VIEWER 1.2.1 delivery {} for PACS done: 3 sent", ended.key.0)
    );
    assert_eq!(database.number("SELECT instances FROM audit WHERE action = 'deliver'").await, 3);
    // Asked for again after it was done, it is sent again.
    assert_eq!(open(&catalogue, "VIEWER", &images).await.added, 3);
}

pub(crate) async fn a_c_move_and_a_delivery_do_not_both_send(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 3).await);
    let (viewer, other) = (title("VIEWER"), title("OTHER"));
    let since = catalogue.database_time().await.unwrap();
    let take_for = async |to: &AeTitle, index: usize, since| {
        let taken = catalogue.take_for_destination(node(1), to, images[index], since, LEASE).await;
        taken.unwrap()
    };
    assert_eq!(take_for(&viewer, 0, since).await, ItemTaken::Free);
    let opened = open(&catalogue, "VIEWER", &images).await;
    assert_eq!(take_for(&other, 0, since).await, ItemTaken::Free);
    due(&database).await;
    let claim = claim_on(&catalogue, 2).await.unwrap();
    // The delivery sends one image, the C-MOVE the next.
    let by_delivery = take(&catalogue, &claim, 0).await;
    assert_eq!(take_for(&viewer, 0, since).await, ItemTaken::Busy);
    catalogue.delivery_item_sent(&by_delivery).await.unwrap();
    assert_eq!(take_for(&viewer, 0, since).await, ItemTaken::Sent);
    let ItemTaken::Taken(by_move) = take_for(&viewer, 1, since).await else {
        panic!("not taken")
    };
    let busy = catalogue.take_delivery_item(node(2), &claim, by_move.item, LEASE).await.unwrap();
    assert_eq!(busy, ItemTaken::Busy);
    catalogue.delivery_item_sent(&by_move).await.unwrap();
    // A C-MOVE that begins later gets all of it.
    let later = catalogue.database_time().await.unwrap().after(NONE);
    let later = Timestamp(later.0 + 1_000_000);
    assert_eq!(take_for(&viewer, 0, later).await, ItemTaken::Free);
    // The last image makes the delivery due, to be ended.
    catalogue.delivery_waits(&claim, "", HOUR, false).await.unwrap();
    let ItemTaken::Taken(last) = take_for(&viewer, 2, later).await else {
        panic!("not taken")
    };
    catalogue.delivery_item_sent(&last).await.unwrap();
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert!(catalogue.end_delivery(&claim, &event()).await.unwrap().is_some());
    assert_eq!(tally(&catalogue, opened.key).await.1.sent, 3);
}

pub(crate) async fn a_corrected_image_is_sent_as_it_is_served_and_a_withdrawn_one_is_not(database: Database) {
    let catalogue = database.open().await;
    let batch = stored(&catalogue, 1, 3).await;
    let images = objects(&batch);
    open(&catalogue, "VIEWER", &images).await;
    let corrected = batch[0].clone().again().with_bytes("corrected");
    store_all(&catalogue, std::slice::from_ref(&corrected)).await;
    catalogue.quarantine(images[1], "by hand", tick()).await.unwrap();
    let again = open(&catalogue, "VIEWER", &[corrected.object]).await;
    assert_eq!((again.added, again.joined), (0, 1), "an older version is open");
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    let page = catalogue.delivery_page(node(1), &claim, None, 100).await.unwrap();
    let served: Vec<_> = page
        .items
        .iter()
        .filter_map(|item| item.instance.as_ref().map(|i| i.object))
        .collect();
    assert_eq!(served, [corrected.object, images[2]]);
    let gone: Vec<_> = page
        .items
        .iter()
        .filter(|item| item.instance.is_none())
        .map(|item| item.key)
        .collect();
    assert_eq!(catalogue.delivery_items_withdrawn(&claim, &gone).await.unwrap(), 1);
    let since = catalogue.database_time().await.unwrap();
    let taken = catalogue
        .take_for_destination(node(1), &title("VIEWER"), corrected.object, since, LEASE)
        .await;
    assert!(matches!(taken.unwrap(), ItemTaken::Taken(_)), "the version that is served now");
    assert_eq!(waiting(&catalogue, &claim).await, 2);
}

pub(crate) async fn an_image_that_is_refused_is_given_up_and_the_others_are_not(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 2).await);
    let opened = open(&catalogue, "VIEWER", &images).await;
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    for last in [false, false, true] {
        let item = take(&catalogue, &claim, 0).await;
        assert_eq!(catalogue.delivery_item_refused(&item, 3).await.unwrap(), last);
    }
    let (state, tally) = tally(&catalogue, opened.key).await;
    assert_eq!((state, tally.refused, tally.waiting), (DeliveryState::Open, 1, 1));
    let item = take(&catalogue, &claim, 0).await;
    catalogue.delivery_item_sent(&item).await.unwrap();
    catalogue.end_delivery(&claim, &event()).await.unwrap().unwrap();
    assert_eq!(
        database
            .text("SELECT outcome || ' ' || detail FROM audit WHERE action = 'deliver'")
            .await,
        format!("minor delivery {} for PACS done: 1 sent, 1 refused", opened.key.unwrap().0)
    );
}

pub(crate) async fn a_delivery_waits_and_is_due_when_its_pack_is_readable(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 2).await);
    offload(&catalogue).await;
    open(&catalogue, "VIEWER", &images).await;
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    let page = catalogue.delivery_page(node(1), &claim, None, 10).await.unwrap();
    let pack = page.items[0].instance.as_ref().unwrap().packed.as_ref().unwrap().pack;
    catalogue.delivery_waits(&claim, "archived", HOUR, false).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None);
    catalogue.pack_seen(pack, PackState::ArchiveAccess, None, tick()).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None, "archived");
    assert!(catalogue.any_archived(&images).await.unwrap());
    catalogue.pack_seen(pack, PackState::Verified, None, tick()).await.unwrap();
    assert!(!catalogue.any_archived(&images).await.unwrap());
    let claim = claim_on(&catalogue, 1).await.unwrap();
    // It became readable while it was looked at: it is not put off.
    catalogue.pack_seen(pack, PackState::Verified, None, tick()).await.unwrap();
    catalogue.delivery_waits(&claim, "archived", HOUR, true).await.unwrap();
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(claim.attempts, 1);
    let failing = catalogue.deliveries(10).await.unwrap();
    assert_eq!((failing[0].attempts, failing[0].error.as_str()), (1, "archived"));
    catalogue.delivery_waits(&claim, "", NONE, true).await.unwrap();
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(claim.attempts, 2);
    catalogue.delivery_waits(&claim, "", NONE, false).await.unwrap();
    let except = [title("VIEWER")];
    let none = catalogue.claim_delivery(node(1), tick(), LEASE, &except).await.unwrap();
    assert_eq!(none, None, "a destination that is down keeps nobody waiting");
    assert_eq!(claim_on(&catalogue, 1).await.unwrap().attempts, 0);
}

pub(crate) async fn what_is_not_sent_in_time_expires(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 3).await);
    let opened = open(&catalogue, "VIEWER", &images).await;
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    let item = take(&catalogue, &claim, 0).await;
    catalogue.delivery_item_sent(&item).await.unwrap();
    let under_way = take(&catalogue, &claim, 0).await;
    catalogue.delivery_waits(&claim, "", HOUR, false).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None, "neither due nor over");
    // Not even a destination that is called now keeps it from ending in time.
    let except = [title("VIEWER")];
    let over = claim.deadline.after(HOUR);
    let claim = catalogue.claim_delivery(node(1), over, LEASE, &except).await.unwrap().unwrap();
    let ended = catalogue.expire_delivery(&claim, &event()).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.tally.sent, ended.tally.expired), (DeliveryState::Expired, 1, 2));
    catalogue.delivery_item_sent(&under_way).await.unwrap();
    let (state, tally) = tally(&catalogue, opened.key).await;
    assert_eq!(
        (state, tally.sent, tally.expired),
        (DeliveryState::Expired, 2, 1),
        "it had left already"
    );
    assert_eq!(catalogue.claim_delivery(node(1), over, LEASE, &[]).await.unwrap(), None);
    assert_eq!(catalogue.forget_deliveries(HOUR).await.unwrap(), 0);
    assert_eq!(catalogue.forget_deliveries(NONE).await.unwrap(), 1);
    assert_eq!(database.number("SELECT count(*) FROM delivery_items").await, 0);
}

pub(crate) async fn a_cancel_leaves_nothing_of_what_it_is_about(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 4).await);
    let first = open(&catalogue, "VIEWER", &images[..2]).await;
    let second = open(&catalogue, "VIEWER", &images[2..]).await;
    let other = open(&catalogue, "OTHER", &images).await;
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(Some(claim.key), first.key);
    let cancelled = catalogue
        .cancel_delivery_of(&title("VIEWER"), &images[..3], &event())
        .await
        .unwrap();
    assert_eq!(cancelled, 3);
    let lost = catalogue.renew_delivery(&claim, LEASE).await.unwrap_err();
    assert!(matches!(lost, Error::LeaseLost), "{lost:?}");
    assert_eq!(tally(&catalogue, first.key).await.0, DeliveryState::Cancelled);
    let (state, counted) = tally(&catalogue, second.key).await;
    assert_eq!((state, counted.waiting, counted.cancelled), (DeliveryState::Open, 1, 1));
    assert_eq!(tally(&catalogue, other.key).await.1.waiting, 4);
    let ended = catalogue
        .cancel_delivery(other.key.unwrap(), &AuditEvent::new(tick(), "deliver", "root"))
        .await
        .unwrap();
    assert_eq!(ended.unwrap().tally.cancelled, 4);
    let again = catalogue.cancel_delivery(other.key.unwrap(), &event()).await.unwrap();
    assert_eq!(again, None);
    let by = "SELECT actor FROM audit WHERE action = 'deliver' AND destination = 'OTHER'";
    assert_eq!(database.text(by).await, "root");
    assert_eq!(open(&catalogue, "VIEWER", &images).await.added, 3, "wanted again");
}

pub(crate) async fn the_same_asked_for_many_times_at_once_is_open_once(database: Database) {
    let catalogue = database.open().await;
    let images = objects(&stored(&catalogue, 1, 50).await);
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let (catalogue, mut images) = (catalogue.clone(), images.clone());
            images.rotate_left(number * 5);
            tokio::spawn(async move { open(&catalogue, "VIEWER", &images).await })
        })
        .collect();
    let mut added = 0;
    for task in tasks {
        let opened = task.await.unwrap();
        assert_eq!(opened.added + opened.joined, 50);
        added += opened.added;
    }
    assert_eq!(added, 50);
    assert_eq!(catalogue.delivery_counts().await.unwrap().waiting, 50);
}

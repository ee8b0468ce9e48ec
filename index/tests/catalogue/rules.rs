//! What rules need of the catalogue: series as they ask of them, the queue of those that are quiet, the tags of packs.

use std::collections::BTreeSet;
use std::time::Duration;

use filmroom_index::catalogue::{ArchiveTag, Arrival, Catalogue, PackKey, SeriesKey, Subject};
use filmroom_index::model::{AeTitle, Timestamp};

use crate::cold::{offload, packs};
use crate::database::Database;
use crate::objects::{node, slice, tick};
use crate::store::{store, store_all};

const LEASE: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(86_400);

async fn subject(catalogue: &Catalogue, series: i64) -> Subject {
    let key = SeriesKey(series);
    catalogue.subjects(&BTreeSet::from([key])).await.unwrap().remove(&key).unwrap()
}

pub(crate) async fn a_series_tells_what_rules_ask_of_it(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store_all(&catalogue, &[arrival.clone(), slice(1, 1, 2), slice(2, 1, 1)]).await;
    let before = subject(&catalogue, 1).await;
    assert_eq!((&before.study_uid, &before.series_uid), (&arrival.study, &arrival.series));
    assert_eq!(
        (before.modality.as_str(), before.sop_classes.as_slice()),
        ("CT", [arrival.sop_class.clone()].as_slice())
    );
    assert_eq!((before.source.as_str(), before.packed), (arrival.source.as_str(), 0));
    assert_eq!(before.known_since, arrival.received_at);
    offload(&catalogue).await;
    assert_eq!(subject(&catalogue, 1).await.packed, 5000);
    let all = BTreeSet::from([SeriesKey(1), SeriesKey(2), SeriesKey(99)]);
    assert_eq!(catalogue.subjects(&all).await.unwrap().len(), 2);
    assert!(catalogue.subjects(&BTreeSet::new()).await.unwrap().is_empty());
}

pub(crate) async fn the_source_of_a_series_is_that_of_its_first_object(database: Database) {
    let catalogue = database.open().await;
    let from = |title: &str, arrival: Arrival| Arrival {
        source: AeTitle::parse(title).unwrap(),
        ..arrival
    };
    store(&catalogue, &from("FIRST", slice(1, 1, 1))).await;
    store_all(&catalogue, &[from("SECOND", slice(1, 1, 2)), from("SECOND", slice(1, 2, 1))]).await;
    assert_eq!(subject(&catalogue, 1).await.source, "FIRST");
    assert_eq!(subject(&catalogue, 2).await.source, "SECOND");
}

pub(crate) async fn quiet_series_come_in_pages_and_are_claimed_one_by_one(database: Database) {
    let catalogue = database.open().await;
    let early = tick();
    for series in 1..=5 {
        store(&catalogue, &slice(1, series, 1)).await;
    }
    let late = tick();
    let quiet = async |since, after, limit| catalogue.quiet_series(node(1), since, after, limit).await.unwrap();
    assert_eq!(quiet(early, None, 10).await, []);
    assert_eq!(catalogue.quiet_series(node(2), late, None, 10).await.unwrap(), []);
    let all = quiet(late, None, 10).await;
    let keys: Vec<i64> = all.iter().map(|quiet| quiet.subject.series.0).collect();
    assert_eq!(keys, [1, 2, 3, 4, 5]);
    // In pages, and of those that came at the same moment none is left out.
    let same = "UPDATE series_nodes SET last_received = (SELECT max(last_received) FROM series_nodes)";
    database.run(same, same).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = quiet(late, after, 2).await;
        let Some(last) = page.last() else { break };
        after = Some((last.last_received, last.subject.series));
        seen.extend(page.iter().map(|quiet| quiet.subject.series.0));
    }
    assert_eq!(seen, keys);

    let claim = |series, since| catalogue.claim_quiet(node(1), SeriesKey(series), since, LEASE);
    assert_eq!(claim(3, early).await.unwrap(), None, "not quiet for so long");
    let claimed = claim(3, late).await.unwrap().unwrap();
    assert_eq!((claimed.series, claimed.members.len()), (SeriesKey(3), 1));
    assert_eq!(claim(3, late).await.unwrap(), None, "leased");
    assert_eq!(quiet(late, None, 10).await.len(), 5, "and still seen");
    catalogue.plan_packs(&claimed, &packs(&claimed)).await.unwrap();
    assert_eq!(claim(3, late).await.unwrap(), None, "packed");
    assert_eq!(quiet(late, None, 10).await.len(), 4);
}

pub(crate) async fn what_was_asked_for_is_packed_before_what_is_quiet(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 1), slice(2, 1, 1)]).await;
    catalogue.request_offload(node(1), &slice(2, 1, 1).study).await.unwrap();
    let claim = catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!(claim.study_uid, slice(2, 1, 1).study);
    assert_eq!(
        catalogue.claim_offload(node(1), Timestamp(i64::MIN), LEASE).await.unwrap(),
        None,
        "nothing else was asked for"
    );
}

pub(crate) async fn the_tags_of_packs_are_walked_by_one_node_at_a_time(database: Database) {
    let catalogue = database.open().await;
    for series in 1..=3 {
        store(&catalogue, &slice(1, series, 1)).await;
    }
    offload(&catalogue).await;
    let now = tick();
    let claim = |n: u128| catalogue.claim_tag_walk(node(n), "a", true, now.before(DAY), LEASE);
    let walk = claim(1).await.unwrap().unwrap();
    assert_eq!(walk.position, PackKey(0));
    assert_eq!(claim(2).await.unwrap(), None, "leased");
    let page = catalogue.packs_to_tag(walk.position, 2).await.unwrap();
    assert_eq!(
        page.iter().map(|pack| (pack.series, pack.tag)).collect::<Vec<_>>(),
        [(SeriesKey(1), None), (SeriesKey(2), None)]
    );
    catalogue.pack_tagged(page[0].pack, Some(ArchiveTag::No)).await.unwrap();
    catalogue.pack_tagged(page[1].pack, Some(ArchiveTag::Yes)).await.unwrap();
    catalogue.tag_walk_at(&walk, page[1].pack, LEASE).await.unwrap();
    let tags: Vec<_> = catalogue
        .packs_to_tag(PackKey(0), 10)
        .await
        .unwrap()
        .iter()
        .map(|pack| pack.tag)
        .collect();
    assert_eq!(tags, [Some(ArchiveTag::No), Some(ArchiveTag::Yes), None]);
    // Killed: at its start it gives up its lease, and whoever takes over goes on there.
    catalogue.release_tag_walk(node(2)).await.unwrap();
    assert_eq!(claim(2).await.unwrap(), None, "another node's start ends no lease");
    catalogue.release_tag_walk(node(1)).await.unwrap();
    let taken = claim(2).await.unwrap().unwrap();
    assert_eq!(taken.position, page[1].pack);
    assert!(catalogue.tag_walk_at(&walk, PackKey(3), LEASE).await.is_err(), "the lease is lost");
    assert!(!catalogue.tags_are_kept("a").await.unwrap());
    catalogue.tag_walk_ended(&taken, now).await.unwrap();
    assert!(catalogue.tags_are_kept("a").await.unwrap());
    assert!(!catalogue.tags_are_kept("b").await.unwrap());
    // What was found damaged may have been put anew, without a tag.
    catalogue.pack_damaged(page[0].pack, "lost", tick()).await.unwrap();
    assert_eq!(catalogue.packs_to_tag(PackKey(0), 1).await.unwrap()[0].tag, None);
}

pub(crate) async fn other_rules_are_walked_for_anew_and_the_same_after_a_while(database: Database) {
    let catalogue = database.open().await;
    let now = tick();
    let claim =
        async |rules: &str, anew: bool, at: Timestamp| catalogue.claim_tag_walk(node(1), rules, anew, at.before(DAY), LEASE).await.unwrap();
    let walk = claim("a", false, now).await.unwrap();
    catalogue.tag_walk_at(&walk, PackKey(7), LEASE).await.unwrap();
    catalogue.tag_walk_ended(&walk, now).await.unwrap();
    assert_eq!(claim("a", true, now).await, None, "it is done");
    assert_eq!(
        claim("b", false, now).await,
        None,
        "another node has other rules: they do not fight"
    );
    let other = claim("b", true, now).await.unwrap();
    assert_eq!(other.position, PackKey(0));
    catalogue.tag_walk_at(&other, PackKey(5), LEASE).await.unwrap();
    catalogue.give_up_tag_walk(&other).await.unwrap();
    assert_eq!(claim("b", false, now).await.unwrap().position, PackKey(5));
    catalogue.release_tag_walk(node(1)).await.unwrap();
    let walk = claim("b", false, now).await.unwrap();
    catalogue.tag_walk_ended(&walk, now).await.unwrap();
    let tomorrow = now.after(DAY).after(DAY);
    assert_eq!(claim("b", false, tomorrow).await.unwrap().position, PackKey(0));
}

//! What is predicted and seen of packs: archived, read since, lost or altered.

use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{AnswerContext, ArchiveCutoffs, ArchiveTag, Catalogue, Evictable, MIN_ARCHIVED, Outcome, PackState};
use filmroom_index::model::{Availability, RestoreTier, Timestamp};

use crate::answering::ask;
use crate::cold::offload;
use crate::database::Database;
use crate::matching::{context, identifier};
use crate::objects::{Changed, node, slice, tick};
use crate::restores::{instances, located, packs, want};
use crate::store::store;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const PAST: Timestamp = Timestamp(0);
const FUTURE: Timestamp = Timestamp(i64::MAX);

async fn available(catalogue: &Catalogue, context: &AnswerContext) -> String {
    let query = identifier("STUDY", &vec![(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1".to_owned())]);
    let answers = ask(catalogue, &query, context).await;
    answers[0].text(tags::INSTANCE_AVAILABILITY).unwrap().to_owned()
}

pub(crate) async fn a_pack_that_nobody_has_read_counts_as_archived(database: Database) {
    let catalogue = database.open().await;
    let packed = packs(&catalogue, 1).await.remove(0);
    let sql = "DELETE FROM hot_copies; UPDATE series_nodes SET hot_objects = 0";
    database.run(sql, sql).await;
    let at = |after: Duration| Some(packed.archive_clock.after(after));
    let cutoffs = |access, deep| AnswerContext {
        cutoffs: ArchiveCutoffs {
            access,
            deep,
            tagged_only: false,
        },
        deep_archive: Availability::Offline,
        ..context()
    };
    let seen = |state: &'static str, length: u64| {
        let database = &database;
        async move {
            let sql = format!("UPDATE packs SET state = '{state}', length = {length}");
            database.run(&sql, &sql).await;
        }
    };
    for (state, length, context, expected) in [
        ("verified", MIN_ARCHIVED, cutoffs(None, None), "ONLINE"),
        ("verified", MIN_ARCHIVED, cutoffs(at(Duration::ZERO), None), "ONLINE"),
        ("verified", MIN_ARCHIVED, cutoffs(at(HOUR), None), "NEARLINE"),
        ("verified", MIN_ARCHIVED - 1, cutoffs(at(HOUR), at(HOUR)), "ONLINE"),
        ("verified", MIN_ARCHIVED, cutoffs(at(HOUR), at(HOUR)), "OFFLINE"),
        ("verified", MIN_ARCHIVED, cutoffs(None, at(HOUR)), "OFFLINE"),
        ("archive_access", MIN_ARCHIVED, cutoffs(at(HOUR), None), "NEARLINE"),
        ("archive_access", MIN_ARCHIVED, cutoffs(at(HOUR), at(HOUR)), "OFFLINE"),
        ("deep_archive_access", MIN_ARCHIVED, cutoffs(None, None), "OFFLINE"),
    ] {
        seen(state, length).await;
        assert_eq!(available(&catalogue, &context).await, expected, "{state} {length} {context:?}");
        let located = located(&catalogue).await.remove(0);
        let predicted = context
            .cutoffs
            .predict(located.state, located.length, located.archive_clock, located.tag);
        let same = match predicted {
            PackState::DeepArchiveAccess => "OFFLINE",
            PackState::ArchiveAccess => "NEARLINE",
            _ => "ONLINE",
        };
        assert_eq!(same, expected, "the prediction in memory is the one in SQL");
    }
    // What is being restored is on its way, wherever from.
    want(&catalogue, packed.pack, RestoreTier::Standard, tick()).await;
    assert_eq!(available(&catalogue, &cutoffs(None, None)).await, "NEARLINE");
}

pub(crate) async fn where_the_store_goes_by_tags_what_has_none_is_never_archived(database: Database) {
    let catalogue = database.open().await;
    let packed = packs(&catalogue, 1).await.remove(0);
    let sql = "DELETE FROM hot_copies; UPDATE series_nodes SET hot_objects = 0";
    database.run(sql, sql).await;
    let sql = format!("UPDATE packs SET length = {MIN_ARCHIVED}");
    database.run(&sql, &sql).await;
    let late = Some(packed.archive_clock.after(HOUR));
    let context = AnswerContext {
        cutoffs: ArchiveCutoffs {
            access: late,
            deep: late,
            tagged_only: true,
        },
        deep_archive: Availability::Offline,
        ..context()
    };
    for (tag, expected) in [
        (None, "ONLINE"),
        (Some(ArchiveTag::No), "ONLINE"),
        (Some(ArchiveTag::Yes), "OFFLINE"),
    ] {
        catalogue.pack_tagged(packed.pack, tag).await.unwrap();
        assert_eq!(available(&catalogue, &context).await, expected, "{tag:?}");
        let located = located(&catalogue).await.remove(0);
        assert_eq!(located.tag, tag);
        let predicted = context
            .cutoffs
            .predict(located.state, located.length, located.archive_clock, located.tag);
        assert_eq!(predicted == PackState::Verified, expected == "ONLINE");
    }
}

pub(crate) async fn what_is_seen_of_a_pack_corrects_its_archive_clock(database: Database) {
    let catalogue = database.open().await;
    let packed = packs(&catalogue, 1).await.remove(0);
    let clock = async || located(&catalogue).await[0].archive_clock;
    let verified = packed.archive_clock;
    assert!(verified > PAST, "the upload is an access");
    catalogue.pack_opened(packed.pack, verified.after(HOUR / 2)).await.unwrap();
    assert_eq!(clock().await, verified, "within the hour");
    catalogue.pack_opened(packed.pack, verified.after(2 * HOUR)).await.unwrap();
    assert_eq!(clock().await, verified.after(2 * HOUR));
    let used_since = verified.after(DAY);
    let seen = |state, since| catalogue.pack_seen(packed.pack, state, since, tick());
    seen(PackState::Verified, Some(used_since)).await.unwrap();
    assert_eq!(clock().await, used_since);
    seen(PackState::ArchiveAccess, Some(verified)).await.unwrap();
    assert_eq!(clock().await, used_since, "it never goes back");
    // Readable again, without a restore of ours: written down at once.
    catalogue.pack_opened(packed.pack, used_since).await.unwrap();
    assert_eq!(located(&catalogue).await[0].state, PackState::Verified);
}

pub(crate) async fn a_damaged_pack_is_no_copy_until_it_is_found_sound(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    offload(&catalogue).await;
    let pack = located(&catalogue).await[0].pack;
    let stands = async || {
        let instance = first.sop_instance.as_str();
        let standing = catalogue.standings(node(1), &[instance]).await.unwrap().remove(instance);
        standing.unwrap().served.unwrap().verified
    };
    let evictable = async || {
        catalogue
            .eviction_candidates(node(1), FUTURE, None, Evictable::Readable, 10)
            .await
            .unwrap()
            .len()
    };
    assert!(stands().await);
    assert_eq!(evictable().await, 1);
    assert!(catalogue.pack_damaged(pack, "not in the cold store", tick()).await.unwrap());
    assert!(!catalogue.pack_damaged(pack, "again", tick()).await.unwrap(), "no news");
    assert!(!stands().await, "nothing is promised");
    assert_eq!(evictable().await, 0, "the hot copy may be the only one");
    assert_eq!(
        catalogue
            .evict(node(1), instances(&catalogue).await[0].series, Evictable::ArchivedToo)
            .await
            .unwrap(),
        []
    );
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.packs_damaged, 1);
    assert_eq!(catalogue.studies(node(1), None, 1).await.unwrap()[0].packed_instances, 0);
    assert_eq!(available(&catalogue, &context()).await, "ONLINE", "it is hot");
    let sql = "DELETE FROM hot_copies; UPDATE series_nodes SET hot_objects = 0";
    database.run(sql, sql).await;
    assert_eq!(available(&catalogue, &context()).await, "UNAVAILABLE");
    // The sender's copy takes the place of what is lost.
    assert_eq!(store(&catalogue, &first.clone().again()).await, Outcome::Served);
    assert!(catalogue.pack_sound(pack).await.unwrap());
    assert!(!catalogue.pack_sound(pack).await.unwrap());
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.packs_damaged, 0);
}

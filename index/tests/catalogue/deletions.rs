//! Deleting on purpose: what is deleted is gone at once, comes back as it was, or goes for good.

use std::collections::BTreeSet;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{
    Arrival, Catalogue, Deletion, DeletionAnswer, DeletionState, DeletionSubject, DeletionTerms, Outcome, ReplacementPack,
};
use filmroom_index::model::{ObjectId, ServingState, Timestamp};

use proptest::strategy::{Strategy, ValueTree};

use crate::answering::{ask, identifier};
use crate::cold::{claim, offload, packs};
use crate::database::Database;
use crate::matching::{context, runner};
use crate::objects::{Changed, node, slice, tick, uid};
use crate::store::{store, store_all, take_doomed};

const DAY: Duration = Duration::from_secs(86_400);
const LEASE: Duration = Duration::from_secs(600);

/// A month to think again, nothing that has to be kept.
fn terms() -> DeletionTerms {
    DeletionTerms {
        retention: None,
        grace: 30 * DAY,
        despite: None,
    }
}

pub(crate) fn study(number: u32) -> DeletionSubject {
    DeletionSubject::Study(uid(&format!("1.2.{number}")))
}

pub(crate) fn instance(arrival: &Arrival) -> DeletionSubject {
    DeletionSubject::Instance(arrival.sop_instance.clone())
}

pub(crate) async fn delete(catalogue: &Catalogue, subject: &DeletionSubject) -> Deletion {
    match catalogue
        .delete(subject, "sent by mistake", "admin", tick(), &terms())
        .await
        .unwrap()
    {
        DeletionAnswer::Deleted(deletion) => *deletion,
        other => panic!("{other:?}"),
    }
}

/// Carries the journal to the cold store.
pub(crate) async fn journal(catalogue: &Catalogue) -> Vec<serde_json::Value> {
    let pending = catalogue.journal_pending(10_000).await.unwrap();
    let ids: Vec<i64> = pending.iter().map(|entry| entry.id).collect();
    catalogue.journal_written(&ids).await.unwrap();
    pending.iter().map(|entry| serde_json::from_str(&entry.body).unwrap()).collect()
}

async fn served(catalogue: &Catalogue, arrivals: &[Arrival]) -> BTreeSet<ObjectId> {
    let uids: Vec<_> = arrivals.iter().map(|arrival| arrival.sop_instance.clone()).collect();
    let found = catalogue.served_versions(node(1), &uids).await.unwrap();
    found.values().map(|version| version.object).collect()
}

async fn state(catalogue: &Catalogue, deletion: &Deletion) -> DeletionState {
    catalogue.deletion(deletion.key).await.unwrap().unwrap().state
}

/// Ends the deletions of which nothing is left; how many.
pub(crate) async fn end_erasing(catalogue: &Catalogue, at: Timestamp) -> usize {
    let mut ended = 0;
    for key in catalogue.bare_deletions().await.unwrap() {
        let bare = catalogue.bare_deletion(key).await.unwrap();
        ended += usize::from(catalogue.end_deletion(&bare, at).await.unwrap());
    }
    ended
}

/// Ends the grace period; nothing has a cold store.
pub(crate) async fn erase(catalogue: &Catalogue, at: Timestamp) {
    catalogue.begin_erasing(at, false).await.unwrap();
    take_doomed(catalogue, node(1), false, 1000).await;
    end_erasing(catalogue, at).await;
}

/// A pack that Object Lock keeps keeps its deletion open for years; by then other bytes may have come, been deleted and been taken back.
pub(crate) async fn what_came_after_a_deletion_was_lifted_is_taken_back_though_that_is_still_being_erased(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let old = delete(&catalogue, &instance(&first)).await;
    catalogue.begin_erasing(old.due_at, false).await.unwrap();
    assert!(catalogue.lift_tombstones(old.key, "admin", tick()).await.unwrap());
    let again = first.clone().again().with_bytes("another");
    assert_eq!(store(&catalogue, &again).await, Outcome::Served);
    let new = delete(&catalogue, &instance(&again)).await;
    let back = catalogue.take_back(new.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!((back.restored, back.kept), (1, 0));
    assert_eq!(
        served(&catalogue, std::slice::from_ref(&again)).await,
        BTreeSet::from([again.object])
    );
    take_doomed(&catalogue, node(1), false, 1000).await;
    assert_eq!(end_erasing(&catalogue, old.due_at).await, 1);
    assert_eq!(
        served(&catalogue, std::slice::from_ref(&again)).await,
        BTreeSet::from([again.object])
    );
    database.counts_are_right().await;
}

pub(crate) async fn what_is_deleted_is_gone_at_once_and_comes_back_as_it_was(database: Database) {
    let catalogue = database.open().await;
    let all = [slice(1, 1, 1), slice(1, 1, 2), slice(1, 2, 1), slice(2, 1, 1)];
    store_all(&catalogue, &all).await;
    let corrected = all[0].clone().again().with_bytes("corrected");
    store(&catalogue, &corrected).await;
    let stranger = all[1].clone().again().with_bytes("other").sent_by("PACS2");
    store(&catalogue, &stranger).await;
    let before = catalogue.counts(node(1)).await.unwrap();
    let described = database
        .text("SELECT modalities || sop_classes FROM studies ORDER BY id LIMIT 1")
        .await;

    let deletion = delete(&catalogue, &study(1)).await;
    assert_eq!(
        (deletion.state, deletion.instances, deletion.objects),
        (DeletionState::Waiting, 3, 5)
    );
    assert_eq!(served(&catalogue, &all).await, BTreeSet::from([all[3].object]));
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.studies, counts.instances, counts.quarantined), (1, 1, 0));
    assert_eq!(
        database
            .text("SELECT modalities || sop_classes FROM studies ORDER BY id LIMIT 1")
            .await,
        ""
    );
    database.counts_are_right().await;
    assert_eq!(
        catalogue.delete(&study(1), "again", "admin", tick(), &terms()).await.unwrap(),
        DeletionAnswer::NotHere
    );

    let back = catalogue.take_back(deletion.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!((back.restored, back.kept, back.otherwise), (5, 0, 0));
    assert_eq!(catalogue.take_back(deletion.key, "admin", tick()).await.unwrap(), None);
    assert_eq!(state(&catalogue, &deletion).await, DeletionState::TakenBack);
    let mut after = catalogue.counts(node(1)).await.unwrap();
    after.of_node.journal_pending = before.of_node.journal_pending;
    assert_eq!(after, before);
    assert_eq!(
        database
            .text("SELECT modalities || sop_classes FROM studies ORDER BY id LIMIT 1")
            .await,
        described
    );
    assert!(served(&catalogue, &all).await.contains(&corrected.object));
    assert_eq!(catalogue.quarantined(10).await.unwrap()[0].object, stranger.object);
    database.counts_are_right().await;
    assert_eq!(
        database
            .number("SELECT count(*) FROM audit WHERE action IN ('deleted', 'undeleted') AND actor = 'admin' AND patient_id = 'P1'")
            .await,
        2
    );
}

pub(crate) async fn a_series_or_an_instance_is_deleted_alone(database: Database) {
    let catalogue = database.open().await;
    let all = [slice(1, 1, 1), slice(1, 1, 2), slice(1, 2, 1)];
    store_all(&catalogue, &all).await;
    delete(&catalogue, &instance(&all[0])).await;
    assert_eq!(served(&catalogue, &all).await, BTreeSet::from([all[1].object, all[2].object]));
    let series = DeletionSubject::Series(all[2].series.clone());
    let deletion = delete(&catalogue, &series).await;
    assert_eq!((&deletion.study, &deletion.subject), (&all[2].study, &series));
    assert_eq!(served(&catalogue, &all).await, BTreeSet::from([all[1].object]));
    assert_eq!(catalogue.deletions(10).await.unwrap().len(), 2);
    database.counts_are_right().await;
}

pub(crate) async fn what_is_deleted_is_refused_until_it_is_taken_back_or_permitted(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let deletion = delete(&catalogue, &study(1)).await;
    let mut elsewhere = first.clone().again().with_bytes("other");
    elsewhere.study = uid("1.2.7");
    for resent in [first.clone().again(), first.clone().again().with_bytes("other"), elsewhere] {
        let Outcome::Deleted { reason } = store(&catalogue, &resent).await else {
            panic!("accepted");
        };
        assert!(reason.starts_with("deleted on purpose") && reason.len() <= 64, "{reason}");
        // Its file lies in the hot store all the same.
        assert_eq!(catalogue.take_refused_files(node(1), 10).await.unwrap(), [resent.object]);
        assert_eq!(catalogue.take_refused_files(node(1), 10).await.unwrap(), []);
        assert!(matches!(store(&catalogue, &resent).await, Outcome::Deleted { .. }), "a retry");
        assert_eq!(catalogue.take_refused_files(node(1), 10).await.unwrap(), [resent.object]);
    }
    assert_eq!(database.number("SELECT count(*) FROM studies").await, 1);
    // What was never here is none of its business.
    let new = slice(1, 1, 2);
    assert_eq!(store(&catalogue, &new).await, Outcome::Served);
    // The same arrival again, whose answer was lost.
    assert!(matches!(store(&catalogue, &first).await, Outcome::Deleted { .. }));
    assert!(
        !catalogue.lift_tombstones(deletion.key, "admin", tick()).await.unwrap(),
        "it can be taken back"
    );

    erase(&catalogue, deletion.due_at).await;
    assert_eq!(state(&catalogue, &deletion).await, DeletionState::Erased);
    assert!(matches!(store(&catalogue, &first.clone().again()).await, Outcome::Deleted { .. }));
    assert!(catalogue.lift_tombstones(deletion.key, "admin", tick()).await.unwrap());
    assert!(!catalogue.lift_tombstones(deletion.key, "admin", tick()).await.unwrap());
    assert_eq!(store(&catalogue, &first.clone().again()).await, Outcome::Served);
    database.counts_are_right().await;
}

pub(crate) async fn the_retention_period_forbids_it_with_a_date(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1).with(tags::STUDY_DATE, VR::DA, "20280229");
    store(&catalogue, &arrival).await;
    let ten = DeletionTerms {
        retention: Some("10y".parse().unwrap()),
        ..terms()
    };
    let answer = catalogue.delete(&study(1), "reason", "admin", tick(), &ten).await.unwrap();
    let from = Timestamp(2_151_014_400_000_000);
    assert_eq!(answer, DeletionAnswer::Retained(from), "1 March 2038");
    let extent = catalogue.deletion_extent(&study(1), &ten).await.unwrap().unwrap();
    assert_eq!((extent.permitted_from, extent.served, extent.hot_copies), (Some(from), 1, 1));
    assert_eq!(catalogue.deletion_extent(&study(9), &ten).await.unwrap(), None);
    assert_eq!(served(&catalogue, std::slice::from_ref(&arrival)).await.len(), 1);
    let despite = DeletionTerms {
        despite: Some("another patient's images".to_owned()),
        ..ten.clone()
    };
    let answer = catalogue.delete(&study(1), "reason", "admin", tick(), &despite).await.unwrap();
    let DeletionAnswer::Deleted(deletion) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(deletion.despite, "another patient's images");
    assert_eq!(
        database
            .number(
                "SELECT count(*) FROM audit WHERE action = 'deleted' AND outcome = 'serious' AND detail LIKE '%another patient''s images%'"
            )
            .await,
        1
    );
    catalogue.take_back(deletion.key, "admin", tick()).await.unwrap();
    let answer = catalogue.delete(&study(1), "reason", "admin", from, &despite).await.unwrap();
    let DeletionAnswer::Deleted(deletion) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(deletion.despite, "", "nothing was in its way any more");
}

pub(crate) async fn nothing_is_erased_before_its_time_and_before_the_journal_is_safe(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    store(&catalogue, &arrival).await;
    let deletion = delete(&catalogue, &study(1)).await;
    let early = Timestamp(deletion.due_at.0 - 1);
    assert_eq!(catalogue.begin_erasing(early, false).await.unwrap(), 0);
    assert_eq!(catalogue.begin_erasing(deletion.due_at, true).await.unwrap(), 0);
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await, []);
    assert!(catalogue.deletion_remains(&deletion).await.unwrap().journal_pending);
    let entries = journal(&catalogue).await;
    assert_eq!(entries.last().unwrap()["action"], "deleted");
    assert!(!entries.last().unwrap().to_string().contains("Jürgen"));
    assert_eq!(catalogue.begin_erasing(deletion.due_at, true).await.unwrap(), 1);
    assert_eq!(
        catalogue.take_back(deletion.key, "admin", tick()).await.unwrap(),
        None,
        "there is no return"
    );
    let remains = catalogue.deletion_remains(&deletion).await.unwrap();
    assert_eq!((remains.journal_pending, remains.hot), (false, vec![(node(1), 1)]));
    assert_eq!(end_erasing(&catalogue, deletion.due_at).await, 0, "a file is still there");
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [arrival.object]);
    assert_eq!(end_erasing(&catalogue, deletion.due_at).await, 1);
    assert_eq!(state(&catalogue, &deletion).await, DeletionState::Erased);
    for table in ["objects", "series", "studies", "patients", "deleted_objects", "series_nodes"] {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(database.number("SELECT count(*) FROM tombstones").await, 1);
}

pub(crate) async fn a_pack_goes_or_is_replaced_without_what_is_deleted(database: Database) {
    let catalogue = database.open().await;
    let all: Vec<Arrival> = (1..=3).map(|number| slice(1, 1, number)).collect();
    store_all(&catalogue, &all).await;
    offload(&catalogue).await;
    let deletion = delete(&catalogue, &instance(&all[1])).await;
    let waiting = delete(&catalogue, &instance(&all[2])).await;
    journal(&catalogue).await;
    let early = DeletionTerms {
        grace: Duration::ZERO,
        ..terms()
    };
    assert_eq!(catalogue.begin_erasing(Timestamp(waiting.due_at.0 - 1), true).await.unwrap(), 1);
    assert_eq!(state(&catalogue, &deletion).await, DeletionState::Erasing);
    assert_eq!(take_doomed(&catalogue, node(1), true, 10).await, [all[1].object]);
    let claim = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    let of = |members: &[(filmroom_index::catalogue::Member, u64)]| members.iter().map(|(member, _)| member.object).collect::<Vec<_>>();
    assert_eq!(
        (of(&claim.keep), claim.erase.clone()),
        (vec![all[0].object, all[2].object], vec![all[1].object])
    );
    assert!(claim.keep.iter().all(|(member, _)| member.state == ServingState::Served));
    assert_eq!(claim.hot, [all[0].object, all[2].object]);
    assert_eq!(catalogue.claim_erasure(node(2), tick(), LEASE).await.unwrap(), None, "leased");
    catalogue.erasure_replacing(&claim, "1.2.1/1.2.1.1/new.zip").await.unwrap();
    catalogue.release_leases(node(1)).await.unwrap();
    assert!(catalogue.renew_erasure(&claim, LEASE).await.is_err(), "the lease is lost");
    let claim = catalogue.claim_erasure(node(2), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!(claim.replacement, "1.2.1/1.2.1.1/new.zip");
    let mut new = ReplacementPack {
        key: claim.replacement.clone(),
        length: 3000,
        crc64: 5,
        tag: None,
        members: vec![(all[0].object, 100)],
    };
    assert!(catalogue.pack_replaced(&claim, &new, tick()).await.is_err(), "a member is missing");
    assert!(catalogue.pack_erased(&claim).await.is_err(), "something stays");
    new.members.push((all[2].object, 1100));
    catalogue.pack_replaced(&claim, &new, tick()).await.unwrap();
    end_erasing(&catalogue, tick()).await;
    assert_eq!(
        state(&catalogue, &deletion).await,
        DeletionState::Erasing,
        "the old pack is still there"
    );
    let claim = catalogue.claim_erasure(node(2), tick(), LEASE).await.unwrap().unwrap();
    assert!(claim.keep.is_empty());
    let until = Timestamp(tick().0 + 1_000_000_000_000);
    catalogue.erasure_put_off(&claim.leased(), until, "locked").await.unwrap();
    assert_eq!(catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap(), None);
    let remains = catalogue.deletion_remains(&deletion).await.unwrap();
    assert_eq!(
        (remains.packs[0].locked_until, remains.packs[0].error.as_str()),
        (Some(until), "locked")
    );
    let claim = catalogue.claim_erasure(node(1), until, LEASE).await.unwrap().unwrap();
    catalogue.pack_erased(&claim).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 1);
    assert_eq!(state(&catalogue, &deletion).await, DeletionState::Erased);
    assert_eq!(database.text("SELECT cold_key FROM packs").await, new.key);
    let back = catalogue.take_back(waiting.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!(back.restored, 1);
    assert_eq!(served(&catalogue, &all).await, BTreeSet::from([all[0].object, all[2].object]));
    database.counts_are_right().await;
    // Now all that is left: the pack goes as a whole.
    let answer = catalogue.delete(&study(1), "reason", "admin", tick(), &early).await.unwrap();
    let DeletionAnswer::Deleted(last) = answer else {
        panic!("{answer:?}")
    };
    journal(&catalogue).await;
    catalogue.begin_erasing(tick(), true).await.unwrap();
    take_doomed(&catalogue, node(1), true, 10).await;
    let claim = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert!(claim.keep.is_empty());
    assert_eq!(claim.erase.len(), 2);
    catalogue.pack_erased(&claim).await.unwrap();
    end_erasing(&catalogue, tick()).await;
    assert_eq!(state(&catalogue, &last).await, DeletionState::Erased);
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 0);
    assert_eq!(database.number("SELECT count(*) FROM objects").await, 0);
}

pub(crate) async fn a_pack_on_its_way_is_left_alone_until_it_is_verified(database: Database) {
    let catalogue = database.open().await;
    let all: Vec<Arrival> = (1..=2).map(|number| slice(1, 1, number)).collect();
    store_all(&catalogue, &all).await;
    // Claimed, and deleted before its members are fixed: they are not what was claimed.
    let claimed = claim(&catalogue).await;
    let first = delete(&catalogue, &instance(&all[0])).await;
    assert!(catalogue.plan_packs(&claimed, &packs(&claimed)).await.is_err());
    catalogue.take_back(first.key, "admin", tick()).await.unwrap();
    let claimed = claim(&catalogue).await;
    catalogue.plan_packs(&claimed, &packs(&claimed)).await.unwrap();
    let deletion = delete(&catalogue, &instance(&all[0])).await;
    catalogue.begin_erasing(deletion.due_at, false).await.unwrap();
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await, [], "the pack is made of it");
    assert_eq!(catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap(), None);
    let pack = catalogue.claim_pack(node(1), LEASE).await.unwrap().unwrap();
    assert_eq!(pack.members.len(), 2);
    crate::cold::verify(&catalogue, &pack).await;
    catalogue.begin_erasing(deletion.due_at, false).await.unwrap();
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await, [all[0].object]);
    let claim = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!((claim.keep.len(), claim.erase.len()), (1, 1));
    database.counts_are_right().await;
}

pub(crate) async fn what_waits_is_neither_packed_nor_in_the_way_of_eviction(database: Database) {
    let catalogue = database.open().await;
    let (packed, fresh) = (slice(1, 1, 1), slice(1, 1, 2));
    store(&catalogue, &packed).await;
    offload(&catalogue).await;
    store(&catalogue, &fresh).await;
    let deletion = delete(&catalogue, &instance(&fresh)).await;
    assert_eq!(catalogue.claim_offload(node(1), tick(), LEASE).await.unwrap(), None);
    assert_eq!(catalogue.offload_backlog(&fresh.study).await.unwrap(), (0, 0));
    let candidates = catalogue.eviction_candidates_of(node(1), &fresh.study).await.unwrap();
    assert_eq!(
        catalogue
            .evict(node(1), candidates[0].series, filmroom_index::catalogue::Evictable::Readable)
            .await
            .unwrap(),
        [packed.object]
    );
    catalogue.take_back(deletion.key, "admin", tick()).await.unwrap();
    assert_eq!(claim(&catalogue).await.members[0].object, fresh.object);
    // What is recalled while it waits is kept for then; what is recalled after that is doomed.
    let deletion = delete(&catalogue, &instance(&packed)).await;
    assert_eq!(catalogue.recalled(node(1), &[packed.object], tick()).await.unwrap(), []);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().of_node.hot_objects, 2);
    catalogue.begin_erasing(deletion.due_at, false).await.unwrap();
    assert_eq!(catalogue.recalled(node(2), &[packed.object], tick()).await.unwrap(), []);
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await, [packed.object]);
    assert_eq!(take_doomed(&catalogue, node(2), false, 10).await, [packed.object]);
    database.counts_are_right().await;
}

pub(crate) async fn what_two_deletions_cover_comes_back_with_both(database: Database) {
    let catalogue = database.open().await;
    let all = [slice(1, 1, 1), slice(1, 2, 1)];
    store_all(&catalogue, &all).await;
    let one = delete(&catalogue, &instance(&all[0])).await;
    let both = delete(&catalogue, &study(1)).await;
    let back = catalogue.take_back(one.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!((back.restored, back.kept), (0, 1));
    assert_eq!(served(&catalogue, &all).await.len(), 0);
    let back = catalogue.take_back(both.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!(back.restored, 2);
    assert_eq!(served(&catalogue, &all).await.len(), 2);
    // The first that is due takes what the other one has, too.
    let one = delete(&catalogue, &instance(&all[0])).await;
    let sooner = DeletionTerms {
        grace: Duration::ZERO,
        ..terms()
    };
    catalogue.delete(&study(1), "reason", "admin", tick(), &sooner).await.unwrap();
    catalogue.begin_erasing(tick(), false).await.unwrap();
    assert_eq!(take_doomed(&catalogue, node(1), false, 10).await.len(), 2);
    let back = catalogue.take_back(one.key, "admin", tick()).await.unwrap().unwrap();
    assert_eq!((back.restored, back.kept), (0, 0), "nothing is left to it");
    database.counts_are_right().await;
}

pub(crate) async fn what_lies_elsewhere_goes_only_if_it_is_out_of_service(database: Database) {
    let catalogue = database.open().await;
    let first = slice(1, 1, 1);
    store(&catalogue, &first).await;
    let mut elsewhere = first.clone().again().with_bytes("other");
    elsewhere.study = uid("1.2.5");
    elsewhere.series = uid("1.2.5.1");
    assert!(matches!(store(&catalogue, &elsewhere).await, Outcome::Quarantined { .. }));
    // The study that has it in quarantine is deleted: what is served stays, and may be sent again.
    let deletion = delete(&catalogue, &study(5)).await;
    assert_eq!((deletion.instances, deletion.objects), (1, 1));
    assert_eq!(served(&catalogue, std::slice::from_ref(&first)).await.len(), 1);
    assert_eq!(
        store(&catalogue, &first.clone().again().with_bytes("corrected")).await,
        Outcome::Corrected { superseded: first.object }
    );
    catalogue.take_back(deletion.key, "admin", tick()).await.unwrap();
    assert_eq!(catalogue.quarantined(10).await.unwrap().len(), 1);
    // The study that serves it is deleted: the version in quarantine goes too.
    let deletion = delete(&catalogue, &study(1)).await;
    assert_eq!((deletion.instances, deletion.objects), (1, 3));
    assert_eq!(catalogue.quarantined(10).await.unwrap().len(), 0);
    assert!(!catalogue.accept(elsewhere.object, &|_| None, "admin", tick()).await.unwrap());
    let entries = journal(&catalogue).await;
    let studies: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| entry["deletion"] == deletion.entry.to_string())
        .map(|entry| entry["study"].as_str().unwrap())
        .collect();
    assert_eq!(studies, BTreeSet::from(["1.2.1", "1.2.5"]), "each study's journal tells of it");
    database.counts_are_right().await;
}

pub(crate) async fn deletions_and_stores_at_once_leave_nothing_served_that_is_deleted(database: Database) {
    let catalogue = database.open().await;
    let all: Vec<Arrival> = (1..=8).map(|number| slice(1, 1, number)).collect();
    store_all(&catalogue, &all).await;
    for round in 0..6 {
        let resent: Vec<Arrival> = all
            .iter()
            .map(|arrival| arrival.clone().again().with_bytes(&format!("{round}")))
            .collect();
        let subject = study(1);
        let (deleted, stored) = tokio::join!(delete(&catalogue, &subject), async {
            let mut outcomes = Vec::new();
            for arrival in &resent {
                outcomes.push(store(&catalogue, arrival).await);
            }
            outcomes
        });
        assert_eq!(served(&catalogue, &all).await.len(), 0, "{stored:?}");
        catalogue.take_back(deleted.key, "admin", tick()).await.unwrap().unwrap();
        assert_eq!(served(&catalogue, &all).await.len(), 8);
        database.counts_are_right().await;
    }
}

/// What C-FIND answers at every level, attribute by attribute.
async fn answers(catalogue: &Catalogue) -> Vec<String> {
    let keys = [
        (tags::PATIENT_ID, VR::LO, ""),
        (tags::PATIENT_NAME, VR::PN, ""),
        (tags::STUDY_INSTANCE_UID, VR::UI, ""),
        (tags::STUDY_DESCRIPTION, VR::LO, ""),
        (tags::MODALITIES_IN_STUDY, VR::CS, ""),
        (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, ""),
        (tags::SERIES_INSTANCE_UID, VR::UI, ""),
        (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, ""),
        (tags::SOP_INSTANCE_UID, VR::UI, ""),
        (tags::INSTANCE_NUMBER, VR::IS, ""),
    ];
    let mut said = Vec::new();
    for level in ["PATIENT", "STUDY", "SERIES", "IMAGE"] {
        let found = ask(catalogue, &identifier(level, &keys), &context()).await;
        let mut lines: Vec<String> = found.iter().map(|answer| answer.to_json().to_string()).collect();
        lines.sort();
        said.append(&mut lines);
    }
    said
}

/// By chance: deletions of studies, series and instances that cover each other, taken back in any order, and resends in between.
pub(crate) async fn whatever_is_deleted_and_taken_back_is_found_as_before_and_nothing_else_is(database: Database) {
    let mut runner = runner();
    let catalogue = database.open().await;
    let mut all = Vec::new();
    for (study, series, instance) in [(1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 2), (2, 1, 1), (2, 1, 2), (2, 2, 1)] {
        all.push(slice(study, series, instance));
    }
    store_all(&catalogue, &all).await;
    offload(&catalogue).await;
    let before = answers(&catalogue).await;
    let mut open: Vec<(Deletion, BTreeSet<usize>)> = Vec::new();
    for _ in 0..60 {
        let (kind, which) = ((0usize..7), (0usize..all.len())).new_tree(&mut runner).unwrap().current();
        let chosen = &all[which];
        let of = |covers: &dyn Fn(&Arrival) -> bool| (0..all.len()).filter(|n| covers(&all[*n])).collect::<BTreeSet<usize>>();
        let (subject, covers) = match kind {
            0 => (study(if which < 4 { 1 } else { 2 }), of(&|arrival| arrival.study == chosen.study)),
            1 => (
                DeletionSubject::Series(chosen.series.clone()),
                of(&|arrival| arrival.series == chosen.series),
            ),
            2 => (instance(chosen), of(&|arrival| arrival.sop_instance == chosen.sop_instance)),
            3 => {
                let hidden = open.iter().any(|(_, covers)| covers.contains(&which));
                match store(&catalogue, &chosen.clone().again()).await {
                    Outcome::Deleted { .. } => assert!(hidden),
                    Outcome::Redundant { .. } => assert!(!hidden),
                    other => panic!("{other:?}"),
                }
                continue;
            }
            _ if open.is_empty() => continue,
            _ => {
                let (deletion, _) = open.swap_remove(which % open.len());
                assert!(catalogue.take_back(deletion.key, "admin", tick()).await.unwrap().is_some());
                assert_found(&catalogue, &all, &open).await;
                continue;
            }
        };
        match catalogue.delete(&subject, "chance", "admin", tick(), &terms()).await.unwrap() {
            DeletionAnswer::Deleted(deletion) => open.push((*deletion, covers)),
            DeletionAnswer::NotHere => assert!(covers.iter().all(|n| open.iter().any(|(_, covered)| covered.contains(n)))),
            other => panic!("{other:?}"),
        }
        assert_found(&catalogue, &all, &open).await;
    }
    database.counts_are_right().await;
    for (deletion, _) in open {
        catalogue.take_back(deletion.key, "admin", tick()).await.unwrap().unwrap();
    }
    assert_eq!(answers(&catalogue).await, before);
    database.counts_are_right().await;
}

async fn assert_found(catalogue: &Catalogue, all: &[Arrival], open: &[(Deletion, BTreeSet<usize>)]) {
    let visible = (0..all.len()).filter(|n| !open.iter().any(|(_, covers)| covers.contains(n)));
    let expected: BTreeSet<ObjectId> = visible.map(|n| all[n].object).collect();
    assert_eq!(served(catalogue, all).await, expected);
    let found = ask(catalogue, &identifier("IMAGE", &[(tags::SOP_INSTANCE_UID, VR::UI, "")]), &context()).await;
    assert_eq!(found.len(), expected.len());
}

//! Adopted objects are packed as our own: until that is verified nothing of them has changed, and afterwards nothing needs what they were packed from.

use std::time::Duration;

use filmroom_index::catalogue::{
    ArchiveTag, Arrival, Catalogue, ColdLayout, DeletionState, ForeignMember, Outcome, PackKey, PackState, RebuiltPack, RebuiltPart,
    RepackClaim, RepackedMember, RepackedPack,
};
use filmroom_index::model::{ServingState, Timestamp};

use crate::adopted::{adopt, lying};
use crate::database::Database;
use crate::deletions::{delete, end_erasing, instance, journal};
use crate::objects::{Changed, bytes, node, slice, tick};
use crate::rebuild::{part, rebuilt};
use crate::store::store;

const LEASE: Duration = Duration::from_secs(600);
const RECORD: &str = "1.2.1/adopted-a.json.zst";

/// Adopts slices of the first series, under `/share/<number>`, with a record that tells of them.
async fn adopted(catalogue: &Catalogue, numbers: impl IntoIterator<Item = u32>) -> Vec<Arrival> {
    let slices: Vec<Arrival> = numbers.into_iter().map(|number| slice(1, 1, number)).collect();
    let key = |slice: &Arrival| format!("/share/{}", slice.sop_instance);
    let batch: Vec<_> = slices.iter().map(|slice| lying(slice.clone(), &key(slice))).collect();
    assert!(
        adopt(catalogue, &batch)
            .await
            .iter()
            .all(|outcome| *outcome == Some(Outcome::Served))
    );
    let owed = catalogue.unrecorded_foreign(100).await.unwrap();
    let packs: Vec<PackKey> = owed.iter().map(|object| object.pack).collect();
    catalogue.foreign_recorded(&packs, RECORD).await.unwrap();
    slices
}

async fn order(catalogue: &Catalogue, slices: &[Arrival], remove_originals: bool) -> u64 {
    let studies = [slices[0].study.clone()];
    catalogue
        .request_repack(Some(&studies), remove_originals, false, tick())
        .await
        .unwrap()
}

async fn claim(catalogue: &Catalogue) -> Option<RepackClaim> {
    catalogue.claim_repack(node(1), tick(), LEASE).await.unwrap()
}

/// What a node puts of these members, read whole.
fn packed(claim: &RepackClaim, members: &[ForeignMember]) -> RepackedPack {
    let member = |(place, member): (usize, &ForeignMember)| RepackedMember {
        object: member.object,
        original: member.pack,
        offset: 70 + 1100 * place as u64,
        sha256: bytes(member.sop_instance.as_str()),
        crc32: 7,
    };
    RepackedPack {
        layout: ColdLayout::Pack,
        manifest: None,
        key: format!("{}/{}/new-{}.zip", claim.study_uid, claim.series_uid, members[0].object),
        length: 5000,
        crc64: u64::MAX - 3,
        tag: Some(ArchiveTag::Yes),
        serving: ServingState::Served,
        members: members.iter().enumerate().map(member).collect(),
    }
}

/// Orders and does it.
async fn repack(catalogue: &Catalogue, slices: &[Arrival], remove_originals: bool) -> String {
    assert_eq!(order(catalogue, slices, remove_originals).await, 1);
    let claimed = claim(catalogue).await.unwrap();
    let pack = packed(&claimed, &claimed.members);
    catalogue.repack_begun(&claimed, &[(pack.key.clone(), None)]).await.unwrap();
    catalogue.repacked(&claimed, std::slice::from_ref(&pack), tick()).await.unwrap();
    let last = claim(catalogue).await.unwrap();
    assert!(last.members.is_empty() && last.begun.is_empty());
    catalogue.repack_ended(&last).await.unwrap();
    assert_eq!(claim(catalogue).await, None);
    pack.key
}

async fn key_of(catalogue: &Catalogue, slice: &Arrival) -> String {
    let located = catalogue.located(node(1), &[slice.object]).await.unwrap().pop().unwrap();
    located.packed.unwrap().key
}

pub(crate) async fn what_is_packed_belongs_to_its_pack_and_its_original_holds_nothing(database: Database) {
    let catalogue = database.open().await;
    let slices = adopted(&catalogue, [2, 1, 3]).await;
    catalogue.recalled(node(1), &[slices[0].object], tick()).await.unwrap();
    assert_eq!(order(&catalogue, &slices, false).await, 1);
    let claimed = claim(&catalogue).await.unwrap();
    assert_eq!(claim(&catalogue).await, None, "leased");
    let numbers: Vec<_> = claimed.members.iter().map(|member| member.instance_number).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    assert!(
        claimed
            .members
            .iter()
            .all(|member| member.digests.is_none() && member.state == PackState::Verified)
    );
    let pack = packed(&claimed, &claimed.members);
    catalogue.repack_begun(&claimed, &[(pack.key.clone(), None)]).await.unwrap();
    // Until then it is where it was, and whoever compares leaves what is begun alone.
    assert_eq!(key_of(&catalogue, &slices[0]).await, format!("/share/{}", slices[0].sop_instance));
    assert!(catalogue.is_erasing(&pack.key).await.unwrap());
    catalogue.repacked(&claimed, std::slice::from_ref(&pack), tick()).await.unwrap();
    for slice in &slices {
        let located = catalogue.located(node(1), &[slice.object]).await.unwrap().pop().unwrap();
        let found = located.packed.unwrap();
        assert_eq!(
            (found.key.as_str(), found.crc64, found.etag),
            (pack.key.as_str(), Some(pack.crc64), None)
        );
        assert_eq!(located.sha256, Some(bytes(slice.sop_instance.as_str())));
    }
    assert!(!catalogue.is_erasing(&pack.key).await.unwrap());
    assert_eq!(catalogue.foreign_count().await.unwrap(), (0, 0));
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.packs_verified, counts.pack_bytes, counts.of_node.hot_objects), (1, 5000, 1));
    let kept = catalogue.packs_after(PackKey(0), 10).await.unwrap();
    assert_eq!(kept.iter().map(|kept| &kept.key).collect::<Vec<_>>(), [&pack.key]);
    // The originals are known, and no adoption takes them again.
    let key = format!("/share/{}", slices[1].sop_instance);
    let known = catalogue.known_foreign(&[&key]).await.unwrap();
    assert!(known[&key].original);
    assert!(!catalogue.pack_is_needed(known[&key].pack).await.unwrap());
    assert_eq!(adopt(&catalogue, &[lying(slices[1].clone().again(), &key)]).await, [None]);
    // The same file elsewhere is the same, though another program wrote what stands in front of its data set.
    let mut elsewhere = lying(slices[1].clone().again(), "/share/elsewhere");
    elsewhere.data_set_length -= 100;
    assert_eq!(
        adopt(&catalogue, &[elsewhere]).await,
        [Some(Outcome::Redundant { kept: slices[1].object })]
    );
    // The record still tells of them, so that they are known after a rebuild.
    assert_eq!(catalogue.foreign_of_record(RECORD).await.unwrap().len(), 3);
    // Whoever sends it again is told that it is held, for its bytes are known.
    let sent = slices[2].clone().again();
    assert_eq!(store(&catalogue, &sent).await, Outcome::Redundant { kept: slices[2].object });
    let originals = catalogue.originals_left(None).await.unwrap();
    assert_eq!((originals.all, originals.going, originals.kept), (3, 0, 0));
    database.counts_are_right().await;
}

pub(crate) async fn what_changed_while_it_was_read_is_not_packed(database: Database) {
    let catalogue = database.open().await;
    let slices = adopted(&catalogue, 1..=3).await;
    order(&catalogue, &slices, true).await;
    let claimed = claim(&catalogue).await.unwrap();
    let pack = packed(&claimed, &claimed.members);
    catalogue.repack_begun(&claimed, &[(pack.key.clone(), None)]).await.unwrap();
    let deletion = delete(&catalogue, &instance(&slices[1])).await;
    assert!(catalogue.repacked(&claimed, std::slice::from_ref(&pack), tick()).await.is_err());
    // Nothing of it came to pass.
    assert_eq!(key_of(&catalogue, &slices[0]).await, format!("/share/{}", slices[0].sop_instance));
    assert_eq!(catalogue.originals_left(None).await.unwrap().all, 0);
    catalogue.repack_failed(&claimed, "changed", Duration::ZERO, tick()).await.unwrap();
    assert_eq!(catalogue.repack_standing(None).await.unwrap().error, "changed");
    let again = claim(&catalogue).await.unwrap();
    let left: Vec<_> = again.members.iter().map(|member| member.object).collect();
    assert_eq!(left, [slices[0].object, slices[2].object]);
    assert_eq!(again.begun, [(pack.key.clone(), None)]);
    // Its deletion does not end before what was begun with it is gone.
    journal(&catalogue).await;
    catalogue.begin_erasing(deletion.due_at, true).await.unwrap();
    let erasure = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!((erasure.original, erasure.erase.as_slice()), (false, &[slices[1].object][..]));
    catalogue.pack_erased(&erasure).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 0);
    // A node that lost its lease says nothing any more.
    let new = packed(&again, &again.members);
    assert!(catalogue.repack_taken_back(&claimed, &[&pack.key]).await.is_err());
    catalogue.repack_taken_back(&again, &[&pack.key]).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 1);
    assert!(catalogue.repacked(&claimed, std::slice::from_ref(&new), tick()).await.is_err());
    catalogue.repacked(&again, &[new], tick()).await.unwrap();
    assert_eq!(catalogue.originals_left(None).await.unwrap().going, 2);
    database.counts_are_right().await;
}

pub(crate) async fn what_is_archived_or_damaged_stays_as_it_is_and_is_counted(database: Database) {
    let catalogue = database.open().await;
    let slices = adopted(&catalogue, 1..=4).await;
    order(&catalogue, &slices, false).await;
    let claimed = claim(&catalogue).await.unwrap();
    let of = |number: usize| claimed.members[number].pack;
    catalogue
        .pack_seen(of(0), PackState::DeepArchiveAccess, None, tick())
        .await
        .unwrap();
    catalogue.pack_damaged(of(1), "overwritten", tick()).await.unwrap();
    let pack = packed(&claimed, &claimed.members[2..]);
    catalogue.repacked(&claimed, &[pack], tick()).await.unwrap();
    let last = claim(&catalogue).await.unwrap();
    assert!(last.members.is_empty(), "it was seen archived since it was asked for");
    assert_eq!(
        catalogue.archived_foreign(last.series).await.unwrap(),
        [(of(0), PackState::DeepArchiveAccess, 1000)]
    );
    let left = catalogue.foreign_left(Some(std::slice::from_ref(&slices[0].study))).await.unwrap();
    assert_eq!((left.objects, left.archived, left.archived_bytes, left.damaged), (2, 1, 1000, 1));
    assert_eq!(catalogue.foreign_left(Some(&[slice(2, 1, 1).study])).await.unwrap().objects, 0);
    let until = Timestamp(tick().0 + 1_000_000_000_000);
    catalogue.repack_restoring(&last, until).await.unwrap();
    let standing = catalogue.repack_standing(None).await.unwrap();
    assert_eq!((standing.open, standing.restoring, standing.restoring_until), (0, 1, Some(until)));
    assert_eq!(claim(&catalogue).await, None);
    // Whoever asks again has it looked at again.
    assert_eq!(catalogue.request_repack(None, false, false, until).await.unwrap(), 1);
    let asked = catalogue.claim_repack(node(1), until, LEASE).await.unwrap().unwrap();
    assert_eq!(asked.members.iter().map(|member| member.pack).collect::<Vec<_>>(), [of(0)]);
    // What is asked for while it is worked on is not forgotten when that has ended.
    catalogue.request_repack(None, false, false, Timestamp(until.0 + 1)).await.unwrap();
    catalogue.repack_ended(&asked).await.unwrap();
    assert_eq!(catalogue.repack_standing(None).await.unwrap().open, 1);
}

pub(crate) async fn originals_go_together_where_that_was_asked_for(database: Database) {
    let catalogue = database.open().await;
    let slices = adopted(&catalogue, 1..=2).await;
    let pack = repack(&catalogue, &slices, false).await;
    assert_eq!(catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap(), None);
    // Those that were left before go, too.
    assert_eq!(order(&catalogue, &slices, true).await, 0, "nothing is left to be packed");
    let erasure = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert!(erasure.original && erasure.keep.is_empty() && erasure.erase.is_empty());
    assert_eq!((erasure.manifest.as_deref(), erasure.leased().len()), (Some(RECORD), 2));
    let original = catalogue.original(erasure.pack).await.unwrap().unwrap();
    assert!(original.stays);
    assert_eq!((original.length, original.holder.unwrap().key), (1000, pack.clone()));
    let until = Timestamp(tick().0 + 1_000_000_000_000);
    catalogue.erasure_put_off(&erasure.leased()[1..], until, "locked").await.unwrap();
    catalogue.batch_erased(&erasure, &erasure.leased()[..1]).await.unwrap();
    let left = catalogue
        .originals_left(Some(std::slice::from_ref(&slices[0].study)))
        .await
        .unwrap();
    assert_eq!((left.all, left.going, left.kept, left.kept_until), (1, 0, 1, Some(until)));
    assert_eq!(left.why, "locked");
    let erasure = catalogue.claim_erasure(node(1), until, LEASE).await.unwrap().unwrap();
    catalogue.batch_erased(&erasure, &erasure.leased()).await.unwrap();
    assert_eq!(catalogue.originals_left(None).await.unwrap().all, 0);
    assert_eq!(key_of(&catalogue, &slices[0]).await, pack);
    // While its pack is damaged an original stays.
    let other = adopted(&catalogue, [3]).await;
    let pack = repack(&catalogue, &other, false).await;
    let kept = catalogue.kept_pack(&pack).await.unwrap().unwrap();
    catalogue.pack_damaged(kept.pack, "lost", tick()).await.unwrap();
    order(&catalogue, &other, true).await;
    assert_eq!(catalogue.claim_erasure(node(1), until, LEASE).await.unwrap(), None);
    database.counts_are_right().await;
}

pub(crate) async fn a_deletion_takes_what_was_packed_and_the_original(database: Database) {
    let catalogue = database.open().await;
    let slices = adopted(&catalogue, 1..=2).await;
    let pack = repack(&catalogue, &slices, false).await;
    let deletion = delete(&catalogue, &instance(&slices[0])).await;
    let other = delete(&catalogue, &instance(&slices[1])).await;
    journal(&catalogue).await;
    catalogue.begin_erasing(deletion.due_at.max(other.due_at), true).await.unwrap();
    let remains = catalogue.deletion_remains(&deletion).await.unwrap();
    let mut keys: Vec<String> = remains.packs.into_iter().map(|pack| pack.key).collect();
    keys.sort();
    assert_eq!(keys, [format!("/share/{}", slices[0].sop_instance), pack.clone()]);
    let first = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    let second = catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap().unwrap();
    assert_eq!(catalogue.claim_erasure(node(1), tick(), LEASE).await.unwrap(), None);
    let (originals, packs) = if first.original { (first, second) } else { (second, first) };
    assert_eq!((originals.leased().len(), packs.key.as_str()), (2, pack.as_str()));
    assert!(!catalogue.original(originals.pack).await.unwrap().unwrap().stays);
    catalogue.pack_erased(&packs).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 0, "the originals are there");
    catalogue.batch_erased(&originals, &originals.leased()).await.unwrap();
    assert_eq!(end_erasing(&catalogue, tick()).await, 2);
    let shown = catalogue.deletion(deletion.key).await.unwrap().unwrap();
    assert_eq!(shown.state, DeletionState::Erased);
    assert_eq!(database.number("SELECT count(*) FROM packs").await, 0);
}

/// What a record of an adoption tells of an object.
fn told(arrival: &Arrival) -> RebuiltPart {
    let mut told = rebuilt(arrival, ServingState::Served);
    told.arrival.sha256 = None;
    told.arrival.crc32 = None;
    told.place = Some((0, 0));
    let pack = RebuiltPack {
        layout: ColdLayout::Foreign,
        manifest: Some(RECORD.to_owned()),
        key: format!("/share/{}", arrival.sop_instance),
        length: 1000,
        crc64: None,
        serving: ServingState::Served,
        node: node(5),
        put_at: Timestamp(5),
        etag: Some("etag".to_owned()),
    };
    RebuiltPart {
        packs: vec![pack],
        ..part(None, vec![told])
    }
}

pub(crate) async fn a_rebuild_prefers_the_pack_to_the_original(database: Database) {
    let catalogue = database.open().await;
    catalogue.rebuild_begin().await.unwrap();
    let (first, second, third) = (slice(1, 1, 1), slice(1, 1, 2), slice(1, 1, 3));
    // The pack of the second is not there.
    let mut missing = rebuilt(&second, ServingState::Served);
    missing.place = None;
    let mut nowhere = part(None, vec![missing]);
    nowhere.packs.clear();
    let parts = [
        part(None, vec![rebuilt(&first, ServingState::Served)]),
        nowhere,
        told(&first),
        told(&second),
        told(&third),
    ];
    // Done twice it is the same.
    for objects in [3, 0] {
        assert_eq!(catalogue.rebuild_load(node(1), &parts).await.unwrap().objects, objects);
    }
    catalogue.rebuild_end("admin", "done", tick()).await.unwrap();
    assert!(key_of(&catalogue, &first).await.ends_with(".zip"));
    for slice in [&second, &third] {
        assert_eq!(key_of(&catalogue, slice).await, format!("/share/{}", slice.sop_instance));
    }
    assert_eq!(catalogue.originals_left(None).await.unwrap().all, 1);
    assert_eq!(catalogue.foreign_count().await.unwrap().0, 2);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 3);
    database.counts_are_right().await;
}

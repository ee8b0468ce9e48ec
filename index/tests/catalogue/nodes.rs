//! Several at once: associations of one node, nodes on one database.

use std::collections::{BTreeSet, HashSet};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Arrival, Catalogue, Outcome};

use crate::database::Database;
use crate::objects::{Changed, node, slice, uid};

/// Ingests each batch as a node of its own, all at once.
async fn at_once(catalogue: &Catalogue, batches: Vec<Vec<Arrival>>) -> Vec<Vec<Outcome>> {
    let tasks: Vec<_> = (1..)
        .zip(batches)
        .map(|(number, batch)| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move { catalogue.ingest(node(number), &batch).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap().into_iter().map(Result::unwrap).collect());
    }
    outcomes
}

pub(crate) async fn sixteen_at_once_with_equal_bytes_leave_one_served(database: Database) {
    let catalogue = database.open().await;
    let arrivals: Vec<Arrival> = (0..16).map(|_| slice(1, 1, 1)).collect();
    let outcomes = at_once(&catalogue, arrivals.into_iter().map(|arrival| vec![arrival]).collect()).await;
    assert!(outcomes.iter().flatten().all(|outcome| *outcome == Outcome::Served), "{outcomes:?}");
    assert_eq!(database.number("SELECT count(*) FROM objects WHERE state = 'served'").await, 1);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().instances, 1);
    database.counts_are_right().await;
}

pub(crate) async fn sixteen_at_once_with_other_bytes_lose_none(database: Database) {
    let catalogue = database.open().await;
    let arrivals: Vec<Arrival> = (0..16)
        .map(|i| {
            slice(1, 1, 1)
                .with_bytes(&format!("bytes {i}"))
                .sent_by(if i % 2 == 0 { "CT1" } else { "PACS2" })
        })
        .collect();
    let objects: Vec<_> = arrivals.iter().map(|arrival| arrival.object).collect();
    let outcomes = at_once(&catalogue, arrivals.into_iter().map(|arrival| vec![arrival]).collect()).await;
    let served = outcomes.iter().flatten().filter(|outcome| **outcome == Outcome::Served).count();
    assert_eq!(served, 1, "{outcomes:?}");
    assert_eq!(
        outcomes
            .iter()
            .flatten()
            .filter(|outcome| matches!(outcome, Outcome::Corrected { .. }))
            .count(),
        7
    );
    assert_eq!(
        outcomes
            .iter()
            .flatten()
            .filter(|outcome| matches!(outcome, Outcome::Quarantined { .. }))
            .count(),
        8
    );
    // Every version is on record with its bytes and not doomed; each that was superseded was so once.
    assert_eq!(
        database
            .number("SELECT count(*) FROM objects WHERE state IN ('served', 'superseded', 'quarantined')")
            .await,
        16
    );
    let superseded: HashSet<_> = outcomes
        .iter()
        .flatten()
        .filter_map(|outcome| match outcome {
            Outcome::Corrected { superseded } => Some(*superseded),
            _ => None,
        })
        .collect();
    assert_eq!(superseded.len(), 7);
    assert!(superseded.iter().all(|object| objects.contains(object)));
    database.counts_are_right().await;
}

pub(crate) async fn one_uid_in_sixteen_studies_at_once_is_served_in_one(database: Database) {
    let catalogue = database.open().await;
    let arrivals = (1..=16).map(|study| {
        let mut arrival = slice(study, 1, 1).with_bytes(&format!("bytes {study}"));
        arrival.sop_instance = uid("1.2.3.4.5");
        vec![arrival]
    });
    let outcomes = at_once(&catalogue, arrivals.collect()).await;
    assert_eq!(
        outcomes.iter().flatten().filter(|outcome| **outcome == Outcome::Served).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(
        outcomes
            .iter()
            .flatten()
            .filter(|outcome| matches!(outcome, Outcome::Quarantined { .. }))
            .count(),
        15
    );
    database.counts_are_right().await;
}

pub(crate) async fn nodes_that_fill_one_study_at_once_count_right(database: Database) {
    let catalogue = database.open().await;
    let modalities = ["CT", "MR", "SR", "PR", "KO", "OT", "CR", "DX"];
    let batches = (0..8u32).map(|i| {
        let mut batch = Vec::new();
        for instance in 1..=10 {
            // A series of its own, a common series, and a common study seen in the opposite order by every other node.
            let own = slice(1, 10 + i, instance).with(tags::MODALITY, VR::CS, modalities[i as usize]);
            let common = slice(1, 1, 100 * (i + 1) + instance);
            let other = slice(2, 1, 100 * (i + 1) + instance);
            batch.extend(if i % 2 == 0 { [own, common, other] } else { [other, common, own] });
        }
        batch
    });
    let outcomes = at_once(&catalogue, batches.collect()).await;
    assert!(outcomes.iter().flatten().all(|outcome| *outcome == Outcome::Served));
    let counts = catalogue.counts(node(1)).await.unwrap();
    assert_eq!((counts.patients, counts.studies, counts.series, counts.instances), (1, 2, 10, 240));
    let studies = catalogue.studies(node(1), None, 10).await.unwrap();
    let filled = studies.iter().find(|study| study.study_uid == uid("1.2.1")).unwrap();
    let expected: BTreeSet<&str> = modalities.into_iter().collect();
    assert_eq!(filled.modalities.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    database.counts_are_right().await;
}

pub(crate) async fn the_same_batch_twice_at_once_is_stored_once(database: Database) {
    let catalogue = database.open().await;
    let batch: Vec<Arrival> = (1..=20).map(|instance| slice(1, 1, instance)).collect();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (catalogue, batch) = (catalogue.clone(), batch.clone());
            tokio::spawn(async move { catalogue.ingest(node(1), &batch).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().into_iter().all(|result| result.unwrap() == Outcome::Served));
    }
    assert_eq!(database.number("SELECT count(*) FROM objects").await, 20);
    database.counts_are_right().await;
}

pub(crate) async fn two_processes_share_one_database(database: Database) {
    // The node and the command line: connections of their own, on SQLite a lock to wait for.
    let catalogues = [database.open().await, database.open().await];
    let tasks: Vec<_> = (0..24u32)
        .map(|i| {
            let catalogue = catalogues[i as usize % 2].clone();
            let batch = [slice(1, 1, i + 1), slice(2, i + 1, 1)];
            tokio::spawn(async move {
                let stored = catalogue.ingest(node(1), &batch).await;
                catalogue
                    .quarantine(batch[1].object, "by hand", crate::objects::tick())
                    .await
                    .unwrap();
                assert!(
                    catalogue
                        .accept(batch[1].object, &|_| None, "by hand", crate::objects::tick())
                        .await
                        .unwrap()
                );
                stored
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().into_iter().all(|result| result.unwrap() == Outcome::Served));
    }
    assert_eq!(catalogues[0].counts(node(1)).await.unwrap().instances, 48);
    database.counts_are_right().await;
}

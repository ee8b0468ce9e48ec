//! Storing: what becomes of an arrival.

use filmroom_index::catalogue::{Arrival, Catalogue, Outcome};

use crate::database::Database;
use crate::objects::{node, slice};

/// Stores one object on node 1.
pub(crate) async fn store(catalogue: &Catalogue, arrival: &Arrival) -> Outcome {
    catalogue.ingest(node(1), std::slice::from_ref(arrival)).await.remove(0).unwrap()
}

pub(crate) async fn the_first_of_its_uid_is_served(database: Database) {
    let catalogue = database.open().await;
    let arrival = slice(1, 1, 1);
    assert_eq!(store(&catalogue, &arrival).await, Outcome::Served);
    let served = catalogue.served_versions(node(1), &[arrival.sop_instance.clone()]).await.unwrap();
    let version = &served[&arrival.sop_instance];
    assert_eq!(
        (version.object, version.sha256, version.length),
        (arrival.object, arrival.sha256, arrival.length)
    );
    assert!(version.hot && !version.verified);
    let elsewhere = catalogue.served_versions(node(2), &[arrival.sop_instance.clone()]).await.unwrap();
    assert!(!elsewhere[&arrival.sop_instance].hot);
}

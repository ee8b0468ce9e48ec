//! The scrub's way: begun, going on, over, and taken over.

use std::time::Duration;

use filmroom_index::catalogue::{Error, ScrubOf, ScrubTally};

use crate::cold::offload;
use crate::database::Database;
use crate::objects::{node, slice, tick};
use crate::store::store;

const LEASE: Duration = Duration::from_secs(600);
/// A lease that has run out when the next statement looks.
const NONE: Duration = Duration::ZERO;

pub(crate) async fn a_scrub_goes_on_where_it_was_and_its_last_pass_stays_on_record(database: Database) {
    let catalogue = database.open().await;
    assert_eq!(catalogue.scrubs(node(1)).await.unwrap(), []);
    let mut claim = catalogue.claim_scrub(node(1), ScrubOf::Hot, LEASE).await.unwrap().unwrap();
    assert_eq!(claim.progress.began_at, None);
    let (began, ended) = (tick(), tick());
    catalogue.scrub_began(&mut claim, began).await.unwrap();
    let tally = ScrubTally {
        checked: 3,
        bytes: 3000,
        bad: 1,
    };
    catalogue.scrub_reached(&mut claim, 42, tally, LEASE).await.unwrap();
    // The node starts again.
    let mut again = catalogue.claim_scrub(node(1), ScrubOf::Hot, LEASE).await.unwrap().unwrap();
    assert_eq!(again.progress, claim.progress);
    assert_eq!((again.progress.began_at, again.progress.position), (Some(began), 42));
    let lost = catalogue.scrub_reached(&mut claim, 43, tally, LEASE).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
    catalogue.scrub_ended(&mut again, ended).await.unwrap();
    let over = catalogue.scrubs(node(1)).await.unwrap();
    assert_eq!(over, [(ScrubOf::Hot, again.progress)]);
    let progress = over[0].1;
    assert_eq!((progress.began_at, progress.tally), (None, ScrubTally::default()));
    assert_eq!(
        (progress.last_began_at, progress.last_ended_at, progress.last),
        (Some(began), Some(ended), tally)
    );
    let nothing = catalogue.scrub_ended(&mut again, ended).await;
    assert!(matches!(nothing, Err(Error::LeaseLost)), "no pass is under way: {nothing:?}");
    assert_eq!(catalogue.scrubs(node(2)).await.unwrap(), [], "another node's disk");
}

pub(crate) async fn nodes_share_the_scrub_of_the_packs(database: Database) {
    let catalogue = database.open().await;
    let mut first = catalogue.claim_scrub(node(1), ScrubOf::Cold, LEASE).await.unwrap().unwrap();
    assert_eq!(catalogue.claim_scrub(node(2), ScrubOf::Cold, LEASE).await.unwrap(), None);
    assert!(catalogue.claim_scrub(node(2), ScrubOf::Hot, LEASE).await.unwrap().is_some());
    catalogue.scrub_began(&mut first, tick()).await.unwrap();
    catalogue.scrub_reached(&mut first, 7, ScrubTally::default(), NONE).await.unwrap();
    let second = catalogue.claim_scrub(node(2), ScrubOf::Cold, LEASE).await.unwrap().unwrap();
    assert_eq!(second.progress, first.progress, "it goes on where the other one was");
    let lost = catalogue.scrub_ended(&mut first, tick()).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
    store(&catalogue, &slice(1, 1, 1)).await;
    assert_eq!(catalogue.scrub_extent(node(1)).await.unwrap(), (1000, 0));
    offload(&catalogue).await;
    let (bytes, packs) = catalogue.scrub_extent(node(1)).await.unwrap();
    assert!(bytes == 1000 && packs > 0);
    assert_eq!(catalogue.scrub_extent(node(2)).await.unwrap().0, 0);
}

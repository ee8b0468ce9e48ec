//! Two nodes on one catalogue and one cold store: both erase, scrub and check at once, and neither takes the other's work for damage.

use std::path::PathBuf;
use std::time::Duration;

use filmroom_index::catalogue::{DeletionState, DeletionSubject};
use filmroom_index::model::Uid;
use filmroom_tiering::integrity::ScrubSettings;
use filmroom_tiering::schedule::Schedule;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::erase::{delete, instance, traces};
use crate::late_put::fsck;
use crate::node::{Node, STUDY, Slice, eventually, series};

/// Series of the study, half of them from each node, and images in each.
const SERIES: usize = 6;
const IMAGES: usize = 6;

fn scrubbing(node: &Node, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let settings = ScrubSettings {
        hot_every: Some(Duration::from_secs(600)),
        cold_every: Some(Duration::from_secs(600)),
        rate: Schedule::always(u64::MAX),
        repair: true,
    };
    let (archive, stop) = (node.archive.clone(), stop.clone());
    tokio::spawn(async move { archive.scrub(settings, stop).await })
}

async fn both_erase_scrub_and_check(postgres: Option<&str>) {
    let (first, second) = Node::start_pair(postgres).await;
    let all: Vec<Vec<Slice>> = (1..=SERIES).map(|number| series(number, 1, IMAGES, 10_000)).collect();
    for (place, slices) in all.iter().enumerate() {
        let node = if place % 2 == 0 { &first } else { &second };
        node.store_all(slices).await;
    }
    // Each waits for the whole study.
    let (one, other) = tokio::join!(first.archive.offload(STUDY), second.archive.offload(STUDY));
    one.unwrap();
    other.unwrap();
    // What one has on its disk as well the other one erases too.
    assert!(second.archive.evict(STUDY).await.unwrap() > 0);
    let stop = CancellationToken::new();
    let scrubs = [scrubbing(&first, &stop), scrubbing(&second, &stop)];

    // One series goes whole, one image after the other of the others.
    let uid = |text: &str| Uid::parse(text).unwrap();
    delete(&second, DeletionSubject::Series(uid("2.25.1"))).await;
    for gone in 0..3 {
        for (place, slices) in all.iter().enumerate().skip(1) {
            let node = if (place + gone) % 2 == 0 { &first } else { &second };
            delete(node, instance(&slices[2 * gone])).await;
        }
        for node in [&first, &second] {
            assert_eq!(fsck(node, false).await, (0, 0, Vec::new()), "while both erase");
        }
    }
    eventually("all deletions have ended", async || {
        first.pass(Duration::from_secs(60));
        for node in [&first, &second] {
            node.archive.wake_mover();
        }
        let deletions = first.archive.catalogue().deletions(1000).await.unwrap();
        deletions.iter().all(|deletion| deletion.state == DeletionState::Erased)
    })
    .await;
    for _ in 0..30 {
        first.pass(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    for scrub in scrubs {
        scrub.await.unwrap();
    }
    for node in [&first, &second] {
        assert_eq!(fsck(node, false).await, (0, 0, Vec::new()), "at the end");
    }
    let kept: Vec<Slice> = all[1..].iter().flatten().filter(|slice| slice.number % 2 == 0).cloned().collect();
    assert_eq!(first.packs().len(), SERIES - 1);
    for slice in all
        .iter()
        .flatten()
        .filter(|slice| kept.iter().all(|kept| kept.instance != slice.instance))
    {
        assert_eq!(traces(&first, slice), Vec::<PathBuf>::new());
    }
    second.retrieve(STUDY).await.assert_complete(&kept);
    first.archive.evict(STUDY).await.unwrap();
    first.retrieve(STUDY).await.assert_complete(&kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_erase_scrub_and_check_at_once() {
    both_erase_scrub_and_check(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_erase_scrub_and_check_at_once_on_postgresql() {
    let Ok(server) = std::env::var("FILMROOM_TEST_POSTGRES") else {
        assert!(
            std::env::var_os("FILMROOM_REQUIRE_POSTGRES").is_none(),
            "FILMROOM_TEST_POSTGRES is not set"
        );
        return;
    };
    let name = format!("filmroom_{}", uuid::Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    both_erase_scrub_and_check(Some(&url)).await;
    let remove = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(remove)).execute(&mut connection).await.unwrap();
}

//! Objects that another program put into the cold store are indexed, retrieved and evicted where they lie.

use filmroom_tiering::RetrieveError;
use filmroom_tiering::adopt::{Became, Order, Stride, Tally};

use crate::node::{Node, STUDY, Slice, files_below, series};

impl Node {
    /// Lays files into the cold store as another program would.
    pub(crate) fn lay(&self, folder: &str, slices: &[Slice]) {
        let folder = self.dir.path().join("cold").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for slice in slices {
            std::fs::write(folder.join(format!("{}.dcm", slice.number)), slice.file()).unwrap();
        }
    }

    /// Adopts everything, stride by stride.
    pub(crate) async fn adopt(&self) -> (Tally, Vec<(String, Became)>) {
        let order = Order {
            prefixes: Vec::new(),
            dry_run: false,
        };
        let (mut tally, mut lines, mut place) = (Tally::default(), Vec::new(), None);
        loop {
            let Stride {
                next,
                tally: more,
                lines: said,
                unnamed,
            } = self.archive.adopt(&order, place, "admin").await.unwrap();
            assert_eq!(unnamed, 0);
            tally.add(more);
            lines.extend(said.into_iter().map(|line| (line.key, line.result)));
            match next {
                Some(next) => place = Some(next),
                None => return (tally, lines),
            }
        }
    }
}

#[tokio::test]
async fn adopted_objects_are_retrieved_where_they_lie_and_known_from_then_on() {
    let node = Node::start().await;
    let slices = series(1, 1, 70, 20_000);
    node.lay("share/a", &slices);
    std::fs::write(node.dir.path().join("cold/share/notes"), vec![b'.'; 1000]).unwrap();
    let (tally, lines) = node.adopt().await;
    assert_eq!((tally.listed, tally.adopted, tally.passed_over), (71, 70, 1));
    assert_eq!(lines, [("share/notes".to_owned(), Became::PassedOver)]);
    // One read an object, of its head only.
    assert_eq!(tally.gets, 71);
    assert!(tally.got_bytes < 71 * 17_000, "{tally:?}");
    assert!(node.hot_files().is_empty());
    assert!(node.locate(STUDY).await.iter().all(|located| located.sha256.is_none()));
    node.retrieve(STUDY).await.assert_complete(&slices);
    assert!(node.locate(STUDY).await.iter().all(|located| located.sha256.is_some()));
    node.archive.recall(STUDY).await.unwrap();
    assert_eq!(node.hot_instances(STUDY).await, 70);
    assert!(node.archive.evict(STUDY).await.unwrap() > 0);
    assert_eq!(node.hot_instances(STUDY).await, 0);
    node.retrieve(STUDY).await.assert_complete(&slices);
    // Again: nothing is read but what is on no record. Two records tell of 70 objects of one study.
    let (again, _) = node.adopt().await;
    assert_eq!((again.known, again.adopted, again.gets), (70, 0, 1));
    let records = files_below(&node.dir.path().join("cold").join(STUDY));
    assert_eq!(records.len(), 2, "{records:?}");
}

#[tokio::test]
async fn an_adopted_object_that_was_written_to_since_is_damaged() {
    let node = Node::start().await;
    let slices = series(1, 1, 3, 20_000);
    node.lay("share", &slices);
    node.adopt().await;
    // As long as before.
    let path = node.dir.path().join("cold/share/2.dcm");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let retrieved = node.retrieve(STUDY).await;
    assert!(
        matches!(retrieved.failed.get("2.25.1.2"), Some(RetrieveError::Damaged(_))),
        "{:?}",
        retrieved.failed
    );
    assert_eq!(retrieved.ready.len(), 2);
    let (tally, lines) = node.adopt().await;
    assert_eq!((tally.overwritten, tally.known), (1, 2));
    assert_eq!(lines, [("share/2.dcm".to_owned(), Became::Overwritten)]);
}

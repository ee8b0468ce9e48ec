//! What is wrong with the archive, and how far who looks for it has come.

use std::slice::from_ref;
use std::time::Duration;

use filmroom_index::catalogue::{Finding, FindingKind, Pass, PassState};
use filmroom_index::model::Timestamp;

use crate::database::Database;
use crate::objects::{node, slice, tick};
use crate::store::store_all;

pub(crate) fn finding(kind: FindingKind, subject: &str) -> Finding {
    Finding {
        kind,
        subject: subject.to_owned(),
        study_uid: String::new(),
        detail: "as a test says".to_owned(),
    }
}

pub(crate) async fn what_is_seen_again_is_one_finding_until_it_is_closed(database: Database) {
    let catalogue = database.open().await;
    let missing = finding(FindingKind::PackMissing, "1/2/a.zip");
    assert_eq!(catalogue.found(node(1), from_ref(&missing)).await.unwrap(), vec![missing.clone()]);
    let changed = Finding {
        detail: "and more is known of it".to_owned(),
        ..missing.clone()
    };
    // Another node has seen it, too.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(catalogue.found(node(2), from_ref(&changed)).await.unwrap(), []);
    let open = catalogue.findings(node(1), false, 0, 10).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0].finding, open[0].node, open[0].closed_at), (&changed, None, None));
    assert!(open[0].last_seen_at > open[0].found_at);

    assert!(catalogue.found_no_more(node(2), missing.kind, &missing.subject).await.unwrap());
    assert!(!catalogue.found_no_more(node(1), missing.kind, &missing.subject).await.unwrap());
    assert_eq!(catalogue.findings(node(1), false, 0, 10).await.unwrap(), []);
    // Once more, and it is another one.
    assert_eq!(catalogue.found(node(1), from_ref(&missing)).await.unwrap(), [missing]);
    let all = catalogue.findings(node(1), true, 0, 10).await.unwrap();
    assert_eq!(all.iter().map(|f| f.closed_at.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(catalogue.findings(node(1), true, all[0].id, 10).await.unwrap(), all[1..]);
}

pub(crate) async fn findings_of_a_disk_are_its_nodes(database: Database) {
    let catalogue = database.open().await;
    let hot = finding(FindingKind::HotAltered, "x");
    let shared = finding(FindingKind::ManifestMissing, "x");
    for number in [1, 2] {
        catalogue.found(node(number), &[hot.clone(), shared.clone()]).await.unwrap();
    }
    for number in [1, 2] {
        let own = catalogue.findings(node(number), false, 0, 10).await.unwrap();
        let nodes: Vec<_> = own.iter().map(|f| (f.finding.kind, f.node)).collect();
        assert!(nodes.contains(&(hot.kind, Some(node(number)))) && nodes.contains(&(shared.kind, None)) && nodes.len() == 2);
    }
    let counted = [(hot.kind, 1), (shared.kind, 1)];
    assert_eq!(catalogue.findings_open(node(1)).await.unwrap(), counted);
    assert!(
        catalogue
            .repaired(node(1), hot.kind, &hot.subject, "from its pack", "admin", tick())
            .await
            .unwrap()
    );
    assert_eq!(catalogue.findings_open(node(1)).await.unwrap(), [(shared.kind, 1)]);
    assert_eq!(catalogue.findings_open(node(2)).await.unwrap(), counted);
    assert_eq!(catalogue.findings_open(node(3)).await.unwrap(), [(shared.kind, 1)]);
}

pub(crate) async fn a_repair_is_audited_with_the_patient_of_its_study(database: Database) {
    let catalogue = database.open().await;
    store_all(&catalogue, &[slice(1, 1, 1)]).await;
    let altered = Finding {
        study_uid: slice(1, 1, 1).study.to_string(),
        ..finding(FindingKind::HotAltered, "0190")
    };
    catalogue.found(node(1), from_ref(&altered)).await.unwrap();
    let repair = |actor| catalogue.repaired(node(1), altered.kind, &altered.subject, "from its pack", actor, tick());
    assert!(repair("admin").await.unwrap());
    assert!(!repair("admin").await.unwrap(), "it was not open any more");
    let closed = catalogue.findings(node(1), true, 0, 10).await.unwrap();
    assert_eq!(closed[0].repair, "from its pack");
    let audited = "SELECT count(*) FROM audit WHERE action = 'repaired' AND actor = 'admin' AND patient_id <> '' AND detail LIKE 'hot_altered: 0190:%'";
    assert_eq!(database.number(audited).await, 1);
}

pub(crate) async fn what_a_pass_did_not_see_again_is_closed_by_it(database: Database) {
    let catalogue = database.open().await;
    let (kept, gone) = (
        finding(FindingKind::PackMissing, "kept"),
        Finding {
            study_uid: "1.2".to_owned(),
            ..finding(FindingKind::PackMissing, "gone")
        },
    );
    let other = finding(FindingKind::ObjectUnknown, "other");
    let hot = finding(FindingKind::HotMissing, "hot");
    catalogue
        .found(node(1), &[kept.clone(), gone.clone(), other.clone(), hot.clone()])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let began = catalogue.pass_begin(node(2), Pass::ColdRows, false).await.unwrap().began_at;
    catalogue.found(node(2), from_ref(&kept)).await.unwrap();
    let kinds = [FindingKind::PackMissing, FindingKind::HotMissing];
    assert_eq!(catalogue.close_unseen(node(2), &kinds, Some("1.3"), began).await.unwrap(), 0);
    assert_eq!(catalogue.close_unseen(node(2), &kinds, None, began).await.unwrap(), 1);
    let open: Vec<String> = catalogue
        .findings(node(1), false, 0, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.finding.subject)
        .collect();
    assert_eq!(open, ["kept", "other", "hot"], "of other kinds and other disks nothing is closed");
}

pub(crate) async fn a_pass_goes_on_where_it_was(database: Database) {
    let catalogue = database.open().await;
    assert_eq!(catalogue.pass_state(node(1), Pass::HotRows).await.unwrap(), None);
    let begun = catalogue.pass_begin(node(1), Pass::HotRows, false).await.unwrap();
    assert_eq!((begun.position.as_str(), begun.checked, begun.ended_at), ("", 0, None));
    catalogue.pass_reached(node(1), Pass::HotRows, "77", 3, 4096).await.unwrap();
    let expected = PassState {
        position: "77".to_owned(),
        checked: 3,
        bytes: 4096,
        ..begun.clone()
    };
    assert_eq!(catalogue.pass_begin(node(1), Pass::HotRows, false).await.unwrap(), expected);
    // Others are at their own places.
    assert_eq!(catalogue.pass_begin(node(1), Pass::HotFiles, false).await.unwrap().position, "");
    assert_eq!(catalogue.pass_begin(node(2), Pass::HotRows, false).await.unwrap().position, "");
    catalogue.pass_ended(node(1), Pass::HotRows).await.unwrap();
    let ended = catalogue.pass_state(node(1), Pass::HotRows).await.unwrap().unwrap();
    assert!(ended.ended_at.is_some_and(|at| at >= ended.began_at) && ended.checked == 3);
    // What comes late changes nothing of one that has ended.
    catalogue.pass_reached(node(1), Pass::HotRows, "78", 4, 4097).await.unwrap();
    assert_eq!(catalogue.pass_state(node(1), Pass::HotRows).await.unwrap().unwrap(), ended);
    let next = catalogue.pass_begin(node(1), Pass::HotRows, false).await.unwrap();
    assert_eq!((next.position.as_str(), next.checked, next.bytes), ("", 0, 0));
    assert!(next.began_at > Timestamp(0) && next.began_at >= begun.began_at);
    catalogue.pass_reached(node(1), Pass::HotRows, "5", 1, 1).await.unwrap();
    assert_eq!(catalogue.pass_begin(node(1), Pass::HotRows, true).await.unwrap().position, "");
}

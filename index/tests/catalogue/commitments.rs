//! Storage commitments: what was asked for and who works on it.

use std::time::Duration;

use filmroom_index::catalogue::{Acceptance, AuditEvent, Catalogue, CommitmentClaim, CommitmentState, Error, NewCommitment, References};
use filmroom_index::model::AeTitle;

use crate::database::Database;
use crate::objects::{node, slice, tick, uid};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const LEASE: Duration = Duration::from_secs(600);
const NONE: Duration = Duration::ZERO;
const DAY: Duration = Duration::from_secs(86_400);

fn title(text: &str) -> AeTitle {
    AeTitle::parse(text).unwrap()
}

fn request(requester: &str, transaction: &str, uids: &[&str]) -> NewCommitment {
    let mut references = References::default();
    uids.iter().for_each(|uid| assert!(references.push(CT, uid).unwrap()));
    NewCommitment {
        requester: title(requester),
        called: title("FILMROOM"),
        audit: AuditEvent::new(tick(), "commit", requester),
        transaction: uid(transaction),
        references,
    }
}

fn event(detail: &str) -> AuditEvent {
    AuditEvent {
        detail: detail.to_owned(),
        ..AuditEvent::new(tick(), "commit-report", "CT1")
    }
}

/// Everything that is open is due.
async fn due(database: &Database) {
    let sql = "UPDATE commitments SET next_at = 0";
    database.run(sql, sql).await;
}

async fn claim_on(catalogue: &Catalogue, number: u128) -> Option<CommitmentClaim> {
    catalogue.claim_commitment(node(number), DAY * 36_500, LEASE, &[]).await.unwrap()
}

pub(crate) async fn a_request_is_kept_and_claimed_when_its_answer_has_left(database: Database) {
    let catalogue = database.open().await;
    let asked = request("CT1", "1.9.1", &["1.5", "1.6"]);
    assert_eq!(catalogue.accept_commitment(node(1), &asked).await.unwrap(), Acceptance::New);
    assert_eq!(claim_on(&catalogue, 1).await, None, "its answer is on its way");
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!((claim.requester.as_str(), claim.called.as_str()), ("CT1", "FILMROOM"));
    assert_eq!(
        (claim.transaction.as_str(), claim.instances, claim.parts, claim.attempts),
        ("1.9.1", 2, 1, 0)
    );
    assert!(claim.waited < Duration::from_secs(60) && claim.reporting.is_none());
    let part = catalogue.commitment_part(&claim, 0).await.unwrap();
    assert_eq!(
        part.iter().map(|reference| reference.sop_instance.as_str()).collect::<Vec<_>>(),
        ["1.5", "1.6"]
    );
    assert_eq!(claim_on(&catalogue, 1).await, None, "leased");
    assert_eq!(
        database
            .text("SELECT detail FROM audit WHERE action = 'commit' AND actor = 'CT1'")
            .await,
        "asked for: 2 instances, transaction 1.9.1"
    );
    assert_eq!(catalogue.commitments_pending().await.unwrap(), 1);
    assert_eq!(catalogue.counts(node(1)).await.unwrap().commitments_pending, 1);
}

pub(crate) async fn a_hundred_thousand_references_are_kept_and_come_back_in_order(database: Database) {
    let catalogue = database.open().await;
    let uids: Vec<String> = (0..100_000).map(|number| format!("1.2.3.{number}")).collect();
    let asked = request("CT1", "1.9.1", &uids.iter().map(String::as_str).collect::<Vec<_>>());
    catalogue.accept_commitment(node(1), &asked).await.unwrap();
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!((claim.instances, claim.parts), (100_000, 100));
    let mut expected = uids.iter();
    for part in 0..claim.parts {
        for reference in catalogue.commitment_part(&claim, part).await.unwrap() {
            assert_eq!(Some(&reference.sop_instance), expected.next());
        }
    }
    let kept = database
        .number("SELECT CAST(sum(length(body)) AS BIGINT) FROM commitment_parts")
        .await;
    assert!(kept < 1_000_000, "{kept} bytes");
}

pub(crate) async fn one_transaction_never_stands_for_two_lists(database: Database) {
    let catalogue = database.open().await;
    let accept = async |asked: &NewCommitment| catalogue.accept_commitment(node(1), asked).await.unwrap();
    assert_eq!(accept(&request("CT1", "1.9.1", &["1.5", "1.6"])).await, Acceptance::New);
    assert_eq!(
        accept(&request("CT1", "1.9.1", &["1.6", "1.5"])).await,
        Acceptance::Again,
        "the order says nothing"
    );
    assert_eq!(accept(&request("CT1", "1.9.1", &["1.5"])).await, Acceptance::OtherContent);
    assert_eq!(
        accept(&request("CT2", "1.9.1", &["1.5"])).await,
        Acceptance::New,
        "another requester's own"
    );
    due(&database).await;
    let old = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(accept(&request("CT1", "1.9.1", &["1.5", "1.6"])).await, Acceptance::Again);
    // The report that is under way does not end what was asked for since.
    let ended = catalogue
        .commitment_ended(&old, CommitmentState::Reported, 0, "", event("complete"))
        .await;
    assert!(matches!(ended, Err(Error::LeaseLost)), "{ended:?}");
    // Neither the lease nor the claim of before keeps it.
    let sql = "UPDATE commitments SET next_at = 0 WHERE requester = 'CT1'";
    database.run(sql, sql).await;
    let except = [title("CT2")];
    let claim = catalogue.claim_commitment(node(1), DAY, LEASE, &except).await.unwrap().unwrap();
    assert_eq!(claim.key, old.key);
    catalogue
        .commitment_ended(&claim, CommitmentState::Reported, 0, "", event("complete"))
        .await
        .unwrap();
    assert_eq!(database.number("SELECT count(*) FROM commitment_parts").await, 1, "the other's");
    assert_eq!(accept(&request("CT1", "1.9.1", &["1.7"])).await, Acceptance::OtherContent);
    // The report was lost on its way: it is made again.
    assert_eq!(accept(&request("CT1", "1.9.1", &["1.5", "1.6"])).await, Acceptance::Again);
    assert_eq!(catalogue.commitments_pending().await.unwrap(), 2);
    assert_eq!(database.number("SELECT count(*) FROM commitments").await, 2);
    assert_eq!(database.number("SELECT count(*) FROM commitment_parts").await, 2);
}

pub(crate) async fn the_same_request_many_times_at_once_is_one_commitment(database: Database) {
    let catalogue = database.open().await;
    let tasks: Vec<_> = (0..8u128)
        .map(|number| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move { catalogue.accept_commitment(node(number), &request("CT1", "1.9.1", &["1.5"])).await })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += usize::from(task.await.unwrap().unwrap() == Acceptance::New);
    }
    assert_eq!(new, 1);
    assert_eq!(database.number("SELECT count(*) FROM commitment_parts").await, 1);
}

pub(crate) async fn a_commitment_is_claimed_by_one_node_and_taken_over_when_that_is_dead(database: Database) {
    let catalogue = database.open().await;
    catalogue
        .accept_commitment(node(1), &request("CT1", "1.9.1", &["1.5"]))
        .await
        .unwrap();
    due(&database).await;
    let other = |overdue| catalogue.claim_commitment(node(2), overdue, LEASE, &[]);
    assert_eq!(other(DAY * 36_500).await.unwrap(), None, "its own node's first");
    let first = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(other(DAY).await.unwrap(), None, "leased");
    catalogue.release_commitments(node(2)).await.unwrap();
    assert_eq!(other(DAY).await.unwrap(), None, "another node's start ends no lease");
    // Node 1 dies; its lease runs out.
    let sql = "UPDATE commitments SET lease_until = 0";
    database.run(sql, sql).await;
    let second = other(DAY).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    let lost = [
        catalogue.commitment_waits(&first, "late", NONE, None).await,
        catalogue.renew_commitment(&first, LEASE).await,
        catalogue.commitment_read(&first, 0, &[], LEASE).await,
        catalogue.report_failed(&first, 0, "late", NONE).await,
        catalogue
            .commitment_ended(&first, CommitmentState::Reported, 0, "", event("late"))
            .await,
    ];
    assert!(lost.iter().all(|result| matches!(result, Err(Error::LeaseLost))), "{lost:?}");
    assert_eq!(
        database.number("SELECT count(*) FROM audit WHERE action = 'commit-report'").await,
        0
    );
    assert_eq!(catalogue.commitment_part(&second, 0).await.unwrap().len(), 1);
    // Node 2 starts again: what it had is due at once.
    catalogue.release_commitments(node(2)).await.unwrap();
    assert!(claim_on(&catalogue, 2).await.is_some());
}

pub(crate) async fn two_nodes_that_claim_at_once_get_different_commitments(database: Database) {
    let catalogue = database.open().await;
    for number in 0..12 {
        let asked = request("CT1", &format!("1.9.{number}"), &["1.5"]);
        catalogue.accept_commitment(node(1), &asked).await.unwrap();
    }
    due(&database).await;
    let tasks: Vec<_> = (0..24u128)
        .map(|number| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move { catalogue.claim_commitment(node(1 + number % 2), NONE, LEASE, &[]).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap().unwrap().map(|claim| claim.transaction));
    }
    claimed.sort();
    let all = claimed.len();
    claimed.dedup();
    assert_eq!(all, claimed.len(), "one claimed twice");
    assert!(all > 0);
}

pub(crate) async fn what_waits_is_due_again_when_told_and_on_the_node_named(database: Database) {
    let catalogue = database.open().await;
    catalogue
        .accept_commitment(node(1), &request("CT1", "1.9.1", &["1.5"]))
        .await
        .unwrap();
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    catalogue.commitment_waits(&claim, "not yet\0", DAY, None).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None);
    due(&database).await;
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!((claim.attempts, claim.reporting), (0, None), "waiting is no attempt");
    catalogue.commitment_waits(&claim, "elsewhere", NONE, Some(node(2))).await.unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None);
    let claim = claim_on(&catalogue, 2).await.unwrap();
    // What node 2 has read is remembered.
    let mut part = catalogue.commitment_part(&claim, 0).await.unwrap();
    part[0].read = Some(slice(1, 1, 1).object);
    catalogue.commitment_read(&claim, 0, &part, LEASE).await.unwrap();
    catalogue.commitment_waits(&claim, "", NONE, Some(node(1))).await.unwrap();
    let claim = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!(catalogue.commitment_part(&claim, 0).await.unwrap(), part);
    // A report that fails on another node is tried again where the requester may still be waiting.
    catalogue.commitment_waits(&claim, "", NONE, Some(node(2))).await.unwrap();
    let claim = claim_on(&catalogue, 2).await.unwrap();
    catalogue.report_failed(&claim, 0, "no address", NONE).await.unwrap();
    assert_eq!(claim_on(&catalogue, 2).await, None);
    assert!(claim_on(&catalogue, 1).await.is_some());
}

pub(crate) async fn a_report_is_tried_until_it_arrives_or_is_given_up(database: Database) {
    let catalogue = database.open().await;
    for transaction in ["1.9.1", "1.9.2"] {
        catalogue
            .accept_commitment(node(1), &request("CT1", transaction, &["1.5", "1.6"]))
            .await
            .unwrap();
    }
    due(&database).await;
    let (first, second) = (claim_on(&catalogue, 1).await.unwrap(), claim_on(&catalogue, 1).await.unwrap());
    catalogue.report_failed(&first, 1, "refused", NONE).await.unwrap();
    let again = claim_on(&catalogue, 1).await.unwrap();
    assert_eq!((again.key, again.attempts), (first.key, 1));
    assert!(again.reporting.is_some());
    let list = catalogue.commitments(10).await.unwrap();
    let reporting = list.iter().find(|listed| listed.transaction == first.transaction).unwrap();
    assert_eq!(
        (reporting.state, reporting.failed, reporting.attempts),
        (CommitmentState::Reporting, 1, 1)
    );
    assert_eq!((reporting.error.as_str(), reporting.ended_at), ("refused", None));
    catalogue
        .commitment_ended(&again, CommitmentState::GivenUp, 1, "refused", event("given up"))
        .await
        .unwrap();
    catalogue
        .commitment_ended(&second, CommitmentState::Reported, 0, "", event("complete"))
        .await
        .unwrap();
    assert_eq!(claim_on(&catalogue, 1).await, None);
    assert_eq!(catalogue.commitments_pending().await.unwrap(), 0);
    let states: Vec<_> = catalogue
        .commitments(10)
        .await
        .unwrap()
        .into_iter()
        .map(|listed| listed.state)
        .collect();
    assert!(states.contains(&CommitmentState::GivenUp) && states.contains(&CommitmentState::Reported));
    assert_eq!(
        database.number("SELECT count(*) FROM audit WHERE action = 'commit-report'").await,
        2
    );
    assert_eq!(database.number("SELECT count(*) FROM commitment_parts").await, 0);
    // What ended is listed for a time.
    assert_eq!(catalogue.forget_commitments(DAY).await.unwrap(), 0);
    assert_eq!(catalogue.forget_commitments(NONE).await.unwrap(), 2);
}

pub(crate) async fn a_requester_that_cannot_be_called_now_keeps_nobody_waiting(database: Database) {
    let catalogue = database.open().await;
    for (requester, transaction) in [("DOWN", "1.9.1"), ("UP", "1.9.2")] {
        catalogue
            .accept_commitment(node(1), &request(requester, transaction, &["1.5"]))
            .await
            .unwrap();
    }
    due(&database).await;
    let except = [title("DOWN")];
    let claim = catalogue.claim_commitment(node(1), DAY, LEASE, &except).await.unwrap().unwrap();
    assert_eq!(claim.requester, title("UP"));
    assert_eq!(catalogue.claim_commitment(node(1), DAY, LEASE, &except).await.unwrap(), None);
    assert_eq!(claim_on(&catalogue, 1).await.unwrap().requester, title("DOWN"));
}

//! The bucket's events in their queue.

use std::sync::Mutex;
use std::time::Duration;

use filmroom_tiering::cold::{ColdEvent, ColdLocation, ColdSettings, ColdStore, EventQueue, Happened};
use tokio_util::sync::CancellationToken;

use crate::canned::{Answer, Canned, answer};
use crate::settings;

const QUEUE: &str = "https://sqs.eu-central-1.amazonaws.com/1/events";

async fn store(server: &Canned) -> ColdStore {
    let location = ColdLocation::S3 {
        bucket: "bucket".to_owned(),
        prefix: "p".to_owned(),
        // Events come from another place than objects, as with a bucket that is not Amazon's.
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        region: "eu-central-1".to_owned(),
        kms_key: None,
        credentials: Some(("key".to_owned(), "secret".to_owned())),
    };
    let events = Some(EventQueue {
        url: QUEUE.to_owned(),
        endpoint: Some(server.endpoint()),
    });
    let settings = ColdSettings {
        events,
        attempts: 1,
        ..settings(location)
    };
    ColdStore::open(&settings).await.unwrap()
}

fn json(status: &str, value: serde_json::Value) -> Answer {
    answer(status, "Content-Type: application/x-amz-json-1.0\r\n", value.to_string())
}

fn messages(bodies: &[String]) -> Answer {
    let message =
        |(n, body): (usize, &String)| serde_json::json!({"MessageId": n.to_string(), "ReceiptHandle": format!("handle-{n}"), "Body": body});
    json(
        "200 OK",
        serde_json::json!({"Messages": bodies.iter().enumerate().map(message).collect::<Vec<_>>()}),
    )
}

fn completed(key: &str) -> String {
    let record = serde_json::json!({"eventName": "ObjectRestore:Completed", "s3": {"bucket": {"name": "bucket"}, "object": {"key": key}}});
    serde_json::json!({"Records": [record]}).to_string()
}

fn deleted() -> Answer {
    json("200 OK", serde_json::json!({"Successful": [], "Failed": []}))
}

/// Listens until the server has been asked so often; batches are handled, or not, as `handled` says.
async fn listen(server: &Canned, handled: &[bool], requests: usize) -> Vec<ColdEvent> {
    let (store, stop, events) = (store(server).await, CancellationToken::new(), Mutex::new(Vec::new()));
    let mut turns = handled.iter().copied();
    let listening = store.listen(stop.clone(), |batch| {
        events.lock().unwrap().extend(batch);
        std::future::ready(turns.next() == Some(true))
    });
    let watching = async {
        while server.asked().len() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(listening, watching) })
        .await
        .unwrap();
    events.into_inner().unwrap()
}

#[tokio::test]
async fn what_was_handled_is_deleted_and_so_is_what_says_nothing() {
    let bodies = [completed("p/1.2/3.4/a.zip"), "garbage".to_owned(), completed("q/b.zip")];
    let server = Canned::start(vec![messages(&bodies), deleted(), messages(&[])]).await;
    let events = listen(&server, &[true], 3).await;
    // What lies elsewhere in the bucket may have been adopted.
    let expected = ["1.2/3.4/a.zip", "/q/b.zip"].map(|key| ColdEvent {
        key: key.to_owned(),
        what: Happened::RestoreCompleted,
    });
    assert_eq!(events, expected);
    let bodies = server.bodies();
    assert!(
        bodies[0].contains(QUEUE) && bodies[0].contains("\"WaitTimeSeconds\":20"),
        "{}",
        bodies[0]
    );
    assert!(server.asked()[1].contains("deletemessagebatch"), "{}", server.asked()[1]);
    assert!((0..3).all(|n| bodies[1].contains(&format!("handle-{n}"))), "{}", bodies[1]);
}

#[tokio::test]
async fn what_could_not_be_handled_stays_in_the_queue() {
    let bodies = [completed("p/a.zip"), "garbage".to_owned()];
    let again = [completed("p/a.zip")];
    let server = Canned::start(vec![messages(&bodies), deleted(), messages(&again), deleted(), messages(&[])]).await;
    let events = listen(&server, &[false, true], 5).await;
    assert_eq!(events.len(), 2);
    let bodies = server.bodies();
    assert!(!bodies[1].contains("handle-0") && bodies[1].contains("handle-1"), "{}", bodies[1]);
    assert!(bodies[3].contains("handle-0"), "{}", bodies[3]);
}

#[tokio::test]
async fn a_queue_that_fails_is_asked_again() {
    let failing = json("503 Service Unavailable", serde_json::json!({"__type": "ServiceUnavailable"}));
    let server = Canned::start(vec![failing, messages(&[completed("p/a.zip")]), deleted(), messages(&[])]).await;
    assert_eq!(listen(&server, &[true], 3).await.len(), 1);
}

#[tokio::test]
async fn without_a_queue_there_is_nothing_to_listen_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = ColdStore::open(&settings(ColdLocation::Directory(folder.path().to_path_buf())))
        .await
        .unwrap();
    assert!(!store.has_events());
    store.listen(CancellationToken::new(), async |_| panic!("an event")).await;
}

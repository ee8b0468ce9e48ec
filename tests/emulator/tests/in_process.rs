//! The emulator inside another program's tests.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use filmroom_emulator::{Emulator, Options};

fn options(data: &std::path::Path) -> Options {
    Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: data.to_owned(),
        access_key: "key".to_owned(),
        secret_key: "secret".to_owned(),
        buckets: vec!["images".to_owned()],
        queues: vec!["events".to_owned()],
        clock: None,
    }
}

async fn ask(emulator: &Emulator, request: &'static str) -> String {
    let address = emulator.address();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: emulator\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_in_process_its_clock_turns_and_it_demands_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(options(folder.path())).await.unwrap();
    assert!(emulator.endpoint().starts_with("http://127.0.0.1:"));
    assert!(
        ask(&emulator, "GET /images?list-type=2")
            .await
            .contains("<Code>AccessDenied</Code>")
    );
    ask(&emulator, "POST /_emulator/advance?days=2&seconds=1").await;
    assert_eq!(emulator.clock().offset(), 172_801.0);
    drop(emulator);
    let again = Emulator::start(options(folder.path())).await.unwrap();
    assert_eq!(again.clock().offset(), 172_801.0);
    assert!(ask(&again, "GET /_emulator/counters").await.contains(r#""ListObjectsV2":1"#));
}

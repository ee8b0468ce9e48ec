//! A server of canned answers, which are sent as Amazon's documentation has them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use filmroom_tiering::cold::{ColdLocation, ColdSettings, ColdStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::settings;

pub(crate) const PATIENT: Duration = Duration::from_secs(10);
pub(crate) const KEY: &str = "1.2/3.4/a.zip";

/// A server that gives the same answers again and again, the last one for ever, and remembers what it was asked.
pub(crate) struct Canned {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

/// One answer: the head, the body, and whether the connection is left open, silent, after that.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Bytes,
    pub(crate) silent: bool,
}

pub(crate) fn answer(status: &str, headers: &str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    Answer { head, body, silent: false }
}

pub(crate) fn error(status: &str, code: &str, members: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Why.</Message>{members}</Error>");
    answer(status, "Content-Type: application/xml\r\n", body)
}

/// An answer whose connection breaks, or falls silent, after `sent` bytes of the body.
pub(crate) fn cut(answer: Answer, sent: usize, silent: bool) -> Answer {
    Answer {
        body: answer.body.slice(..sent),
        silent,
        ..answer
    }
}

impl Canned {
    pub(crate) async fn start(answers: Vec<Answer>) -> Canned {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let canned = Canned {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = canned.asked.clone();
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            let mut next = move || {
                let answer = answers.next()?;
                Some(if answers.peek().is_none() {
                    (answer, true)
                } else {
                    (answer, false)
                })
            };
            let mut last = None;
            while let Ok((mut connection, _)) = listener.accept().await {
                let request = request(&mut connection).await;
                asked.lock().unwrap().push(request);
                if last.is_none() {
                    let (answer, is_last) = next().unwrap();
                    if !is_last {
                        reply(connection, answer);
                        continue;
                    }
                    last = Some(answer);
                }
                reply(connection, last.clone().unwrap());
            }
        });
        canned
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    /// The bodies of all requests.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    pub(crate) async fn store(&self, timeout: Duration) -> ColdStore {
        let location = ColdLocation::S3 {
            bucket: "bucket".to_owned(),
            prefix: "p".to_owned(),
            endpoint: Some(self.endpoint()),
            region: "eu-central-1".to_owned(),
            kms_key: Some("arn:aws:kms:eu-central-1:1:key/2".to_owned()),
            credentials: Some(("key".to_owned(), "secret".to_owned())),
        };
        let settings = ColdSettings {
            timeout,
            ..settings(location)
        };
        ColdStore::open(&settings).await.unwrap()
    }
}

/// Reads a request: its head, in small letters, and its body.
async fn request(connection: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut buffer = [0; 4096];
        let read = connection.read(&mut buffer).await.unwrap();
        bytes.extend(&buffer[..read]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(read > 0, "a request without an end");
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |l| l.parse().unwrap());
    let mut rest = vec![0; (head + length).saturating_sub(bytes.len())];
    connection.read_exact(&mut rest).await.unwrap();
    bytes.extend(rest);
    (text, String::from_utf8_lossy(&bytes[head..]).into_owned())
}

fn reply(mut connection: TcpStream, answer: Answer) {
    tokio::spawn(async move {
        let _ = connection.write_all(answer.head.as_bytes()).await;
        let _ = connection.write_all(&answer.body).await;
        if answer.silent {
            let mut nothing = [0; 1];
            let _ = connection.read(&mut nothing).await;
        }
    });
}

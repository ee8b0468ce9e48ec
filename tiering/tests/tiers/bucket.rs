//! A bucket that speaks as much of S3's protocol as packs below 16 MB need, can be taken away and given back, and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use filmroom_tiering::cold::ColdLocation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Bucket {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    requests: Vec<Request>,
    /// Keys that are in ARCHIVE_ACCESS
    archived: BTreeSet<String>,
    mood: Mood,
}

#[derive(Clone)]
struct Stored {
    body: Vec<u8>,
    checksum: String,
}

/// How the server treats requests.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Connections are closed without an answer.
    Down,
    /// The body of a GET stands still after this many bytes.
    Slow(usize),
    /// The body of the next GET breaks after this many bytes, or the next PUT has no effect, and the server is down then.
    Dying(usize),
    /// Requests get no answer.
    Silent,
    /// 403 AccessDenied
    Refusing,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) key: String,
    pub(crate) range: Option<Range<u64>>,
}

impl Bucket {
    pub(crate) async fn start() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = Bucket {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let server = bucket.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = server.clone();
                // A client that is gone is its own business.
                tokio::spawn(async move { drop(server.serve(connection).await) });
            }
        });
        bucket
    }

    pub(crate) fn location(&self) -> ColdLocation {
        ColdLocation::S3 {
            bucket: "bucket".to_owned(),
            prefix: String::new(),
            endpoint: Some(format!("http://{}", self.address)),
            region: "eu-central-1".to_owned(),
            kms_key: None,
            credentials: Some(("key".to_owned(), "secret".to_owned())),
        }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    pub(crate) fn mood(&self) -> Mood {
        self.state().mood
    }

    pub(crate) fn archive(&self, key: &str) {
        self.state().archived.insert(key.to_owned());
    }

    pub(crate) fn restore(&self, key: &str) {
        self.state().archived.remove(key);
    }

    /// Keys of the packs.
    pub(crate) fn packs(&self) -> Vec<String> {
        self.state().objects.keys().filter(|key| key.ends_with(".zip")).cloned().collect()
    }

    /// Keys of the manifests.
    pub(crate) fn manifests(&self) -> Vec<String> {
        self.state()
            .objects
            .keys()
            .filter(|key| key.ends_with(".json.zst"))
            .cloned()
            .collect()
    }

    pub(crate) fn body(&self, key: &str) -> Vec<u8> {
        self.state().objects[key].body.clone()
    }

    /// Puts other bytes under a key, as somebody else would: the store has their checksum then.
    pub(crate) fn alter(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let stored = state.objects.get_mut(key).unwrap();
        change(&mut stored.body);
        stored.checksum = "AAAAAAAAAAA=".to_owned();
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Puts other bytes in the place of an object's, whose checksum stays; returns those that were there.
    pub(crate) fn replace(&self, key: &str, bytes: &[u8]) -> Vec<u8> {
        let mut state = self.state();
        std::mem::replace(&mut state.objects.get_mut(key).unwrap().body, bytes.to_vec())
    }

    /// Requests with a method for packs.
    pub(crate) fn asked(&self, method: &str) -> Vec<Request> {
        let asked = |request: &&Request| request.method == method && request.key.ends_with(".zip");
        self.state().requests.iter().filter(asked).cloned().collect()
    }

    /// How often objects with such keys were put.
    #[cfg(feature = "failpoints")]
    pub(crate) fn put_of(&self, suffix: &str) -> usize {
        let put = |request: &&Request| request.method == "PUT" && request.key.ends_with(suffix);
        self.state().requests.iter().filter(put).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(&self, mut connection: TcpStream) -> std::io::Result<()> {
        connection.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    break end + 4;
                }
                if connection.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
            let header = |name: &str| {
                let line = |line: &str| {
                    let (found, value) = line.split_once(": ")?;
                    found.eq_ignore_ascii_case(name).then(|| value.to_owned())
                };
                head.lines().find_map(line)
            };
            let length = header("content-length").map_or(0, |l| l.parse().unwrap());
            while buffer.len() < length {
                if connection.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            let body: Vec<u8> = buffer.drain(..length).collect();
            let mut words = head.split_ascii_whitespace();
            let method = words.next().unwrap().to_owned();
            let path = words.next().unwrap().split('?').next().unwrap().to_owned();
            let key = path.strip_prefix("/bucket").unwrap().trim_start_matches('/').to_owned();
            let range = header("range").map(|range| {
                let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                first.parse::<u64>().unwrap()..last.parse::<u64>().unwrap() + 1
            });
            let mood = self.mood();
            if mood == Mood::Down {
                return Ok(());
            }
            let checksum = header("x-amz-checksum-crc64nvme");
            self.state().requests.push(Request {
                method: method.clone(),
                key: key.clone(),
                range: range.clone(),
            });
            while self.mood() == Mood::Silent {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if matches!(mood, Mood::Dying(_)) && method == "PUT" {
                self.set(Mood::Down);
                return Ok(());
            }
            let (answer, content) = self.answer(mood, &method, &key, range, body, checksum);
            connection.write_all(answer.as_bytes()).await?;
            match mood {
                Mood::Slow(bytes) if method == "GET" && content.len() > bytes => {
                    connection.write_all(&content[..bytes]).await?;
                    while self.mood() == mood {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    connection.write_all(&content[bytes..]).await?;
                }
                Mood::Dying(bytes) if method == "GET" && content.len() > bytes => {
                    self.set(Mood::Down);
                    return connection.write_all(&content[..bytes]).await;
                }
                _ => connection.write_all(&content).await?,
            }
        }
    }

    /// Head and body of the answer.
    fn answer(
        &self,
        mood: Mood,
        method: &str,
        key: &str,
        range: Option<Range<u64>>,
        body: Vec<u8>,
        checksum: Option<String>,
    ) -> (String, Vec<u8>) {
        let mut state = self.state();
        let is_head = method == "HEAD";
        let reply = |status: &str, headers: &str, length: usize, body: Vec<u8>| {
            let head = format!("HTTP/1.1 {status}\r\nETag: \"e\"\r\nContent-Length: {length}\r\n{headers}\r\n");
            (head, if is_head { Vec::new() } else { body })
        };
        let error = |status: &str, code: &str, more: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>Why.</Message>{more}</Error>").into_bytes();
            reply(
                status,
                "Content-Type: application/xml\r\n",
                if is_head { 0 } else { body.len() },
                body,
            )
        };
        if mood == Mood::Refusing {
            return error("403 Forbidden", "AccessDenied", "");
        }
        if key.is_empty() {
            return reply("200 OK", "", 0, Vec::new());
        }
        if method == "PUT" {
            let checksum = checksum.unwrap();
            state.objects.insert(key.to_owned(), Stored { body, checksum });
            return reply("200 OK", "", 0, Vec::new());
        }
        let Some(stored) = state.objects.get(key).cloned() else {
            return error("404 Not Found", "NoSuchKey", "");
        };
        let archived = state.archived.contains(key);
        if is_head {
            let status = if archived { "x-amz-archive-status: ARCHIVE_ACCESS\r\n" } else { "" };
            let headers = format!(
                "x-amz-checksum-crc64nvme: {}\r\nx-amz-checksum-type: FULL_OBJECT\r\n{status}",
                stored.checksum
            );
            return reply("200 OK", &headers, stored.body.len(), Vec::new());
        }
        if archived {
            let more = "<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>ARCHIVE_ACCESS</AccessTier>";
            return error("403 Forbidden", "InvalidObjectState", more);
        }
        match range {
            None => reply("200 OK", "", stored.body.len(), stored.body),
            Some(range) => {
                let total = stored.body.len();
                let body = stored.body[range.start as usize..range.end as usize].to_vec();
                let headers = format!("Content-Range: bytes {}-{}/{total}\r\n", range.start, range.end - 1);
                reply("206 Partial Content", &headers, body.len(), body)
            }
        }
    }
}

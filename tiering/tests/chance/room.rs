//! An archive that can die at once: a runtime of its own, of which nothing is left when it is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use filmroom_index::catalogue::{Catalogue, Outcome};
use filmroom_index::clock::Clock;
use filmroom_index::model::{AeTitle, DuplicatePolicy, Timestamp, Uid};
use filmroom_index::part10::FileMeta;
use filmroom_tiering::archive::{Archive, Sender, Settings};
use filmroom_tiering::cold::ColdLocation;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::model::{Body, instance_uid, series_uid};
use crate::node::{CT, STUDY, settings};

/// Whether the failpoint that is armed was passed: the process is as good as dead then.
static DIED: AtomicBool = AtomicBool::new(false);

/// Longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process died while it was at it.
pub(super) struct Died;

/// Runs SQL with a connection of its own, whatever the database: `$run!(connection)`.
macro_rules! with {
    ($room:expr, $connection:ident => $run:expr) => {{
        let url = $room.url.clone();
        let work = async {
            if url.starts_with("sqlite:") {
                let mut $connection = SqliteConnection::connect(&url).await.unwrap();
                let done = $run;
                $connection.close().await.unwrap();
                done
            } else {
                let mut $connection = PgConnection::connect(&url).await.unwrap();
                let done = $run;
                $connection.close().await.unwrap();
                done
            }
        };
        $room.runtime().block_on(work)
    }};
}

pub(super) struct Room {
    dir: tempfile::TempDir,
    settings: Settings,
    url: String,
    /// PostgreSQL server and database, where there is one
    server: Option<(String, String)>,
    time: Arc<AtomicI64>,
    life: Option<(Runtime, Archive)>,
    pub(super) cold_is_away: bool,
}

impl Room {
    pub(super) fn start(server: Option<&str>) -> Room {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cold")).unwrap();
        let mut settings = settings(dir.path(), ColdLocation::Directory(dir.path().join("cold")));
        settings.mover_interval = Duration::from_millis(20);
        std::fs::create_dir_all(&settings.data_dir).unwrap();
        let mut url = format!("sqlite:{}", settings.data_dir.join("catalogue.db").display());
        let server = server.map(|server| (server.to_owned(), format!("filmroom_{}", Uuid::new_v4().simple())));
        if let Some((server, name)) = &server {
            on_server(server, &format!("CREATE DATABASE {name}"));
            url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        }
        let mut room = Room {
            dir,
            settings,
            url,
            server,
            time: Arc::new(AtomicI64::new(1_795_000_000_000_000)),
            life: None,
            cold_is_away: false,
        };
        room.open();
        room
    }

    fn open(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let archive = runtime.block_on(async {
            let catalogue = Catalogue::open(&self.url).await.unwrap();
            Archive::open(self.settings.clone(), catalogue, Clock::Steered(self.time.clone()))
                .await
                .unwrap()
        });
        let mover = archive.clone();
        runtime.spawn(async move { mover.run(CancellationToken::new()).await });
        self.life = Some((runtime, archive));
    }

    /// The process ends without a word, and starts again.
    pub(super) fn crash(&mut self) {
        self.end();
        self.open();
    }

    fn end(&mut self) {
        if let Some((runtime, archive)) = self.life.take() {
            {
                let _inside = runtime.enter();
                drop(archive);
            }
            runtime.shutdown_timeout(PATIENCE);
        }
        DIED.store(false, Ordering::SeqCst);
    }

    /// Dies at the next passing of a failpoint.
    pub(super) fn arm(&self, step: &str) {
        let die = || {
            if !DIED.swap(true, Ordering::SeqCst) {
                panic!("killed, as was asked for");
            }
        };
        fail::cfg_callback(step, die).unwrap();
    }

    pub(super) fn is_dead(&self) -> bool {
        DIED.load(Ordering::SeqCst)
    }

    fn runtime(&self) -> &Runtime {
        &self.life.as_ref().unwrap().0
    }

    pub(super) fn archive(&self) -> Archive {
        self.life.as_ref().unwrap().1.clone()
    }

    /// Runs something that passes no failpoint, to its end.
    pub(super) fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime()
            .block_on(async { tokio::time::timeout(PATIENCE, work).await.unwrap() })
    }

    /// Runs something to its end, unless the process dies before.
    pub(super) fn act<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Died> {
        let runtime = self.runtime();
        let dead = async {
            while !self.is_dead() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // What was ready to be answered is.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut task = runtime.spawn(work);
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                done = &mut task => Some(done),
                () = dead => None,
                () = tokio::time::sleep(PATIENCE) => panic!("it takes for ever"),
            }
        });
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) if self.is_dead() => {
                assert!(error.is_panic());
                Err(Died)
            }
            Some(Err(error)) => panic!("{error}"),
            None => Err(Died),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::SeqCst))
    }

    pub(super) fn pass(&self, time: Duration) {
        self.time.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// The cold store goes away, or comes back.
    pub(super) fn move_cold(&mut self, away: bool) {
        if away != self.cold_is_away {
            let (from, to) = (self.cold(), self.dir.path().join(if away { "away" } else { "cold" }));
            std::fs::rename(from, to).unwrap();
            self.cold_is_away = away;
        }
    }

    /// Where the cold store's files are.
    pub(super) fn cold(&self) -> PathBuf {
        self.dir.path().join(if self.cold_is_away { "away" } else { "cold" })
    }

    pub(super) fn data(&self) -> &Path {
        &self.settings.data_dir
    }

    /// A number that SQL has an answer for.
    pub(super) fn number(&self, sql: &str) -> i64 {
        with!(self, connection => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap())
    }

    pub(super) fn texts(&self, sql: &str) -> Vec<String> {
        with!(self, connection => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap())
    }

    pub(super) fn ids(&self, sql: &str) -> Vec<Uuid> {
        with!(self, connection => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap())
    }

    /// How often a digest is on record for an instance in a state.
    pub(super) fn on_record(&self, body: Body, state: &str) -> usize {
        let digest: Vec<u8> = <sha2::Sha256 as sha2::Digest>::digest(data_set(body)).to_vec();
        let sql = "SELECT count(*) FROM objects WHERE sop_instance_uid = $1 AND state = $2 AND sha256 = $3";
        let uid = instance_uid(body.slot);
        let count: i64 = with!(self, connection => sqlx::query_scalar(sql).bind(&uid).bind(state).bind(&digest).fetch_one(&mut connection).await.unwrap());
        usize::try_from(count).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.end();
        if let Some((server, name)) = &self.server {
            on_server(server, &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

fn on_server(server: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(server).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    });
}

pub(super) async fn store(archive: Archive, body: Body, source: &'static str) -> Result<Outcome, filmroom_tiering::StoreError> {
    let source = AeTitle::parse(source).unwrap();
    let meta = FileMeta {
        sop_class: Uid::parse(CT).unwrap(),
        sop_instance: Uid::parse(&instance_uid(body.slot)).unwrap(),
        transfer_syntax: Uid::parse(if body.explicit {
            "1.2.840.10008.1.2.1"
        } else {
            "1.2.840.10008.1.2"
        })
        .unwrap(),
        source: Some(source.clone()),
    };
    let mut incoming = archive.receive(meta).await?;
    incoming.write(Bytes::from(data_set(body))).await?;
    let sender = Sender {
        source,
        default_issuer: None,
        duplicates: DuplicatePolicy::Correct,
    };
    archive.commit(incoming.finish().await?, sender).await
}

/// What the pixels of each body begin with, and how long that is.
pub(super) const MARK: &[u8] = b"<<mark:";

/// Digits behind it.
pub(super) const DIGITS: usize = 8;

/// The data set of a body.
pub(super) fn data_set(body: Body) -> Vec<u8> {
    let mut data_set = Vec::new();
    let mut put = |group: u16, element: u16, vr: &str, value: &[u8]| {
        data_set.extend_from_slice(&group.to_le_bytes());
        data_set.extend_from_slice(&element.to_le_bytes());
        let padded = value.len() + value.len() % 2;
        if body.explicit && vr != "OW" {
            data_set.extend_from_slice(vr.as_bytes());
            data_set.extend_from_slice(&u16::try_from(padded).unwrap().to_le_bytes());
        } else {
            if body.explicit {
                data_set.extend_from_slice(vr.as_bytes());
                data_set.extend_from_slice(&[0, 0]);
            }
            data_set.extend_from_slice(&u32::try_from(padded).unwrap().to_le_bytes());
        }
        data_set.extend_from_slice(value);
        data_set.resize(data_set.len() + value.len() % 2, if vr == "UI" { 0 } else { b' ' });
    };
    put(0x0008, 0x0016, "UI", CT.as_bytes());
    put(0x0008, 0x0018, "UI", instance_uid(body.slot).as_bytes());
    put(0x0008, 0x0060, "CS", b"CT");
    put(0x0010, 0x0010, "PN", b"Somebody^Else");
    put(0x0010, 0x0020, "LO", b"P1");
    put(0x0020, 0x000d, "UI", STUDY.as_bytes());
    put(0x0020, 0x000e, "UI", series_uid(body.slot).as_bytes());
    put(0x0020, 0x0013, "IS", body.slot.to_string().as_bytes());
    let mut pixels = [MARK, format!("{:08}>>", body.mark).as_bytes()].concat();
    pixels.resize(400, b'.');
    put(0x7fe0, 0x0010, "OW", &pixels);
    data_set
}

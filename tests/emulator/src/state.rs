//! What the emulator knows: objects' tiers, uploads, buckets' settings, queues, counters and what tests asked for.
//!
//! # Mechanics
//! One lock over tables whose rows are on disk before a change is seen. Time passes when somebody looks: [`State::look`] settles one object,
//! [`State::tick`] all of them, so that events are sent when they are due although nobody asks.
//!
//! # Crash story
//! An event is in its queue before the object's row says it was sent: kill -9 between the two sends it again, as S3 may. A put that was not finished has
//! a pending row; the start after it takes it if the bytes came, and forgets it otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use s3s::dto;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::faults::Fault;
use crate::queue::{Message, Queue};
use crate::table::{Table, md5};
use crate::tiering::{Delays, Happening, Object, Rule, Speed, settle};
use crate::versions::Version;

/// A bucket's settings, as they were put.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bucket {
    pub(crate) tiering: BTreeMap<String, dto::IntelligentTieringConfiguration>,
    pub(crate) notification: Option<dto::NotificationConfiguration>,
    pub(crate) lifecycle: Option<dto::BucketLifecycleConfiguration>,
    pub(crate) public_access: Option<dto::PublicAccessBlockConfiguration>,
    pub(crate) versioning: Option<dto::VersioningConfiguration>,
    pub(crate) policy: Option<String>,
    pub(crate) encryption: Option<dto::ServerSideEncryptionConfiguration>,
    pub(crate) object_lock: Option<dto::ObjectLockConfiguration>,
}

impl Bucket {
    /// One that was made with Object Lock, and therefore keeps versions.
    pub(crate) fn locked() -> Bucket {
        let enabled = dto::ObjectLockEnabled::from_static(dto::ObjectLockEnabled::ENABLED);
        let status = dto::BucketVersioningStatus::from_static(dto::BucketVersioningStatus::ENABLED);
        Bucket {
            versioning: Some(dto::VersioningConfiguration {
                status: Some(status),
                ..Default::default()
            }),
            object_lock: Some(dto::ObjectLockConfiguration {
                object_lock_enabled: Some(enabled),
                rule: None,
            }),
            ..Bucket::default()
        }
    }

    /// Whether each put makes a version with an id of its own.
    pub(crate) fn is_versioned(&self) -> bool {
        let status = self.versioning.as_ref().and_then(|versioning| versioning.status.as_ref());
        status.is_some_and(|status| status.as_str() == "Enabled")
    }

    fn rules(&self) -> Vec<Rule> {
        self.tiering.values().filter_map(Rule::new).collect()
    }
}

/// A part of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UploadedPart {
    pub(crate) size: u64,
    pub(crate) crc64: String,
    pub(crate) etag: String,
    /// Virtual seconds since 1970.
    pub(crate) at: f64,
}

/// An upload in parts that is neither completed nor aborted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) class: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// The version that it becomes.
    #[serde(default)]
    pub(crate) version: Version,
    /// Virtual seconds since 1970.
    pub(crate) initiated: f64,
    pub(crate) parts: BTreeMap<i32, UploadedPart>,
}

/// What tests asked for, and the counters of requests by operation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Control {
    pub(crate) delays: Delays,
    pub(crate) faults: Vec<Fault>,
    pub(crate) denied: BTreeSet<String>,
    pub(crate) drop_events: u64,
    pub(crate) duplicate_events: u64,
    /// Seconds by which completions are told too early.
    pub(crate) early: f64,
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    /// The last number that was given out.
    pub(crate) number: u64,
}

/// A request for a restore and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) tier: Speed,
    /// Virtual seconds since 1970.
    pub(crate) at: f64,
    pub(crate) outcome: String,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) objects: Table<Object>,
    /// Versions that are not the current one, and delete markers.
    pub(crate) older: Table<Object>,
    pub(crate) uploads: Table<Upload>,
    pub(crate) buckets: Table<Bucket>,
    pub(crate) queues: Table<Queue>,
    pub(crate) messages: Table<Message>,
    pub(crate) restores: Table<Asked>,
    pub(crate) control: Control,
    saved: Table<Control>,
}

const CONTROL: &str = "control";

/// The whole state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: Clock,
    inner: Mutex<Inner>,
    /// Told when messages may have come.
    pub(crate) arrived: Notify,
    bodies: PathBuf,
}

/// The key under which the files have the bytes of an object's version: S3's keys are longer than a file's name may be, and `s3s-fs` makes one of each.
pub(crate) fn file_key(key: &str, version: Option<&str>) -> String {
    match version {
        None => md5(key.as_bytes()),
        Some(version) => md5(format!("{key}\0{version}").as_bytes()),
    }
}

/// The row of an object.
pub(crate) fn id(bucket: &str, key: &str) -> String {
    format!("{bucket}/{key}")
}

impl Inner {
    /// A number that was not given out before.
    pub(crate) fn next_number(&mut self) -> io::Result<u64> {
        self.control.number += 1;
        self.save()?;
        Ok(self.control.number)
    }

    /// Writes what tests asked for and the counters.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        self.saved.put(CONTROL, self.control.clone())
    }

    /// Brings one object to the time `now`.
    pub(crate) fn look(&mut self, bucket: &str, key: &str, now: f64) -> io::Result<Option<Object>> {
        let rules = self.buckets.get(bucket).map(Bucket::rules).unwrap_or_default();
        self.settle(bucket, key, &rules, now)?;
        Ok(self.objects.get(&id(bucket, key)).cloned())
    }

    fn settle(&mut self, bucket: &str, key: &str, rules: &[Rule], now: f64) -> io::Result<()> {
        let id = id(bucket, key);
        let Some(before) = self.objects.get(&id) else { return Ok(()) };
        let mut object = before.clone();
        let happened = settle(&mut object, key, rules, self.control.early, now);
        if object != *before {
            for happening in happened {
                self.announce(bucket, key, &object, happening)?;
            }
            self.objects.put(&id, object)?;
        }
        Ok(())
    }

    /// Notes that an object was accessed.
    pub(crate) fn touch(&mut self, bucket: &str, key: &str, now: f64) -> io::Result<()> {
        self.objects.edit(&id(bucket, key), |object| object.last_access = now)?;
        Ok(())
    }

    /// Starts or quickens a restore.
    pub(crate) fn restore(&mut self, bucket: &str, key: &str, tier: Speed, ready: f64, now: f64) -> io::Result<()> {
        let id = id(bucket, key);
        let Some(mut object) = self.objects.get(&id).cloned() else {
            return Ok(());
        };
        let upgraded = object.restore.take();
        object.last_access = now;
        object.restore = Some(crate::tiering::Restore {
            tier,
            requested: now,
            ready: upgraded.as_ref().map_or(ready, |slower| slower.ready.min(ready)),
            told: false,
        });
        if upgraded.is_none() {
            self.announce(bucket, key, &object, Happening::Requested(now))?;
        }
        self.objects.put(&id, object)
    }

    /// Notes a request for a restore and what became of it.
    pub(crate) fn asked(&mut self, asked: Asked) -> io::Result<()> {
        let number = self.next_number()?;
        self.restores.put(&format!("{number:012}"), asked)
    }
}

impl State {
    /// Reads the state in `folder`, which is made where there is none. The objects' bytes are under `bodies`.
    pub(crate) fn open(folder: &Path, bodies: &Path, clock: Clock) -> io::Result<State> {
        let saved: Table<Control> = Table::open(folder.join("control"))?;
        let mut inner = Inner {
            objects: Table::open(folder.join("objects"))?,
            older: Table::open(folder.join("older"))?,
            uploads: Table::open(folder.join("uploads"))?,
            buckets: Table::open(folder.join("buckets"))?,
            queues: Table::open(folder.join("queues"))?,
            messages: Table::open(folder.join("messages"))?,
            restores: Table::open(folder.join("restores"))?,
            control: saved.get(CONTROL).cloned().unwrap_or_default(),
            saved,
        };
        let pending: Vec<(String, Option<String>)> = inner
            .objects
            .iter()
            .filter(|(_, object)| object.pending)
            .map(|(id, object)| (id.clone(), object.version.id.clone()))
            .collect();
        for (id, version) in pending {
            let (bucket, key) = id.split_once('/').unwrap_or((&id, ""));
            match fs::metadata(bodies.join(bucket).join(file_key(key, version.as_deref()))) {
                Ok(metadata) => {
                    inner
                        .objects
                        .edit(&id, |object| (object.size, object.pending) = (metadata.len(), false))?;
                }
                Err(_) => {
                    inner.objects.remove(&id)?;
                }
            }
        }
        Ok(State {
            clock,
            inner: Mutex::new(inner),
            arrived: Notify::new(),
            bodies: bodies.to_owned(),
        })
    }

    /// The lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object as it is now.
    pub(crate) fn look(&self, bucket: &str, key: &str) -> io::Result<Option<Object>> {
        self.lock().look(bucket, key, self.clock.now())
    }

    /// Brings every object to the present.
    pub(crate) fn tick(&self) -> io::Result<()> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let before = inner.control.number;
        let buckets: Vec<(String, Vec<Rule>)> = inner.buckets.iter().map(|(name, bucket)| (name.clone(), bucket.rules())).collect();
        for (bucket, rules) in buckets {
            let prefix = id(&bucket, "");
            let soonest = rules.iter().map(Rule::soonest).fold(f64::INFINITY, f64::min);
            let due = |object: &Object| object.restore.is_some() || now >= object.last_access + soonest;
            let objects = inner.objects.under(&prefix).filter(|(_, object)| due(object));
            let keys: Vec<String> = objects.filter_map(|(id, _)| id.strip_prefix(&prefix).map(str::to_owned)).collect();
            for key in keys {
                inner.settle(&bucket, &key, &rules, now)?;
            }
        }
        if inner.control.number != before {
            self.arrived.notify_waiters();
        }
        Ok(())
    }

    /// The file with the bytes of an object's version.
    pub(crate) fn body(&self, bucket: &str, key: &str, version: Option<&str>) -> PathBuf {
        self.bodies.join(bucket).join(file_key(key, version))
    }

    /// Removes the bytes of an object's version, which may not be there.
    pub(crate) fn remove_body(&self, bucket: &str, key: &str, version: Option<&str>) -> io::Result<()> {
        match fs::remove_file(self.body(bucket, key, version)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// When an object's bytes came.
    pub(crate) fn modified(&self, bucket: &str, key: &str, object: &Object) -> SystemTime {
        let file = fs::metadata(self.body(bucket, key, object.version.id.as_deref()));
        file.and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

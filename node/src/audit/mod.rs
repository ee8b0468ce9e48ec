//! The audit leaves for other systems: PS3.15 A.5 messages to a syslog server (RFC 5424, by UDP or TLS) and to an append-only file.
//!
//! # Mechanics
//! What is audited is a row of the catalogue, written in the transaction that does it or right after. Each target has a task here ([`export`]) that
//! reads the rows behind the target's position, turns them into messages ([`message`]), sends them ([`syslog`], [`file`]) and moves the
//! position. The rows are the spool: there is no other queue, and nothing that carries images waits for any of this.
//!
//! # Invariants
//! - At least once: a position moves when a batch was taken. A file took it when it is flushed; a syslog server says nothing, so it took it when its
//!   connection (UDP: its port) was still there a moment later.
//! - A target that does not take anything costs one batch in memory and an attempt now and then.
//!
//! # Crash story
//! Killed anywhere, the last batch is sent again; a line that was half written to the file is ended, and written again as a whole.

mod export;
mod file;
mod message;
mod syslog;
mod watch;
mod xml;

use std::path::PathBuf;
use std::time::Duration;

use filmroom_index::catalogue::Catalogue;
use filmroom_index::model::NodeId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use message::Source;
pub(crate) use syslog::Address;
pub(crate) use watch::{Spool, Warnings, lag};

/// `[audit]`
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A syslog server
    pub(crate) syslog: Option<Address>,
    /// Certificates that its certificate is checked against, PEM
    pub(crate) tls_ca: Option<PathBuf>,
    /// Our certificate and key, where it asks for them, PEM
    pub(crate) tls_identity: Option<(PathBuf, PathBuf)>,
    /// A file
    pub(crate) file: Option<PathBuf>,
    /// Whether a target that is new begins with what happens from now on
    pub(crate) from_now: bool,
    /// A spool whose oldest row is older is a warning
    pub(crate) max_lag: Duration,
    /// How long rows are kept after they were exported; none: for ever
    pub(crate) keep: Option<Duration>,
}

/// The running exports.
#[derive(Debug)]
pub(crate) struct Exports {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// What readiness has to say of them
    pub(crate) warnings: Warnings,
}

impl Exports {
    /// Starts a task for each target, and one that watches.
    pub(crate) fn start(settings: &Settings, catalogue: &Catalogue, node: NodeId, source: &Source) -> anyhow::Result<Exports> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut targets = Vec::new();
        if let Some(address) = &settings.syslog {
            let sender = syslog::Sender::new(address.clone(), settings, source.host.clone())?;
            targets.push((address.to_string(), export::Target::Syslog(Box::new(sender))));
        }
        if let Some(path) = &settings.file {
            // Each node has its own file, and each file has everything.
            let name = format!("file:{node}:{}", path.display());
            targets.push((name, export::Target::File(file::AuditFile::new(path.clone()))));
        }
        let warnings = Warnings::default();
        if !targets.is_empty() {
            let names = targets.iter().map(|(name, _)| name.clone()).collect();
            let watch = watch::Watch::new(settings.clone(), names, catalogue.clone(), warnings.clone());
            tasks.spawn(watch.run(stop.clone()));
        }
        for (name, target) in targets {
            let export = export::Export::new(name, target, settings.from_now, catalogue.clone(), node, source.clone());
            tasks.spawn(export.run(stop.clone()));
        }
        tasks.close();
        Ok(Exports { tasks, stop, warnings })
    }

    /// Sends what there is, as far as the targets take it soon, and ends.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What is written down of a message's source: the machine has a name of its own.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

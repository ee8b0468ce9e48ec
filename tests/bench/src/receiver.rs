//! The destination of a C-MOVE: takes everything, keeps nothing, answers at once.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;

use crate::wire::Association;

/// A receiver that listens until the process ends.
pub(crate) struct Receiver {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    images: AtomicU64,
    bytes: AtomicU64,
    /// Microseconds after `since` at which the first image was there; 0: none yet
    first: AtomicU64,
}

impl Receiver {
    /// Listens on a port of the loopback interface.
    pub(crate) fn listen(port: u16, since: Instant) -> Result<Receiver> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let counts = Arc::new(Counts::default());
        let accepting = counts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = accepting.clone();
                std::thread::spawn(move || {
                    if let Err(error) = Association::accept(stream).and_then(|association| take(association, &counts, since)) {
                        eprintln!("receiver: {error:#}");
                    }
                });
            }
        });
        Ok(Receiver { counts })
    }

    /// Images and bytes that came.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.counts.images.load(Ordering::SeqCst), self.counts.bytes.load(Ordering::SeqCst))
    }

    /// Milliseconds until the first image was there.
    pub(crate) fn first_ms(&self) -> f64 {
        self.counts.first.load(Ordering::SeqCst) as f64 / 1e3
    }
}

fn take(mut association: Association, counts: &Counts, since: Instant) -> Result<()> {
    while let Some(message) = association.receive(None)? {
        association.stored(&message)?;
        let now = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let _ = counts.first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
        counts.bytes.fetch_add(message.length, Ordering::SeqCst);
        counts.images.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

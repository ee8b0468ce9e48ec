//! The time of day. Timeouts use the runtime's monotonic time instead; this clock is for what is written down.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Where the time of day comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The operating system's clock.
    #[default]
    System,
    /// A clock that a test moves: microseconds since 1970.
    Steered(Arc<AtomicI64>),
    /// The operating system's clock, moved by the number of seconds that a test writes into a file; not moved while there is
    /// no such file. It is read at every use, so that one file moves several programs.
    Moved(Arc<Path>),
}

impl Clock {
    /// Now. A system clock before 1970 reads as 1970.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => system(),
            Clock::Steered(micros) => Timestamp(micros.load(Ordering::SeqCst)),
            Clock::Moved(file) => {
                let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<f64>().ok());
                let micros = (seconds.unwrap_or(0.0) * 1e6) as i64;
                Timestamp(system().0.saturating_add(micros))
            }
        }
    }
}

fn system() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

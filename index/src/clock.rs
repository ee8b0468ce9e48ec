//! The time of day. Timeouts use the runtime's monotonic time instead; this clock is for what is written down.

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
}

impl Clock {
    /// Now. A system clock before 1970 reads as 1970.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Clock::Steered(micros) => Timestamp(micros.load(Ordering::SeqCst)),
        }
    }
}

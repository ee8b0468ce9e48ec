//! How much of the disk recalled files may take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that recalled files take and are about to take. One a node, shared by its flights.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    spent: Arc<Mutex<Spent>>,
}

#[derive(Debug, Default)]
struct Spent {
    /// On record as recalled
    recorded: u64,
    /// Reserved for files that are being written
    reserved: u64,
}

/// Bytes of the budget that a file is being written with; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// What the catalogue says was recalled and not evicted since.
    pub(super) fn record(&self, bytes: u64) {
        self.spent().recorded = bytes;
    }

    /// Reserves `bytes`; none if that would exceed `limit`.
    pub(super) fn reserve(&self, bytes: u64, limit: u64) -> Option<Reservation> {
        let mut spent = self.spent();
        let after = spent.recorded.saturating_add(spent.reserved).saturating_add(bytes);
        if after > limit {
            return None;
        }
        spent.reserved += bytes;
        let budget = self.clone();
        Some(Reservation { budget, bytes })
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// The file is on record as recalled.
    pub(super) fn spend(self) {
        let mut spent = self.budget.spent();
        spent.recorded = spent.recorded.saturating_add(self.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut spent = self.budget.spent();
        spent.reserved = spent.reserved.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_given_back_and_never_exceeded() {
        let budget = Budget::default();
        budget.record(40);
        let first = budget.reserve(50, 100).unwrap();
        assert!(budget.reserve(20, 100).is_none());
        drop(first);
        budget.reserve(60, 100).unwrap().spend();
        assert!(budget.reserve(1, 100).is_none());
        // An eviction freed some of it.
        budget.record(10);
        assert!(budget.reserve(90, 100).is_some());
        assert!(budget.reserve(u64::MAX, u64::MAX - 20).is_none());
    }
}

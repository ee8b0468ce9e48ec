//! What to evict and what to keep: pure functions of what the catalogue and the disk say.

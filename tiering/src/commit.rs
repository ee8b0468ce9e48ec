//! The committer: takes whatever queued while its last commit ran, renames it into place, makes the directory durable once, commits
//! the catalogue once, then wakes the senders.

//! What a copy says: how far it has come, what it found equal, why it cannot be made; and what a catalogue says of being copied.

use super::super::Error;

/// Why a catalogue is not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A database failed.
    #[error(transparent)]
    Catalogue(#[from] Error),
    /// What is configured is no embedded database.
    #[error("what is copied is an embedded catalogue, and catalogue.url names PostgreSQL")]
    NotEmbedded,
    /// The target is no PostgreSQL.
    #[error("a catalogue is copied to PostgreSQL: write postgres://user@host/database")]
    NotPostgres,
    /// The target is in use.
    #[error("the target holds a catalogue already: give an empty database")]
    NotEmpty,
    /// Another process copies to it now.
    #[error("another process copies to this database now")]
    Busy,
    /// A copy to elsewhere is under way.
    #[error("a copy to {0} was begun: go on with that, or end it by --abandon")]
    Elsewhere(String),
    /// The target is filled by another copy, or by one that was abandoned.
    #[error("the target holds part of another copy: give an empty database")]
    OtherCopy,
    /// The source was handed over.
    #[error("this catalogue was copied to {0} and is no longer used: set catalogue.url to that")]
    Closed(String),
    /// The schema was changed by another version of the program while the copy was under way.
    #[error("the program was updated since the copy was begun: end it by --abandon, and begin anew with an empty database")]
    Updated,
    /// The schemas differ.
    #[error("the catalogues cannot be copied: {0}")]
    Schema(String),
    /// The copy is not equal to the source. Never seen so far.
    #[error(
        "table {table} differs: {source_rows} rows here, {target_rows} in the copy: the copy cannot be used; begin anew with an empty database"
    )]
    Differs {
        /// The table
        table: String,
        /// Rows of the source
        source_rows: u64,
        /// Rows of the target
        target_rows: u64,
    },
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> CopyError {
        CopyError::Catalogue(error.into())
    }
}

/// What a copy does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyStage {
    /// Copying the tables
    Tables,
    /// Copying what changed meanwhile
    Changes,
    /// Comparing both databases
    Comparing,
    /// Making indexes and constraints
    Indexes,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug)]
pub struct CopyProgress {
    /// What it does
    pub stage: CopyStage,
    /// Rows, or changes, that are done
    pub done: u64,
    /// Out of about so many
    pub of: u64,
}

/// What was found equal.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CopyReport {
    /// Tables
    pub tables: u64,
    /// Rows, all of which were compared
    pub rows: u64,
    /// Changes of the source that were copied after the tables
    pub changes: u64,
}

/// Where a catalogue is in a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyStanding {
    /// It may be used.
    InUse,
    /// It was copied to another database, which is used instead.
    Closed {
        /// Where
        target: String,
    },
    /// It is being filled.
    Incomplete,
}

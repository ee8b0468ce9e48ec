//! What can go wrong in the catalogue, told by what the caller can do about it.

use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};

use super::OverlayRefusal;

/// What went wrong in the catalogue. Clones, for what fails a batch fails each of its members.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is full, or lost the connection: trying again may help. After a lost COMMIT the
    /// transaction may have happened all the same.
    #[error("the catalogue's database is not available: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The statement ran into its time limit.
    #[error("the catalogue took longer than its time limit")]
    TimedOut,
    /// This row cannot be stored, whatever is tried.
    #[error("the catalogue refuses the row: {0}")]
    Refused(#[source] Arc<sqlx::Error>),
    /// The schema is newer than this program.
    #[error("the catalogue has schema version {found}, this program knows up to {known}: run a newer filmroom")]
    SchemaTooNew {
        /// Version in the database
        found: i64,
        /// Newest version of this program
        known: i64,
    },
    /// The lease was lost to another node: the transition was not made.
    #[error("another node has taken over: the lease was lost")]
    LeaseLost,
    /// A retrieve at PATIENT level names a Patient ID that several issuers have given out: it has to name one (PS3.4
    /// C.4.2.1.4.1). Status A900, with this text as comment.
    #[error("Patient ID names {patients} patients: give the issuer too")]
    SeveralPatients {
        /// Patients with that ID
        patients: usize,
    },
    /// A merge, a relink or an undo that is not carried out.
    #[error(transparent)]
    Overlay(#[from] OverlayRefusal),
    /// What the database holds cannot be read.
    #[error("the catalogue holds something unreadable: {0}")]
    Corrupt(String),
    /// The URL in the configuration is none of ours.
    #[error("catalogue URL {0:?}: write sqlite:PATH or postgres://user@host/database")]
    Url(String),
}

/// Result of a catalogue function.
pub type Result<T> = std::result::Result<T, Error>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        let verdict = match &error {
            sqlx::Error::Database(database) => verdict(database.as_ref()),
            sqlx::Error::Encode(_) => Verdict::Refused,
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::RowNotFound => Verdict::Corrupt,
            _ => Verdict::Unavailable,
        };
        verdict.on(error)
    }
}

/// Of what runs in the thread of who receives. Whether two transactions got in each other's way is told by who tries the same again on the connection that writes.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let failure = error.sqlite_error();
        let verdict = failure.map_or(Verdict::Unavailable, |failure| embedded_verdict(failure.extended_code));
        verdict.on(sqlx::Error::Io(std::io::Error::other(error)))
    }
}

/// The error of such a statement.
#[derive(Debug, thiserror::Error)]
#[error("this statement is for the connection that writes")]
struct Elsewhere;

enum Verdict {
    Unavailable,
    TimedOut,
    Refused,
    Corrupt,
}

impl Verdict {
    fn on(self, error: sqlx::Error) -> Error {
        match self {
            Verdict::Refused => Error::Refused(Arc::new(error)),
            Verdict::TimedOut => Error::TimedOut,
            Verdict::Corrupt => Error::Corrupt(error.to_string()),
            Verdict::Unavailable => Error::Unavailable(Arc::new(error)),
        }
    }
}

/// Codes are five characters on PostgreSQL (its appendix A, by class) and a number on SQLite (the low byte is the primary
/// result code). What is not known to be the row's fault is taken for the database's: the sender then tries again.
fn verdict(error: &dyn DatabaseError) -> Verdict {
    let code = error.code().unwrap_or_default();
    if code.len() == 5 {
        return match code.as_ref() {
            "57014" | "55P03" => Verdict::TimedOut,
            _ if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Verdict::Refused,
            _ => Verdict::Unavailable,
        };
    }
    code.parse().map_or(Verdict::Unavailable, embedded_verdict)
}

/// The same of a number of SQLite's.
fn embedded_verdict(code: i32) -> Verdict {
    match code & 0xff {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE
        18 | 19 | 20 | 25 => Verdict::Refused,
        // SQLITE_INTERRUPT
        9 => Verdict::TimedOut,
        // SQLITE_CORRUPT, SQLITE_NOTADB
        11 | 26 => Verdict::Corrupt,
        _ => Verdict::Unavailable,
    }
}

impl Error {
    /// A statement that does not run in the thread of who receives.
    pub(super) fn elsewhere() -> Error {
        sqlx::Error::Io(std::io::Error::other(Elsewhere)).into()
    }

    /// Whether it is that.
    pub(super) fn is_elsewhere(&self) -> bool {
        let Error::Unavailable(error) = self else {
            return false;
        };
        matches!(error.as_ref(), sqlx::Error::Io(error) if error.get_ref().is_some_and(|error| error.is::<Elsewhere>()))
    }

    /// Whether SQLite had no transaction that could be rolled back.
    pub(super) fn is_no_transaction(&self) -> bool {
        let Error::Unavailable(error) = self else {
            return false;
        };
        let database = error.as_database_error();
        database.is_some_and(|error| error.message().contains("no transaction is active"))
    }

    /// Whether another process has SQLite's file.
    pub(super) fn is_busy(&self) -> bool {
        let Error::Unavailable(error) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        // SQLITE_BUSY
        code.is_some_and(|code| code & 0xff == 5)
    }

    /// Whether a row that another one refers to is not there.
    pub(super) fn is_lost_reference(&self) -> bool {
        let Error::Refused(error) = self else {
            return false;
        };
        let database = error.as_database_error();
        database.is_some_and(|error| error.is_foreign_key_violation() || error.kind() == ErrorKind::NotNullViolation)
    }

    /// Whether two transactions got in each other's way, so that the same again, judged anew, may well succeed.
    pub(super) fn is_collision(&self) -> bool {
        let (Error::Unavailable(error) | Error::Refused(error)) = self else {
            return false;
        };
        let Some(database) = error.as_database_error() else {
            return false;
        };
        // PostgreSQL: serialization_failure, deadlock_detected
        database.is_unique_violation() || matches!(database.code().as_deref(), Some("40001" | "40P01"))
    }
}

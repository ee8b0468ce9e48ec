//! The virtual clock: the machine's time and an offset in seconds that stands in a file.
//!
//! The file is read at every use, so whoever replaces it moves this program's clock and that of every other program that reads the same file.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use crate::table::replace;

/// Seconds of a day.
pub const DAY: f64 = 86_400.0;

/// A clock that can be turned forward.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    /// What stood in the file when it could last be read.
    known: Mutex<f64>,
}

impl Clock {
    /// The clock whose offset stands in `file`; without the file it shows the machine's time.
    pub fn new(file: PathBuf) -> Clock {
        Clock {
            file,
            known: Mutex::new(0.0),
        }
    }

    /// The file that holds the offset.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Seconds by which this clock is ahead of the machine's. A file that cannot be understood leaves the clock where it was.
    pub fn offset(&self) -> f64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::read_to_string(&self.file) {
            Ok(text) => *known = text.trim().parse().unwrap_or(*known),
            Err(error) if error.kind() == io::ErrorKind::NotFound => *known = 0.0,
            Err(_) => {}
        }
        *known
    }

    /// Virtual seconds since 1970.
    pub fn now(&self) -> f64 {
        machine_now() + self.offset()
    }

    /// Turns the clock forward and returns the new offset.
    ///
    /// # Errors
    /// The file could not be replaced.
    pub fn advance(&self, seconds: f64) -> io::Result<f64> {
        let offset = self.offset() + seconds;
        replace(&self.file, format!("{offset}\n").as_bytes())?;
        Ok(offset)
    }
}

/// The machine's seconds since 1970.
pub(crate) fn machine_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A virtual time as S3 writes it in JSON.
pub(crate) fn iso(seconds: f64) -> String {
    let millis = (seconds * 1000.0) as i128;
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// A virtual time as HTTP writes it in headers.
pub(crate) fn http_date(seconds: f64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    time.format(&time::format_description::well_known::Rfc2822)
        .map(|text| text.replace("+0000", "GMT"))
        .unwrap_or_default()
}

//! Unique identifiers, safe wherever they are written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A DICOM unique identifier (PS3.5 9.1): 1 to 64 characters, digits in components separated by single dots.
///
/// Leading zeros in a component are against the standard and are met in the field; they are kept. Trailing NUL and spaces are
/// padding and are dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// Why a text is not a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Nothing but padding.
    #[error("the UID is empty")]
    Empty,
    /// PS3.5 9.1 allows 64 characters.
    #[error("the UID is longer than 64 characters")]
    TooLong,
    /// Something else than digits in components separated by single dots.
    #[error("the UID has characters other than digits and single dots")]
    Malformed,
}

impl Uid {
    /// Checks a text as it stands in an element or a command, padding included.
    pub fn parse(text: &str) -> Result<Uid, UidError> {
        let text = text.trim_matches(['\0', ' ']);
        if text.is_empty() {
            return Err(UidError::Empty);
        }
        if text.len() > 64 {
            return Err(UidError::TooLong);
        }
        let component = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit());
        if !text.split('.').all(component) {
            return Err(UidError::Malformed);
        }
        Ok(Uid(text.to_owned()))
    }

    /// The UID without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Uid {
    type Err = UidError;
    fn from_str(text: &str) -> Result<Uid, UidError> {
        Uid::parse(text)
    }
}

impl TryFrom<String> for Uid {
    type Error = UidError;
    fn try_from(text: String) -> Result<Uid, UidError> {
        Uid::parse(&text)
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> String {
        uid.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_safe_as_a_path_segment_or_it_is_none() {
        for bad in [
            "../../etc/passwd",
            ".",
            "..",
            "1..2",
            "1.2.",
            ".1",
            "1.2/3",
            "1.2a",
            "",
            "\0\0",
            "1.2\n3",
        ] {
            assert!(Uid::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Uid::parse(&"1".repeat(65)), Err(UidError::TooLong));
        assert_eq!(Uid::parse("1.02.3\0").unwrap().as_str(), "1.02.3");
        assert_eq!(Uid::parse("1.2.3 ").unwrap().as_str(), "1.2.3");
    }
}

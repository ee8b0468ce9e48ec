//! Titles of application entities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An application entity title (PS3.5 6.2, VR AE; PS3.8 9.3.2): 1 to 16 characters, case-sensitive, without the padding
/// (spaces, NUL, and the CR and LF that some devices add).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AeTitle(String);

/// Why a text is not an AE title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AeTitleError {
    /// Nothing but padding.
    #[error("the AE title is empty")]
    Empty,
    /// More than 16 characters.
    #[error("the AE title is longer than 16 characters")]
    TooLong,
    /// A backslash, a control character or a character outside ASCII.
    #[error("the AE title has a backslash, a control character or a character outside ASCII")]
    Malformed,
}

impl AeTitle {
    /// Checks a text as it stands in a PDU, an element or the configuration, padding included.
    pub fn parse(text: &str) -> Result<AeTitle, AeTitleError> {
        let text = text.trim_matches(['\0', ' ', '\r', '\n']);
        if text.is_empty() {
            return Err(AeTitleError::Empty);
        }
        if text.len() > 16 {
            return Err(AeTitleError::TooLong);
        }
        if !text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'\\') {
            return Err(AeTitleError::Malformed);
        }
        Ok(AeTitle(text.to_owned()))
    }

    /// The title without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AeTitle {
    type Err = AeTitleError;
    fn from_str(text: &str) -> Result<AeTitle, AeTitleError> {
        AeTitle::parse(text)
    }
}

impl TryFrom<String> for AeTitle {
    type Error = AeTitleError;
    fn try_from(text: String) -> Result<AeTitle, AeTitleError> {
        AeTitle::parse(&text)
    }
}

impl From<AeTitle> for String {
    fn from(title: AeTitle) -> String {
        title.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_an_ae_title_does_not_count() {
        assert_eq!(AeTitle::parse("  CT1\0\0 \r\n").unwrap().as_str(), "CT1");
        assert_eq!(AeTitle::parse(" \0"), Err(AeTitleError::Empty));
        assert!(AeTitle::parse("A\\B").is_err());
    }
}

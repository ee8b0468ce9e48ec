//! Who a patient is: Patient ID (0010,0020) and Issuer of Patient ID (0010,0021).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What stands between a Patient ID and its issuer, as in an HL7 v2 CX: the first component is the ID, the fourth its assigning
/// authority.
const SEPARATOR: &str = "^^^";

/// Longest Patient ID or issuer, in characters. LO has 64 (PS3.5 6.2); the catalogue keeps longer ones up to this.
const MAX: usize = 256;

/// A Patient ID and its issuer, written `ID`, `ID^^^ISSUER`, or `ID^^^` where there is none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatientId {
    id: String,
    issuer: Option<String>,
}

/// Why a text is no Patient ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatientIdError {
    /// There is no ID.
    #[error("the Patient ID is empty: write ID or ID^^^ISSUER")]
    Empty,
    /// It is longer than the catalogue keeps one.
    #[error("the Patient ID or its issuer is longer than {MAX} characters")]
    TooLong,
}

impl PatientId {
    /// An ID and its issuer, empty where it has none; spaces around them and NUL are padding.
    pub fn new(id: &str, issuer: &str) -> Result<PatientId, PatientIdError> {
        let clean = |text: &str| text.replace('\0', "").trim_matches(' ').to_owned();
        let (id, issuer) = (clean(id), clean(issuer));
        if id.is_empty() {
            return Err(PatientIdError::Empty);
        }
        if id.chars().count() > MAX || issuer.chars().count() > MAX {
            return Err(PatientIdError::TooLong);
        }
        Ok(PatientId { id, issuer: Some(issuer) })
    }

    /// Patient ID (0010,0020).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its issuer, empty where it has none. None: which one is not said, so the only patient with this ID is meant.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }
}

impl FromStr for PatientId {
    type Err = PatientIdError;

    fn from_str(text: &str) -> Result<PatientId, PatientIdError> {
        match text.split_once(SEPARATOR) {
            Some((id, issuer)) => PatientId::new(id, issuer),
            None => Ok(PatientId {
                issuer: None,
                ..PatientId::new(text, "")?
            }),
        }
    }
}

impl TryFrom<String> for PatientId {
    type Error = PatientIdError;

    fn try_from(text: String) -> Result<PatientId, PatientIdError> {
        text.parse()
    }
}

impl From<PatientId> for String {
    fn from(patient: PatientId) -> String {
        match patient.issuer {
            Some(issuer) => format!("{}{SEPARATOR}{issuer}", patient.id),
            None => patient.id,
        }
    }
}

impl fmt::Display for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.issuer.as_deref() {
            Some("") | None => f.write_str(&self.id),
            Some(issuer) => write!(f, "{}{SEPARATOR}{issuer}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_named_said_to_be_none_or_left_open() {
        let read = |text: &str| text.parse::<PatientId>().map(|patient| (patient.id, patient.issuer));
        assert_eq!(read("P1"), Ok(("P1".to_owned(), None)));
        assert_eq!(read(" P1^^^HOSPITAL "), Ok(("P1".to_owned(), Some("HOSPITAL".to_owned()))));
        assert_eq!(read("P1^^^"), Ok(("P1".to_owned(), Some(String::new()))));
        assert_eq!(read("P^1"), Ok(("P^1".to_owned(), None)));
        assert_eq!(read(""), Err(PatientIdError::Empty));
        assert_eq!(read("^^^HOSPITAL"), Err(PatientIdError::Empty));
        assert_eq!(read(&"P".repeat(300)), Err(PatientIdError::TooLong));
    }

    #[test]
    fn as_text_it_comes_back() {
        for text in ["P1", "P1^^^", "P1^^^HOSPITAL"] {
            let patient: PatientId = text.parse().unwrap();
            assert_eq!(String::from(patient.clone()), text);
            assert_eq!(
                serde_json::from_str::<PatientId>(&serde_json::to_string(&patient).unwrap()).unwrap(),
                patient
            );
        }
    }
}

//! User Identity Negotiation (PS3.7 D.3.3.7): what the acceptor makes of what was offered. Pure; a passcode is left to be checked.
//!
//! | offered | `off` | `optional` | `required`, or the AE has `users` |
//! |---|---|---|---|
//! | nothing | accepted | accepted | rejected |
//! | a username (1) that is listed without passcode | ignored | that user | that user |
//! | any other username (1) | ignored | accepted as nobody | rejected |
//! | username and passcode (2) that are right | ignored | that user | that user |
//! | any other username and passcode (2) | ignored | rejected | rejected |
//! | Kerberos (3), SAML (4), JWT (5), any other | ignored | ignored | rejected |
//!
//! A bare username that has a passcode, and one that is not listed, are treated alike, and any passcode takes as long to check as one that is right:
//! names cannot be found out by trying. An AE with `users` requires one of them, whatever the policy for the others is: there, the passcode of any
//! other user is as wrong as one that is.

use dicom_ul::pdu::{UserIdentity, UserIdentityType, UserVariableItem};

use super::passcode::Challenge;
use super::{IdentityPolicy, User};
use crate::settings::{Peer, Settings};

/// Sub-item type of the acceptor's answer (PS3.7 table D.3-15).
const ANSWER: u8 = 0x59;
/// Longest name in log and audit, in characters.
const MAX_NAME: usize = 64;

/// Why an identity is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// None was offered where one is required.
    #[error("no user identity where one is required")]
    Missing,
    /// Neither username nor username and passcode.
    #[error("a type of user identity that is not supported where one is required")]
    Unsupported,
    /// Unknown user, missing or wrong passcode: which of them is nobody's business but the administrator's, who knows the names.
    #[error("user not recognized, or passcode missing or wrong")]
    NotRecognized,
    /// The user may not work at this AE.
    #[error("the user is not one of this AE's")]
    NotOfThisAe,
}

/// Who stands behind an AE, as far as the passcode is right.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Identified {
    /// The user's name
    pub(crate) user: Option<String>,
    /// What remains to be checked
    pub(crate) challenge: Option<Challenge>,
    /// The sub-item of the A-ASSOCIATE-AC, where a positive response was asked for
    pub(crate) answer: Option<UserVariableItem>,
}

/// Judges what was offered.
pub(crate) fn identify(settings: &Settings, peer: Option<&Peer>, items: &[UserVariableItem]) -> Result<Identified, IdentityError> {
    let of_this_ae: &[String] = peer.map_or(&[], |peer| &peer.users);
    let required = settings.identity == IdentityPolicy::Required || !of_this_ae.is_empty();
    if settings.identity == IdentityPolicy::Off && !required {
        return Ok(Identified::default());
    }
    let otherwise = |error| if required { Err(error) } else { Ok(Identified::default()) };
    let Some(offered) = offered(items) else {
        return otherwise(IdentityError::Missing);
    };
    let listed = listed(&settings.users, &offered.primary_field());
    let of_this_ae = |user: &User| of_this_ae.is_empty() || of_this_ae.contains(&user.name);
    let (user, challenge) = match (offered.identity_type(), listed) {
        (UserIdentityType::Username, Some(user)) if user.passcode.is_none() => (user, None),
        (UserIdentityType::Username, _) => return otherwise(IdentityError::NotRecognized),
        (UserIdentityType::UsernamePassword, Some(user)) if of_this_ae(user) => {
            let challenge = Challenge::new(user.passcode.clone(), offered.secondary_field());
            (user, Some(challenge))
        }
        (UserIdentityType::UsernamePassword, _) => {
            // Not listed, or not of this AE: takes as long as one who is, whatever the passcode.
            return Ok(Identified {
                challenge: Some(Challenge::new(None, offered.secondary_field())),
                ..Identified::default()
            });
        }
        _ => return otherwise(IdentityError::Unsupported),
    };
    if !of_this_ae(user) {
        return Err(IdentityError::NotOfThisAe);
    }
    // Of length zero for these types (PS3.7 D.3.3.7.2).
    let answer = offered
        .positive_response_requested()
        .then(|| UserVariableItem::Unknown(ANSWER, vec![0, 0]));
    Ok(Identified {
        user: Some(user.name.clone()),
        challenge,
        answer,
    })
}

/// The name that was offered, fit for log and audit, whether it is anybody's or not.
pub(crate) fn claimed(items: &[UserVariableItem]) -> Option<String> {
    let offered = offered(items)?;
    let named = matches!(
        offered.identity_type(),
        UserIdentityType::Username | UserIdentityType::UsernamePassword
    );
    named.then(|| {
        let text = String::from_utf8_lossy(&offered.primary_field()).into_owned();
        let text = text.trim_matches(['\0', ' ']);
        text.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
    })
}

fn offered(items: &[UserVariableItem]) -> Option<&UserIdentity> {
    items.iter().find_map(|item| match item {
        UserVariableItem::UserIdentityItem(identity) => Some(identity),
        _ => None,
    })
}

/// Padding is not part of a name, anything else is.
fn listed<'s>(users: &'s [User], name: &[u8]) -> Option<&'s User> {
    let name = std::str::from_utf8(name).ok()?.trim_end_matches(['\0', ' ']);
    users.iter().find(|user| user.name == name)
}

#[cfg(test)]
mod tests;

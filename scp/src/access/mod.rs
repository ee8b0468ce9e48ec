//! Who may do what: from where an AE may call ([`Network`]), who stands behind it ([`identity`], [`passcode`]), where it may send images.
//!
//! What decides is pure and stands in `negotiate`; only a passcode costs time and memory enough to be checked elsewhere. The decisions, in order:
//! called AE title (1/1/7), calling AE title (1/1/3), its address (1/1/3), room on this node (2/3/2), user identity (1/2/1), then each
//! presentation context by the services that the AE is allowed, then each C-MOVE by its destination (0124).

pub mod identity;
mod network;
pub mod passcode;

pub use network::Network;

use passcode::PasscodeHash;

/// `dicom.user_identity`: what is made of User Identity Negotiation (PS3.7 D.3.3.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdentityPolicy {
    /// Not supported: as if it had not been offered
    #[default]
    Off,
    /// An AE need not name a user; one that gives a passcode has to give the right one
    Optional,
    /// Without a user that is listed there is no association
    Required,
}

/// One `[[user]]`.
#[derive(Clone, Debug)]
pub struct User {
    /// The name that is given in User Identity Negotiation, compared with case
    pub name: String,
    /// What the passcode is checked against; none: the name alone is enough, and it is the AE that has asked for a passcode
    pub passcode: Option<PasscodeHash>,
}

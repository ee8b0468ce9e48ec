//! Association negotiation as pure functions: what we propose, what we accept of a proposal (PS3.8 7.1.1, PS3.7 D.3).
//!
//! - [`accept`] answers an A-ASSOCIATE-RQ with an agreement or a [`Rejection`].
//! - [`propose`] makes an A-ASSOCIATE-RQ, [`agree`] reads the answer to it.
//! - [`syntaxes`] says what is stored here, `extended` which options of queries are granted.
//!
//! Never answered: the asynchronous operations window (without an answer it is one operation, PS3.7 D.3.3.3; dcm4che pipelines as soon as
//! there is one), SOP Class Common Extended Negotiation, and extended negotiation of other classes than queries and retrieves.

mod acceptor;
mod extended;
mod requestor;
pub mod syntaxes;

use std::net::IpAddr;
use std::sync::Arc;

use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ, UserVariableItem,
};
use filmroom_index::model::{AeTitle, Uid};
use filmroom_index::part10;
use filmroom_index::query::Extensions;

pub use acceptor::{BLANK_CALLING_AE, accept};
pub use requestor::{agree, propose};

use crate::access::identity::IdentityError;
use crate::access::passcode::Challenge;
use crate::settings::Settings;
use crate::tls::Certificate;

/// The one application context of DICOM (PS3.7 A.2.1).
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// What an acceptor decides by.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// Our settings
    pub settings: Arc<Settings>,
    /// Whether the node has no room for one more association: the answer is rejected-transient, local-limit-exceeded
    pub full: bool,
    /// The certificate that the peer showed, where the connection is TLS
    pub certificate: Option<Certificate>,
}

impl Acceptor {
    /// A node with room, on a connection without a certificate.
    pub fn new(settings: Arc<Settings>) -> Acceptor {
        Acceptor {
            settings,
            full: false,
            certificate: None,
        }
    }
}

/// What a requestor proposes.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Our AE title
    pub calling: AeTitle,
    /// The peer's
    pub called: AeTitle,
    /// Presentation contexts in order, at most 128; ids are 1, 3, 5, …
    pub contexts: Vec<ProposedContext>,
    /// Our maximum PDU length
    pub max_pdu: u32,
}

/// A presentation context to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedContext {
    /// Abstract syntax
    pub abstract_syntax: Uid,
    /// Transfer syntaxes in order of preference
    pub transfer_syntaxes: Vec<Uid>,
    /// Whether we offer to be SCP of it as well as SCU (PS3.7 D.3.3.4), as the requestor of a C-GET does; of Storage
    /// Commitment to be SCP only
    pub also_scp: bool,
}

/// An accepted presentation context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Presentation-context-ID, odd
    pub id: u8,
    /// Abstract syntax
    pub abstract_syntax: Uid,
    /// The one transfer syntax
    pub transfer_syntax: Uid,
    /// Whether the association's requestor may be SCU (PS3.7 D.3.3.4)
    pub requestor_scu: bool,
    /// Whether the association's requestor may be SCP
    pub requestor_scp: bool,
    /// What was granted of a query's options
    pub extensions: Extensions,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// Calling AE title; of an association that we requested: our own
    pub calling: AeTitle,
    /// Called AE title
    pub called: AeTitle,
    /// Address of the other end, where the stream has one
    pub address: Option<IpAddr>,
    /// The user who identified himself to us (PS3.7 D.3.3.7)
    pub user: Option<String>,
    /// The peer's Implementation Class UID, as it came
    pub implementation_class: String,
    /// The peer's Implementation Version Name
    pub implementation_version: Option<String>,
}

/// What both sides agreed on.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Who is at the other end
    pub peer: PeerIdentity,
    /// The accepted presentation contexts
    pub contexts: Vec<AcceptedContext>,
    /// The peer's maximum PDU length; 0: no limit
    pub max_pdu: u32,
    /// The passcode that still has to be checked: until then nothing is agreed
    pub challenge: Option<Challenge>,
    /// Abstract syntaxes that were refused because this AE is not allowed their service
    pub not_allowed: Vec<Uid>,
}

/// A rejection and whom it met, for log and audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why
    pub rejection: Rejection,
    /// The calling AE title as it came, printable
    pub calling: String,
    /// The called AE title as it came, printable
    pub called: String,
    /// The user's name that was given
    pub user: Option<String>,
}

impl Refused {
    /// Who was refused with this request.
    pub fn new(rejection: Rejection, request: &AssociationRQ) -> Refused {
        Refused {
            rejection,
            calling: printable(&request.calling_ae_title, 16),
            called: printable(&request.called_ae_title, 16),
            user: crate::access::identity::claimed(&request.user_variables),
        }
    }
}

/// Why an association is rejected (PS3.8 9.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// 1/1/2
    #[error("application context name not supported")]
    ApplicationContext,
    /// 1/1/3
    #[error("calling AE title not recognized")]
    CallingAe,
    /// 1/1/3 as well: the calling AE title is listed, but not at this address
    #[error("calling AE title not recognized at this address")]
    CallingAddress,
    /// 1/1/3 as well: the AE is bound to a certificate and showed none
    #[error("the calling AE is bound to a certificate (ae.certificate) and showed none")]
    NoCertificate,
    /// 1/1/3 as well: the AE is bound to a certificate and showed another
    #[error("the calling AE is bound to another certificate (ae.certificate) than the one that it showed")]
    OtherCertificate,
    /// 1/1/7
    #[error("called AE title not recognized")]
    CalledAe,
    /// 1/2/1, as PS3.7 D.3.3.7.3 has it
    #[error("user identity not accepted: {0}")]
    Identity(#[from] IdentityError),
    /// 1/2/2
    #[error("protocol version not supported")]
    ProtocolVersion,
    /// 2/3/2: the one that a peer tries again later
    #[error("local limit exceeded")]
    Full,
}

impl Rejection {
    /// The PDU that says so.
    pub fn to_pdu(self) -> AssociationRJ {
        let user = |reason| (AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(reason));
        let (result, source) = match self {
            Rejection::ApplicationContext => user(AssociationRJServiceUserReason::ApplicationContextNameNotSupported),
            Rejection::CallingAe | Rejection::CallingAddress | Rejection::NoCertificate | Rejection::OtherCertificate => {
                user(AssociationRJServiceUserReason::CallingAETitleNotRecognized)
            }
            Rejection::CalledAe => user(AssociationRJServiceUserReason::CalledAETitleNotRecognized),
            Rejection::Identity(_) => (
                AssociationRJResult::Permanent,
                AssociationRJSource::ServiceProviderASCE(AssociationRJServiceProviderASCEReason::NoReasonGiven),
            ),
            Rejection::ProtocolVersion => (
                AssociationRJResult::Permanent,
                AssociationRJSource::ServiceProviderASCE(AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported),
            ),
            Rejection::Full => (
                AssociationRJResult::Transient,
                AssociationRJSource::ServiceProviderPresentation(AssociationRJServiceProviderPresentationReason::LocalLimitExceeded),
            ),
        };
        AssociationRJ { result, source }
    }

    /// The name under which it is counted.
    pub fn label(self) -> &'static str {
        match self {
            Rejection::ApplicationContext => "application_context",
            Rejection::CallingAe => "calling_ae",
            Rejection::CallingAddress => "calling_address",
            Rejection::NoCertificate => "no_certificate",
            Rejection::OtherCertificate => "other_certificate",
            Rejection::CalledAe => "called_ae",
            Rejection::Identity(_) => "user_identity",
            Rejection::ProtocolVersion => "protocol_version",
            Rejection::Full => "full",
        }
    }
}

/// Our user information (PS3.7 D.3.3): maximum length and implementation.
fn our_user_information(max_pdu: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(max_pdu),
        UserVariableItem::ImplementationClassUID(part10::IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(part10::IMPLEMENTATION_VERSION_NAME.to_owned()),
    ]
}

/// What a peer's user information says: maximum PDU length (none given: no limit, PS3.8 D.1), Implementation Class UID and Version Name.
fn read_user_information(items: &[UserVariableItem]) -> (u32, String, Option<String>) {
    let mut max_pdu = 0;
    let mut class = String::new();
    let mut version = None;
    for item in items {
        match item {
            UserVariableItem::MaxLength(length) => max_pdu = *length,
            UserVariableItem::ImplementationClassUID(uid) => class = printable(uid, 64),
            UserVariableItem::ImplementationVersionName(name) => version = Some(printable(name, 16)),
            _ => {}
        }
    }
    (max_pdu, class, version)
}

/// A peer's text as it can stand in a log: up to its first NUL, trimmed, bounded, control characters and what is not ASCII replaced.
fn printable(text: &str, max: usize) -> String {
    let text = text.trim_matches(['\0', ' ', '\r', '\n']);
    let text = text.split('\0').next().unwrap_or_default();
    text.chars()
        .take(max)
        .map(|c| if (' '..='~').contains(&c) && c != '\\' { c } else { '?' })
        .collect()
}

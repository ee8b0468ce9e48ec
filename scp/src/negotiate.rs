//! Association negotiation as pure functions: what we propose, what we accept of a proposal (PS3.8 7.1.1, PS3.7 D.3).

use std::sync::Arc;

use filmroom_index::model::{AeTitle, Uid};

use crate::settings::Settings;

/// What an acceptor decides by.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// Our settings
    pub settings: Arc<Settings>,
    /// Whether the node has no room for one more association: the answer is rejected-transient, local-limit-exceeded
    pub full: bool,
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
}

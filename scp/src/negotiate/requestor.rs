//! The requestor's side: the proposal, and what the acceptor made of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, PresentationContextProposed, PresentationContextResultReason, RequestorRoles, UserVariableItem,
};
use filmroom_index::model::Uid;
use filmroom_index::query::Extensions;

use super::syntaxes::{Purpose, purpose};
use super::{
    APPLICATION_CONTEXT, AcceptedContext, Agreement, PeerIdentity, Proposal, ProposedContext, our_user_information, read_user_information,
};

/// The A-ASSOCIATE-RQ of a proposal. Contexts beyond the 128 that have an id are left out.
pub fn propose(proposal: &Proposal) -> AssociationRQ {
    let mut user_variables = our_user_information(proposal.max_pdu);
    let also_scp: BTreeSet<&Uid> = proposal
        .contexts
        .iter()
        .filter(|context| context.also_scp)
        .map(|context| &context.abstract_syntax)
        .collect();
    user_variables.extend(also_scp.into_iter().map(|uid| {
        // We report commitments and never ask for one (PS3.4 J.3.3).
        let scu = purpose(uid) != Purpose::Commit;
        UserVariableItem::ScuScpRoleSelectionSubItem(uid.to_string(), RequestorRoles { scu, scp: true })
    }));
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: proposal.calling.to_string(),
        called_ae_title: proposal.called.to_string(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: with_ids(proposal)
            .map(|(id, context)| PresentationContextProposed {
                id,
                abstract_syntax: context.abstract_syntax.to_string(),
                transfer_syntaxes: context.transfer_syntaxes.iter().map(Uid::to_string).collect(),
            })
            .collect(),
        user_variables,
    }
}

fn with_ids(proposal: &Proposal) -> impl Iterator<Item = (u8, &ProposedContext)> {
    (1..=u8::MAX).step_by(2).zip(&proposal.contexts)
}

/// What the acceptor made of a proposal. A context that is accepted with a transfer syntax which was not proposed in it counts as refused.
pub fn agree(proposal: &Proposal, reply: &AssociationAC, address: Option<IpAddr>) -> Agreement {
    let (max_pdu, implementation_class, implementation_version) = read_user_information(&reply.user_variables);
    let roles = |uid: &Uid| {
        reply.user_variables.iter().find_map(|item| match item {
            UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) if class.trim_matches(['\0', ' ']) == uid.as_str() => Some(*roles),
            _ => None,
        })
    };
    let accepted = |id: u8, context: &ProposedContext| {
        let result = reply.presentation_contexts.iter().find(|result| result.id == id)?;
        if result.reason != PresentationContextResultReason::Acceptance {
            return None;
        }
        let transfer_syntax = Uid::parse(&result.transfer_syntax).ok()?;
        let roles = roles(&context.abstract_syntax).filter(|_| context.also_scp);
        context.transfer_syntaxes.contains(&transfer_syntax).then(|| AcceptedContext {
            id,
            abstract_syntax: context.abstract_syntax.clone(),
            transfer_syntax,
            requestor_scu: roles.is_none_or(|roles| roles.scu),
            requestor_scp: roles.is_some_and(|roles| roles.scp),
            extensions: Extensions::default(),
        })
    };
    Agreement {
        peer: PeerIdentity {
            calling: proposal.calling.clone(),
            called: proposal.called.clone(),
            address,
            user: None,
            implementation_class,
            implementation_version,
        },
        contexts: with_ids(proposal).filter_map(|(id, context)| accepted(id, context)).collect(),
        max_pdu,
        challenge: None,
        not_allowed: Vec::new(),
    }
}

//! The acceptor's side: which associations and which of their presentation contexts are accepted, in which roles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, PresentationContextProposed, PresentationContextResult, PresentationContextResultReason as Answer,
    RequestorRoles, UserVariableItem,
};
use filmroom_index::model::{AeTitle, Uid, transfer_syntax};
use filmroom_index::query::Extensions;

use super::extended;
use super::syntaxes::{Purpose, choose, purpose};
use super::{
    APPLICATION_CONTEXT, AcceptedContext, Acceptor, Agreement, PeerIdentity, Rejection, our_user_information, printable,
    read_user_information,
};
use crate::access::identity::identify;
use crate::settings::{Peer, Service, Settings, UnknownAe};
use crate::tls::Certificate;

/// The title under which an AE that gives none is known here, where the policy lets unknown AEs in. It never has the rights of a listed AE.
pub const BLANK_CALLING_AE: &str = "(BLANK)";

/// Answers a proposal: the agreement and the A-ASSOCIATE-AC that says it, or a rejection. What is left is the agreement's challenge: a passcode is
/// not checked here.
pub fn accept(acceptor: &Acceptor, request: &AssociationRQ, address: Option<IpAddr>) -> Result<(Agreement, AssociationAC), Rejection> {
    let settings = &acceptor.settings;
    // Only bit 0 is tested (PS3.8 9.3.2).
    if request.protocol_version & 1 == 0 {
        return Err(Rejection::ProtocolVersion);
    }
    if request.application_context_name.trim_matches(['\0', ' ']) != APPLICATION_CONTEXT {
        return Err(Rejection::ApplicationContext);
    }
    let called = called_ae(settings, &request.called_ae_title)?;
    let calling = calling_ae(settings, &request.calling_ae_title, address)?;
    check_certificate(settings.peer(&calling), acceptor.certificate.as_ref())?;
    if acceptor.full {
        return Err(Rejection::Full);
    }
    let identified = identify(settings, settings.peer(&calling), &request.user_variables)?;

    let (max_pdu, implementation_class, implementation_version) = read_user_information(&request.user_variables);
    let proposed_roles: BTreeMap<String, RequestorRoles> = request
        .user_variables
        .iter()
        .filter_map(|item| match item {
            UserVariableItem::ScuScpRoleSelectionSubItem(uid, roles) => Some((uid.trim_matches(['\0', ' ']).to_owned(), *roles)),
            _ => None,
        })
        .collect();

    let mut contexts: Vec<AcceptedContext> = Vec::new();
    let mut not_allowed = Vec::new();
    let mut results = Vec::new();
    let mut answered = BTreeSet::new();
    for proposed in &request.presentation_contexts {
        if !answered.insert(proposed.id) {
            continue;
        }
        let (reason, syntax) = match answer(settings, &calling, proposed, &proposed_roles) {
            Ok(context) => {
                let syntax = context.transfer_syntax.to_string();
                contexts.push(context);
                (Answer::Acceptance, syntax)
            }
            // Not significant, but it has to be there (PS3.8 9.3.3.2).
            Err(reason) => {
                if reason == Answer::UserRejection {
                    not_allowed.extend(Uid::parse(&proposed.abstract_syntax).ok());
                }
                (reason, transfer_syntax::IMPLICIT_LITTLE.to_owned())
            }
        };
        results.push(PresentationContextResult {
            id: proposed.id,
            reason,
            transfer_syntax: syntax,
        });
    }

    let mut user_variables = our_user_information(settings.max_pdu);
    user_variables.extend(role_answers(&contexts, &proposed_roles));
    user_variables.extend(extended::settle(&mut contexts, &request.user_variables));
    user_variables.extend(identified.answer);
    let reply = AssociationAC {
        protocol_version: 1,
        calling_ae_title: printable(&request.calling_ae_title, 16),
        called_ae_title: printable(&request.called_ae_title, 16),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables,
    };
    let peer = PeerIdentity {
        calling,
        called,
        address,
        user: identified.user,
        implementation_class,
        implementation_version,
    };
    let agreement = Agreement {
        peer,
        contexts,
        max_pdu,
        challenge: identified.challenge,
        not_allowed,
    };
    Ok((agreement, reply))
}

/// Ours, or one of our aliases, case and all; any other only where the check is off.
fn called_ae(settings: &Settings, text: &str) -> Result<AeTitle, Rejection> {
    let called = AeTitle::parse(&printable(text, 16)).ok();
    let known = |title: &AeTitle| *title == settings.ae_title || settings.aliases.contains(title);
    match called {
        Some(title) if known(&title) || !settings.check_called_ae => Ok(title),
        None if !settings.check_called_ae => Ok(settings.ae_title.clone()),
        _ => Err(Rejection::CalledAe),
    }
}

/// As the policy has it; a listed AE only from where it may call.
fn calling_ae(settings: &Settings, text: &str, address: Option<IpAddr>) -> Result<AeTitle, Rejection> {
    let printable = printable(text, 16);
    let title = if printable.is_empty() { BLANK_CALLING_AE } else { &printable };
    let title = AeTitle::parse(title).map_err(|_| Rejection::CallingAe)?;
    // A title that had to be made up or mended must not pass for a listed one.
    let as_it_came = AeTitle::parse(text).is_ok_and(|came| came == title);
    match (settings.peer(&title), settings.unknown_ae) {
        (Some(peer), _) if as_it_came => match peer.may_call_from(address) {
            true => Ok(title),
            false => Err(Rejection::CallingAddress),
        },
        (Some(_), _) | (None, UnknownAe::Reject) => Err(Rejection::CallingAe),
        (None, UnknownAe::Store | UnknownAe::Allow) => Ok(title),
    }
}

/// An AE title is a name that anybody can give: where the AE is bound to certificates, one of them has to be shown, on the TLS port.
fn check_certificate(peer: Option<&Peer>, shown: Option<&Certificate>) -> Result<(), Rejection> {
    let Some(peer) = peer.filter(|peer| !peer.certificates.is_empty()) else {
        return Ok(());
    };
    match shown {
        None => Err(Rejection::NoCertificate),
        Some(shown) if peer.certificates.iter().any(|binding| binding.matches(shown)) => Ok(()),
        Some(_) => Err(Rejection::OtherCertificate),
    }
}

/// One context: accepted, or why not (PS3.8 table 9-18). What this node does not do for anybody is "abstract syntax not supported" (3, the
/// provider's words); what it does, but not for this AE or not in the proposed role, is "user rejection" (1).
fn answer(
    settings: &Settings,
    calling: &AeTitle,
    proposed: &PresentationContextProposed,
    roles: &BTreeMap<String, RequestorRoles>,
) -> Result<AcceptedContext, Answer> {
    // An even id is none (PS3.8 9.3.2.2); its context is answered all the same, as every one has to be.
    if proposed.id.is_multiple_of(2) {
        return Err(Answer::NoReason);
    }
    let abstract_syntax = Uid::parse(&proposed.abstract_syntax).map_err(|_| Answer::AbstractSyntaxNotSupported)?;
    let purpose = purpose(&abstract_syntax);
    let roles = roles.get(abstract_syntax.as_str());
    // Without a role selection the requestor is SCU, not SCP (PS3.7 D.3.3.4).
    let wants_scu = roles.is_none_or(|roles| roles.scu);
    let wants_scp = roles.is_some_and(|roles| roles.scp);
    let allows = |service| settings.allows(calling, service);
    let (requestor_scu, requestor_scp) = match purpose {
        Purpose::Other => return Err(Answer::AbstractSyntaxNotSupported),
        Purpose::UnknownStorage if !settings.accept_unknown_sop_classes => return Err(Answer::AbstractSyntaxNotSupported),
        Purpose::Storage | Purpose::UnknownStorage => (wants_scu && allows(Service::Store), wants_scp && allows(Service::Get)),
        Purpose::Verification => (wants_scu && allows(Service::Echo), false),
        Purpose::Find => (wants_scu && allows(Service::Find), false),
        Purpose::Move => (wants_scu && allows(Service::Move), false),
        Purpose::Get => (wants_scu && allows(Service::Get), false),
        Purpose::Commit => (wants_scu && allows(Service::Commit), false),
    };
    if !requestor_scu && !requestor_scp {
        return Err(Answer::UserRejection);
    }
    let syntaxes: Vec<Uid> = proposed.transfer_syntaxes.iter().filter_map(|text| Uid::parse(text).ok()).collect();
    let transfer_syntax = choose(&abstract_syntax, purpose, &syntaxes)
        .ok_or(Answer::TransferSyntaxesNotSupported)?
        .clone();
    Ok(AcceptedContext {
        id: proposed.id,
        abstract_syntax,
        transfer_syntax,
        requestor_scu,
        requestor_scp,
        extensions: Extensions::default(),
    })
}

/// Role selection is answered where it was proposed and a context of the class was accepted, never with more than was proposed.
fn role_answers(contexts: &[AcceptedContext], proposed: &BTreeMap<String, RequestorRoles>) -> Vec<UserVariableItem> {
    let answered: BTreeMap<&str, RequestorRoles> = contexts
        .iter()
        .filter(|context| proposed.contains_key(context.abstract_syntax.as_str()))
        .map(|context| {
            let roles = RequestorRoles {
                scu: context.requestor_scu,
                scp: context.requestor_scp,
            };
            (context.abstract_syntax.as_str(), roles)
        })
        .collect();
    answered
        .into_iter()
        .map(|(uid, roles)| UserVariableItem::ScuScpRoleSelectionSubItem(uid.to_owned(), roles))
        .collect()
}

#[cfg(test)]
mod tests;

//! SOP Class Extended Negotiation of queries and retrieves (PS3.7 D.3.3.5, PS3.4 C.5.1.1 and C.5.2.1): pure.
//!
//! The application information is one byte an option. What is served is granted, the rest is turned down, byte by byte; as many
//! bytes are answered as were proposed, for old requestors expect no more. Without a proposal the baseline holds, but for relational
//! queries and retrieves, which are served to everybody.

use std::collections::BTreeMap;

use dicom_ul::pdu::UserVariableItem;
use filmroom_index::query::Extensions;

use super::AcceptedContext;
use super::syntaxes::{Purpose, purpose};

/// Options that C-FIND classes have: relational queries, combined date and time matching, fuzzy semantic matching of person names,
/// timezone query adjustment, enhanced multi-frame image conversion, empty value matching, multiple value matching.
const QUERY: [bool; 7] = [true, true, true, false, false, false, false];

/// Options that C-MOVE and C-GET classes have: relational retrieval, enhanced multi-frame image conversion.
const RETRIEVE: [bool; 2] = [true, false];

/// Answers what was proposed for the accepted classes, and marks their contexts with what holds there.
pub(super) fn settle(contexts: &mut [AcceptedContext], proposed: &[UserVariableItem]) -> Vec<UserVariableItem> {
    let mut answered = BTreeMap::new();
    for item in proposed {
        let UserVariableItem::SopClassExtendedNegotiationSubItem(uid, proposal) = item else {
            continue;
        };
        let uid = uid.trim_matches(['\0', ' ']);
        for context in contexts.iter_mut().filter(|context| context.abstract_syntax.as_str() == uid) {
            let served: &[bool] = match purpose(&context.abstract_syntax) {
                Purpose::Find => &QUERY,
                Purpose::Move | Purpose::Get => &RETRIEVE,
                _ => continue,
            };
            // Two proposals for one class: the first counts.
            let granted = answered.entry(uid.to_owned()).or_insert_with(|| grant(served, proposal));
            let has = |option: usize| granted.get(option) == Some(&1);
            context.extensions = Extensions {
                date_time: has(1),
                fuzzy_names: has(2),
            };
        }
    }
    answered.retain(|_, granted: &mut Vec<u8>| !granted.is_empty());
    answered
        .into_iter()
        .map(|(uid, granted)| UserVariableItem::SopClassExtendedNegotiationSubItem(uid, granted))
        .collect()
}

fn grant(served: &[bool], proposal: &[u8]) -> Vec<u8> {
    let both = proposal.iter().zip(served);
    both.map(|(asked, served)| u8::from(*asked == 1 && *served)).collect()
}

//! Which presentation contexts are proposed for a set of instances, and on how many associations: pure.

use std::collections::BTreeSet;

use filmroom_index::model::Uid;

use crate::negotiate::ProposedContext;

/// Presentation-context-IDs are the odd numbers below 256 (PS3.8 9.3.2.2).
const MAX_CONTEXTS: usize = 128;

/// One proposal an association. Each stored syntax of a class has a context of its own: with several in one context the destination would
/// choose, and what it did not choose could not be sent. They are in the order in which the instances come, so that one association is done
/// with before the next is needed.
pub(super) fn plan<'a>(instances: impl IntoIterator<Item = (&'a Uid, &'a Uid)>) -> Vec<Vec<ProposedContext>> {
    let mut known = BTreeSet::new();
    let contexts: Vec<ProposedContext> = instances
        .into_iter()
        .filter(|kind| known.insert(*kind))
        .map(|(sop_class, transfer_syntax)| context(sop_class, transfer_syntax))
        .collect();
    contexts.chunks(MAX_CONTEXTS).map(<[ProposedContext]>::to_vec).collect()
}

/// The context for instances of a class that are stored in a syntax.
pub(super) fn context(sop_class: &Uid, transfer_syntax: &Uid) -> ProposedContext {
    ProposedContext {
        abstract_syntax: sop_class.clone(),
        transfer_syntaxes: vec![transfer_syntax.clone()],
        also_scp: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn uid(kind: &str, number: u8) -> Uid {
        Uid::parse(&format!("1.2.{kind}.{number}")).unwrap()
    }

    proptest! {
        #[test]
        fn every_instance_has_one_context_of_its_own_syntax_in_as_few_associations_as_possible(
            pairs in prop::collection::vec((any::<u8>(), 0u8..4), 0..600)
        ) {
            let instances: Vec<(Uid, Uid)> = pairs.iter().map(|(class, syntax)| (uid("1", *class), uid("2", *syntax))).collect();
            let plan = plan(instances.iter().map(|(class, syntax)| (class, syntax)));
            let distinct: BTreeSet<_> = instances.iter().collect();
            let contexts: Vec<_> = plan.iter().flatten().collect();
            assert_eq!(contexts.len(), distinct.len());
            for (class, syntax) in distinct {
                assert!(contexts.iter().any(|c| c.abstract_syntax == *class && c.transfer_syntaxes == [syntax.clone()]));
            }
            assert_eq!(plan.len(), contexts.len().div_ceil(MAX_CONTEXTS));
            assert!(plan.iter().all(|contexts| contexts.len() <= MAX_CONTEXTS));
        }
    }
}

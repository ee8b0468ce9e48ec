//! Which presentation contexts are proposed for a set of instances, and on how many associations: pure.

use std::collections::BTreeSet;

use filmroom_index::model::{Uid, transfer_syntax};
use filmroom_transcode::syntax::can_transcode;

use crate::negotiate::ProposedContext;

/// Presentation-context-IDs are the odd numbers below 256 (PS3.8 9.3.2.2).
const MAX_CONTEXTS: usize = 128;

/// One proposal an association. Each stored syntax of a class has a context of its own: with several in one context the destination would choose, and
/// what it did not choose could not be sent. So have the syntaxes that what is stored can be turned into: Explicit and Implicit VR Little Endian, and native
/// ones that the destination prefers. All contexts of a class are on one association, classes in the order in which the instances come, so that one
/// association is done with before the next is needed.
pub(super) fn plan<'a>(instances: impl IntoIterator<Item = (&'a Uid, &'a Uid)>, preferred: &[Uid]) -> Vec<Vec<ProposedContext>> {
    let mut known = BTreeSet::new();
    let mut classes: Vec<(&Uid, Vec<&Uid>)> = Vec::new();
    for (sop_class, syntax) in instances {
        if known.insert((sop_class, syntax)) {
            match classes.iter_mut().find(|(class, _)| *class == sop_class) {
                Some((_, stored)) => stored.push(syntax),
                None => classes.push((sop_class, vec![syntax])),
            }
        }
    }
    let mut proposals: Vec<Vec<ProposedContext>> = Vec::new();
    for (sop_class, stored) in classes {
        let contexts = contexts(sop_class, &stored, preferred);
        match proposals.last_mut() {
            Some(last) if last.len() + contexts.len() <= MAX_CONTEXTS => last.extend(contexts),
            _ => proposals.push(contexts),
        }
    }
    proposals
}

/// The contexts of a class. There are fewer transfer syntaxes that are stored than contexts in an association.
pub(super) fn contexts(sop_class: &Uid, stored: &[&Uid], preferred: &[Uid]) -> Vec<ProposedContext> {
    let standard = [transfer_syntax::EXPLICIT_LITTLE, transfer_syntax::IMPLICIT_LITTLE];
    let standard: Vec<Uid> = standard.iter().filter_map(|uid| Uid::parse(uid).ok()).collect();
    let possible = |to: &&Uid| stored.iter().any(|from| can_transcode(from, to));
    let mut syntaxes: Vec<&Uid> = stored.to_vec();
    for syntax in preferred.iter().chain(&standard).filter(possible) {
        if !syntaxes.contains(&syntax) {
            syntaxes.push(syntax);
        }
    }
    syntaxes
        .into_iter()
        .take(MAX_CONTEXTS)
        .map(|syntax| ProposedContext {
            abstract_syntax: sop_class.clone(),
            transfer_syntaxes: vec![syntax.clone()],
            also_scp: false,
        })
        .collect()
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
        fn every_instance_has_one_context_of_its_own_syntax_and_all_of_its_class_are_on_one_association(
            pairs in prop::collection::vec((any::<u8>(), 0u8..4), 0..600)
        ) {
            let instances: Vec<(Uid, Uid)> = pairs.iter().map(|(class, syntax)| (uid("1", *class), uid("2", *syntax))).collect();
            let plan = plan(instances.iter().map(|(class, syntax)| (class, syntax)), &[]);
            let distinct: BTreeSet<_> = instances.iter().collect();
            let contexts: Vec<_> = plan.iter().flatten().collect();
            assert_eq!(contexts.len(), distinct.len());
            for (class, syntax) in distinct {
                assert!(contexts.iter().any(|c| c.abstract_syntax == *class && c.transfer_syntaxes == [syntax.clone()]));
                assert_eq!(plan.iter().filter(|contexts| contexts.iter().any(|c| c.abstract_syntax == *class)).count(), 1);
            }
            assert!(plan.iter().all(|contexts| contexts.len() <= MAX_CONTEXTS));
            // No class has more than four contexts here, so an association is filled up to the last three.
            assert!(plan.iter().rev().skip(1).all(|contexts| contexts.len() > MAX_CONTEXTS - 4));
        }
    }

    #[test]
    fn what_can_be_transcoded_is_proposed_in_both_standard_syntaxes_too() {
        let class = uid("1", 1);
        let syntax = |end: &str| Uid::parse(&format!("1.2.840.10008.1.2{end}")).unwrap();
        let proposed = |stored: &[&str], preferred: &[&str]| -> Vec<String> {
            let stored: Vec<Uid> = stored.iter().map(|end| syntax(end)).collect();
            let preferred: Vec<Uid> = preferred.iter().map(|end| syntax(end)).collect();
            let contexts = contexts(&class, &stored.iter().collect::<Vec<_>>(), &preferred);
            contexts
                .iter()
                .flat_map(|c| &c.transfer_syntaxes)
                .map(|uid| uid.as_str().replacen("1.2.840.10008.1.2", "", 1))
                .collect()
        };
        assert_eq!(proposed(&[".4.90", ".4.50"], &[]), [".4.90", ".4.50", ".1", ""]);
        assert_eq!(proposed(&[".1"], &[]), [".1", ""]);
        assert_eq!(proposed(&[""], &[]), ["", ".1"]);
        // Video is left alone; nothing is compressed for anybody.
        assert_eq!(proposed(&[".4.102"], &[".4.50"]), [".4.102"]);
        assert_eq!(proposed(&[".4.90"], &[".4.50", ".2", ".1"]), [".4.90", ".2", ".1", ""]);
    }
}

//! Arbitrary bytes as the identifier of a query or a retrieve: a query, or a refusal whose comment fits (PS3.7 C); never a retrieve of everything.
//!
//! The first byte chooses the transfer syntax and the root, the rest is the identifier.
#![no_main]

use filmroom_index::header;
use filmroom_index::model::{Uid, transfer_syntax};
use filmroom_index::query::reference::Entity;
use filmroom_index::query::{Query, QueryError, Root};
use libfuzzer_sys::fuzz_target;

const SYNTAXES: [&str; 3] = [
    transfer_syntax::IMPLICIT_LITTLE,
    transfer_syntax::EXPLICIT_LITTLE,
    transfer_syntax::EXPLICIT_BIG,
];

fuzz_target!(|input: &[u8]| {
    let [choice, identifier @ ..] = input else { return };
    let syntax = Uid::parse(SYNTAXES[usize::from(*choice) % SYNTAXES.len()]).unwrap();
    let root = if *choice & 0x80 == 0 { Root::Patient } else { Root::Study };
    let Ok(header) = header::scan(identifier, &syntax) else { return };
    let identifier = header.attributes;
    match Query::find(root, &identifier) {
        Ok(query) => {
            for pair in query.returns.windows(2) {
                assert!(pair[0].tag <= pair[1].tag, "return keys in the order of tags");
            }
            // What asks is what is there: every matcher meets values of every form.
            let entity = Entity {
                attributes: identifier.clone(),
                below: Vec::new(),
            };
            query.matches(&[&entity]);
            query.matches(&[&entity, &entity, &entity]);
        }
        Err(error) => fits(&error),
    }
    match Query::retrieve(root, &identifier) {
        Ok(query) => assert!(!query.keys.is_empty(), "a retrieve without a condition"),
        Err(error) => fits(&error),
    }
});

fn fits(error: &QueryError) {
    assert!(error.comment.chars().count() <= 64, "{error}");
}

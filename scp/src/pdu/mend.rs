//! What the standard lets pass in an A-ASSOCIATE PDU and the codec does not, mended before it is decoded.
//!
//! - Items of unknown types are ignored (PS3.8 9.3.1).
//! - A refused context's transfer syntax is not significant (9.3.3.2): some acceptors leave it empty, some leave it out. A result that there is
//!   not, or an acceptance of nothing, is a refusal.
//! - A proposal without application context, or a context without abstract syntax, is answered with its reason, not with an A-ABORT.

use bytes::Bytes;
use filmroom_index::model::transfer_syntax;

/// PDU header, protocol version, both titles and what is reserved (PS3.8 9.3.2).
const FIXED: usize = 6 + 68;
const ASSOCIATE_RQ: u8 = 0x01;
const APPLICATION_CONTEXT: u8 = 0x10;
const PROPOSED: u8 = 0x20;
const RESULT: u8 = 0x21;
const ABSTRACT_SYNTAX: u8 = 0x30;
const TRANSFER_SYNTAX: u8 = 0x40;
const USER_INFORMATION: u8 = 0x50;
/// Result/Reason of a context: no reason, of the provider
const NO_REASON: u8 = 2;

/// The PDU as the codec takes it; as it came where its lengths contradict each other, for the codec to refuse.
pub(super) fn mended(pdu: &Bytes) -> Bytes {
    mend(pdu).map_or_else(|| pdu.clone(), Bytes::from)
}

fn mend(pdu: &[u8]) -> Option<Vec<u8>> {
    let (fixed, items) = pdu.split_at_checked(FIXED)?;
    let kind = *fixed.first()?;
    let mut mended = fixed.to_vec();
    let mut has_application_context = false;
    for item in Items(items) {
        let (number, content) = item?;
        match number {
            APPLICATION_CONTEXT => {
                has_application_context = true;
                push(&mut mended, number, content)?;
            }
            USER_INFORMATION => push(&mut mended, number, content)?,
            PROPOSED if kind == ASSOCIATE_RQ => push(&mut mended, number, &proposed(content)?)?,
            RESULT if kind != ASSOCIATE_RQ => push(&mut mended, number, &result(content)?)?,
            _ => {}
        }
    }
    if !has_application_context {
        push(&mut mended, APPLICATION_CONTEXT, &[])?;
    }
    let length = u32::try_from(mended.len().checked_sub(6)?).ok()?;
    mended.get_mut(2..6)?.copy_from_slice(&length.to_be_bytes());
    Some(mended)
}

/// A proposed context: its abstract syntax, an empty one if there is none, and its transfer syntaxes.
fn proposed(content: &[u8]) -> Option<Vec<u8>> {
    let (head, items) = content.split_at_checked(4)?;
    let mut abstract_syntax: &[u8] = &[];
    let mut syntaxes = Vec::new();
    for item in Items(items) {
        match item? {
            (ABSTRACT_SYNTAX, name) => abstract_syntax = name,
            (TRANSFER_SYNTAX, name) => push(&mut syntaxes, TRANSFER_SYNTAX, name)?,
            _ => {}
        }
    }
    let mut mended = head.to_vec();
    push(&mut mended, ABSTRACT_SYNTAX, abstract_syntax)?;
    mended.append(&mut syntaxes);
    Some(mended)
}

/// A context's result with exactly one transfer syntax.
fn result(content: &[u8]) -> Option<Vec<u8>> {
    let (&[id, reserved, result, end], items) = content.split_first_chunk::<4>()?;
    let mut syntax = None;
    for item in Items(items) {
        match item? {
            (TRANSFER_SYNTAX, name) if syntax.is_none() && !name.is_empty() => syntax = Some(name),
            _ => {}
        }
    }
    let (result, syntax) = match (result, syntax) {
        (0, Some(syntax)) => (0, syntax),
        (1..=4, _) => (result, transfer_syntax::IMPLICIT_LITTLE.as_bytes()),
        _ => (NO_REASON, transfer_syntax::IMPLICIT_LITTLE.as_bytes()),
    };
    let mut mended = vec![id, reserved, result, end];
    push(&mut mended, TRANSFER_SYNTAX, syntax)?;
    Some(mended)
}

/// Appends an item; none where its content is longer than an item can say.
fn push(pdu: &mut Vec<u8>, number: u8, content: &[u8]) -> Option<()> {
    let length = u16::try_from(content.len()).ok()?;
    pdu.extend_from_slice(&[number, 0]);
    pdu.extend_from_slice(&length.to_be_bytes());
    pdu.extend_from_slice(content);
    Some(())
}

/// Items one after the other; none, and the end, where one is longer than what is left.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.0.split_first_chunk::<4>().and_then(|(&[number, _, l0, l1], rest)| {
            let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
            Some((number, content, rest))
        });
        match item {
            Some((number, content, rest)) => {
                self.0 = rest;
                Some(Some((number, content)))
            }
            None => {
                self.0 = &[];
                Some(None)
            }
        }
    }
}

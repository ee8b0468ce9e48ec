//! The push scanner.

use dicom_core::Tag;

use super::element::Syntax;
use super::inflate::Inflater;
use super::keep::{HandedOver, Limits};
use super::walk::Walker;
use super::{Header, ScanError};
use crate::dataset::DataSet;
use crate::model::{Encoding, Uid, transfer_syntax};

/// Reads a data set in chunks of any size, keeps its header, and walks over the rest to see that it is whole.
pub struct Scanner {
    inflater: Option<Inflater>,
    walker: Walker,
    /// What was found wrong: said again to whoever goes on.
    failure: Option<ScanError>,
}

impl Scanner {
    /// A scanner for a data set in this transfer syntax.
    pub fn new(transfer_syntax: &Uid) -> Scanner {
        Scanner::within(transfer_syntax, Limits::HEADER)
    }

    /// A scanner that keeps every value, up to [`MAX_MESSAGE`](super::MAX_MESSAGE) bytes of them: for the data set of a message.
    pub fn of_message(transfer_syntax: &Uid) -> Scanner {
        Scanner::within(transfer_syntax, Limits::MESSAGE)
    }

    /// A scanner that keeps up to [`MAX_NOTE`](crate::rejection::MAX_NOTE) bytes: for a document whose references are its content.
    pub fn of_note(transfer_syntax: &Uid) -> Scanner {
        Scanner::within(transfer_syntax, Limits::DOCUMENT)
    }

    fn within(transfer_syntax: &Uid, limits: Limits) -> Scanner {
        let encoding = transfer_syntax::encoding(transfer_syntax);
        let syntax = match encoding {
            Encoding::ImplicitLittle => Syntax::ImplicitLittle,
            Encoding::ExplicitBig => Syntax::ExplicitBig,
            Encoding::ExplicitLittle | Encoding::DeflatedExplicitLittle => Syntax::ExplicitLittle,
        };
        let native = encoding != Encoding::ExplicitLittle || transfer_syntax.as_str() == transfer_syntax::EXPLICIT_LITTLE;
        Scanner {
            inflater: (encoding == Encoding::DeflatedExplicitLittle).then(Inflater::new),
            walker: Walker::new(syntax, native, limits),
            failure: None,
        }
    }

    /// The same, with a sequence of the top level whose items are not kept but handed over ([`Scanner::take_items`]): of those there may be
    /// any number, each within the bounds of a header.
    pub fn handing_over(transfer_syntax: &Uid, sequence: Tag) -> Scanner {
        let mut scanner = Scanner::new(transfer_syntax);
        scanner.walker.handed_over = Some(HandedOver {
            tag: sequence,
            used: 0,
            items: Vec::new(),
        });
        scanner
    }

    /// The items of the sequence to be handed over that were whole since this was last asked: to be asked after every push.
    pub fn take_items(&mut self) -> Vec<DataSet> {
        let handed_over = self.walker.handed_over.as_mut();
        handed_over.map(|over| std::mem::take(&mut over.items)).unwrap_or_default()
    }

    /// Takes the next bytes of the data set as they were received (deflated where the syntax is). After an error every further
    /// call gives the same one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let walker = &mut self.walker;
        let result = match &mut self.inflater {
            None => walker.push(bytes),
            Some(inflater) => inflater.push(bytes, |inflated| walker.push(inflated)),
        };
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
        }
        result
    }

    /// Whether Pixel Data has begun: nothing of the header is behind it.
    pub fn is_past_header(&self) -> bool {
        self.walker.past_pixels
    }

    /// Bytes that the value under way still has, as its length says, where the data set is not deflated: it is cut short if so many do not come.
    pub fn owed(&self) -> u64 {
        if self.inflater.is_some() { 0 } else { self.walker.owed() }
    }

    /// The header as far as it was pushed; whole if [`Scanner::is_past_header`].
    pub fn so_far(self) -> Header {
        self.walker.so_far()
    }

    /// The header, once the last byte was pushed.
    pub fn finish(self) -> Result<Header, ScanError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.inflater.is_some_and(|inflater| !inflater.ended()) {
            return Err(ScanError::CutShort { at: self.walker.position });
        }
        self.walker.finish()
    }
}

//! Command sets (PS3.7 6.3): group 0000 in Implicit VR Little Endian.

use anyhow::{Context, Result};

use super::length32;

/// A command set: elements of group 0000 and their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Command(Vec<(u16, Vec<u8>)>);

impl Command {
    /// A request with a message id; `data_set` says whether one follows.
    pub(crate) fn request(field: u16, sop_class: &str, id: u16, data_set: bool) -> Command {
        let kind: u16 = if data_set { 0x0001 } else { 0x0101 };
        Command(vec![
            (0x0002, uid(sop_class)),
            (0x0100, field.to_le_bytes().to_vec()),
            (0x0110, id.to_le_bytes().to_vec()),
            (0x0700, vec![0, 0]),
            (0x0800, kind.to_le_bytes().to_vec()),
        ])
    }

    /// The same with one more element; they are kept in ascending order by who calls.
    pub(crate) fn with(mut self, element: u16, value: Vec<u8>) -> Command {
        self.0.push((element, value));
        self.0.sort_by_key(|(element, _)| *element);
        self
    }

    /// Success in answer to a C-STORE.
    pub(super) fn stored(&self) -> Command {
        let value = |element| self.value(element).unwrap_or_default().to_vec();
        Command(vec![
            (0x0002, value(0x0002)),
            (0x0100, 0x8001u16.to_le_bytes().to_vec()),
            (0x0120, value(0x0110)),
            (0x0800, 0x0101u16.to_le_bytes().to_vec()),
            (0x0900, vec![0, 0]),
            (0x1000, value(0x1000)),
        ])
    }

    fn value(&self, element: u16) -> Option<&[u8]> {
        self.0.iter().find(|(tag, _)| *tag == element).map(|(_, value)| value.as_slice())
    }

    /// A value of US.
    pub(crate) fn number(&self, element: u16) -> Option<u16> {
        self.value(element)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        for (element, value) in &self.0 {
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&element.to_le_bytes());
            body.extend_from_slice(&length32(value.len()).to_le_bytes());
            body.extend_from_slice(value);
        }
        let mut command = vec![0, 0, 0, 0, 4, 0, 0, 0];
        command.extend_from_slice(&length32(body.len()).to_le_bytes());
        command.append(&mut body);
        command
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Command> {
        let mut elements = Vec::new();
        let mut rest = bytes;
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let value = after.get(..length).context("a command set that is cut short")?;
            elements.push((u16::from_le_bytes([head[2], head[3]]), value.to_vec()));
            rest = &after[length..];
        }
        Ok(Command(elements))
    }
}

/// A UID as a value: of even length.
pub(crate) fn uid(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    value
}

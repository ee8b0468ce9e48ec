//! The bytes around the files: ZIP records as PKWARE's APPNOTE 6.3 has them, stored, without data descriptors, ZIP64 only where a number does not fit.
//!
//! No data descriptors, because readers that see a ZIP as a stream (Java's `ZipInputStream`) refuse them on stored entries. Times are fixed, for the bytes
//! must be the same whenever they are written.

use filmroom_index::catalogue::Member;
use filmroom_index::model::ServingState;

/// One stretch of a pack's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes of the ZIP structure
    Structure(Vec<u8>),
    /// The file of the member with this index
    File(usize),
}

/// The largest end of a pack that does not need ZIP64: its record and the longest comment.
pub(super) const END_LENGTH: u64 = 22 + 64;

/// A number that stands for "see the ZIP64 field".
const SEE_ZIP64: u32 = u32::MAX;
/// "Made by" Unix, so that the permissions below are read as such, and APPNOTE 4.5, which has ZIP64.
const MADE_BY: u16 = 3 << 8 | 45;
/// Header ID of the ZIP64 extra field.
const ZIP64_FIELD: u16 = 0x0001;
/// 1980-01-01, the first day that a DOS date can say.
const DOS_DATE: u16 = 1 << 5 | 1;
/// A regular file that its owner may write and all may read.
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// The central directory is cut into stretches of about this many bytes.
const STRETCH: usize = 64 * 1024;

/// The pack's bytes in order: local headers and files, then the central directory. Members are in the order of their offsets; `state` is the one that
/// the pack was planned with ([`super::planned_state`]).
pub fn segments(state: ServingState, members: &[Member]) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(2 * members.len() + 2);
    let mut position = 0u64;
    let mut headers = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        let header = local_header(member);
        headers.push(position);
        position = position.saturating_add(header.len() as u64).saturating_add(member.length);
        segments.push(Segment::Structure(header));
        segments.push(Segment::File(index));
    }
    let directory = position;
    let mut stretch = Vec::new();
    for (member, header) in members.iter().zip(headers) {
        let record = central_header(member, header);
        position = position.saturating_add(record.len() as u64);
        stretch.extend(record);
        if stretch.len() >= STRETCH {
            segments.push(Segment::Structure(std::mem::take(&mut stretch)));
        }
    }
    stretch.extend(end(state, members.len() as u64, directory, position));
    segments.push(Segment::Structure(stretch));
    segments
}

/// The first byte of each member's file, and the length of the pack.
pub(super) fn measure(state: ServingState, members: &[&Member]) -> (Vec<u64>, u64) {
    let mut position = 0u64;
    let mut offsets = Vec::with_capacity(members.len());
    let mut headers = Vec::with_capacity(members.len());
    for member in members {
        headers.push(position);
        let offset = position.saturating_add(local_header(member).len() as u64);
        offsets.push(offset);
        position = offset.saturating_add(member.length);
    }
    let directory = position;
    for (member, header) in members.iter().zip(headers) {
        position = position.saturating_add(central_header(member, header).len() as u64);
    }
    let end = end(state, members.len() as u64, directory, position);
    (offsets, position.saturating_add(end.len() as u64))
}

/// What a member adds to the length of a pack that needs no ZIP64.
pub(super) fn entry_length(member: &Member) -> u64 {
    let structure = local_header(member).len() + central_header(member, 0).len();
    member.length.saturating_add(structure as u64)
}

/// Name of a member's entry.
fn name(member: &Member) -> String {
    format!("{}.dcm", member.sop_instance)
}

/// APPNOTE 4.3.7.
fn local_header(member: &Member) -> Vec<u8> {
    let name = name(member);
    let (size, extra) = match small(member.length) {
        Some(size) => (size, Vec::new()),
        // Both sizes must be here, uncompressed first, though they are the same (4.5.3).
        None => (SEE_ZIP64, zip64_field(&[member.length, member.length])),
    };
    let mut header = Record::new(*b"PK\x03\x04");
    header.u16(version_needed(&extra));
    header.entry(member.crc32, size);
    header.u16(name.len() as u16);
    header.u16(extra.len() as u16);
    header.bytes(name.as_bytes());
    header.bytes(&extra);
    header.0
}

/// APPNOTE 4.3.12. `offset` is that of the local header.
fn central_header(member: &Member, offset: u64) -> Vec<u8> {
    let name = name(member);
    let mut large = Vec::new();
    let size = small(member.length).unwrap_or_else(|| {
        large.extend([member.length, member.length]);
        SEE_ZIP64
    });
    let position = small(offset).unwrap_or_else(|| {
        large.push(offset);
        SEE_ZIP64
    });
    let extra = if large.is_empty() { Vec::new() } else { zip64_field(&large) };
    let mut header = Record::new(*b"PK\x01\x02");
    header.u16(MADE_BY);
    header.u16(version_needed(&extra));
    header.entry(member.crc32, size);
    header.u16(name.len() as u16);
    header.u16(extra.len() as u16);
    header.u16(0); // length of the comment
    header.u16(0); // disk
    header.u16(0); // internal attributes
    header.u32(ATTRIBUTES);
    header.u32(position);
    header.bytes(name.as_bytes());
    header.bytes(&extra);
    header.0
}

/// The end of the central directory, which lies from `directory` to `position`: APPNOTE 4.3.16, with 4.3.14 and 4.3.15 before it where a number does not fit.
fn end(state: ServingState, count: u64, directory: u64, position: u64) -> Vec<u8> {
    let size = position.saturating_sub(directory);
    let small_count = u16::try_from(count).ok().filter(|count| *count != u16::MAX);
    let mut end = Record(Vec::new());
    if small_count.is_none() || small(size).is_none() || small(directory).is_none() {
        end.bytes(b"PK\x06\x06");
        end.u64(44); // what follows in this record
        end.u16(MADE_BY);
        end.u16(45);
        end.u32(0); // this disk
        end.u32(0); // the directory's disk
        end.u64(count);
        end.u64(count);
        end.u64(size);
        end.u64(directory);
        end.bytes(b"PK\x06\x07");
        end.u32(0); // disk of the record above
        end.u64(position);
        end.u32(1); // disks
    }
    let comment = format!("filmroom pack, layout {}, {}", super::LAYOUT_VERSION, state.as_str());
    end.bytes(b"PK\x05\x06");
    end.u16(0); // this disk
    end.u16(0); // the directory's disk
    end.u16(small_count.unwrap_or(u16::MAX));
    end.u16(small_count.unwrap_or(u16::MAX));
    end.u32(small(size).unwrap_or(SEE_ZIP64));
    end.u32(small(directory).unwrap_or(SEE_ZIP64));
    end.u16(comment.len() as u16);
    end.bytes(comment.as_bytes());
    end.0
}

/// APPNOTE 4.5.3.
fn zip64_field(numbers: &[u64]) -> Vec<u8> {
    let mut field = Record(Vec::new());
    field.u16(ZIP64_FIELD);
    field.u16(8 * numbers.len() as u16);
    for number in numbers {
        field.u64(*number);
    }
    field.0
}

/// APPNOTE 4.4.3: 1.0 for a stored file, 4.5 where there is a ZIP64 field.
fn version_needed(extra: &[u8]) -> u16 {
    if extra.is_empty() { 10 } else { 45 }
}

/// A number as 32 bits, unless it does not fit or means "see the ZIP64 field".
fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number != SEE_ZIP64)
}

/// Little-endian numbers after one another.
struct Record(Vec<u8>);

impl Record {
    fn new(signature: [u8; 4]) -> Record {
        Record(signature.to_vec())
    }

    fn u16(&mut self, number: u16) {
        self.0.extend(number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// What local and central headers have in common: flags, method, time, date, CRC-32, both sizes.
    fn entry(&mut self, crc32: u32, size: u32) {
        self.u16(0); // no encryption, no data descriptor; names are ASCII
        self.u16(0); // stored
        self.u16(0); // midnight
        self.u16(DOS_DATE);
        self.u32(crc32);
        self.u32(size);
        self.u32(size);
    }
}

//! The directory of a ZIP archive (PKWARE APPNOTE 6.3.10), read member by member.
//!
//! # Mechanics
//! The end record is looked for in the last 64 KiB, and its comment must end with the file: in an archive that was cut short there may be that of an archive
//! within it. Its ZIP64 record is before it; then the central directory is read in its order, and each member's
//! local header for where its bytes start. One member is in memory at a time, however many there are, and members of equal names stay two: images
//! from two series are often called the same. Names are for display only; nothing is ever written under them.
//!
//! # Invariants
//! - A member's bytes lie in front of the directory, and all members together have no more bytes than there are: members that share bytes, of which a
//!   small archive can have millions, end the reading.
//! - What is said to inflate beyond [`FREE_LENGTH`] and [`MAX_RATIO`] is refused before it is read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use filmroom_tiering::import::Member;

/// The end record and the longest comment behind it.
const END: u64 = 22 + 65_535;

/// A member may inflate to this many bytes from however few.
const FREE_LENGTH: u64 = 256 << 20;

/// A longer one to so many times its bytes in the archive. Deflate reaches 1,032 on zeros; images of one colour are not that long.
const MAX_RATIO: u64 = 200;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// For display
    pub(super) name: String,
    /// Where its bytes are, or why they cannot be read
    pub(super) member: Result<Member, String>,
}

/// Goes through the members of an archive; folders are left out. After an error there is nothing more.
pub(super) struct Entries {
    archive: File,
    directory: io::Take<BufReader<File>>,
    /// What stands in the file before the archive.
    base: u64,
    /// Where the directory starts, in the file.
    end_of_members: u64,
    /// Members that the directory still has to have.
    left: u64,
    /// Bytes that members may still take.
    room: u64,
}

/// Whether a file begins as an archive does.
pub(super) fn is_archive(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && (&magic == b"PK\x03\x04" || &magic == b"PK\x05\x06")
}

impl Entries {
    /// Opens an archive. Blocks, as everything here.
    pub(super) fn open(path: &Path) -> io::Result<Entries> {
        let archive = File::open(path)?;
        let length = archive.metadata()?.len();
        let start = length.saturating_sub(END);
        let tail = at(&archive, start, length - start)?;
        let end = tail
            .windows(4)
            .enumerate()
            .rev()
            .find(|(at, window)| {
                *window == b"PK\x05\x06" && u16_of(&tail, at + 20).is_some_and(|comment| at + 22 + usize::from(comment) == tail.len())
            })
            .map(|(at, _)| at)
            .ok_or_else(|| wrong("not a whole ZIP archive: its directory is missing"))?;
        let field16 = |offset: usize| u16_of(&tail, end + offset).map(u64::from).ok_or_else(cut);
        let field32 = |offset: usize| u32_of(&tail, end + offset).map(u64::from).ok_or_else(cut);
        let mut position = start + end as u64;
        let (mut disk, mut count, mut size, mut offset) = (field16(4)?, field16(10)?, field32(12)?, field32(16)?);
        if disk == 0xFFFF || count == 0xFFFF || size == 0xFFFF_FFFF || offset == 0xFFFF_FFFF {
            let locator = position
                .checked_sub(20)
                .map(|from| at(&archive, from, 20))
                .transpose()?
                .unwrap_or_default();
            if locator.starts_with(b"PK\x06\x07") {
                position = u64_of(&locator, 8).ok_or_else(cut)?;
                let record = at(&archive, position, 56)?;
                if !record.starts_with(b"PK\x06\x06") {
                    return Err(wrong("the ZIP64 directory is not where it should be"));
                }
                disk = u32_of(&record, 16).map(u64::from).ok_or_else(cut)?;
                count = u64_of(&record, 32).ok_or_else(cut)?;
                size = u64_of(&record, 40).ok_or_else(cut)?;
                offset = u64_of(&record, 48).ok_or_else(cut)?;
            }
        }
        if disk != 0 {
            return Err(wrong("one volume of a ZIP archive in several"));
        }
        let end_of_members = position.checked_sub(size).ok_or_else(cut)?;
        let base = end_of_members.checked_sub(offset).ok_or_else(cut)?;
        let mut directory = BufReader::new(archive.try_clone()?);
        directory.seek(SeekFrom::Start(end_of_members))?;
        Ok(Entries {
            archive,
            directory: directory.take(size),
            base,
            end_of_members,
            left: count,
            room: end_of_members - base,
        })
    }

    fn entry(&mut self) -> io::Result<Entry> {
        let mut fixed = [0; 46];
        self.directory.read_exact(&mut fixed)?;
        let (field16, field32) = (
            |at| u16_of(&fixed, at).unwrap_or_default(),
            |at| u32_of(&fixed, at).unwrap_or_default(),
        );
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(wrong("the directory of the ZIP archive is damaged"));
        }
        let mut variable = |length: u16| {
            let mut bytes = vec![0; usize::from(length)];
            self.directory.read_exact(&mut bytes).map(|()| bytes)
        };
        let (name, extra, _comment) = (variable(field16(28))?, variable(field16(30))?, variable(field16(32))?);
        let name = String::from_utf8_lossy(&name).into_owned();
        let mut large = zip64(&extra);
        let mut long = |short: u32| match short {
            u32::MAX => large.next().ok_or_else(cut),
            short => Ok(u64::from(short)),
        };
        let length = long(field32(24))?;
        let stored = long(field32(20))?;
        let header = long(field32(42))?;
        self.room = self
            .room
            .checked_sub(stored)
            .ok_or_else(|| wrong("members of the ZIP archive share bytes: nothing more of it is read"))?;
        if field16(8) & 1 != 0 {
            let member = Err("encrypted".to_owned());
            return Ok(Entry { name, member });
        }
        let deflated = match field16(10) {
            0 => false,
            8 => true,
            method => {
                let member = Err(format!("compressed by method {method}, which is not read: only deflate is"));
                return Ok(Entry { name, member });
            }
        };
        if length > FREE_LENGTH && length / MAX_RATIO > stored {
            let member = Err(format!("would inflate from {stored} to {length} bytes"));
            return Ok(Entry { name, member });
        }
        let member = self.locate(header, stored).map(|offset| Member {
            offset,
            stored,
            length,
            crc32: field32(16),
            deflated,
        });
        let member = member.map_err(|error| format!("the archive is damaged: {error}"));
        Ok(Entry { name, member })
    }

    /// Where the bytes behind a local header start.
    fn locate(&self, header: u64, stored: u64) -> io::Result<u64> {
        let position = self.base.checked_add(header).ok_or_else(cut)?;
        let local = at(&self.archive, position, 30)?;
        if !local.starts_with(b"PK\x03\x04") {
            return Err(wrong("a member is not where its directory says"));
        }
        let skip = |offset| u16_of(&local, offset).map(u64::from).ok_or_else(cut);
        let start = position + 30 + skip(26)? + skip(28)?;
        match start.checked_add(stored) {
            Some(end) if end <= self.end_of_members => Ok(start),
            _ => Err(wrong("a member reaches into the directory")),
        }
    }
}

impl Iterator for Entries {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<io::Result<Entry>> {
        while self.left > 0 {
            self.left -= 1;
            match self.entry() {
                Ok(entry) if entry.name.ends_with('/') => {}
                Ok(entry) => return Some(Ok(entry)),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The values of the ZIP64 extra field (APPNOTE 4.5.3), in their order: of those that the header leaves to it.
fn zip64(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut values: &[u8] = &[];
    while let (Some(id), Some(length)) = (u16_of(extra, 0), u16_of(extra, 2)) {
        let (field, rest) = extra.split_at(extra.len().min(4 + usize::from(length)));
        if id == 1 {
            values = field.get(4..).unwrap_or_default();
            break;
        }
        extra = rest;
    }
    let (values, _) = values.as_chunks::<8>();
    values
        .iter()
        .map(|value| u64::from_le_bytes(*value))
        .collect::<Vec<_>>()
        .into_iter()
}

fn at(file: &File, position: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes)
}

fn u16_of(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_of(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_of(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn cut() -> io::Error {
    wrong("the directory of the ZIP archive is cut short")
}

#[cfg(test)]
mod tests;

//! Archives written by another program's ZIP writer, and damaged ones.

use std::process::Command;

use super::*;

/// Has Python write an archive; `body` uses `z`, the open archive, and may change the file at `path` afterwards.
fn written(body: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "import sys, zipfile, struct\npath = sys.argv[1]\nz = zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED)\n{body}\nz.close()\n"
    );
    let done = Command::new("python3")
        .args(["-W", "ignore", "-c", &script])
        .arg(file.path())
        .status()
        .unwrap();
    assert!(done.success());
    file
}

fn entries(file: &tempfile::NamedTempFile) -> Vec<Entry> {
    Entries::open(file.path()).unwrap().map(|entry| entry.unwrap()).collect()
}

/// The bytes of a stored member.
fn content(file: &tempfile::NamedTempFile, entry: &Entry) -> Vec<u8> {
    let member = entry.member.as_ref().unwrap();
    assert!(!member.deflated && member.stored == member.length);
    at(&File::open(file.path()).unwrap(), member.offset, member.length).unwrap()
}

#[test]
fn stored_deflated_and_zip64_members_are_found_and_folders_left_out() {
    let file = written(
        "z.writestr('a/', b'')\nz.writestr('a/1', b'one' * 1000)\nz.writestr('a/2', b'two', zipfile.ZIP_STORED)\n\
         with z.open(zipfile.ZipInfo('a/3'), 'w', force_zip64=True) as f: f.write(b'three')\nz.comment = b'PK\\5\\6' * 20",
    );
    let found = entries(&file);
    assert_eq!(found.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a/1", "a/2", "a/3"]);
    let first = found[0].member.as_ref().unwrap();
    assert!(first.deflated && first.length == 3000 && first.stored < 100);
    assert_eq!(first.crc32, crc32(&b"one".repeat(1000)));
    assert_eq!(content(&file, &found[1]), b"two");
    assert_eq!(content(&file, &found[2]), b"three");
}

/// CRC-32 by the definition, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn more_members_than_sixteen_bits_can_count_are_all_found() {
    let file = written("for i in range(70000): z.writestr(str(i), b'', zipfile.ZIP_STORED)");
    assert_eq!(Entries::open(file.path()).unwrap().count(), 70_000);
}

#[test]
fn two_members_of_one_name_are_two() {
    let file = written("z.writestr('I1', b'first', zipfile.ZIP_STORED)\nz.writestr('I1', b'second', zipfile.ZIP_STORED)");
    let found = entries(&file);
    assert_eq!(
        [content(&file, &found[0]), content(&file, &found[1])],
        [b"first".to_vec(), b"second".to_vec()]
    );
}

#[test]
fn an_archive_behind_a_program_that_unpacks_it_is_read() {
    let file = written(
        "z.writestr('I1', b'image', zipfile.ZIP_STORED)\nz.close()\nwhole = open(path, 'rb').read()\nopen(path, 'wb').write(b'program' * 99 + whole)",
    );
    assert_eq!(content(&file, &entries(&file)[0]), b"image");
}

#[test]
fn what_cannot_be_read_says_why_and_the_others_are_found() {
    let file = written(
        "z.writestr('bz', b'x' * 99, zipfile.ZIP_BZIP2)\nz.writestr('good', b'image', zipfile.ZIP_STORED)\nz.writestr('secret', b'y' * 9)\nz.close()\n\
         b = bytearray(open(path, 'rb').read())\nat = b.rfind(b'PK\\1\\2')\nb[at + 8] |= 1\nopen(path, 'wb').write(b)",
    );
    let found = entries(&file);
    assert!(found[0].member.as_ref().unwrap_err().contains("method 12"));
    assert_eq!(content(&file, &found[1]), b"image");
    assert_eq!(found[2].member, Err("encrypted".to_owned()));
}

#[test]
fn a_member_that_would_inflate_beyond_reason_is_refused_unread() {
    let file = written("z.writestr('bomb', b'\\0' * (300 << 20))\nz.writestr('good', b'image', zipfile.ZIP_STORED)");
    let found = entries(&file);
    assert!(found[0].member.as_ref().unwrap_err().starts_with("would inflate from"));
    assert!(found[1].member.is_ok());
}

#[test]
fn members_that_share_their_bytes_end_the_reading() {
    // The directory of one member, a thousand times.
    let file = written(
        "z.writestr('kernel', b'k' * 1000, zipfile.ZIP_STORED)\nz.close()\nb = open(path, 'rb').read()\n\
         at, end = b.find(b'PK\\1\\2'), b.rfind(b'PK\\5\\6')\nentry = b[at:end]\n\
         end = struct.pack('<4sHHHHIIH', b'PK\\5\\6', 0, 0, 1000, 1000, 1000 * len(entry), at, 0)\nopen(path, 'wb').write(b[:at] + entry * 1000 + end)",
    );
    let found: Vec<_> = Entries::open(file.path()).unwrap().collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].is_ok() && found[1].as_ref().unwrap_err().to_string().contains("share bytes"));
}

#[test]
fn an_archive_cut_anywhere_is_an_error_or_ends_never_a_panic() {
    let file = written("for i in range(20): z.writestr(str(i), b'image', zipfile.ZIP_STORED)");
    let whole = std::fs::read(file.path()).unwrap();
    for length in 0..whole.len() {
        std::fs::write(file.path(), &whole[..length]).unwrap();
        assert!(Entries::open(file.path()).is_err(), "{length} bytes");
    }
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in directory..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(file.path(), &bytes).unwrap();
        if let Ok(entries) = Entries::open(file.path()) {
            assert!(entries.count() <= 70_000, "byte {at}");
        }
    }
}

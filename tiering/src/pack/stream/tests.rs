use filmroom_index::part10::FileMeta;
use futures::StreamExt;

use super::*;
use crate::pack::tests::{claim, member, python};
use crate::pack::{Layout, plan};

/// Hot files in a directory, each with a data set of its length; some of several chunks.
struct Hot {
    directory: tempfile::TempDir,
    members: Vec<Member>,
}

impl Hot {
    fn with(lengths: &[usize]) -> Hot {
        let directory = tempfile::tempdir().unwrap();
        let file = |(length, number): (&usize, u128)| {
            let mut member = member(number);
            let meta = FileMeta {
                sop_class: member.sop_class.clone(),
                sop_instance: member.sop_instance.clone(),
                transfer_syntax: member.transfer_syntax.clone(),
                source: None,
            };
            let data_set: Vec<u8> = (0..*length).map(|i| ((i * i) >> 8) as u8 ^ number as u8).collect();
            let file = [meta.encode(), data_set.clone()].concat();
            std::fs::write(directory.path().join(member.object.to_string()), &file).unwrap();
            member.length = file.len() as u64;
            member.crc32 = crc32fast::hash(&file);
            member.sha256 = Digest(Sha256::new_with_prefix(data_set).finalize().into());
            member
        };
        let members = lengths.iter().zip(1..).map(file).collect();
        Hot { directory, members }
    }

    fn path(&self, index: usize) -> PathBuf {
        self.directory.path().join(self.members[index].object.to_string())
    }

    /// The pack's bytes, or why it is none, and how many bytes it was planned to have.
    async fn pack(&self) -> (std::io::Result<Vec<u8>>, u64) {
        let pack = plan(&claim(self.members.clone()), Layout::Pack).remove(0);
        let directory = self.directory.path().to_path_buf();
        let mut chunks = stream(
            ColdLayout::Pack,
            &pack.key,
            self.members.clone(),
            Buffers::default(),
            move |object| directory.join(object.to_string()),
        );
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => bytes.extend(chunk),
                Err(error) => return (Err(error), pack.length),
            }
        }
        (Ok(bytes), pack.length)
    }
}

#[tokio::test]
async fn a_pack_streams_as_it_was_planned() {
    let hot = Hot::with(&[1000, 0, 1 << 20, 3_000_000]);
    let (bytes, length) = hot.pack().await;
    let bytes = bytes.unwrap();
    assert_eq!(bytes.len() as u64, length);
    let path = hot.directory.path().join("pack.zip");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(python(&path, &[]).lines().count(), 5);
}

#[tokio::test]
async fn a_rotten_file_ends_the_pack_and_is_named() {
    for (damage, what) in [
        ("flip", "SHA-256"),
        ("preamble", "CRC-32"),
        ("cut", "bytes instead of"),
        ("extend", "longer"),
        ("remove", "missing"),
        ("zero", "DICOM"),
    ] {
        let hot = Hot::with(&[1000, 600_000, 1000]);
        let path = hot.path(1);
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            "flip" => bytes[500_000] ^= 1,
            "preamble" => bytes[5] ^= 1,
            "cut" => bytes.truncate(500_000),
            "extend" => bytes.push(0),
            _ => bytes.fill(0),
        }
        std::fs::write(&path, bytes).unwrap();
        if damage == "remove" {
            std::fs::remove_file(&path).unwrap();
        }
        let (bytes, _) = hot.pack().await;
        let error = crate::cold::ColdError::Source(bytes.unwrap_err());
        let rotten = Rotten::behind(&error).unwrap();
        assert_eq!(rotten.object, hot.members[1].object);
        assert!(rotten.what.contains(what), "{damage}: {rotten}");
    }
}

#[tokio::test]
async fn a_key_takes_the_bytes_of_its_own_members_only() {
    let hot = Hot::with(&[1000, 2000]);
    let key = plan(&claim(hot.members.clone()), Layout::Pack).remove(0).key;
    let directory = hot.directory.path().to_path_buf();
    let fewer = hot.members[..1].to_vec();
    let mut chunks = stream(ColdLayout::Pack, &key, fewer, Buffers::default(), move |object| {
        directory.join(object.to_string())
    });
    assert_eq!(chunks.next().await.unwrap().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert!(chunks.next().await.is_none());
}

#[tokio::test]
async fn what_may_pass_is_not_taken_for_rot() {
    let mut hot = Hot::with(&[1000]);
    std::fs::remove_file(hot.path(0)).unwrap();
    std::fs::create_dir(hot.path(0)).unwrap();
    hot.members[0].length = 10;
    let error = crate::cold::ColdError::Source(hot.pack().await.0.unwrap_err());
    assert_eq!(Rotten::behind(&error), None);
}

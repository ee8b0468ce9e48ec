use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use filmroom_index::catalogue::SeriesKey;
use filmroom_index::model::{AeTitle, Digest, Timestamp};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use sha2::Digest as _;
use uuid::Uuid;

use super::*;

pub(super) fn member(number: u128) -> Member {
    Member {
        object: ObjectId(Uuid::from_u128(number)),
        sop_instance: Uid::parse(&format!("1.2.3.{number}")).unwrap(),
        sop_class: Uid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        transfer_syntax: Uid::parse("1.2.840.10008.1.2.1").unwrap(),
        instance_number: Some(number as i64),
        state: ServingState::Served,
        reason: String::new(),
        counterpart: None,
        length: 1000,
        sha256: Digest([number as u8; 32]),
        crc32: 0,
        received_at: Timestamp(number as i64),
        source: AeTitle::parse("CT1").unwrap(),
    }
}

/// A member whose file is `content`.
fn member_of(number: u128, content: &[u8]) -> Member {
    Member {
        length: content.len() as u64,
        crc32: crc32fast::hash(content),
        ..member(number)
    }
}

pub(super) fn claim(members: Vec<Member>) -> OffloadClaim {
    OffloadClaim {
        node: filmroom_index::model::NodeId(uuid::Uuid::from_u128(1)),
        series: SeriesKey(1),
        study_uid: Uid::parse("1.2.3").unwrap(),
        series_uid: Uid::parse("1.2.3.4").unwrap(),
        fence: 1,
        members,
    }
}

fn members_of<'a>(claim: &'a OffloadClaim, pack: &NewPack) -> Vec<&'a Member> {
    let find = |(object, _): &(ObjectId, u64)| claim.members.iter().find(|m| m.object == *object).unwrap();
    pack.members.iter().map(find).collect()
}

/// Writes a pack at `path`; files that are not in `contents` are left as a hole.
fn write_pack(path: &Path, state: ServingState, members: &[Member], contents: &[Option<&[u8]>]) {
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    for segment in segments(state, members) {
        match segment {
            Segment::Structure(bytes) => file.write_all(&bytes).unwrap(),
            Segment::File(index) => match contents[index] {
                Some(content) => file.write_all(content).unwrap(),
                None => drop(file.seek(SeekFrom::Current(members[index].length as i64)).unwrap()),
            },
        }
    }
    file.flush().unwrap();
}

/// Python's reading of a ZIP: its comment, and name, size, offset of the local header, method and date of each entry. Reads the entries whose names are
/// given after the path, comparing CRC-32s; without names, all.
pub(super) fn python(path: &Path, read: &[&str]) -> String {
    let script = "
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
for i in (map(z.getinfo, sys.argv[2:]) if sys.argv[2:] else z.infolist()):
    z.read(i)
print(z.comment.decode())
for i in z.infolist():
    print(i.filename, i.file_size, i.header_offset, i.compress_type, i.date_time[0])
";
    let out = Command::new("python3").args(["-c", script]).arg(path).args(read).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn any_zip_tool_opens_a_pack() {
    let contents: Vec<Vec<u8>> = (1..=20).map(|n| vec![n as u8; n * 997]).collect();
    let claim = claim((1..=20).rev().map(|n| member_of(n, &contents[n as usize - 1])).collect());
    let packs = plan(&claim, Layout::Pack);
    assert_eq!(packs.len(), 1);
    let members: Vec<Member> = members_of(&claim, &packs[0]).into_iter().cloned().collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pack.zip");
    let files: Vec<Option<&[u8]>> = contents.iter().map(|content| Some(content.as_slice())).collect();
    write_pack(&path, ServingState::Served, &members, &files);

    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, packs[0].length);
    for ((_, offset), content) in packs[0].members.iter().zip(&contents) {
        assert_eq!(&bytes[*offset as usize..][..content.len()], content);
    }
    let listing = python(&path, &[]);
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines[0], "filmroom pack, layout 1, served");
    assert_eq!(lines[1], "1.2.3.1.dcm 997 0 0 1980");
    assert_eq!(lines.len(), 21);
    // Info-ZIP's unzip too, where it is installed.
    if let Ok(out) = Command::new("unzip").arg("-t").arg(&path).output() {
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn more_entries_than_16_bits_count() {
    let members: Vec<Member> = (1..=70_000).map(|n| member_of(n, b"x")).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pack.zip");
    write_pack(&path, ServingState::Served, &members, &vec![Some(b"x".as_slice()); members.len()]);
    assert_eq!(python(&path, &["1.2.3.70000.dcm"]).lines().count(), 70_001);

    // 65,535 fits 16 bits, but says "see the ZIP64 record" there.
    for (count, large) in [(65_534, false), (65_535, true)] {
        let structure = segments(ServingState::Served, &members[..count]).pop();
        let Some(Segment::Structure(end)) = structure else {
            panic!("no end")
        };
        assert_eq!(end.windows(4).any(|w| w == b"PK\x06\x06"), large);
    }
}

#[test]
fn lengths_and_offsets_beyond_4_gib() {
    let large = |number, length| Member { length, ..member(number) };
    let limit = u64::from(u32::MAX);
    for (first, second) in [
        (5 << 30, 100),
        (limit, limit),
        (limit - 1, 1),
        (limit - 89, 1),
        (limit + 1, 6 << 30),
    ] {
        let small = member_of(3, b"beyond");
        let members = [large(1, first), large(2, second), small];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pack.zip");
        write_pack(&path, ServingState::Served, &members, &[None, None, Some(b"beyond")]);
        let (offsets, length) = layout::measure(ServingState::Served, &members.iter().collect::<Vec<_>>());
        assert_eq!(path.metadata().unwrap().len(), length);
        // Python reads the last entry, behind what does not fit 32 bits, and finds the others in the directory.
        let listing = python(&path, &["1.2.3.3.dcm"]);
        let lines: Vec<Vec<&str>> = listing.lines().skip(1).map(|line| line.split(' ').collect()).collect();
        for (line, (member, offset)) in lines.iter().zip(members.iter().zip(offsets)) {
            assert_eq!(line[1].parse::<u64>().unwrap(), member.length);
            let header: u64 = line[2].parse().unwrap();
            let extra = if member.length >= limit { 20 } else { 0 };
            assert_eq!(header + 30 + "1.2.3.1.dcm".len() as u64 + extra, offset);
        }
    }
}

#[test]
fn what_is_not_served_lies_in_packs_marked_so() {
    let states = [
        ServingState::Served,
        ServingState::Superseded,
        ServingState::Rejected,
        ServingState::Quarantined,
    ];
    let members = states.iter().zip(1..).map(|(state, n)| Member {
        state: *state,
        ..member(n)
    });
    let claim = claim(
        members
            .chain([Member {
                state: ServingState::Deleted,
                ..member(9)
            }])
            .collect(),
    );
    let packs = plan(&claim, Layout::Pack);
    assert_eq!(packs.len(), 4);
    for pack in packs {
        assert_eq!(planned_state(&pack.key), pack.state);
        assert_eq!(
            pack.key.ends_with(&format!(".{}.zip", pack.state.as_str())),
            pack.state != ServingState::Served
        );
        assert!(manifest_key(&pack.key, None).ends_with(".json.zst"));
        assert!(members_of(&claim, &pack).iter().all(|m| m.state == pack.state));
    }
}

#[test]
fn a_key_depends_on_everything_that_the_bytes_depend_on() {
    let key = |member: Member| plan(&claim(vec![member]), Layout::Pack).remove(0).key;
    let m = member(7);
    let other_uid = Uid::parse("1.2.4").unwrap();
    let variants = [
        m.clone(),
        Member {
            object: ObjectId(Uuid::from_u128(8)),
            ..m.clone()
        },
        Member {
            sop_instance: other_uid,
            ..m.clone()
        },
        Member {
            sha256: Digest([8; 32]),
            ..m.clone()
        },
        Member { crc32: 8, ..m.clone() },
        Member { length: 8, ..m.clone() },
        Member {
            state: ServingState::Superseded,
            ..m.clone()
        },
    ];
    let keys: HashSet<String> = variants.into_iter().map(key).collect();
    assert_eq!(keys.len(), 7);
}

#[test]
fn a_layout_version_means_the_same_bytes_for_ever() {
    let members = [member_of(1, b"one"), member_of(2, b"two")];
    let mut bytes = Vec::new();
    for segment in segments(ServingState::Served, &members) {
        match segment {
            Segment::Structure(structure) => bytes.extend(structure),
            Segment::File(index) => bytes.extend([b"one", b"two"][index]),
        }
    }
    // Whoever changes either raises LAYOUT_VERSION: packs that were planned before must keep their bytes.
    assert_eq!(
        plan(&claim(members.to_vec()), Layout::Pack).remove(0).key,
        "1.2.3/1.2.3.4/0cf98a92d2c8f3fafcaa42396c3e9806.zip"
    );
    assert_eq!(
        format!("{:x}", Sha256::new_with_prefix(&bytes).finalize()),
        "beefe910d369d44cb64c81fb021472e5f42da9c9f83d67469de72ee54fd07644"
    );
}

#[test]
fn a_series_with_more_members_than_a_pack_takes_is_divided() {
    let packs = plan(&claim((1..=MAX_MEMBERS as u128 + 1).map(member).collect()), Layout::Pack);
    assert_eq!(packs.iter().map(|p| p.members.len()).collect::<Vec<_>>(), [MAX_MEMBERS, 1]);
}

#[test]
fn a_layout_of_one_object_per_instance_means_the_same_keys_for_ever() {
    let objects = plan(&claim(vec![member(2), member(1)]), Layout::Instance);
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    assert!(
        keys[0].starts_with("1.2.3/1.2.3.4/1.2.3.1.") && keys[1].starts_with("1.2.3/1.2.3.4/1.2.3.2."),
        "{keys:?}"
    );
    assert!(
        objects
            .iter()
            .all(|object| object.manifest == objects[0].manifest && object.manifest.is_some())
    );
    let superseded = Member {
        state: ServingState::Superseded,
        ..member(1)
    };
    let other = plan(&claim(vec![superseded]), Layout::Instance).remove(0);
    assert!(
        other.key.ends_with(".superseded.dcm") && planned_state(&other.key) == ServingState::Superseded,
        "{}",
        other.key
    );
    assert_eq!(planned_state(keys[0]), ServingState::Served);
    for key in keys.into_iter().chain([other.key.as_str()]) {
        assert!(is_instance_name(key.rsplit('/').next().unwrap()), "{key}");
    }
    for name in [
        "1.2.3.dcm",
        "1.2.3.0123456789abcdef.zip",
        "x.0123456789abcdef.dcm",
        "1.2.3.0123456789abcdef.served.dcm",
    ] {
        assert!(!is_instance_name(name), "{name}");
    }
}

fn any_member() -> impl Strategy<Value = Member> {
    let length = prop_oneof![
        0..1000u64,
        1_000_000..150_000_000u64,
        Just(MAX_PACK),
        Just(MAX_PACK + 1),
        5 << 30..6u64 << 30
    ];
    let state = prop_oneof![
        Just(ServingState::Served),
        Just(ServingState::Superseded),
        Just(ServingState::Quarantined)
    ];
    (1..20u128, any::<u128>(), prop::option::of(-3..5i64), length, state).prop_map(|(uid, object, instance_number, length, state)| Member {
        object: ObjectId(Uuid::from_u128(object)),
        instance_number,
        length,
        state,
        ..member(uid)
    })
}

proptest! {
    #[test]
    fn every_member_is_packed_once_whatever_the_order_it_came_in(
        members in prop::collection::vec(any_member(), 0..60).prop_filter("ids differ", |members| {
            members.iter().map(|m| m.object).collect::<HashSet<_>>().len() == members.len()
        }),
        seed in any::<u64>(),
    ) {
        let claim_here = claim(members.clone());
        let packs = plan(&claim_here, Layout::Pack);
        let mut shuffled = members.clone();
        shuffled.sort_by_key(|m| m.object.0.as_u128().wrapping_mul(u128::from(seed) | 1));
        prop_assert_eq!(&packs, &plan(&claim(shuffled), Layout::Pack));

        let packed: Vec<ObjectId> = packs.iter().flat_map(|p| &p.members).map(|(object, _)| *object).collect();
        prop_assert_eq!(packed.len(), members.len());
        prop_assert_eq!(packed.iter().collect::<BTreeSet<_>>().len(), members.len());
        prop_assert_eq!(packs.iter().map(|p| &p.key).collect::<HashSet<_>>().len(), packs.len());

        for pack in &packs {
            let members = members_of(&claim_here, pack);
            prop_assert!(pack.length <= MAX_PACK || members.len() == 1);
            prop_assert!(members.iter().all(|m| m.state == pack.state));
            prop_assert_eq!(members.iter().map(|m| &m.sop_instance).collect::<HashSet<_>>().len(), members.len());
            let order = |m: &Member| (m.instance_number.unwrap_or(i64::MAX), m.sop_instance.as_str().to_owned());
            prop_assert!(members.is_sorted_by_key(|m| order(m)));

            // What was planned is what is laid out.
            let owned: Vec<Member> = members.into_iter().cloned().collect();
            let mut position = 0;
            let mut offsets = Vec::new();
            for segment in segments(pack.state, &owned) {
                match segment {
                    Segment::Structure(bytes) => position += bytes.len() as u64,
                    Segment::File(index) => {
                        offsets.push((owned[index].object, position));
                        position += owned[index].length;
                    }
                }
            }
            prop_assert_eq!(&offsets, &pack.members);
            prop_assert_eq!(position, pack.length);
        }
    }

    #[test]
    fn every_member_is_one_object_with_a_key_of_its_own_whatever_the_order_it_came_in(
        members in prop::collection::vec(any_member(), 1..60).prop_filter("ids differ", |members| {
            members.iter().map(|m| m.object).collect::<HashSet<_>>().len() == members.len()
        }),
        seed in any::<u64>(),
    ) {
        let mut shuffled = members.clone();
        shuffled.sort_by_key(|m| (m.object.0.as_u128() as u64).wrapping_mul(seed | 1));
        let claim_here = claim(members);
        let objects = plan(&claim_here, Layout::Instance);
        prop_assert_eq!(&objects, &plan(&claim(shuffled), Layout::Instance));
        prop_assert_eq!(objects.len(), claim_here.members.len());
        prop_assert_eq!(objects.iter().map(|o| &o.key).collect::<HashSet<_>>().len(), objects.len());
        let mut batches: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for object in &objects {
            let member = members_of(&claim_here, object)[0];
            prop_assert_eq!((object.length, object.state, &object.members), (member.length, member.state, &vec![(member.object, 0)]));
            prop_assert_eq!(planned_state(&object.key), object.state);
            prop_assert!(belongs(object.layout, &object.key, std::slice::from_ref(member)));
            let (count, length) = batches.entry(object.manifest.as_deref().unwrap()).or_default();
            *count += 1;
            *length = length.saturating_add(object.length);
        }
        for (count, length) in batches.into_values() {
            prop_assert!(count <= MAX_BATCH && (length <= MAX_PACK || count == 1));
        }
    }
}

use dicom_core::VR;
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::{Described, PackClaim, PackKey, PackState, PatientText, SeriesKey, SeriesText, StudyText};
use filmroom_index::dataset::Value;
use filmroom_index::model::{AeTitle, ObjectId, Timestamp};
use uuid::Uuid;

use super::*;

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn claim() -> PackClaim {
    PackClaim {
        pack: PackKey(1),
        layout: ColdLayout::Pack,
        manifest: None,
        key: "1.2/3.4/abc.superseded.zip".to_owned(),
        state: PackState::Planned,
        series: SeriesKey(1),
        study_uid: uid("1.2"),
        series_uid: uid("3.4"),
        length: 12_345_678_901,
        crc64: None,
        attempts: 0,
        fence: 1,
        members: Vec::new(),
        batch: Vec::new(),
    }
}

fn member(number: u128) -> Member {
    Member {
        object: ObjectId(Uuid::from_u128(number)),
        sop_instance: uid(&format!("1.2.3.{number}")),
        sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        instance_number: number.is_multiple_of(2).then_some(number as i64),
        state: ServingState::Quarantined,
        reason: "differs from the instance stored by CT2".to_owned(),
        counterpart: number.is_multiple_of(3).then_some(ObjectId(Uuid::from_u128(number + 1))),
        length: u64::MAX >> 1,
        sha256: Digest([number as u8; 32]),
        crc32: 0x00ab_cdef,
        received_at: Timestamp(1_795_000_000_123_456),
        source: AeTitle::parse("CT 1").unwrap(),
    }
}

/// A header with an element of each kind; `number` makes it differ from others.
fn header(number: u128) -> Header {
    let mut attributes = DataSet::new();
    attributes.put_text(tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.{number}"));
    attributes.put_text(tags::PATIENT_NAME, VR::PN, "Müller^Jörg=山田^太郎");
    attributes.put(tags::ROWS, VR::US, Value::Bytes(vec![0, 2]));
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, format!("T-{}", number % 3));
    attributes.put(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::Items(vec![item]));
    if number.is_multiple_of(2) {
        attributes.put(
            tags::ICC_PROFILE,
            VR::OB,
            Value::Bulk {
                offset: 1000,
                length: 2000,
            },
        );
    } else {
        attributes.put_text(tags::SERIES_DESCRIPTION, VR::LO, "");
    }
    Header {
        attributes,
        partial: number.is_multiple_of(5),
    }
}

/// What the catalogue says; the series' header is none of the instances'.
fn described() -> Described {
    let mut study_header = DataSet::new();
    study_header.put_text(tags::STUDY_ID, VR::SH, "S");
    Described {
        at: Timestamp(1_795_000_001_000_000),
        patient: PatientText {
            patient_id: "P1".to_owned(),
            issuer: "HOSPITAL".to_owned(),
            name: "Maier^Jörg".to_owned(),
            ..PatientText::default()
        },
        study: StudyText {
            known_since: Timestamp(1_795_000_000_000_000),
            description: "Thorax".to_owned(),
            ..StudyText::default()
        },
        series: SeriesText {
            modality: "CT".to_owned(),
            number: Some(3),
            ..SeriesText::default()
        },
        study_header,
        series_header: header(30).attributes,
    }
}

fn node() -> NodeId {
    NodeId(Uuid::from_u128(77))
}

fn write(headers: &[(Member, Header)]) -> Vec<u8> {
    let mut writer = Writer::new(node(), &claim(), described()).unwrap();
    for ((member, header), offset) in headers.iter().zip(100..) {
        writer.add(Whose::Pack, member, offset, header).unwrap();
    }
    writer.finish(u64::MAX - 1).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    for count in [0, 1, 2, 50] {
        let instances: Vec<_> = (1..=count).map(|n| (member(n), header(n))).collect();
        let manifest = decode(&write(&instances)).unwrap();
        assert_eq!(
            (manifest.node, manifest.objects[0].length, manifest.objects[0].crc64),
            (node(), 12_345_678_901, u64::MAX - 1)
        );
        assert_eq!(
            (manifest.objects[0].key.as_str(), manifest.objects[0].state),
            ("1.2/3.4/abc.superseded.zip", ServingState::Superseded)
        );
        assert_eq!((&manifest.study_uid, &manifest.series_uid), (&uid("1.2"), &uid("3.4")));
        let described = described();
        let found = manifest.described.clone().unwrap();
        assert_eq!(
            found,
            Described {
                series_header: found.series_header.clone(),
                ..described.clone()
            }
        );
        let series = |header: &DataSet| -> Vec<_> {
            let of_series = header.iter().filter(|(tag, _)| level(*tag) < Level::Image);
            of_series.map(|(tag, element)| (tag, element.clone())).collect()
        };
        assert_eq!(series(&found.series_header), series(&described.series_header));
        assert_eq!(manifest.instances.len(), instances.len());
        for ((read, (member, header)), offset) in manifest.instances.iter().zip(&instances).zip(100..) {
            assert_eq!((&read.member, read.offset), (member, offset));
            assert_eq!(&manifest.header(read), header);
        }
    }
}

#[test]
fn the_manifest_of_a_batch_tells_of_each_object() {
    for count in [1, 2, 50] {
        let of_batch = |n: u128| PackClaim {
            key: format!("1.2/3.4/1.2.3.{n}.0123456789abcdef.dcm"),
            layout: ColdLayout::Instance,
            manifest: Some("1.2/3.4/batch.json.zst".to_owned()),
            length: member(n).length,
            ..claim()
        };
        let mut writer = Writer::new(node(), &of_batch(1), described()).unwrap();
        for n in 1..=count {
            writer.add(Whose::of(&of_batch(n), n as u64), &member(n), 0, &header(n)).unwrap();
        }
        let manifest = decode(&writer.finish(1).unwrap()).unwrap();
        assert_eq!(
            (manifest.key.as_str(), manifest.shared, manifest.node),
            ("1.2/3.4/batch.json.zst", true, node())
        );
        assert_eq!((&manifest.study_uid, &manifest.series_uid), (&uid("1.2"), &uid("3.4")));
        assert_eq!((manifest.objects.len(), manifest.instances.len()), (count as usize, count as usize));
        for n in 1..=count {
            let (index, told) = manifest.object(&of_batch(n).key).unwrap();
            assert_eq!(
                (told.length, told.crc64, told.layout),
                (member(n).length, n as u64, ColdLayout::Instance)
            );
            assert_eq!(told.state, member(n).state);
            let members: Vec<&Instance> = manifest.members(index).collect();
            assert_eq!((members.len(), &members[0].member, members[0].offset), (1, &member(n), 0));
            assert_eq!(manifest.header(members[0]), header(n));
        }
    }
    let neither = zstd::encode_all("{\"format\":3,\"base\":{},\"instances\":[]}".as_bytes(), 1).unwrap();
    assert!(matches!(decode(&neither), Err(ManifestError::Incomplete(_))));
}

#[test]
fn instances_in_other_packs_are_not_named() {
    // The header of the series is that of an instance in another pack.
    let text = zstd::decode_all(write(&[(member(1), header(1)), (member(2), header(2))]).as_slice()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let other = described().series_header;
    assert!(!text.contains(&format!("\"{}\"", other.text(tags::SOP_INSTANCE_UID).unwrap())));
    let manifest = decode(&write(&[(member(1), header(1))])).unwrap();
    let series_header = manifest.described.unwrap().series_header;
    assert_eq!(series_header.get(tags::SOP_INSTANCE_UID), None);
    assert_eq!(series_header.get(tags::ROWS), other.get(tags::ROWS));
}

#[test]
fn what_a_series_has_in_common_is_written_once() {
    let instances: Vec<_> = (1..=100).map(|n| (member(2 * n), header(6 * n))).collect();
    let text = zstd::decode_all(write(&instances).as_slice()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("Müller").count(), 1);
    assert_eq!(text.matches("T-0").count(), 1);
}

#[test]
fn headers_beyond_the_limit_are_left_out_and_said_to_be() {
    let long = |n: u128| {
        let mut header = header(n);
        header
            .attributes
            .put_text(tags::TEXT_VALUE, VR::UT, format!("{n}").repeat(MAX_HEADERS / 3));
        header
    };
    let instances: Vec<_> = (1..=4).map(|n| (member(n), long(n))).collect();
    let manifest = decode(&write(&instances)).unwrap();
    let mut left_out = 0;
    for (read, (member, header)) in manifest.instances.iter().zip(&instances) {
        assert_eq!(&read.member, member);
        let found = manifest.header(read);
        if found.partial && !header.partial {
            assert_eq!(found.attributes.text(tags::SOP_INSTANCE_UID), Some(member.sop_instance.as_str()));
            assert_eq!(
                found.attributes.text(tags::PATIENT_NAME),
                header.attributes.text(tags::PATIENT_NAME)
            );
            assert_eq!(found.attributes.get(tags::TEXT_VALUE), None);
            left_out += 1;
        } else {
            assert_eq!(&found, header);
        }
    }
    assert!(left_out == 2, "{left_out}");
}

#[test]
fn what_is_no_manifest_of_ours_is_an_error() {
    let pack = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    assert!(matches!(decode(b"no zstd"), Err(ManifestError::Compression(_))));
    assert!(matches!(decode(&pack("{")), Err(ManifestError::Shape(_))));
    assert!(matches!(decode(&pack("{\"format\":4,\"new\":1}")), Err(ManifestError::Format(4))));
    let good = write(&[(member(1), header(1))]);
    assert!(decode(&good[..good.len() - 5]).is_err());
    let text = String::from_utf8(zstd::decode_all(good.as_slice()).unwrap()).unwrap();
    assert!(matches!(
        decode(&pack(&text.replace("00abcdef", "x"))),
        Err(ManifestError::Number(_))
    ));
    assert!(matches!(
        decode(&pack(&text.replace("010101", "01"))),
        Err(ManifestError::Hexadecimal(_))
    ));
    // A few kilobytes that decompress without end.
    assert!(matches!(
        decode(&pack(&" ".repeat(MAX_DECODED as usize + 10))),
        Err(ManifestError::Compression(_))
    ));
}

#[test]
fn a_manifest_of_format_1_is_read() {
    let text = r#"{"format":1,
"pack":{"key":"1.2/3.4/abc.zip","length":9,"crc64nvme":"00000000000000ff","layout":1,"state":"served","node":"00000000-0000-0000-0000-00000000004d","study_uid":"1.2","series_uid":"3.4"},
"base":{"00080060":{"vr":"CS","Value":["CT"]}},
"instances":[
{"object":"00000000-0000-0000-0000-000000000001","received_at":5,"source":"CT1","state":"served","sop_class":"1.2","sop_instance":"1.2.3","transfer_syntax":"1.2","offset":70,"length":9,"sha256":"0101010101010101010101010101010101010101010101010101010101010101","crc32":"00000001","header":{},"partial":false}]}"#;
    let manifest = decode(&zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    assert_eq!(
        (manifest.described.as_ref(), manifest.objects[0].crc64, manifest.node),
        (None, 255, node())
    );
    let instance = &manifest.instances[0];
    assert_eq!((instance.member.reason.as_str(), instance.member.counterpart), ("", None));
    assert_eq!(manifest.header(instance).attributes.text(tags::MODALITY), Some("CT"));
}

use super::*;
use crate::dataset::Element;
use crate::dataset::representation::is_text;
use crate::query::NamePattern;
use crate::query::range::{MomentRange, Range};
use dicom_core::VR;
use proptest::prelude::*;

fn data_set(elements: &[(Tag, VR, &str)]) -> DataSet {
    let mut data_set = DataSet::new();
    for (tag, vr, text) in elements {
        let values = match text.is_empty() {
            true => Vec::new(),
            false => text.split('\\').map(str::to_owned).collect(),
        };
        data_set.put(*tag, *vr, Value::Text(values));
    }
    data_set
}

fn with_level(level: &str, elements: &[(Tag, VR, &str)]) -> DataSet {
    let mut data_set = data_set(elements);
    data_set.put_text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, level);
    data_set
}

/// Its representation is what the identifier says.
const PRIVATE: Tag = Tag(0x0009, 0x1001);

fn find(elements: &[(Tag, VR, &str)]) -> Query {
    Query::find(Root::Patient, &with_level("STUDY", elements)).unwrap()
}

/// The condition on one key; none if it is universal.
fn one(tag: Tag, vr: VR, text: &str) -> Option<Matcher> {
    let query = find(&[(tag, vr, text)]);
    assert_eq!(query.unsupported, []);
    assert_eq!(query.returns.len(), 1);
    query.keys.into_iter().next().map(|key| key.matcher)
}

fn globs(texts: &[&str]) -> Option<Matcher> {
    Some(Matcher::Text(texts.iter().map(|text| Glob::wildcard(text)).collect()))
}

fn uids(uids: &[&str]) -> Option<Matcher> {
    Some(Matcher::Uids(uids.iter().map(|uid| (*uid).to_owned()).collect()))
}

#[test]
fn the_level_is_read_leniently_and_has_to_be_there() {
    for (text, level) in [
        ("STUDY", Level::Study),
        ("study ", Level::Study),
        ("IMAGES", Level::Image),
        ("Series\0", Level::Series),
        ("PATIENT", Level::Patient),
    ] {
        assert_eq!(Query::find(Root::Patient, &with_level(text, &[])).unwrap().level, level, "{text}");
    }
    for (root, identifier) in [
        (Root::Patient, data_set(&[(tags::PATIENT_ID, VR::LO, "1")])),
        (Root::Patient, with_level("", &[])),
        (Root::Patient, with_level("EVERYTHING", &[])),
        (Root::Study, with_level("PATIENT", &[])),
    ] {
        for error in [Query::find(root, &identifier), Query::retrieve(root, &identifier)] {
            assert_eq!(error.unwrap_err().offending, tags::QUERY_RETRIEVE_LEVEL);
        }
    }
}

#[test]
fn what_is_about_the_message_is_no_key() {
    let query = find(&[
        (Tag(0x0008, 0x0000), VR::UL, "4"),
        (Tag(0x0002, 0x0010), VR::UI, "1.2"),
        (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
        (tags::QUERY_RETRIEVE_VIEW, VR::CS, "CLASSIC"),
        (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, "+0100"),
    ]);
    assert_eq!((query.keys, query.unsupported), (vec![], vec![]));
    // The character set of the answers was asked for, whatever it is.
    let returned: Vec<Tag> = query.returns.iter().map(|key| key.tag).collect();
    assert_eq!(returned, [tags::SPECIFIC_CHARACTER_SET]);
}

#[test]
fn text_keys_are_values_lists_and_wildcards() {
    for (text, expected) in [
        ("A1", globs(&["A1"])),
        ("  A1  ", globs(&["A1"])),
        ("A\\B", globs(&["A", "B"])),
        ("A\\\\B\\", globs(&["A", "B"])),
        ("A*\\B?", globs(&["A*", "B?"])),
        ("A\\*", None),
        ("a'; DROP TABLE patients; --", globs(&["a'; DROP TABLE patients; --"])),
        ("A\0B\0", globs(&["AB"])),
        ("", None),
        (" ", None),
        ("\0", None),
        ("*", None),
        ("**", None),
        ("\\", None),
    ] {
        assert_eq!(one(tags::PATIENT_ID, VR::LO, text), expected, "{text:?}");
        assert_eq!(one(tags::ACCESSION_NUMBER, VR::SH, text), expected, "{text:?}");
        assert_eq!(one(tags::MODALITY, VR::CS, text), expected, "{text:?}");
    }
}

#[test]
fn wildcards_are_for_some_representations_only() {
    for (vr, wild) in [
        (VR::AE, true),
        (VR::UC, true),
        (VR::UT, true),
        (VR::ST, true),
        (VR::LT, true),
        (VR::UR, true),
        (VR::AS, false),
    ] {
        let element = Element {
            vr,
            value: Value::Text(vec!["A*".into()]),
        };
        let around = DataSet::from_iter([(PRIVATE, element.clone())]);
        let Ok(Condition::Match(key)) = condition(PRIVATE, &element, &around, Extensions::default()) else {
            panic!("{vr:?}");
        };
        let Matcher::Text(globs) = key.matcher else {
            panic!("{vr:?}");
        };
        assert_eq!(globs[0].matches("AB"), wild, "{vr:?}");
    }
    assert_eq!(one(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.*"), uids(&[]));
    assert_eq!(one(tags::SERIES_NUMBER, VR::IS, "1*"), Some(Matcher::Number(vec![])));
    assert_eq!(
        one(tags::SERIES_NUMBER, VR::IS, "01\\2"),
        Some(Matcher::Number(vec!["1".into(), "2".into()]))
    );
}

#[test]
fn uid_keys_are_lists_of_any_length() {
    let many: Vec<String> = (0..1000).map(|n| format!("1.2.{n}")).collect();
    assert_eq!(one(tags::STUDY_INSTANCE_UID, VR::UI, &many.join("\\")), Some(Matcher::Uids(many)));
    for (text, expected) in [
        ("1.2.3\0", uids(&["1.2.3"])),
        ("1.2\\\\1.3\\", uids(&["1.2", "1.3"])),
        ("1.2\\junk", uids(&["1.2"])),
        ("junk", uids(&[])),
        ("*", None),
        ("1.2\\*", None),
        ("\\", None),
    ] {
        assert_eq!(one(tags::STUDY_INSTANCE_UID, VR::UI, text), expected, "{text:?}");
    }
}

#[test]
fn dates_and_times_are_ranges_or_refused() {
    let range = |from: &str, to: &str| {
        Some(Matcher::Ranges(vec![Range {
            from: Some(from.into()),
            to: Some(to.into()),
        }]))
    };
    assert_eq!(one(tags::STUDY_DATE, VR::DA, "2004.01.19"), range("20040119", "20040119"));
    assert_eq!(one(tags::STUDY_TIME, VR::TM, "10"), range("100000.000000", "109999.999999"));
    assert_eq!(one(tags::STUDY_DATE, VR::DA, "-"), None);
    assert_eq!(one(tags::STUDY_DATE, VR::DA, "*"), None);
    let error = Query::find(Root::Study, &with_level("STUDY", &[(tags::STUDY_DATE, VR::DA, "yesterday")])).unwrap_err();
    assert_eq!(error.offending, tags::STUDY_DATE);
    assert!(error.comment.chars().count() <= 64);
}

#[test]
fn a_name_key_is_folded() {
    assert_eq!(
        one(tags::PATIENT_NAME, VR::PN, "MÜLLER^J*"),
        Some(Matcher::Names(vec![NamePattern::Groups(vec![vec![Glob::wildcard("muller^j*")]])]))
    );
    assert_eq!(one(tags::PATIENT_NAME, VR::PN, "*^*"), None);
}

#[test]
fn what_cannot_be_matched_is_named_and_still_returned() {
    let mut identifier = with_level(
        "STUDY",
        &[
            (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, "5"),
            (tags::RETRIEVE_AE_TITLE, VR::AE, "X"),
            (tags::SLICE_LOCATION, VR::DS, "1.5"),
            (Tag(0x0009, 0x0010), VR::LO, "ACME"),
            (Tag(0x0009, 0x1001), VR::LO, "x"),
            (tags::MODALITIES_IN_STUDY, VR::CS, "CT"),
        ],
    );
    identifier.put(tags::ROWS, VR::US, Value::Bytes(vec![0, 2]));
    let item = |value| data_set(&[(tags::CODE_VALUE, VR::SH, value), (tags::CODE_MEANING, VR::LO, "")]);
    identifier.put(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::Items(vec![item("1"), item("2")]));
    let query = Query::find(Root::Study, &identifier).unwrap();
    assert_eq!(
        query.keys.iter().map(|key| key.tag).collect::<Vec<_>>(),
        [tags::MODALITIES_IN_STUDY]
    );
    let mut expected = vec![
        tags::RETRIEVE_AE_TITLE,
        tags::PROCEDURE_CODE_SEQUENCE,
        Tag(0x0009, 0x1001),
        tags::SLICE_LOCATION,
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        tags::ROWS,
    ];
    expected.sort();
    assert_eq!(query.unsupported, expected);
    assert_eq!(query.returns.len(), 8);
}

#[test]
fn sequence_keys_say_what_is_wanted_of_their_items() {
    let mut identifier = with_level("STUDY", &[]);
    identifier.put(
        tags::PROCEDURE_CODE_SEQUENCE,
        VR::SQ,
        Value::Items(vec![data_set(&[(tags::CODE_VALUE, VR::SH, ""), (Tag(0x0008, 0x0000), VR::UL, "")])]),
    );
    identifier.put(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::Items(vec![]));
    identifier.put(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ, Value::Items(vec![DataSet::new()]));
    let query = Query::find(Root::Study, &identifier).unwrap();
    assert_eq!(query.unsupported, []);
    let inside = |tag| {
        query
            .returns
            .iter()
            .find(|key| key.tag == tag)
            .unwrap()
            .items
            .as_ref()
            .map(Vec::len)
    };
    assert_eq!(inside(tags::PROCEDURE_CODE_SEQUENCE), Some(1));
    assert_eq!(inside(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE), None);
    assert_eq!(inside(tags::REFERENCED_STUDY_SEQUENCE), None);
}

/// PS3.4 C.2.2.2.6
#[test]
fn a_sequence_key_with_values_in_its_one_item_is_matched() {
    let code = |value| data_set(&[(tags::CODE_VALUE, VR::SH, value), (tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99X")]);
    let mut identifier = with_level("STUDY", &[]);
    identifier.put(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::Items(vec![code("CT*")]));
    let query = Query::find(Root::Study, &identifier).unwrap();
    assert_eq!((query.keys.len(), query.unsupported), (1, vec![]));
    let stored = |items| {
        DataSet::from_iter([(
            tags::PROCEDURE_CODE_SEQUENCE,
            Element {
                vr: VR::SQ,
                value: Value::Items(items),
            },
        )])
    };
    let other = data_set(&[(tags::CODE_VALUE, VR::SH, "CT1"), (tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM")]);
    for (items, expected) in [
        (vec![code("CT1")], true),
        (vec![code("MR1"), code("CT1")], true),
        // One item has to meet all of it.
        (vec![code("MR1"), other], false),
        (vec![DataSet::new()], false),
        (vec![], false),
    ] {
        assert_eq!(query.keys[0].is_met_by(&stored(items.clone())), expected, "{items:?}");
    }
    assert!(!query.keys[0].is_met_by(&DataSet::new()));
    identifier.put(
        tags::PROCEDURE_CODE_SEQUENCE,
        VR::SQ,
        Value::Items(vec![data_set(&[(tags::CODE_VALUE, VR::SH, "*")])]),
    );
    assert_eq!(Query::find(Root::Study, &identifier).unwrap().keys, []);
}

#[test]
fn binary_numbers_are_matched_by_value() {
    let mut identifier = with_level("IMAGE", &[]);
    identifier.put(tags::ROWS, VR::US, Value::Bytes(vec![0, 2, 1, 0]));
    let query = Query::find(Root::Study, &identifier).unwrap();
    for (rows, expected) in [(512u16, true), (1, true), (256, false)] {
        let mut stored = DataSet::new();
        stored.put(tags::ROWS, VR::US, Value::Bytes(rows.to_le_bytes().to_vec()));
        assert_eq!(query.keys[0].is_met_by(&stored), expected, "{rows}");
    }
    assert!(!query.keys[0].is_met_by(&DataSet::new()));
}

/// PS3.5 7.8.1: the block may be another one in the object than in the identifier.
#[test]
fn a_private_key_is_matched_where_its_creator_reserved_a_block() {
    let keys = [(Tag(0x0009, 0x0010), VR::LO, "ACME"), (Tag(0x0009, 0x1001), VR::LO, "x*")];
    assert_eq!(find(&keys).unsupported, [Tag(0x0009, 0x1001)]);
    let query = Query::find(Root::Study, &with_level("IMAGE", &keys)).unwrap();
    assert_eq!((query.keys.len(), query.unsupported), (1, vec![]));
    let stored = |creator, value| data_set(&[(Tag(0x0009, 0x0011), VR::LO, creator), (Tag(0x0009, 0x1101), VR::LO, value)]);
    assert!(query.keys[0].is_met_by(&stored("ACME", "xyz")));
    assert!(!query.keys[0].is_met_by(&stored("ACME", "abc")));
    assert!(!query.keys[0].is_met_by(&stored("OTHER", "xyz")));
    // Stored in Implicit VR, asked in Implicit VR: neither side knows that it is text.
    let mut unknown = with_level("IMAGE", &keys[..1]);
    unknown.put(Tag(0x0009, 0x1001), VR::UN, Value::Bytes(b"xyz ".to_vec()));
    let query = Query::find(Root::Study, &unknown).unwrap();
    let mut stored = data_set(&keys[..1]);
    stored.put(Tag(0x0009, 0x1001), VR::UN, Value::Bytes(b"xyz\0".to_vec()));
    assert!(query.keys[0].is_met_by(&stored));
}

/// PS3.4 C.2.2.2.5, C.5.1.1
#[test]
fn ranges_of_a_date_and_its_time_are_one_where_that_was_negotiated() {
    let moments = |date: &str, time: &str| {
        let identifier = with_level("STUDY", &[(tags::STUDY_DATE, VR::DA, date), (tags::STUDY_TIME, VR::TM, time)]);
        let extensions = Extensions {
            date_time: true,
            ..Extensions::default()
        };
        Query::find_extended(Root::Study, &identifier, extensions).unwrap().keys
    };
    let end = |date: &str, time: &str| Some((date.to_owned(), time.to_owned()));
    for (date, time, from, to) in [
        (
            "20060705-20060707",
            "1000-1800",
            end("20060705", "100000.000000"),
            end("20060707", "180099.999999"),
        ),
        ("20060705-", "1000-", end("20060705", "100000.000000"), None),
        ("-2006.07.07", "-18:00", None, end("20060707", "180099.999999")),
    ] {
        let keys = moments(date, time);
        assert_eq!(keys.len(), 1, "{date} {time}");
        let range = MomentRange { from, to };
        assert_eq!(
            keys[0].matcher,
            Matcher::Moments {
                time: tags::STUDY_TIME,
                range
            },
            "{date} {time}"
        );
    }
    // Values, and ranges of another form, are matched each for itself.
    for (date, time) in [
        ("20060705", "1000-1800"),
        ("20060705-20060707", "1000"),
        ("20060705-", "1000-1800"),
        ("2006-07-05", "10"),
    ] {
        assert_eq!(moments(date, time).len(), 2, "{date} {time}");
    }
    let separate = find(&[
        (tags::STUDY_DATE, VR::DA, "20060705-20060707"),
        (tags::STUDY_TIME, VR::TM, "1000-1800"),
    ]);
    assert_eq!(separate.keys.len(), 2);
}

#[test]
fn every_model_has_its_levels() {
    for (root, levels) in [
        (Root::Patient, &["PATIENT", "STUDY", "SERIES", "IMAGE"][..]),
        (Root::Study, &["STUDY", "SERIES", "IMAGE"]),
        (Root::PatientStudyOnly, &["PATIENT", "STUDY"]),
        (Root::Instance, &["IMAGE"]),
    ] {
        for level in ["PATIENT", "STUDY", "SERIES", "IMAGE"] {
            assert_eq!(
                Query::find(root, &with_level(level, &[])).is_ok(),
                levels.contains(&level),
                "{root:?} {level}"
            );
        }
    }
}

#[test]
fn a_private_key_knows_who_reserved_its_block() {
    let query = find(&[
        (Tag(0x0009, 0x0010), VR::LO, "ACME "),
        (Tag(0x0009, 0x1001), VR::LO, ""),
        (Tag(0x0009, 0x1101), VR::LO, ""),
    ]);
    let creators: Vec<_> = query.returns.iter().map(|key| key.creator.as_deref()).collect();
    assert_eq!(creators, [Some("ACME"), Some("ACME"), None]);
    assert_eq!(query.unsupported, []);
}

#[test]
fn a_value_that_came_as_unknown_is_read_as_text() {
    let mut identifier = with_level("STUDY", &[]);
    identifier.put(tags::PATIENT_ID, VR::UN, Value::Bytes(b"A1\\A2 ".to_vec()));
    let query = Query::find(Root::Study, &identifier).unwrap();
    assert_eq!(query.keys[0].matcher, globs(&["A1", "A2"]).unwrap());
}

#[test]
fn a_value_beyond_all_limits_is_refused() {
    let error = Query::find(
        Root::Study,
        &with_level("STUDY", &[(tags::PATIENT_ID, VR::LO, &"x".repeat(100_000))]),
    )
    .unwrap_err();
    assert_eq!(error.offending, tags::PATIENT_ID);
    let many = vec!["A"; MAX_VALUES + 1].join("\\");
    let error = Query::find(Root::Study, &with_level("STUDY", &[(tags::PATIENT_ID, VR::LO, &many)])).unwrap_err();
    assert_eq!(error.offending, tags::PATIENT_ID);
}

fn retrieve(root: Root, level: &str, elements: &[(Tag, VR, &str)]) -> Result<Vec<Tag>, Tag> {
    Query::retrieve(root, &with_level(level, elements))
        .map(|query| query.keys.iter().map(|key| key.tag).collect())
        .map_err(|error| error.offending)
}

#[test]
fn a_retrieve_without_its_unique_key_never_means_everything() {
    for (level, tag, vr) in [
        ("PATIENT", tags::PATIENT_ID, VR::LO),
        ("STUDY", tags::STUDY_INSTANCE_UID, VR::UI),
        ("SERIES", tags::SERIES_INSTANCE_UID, VR::UI),
        ("IMAGE", tags::SOP_INSTANCE_UID, VR::UI),
    ] {
        assert_eq!(retrieve(Root::Patient, level, &[]), Err(tag));
        for text in ["", " ", "*", "\0", "\\", "?", "* ", "**"] {
            assert_eq!(retrieve(Root::Patient, level, &[(tag, vr, text)]), Err(tag), "{level} {text:?}");
        }
    }
    for text in ["1.2.*", "1.2\\junk", "../../etc/passwd", "' OR 1=1 --"] {
        let keys = [(tags::STUDY_INSTANCE_UID, VR::UI, text)];
        assert_eq!(retrieve(Root::Study, "STUDY", &keys), Err(tags::STUDY_INSTANCE_UID), "{text}");
    }
}

#[test]
fn a_retrieve_takes_unique_keys_and_ignores_the_others() {
    let patient = (tags::PATIENT_ID, VR::LO, "P1");
    let accession = (tags::ACCESSION_NUMBER, VR::SH, "ACC");
    let study = (tags::STUDY_INSTANCE_UID, VR::UI, "1.2\\1.3");
    let series = (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.1");
    let image = (tags::SOP_INSTANCE_UID, VR::UI, "1.2.1.1");
    let modality = (tags::MODALITY, VR::CS, "CT");
    for (root, level, keys, expected) in [
        (Root::Patient, "PATIENT", vec![patient, modality], vec![tags::PATIENT_ID]),
        (
            Root::Patient,
            "PATIENT",
            vec![patient, (tags::ISSUER_OF_PATIENT_ID, VR::LO, "H")],
            vec![tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID],
        ),
        (
            Root::Study,
            "STUDY",
            vec![study, accession, patient],
            vec![tags::STUDY_INSTANCE_UID],
        ),
        (
            Root::Patient,
            "STUDY",
            vec![study, accession, patient],
            vec![tags::PATIENT_ID, tags::STUDY_INSTANCE_UID],
        ),
        (
            Root::Patient,
            "STUDY",
            vec![study, (tags::PATIENT_ID, VR::LO, ""), (tags::ACCESSION_NUMBER, VR::SH, "")],
            vec![tags::STUDY_INSTANCE_UID],
        ),
        (Root::Study, "STUDY", vec![accession], vec![tags::ACCESSION_NUMBER]),
        (
            Root::Study,
            "STUDY",
            vec![accession, (tags::STUDY_INSTANCE_UID, VR::UI, "")],
            vec![tags::ACCESSION_NUMBER],
        ),
        (Root::Study, "SERIES", vec![series], vec![tags::SERIES_INSTANCE_UID]),
        (
            Root::Study,
            "SERIES",
            vec![study, series],
            vec![tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID],
        ),
        (Root::Study, "IMAGES", vec![image], vec![tags::SOP_INSTANCE_UID]),
    ] {
        assert_eq!(retrieve(root, level, &keys), Ok(expected), "{level} {keys:?}");
    }
}

#[test]
fn accession_number_alone_is_for_studies_and_no_wildcard() {
    let accession = [(tags::ACCESSION_NUMBER, VR::SH, "ACC")];
    assert_eq!(retrieve(Root::Study, "SERIES", &accession), Err(tags::SERIES_INSTANCE_UID));
    let wild = [(tags::ACCESSION_NUMBER, VR::SH, "ACC*")];
    assert_eq!(retrieve(Root::Study, "STUDY", &wild), Err(tags::STUDY_INSTANCE_UID));
}

#[test]
fn a_patient_is_retrieved_by_one_id() {
    let several = [(tags::PATIENT_ID, VR::LO, "P1\\P2")];
    assert_eq!(retrieve(Root::Patient, "PATIENT", &several), Err(tags::PATIENT_ID));
}

#[test]
fn a_wildcard_above_the_level_of_a_retrieve_is_refused() {
    let keys = [(tags::STUDY_INSTANCE_UID, VR::UI, "*"), (tags::SERIES_INSTANCE_UID, VR::UI, "1.2")];
    assert_eq!(retrieve(Root::Study, "SERIES", &keys), Err(tags::STUDY_INSTANCE_UID));
}

proptest! {
    /// Whatever the bytes were: no panic, a comment that fits, and no retrieve without a condition.
    #[test]
    fn any_identifier_is_a_query_or_a_refusal(
        level in prop::sample::select(vec!["PATIENT", "STUDY", "SERIES", "IMAGE", "", "X"]),
        elements in prop::collection::vec((any::<u16>(), any::<u16>(), 0usize..34, "\\PC{0,12}|[0-9.*?\\\\ -]{0,12}"), 0..12),
        known in prop::collection::vec((0usize..6, "\\PC{0,12}|[0-9.*?\\\\ -]{0,12}"), 0..6),
    ) {
        let vrs = [
            VR::AE, VR::AS, VR::AT, VR::CS, VR::DA, VR::DS, VR::DT, VR::FL, VR::FD, VR::IS, VR::LO, VR::LT, VR::OB, VR::OD, VR::OF, VR::OL,
            VR::OV, VR::OW, VR::PN, VR::SH, VR::SL, VR::SQ, VR::SS, VR::ST, VR::SV, VR::TM, VR::UC, VR::UI, VR::UL, VR::UN, VR::UR, VR::US,
            VR::UT, VR::UV,
        ];
        let keys = [
            tags::PATIENT_ID, tags::PATIENT_NAME, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID, tags::SOP_INSTANCE_UID, tags::STUDY_DATE,
        ];
        let mut identifier = with_level(level, &[]);
        for (group, element, vr, text) in elements {
            let tag = Tag(group, element);
            let value = match vrs[vr] {
                VR::SQ => Value::Items(vec![data_set(&[(tags::CODE_VALUE, VR::SH, &text)])]),
                vr if is_text(vr) => Value::Text(text.split('\\').map(str::to_owned).collect()),
                _ => Value::Bytes(text.into_bytes()),
            };
            identifier.put(tag, vrs[vr], value);
        }
        for (key, text) in known {
            identifier.put(keys[key], VR::UN, Value::Bytes(text.into_bytes()));
        }
        for root in [Root::Patient, Root::Study] {
            if let Err(error) = Query::find(root, &identifier) {
                prop_assert!(error.comment.chars().count() <= 64);
            }
            match Query::retrieve(root, &identifier) {
                Ok(query) => prop_assert!(query.keys.iter().any(|key| crate::query::attributes::level(key.tag) == query.level)),
                Err(error) => prop_assert!(error.comment.chars().count() <= 64),
            }
        }
    }
}

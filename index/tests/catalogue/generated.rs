//! Catalogues and queries by chance, from pools so small that queries find something.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use filmroom_index::catalogue::Arrival;
use filmroom_index::dataset::{DataSet, Value};
use filmroom_index::query::reference::Entity;
use filmroom_index::query::{Extensions, Root};
use proptest::sample::select;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::objects::{bytes, slice, uid};

/// An attribute and what it may be.
type Pool = (Tag, VR, &'static [&'static str]);

const NAMES: &[&str] = &[
    "Müller^Jürgen",
    "MULLER^JURGEN",
    "Doe^John",
    "Doe^Jane^^Dr",
    "doe",
    "O'Neil^50%_\"x\"",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "=山田^花子",
    "Straße^Max",
    "[a]^b c",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "",
];
const DATES: &[&str] = &[
    "20040119",
    "2004.01.19",
    "20040201",
    "19970424",
    "20261124",
    "1997",
    "junk",
    "00000000",
    "",
];
const TIMES: &[&str] = &["101112", "10:11", "101112.500000", "000000", "235959.999999", "9am", ""];
const TEXTS: &[&str] = &[
    "A1",
    "a1",
    "A1 ",
    "A%1",
    "A_1",
    "A[1]",
    "A'1",
    "A\"1",
    "Thorax nativ",
    "Thorax  CT",
    "Ärztin",
    "{A}",
    "$1",
    "",
];

/// Sequences of one item a value.
const CODES: &[&str] = &["CT1", "CT1\\MR1", "MR1", "", "A%1"];

/// Private, of a creator who reserves one block or another.
pub(crate) const PRIVATE: Tag = Tag(0x0009, 0x1001);
const CREATOR: &str = "ACME";

/// Attributes by level, those with a column and those that only headers have.
const POOLS: [&[Pool]; 4] = [
    &[
        (tags::PATIENT_ID, VR::LO, TEXTS),
        (tags::ISSUER_OF_PATIENT_ID, VR::LO, &["H1", "H2", ""]),
        (tags::PATIENT_NAME, VR::PN, NAMES),
        (tags::PATIENT_BIRTH_DATE, VR::DA, DATES),
        (tags::PATIENT_SEX, VR::CS, &["M", "F", ""]),
        (tags::ETHNIC_GROUPS, VR::UC, TEXTS),
        (tags::RESPONSIBLE_PERSON, VR::PN, NAMES),
    ],
    &[
        (tags::STUDY_DATE, VR::DA, DATES),
        (tags::STUDY_TIME, VR::TM, TIMES),
        (tags::ACCESSION_NUMBER, VR::SH, TEXTS),
        (tags::STUDY_ID, VR::SH, TEXTS),
        (tags::STUDY_DESCRIPTION, VR::LO, TEXTS),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, NAMES),
        (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, TEXTS),
        (tags::PATIENT_AGE, VR::AS, &["042Y", "007M", ""]),
        (tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, CODES),
    ],
    &[
        (tags::MODALITY, VR::CS, &["CT", "MR", "CR", "SR", "C_T", ""]),
        (tags::SERIES_NUMBER, VR::IS, &["1", "01", "2", "x", ""]),
        (tags::SERIES_DESCRIPTION, VR::LO, TEXTS),
        (tags::BODY_PART_EXAMINED, VR::CS, &["HEAD", "CHEST", ""]),
        (tags::SERIES_DATE, VR::DA, DATES),
        (tags::SERIES_TIME, VR::TM, TIMES),
        (tags::STATION_NAME, VR::SH, TEXTS),
        (tags::OPERATORS_NAME, VR::PN, NAMES),
        (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, DATES),
        (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, TIMES),
        (tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, CODES),
    ],
    &[
        (tags::INSTANCE_NUMBER, VR::IS, &["1", "2", "10", "-3", "1.5", ""]),
        (
            tags::IMAGE_TYPE,
            VR::CS,
            &["ORIGINAL\\PRIMARY", "DERIVED\\SECONDARY", "ORIGINAL", ""],
        ),
        (tags::SLICE_THICKNESS, VR::DS, &["1.50", "1.5", "2", ""]),
        (
            tags::ACQUISITION_DATE_TIME,
            VR::DT,
            &["20040119101112.5", "20040119091112+0100", "2004", ""],
        ),
        (tags::IMAGE_COMMENTS, VR::LT, TEXTS),
        (tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, CODES),
        (tags::ROWS, VR::US, &["512", "256", "512\\256", ""]),
        (PRIVATE, VR::LO, TEXTS),
    ],
];

const CLASSES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
];

/// What a peer with bad intentions or a broken keyboard sends.
const HOSTILE: &[&str] = &[
    "'; DROP TABLE patients; --",
    "' OR '1'='1",
    "%",
    "_",
    "*%*",
    "?_*",
    "[",
    "[a-z]*",
    "*[!x]*",
    "A\0\u{1}",
    "\\\\",
    "$1",
    "{\"a\":[1]}",
    "*'*",
    "*\"*",
    "\u{10ffff}*",
    "*?",
    "??",
    "=",
    "*=*",
    "^*",
];

pub(crate) fn pick<T: Clone + std::fmt::Debug + 'static>(runner: &mut TestRunner, pool: &[T]) -> T {
    select(pool.to_vec()).new_tree(runner).unwrap().current()
}

pub(crate) fn below(runner: &mut TestRunner, end: usize) -> usize {
    (0..end).new_tree(runner).unwrap().current()
}

/// Patients and the objects that make them.
#[derive(Default)]
pub(crate) struct Generated {
    pub(crate) patients: Vec<Entity>,
    pub(crate) arrivals: Vec<Arrival>,
}

/// A catalogue of at most `patients` patients.
pub(crate) fn catalogue(runner: &mut TestRunner, patients: usize) -> Generated {
    let mut generated = Generated::default();
    let mut known = std::collections::HashSet::new();
    let mut study_number = 0;
    for _ in 0..patients {
        let mut patient = entity(runner, 0, &DataSet::new());
        let identity =
            [tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID].map(|tag| patient.attributes.text(tag).unwrap_or("").trim().to_owned());
        let nameless = identity[0].is_empty();
        if !nameless && !known.insert(identity) {
            continue;
        }
        for _ in 0..if nameless { 1 } else { 1 + below(runner, 3) } {
            study_number += 1;
            let study = study(runner, &patient.attributes, study_number, &mut generated.arrivals);
            patient.below.push(study);
        }
        generated.patients.push(patient);
    }
    generated
}

fn study(runner: &mut TestRunner, above: &DataSet, number: u32, arrivals: &mut Vec<Arrival>) -> Entity {
    let mut study = entity(runner, 1, above);
    study.attributes.put_text(tags::STUDY_INSTANCE_UID, VR::UI, format!("1.2.{number}"));
    for series_number in 1..2 + below(runner, 3) as u32 {
        let mut series = entity(runner, 2, &study.attributes);
        let series_uid = format!("1.2.{number}.{series_number}");
        series.attributes.put_text(tags::SERIES_INSTANCE_UID, VR::UI, series_uid);
        for instance in 1..2 + below(runner, 3) as u32 {
            let mut image = entity(runner, 3, &series.attributes);
            let class = pick(runner, CLASSES);
            let mut arrival = slice(number, series_number, instance);
            image.attributes.put_text(tags::SOP_CLASS_UID, VR::UI, class);
            image
                .attributes
                .put_text(tags::SOP_INSTANCE_UID, VR::UI, arrival.sop_instance.as_str());
            arrival.sop_class = uid(class);
            arrival.header.attributes = image.attributes.clone();
            arrival.sha256 = Some(bytes(arrival.sop_instance.as_str()));
            arrivals.push(arrival);
            series.below.push(image);
        }
        study.below.push(series);
    }
    study
}

fn entity(runner: &mut TestRunner, level: usize, above: &DataSet) -> Entity {
    let mut attributes = above.clone();
    for (tag, vr, pool) in POOLS[level] {
        let text = pick(runner, pool);
        if below(runner, 12) > 0 {
            put(&mut attributes, *tag, *vr, text, 0x10 + u16::from(below(runner, 2) == 1));
        }
    }
    Entity {
        attributes,
        below: Vec::new(),
    }
}

/// Puts what a text stands for into an object or an identifier; a private attribute into this block.
pub(crate) fn put(attributes: &mut DataSet, tag: Tag, vr: VR, text: &str, block: u16) {
    let values = text.split('\\');
    let value = match vr {
        _ if text.is_empty() => Value::Text(Vec::new()),
        VR::SQ => Value::Items(values.map(code).collect()),
        VR::US => Value::Bytes(
            values
                .filter_map(|value| value.parse::<u16>().ok())
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        _ => Value::Text(values.map(str::to_owned).collect()),
    };
    match tag {
        PRIVATE => {
            attributes.put_text(Tag(tag.group(), block), VR::LO, CREATOR);
            attributes.put(Tag(tag.group(), block << 8 | tag.element() & 0xff), vr, value);
        }
        _ => attributes.put(tag, vr, value),
    }
}

fn code(value: &str) -> DataSet {
    let mut item = DataSet::new();
    item.put_text(tags::CODE_VALUE, VR::SH, value);
    item.put_text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "99X");
    item
}

/// Keys of an identifier.
pub(crate) type Keys = Vec<(Tag, VR, String)>;

/// A root, a level, some keys and what was negotiated.
pub(crate) fn query(runner: &mut TestRunner) -> (Root, &'static str, Keys, Extensions) {
    let (root, level) = pick(
        runner,
        &[
            (Root::Patient, "PATIENT"),
            (Root::Patient, "STUDY"),
            (Root::Study, "STUDY"),
            (Root::Study, "SERIES"),
            (Root::Study, "IMAGE"),
        ],
    );
    let mut keys: Keys = (0..1 + below(runner, 3)).map(|_| key(runner)).collect();
    let extensions = Extensions {
        date_time: below(runner, 3) == 0,
        fuzzy_names: below(runner, 3) == 0,
    };
    if extensions.date_time {
        keys.extend(moments(runner));
    }
    (root, level, keys, extensions)
}

/// One query for each key and each hostile value.
pub(crate) fn hostile_queries() -> impl Iterator<Item = Keys> {
    let tags = POOLS.iter().flat_map(|pool| pool.iter()).map(|(tag, vr, _)| (*tag, *vr));
    let more = [
        (tags::MODALITIES_IN_STUDY, VR::CS),
        (tags::STUDY_INSTANCE_UID, VR::UI),
        (tags::SERIES_INSTANCE_UID, VR::UI),
        (tags::SOP_INSTANCE_UID, VR::UI),
    ];
    tags.chain(more)
        .flat_map(|(tag, vr)| HOSTILE.iter().map(move |text| vec![(tag, vr, (*text).to_owned())]))
}

fn key(runner: &mut TestRunner) -> (Tag, VR, String) {
    match below(runner, 20) {
        0 => {
            return (
                tags::MODALITIES_IN_STUDY,
                VR::CS,
                pick(runner, &["CT", "MR\\SR", "C*", "?R", "C?T", "*R\\CT"]).to_owned(),
            );
        }
        1 => return (tags::SOP_CLASSES_IN_STUDY, VR::UI, pick(runner, CLASSES).to_owned()),
        2 => return (tags::SOP_CLASS_UID, VR::UI, pick(runner, CLASSES).to_owned()),
        3 => {
            let (tag, tail) = pick(
                runner,
                &[
                    (tags::STUDY_INSTANCE_UID, ""),
                    (tags::SERIES_INSTANCE_UID, ".1"),
                    (tags::SOP_INSTANCE_UID, ".1.1"),
                ],
            );
            let uids: Vec<String> = (0..4).map(|_| format!("1.2.{}{tail}", 1 + below(runner, 40))).collect();
            return (tag, VR::UI, uids.join("\\"));
        }
        _ => {}
    }
    // Instance attributes without a column are only matched at IMAGE level, and asked for less often.
    let level = pick(runner, &[0, 0, 1, 1, 2, 2, 3]);
    let (tag, vr, pool) = pick(runner, POOLS[level]);
    let value = pick(runner, pool);
    (tag, vr, varied(runner, vr, value, pool))
}

/// Ranges of a date and its time, mostly of one form.
fn moments(runner: &mut TestRunner) -> Keys {
    let (date, time) = pick(
        runner,
        &[
            (tags::STUDY_DATE, tags::STUDY_TIME),
            (tags::SERIES_DATE, tags::SERIES_TIME),
            (tags::PERFORMED_PROCEDURE_STEP_START_DATE, tags::PERFORMED_PROCEDURE_STEP_START_TIME),
        ],
    );
    let forms = &[
        ("20040119-20040201", "1000-1011"),
        ("20040119-", "101112-"),
        ("-20040201", "-10"),
        ("20040119-", "10-11"),
        ("20040119", "10-11"),
    ];
    let (days, times) = pick(runner, forms);
    vec![(date, VR::DA, days.to_owned()), (time, VR::TM, times.to_owned())]
}

/// A value as somebody searches for it.
fn varied(runner: &mut TestRunner, vr: VR, value: &str, pool: &[&'static str]) -> String {
    let chars: Vec<char> = value.chars().collect();
    let cut = below(runner, chars.len() + 1);
    let (front, back): (String, String) = (chars[..cut].iter().collect(), chars[cut..].iter().collect());
    let other = pick(runner, pool);
    match (vr, below(runner, 10)) {
        (_, 0) => pick(runner, HOSTILE).to_owned(),
        (VR::DA | VR::TM | VR::DT, 1..=2) => format!("{value}-"),
        (VR::DA | VR::TM | VR::DT, 3) => format!("-{value}"),
        (VR::DA | VR::TM | VR::DT, 4..=5) => format!("{value} - {other}"),
        (VR::DA | VR::TM | VR::DT, 6) => front,
        (_, 1) => format!("{front}*"),
        (_, 2) => format!("*{back}"),
        (_, 3) => format!("{front}?{}", back.chars().skip(1).collect::<String>()),
        (_, 4) => format!("*{}*", back.chars().take(2).collect::<String>()),
        (_, 5) => format!("{front}*{}", back.chars().skip(1).collect::<String>()),
        // The words of a name, as somebody types them who does not know DICOM.
        (VR::PN, 8) => value.replace(['^', '='], " ").to_lowercase(),
        (VR::PN, 6) => value.split('=').next().unwrap().to_uppercase(),
        (VR::PN, 7) => value.split('=').next_back().unwrap().to_owned(),
        (_, 6) => format!("{value}\\{other}"),
        _ => value.to_owned(),
    }
}

//! Round trips of any data set: through DICOM JSON, and through every encoding and the scanner.

use dicom_core::{Tag, VR};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::header;
use crate::model::{Encoding, Uid, transfer_syntax};

/// An attribute of every representation that the dictionary is sure of, so that implicit VR tells it too.
const ATTRIBUTES: [(Tag, VR); 33] = [
    (Tag(0x0008, 0x0008), VR::CS),
    (Tag(0x0008, 0x0018), VR::UI),
    (Tag(0x0008, 0x0020), VR::DA),
    (Tag(0x0008, 0x002A), VR::DT),
    (Tag(0x0008, 0x0030), VR::TM),
    (Tag(0x0008, 0x0050), VR::SH),
    (Tag(0x0008, 0x0054), VR::AE),
    (Tag(0x0008, 0x0119), VR::UC),
    (Tag(0x0008, 0x0120), VR::UR),
    (Tag(0x0010, 0x0010), VR::PN),
    (Tag(0x0010, 0x0020), VR::LO),
    (Tag(0x0010, 0x1010), VR::AS),
    (Tag(0x0010, 0x1030), VR::DS),
    (Tag(0x0010, 0x21B0), VR::LT),
    (Tag(0x0018, 0x6020), VR::SL),
    (Tag(0x0018, 0x602C), VR::FD),
    (Tag(0x0020, 0x0013), VR::IS),
    (Tag(0x0028, 0x0009), VR::AT),
    (Tag(0x0028, 0x0010), VR::US),
    (Tag(0x0028, 0x9503), VR::SS),
    (Tag(0x0040, 0x0310), VR::ST),
    (Tag(0x0040, 0xA160), VR::UT),
    (Tag(0x0008, 0x1140), VR::SQ),
    (Tag(0x0040, 0xA730), VR::SQ),
    (Tag(0x0040, 0xA132), VR::UL),
    (Tag(0x0042, 0x0011), VR::OB),
    (Tag(0x0066, 0x0016), VR::OF),
    (Tag(0x0066, 0x0022), VR::OD),
    (Tag(0x0066, 0x0040), VR::OL),
    (Tag(0x0018, 0x9328), VR::FD),
    (Tag(0x0028, 0x1201), VR::OW),
    (Tag(0x0018, 0x605A), VR::FL),
    (Tag(0x7FE0, 0x0001), VR::OV),
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9^=.*?]{0,12}",
        1 => "[A-Z\u{e9}\u{fc}]{0,8}",
        1 => "[A-Z\u{738b}\u{5c71}\u{1f600}]{0,8}",
    ]
}

fn value(vr: VR, depth: u32) -> BoxedStrategy<Value> {
    if vr == VR::SQ {
        return vec(data_set(depth - 1), 0..3).prop_map(Value::Items).boxed();
    }
    if representation::takes_several_values(vr) {
        return vec(text(), 0..4).prop_map(Value::Text).boxed();
    }
    if representation::is_text(vr) {
        return vec(text(), 0..2).prop_map(Value::Text).boxed();
    }
    let unit = if vr == VR::AT { 4 } else { representation::word_width(vr) };
    vec(vec(any::<u8>(), unit), 0..5)
        .prop_map(|units| Value::Bytes(units.concat()))
        .boxed()
}

fn data_set(depth: u32) -> BoxedStrategy<DataSet> {
    let element = (0..ATTRIBUTES.len()).prop_filter_map("sequences end somewhere", move |number| {
        let (tag, vr) = ATTRIBUTES[number];
        (vr != VR::SQ || depth > 0).then_some((tag, vr))
    });
    let element = element.prop_flat_map(move |(tag, vr)| value(vr, depth).prop_map(move |value| (tag, Element { vr, value })));
    vec(element, 0..8).prop_map(DataSet::from_iter).boxed()
}

/// What a data set is once its bytes were read: one empty text is no text, odd binary values have a byte of padding, and the
/// character set is declared where it has to be.
fn as_read(data_set: &DataSet) -> DataSet {
    let element = |(tag, element): (Tag, &Element)| {
        let value = match &element.value {
            Value::Text(values) if values.iter().all(String::is_empty) && values.len() == 1 => Value::Text(Vec::new()),
            Value::Bytes(bytes) if bytes.len() % 2 == 1 => Value::Bytes([bytes.as_slice(), &[0]].concat()),
            Value::Items(items) => Value::Items(items.iter().map(as_read).collect()),
            other => other.clone(),
        };
        (tag, Element { vr: element.vr, value })
    };
    data_set.iter().map(element).collect()
}

fn read(bytes: &[u8], syntax: &str) -> DataSet {
    let mut header = header::scan(bytes, &Uid::parse(syntax).unwrap()).unwrap();
    assert!(!header.partial);
    header.attributes.remove(Tag(0x0008, 0x0005));
    header.attributes
}

proptest! {
    #[test]
    fn json_loses_nothing(data_set in data_set(3)) {
        let text = serde_json::to_string(&data_set.to_json()).unwrap();
        prop_assert_eq!(&serde_json::to_string(&data_set).unwrap(), &text);
        let back = DataSet::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        // NaN is not equal to itself: numbers are bytes here.
        prop_assert_eq!(back, data_set);
    }

    #[test]
    fn a_binary_value_of_any_length_survives_json(number in 0..ATTRIBUTES.len(), bytes in vec(any::<u8>(), 1..20)) {
        let (tag, vr) = ATTRIBUTES[number];
        let data_set: DataSet = [(tag, Element { vr, value: Value::Bytes(bytes) })].into_iter().collect();
        prop_assert_eq!(DataSet::from_json(&data_set.to_json()).unwrap(), data_set);
    }

    #[test]
    fn names_survive_json_however_many_delimiters_they_have(name in "[A^=]{1,9}") {
        let mut data_set = DataSet::new();
        data_set.put_text(Tag(0x0010, 0x0010), VR::PN, name);
        prop_assert_eq!(DataSet::from_json(&data_set.to_json()).unwrap(), data_set);
    }

    #[test]
    fn the_scanner_reads_back_what_was_encoded(data_set in data_set(3)) {
        for (encoding, syntax) in [
            (Encoding::ImplicitLittle, transfer_syntax::IMPLICIT_LITTLE),
            (Encoding::ExplicitLittle, transfer_syntax::EXPLICIT_LITTLE),
            (Encoding::ExplicitBig, transfer_syntax::EXPLICIT_BIG),
            (Encoding::DeflatedExplicitLittle, transfer_syntax::DEFLATED),
        ] {
            let bytes = data_set.encode(encoding);
            prop_assert_eq!(bytes.len() % 2, 0);
            prop_assert_eq!(read(&bytes, syntax), as_read(&data_set), "{:?}", encoding);
        }
    }

    #[test]
    fn reading_json_never_panics(text in r#"\{("[0-9A-G]{7,9}":\{"vr":"(US|SQ|PN|LO|AT|FL)"(,"(Value|InlineBinary|BulkDataURI)":(\[[-0-9.]{0,6}\]|"[#0-9,A=]{0,8}"|\[null\]))?\},?){0,2}\}"#) {
        if let Ok(json) = serde_json::from_str(&text) {
            let _ = DataSet::from_json(&json);
        }
    }
}

#[test]
fn long_text_survives_the_sixteen_bit_length() {
    let text = "0123456789".repeat(7000);
    let mut data_set = DataSet::new();
    data_set.put_text(Tag(0x0010, 0x21B0), VR::LT, &text);
    data_set.put_text(Tag(0x0020, 0x000D), VR::UI, "1.2.3");
    for (encoding, syntax) in [
        (Encoding::ExplicitLittle, transfer_syntax::EXPLICIT_LITTLE),
        (Encoding::ExplicitBig, transfer_syntax::EXPLICIT_BIG),
    ] {
        let header = header::scan(&data_set.encode(encoding), &Uid::parse(syntax).unwrap()).unwrap();
        assert!(header.partial);
        assert_eq!(header.attributes.text(Tag(0x0010, 0x21B0)), Some(&text[..header::MAX_TEXT]));
        assert_eq!(header.attributes.text(Tag(0x0020, 0x000D)), Some("1.2.3"));
    }
}

#[test]
fn the_json_is_the_model_of_the_standard() {
    let mut item = DataSet::new();
    item.put_text(Tag(0x0008, 0x1155), VR::UI, "1.2.3");
    let mut data_set = DataSet::new();
    data_set.put_text(Tag(0x0010, 0x0010), VR::PN, "Wang^XiaoDong=\u{738b}^\u{5c0f}\u{6771}");
    data_set.put(Tag(0x0010, 0x1001), VR::PN, Value::Text(vec![String::new(), "==c".to_owned()]));
    data_set.put(Tag(0x0010, 0x1010), VR::AS, Value::Text(Vec::new()));
    data_set.put(Tag(0x0020, 0x0013), VR::IS, Value::Text(vec!["007".to_owned()]));
    data_set.put(Tag(0x0028, 0x0009), VR::AT, Value::Bytes(vec![0x18, 0, 0x63, 0x10]));
    data_set.put(Tag(0x0028, 0x0010), VR::US, Value::Bytes(vec![0, 2]));
    data_set.put(Tag(0x0018, 0x605A), VR::FL, Value::Bytes(vec![0, 0, 0xC0, 0x3F]));
    data_set.put(Tag(0x0018, 0x602C), VR::FD, Value::Bytes(f64::NAN.to_le_bytes().to_vec()));
    data_set.put(Tag(0x0009, 0x1001), VR::UN, Value::Bytes(vec![1, 2, 3]));
    data_set.put(Tag(0x0008, 0x1140), VR::SQ, Value::Items(vec![item, DataSet::new()]));
    let bulk = Value::Bulk {
        offset: 4_294_967_296,
        length: 2048,
    };
    data_set.put(Tag(0x0042, 0x0011), VR::OB, bulk);
    let expected = json!({
        "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}, {}]},
        "00091001": {"vr": "UN", "InlineBinary": "AQID"},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wang^XiaoDong", "Ideographic": "\u{738b}^\u{5c0f}\u{6771}"}]},
        "00101001": {"vr": "PN", "Value": [null, {"Phonetic": "c"}]},
        "00101010": {"vr": "AS"},
        "0018602C": {"vr": "FD", "InlineBinary": "AAAAAAAA+H8="},
        "0018605A": {"vr": "FL", "Value": [1.5]},
        "00200013": {"vr": "IS", "Value": ["007"]},
        "00280009": {"vr": "AT", "Value": ["00181063"]},
        "00280010": {"vr": "US", "Value": [512]},
        "00420011": {"vr": "OB", "BulkDataURI": "#4294967296,2048"},
    });
    assert_eq!(data_set.to_json(), expected);
    assert_eq!(DataSet::from_json(&expected).unwrap(), data_set);
}

#[test]
fn json_that_is_no_data_set_is_refused_with_the_key_at_fault() {
    for (json, at) in [
        (json!([]), ""),
        (json!({"0010001": {"vr": "PN"}}), "0010001"),
        (json!({"00100010": {}}), "00100010"),
        (json!({"00100010": {"vr": "PN", "Value": ["A"]}}), "00100010"),
        (json!({"00280010": {"vr": "US", "Value": [65536]}}), "00280010"),
        (
            json!({"00081140": {"vr": "SQ", "Value": [{"00280010": {"vr": "US", "Value": [-1]}}]}}),
            "00280010",
        ),
        (json!({"00091001": {"vr": "UN", "InlineBinary": "?"}}), "00091001"),
        (json!({"00091001": {"vr": "UN", "BulkDataURI": "http://elsewhere/1"}}), "00091001"),
    ] {
        assert_eq!(DataSet::from_json(&json).unwrap_err().at, at, "{json}");
    }
}

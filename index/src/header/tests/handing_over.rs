//! A sequence of which there may be more than a header holds: its items are handed over as they come.

use super::*;

const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1199);
const REFERENCED_SOP_INSTANCE: Tag = Tag(0x0008, 0x1155);

fn scanner(syntax: &str) -> Scanner {
    Scanner::handing_over(&uid(syntax), REFERENCED_SOP_SEQUENCE)
}

fn reference(number: usize) -> Vec<u8> {
    let value = format!("1.2.{number:06}");
    let content = element(0x0008, 0x1155, b"UI", value.as_bytes());
    [item(u32::try_from(content.len()).unwrap()), content].concat()
}

#[test]
fn any_number_of_items_is_handed_over_and_the_rest_is_a_header() {
    let mut data_set = element(0x0008, 0x1195, b"UI", b"1.22");
    data_set.extend(fields(0x0008, 0x1199, b"SQ", UNDEFINED));
    (0..20_000).for_each(|number| data_set.extend(reference(number)));
    data_set.extend(sequence_end());
    data_set.extend(element(0x0010, 0x0020, b"LO", b"P1"));
    let mut scanner = scanner(NATIVE);
    let (mut taken, mut most) = (0, 0);
    for chunk in data_set.chunks(4099) {
        scanner.push(chunk).unwrap();
        let items = scanner.take_items();
        most = most.max(items.len());
        for item in items {
            assert_eq!(item.text(REFERENCED_SOP_INSTANCE), Some(format!("1.2.{taken:06}").as_str()));
            taken += 1;
        }
    }
    assert_eq!(taken, 20_000);
    assert!(most < 200, "{most} items waited");
    let header = scanner.finish().unwrap();
    assert!(!header.partial);
    assert_eq!(header.attributes.text(Tag(0x0008, 0x1195)), Some("1.22"));
    assert_eq!(header.attributes.text(Tag(0x0010, 0x0020)), Some("P1"));
    assert!(header.attributes.items(REFERENCED_SOP_SEQUENCE).is_empty());
}

#[test]
fn only_the_sequence_of_the_top_level_is_handed_over() {
    let inner = [fields(0x0008, 0x1199, b"SQ", UNDEFINED), reference(1), sequence_end()].concat();
    let outer = [
        fields(0x0008, 0x1115, b"SQ", UNDEFINED),
        item(UNDEFINED),
        inner,
        item_end(),
        sequence_end(),
        fields(0x0008, 0x1199, b"SQ", u32::try_from(reference(2).len()).unwrap()),
        reference(2),
    ]
    .concat();
    let mut scanner = scanner(NATIVE);
    scanner.push(&outer).unwrap();
    let items = scanner.take_items();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].text(REFERENCED_SOP_INSTANCE), Some("1.2.000002"));
    let header = scanner.finish().unwrap();
    let kept = &header.attributes.items(Tag(0x0008, 0x1115))[0];
    assert_eq!(kept.items(REFERENCED_SOP_SEQUENCE).len(), 1);
}

#[test]
fn an_item_that_no_header_could_hold_makes_it_partial() {
    let long = element(0x0009, 0x1000, b"UT", &[b'x'; 16_000]);
    let content = [long.clone(), long.clone(), long.clone(), long].concat();
    let data_set = [
        fields(0x0008, 0x1199, b"SQ", UNDEFINED),
        item(u32::try_from(content.len()).unwrap()),
        content,
        reference(2),
        sequence_end(),
    ]
    .concat();
    let mut scanner = scanner(NATIVE);
    scanner.push(&data_set).unwrap();
    assert_eq!(scanner.take_items().len(), 2, "the next item has its room again");
    assert!(scanner.finish().unwrap().partial);
}

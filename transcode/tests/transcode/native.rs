//! Native rewriting (PS3.5 A.1 to A.5): every pair of native transfer syntaxes on the real files, compared element by element as another reader sees them.

use crate::support::{NATIVE, files, object, patience, stored_bytes, uid};
use dicom_core::value::Value;
use dicom_core::{Tag, VR};
use dicom_object::{InMemDicomObject, OpenFileOptions};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use filmroom_index::model::Uid;
use filmroom_transcode::syntax::is_native;
use filmroom_transcode::{Codec, transcode};

fn read(bytes: &[u8], syntax: &Uid) -> InMemDicomObject {
    let syntax = TransferSyntaxRegistry.get(syntax.as_str()).unwrap();
    InMemDicomObject::read_dataset_with_ts(bytes, syntax).unwrap()
}

/// Whether two readings have the same elements. `vrs`: with the same VRs, which Implicit VR does not keep.
fn same(one: &InMemDicomObject, other: &InMemDicomObject, vrs: bool, path: &str) {
    let left = |tag: Tag| tag.element() == 0 || tag.group() == 0;
    let one: Vec<_> = one.iter().filter(|e| !left(e.header().tag)).collect();
    let other: Vec<_> = other.iter().filter(|e| !left(e.header().tag)).collect();
    let tags = |elements: &[&dicom_object::mem::InMemElement]| elements.iter().map(|e| e.header().tag).collect::<Vec<_>>();
    assert_eq!(tags(&one), tags(&other), "{path}");
    for (a, b) in one.into_iter().zip(other) {
        let (tag, vr) = (a.header().tag, a.vr());
        let path = format!("{path}/{tag}");
        match (a.value(), b.value()) {
            (Value::Sequence(a), Value::Sequence(b)) => {
                assert_eq!(a.items().len(), b.items().len(), "{path}");
                for (number, (a, b)) in a.items().iter().zip(b.items()).enumerate() {
                    same(a, b, vrs, &format!("{path}[{number}]"));
                }
            }
            (Value::Sequence(_), _) | (_, Value::Sequence(_)) => assert!(!vrs, "{path}: a sequence and none"),
            (Value::Primitive(one), Value::Primitive(other)) => {
                if vrs {
                    assert!(vr == b.vr() || vr == VR::UN || b.vr() == VR::UN, "{path}: {vr} and {}", b.vr());
                }
                if vr == b.vr() {
                    // A value of odd length is padded.
                    let words = matches!(vr, VR::OW | VR::OB | VR::UN);
                    let equal = one == other
                        || (words && other.to_bytes().starts_with(&one.to_bytes()) && other.to_bytes().len() <= one.to_bytes().len() + 1);
                    let trimmed = || one.to_str().trim_end_matches([' ', '\0']) == other.to_str().trim_end_matches([' ', '\0']);
                    assert!(equal || trimmed(), "{path}: {one:?} and {other:?}");
                }
            }
            _ => panic!("{path}: pixel data of another kind"),
        }
    }
}

#[test]
fn every_pair_of_native_syntaxes_keeps_every_element() {
    let (mut objects, mut pairs) = (0, 0);
    for path in files() {
        let Some((stored, bytes)) = object(&path) else { continue };
        let from = stored.transfer_syntax.clone();
        // What the other reader does not take cannot be compared.
        let readable = OpenFileOptions::new().open_file(&path).is_ok();
        if !is_native(&from) || !readable || !NATIVE.contains(&from.as_str()) || bytes.len() > 150_000 {
            continue;
        }
        objects += 1;
        let original = read(&bytes, &from);
        for first in NATIVE.iter().filter(|syntax| **syntax != from.as_str()) {
            let first = uid(first);
            let mut once = Vec::new();
            let written = transcode(&stored, &first, &mut once, &mut Codec::default(), &patience())
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(written.bytes, once.len() as u64);
            assert_eq!(once.len() % 2, 0);
            let implicit = "1.2.840.10008.1.2" == first.as_str() || from.as_str() == "1.2.840.10008.1.2";
            same(
                &original,
                &read(&once, &first),
                !implicit,
                &format!("{} {from} to {first}", path.display()),
            );
            // All pairs, but long pixels are deflated only once.
            for second in NATIVE.iter().filter(|syntax| **syntax != first.as_str() && bytes.len() < 12_000) {
                let second = uid(second);
                pairs += 1;
                let mut twice = Vec::new();
                transcode(
                    &stored_bytes(&once, &first),
                    &second,
                    &mut twice,
                    &mut Codec::default(),
                    &patience(),
                )
                .unwrap();
                let implicit = implicit || second.as_str() == "1.2.840.10008.1.2";
                let what = format!("{} {from} to {first} to {second}", path.display());
                same(&original, &read(&twice, &second), !implicit, &what);
            }
        }
    }
    assert!(objects >= 40 && pairs >= 180, "{objects} objects, {pairs} pairs");
}

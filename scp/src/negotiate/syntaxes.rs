//! What is stored here: abstract syntaxes by what they are for, transfer syntaxes by whether they are kept as they come.

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::StandardSopClassDictionary;
use dicom_dictionary_std::uids;
use filmroom_index::model::sop_class::NON_PATIENT_OBJECTS;
use filmroom_index::model::{Uid, transfer_syntax};

/// What an abstract syntax is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Verification (PS3.4 A)
    Verification,
    /// A storage SOP class of the dictionary (PS3.4 B)
    Storage,
    /// A SOP class that the dictionary does not have, taken for a storage class: private ones, and those of a later edition
    UnknownStorage,
    /// Query in Patient Root, Study Root or Patient/Study Only (PS3.4 C.4.1)
    Find,
    /// Retrieve by C-MOVE in one of these (C.4.2)
    Move,
    /// Retrieve by C-GET in one of these (C.4.3), or without bulk data (Z)
    Get,
    /// Storage Commitment Push Model (J)
    Commit,
    /// Not served
    Other,
}

/// Patient/Study Only Query/Retrieve, retired and served: C-FIND, C-MOVE and C-GET.
pub const PATIENT_STUDY_ONLY_FIND: &str = "1.2.840.10008.5.1.4.1.2.3.1";
/// C-MOVE
pub const PATIENT_STUDY_ONLY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.3.2";
/// C-GET
pub const PATIENT_STUDY_ONLY_GET: &str = "1.2.840.10008.5.1.4.1.2.3.3";

/// DICOM's own root, and the arc under it that has the storage SOP classes.
const DICOM_ROOT: &str = "1.2.840.10008.";
const STORAGE_ARC: &str = "1.2.840.10008.5.1.4.1.1.";

/// What an abstract syntax is for.
pub fn purpose(abstract_syntax: &Uid) -> Purpose {
    let uid = abstract_syntax.as_str();
    match uid {
        uids::VERIFICATION => return Purpose::Verification,
        uids::STORAGE_COMMITMENT_PUSH_MODEL => return Purpose::Commit,
        uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
        | uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
        | PATIENT_STUDY_ONLY_FIND => return Purpose::Find,
        uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
        | uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
        | PATIENT_STUDY_ONLY_MOVE => return Purpose::Move,
        uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
        | uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
        | PATIENT_STUDY_ONLY_GET
        | uids::COMPOSITE_INSTANCE_RETRIEVE_WITHOUT_BULK_DATA_GET => return Purpose::Get,
        _ => {}
    }
    match StandardSopClassDictionary.by_uid(uid) {
        Some(entry) if is_storage(entry.alias) && !NON_PATIENT_OBJECTS.contains(&uid) => Purpose::Storage,
        Some(_) => Purpose::Other,
        // Transfer syntaxes, meta SOP classes and well-known instances lie under DICOM's root, too: none of them can be stored.
        None if uid.starts_with(STORAGE_ARC) || !uid.starts_with(DICOM_ROOT) => Purpose::UnknownStorage,
        None => Purpose::Other,
    }
}

/// Keywords of storage classes have "Storage" in them, mostly at the end: "ForPresentation", "Retired", "Trial" may follow.
fn is_storage(keyword: &str) -> bool {
    keyword.contains("Storage") && !keyword.starts_with("StorageCommitment")
}

/// The transfer syntaxes of the standard that a data set can be stored in (PS3.5 A, PS3.6 A), retired ones too, without their common beginning.
/// Left out: the syntaxes of real-time video (PS3.22: no data sets), RFC 2557 and XML (media only), Papyrus.
const STORED: [&str; 57] = [
    // Implicit, explicit, encapsulated uncompressed, deflated, big endian
    "", ".1", ".1.98", ".1.99", ".2", // JPEG
    ".4.50", ".4.51", ".4.52", ".4.53", ".4.54", ".4.55", ".4.56", ".4.57", ".4.58", ".4.59", ".4.60", ".4.61", ".4.62", ".4.63", ".4.64",
    ".4.65", ".4.66", ".4.70", // JPEG-LS, JPEG 2000, JPIP, RLE
    ".4.80", ".4.81", ".4.90", ".4.91", ".4.92", ".4.93", ".4.94", ".4.95", ".5", // MPEG-2, H.264, H.265
    ".4.100", ".4.100.1", ".4.101", ".4.101.1", ".4.102", ".4.102.1", ".4.103", ".4.103.1", ".4.104", ".4.104.1", ".4.105", ".4.105.1",
    ".4.106", ".4.106.1", ".4.107", ".4.108", // JPEG XL, High-Throughput JPEG 2000 and its JPIP, deflated frames
    ".4.110", ".4.111", ".4.112", ".4.201", ".4.202", ".4.203", ".4.204", ".4.205", ".8.1",
];

/// The transfer syntaxes that data sets are stored in.
pub fn stored_syntaxes() -> Vec<Uid> {
    let whole = STORED.iter().map(|end| format!("{}{end}", transfer_syntax::IMPLICIT_LITTLE));
    whole.filter_map(|uid| Uid::parse(&uid).ok()).collect()
}

/// Whether an object of a class is stored in a syntax as it comes. Deflated is not taken for images: some senders put compressed frames into
/// a deflated data set, which no receiver can tell apart, and deflated pixels can be neither shown nor cut into frames without inflating all of them.
pub fn stores(abstract_syntax: &Uid, syntax: &str) -> bool {
    let stored = syntax
        .strip_prefix(transfer_syntax::IMPLICIT_LITTLE)
        .is_some_and(|end| STORED.contains(&end));
    stored && (syntax != transfer_syntax::DEFLATED || !may_be_image(abstract_syntax))
}

/// Whether instances may have pixels: classes that are called images, maps, volumes or segmentations, and every class that we do not know.
fn may_be_image(abstract_syntax: &Uid) -> bool {
    const PIXELS: [&str; 9] = [
        "Image",
        "RTDose",
        "ParametricMap",
        "EnhancedUSVolume",
        "ThicknessMap",
        "TopographyMap",
        "BscanVolume",
        "LabelMap",
        "AIT",
    ];
    match StandardSopClassDictionary.by_uid(abstract_syntax.as_str()) {
        Some(entry) => PIXELS.iter().any(|word| entry.alias.contains(word)),
        None => true,
    }
}

/// The transfer syntax that is accepted of those proposed in one context: the requestor's first that is served as it comes; before Implicit VR,
/// which loses the VRs of private elements for ever, any other; before the retired Big Endian, which few can read, any little endian explicit one.
pub fn choose<'a>(abstract_syntax: &Uid, purpose: Purpose, proposed: &'a [Uid]) -> Option<&'a Uid> {
    let rank = |syntax: &&'a Uid| match syntax.as_str() {
        transfer_syntax::IMPLICIT_LITTLE => 2,
        transfer_syntax::EXPLICIT_BIG => 1,
        _ => 0,
    };
    let served = |syntax: &&'a Uid| match purpose {
        Purpose::Storage | Purpose::UnknownStorage => stores(abstract_syntax, syntax.as_str()),
        Purpose::Verification | Purpose::Find | Purpose::Move | Purpose::Get | Purpose::Commit => matches!(
            syntax.as_str(),
            transfer_syntax::IMPLICIT_LITTLE | transfer_syntax::EXPLICIT_LITTLE | transfer_syntax::EXPLICIT_BIG
        ),
        Purpose::Other => false,
    };
    proposed.iter().filter(served).min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        Uid::parse(text).unwrap()
    }

    #[test]
    fn every_abstract_syntax_has_its_purpose() {
        for (text, expected) in [
            ("1.2.840.10008.1.1", Purpose::Verification),
            ("1.2.840.10008.5.1.4.1.1.2", Purpose::Storage),
            ("1.2.840.10008.5.1.4.1.1.1.2.1", Purpose::Storage),
            // Retired
            ("1.2.840.10008.5.1.4.1.1.3", Purpose::Storage),
            ("1.2.840.10008.5.1.1.29", Purpose::Storage),
            ("1.2.840.10008.5.1.4.34.7", Purpose::Storage),
            // Private, and one of a later edition
            ("1.3.46.670589.5.0.1", Purpose::UnknownStorage),
            ("1.2.840.10008.5.1.4.1.1.9999", Purpose::UnknownStorage),
            ("1.2.840.10008.5.1.4.1.2.1.1", Purpose::Find),
            ("1.2.840.10008.5.1.4.1.2.2.1", Purpose::Find),
            ("1.2.840.10008.5.1.4.1.2.2.2", Purpose::Move),
            ("1.2.840.10008.5.1.4.1.2.1.3", Purpose::Get),
            ("1.2.840.10008.5.1.4.1.2.3.1", Purpose::Find),
            ("1.2.840.10008.5.1.4.1.2.3.2", Purpose::Move),
            ("1.2.840.10008.5.1.4.1.2.3.3", Purpose::Get),
            ("1.2.840.10008.5.1.4.1.2.5.3", Purpose::Get),
            // Composite Instance Root, worklist, performed procedure step, print, hanging protocol, implicit VR
            ("1.2.840.10008.5.1.4.1.2.4.2", Purpose::Other),
            ("1.2.840.10008.5.1.4.31", Purpose::Other),
            ("1.2.840.10008.3.1.2.3.3", Purpose::Other),
            ("1.2.840.10008.5.1.1.9", Purpose::Other),
            ("1.2.840.10008.1.20.1", Purpose::Commit),
            ("1.2.840.10008.5.1.4.38.1", Purpose::Other),
            ("1.2.840.10008.1.2", Purpose::Other),
        ] {
            assert_eq!(purpose(&uid(text)), expected, "{text}");
        }
        for text in NON_PATIENT_OBJECTS {
            assert_eq!(purpose(&uid(text)), Purpose::Other, "{text}");
        }
    }

    #[test]
    fn implicit_vr_is_the_last_choice_and_the_requestors_order_decides_otherwise() {
        let ct = uid("1.2.840.10008.5.1.4.1.1.2");
        for (proposed, expected) in [
            (vec!["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"], Some("1.2.840.10008.1.2.1")),
            (
                vec!["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"],
                Some("1.2.840.10008.1.2.4.90"),
            ),
            (vec!["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"], Some("1.2.840.10008.1.2.2")),
            (vec!["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1"], Some("1.2.840.10008.1.2.1")),
            (vec!["1.2.840.10008.1.2"], Some("1.2.840.10008.1.2")),
            // Deflated for an image, a private syntax, a syntax of real-time video
            (vec!["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2"], Some("1.2.840.10008.1.2")),
            (vec!["1.2.840.113619.5.2"], None),
            (vec!["1.2.840.10008.1.2.7.1"], None),
            (vec![], None),
        ] {
            let proposed: Vec<Uid> = proposed.into_iter().map(uid).collect();
            let chosen = choose(&ct, Purpose::Storage, &proposed).map(Uid::as_str);
            assert_eq!(chosen, expected, "{proposed:?}");
        }
    }

    #[test]
    fn deflated_is_taken_for_what_has_no_pixels() {
        let deflated = [uid(transfer_syntax::DEFLATED)];
        for class in [
            uids::COMPREHENSIVE_SR_STORAGE,
            uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
            uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
            uids::RT_PLAN_STORAGE,
            uids::RT_STRUCTURE_SET_STORAGE,
            uids::ENCAPSULATED_PDF_STORAGE,
            uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE,
            uids::SEGMENTATION_STORAGE,
        ] {
            assert!(choose(&uid(class), Purpose::Storage, &deflated).is_some(), "{class}");
        }
        for class in [uids::MR_IMAGE_STORAGE, uids::RT_DOSE_STORAGE, uids::PARAMETRIC_MAP_STORAGE] {
            assert!(choose(&uid(class), Purpose::Storage, &deflated).is_none(), "{class}");
        }
        assert!(choose(&uid("1.3.46.670589.5.0.1"), Purpose::UnknownStorage, &deflated).is_none());
        assert!(choose(&uid("1.2.840.10008.5.1.4.1.2.2.1"), Purpose::Find, &deflated).is_none());
    }
}

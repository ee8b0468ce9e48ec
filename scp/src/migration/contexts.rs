//! Which presentation contexts are proposed so that a remote can send what it has by C-GET: pure.
//!
//! An acceptor picks one transfer syntax of a context, and sends what it has in another one converted or not at all. So each syntax has a context of its
//! own, as far as 128 contexts go; of the usual syntaxes at least.

use std::collections::BTreeSet;

use dicom_dictionary_std::uids;
use filmroom_index::model::{Uid, transfer_syntax};

use crate::negotiate::ProposedContext;
use crate::negotiate::syntaxes::{Purpose, purpose, stored_syntaxes, stores};

/// Contexts of one association but for that of C-GET.
const ROOM: usize = 127;

/// Transfer syntaxes in one context: DCMTK ends an association that proposes more than 50.
const SHARED: usize = 40;

/// What images mostly are stored in, native first. Common to all: the syntaxes of PS3.5 A.4 that archives are known to keep.
const USUAL: [&str; 14] = [
    transfer_syntax::EXPLICIT_LITTLE,
    transfer_syntax::IMPLICIT_LITTLE,
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.201",
    transfer_syntax::EXPLICIT_BIG,
];

/// The SOP classes of most archives, for a remote that does not say what it has.
const CLASSES: [&str; 42] = [
    uids::CT_IMAGE_STORAGE,
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_IMAGE_STORAGE,
    uids::MR_SPECTROSCOPY_STORAGE,
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE,
    uids::DIGITAL_INTRA_ORAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
    uids::ENHANCED_XA_IMAGE_STORAGE,
    uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE,
    uids::ULTRASOUND_IMAGE_STORAGE,
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    uids::NUCLEAR_MEDICINE_IMAGE_STORAGE,
    uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
    uids::ENHANCED_PET_IMAGE_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::VL_ENDOSCOPIC_IMAGE_STORAGE,
    uids::VIDEO_ENDOSCOPIC_IMAGE_STORAGE,
    uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE,
    uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE,
    uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE,
    uids::OPHTHALMIC_TOMOGRAPHY_IMAGE_STORAGE,
    uids::RT_IMAGE_STORAGE,
    uids::RT_DOSE_STORAGE,
    uids::RT_STRUCTURE_SET_STORAGE,
    uids::RT_PLAN_STORAGE,
    uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    uids::BASIC_TEXT_SR_STORAGE,
    uids::ENHANCED_SR_STORAGE,
    uids::COMPREHENSIVE_SR_STORAGE,
    uids::X_RAY_RADIATION_DOSE_SR_STORAGE,
    uids::ENCAPSULATED_PDF_STORAGE,
    uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE,
    uids::SEGMENTATION_STORAGE,
];

/// Contexts for images of these classes; without any, of the usual ones. What has no room is left out, a class as a whole last.
pub(super) fn storage(classes: &BTreeSet<Uid>) -> Vec<ProposedContext> {
    let usual: Vec<Uid> = CLASSES.iter().filter_map(|uid| Uid::parse(uid).ok()).collect();
    let classes: Vec<&Uid> = if classes.is_empty() {
        usual.iter().collect()
    } else {
        classes.iter().collect()
    };
    let is_storage = |class: &&&Uid| matches!(purpose(class), Purpose::Storage | Purpose::UnknownStorage);
    let classes: Vec<&Uid> = classes.iter().filter(is_storage).take(ROOM).copied().collect();
    let mut syntaxes: Vec<Uid> = USUAL.iter().filter_map(|uid| Uid::parse(uid).ok()).collect();
    let others: Vec<Uid> = stored_syntaxes().into_iter().filter(|syntax| !syntaxes.contains(syntax)).collect();
    syntaxes.extend(others);
    let each = ROOM / classes.len().max(1);
    classes.into_iter().flat_map(|class| of_class(class, &syntaxes, each)).collect()
}

/// The contexts of one class, `room` at most: as many syntaxes as possible have their own, the rest share the last one.
fn of_class(class: &Uid, syntaxes: &[Uid], room: usize) -> Vec<ProposedContext> {
    let stored: Vec<Uid> = syntaxes.iter().filter(|syntax| stores(class, syntax.as_str())).cloned().collect();
    let (own, shared) = stored.split_at(stored.len().min(room.saturating_sub(1)));
    let context = |transfer_syntaxes: Vec<Uid>| ProposedContext {
        abstract_syntax: class.clone(),
        transfer_syntaxes,
        also_scp: true,
    };
    let shared = (!shared.is_empty()).then(|| context(shared.iter().take(SHARED).cloned().collect()));
    own.iter().map(|syntax| context(vec![syntax.clone()])).chain(shared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(count: usize) -> BTreeSet<Uid> {
        CLASSES.iter().take(count).map(|uid| Uid::parse(uid).unwrap()).collect()
    }

    #[test]
    fn every_syntax_of_few_classes_has_a_context_of_its_own_and_no_class_is_left_out() {
        for count in [0, 1, 2, 9, 42] {
            let classes = classes(count);
            let contexts = storage(&classes);
            assert!(contexts.len() <= ROOM, "{count}");
            let proposed: BTreeSet<&Uid> = contexts.iter().map(|context| &context.abstract_syntax).collect();
            assert_eq!(proposed.len(), if count == 0 { CLASSES.len() } else { count });
            assert!(contexts.iter().all(|context| context.also_scp));
            for class in proposed {
                let of_class: Vec<_> = contexts.iter().filter(|context| context.abstract_syntax == *class).collect();
                let syntaxes: BTreeSet<&Uid> = of_class.iter().flat_map(|context| &context.transfer_syntaxes).collect();
                assert!(syntaxes.len() >= SHARED, "{class}: {}", syntaxes.len());
                assert!(of_class.iter().all(|context| context.transfer_syntaxes.len() <= SHARED));
                let own = of_class.iter().filter(|context| context.transfer_syntaxes.len() == 1).count();
                assert!(own >= 2, "{class}: native syntaxes have contexts of their own");
            }
        }
        let jpeg = Uid::parse("1.2.840.10008.1.2.4.70").unwrap();
        let own = |context: &ProposedContext| context.transfer_syntaxes == [jpeg.clone()];
        assert_eq!(storage(&classes(9)).iter().filter(|context| own(context)).count(), 9);
    }
}

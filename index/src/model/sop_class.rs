//! SOP classes that the code has to know by what they are.

use dicom_dictionary_std::uids;

/// Non-Patient Object Storage (PS3.4 GG.3) and the other classes whose instances belong to no patient, study and series: not kept here.
pub const NON_PATIENT_OBJECTS: [&str; 10] = [
    uids::MEDIA_STORAGE_DIRECTORY_STORAGE,
    uids::CT_DEFINED_PROCEDURE_PROTOCOL_STORAGE,
    uids::PROTOCOL_APPROVAL_STORAGE,
    uids::XA_DEFINED_PROCEDURE_PROTOCOL_STORAGE,
    uids::INVENTORY_STORAGE,
    uids::HANGING_PROTOCOL_STORAGE,
    uids::COLOR_PALETTE_STORAGE,
    uids::GENERIC_IMPLANT_TEMPLATE_STORAGE,
    uids::IMPLANT_ASSEMBLY_TEMPLATE_STORAGE,
    uids::IMPLANT_TEMPLATE_GROUP_STORAGE,
];

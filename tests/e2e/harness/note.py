"""Rejection notes (IHE RAD-66), as a workstation writes them: Key Object Selections whose title says why."""

from collections import defaultdict

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
MEANING = {
    "113001": "Rejected for Quality Reasons", "113037": "Rejected for Patient Safety Reasons", "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired", "113000": "Of Interest",
}


def references(paths):
    """(study, series, SOP class, SOP instance) of files."""
    for path in paths:
        image = pydicom.dcmread(path, stop_before_pixels=True)
        yield image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPClassUID, image.SOPInstanceUID


def item(**attributes):
    data_set = Dataset()
    for name, value in attributes.items():
        setattr(data_set, name, value)
    return data_set


def write(path, code, listed, patient_id="P1", patient_name="", study=None, uid=None, scheme="DCM"):
    """Writes a note that lists `(study, series, class, instance)` and returns its SOP Instance UID. It lies in the first study that it lists."""
    listed = list(listed)
    by_study = defaultdict(lambda: defaultdict(list))
    for of_study, series, sop_class, instance in listed:
        by_study[of_study][series].append(item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance))
    title = item(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning=MEANING.get(code, "?"))
    note = item(
        SpecificCharacterSet="ISO_IR 192", SOPClassUID=KEY_OBJECT, SOPInstanceUID=uid or generate_uid(), StudyDate="20261124", Modality="KO",
        Manufacturer="workstation", PatientName=patient_name, PatientID=patient_id, PatientBirthDate="", PatientSex="",
        StudyInstanceUID=study or (listed[0][0] if listed else generate_uid()), SeriesInstanceUID=generate_uid(), StudyID="", SeriesNumber=99,
        InstanceNumber=1, ContentDate="20261124", ContentTime="120000", ReferencedRequestSequence=[], ValueType="CONTAINER",
        ConceptNameCodeSequence=[title], ContinuityOfContent="SEPARATE",
        CurrentRequestedProcedureEvidenceSequence=[
            item(StudyInstanceUID=of_study, ReferencedSeriesSequence=[
                item(SeriesInstanceUID=series, ReferencedSOPSequence=instances) for series, instances in of_series.items()])
            for of_study, of_series in by_study.items()],
        ContentSequence=[item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[
            item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance)]) for _, _, sop_class, instance in listed],
    )
    note.file_meta = FileMetaDataset()
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    note.file_meta.MediaStorageSOPClassUID = KEY_OBJECT
    note.file_meta.MediaStorageSOPInstanceUID = note.SOPInstanceUID
    note.save_as(path, enforce_file_format=True)
    return str(note.SOPInstanceUID)

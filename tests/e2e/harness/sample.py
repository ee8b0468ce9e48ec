"""The real files under fixtures/, and objects made from them."""

import copy
from collections import defaultdict

import pydicom
from pydicom.uid import generate_uid

from .node import ROOT

FIXTURES = ROOT / "fixtures"

# A deflated image is refused at negotiation: some senders put encapsulated pixels into such a context.
DEFLATED = "1.2.840.10008.1.2.1.99"

# PS3.4 Annex GG: not of a patient, refused at negotiation.
NON_PATIENT = {"1.2.840.10008.5.1.4.38.1"}


def valid_files():
    """Every fixture that is a whole, patient-related DICOM file with the UIDs that a C-STORE needs (the others are broken on purpose)."""
    found = []
    for path in sorted(FIXTURES.rglob("*")):
        relative = path.relative_to(FIXTURES)
        if not path.is_file() or relative.parts[0] == "broken" or len(relative.parts) == 1:
            continue
        try:
            data_set = pydicom.dcmread(path, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        if data_set.file_meta.get("MediaStorageSOPClassUID") in NON_PATIENT or "DICOMDIR" in path.name:
            continue
        if data_set.file_meta.get("TransferSyntaxUID") == DEFLATED and "Rows" in data_set:
            continue
        uids = [data_set.get(key) for key in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
        uids += [data_set.file_meta.get("TransferSyntaxUID"), data_set.file_meta.get("MediaStorageSOPClassUID")]
        # Where the File Meta Information names another instance, the sender's command does too, and the node is right to refuse.
        agree = data_set.file_meta.get("MediaStorageSOPInstanceUID") == data_set.get("SOPInstanceUID")
        if agree and all(uid and len(uid) <= 64 for uid in uids):
            found.append(path)
    return found


def waves(paths):
    """Groups of files in which no SOP Instance UID comes twice."""
    groups = defaultdict(list)
    seen = defaultdict(int)
    for path in paths:
        uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        groups[seen[uid]].append(path)
        seen[uid] += 1
    return [groups[number] for number in sorted(groups)]


def make_study(folder, images=3, series=1, template="ct/CT_small.dcm", patient_id="P1", modality=None, study_uid=None, extra=None, **attributes):
    """Writes a study of images made from a fixture and returns (Study Instance UID, paths)."""
    folder.mkdir(parents=True, exist_ok=True)
    original = pydicom.dcmread(FIXTURES / template)
    study_uid = study_uid or generate_uid()
    paths = []
    for s in range(series):
        series_uid = generate_uid()
        for n in range(images):
            image = copy.deepcopy(original)
            image.PatientID = patient_id
            image.StudyInstanceUID = study_uid
            image.SeriesInstanceUID = series_uid
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.InstanceNumber = n + 1
            image.SeriesNumber = s + 1
            if modality:
                image.Modality = modality
            for key, value in attributes.items():
                setattr(image, key, value)
            if extra:
                extra(image, s, n)
            path = folder / f"{s + 1:02}-{n + 1:05}.dcm"
            image.save_as(path, enforce_file_format=True)
            paths.append(path)
    return study_uid, paths


def read(path):
    """A file's header."""
    return pydicom.dcmread(path, stop_before_pixels=True)

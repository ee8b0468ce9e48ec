"""A whole visit of an independent client, the same for each: echo; store of the real files in their own transfer syntaxes; find at every level in both roots;
move to a third AE; get. What goes in is compared with what the node keeps, and that with what comes out. (Storage Commitment, by those that can ask for
it, is in test_commitment.py.)

A client is an object with `title` and the methods that `visit` calls. What it cannot do by its own fault it says in `cannot_store` and `changes`
(file name → why) and `can_get`; `decodes` says whether it takes data sets apart and writes them anew, so that only what they say can be compared, not their bytes.
"""

import hashlib
from collections import defaultdict

import pydicom
from pydicom.encaps import generate_fragments

from . import part10, sample

PATHS = sample.waves(sample.valid_files())[0]
UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}

# Patient Root asks for the unique keys above its level, Study Root for those from the study on (PS3.4 C.6.1.1, C.6.2.1).
UNIQUE = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
LEVELS = {"PATIENT": ["PATIENT", "STUDY", "SERIES", "IMAGE"], "STUDY": ["STUDY", "SERIES", "IMAGE"]}


class Object:
    """A stored object: what names it, its place in the hierarchy, its bytes."""

    def __init__(self, path):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        self.path = path
        self.sop_class, self.syntax = str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID)
        self.keys = {"PatientID": str(header.get("PatientID") or ""), "StudyInstanceUID": str(header.StudyInstanceUID),
                     "SeriesInstanceUID": str(header.SeriesInstanceUID), "SOPInstanceUID": str(header.SOPInstanceUID)}

    @property
    def uid(self):
        return self.keys["SOPInstanceUID"]


def pixels(path):
    """A digest of the pixel data as encoded, little endian, whatever fragments it is in; none where there are no pixels."""
    data_set = pydicom.dcmread(path, force=True)
    if "PixelData" not in data_set:
        return None
    value = data_set.PixelData
    if data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        # Behind the basic offset table.
        value = b"".join(fragment.rstrip(b"\0") for fragment in generate_fragments(value[8 + int.from_bytes(value[4:8], "little") :]))
    if data_set.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2" and data_set.BitsAllocated == 16:
        value = b"".join(value[i + 1 : i + 2] + value[i : i + 1] for i in range(0, len(value), 2))
    return hashlib.sha256(value.rstrip(b"\0")).hexdigest()


def visit(client, node, third, folder, roots=("PATIENT", "STUDY"), paths=PATHS):
    """Runs the visit; `third` is the C-MOVE destination. Returns what the node keeps: SOP Instance UID → object."""
    client.echo()
    stored = store(client, node, paths)
    for root in roots:
        find(client, root, stored)
    move(client, third, stored)
    if client.get:
        get(client, folder / "got", stored)
    return stored


def store(client, node, paths):
    sent = {}
    for path in paths:
        if path.name in client.cannot_store:
            client.fails_to_store(path)
        else:
            client.store(path)
            sent[Object(path).uid] = Object(path)
    stored = {(kept := Object(path)).uid: kept for path in node.hot_files()}
    assert set(stored) == set(sent), [sent[uid].path.name for uid in set(sent) - set(stored)]
    for uid, original in sent.items():
        kept, name = stored[uid], original.path.name
        assert kept.keys == original.keys, name
        if client.decodes or kept.syntax != original.syntax:
            # Uncompressed ones may change their syntax where the node takes another one first, compressed ones never.
            assert kept.syntax == original.syntax or {kept.syntax, original.syntax} <= UNCOMPRESSED, name
            assert name in client.changes or pixels(kept.path) == pixels(original.path), name
        else:
            assert part10.on_the_wire(kept.path) == part10.on_the_wire(original.path), name
    assert node.status()["instances"] == len(sent)
    return stored


def find(client, root, stored):
    """From the top of the root down to every image of the patient with most images: each level has exactly what was stored."""
    by_patient = defaultdict(list)
    for kept in stored.values():
        by_patient[kept.keys["PatientID"]].append(kept)
    patient = max((of for name, of in by_patient.items() if name), key=len)
    chosen = {"PatientID": patient[0].keys["PatientID"]}
    within = list(stored.values())
    levels = client.levels[root]
    for level in levels:
        unique = UNIQUE[level]
        above = {} if level == levels[0] else {name: chosen[name] for name in (UNIQUE[one] for one in levels) if name in chosen and name != unique}
        answers = client.find(level, root, **above, **{unique: ""})
        expected = sorted({kept.keys[unique] for kept in within})
        # A patient without an ID is a patient of each of its studies.
        assert sorted({answer.get(unique, "") for answer in answers}) == expected, (root, level)
        assert {answer["QueryRetrieveLevel"] for answer in answers} == {level}
        chosen[unique] = chosen.get(unique) or max((kept.keys[unique] for kept in patient), key=lambda value: sum(value in kept.keys.values() for kept in patient))
        within = [kept for kept in within if kept.keys[unique] == chosen[unique]]
        patient = within


def studies(stored):
    by_study = defaultdict(list)
    for kept in stored.values():
        by_study[kept.keys["StudyInstanceUID"]].append(kept)
    return by_study


def move(client, third, stored):
    for study in studies(stored):
        client.move(third.title, StudyInstanceUID=study)
    assert third.digests() == {uid: part10.on_the_wire(kept.path) for uid, kept in stored.items()}


def get(client, folder, stored):
    """Every study whose objects the client can take in the syntaxes that they are kept in, over one association."""
    folder.mkdir()
    expected = {}
    for study, objects in studies(stored).items():
        if client.can_get(objects):
            client.get(folder, study, objects)
            expected.update({kept.uid: kept for kept in objects})
    assert expected
    got = {(came := Object(path)).uid: came for path in folder.iterdir()}
    assert set(got) == set(expected)
    for uid, kept in expected.items():
        if client.decodes:
            assert got[uid].keys == kept.keys and pixels(got[uid].path) == pixels(kept.path), kept.path
        else:
            assert part10.digest(got[uid].path) == part10.on_the_wire(kept.path), kept.path


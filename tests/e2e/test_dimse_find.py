"""C-FIND to the letter (PS3.4 C): one table of cases for each thing that a query can ask, each with its section or the public test that it is a twin of."""

import struct

import pydicom
import pytest
from harness import dcmtk, raw, sample, scu
from harness.node import Node
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

ACME = 0x00091001
ACME_SEQUENCE = 0x00291020
PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3.1"


def item(**values):
    data_set = Dataset()
    for key, value in values.items():
        setattr(data_set, key, value)
    return data_set


def code(value, scheme="99F"):
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=f"Meaning of {value}")


def details(procedure, reference, private, block=0x10):
    """Sequences and private attributes of an image; its private block may be any."""

    def add(image, series, number):
        image.ProcedureCodeSequence = Sequence([code(procedure), code("COMMON")])
        image.RequestAttributesSequence = Sequence([item(RequestedProcedureID=f"RP{series}", ScheduledProcedureStepID=f"SPS-{procedure}")])
        image.ReferencedImageSequence = Sequence([item(ReferencedSOPClassUID=raw.CT, ReferencedSOPInstanceUID=reference)])
        image.add_new((0x0009, block), "LO", "ACME")
        image.add_new((0x0009, block << 8 | 1), "LO", private)
        image.add_new((0x0029, 0x0010), "LO", "ACME SEQUENCES")
        image.add_new(ACME_SEQUENCE, "SQ", Sequence([item(CodeValue=private), item(CodeValue="second")]))
        image.ImageType = ["ORIGINAL", "PRIMARY", procedure]
        image.OtherPatientNames = ["Alias^One", f"Alias^{procedure}"]

    return add


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def archive(request, tmp_path_factory):
    """Four patients with a study each, on each database."""
    from conftest import drop_database, new_database

    url, name = (None, None) if request.param == "sqlite" else new_database()
    folder = tmp_path_factory.mktemp("archive")
    with Node(folder / "node", url) as node:
        studies = {
            "juergen": sample.make_study(
                folder / "1", images=2, series=2, patient_id="A1", PatientName="Müller-Lüdenscheid^Jürgen", SpecificCharacterSet="ISO_IR 100", PatientSex="M",
                StudyDate="20060705", StudyTime="101500", AccessionNumber="ACC1", SecondaryCaptureDeviceID="MEDPC", extra=details("CTHEAD", "1.2.3.4", "alpha")),
            "hans": sample.make_study(
                folder / "2", images=1, patient_id="B2", PatientName="Mueller^Hans", PatientSex="M", StudyDate="20060706", StudyTime="233000.5",
                AccessionNumber="ACC2", extra=details("CTNECK", "1.2.3.5", "beta", block=0x11)),
            "jane": sample.make_study(
                folder / "3", images=1, template="mr_series/MR01.dcm", patient_id="C3", PatientName="Doe^Jane^^Dr", PatientSex="F", StudyDate="20060707",
                StudyTime="193000", AccessionNumber="ACC[3]"),
            "taro": sample.make_study(
                folder / "4", images=1, patient_id="D4", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", SpecificCharacterSet="ISO_IR 192", PatientSex=None,
                StudyDate="20060708", StudyTime="0100", AccessionNumber="ACC_4", TimezoneOffsetFromUTC="+0900"),
        }
        for _, paths in studies.values():
            assert set(scu.store(node, paths).values()) == {0x0000}
        yield node, {uid: name for name, (uid, _) in studies.items()}
    if name:
        drop_database(name)


def ask(node, identifier, model=scu.FIND["STUDY"], extended=None):
    """Answers with their statuses, the final status data set, and what the node made of the proposal."""
    proposal = []
    if extended is not None:
        proposed = SOPClassExtendedNegotiation()
        proposed.sop_class_uid, proposed.service_class_application_information = model, extended
        proposal = [proposed]
    with scu.association(node, [(model, [raw.EXPLICIT])], roles=proposal) as assoc:
        assert assoc.is_established
        granted = {str(uid): information for uid, information in assoc.acceptor.sop_class_extended.items()}
        answers, final = [], None
        for status, answer in assoc.send_c_find(identifier, model):
            if status.Status in (0xFF00, 0xFF01):
                answers.append((status.Status, answer))
            else:
                final = status
        return answers, final, granted.get(str(model))


def query(level, keys):
    """An identifier; a key is a keyword or a tag with its VR."""
    data_set = Dataset()
    data_set.QueryRetrieveLevel = level
    data_set.SpecificCharacterSet = "ISO_IR 192"
    for key, value in keys.items():
        if isinstance(key, str):
            setattr(data_set, key, value)
        else:
            data_set.add_new(key[0], key[1], value)
    return data_set


def found(archive, keys, level="STUDY", **options):
    node, names = archive
    identifier = query(level, {"StudyInstanceUID": "", **keys})
    answers, final, _ = ask(node, identifier, **options)
    assert final.Status == 0x0000, final
    return sorted({names[str(answer.StudyInstanceUID)] for _, answer in answers})


ALL = ["hans", "jane", "juergen", "taro"]


# -- C.2.2.2: matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section, keys, expected", [
    ("C.2.2.2.1 single value", {"PatientID": "A1"}, ["juergen"]),
    ("C.2.2.2.1 by case", {"PatientID": "a1"}, []),
    ("C.2.2.2.1 padding counts for nothing", {"PatientID": "  A1  "}, ["juergen"]),
    ("C.2.2.2.1 brackets are no wildcards (Orthanc: find_patient_name_with_brackets)", {"AccessionNumber": "ACC[3]"}, ["jane"]),
    ("C.2.2.2.1 names without case", {"PatientName": "DOE^JANE^^DR"}, ["jane"]),
    ("C.2.2.2.1 names without accents", {"PatientName": "muller-ludenscheid^jurgen"}, ["juergen"]),
    ("C.2.2.2.1 another spelling is another name", {"PatientName": "Muller^Hans"}, []),
    ("C.2.2.2.1 component groups", {"PatientName": "=山田^太郎"}, ["taro"]),
    ("C.2.2.2.1 any group in its own script", {"PatientName": "やまだ*"}, ["taro"]),
    ("C.2.2.2.1 numbers as numbers", {"SeriesNumber": "02"}, ["juergen"]),
    ("C.2.2.2.2 UID list with what is no UID and nothing", {"StudyInstanceUID": ["1.2.3", "", "x"]}, []),
    ("C.2.2.2.3 universal", {"PatientSex": ""}, ALL),
    ("C.2.2.2.4 `*` is universal, absent values too (Orthanc says otherwise: bitbucket_issue_90)", {"PatientSex": "*"}, ALL),
    ("C.2.2.2.1 an absent value is none (Orthanc: bitbucket_issue_90)", {"PatientSex": "F"}, ["jane"]),
    ("C.2.2.2.4 `?` wants a character", {"PatientSex": "?"}, ["hans", "jane", "juergen"]),
    ("C.2.2.2.4 `?` is a character, not a byte", {"PatientName": "M?ller-L?denscheid*"}, ["juergen"]),
    ("C.2.2.2.4 SQL's wildcards are none", {"AccessionNumber": "ACC_4"}, ["taro"]),
    ("C.2.2.2.4 SQL's wildcards are none", {"AccessionNumber": "ACC%"}, []),
    ("C.2.2.2.4", {"AccessionNumber": "ACC?4"}, ["taro"]),
    ("C.2.2.2.5 dates from, to, between, and the ACR-NEMA form", {"StudyDate": "20060707-"}, ["jane", "taro"]),
    ("C.2.2.2.5", {"StudyDate": "-2006.07.05"}, ["juergen"]),
    ("C.2.2.2.5", {"StudyDate": "20060706-20060707"}, ["hans", "jane"]),
    ("C.2.2.2.5 times", {"StudyTime": "1900-"}, ["hans", "jane"]),
    ("C.2.2.2.5 a fraction is within its second", {"StudyTime": "233000"}, ["hans"]),
    ("C.2.2.2.5 a short time is all of it", {"StudyTime": "10"}, ["juergen"]),
    ("C.2.2.2.5 date and time each for itself", {"StudyDate": "20060705-20060707", "StudyTime": "1000-1800"}, ["juergen"]),
    ("several values are any of them, an extension", {"PatientID": ["A1", "C3"]}, ["jane", "juergen"]),
    ("several values are any of them (Orthanc: incoming_findscu)", {"Modality": ["MR", "XA"]}, ["jane"]),
    ("a list of an attribute with several values", {"OtherPatientNames": "alias^ctneck"}, ["hans"]),
    ("C.3.4 Modalities in Study", {"ModalitiesInStudy": "MR"}, ["jane"]),
    ("C.3.4 SOP Classes in Study", {"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.4"}, ["jane"]),
    ("C.4.1.2.2.1 a key of a narrower level, not negotiated", {"Modality": "MR"}, ["jane"]),
    ("an attribute without a column, below the level (Orthanc: incoming_findscu_3)", {"SecondaryCaptureDeviceID": "MEDPC"}, ["juergen"]),
    ("C.2.2.2.6 zero length", {"ProcedureCodeSequence": []}, ALL),
    ("C.2.2.2.6 an item without values", {"ProcedureCodeSequence": [item(CodeValue="", CodeMeaning="")]}, ALL),
    ("C.2.2.2.6 Procedure Code Sequence", {"ProcedureCodeSequence": [item(CodeValue="CTNECK", CodingSchemeDesignator="99F")]}, ["hans"]),
    ("C.2.2.2.6 any of the items", {"ProcedureCodeSequence": [item(CodeValue="COMMON")]}, ["hans", "juergen"]),
    ("C.2.2.2.6 one item meets all keys", {"ProcedureCodeSequence": [item(CodeValue="COMMON", CodeMeaning="Meaning of CTNECK")]}, []),
    ("C.2.2.2.6 wildcards inside", {"ProcedureCodeSequence": [item(CodeValue="CT*")]}, ["hans", "juergen"]),
    ("C.2.2.2.6 Request Attributes Sequence, of a series", {"RequestAttributesSequence": [item(ScheduledProcedureStepID="SPS-CTHEAD")]}, ["juergen"]),
    ("C.2.2.2.6 with another key", {"ProcedureCodeSequence": [item(CodeValue="CT*")], "PatientName": "mueller*"}, ["hans"]),
], ids=str)
def test_matching_at_study_level(archive, section, keys, expected):
    assert found(archive, keys) == expected
    assert found(archive, keys, model=scu.FIND["PATIENT"]) == expected
    assert found(archive, keys, model=PATIENT_STUDY_ONLY) == expected


@pytest.mark.parametrize("section, keys, expected", [
    ("C.2.2.2.1 a binary number", {"Rows": 128}, ["hans", "juergen", "taro"]),
    ("C.2.2.2.1 a binary number", {"Rows": 64}, ["jane"]),
    ("C.2.2.2.6 Referenced Image Sequence", {"ReferencedImageSequence": [item(ReferencedSOPInstanceUID="1.2.3.5")]}, ["hans"]),
    ("one value of several", {"ImageType": "CTHEAD"}, ["juergen"]),
    ("PS3.5 7.8.1 private, in the block of its creator", {(0x00090010, "LO"): "ACME", (ACME, "LO"): "alpha"}, ["juergen"]),
    ("PS3.5 7.8.1 private, in whatever block", {(0x00090010, "LO"): "ACME", (ACME, "LO"): "b*"}, ["hans"]),
    ("PS3.5 7.8.1 of another creator", {(0x00090010, "LO"): "OTHER", (ACME, "LO"): "alpha"}, []),
    ("C.2.2.2.6 a private sequence", {(0x00290010, "LO"): "ACME SEQUENCES", (ACME_SEQUENCE, "SQ"): [item(CodeValue="beta")]}, ["hans"]),
    ("C.2.2.2.6 a private sequence", {(0x00290010, "LO"): "ACME SEQUENCES", (ACME_SEQUENCE, "SQ"): [item(CodeValue="second")]}, ["hans", "juergen"]),
], ids=str)
def test_matching_at_image_level(archive, section, keys, expected):
    node, _ = archive
    if keys.get("Rows") == 64:
        rows = pydicom.dcmread(sample.FIXTURES / "mr_series/MR01.dcm", stop_before_pixels=True).Rows
        keys = {"Rows": rows}
    assert found(archive, keys, level="IMAGE") == expected


def test_a_list_of_thousands_of_uids(archive):
    """C.2.2.2.2; a list beyond 256 characters is not cut (Orthanc: findscu_truncation), nor one beyond the 64 KB of an explicit length (PS3.5 6.2.2)."""
    node, names = archive
    uids = {name: uid for uid, name in names.items()}
    for others in (6, 300, 4000):
        listed = [f"1.2.826.0.1.3680043.9.9.{n}" for n in range(others)] + [uids["jane"]]
        value = "\\".join(listed).encode()
        with raw.Raw(node) as peer:
            peer.associate(((1, raw.STUDY_FIND, (raw.IMPLICIT,)),))
            peer.message(1, raw.c_find(), raw.element(0x0008, 0x0052, b"STUDY ") + raw.element(0x0020, 0x000D, value))
            fields, content = peer.response()
            assert fields[0x0900] == b"\x00\xff" and uids["jane"].encode() in content
            assert peer.status()[0] == 0x0000


# -- C.5.1.1: extended negotiation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [scu.FIND["STUDY"], scu.FIND["PATIENT"], PATIENT_STUDY_ONLY], ids=["study", "patient", "patient/study only"])
@pytest.mark.parametrize("proposed, granted", [
    (None, None),
    (b"\x01", b"\x01"),
    (b"\x00", b"\x00"),
    (b"\x01\x01\x01", b"\x01\x01\x01"),
    # Timezone query adjustment, enhanced multi-frame conversion, empty and multiple value matching are not served.
    (b"\x01\x01\x01\x01\x01\x01\x01", b"\x01\x01\x01\x00\x00\x00\x00"),
    (b"\x00\x01\x00\x01", b"\x00\x01\x00\x00"),
], ids=str)
def test_what_is_served_is_granted(archive, model, proposed, granted):
    answers, final, answered = ask(archive[0], query("STUDY", {"PatientID": "A1"}), model, proposed)
    assert answered == granted
    assert (len(answers), final.Status) == (1, 0x0000)


@pytest.mark.parametrize("service, model", [("move", scu.MOVE["STUDY"]), ("get", scu.GET["PATIENT"])])
def test_relational_retrieves_are_granted(archive, service, model):
    """C.5.2.1, C.5.3.1"""
    proposed = SOPClassExtendedNegotiation()
    proposed.sop_class_uid, proposed.service_class_application_information = model, b"\x01\x01"
    with scu.association(archive[0], [(model, [raw.EXPLICIT])], roles=[proposed]) as assoc:
        assert {str(uid): bytes(value) for uid, value in assoc.acceptor.sop_class_extended.items()} == {str(model): b"\x01\x00"}


@pytest.mark.parametrize("section, keys, expected", [
    ("C.2.2.2.5 one range of moments", {"StudyDate": "20060705-20060707", "StudyTime": "1000-1800"}, ["hans", "juergen"]),
    ("C.2.2.2.5 from a moment on", {"StudyDate": "20060706-", "StudyTime": "2330-"}, ["hans", "jane", "taro"]),
    ("C.2.2.2.5 up to a moment", {"StudyDate": "-20060707", "StudyTime": "-1900"}, ["hans", "juergen"]),
    ("C.2.2.2.5 ranges of different forms are no pair", {"StudyDate": "20060705-", "StudyTime": "1000-1800"}, ["juergen"]),
    ("C.2.2.2.5 a value and a range are no pair", {"StudyDate": "20060707", "StudyTime": "1000-2000"}, ["jane"]),
], ids=str)
def test_combined_date_and_time_matching(archive, section, keys, expected):
    assert found(archive, keys, extended=b"\x00\x01") == expected


@pytest.mark.parametrize("name, exactly, fuzzily", [
    ("jane doe", [], ["jane"]),
    ("Mueller", [], ["hans", "juergen"]),
    ("müller", [], ["hans", "juergen"]),
    ("juergen", [], ["juergen"]),
    ("luden jur", [], ["juergen"]),
    ("DOE^JANE^^DR", ["jane"], ["jane"]),
    ("tarou", [], ["taro"]),
    ("太郎", [], ["taro"]),
    ("ane", [], []),
    ("100%", [], []),
], ids=str)
def test_fuzzy_names_only_where_they_were_negotiated(archive, name, exactly, fuzzily):
    """C.2.2.2.1.1: a word of the key is the beginning of a word of the name."""
    assert found(archive, {"PatientName": name}) == exactly
    assert found(archive, {"PatientName": name}, extended=b"\x00\x00\x01") == fuzzily


# -- C.4.1.1.3: what an answer holds --------------------------------------------------------------------------------------------

UNIQUE = {"PATIENT": ["PatientID"], "STUDY": ["PatientID", "StudyInstanceUID"], "SERIES": ["PatientID", "StudyInstanceUID", "SeriesInstanceUID"],
          "IMAGE": ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]}


@pytest.mark.parametrize("level, more, matches", [
    ("PATIENT", None, 4), ("PATIENT", "PatientName", 4), ("STUDY", None, 4), ("STUDY", "StudyDate", 4), ("SERIES", None, 5), ("SERIES", "Modality", 5),
    ("IMAGE", None, 7), ("IMAGE", "InstanceNumber", 7),
])
def test_levels_of_patient_root(archive, level, more, matches):
    """pynetdicom: qrscp test_pr_level_patient … test_pr_level_image_req. Instance Availability is one key more than there (C.4.1.1.3.2)."""
    keys = UNIQUE[level] + ([more] if more else [])
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for key in keys:
        setattr(identifier, key, None)
    answers, final, _ = ask(archive[0], identifier, scu.FIND["PATIENT"])
    assert final.Status == 0x0000 and len(answers) == matches
    for status, answer in answers:
        assert status == 0xFF00
        assert {element.keyword for element in answer} - {"SpecificCharacterSet"} == {*keys, "QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability"}
        assert (answer.QueryRetrieveLevel, answer.RetrieveAETitle, answer.InstanceAvailability) == (level, "FILMROOM", "ONLINE")


def test_a_key_below_the_level_comes_back_empty(archive):
    """pynetdicom: qrscp test_pr_level_patient_invalid answers A900; relational keys are taken here (C.4.1.2.2.1), this one has no value of its own."""
    answers, final, _ = ask(archive[0], query("PATIENT", {"PatientID": "A1", "StudyInstanceUID": ""}), scu.FIND["PATIENT"])
    assert final.Status == 0x0000
    assert [answer.StudyInstanceUID for _, answer in answers] == [""]


@pytest.mark.parametrize("level", ["IMAGE", "IMAGES", "image", "INSTANCE"])
def test_the_level_in_other_words(archive, level):
    """Orthanc: incoming_findscu (INSTANCE), findscu_missing_tags (IMAGES); the answer says the standard's word."""
    answers, final, _ = ask(archive[0], query(level, {"SOPInstanceUID": ""}))
    assert final.Status == 0x0000 and len(answers) == 7
    assert {answer.QueryRetrieveLevel for _, answer in answers} == {"IMAGE"}


def test_sequences_come_back(archive):
    """C.2.2.1.2, C.2.2.2.6: the whole, the asked keys of each item, or zero length. Orthanc: incoming_findscu_2, …_private_tags_and_sequences."""
    asked = {"PatientID": "A1", "ProcedureCodeSequence": [], "RequestAttributesSequence": [item(RequestedProcedureID="", StudyInstanceUID="")]}
    (_, series), *_ = ask(archive[0], query("SERIES", {**asked, "SeriesNumber": 1}))[0]
    assert [(i.CodeValue, i.CodingSchemeDesignator) for i in series.ProcedureCodeSequence] == [("CTHEAD", "99F"), ("COMMON", "99F")]
    (request,) = series.RequestAttributesSequence
    assert (request.RequestedProcedureID, request.StudyInstanceUID, "ScheduledProcedureStepID" in request) == ("RP0", "", False)

    private = {(0x00090010, "LO"): "ACME", (ACME, "LO"): "", (0x00290010, "LO"): "ACME SEQUENCES", (ACME_SEQUENCE, "SQ"): []}
    asked = {"PatientID": "B2", "ReferencedImageSequence": [], "SourceImageSequence": [], **private}
    (_, image), = ask(archive[0], query("IMAGE", asked))[0]
    assert image.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.5"
    assert len(image.SourceImageSequence) == 0
    assert image[ACME].value == "beta" and image[0x00090010].value == "ACME"
    assert [i.CodeValue for i in image[ACME_SEQUENCE].value] == ["beta", "second"]
    # What one image has is not said of a study.
    (_, study), = ask(archive[0], query("STUDY", asked))[0]
    assert len(study.ReferencedImageSequence) == 0 and not study[ACME].value


def test_keys_with_several_values_come_back_with_all(archive):
    (_, image), = ask(archive[0], query("IMAGE", {"PatientID": "B2", "ImageType": "", "OtherPatientNames": "", "PixelSpacing": ""}))[0]
    assert list(image.ImageType) == ["ORIGINAL", "PRIMARY", "CTNECK"]
    assert [str(name) for name in image.OtherPatientNames] == ["Alias^One", "Alias^CTNECK"]
    assert len(image.PixelSpacing) == 2


def test_counters(archive):
    """C.3.4. Orthanc: findscu_counters."""
    (_, patient), = ask(archive[0], query("PATIENT", {"PatientID": "A1", "NumberOfPatientRelatedStudies": None, "NumberOfPatientRelatedSeries": None,
                                                      "NumberOfPatientRelatedInstances": None}), scu.FIND["PATIENT"])[0]
    assert (patient.NumberOfPatientRelatedStudies, patient.NumberOfPatientRelatedSeries, patient.NumberOfPatientRelatedInstances) == (1, 2, 4)
    (_, study), = ask(archive[0], query("STUDY", {"PatientID": "A1", "NumberOfStudyRelatedSeries": None, "NumberOfStudyRelatedInstances": None,
                                                  "ModalitiesInStudy": "", "SOPClassesInStudy": ""}))[0]
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 4)
    assert (study.ModalitiesInStudy, study.SOPClassesInStudy) == ("CT", raw.CT)
    answers, *_ = ask(archive[0], query("SERIES", {"PatientID": "A1", "NumberOfSeriesRelatedInstances": None}))
    assert [answer.NumberOfSeriesRelatedInstances for _, answer in answers] == [2, 2]


def test_a_missing_attribute_is_zero_length(archive):
    """Orthanc: findscu_missing_tags (which leaves it out); C.2.2.1.3 allows either."""
    (_, image), = ask(archive[0], query("IMAGE", {"PatientID": "D4", "PatientSex": "", "Rows": None, "RescaleType": ""}))[0]
    assert (image.PatientSex, image.Rows, image.RescaleType) == ("", 128, "")


def test_the_time_zone_is_told_only_where_it_was_negotiated(archive):
    """C.4.1.1.3.1: it is no key; its adjustment is not served, so nothing is answered."""
    (_, study), = ask(archive[0], query("STUDY", {"PatientID": "D4", "TimezoneOffsetFromUTC": "+0900"}), extended=b"\x01\x01\x01\x01")[0]
    assert "TimezoneOffsetFromUTC" not in study


@pytest.mark.parametrize("section, keys, status", [
    ("C.4.1.1.4 matched", {"StudyDescription": "*x*"}, None),
    ("C.4.1.1.4 a counter is not matched", {"NumberOfStudyRelatedInstances": 77}, 0xFF01),
    ("C.4.1.1.4 two items are no key", {"ProcedureCodeSequence": [code("A"), code("B")]}, 0xFF01),
    ("C.4.1.1.4 an attribute of single images is not matched for a study", {"SliceLocation": "1.5"}, 0xFF01),
    ("C.4.1.1.4 a private one neither", {(0x00090010, "LO"): "ACME", (ACME, "LO"): "alpha"}, 0xFF01),
], ids=str)
def test_a_key_that_is_not_matched_is_told(archive, section, keys, status):
    answers, final, _ = ask(archive[0], query("STUDY", keys))
    assert final.Status == 0x0000
    assert {answer_status for answer_status, _ in answers} == ({status} if status else set())
    assert len(answers) == (4 if status else 0)


# -- C.4.1.1.4: refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section, model, keys, offending", [
    ("C.4.1.1.3.1", "STUDY", {"QueryRetrieveLevel": ""}, 0x00080052),
    ("C.4.1.1.3.1", "STUDY", {"QueryRetrieveLevel": "EVERYTHING"}, 0x00080052),
    ("C.6.2", "STUDY", {"QueryRetrieveLevel": "PATIENT"}, 0x00080052),
    ("C.6.3, retired", PATIENT_STUDY_ONLY, {"QueryRetrieveLevel": "SERIES"}, 0x00080052),
    ("C.6.3, retired", PATIENT_STUDY_ONLY, {"QueryRetrieveLevel": "IMAGE"}, 0x00080052),
    ("C.2.2.2.5", "STUDY", {"QueryRetrieveLevel": "STUDY", "StudyDate": "yesterday"}, 0x00080020),
    ("C.2.2.2.5", "STUDY", {"QueryRetrieveLevel": "STUDY", "StudyTime": "noon"}, 0x00080030),
], ids=str)
def test_what_cannot_be_meant_is_a900_with_its_element(archive, section, model, keys, offending):
    node, _ = archive
    identifier = b""
    for keyword, value in keys.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        identifier += raw.element(tag >> 16, tag & 0xFFFF, value.encode() + b" " * (len(value) % 2))
    uid = str(scu.FIND[model] if model in scu.FIND else model)
    with raw.Raw(node) as peer:
        peer.associate(((1, uid, (raw.IMPLICIT,)),))
        peer.message(1, raw.c_find(model=uid), identifier)
        fields, content = peer.response()
        assert fields[0x0900] == b"\x00\xa9"
        assert fields[0x0901] == struct.pack("<HH", offending >> 16, offending & 0xFFFF)
        assert 0 < len(fields[0x0902]) <= 64 and not content
        # The association goes on.
        peer.message(1, raw.c_find(2, uid), raw.element(0x0008, 0x0052, b"STUDY ") + raw.element(0x0010, 0x0020, b"A1"))
        assert peer.response()[0][0x0900] == b"\x00\xff"
        assert peer.status()[0] == 0x0000


LEVEL = raw.element(0x0008, 0x0052, b"STUDY ")
PATIENT = raw.element(0x0010, 0x0020, b"A1")


@pytest.mark.parametrize("section, identifier, status", [
    ("PS3.5 7.2: a group length is no key (Orthanc: find_group_length, findscu_group_length)", raw.element(0x0008, 0, struct.pack("<I", 80)) + LEVEL + PATIENT, 1),
    ("PS3.10 7.1: nor is File Meta Information (Orthanc: invalid_findscp)", raw.element(0x0002, 0x0002, b"1.2 ") + LEVEL + PATIENT, 1),
    ("C.4.1.1.3.1: an empty character set, which some send, and its return", raw.element(0x0008, 0x0005, b"") + LEVEL + PATIENT, 1),
    ("level padded with NUL", raw.element(0x0008, 0x0052, b"STUDY\0") + PATIENT, 1),
    ("values padded with NUL and line ends", LEVEL + raw.element(0x0010, 0x0020, b"A1\r\n\0\0"), 1),
    ("elements out of order", PATIENT + LEVEL, 1),
    ("a name in undeclared UTF-8", LEVEL + raw.element(0x0010, 0x0010, "Müller-Lüdenscheid^Jürgen ".encode()), 1),
    ("a name in undeclared Latin-1", LEVEL + raw.element(0x0010, 0x0010, "Müller-Lüdenscheid^Jürgen ".encode("latin-1")), 1),
    ("a name in declared Latin-1", raw.element(0x0008, 0x0005, b"ISO_IR 100") + LEVEL + raw.element(0x0010, 0x0010, "müller*".encode("latin-1") + b" "), 1),
    ("an unknown character set", raw.element(0x0008, 0x0005, b"ISO_IR 999") + LEVEL + PATIENT, 1),
    ("garbage", b"\xee" * 77, 0xC000),
    ("cut short", LEVEL + PATIENT[:-1], 0xC000),
    ("nothing at all", b"", 0xA900),
    ("longer than 1 MiB", LEVEL + raw.element(0x0020, 0x000D, b"1.2\\" * 300_000), 0xC000),
], ids=lambda value: value if isinstance(value, str) else "")
def test_identifiers_that_no_toolkit_writes(archive, section, identifier, status):
    """`status` is the refusal, or the number of answers."""
    node, _ = archive
    with raw.Raw(node) as peer:
        peer.associate(((1, raw.STUDY_FIND, (raw.IMPLICIT,)),))
        peer.message(1, raw.c_find(), identifier)
        answers = []
        while True:
            fields, content = peer.response()
            if fields[0x0900] != b"\x00\xff":
                break
            answers.append(content)
        final = struct.unpack("<H", fields[0x0900])[0]
        assert (len(answers), final) == ((status, 0x0000) if status < 0x100 else (0, status)), fields
        for answer in answers:
            # No group length, no group 2, the level as it is written; the character set where it was asked for.
            assert answer[:4] in (b"\x08\0\x52\0", b"\x08\0\x05\0")
        if answers and identifier.startswith(b"\x08\0\x05\0"):
            assert answers[0].startswith(raw.element(0x0008, 0x0005, b"ISO_IR 100"))
        peer.message(1, raw.c_find(9), LEVEL + PATIENT)
        assert peer.response()[0][0x0900] == b"\x00\xff"


def test_a_query_without_an_identifier_is_refused(archive):
    """PS3.7 9.1.2.1.5: it is mandatory."""
    with raw.Raw(archive[0]) as peer:
        peer.associate(((1, raw.STUDY_FIND, (raw.IMPLICIT,)),))
        peer.message(1, raw.command(x0002=raw.STUDY_FIND, x0100=0x0020, x0110=1, x0700=0, x0800=0x0101))
        assert peer.status()[0] == 0xA900


def test_representations_that_are_wrong_are_read_all_the_same(archive):
    """The dictionary knows better: PN as LO, DA as LO, Patient ID as UN."""
    with raw.Raw(archive[0]) as peer:
        peer.associate(((1, raw.STUDY_FIND, (raw.EXPLICIT,)),))
        unknown = struct.pack("<HH", 0x0010, 0x0020) + b"UN\0\0" + struct.pack("<I", 2) + b"A1"
        identifier = (raw.explicit(0x0008, 0x0020, "LO", b"20060701-20060731") + raw.explicit(0x0008, 0x0052, "LO", b"STUDY")
                      + raw.explicit(0x0010, 0x0010, "LO", b"MUELLER*\\muller*") + unknown)
        peer.message(1, raw.c_find(), identifier)
        assert peer.response()[0][0x0900] == b"\x00\xff"
        assert peer.status()[0] == 0x0000


def test_answers_are_in_one_character_set(archive):
    """C.4.1.1.3.2: ISO_IR 100 if every value fits, else ISO_IR 192; absent where nothing needs it."""
    for patient, asked, answered in [("A1", False, "ISO_IR 100"), ("D4", False, "ISO_IR 192"), ("C3", False, None), ("C3", True, "ISO_IR 100")]:
        identifier = query("STUDY", {"PatientID": patient, "PatientName": ""})
        del identifier.SpecificCharacterSet
        if asked:
            identifier.SpecificCharacterSet = "ISO_IR 13"
        (_, answer), = ask(archive[0], identifier)[0]
        assert answer.get("SpecificCharacterSet") == answered
    assert str(answer.PatientName) == "Doe^Jane^^Dr"


def test_dcmtk_finds_in_patient_study_only(archive, tmp_path):
    """C.6.3, retired: findscu -O."""
    node, _ = archive
    assert len(dcmtk.findscu(node, "PATIENT", "-O", tmp_path, PatientID="*")) == 4
    assert len(dcmtk.findscu(node, "STUDY", "-O", tmp_path, PatientName="doe*", StudyInstanceUID="")) == 1


def test_more_answers_than_the_cap_fail_visibly(tmp_path):
    with Node(tmp_path / "node", environment={"FILMROOM_DICOM__FIND_MAX_ANSWERS": "2"}) as node:
        _, paths = sample.make_study(tmp_path / "study", images=3)
        scu.store(node, paths)
        with raw.Raw(node) as peer:
            peer.associate(((1, raw.STUDY_FIND, (raw.IMPLICIT,)),))
            peer.message(1, raw.c_find(), raw.element(0x0008, 0x0052, b"IMAGE ") + raw.element(0x0008, 0x0018, b""))
            assert peer.status() == (0xA700, "more than 2 matches, narrow the query")
            peer.message(1, raw.c_find(), raw.element(0x0008, 0x0052, b"SERIES") + raw.element(0x0020, 0x000E, b""))
            assert peer.response()[0][0x0900] == b"\x00\xff"
            assert peer.status()[0] == 0x0000

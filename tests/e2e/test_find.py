"""C-FIND from independent clients: every level in both roots, kinds of matching, computed attributes, C-CANCEL, and no file opened for it."""

import pytest
from harness import dcmtk, raw, sample, scu
from harness.node import Node
from harness.ports import wait_until


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def hospital(request, tmp_path_factory):
    """Three patients, four studies, on each database."""
    from conftest import drop_database, new_database

    url, name = (None, None) if request.param == "sqlite" else new_database()
    folder = tmp_path_factory.mktemp("hospital")
    with Node(folder / "node", url) as node:
        def study(n, **more):
            return sample.make_study(folder / f"s{n}", **more)[0]

        studies = {
            "mueller-ct": study(1, images=3, series=2, patient_id="A1", PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100", StudyDate="20240115",
                                StudyTime="101112", AccessionNumber="ACC1", StudyDescription="Thorax", StudyID="1"),
            "mueller-mr": study(2, images=2, template="mr_series/MR01.dcm", patient_id="A1", PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100",
                                StudyDate="20240301", StudyTime="235959", AccessionNumber="ACC2", StudyID="2"),
            "mixed": study(3, images=2, patient_id="B2", PatientName="Doe^Jane^^Dr", StudyDate="20231231", StudyTime="000000", AccessionNumber="ACC3", StudyID="3"),
            "smith": study(4, images=1, patient_id="C3", PatientName="Smith^Adam", StudyDate="20200229", StudyTime="0900", AccessionNumber="ACC_4", StudyID="4"),
        }
        sr, _ = sample.make_study(folder / "s3sr", images=1, template="sr_ko_pr/test-SR.dcm", patient_id="B2", PatientName="Doe^Jane^^Dr", StudyDate="20231231",
                                  StudyTime="000000", AccessionNumber="ACC3", StudyID="3", study_uid=studies["mixed"], modality="SR")
        assert sr == studies["mixed"]
        scu.store(node, sorted(folder.glob("s*/*.dcm")))
        yield node, studies
    if name:
        drop_database(name)


def found(hospital, level="STUDY", root="STUDY", **keys):
    node, studies = hospital
    keys.setdefault("StudyInstanceUID", "")
    answers, status = scu.find(node, level, root, **keys)
    assert status == 0x0000
    names = {uid: name for name, uid in studies.items()}
    return sorted(names.get(str(a.StudyInstanceUID), "?") for a in answers)


ALL = ["mixed", "mueller-ct", "mueller-mr", "smith"]


@pytest.mark.parametrize("keys, expected", [
    ({}, ALL),
    ({"PatientID": "A1"}, ["mueller-ct", "mueller-mr"]),
    ({"PatientID": " A1 "}, ["mueller-ct", "mueller-mr"]),
    ({"PatientID": "a1"}, []),
    ({"PatientID": "?2"}, ["mixed"]),
    ({"PatientName": "*"}, ALL),
    ({"PatientName": "doe*"}, ["mixed"]),
    ({"PatientName": "DOE^JANE^^DR"}, ["mixed"]),
    ({"PatientName": "muller^jorg"}, ["mueller-ct", "mueller-mr"]),
    ({"PatientName": "M?ller*"}, ["mueller-ct", "mueller-mr"]),
    ({"AccessionNumber": "ACC1"}, ["mueller-ct"]),
    ({"AccessionNumber": "ACC*"}, ALL),
    ({"AccessionNumber": "ACC_4"}, ["smith"]),
    ({"AccessionNumber": "ACC?4"}, ["smith"]),
    ({"AccessionNumber": "ACC__"}, []),
    ({"AccessionNumber": "%"}, []),
    ({"StudyDate": "20240115"}, ["mueller-ct"]),
    ({"StudyDate": "2024.01.15"}, ["mueller-ct"]),
    ({"StudyDate": "20240101-"}, ["mueller-ct", "mueller-mr"]),
    ({"StudyDate": "-20231231"}, ["mixed", "smith"]),
    ({"StudyDate": "20231231-20240115"}, ["mixed", "mueller-ct"]),
    ({"StudyTime": "10"}, ["mueller-ct"]),
    ({"StudyTime": "090000-110000"}, ["mueller-ct", "smith"]),
    ({"StudyTime": "235959"}, ["mueller-mr"]),
    ({"ModalitiesInStudy": "MR"}, ["mueller-mr"]),
    ({"ModalitiesInStudy": "SR"}, ["mixed"]),
    ({"ModalitiesInStudy": "CT", "StudyDate": "20231231"}, ["mixed"]),
    ({"StudyDescription": "Thorax"}, ["mueller-ct"]),
    ({"PatientID": "A1", "AccessionNumber": "ACC3"}, []),
], ids=str)
def test_matching_at_study_level(hospital, keys, expected):
    assert found(hospital, **keys) == expected
    assert found(hospital, root="PATIENT", **keys) == expected


def test_lists_of_uids(hospital):
    _, studies = hospital
    assert found(hospital, StudyInstanceUID=[studies["smith"], studies["mixed"], "1.2.3"]) == ["mixed", "smith"]
    assert found(hospital, StudyInstanceUID="*") == ALL


def test_computed_attributes_at_every_level(hospital):
    node, studies = hospital
    (patient,), _ = scu.find(node, "PATIENT", "PATIENT", PatientID="A1", PatientName="", NumberOfPatientRelatedStudies="", NumberOfPatientRelatedSeries="",
                             NumberOfPatientRelatedInstances="")
    assert [int(patient[k].value) for k in ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances")] == [2, 3, 8]
    assert str(patient.PatientName) == "Müller^Jörg"

    (study,), _ = scu.find(node, "STUDY", StudyInstanceUID=studies["mixed"], ModalitiesInStudy="", SOPClassesInStudy="", NumberOfStudyRelatedSeries="",
                           NumberOfStudyRelatedInstances="", RetrieveAETitle="", StudyDescription="", ReferringPhysicianName="")
    assert sorted(study.ModalitiesInStudy) == ["CT", "SR"]
    assert sorted(study.SOPClassesInStudy) == ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"]
    assert (int(study.NumberOfStudyRelatedSeries), int(study.NumberOfStudyRelatedInstances)) == (2, 3)
    assert study.RetrieveAETitle == "FILMROOM" and study.InstanceAvailability == "ONLINE" and study.QueryRetrieveLevel == "STUDY"
    assert "ReferringPhysicianName" in study

    series, _ = scu.find(node, "SERIES", StudyInstanceUID=studies["mueller-ct"], SeriesInstanceUID="", Modality="", SeriesNumber="", NumberOfSeriesRelatedInstances="")
    assert sorted(int(s.SeriesNumber) for s in series) == [1, 2]
    assert {int(s.NumberOfSeriesRelatedInstances) for s in series} == {3}

    images, _ = scu.find(node, "IMAGE", StudyInstanceUID=studies["mueller-ct"], SeriesInstanceUID=series[0].SeriesInstanceUID, SOPInstanceUID="", InstanceNumber="",
                         SOPClassUID="", Rows="", PixelSpacing="", ImagePositionPatient="")
    assert sorted(int(i.InstanceNumber) for i in images) == [1, 2, 3]
    assert {i.Rows for i in images} == {128}
    assert all(i.InstanceAvailability == "ONLINE" and len(i.ImagePositionPatient) == 3 for i in images)


def test_dcmtk_finds_at_every_level_in_both_roots(hospital, tmp_path):
    node, studies = hospital
    uid = studies["mueller-ct"]
    assert len(dcmtk.findscu(node, "PATIENT", "-P", tmp_path, PatientID="*", PatientName="")) == 3
    for root in ("-P", "-S"):
        assert len(dcmtk.findscu(node, "STUDY", root, tmp_path, PatientID="A1", StudyInstanceUID="")) == 2
        assert len(dcmtk.findscu(node, "SERIES", root, tmp_path, PatientID="A1", StudyInstanceUID=uid, SeriesInstanceUID="")) == 2
        assert len(dcmtk.findscu(node, "IMAGE", root, tmp_path, PatientID="A1", StudyInstanceUID=uid, SOPInstanceUID="")) == 6


def test_every_requested_key_comes_back(hospital):
    node, studies = hospital
    (answer,), _ = scu.find(node, "STUDY", StudyInstanceUID=studies["smith"], SpecificCharacterSet="", InterpretationStatusID="", InstitutionName="",
                            PerformingPhysicianName="", RequestAttributesSequence=[], ProtocolName="")
    for key in ("SpecificCharacterSet", "InterpretationStatusID", "InstitutionName", "PerformingPhysicianName", "RequestAttributesSequence", "ProtocolName"):
        assert key in answer, key


@pytest.mark.parametrize("identifier, offending", [
    (b"", None),
    (raw.explicit(0x0008, 0x0052, "CS", b"NONSENSE"), b"\x08\x00\x52\x00"),
    (raw.explicit(0x0008, 0x0052, "CS", b"PATIENT"), b"\x08\x00\x52\x00"),
], ids=["no level", "an unknown level", "PATIENT in Study Root"])
def test_a_wrong_level_is_a900(hospital, identifier, offending):
    node, _ = hospital
    with raw.Raw(node) as peer:
        peer.associate()
        peer.message(5, raw.c_find(), identifier or raw.explicit(0x0010, 0x0020, "LO", b"X"))
        fields, _ = peer.response()
        assert fields[0x0900] == b"\x00\xa9"
        if offending:
            assert fields[0x0901] == offending


def test_lenient_levels(hospital):
    node, studies = hospital
    for level, key, count in (("study", "StudyInstanceUID", 4), ("IMAGES", "SOPInstanceUID", 12)):
        answers, status = scu.find(node, level, **{key: ""})
        assert (status, len(answers)) == (0x0000, count)


def test_too_many_answers_fail_visibly(tmp_path):
    node = Node(tmp_path / "capped")
    node.config.write_text(node.config.read_text().replace("[dicom]", "[dicom]\nfind_max_answers = 5"))
    with node:
        _, paths = sample.make_study(tmp_path / "study", images=7)
        scu.store(node, paths)
        answers, status = scu.find(node, "IMAGE", SOPInstanceUID="")
        assert status == 0xA700
        answers, status = scu.find(node, "IMAGE", SOPInstanceUID="", InstanceNumber="3")
        assert (status, len(answers)) == (0x0000, 1)


def test_cancel_ends_a_find_with_fe00(tmp_path):
    from harness import stream

    with Node(tmp_path / "node") as node:
        stream.send_all([stream.Sender(node, stream.images(400, series=s)) for s in range(4)])
        model = scu.FIND["STUDY"]
        with scu.association(node, [(model, [raw.EXPLICIT])]) as assoc:
            statuses = []
            for status, _ in assoc.send_c_find(scu.identifier("IMAGE", SOPInstanceUID="", ImagePositionPatient=None), model, msg_id=9):
                statuses.append(status.Status)
                if len(statuses) == 1:
                    assoc.send_c_cancel(9, query_model=model)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 1600


def test_no_file_is_opened_for_a_query(hospital):
    node, _ = hospital
    hot = node.data / "hot"
    hidden = node.data / "hidden"
    hot.rename(hidden)
    try:
        assert found(hospital) == ALL
        assert found(hospital, ModalitiesInStudy="SR") == ["mixed"]
    finally:
        hidden.rename(hot)
    wait_until(lambda: node.get("/health/ready")[0] == 200, "readiness")

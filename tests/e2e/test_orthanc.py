"""Orthanc as SCU: echoes, stores to the node, queries it, and retrieves studies to itself by C-MOVE."""

import pytest
from harness import dcmtk, sample, scu
from harness.node import Node
from harness.orthanc import Orthanc


@pytest.fixture
def pair(tmp_path, catalogue_url):
    orthanc = Orthanc(tmp_path / "orthanc")
    with Node(tmp_path / "node", catalogue_url, {orthanc.title: orthanc.port}) as node:
        orthanc.start(node)
        yield node, orthanc
        orthanc.stop()


def test_orthanc_queries_and_retrieves(pair, tmp_path):
    node, orthanc = pair
    assert orthanc.request("POST", "/modalities/node/echo", {}) == {}
    study, paths = sample.make_study(tmp_path / "study", images=5, series=2, PatientName="Orthanc^Querier")
    dcmtk.dcmsend(node, *paths)
    query = {"Level": "Study", "Query": {"PatientName": "orthanc*", "StudyInstanceUID": "", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": ""}}
    found = orthanc.request("POST", "/modalities/node/query", query)["ID"]
    assert orthanc.request("GET", f"/queries/{found}/answers") == ["0"]
    answer = orthanc.request("GET", f"/queries/{found}/answers/0/content?simplify")
    assert answer["StudyInstanceUID"] == study and answer["NumberOfStudyRelatedInstances"] == "10" and answer["ModalitiesInStudy"] == "CT"
    orthanc.request("POST", f"/queries/{found}/answers/0/retrieve", {"TargetAet": orthanc.title, "Synchronous": True})
    assert len(orthanc.request("GET", "/instances")) == 10
    uids = {orthanc.request("GET", f"/instances/{i}/simplified-tags")["SOPInstanceUID"] for i in orthanc.request("GET", "/instances")}
    assert len(uids) == 10
    series = orthanc.request("POST", "/modalities/node/query", {"Level": "Series", "Query": {"StudyInstanceUID": study, "SeriesInstanceUID": "", "Modality": ""}})["ID"]
    assert len(orthanc.request("GET", f"/queries/{series}/answers")) == 2


def test_orthanc_stores_to_the_node(pair, tmp_path):
    node, orthanc = pair
    study, paths = sample.make_study(tmp_path / "study", images=3)
    ids = [orthanc.request("POST", "/instances", path.read_bytes())["ID"] for path in paths]
    orthanc.request("POST", "/modalities/node/store", ids)
    answers, _ = scu.find(node, "STUDY", StudyInstanceUID=study, NumberOfStudyRelatedInstances="")
    assert int(answers[0].NumberOfStudyRelatedInstances) == 3

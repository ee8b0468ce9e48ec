"""Orthanc, an archive, through a whole visit as SCU, driven by its REST interface; and images in both directions between the two archives."""

from contextlib import contextmanager
from urllib.error import HTTPError

import pytest
from harness import dcmtk, sample, visit
from harness.node import Node
from harness.orthanc import Orthanc
from harness.scu import Destination

REST_LEVEL = {"PATIENT": "Patient", "STUDY": "Study", "SERIES": "Series", "IMAGE": "Instance"}


class OrthancClient:
    title = "ORTHB"
    decodes = True
    # DCMTK does its reading and its sending.
    cannot_store = {"Tag-0040-A170-VR-CS.dcm": "Cannot parse an invalid DICOM file", "liver_deflate.dcm": "DIMSE Failed to send message"}
    changes = {}
    # Its queries below the patient are in Study Root, whatever one asks for.
    levels = {"PATIENT": ["PATIENT"], "STUDY": ["STUDY", "SERIES", "IMAGE"]}

    def __init__(self, orthanc):
        self.orthanc = orthanc

    def echo(self):
        assert self.orthanc.request("POST", "/modalities/node/echo", {}) == {}

    def store(self, path):
        instance = self.orthanc.request("POST", "/instances", path.read_bytes())["ID"]
        sent = self.orthanc.request("POST", "/modalities/node/store", [instance])
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (1, 0)

    def fails_to_store(self, path):
        with pytest.raises(HTTPError) as failed:
            self.store(path)
        assert self.cannot_store[path.name] in failed.value.read().decode()

    def query(self, level, keys):
        return self.orthanc.request("POST", "/modalities/node/query", {"Level": REST_LEVEL[level], "Query": keys})["ID"]

    def find(self, level, root, **keys):
        return self.orthanc.request("GET", f"/queries/{self.query(level, keys)}/answers?expand&simplify")

    def move(self, destination, **keys):
        self.orthanc.request("POST", "/modalities/node/move", {"Level": "Study", "TargetAet": destination, "Resources": [keys]})

    # It has no C-GET before 1.12.6.
    get = None


@contextmanager
def archives(folder, catalogue_url=None):
    """Orthanc and a node that know each other, and a third AE."""
    orthanc = Orthanc(folder / "orthanc")
    with Destination(folder / "third") as third, Node(folder / "node", catalogue_url, {orthanc.title: orthanc.port, third.title: third.port}) as node:
        orthanc.start(node)
        try:
            yield node, orthanc, third
        finally:
            orthanc.stop()


def test_a_visit(tmp_path):
    with archives(tmp_path) as (node, orthanc, third):
        visit.visit(OrthancClient(orthanc), node, third, tmp_path)


def kept_by(orthanc):
    return {orthanc.request("GET", f"/instances/{one}/simplified-tags")["SOPInstanceUID"] for one in orthanc.request("GET", "/instances")}


def test_studies_come_to_orthanc_by_its_own_query_by_another_clients_move_and_by_sending(tmp_path, catalogue_url):
    with archives(tmp_path, catalogue_url) as (node, orthanc, _):
        uids, studies = {}, {}
        for name in ("queried", "moved", "sent"):
            studies[name], paths = sample.make_study(tmp_path / name, images=5, series=2, patient_id=name, PatientName=f"{name}^Orthanc")
            dcmtk.dcmsend(node, *paths)
            uids[name] = {visit.Object(path).uid for path in paths}
        client = OrthancClient(orthanc)

        # What its user types; the answer is retrieved to itself by C-MOVE, with empty keys of other levels in the identifier.
        found = client.query("STUDY", {"PatientName": "queried*", "StudyInstanceUID": "", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": ""})
        (answer,) = orthanc.request("GET", f"/queries/{found}/answers?expand&simplify")
        assert answer["StudyInstanceUID"] == studies["queried"] and answer["NumberOfStudyRelatedInstances"] == "10" and answer["ModalitiesInStudy"] == "CT"
        orthanc.request("POST", f"/queries/{found}/answers/0/retrieve", {"TargetAet": orthanc.title, "Synchronous": True})
        assert kept_by(orthanc) == uids["queried"]

        dcmtk.movescu(node, orthanc.title, StudyInstanceUID=studies["moved"])
        assert kept_by(orthanc) == uids["queried"] | uids["moved"]
        node.command("send", orthanc.title, studies["sent"])
        assert kept_by(orthanc) == set().union(*uids.values())

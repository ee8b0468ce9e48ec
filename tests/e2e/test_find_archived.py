"""C-FIND over an archive of which some is hot, some cold, some archived and some being restored: the answers are right, and S3 is never asked. The
store's own counter says so."""

import struct
from io import BytesIO

import pytest
from harness import raw, sample, scu
from harness.arrivals import ByStoreScp
from harness.ports import wait_until
from harness.requester import move
from harness.site import Site, ae, under_way
from pynetdicom import dsutils

QUERIES = 1000


@pytest.fixture
def mixed(tmp_path, catalogue_url):
    """A node, and study → (availability, patient)."""
    with Site(tmp_path / "site") as site, ByStoreScp(tmp_path / "dest", "DEST") as dest:
        with site.node(catalogue_url=catalogue_url, peers=[ae("DEST", dest.port)]) as node:
            kinds = {}

            def add(kind, available):
                study, paths = sample.make_study(tmp_path / kind, images=4, patient_id=kind)
                kinds[study] = (kind, available)
                return study, paths

            old = [add(kind, "NEARLINE") for kind in ("RESTORING", "DEEP")]
            site.pack(node, [path for _, paths in old for path in paths])
            site.clock.advance(days=100)
            _, archived = add("ARCHIVED", "NEARLINE")
            site.pack(node, archived)
            site.clock.advance(days=95)
            _, cold = add("COLD", "ONLINE")
            site.pack(node, cold)
            _, hot = add("HOT", "ONLINE")
            assert set(scu.store(node, hot).values()) == {0x0000}
            final = move("pynetdicom", node, "DEST", StudyInstanceUID=old[0][0])
            assert final.status == 0xA702 and "ask again" in final.comment
            wait_until(lambda: under_way(node, old[0][0]), "the restore to be under way")
            assert sorted(found["tier"] or "" for found in site.packs().values()) == ["", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"]
            yield site, node, kinds


def test_a_thousand_queries_ask_s3_nothing(mixed):
    site, node, kinds = mixed
    seen, asked = {}, 0
    before = site.requests()
    # By hand: a toolkit's own pace would make this a test of the toolkit.
    with raw.Raw(node) as peer:
        peer.associate([(1, raw.STUDY_FIND, (raw.EXPLICIT,))])
        while asked < QUERIES:
            for identifier in identifiers(kinds):
                asked += 1
                answers = find(peer, asked, identifier)
                assert answers
                for answer in answers:
                    study = str(answer.StudyInstanceUID)
                    assert answer.InstanceAvailability == kinds[study][1], (kinds[study], identifier)
                    seen.setdefault(study, set()).add(answer.QueryRetrieveLevel)
    after = site.requests()
    assert seen == {study: {"STUDY", "SERIES"} for study in kinds}
    assert after == before


def find(peer, message, identifier):
    peer.message(1, raw.c_find(message), dsutils.encode(identifier, False, True))
    answers = []
    while True:
        fields, content = peer.response()
        (status,) = struct.unpack("<H", fields[0x0900])
        if status not in (0xFF00, 0xFF01):
            assert status == 0x0000
            return answers
        answers.append(dsutils.decode(BytesIO(content), False, True))


def identifiers(kinds):
    """At every level, and with Instance Availability asked for or not: it is always told (PS3.4 C.4.1.1.3.2)."""
    yield scu.identifier("STUDY", StudyInstanceUID="", InstanceAvailability="")
    yield scu.identifier("STUDY", StudyInstanceUID="", PatientID="*", ModalitiesInStudy="")
    for study, (patient, _) in kinds.items():
        yield scu.identifier("STUDY", StudyInstanceUID="", PatientID=patient)
        yield scu.identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", InstanceAvailability="")

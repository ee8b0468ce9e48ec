"""C-MOVE and C-GET to the letter (PS3.4 C.4.2, C.4.3, Z): levels, keys, roots, refusals, destinations that misbehave, retrieves without bulk data."""

import socket
import threading
import time

import pydicom
import pytest
from harness import dcmtk, part10, raw, sample, scu
from harness.node import Node
from harness.ports import free_port, wait_until
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import CompositeInstanceRetrieveWithoutBulkDataGet as WITHOUT_BULK_DATA

PATIENT_STUDY_ONLY = {"move": "1.2.840.10008.5.1.4.1.2.3.2", "get": "1.2.840.10008.5.1.4.1.2.3.3"}
OPENED = "filmroom_object_files_opened_total"


class Scripted:
    """A destination whose answer to each C-STORE the test decides."""

    def __init__(self, answer=lambda n, event: 0x0000, title="SCRIPTED", handlers=(), **options):
        self.title, self.port, self.requests = title, free_port(), []
        self.open = self.most = 0
        lock = threading.Lock()
        ae = AE(ae_title=title)
        for key, value in options.items():
            setattr(ae, key, value)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, context.transfer_syntax)

        def handle(event):
            with lock:
                self.requests.append(event.request)
                number = len(self.requests)
            return answer(number, event)

        def change(by):
            with lock:
                self.open += by
                self.most = max(self.most, self.open)

        handlers = [(evt.EVT_C_STORE, handle), (evt.EVT_CONN_OPEN, lambda event: change(1)), (evt.EVT_CONN_CLOSE, lambda event: change(-1)), *handlers]
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()


def counters(status):
    return tuple(getattr(status, f"NumberOf{name}Suboperations", None) for name in ("Completed", "Failed", "Warning"))


def move(node, model, destination, identifier, **options):
    with scu.association(node, [(model, [raw.EXPLICIT])]) as assoc:
        return list(assoc.send_c_move(identifier, destination, model, **options))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def archive(request, tmp_path_factory):
    """Two patients, one of them known to two issuers, and a destination."""
    from conftest import drop_database, new_database

    url, name = (None, None) if request.param == "sqlite" else new_database()
    folder = tmp_path_factory.mktemp("archive")
    with dcmtk.StoreScp(folder / "destination") as destination:
        with Node(folder / "node", url, {destination.title: destination.port}) as node:
            def study(number, **more):
                uid, paths = sample.make_study(folder / str(number), images=2, series=2, **more)
                assert set(scu.store(node, paths).values()) == {0x0000}
                return uid, [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]

            studies = {
                "one": study(1, patient_id="A1", AccessionNumber="ACC1"),
                "two": study(2, patient_id="A1", AccessionNumber="ACC2"),
                "other": study(3, patient_id="TWICE", AccessionNumber="ACC3", IssuerOfPatientID="H1"),
                "another": study(4, patient_id="TWICE", AccessionNumber="ACC1", IssuerOfPatientID="H2"),
            }
            yield node, destination, studies
    if name:
        drop_database(name)


def meant(studies, text):
    """`one`: its Study Instance UID; `one.1`: its second series; `one.1.0`: the first image of that."""
    name, *rest = text.split(".")
    uid, images = studies[name]
    match rest:
        case []:
            return uid
        case [series]:
            return images[2 * int(series)].SeriesInstanceUID
        case [series, number]:
            return images[2 * int(series) + int(number)].SOPInstanceUID


UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}


def identifier(studies, level, keys):
    written = {}
    for key, value in keys.items():
        known = key in UIDS and value and value != "*" and not str(value).startswith("1.2.3")
        written[key] = [meant(studies, text) for text in value.split()] if known else value
    return scu.identifier(level, **written)


@pytest.mark.parametrize("section, root, level, keys, images", [
    ("C.4.2.2.1 PATIENT", "PATIENT", "PATIENT", {"PatientID": "A1"}, 8),
    ("C.4.2.1.4.1 PATIENT with its issuer", "PATIENT", "PATIENT", {"PatientID": "TWICE", "IssuerOfPatientID": "H2"}, 4),
    ("C.4.2.2.1 STUDY", "STUDY", "STUDY", {"StudyInstanceUID": "one"}, 4),
    ("C.4.2.2.1 STUDY below its patient", "PATIENT", "STUDY", {"PatientID": "A1", "StudyInstanceUID": "one"}, 4),
    ("C.4.2.2.1 the patient above counts", "PATIENT", "STUDY", {"PatientID": "TWICE", "StudyInstanceUID": "one"}, 0),
    ("C.4.2.2.1 in Study Root it is no unique key", "STUDY", "STUDY", {"PatientID": "TWICE", "StudyInstanceUID": "one"}, 4),
    ("C.4.2.2.1 a list", "STUDY", "STUDY", {"StudyInstanceUID": "one two other"}, 12),
    ("C.4.2.2.1 what a list names twice", "STUDY", "STUDY", {"StudyInstanceUID": "one two one one"}, 8),
    ("C.4.2.2.1 SERIES", "STUDY", "SERIES", {"StudyInstanceUID": "one", "SeriesInstanceUID": "one.1"}, 2),
    ("C.4.2.2.1 a list of SERIES", "PATIENT", "SERIES", {"PatientID": "A1", "StudyInstanceUID": "one", "SeriesInstanceUID": "one.0 one.1"}, 4),
    ("C.4.2.2.1 a series of another study", "STUDY", "SERIES", {"StudyInstanceUID": "one", "SeriesInstanceUID": "two.1"}, 0),
    ("C.4.2.2.2 relational: SERIES alone", "STUDY", "SERIES", {"SeriesInstanceUID": "one.0 other.1"}, 4),
    ("C.4.2.2.1 IMAGE", "STUDY", "IMAGE", {"StudyInstanceUID": "one", "SeriesInstanceUID": "one.0", "SOPInstanceUID": "one.0.0 one.0.1"}, 2),
    ("C.4.2.2.2 relational: IMAGE alone", "STUDY", "IMAGE", {"SOPInstanceUID": "one.0.0 another.1.1 one.0.0"}, 2),
    ("duplicates between lists", "STUDY", "IMAGE", {"StudyInstanceUID": "one two one", "SeriesInstanceUID": "one.0 one.0", "SOPInstanceUID": "one.0.0"}, 1),
    ("nothing matches (Orthanc: incoming_movescu)", "PATIENT", "PATIENT", {"PatientID": "none"}, 0),
    ("nothing matches", "STUDY", "STUDY", {"StudyInstanceUID": "1.2.3"}, 0),
    ("by Accession Number (Orthanc: incoming_movescu_accession)", "STUDY", "STUDY", {"AccessionNumber": "ACC2"}, 4),
    ("by Accession Number of two patients", "STUDY", "STUDY", {"AccessionNumber": "ACC1"}, 8),
    ("by Accession Number of one of them", "PATIENT", "STUDY", {"AccessionNumber": "ACC1", "PatientID": "A1"}, 4),
    ("by an unknown Accession Number (Orthanc: incoming_movescu_accession)", "STUDY", "STUDY", {"AccessionNumber": "nope"}, 0),
    ("with an empty UID (Orthanc: move_ambra)", "STUDY", "STUDY", {"AccessionNumber": "ACC2", "StudyInstanceUID": ""}, 4),
    ("with both (Orthanc: move_ambra)", "STUDY", "STUDY", {"AccessionNumber": "ACC2", "StudyInstanceUID": "two"}, 4),
    ("with an empty Accession Number (Orthanc: move_ambra)", "STUDY", "STUDY", {"AccessionNumber": "", "StudyInstanceUID": "two"}, 4),
    ("other keys mean nothing", "STUDY", "STUDY", {"StudyInstanceUID": "two", "Modality": "MR", "PatientName": "Nobody", "StudyDate": "19000101"}, 4),
], ids=str)
def test_what_is_retrieved(archive, tmp_path, section, root, level, keys, images):
    node, destination, studies = archive
    final, _ = move(node, scu.MOVE[root], destination.title, identifier(studies, level, keys))[-1]
    assert (final.Status, *counters(final)) == (0x0000, images, 0, 0)
    # storescp writes on after it has answered.
    wait_until(lambda: len(destination.files()) == images, f"{images} images")
    for path in destination.files():
        path.unlink()
    if images:
        got = scu.get(node, tmp_path / "got", [(raw.CT, [raw.EXPLICIT])], level=level, root=root,
                      **{e.keyword: e.value for e in identifier(studies, level, keys) if e.keyword != "QueryRetrieveLevel"})
        assert (got[-1][0].Status, *counters(got[-1][0])) == (0x0000, images, 0, 0)
        assert len(list((tmp_path / "got").iterdir())) == images


@pytest.mark.parametrize("section, root, level, keys", [
    ("C.4.2.1.4.1 absent", "STUDY", "STUDY", {}),
    ("C.4.2.1.4.1 empty (Orthanc: move_ambra)", "STUDY", "STUDY", {"StudyInstanceUID": ""}),
    ("C.4.2.1.4.1 both empty (Orthanc: move_ambra)", "STUDY", "STUDY", {"StudyInstanceUID": "", "AccessionNumber": ""}),
    ("C.4.2.1.4.1 universal", "STUDY", "STUDY", {"StudyInstanceUID": "*"}),
    ("C.4.2.1.4.1 a wildcard", "STUDY", "STUDY", {"AccessionNumber": "ACC*"}),
    ("C.4.2.1.4.1 SERIES", "STUDY", "SERIES", {"StudyInstanceUID": "one"}),
    ("C.4.2.1.4.1 SERIES below any study", "STUDY", "SERIES", {"StudyInstanceUID": "*", "SeriesInstanceUID": "one.0"}),
    ("C.4.2.1.4.1 IMAGE", "STUDY", "IMAGE", {"StudyInstanceUID": "one", "SeriesInstanceUID": "one.0"}),
    ("C.4.2.1.4.1 PATIENT", "PATIENT", "PATIENT", {"PatientID": ""}),
    ("C.4.2.1.4.1 PATIENT", "PATIENT", "PATIENT", {"PatientID": "*"}),
    ("C.4.2.1.4.1 one Patient ID", "PATIENT", "PATIENT", {"PatientID": ["A1", "TWICE"]}),
    ("C.4.2.1.4.1 of several issuers", "PATIENT", "PATIENT", {"PatientID": "TWICE"}),
    ("Accession Number at PATIENT (Orthanc: incoming_movescu_accession)", "PATIENT", "PATIENT", {"AccessionNumber": "ACC2"}),
    ("C.6.2 PATIENT in Study Root", "STUDY", "PATIENT", {"PatientID": "A1"}),
    ("C.4.2.1.4.1 no level", "STUDY", "", {"StudyInstanceUID": "one"}),
], ids=str)
def test_what_never_means_everything_is_a900(archive, tmp_path, section, root, level, keys):
    node, destination, studies = archive
    asked = identifier(studies, level, keys)
    responses = move(node, scu.MOVE[root], destination.title, asked)
    assert len(responses) == 1
    final, _ = responses[0]
    assert final.Status == 0xA900
    assert 0 < len(final.ErrorComment) <= 64 and final.OffendingElement
    with scu.association(node, [(scu.GET[root], [raw.EXPLICIT])]) as assoc:
        assert [status.Status for status, _ in assoc.send_c_get(asked, scu.GET[root])] == [0xA900]
    assert destination.files() == []


@pytest.mark.parametrize("level, keys, images", [
    ("PATIENT", {"PatientID": "A1"}, 8),
    ("STUDY", {"PatientID": "A1", "StudyInstanceUID": "one"}, 4),
    ("STUDY", {"StudyInstanceUID": "one"}, 4),
    ("SERIES", {"StudyInstanceUID": "one", "SeriesInstanceUID": "one.0"}, None),
    ("IMAGE", {"StudyInstanceUID": "one", "SOPInstanceUID": "one.0.0"}, None),
])
def test_patient_study_only(archive, level, keys, images):
    """C.6.3 (retired): the levels PATIENT and STUDY."""
    node, destination, studies = archive
    asked = identifier(studies, level, keys)
    final, _ = move(node, PATIENT_STUDY_ONLY["move"], destination.title, asked)[-1]
    stored = []

    def keep(event):
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    model = PATIENT_STUDY_ONLY["get"]
    with scu.association(node, [(model, [raw.EXPLICIT]), (raw.CT, [raw.EXPLICIT])], handlers=[(evt.EVT_C_STORE, keep)],
                         roles=[build_role(raw.CT, scp_role=True)]) as assoc:
        got, _ = list(assoc.send_c_get(asked, model))[-1]
    expected = (0x0000, images, 0, 0) if images else (0xA900, None, None, None)
    assert (final.Status, *counters(final)) == (got.Status, *counters(got)) == expected
    assert len(stored) == (images or 0)
    wait_until(lambda: len(destination.files()) == (images or 0), "the images")
    for path in destination.files():
        path.unlink()


def test_qrscp_basics(sqlite_node, destination, tmp_path):
    """pynetdicom: qrscp test_move test_basic, test_get test_basic: one image, one Pending (ours comes first), then Success, both without a data set."""
    _, paths = sample.make_study(tmp_path / "study", images=1, patient_id="1CT1", PatientName="CompressedSamples^CT1")
    scu.store(sqlite_node, paths)
    moved = scu.move(sqlite_node, destination.title, level="PATIENT", root="PATIENT", PatientID="1CT1")
    got = scu.get(sqlite_node, tmp_path / "got", [(raw.CT, [raw.EXPLICIT])], level="PATIENT", root="PATIENT", PatientID="1CT1")
    for responses in (moved, got):
        assert [status.Status for status, _ in responses][0] == 0xFF00 and responses[-1][0].Status == 0x0000
        assert all(not data_set for _, data_set in responses)
    assert part10.digest(destination.files()[0]) == part10.digest(paths[0])


def test_one_study_uid_under_two_patients(node, destination, tmp_path):
    """Orthanc: bitbucket_issue_131. A study is of one patient here, the first, and the other is listed as a conflict; at STUDY level all of it moves."""
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    paths = []
    for number, patient in enumerate("AB"):
        def place(image, *_):
            image.SeriesInstanceUID = series[number]

        paths += sample.make_study(tmp_path / patient, images=1, patient_id=patient, PatientName=f"Collision^{patient}", study_uid=study, extra=place)[1]
    assert set(scu.store(node, paths).values()) == {0x0000}
    answers, _ = scu.find(node, "STUDY", StudyInstanceUID=study, PatientID="", NumberOfStudyRelatedInstances="")
    assert [(a.PatientID, a.NumberOfStudyRelatedInstances) for a in answers] == [("A", 2)]

    def moved(**options):
        final, _ = scu.move(node, destination.title, **options)[-1]
        assert final.Status == 0x0000
        return final.NumberOfCompletedSuboperations

    assert moved(StudyInstanceUID=study) == 2
    assert moved(root="PATIENT", level="PATIENT", PatientID="A") == 2
    assert moved(level="SERIES", SeriesInstanceUID=series[1]) == 1


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_sub_operations_have_the_priority_of_their_move(tmp_path, priority):
    """C.4.2.1.2, PS3.7 9.1.4.1.6"""
    with Scripted() as destination, Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        study, paths = sample.make_study(tmp_path / "study", images=2)
        scu.store(node, paths)
        move(node, scu.MOVE["STUDY"], destination.title, scu.identifier("STUDY", StudyInstanceUID=study), priority=priority)
        assert [request.Priority for request in destination.requests] == [priority] * 2


# -- destinations that misbehave --------------------------------------------------------------------------------------------------


def closes_at_once(listener):
    while True:
        try:
            listener.accept()[0].close()
        except OSError:
            return


def answers_http(listener):
    while True:
        try:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()
        except OSError:
            return


@pytest.mark.parametrize("behave", [closes_at_once, answers_http])
def test_a_destination_that_is_no_dicom_fails_every_image(tmp_path, behave):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=behave, args=(listener,), daemon=True).start()
        with Node(tmp_path / "node", None, {"BROKEN": listener.getsockname()[1]}) as node:
            study, paths = sample.make_study(tmp_path / "study", images=3)
            scu.store(node, paths)
            final, failed = scu.move(node, "BROKEN", StudyInstanceUID=study)[-1]
            assert (final.Status, *counters(final)) == (0xA702, 0, 3, 0)
            assert len(failed.FailedSOPInstanceUIDList) == 3
            assert final.ErrorComment == "3 not sent: association failed"


@pytest.mark.parametrize("section, answer, options, expected, comment", [
    ("PS3.8 9.3.4: rejects the association", None, {"require_calling_aet": ["OTHERS"]}, (0xA702, 0, 5, 0), "5 not sent: association failed"),
    ("B.2.3: warns of all", lambda n, e: 0xB007, {}, (0xB000, 0, 0, 5), "5 stored with a warning of the destination"),
    ("B.2.3: warns of one", lambda n, e: 0xB000 if n == 2 else 0, {}, (0xB000, 4, 0, 1), "1 stored with a warning of the destination"),
    ("B.2.3: fails one and warns of one", lambda n, e: {2: 0xA700, 4: 0xB006}.get(n, 0), {}, (0xB000, 3, 1, 1), "1 refused, first with A700"),
    ("B.2.3: refuses all, in two ways", lambda n, e: 0xA900 if n < 3 else 0xC000, {}, (0xA702, 0, 5, 0), "5 refused, first with A900"),
    ("B.2.3: an unknown status is a failure", lambda n, e: 0x1234 if n == 1 else 0, {}, (0xB000, 4, 1, 0), "1 refused, first with 1234"),
    ("B.2.3: Aeskulap's A900 for one image does not stop the others", lambda n, e: 0xA900 if n == 1 else 0, {}, (0xB000, 4, 1, 0), "1 refused, first with A900"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_every_kind_of_answer_has_its_status_counters_and_comment(tmp_path, section, answer, options, expected, comment):
    """Table C.4-2, C.4.2.1.6 to C.4.2.1.9"""
    with Scripted(answer or (lambda n, e: 0x0000), **options) as destination, Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        study, paths = sample.make_study(tmp_path / "study", images=5)
        scu.store(node, paths)
        final, failed = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
        assert (final.Status, *counters(final)) == expected
        assert final.ErrorComment == comment
        listed = failed.FailedSOPInstanceUIDList if failed else []
        assert (1 if isinstance(listed, str) else len(listed)) == expected[2]


def test_a_destination_has_no_more_associations_than_it_may(tmp_path):
    """[[ae]] max_associations: a further C-MOVE waits its turn and says Pending meanwhile."""

    def slow(number, event):
        time.sleep(0.4)
        return 0x0000

    with Scripted(slow) as destination:
        listed = f'[[ae]]\ntitle = "{destination.title}"\naddress = "127.0.0.1:{destination.port}"\nmax_associations = 1\n'
        with Node(tmp_path / "node", sections='[retrieve]\npending_interval = "500ms"\n' + listed) as node:
            study, paths = sample.make_study(tmp_path / "study", images=4)
            scu.store(node, paths)
            results = []

            def ask():
                results.append([status for status, _ in scu.move(node, destination.title, StudyInstanceUID=study)])

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert destination.most == 1
            assert [(r[-1].Status, *counters(r[-1])) for r in results] == [(0x0000, 4, 0, 0)] * 3
            waited = results[-1]
            assert sum(status.Status == 0xFF00 and status.NumberOfRemainingSuboperations == 4 for status in waited) >= 3


def test_a_long_list_of_failures_is_told_whole(tmp_path):
    """C.4.2.1.4.2; beyond 64 KB the list is UN in Explicit VR (PS3.5 6.2.2)."""
    with Node(tmp_path / "node", None, {"NOWHERE": free_port()}) as node:
        study, series = generate_uid(), generate_uid()
        uids = [f"1.2.826.0.1.3680043.10.987654321.1234567890.{n}" for n in range(100_000, 101_500)]
        with raw.Raw(node) as peer:
            peer.associate()
            for uid in uids:
                peer.message(3, raw.c_store(uid), raw.data_set(uid, study=study, series=series))
                assert peer.status()[0] == 0x0000
        final, failed = scu.move(node, "NOWHERE", StudyInstanceUID=study)[-1]
        assert (final.Status, *counters(final)) == (0xA702, 0, 1500, 0)
        listed = failed["FailedSOPInstanceUIDList"]
        assert listed.VR == "UN" and sorted(listed.value.rstrip(b"\0").decode().split("\\")) == uids
        with scu.association(node, [(scu.MOVE["STUDY"], [raw.IMPLICIT])]) as assoc:
            asked = scu.identifier("STUDY", StudyInstanceUID=study)
            *_, (_, failed) = assoc.send_c_move(asked, "NOWHERE", scu.MOVE["STUDY"])
        assert sorted(failed.FailedSOPInstanceUIDList) == uids
        assert "A702" in dcmtk.movescu(node, "NOWHERE", StudyInstanceUID=study, check=False).stderr.upper()


# -- Composite Instance Retrieve Without Bulk Data (PS3.4 Z) ------------------------------------------------------------------------


def without_bulk_data(node, uids, contexts, level="IMAGE"):
    """The final status, and the data sets that came."""
    got = {}

    def keep(event):
        got[str(event.request.AffectedSOPInstanceUID)] = event.dataset
        return 0x0000

    roles = [build_role(abstract, scp_role=True) for abstract in {abstract for abstract, _ in contexts}]
    with scu.association(node, [(WITHOUT_BULK_DATA, [raw.EXPLICIT]), *contexts], handlers=[(evt.EVT_C_STORE, keep)], roles=roles) as assoc:
        asked = scu.identifier(level, SOPInstanceUID=uids)
        return list(assoc.send_c_get(asked, WITHOUT_BULK_DATA))[-1][0], got


def same(got, original, left_out):
    """Element by element, whatever character set it was written in."""
    tags = {element.tag for element in original if element.tag.group >= 8} - set(left_out)
    assert {element.tag for element in got} - {0x00080005} == tags - {0x00080005}
    for tag in tags - {0x00080005}:
        assert got[tag].value == original[tag].value, got[tag]


@pytest.mark.parametrize("template, left_out, opens", [
    ("mr_series/MR01.dcm", [0x7FE00010, 0xFFFCFFFC], False),
    ("sr_ko_pr/test-SR.dcm", [], False),
    # Its scanner's private values are longer than what the catalogue keeps.
    ("ct/CT_small.dcm", [0x7FE00010, 0xFFFCFFFC], True),
], ids=["an image", "a report", "an image with long private values"])
def test_what_is_not_bulk_data_comes_from_the_catalogue_alone(node, tmp_path, template, left_out, opens):
    """Z.1.3, Z.1.4: no object's file is opened where the catalogue has all of it."""
    _, paths = sample.make_study(tmp_path / "study", images=2, template=template)
    scu.store(node, paths)
    before = node.metric(OPENED)
    originals = [pydicom.dcmread(path) for path in paths]
    final, got = without_bulk_data(node, [o.SOPInstanceUID for o in originals], [(originals[0].SOPClassUID, [raw.EXPLICIT])])
    assert (final.Status, *counters(final)) == (0x0000, 2, 0, 0)
    for original in originals:
        same(got[original.SOPInstanceUID], original, left_out)
    assert (node.metric(OPENED) > before) == opens


def test_a_long_private_value_is_no_bulk_data_and_comes_from_the_object(node, tmp_path):
    """Z.1.3 names what is left out; a scanner's private header is not among it."""

    def private(image, *_):
        image.add_new(0x00290010, "LO", "SCANNER")
        image.add_new(0x00291010, "OB", bytes(range(256)) * 40)
        image.add_new(0x60003000, "OW", bytes(2048))
        image.add_new(0x60000010, "US", 128)

    _, (path,) = sample.make_study(tmp_path / "study", images=1, extra=private)
    scu.store(node, [path])
    before = node.metric(OPENED)
    original = pydicom.dcmread(path)
    final, got = without_bulk_data(node, [original.SOPInstanceUID], [(raw.CT, [raw.EXPLICIT])])
    assert (final.Status, *counters(final)) == (0x0000, 1, 0, 0)
    same(got[original.SOPInstanceUID], original, [0x7FE00010, 0x60003000, 0xFFFCFFFC])
    assert node.metric(OPENED) == before + 1


def test_a_compressed_image_without_pixels_needs_no_decoder(sqlite_node, tmp_path):
    """Any context of its class will do."""
    path = sample.FIXTURES / "ts" / "JPEG2000.dcm"
    if not path.exists():
        path = next(p for p in sample.valid_files() if pydicom.dcmread(p, stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
                    and "Rows" in pydicom.dcmread(p, stop_before_pixels=True))
    original = pydicom.dcmread(path, stop_before_pixels=True)
    scu.store(sqlite_node, [path])
    for syntax in (raw.IMPLICIT, raw.EXPLICIT):
        final, got = without_bulk_data(sqlite_node, [original.SOPInstanceUID], [(original.SOPClassUID, [syntax])])
        assert (final.Status, *counters(final)) == (0x0000, 1, 0, 0)
        assert "PixelData" not in got[original.SOPInstanceUID] and got[original.SOPInstanceUID].Rows == original.Rows


@pytest.mark.parametrize("level, uids, contexts, expected", [
    ("IMAGE", "one.0.0", True, (0x0000, 1, 0, 0)),
    ("IMAGE", "one.0.0", False, (0xA702, 0, 1, 0)),
    ("SERIES", "one.0.0", True, (0xA900, None, None, None)),
    ("STUDY", "one.0.0", True, (0xA900, None, None, None)),
    ("FRAME", "one.0.0", True, (0xA900, None, None, None)),
    ("IMAGE", "", True, (0xA900, None, None, None)),
])
def test_retrieve_without_bulk_data_has_the_level_image(archive, level, uids, contexts, expected):
    """Z.6.1, Table C.4-3"""
    node, _, studies = archive
    storage = [(raw.CT, [raw.EXPLICIT])] if contexts else [("1.2.840.10008.5.1.4.1.1.4", [raw.EXPLICIT])]
    final, _ = without_bulk_data(node, meant(studies, uids) if uids else "", storage, level)
    assert (final.Status, *counters(final)) == expected

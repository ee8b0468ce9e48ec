"""C-MOVE and C-GET: every mixture of success, warning and failure ends in the right status, counters and list; Pending at once; C-CANCEL; lost requesters."""

import threading
import time

import pytest
from harness import dcmtk, part10, raw, sample, scu
from harness.node import Node
from harness.ports import free_port, wait_until
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt


class Scripted:
    """A destination whose answer to each C-STORE the test decides."""

    def __init__(self, answer, contexts=None, title="SCRIPTED"):
        self.title, self.port, self.stored = title, free_port(), []
        self.requests = []
        ae = AE(ae_title=title)
        for context in contexts or AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, context.transfer_syntax)

        def handle(event):
            self.requests.append(event.request)
            status = answer(len(self.requests), event)
            if status == 0x0000:
                self.stored.append(str(event.request.AffectedSOPInstanceUID))
            return status

        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])

    def close(self):
        self.server.shutdown()


def run(tmp_path, answer, images=6, contexts=None, catalogue_url=None, during=None):
    """Moves a study of CT images to a scripted destination."""
    destination = Scripted(answer, contexts)
    try:
        with Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}) as node:
            study, paths = sample.make_study(tmp_path / "study", images=images)
            assert set(scu.store(node, paths).values()) == {0x0000}
            responses = scu.move(node, destination.title, StudyInstanceUID=study)
            return responses, destination
    finally:
        destination.close()


def counters(status):
    return tuple(getattr(status, f"NumberOf{name}Suboperations", None) for name in ("Completed", "Failed", "Warning"))


def test_all_sent_is_success(tmp_path, catalogue_url):
    responses, destination = run(tmp_path, lambda n, e: 0x0000, catalogue_url=catalogue_url)
    first, final = responses[0][0], responses[-1][0]
    assert (first.Status, first.NumberOfRemainingSuboperations) == (0xFF00, 6)
    assert (final.Status, *counters(final)) == (0x0000, 6, 0, 0)
    assert len(destination.stored) == 6
    # Sub-operations name the C-MOVE that they belong to (PS3.7 9.3.1.1).
    assert {str(r.MoveOriginatorApplicationEntityTitle) for r in destination.requests} == {"PYNETDICOM"}
    assert len({r.MoveOriginatorMessageID for r in destination.requests}) == 1


def test_some_failed_is_b000_with_their_uids(tmp_path):
    responses, destination = run(tmp_path, lambda n, e: 0xA700 if n % 3 == 0 else 0x0000)
    final, identifier = responses[-1]
    assert (final.Status, *counters(final)) == (0xB000, 4, 2, 0)
    failed = [identifier.FailedSOPInstanceUIDList] if isinstance(identifier.FailedSOPInstanceUIDList, str) else list(identifier.FailedSOPInstanceUIDList)
    assert sorted(failed) == sorted({str(r.AffectedSOPInstanceUID) for r in destination.requests} - set(destination.stored))


def test_all_failed_is_a702(tmp_path):
    final, identifier = run(tmp_path, lambda n, e: 0xC000)[0][-1]
    assert (final.Status, *counters(final)) == (0xA702, 0, 6, 0)
    assert len(identifier.FailedSOPInstanceUIDList) == 6


def test_warnings_count_as_warnings(tmp_path):
    final, _ = run(tmp_path, lambda n, e: 0xB000)[0][-1]
    assert (final.Status, *counters(final)) == (0xB000, 0, 0, 6)


def test_a_destination_that_does_not_take_the_class_fails_those(tmp_path):
    others = [c for c in AllStoragePresentationContexts if "CT" not in c.abstract_syntax.name]
    final, identifier = run(tmp_path, lambda n, e: 0x0000, contexts=others)[0][-1]
    assert (final.Status, *counters(final)) == (0xA702, 0, 6, 0)
    assert len(identifier.FailedSOPInstanceUIDList) == 6


def test_a_destination_that_aborts_in_the_middle_gets_the_rest_on_a_new_association(tmp_path):
    def answer(n, event):
        if n == 3:
            event.assoc.abort()
        return 0x0000

    responses, destination = run(tmp_path, answer)
    final = responses[-1][0]
    completed, failed, _ = counters(final)
    assert completed + failed == 6 and failed <= 1
    assert final.Status == (0x0000 if not failed else 0xB000)


def test_a_destination_that_is_not_there_is_a702(tmp_path):
    with Node(tmp_path / "node", None, {"NOWHERE": free_port()}) as node:
        study, paths = sample.make_study(tmp_path / "study")
        scu.store(node, paths)
        started = time.monotonic()
        final, _ = scu.move(node, "NOWHERE", StudyInstanceUID=study)[-1]
        assert (final.Status, *counters(final)) == (0xA702, 0, 3, 0)
        assert time.monotonic() - started < 30


def test_pending_comes_at_once_and_again_while_a_destination_is_slow(tmp_path):
    def answer(n, event):
        time.sleep(3)
        return 0x0000

    destination = Scripted(answer)
    with Node(tmp_path / "node", None, {destination.title: destination.port}, sections='[retrieve]\npending_interval = "1s"\n') as node:
        study, paths = sample.make_study(tmp_path / "study", images=2)
        scu.store(node, paths)
        times = []
        started = time.monotonic()
        with scu.association(node, [(scu.MOVE["STUDY"], [raw.EXPLICIT])]) as assoc:
            for status, _ in assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), destination.title, scu.MOVE["STUDY"]):
                times.append((time.monotonic() - started, status.Status))
    destination.close()
    pendings = [at for at, status in times if status == 0xFF00]
    assert pendings[0] < 1.0
    assert len(pendings) >= 4
    assert times[-1][1] == 0x0000


@pytest.mark.parametrize("title, keys, status", [
    ("UNLISTED", {"StudyInstanceUID": "1.2.3"}, 0xA801),
    ("DEST", {"StudyInstanceUID": ""}, 0xA900),
    ("DEST", {"PatientID": "X"}, 0xA900),
    ("DEST", {"StudyInstanceUID": "*"}, 0xA900),
    ("DEST", {"StudyInstanceUID": "1.2.3.4.5.6.7"}, 0x0000),
], ids=["unknown destination", "empty unique key", "absent unique key", "universal unique key", "nothing matches"])
def test_what_never_means_everything(sqlite_node, tmp_path, title, keys, status):
    study, paths = sample.make_study(tmp_path / "study")
    scu.store(sqlite_node, paths)
    final, _ = scu.move(sqlite_node, title, **keys)[-1]
    assert final.Status == status
    if status == 0x0000:
        assert counters(final) == (0, 0, 0)


def test_lists_levels_and_accession_numbers(node, destination, tmp_path):
    made = [sample.make_study(tmp_path / f"s{n}", images=2, series=2, patient_id="LISTS", AccessionNumber=f"ACC{n}") for n in range(3)]
    for _, paths in made:
        scu.store(node, paths)

    def moved(**options):
        final = scu.move(node, destination.title, **options)[-1][0]
        assert final.Status == 0x0000, options
        for path in destination.files():
            path.unlink()
        return final.NumberOfCompletedSuboperations

    import pydicom

    first = pydicom.dcmread(made[0][1][0], stop_before_pixels=True)
    assert moved(StudyInstanceUID=[study for study, _ in made[:2]]) == 8
    assert moved(StudyInstanceUID=[made[0][0], made[0][0]]) == 4
    assert moved(AccessionNumber="ACC2") == 4
    assert moved(root="PATIENT", level="PATIENT", PatientID="LISTS") == 12
    assert moved(level="SERIES", StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID) == 2
    assert moved(level="IMAGE", StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID, SOPInstanceUID=first.SOPInstanceUID) == 1


def test_cancel_ends_a_move_between_images_with_fe00(tmp_path):
    def answer(n, event):
        time.sleep(0.2)
        return 0x0000

    destination = Scripted(answer)
    with Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        study, paths = sample.make_study(tmp_path / "study", images=40)
        scu.store(node, paths)
        with scu.association(node, [(scu.MOVE["STUDY"], [raw.EXPLICIT])]) as assoc:
            responses = []
            for status, _ in assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), destination.title, scu.MOVE["STUDY"], msg_id=7):
                responses.append(status)
                if len(responses) == 1:
                    wait_until(lambda: len(destination.stored) >= 2, "some images")
                    assoc.send_c_cancel(7, query_model=scu.MOVE["STUDY"])
        final = responses[-1]
        assert final.Status == 0xFE00
        completed = final.NumberOfCompletedSuboperations
        assert 2 <= completed < 40
        assert completed + final.NumberOfRemainingSuboperations + final.NumberOfFailedSuboperations == 40
        assert len(destination.stored) == completed
    destination.close()


def test_a_requester_that_disappears_stops_the_sending(tmp_path):
    gate = threading.Event()

    def answer(n, event):
        if n == 2:
            gate.set()
        time.sleep(0.1)
        return 0x0000

    destination = Scripted(answer)
    with Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        study, paths = sample.make_study(tmp_path / "study", images=60)
        scu.store(node, paths)
        with scu.association(node, [(scu.MOVE["STUDY"], [raw.EXPLICIT])]) as assoc:
            for _ in assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), destination.title, scu.MOVE["STUDY"]):
                gate.wait(20)
                assoc.abort()
                break
        wait_until(lambda: node.metric("filmroom_associations_open") == 0, "the end of every association")
        assert len(destination.requests) < 30
    destination.close()


def test_get_without_a_storage_context_is_a702(sqlite_node, tmp_path):
    study, paths = sample.make_study(tmp_path / "study", images=3)
    scu.store(sqlite_node, paths)
    mr = "1.2.840.10008.5.1.4.1.1.4"
    final, identifier = scu.get(sqlite_node, tmp_path / "got", [(mr, [raw.EXPLICIT])], StudyInstanceUID=study)[-1]
    assert (final.Status, *counters(final)) == (0xA702, 0, 3, 0)
    assert len(identifier.FailedSOPInstanceUIDList) == 3


def test_more_classes_than_one_association_can_name(tmp_path):
    """150 SOP classes: destinations get more than one association, for each has 128 contexts at most."""
    private = [f"1.2.826.0.1.3680043.9.1.{n}" for n in range(1, 151)]

    with scu.Destination(tmp_path / "destination") as destination, Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        study, series = generate_uid(), generate_uid()
        for start in range(0, 150, 100):
            with raw.Raw(node) as peer:
                chosen = private[start : start + 100]
                peer.associate([(2 * n + 1, uid, (raw.EXPLICIT,)) for n, uid in enumerate(chosen)])
                for n, uid in enumerate(chosen):
                    sop = f"1.2.3.150.{start + n}"
                    peer.message(2 * n + 1, raw.c_store(sop, sop_class=uid), raw.data_set(sop, study=study, series=series, sop_class=uid))
                    assert peer.status()[0] == 0x0000
        final = scu.move(node, destination.title, StudyInstanceUID=study)[-1][0]
        assert (final.Status, *counters(final)) == (0x0000, 150, 0, 0)
        assert len(destination.digests()) == 150


def test_stored_bytes_leave_as_they_came(sqlite_node, destination, tmp_path):
    study, paths = sample.make_study(tmp_path / "study", images=3)
    scu.store(sqlite_node, paths)
    dcmtk.movescu(sqlite_node, destination.title, StudyInstanceUID=study)
    assert {part10.digest(p) for p in destination.files()} == {part10.digest(p) for p in paths}


def test_send_from_the_command_line(sqlite_node, destination, tmp_path):
    study, paths = sample.make_study(tmp_path / "study", images=3, AccessionNumber="SEND1")
    scu.store(sqlite_node, paths)
    sqlite_node.command("send", destination.title, "SEND1")
    assert {part10.digest(p) for p in destination.files()} == {part10.digest(p) for p in paths}
    assert destination.title in sqlite_node.command("echo", destination.title).stdout

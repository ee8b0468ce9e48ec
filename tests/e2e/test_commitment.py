"""Storage Commitment Push Model (PS3.4 J): whoever has the report may delete its own copy, so it comes, and says what is true."""

import json
import os
import signal

import pydicom
import pytest
from conftest import drop_database, new_database
from harness import dcmtk, raw, sample, scu
from harness.commitment import Requester, information, references
from harness.node import Node
from harness.orthanc import Orthanc
from harness.ports import free_port, wait_until
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import build_role
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, StorageCommitmentPushModel

PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT, CLASS_NOT_SUPPORTED = 0x0110, 0x0112, 0x0119, 0x0122


def stored(node, folder, images=3, title="CT1", **options):
    """A study that was sent to the node: its UID, its files, what to refer to."""
    study, paths = sample.make_study(folder, images=images, **options)
    assert set(scu.store(node, paths, title=title).values()) == {0x0000}
    return study, paths, references(paths)


def uids(items):
    return {instance for _, instance in items}


def commitments(node):
    return {line["transaction_uid"]: line for line in map(json.loads, node.command("commitments", "--json").stdout.splitlines())}


def cold_section(folder, offload_after="1h", more=""):
    folder.mkdir()
    return f'[cold]\nurl = "file://{folder}"\noffload_after = "{offload_after}"\ncheck_interval = "200ms"\n{more}'


@pytest.fixture
def requester():
    with Requester() as running:
        yield running


@pytest.fixture
def asked(tmp_path, catalogue_url, requester):
    """A node that can call the requester."""
    with Node(tmp_path / "node", catalogue_url, {requester.title: requester.port}, '[commitment]\nexpire = "1h"\n') as node:
        yield node


def test_the_report_comes_on_a_new_association_with_the_right_titles_and_role(asked, requester, tmp_path):
    """PS3.4 J.3.3.1.2; the role of the SCP is proposed by its requestor (PS3.7 D.3.3.4)."""
    _, _, items = stored(asked, tmp_path / "study")
    transaction, status = requester.ask(asked, items)
    assert status == 0x0000
    report = requester.report_of(transaction)
    assert (report.event_type, report.committed, report.failed) == (1, uids(items), {})
    assert (report.calling, report.called, report.retrieve_ae) == ("FILMROOM", "CT1", "FILMROOM")
    assert report.acceptor and report.roles == (False, True)
    wait_until(lambda: commitments(asked)[transaction]["state"] == "reported", "the answer on record")
    listed = commitments(asked)[transaction]
    assert (listed["ae"], listed["instances"], listed["failed"], listed["attempts"]) == ("CT1", 3, 0, 0) and listed["ended"]
    asked.counted("filmroom_commitments_total", 1, result="complete")
    assert asked.status()["commitments_pending"] == 0
    assert requester.count(transaction) == 1
    assert transaction in asked.command("commitments").stdout


def test_the_report_calls_from_the_title_that_was_called(tmp_path, requester):
    """A modality knows its archive by one title: the report comes from that one (PS3.4 J.3.3)."""
    with Node(tmp_path / "node", None, {requester.title: requester.port}) as node:
        node.stop()
        node.config.write_text(node.config.read_text().replace('unknown_ae = "allow"', 'unknown_ae = "allow"\naliases = ["OLDPACS"]'))
        node.start()
        _, _, items = stored(node, tmp_path / "study", images=1)
        transaction, _ = requester.ask(node, items, called="OLDPACS")
        assert requester.report_of(transaction).calling == "OLDPACS"


def test_who_cannot_be_called_is_told_on_the_association_that_it_keeps_open(tmp_path, catalogue_url):
    """PS3.4 J.3.3.1.2 note 1: the SCP may try the same association. Neither listed nor listening."""
    requester = Requester("NOADDRESS")
    with Node(tmp_path / "node", catalogue_url) as node:
        _, _, items = stored(node, tmp_path / "study")
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            transaction = generate_uid()

            def until_it_is_on_record():
                # Released any earlier the association could be gone before the answer to the report is on it.
                wait_until(lambda: commitments(node)[transaction]["state"] == "reported", "the answer on record", timeout=60)

            requester.ask(node, items, transaction, keep_open=until_it_is_on_record, syntaxes=[syntax])
            report = requester.report_of(transaction)
            assert (report.event_type, report.committed, report.acceptor) == (1, uids(items), False)


def test_a_listed_requester_that_does_not_listen_is_told_on_the_open_association(tmp_path):
    requester = Requester("CT1", free_port())
    with Node(tmp_path / "node", None, {requester.title: requester.port}) as node:
        _, _, items = stored(node, tmp_path / "study")
        transaction = generate_uid()

        def go_on():
            requester.report_of(transaction)

        requester.ask(node, items, transaction, keep_open=go_on)
        assert requester.count(transaction) == 1 and requester.report_of(transaction).event_type == 1


def test_several_transactions_on_one_association_are_each_reported_there(tmp_path):
    requester = Requester("NOADDRESS")
    with Node(tmp_path / "node", None) as node:
        _, _, items = stored(node, tmp_path / "study", images=4)
        transactions = [generate_uid() for _ in items]
        with scu.association(node, [(StorageCommitmentPushModel, [ExplicitVRLittleEndian])], title=requester.title,
                             handlers=[(scu.evt.EVT_N_EVENT_REPORT, requester._told)]) as assoc:
            for transaction, item in zip(transactions, items):
                status, _ = assoc.send_n_action(information(transaction, [item]), 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
                assert status.Status == 0x0000
            for transaction, item in zip(transactions, items):
                assert requester.report_of(transaction).committed == {item[1]}


def test_what_is_not_safe_is_reported_as_failed_with_its_reason(asked, requester, tmp_path):
    """PS3.3 C.14.1.1; the complete list is in the report (PS3.4 J.3.3.1.2)."""
    _, paths, items = stored(asked, tmp_path / "study", images=4)
    good, conflict, doubted, damaged = items
    # Another version from another AE waits in quarantine.
    other = pydicom.dcmread(paths[2])
    other.PatientComments = "other bytes"
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    assert scu.store(asked, [tmp_path / "other.dcm"], title="CT2")[tmp_path / "other.dcm"] & 0xF000 == 0xC000
    # One bit of a hot file flips.
    victim = next(file for file in asked.hot_files() if damaged[1].encode() in file.read_bytes())
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    missing = (CTImageStorage, generate_uid())
    film = ("1.2.840.10008.5.1.1.1", generate_uid())
    transaction, _ = requester.ask(asked, [good, (MRImageStorage, conflict[1]), doubted, damaged, missing, film])
    report = requester.report_of(transaction)
    assert report.event_type == 2
    assert report.committed == {good[1]}
    assert report.failed == {
        conflict[1]: CLASS_CONFLICT, doubted[1]: PROCESSING_FAILURE, damaged[1]: PROCESSING_FAILURE, missing[1]: NO_SUCH_INSTANCE,
        film[1]: CLASS_NOT_SUPPORTED,
    }
    wait_until(lambda: asked.metric("filmroom_commitments_total", result="failures") == 1, "the metric")
    # What was found damaged is out of service, and its sender, who still has it, can send it again.
    assert any("SHA-256" in line["reason"] for line in asked.quarantine())
    assert scu.store(asked, [paths[3]], title="CT1")[paths[3]] == 0x0000
    transaction, _ = requester.ask(asked, [good, damaged])
    report = requester.report_of(transaction)
    assert (report.event_type, report.committed) == (1, {good[1], damaged[1]})


def test_a_missing_hot_file_is_not_promised(asked, requester, tmp_path):
    _, _, items = stored(asked, tmp_path / "study", images=2)
    asked.hot_files()[0].unlink()
    transaction, _ = requester.ask(asked, items)
    report = requester.report_of(transaction)
    assert report.event_type == 2 and len(report.committed) == 1 and list(report.failed.values()) == [PROCESSING_FAILURE]


def test_with_a_cold_store_the_report_waits_for_the_verified_pack(tmp_path, catalogue_url, requester):
    """`commitment.after` is "verified" where there is a cold store."""
    sections = cold_section(tmp_path / "cold", more='[commitment]\nquiet = "1h"\n')
    with Node(tmp_path / "node", catalogue_url, {requester.title: requester.port}, sections) as node:
        study, _, items = stored(node, tmp_path / "study")
        transaction, _ = requester.ask(node, items)
        waits = wait_until(lambda: "3 of 3 instances are not in a verified pack" in commitments(node)[transaction]["error"], "what it waits for")
        assert waits and requester.reports == [] and node.status()["packs_verified"] == 0
        node.command("offload", study)
        report = requester.report_of(transaction)
        assert (report.event_type, report.committed) == (1, uids(items))
        # Evicted, it is as safe as before.
        node.command("evict", study)
        transaction, _ = requester.ask(node, items)
        assert requester.report_of(transaction).event_type == 1
        assert node.hot_files() == []


def test_what_somebody_waits_for_is_packed_before_its_time(tmp_path, requester):
    """`cold.offload_after` is an hour; nobody waits that long for a report."""
    sections = cold_section(tmp_path / "cold", more='[commitment]\nquiet = "1s"\n')
    with Node(tmp_path / "node", None, {requester.title: requester.port}, sections) as node:
        _, _, items = stored(node, tmp_path / "study")
        _, others, _ = stored(node, tmp_path / "other", patient_id="P2")
        transaction, _ = requester.ask(node, items)
        report = requester.report_of(transaction)
        assert (report.event_type, report.committed) == (1, uids(items))
        assert node.status()["packs_verified"] == 1, "the other study waits for its time"
        assert len(others) == 3


def test_what_rots_before_it_is_packed_is_reported_as_failed(tmp_path, requester):
    sections = cold_section(tmp_path / "cold", more='[commitment]\nquiet = "1h"\n')
    with Node(tmp_path / "node", None, {requester.title: requester.port}, sections) as node:
        study, _, items = stored(node, tmp_path / "study")
        victim = node.hot_files()[0]
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
        transaction, _ = requester.ask(node, items)
        node.command("offload", study)
        report = requester.report_of(transaction)
        assert report.event_type == 2 and len(report.committed) == 2 and list(report.failed.values()) == [PROCESSING_FAILURE]


def test_a_pack_that_never_comes_is_reported_as_failed_when_its_time_is_over(tmp_path, requester):
    sections = cold_section(tmp_path / "cold", more='[commitment]\nquiet = "1h"\nexpire = "3s"\n')
    with Node(tmp_path / "node", None, {requester.title: requester.port}, sections) as node:
        _, _, items = stored(node, tmp_path / "study", images=2)
        transaction, _ = requester.ask(node, items)
        report = requester.report_of(transaction)
        assert (report.event_type, report.failed) == (2, {instance: PROCESSING_FAILURE for instance in uids(items)})


def test_hot_files_are_enough_where_the_setting_says_so(tmp_path, requester):
    sections = cold_section(tmp_path / "cold", more='[commitment]\nafter = "hot"\n')
    with Node(tmp_path / "node", None, {requester.title: requester.port}, sections) as node:
        _, _, items = stored(node, tmp_path / "study")
        transaction, _ = requester.ask(node, items)
        assert requester.report_of(transaction).event_type == 1
        assert node.status()["packs_verified"] == 0


def test_a_kill_between_the_answer_and_the_report_loses_nothing(tmp_path, catalogue_url, requester):
    with Node(tmp_path / "node", catalogue_url, {requester.title: requester.port}) as node:
        _, _, items = stored(node, tmp_path / "study")
        requester.close()
        asked = [requester.ask(node, items, keep_open=lambda: node.process.send_signal(signal.SIGKILL))]
        node.kill()
        assert [status for _, status in asked] == [0x0000]
        requester.listen()
        node.start()
        report = requester.report_of(asked[0][0])
        assert (report.event_type, report.committed) == (1, uids(items))
        wait_until(lambda: commitments(node)[asked[0][0]]["state"] == "reported", "the answer on record")


def test_a_requester_that_is_down_gets_its_report_when_it_is_back(tmp_path):
    requester = Requester()
    with Node(tmp_path / "node", None, {requester.title: requester.port}) as node:
        _, _, items = stored(node, tmp_path / "study")
        transaction, _ = requester.ask(node, items)
        wait_until(lambda: commitments(node)[transaction]["attempts"] >= 1, "an attempt")
        listed = commitments(node)[transaction]
        assert listed["state"] == "reporting" and "refused" in listed["error"]
        wait_until(lambda: node.metric("filmroom_commitments_pending") == 1, "the gauge")
        node.stop()
        node.start()
        with requester:
            report = requester.report_of(transaction)
            assert (report.event_type, report.committed) == (1, uids(items))


def test_a_report_that_cannot_be_delivered_is_given_up_visibly(tmp_path):
    requester = Requester()
    with Node(tmp_path / "node", None, {requester.title: requester.port}, '[commitment]\nexpire = "1s"\n') as node:
        _, _, items = stored(node, tmp_path / "study", images=1)
        transaction, _ = requester.ask(node, items)
        wait_until(lambda: commitments(node)[transaction]["state"] == "given_up", "giving up", timeout=60)
        node.counted("filmroom_commitments_total", 1, result="given_up")
        assert "could not be reported and is given up" in node.log()
        assert "refused" in commitments(node)[transaction]["error"]
        # Asked for again, it is tried again.
        with requester:
            requester.ask(node, items, transaction)
            assert requester.report_of(transaction).event_type == 1


def test_an_answer_with_a_failure_is_an_answer(tmp_path):
    """The requester was told; what it makes of it is its own (PS3.4 J.3.3.1.3)."""
    with Requester(status=0x0110) as requester, Node(tmp_path / "node", None, {requester.title: requester.port}) as node:
        _, _, items = stored(node, tmp_path / "study", images=1)
        transaction, _ = requester.ask(node, items)
        requester.report_of(transaction)
        wait_until(lambda: commitments(node)[transaction]["state"] == "reported", "the answer on record")
        assert "answered with a failure" in node.log()


def test_the_same_transaction_again_is_one_and_with_other_content_refused(asked, requester, tmp_path):
    _, _, items = stored(asked, tmp_path / "study")
    transaction, _ = requester.ask(asked, items)
    requester.report_of(transaction)
    wait_until(lambda: commitments(asked)[transaction]["state"] == "reported", "the answer on record")
    # Its report was lost: the same again, in another order.
    assert requester.ask(asked, items[::-1], transaction) == (transaction, 0x0000)
    assert requester.report_of(transaction, count=2).committed == uids(items)
    assert requester.ask(asked, items[:1], transaction) == (transaction, 0x0131)
    assert len(commitments(asked)) == 1


def test_what_is_no_request_is_refused_and_the_association_lives(asked, requester, tmp_path):
    """Statuses of N-ACTION (PS3.7 10.1.4.1.10)."""
    _, _, items = stored(asked, tmp_path / "study", images=1)
    assert requester.ask(asked, items, sop_instance="1.2.3")[1] == 0x0112
    assert requester.ask(asked, items, action=2)[1] == 0x0123
    empty = pydicom.Dataset()
    empty.TransactionUID = generate_uid()
    assert requester.ask(asked, empty)[1] == 0x0115
    nameless = information("1.2.3", items)
    nameless.TransactionUID = ""
    assert requester.ask(asked, nameless)[1] == 0x0115
    with raw.Raw(asked) as peer:
        peer.associate([(1, raw.VERIFICATION, (raw.IMPLICIT,)), (3, StorageCommitmentPushModel, (raw.EXPLICIT,))])
        request = {"x0003": StorageCommitmentPushModel, "x0100": 0x0130, "x0110": 7, "x0800": 1, "x1001": "1.2.840.10008.1.20.1.1", "x1008": 1}
        peer.message(3, raw.command(**request), os.urandom(5000))
        assert peer.status()[0] == 0x0110
        peer.message(3, raw.command(**{**request, "x0003": raw.CT}), b"")
        assert peer.status()[0] == 0x0118
        # No data set at all; N-CREATE, N-GET and an N-EVENT-REPORT to us, whose SCP we are.
        peer.message(3, raw.command(**{**request, "x0800": 0x0101}))
        assert peer.status()[0] == 0x0115
        for field in (0x0140, 0x0110, 0x0100):
            peer.message(3, raw.command(x0002=StorageCommitmentPushModel, x0100=field, x0110=8, x0800=0x0101))
            assert peer.status()[0] == 0x0211
        # Storage Commitment on another context.
        peer.message(1, raw.command(**request), b"")
        assert peer.status()[0] == 0x0122
        assert peer.echo_works()
    assert commitments(asked) == {}
    assert asked.metric("filmroom_commitments_total", result="refused") >= 6


def test_a_list_of_many_thousands_is_committed_with_flat_memory(asked, requester, tmp_path):
    _, _, items = stored(asked, tmp_path / "study", images=1)
    missing = [(CTImageStorage, f"1.2.826.0.1.3680043.8.498.9{number:06}") for number in range(40_000)]
    before = asked.memory_peak()
    transaction, status = requester.ask(asked, items + missing)
    assert status == 0x0000
    report = requester.report_of(transaction, timeout=120)
    assert report.committed == uids(items) and report.failed == {instance: NO_SUCH_INSTANCE for _, instance in missing}
    grown = asked.memory_peak() - before
    assert grown < 60_000_000, f"{grown} bytes"


def test_who_may_not_ask_is_not_accepted(tmp_path):
    """`allow` without "commit"; the SCP role, which we do not give away (PS3.7 D.3.3.4)."""
    allow = '[[ae]]\ntitle = "CT1"\nallow = ["echo", "store"]\n[[ae]]\ntitle = "CT2"\nallow = ["commit"]\n'
    with Node(tmp_path / "node", None, sections=allow) as node:
        contexts = [(StorageCommitmentPushModel, [ExplicitVRLittleEndian])]
        with scu.association(node, contexts, title="CT1") as refused:
            assert not refused.accepted_contexts
        with scu.association(node, contexts, title="CT2") as accepted:
            assert accepted.is_established
        roles = [build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)]
        with scu.association(node, contexts, title="CT2", roles=roles) as refused:
            assert not refused.accepted_contexts
    # Who stores may ask, known or not.
    with Node(tmp_path / "other", None) as node:
        node.stop()
        node.config.write_text(node.config.read_text().replace('unknown_ae = "allow"', 'unknown_ae = "store"'))
        node.start()
        _, _, items = stored(node, tmp_path / "study", images=1, title="UNKNOWN")
        assert Requester("UNKNOWN").ask(node, items)[1] == 0x0000


def test_two_nodes_on_one_database_report_once(tmp_path, requester):
    url, name = new_database()
    first = Node(tmp_path / "first", url, {requester.title: requester.port})
    second = Node(tmp_path / "second", url, {requester.title: requester.port})
    try:
        with first, second:
            _, _, items = stored(first, tmp_path / "study", images=4)
            transactions = [requester.ask(node, items)[0] for node in (first, second) * 3]
            for transaction in transactions:
                # What only the first has hot, it reads for the second.
                report = requester.report_of(transaction)
                assert (report.event_type, report.committed) == (1, uids(items))
            wait_until(lambda: all(line["state"] == "reported" for line in commitments(first).values()), "the answers on record")
            assert [requester.count(transaction) for transaction in transactions] == [1] * 6
    finally:
        drop_database(name)


def test_orthanc_asks_and_is_told(tmp_path, catalogue_url):
    """Orthanc's own storage commitment: https://orthanc.uclouvain.be/book/users/storage-commitment.html"""
    orthanc = Orthanc(tmp_path / "orthanc")
    with Node(tmp_path / "node", catalogue_url, {orthanc.title: orthanc.port}) as node:
        orthanc.start(node)
        try:
            _, paths = sample.make_study(tmp_path / "study", images=3)
            dcmtk.dcmsend(node, *paths)
            items = references(paths)
            missing = generate_uid()
            for instances, status in ((items, "Success"), (items + [(CTImageStorage, missing)], "Failure")):
                body = {"DicomInstances": [{"SOPClassUID": c, "SOPInstanceUID": i} for c, i in instances]}
                transaction = orthanc.request("POST", "/modalities/node/storage-commitment", body)["ID"]
                told = lambda: orthanc.request("GET", f"/storage-commitment/{transaction}")  # noqa: E731, B023
                report = wait_until(lambda: (r := told())["Status"] != "Pending" and r, "Orthanc's report")  # noqa: B023
                assert report["Status"] == status and report["RemoteAET"] == "FILMROOM"
                assert {s["SOPInstanceUID"] for s in report["Success"]} == uids(items)
            failed = {f["SOPInstanceUID"]: int(f["FailureReason"]) for f in report["Failures"]}
            assert failed == {missing: NO_SUCH_INSTANCE}
        finally:
            orthanc.stop()

"""The audit: what is in it (PS3.15 A.5.3), and that it reaches a syslog server and a file whatever happens to either of them or to the node."""

import sqlite3
import time
from contextlib import contextmanager

import pydicom
from harness import dcmtk, sample, scu
from harness.node import Node
from harness.ports import free_port, wait_until
from harness.syslog import Audit, Tls, Udp, certificates


@contextmanager
def listening(make, port=0):
    listener = make(port)
    try:
        yield listener
    finally:
        if listener.open:
            listener.stop()


def audits(listener):
    return [message.audit for message in list(listener.messages)]


def of_file(path):
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == "" or text.endswith("\n")
    return [Audit(line) for line in text.splitlines()]


def stored(messages):
    """Instances that messages tell of, by study."""
    counts = {}
    for audit in messages:
        if audit.event == "110104" and audit.action == "C":
            counts[audit.objects["110180"]] = counts.get(audit.objects["110180"], 0) + audit.instances
    return counts


def test_a_visit_is_told_to_a_syslog_server(tmp_path, catalogue_url, destination):
    """Who stored, queried, retrieved what of which patient, who was refused, and that the node started and stopped."""
    with listening(Udp) as listener:
        ae = '[[ae]]\ntitle = "BOUND"\nfrom = ["192.0.2.1"]\n[[ae]]\ntitle = "MODALITY"\ndestinations = []\n'
        sections = f'[audit]\nsyslog = "udp://127.0.0.1:{listener.port}"\n{ae}'
        with Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, sections) as node:
            study, paths = sample.make_study(tmp_path / "study", images=3)
            assert set(scu.store(node, paths, title="MODALITY").values()) == {0x0000}
            scu.find(node, "STUDY", StudyInstanceUID=study, PatientName="Nobody*")
            scu.move(node, destination.title, StudyInstanceUID=study)
            dcmtk.run("echoscu", "-aet", "BOUND", "-aec", node.title, "127.0.0.1", node.port, check=False)
            dcmtk.run("movescu", "-S", "-aet", "MODALITY", "-aec", node.title, "-aem", destination.title, "127.0.0.1", node.port,
                      "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}", check=False)
            node.stop()
        wait_until(lambda: any(audit.type == "110121" for audit in audits(listener)), "the stop of the node")
        by_event = {}
        for message in listener.messages:
            assert message.message_id == "DICOM+RFC3881"
            assert message.priority == (85 if message.audit.outcome == "0" else 84)
            by_event.setdefault(message.audit.event, []).append(message.audit)
        assert [audit.type for audit in by_event["110100"]] == ["110120", "110121"]
        patient = "P1"
        assert by_event["110104"][0].objects == {"110180": study, "2": patient}
        assert stored(audits(listener)) == {study: 3}
        assert by_event["110104"][0].users == ["MODALITY", node.title]
        (query,) = by_event["110112"]
        assert query.users == ["PYNETDICOM", node.title] and query.objects["110181"] == scu.FIND["STUDY"]
        (begun,) = by_event["110102"]
        (sent,) = [audit for audit in by_event["110104"] if audit.action == "R"]
        for transfer in (begun, sent):
            assert transfer.users == [node.title, destination.title, "PYNETDICOM"]
            assert transfer.objects == {"110180": study, "2": patient} and transfer.instances == 3
        # An address that is not the AE's, and a destination that is not: what was refused, and to whom.
        assert sorted((audit.type, audit.outcome, audit.users[1]) for audit in by_event["110113"]) == [
            ("110126", "8", "BOUND"), ("110132", "8", "MODALITY")]


def test_a_server_that_was_away_gets_everything_and_nothing_waits_for_it(tmp_path, catalogue_url):
    port = free_port()
    sections = f'[audit]\nsyslog = "udp://127.0.0.1:{port}"\nmax_lag = "1s"\n'
    with Node(tmp_path / "node", catalogue_url, sections=sections) as node:
        expected = {}
        for n in range(3):
            study, paths = sample.make_study(tmp_path / f"study{n}", images=2)
            assert set(scu.store(node, paths).values()) == {0x0000}
            expected[study] = 2
        # The spool is visible: metrics, status, a warning in readiness that does not make the node unready.
        wait_until(lambda: node.metric("filmroom_audit_spool_rows") > 0 and "have not reached" in node.get("/health/ready")[1], "the warning")
        assert node.get("/health/ready")[0] == 200
        spool = node.status()["audit"][0]
        assert spool["rows"] > 0 and spool["target"] == f"udp://127.0.0.1:{port}" and spool["error"]
        assert "rows to export to" in node.command("status").stdout
        with listening(Udp, port) as listener:
            wait_until(lambda: set(stored(audits(listener))) == set(expected), "what was kept")
            wait_until(lambda: node.status()["audit"][0]["rows"] == 0, "the end of the spool")
            assert all(stored(audits(listener))[study] >= count for study, count in expected.items())
            wait_until(lambda: "have not reached" not in node.get("/health/ready")[1], "the end of the warning")


def test_a_tls_server_that_restarts_loses_nothing(tmp_path):
    ca, certificate, key = certificates(tmp_path / "tls")

    def make(port):
        return Tls(certificate, key, port)

    with listening(make) as first:
        sections = f'[audit]\nsyslog = "tls://localhost:{first.port}"\ntls_ca = "{ca}"\n'
        with Node(tmp_path / "node", sections=sections) as node:
            one, paths = sample.make_study(tmp_path / "one", images=2)
            scu.store(node, paths)
            wait_until(lambda: stored(audits(first)) == {one: 2}, "the first study")
            first.stop()
            two, paths = sample.make_study(tmp_path / "two", images=2)
            scu.store(node, paths)
            wait_until(lambda: node.metric("filmroom_audit_export_failures_total") > 0, "a failure")
            with listening(make, first.port) as second:
                wait_until(lambda: stored(audits(second)).get(two, 0) >= 2, "the second study")


def test_a_server_with_a_certificate_of_another_authority_gets_nothing(tmp_path):
    ca, _, _ = certificates(tmp_path / "ours")
    _, certificate, key = certificates(tmp_path / "theirs")
    with listening(lambda port: Tls(certificate, key, port)) as listener:
        sections = f'[audit]\nsyslog = "tls://localhost:{listener.port}"\ntls_ca = "{ca}"\n'
        with Node(tmp_path / "node", sections=sections) as node:
            wait_until(lambda: node.metric("filmroom_audit_export_failures_total") > 0, "a failure")
            wait_until(lambda: "certificate" in node.status()["audit"][0]["error"], "the reason")
        assert listener.messages == []


def test_a_kill_loses_nothing_and_a_file_is_only_appended_to(tmp_path, catalogue_url):
    audit = tmp_path / "audit.xml"
    node = Node(tmp_path / "node", catalogue_url, sections=f'[audit]\nfile = "{audit}"\n')
    expected, before = {}, b""
    try:
        for n in range(4):
            node.start()
            study, paths = sample.make_study(tmp_path / f"study{n}", images=3)
            assert set(scu.store(node, paths).values()) == {0x0000}
            expected[study] = 3
            # Somewhere between the commit, the export and its record.
            time.sleep(n * 0.4)
            node.kill()
            after = audit.read_bytes() if audit.exists() else b""
            assert after.startswith(before), "what was written stays"
            before = after
        node.start()
        # Each start is told, none of the stops: there were none.
        types = lambda: [message.type for message in of_file(audit) if message.event == "110100"]  # noqa: E731
        wait_until(lambda: types().count("110120") >= 5, "the last start")
        assert "110121" not in types()
        told = stored(of_file(audit))
        assert set(told) == set(expected) and all(told[study] >= count for study, count in expected.items())
    finally:
        node.kill()


def test_a_file_that_logrotate_moved_is_followed_by_a_new_one(tmp_path):
    audit = tmp_path / "audit.xml"
    with Node(tmp_path / "node", sections=f'[audit]\nfile = "{audit}"\n') as node:
        one, paths = sample.make_study(tmp_path / "one", images=1)
        scu.store(node, paths)
        wait_until(lambda: stored(of_file(audit)) == {one: 1}, "the first study")
        audit.rename(tmp_path / "audit.xml.1")
        two, paths = sample.make_study(tmp_path / "two", images=1)
        scu.store(node, paths)
        wait_until(lambda: stored(of_file(audit)) == {two: 1}, "the second study")
        assert stored(of_file(tmp_path / "audit.xml.1")) == {one: 1}
        assert (audit.stat().st_mode & 0o777) & 0o007 == 0, "patients' data is not for everybody"


def test_two_nodes_on_one_catalogue_tell_a_server_once(tmp_path):
    from conftest import drop_database, new_database

    url, name = new_database()
    try:
        with listening(Udp) as listener:
            sections = f'[audit]\nsyslog = "udp://127.0.0.1:{listener.port}"\n'
            first = Node(tmp_path / "first", url, sections=sections)
            with first, Node(tmp_path / "second", url, sections=sections) as second:
                expected = {}
                for n, node in enumerate([first, second, first, second]):
                    study, paths = sample.make_study(tmp_path / f"study{n}", images=2)
                    assert set(scu.store(node, paths).values()) == {0x0000}
                    expected[study] = 2
                wait_until(lambda: sum(stored(audits(listener)).values()) >= sum(expected.values()), "all studies")
                wait_until(lambda: first.status()["audit"][0]["rows"] == 0, "the end of the spool")
                assert stored(audits(listener)) == expected, "each once"
                # The one that exports stops: the other goes on.
                first.stop()
                study, paths = sample.make_study(tmp_path / "last", images=2)
                assert set(scu.store(second, paths).values()) == {0x0000}
                wait_until(lambda: stored(audits(listener)).get(study) == 2, "the study after the stop")
    finally:
        drop_database(name)


def test_what_an_administrator_decides_is_told_with_his_name(tmp_path):
    audit = tmp_path / "audit.xml"
    with Node(tmp_path / "node", sections=f'[audit]\nfile = "{audit}"\n', environment={"USER": "carol"}) as node:
        study, paths = sample.make_study(tmp_path / "study", images=1)
        scu.store(node, paths, title="CT1")
        data_set = pydicom.dcmread(paths[0])
        data_set.PatientComments = "other bytes"
        changed = tmp_path / "changed.dcm"
        data_set.save_as(changed)
        assert list(scu.store(node, [changed], title="CT2").values()) != [0x0000]
        (waiting,) = node.quarantine()
        node.command("quarantine", "discard", waiting["object"])
        wait_until(lambda: any(message.action == "D" for message in of_file(audit)), "the decision")
        (decision,) = [message for message in of_file(audit) if message.action == "D"]
        assert decision.event == "110103" and decision.users[0] == "carol" and decision.objects["110180"] == study


def test_rows_are_kept_as_long_as_asked_and_no_name_is_logged(tmp_path):
    audit = tmp_path / "audit.xml"
    sections = f'[audit]\nfile = "{audit}"\nkeep = "1ms"\n'
    with Node(tmp_path / "node", sections=sections) as node:
        study, paths = sample.make_study(tmp_path / "study", images=2)
        scu.store(node, paths)
        scu.find(node, "STUDY", PatientName="SECRETNAME^*")
        database = node.data / "catalogue.db"

        def rows():
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
                return connection.execute("SELECT count(*) FROM audit").fetchone()[0]

        wait_until(lambda: node.status()["audit"][0]["rows"] == 0 and rows() == 1, "the removal of what was exported", timeout=60)
        assert stored(of_file(audit)) == {study: 2}
        assert "SECRETNAME" not in node.log()

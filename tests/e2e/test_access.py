"""Who may do what: addresses, services, destinations and users, each refusal with its source, reason and status (PS3.8 9.3.4, PS3.7 D.3.3.7)."""

import subprocess
from contextlib import contextmanager

import pytest
from harness import dcmtk, sample, scu
from harness.node import BINARY, ROOT, Node
from harness.ports import wait_until
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import CTImageStorage, Verification

EXPLICIT = [ExplicitVRLittleEndian]
CT = ROOT / "fixtures/ct/CT_small.dcm"


def hash_of(passcode):
    done = subprocess.run([str(BINARY), "user", "hash"], input=passcode + "\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("$argon2id$"), done.stderr
    return done.stdout.strip()


@contextmanager
def node(tmp_path, ae="", dicom="", users="", destinations=None, catalogue_url=None):
    running = Node(tmp_path / "node", catalogue_url, destinations, sections=users + ae)
    text = running.config.read_text()
    # The tests are about listed AEs; each says what unlisted ones may do.
    running.config.write_text(text.replace('unknown_ae = "allow"', 'unknown_ae = "reject"\n' + dicom))
    with running:
        yield running


def associate(node, title, contexts=((Verification, EXPLICIT),), source="127.0.0.1", identity=None):
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    rejections = []

    def received(event):
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append((event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic))

    association = ae.associate("127.0.0.1", node.port, ae_title=node.title, bind_address=(source, 0), ext_neg=[identity] if identity else [],
                               evt_handlers=[(evt.EVT_PDU_RECV, received)])
    association.rejections = rejections
    return association


def identity(kind, primary, secondary=b"", respond=True):
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = respond
    item.primary_field = primary
    if kind == 2:
        item.secondary_field = secondary
    return item


def rejection(association):
    """Result, source and reason of the A-ASSOCIATE-RJ, as it came: pynetdicom takes one that is followed by a close for an abort, now and then."""
    wait_until(lambda: association.rejections or association.is_established, "the answer", timeout=10)
    assert not association.is_established
    return association.rejections[0]


def test_an_ae_may_call_from_its_addresses_only(tmp_path):
    ae = '[[ae]]\ntitle = "BOUND"\nfrom = ["127.0.0.2", "127.0.1.0/24"]\n[[ae]]\ntitle = "FREE"\n'
    with node(tmp_path, ae) as running:
        for title, source, accepted in [
            ("BOUND", "127.0.0.2", True), ("BOUND", "127.0.1.77", True), ("BOUND", "127.0.0.1", False), ("BOUND", "127.0.2.1", False),
            ("FREE", "127.0.0.9", True), ("STRANGER", "127.0.0.2", False), ("bound", "127.0.0.2", False),
        ]:
            association = associate(running, title, source=source)
            assert association.is_established == accepted, (title, source)
            if accepted:
                association.release()
            else:
                assert rejection(association) == (1, 1, 3)
        running.counted("filmroom_associations_rejected_total", 2, reason="calling_address")
        running.counted("filmroom_associations_rejected_total", 2, reason="calling_ae")
        # The line names who, from where, and why.
        lines = [line for line in running.log().splitlines() if "refused" in line and "BOUND" in line and "127.0.2.1" in line]
        assert lines and "not recognized at this address" in lines[0]


def test_what_an_ae_may_not_do_is_refused_in_negotiation(tmp_path):
    ae = '[[ae]]\ntitle = "CT1"\nallow = ["echo", "store"]\n'
    with node(tmp_path, ae) as running:
        contexts = [(Verification, EXPLICIT), (CTImageStorage, EXPLICIT), (scu.FIND["STUDY"], EXPLICIT), ("1.2.840.10008.5.1.4.38.1", EXPLICIT)]
        association = associate(running, "CT1", contexts)
        try:
            results = {str(context.abstract_syntax): context.result for context in association.rejected_contexts}
            # 1: user rejection, what others may do; 3: what nobody may (PS3.8 table 9-18).
            assert results == {scu.FIND["STUDY"]: 1, "1.2.840.10008.5.1.4.38.1": 3}
            assert len(association.accepted_contexts) == 2
        finally:
            association.release()
        running.counted("filmroom_contexts_refused_total", 1, reason="not_allowed", service="find")
        assert "not allowed these services" in running.log()


def test_images_leave_for_an_aes_own_destinations_only(tmp_path, catalogue_url, destination):
    ae = f"""
[[ae]]
title = "CONSOLE"
destinations = ["{destination.title}"]
[[ae]]
title = "OTHER"
address = "127.0.0.1:1"
[[ae]]
title = "MODALITY"
destinations = []
"""
    with node(tmp_path, ae, destinations={destination.title: destination.port}, catalogue_url=catalogue_url) as running:
        study, paths = sample.make_study(tmp_path / "study", images=2)
        assert set(scu.store(running, paths, title="MODALITY").values()) == {0x0000}

        def move(title, to):
            association = associate(running, title, [(scu.MOVE["STUDY"], EXPLICIT)])
            try:
                return list(association.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), to, scu.MOVE["STUDY"]))[-1][0]
            finally:
                association.release()

        for title, to, status in [
            ("CONSOLE", "OTHER", 0x0124), ("MODALITY", destination.title, 0x0124), ("CONSOLE", "NOWHERE", 0xA801), ("CONSOLE", destination.title, 0x0000),
        ]:
            final = move(title, to)
            assert final.Status == status, (title, to)
            assert len(final.get("ErrorComment", "")) <= 64
        assert len(destination.files()) == 2
        running.counted("filmroom_retrieves_total", 2, status="0124")


@pytest.mark.parametrize("policy", ["off", "optional", "required"])
def test_a_user_is_identified_as_the_policy_says(tmp_path, policy):
    users = f'[[user]]\nname = "alice"\npasscode_hash = "{hash_of("wonder")}"\n[[user]]\nname = "bob"\n'
    with node(tmp_path, '[[ae]]\ntitle = "CONSOLE"\n', f'user_identity = "{policy}"\n', users) as running:
        nobody, rejected = (True, False), (False, False)
        table = {
            "nothing": (None, nobody, nobody, rejected),
            "a username": (identity(1, b"bob"), nobody, (True, True), (True, True)),
            "an unknown username": (identity(1, b"eve"), nobody, nobody, rejected),
            "a username without its passcode": (identity(1, b"alice"), nobody, nobody, rejected),
            "username and passcode": (identity(2, b"alice", b"wonder"), nobody, (True, True), (True, True)),
            "the same, no response asked for": (identity(2, b"alice", b"wonder", respond=False), nobody, (True, False), (True, False)),
            "a wrong passcode": (identity(2, b"alice", b"wander"), nobody, rejected, rejected),
            "an unknown user with a passcode": (identity(2, b"eve", b"wonder"), nobody, rejected, rejected),
            "Kerberos": (identity(3, b"ticket"), nobody, nobody, rejected),
            "SAML": (identity(4, b"<saml/>"), nobody, nobody, rejected),
            "JWT": (identity(5, b"a.b.c"), nobody, nobody, rejected),
        }
        for what, (offered, *expected) in table.items():
            accepted, answered = expected[["off", "optional", "required"].index(policy)]
            association = associate(running, "CONSOLE", identity=offered)
            assert association.is_established == accepted, what
            if accepted:
                assert (association.acceptor.user_identity is not None) == answered, what
                assert association.send_c_echo().Status == 0x0000
                association.release()
            else:
                assert rejection(association) == (1, 2, 1), what
        assert "wander" not in running.log() and "wonder" not in running.log()


def test_an_ae_may_require_one_of_its_users(tmp_path):
    users = f'[[user]]\nname = "alice"\npasscode_hash = "{hash_of("wonder")}"\n[[user]]\nname = "bob"\n'
    ae = '[[ae]]\ntitle = "CONSOLE"\nusers = ["alice"]\n[[ae]]\ntitle = "CT1"\n'
    with node(tmp_path, ae, users=users) as running:
        for title, offered, accepted in [
            ("CT1", None, True), ("CONSOLE", None, False), ("CONSOLE", identity(1, b"bob"), False), ("CONSOLE", identity(2, b"alice", b"wonder"), True),
        ]:
            association = associate(running, title, identity=offered)
            assert association.is_established == accepted, (title, offered)
            if accepted:
                association.release()


def test_dcmtk_identifies_itself(tmp_path):
    """storescu of DCMTK: username, username and passcode, with a positive response asked for."""
    users = f'[[user]]\nname = "alice"\npasscode_hash = "{hash_of("wonder")}"\n'
    with node(tmp_path, '[[ae]]\ntitle = "STORESCU"\n', 'user_identity = "required"\n', users) as running:
        def store(*options):
            return dcmtk.run("storescu", "-v", *options, "-aet", "STORESCU", "-aec", running.title, "127.0.0.1", running.port, CT, check=False)

        assert store("-usr", "alice", "-pwd", "wonder", "-rsp").returncode == 0
        for options in [(), ("-usr", "alice"), ("-usr", "alice", "-pwd", "wander"), ("-usr", "alice", "-epw"), ("-usr", "eve", "-pwd", "wonder")]:
            refused = store(*options)
            assert refused.returncode != 0, options
            assert "Service Provider" in refused.stdout + refused.stderr, refused.stderr
        assert len(running.studies()) == 1
        # The user is in the audit beside the AE; who tried and failed, too.
        assert "user=alice" in running.log() or 'user="alice"' in running.log()


def test_a_flood_of_refusals_is_bounded_in_log_and_audit_and_stops_nobody(tmp_path):
    import sqlite3

    users = f'[[user]]\nname = "alice"\npasscode_hash = "{hash_of("wonder")}"\n'
    ae = '[[ae]]\ntitle = "CONSOLE"\nusers = ["alice"]\n[[ae]]\ntitle = "CT1"\n'
    with node(tmp_path, ae, users=users) as running:
        for n in range(40):
            association = associate(running, "CONSOLE", identity=identity(1, b"eve"))
            assert rejection(association) == (1, 2, 1)
        assert scu.store(running, [CT], title="CT1") == {CT: 0x0000}
        running.counted("filmroom_associations_rejected_total", 40, reason="user_identity")
        assert sum("refused" in line and "eve" in line for line in running.log().splitlines()) == 1
        running.stop()
        # The end of the node is the end of the window: the rest is told as one.
        with sqlite3.connect(running.data / "catalogue.db") as database:
            rows = database.execute("SELECT actor, user_name, address, outcome, detail FROM audit WHERE action = 'login' ORDER BY id").fetchall()
        assert [row[:4] for row in rows] == [("CONSOLE", "eve", "127.0.0.1", "serious")] * 2
        assert rows[1][4].endswith("39 times")


def test_a_wrong_access_list_is_explained_before_the_start(tmp_path):
    config = tmp_path / "filmroom.toml"
    config.write_text('[[ae]]\ntitle = "A"\nfrom = ["10.0.0.1/8"]\n[[user]]\nname = "alice"\npasscode_hash = "secret"\n')
    done = subprocess.run([str(BINARY), "--config", str(config), "check-config"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    for part in ["line 3: ae.from", "line 6: user.passcode_hash", "filmroom user hash"]:
        assert part in done.stderr, done.stderr

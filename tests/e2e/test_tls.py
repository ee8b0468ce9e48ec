"""DICOM over TLS (PS3.15 B.12), with DCMTK and pynetdicom on the other side, in both directions: what happens and what the log says when a
certificate, a version or a port is the wrong one."""

import json
import re
import signal
import socket
import ssl
import time
from contextlib import contextmanager

import pytest
from harness import certificates, dcmtk, raw, sample
from harness.certificates import Authority
from harness.dcmtk import StoreScp
from harness.node import Node
from harness.ports import free_port, wait_until
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """Ours, with certificates for AEs; `ct1` is CT1's."""
    authority = Authority(tmp_path_factory.mktemp("pki") / "ours")
    authority.issue("ct1", "--ae", "CT1", "--san", "localhost", "--san", "127.0.0.1")
    authority.issue("viewer", "--ae", "VIEWER", "--san", "localhost", "--san", "127.0.0.1", "--ecdsa")
    authority.issue("elsewhere.example", "--ae", "ELSEWHERE")
    authority.issue_expired("expired", "EXPIRED")
    return authority


@pytest.fixture(scope="session")
def strangers(tmp_path_factory):
    """Another CA."""
    authority = Authority(tmp_path_factory.mktemp("strangers") / "theirs")
    authority.issue("ct1", "--ae", "CT1", "--san", "localhost", "--san", "127.0.0.1")
    return authority


def tls_section(authority, client_auth="required"):
    certificate, key = authority.pair("node")
    return f'[tls]\ncert = "{certificate}"\nkey = "{key}"\nclient_ca = "{authority.ca}"\nclient_auth = "{client_auth}"\n'


def tls_node(folder, authority, more="", client_auth="required", environment=None):
    tls_port = free_port()
    node = Node(folder, sections=tls_section(authority, client_auth) + more,
                environment={"FILMROOM_DICOM__TLS_LISTEN": f"127.0.0.1:{tls_port}", **(environment or {})})
    node.tls_port = tls_port
    return node


@pytest.fixture
def node(tmp_path, pki):
    with tls_node(tmp_path / "node", pki) as running:
        yield running


def says(node, words):
    wait_until(lambda: words in node.log(), f"the log to say {words!r}; it says:\n{node.log()[-2000:]}", timeout=10)


def echoscu(node, *options, port=None, check=False, title="ECHOSCU"):
    return dcmtk.run("echoscu", "-v", *options, "-aet", title, "-aec", node.title, "127.0.0.1", port or node.tls_port, check=check)


def with_certificate(pair, ca):
    certificate, key = pair
    return ["+tls", key, certificate, "+cf", ca]


@contextmanager
def pynetdicom(node, context, title="PYNETDICOM", port=None, hostname="localhost"):
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", port or node.tls_port, ae_title=node.title, tls_args=(context, hostname) if context else None)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def echoes(association):
    return association.is_established and association.send_c_echo().Status == 0x0000


def still_serves(node, pki):
    """Whatever one peer did wrong, the next one is served."""
    echoscu(node, *with_certificate(pki.pair("ct1"), pki.ca), check=True)


# -- peers that come to us ------------------------------------------------------------------------------------------------------


def test_the_right_ca_with_dcmtk(node, pki):
    echoscu(node, *with_certificate(pki.pair("ct1"), pki.ca), check=True)
    says(node, f"certificate=CN=CT1 ({certificates.fingerprint(pki.pair('ct1')[0])})")
    says(node, "association accepted")


def test_the_right_ca_with_pynetdicom_and_an_elliptic_key(node, pki):
    with pynetdicom(node, certificates.client(pki.ca, pki.pair("viewer"))) as association:
        assert echoes(association)
    says(node, "certificate=CN=VIEWER")


INBOUND = {
    "wrong CA": ("unknown_ca", "the peer's certificate is "),
    "expired": ("expired", "the peer's certificate expired on 2021-01-01"),
    "no certificate": ("no_certificate", "the peer showed no certificate, and tls.client_auth = \"required\" demands one"),
    "does not trust us": ("refused", "the peer does not accept our certificate: it does not know the CA"),
    "plain on the TLS port": ("plain_dicom", "the peer speaks plain DICOM on the port for TLS"),
    "TLS on the plain port": ("tls_on_plain_port", "the peer speaks TLS on the port for plain DICOM"),
}


def told(node, case):
    reason, words = INBOUND[case]
    says(node, words)
    node.counted("filmroom_tls_failures_total", 1, direction="inbound", reason=reason)


@pytest.mark.parametrize("case", INBOUND)
def test_what_is_wrong_is_said_with_dcmtk(node, pki, strangers, case):
    options, port = {
        "wrong CA": (with_certificate(strangers.pair("ct1"), pki.ca), None),
        "expired": (with_certificate(pki.pair("expired"), pki.ca), None),
        "no certificate": (["+tla", "+cf", pki.ca], None),
        "does not trust us": (with_certificate(pki.pair("ct1"), strangers.ca), None),
        "plain on the TLS port": ([], None),
        "TLS on the plain port": (with_certificate(pki.pair("ct1"), pki.ca), node.port),
    }[case]
    assert echoscu(node, *options, port=port).returncode != 0
    told(node, case)
    still_serves(node, pki)


@pytest.mark.parametrize("case", INBOUND)
def test_what_is_wrong_is_said_with_pynetdicom(node, pki, strangers, case):
    context, port = {
        "wrong CA": (certificates.client(pki.ca, strangers.pair("ct1")), None),
        "expired": (certificates.client(pki.ca, pki.pair("expired")), None),
        "no certificate": (certificates.client(pki.ca), None),
        "does not trust us": (certificates.client(strangers.ca, pki.pair("ct1")), None),
        "plain on the TLS port": (None, None),
        "TLS on the plain port": (certificates.client(pki.ca, pki.pair("ct1")), node.port),
    }[case]
    with pynetdicom(node, context, port=port) as association:
        assert not echoes(association)
    told(node, case)
    still_serves(node, pki)


def test_a_client_that_expects_another_name_turns_away(node, pki):
    """DCMTK does not look at names; pynetdicom does where its context is told to."""
    with pynetdicom(node, certificates.client(pki.ca, pki.pair("ct1")), hostname="another.example") as association:
        assert not association.is_established
    says(node, "the peer does not accept our certificate: ")
    still_serves(node, pki)


def test_tls_1_1_is_refused_by_name(node, pki):
    """RFC 8996, on which PS3.15 B.12 stands."""
    with pynetdicom(node, certificates.client(None, pki.pair("ct1"), old=True)) as association:
        assert not association.is_established
    says(node, "it speaks only TLS 1.1 or older")
    node.counted("filmroom_tls_failures_total", 1, direction="inbound", reason="version")
    still_serves(node, pki)


def test_tls_1_2_is_spoken(node, pki):
    context = certificates.client(pki.ca, pki.pair("ct1"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pynetdicom(node, context) as association:
        assert echoes(association)


def test_optional_certificates_are_looked_at_where_there_are_any(tmp_path, pki, strangers):
    with tls_node(tmp_path / "node", pki, client_auth="optional") as node:
        echoscu(node, "+tla", "+cf", pki.ca, check=True)
        echoscu(node, *with_certificate(pki.pair("ct1"), pki.ca), check=True)
        assert echoscu(node, *with_certificate(strangers.pair("ct1"), pki.ca)).returncode != 0


def test_a_silent_connection_ends_with_the_artim_timer(tmp_path, pki):
    """PS3.8 9.1.5: ARTIM runs from the connection, a handshake that stops half-way included."""
    with tls_node(tmp_path / "node", pki, environment={"FILMROOM_DICOM__ARTIM_TIMEOUT": "1s"}) as node:
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
            with socket.create_connection(("127.0.0.1", node.tls_port), timeout=10) as silent:
                start = time.monotonic()
                silent.sendall(begun)
                assert silent.recv(1) == b""
                assert 0.8 < time.monotonic() - start < 5
        wait_until(lambda: node.log().count("until the ARTIM timer ran out") == 2, "both to be logged")
        still_serves(node, pki)


# -- certificates bound to AE titles --------------------------------------------------------------------------------------------


def test_an_ae_that_is_bound_to_a_certificate_comes_with_it_or_not_at_all(tmp_path, pki):
    bound = (f'[[ae]]\ntitle = "CT1"\ncertificate = "{certificates.fingerprint(pki.pair("ct1")[0])}"\n'
             '[[ae]]\ntitle = "VIEWER"\ncertificate = ["DNS:nobody.example", "CN=VIEWER"]\n')
    with tls_node(tmp_path / "node", pki, more=bound) as node:
        for title, certificate in (("CT1", "ct1"), ("VIEWER", "viewer")):
            with pynetdicom(node, certificates.client(pki.ca, pki.pair(certificate)), title=title) as association:
                assert echoes(association)
        for title, certificate in (("CT1", "viewer"), ("VIEWER", "ct1")):
            refused = echoscu(node, *with_certificate(pki.pair(certificate), pki.ca), title=title)
            assert refused.returncode != 0 and "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
        says(node, "the calling AE is bound to another certificate (ae.certificate) than the one that it showed")
        node.counted("filmroom_associations_rejected_total", 2, reason="other_certificate")
        refused = echoscu(node, port=node.port, title="CT1")
        assert refused.returncode != 0 and "Calling AE Title Not Recognized" in refused.stdout + refused.stderr
        says(node, "the calling AE is bound to a certificate (ae.certificate) and showed none")
        # Whoever is not bound comes as before.
        echoscu(node, port=node.port, title="OTHER", check=True)


# -- we go to peers -------------------------------------------------------------------------------------------------------------


class Destination:
    """pynetdicom as an AE that is connected to over TLS."""

    def __init__(self, context, title="DEST"):
        self.context, self.title, self.port, self.received = context, title, free_port(), []

    def __enter__(self):
        ae = AE(ae_title=self.title)
        ae.add_supported_context(Verification)
        ae.add_supported_context(CTImageStorage)

        def keep(event):
            self.received.append(event.request.AffectedSOPInstanceUID)
            return 0x0000

        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)], ssl_context=self.context)
        return self

    def __exit__(self, *exc):
        self.server.shutdown()


def listed(port, more="tls = true\n"):
    return f'[[ae]]\ntitle = "DEST"\naddress = "localhost:{port}"\n{more}'


def test_a_c_move_to_storescp_and_to_pynetdicom_goes_over_tls(tmp_path, pki):
    certificate, key = pki.pair("ct1")
    study, paths = sample.make_study(tmp_path / "study", images=3)
    with StoreScp(tmp_path / "dcmtk", title="DCMTK", options=["+tls", key, certificate, "+cf", pki.ca]) as storescp, \
            Destination(certificates.server(pki.pair("viewer"), pki.ca)) as other:
        more = listed(other.port) + f'[[ae]]\ntitle = "DCMTK"\naddress = "localhost:{storescp.port}"\ntls = true\n'
        with tls_node(tmp_path / "node", pki, more=more) as node:
            dcmtk.dcmsend(node, *paths)
            dcmtk.movescu(node, "DCMTK", StudyInstanceUID=study)
            assert len(storescp.files()) == 3
            dcmtk.movescu(node, "DEST", StudyInstanceUID=study)
            assert len(other.received) == 3


OUTBOUND = {
    "right": (0, "answered in"),
    "wrong CA": (1, "its certificate is "),
    "expired": (1, "its certificate expired on 2021-01-01"),
    "wrong name": (1, "its certificate is for elsewhere.example, not for localhost"),
    "the name that it has": (0, "answered in"),
    "does not trust us": (1, "it does not accept our certificate"),
    "TLS 1.1": (1, "it speaks only TLS 1.1 or older"),
    "another than it is bound to": (1, "DEST is bound to another certificate (ae.certificate)"),
}


@pytest.mark.parametrize("case", OUTBOUND)
def test_what_is_wrong_with_a_destination_is_said(tmp_path, pki, strangers, case):
    server = certificates.server
    other = certificates.fingerprint(pki.pair("viewer")[0])
    context, more = {
        "right": (server(pki.pair("ct1"), pki.ca), "tls = true\n"),
        "wrong CA": (server(strangers.pair("ct1")), "tls = true\n"),
        "expired": (server(pki.pair("expired")), "tls = true\n"),
        "wrong name": (server(pki.pair("elsewhere.example")), "tls = true\n"),
        "the name that it has": (server(pki.pair("elsewhere.example")), 'tls = true\ntls_server_name = "elsewhere.example"\n'),
        "does not trust us": (server(pki.pair("ct1"), strangers.ca), "tls = true\n"),
        "TLS 1.1": (server(pki.pair("ct1"), old=True), "tls = true\n"),
        "another than it is bound to": (server(pki.pair("ct1")), f'tls = true\ncertificate = "{other}"\n'),
    }[case]
    code, words = OUTBOUND[case]
    with Destination(context) as destination:
        node = tls_node(tmp_path / "node", pki, more=listed(destination.port, more))
        done = node.command("echo", "DEST", check=False)
        assert (done.returncode != 0) == bool(code) and words in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("tls", [True, False])
def test_the_wrong_port_of_a_destination_is_told(tmp_path, pki, tls):
    certificate, key = pki.pair("ct1")
    options = [] if tls else ["+tls", key, certificate, "+cf", pki.ca]
    with StoreScp(tmp_path / "dcmtk", options=options) as destination:
        node = tls_node(tmp_path / "node", pki, more=listed(destination.port, "tls = true\n" if tls else ""))
        done = node.command("echo", "DEST", check=False)
        assert done.returncode != 0
        if tls:
            assert "plain DICOM" in done.stderr, done.stderr


def test_a_c_move_to_a_destination_of_another_ca_fails_and_says_why(tmp_path, pki, strangers):
    study, paths = sample.make_study(tmp_path / "study", images=2)
    with Destination(certificates.server(strangers.pair("ct1"))) as destination:
        with tls_node(tmp_path / "node", pki, more=listed(destination.port)) as node:
            dcmtk.dcmsend(node, *paths)
            assert dcmtk.movescu(node, "DEST", StudyInstanceUID=study, check=False).returncode != 0
            says(node, "TLS: its certificate is ")
            assert node.metric("filmroom_tls_failures_total", direction="outbound", reason="unknown_ca") >= 1
    assert destination.received == []


# -- certificates that change ---------------------------------------------------------------------------------------------------


def hang_up(node):
    node.process.send_signal(signal.SIGHUP)


def test_certificates_are_renewed_while_associations_run(tmp_path):
    authority = Authority(tmp_path / "own")
    pair = authority.issue("ct1", "--ae", "CT1")
    with tls_node(tmp_path / "node", authority) as node:
        before = certificates.shown_by(node.tls_port, authority.ca, pair)
        with pynetdicom(node, certificates.client(authority.ca, pair)) as association:
            assert echoes(association)
            authority.issue("node", "--replace")
            hang_up(node)
            says(node, "certificates read again")
            renewed = certificates.shown_by(node.tls_port, authority.ca, pair)
            assert renewed == certificates.fingerprint(authority.pair("node")[0]) != before
            assert echoes(association)

            # Half of a renewal: a certificate whose key is another one's.
            good = authority.pair("node")[0].read_text()
            authority.pair("node")[0].write_text(pair[0].read_text())
            hang_up(node)
            says(node, "certificates not taken: those from before stay in force")
            assert certificates.shown_by(node.tls_port, authority.ca, pair) == renewed
            assert echoes(association)
            status, body = node.get("/health/ready")
            assert status == 200 and "is not the key of the first certificate" in json.loads(body)["warnings"][0]
            node.counted("filmroom_tls_reloads_total", 1, result="failed")
            days = node.metric("filmroom_tls_certificate_expires_seconds", setting="tls.cert") / 86400
            assert 729 < days <= 730

            authority.pair("node")[0].write_text(good)
            hang_up(node)
            wait_until(lambda: json.loads(node.get("/health/ready")[1])["warnings"] == [], "the warning to go")


# -- a peer that reads late -----------------------------------------------------------------------------------------------------


def large(uid, megabytes):
    """An object in Explicit VR Little Endian whose pixels are so many megabytes."""
    pixels = bytes(range(256)) * (megabytes * 4096)
    head = raw.data_set(uid, study="1.2.3.77", series="1.2.3.78")
    return head + b"\xe0\x7f\x10\x00OB\0\0" + len(pixels).to_bytes(4, "little") + pixels


class RawTls(raw.Raw):
    """PDUs over TLS on sockets with small buffers."""

    def __init__(self, node, context):
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        plain.settimeout(60)
        plain.connect(("127.0.0.1", node.tls_port))
        self.socket = context.wrap_socket(plain, server_hostname="localhost")


def test_a_peer_that_reads_late_stalls_nothing(node, pki):
    """20 MB each way over socket buffers of 64 KiB; what TLS holds back until it is flushed would never arrive."""
    context = certificates.client(pki.ca, pki.pair("ct1"))
    uid, get = "1.2.3.77.1", "1.2.840.10008.5.1.4.1.2.2.3"
    content = large(uid, 20)
    with RawTls(node, context) as peer:
        peer.associate([(1, raw.CT, (raw.EXPLICIT,))])
        peer.message(1, raw.c_store(uid), content)
        time.sleep(1)
        assert peer.status()[0] == 0x0000
    with RawTls(node, context) as peer:
        contexts = [(1, get, (raw.EXPLICIT,)), (3, raw.CT, (raw.EXPLICIT,))]
        role = raw.item(0x54, len(raw.CT).to_bytes(2, "big") + raw.CT.encode() + b"\0\1")
        request = raw.associate_rq(contexts)
        # The role selection goes to the end of the user information, the last item.
        at = request.rindex(raw.item(0x51, (16384).to_bytes(4, "big"))) - 4
        information = request[at + 4 :] + role
        body = request[6:at] + raw.item(0x50, information)
        peer.send(raw.pdu(raw.ASSOCIATE_RQ, body))
        assert peer.receive()[0] == raw.ASSOCIATE_AC
        ask = raw.command(x0002=get, x0100=0x0010, x0110=1, x0700=0, x0800=0x0001)
        peer.message(1, ask, raw.explicit(0x0008, 0x0052, "CS", b"STUDY") + raw.explicit(0x0020, 0x000D, "UI", b"1.2.3.77"))
        time.sleep(2)
        received = b""
        while True:
            fields, data = peer.response()
            if fields[0x0100] == b"\x01\x00":
                received = data
                answer = raw.command(x0002=raw.CT, x0100=0x8001, x0120=int.from_bytes(fields[0x0110], "little"), x0800=0x0101, x0900=0, x1000=uid)
                peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, answer, command=True)))
            elif fields[0x0900] != b"\x00\xff":
                break
        assert fields[0x0900] == b"\x00\x00" and received == content


# -- what the commands say ------------------------------------------------------------------------------------------------------


def test_probe_says_what_it_finds(tmp_path, node, pki, strangers):
    right = node.command("tls", "probe", f"localhost:{node.tls_port}", "--called", node.title)
    assert certificates.fingerprint(pki.pair("node")[0]) in right.stdout and "ok    association with FILMROOM" in right.stdout
    for arguments, words in [
        ([f"localhost:{node.port}"], "plain DICOM is spoken on this port"),
        ([f"localhost:{node.tls_port}", "--ca", strangers.ca], "its certificate is "),
        ([f"localhost:{node.tls_port}", "--name", "another.example"], "not for another.example"),
        ([f"localhost:{node.tls_port}", "--anonymous"], "it demands a client certificate"),
        ([f"localhost:{free_port()}"], "no connection"),
    ]:
        found = node.command("tls", "probe", *arguments, check=False)
        assert found.returncode != 0 and re.search(rf"FAIL  .*{re.escape(words)}", found.stdout), found.stdout
    with Destination(certificates.server(pki.pair("ct1"), old=True)) as old:
        found = node.command("tls", "probe", f"localhost:{old.port}", check=False)
        assert "it speaks only TLS 1.1 or older" in found.stdout, found.stdout
    with Destination(certificates.server(pki.pair("expired"))) as expired:
        found = node.command("tls", "probe", f"localhost:{expired.port}", "--called", "DEST", check=False)
        assert "its certificate expired on 2021-01-01" in found.stdout, found.stdout


def test_check_config_names_the_line_of_a_file_that_is_wrong(tmp_path, pki, strangers):
    node = tls_node(tmp_path / "node", pki)
    assert node.command("check-config").returncode == 0
    text = node.config.read_text()
    line = text.splitlines().index(f'key = "{pki.pair("node")[1]}"') + 1
    node.config.write_text(text.replace(str(pki.pair("node")[1]), str(strangers.pair("node")[1])))
    wrong = node.command("check-config", check=False)
    assert wrong.returncode != 0 and f"line {line}: tls.key: " in wrong.stderr and "is not the key of the first certificate" in wrong.stderr

"""Association and transport, row by row: what field devices propose and do (PS3.8 7, 9; PS3.7 D.3), and what they get.

Shown elsewhere: what is no PDU, a PDU of 4 GB, garbage and an A-ABORT within an association, a wrong called AE title (test_bad_input.py); the policies for
unknown calling AEs, every choice among transfer syntaxes, roles never wider than proposed (scp/src/negotiate); both sides releasing at once, PDUs out of
place, every timer (scp/src/association/tests); one association too many is transient, and may come again (scp/tests/serving/limits.rs).
"""

import socket
import struct

import pytest
from harness import raw
from harness.node import Node
from harness.ports import wait_until
from harness.raw import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, CT, EXPLICIT, IMPLICIT, VERIFICATION, Raw

MR = "1.2.840.10008.5.1.4.1.1.4"
PRIVATE = "1.3.46.670589.5.0.1"
PRINT = "1.2.840.10008.5.1.1.9"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
JPEG, DEFLATED, PRIVATE_SYNTAX = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1.99", "1.2.840.113619.5.2"
ECHO = (1, VERIFICATION, [IMPLICIT])


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("association") / "node", environment={"FILMROOM_DICOM__ALIASES": "OLDPACS"})
    with node as running:
        yield running
        assert "panicked" not in running.log()


def propose(node, **proposal):
    """The answer's type and body, on a connection of its own."""
    with Raw(node) as peer:
        peer.send(raw.associate_rq(**proposal))
        return peer.receive()


ALL_IDS = range(1, 256, 2)

# name with its section, proposal, context id → result and transfer syntax
ACCEPTED = [
    ("9.3.2 titles padded with NUL", {"contexts": [ECHO], "calling": b"RAW" + bytes(13), "called": b"FILMROOM" + bytes(8)}, {1: (0, IMPLICIT)}),
    ("9.3.2 titles in the middle of spaces", {"contexts": [ECHO], "calling": b"  RAW           ", "called": b" FILMROOM       "}, {1: (0, IMPLICIT)}),
    ("9.3.2 a title with CR and LF", {"contexts": [ECHO], "called": b"FILMROOM\r\n\0\0\0\0\0\0"}, {1: (0, IMPLICIT)}),
    ("9.3.2 a blank calling title, where unknown AEs may come", {"contexts": [ECHO], "calling": ""}, {1: (0, IMPLICIT)}),
    ("9.3.2 an alias as called title", {"contexts": [ECHO], "called": "OLDPACS"}, {1: (0, IMPLICIT)}),
    ("9.3.2 more version bits than the one that is tested", {"contexts": [ECHO], "version": 0xFFFF}, {1: (0, IMPLICIT)}),
    ("9.3.2.2 all 128 contexts that have an id", {"contexts": [(n, CT, [EXPLICIT]) for n in ALL_IDS]}, {n: (0, EXPLICIT) for n in ALL_IDS}),
    ("9.3.2.2 an even id", {"contexts": [ECHO, (2, CT, [EXPLICIT])]}, {1: (0, IMPLICIT), 2: (2, None)}),
    ("9.3.3.2 one context a syntax", {"contexts": [(1, CT, [IMPLICIT]), (3, CT, [JPEG]), (5, CT, [EXPLICIT])]},
     {1: (0, IMPLICIT), 3: (0, JPEG), 5: (0, EXPLICIT)}),
    ("9.3.3.2 several syntaxes in a context: the first that keeps VRs", {"contexts": [(1, CT, [IMPLICIT, JPEG, EXPLICIT])]}, {1: (0, JPEG)}),
    ("9.3.3.2 a class that is not served: 3", {"contexts": [ECHO, (3, PRINT, [EXPLICIT])]}, {1: (0, IMPLICIT), 3: (3, None)}),
    ("9.3.3.2 a syntax that is not kept: 4", {"contexts": [(1, CT, [PRIVATE_SYNTAX]), (3, CT, [])]}, {1: (4, None), 3: (4, None)}),
    ("9.3.3.2 a deflated image: 4", {"contexts": [(1, CT, [DEFLATED])]}, {1: (4, None)}),
    ("PS3.4 B.1 a private class", {"contexts": [(1, PRIVATE, [EXPLICIT])]}, {1: (0, EXPLICIT)}),
    ("9.3.2.2 UIDs padded with NUL", {"contexts": [(1, CT + "\0", [EXPLICIT + "\0"])]}, {1: (0, EXPLICIT)}),
    ("9.3.2 nothing proposed", {"contexts": []}, {}),
    ("PS3.7 D.3.3.2 a padded Implementation Class UID", {"contexts": [ECHO], "implementation": b"1.2.3\0"}, {1: (0, IMPLICIT)}),
    ("9.3.1 an item of the proposal that nobody knows", {"contexts": [ECHO], "more": raw.item(0x99, b"?")}, {1: (0, IMPLICIT)}),
    ("9.3.2.2 a context without abstract syntax: 3", {"contexts": [ECHO], "more": raw.item(0x20, bytes([3, 0, 0, 0]) + raw.item(0x40, EXPLICIT.encode()))},
     {1: (0, IMPLICIT), 3: (3, None)}),
    ("PS3.7 D.3.3 items that nobody knows, and an empty one", {"contexts": [ECHO], "user": raw.item(0x5F, b"?" * 300) + raw.item(0x60, b"")}, {1: (0, IMPLICIT)}),
]


@pytest.mark.parametrize("proposal, results", [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_a_proposal_is_accepted_with_a_result_for_each_context(node, proposal, results):
    kind, body = propose(node, **proposal)
    assert kind == ASSOCIATE_AC, (kind, body)
    contexts, user = raw.accepted(body)
    assert contexts == results
    # Maximum length, implementation class and version, and nothing that was not asked for (PS3.7 D.3.3).
    assert set(user) == {0x51, 0x52, 0x55}
    assert struct.unpack(">H", body[:2]) == (1,)


REJECTED = [
    ("9.3.4 a called title in lower case", {"called": "filmroom"}, (1, 1, 7)),
    ("9.3.4 a blank called title", {"called": ""}, (1, 1, 7)),
    ("9.3.4 without the one version bit", {"version": 0xFFFE}, (1, 2, 2)),
    ("9.3.4 no application context", {"application": None}, (1, 1, 2)),
    ("9.3.4 another application context", {"application": "1.2.840.10008.3.1.1.2"}, (1, 1, 2)),
]


@pytest.mark.parametrize("proposal, reason", [row[1:] for row in REJECTED], ids=[row[0] for row in REJECTED])
def test_a_proposal_is_rejected_with_result_source_and_reason(node, proposal, reason):
    kind, body = propose(node, contexts=[ECHO], **proposal)
    assert (kind, tuple(body[1:4])) == (ASSOCIATE_RJ, reason)


def test_an_asynchronous_window_is_not_answered(node):
    # Without an answer it is one operation at a time (PS3.7 D.3.3.3.1); dcm4che 2 pipelines as soon as there is one.
    for window in (struct.pack(">HH", 0, 0), struct.pack(">HH", 16, 16)):
        _, body = propose(node, contexts=[ECHO], user=raw.item(0x53, window))
        assert 0x53 not in raw.accepted(body)[1]


@pytest.mark.parametrize("scu, scp, answer", [(1, 1, (1, 1)), (0, 1, (0, 1)), (1, 0, (1, 0))], ids=str)
def test_roles_are_answered_as_proposed(node, scu, scp, answer):
    # PS3.7 D.3.3.4
    contexts = [(1, STUDY_GET, [EXPLICIT]), (3, CT, [EXPLICIT]), (5, MR, [EXPLICIT])]
    _, body = propose(node, contexts=contexts, user=raw.role(CT, scu, scp))
    assert raw.accepted(body)[1][0x54] == [struct.pack(">H", len(CT)) + CT.encode() + bytes(answer)]


def test_a_proposal_may_come_byte_by_byte_and_together_with_the_first_request(node):
    # PS3.8 9.1: TCP has no messages.
    with Raw(node) as peer:
        request = raw.associate_rq([ECHO])
        for n in range(len(request) - 1):
            peer.send(request[n : n + 1])
        peer.send(request[-1:] + raw.pdu(raw.P_DATA, raw.pdv(1, raw.c_echo(7), command=True)) + raw.pdu(raw.RELEASE_RQ, bytes(4)))
        assert peer.receive()[0] == ASSOCIATE_AC
        assert peer.status()[0] == 0x0000
        assert peer.receive()[0] == raw.RELEASE_RP


# name with its section, bytes within an association, reason of the A-ABORT (PS3.8 9.3.8)
ABORTED = [
    ("9.3.1 a PDU type that there is not", bytes([8, 0, 0, 0, 0, 4, 0, 0, 0, 0]), 1),
    ("9.3.1 type 0", bytes(10), 1),
    ("9.3.5 a P-DATA-TF of 2 MB", struct.pack(">BBI", 4, 0, 2 << 20), 6),
    ("9.3.6 a release request of 2 MB", struct.pack(">BBI", 5, 0, 2 << 20), 6),
    ("9.3.5.1 a value longer than its PDU", struct.pack(">BBIIBB", 4, 0, 6, 100, 1, 3), 6),
    ("9.3.5.1 a value shorter than its header", struct.pack(">BBIIBB", 4, 0, 6, 1, 1, 3), 6),
    ("9.3.5.1 a PDU shorter than a value's header", struct.pack(">BBI", 4, 0, 3) + bytes(3), 6),
    ("9.3.2 a second proposal", raw.associate_rq([ECHO]), 2),
    ("9.3.7 a release that nobody asked for", raw.pdu(raw.RELEASE_RP, bytes(4)), 2),
]


@pytest.mark.parametrize("content, reason", [row[1:] for row in ABORTED], ids=[row[0] for row in ABORTED])
def test_what_breaks_the_protocol_is_aborted_with_its_reason(node, content, reason):
    with Raw(node) as peer:
        peer.associate()
        peer.send(content)
        kind, body = peer.receive()
        assert (kind, tuple(body[2:4])) == (ABORT, (2, reason))
        with pytest.raises((EOFError, ConnectionError)):
            peer.receive()


def broken_command(change):
    """A C-ECHO-RQ of which something is changed."""
    fields = {0x0002: VERIFICATION.encode() + b"\0", 0x0100: b"\x30\0", 0x0110: b"\x07\0", 0x0800: b"\x01\x01"}
    change(fields)
    body = b"".join(raw.element(0, number, value) for number, value in fields.items())
    return raw.element(0, 0, struct.pack("<I", len(body))) + body


ECHO_ELEMENTS = broken_command(lambda fields: None)[12:]

# name with its section, command set, whether it is understood
COMMANDS = [
    ("E.1 a wrong group length", raw.element(0, 0, struct.pack("<I", 3)) + ECHO_ELEMENTS, True),
    ("E.1 no group length", ECHO_ELEMENTS, True),
    ("E.1 elements out of order", broken_command(lambda f: f.update({0x0002: f.pop(0x0002)})), True),
    ("E.1 retired and unknown elements", broken_command(lambda f: f.update({0x0001: bytes(4), 0x0850: b"\0\0", 0x5010: b"?" * 1000})), True),
    ("E.1 no SOP class", broken_command(lambda f: f.pop(0x0002)), True),
    ("E.1 a SOP class padded with a space", broken_command(lambda f: f.update({0x0002: VERIFICATION.encode() + b" "})), True),
    ("E.1 no data set type", broken_command(lambda f: f.pop(0x0800)), True),
    ("E.1 no message id", broken_command(lambda f: f.pop(0x0110)), False),
    ("E.1 no command field", broken_command(lambda f: f.pop(0x0100)), False),
    ("E.1 a message id of one byte", ECHO_ELEMENTS.replace(raw.element(0, 0x0110, b"\x07\0"), struct.pack("<HHI", 0, 0x0110, 1) + b"\x07"), False),
    ("6.3.1 an element of another group", broken_command(lambda f: None) + struct.pack("<HHI", 8, 0x18, 0), False),
    ("6.3.1 a length that leaves the set", broken_command(lambda f: None) + struct.pack("<HHI", 0, 0x1000, 0xFFFFFFFF), False),
    ("6.3.1 explicit VR", raw.explicit(0, 0x0002, "UI", VERIFICATION.encode()) + raw.explicit(0, 0x0100, "US", b"\x30\0"), False),
    ("6.3.1 an empty command set", b"", False),
]


@pytest.mark.parametrize("content, understood", [row[1:] for row in COMMANDS], ids=[f"PS3.7 {row[0]}" for row in COMMANDS])
def test_a_command_set_is_understood_or_aborted(node, content, understood):
    with Raw(node) as peer:
        peer.associate()
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, content, command=True)))
        if understood:
            fields, _ = peer.response()
            assert (fields[0x0900], fields[0x0120], fields[0x0100]) == (b"\0\0", b"\x07\0", b"\x30\x80")
            assert peer.echo_works()
        else:
            kind, body = peer.receive()
            assert (kind, body[2]) == (ABORT, 2)


@pytest.mark.parametrize("field", [0x0777, 0x0140, 0x0150, 0x0002, 0x0031], ids=lambda field: f"{field:04X}")
def test_a_command_that_is_not_served_is_0211_with_its_own_field_and_the_association_lives(node, field):
    # PS3.7 C.5
    with Raw(node) as peer:
        peer.associate()
        peer.message(1, raw.command(x0002=VERIFICATION, x0100=field, x0110=9, x0800=0x0001), b"\x08\0\x18\0\0\0\0\0")
        fields, _ = peer.response()
        assert (fields[0x0900], fields[0x0120], fields[0x0100]) == (b"\x11\x02", b"\x09\0", struct.pack("<H", field | 0x8000))
        assert peer.echo_works()


def test_responses_and_cancels_of_nothing_are_dropped(node):
    # PS3.7 9.3.2.3: C-CANCEL has no response.
    with Raw(node) as peer:
        peer.associate()
        peer.message(1, raw.command(x0002=VERIFICATION, x0100=0x8030, x0120=5, x0800=0x0101, x0900=0))
        peer.message(5, raw.command(x0100=0x0FFF, x0120=5, x0800=0x0101))
        assert peer.echo_works()


def test_a_reset_in_the_middle_of_an_object_leaves_nothing(node):
    with Raw(node) as peer:
        peer.associate()
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, raw.c_store("1.2.3.79"), command=True)))
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, raw.data_set("1.2.3.79", extra=struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 1 << 22)), last=False)))
        for _ in range(3):
            peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, bytes(500_000), last=False)))
        wait_until(lambda: len(node.incoming_files()) == 1, "the first bytes")
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: not node.incoming_files(), "an empty incoming/")
    assert node.hot_files() == []


def test_150_associations_at_once_each_served(node):
    peers = []
    try:
        for n in range(150):
            peers.append(Raw(node))
            peers[n].send(raw.associate_rq([ECHO], calling=f"RAW{n}"))
        for peer in peers:
            assert peer.receive()[0] == ASSOCIATE_AC
            peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, raw.c_echo(3), command=True)))
        for peer in peers:
            assert peer.status()[0] == 0x0000
    finally:
        for peer in peers:
            peer.socket.close()


def test_silence_ends_by_the_timers_and_a_full_node_is_transient(tmp_path):
    # ARTIM (PS3.8 9.1.5); A-ASSOCIATE-RJ 2/3/2 (9.3.4) and 2/0 of A-ABORT (9.3.8)
    timers = {"FILMROOM_DICOM__ARTIM_TIMEOUT": "1s", "FILMROOM_DICOM__IDLE_TIMEOUT": "2s", "FILMROOM_DICOM__MAX_ASSOCIATIONS": "1"}
    with Node(tmp_path / "node", environment=timers) as node:
        with Raw(node) as silent:
            kind, body = silent.receive()
            assert (kind, tuple(body[2:4])) == (ABORT, (2, 0))
        with Raw(node) as idle:
            idle.associate()
            kind, body = propose(node, contexts=[ECHO])
            assert (kind, tuple(body[1:4])) == (ASSOCIATE_RJ, (2, 3, 2))
            kind, body = idle.receive()
            assert (kind, tuple(body[2:4])) == (ABORT, (2, 0))
        with Raw(node) as peer:
            peer.associate()
            assert peer.echo_works()

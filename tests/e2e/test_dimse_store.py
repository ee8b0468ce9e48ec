"""C-STORE, row by row: the shapes in which an object can come, what is wrong with it, and what it is answered (PS3.4 B, PS3.7 9.1.1, PS3.8 9.3.5).

Shown elsewhere: an object that is cut short, nested without end, garbage, another one than its command says, with paths or SQL as UIDs, without Study
Instance UID, with a UID of 66 characters (test_bad_input.py); duplicates (test_duplicates.py); a full disk, contexts of another class or role
(scp/tests/serving); 16 senders at once and gone at every step of the commit (test_plug.py); every fixture byte for byte (test_round_trip.py).
"""

import hashlib
import struct

import pytest
from harness import part10, raw, scu
from harness.node import Node
from harness.ports import wait_until
from harness.raw import ABORT, CT, EXPLICIT, P_DATA, Raw
from harness.rawscp import RawScp

PRIVATE = "1.3.46.670589.5.0.1"
CONTEXTS = ((1, raw.VERIFICATION, (raw.IMPLICIT,)), (3, CT, (EXPLICIT,)), (5, PRIVATE, (EXPLICIT,)))
# What the node tells its peers to keep to.
ANNOUNCED = 16384


@pytest.fixture(scope="module")
def destination():
    with RawScp() as scp:
        yield scp


@pytest.fixture(scope="module")
def node(tmp_path_factory, destination):
    node = Node(tmp_path_factory.mktemp("store") / "node", None, {destination.title: destination.port}, environment={"FILMROOM_DICOM__MAX_PDU": str(ANNOUNCED)})
    with node as running:
        yield running
        assert "panicked" not in running.log()


def pixels(length, vr=b"OW"):
    value = hashlib.shake_128(b"pixels").digest(length)
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, length) + value


def image(uid, size=50_000, **options):
    """An object with pixels that nothing compresses, in a study of its own."""
    return raw.data_set(uid, study=f"{uid}.1", series=f"{uid}.2", extra=pixels(size), **options)


def cut(content, length):
    return [content[i : i + length] for i in range(0, len(content), length)]


def pdus(command, content, length):
    """Command and data set, each value of at most `length` bytes in a PDU of its own."""
    pieces = cut(content, length)
    values = [raw.pdv(3, command, command=True), *(raw.pdv(3, piece, last=n == len(pieces) - 1) for n, piece in enumerate(pieces))]
    return b"".join(raw.pdu(P_DATA, value) for value in values)


def together(command, content, length):
    """The same values, as many in a PDU as fit in the announced length."""
    pieces = cut(content, length)
    values = [raw.pdv(3, command, command=True), *(raw.pdv(3, piece, last=n == len(pieces) - 1) for n, piece in enumerate(pieces))]
    per_pdu = max(1, ANNOUNCED // (length + 6) - 1)
    return b"".join(raw.pdu(P_DATA, b"".join(values[n : n + per_pdu])) for n in range(0, len(values), per_pdu))


def whole(command, content):
    return raw.pdu(P_DATA, raw.pdv(3, command, command=True) + raw.pdv(3, content))


def with_empty_values(command, content):
    empty, end = raw.pdu(P_DATA, raw.pdv(3, b"", last=False)), raw.pdu(P_DATA, raw.pdv(3, b""))
    pieces = b"".join(raw.pdu(P_DATA, raw.pdv(3, piece, last=False)) + empty for piece in cut(content, 9000))
    return raw.pdu(P_DATA, raw.pdv(3, command, command=True)) + empty + pieces + end


def command_in_bytes(command, content):
    pieces = [raw.pdv(3, command[n : n + 1], command=True, last=n == len(command) - 1) for n in range(len(command))]
    return b"".join(raw.pdu(P_DATA, piece) for piece in pieces) + raw.pdu(P_DATA, raw.pdv(3, content[:9000], last=False)) + raw.pdu(P_DATA, raw.pdv(3, content[9000:]))


# name with its section, size of the pixels, PDUs of a command and a data set
SHAPES = [
    ("9.3.5 values as long as was announced", 50_000, lambda c, d: pdus(c, d, ANNOUNCED - 6)),
    ("9.3.5 command and data set in one PDU", 10_000, whole),
    ("9.3.5 values of one byte", 20_000, lambda c, d: pdus(c, d, 1)),
    ("9.3.5 values of two bytes, thousands in a PDU", 50_000, lambda c, d: together(c, d, 2)),
    ("E.2 values of odd length, from dcm4che 2", 50_000, lambda c, d: pdus(c, d, 4303)),
    ("E.2 a data set of odd length", 50_001, lambda c, d: pdus(c, d, 9000)),
    ("9.3.5.1 empty values, the last one too", 50_000, with_empty_values),
    ("9.3.5.1 a command set in values of one byte", 50_000, command_in_bytes),
    ("D.1.1 PDUs of 290 KB where 16 KB were announced", 3_000_000, lambda c, d: pdus(c, d, 290_000)),
    ("D.1.1 PDUs of a megabyte", 5_000_000, lambda c, d: pdus(c, d, (1 << 20) - 6)),
]


@pytest.mark.parametrize("number, size, shape", [(n, *row[1:]) for n, row in enumerate(SHAPES)], ids=[f"PS3.8 {row[0]}" for row in SHAPES])
def test_an_object_in_any_shape_is_stored_and_leaves_byte_for_byte(node, destination, number, size, shape):
    uid = f"1.2.3.100.{number}"
    content = image(uid, size)
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.send(shape(raw.c_store(uid), content))
        assert peer.status() == (0x0000, "")
        assert peer.echo_works()
    (kept,) = [path for path in node.hot_files() if uid.encode() in path.read_bytes()[:1000]]
    assert part10.data_set(kept) == content
    assert scu.move(node, destination.title, StudyInstanceUID=f"{uid}.1")[-1][0].Status == 0x0000
    assert destination.stored[uid] == (CT, EXPLICIT, content + b"\0" * (len(content) % 2))


def test_memory_stays_flat_whatever_is_announced(tmp_path):
    # 60 MB in PDUs of 290 KB against an announced 16 KB, and again in PDUs of a megabyte.
    with Node(tmp_path / "node", environment={"FILMROOM_DICOM__MAX_PDU": str(ANNOUNCED)}) as node:
        with Raw(node, timeout=120) as peer:
            peer.associate(CONTEXTS)
            small = image("1.2.3.110.0")
            peer.send(pdus(raw.c_store("1.2.3.110.0"), small, ANNOUNCED - 6))
            assert peer.status()[0] == 0x0000
            before = node.memory_peak()
            for number, length in enumerate((290_000, (1 << 20) - 6), 1):
                uid = f"1.2.3.110.{number}"
                peer.send(pdus(raw.c_store(uid), image(uid, 60_000_000), length))
                assert peer.status()[0] == 0x0000
            grown = node.memory_peak() - before
        print(f"peak RSS grew by {grown / 1e6:.1f} MB from {before / 1e6:.1f} MB")
        assert grown < 20_000_000


def test_each_of_128_contexts_stores(node):
    # PS3.8 9.3.2.2: ids 1 to 255
    contexts = [(n, CT, (EXPLICIT,)) for n in range(1, 256, 2)]
    kept = len(node.hot_files())
    with Raw(node) as peer:
        peer.associate(contexts)
        for n, _, _ in contexts:
            uid = f"1.2.3.128.{n}"
            peer.message(n, raw.c_store(uid, message=n), raw.data_set(uid, study="1.2.3.128", series="1.2.3.128.0"))
            fields, _ = peer.response()
            assert (fields[0x0900], fields[0x0120]) == (b"\0\0", struct.pack("<H", n))
    assert len(node.hot_files()) == kept + 128


@pytest.mark.parametrize("max_pdu", [0, 4096, 8], ids=lambda length: f"{length} bytes")
def test_what_a_destination_announces_is_kept_to(tmp_path, max_pdu):
    # PS3.8 D.1.1: the variable field is at most as long as announced; 0 is no limit. 8 is absurd, and obeyed.
    uid = "1.2.3.130"
    content = image(uid, 300_000 if max_pdu != 8 else 3000)
    with RawScp(max_pdu=max_pdu) as destination, Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
        with Raw(node) as peer:
            peer.associate(CONTEXTS)
            peer.message(3, raw.c_store(uid), content)
            assert peer.status()[0] == 0x0000
        assert scu.move(node, destination.title, StudyInstanceUID=f"{uid}.1")[-1][0].Status == 0x0000
        assert destination.stored[uid][2] == content
        assert all(length % 2 == 0 for length in destination.pdus)
        assert max(destination.pdus) <= (max_pdu or 131_072)


def test_a_get_keeps_to_what_its_requestor_announces(node, tmp_path):
    content = image("1.2.3.131", 100_000)
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.message(3, raw.c_store("1.2.3.131"), content)
        assert peer.status()[0] == 0x0000
    get = "1.2.840.10008.5.1.4.1.2.2.3"
    with Raw(node) as peer:
        peer.associate([(1, get, (EXPLICIT,)), (3, CT, (EXPLICIT,))], max_pdu=4096, user=raw.role(CT, 0, 1))
        identifier = raw.explicit(0x0008, 0x0052, "CS", b"STUDY") + raw.explicit(0x0020, 0x000D, "UI", b"1.2.3.131.1")
        peer.message(1, raw.command(x0002=get, x0100=0x0010, x0110=1, x0700=0, x0800=0x0001), identifier)
        came, lengths, status = b"", [], 0xFF00
        while status == 0xFF00:
            kind, body = peer.receive()
            assert kind == P_DATA
            lengths.append(len(body))
            (length,) = struct.unpack_from(">I", body)
            assert length + 4 == len(body), "one value a PDU here"
            context, flags, piece = body[4], body[5], body[6:]
            if flags & 1:
                fields = raw.parse_command(piece)
                if fields[0x0100] == b"\x10\x80":
                    (status,) = struct.unpack("<H", fields[0x0900])
            else:
                came += piece
                if flags & 2:
                    store = struct.unpack("<H", fields[0x0110])[0]
                    peer.message(context, raw.command(x0002=CT, x0100=0x8001, x0120=store, x0800=0x0101, x0900=0, x1000="1.2.3.131"))
        assert (status, came) == (0x0000, content)
        assert max(lengths) == 4096


def native(length, undefined=False):
    """Pixel Data behind a valid header: of a length, or of undefined length as only encapsulated syntaxes have it."""
    if undefined:
        return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 4) \
            + b"\xff\xd8\xff\xd9" + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return pixels(length, b"OB")


# name with its section, SOP Instance UID of the command, data set, status
OBJECTS = [
    ("PS3.5 9.1 a UID component with a leading zero", "1.2.3.140.01", raw.data_set("1.2.3.140.01"), 0x0000),
    ("PS3.5 9.1 a UID padded with a space in the command", "1.2.3.140.2222 ", raw.data_set("1.2.3.140.2222"), 0x0000),
    ("PS3.5 9.1 a UID padded with NULs in the data set", "1.2.3.140.33", raw.data_set("1.2.3.140.33\0\0\0"), 0x0000),
    ("PS3.5 9.1 a UID of 64 characters", "1." + "2" * 62, raw.data_set("1." + "2" * 62), 0x0000),
    ("PS3.5 9.1 a Study Instance UID of 66 characters", "1.2.3.140.4", raw.data_set("1.2.3.140.4", study="1." + "2" * 64), 0xA900),
    ("PS3.4 B.2.3 no Series Instance UID", "1.2.3.140.5", raw.data_set("1.2.3.140.5", series=""), 0xA900),
    ("PS3.4 B.2.3 an empty Patient ID", "1.2.3.140.6", raw.data_set("1.2.3.140.6", patient="", study="1.2.3.141.6", series="1.2.3.142.6"), 0x0000),
    ("PS3.4 B.2.3 no Patient ID, no name, no modality", "1.2.3.140.7",
     raw.explicit(0x0008, 0x0016, "UI", CT.encode()) + raw.explicit(0x0008, 0x0018, "UI", b"1.2.3.140.7")
     + raw.explicit(0x0020, 0x000D, "UI", b"1.2.3.141.7") + raw.explicit(0x0020, 0x000E, "UI", b"1.2.3.142.7"), 0x0000),
    ("PS3.5 8.2 pixels of odd length", "1.2.3.140.8", raw.data_set("1.2.3.140.8", study="1.2.3.141.8", series="1.2.3.142.8", extra=native(35659)), 0x0000),
    ("PS3.5 A.4 encapsulated pixels in a native syntax", "1.2.3.140.9", raw.data_set("1.2.3.140.9", extra=native(0, undefined=True)), 0xC000),
    ("PS3.3 C.7.1.1 a date of ACR-NEMA", "1.2.3.140.10",
     raw.explicit(0x0008, 0x0016, "UI", CT.encode()) + raw.explicit(0x0008, 0x0018, "UI", b"1.2.3.140.10") + raw.explicit(0x0008, 0x0020, "DA", b"1997.04.24")
     + raw.explicit(0x0020, 0x000D, "UI", b"1.2.3.141.10") + raw.explicit(0x0020, 0x000E, "UI", b"1.2.3.142.10"), 0x0000),
]


@pytest.mark.parametrize("uid, content, status", [row[1:] for row in OBJECTS], ids=[row[0] for row in OBJECTS])
def test_an_object_gets_its_status_and_what_is_kept_is_what_came(node, uid, content, status):
    kept = set(node.hot_files())
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.message(3, raw.c_store(uid), content)
        fields, _ = peer.response()
        assert fields[0x0900] == struct.pack("<H", status), fields
        assert len(fields.get(0x0902, b"")) <= 64
        # The response names the instance of its request (PS3.7 9.1.1.1).
        assert fields[0x1000].decode().strip("\0 ") == uid.strip("\0 ")
        assert peer.echo_works()
    new = set(node.hot_files()) - kept
    assert [part10.data_set(path) for path in new] == ([content] if status == 0x0000 else [])
    if status == 0x0000:
        key = uid.strip("\0 ")
        answers, _ = scu.find(node, "IMAGE", StudyInstanceUID="", SeriesInstanceUID="", SOPInstanceUID=key)
        assert [str(answer.SOPInstanceUID) for answer in answers] == [key]


def test_each_study_without_a_patient_id_is_a_patient_of_its_own(node):
    # PS3.4 B.2.3 demands none; two strangers must never become one.
    for n in (1, 2):
        with Raw(node) as peer:
            peer.associate(CONTEXTS)
            uid = f"1.2.3.150.{n}"
            peer.message(3, raw.c_store(uid), raw.data_set(uid, patient="", study=f"1.2.3.151.{n}", series=f"1.2.3.152.{n}"))
            assert peer.status()[0] == 0x0000
    answers, _ = scu.find(node, "STUDY", "PATIENT", StudyInstanceUID=["1.2.3.151.1", "1.2.3.151.2"], PatientID="", NumberOfPatientRelatedStudies="")
    assert [int(answer.NumberOfPatientRelatedStudies) for answer in answers] == [1, 1]


def test_a_private_class_is_stored(node):
    # PS3.4 B.1: what a vendor's archive would take
    content = raw.data_set("1.2.3.160", sop_class=PRIVATE, study="1.2.3.161", series="1.2.3.162")
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.message(5, raw.c_store("1.2.3.160", sop_class=PRIVATE), content)
        assert peer.status()[0] == 0x0000
    answers, _ = scu.find(node, "IMAGE", StudyInstanceUID="1.2.3.161", SeriesInstanceUID="", SOPInstanceUID="", SOPClassUID="")
    assert [str(answer.SOPClassUID) for answer in answers] == [PRIVATE]


# name with its section, elements of the command that differ, status
COMMANDS = [
    ("E.1 message id 0", {"x0110": 0}, 0x0000),
    ("E.1 message id 65535", {"x0110": 65535}, 0x0000),
    ("9.1.1.1 a priority that there is not", {"x0700": 77}, 0x0000),
    ("9.1.1.1 another data set type that says there is one", {"x0800": 0x0000}, 0x0000),
    ("9.1.1.1 a Move Originator that nobody knows", {"x1030": "DICOOGLE-STORAGE", "x1031": 9}, 0x0000),
    ("9.1.1.1 an empty Move Originator", {"x1030": "", "x1031": 0}, 0x0000),
]


@pytest.mark.parametrize("number, differ, status", [(n, *row[1:]) for n, row in enumerate(COMMANDS)], ids=[f"PS3.7 {row[0]}" for row in COMMANDS])
def test_a_command_that_differs_from_the_usual(node, number, differ, status):
    uid = f"1.2.3.170.{number}"
    fields = {"x0002": CT, "x0100": 0x0001, "x0110": 1, "x0700": 0, "x0800": 0x0001, "x1000": uid, **differ}
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.message(3, raw.command(**fields), raw.data_set(uid))
        answer, _ = peer.response()
        assert (answer[0x0900], answer[0x0120]) == (struct.pack("<H", status), struct.pack("<H", fields["x0110"]))
        assert peer.echo_works()


def test_a_store_without_a_data_set_is_a_failure_and_the_association_lives(node):
    # PS3.7 9.1.1: the data set is mandatory; 0101 says that there is none.
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        peer.message(3, raw.command(x0002=CT, x0100=0x0001, x0110=4, x0700=0, x0800=0x0101, x1000="1.2.3.180"))
        fields, _ = peer.response()
        assert fields[0x0120] == b"\x04\0" and fields[0x0900][1] in (0xA9, 0xC0), fields
        assert peer.echo_works()


@pytest.mark.parametrize("intruder", [raw.pdv(3, raw.c_store("1.2.3.191"), command=True), raw.pdv(1, raw.c_echo(), command=True), raw.pdv(5, b"data")],
                         ids=["another C-STORE", "a C-ECHO on another context", "data on another context"])
def test_what_comes_before_a_data_set_has_ended_is_aborted_and_nothing_is_kept(node, intruder):
    # PS3.8 annex E: a message is sent whole before the next; 2/5 unexpected PDU parameter
    kept = len(node.hot_files())
    with Raw(node) as peer:
        peer.associate(CONTEXTS)
        half = image("1.2.3.190")[:30_000]
        peer.send(raw.pdu(P_DATA, raw.pdv(3, raw.c_store("1.2.3.190"), command=True)) + raw.pdu(P_DATA, raw.pdv(3, half, last=False)) + raw.pdu(P_DATA, intruder))
        kind, body = peer.receive()
        assert (kind, tuple(body[2:4])) == (ABORT, (2, 5))
    wait_until(lambda: not node.incoming_files(), "an empty incoming/")
    assert len(node.hot_files()) == kept

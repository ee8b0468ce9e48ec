"""Bad input costs its sender a named status or message and nobody else anything: after each case the node serves on."""

import struct

import pytest
from harness import dcmtk, raw, scu
from harness.node import Node
from harness.ports import wait_until
from harness.raw import ABORT, CT, Raw, c_find, c_store, data_set, explicit


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("bad") / "node") as running:
        yield running


@pytest.fixture(autouse=True)
def serves_on(node):
    yield
    assert node.process.poll() is None, node.log()[-3000:]
    with Raw(node) as peer:
        peer.associate()
        assert peer.echo_works()
    assert node.get("/health/ready")[0] == 200
    assert "panicked" not in node.log()


def assert_aborted(peer):
    """An A-ABORT from the service provider (PS3.8 9.3.8, source 2), then the end."""
    kind, body = peer.receive()
    assert kind == ABORT and body[2] == 2, (kind, body)
    with pytest.raises((EOFError, ConnectionError)):
        peer.receive()


@pytest.mark.parametrize("content", [bytes(range(8, 256)) * 4, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506)],
                         ids=["random bytes", "HTTP", "TLS"])
def test_what_is_no_pdu_is_aborted(node, content):
    with Raw(node) as peer:
        peer.send(content)
        assert_aborted(peer)


def test_a_pdu_of_four_gigabytes_is_aborted_before_it_is_read(node):
    with Raw(node) as peer:
        peer.send(struct.pack(">BBI", 1, 0, 0xFFFFFFFF) + bytes(100))
        assert_aborted(peer)


def test_random_bytes_in_the_middle_of_an_association(node):
    with Raw(node) as peer:
        peer.associate()
        peer.send(b"\xde\xad\xbe\xef" * 64)
        assert_aborted(peer)


def test_an_abort_in_the_middle_of_an_object_leaves_nothing(node):
    with Raw(node) as peer:
        peer.associate()
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, c_store("1.2.3.77"), command=True)))
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, data_set("1.2.3.77"), last=False)))
        peer.send(raw.pdu(ABORT, bytes(4)))
    wait_until(lambda: not node.incoming_files(), "an empty incoming/")
    assert scu.find(node, "IMAGE", StudyInstanceUID="1.2.3.1", SeriesInstanceUID="1.2.3.2", SOPInstanceUID="1.2.3.77") == ([], 0x0000)


def test_a_lost_peer_in_the_middle_of_an_object_leaves_nothing(node):
    with Raw(node) as peer:
        peer.associate()
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, c_store("1.2.3.78"), command=True)))
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(3, data_set("1.2.3.78"), last=False)))
    wait_until(lambda: not node.incoming_files(), "an empty incoming/")


NESTED = b"".join(struct.pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) for _ in range(100_000))

# name, SOP Instance UID of the command, data set, status, part of the Error Comment
STORES = [
    ("cut short in the header", "1.2.3.4", data_set("1.2.3.4")[:-3], 0xC000, "cut short"),
    ("cut short in the pixels", "1.2.3.4", data_set("1.2.3.4", extra=struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 1000) + bytes(10)), 0xC000, "cut short"),
    ("100,000 levels of nesting", "1.2.3.4", data_set("1.2.3.4") + NESTED, 0xC000, "nest"),
    ("an element length of 0xFFFFFFFE", "1.2.3.4", data_set("1.2.3.4", extra=struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, 0xFFFFFFFE)), 0xC000, ""),
    ("a text of 0xFFFFFFF0 bytes", "1.2.3.4", data_set("1.2.3.4", extra=struct.pack("<HH2sHI", 0x0040, 0xA160, b"UT", 0, 0xFFFFFFF0)), 0xC000, ""),
    ("garbage as data set", "1.2.3.4", b"\xff" * 5000, 0xC000, ""),
    ("an empty data set", "1.2.3.4", b"", None, ""),
    ("a path as SOP Instance UID", "../../etc/passwd", data_set("../../etc/passwd"), None, "UID"),
    ("a SOP Instance UID of 66 characters", "1." + "2" * 64, data_set("1." + "2" * 64), None, "UID"),
    ("no SOP Instance UID in the command", "", data_set("1.2.3.4"), None, "UID"),
    ("another SOP Instance UID in the data set", "1.2.3.5", data_set("1.2.3.4"), 0xA900, ""),
    ("another SOP class in the data set", "1.2.3.4", data_set("1.2.3.4", sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900, ""),
    ("no Study Instance UID", "1.2.3.4", data_set("1.2.3.4", study=""), 0xA900, ""),
    ("a path as Study Instance UID", "1.2.3.4", data_set("1.2.3.4", study="../../x"), 0xA900, ""),
    ("NUL and SQL as Series Instance UID", "1.2.3.4", data_set("1.2.3.4", series="1.2'; DROP TABLE objects;--"), 0xA900, ""),
]


@pytest.mark.parametrize("uid, content, status, comment", [case[1:] for case in STORES], ids=[case[0] for case in STORES])
def test_a_bad_object_gets_its_status_and_the_association_lives(node, uid, content, status, comment):
    with Raw(node) as peer:
        peer.associate()
        peer.message(3, c_store(uid), content)
        got, text = peer.status()
        if status is None:
            assert got in (0xA900, 0x0117, 0xC000), hex(got)
        else:
            assert got == status, (hex(got), text)
        assert comment in text and len(text) <= 64, text
        assert peer.echo_works()
    wait_until(lambda: node.incoming_files() == [], "an empty incoming/")
    assert node.hot_files() == []


SQL = "x' OR '1'='1'; DROP TABLE patients; --"


@pytest.mark.parametrize("text", [SQL.encode(), b"A\0B", b"%", b"_" * 64, b"[a-z]*", b"\\", b"\xff\xfe\xfd", b"*" * 200, b"A" * 60000],
                         ids=["SQL", "NUL", "percent", "underscores", "brackets", "backslash", "high bytes", "stars", "60 kB"])
def test_no_query_key_is_more_than_text(node, text):
    keys = [(0x0008, 0x0020, "DA"), (0x0008, 0x0030, "TM"), (0x0008, 0x0050, "SH"), (0x0008, 0x0061, "CS"), (0x0008, 0x0090, "PN"), (0x0008, 0x1030, "LO"),
            (0x0010, 0x0010, "PN"), (0x0010, 0x0020, "LO"), (0x0010, 0x0030, "DA"), (0x0020, 0x000D, "UI"), (0x0020, 0x0010, "SH")]
    with Raw(node) as peer:
        peer.associate()
        for group, number, vr in keys:
            identifier = [((0x0008, 0x0052), explicit(0x0008, 0x0052, "CS", b"STUDY")), ((group, number), explicit(group, number, vr, text))]
            peer.message(5, c_find(), b"".join(content for _, content in sorted(identifier)))
            status, comment = peer.status()
            assert status in (0x0000, 0xA900, 0xA700, 0xC000), (hex(status), comment, vr)
        assert peer.echo_works()


def test_a_query_that_is_no_data_set(node):
    with Raw(node) as peer:
        peer.associate()
        peer.message(5, c_find(), b"\x01\x02\x03")
        status, _ = peer.status()
        assert status & 0xF000 in (0xA000, 0xC000)
        assert peer.echo_works()


def test_an_unknown_command_is_answered_0211(node):
    with Raw(node) as peer:
        peer.associate()
        peer.message(1, raw.command(x0002=raw.VERIFICATION, x0100=0x0777, x0110=5, x0800=0x0101))
        assert peer.status()[0] == 0x0211
        assert peer.echo_works()


def test_a_context_that_was_never_accepted_is_aborted(node):
    with Raw(node) as peer:
        peer.associate()
        peer.message(77, raw.c_echo())
        assert_aborted(peer)


def test_a_wrong_called_ae_title_is_rejected_1_1_7(node):
    with Raw(node) as peer:
        peer.send(raw.associate_rq([(1, raw.VERIFICATION, [raw.IMPLICIT])], called="SOMEBODYELSE"))
        kind, body = peer.receive()
        assert (kind, tuple(body[1:4])) == (raw.ASSOCIATE_RJ, (1, 1, 7))


def test_non_patient_objects_are_refused_at_negotiation(node):
    with Raw(node) as peer:
        hanging_protocol = "1.2.840.10008.5.1.4.38.1"
        answer = peer.associate([(1, raw.VERIFICATION, [raw.IMPLICIT]), (3, hanging_protocol, [raw.EXPLICIT])])
        # Presentation Context Item 21H: id, reserved, result (PS3.8 9.3.3.2).
        results = {answer[i + 4]: answer[i + 6] for i in range(len(answer) - 6) if answer[i] == 0x21 and answer[i + 1] == 0 and answer[i + 4] in (1, 3)}
        assert results[1] == 0 and results[3] == 3


def test_a_misspelt_key_in_the_configuration_is_explained(tmp_path):
    node = Node(tmp_path / "n", sections='[hot]\nevict_afer = "90d"\n')
    for command in (["check-config"], ["serve"]):
        done = node.command(*command, check=False)
        assert done.returncode != 0
        assert "has no key evict_afer: did you mean evict_after?" in done.stderr
        assert "line " in done.stderr


def test_a_second_node_on_the_data_directory_refuses_to_start(node):
    done = node.command("serve", check=False, timeout=30)
    assert done.returncode != 0
    assert "another filmroom serves this data directory" in done.stderr


def test_s3_refusing_the_key_is_told_and_disturbs_nobody(tmp_path, node):
    import os

    from harness import sample

    cold = f'[cold]\nurl = "s3://nothing-here"\nendpoint = "{os.environ["FILMROOM_TEST_S3"]}"\noffload_after = "0s"\ncheck_interval = "200ms"\n'
    wrong = {"AWS_ACCESS_KEY_ID": "wrong", "AWS_SECRET_ACCESS_KEY": "wrong"}
    study, paths = sample.make_study(tmp_path / "study", images=2)
    with Node(tmp_path / "refused", sections=cold, environment=wrong) as refused:
        dcmtk.dcmsend(refused, *paths)
        done = refused.command("offload", study, check=False)
        assert done.returncode != 0
        assert "refuse" in done.stderr.lower(), done.stderr
        # Storing and retrieving go on; nothing unverified leaves the disk.
        assert len(scu.find(refused, "STUDY", StudyInstanceUID=study)[0]) == 1
        assert refused.command("evict", study, check=False).stdout.find(" 0 bytes") >= 0 or len(refused.hot_files()) == 2
        assert len(refused.hot_files()) == 2

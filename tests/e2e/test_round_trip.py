"""Every valid patient-related file goes in by C-STORE in its own transfer syntax and comes back by C-MOVE and C-GET, data sets byte-identical."""

import hashlib

import pydicom
import pytest
from harness import dcmtk, part10, sample, scu
from harness.node import Node

# getscu 3.6.7 proposes Explicit VR Little Endian in place of these two; pynetdicom gets them in the wave tests.
UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
NOT_BY_GETSCU = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.2"}

WAVES = sample.waves(sample.valid_files())


def by_uid(paths, of=lambda path: str(pydicom.dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID)):
    return {of(path): path for path in paths}


def studies_of(paths):
    return sorted({str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in paths})


def come_back_by_get(node, tmp_path, sent):
    """`sent`: SOP Instance UID → digest of the data set's bytes as the node got them, and the file."""
    paths = [path for _, path in sent.values()]
    contexts = scu.contexts_of(paths)
    for start in range(0, len(contexts), 120):
        scu.get(node, tmp_path / "got", contexts[start : start + 120], StudyInstanceUID=studies_of(paths))
    got = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "got").iterdir()}
    assert got == {uid: digest for uid, (digest, _) in sent.items()}


def move_all(node, title, sent):
    for study in studies_of([path for _, path in sent.values()]):
        responses = scu.move(node, title, StudyInstanceUID=study)
        assert responses[-1][0].Status == 0x0000, (study, responses[-1])


@pytest.mark.parametrize("wave", range(len(WAVES)))
def test_sent_by_pynetdicom_byte_for_byte(tmp_path, catalogue_url, wave):
    paths = WAVES[wave]
    with scu.Destination(tmp_path / "destination") as destination, Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}) as node:
        statuses = scu.store(node, paths)
        assert {p.name: s for p, s in statuses.items() if s != 0x0000} == {}
        stored = {part10.digest(path) for path in node.hot_files()}
        assert stored == {part10.digest(path) for path in paths}
        sent = {uid: (part10.on_the_wire(path), path) for uid, path in by_uid(paths).items()}
        assert node.status()["instances"] == len(sent)
        move_all(node, destination.title, sent)
        assert destination.digests() == {uid: digest for uid, (digest, _) in sent.items()}
        come_back_by_get(node, tmp_path, sent)


def test_sent_by_dcmtk_in_its_own_syntax(node, destination, tmp_path):
    # DCMTK writes data sets anew when it reads them; what the node received is what has to come back.
    # It cannot read one of them: a sequence in explicit VR whose VR is not SQ.
    known = set(dcmtk.PROPOSE)
    paths = [path for path in WAVES[0] if str(scu.meta(path).TransferSyntaxUID) in known and path.name != "Tag-0040-A170-VR-CS.dcm"]
    assert len(paths) > 60
    dcmtk.dcmsend(node, *paths)
    received = {}
    for path in node.hot_files():
        uid = str(pydicom.dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID)
        received[uid] = (part10.digest(path), path)
    assert set(received) == set(by_uid(paths))
    for uid, original in by_uid(paths).items():
        # dcmsend lets the acceptor choose among the uncompressed syntaxes; compressed ones go as they are.
        stored, own = (str(scu.meta(path).TransferSyntaxUID) for path in (received[uid][1], original))
        assert stored == own or {stored, own} <= UNCOMPRESSED, original.name
    move_all(node, destination.title, received)
    assert {uid: part10.digest(path) for uid, path in by_uid(destination.files()).items()} == {uid: digest for uid, (digest, _) in received.items()}
    come_back_by_get(node, tmp_path, received)


@pytest.mark.parametrize("syntax", sorted(set(dcmtk.PROPOSE) - NOT_BY_GETSCU))
def test_storescu_and_getscu_one_syntax_each(sqlite_node, tmp_path, syntax):
    paths = [path for wave in WAVES for path in wave if str(scu.meta(path).TransferSyntaxUID) == syntax]
    if not paths:
        pytest.skip("no fixture in this syntax")
    path = paths[0]
    dcmtk.storescu(sqlite_node, path, syntax)
    study = studies_of([path])[0]
    # getscu takes one compressed syntax by the same letter with a plus sign.
    dcmtk.getscu(sqlite_node, tmp_path / "got", options=[dcmtk.PROPOSE[syntax].replace("-", "+")], StudyInstanceUID=study)
    (hot,) = sqlite_node.hot_files()
    (got,) = (tmp_path / "got").iterdir()
    assert part10.digest(got) == part10.digest(hot)


def test_import_takes_the_same_files(tmp_path, catalogue_url):
    with Node(tmp_path / "node", catalogue_url) as node:
        done = node.command("import", *WAVES[0])
        assert f"{len(WAVES[0])} imported, 0 refused" in done.stdout
        digests = {part10.digest(path) for path in node.hot_files()}
        assert digests == {part10.digest(path) for path in WAVES[0]}

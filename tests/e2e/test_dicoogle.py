"""Dicoogle, a PACS on dcm4che 2, in its own PDUs, as they were seen on the wire: it sends to the node, and takes what the node sends.

As SCU it proposes each SOP class twice, in Implicit VR Little Endian and in the syntax of its file; copies files byte for byte, so that a last value may be of
odd length; calls itself DICOOGLE-STORAGE as Move Originator whoever asked; and gives up on an answer that takes ten seconds. As SCP it has a list of classes
and syntaxes that is some years old.
"""

import struct
import time
from io import BytesIO

import pydicom
import pytest
from harness import part10, raw, sample, scu, stream
from harness.node import Node
from harness.rawscp import RawScp

IMPLICIT, EXPLICIT, JPEG_BASELINE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
SEGMENTATION, US = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.3.1"

# Real files that a study might have: JPEG, JPEG 2000, RLE, an uncompressed one, one in Implicit VR, a deflated report.
FILES = ["ts/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm", "ts/JPEG2000.dcm", "ts/D_CLUNIE_CT1_RLE_FRAGS.dcm", "ct/CT_small.dcm", "mr_series/MR01.dcm",
         "ts/report_dfl.dcm", "us/examples_ybr_color.dcm"]

# PS3.7 D.3.3.2 and D.3.3.3: the version name of dcm4che 2, and an asynchronous window without limits.
USER = raw.item(0x53, struct.pack(">HH", 0, 0)) + raw.item(0x55, b"dcm4che-2.0")
# It waits for an answer for ten seconds and looks whether they are over every ten.
PATIENCE = 10


class DicoogleScu(raw.Raw):
    """The C-MOVE of Dicoogle on the other side: one association, two contexts a class, everything in PDUs of 16 KB."""

    def propose(self, kinds):
        self.contexts, proposed = {}, []
        for sop_class, syntax in sorted(set(kinds)):
            for one in dict.fromkeys([IMPLICIT, syntax]):
                if (sop_class, one) not in self.contexts:
                    self.contexts[sop_class, one] = len(proposed) * 2 + 1
                    proposed.append((self.contexts[sop_class, one], sop_class, [one]))
        return self.associate(proposed, calling="DICOOGLE", implementation=b"1.2.40.0.13.1.1", user=USER)

    def store(self, message, sop_class, syntax, uid, content):
        """Sends one object; the status, and how long it took to come."""
        command = raw.command(x0002=sop_class, x0100=0x0001, x0110=message, x0700=0, x0800=0x0001, x1000=uid, x1030="DICOOGLE-STORAGE", x1031=message)
        since = time.monotonic()
        self.message(self.contexts[sop_class, syntax], command, content, fragment=16384 - 6)
        return self.status()[0], time.monotonic() - since


def test_what_dicoogle_sends_is_kept_as_it_is(tmp_path):
    paths = [sample.FIXTURES / name for name in FILES]
    metas = {path: scu.meta(path) for path in paths}
    contents = {path: part10.data_set(path) for path in paths}
    # As deflating leaves it: without the NUL that makes the length even (PS3.5 A.5).
    report = paths[FILES.index("ts/report_dfl.dcm")]
    contents[report] = contents[report].removesuffix(b"\0")
    assert len(contents[report]) % 2 == 1
    with Node(tmp_path / "node") as node:
        with DicoogleScu(node) as dicoogle:
            contexts, user = raw.accepted(dicoogle.propose((str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID)) for m in metas.values()))
            assert contexts == {number: (0, syntax) for (_, syntax), number in dicoogle.contexts.items()}
            # Given a window it would pipeline.
            assert 0x53 not in user
            for message, (path, m) in enumerate(metas.items(), 1):
                status, _ = dicoogle.store(message, str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID), str(m.MediaStorageSOPInstanceUID), contents[path])
                assert status == 0x0000, path.name
        assert sorted(part10.data_set(path) for path in node.hot_files()) == sorted(contents.values())


def test_dicoogle_is_answered_within_its_patience_under_load(tmp_path):
    with Node(tmp_path / "node") as node, DicoogleScu(node, timeout=60) as dicoogle:
        others = [stream.Sender(node, stream.images(60, series=n), calling=f"CT{n}") for n in range(1, 7)]
        for other in others:
            other.start()
        dicoogle.propose([(raw.CT, EXPLICIT)])
        longest = 0
        for message, (uid, content) in enumerate(stream.images(40, series=9), 1):
            status, took = dicoogle.store(message, raw.CT, EXPLICIT, uid, content)
            assert status == 0x0000
            longest = max(longest, took)
        for other in others:
            other.join()
            assert other.error is None and len(other.acknowledged) == 60
        print(f"longest answer under load: {longest:.2f} s")
        assert longest < PATIENCE / 2


# What a fresh Dicoogle takes: syntaxes, and the classes that its list does not have.
TAKES = {IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
         "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.100"}
NOT_IN_ITS_LIST = {SEGMENTATION, "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.88.34"}


def dicoogle_scp(title="DICOOGLE"):
    return RawScp(title, accepts=lambda sop_class, syntax: sop_class not in NOT_IN_ITS_LIST and syntax in TAKES, max_pdu=17364, max_associations=50)


def counters(status):
    return tuple(getattr(status, f"NumberOf{name}Suboperations") for name in ("Completed", "Failed", "Warning"))


@pytest.fixture
def study(tmp_path):
    """Two images that it takes, a segmentation that it does not, and an ultrasound image in a syntax that is not in its list."""
    uid, cts = sample.make_study(tmp_path / "ct", images=2)
    _, (seg,) = sample.make_study(tmp_path / "seg", images=1, template="seg_rt/liver.dcm", study_uid=uid)
    _, (us,) = sample.make_study(tmp_path / "us", images=1, template="us/examples_ybr_color.dcm", study_uid=uid)
    assert str(scu.meta(us).TransferSyntaxUID) == JPEG_BASELINE
    return uid, [*cts, seg, us]


def test_dicoogle_gets_what_it_takes_and_the_rest_is_listed(tmp_path, study):
    uid, paths = study
    ct1, ct2, seg, us = (str(scu.meta(path).MediaStorageSOPInstanceUID) for path in paths)
    with dicoogle_scp() as dicoogle, Node(tmp_path / "node", None, {dicoogle.title: dicoogle.port}) as node:
        assert set(scu.store(node, paths).values()) == {0x0000}
        final, identifier = scu.move(node, dicoogle.title, StudyInstanceUID=uid)[-1]
        # PS3.4 C.4.2.1.5: sub-operations complete with failures, each of them named. Nothing makes a segmentation another class.
        assert final.Status == 0xB000
        assert counters(final) == (3, 1, 0)
        assert identifier.FailedSOPInstanceUIDList == seg
        assert set(dicoogle.stored) == {ct1, ct2, us}
        assert dicoogle.stored[ct1] == (raw.CT, EXPLICIT, part10.data_set(paths[0]))
        # What it does not take as JPEG Baseline comes decompressed.
        sop_class, syntax, content = dicoogle.stored[us]
        assert (sop_class, syntax) == (US, EXPLICIT)
        came = pydicom.filereader.read_dataset(BytesIO(content), is_implicit_VR=False, is_little_endian=True)
        assert len(came.PixelData) == came.Rows * came.Columns * came.SamplesPerPixel * int(came.NumberOfFrames)
        assert max(dicoogle.pdus) <= 17364 and dicoogle.error is None
        # The association is one, and says for whom it is (PS3.7 9.1.1.1).
        assert [title for title, _, _ in dicoogle.proposals] == ["FILMROOM"]
        assert {fields[0x1030].strip() for fields in dicoogle.commands} == {b"PYNETDICOM"}


def test_dicoogle_refuses_another_title_than_its_own(tmp_path, study):
    uid, paths = study
    with dicoogle_scp("OTHERNAME") as dicoogle, Node(tmp_path / "node", None, {"DICOOGLE": dicoogle.port}) as node:
        scu.store(node, paths)
        final, _ = scu.move(node, "DICOOGLE", StudyInstanceUID=uid)[-1]
        assert final.Status == 0xA702 and counters(final) == (0, 4, 0)
        assert "called AE title not recognized (1/1/7)" in node.log()

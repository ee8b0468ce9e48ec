"""Transcoding on retrieve: what a peer does not take in its stored transfer syntax is sent in one that it takes, without loss, or fails alone.

The pixels are compared with those that another toolkit decodes (pydicom with pylibjpeg).
"""

import re
import threading
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from harness import dcmtk, sample, scu
from harness.dcmtk import StoreScp
from harness.node import Node
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import generate_uid

# An element that was stored as UN has no VR that anybody could know, and stays UN.
pydicom.config.replace_un_with_known_vr = False

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
NATIVE = {IMPLICIT, EXPLICIT, BIG, "1.2.840.10008.1.2.1.99"}
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
# Two decoders of JPEG with loss differ by rounding, and more where they interpolate subsampled colour differently.
ROUNDING = {JPEG: 10, "1.2.840.10008.1.2.4.51": 3, "1.2.840.10008.1.2.4.91": 1, "1.2.840.10008.1.2.4.203": 1}
JPEG_12, DEFLATED_FRAMES = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.8.1"
DECODED = {"1.2.840.10008.1.2." + end for end in ("5", "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.201", "4.202", "4.203", "8.1")}

TS = sample.FIXTURES / "ts"


def syntax(path):
    return str(scu.meta(path).TransferSyntaxUID)


def study(folder, paths):
    """Copies of files as the instances of one study: some of the fixtures are versions of one instance, or have no study."""
    folder.mkdir()
    uid, copies = generate_uid(), []
    for number, path in enumerate(paths):
        data_set = pydicom.dcmread(path)
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = uid, generate_uid()
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        copies.append(folder / f"{number:03}-{path.name}")
        data_set.save_as(copies[-1])
    return uid, copies


def fixtures(syntaxes):
    """Whole files in some transfer syntaxes, those that lack UIDs only with them."""
    return [path for path in [*sample.valid_files(), *sorted(TS.glob("HTJ2K*"))] if syntax(path) in syntaxes]


def received(folder):
    """SOP Instance UID to data set, of the files in a folder."""
    sets = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    return {str(data_set.SOPInstanceUID): data_set for data_set in sets}


WORDS = {"OW": "u2", "OF": "u4", "OL": "u4", "OD": "u8", "OV": "u8"}


def words(data_set, vr, value):
    """pydicom gives such values as they are stored; in little endian they can be compared."""
    big = data_set.original_encoding[1] is False
    return np.frombuffer(value, (">" if big else "<") + WORDS[vr]).astype("<" + WORDS[vr]).tobytes()


def same_elements(one, other, path="", ignored=()):
    """Two data sets have the same elements; in implicit VR nothing tells the VR of private ones."""
    tags = lambda data_set: [e.tag for e in data_set if e.tag.element != 0 and e.tag not in ignored]
    assert tags(one) == tags(other), path
    for tag in tags(one):
        a, b = one[tag], other[tag]
        if a.VR == "SQ" and b.VR == "SQ":
            assert len(a.value) == len(b.value), (path, tag)
            for x, y in zip(a.value, b.value):
                same_elements(x, y, f"{path}/{tag}")
        elif a.VR == b.VR and tag != 0x7FE00010:
            left, right = a.value, b.value
            if isinstance(left, bytes):
                if a.VR in WORDS:
                    left, right = words(one, a.VR, left), words(other, a.VR, right)
                left, right = left.rstrip(b"\0"), right.rstrip(b"\0")
            assert left == right or str(left) == str(right), (path, tag)


def test_getscu_gets_what_is_stored_in_implicit_vr_in_the_context_that_it_offers(sqlite_node, tmp_path):
    """DCMTK's getscu has one context a class, with Explicit and Implicit VR, of which one is chosen."""
    # It proposes no trial class.
    uid, paths = study(tmp_path / "study", [path for path in fixtures({IMPLICIT}) if path.name != "Tag-0040-A170-VR-CS.dcm"])
    assert len(paths) >= 5
    assert set(scu.store(sqlite_node, paths).values()) == {0x0000}
    dcmtk.getscu(sqlite_node, tmp_path / "got", StudyInstanceUID=uid)
    got = received(tmp_path / "got")
    for path in paths:
        original = pydicom.dcmread(path)
        other = got[str(original.SOPInstanceUID)]
        assert other.file_meta.TransferSyntaxUID == EXPLICIT
        same_elements(original, other, path.name)


def moved(tmp_path, paths, accept, setting="", status=0x0000):
    """Stores a study and moves it to a DCMTK destination that accepts some transfer syntaxes; what it received, and the metrics."""
    uid, copies = study(tmp_path / "study", paths)
    with StoreScp(tmp_path / "destination", accept=accept) as destination:
        node = Node(tmp_path / "node", None, {destination.title: destination.port})
        node.config.write_text(node.config.read_text() + setting)
        with node:
            assert set(scu.store(node, copies).values()) == {0x0000}
            final, identifier = scu.move(node, destination.title, StudyInstanceUID=uid)[-1]
            assert final.Status == status, node.log()[-3000:]
            metrics = node.get("/metrics")[1]
            return copies, received(tmp_path / "destination"), final, identifier, metrics, node.log()


@pytest.mark.parametrize("accept, expected, setting", [
    ("+xi", {IMPLICIT}, ""),
    ("+xe", {EXPLICIT, IMPLICIT, BIG}, ""),
    ("+xb", {BIG}, 'transfer_syntaxes = ["ExplicitVRBigEndian"]'),
])
def test_native_objects_reach_a_destination_that_takes_another_native_syntax(tmp_path, accept, expected, setting):
    paths = [path for path in fixtures(NATIVE) if path.stat().st_size < 300_000]
    copies, got, *_ = moved(tmp_path, paths, accept, setting)
    for path in copies:
        original = pydicom.dcmread(path)
        other = got[str(original.SOPInstanceUID)]
        assert other.file_meta.TransferSyntaxUID in expected
        same_elements(original, other, path.name)
        if "PixelData" in original and "Rows" in original:
            assert np.array_equal(original.pixel_array, other.pixel_array), path.name


def reference(path, data_set):
    """The pixels as other toolkits decode them."""
    if syntax(path) == JPEG_12:
        dcmtk.run("dcmdjpeg", path, path.with_suffix(".native"))
        return pydicom.dcmread(path.with_suffix(".native")).pixel_array.astype(np.int64)
    pixels = data_set.pixel_array.astype(np.int64)
    if data_set.PixelRepresentation == 0:
        # JPEG 2000 with loss may come out of it beyond Bits Stored; pydicom masks that when it reads native pixels, not when it decodes.
        pixels &= (1 << data_set.BitsStored) - 1
    return pixels


def test_every_compressed_object_reaches_a_destination_that_takes_only_implicit_vr(tmp_path):
    """Issue: a destination that takes only Implicit VR Little Endian."""
    paths = fixtures(DECODED)
    copies, got, _, _, metrics, _ = moved(tmp_path, paths, "+xi")
    assert len(paths) >= 20 and {syntax(path) for path in paths} >= DECODED - {HTJ2K_RPCL}
    assert "filmroom_transcode_seconds" in metrics
    wrong = {}
    for path in copies:
        original = pydicom.dcmread(path)
        other = got[str(original.SOPInstanceUID)]
        assert other.file_meta.TransferSyntaxUID == IMPLICIT
        same_elements(original, other, path.name, ignored={0x00280004, 0x00280006, 0x7FE00001, 0x7FE00002})
        lossy_colour = syntax(path) == JPEG and original.SamplesPerPixel == 3
        transformed = original.PhotometricInterpretation in ("YBR_RCT", "YBR_ICT") or lossy_colour
        assert other.PhotometricInterpretation == ("RGB" if transformed else original.PhotometricInterpretation), path.name
        if original.SamplesPerPixel > 1:
            assert other.PlanarConfiguration == 0
        if syntax(path) == DEFLATED_FRAMES:
            inflated = [zlib.decompress(frame, -15) for frame in generate_frames(original.PixelData, number_of_frames=int(original.NumberOfFrames))]
            assert other.PixelData.rstrip(b"\0") == b"".join(inflated).rstrip(b"\0")
            continue
        expected, found = reference(path, original), other.pixel_array.astype(np.int64)
        assert expected.shape == found.shape, path.name
        difference = int(np.abs(expected - found).max())
        # What is inside says Baseline, whatever the transfer syntax says.
        rounding = 1 if path.name.endswith("sample-op.dcm") else ROUNDING.get(syntax(path), 0)
        if difference > rounding:
            wrong[path.name] = (difference, original.PhotometricInterpretation)
    assert not wrong


def failed(identifier):
    uids = identifier.FailedSOPInstanceUIDList
    return {uids} if isinstance(uids, str) else set(map(str, uids))


def uid_of(path):
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_the_preferred_syntaxes_of_a_destination_are_honoured_where_nothing_is_lost(tmp_path):
    """It takes everything; JPEG Baseline leaves as it is, what is stored otherwise is not compressed for it but comes in its next preference."""
    paths = [TS / "SC_rgb_jpeg_dcmtk.dcm", TS / "MR_small_jp2klossless.dcm", TS / "MR_small_implicit.dcm", sample.FIXTURES / "ct/CT_small.dcm"]
    copies, got, *_ = moved(tmp_path, paths, "+xa", 'transfer_syntaxes = ["JPEGBaseline8Bit", "1.2.840.10008.1.2.1"]')
    assert [str(got[uid_of(path)].file_meta.TransferSyntaxUID) for path in copies] == [JPEG, EXPLICIT, EXPLICIT, EXPLICIT]
    # What needed no transcoding is byte for byte what was stored.
    for path in (copies[0], copies[3]):
        assert got[uid_of(path)].PixelData == pydicom.dcmread(path).PixelData


def test_video_is_left_alone_and_listed(tmp_path):
    (video,) = [path for path in sample.valid_files() if path.name == "mpeg2_photo.dcm"]
    copies, got, final, identifier, *_ = moved(tmp_path, [video, TS / "MR_small_jp2klossless.dcm"], "+xi", status=0xB000)
    assert failed(identifier) == {uid_of(copies[0])} and set(got) == {uid_of(copies[1])}
    assert "not accepted" in final.ErrorComment


def break_pixels(path):
    """Overwrites the headers of the first codestream of a file."""
    content = bytearray(path.read_bytes())
    start = max(content.find(b"\xff\xd8\xff"), content.find(b"\xff\x4f\xff\x51"))
    assert start > 0
    content[start + 4 : start + 68] = b"\x55" * 64
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG-LL.dcm"])
def test_a_broken_codestream_fails_only_its_own_sub_operation(tmp_path, name):
    """C-GET: the association of the requester lives on, and the other images come."""
    uid, copies = study(tmp_path / "study", [TS / name, TS / "MR_small_RLE.dcm", TS / "MR_small_jp2klossless.dcm"])
    break_pixels(copies[0])
    storage = sorted({str(scu.meta(path).MediaStorageSOPClassUID) for path in copies})
    with Node(tmp_path / "node") as node:
        assert set(scu.store(node, copies).values()) == {0x0000}
        responses = scu.get(node, tmp_path / "got", [(abstract, [IMPLICIT]) for abstract in storage], StudyInstanceUID=uid)
        final, identifier = responses[-1]
        assert final.Status == 0xB000 and failed(identifier) == {uid_of(copies[0])}
        assert "convertible" in final.ErrorComment
        assert sorted(path.stem for path in (tmp_path / "got").iterdir()) == sorted(uid_of(path) for path in copies[1:])
        assert "frame 1" in node.log()


class Watch(threading.Thread):
    """Peak resident memory of a process and of its children, in bytes."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.done, self.peaks = process, threading.Event(), {}

    def run(self):
        while not self.done.wait(0.02):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                pid = int(status.parent.name)
                if pid == self.process or f"\nPPid:\t{self.process}\n" in text:
                    if peak := re.search(r"VmHWM:\s+(\d+) kB", text):
                        self.peaks[pid] = int(peak[1]) * 1024

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.done.set()
        self.join()


def test_two_hundred_frames_of_jpeg_2000_are_transcoded_within_200_megabytes(tmp_path):
    """Issue: peak RSS while transcoding a 200-frame JPEG 2000 object to a destination that takes only Implicit VR Little Endian, node and codec together."""
    data_set = pydicom.dcmread(sample.FIXTURES / "ct/CT_small.dcm")
    noise = np.random.default_rng(1)
    frames = [(np.add.outer(np.arange(512), np.arange(512)) * 20 + noise.integers(0, 400, (512, 512))).astype(np.uint16) for _ in range(4)]
    encoded = [encode_array(frame, photometric_interpretation=2, use_mct=False) for frame in frames]
    data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    data_set.Rows = data_set.Columns = 512
    data_set.BitsAllocated = data_set.BitsStored = 16
    data_set.HighBit, data_set.PixelRepresentation, data_set.NumberOfFrames = 15, 0, 200
    data_set.PixelData = encapsulate([encoded[number % 4] for number in range(200)])
    data_set["PixelData"].VR = "OB"
    data_set.file_meta.TransferSyntaxUID = J2K
    data_set.save_as(tmp_path / "object.dcm")
    with StoreScp(tmp_path / "destination", accept="+xi") as destination:
        with Node(tmp_path / "node", None, {destination.title: destination.port}) as node:
            assert set(scu.store(node, [tmp_path / "object.dcm"]).values()) == {0x0000}
            with Watch(node.process.pid) as watch:
                final, _ = scu.move(node, destination.title, StudyInstanceUID=data_set.StudyInstanceUID)[-1]
            assert final.Status == 0x0000, node.log()[-3000:]
    (moved_object,) = received(tmp_path / "destination").values()
    assert moved_object.file_meta.TransferSyntaxUID == IMPLICIT
    assert moved_object.PixelData == b"".join(frames[number % 4].tobytes() for number in range(200))
    print(f"peak RSS of node and codec: {[peak / 1e6 for peak in watch.peaks.values()]} MB")
    assert len(watch.peaks) == 2 and sum(watch.peaks.values()) < 200_000_000

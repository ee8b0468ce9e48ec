"""Memory does not grow with an object's size: a multi-frame object is received, offloaded, evicted, recalled and moved within 150 MB."""

import hashlib
import os
import struct

import pytest
from harness import cold, raw, scu
from harness.dcmtk import StoreScp
from harness.node import Node

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
STUDY, SERIES, UID = "1.2.3.9.1", "1.2.3.9.2", "1.2.3.9.3"
CHUNK = hashlib.shake_128(b"frame").digest(1 << 20)


def send(node, megabytes):
    """Stores one object whose pixels never are in memory here either; returns the digest of its data set."""
    frames = b"".join([raw.explicit(0x0028, 0x0008, "IS", str(megabytes).encode())])
    head = raw.data_set(UID, study=STUDY, series=SERIES, sop_class=MULTI_FRAME, extra=frames)
    head += struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, megabytes << 20)
    digest = hashlib.sha256(head)
    with raw.Raw(node, timeout=300) as peer:
        answer = peer.associate([(1, MULTI_FRAME, (raw.EXPLICIT,))])
        assert answer
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, raw.c_store(UID, sop_class=MULTI_FRAME), command=True)))
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, head, last=False)))
        for _ in range(megabytes):
            digest.update(CHUNK)
            for start in range(0, len(CHUNK), 1 << 16):
                peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, CHUNK[start : start + (1 << 16)], last=False)))
        peer.send(raw.pdu(raw.P_DATA, raw.pdv(1, b"", last=True)))
        assert peer.status()[0] == 0x0000
    return digest.hexdigest()


def file_digest(path):
    """SHA-256 of the data set of a file too big to read at once."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        preface = file.read(144)
        (length,) = struct.unpack_from("<I", preface, 140)
        file.seek(144 + length)
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.parametrize("megabytes", [300, pytest.param(2048, marks=pytest.mark.long)])
def test_received_offloaded_evicted_recalled_and_moved_within_150_megabytes(tmp_path, megabytes):
    s3 = cold.client()
    bucket = cold.new_bucket(s3)
    with StoreScp(tmp_path / "destination") as destination:
        node = Node(tmp_path / "node", None, {destination.title: destination.port},
                    cold.section(bucket, os.environ["FILMROOM_TEST_S3"], timeout="30s"), environment=cold.ENVIRONMENT)
        with node:
            digest = send(node, megabytes)
            node.command("offload", STUDY, timeout=600)
            node.command("evict", STUDY)
            assert node.hot_files() == []
            final, _ = scu.move(node, destination.title, StudyInstanceUID=STUDY)[-1]
            assert final.Status == 0x0000, node.log()[-3000:]
            (moved,) = destination.files()
            assert file_digest(moved) == digest
            assert len(node.hot_files()) == 1
            peak = node.memory_peak()
            print(f"peak RSS with a {megabytes} MB object: {peak / 1e6:.1f} MB")
            assert peak < 150_000_000
    for key in cold.keys(s3, bucket):
        s3.delete_object(Bucket=bucket, Key=key)

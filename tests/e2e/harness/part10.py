"""Part 10 files without a toolkit: the data set's bytes, so that "byte-identical" means bytes."""

import hashlib
import struct


def data_set(path):
    """The bytes after the File Meta Information."""
    content = open(path, "rb").read()
    assert content[128:132] == b"DICM", path
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00", f"{path}: no group length"
    (length,) = struct.unpack_from("<I", content, 140)
    return content[144 + length :]


def digest(path):
    return hashlib.sha256(data_set(path)).hexdigest()


def on_the_wire(path):
    """The digest of the data set as it has to leave: one of odd length with the NUL that makes its last fragment even (PS3.8 E.2)."""
    content = data_set(path)
    return hashlib.sha256(content + b"\0" * (len(content) % 2)).hexdigest()

"""Many images over raw associations, and exactly which of them were acknowledged."""

import hashlib
import socket
import struct
import threading

from . import part10, raw
from .node import ROOT

TEMPLATE = ROOT / "fixtures/ct/CT_small.dcm"
SOP = b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
SERIES = b"1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"
STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


def images(count, series=1):
    """(SOP Instance UID, data set bytes) of distinct CT images of one series, made by replacing UIDs of equal length."""
    template = part10.data_set(TEMPLATE)
    assert SOP in template and SERIES in template
    series_uid = SERIES[:-5] + f"{10000 + series}".encode()
    template = template.replace(SERIES, series_uid)
    for n in range(count):
        uid = SOP[:-10] + f"{series:03}.{100000 + n}".encode()
        assert len(uid) == len(SOP)
        yield uid.decode(), template.replace(SOP, uid)


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Sender(threading.Thread):
    """One association that stores images one after the other until it is done or the peer is gone."""

    def __init__(self, node, objects, calling="CT1"):
        super().__init__(daemon=True)
        self.node, self.objects, self.calling = node, list(objects), calling
        self.acknowledged = {}
        self.answered = []
        self.error = None

    def run(self):
        try:
            with raw.Raw(self.node, timeout=120) as peer:
                peer.associate([(1, raw.CT, (raw.EXPLICIT,))], calling=self.calling)
                for n, (uid, content) in enumerate(self.objects):
                    store = raw.c_store(uid, message=n % 60000 + 1)
                    pieces = [content[i : i + 16000] for i in range(0, len(content), 16000)]
                    pdus = [raw.pdu(raw.P_DATA, raw.pdv(1, store, command=True))]
                    pdus += [raw.pdu(raw.P_DATA, raw.pdv(1, piece, last=i == len(pieces) - 1)) for i, piece in enumerate(pieces)]
                    peer.send(b"".join(pdus))
                    status, comment = peer.status()
                    self.answered.append((uid, status, comment))
                    if status == 0x0000:
                        self.acknowledged[uid] = digest(content)
                peer.send(raw.pdu(raw.RELEASE_RQ, bytes(4)))
                peer.receive()
        except (OSError, EOFError, struct.error, socket.timeout) as error:
            self.error = error


def send_all(senders):
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

"""Destinations that keep every arrival, so that what comes twice is seen: DCMTK's storescp and pynetdicom, one interface."""

import hashlib
from collections import Counter

import pydicom
from pynetdicom import AE, AllStoragePresentationContexts, evt

from . import part10, scu
from .dcmtk import StoreScp
from .ports import free_port


class ByStoreScp(StoreScp):
    """storescp that names each arrival anew."""

    def __init__(self, folder, title="DEST", **options):
        super().__init__(folder, title, options=("+uf",), **options)

    def arrivals(self):
        """(SOP Instance UID, digest of the data set) of each arrival."""
        # A file that is being written has no whole meta information yet.
        found = []
        for path in self.files():
            try:
                found.append((str(pydicom.filereader.read_file_meta_info(str(path)).MediaStorageSOPInstanceUID), part10.digest(path)))
            except (AssertionError, AttributeError, pydicom.errors.InvalidDicomError):
                continue
        return found

    def clear(self):
        for path in self.files():
            path.unlink()


class ByPynetdicom:
    """pynetdicom; `answer(n, event)` decides the status of the n-th request. A request counts as an arrival when it was answered with Success."""

    def __init__(self, title="KEEPER", answer=lambda n, event: 0x0000, syntaxes=None, port=None, contexts=None):
        self.title, self.port, self.answer = title, port or free_port(), answer
        self.requests, self._kept = [], []
        self.ae = AE(ae_title=title)
        self.ae.maximum_pdu_size = 131072
        for context in contexts or AllStoragePresentationContexts:
            self.ae.add_supported_context(context.abstract_syntax, syntaxes or context.transfer_syntax)
        self.server = None

    def __enter__(self):
        return self.start()

    def start(self):
        self.server = self.ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)])
        return self

    def _keep(self, event):
        self.requests.append(event.request)
        status = self.answer(len(self.requests), event)
        if status == 0x0000:
            digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
            self._kept.append((str(event.request.AffectedSOPInstanceUID), digest))
        return status

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server = None

    def __exit__(self, *exc):
        self.stop()

    def arrivals(self):
        return list(self._kept)

    def clear(self):
        self._kept.clear()
        self.requests.clear()

    def originators(self):
        """Move Originator of each request; None where there is none."""
        return [getattr(request, "MoveOriginatorApplicationEntityTitle", None) for request in self.requests]


def digests(paths):
    """SOP Instance UID → digest of the data set of files."""
    return {str(scu.meta(path).MediaStorageSOPInstanceUID): part10.digest(path) for path in paths}


def complete(destination, expected):
    """Whether everything expected has come."""
    return set(dict(destination.arrivals())) >= set(expected)


def assert_each_once(destination, expected):
    """Every image came exactly once, with the bytes that were stored; nothing else came. `expected` as of `digests`."""
    came = destination.arrivals()
    more = {uid: n for uid, n in Counter(uid for uid, _ in came).items() if n > 1}
    assert not more, f"{len(more)} images came more than once: {more}"
    assert dict(came) == expected

"""pynetdicom as a peer: sends files byte for byte, in any transfer syntax, and receives C-GET sub-operations."""

import hashlib
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from .ports import free_port

# Files go out as they are on disk, not decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.ENFORCE_UID_CONFORMANCE = False
_config.USE_SHORT_DIMSE_AET = True

FIND = {"STUDY": StudyRootQueryRetrieveInformationModelFind, "PATIENT": PatientRootQueryRetrieveInformationModelFind}
MOVE = {"STUDY": StudyRootQueryRetrieveInformationModelMove, "PATIENT": PatientRootQueryRetrieveInformationModelMove}
GET = {"STUDY": StudyRootQueryRetrieveInformationModelGet, "PATIENT": PatientRootQueryRetrieveInformationModelGet}


def meta(path):
    return pydicom.filereader.read_file_meta_info(str(path))


@contextmanager
def association(node, contexts, title="PYNETDICOM", called=None, handlers=(), roles=(), timeout=60, max_pdu=131072):
    """An association; `contexts` are (abstract syntax, transfer syntaxes)."""
    ae = AE(ae_title=title)
    ae.maximum_pdu_size = max_pdu
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    associated = ae.associate("127.0.0.1", node.port, ae_title=called or node.title, evt_handlers=list(handlers), ext_neg=list(roles))
    try:
        yield associated
    finally:
        if associated.is_established:
            associated.release()


def contexts_of(paths):
    """One context for each SOP class and transfer syntax among some files."""
    pairs = {(str(m.MediaStorageSOPClassUID), str(m.TransferSyntaxUID)) for m in map(meta, paths)}
    return [(abstract, [syntax]) for abstract, syntax in sorted(pairs)]


def store(node, paths, title="PYNETDICOM", **options):
    """C-STOREs files over one association (128 contexts at most) and returns path → status (None: not accepted or no answer)."""
    statuses = {}
    with association(node, contexts_of(paths), title=title, **options) as assoc:
        assert assoc.is_established, "association refused"
        for path in paths:
            try:
                statuses[path] = assoc.send_c_store(str(path)).get("Status")
            except (ValueError, RuntimeError):
                statuses[path] = None
    return statuses


class Destination:
    """A C-MOVE destination that takes every SOP class in every transfer syntax and keeps data sets as they come."""

    def __init__(self, folder, title="TAKESALL"):
        self.title, self.port, self.folder = title, free_port(), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        ae = AE(ae_title=self.title)
        ae.maximum_pdu_size = 131072

        def keep(event):
            (self.folder / str(event.request.AffectedSOPInstanceUID)).write_bytes(event.encoded_dataset(include_meta=False))
            return 0x0000

        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        _config.UNRESTRICTED_STORAGE_SERVICE = False

    def digests(self):
        """SOP Instance UID → digest of the data set's bytes."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.folder.iterdir()}


def identifier(level, **keys):
    data_set = pydicom.Dataset()
    data_set.QueryRetrieveLevel = level
    for key, value in keys.items():
        setattr(data_set, key, value)
    return data_set


def find(node, level, root="STUDY", **keys):
    """Answers and the final status."""
    answers = []
    with association(node, [(FIND[root], [pydicom.uid.ExplicitVRLittleEndian])]) as assoc:
        assert assoc.is_established
        for status, answer in assoc.send_c_find(identifier(level, **keys), FIND[root]):
            if answer is not None and status.Status in (0xFF00, 0xFF01):
                answers.append(answer)
        return answers, status.Status


def move(node, destination, level="STUDY", root="STUDY", **keys):
    """Every response of a C-MOVE: (status data set, identifier)."""
    with association(node, [(MOVE[root], [pydicom.uid.ExplicitVRLittleEndian])]) as assoc:
        assert assoc.is_established
        return list(assoc.send_c_move(identifier(level, **keys), destination, MOVE[root]))


def get(node, folder, storage, level="STUDY", root="STUDY", meta=False, **keys):
    """C-GETs into a folder, data sets or whole files; `storage` are the contexts to take images in. Returns every response."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def keep(event):
        request = event.request
        path = folder / f"{request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset(include_meta=meta))
        return 0x0000

    roles = [build_role(abstract, scp_role=True) for abstract in {abstract for abstract, _ in storage}]
    contexts = [(GET[root], [pydicom.uid.ExplicitVRLittleEndian]), *storage]
    with association(node, contexts, handlers=[(evt.EVT_C_STORE, keep)], roles=roles) as assoc:
        assert assoc.is_established
        return list(assoc.send_c_get(identifier(level, **keys), GET[root]))

"""pynetdicom as SCU of Storage Commitment: asks, listens for the report on a port of its own, or on the association that it keeps open."""

import threading

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from . import scu
from .ports import free_port, wait_until


def references(paths):
    """(SOP Class UID, SOP Instance UID) of some files."""
    return [(str(m.MediaStorageSOPClassUID), str(m.MediaStorageSOPInstanceUID)) for m in map(scu.meta, paths)]


def information(transaction, items):
    data_set = pydicom.Dataset()
    data_set.TransactionUID = transaction
    data_set.ReferencedSOPSequence = []
    for sop_class, sop_instance in items:
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        data_set.ReferencedSOPSequence.append(item)
    return data_set


class Report:
    """One N-EVENT-REPORT."""

    def __init__(self, event):
        information = event.event_information
        self.event_type = event.event_type
        self.transaction = str(information.TransactionUID)
        self.retrieve_ae = information.get("RetrieveAETitle")
        self.committed = {str(i.ReferencedSOPInstanceUID) for i in information.get("ReferencedSOPSequence", [])}
        self.failed = {str(i.ReferencedSOPInstanceUID): i.FailureReason for i in information.get("FailedSOPSequence", [])}
        self.acceptor = event.assoc.is_acceptor
        # On an association of the node's: who it says that it is.
        self.calling = str(event.assoc.requestor.ae_title).strip() if self.acceptor else None
        self.called = str(event.assoc.requestor.primitive.called_ae_title).strip() if self.acceptor else None
        roles = event.assoc.requestor.role_selection if self.acceptor else {}
        role = roles.get(StorageCommitmentPushModel)
        self.roles = (role.scu_role, role.scp_role) if role else None


class Requester:
    """An AE that asks for commitment and, while it listens, is told. `status` is how it answers reports."""

    def __init__(self, title="CT1", port=None, status=0x0000):
        self.title, self.port, self.status = title, port or free_port(), status
        self.reports = []
        self.server = None
        self._lock = threading.Lock()

    def _told(self, event):
        with self._lock:
            self.reports.append(Report(event))
        return self.status, None

    def listen(self):
        ae = AE(ae_title=self.title)
        ae.add_supported_context(StorageCommitmentPushModel, [ImplicitVRLittleEndian], scu_role=False, scp_role=True)
        self.server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._told)])
        return self

    def close(self):
        if self.server:
            self.server.shutdown()
            self.server = None

    def __enter__(self):
        return self.listen()

    def __exit__(self, *exc):
        self.close()

    def ask(self, node, items, transaction=None, keep_open=None, called=None, syntaxes=(ExplicitVRLittleEndian, ImplicitVRLittleEndian), sop_instance=None, action=1):
        """Asks; returns the Transaction UID and the status. `keep_open` is called while the association is still open."""
        transaction = transaction or generate_uid()
        handlers = [(evt.EVT_N_EVENT_REPORT, self._told)]
        with scu.association(node, [(StorageCommitmentPushModel, list(syntaxes))], title=self.title, called=called, handlers=handlers) as assoc:
            assert assoc.is_established, "association refused"
            status, _ = assoc.send_n_action(
                information(transaction, items) if not isinstance(items, pydicom.Dataset) else items, action, StorageCommitmentPushModel,
                sop_instance or StorageCommitmentPushModelInstance,
            )
            if keep_open:
                keep_open()
        return transaction, status.Status

    def report_of(self, transaction, count=1, timeout=60):
        """The last of the reports of a transaction, once there are so many."""

        def there():
            with self._lock:
                return len([r for r in self.reports if r.transaction == transaction]) >= count

        wait_until(there, f"{count} report(s) of {transaction}", timeout=timeout)
        with self._lock:
            return [r for r in self.reports if r.transaction == transaction][-1]

    def count(self, transaction):
        with self._lock:
            return len([r for r in self.reports if r.transaction == transaction])


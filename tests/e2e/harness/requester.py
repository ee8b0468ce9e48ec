"""A radiologist's C-MOVE, by DCMTK's movescu or by pynetdicom: the same call, the same answer."""

import re
import subprocess
import threading
import time
from dataclasses import dataclass

from . import dcmtk, scu
from .ports import wait_until

TITLES = {"movescu": "MOVESCU", "pynetdicom": "PYNETDICOM"}


@dataclass(frozen=True)
class Final:
    """The last response of a C-MOVE or C-GET, and how many Pendings came before it."""

    status: int
    completed: int
    failed: int
    warning: int
    comment: str
    failed_uids: tuple
    pendings: int

    @property
    def counters(self):
        return self.completed, self.failed, self.warning


def of_responses(responses):
    """From what pynetdicom yields."""
    status, identifier = responses[-1]
    uids = identifier.FailedSOPInstanceUIDList if identifier is not None and "FailedSOPInstanceUIDList" in identifier else []
    numbers = [int(status.get(f"NumberOf{name}Suboperations") or 0) for name in ("Completed", "Failed", "Warning")]
    return Final(status.Status, *numbers, str(status.get("ErrorComment", "")), (uids,) if isinstance(uids, str) else tuple(map(str, uids)), len(responses) - 1)


def of_movescu(done):
    """From what movescu -d prints."""
    received = (done.stdout + done.stderr).split("INCOMING DIMSE MESSAGE")[1:]
    last = received[-1]

    def number(name):
        found = re.search(rf"{name} Suboperations +: (\d+)", last)
        return int(found[1]) if found else 0

    status = int(re.search(r"DIMSE Status +: 0x([0-9a-f]{4})", last)[1], 16)
    comment = re.search(r"\(0000,0902\) LO \[(.*?)\]", last)
    uids = re.search(r"\(0008,0058\) UI \[(.*?)\]", last)
    return Final(status, number("Completed"), number("Failed"), number("Warning"), comment[1] if comment else "",
                 tuple(uids[1].split("\\")) if uids else (), len(received) - 1)


def move(client, node, destination, timeout=120, **keys):
    """A C-MOVE at study level by `client`, a key of TITLES."""
    if client == "movescu":
        return of_movescu(dcmtk.movescu(node, destination, check=False, timeout=timeout, **keys))
    return of_responses(scu.move(node, destination, **keys))


class Moving(threading.Thread):
    """A C-MOVE under way, for a test that turns the clock meanwhile."""

    def __init__(self, client, node, destination, **keys):
        super().__init__(daemon=True)
        self.arguments, self.keys, self.final, self.error = (client, node, destination), keys, None, None
        self.began = time.monotonic()
        self.start()

    def run(self):
        try:
            self.final = move(*self.arguments, **self.keys)
        except (AssertionError, OSError, IndexError, subprocess.SubprocessError) as error:
            self.error = error

    def ended(self, timeout=60):
        wait_until(lambda: not self.is_alive(), f"the end of the C-MOVE {self.arguments}", timeout=timeout)
        if self.error:
            raise self.error
        return self.final

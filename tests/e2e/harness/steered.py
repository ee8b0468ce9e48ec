"""The clock that the nodes of a test and the emulator share: a file with the seconds by which it is ahead of the system's."""

import datetime
import os


class Clock:
    def __init__(self, path):
        self.path, self.ahead = path, 0
        self._write()

    def _write(self):
        # Readers look at every use: it is replaced as a whole.
        draft = self.path.with_suffix(".new")
        draft.write_text(str(int(self.ahead)))
        os.replace(draft, self.path)

    def advance(self, **duration):
        """Turns the clock forward; arguments as of `timedelta`."""
        self.ahead += datetime.timedelta(**duration).total_seconds()
        self._write()

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=int(self.ahead))

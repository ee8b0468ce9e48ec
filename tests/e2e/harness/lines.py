"""A client program that is told what to do line by line: fields with tabs between them, answers of the same form, the last "done" or "failed"."""

import subprocess
import threading


class Failed(Exception):
    """The client says that it could not do it, and why."""


class LineClient:
    def __init__(self, command, log):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def ask(self, *fields, timeout=120):
        """The answer's lines, each a list of fields. A client that says nothing in time is ended."""
        self.process.stdin.write(("\t".join(map(str, fields)) + "\n").encode())
        self.process.stdin.flush()
        watchdog = threading.Timer(timeout, self.process.kill)
        watchdog.start()
        try:
            lines = []
            for line in self.process.stdout:
                name, *rest = line.decode().rstrip("\n").split("\t")
                if name == "done":
                    return lines
                if name == "failed":
                    raise Failed(rest[0])
                lines.append([name, *rest])
            raise AssertionError(f"the client ended at {fields[:3]}: {lines[-3:]}")
        finally:
            watchdog.cancel()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

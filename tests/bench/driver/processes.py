"""What a server costs, out of /proc: processor time and memory of its processes, its database's among them; and what it flushes, out of strace."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree(roots):
    """The processes below some, themselves among them."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds(roots):
    """User and system time so far, of what has ended and was waited for, too: a server that forks for each association has most of it there."""
    total = 0
    for pid in tree(roots):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICK


def resident(roots):
    """Bytes of memory: what each process has for itself, and what they share counted once, as its largest user has it."""
    own, files, shared = 0, [0], [0]
    for pid in tree(roots):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        of = {key: int(kb) * 1024 for key, kb in re.findall(r"^(Rss\w+):\s+(\d+) kB", status, re.M)}
        own += of.get("RssAnon", 0)
        files.append(of.get("RssFile", 0))
        shared.append(of.get("RssShmem", 0))
    return own + max(files) + max(shared)


class Meter:
    """Processor time and peak memory of some processes while it is open; memory is looked at ten times a second."""

    def __init__(self, roots):
        self.roots = roots
        self.peak = 0
        self.done = threading.Event()

    def __enter__(self):
        self.before = cpu_seconds(self.roots)
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while True:
            self.peak = max(self.peak, resident(self.roots))
            if self.done.wait(0.1):
                return

    def __exit__(self, *exc):
        self.cpu = cpu_seconds(self.roots) - self.before
        self.done.set()
        self.thread.join()


SYNCS = "fsync,fdatasync,sync_file_range,msync,syncfs"


def flushes(roots, folder, action):
    """What the processes flush while something happens: how often each kind of file. None where strace may not look."""
    log = Path(folder) / "strace.log"
    pids = tree(roots)
    arguments = [argument for pid in pids for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-y", "-e", f"trace={SYNCS}", "-o", str(log), *arguments], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not all(traced(pid) for pid in pids):
            if tracer.poll() is not None or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        action()
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
    counts = {}
    for name in re.findall(rf"(?:{SYNCS.replace(',', '|')})\(\d+<([^>]*)>", log.read_text(errors="replace")):
        kind = what(name)
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def traced(pid):
    """Whether strace has it; what has ended meanwhile needs none."""
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def what(name):
    """The kind of a file that was flushed, in a word."""
    if os.path.isdir(name):
        return "directory"
    if "pg_wal" in name or re.search(r"\.db|/index$|index\.|sqlite", name):
        return "database"
    return "file"

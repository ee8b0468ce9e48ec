"""Free ports and waiting on conditions.

The ports lie below those that the kernel gives to outgoing connections (32768 and up), else a connection of one test takes the port
between its choosing here and the node's `bind`. Each process of a test run has a block of them to itself, held by a lock on the block's file.
"""

import fcntl
import os
import random
import socket
import tempfile
import time
from pathlib import Path

FIRST, BLOCK, BLOCKS = 10240, 256, 88


class Ports:
    """The block of this process: its ports are given in turn, so that one just used rests the longest."""

    def __init__(self):
        folder = Path(tempfile.gettempdir()) / f"filmroom-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for block in random.sample(range(BLOCKS), BLOCKS):
            self.lock = open(folder / str(block), "w")
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                continue
            self.first, self.next = FIRST + block * BLOCK, 0
            return
        raise AssertionError(f"all {BLOCKS} blocks of test ports are taken")

    def free(self):
        for _ in range(BLOCK):
            port = self.first + self.next
            self.next = (self.next + 1) % BLOCK
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            return port
        raise AssertionError(f"no port is free from {self.first} on")


PORTS = None


def free_ports(count):
    """As many distinct free loopback ports. Nothing else of the tests takes them."""
    global PORTS
    PORTS = PORTS or Ports()
    return [PORTS.free() for _ in range(count)]


def free_port():
    return free_ports(1)[0]


def is_open(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition, what, timeout=30.0, interval=0.02):
    """Polls until the condition is true and returns its value; fails naming what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(interval)

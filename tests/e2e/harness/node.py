"""One filmroom: its configuration, its process, its command line."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from .ports import free_ports, is_open, wait_until

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("FILMROOM_BINARY", ROOT / "target/debug/filmroom"))


UNDOCUMENTED = "a status that the conformance statement does not have"

RUNNING = set()
"""Every node that was started and not yet ended, for the end of the session to end."""


class Node:
    """A node in a folder of its own. `destinations` maps AE titles to ports of the loopback interface (None: no address)."""

    def __init__(self, folder, catalogue_url=None, destinations=None, sections="", environment=None, title="FILMROOM"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.title = title
        self.port, self.http_port = free_ports(2)
        self.catalogue_url = catalogue_url or f"sqlite:{self.data}/catalogue.db"
        self.destinations = dict(destinations or {})
        self.sections = sections
        # Eviction is shown by asking for it, not by how full the disk of the machine happens to be.
        self.environment = {"FILMROOM_HOT__HIGH_WATERMARK": "100%", "FILMROOM_HOT__LOW_WATERMARK": "100%", **(environment or {})}
        self.process = None
        self.config = self.folder / "filmroom.toml"
        self.log_path = self.folder / "node.log"
        self.write_config()

    def write_config(self):
        text = f"""
[node]
ae_title = "{self.title}"
data_dir = "{self.data}"

[dicom]
listen = "127.0.0.1:{self.port}"
unknown_ae = "allow"

[catalogue]
url = "{self.catalogue_url}"

[http]
listen = "127.0.0.1:{self.http_port}"

{self.sections}
"""
        for title, port in self.destinations.items():
            text += f'\n[[ae]]\ntitle = "{title}"\n'
            if port:
                text += f'address = "127.0.0.1:{port}"\n'
        self.config.write_text(text)

    # -- the process --

    def spawn(self, wrapper=(), environment=None):
        """Starts without waiting for readiness."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [*wrapper, str(BINARY), "--config", str(self.config), "serve"],
            cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **self.environment, **(environment or {})},
        )
        log.close()
        RUNNING.add(self)
        return self

    def start(self, wrapper=(), environment=None, timeout=60):
        self.spawn(wrapper, environment)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log()[-3000:]}")
            return is_open(self.port) and is_open(self.http_port)

        wait_until(ready, f"the node on port {self.port}", timeout=timeout)
        return self

    def stop(self):
        """SIGTERM, and the node ends in order."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=60) == 0, self.log()[-3000:]

    def kill(self):
        """kill -9"""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        RUNNING.discard(self)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.kill()
        assert UNDOCUMENTED not in self.log(), "a response had a status that docs/conformance.md does not have: see the node's log"

    # -- what an operator does --

    def command(self, *arguments, check=True, timeout=120):
        done = subprocess.run([str(BINARY), "--config", str(self.config), *map(str, arguments)],
                              cwd=self.folder, capture_output=True, text=True, timeout=timeout, env={**os.environ, **self.environment})
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n--- node:\n{self.log()[-3000:]}"
        return done

    def status(self):
        return json.loads(self.command("status", "--json").stdout)

    def studies(self):
        return [json.loads(line) for line in self.command("studies", "--json").stdout.splitlines()]

    def quarantine(self):
        return [json.loads(line) for line in self.command("quarantine", "list", "--json").stdout.splitlines()]

    def get(self, path, timeout=10):
        """Status and body of an HTTP GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name, **labels):
        """Sum of a counter or gauge over all label sets that contain `labels`."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            found = re.match(r"([a-zA-Z_:]+)(?:\{(.*)\})? ([-0-9.e+]+)$", line)
            if found and found[1] == name:
                have = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if all(have.get(k) == v for k, v in labels.items()):
                    total += float(found[3])
        return total

    def counted(self, name, least, **labels):
        """Waits until the metric is at least this, and fails if it is then more: what is counted after an answer may come after it."""
        wait_until(lambda: self.metric(name, **labels) >= least, f"{name}{labels} to be {least}; it is {self.metric(name, **labels)}", timeout=10)
        assert self.metric(name, **labels) == least

    def hot_files(self):
        return sorted((self.data / "hot").rglob("*.dcm"))

    def incoming_files(self):
        return sorted((self.data / "incoming").iterdir())

    def memory_peak(self):
        """Peak resident memory of the process in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

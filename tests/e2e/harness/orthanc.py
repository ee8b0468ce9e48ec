"""Orthanc as a remote archive: it queries the node, retrieves from it to itself, stores to it, and is moved out of, driven by its REST interface."""

import json
import subprocess
import urllib.request
from pathlib import Path

from .ports import free_ports, is_open, wait_until


class Orthanc:
    def __init__(self, folder, title="ORTHB", **options):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.title = title
        self.options = options
        self.port, self.http_port = free_ports(2)

    def start(self, node):
        configuration = {
            "Name": self.title, "StorageDirectory": str(self.folder / "storage"), "IndexDirectory": str(self.folder / "storage"),
            "DicomAet": self.title, "DicomPort": self.port, "HttpPort": self.http_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomModalities": {"node": [node.title, "127.0.0.1", node.port]}, "Plugins": [], "DicomServerEnabled": True, "SslEnabled": False,
            "UnknownSopClassAccepted": True, **self.options,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        self.log = open(self.folder / "orthanc.log", "wb")
        self.process = subprocess.Popen(["/usr/sbin/Orthanc", str(path)], stdout=self.log, stderr=self.log, cwd=self.folder)
        wait_until(lambda: is_open(self.http_port) and is_open(self.port), "Orthanc")
        return self

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def request(self, method, path, body=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            content = response.read()
        try:
            return json.loads(content)
        except ValueError:
            return content

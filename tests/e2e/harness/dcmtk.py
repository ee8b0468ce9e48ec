"""DCMTK's tools as peers: every call is the real program with a time limit; its output is in the failure."""

import os
import subprocess
from pathlib import Path

from .ports import free_port, is_open, wait_until

# Without it DCMTK's small writes wait for delayed acknowledgements, 40 ms an image.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def run(*arguments, check=True, timeout=120, cwd=None):
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, cwd=cwd, errors="replace")
    if check:
        assert done.returncode == 0, f"{' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
    return done


def echo(node, check=True):
    return run("echoscu", "-v", "-aec", node.title, "127.0.0.1", node.port, check=check)


def dcmsend(node, *paths, check=True, timeout=300, aet="DCMSEND"):
    """Sends files in their own transfer syntaxes, as many presentation contexts as it takes."""
    return run("dcmsend", "-v", "-nh", "+sd", "+r", "-dn", "--no-uid-checks", "-aet", aet, "-aec", node.title, "127.0.0.1", node.port, *paths,
               check=check, timeout=timeout)


# storescu proposes one family of transfer syntaxes a run; the option that makes it propose a file's own.
PROPOSE = {
    "1.2.840.10008.1.2": "-xi", "1.2.840.10008.1.2.1": "-xe", "1.2.840.10008.1.2.2": "-xb", "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy", "1.2.840.10008.1.2.4.51": "-xx", "1.2.840.10008.1.2.4.70": "-xs", "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu", "1.2.840.10008.1.2.4.90": "-xv", "1.2.840.10008.1.2.4.91": "-xw", "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.100": "-xm", "1.2.840.10008.1.2.4.102": "-xn",
}


def storescu(node, path, syntax, check=True, aet="STORESCU"):
    return run("storescu", "-v", "-R", PROPOSE[syntax], "-aet", aet, "-aec", node.title, "127.0.0.1", node.port, path, check=check)


def keys(pairs):
    arguments = []
    for key, value in pairs.items():
        arguments += ["-k", f"{key}={value}" if value != "" else key]
    return arguments


def findscu(node, level, root="-S", folder=None, **pairs):
    """Answers of a C-FIND as pydicom data sets."""
    import pydicom

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run("findscu", root, "-X", "-aec", node.title, "127.0.0.1", node.port, "-k", f"QueryRetrieveLevel={level}", *keys(pairs), cwd=folder)
    answers = [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]
    for path in folder.glob("rsp*.dcm"):
        path.unlink()
    return answers


def movescu(node, destination, level="STUDY", root="-S", check=True, timeout=120, **pairs):
    return run("movescu", "-d", root, "-aec", node.title, "-aem", destination, "127.0.0.1", node.port, "-k", f"QueryRetrieveLevel={level}",
               *keys(pairs), check=check, timeout=timeout)


def getscu(node, folder, level="STUDY", root="-S", options=(), check=True, timeout=120, **pairs):
    Path(folder).mkdir(parents=True, exist_ok=True)
    return run("getscu", "-v", root, "+B", *options, "-aec", node.title, "-od", folder, "127.0.0.1", node.port,
               "-k", f"QueryRetrieveLevel={level}", *keys(pairs), check=check, timeout=timeout)


class StoreScp:
    """storescp: a C-MOVE destination that takes every transfer syntax, or those of one option, and writes data sets as they come."""

    def __init__(self, folder, title="DEST", options=(), accept="+xa"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.title = title
        self.port = free_port()
        self.options = [accept, *options]

    def __enter__(self):
        self.log = open(self.folder.parent / f"{self.title}.log", "wb")
        self.process = subprocess.Popen(["storescp", "-v", "-pm", "+B", "-aet", self.title, "-od", str(self.folder), *self.options, str(self.port)],
                                        stdout=self.log, stderr=self.log, env=ENVIRONMENT)
        wait_until(lambda: is_open(self.port), "storescp")
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def files(self):
        return sorted(path for path in self.folder.iterdir() if path.is_file())


class Archive:
    """dcmqrscp: a small archive that is queried and sends by C-MOVE and C-GET."""

    def __init__(self, folder, node, title="OLDPACS"):
        self.folder = Path(folder)
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        self.title = title
        self.port = free_port()
        self.node = node

    def __enter__(self):
        config = self.folder / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nnode = ({self.node.title}, 127.0.0.1, {self.node.port})\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.title} {self.folder / 'images'} RW (200, 1024mb) ANY\nAETable END\n")
        self.log = open(self.folder / "dcmqrscp.log", "wb")
        self.process = subprocess.Popen(["dcmqrscp", "-v", "-c", str(config)], stdout=self.log, stderr=self.log, env=ENVIRONMENT, cwd=self.folder)
        wait_until(lambda: is_open(self.port), "dcmqrscp")
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.log.close()

"""The servers that are measured, each started empty in a folder of its own. `best`: as fast as its settings make it; otherwise as it is shipped."""

import json
import os
import subprocess
from pathlib import Path

import psycopg
from harness.node import Node
from harness.ports import free_ports, is_open, wait_until

POSTGRES = os.environ.get("FILMROOM_TEST_POSTGRES", "")
DICOM_RS = os.environ.get("FILMROOM_BENCH_DICOM_RS", "")


def postmaster():
    """The process of PostgreSQL above all others."""
    return int((Path(os.environ["FILMROOM_BENCH_POSTGRES_DATA"]) / "postmaster.pid").read_text().split()[0])


class Database:
    """A database of its own on the server that all share; gone at the end."""

    made = 0

    def __init__(self):
        Database.made += 1
        self.name = f"bench_{os.getpid()}_{Database.made}"
        self._run(f"CREATE DATABASE {self.name}")
        # What the run before left to be written is not this one's to pay.
        self._run("CHECKPOINT")
        self.url = POSTGRES.rsplit("/", 1)[0] + f"/{self.name}"
        self.port = int(POSTGRES.rsplit(":", 1)[1].split("/")[0])

    def drop(self):
        self._run(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    @staticmethod
    def _run(statement):
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(statement)


class Filmroom:
    """Ourselves. `sections`: of its configuration."""

    title = "FILMROOM"

    def __init__(self, folder, best, sink, database="sqlite", sections="", environment=None):
        self.database = Database() if database == "postgres" else None
        # A scrub would read beside what is measured, and miss the files of generated catalogues.
        sections += '\n[scrub]\nhot_every = "never"\ncold_every = "never"\n'
        self.node = Node(folder, catalogue_url=self.database and self.database.url, destinations={"SINK": sink},
                         sections=sections, environment=environment)
        self.sink = sink

    def start(self):
        self.node.start()
        self.port = self.node.port
        self.pids = [self.node.process.pid] + ([postmaster()] if self.database else [])

    def stop(self):
        self.node.kill()
        if self.database:
            self.database.drop()


class Program:
    """A peer that is one program on one port."""

    title = "ANY"
    database = None

    def __init__(self, folder, best, sink):
        self.folder, self.best, self.sink = Path(folder), best, sink
        self.folder.mkdir(parents=True)
        self.port, self.other_port = free_ports(2)

    def start(self):
        environment = dict(os.environ)
        environment.pop("TCP_NODELAY", None)
        if self.best:
            # DCMTK's own switch, Orthanc's too: otherwise each answer waits 40 ms for the sender's delayed acknowledgement.
            environment["TCP_NODELAY"] = "1"
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(self.command(), env=environment, cwd=self.folder, stdout=self.log, stderr=self.log)
        self.pids = [self.process.pid] + ([postmaster()] if self.database else [])
        wait_until(self.is_ready, f"{type(self).__name__}, see {self.folder / 'log'}", timeout=60)

    def is_ready(self):
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
        return is_open(self.port)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        if self.database:
            self.database.drop()


class Orthanc(Program):
    title = "ORTHANC"
    postgres = False

    def command(self):
        configuration = {
            "Name": "BENCH", "StorageDirectory": str(self.folder / "storage"), "IndexDirectory": str(self.folder / "index"),
            "DicomAet": self.title, "DicomPort": self.port, "HttpPort": self.other_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True, "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False, "DicomModalities": {"sink": ["SINK", "127.0.0.1", self.sink]}, "UnknownSopClassAccepted": True, "Plugins": [],
        }
        if self.postgres:
            self.database = Database()
            configuration["Plugins"] = ["/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"]
            configuration["PostgreSQL"] = {
                "EnableIndex": True, "EnableStorage": False, "Host": "127.0.0.1", "Port": self.database.port, "Database": self.database.name,
                "Username": "postgres", "Password": "", "EnableSsl": False, "Lock": False,
            }
            if self.best:
                # Several get in each other's way and answer slower.
                configuration["PostgreSQL"]["IndexConnectionsCount"] = 1
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        return ["/usr/sbin/Orthanc", str(path)]


class OrthancPostgres(Orthanc):
    postgres = True


class Dcmqrscp(Program):
    title = "QRSCP"

    def command(self):
        (self.folder / "images").mkdir()
        path = self.folder / "dcmqrscp.cfg"
        path.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = {131072 if self.best else 16384}\nMaxAssociations = 32\n"
            f"HostTable BEGIN\nsink = (SINK, 127.0.0.1, {self.sink})\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.title} {self.folder / 'images'} RW (500, 4096mb) ANY\nAETable END\n")
        return ["dcmqrscp", "-c", str(path)]


class Storescp(Program):
    def command(self):
        (self.folder / "images").mkdir()
        return ["storescp", "--fork", *(["+B", "-pdu", "131072"] if self.best else []), "-od", str(self.folder / "images"), str(self.port)]


class DicomRs(Program):
    def command(self):
        (self.folder / "images").mkdir()
        best = ["--max-pdu-length", "131072"] if self.best else []
        return [DICOM_RS, "--non-blocking", "--promiscuous", *best, "-o", str(self.folder / "images"), "-p", str(self.port)]


class Least(Program):
    """Ours, and no archive: what no node can do less of."""

    def command(self):
        return [os.environ["FILMROOM_BENCH"], "least", "--port", str(self.port), "--directory", str(self.folder)]


def filmroom(database):
    return lambda folder, best, sink, **more: Filmroom(folder, best, sink, database=database, **more)


# Name, how to make one, what it can do beside storing.
SERVERS = {
    "filmroom, SQLite": (filmroom("sqlite"), {"find", "retrieve"}),
    "filmroom, PostgreSQL": (filmroom("postgres"), {"find", "retrieve"}),
    "Orthanc, SQLite": (Orthanc, {"find", "retrieve"}),
    "Orthanc, PostgreSQL": (OrthancPostgres, {"find", "retrieve"}),
    "dcmqrscp": (Dcmqrscp, {"retrieve"}),
    "storescp (no index)": (Storescp, set()),
    "dicom-rs storescp (no index)": (DicomRs, set()),
}


def is_ours(name):
    return name.startswith("filmroom")


def chosen(options, ability=None):
    """The servers that are asked for and can do it."""
    return [name for name, (_, abilities) in SERVERS.items()
            if (ability is None or ability in abilities) and (not options.only or any(part in name for part in options.only))]

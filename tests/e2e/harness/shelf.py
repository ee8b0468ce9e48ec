"""A node with a cold store that a test may damage behind its back: S3 (the emulator), or a directory."""

import hashlib
import json
import os
import sqlite3
import subprocess
import uuid
from pathlib import Path

from . import cold, sample, scu
from .emulator import Emulator
from .node import Node


class Bucket:
    """The emulator's bucket, by keys below the node's prefix."""

    archives = True

    def __init__(self, folder):
        self.emulator = Emulator(folder)

    def __enter__(self):
        self.emulator.start()
        # Without a checksum of its own an object gets the CRC-64 that S3 gives it.
        self.client = self.emulator.client(checksums="when_required")
        self.environment = self.emulator.environment
        self.section = cold.section(self.emulator.bucket, self.emulator.endpoint, interval="100ms")
        return self

    def __exit__(self, *exc):
        self.emulator.kill()

    def keys(self, prefix="", suffix=""):
        return sorted(key.removeprefix("archive/") for key in self.emulator.objects("archive/" + prefix) if key.endswith(suffix))

    def read(self, key):
        return self.client.get_object(Bucket=self.emulator.bucket, Key="archive/" + key)["Body"].read()

    def write(self, key, content):
        options = {"StorageClass": "INTELLIGENT_TIERING"} if key.endswith(".zip") else {}
        self.client.put_object(Bucket=self.emulator.bucket, Key="archive/" + key, Body=content, **options)

    def remove(self, key):
        self.client.delete_object(Bucket=self.emulator.bucket, Key="archive/" + key)


class Directory:
    """A directory, such as a NAS mount."""

    archives = False

    def __init__(self, folder):
        self.folder = Path(folder)
        self.environment = {}
        self.section = f'[cold]\nurl = "file://{folder}"\ncheck_interval = "100ms"\noffload_after = "1h"\n'

    def __enter__(self):
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *exc):
        pass

    def keys(self, prefix="", suffix=""):
        files = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(key for key in files if key.startswith(prefix) and key.endswith(suffix))

    def read(self, key):
        return (self.folder / key).read_bytes()

    def write(self, key, content):
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, key):
        (self.folder / key).unlink()


STORES = {"s3": Bucket, "directory": Directory}


class Shelf:
    """The node, its cold store, and studies by name."""

    def __init__(self, folder, store, catalogue_url, destinations=None, sections=""):
        self.folder, self.store = folder, store
        # What is planted is for fsck to repair.
        sections = "\n[scrub]\nrepair = false\n" + sections
        self.node = Node(folder / "node", catalogue_url, destinations, store.section + sections, environment=store.environment)
        self.studies, self.paths = {}, {}

    def study(self, name, images=2, **options):
        """Stores a study."""
        study, paths = sample.make_study(self.folder / "sent" / name, images=images, patient_id=name, **options)
        assert set(scu.store(self.node, paths).values()) == {0x0000}
        self.studies[name], self.paths[name] = study, paths
        return study

    def offload(self, *names):
        for name in names:
            self.node.command("offload", self.studies[name])

    def evict(self, *names):
        for name in names:
            self.node.command("evict", self.studies[name])

    def pack(self, name):
        """Key of the only pack of a study."""
        (key,) = self.store.keys(f"{self.studies[name]}/", ".zip")
        return key

    def manifest(self, name):
        return self.pack(name).removesuffix(".zip") + ".json.zst"

    def hot(self, name):
        """Files of a study on the disk, by the SOP Instance UID of each."""
        files = {}
        for path in self.node.hot_files():
            header = sample.read(path)
            if header.StudyInstanceUID == self.studies[name]:
                files[str(header.SOPInstanceUID)] = path
        return [files[uid] for uid in sorted(files)]

    def sql(self, *statements):
        """Changes the catalogue behind the back of a node that does not run."""
        assert self.node.process is None or self.node.process.poll() is not None
        if self.node.catalogue_url.startswith("sqlite:"):
            connection = sqlite3.connect(self.node.catalogue_url.removeprefix("sqlite:"), timeout=20)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.close()
            return
        import psycopg

        with psycopg.connect(self.node.catalogue_url) as connection:
            for statement in statements:
                connection.execute(statement)

    def everything(self):
        """The digest of every hot file and of every object in the cold store."""
        hot = {str(path.relative_to(self.node.data)): path.read_bytes() for path in (self.node.data / "hot").rglob("*") if path.is_file()}
        objects = {key: self.store.read(key) for key in self.store.keys()}
        return {name: hashlib.sha256(content).hexdigest() for name, content in {**hot, **objects}.items()}


def told(manifest):
    """What a manifest says, whenever it was written."""
    said = json.loads(subprocess.run(["zstd", "-dcq"], input=manifest, capture_output=True, check=True).stdout)
    said["described"].pop("at")
    return said


def about(manifest, key):
    """The manifest of the same pack under another key."""
    said = json.loads(subprocess.run(["zstd", "-dcq"], input=manifest, capture_output=True, check=True).stdout)
    said["pack"]["key"] = key
    return subprocess.run(["zstd", "-cq"], input=json.dumps(said).encode(), capture_output=True, check=True).stdout


def flip(path, offset=-1):
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    # Written in place: the file keeps its inode, as bit rot has it.
    with open(path, "r+b") as file:
        file.write(content)


def flipped(content, offset=-1):
    content = bytearray(content)
    content[offset] ^= 0x10
    return bytes(content)


def new_object_id():
    """As the node makes them (UUIDv7), of now."""
    import time

    raw = int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10)
    number = int.from_bytes(raw, "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=number)


def hot_path(data, object_id):
    """Where the file of an object belongs."""
    import datetime

    made = datetime.datetime.fromtimestamp((object_id.int >> 80) / 1000, datetime.timezone.utc)
    return data / "hot" / made.strftime("%Y-%m-%d") / made.strftime("%H") / f"{object_id}.dcm"

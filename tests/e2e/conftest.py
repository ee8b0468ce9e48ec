"""Fixtures: a node on each database, peers, and the real files."""

import csv
import os
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness.dcmtk import StoreScp  # noqa: E402
from harness.emulator import Emulator  # noqa: E402
from harness.node import ROOT, RUNNING, Node  # noqa: E402

FIXTURES = ROOT / "fixtures"

# What others may write to is not imported by hard link.
os.umask(0o022)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run what takes long as well: sweeps, power cuts, large objects")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: tests/run --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


def pytest_sessionfinish():
    """A test that failed may have left its node or its emulator running."""
    for node in list(RUNNING):
        node.kill()


def new_database():
    """URL of a new, empty PostgreSQL database."""
    import psycopg

    server = os.environ["FILMROOM_TEST_POSTGRES"]
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{server.rsplit('/', 1)[0]}/{name}", name


def drop_database(name):
    import psycopg

    with psycopg.connect(os.environ["FILMROOM_TEST_POSTGRES"], autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgres"])
def catalogue_url(request):
    """None for the embedded database, a URL for PostgreSQL."""
    if request.param == "sqlite":
        yield None
    else:
        url, name = new_database()
        yield url
        drop_database(name)


@pytest.fixture
def destination(tmp_path):
    with StoreScp(tmp_path / "destination") as scp:
        yield scp


@pytest.fixture
def node(tmp_path, catalogue_url, destination):
    """A running node that knows one destination, on SQLite and on PostgreSQL."""
    with Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}) as running:
        yield running


@pytest.fixture
def sqlite_node(tmp_path, destination):
    """The same on SQLite only, for what does not depend on the database."""
    with Node(tmp_path / "node", None, {destination.title: destination.port}) as running:
        yield running


@pytest.fixture
def emulator(tmp_path):
    """An S3 with archive tiers, with the bucket `images` and the queue `events`, whose clock the test turns."""
    with Emulator(tmp_path / "emulator") as running:
        yield running


@pytest.fixture(scope="session")
def sources():
    """The fixtures' index: path to its row."""
    with open(FIXTURES / "SOURCES.tsv", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}

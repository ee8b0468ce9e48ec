"""docs/tour.md does what it says: its commands, typed by a shell, with three servers in place of the containers."""

import os
import re
import signal
import subprocess

import pytest
from conftest import drop_database, new_database
from harness.emulator import Emulator
from harness.node import BINARY, ROOT, Node
from harness.ports import free_port

TOUR = ROOT / "docs/tour.md"
SETTINGS = ROOT / "docs/tour.toml"
VIEWER = "viewer:11113"


class TourNode(Node):
    """A node with the tour's configuration file; where it listens and what it uses comes from the environment, as in docker-compose.yml."""

    def __init__(self, folder, viewer_port, environment):
        self.viewer_port = viewer_port
        super().__init__(folder)
        self.environment = {
            "FILMROOM_NODE__DATA_DIR": str(self.data), "FILMROOM_DICOM__LISTEN": f"127.0.0.1:{self.port}",
            "FILMROOM_HTTP__LISTEN": f"127.0.0.1:{self.http_port}", **environment,
        }

    def write_config(self):
        settings = SETTINGS.read_text()
        assert VIEWER in settings
        self.config.write_text(settings.replace(VIEWER, f"127.0.0.1:{self.viewer_port}"))


@pytest.fixture
def servers(tmp_path):
    """What `docker compose up` starts: database, emulator, node."""
    url, database = new_database()
    viewer_port = free_port()
    with Emulator(tmp_path / "emulator") as emulator:
        environment = {"FILMROOM_CATALOGUE__URL": url, "FILMROOM_COLD__ENDPOINT": emulator.endpoint,
                       "FILMROOM_COLD__EVENTS_QUEUE": emulator.queue_url(), **emulator.environment}
        with TourNode(tmp_path / "node", viewer_port, environment) as node:
            yield node, emulator, viewer_port
    drop_database(database)


def commands():
    """The shell blocks of the tour, but for those that start and stop containers."""
    return re.findall(r"^```sh\n(.*?)^```$", TOUR.read_text(), re.MULTILINE | re.DOTALL)


def test_the_tour_retrieves_a_study_from_deep_archive(tmp_path, servers):
    node, emulator, viewer_port = servers
    folder = tmp_path / "typed"
    folder.mkdir()
    (folder / "fixtures").symlink_to(ROOT / "fixtures")
    prologue = (f'set -e\nfilmroom() {{ "{BINARY}" --config "{node.config}" "$@"; }}\n'
                f'NODE="127.0.0.1 {node.port}" EMULATOR={emulator.endpoint} VIEWER_PORT={viewer_port}\n')
    marked = [f"echo '== {number}'\n{block}" for number, block in enumerate(commands())]
    script = folder / "tour.sh"
    script.write_text(prologue + "".join(marked))
    transcript = folder / "transcript"
    with open(transcript, "wb") as out:
        shell = subprocess.Popen(["bash", str(script)], cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
                                 env={**os.environ, **node.environment, "TCP_NODELAY": "1"})
    try:
        code = shell.wait(timeout=240)
    except subprocess.TimeoutExpired:
        code = "no end"
    finally:
        # What it left running in the background.
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        shell.wait()
    text = transcript.read_text(errors="replace")
    assert code == 0, f"{code}\n{text[-6000:]}\n--- node:\n{node.log()[-3000:]}"
    told = re.split(r"^== \d+$", text, flags=re.MULTILINE)[1:]
    told = dict(zip(["wait", "bucket", "viewer", "store", "leave", "months", "asked", "delivered", "again", "end"], told, strict=True))

    assert told["bucket"].count("written") == 3 and "DENIED" not in told["bucket"]
    assert "ONLINE" in told["store"] and "ONLINE" in told["leave"]
    assert "NEARLINE" in told["months"]
    assert "a702" in told["asked"] and "4 archived, ready " in told["asked"] and "sent then" in told["asked"], told["asked"]
    assert "Success" in told["again"] and told["again"].count(".1.2.840.") + told["again"].count("MR.") >= 4, told["again"]
    accepted = [asked for asked in emulator.counters()["restores"] if asked["outcome"] == "accepted"]
    assert len(accepted) == 1, "one restore, however often it is asked for"

"""The embedded catalogue moves to PostgreSQL, and a catalogue that is lost is not taken for one that is new."""

import json
import re
import threading

import pytest
from conftest import drop_database, new_database
from harness import sample, scu
from harness.node import Node
from test_rebuild import Hospital, cold_section, decisions, differing, everything


@pytest.fixture
def database():
    url, name = new_database()
    yield url
    drop_database(name)


def refused(node):
    """What a node says that does not start."""
    node.spawn()
    assert node.process.wait(timeout=60) != 0
    return node.log()


def test_the_embedded_catalogue_moves_to_postgresql_while_the_node_runs(tmp_path, emulator, database):
    with Node(tmp_path / "node", sections=cold_section(emulator), environment=emulator.environment) as node:
        hospital = Hospital(tmp_path, node)
        hospital.fill()
        copied = threading.Event()

        def keep_storing():
            number = 0
            while not copied.is_set() or number < 5:
                _, paths = hospital.make(f"meanwhile-{number}", images=2, patient_id=f"M{number}")
                hospital.send(*paths)
                number += 1

        storing = threading.Thread(target=keep_storing)
        storing.start()
        first = json.loads(node.command("catalogue", "copy", database, "--json").stdout)
        copied.set()
        storing.join()
        assert first["rows"] > 100 and first["handed_over"] is False
        answers, decided = everything(node, hospital.files), decisions(node)

        # Until it has been handed over, the copy is nobody's catalogue.
        other = Node(tmp_path / "other", database)
        assert "not complete" in refused(other)

        node.stop()
        last = json.loads(node.command("catalogue", "copy", database, "--json").stdout)
        assert last["rows"] > first["rows"] and last["handed_over"] is True
        assert "set catalogue.url to that" in refused(node)
        assert node.command("catalogue", "copy", database, check=False).returncode != 0

        node.catalogue_url = database
        node.write_config()
        node.start()
        (swept,) = re.findall(r"adopted: \d+, removed: \d+, restored: \d+, left: \d+", node.log().split("not complete")[-1])[-1:]
        assert swept == "adopted: 0, removed: 0, restored: 0, left: 0"
        now = everything(node, hospital.files)
        assert now == answers, differing(answers, now)
        now = decisions(node)
        assert now == decided, differing(decided, now)
        study, paths = hospital.make("afterwards", images=2)
        hospital.send(*paths)
        scu.get(node, tmp_path / "got", scu.contexts_of(paths), StudyInstanceUID=study)
        assert len(list((tmp_path / "got").iterdir())) == 2


def test_a_node_with_images_does_not_start_on_an_empty_catalogue(tmp_path):
    with Node(tmp_path / "node") as node:
        study, paths = sample.make_study(tmp_path / "study", images=2)
        assert set(scu.store(node, paths).values()) == {0x0000}
        before = everything(node, paths)
        node.stop()
        for file in node.data.glob("catalogue.db*"):
            file.unlink()
        assert "filmroom rebuild" in refused(node)
        assert len(node.hot_files()) == 2
        node.command("rebuild")
        node.start()
        now = everything(node, paths)
        assert now == before, differing(before, now)

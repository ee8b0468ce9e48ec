"""The plug is pulled while images come in: kill -9 at random moments, an exit at every step of the commit, and a power cut after which the disk has
forgotten what was not flushed. After each restart every acknowledged image is found and retrievable with the right bytes, nothing half-written is served,
and incoming/ is clean."""

import random
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from harness import dcmtk, part10, stream
from harness.node import ROOT, Node
from harness.ports import wait_until

STEPS = [
    "incoming::after_fdatasync", "commit::before_rename", "commit::after_rename", "commit::after_dir_fsync", "commit::before_catalogue",
    "commit::after_catalogue", "commit::before_answer",
]


def batch(node, run, images, associations=4):
    """Senders of images that no other run sends."""
    return [stream.Sender(node, stream.images(images, series=run * associations + a)) for a in range(associations)]


def assert_kept(node, tmp_path, sent, acknowledged):
    """`sent` and `acknowledged`: SOP Instance UID → digest."""
    assert node.incoming_files() == []
    folder = tmp_path / f"got{time.monotonic_ns()}"
    dcmtk.getscu(node, folder, StudyInstanceUID=stream.STUDY, timeout=300)
    got = {}
    for path in folder.iterdir():
        got[path.name] = part10.digest(path)
        path.unlink()
    missing = set(acknowledged) - set(got)
    assert not missing, f"{len(missing)} acknowledged images are lost, such as {sorted(missing)[0]}"
    wrong = {uid for uid, digest in got.items() if sent.get(uid) != digest}
    assert not wrong, f"{len(wrong)} images are served with bytes that nobody sent"
    # What is served is what is counted.
    assert node.status()["instances"] == len(got)


def sent_by(senders):
    return {uid: stream.digest(content) for sender in senders for uid, content in sender.objects}


def acknowledged_by(senders):
    return {uid: digest for sender in senders for uid, digest in sender.acknowledged.items()}


def kill_sweep(node, tmp_path, kills, images, seed=20261124):
    chance = random.Random(seed)
    sent, acknowledged = {}, {}
    for run in range(kills):
        node.start()
        senders = batch(node, run, images)
        sent.update(sent_by(senders))
        for sender in senders:
            sender.start()
        # Anywhere from the first image to the last but one: by progress, so that a slow machine is hit as well.
        target = chance.randrange(1, 4 * images - 4)
        wait_until(lambda: sum(len(s.answered) for s in senders) >= target or not any(s.is_alive() for s in senders), "progress", timeout=120, interval=0.001)
        time.sleep(chance.random() * 0.01)
        node.kill()
        for sender in senders:
            sender.join()
        acknowledged.update(acknowledged_by(senders))
    node.start()
    assert acknowledged
    assert_kept(node, tmp_path, sent, acknowledged)
    node.kill()


def test_kill_at_random_moments(tmp_path, catalogue_url):
    kill_sweep(Node(tmp_path / "node", catalogue_url), tmp_path, kills=3, images=60)


@pytest.mark.long
def test_kill_at_twenty_random_moments(tmp_path, catalogue_url):
    kill_sweep(Node(tmp_path / "node", catalogue_url), tmp_path, kills=20, images=300)


@pytest.mark.parametrize("step", STEPS)
def test_gone_at_every_step_of_the_commit(tmp_path, catalogue_url, step):
    node = Node(tmp_path / "node", catalogue_url)
    # The step is passed ten times, then the process is gone between two instructions.
    node.start(environment={"FILMROOM_ABORT_AT": f"{step}=10"})
    senders = batch(node, 0, 30)
    stream.send_all(senders)
    assert node.process.wait(timeout=60) != 0, "the step was never passed"
    sent, acknowledged = sent_by(senders), acknowledged_by(senders)
    assert len(acknowledged) < len(sent)
    node.start()
    assert_kept(node, tmp_path, sent, acknowledged)
    # The senders send again what was not acknowledged, as modalities do, and everything is there once.
    again = [stream.Sender(node, [o for o in s.objects if o[0] not in s.acknowledged]) for s in senders]
    stream.send_all(again)
    acknowledged.update(acknowledged_by(again))
    assert set(acknowledged) == set(sent)
    assert_kept(node, tmp_path, sent, acknowledged)
    node.kill()


@pytest.fixture(scope="session")
def forget_library(tmp_path_factory):
    """The preloaded library that remembers what a disk would still hold."""
    library = tmp_path_factory.mktemp("powercut") / "libforget.so"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, ROOT / "tests/powercut/forget.c", "-ldl", "-lpthread"], check=True)
    return library


def power_cut_sweep(node, tmp_path, library, cuts, images, seed=7):
    chance = random.Random(seed)
    sent, acknowledged = {}, {}
    for run in range(cuts):
        shadow = tmp_path / f"shadow-{run}"
        shadow.mkdir()
        node.start(environment={"LD_PRELOAD": str(library), "FORGET_ROOT": str(node.folder), "FORGET_SHADOW": str(shadow)})
        senders = batch(node, run, images)
        sent.update(sent_by(senders))
        for sender in senders:
            sender.start()
        target = chance.randrange(1, 4 * images - 4)
        wait_until(lambda: sum(len(s.answered) for s in senders) >= target or not any(s.is_alive() for s in senders), "progress", timeout=300, interval=0.001)
        power_cut(node, shadow, tmp_path, run)
        for sender in senders:
            sender.join()
        acknowledged.update(acknowledged_by(senders))
        # A start would adopt what has a file and no row, and hide that it was acknowledged too early.
        missing = set(acknowledged) - on_record(node, tmp_path / f"looked-{run}")
        assert not missing, f"{len(missing)} acknowledged images are on no record, such as {sorted(missing)[0]}"
    node.start()
    assert acknowledged
    assert_kept(node, tmp_path, sent, acknowledged)
    node.kill()


def power_cut(node, shadow, tmp_path, run):
    """The node is gone, and the disk holds what was flushed. The node goes on in what is left of its data directory."""
    node.kill()
    left = tmp_path / f"left-{run}"
    subprocess.run([sys.executable, ROOT / "tests/powercut/restore.py", shadow, left], check=True)
    node.data.rename(tmp_path / f"lost-{run}")
    assert (left / "data").is_dir(), "the data directory itself was forgotten"
    (left / "data").rename(node.data)


def on_record(node, folder):
    """SOP Instance UIDs of the catalogue that the disk holds, read from a copy: SQLite changes what it recovers."""
    folder.mkdir()
    for path in node.data.glob("catalogue.db*"):
        shutil.copy(path, folder)
    catalogue = sqlite3.connect(folder / "catalogue.db")
    try:
        return {uid for (uid,) in catalogue.execute("SELECT sop_instance_uid FROM objects WHERE state = 'served'")}
    finally:
        catalogue.close()


def test_power_cut(tmp_path, forget_library):
    power_cut_sweep(Node(tmp_path / "node"), tmp_path, forget_library, cuts=2, images=25)


@pytest.mark.long
def test_power_cut_at_twenty_random_moments(tmp_path, forget_library):
    power_cut_sweep(Node(tmp_path / "node"), tmp_path, forget_library, cuts=20, images=100)

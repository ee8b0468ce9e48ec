"""Rejection notes (IHE RAD TF-2 4.66): what they withdraw, whenever they come, however long they are, and across a kill."""

import json
import threading
import time

import pytest
from harness import note, sample, scu
from harness.node import Node
from harness.ports import wait_until
from pydicom.uid import generate_uid

REFUSED = 0xC002
WORKSTATION = '[[ae]]\ntitle = "QA"\nmay_reject = true\n'


@pytest.fixture
def room(tmp_path, catalogue_url):
    """A node where one workstation may reject, which keeps house often."""
    (tmp_path / "cold").mkdir()
    cold = f'[cold]\nurl = "file://{tmp_path}/cold"\ncheck_interval = "100ms"\n'
    with Node(tmp_path / "node", catalogue_url, sections=cold + WORKSTATION) as running:
        yield running


def found(node, **keys):
    answers, status = scu.find(node, "IMAGE", StudyInstanceUID=keys.pop("study"), SeriesInstanceUID="", SOPInstanceUID="", **keys)
    assert status == 0x0000
    return {str(answer.SOPInstanceUID) for answer in answers}


def rejections(node):
    return [json.loads(line) for line in node.command("rejections", "list", "--json").stdout.splitlines()]


def send(node, *paths, title="QA"):
    statuses = scu.store(node, list(paths), title=title)
    return [statuses[path] for path in paths]


def instances(paths):
    return [instance for _, _, _, instance in note.references(paths)]


@pytest.mark.parametrize("code", ["113001", "113037", "113038", "113039"])
def test_a_note_that_comes_first_keeps_what_it_lists_out_of_service(room, tmp_path, code):
    study, paths = sample.make_study(tmp_path / "study", images=3)
    listed = list(note.references(paths[:2]))
    uid = note.write(tmp_path / "note.dcm", code, listed)
    assert send(room, tmp_path / "note.dcm") == [0x0000]
    assert send(room, *paths, title="CT1") == [REFUSED, REFUSED, 0x0000]
    # Again: not back in service, and not kept twice.
    files = len(room.hot_files())
    assert send(room, *paths, title="CT1")[:2] == [0xC001, 0xC001]
    wait_until(lambda: len(room.hot_files()) == files, "the refused copies to go")
    visible = set(instances(paths[2:])) | ({uid} if code != "113039" else set())
    assert found(room, study=study) == visible
    room.command("rejections", "undo", uid)
    assert found(room, study=study) == set(instances(paths)) | {uid}
    assert room.status()["instances"] == 4
    assert send(room, *paths, title="CT1") == [0x0000] * 3


def test_whoever_may_not_reject_is_not_obeyed_and_a_person_is_told(room, tmp_path):
    study, paths = sample.make_study(tmp_path / "study", images=2)
    uid = note.write(tmp_path / "note.dcm", "113037", note.references(paths))
    assert send(room, *paths, title="CT1") == [0x0000] * 2
    assert send(room, tmp_path / "note.dcm", title="CT1") == [0x0000]
    assert found(room, study=study) == set(instances(paths)) | {uid}
    (waiting,) = rejections(room)
    assert (waiting["state"], waiting["reason"], waiting["source"], waiting["code"]) == ("refused", "CT1 may not reject", "CT1", "113037")
    assert room.status()["rejections_refused"] == 1
    room.counted("filmroom_rejection_notes_total", 1, outcome="refused")
    assert "a rejection note is not obeyed" in room.log()
    room.command("rejections", "apply", uid)
    assert found(room, study=study) == {uid}
    assert rejections(room)[0]["state"] == "obeyed"
    shown = room.command("rejections", "show", uid).stdout.splitlines()
    assert len(shown) == 3 and all('"state":"rejected"' in line for line in shown[1:])
    failed = room.command("rejections", "apply", uid, check=False)
    assert failed.returncode != 0 and "refused or undone" in failed.stderr


def test_notes_that_lie_change_nothing(room, tmp_path):
    """A note about another study than the instance's, one that lists itself, one of another title or scheme, one without a list."""
    study, paths = sample.make_study(tmp_path / "study", images=2)
    assert send(room, *paths, title="CT1") == [0x0000] * 2
    listed = list(note.references(paths))
    elsewhere = [(generate_uid(), series, sop_class, instance) for _, series, sop_class, instance in listed]
    itself = generate_uid()
    notes = [
        note.write(tmp_path / "1.dcm", "113037", elsewhere),
        note.write(tmp_path / "2.dcm", "113037", [(study, generate_uid(), note.KEY_OBJECT, itself)], uid=itself),
        note.write(tmp_path / "3.dcm", "113000", listed),
        note.write(tmp_path / "4.dcm", "113037", listed, scheme="99X"),
        note.write(tmp_path / "5.dcm", "113037", [], study=study),
    ]
    assert send(room, *(tmp_path / f"{n}.dcm" for n in range(1, 6))) == [0x0000] * 5
    assert set(instances(paths)) <= found(room, study=study)
    states = {entry["note_uid"]: (entry["state"], entry["reason"]) for entry in rejections(room)}
    assert states == {
        notes[0]: ("obeyed", ""),
        notes[1]: ("refused", "the note lists no instance"),
        notes[4]: ("refused", "the note lists no instance"),
    }
    # Two that list each other: neither is withdrawn.
    pair = [generate_uid(), generate_uid()]
    for one, other in (pair, pair[::-1]):
        note.write(tmp_path / f"{one}.dcm", "113037", [(study, generate_uid(), note.KEY_OBJECT, other)], uid=one)
    assert send(room, *(tmp_path / f"{one}.dcm" for one in pair)) == [0x0000] * 2
    assert set(pair) <= found(room, study=study)


def test_a_note_of_five_thousand_instances_takes_little_time_and_memory(room, tmp_path):
    study, paths = sample.make_study(tmp_path / "study", images=20)
    assert set(send(room, *paths, title="CT1")) == {0x0000}
    (of_study, series, sop_class, _), *_ = note.references(paths)
    listed = list(note.references(paths)) + [(of_study, series, sop_class, generate_uid()) for _ in range(4980)]
    uid = note.write(tmp_path / "note.dcm", "113037", listed)
    before = room.memory_peak()
    started = time.monotonic()
    assert send(room, tmp_path / "note.dcm") == [0x0000]
    took = time.monotonic() - started
    assert found(room, study=study) == {uid}, "the effect is there when Success is"
    assert rejections(room)[0]["listed"] == 5000
    grown = room.memory_peak() - before
    print(f"5000 listed: {took:.2f} s, {grown >> 20} MiB more at the peak, a file of {(tmp_path / 'note.dcm').stat().st_size >> 10} KiB")
    assert grown < 64 << 20
    assert took < 15
    room.command("rejections", "undo", uid)
    assert found(room, study=study) == set(instances(paths)) | {uid}


def test_eight_notes_and_their_images_at_once(room, tmp_path):
    studies = [sample.make_study(tmp_path / f"study{n}", images=6) for n in range(8)]
    uids = [note.write(tmp_path / f"{n}.dcm", "113037", note.references(paths[:4])) for n, (_, paths) in enumerate(studies)]
    answers = []

    def images(paths):
        answers.extend(zip(paths, send(room, *paths, title="CT1")))

    def notes(n):
        answers.append((n, send(room, tmp_path / f"{n}.dcm")[0]))

    threads = [threading.Thread(target=images, args=(paths,)) for _, paths in studies]
    threads += [threading.Thread(target=notes, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered = dict(answers)
    assert all(answered[n] == 0x0000 for n in range(8))
    for (study, paths), uid in zip(studies, uids):
        # Whichever came first, nothing that is listed is served.
        assert found(room, study=study) == set(instances(paths[4:])) | {uid}
        assert {answered[path] for path in paths[4:]} == {0x0000}
        assert {answered[path] for path in paths[:4]} <= {0x0000, REFUSED}
    assert room.status()["instances"] == 8 * 3


@pytest.mark.parametrize("step", ["commit::after_catalogue", "withdraw::before", "withdraw::before_answer"])
def test_a_kill_between_the_note_and_its_answer_loses_no_effect(tmp_path, catalogue_url, step):
    node = Node(tmp_path / "node", catalogue_url, sections=WORKSTATION)
    study, paths = sample.make_study(tmp_path / "study", images=2)
    uid = note.write(tmp_path / "note.dcm", "113037", note.references(paths))
    with node:
        assert send(node, *paths, title="CT1") == [0x0000] * 2
        node.stop()
    node.start(environment={"FILMROOM_ABORT_AT": f"{step}=1"})
    try:
        assert send(node, tmp_path / "note.dcm") in ([None], [0x0000])
    except Exception:
        # The association ended without an answer, as it should.
        pass
    node.process.wait(timeout=60)
    node.kill()
    with node:
        # Nobody has to send it again.
        wait_until(lambda: found(node, study=study) == {uid}, "the note to take effect", timeout=30)
        assert [entry["state"] for entry in rejections(node)] == ["obeyed"]
        assert send(node, tmp_path / "note.dcm") == [0x0000]
        assert send(node, *paths, title="CT1") == [0xC001] * 2
        assert node.status()["instances"] == 1

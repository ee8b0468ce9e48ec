"""Moving in from another PACS: real archives that cut their answers short, break down and forget, and a node that is killed on the way."""

import json
import time
from datetime import datetime

import pydicom
import pytest
from harness import dcmtk, sample
from harness.node import Node
from harness.orthanc import Orthanc
from harness.ports import wait_until

PACE = '[migration]\nretry = "500ms"\n'


def old_studies(folder, count, images=6):
    """Studies of many years, the last of them without a date: Study Instance UID to files, the oldest first."""
    studies = {}
    for number in range(count):
        dated = {"StudyDate": f"{2001 + number}0315", "StudyTime": "120000"} if number < count - 1 else {"StudyDate": "", "StudyTime": ""}
        uid, paths = sample.make_study(folder / f"study{number}", images=images, series=2, patient_id=f"{number % 5}OLD{number}", **dated)
        studies[uid] = paths
    return studies


def migration(node, title):
    """The last migration from an AE, as it is listed."""
    return json.loads(node.command("migrate", "status", title, "--json").stdout)


def ended(node, title, timeout=120):
    wait_until(lambda: migration(node, title)["state"] == "done", f"the migration from {title}", timeout=timeout)
    return migration(node, title)


def compare(node, title, *options, check=True):
    """The lines of a comparison, and its totals."""
    done = node.command("migrate", "compare", title, "--json", *options, check=check)
    *studies, totals = [json.loads(line) for line in done.stdout.splitlines()]
    return studies, totals


def assert_here(node, studies):
    """Every image is here once, element by element as it was."""
    here = {}
    for path in node.hot_files():
        data_set = pydicom.dcmread(path)
        assert data_set.SOPInstanceUID not in here
        here[data_set.SOPInstanceUID] = data_set
    originals = [pydicom.dcmread(path) for paths in studies.values() for path in paths]
    assert {original.SOPInstanceUID for original in originals} == set(here)
    for original in originals:
        # Trailing padding (PS3.10 7.2) tells nothing, and DCMTK leaves it out.
        original.pop(0xFFFCFFFC, None)
        assert here[original.SOPInstanceUID] == original
    assert node.status()["instances"] == len(originals)


def test_everything_comes_by_move_though_answers_are_cut_short_and_both_sides_are_killed(tmp_path, catalogue_url):
    orthanc = Orthanc(tmp_path / "orthanc", LimitFindResults=4)
    node = Node(tmp_path / "node", catalogue_url, {orthanc.title: orthanc.port}, PACE)
    studies = old_studies(tmp_path / "old", 10)
    orthanc.start(node)
    try:
        dcmtk.dcmsend(orthanc, *[path for paths in studies.values() for path in paths])
        node.start(environment={"FILMROOM_ABORT_AT": "migration::after_series=5"})
        node.command("migrate", "start", orthanc.title, "--no-wait")
        assert "is open already" in node.command("migrate", "start", orthanc.title, "--no-wait", check=False).stderr
        wait_until(lambda: node.process.poll() is not None, "the node's death on the way", timeout=60)
        orthanc.stop()
        node.start()
        wait_until(lambda: migration(node, orthanc.title)["error"], "the failure of the remote")
        orthanc.start(node)
        end = ended(node, orthanc.title)
        assert (end["done"], end["failed"], end["incomplete"]) == (len(studies), 0, 0), node.log()[-3000:]
        assert_here(node, studies)
        differing, totals = compare(node, orthanc.title, "--digests", "100%")
        assert differing == []
        images = sum(map(len, studies.values()))
        assert (totals["studies"], totals["equal"], totals["images"], totals["same_bytes"]) == (len(studies), len(studies), images, images)
    finally:
        orthanc.stop()
        node.kill()


def test_what_the_remote_forgets_and_what_is_refused_here_is_named_and_stops_nothing(tmp_path):
    orthanc = Orthanc(tmp_path / "orthanc")
    node = Node(tmp_path / "node", None, {orthanc.title: orthanc.port}, PACE + "associations = 1\nimages_per_second = 25\n")
    studies = old_studies(tmp_path / "old", 6)
    uids = list(studies)
    oldest, refused = uids[0], pydicom.dcmread(studies[uids[2]][3])
    orthanc.start(node)
    try:
        dcmtk.dcmsend(orthanc, *[path for paths in studies.values() for path in paths])
        with node:
            # The image is here already, in another study.
            other = sample.make_study(tmp_path / "other", images=1, patient_id="OTHER")[1][0]
            image = pydicom.dcmread(other)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = refused.SOPInstanceUID
            image.save_as(other)
            dcmtk.dcmsend(node, other)
            began = time.monotonic()
            node.command("migrate", "start", orthanc.title, "--by", "get", "--no-wait")
            wait_until(lambda: migration(node, orthanc.title)["done"] > 0, "the first study")
            found = orthanc.request("POST", "/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": oldest}})
            orthanc.request("DELETE", f"/studies/{found[0]}")
            end = ended(node, orthanc.title)
            images = sum(map(len, studies.values())) - len(studies[oldest])
            assert time.monotonic() - began > images / 25 * 0.9
            given_up = {study["study_uid"]: study["error"] for study in end["given_up"]}
            assert set(given_up) == {oldest, uids[2]} and end["done"] == len(studies) - 2
            assert given_up[oldest] == "the remote has nothing of it any more"
            assert "quarantine" in given_up[uids[2]] and refused.SOPInstanceUID in given_up[uids[2]]
            failed = node.command("migrate", "compare", orthanc.title, check=False)
            assert failed.returncode != 0 and refused.SOPInstanceUID in failed.stdout and uids[2] in failed.stdout
            differing, totals = compare(node, orthanc.title, "--digests", "50%", check=False)
            assert {study["study_uid"]: study["state"] for study in differing} == {uids[2]: "differs", oldest: "gone"}
            # The quarantined image may be in the sample: what is served here has other bytes.
            assert (totals["missing"], totals["quarantined"]) == (0, 1) and totals["other_bytes"] <= 1 and 0 < totals["same_bytes"] < images
            # What came and is not there any more is no fault.
            found = orthanc.request("POST", "/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": uids[4]}})
            orthanc.request("DELETE", f"/studies/{found[0]}")
            differing, totals = compare(node, orthanc.title, check=False)
            assert {study["study_uid"]: study["state"] for study in differing} == {uids[2]: "differs", uids[4]: "only_here", oldest: "gone"}
            # A person decides; then everything is here.
            node.command("quarantine", "accept", node.quarantine()[0]["object"])
            node.command("migrate", "retry", orthanc.title)
            end = ended(node, orthanc.title)
            assert [study["study_uid"] for study in end["given_up"]] == [oldest]
            compare(node, orthanc.title)
    finally:
        orthanc.stop()


def test_a_pause_by_the_hour_and_by_command_and_a_selection_by_patient(tmp_path):
    clock = tmp_path / "clock"
    today = datetime.now().strftime("%a").lower()
    sections = PACE + f'associations = ["{today} = 0", "otherwise = 4"]\n'
    node = Node(tmp_path / "node", None, {}, sections, {"FILMROOM_CLOCK": str(clock)})
    studies = old_studies(tmp_path / "old", 5, images=3)
    with dcmtk.Archive(tmp_path / "archive", node) as archive:
        node.destinations[archive.title] = archive.port
        node.write_config()
        dcmtk.dcmsend(archive, *[path for paths in studies.values() for path in paths])
        with node:
            node.command("migrate", "start", archive.title, "--by", "get", "--patient", "1OLD1", "--patient", "4OLD4", "--no-wait")
            wait_until(lambda: migration(node, archive.title)["questions"] == 2, "the migration")
            time.sleep(2.5)
            now = migration(node, archive.title)
            assert (now["state"], now["questions"], now["done"]) == ("running", 2, 0)
            node.command("migrate", "pause", archive.title)
            clock.write_text(str(24 * 3600))
            time.sleep(2)
            assert migration(node, archive.title)["state"] == "paused" and not node.hot_files()
            node.command("migrate", "resume", archive.title)
            assert ended(node, archive.title)["done"] == 2
            chosen = {uid: studies[uid] for uid in (list(studies)[1], list(studies)[4])}
            assert_here(node, chosen)
            # The rest by C-MOVE; what is here is not sent again.
            node.command("migrate", "start", archive.title, "--by", "move", "--oldest-first")
            assert_here(node, studies)
            assert compare(node, archive.title, "--digests", "100%")[1]["same_bytes"] == sum(map(len, studies.values()))
            lines = node.command("migrate", "compare", archive.title, "--tsv", "--all").stdout.splitlines()
            assert len(lines) == 1 + len(studies) and all(line.endswith("equal") for line in lines[1:])
            problem = node.command("migrate", "start", "NOBODY", check=False)
            assert problem.returncode != 0 and "add an [[ae]]" in problem.stderr


@pytest.mark.long
@pytest.mark.parametrize("step", ["migration::after_window=1", "migration::begun=1", "migration::begun=3", "migration::after_series=1", "migration::before_end=2"])
def test_a_node_that_is_killed_at_any_step_goes_on(tmp_path, catalogue_url, step):
    node = Node(tmp_path / "node", catalogue_url, {}, PACE)
    studies = old_studies(tmp_path / "old", 4, images=2)
    with dcmtk.Archive(tmp_path / "archive", node) as archive:
        node.destinations[archive.title] = archive.port
        node.write_config()
        dcmtk.dcmsend(archive, *[path for paths in studies.values() for path in paths])
        node.start(environment={"FILMROOM_ABORT_AT": step})
        node.command("migrate", "start", archive.title, "--by", "get", "--no-wait")
        wait_until(lambda: node.process.poll() is not None, f"the node's death at {step}", timeout=60)
        with node:
            assert ended(node, archive.title)["failed"] == 0
            assert_here(node, studies)
            compare(node, archive.title)

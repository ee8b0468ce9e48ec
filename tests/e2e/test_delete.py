"""Deleting on purpose: a study, a series, an instance; taken back, refused when it comes again, gone for good after the grace period, whatever dies on the way."""

import json

import pydicom
import pytest
from harness import sample, scu
from harness.node import Node
from harness.ports import wait_until
from harness.site import rows
from harness.steered import Clock

REFUSED = 0xC003
WITHOUT_DUTY = '[delete]\nretention = "none"\n'


def cold_section(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return f'[cold]\nurl = "file://{folder}"\ncheck_interval = "100ms"\n'


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
def room(tmp_path, catalogue_url, clock):
    """A node with a cold store in a folder, which keeps house often, nothing that has to be kept, and a clock to turn."""
    with Node(tmp_path / "node", catalogue_url, sections=cold_section(tmp_path / "cold") + WITHOUT_DUTY,
              environment={"FILMROOM_CLOCK": str(clock.path)}) as running:
        yield running


def delete(node, uid, *more):
    return json.loads(node.command("delete", uid, "--reason", "sent by mistake", "--yes", "--json", *more).stdout)


def deletion(node, number):
    return json.loads(node.command("deletions", "show", number).stdout)


def answers(node, study):
    """What C-FIND says at each level, attribute by attribute."""
    said = []
    levels = [("STUDY", {"PatientID": "", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": "", "NumberOfStudyRelatedSeries": "", "StudyDescription": ""}),
              ("SERIES", {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}),
              ("IMAGE", {"SeriesInstanceUID": "", "SOPInstanceUID": "", "InstanceNumber": "", "Rows": ""})]
    for level, keys in levels:
        found, status = scu.find(node, level, StudyInstanceUID=study, **keys)
        assert status == 0x0000
        said.append(sorted(str(answer) for answer in found))
    return said


def images(node, study):
    return {str(answer.SOPInstanceUID) for answer in scu.find(node, "IMAGE", StudyInstanceUID=study, SeriesInstanceUID="", SOPInstanceUID="")[0]}


def pixels(path):
    return pydicom.dcmread(path).PixelData


def holding(folder, wanted):
    """Files under a folder that hold one of some byte strings."""
    return [path for path in folder.rglob("*") if path.is_file() and any(part in path.read_bytes() for part in wanted)]


def make(folder, **options):
    """A study whose every image has pixels that nothing else has."""

    def mark(image, series, number):
        image.PixelData = image.SOPInstanceUID.encode().ljust(64, b"#") + image.PixelData[64:]

    return sample.make_study(folder, extra=mark, **options)


def test_a_study_a_series_and_an_instance_go_at_once_and_come_back_as_they_were(room, tmp_path):
    study, paths = make(tmp_path / "study", images=2, series=2)
    assert set(scu.store(room, paths).values()) == {0x0000}
    before = answers(room, study)
    headers = [sample.read(path) for path in paths]
    instance, series = str(headers[0].SOPInstanceUID), str(headers[2].SeriesInstanceUID)
    dry = json.loads(room.command("delete", series, "--reason", "x", "--dry-run", "--json").stdout)
    assert (dry["level"], dry["instances"], dry["served"], dry["permitted_from"]) == ("series", 2, 2, None)
    assert answers(room, study) == before
    first = delete(room, instance)
    assert (first["level"], first["state"], first["study_uid"]) == ("instance", "waiting", study)
    assert images(room, study) == {str(header.SOPInstanceUID) for header in headers[1:]}
    second = delete(room, series)
    assert images(room, study) == {str(headers[1].SOPInstanceUID)}
    third = delete(room, study)
    assert answers(room, study) == [[], [], []]
    assert room.status()["instances"] == 0
    assert room.command("delete", study, "--reason", "x", "--yes", check=False).returncode != 0
    listed = [json.loads(line) for line in room.command("deletions", "list", "--json").stdout.splitlines()]
    assert [row["id"] for row in listed] == [third["id"], second["id"], first["id"]]
    for number in (first["id"], third["id"], second["id"]):
        room.command("undelete", number)
    assert answers(room, study) == before
    assert room.command("undelete", first["id"], check=False).returncode != 0
    assert set(scu.store(room, paths).values()) == {0x0000}


def test_what_is_deleted_is_refused_from_anybody_and_by_any_way(room, tmp_path):
    study, paths = make(tmp_path / "study", images=2)
    assert set(scu.store(room, paths).values()) == {0x0000}
    number = delete(room, study)["id"]
    assert set(scu.store(room, paths).values()) == {REFUSED}
    assert set(scu.store(room, paths, title="CT2").values()) == {REFUSED}
    imported = room.command("import", paths[0], check=False)
    assert "deleted on purpose" in imported.stdout + imported.stderr
    assert answers(room, study)[0] == []
    assert "deleted on purpose" in rows(room, "SELECT detail FROM audit WHERE outcome = 'serious'")[0][0]
    _, more = make(tmp_path / "more", images=1, study_uid=study)
    assert set(scu.store(room, more).values()) == {0x0000}, "what was never here is none of its business"
    room.command("undelete", number)
    assert len(images(room, study)) == 3


def test_the_retention_period_is_kept_unless_somebody_answers_for_it(tmp_path):
    study, paths = make(tmp_path / "study", images=1)
    with Node(tmp_path / "node") as node:
        assert set(scu.store(node, paths).values()) == {0x0000}
        refused = node.command("delete", study, "--reason", "test images", "--yes", check=False)
        assert refused.returncode != 0 and "has to be kept until 20" in refused.stderr and "--despite-retention" in refused.stderr
        asked = node.command("delete", study, "--reason", "test images", check=False)
        assert asked.returncode != 0 and "--yes" in asked.stderr
        assert len(images(node, study)) == 1
        done = delete(node, study, "--despite-retention", "a phantom, nobody's image")
        assert done["despite_retention"] == "a phantom, nobody's image"
        assert images(node, study) == set()
        (event,) = rows(node, "SELECT outcome, patient_id, detail FROM audit WHERE action = 'deleted' AND detail NOT LIKE 'refused%'")
        assert event[:2] == ("serious", "P1") and "phantom" in event[2]
        node.stop()
        # And without a node.
        node.command("undelete", done["id"])
        assert [row["instances"] for row in node.studies()] == [1]


def test_after_the_grace_period_no_byte_is_left_on_the_disk(room, tmp_path, clock):
    study, paths = make(tmp_path / "study", images=3)
    other, kept = make(tmp_path / "kept", images=1, patient_id="P2")
    assert set(scu.store(room, paths + kept).values()) == {0x0000}
    number = delete(room, study)["id"]
    clock.advance(days=29)
    assert deletion(room, number)["state"] == "waiting"
    assert len(room.hot_files()) == 4
    clock.advance(days=2)
    wait_until(lambda: deletion(room, number)["state"] == "erased", "the end of it")
    assert holding(room.data / "hot", [pixels(path) for path in paths]) == []
    assert len(room.hot_files()) == 1
    assert deletion(room, number)["remains"] == {"journal_pending": False, "hot": [], "packs": []}
    assert rows(room, "SELECT count(*) FROM patients WHERE patient_id = 'P1'")[0][0] == 0
    assert room.command("undelete", number, check=False).returncode != 0
    assert set(scu.store(room, paths).values()) == {REFUSED}
    assert images(room, other) == {str(sample.read(kept[0]).SOPInstanceUID)}
    room.command("deletions", "lift", number)
    assert set(scu.store(room, paths).values()) == {0x0000}


@pytest.mark.parametrize("step", ["mover::after_begin_erasing", "mover::before_doomed_unlink", "mover::after_doomed_unlink", "mover::after_end_erasing"])
def test_a_kill_at_any_step_of_erasing_loses_nothing_else_and_brings_nothing_back(tmp_path, clock, step):
    study, paths = make(tmp_path / "study", images=2)
    other, kept = make(tmp_path / "kept", images=1)
    node = Node(tmp_path / "node", sections=cold_section(tmp_path / "cold") + WITHOUT_DUTY, environment={"FILMROOM_CLOCK": str(clock.path)})
    with node:
        assert set(scu.store(node, paths + kept).values()) == {0x0000}
        number = delete(node, study)["id"]
        wait_until(lambda: not deletion(node, number)["remains"]["journal_pending"], "the journal")
        node.kill()
        clock.advance(days=31)
        node.spawn(environment={"FILMROOM_ABORT_AT": f"{step}=1"})
        wait_until(lambda: node.process.poll() is not None, f"the end at {step}")
        node.kill()
        node.start()
        wait_until(lambda: deletion(node, number)["state"] == "erased", "the end of it")
        assert holding(node.data / "hot", [pixels(path) for path in paths]) == []
        assert images(node, study) == set() and len(images(node, other)) == 1
        assert set(scu.store(node, paths).values()) == {REFUSED}


def test_a_rebuilt_catalogue_knows_what_is_deleted_and_what_was_taken_back(tmp_path, clock):
    studies = [make(tmp_path / f"study{number}", images=2, patient_id=f"P{number}") for number in range(3)]
    node = Node(tmp_path / "node", sections=cold_section(tmp_path / "cold") + WITHOUT_DUTY, environment={"FILMROOM_CLOCK": str(clock.path)})
    with node:
        for study, paths in studies:
            assert set(scu.store(node, paths).values()) == {0x0000}
        # The second is packed, the third is hot only.
        node.command("offload", studies[1][0])
        before = [answers(node, study) for study, _ in studies]
        back = delete(node, studies[0][0])["id"]
        node.command("undelete", back)
        numbers = [delete(node, study)["id"] for study, _ in studies[1:]]
        for number in numbers:
            wait_until(lambda n=number: not deletion(node, n)["remains"]["journal_pending"], "the journal")
        node.stop()
        for file in node.data.glob("catalogue.db*"):
            file.unlink()
        node.command("rebuild")
        node.start()
        assert answers(node, studies[0][0]) == before[0]
        for study, paths in studies[1:]:
            assert answers(node, study) == [[], [], []]
            assert set(scu.store(node, paths).values()) == {REFUSED}
        listed = [json.loads(line) for line in node.command("deletions", "list", "--json").stdout.splitlines()]
        assert sorted(row["state"] for row in listed) == ["taken_back", "waiting", "waiting"]
        for row in listed:
            if row["state"] == "waiting":
                assert (row["reason"], row["instances"]) == ("sent by mistake", 2)
                node.command("undelete", row["id"])
        assert [answers(node, study) for study, _ in studies] == before


def test_another_node_deletes_what_this_one_has_on_its_disk(tmp_path, clock):
    from conftest import drop_database, new_database

    url, name = new_database()
    sections = cold_section(tmp_path / "cold") + WITHOUT_DUTY
    environment = {"FILMROOM_CLOCK": str(clock.path)}
    study, paths = make(tmp_path / "study", images=2)
    try:
        with Node(tmp_path / "a", url, sections=sections, environment=environment) as a, Node(tmp_path / "b", url, sections=sections, environment=environment) as b:
            assert set(scu.store(a, paths).values()) == {0x0000}
            number = delete(b, study)["id"]
            assert images(a, study) == set()
            assert set(scu.store(a, paths).values()) == {REFUSED}
            wait_until(lambda: not deletion(b, number)["remains"]["journal_pending"], "the journal")
            a.kill()
            clock.advance(days=31)
            wait_until(lambda: deletion(b, number)["state"] == "erasing", "the end of the grace period")
            assert [left["copies"] for left in deletion(b, number)["remains"]["hot"]] == [2]
            a.start()
            wait_until(lambda: deletion(b, number)["state"] == "erased", "the end of it")
            assert a.hot_files() == []
    finally:
        drop_database(name)

"""The catalogue is lost and made anew: from manifests, journal and hot files, with every pack in Deep Archive and not one of them touched."""

import copy
import json
import random
import subprocess

import pydicom
import pytest
from harness import note, part10, sample, scu
from harness.node import Node
from harness.ports import wait_until

SENDERS = """
[[ae]]
title = "CT1"
may_reject = true
issuer_of_patient_id = "CLINIC"

[[ae]]
title = "CT2"
issuer_of_patient_id = "CLINIC"

[[ae]]
title = "QA"
issuer_of_patient_id = "CLINIC"
"""


def cold_section(emulator):
    return (f'[cold]\nurl = "s3://{emulator.bucket}/archive"\nendpoint = "{emulator.endpoint}"\ncheck_interval = "100ms"\ntimeout = "10s"\n'
            "attempts = 2\n" + SENDERS)


def variant(path, target, **attributes):
    """The same image with other values."""
    image = copy.deepcopy(pydicom.dcmread(path))
    for name, value in attributes.items():
        setattr(image, name, value)
    image.save_as(target, enforce_file_format=True)
    return target


class Hospital:
    """A node with everything in it that a manifest alone does not tell."""

    def __init__(self, tmp_path, node):
        self.node, self.tmp_path = node, tmp_path
        self.files, self.cold_studies, self.hot_studies = [], [], []

    def make(self, name, **options):
        study, paths = sample.make_study(self.tmp_path / name, **options)
        self.files += paths
        return study, paths

    def send(self, *paths, title="CT1", status=0x0000):
        assert set(scu.store(self.node, list(paths), title=title).values()) == {status}

    def corrected(self, path, name, **attributes):
        target = variant(path, self.tmp_path / name, **attributes)
        self.files.append(target)
        self.send(target)
        return target

    def quarantined(self, path, name, **attributes):
        """Another AE sends other bytes under the same UID; the object that waits for a person."""
        before = {row["object"] for row in self.node.quarantine()}
        target = variant(path, self.tmp_path / name, **attributes)
        self.files.append(target)
        statuses = scu.store(self.node, [target], title="CT2")
        assert statuses[target] & 0xF000 == 0xC000
        (new,) = {row["object"] for row in self.node.quarantine()} - before
        return new, target

    def rejected(self, name, code, paths):
        target = self.tmp_path / name
        uid = note.write(target, code, note.references(paths), patient_id="PA", patient_name="Müller^Jörg")
        self.files.append(target)
        self.send(target, title="CT1")
        return uid

    def settled(self):
        status = self.node.status()
        return status["packs_pending"] == 0 and status["journal_pending"] == 0

    def fill(self):
        """All kinds of history, in packs and on the disk only."""
        node = self.node
        # A: in the cold store only. Corrected after it was packed, in another series, by an image that is packed too.
        a, a_paths = self.make("a", images=4, series=2, PatientName="Müller^Jörg", patient_id="PA", PatientBirthTime="101010", StudyDescription="Thorax")
        self.send(*a_paths)
        node.command("offload", a)
        self.corrected(a_paths[5], "a-corrected.dcm", StudyDescription="Thorax, corrected", PatientComments="second")
        accepted, _ = self.quarantined(a_paths[0], "a-accepted.dcm", StudyDescription="Thorax, accepted", SeriesDescription="accepted")
        discarded, self.discarded_packed = self.quarantined(a_paths[1], "a-discarded.dcm", ImageComments="discarded")
        _, _ = self.quarantined(a_paths[2], "a-waiting.dcm", ImageComments="waiting")
        node.command("offload", a)
        gone, self.discarded_hot = self.quarantined(a_paths[3], "a-gone.dcm", ImageComments="gone, and never packed")
        node.command("quarantine", "accept", accepted)
        node.command("quarantine", "discard", discarded)
        node.command("quarantine", "discard", gone)
        # B: in the cold store and on the disk, partly withdrawn; another note is undone.
        b, b_paths = self.make("b", images=5, template="mr_series/MR01.dcm", patient_id="PA", PatientName="Müller^Jörg", AccessionNumber="B1")
        self.send(*b_paths)
        node.command("offload", b)
        self.rejected("b-note.dcm", "113001", b_paths[:2])
        undone = self.rejected("b-undone.dcm", "113037", b_paths[2:4])
        node.command("rejections", "undo", undone)
        # C: on the disk only, corrected twice there, and one of it waits for a person.
        c, c_paths = self.make("c", images=3, template="sr_ko_pr/test-SR.dcm", patient_id="PC", PatientName="Doe^Jo")
        self.send(*c_paths)
        self.corrected(c_paths[0], "c-corrected.dcm", StudyDescription="first correction")
        self.corrected(c_paths[1], "c-corrected2.dcm", StudyDescription="second correction")
        self.quarantined(c_paths[2], "c-waiting.dcm", StudyDescription="nobody has seen this")
        taken, _ = self.quarantined(c_paths[2], "c-accepted.dcm", SeriesDescription="accepted on the disk")
        node.command("quarantine", "accept", taken)
        # D: the same patient under another name. A conflict that a person has resolved, and one that is open.
        d, d_paths = self.make("d", images=1, patient_id="PA", PatientName="Mueller^Georg", StudyDescription="D")
        self.send(*d_paths)
        node.command("offload", d)
        e, e_paths = self.make("e", images=1, patient_id="PA", PatientName="Meier^Jo", StudyDescription="E")
        self.send(*e_paths)
        node.command("offload", e)
        conflicts = [json.loads(line) for line in node.command("patient", "conflicts", "--json").stdout.splitlines()]
        assert len(conflicts) == 2
        node.command("patient", "conflicts", "--resolve", conflicts[-1]["id"])
        # The correction of something that is archived lies on the disk only.
        self.corrected(d_paths[0], "d-corrected.dcm", StudyDescription="D, corrected on the disk")
        for study in (a, d, e):
            node.command("evict", study)
        wait_until(self.settled, "everything written to the cold store")
        self.cold_studies, self.hot_studies = [a, d, e], [b, c]


def tags_of(paths):
    """Every attribute that the files have, with its representation."""
    tags = {}
    for path in paths:
        for element in pydicom.dcmread(path, stop_before_pixels=True):
            if element.tag.group > 2 and element.tag != 0x00080005:
                tags.setdefault(element.tag, (element.VR, element.value))
    return tags


def everything(node, files):
    """All that C-FIND says, at every level, of every attribute there is."""
    tags = tags_of(files)

    def find(level, root, **keys):
        asked = scu.identifier(level)
        for tag, (vr, value) in tags.items():
            asked.add_new(tag, vr, value if tag.is_private_creator else [] if vr == "SQ" else None)
        for name in ("ModalitiesInStudy", "SOPClassesInStudy", "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries",
                     "NumberOfPatientRelatedInstances", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
                     "NumberOfSeriesRelatedInstances", "IssuerOfPatientID"):
            setattr(asked, name, "")
        for name, value in keys.items():
            setattr(asked, name, value)
        answers = []
        with scu.association(node, [(scu.FIND[root], [pydicom.uid.ExplicitVRLittleEndian])]) as assoc:
            for status, answer in assoc.send_c_find(asked, scu.FIND[root]):
                if answer is not None:
                    answers.append(answer)
        assert status.Status == 0x0000, (level, keys, status)
        return answers

    found = {"PATIENT": find("PATIENT", "PATIENT"), "STUDY": find("STUDY", "STUDY"), "SERIES": [], "IMAGE": []}
    for study in found["STUDY"]:
        found["SERIES"] += find("SERIES", "STUDY", StudyInstanceUID=study.StudyInstanceUID)
    for series in found["SERIES"]:
        found["IMAGE"] += find("IMAGE", "STUDY", StudyInstanceUID=series.StudyInstanceUID, SeriesInstanceUID=series.SeriesInstanceUID)
    return {level: sorted(answer.to_json(suppress_invalid_tags=True) for answer in answers) for level, answers in found.items()}


def decisions(node):
    """What is kept from service, and why; what a person was told or has decided."""
    def lines(*command):
        return [json.loads(line) for line in node.command(*command, "--json").stdout.splitlines()]

    rejections = [{k: v for k, v in row.items() if k not in ("decided_at", "received_at")} for row in lines("rejections", "list")]
    conflicts = [{k: v for k, v in row.items() if k not in ("id", "resolved_at")} for row in lines("patient", "conflicts")]
    status = node.status()
    counted = {k: status[k] for k in ("patients", "studies", "series", "instances", "quarantined", "hot_objects", "hot_bytes", "packs_verified", "pack_bytes",
                                      "packs_pending", "conflicts", "rejections_refused") if k in status}
    by_text = lambda rows: sorted(rows, key=json.dumps)  # noqa: E731
    # Of a file in no pack it is known to the millisecond when its first byte came.
    quarantine = [{k: v for k, v in row.items() if k != "received_at"} for row in lines("quarantine", "list")]
    return {"quarantine": by_text(quarantine), "rejections": by_text(rejections), "conflicts": by_text(conflicts), "counts": counted}


def differing(before, after):
    """What changed, readable."""
    for key in before:
        if before[key] != after[key]:
            gone = [row for row in before[key] if row not in after[key]] if isinstance(before[key], list) else before[key]
            come = [row for row in after[key] if row not in before[key]] if isinstance(after[key], list) else after[key]
            return f"{key}: was {gone}\nis {come}"[:4000]
    return None


class Loss:
    """The catalogue of a node that does not run is lost; the next one is empty."""

    def __init__(self, node, urls):
        self.node, self.urls = node, urls

    def happen(self):
        if self.urls is None:
            for file in self.node.data.glob("catalogue.db*"):
                file.unlink()
        else:
            self.node.catalogue_url = next(self.urls)
            self.node.write_config()


@pytest.fixture
def loss(catalogue_url):
    from conftest import drop_database, new_database

    made = []

    def urls():
        while True:
            url, name = new_database()
            made.append(name)
            yield url

    yield lambda node: Loss(node, None if catalogue_url is None else urls())
    for name in made:
        drop_database(name)


def test_everything_is_found_as_before_and_no_pack_is_touched(tmp_path, catalogue_url, destination, emulator, loss):
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, cold_section(emulator), environment=emulator.environment)
    hospital = Hospital(tmp_path, node)
    with node:
        hospital.fill()
        before, decided = everything(node, hospital.files), decisions(node)
        assert len(before["IMAGE"]) >= 16 and decided["counts"]["quarantined"] == 2
        node.stop()
        packs = [key for key in emulator.objects() if key.endswith(".zip")]
        for key in packs:
            emulator.archive("DEEP_ARCHIVE_ACCESS", key=key)
        emulator.reset_counters()
        loss(node).happen()

        report = json.loads(node.command("rebuild", "--json").stdout)
        assert report["finished"] and not report["resumed"] and report["damaged"] == 0
        assert report["packs"] == len(packs) and report["settled"] == 0
        counters = emulator.counters()
        assert counters["restores"] == [] and "GetObject" not in counters["refused"], "a pack was asked for"
        assert "RestoreObject" not in counters["requests"]
        again = node.command("rebuild", check=False)
        assert again.returncode != 0 and "not empty" in again.stderr

        node.start()
        assert differing(before, everything(node, hospital.files)) is None
        assert differing(decided, decisions(node)) is None
        # Neither does anything move by itself that had come to rest.
        wait_until(hospital.settled, "nothing left to do")
        assert differing(decided, decisions(node)) is None
        # What was discarded does not come back: neither what had been packed, nor what had not.
        for path in (hospital.discarded_packed, hospital.discarded_hot):
            assert scu.store(node, [path], title="CT2")[path] & 0xF000 == 0xC000

        sent = {}
        emulator.archive("NONE", prefix="")
        for study in hospital.cold_studies + hospital.hot_studies:
            final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
            assert final.Status == 0x0000, final
        known = {part10.digest(path): path for path in hospital.files}
        sent = {part10.digest(path) for path in destination.files()}
        assert sent <= set(known) and len(destination.files()) == len(before["IMAGE"])


@pytest.mark.parametrize("step", ["rebuild::after_load", *(pytest.param(f"rebuild::after_{step}", marks=pytest.mark.long) for step in ("manifest", "decide"))])
def test_interrupted_anywhere_it_goes_on(tmp_path, catalogue_url, emulator, loss, step):
    node = Node(tmp_path / "node", catalogue_url, {}, cold_section(emulator), environment=emulator.environment)
    hospital = Hospital(tmp_path, node)
    lost = loss(node)
    chance = random.Random(step)
    with node:
        hospital.fill()
        before, decided = everything(node, hospital.files), decisions(node)
        node.stop()
        lost.happen()
        kills = 0
        for attempt in range(20):
            node.environment["FILMROOM_ABORT_AT"] = f"{step}={chance.randint(1, 3) if attempt < 4 else 1000}"
            done = node.command("rebuild", "--json", check=False)
            if done.returncode == 0:
                break
            assert done.returncode < 0, done.stderr
            kills += 1
            # Nobody takes what is half there for an archive.
            del node.environment["FILMROOM_ABORT_AT"]
            refused = node.command("serve", check=False)
            assert refused.returncode != 0 and "filmroom rebuild" in refused.stderr
        assert kills >= 1 and json.loads(done.stdout)["resumed"]
        del node.environment["FILMROOM_ABORT_AT"]
        node.start()
        assert differing(before, everything(node, hospital.files)) is None
        assert differing(decided, decisions(node)) is None


@pytest.fixture
def shelf(tmp_path, catalogue_url, destination):
    """A node with a directory as its cold store, where two studies were packed."""
    (tmp_path / "cold").mkdir()
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port},
                f'[cold]\nurl = "file://{tmp_path}/cold"\ncheck_interval = "100ms"\n')
    with node:
        studies = {}
        for n in range(2):
            study, paths = sample.make_study(tmp_path / f"study{n}", images=3, patient_id=f"P{n}")
            assert set(scu.store(node, paths).values()) == {0x0000}
            node.command("offload", study)
            studies[study] = paths
        yield node, tmp_path / "cold", studies


def only(folder, pattern):
    (path,) = folder.rglob(pattern)
    return path


def test_what_is_damaged_is_named_and_keeps_the_rebuild_open(shelf, loss):
    node, cold, (first, second) = shelf
    lost = loss(node)
    node.command("quarantine", "list")
    manifest, pack = only(cold / first, "*.json.zst"), only(cold / second, "*.zip")
    (cold / first / "journal-019aa000-0000-7000-8000-000000000000.json").write_text('{"version":1,"action":"melted"}')
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-20])
    pack.rename(cold / "away")
    stray = cold / second / "1.2.3" / "0123.zip"
    stray.parent.mkdir()
    stray.write_bytes(b"PK")
    node.stop()
    lost.happen()
    done = node.command("rebuild", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode != 0 and not report["finished"] and report["damaged"] == 4
    assert {row["kind"] for row in report["damage"]} == {"manifest", "journal", "pack_missing", "manifest_missing"}
    assert "--despite-damage" in done.stderr
    assert "filmroom rebuild" in node.command("serve", check=False).stderr

    # Put right, it goes on; what cannot be is done without.
    manifest.write_bytes(whole)
    (cold / first / "journal-019aa000-0000-7000-8000-000000000000.json").unlink()
    (cold / "away").rename(pack)
    done = node.command("rebuild", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode != 0 and [row["kind"] for row in report["damage"]] == ["manifest_missing"]
    done = node.command("rebuild", "--json", "--despite-damage", check=False)
    assert done.returncode != 0 and json.loads(done.stdout)["finished"]
    node.start()
    assert node.status()["instances"] == 6 and node.status()["hot_objects"] == 6


def test_packs_are_not_opened_and_a_running_node_is_not_rebuilt_under(shelf, loss, destination, tmp_path):
    node, cold, studies = shelf
    running = node.command("rebuild", check=False)
    assert running.returncode != 0 and "serves this data directory" in running.stderr
    for study in studies:
        node.command("evict", study)
    before = everything(node, [path for paths in studies.values() for path in paths])
    node.stop()
    loss(node).happen()
    trace = tmp_path / "trace"
    from harness.node import BINARY

    subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", trace, str(BINARY), "--config", str(node.config), "rebuild"],
                   cwd=node.folder, check=True, capture_output=True, timeout=120)
    opened = trace.read_text()
    assert ".json.zst" in opened and ".zip" not in opened
    node.start()
    assert differing(before, everything(node, [path for paths in studies.values() for path in paths])) is None
    for study, paths in studies.items():
        final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, len(paths))
    assert {part10.digest(path) for path in destination.files()} == {part10.digest(path) for paths in studies.values() for path in paths}


def test_the_disk_of_another_node_is_put_on_record_when_it_starts(shelf, loss, tmp_path, catalogue_url):
    node, cold, studies = shelf
    other = Node(tmp_path / "other", node.catalogue_url if catalogue_url else None, {}, node.sections)
    if catalogue_url is None:
        pytest.skip("an embedded catalogue is one node's")
    with other:
        study, paths = sample.make_study(tmp_path / "elsewhere", images=2, patient_id="P7")
        assert set(scu.store(other, paths).values()) == {0x0000}
        other.command("offload", study)
        kept, kept_paths = sample.make_study(tmp_path / "unpacked", images=2, patient_id="P8")
        assert set(scu.store(other, kept_paths).values()) == {0x0000}
        other.stop()
        node.stop()
        loss(node).happen()
        node.command("rebuild")
        other.catalogue_url = node.catalogue_url
        other.write_config()
        files = len(other.hot_files())
        other.start()
        assert len(other.hot_files()) == files == 4
        assert other.status()["instances"] == 10 and other.status()["hot_objects"] == 4

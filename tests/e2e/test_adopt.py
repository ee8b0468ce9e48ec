"""`filmroom adopt`: a bucket that an S3 File Gateway filled is indexed where it lies, at about one GET an object; killed and started again; retrieved,
overwritten, deleted, and put on record anew."""

import hashlib
import io
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy
import pydicom
import pytest
from harness import cold, sample, scu
from harness.emulator import Emulator
from harness.node import BINARY, Node
from harness.ports import wait_until
from harness.site import rows
from harness.steered import Clock
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
IMAGES = 20
"""Images of a series."""
NO_SCRUB = '\n[scrub]\nhot_every = "never"\ncold_every = "never"\n'


def data_set_of(content):
    return content[144 + int.from_bytes(content[140:144], "little"):]


def digest(content):
    return hashlib.sha256(data_set_of(content)).hexdigest()


class Image:
    """One file as the gateway's user wrote it, with a preamble and File Meta Information of pydicom's."""

    def __init__(self, number, series_size=IMAGES, private=0):
        self.series = number // series_size
        self.study = self.series // 2
        self.uid = f"2.25.7{number:012}"
        self.study_uid, self.series_uid = f"2.25.5{self.study:09}", f"2.25.6{self.series:09}"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = CT, self.uid, ExplicitVRLittleEndian
        image = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        image.SOPClassUID, image.SOPInstanceUID = CT, self.uid
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_uid, self.series_uid
        image.PatientID, image.PatientName = f"GW{self.study % 7}", f"Gateway^{self.study % 7}"
        image.StudyDate, image.Modality, image.StudyDescription = "20190131", "CT", f"study {self.study}"
        image.SeriesNumber, image.InstanceNumber = self.series + 1, number % series_size + 1
        if private:
            image.private_block(0x0009, "FILMROOM TEST", create=True).add_new(1, "OB", bytes(private))
        image.Rows, image.Columns, image.BitsAllocated, image.BitsStored, image.HighBit = 160, 160, 8, 8, 7
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
        image.PixelData = numpy.random.default_rng(number).integers(0, 255, 160 * 160, dtype=numpy.uint8).tobytes()
        file = io.BytesIO()
        image.save_as(file, enforce_file_format=True)
        self.content = file.getvalue()
        self.key = f"share/2019/{self.study:05}/{self.series:05}/IMG{number % series_size:05}.dcm"


def rubbish(number, image):
    """What lies between the images of a share: its key, its content, and what becomes of it."""
    folder = image.key.rsplit("/", 1)[0]
    kinds = [
        (f"{folder}/.DS_Store", b"\0\0\0\1Bud1" + bytes(6000), "passed-over"),
        (f"{folder}/notes-{number}.txt", b"seen by Dr. Who\n" * 30, "passed-over"),
        (f"{folder}/empty-{number}.dcm", b"", "passed-over"),
        (f"{folder}/cut-{number}.dcm", image.content[: len(image.content) - 500], "refused"),
        (f"{folder}/cut-short-{number}.dcm", image.content[:300], "refused"),
        (f"{folder}/bare-{number}.dcm", data_set_of(image.content), "refused"),
    ]
    return kinds[number % len(kinds)]


class Gateway:
    """The bucket: the share at its root, filmroom's own prefix beside it."""

    def __init__(self, emulator, count):
        self.emulator, self.client = emulator, emulator.client(checksums="when_required")
        self.images = [Image(number) for number in range(count)]
        self.rubbish = {}
        for number in range(max(count // 100, 6)):
            key, content, became = rubbish(number, self.images[number * 17 % count])
            self.rubbish[key] = (content, became)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda image: self.put(image.key, image.content), self.images))
            list(pool.map(lambda item: self.put(item[0], item[1][0]), self.rubbish.items()))
        # The last series but one was archived long ago.
        self.archived = [image for image in self.images if image.series == self.images[-1].series - 1]
        for image in self.archived:
            emulator.archive(key=image.key)
        self.good = [image for image in self.images if image not in self.archived]

    def put(self, key, content):
        self.client.put_object(Bucket=self.emulator.bucket, Key=key, Body=content, StorageClass="INTELLIGENT_TIERING")

    def foreign(self):
        """What is known of each object of the share."""
        return self.emulator.objects("share/")

    def gets(self):
        return self.emulator.counters()["requests"].get("GetObject", 0)


def node_of(folder, emulator, catalogue_url=None, destinations=None, sections=""):
    text = cold.section(emulator.bucket, emulator.endpoint) + NO_SCRUB + sections
    return Node(folder, catalogue_url, destinations, text, environment=emulator.environment)


def adopt(node, *arguments, check=True):
    done = node.command("adopt", "--json", *arguments, check=False, timeout=900)
    assert not check or done.returncode == 0, done.stdout + done.stderr + node.log()[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def lines(report):
    """Key → what became of it."""
    return {line["key"]: line["result"] for line in map(json.loads, report.read_text().splitlines())}


def on_record(node):
    try:
        return rows(node, "SELECT count(*) FROM packs")[0][0]
    except Exception:  # noqa: BLE001 the catalogue is not made yet
        return 0


def answers(node, studies):
    """What C-FIND says at every level."""
    found, _ = scu.find(node, "STUDY", StudyInstanceUID="", PatientID="", PatientName="", StudyDate="", StudyDescription="", ModalitiesInStudy="",
                        NumberOfStudyRelatedSeries="", NumberOfStudyRelatedInstances="", InstanceAvailability="")
    said = [str(answer) for answer in found]
    for study in studies:
        for level, keys in (("SERIES", {"Modality": "", "SeriesNumber": "", "NumberOfSeriesRelatedInstances": ""}),
                            ("IMAGE", {"SOPInstanceUID": "", "InstanceNumber": "", "Rows": "", "PhotometricInterpretation": ""})):
            found, status = scu.find(node, level, StudyInstanceUID=study, SeriesInstanceUID="", **keys)
            assert status == 0x0000
            said += [str(answer) for answer in found]
    return sorted(said)


def start_adoption(node):
    return subprocess.Popen([str(BINARY), "--config", str(node.config), "adopt", "--json"], cwd=node.folder, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, env={**os.environ, **node.environment})


def counted(node, images):
    """C-FIND at each level has every adopted image, once."""
    studies = {image.study_uid for image in images}
    found, _ = scu.find(node, "STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="", NumberOfStudyRelatedSeries="")
    assert {str(answer.StudyInstanceUID): int(answer.NumberOfStudyRelatedInstances) for answer in found} == {
        study: sum(image.study_uid == study for image in images) for study in studies}
    for study in sorted(studies)[:5]:
        series, _ = scu.find(node, "SERIES", StudyInstanceUID=study, SeriesInstanceUID="", NumberOfSeriesRelatedInstances="")
        of_study = [image for image in images if image.study_uid == study]
        assert {str(answer.SeriesInstanceUID): int(answer.NumberOfSeriesRelatedInstances) for answer in series} == {
            uid: sum(image.series_uid == uid for image in of_study) for uid in {image.series_uid for image in of_study}}
        found, _ = scu.find(node, "IMAGE", StudyInstanceUID=study, SeriesInstanceUID="", SOPInstanceUID="")
        assert sorted(str(answer.SOPInstanceUID) for answer in found) == sorted(image.uid for image in of_study)


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("running", [False, True])
def test_a_bucket_that_a_gateway_filled_is_adopted_at_about_one_get_an_object(tmp_path, emulator, catalogue_url, running, count):
    gateway = Gateway(emulator, count)
    before = gateway.foreign()
    with scu.Destination(tmp_path / "moved") as destination:
        node = node_of(tmp_path / "node", emulator, catalogue_url, {destination.title: destination.port})
        if running:
            node.start()
        try:
            emulator.reset_counters()
            for kill in range(1, 4):
                process = start_adoption(node)
                wait_until(lambda: process.poll() is not None or on_record(node) >= kill * count // 5, "objects to be adopted", timeout=300, interval=0.02)
                assert process.poll() is None, "the adoption was over before it could be killed"
                process.kill()
                process.wait()
                if running:
                    node.kill()
                    node.start()
            report = tmp_path / "report.jsonl"
            last = adopt(node, "--report", report, check=False)
            became = lines(report)
            assert (last["adopted"] + last["known"], last["archived"], last["overwritten"]) == (len(gateway.good), len(gateway.archived), 0)
            assert last["archived_bytes"] == sum(len(image.content) for image in gateway.archived)
            assert last["known"] >= 3 * count // 5
            assert became == {key: kind for key, (_, kind) in gateway.rubbish.items()} | {image.key: "archived" for image in gateway.archived}
            # Measured by the store: what was asked for in all four runs.
            gets = gateway.gets()
            print(f"{gets} GETs for {len(before)} objects: {gets / len(before):.3f} each, {last['got_bytes']} bytes in the last run")
            # A kill costs a batch of 64 at most; what is on no record is asked for in each run.
            assert gets <= len(before) + 3 * 64 + 3 * (len(gateway.rubbish) + len(gateway.archived)), (gets, len(before))
            assert count < 5000 or gets <= 1.2 * len(before), (gets, len(before))
            again = adopt(node, check=False)
            assert (again["adopted"], again["known"]) == (0, len(gateway.good))
            assert again["gets"] <= len(gateway.rubbish) + len(gateway.archived)
            # Nothing of the share was written, tagged or restored.
            after = gateway.foreign()
            assert after.keys() == before.keys()
            assert all((after[key]["size"], after[key]["tier"], after[key]["restore"]) == (before[key]["size"], before[key]["tier"], None) for key in before)

            if not running:
                node.start()
            counted(node, gateway.good)
            assert node.status()["objects_adopted"] == len(gateway.good)
            assert node.command("fsck", "--cold", "--json", check=False).returncode == 0

            # Retrieved, they are what lies there; and from then on it is known what they are.
            moved = [image for image in gateway.good if image.study < 2]
            for study in sorted({image.study_uid for image in moved}):
                status, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
                assert status.Status == 0x0000, status
            assert destination.digests() == {image.uid: digest(image.content) for image in moved}
            known = rows(node, "SELECT count(*) FROM objects WHERE sha256 IS NOT NULL AND crc32 IS NOT NULL")
            assert known[0][0] == len(moved)

            # What was archived is taken up when somebody has restored it.
            for image in gateway.archived:
                emulator.archive("NONE", key=image.key)
            later = adopt(node, check=False)
            assert (later["adopted"], later["archived"]) == (len(gateway.archived), 0)
            counted(node, gateway.images)
        finally:
            node.kill()


def test_a_rebuild_knows_what_was_adopted_without_asking_for_it(tmp_path, emulator, catalogue_url):
    gateway = Gateway(emulator, 100)
    studies = sorted({image.study_uid for image in gateway.images})
    with node_of(tmp_path / "node", emulator) as node:
        adopt(node, check=False)
        before = answers(node, studies)
    emulator.advance(days=1)
    accessed = {key: row["last_access"] for key, row in gateway.foreign().items()}
    anew = node_of(tmp_path / "anew", emulator, catalogue_url)
    report = json.loads(anew.command("rebuild", "--json").stdout)
    assert report["objects"] == len(gateway.good) and report["damaged"] == 0
    assert {key: row["last_access"] for key, row in gateway.foreign().items()} == accessed
    with anew:
        assert answers(anew, studies) == before
        known = adopt(anew, check=False)
        assert (known["adopted"], known["known"]) == (0, len(gateway.good))
        anew.command("recall", studies[0])
        assert {digest(path.read_bytes()) for path in anew.hot_files()} == {digest(image.content) for image in gateway.good if image.study == 0}
        anew.command("evict", studies[0])
        assert not anew.hot_files()


def test_what_was_overwritten_since_is_named_and_never_sent(tmp_path, emulator, catalogue_url):
    gateway = Gateway(emulator, 60)
    with scu.Destination(tmp_path / "moved") as destination:
        with node_of(tmp_path / "node", emulator, catalogue_url, {destination.title: destination.port}) as node:
            adopt(node, check=False)
            # One of them with as many bytes as before, one with more.
            same, longer = gateway.images[3], gateway.images[5]
            gateway.put(same.key, same.content[:-1] + bytes([same.content[-1] ^ 1]))
            gateway.put(longer.key, longer.content + b"\0\0")
            status, failed = scu.move(node, destination.title, StudyInstanceUID=same.study_uid)[-1]
            assert status.Status == 0xB000 and status.NumberOfFailedSuboperations == 2
            assert sorted(failed.FailedSOPInstanceUIDList) == sorted([same.uid, longer.uid])
            others = [image for image in gateway.good if image.study == 0 and image not in (same, longer)]
            assert destination.digests() == {image.uid: digest(image.content) for image in others}
            done = node.command("fsck", "--cold", "--json", check=False)
            found = {(row["kind"], row["subject"]) for row in json.loads(done.stdout)["findings"]}
            assert found == {("pack_altered", "/" + same.key), ("pack_wrong_size", "/" + longer.key)}, done.stdout
            report = tmp_path / "report.jsonl"
            assert adopt(node, "--report", report, check=False)["overwritten"] == 2
            assert {key for key, became in lines(report).items() if became == "overwritten"} == {same.key, longer.key}
            # Brought back as it was, it is served again.
            gateway.put(same.key, same.content)
            assert node.command("fsck", "--cold", "--json", check=False).returncode == 4
            status, failed = scu.move(node, destination.title, StudyInstanceUID=same.study_uid)[-1]
            assert failed.FailedSOPInstanceUIDList == longer.uid
            assert destination.digests()[same.uid] == digest(same.content)


def test_what_is_held_already_stays_and_what_differs_waits_for_a_person(tmp_path, emulator, catalogue_url):
    client = emulator.client(checksums="when_required")
    held, other, twice = Image(0), Image(1), Image(2)

    def put(key, content):
        client.put_object(Bucket=emulator.bucket, Key=key, Body=content)

    path = tmp_path / "held.dcm"
    with node_of(tmp_path / "node", emulator, catalogue_url) as node:
        for image in (held, other):
            path.write_bytes(image.content)
            assert scu.store(node, [path]) == {path: 0x0000}
        changed = pydicom.dcmread(io.BytesIO(other.content))
        changed.ImageComments = "longer than what is held"
        file = io.BytesIO()
        changed.save_as(file, enforce_file_format=True)
        put("share/held.dcm", held.content)
        put("share/other.dcm", file.getvalue())
        put("share/twice-1.dcm", twice.content)
        put("share/twice-2.dcm", twice.content)
        # A header that goes on behind the first GET, and a document without pixels.
        long = Image(3, private=200_000)
        put("share/long.dcm", long.content)
        report = tmp_path / "report.jsonl"
        dry = adopt(node, "share/", "--dry-run")
        assert (dry["adopted"], dry["gets"]) == (5, 0) and node.status()["objects_adopted"] == 0
        tally = adopt(node, "share/", "--report", report)
        assert lines(report) == {"share/held.dcm": "equal", "share/other.dcm": "withheld", "share/twice-2.dcm": "equal"}
        assert (tally["adopted"], tally["equal"], tally["withheld"], tally["gets"]) == (2, 2, 1, 6)
        found, _ = scu.find(node, "IMAGE", StudyInstanceUID=held.study_uid, SeriesInstanceUID="", SOPInstanceUID="")
        assert sorted(str(answer.SOPInstanceUID) for answer in found) == [held.uid, other.uid, twice.uid, long.uid]
        (waiting,) = node.quarantine()
        assert waiting["reason"] == "differs in length from the instance held under this UID"
        # Who sends what was adopted and never read is not told that it is kept.
        path.write_bytes(twice.content)
        assert scu.store(node, [path])[path] & 0xF000 == 0xC000
        assert len(node.quarantine()) == 2


def test_an_adopted_study_that_is_deleted_is_erased_and_told_of_nowhere(tmp_path, catalogue_url):
    share, clock = tmp_path / "cold" / "share", Clock(tmp_path / "clock")
    study, paths = sample.make_study(share / "one", images=3, patient_id="GONE")
    kept, kept_paths = sample.make_study(share / "two", images=2, patient_id="STAYS")
    (share / "notes.txt").write_text("seen by Dr. Who\n" * 30)
    section = f'[cold]\nurl = "file://{tmp_path / "cold"}"\ncheck_interval = "100ms"\n[delete]\nretention = "none"\n' + NO_SCRUB
    with Node(tmp_path / "node", catalogue_url, sections=section, environment={"FILMROOM_CLOCK": str(clock.path)}) as node:
        assert adopt(node)["adopted"] == 5
        # A directory lists everything below its root: what was adopted is no stranger there, the rest is.
        found = json.loads(node.command("fsck", "--cold", "--json", check=False).stdout)["findings"]
        assert [(row["kind"], row["subject"]) for row in found] == [("object_unknown", "share/notes.txt")]
        node.command("delete", study, "--reason", "by mistake", "--yes")
        clock.advance(days=400)
        wait_until(lambda: not any(path.exists() for path in paths), "the study to be erased", timeout=60)
        assert all(path.exists() for path in kept_paths)

        def told():
            records = list((tmp_path / "cold").rglob("adopted-*.json.zst"))
            # One that was there may have gone.
            return b"".join(subprocess.run(["zstd", "-dcq", path], capture_output=True, check=False).stdout for path in records)

        wait_until(lambda: b"GONE" not in told(), "the record to go", timeout=60)
        assert b"STAYS" in told()
        found, _ = scu.find(node, "STUDY", StudyInstanceUID="")
        assert [str(answer.StudyInstanceUID) for answer in found] == [kept]

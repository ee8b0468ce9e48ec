"""`filmroom offload --repack`: what was adopted is read once and packed; what is archived stays, its originals are left or go in every version, a kill at any step is
made good, and a rebuild at any moment has each image once."""

import datetime
import io
import json
import os
import subprocess
import zipfile

import pytest
from harness import scu
from harness.emulator import Emulator
from harness.node import BINARY
from harness.ports import wait_until
from harness.site import rows
from harness.steered import Clock
from test_adopt import IMAGES, Gateway, Image, adopt, answers, counted, digest, node_of

STEPS = ["after_order", "after_read", "after_begun", "after_put", "after_manifest", "after_verified", "after_record"]
REMOVAL = ["after_object", "after_removal", "after_erased"]
LOCK_DAYS = 60


def repack(node, *arguments, check=True):
    done = node.command("offload", "--repack", *arguments, check=False, timeout=300)
    assert not check or done.returncode == 0, done.stdout + done.stderr + node.log()[-2000:]
    return done.stdout + done.stderr


def packs(emulator):
    return {key: found for key, found in emulator.objects("archive/").items() if key.endswith(".zip")}


def sends(node, destination, images):
    """Each image of these is sent once, as its user wrote it."""
    for path in destination.folder.iterdir():
        path.unlink()
    for study in sorted({image.study_uid for image in images}):
        status, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
        assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, sum(image.study_uid == study for image in images)), status
    assert destination.digests() == {image.uid: digest(image.content) for image in images}


def sound(node):
    checked = node.command("fsck", "--json", check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def rebuilt(node, folder, emulator, catalogue_url=None):
    """Another node, with the catalogue made anew from the cold store alone, and what the rebuild says. No pack is asked for."""
    anew = node_of(folder, emulator, catalogue_url, node.destinations)
    anew.environment |= node.environment
    accessed = {key: found["last_access"] for key, found in packs(emulator).items()}
    report = json.loads(anew.command("rebuild", "--json", check=False).stdout)
    assert {key: found["last_access"] for key, found in packs(emulator).items()} == accessed
    return anew, report


@pytest.fixture
def destination(tmp_path):
    with scu.Destination(tmp_path / "moved") as running:
        yield running


def test_what_was_adopted_is_read_once_packed_and_served_from_the_packs(tmp_path, emulator, catalogue_url, destination):
    gateway = Gateway(emulator, 100)
    studies = sorted({image.study_uid for image in gateway.good})
    before = gateway.foreign()
    with node_of(tmp_path / "node", emulator, catalogue_url, {destination.title: destination.port}) as node:
        adopt(node, check=False)
        answered = answers(node, studies)
        emulator.reset_counters()
        told = repack(node, studies[0], studies[1])
        of_two = [image for image in gateway.good if image.study < 2]
        assert f"{len(of_two)} adopted objects packed and verified; {len(of_two)} originals lie where they lay" in told, told
        assert gateway.gets() == len(of_two)
        # A pack of each series, as everything else is packed: any ZIP tool opens it.
        found = packs(emulator)
        assert len(found) == len({image.series for image in of_two})
        for key in found:
            with zipfile.ZipFile(io.BytesIO(gateway.client.get_object(Bucket=emulator.bucket, Key=key)["Body"].read())) as pack:
                contents = {image.uid: image.content for image in of_two if image.series_uid in key}
                assert {name.removesuffix(".dcm"): pack.read(name) for name in pack.namelist()} == contents
        assert answers(node, studies) == answered
        # What is archived stays as it is, and is counted; nobody restores it.
        for image in gateway.images[-IMAGES:]:
            emulator.archive(key=image.key)
        told = repack(node, "--all")
        assert f"{IMAGES} with {sum(len(image.content) for image in gateway.images[-IMAGES:])} bytes are archived" in told, told
        assert emulator.counters()["requests"].get("RestoreObject", 0) == 0
        readable = [image for image in gateway.good if image not in gateway.images[-IMAGES:]]
        assert node.status()["objects_adopted"] == IMAGES
        sound(node)
        # The gateway may take its objects away.
        for image in readable:
            gateway.client.delete_object(Bucket=emulator.bucket, Key=image.key)
        sends(node, destination, [image for image in readable if image.study < 2])
        for image in gateway.images[-IMAGES:]:
            emulator.archive("NONE", key=image.key)
        told = repack(node, "--all", "--remove-originals")
        assert f"{IMAGES} adopted objects packed and verified; their originals are removed" in told, told
        assert gateway.foreign().keys() == gateway.rubbish.keys() | {image.key for image in gateway.archived}
        assert "adopted-" not in "".join(emulator.objects("archive/"))
        counted(node, gateway.good)
        sends(node, destination, gateway.good)
        sound(node)
        # What is adopted again is what was never adopted.
        again = adopt(node, check=False)
        assert (again["adopted"], again["known"], again["archived"]) == (0, 0, len(gateway.archived))
        assert before.keys() >= gateway.foreign().keys()


def test_what_is_archived_is_restored_where_that_is_asked_for(tmp_path, catalogue_url, destination):
    clock = Clock(tmp_path / "clock")
    with Emulator(tmp_path / "s3", clock=clock.path) as emulator:
        gateway = Gateway(emulator, 60)
        node = node_of(tmp_path / "node", emulator, catalogue_url, {destination.title: destination.port})
        node.environment["FILMROOM_CLOCK"] = str(clock.path)
        with node:
            adopt(node, check=False)
            for image in gateway.good[:IMAGES]:
                emulator.archive("DEEP_ARCHIVE_ACCESS", key=image.key)
            told = repack(node, "--all", "--restore")
            assert f"{IMAGES} with" in told and "are restored and packed then" in told, told
            wait_until(lambda: emulator.counters()["requests"].get("RestoreObject", 0) == IMAGES, "the restores to be asked for", timeout=60)
            for image in gateway.good[:IMAGES]:
                emulator.finish(image.key)
            wait_until(lambda: clock.advance(hours=6) or node.status()["objects_adopted"] == 0, "what was restored to be packed", timeout=120, interval=0.5)
            sends(node, destination, gateway.good)
            sound(node)


class Locked:
    """A bucket of a gateway that keeps every version, some of it by Object Lock, and a node that goes by the same clock."""

    def __init__(self, folder, lock):
        self.clock = Clock(folder / "clock")
        self.emulator = Emulator(folder / "s3", clock=self.clock.path)
        self.folder, self.lock = folder, lock

    def __enter__(self):
        self.emulator.start()
        # Who puts under Object Lock has to send a checksum.
        s3 = self.emulator.client(checksums="when_supported" if self.lock else "when_required")
        if self.lock:
            s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
            self.emulator.bucket = "locked"
        else:
            s3.put_bucket_versioning(Bucket=self.emulator.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.s3, self.images = s3, [Image(number) for number in range(IMAGES)]
        for image in self.images:
            # Somebody had another one there before.
            s3.put_object(Bucket=self.emulator.bucket, Key=image.key, Body=b"a draft")
            until = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": self.clock.now() + datetime.timedelta(days=LOCK_DAYS)} if self.lock else {}
            s3.put_object(Bucket=self.emulator.bucket, Key=image.key, Body=image.content, **until)
        return self

    def __exit__(self, *exc):
        self.emulator.kill()

    def node(self, catalogue_url, destination):
        node = node_of(self.folder / "node", self.emulator, catalogue_url, {destination.title: destination.port})
        node.environment["FILMROOM_CLOCK"] = str(self.clock.path)
        return node

    def versions(self, prefix="share/"):
        page = self.s3.list_object_versions(Bucket=self.emulator.bucket, Prefix=prefix)
        assert not page["IsTruncated"]
        return [row["Key"] for row in page.get("Versions", []) + page.get("DeleteMarkers", [])]


def test_originals_go_in_every_version_and_an_overwritten_one_stays(tmp_path, catalogue_url, destination):
    with Locked(tmp_path, lock=False) as bucket, bucket.node(catalogue_url, destination) as node:
        adopt(node)
        repack(node, "--all")
        assert len(bucket.versions()) == 2 * IMAGES
        written = bucket.images[7]
        bucket.s3.put_object(Bucket=bucket.emulator.bucket, Key=written.key, Body=b"written since")
        told = repack(node, "--all", "--remove-originals")
        assert "0 adopted objects packed and verified; their originals are removed, in every version" in told, told
        assert bucket.versions() == [written.key] * 3
        assert not any("adopted-" in key for key in bucket.versions("archive/"))
        sends(node, destination, bucket.images)
        sound(node)


def test_what_object_lock_keeps_is_named_with_its_day_and_goes_then(tmp_path, catalogue_url, destination):
    with Locked(tmp_path, lock=True) as bucket, bucket.node(catalogue_url, destination) as node:
        adopt(node)
        until = bucket.clock.now() + datetime.timedelta(days=LOCK_DAYS)
        told = repack(node, "--all", "--remove-originals")
        assert f"{IMAGES} originals cannot be removed yet, the last not before {until:%Y-%m-%d}" in told and "Object Lock keeps" in told, told
        # Of each the version before is gone, which nothing keeps.
        assert sorted(set(bucket.versions())) == sorted(image.key for image in bucket.images)
        sends(node, destination, bucket.images)
        sound(node)
        bucket.clock.advance(days=LOCK_DAYS + 1)
        wait_until(lambda: bucket.versions() == [], "the originals to go", timeout=60)
        sends(node, destination, bucket.images)


SWEEP = STEPS + [f"erase::{step}" for step in REMOVAL]
OFTEN = ["after_put", "after_record", "erase::after_object"]


@pytest.mark.parametrize("step", [step if step in OFTEN else pytest.param(step, marks=pytest.mark.long) for step in SWEEP])
def test_a_kill_at_any_step_is_made_good_and_a_rebuild_then_has_each_image_once(tmp_path, emulator, destination, step):
    remove = step.startswith("erase::")
    step = step if remove else f"repack::{step}"
    gateway = Gateway(emulator, 3 * IMAGES)
    images = gateway.good
    node = node_of(tmp_path / "node", emulator, None, {destination.title: destination.port})
    node.start()
    adopt(node, check=False)
    node.kill()
    node.start(environment={"FILMROOM_ABORT_AT": f"{step}=1"})
    command = subprocess.Popen([str(BINARY), "--config", str(node.config), "offload", "--repack", "--all", *(["--remove-originals"] if remove else [])],
                               cwd=node.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **node.environment})
    wait_until(lambda: node.process.poll() is not None, f"the end at {step}", timeout=60)
    command.wait()
    node.kill()
    # The catalogue is lost at this moment. A pack without its manifest is named, as after any offload that ends there; another series may be there just then.
    anew, report = rebuilt(node, tmp_path / "anew", emulator)
    assert {damage["kind"] for damage in report["damage"]} <= {"manifest_missing"}, report
    assert report["damaged"] or step != "repack::after_put", report
    if not report["damaged"]:
        with anew:
            counted(anew, images)
            sends(anew, destination, images)
    node.start()
    left = 0 if remove else len(images)
    wait_until(lambda: node.status()["objects_adopted"] == 0 and rows(node, "SELECT count(*) FROM repacks")[0][0] == 0
               and rows(node, "SELECT count(*) FROM packs WHERE layout = 'foreign'")[0][0] == left, "the rest to be done by itself", timeout=60)
    assert len(packs(emulator)) == len({image.series for image in images})
    assert len(gateway.foreign()) == left + len(gateway.rubbish) + len(gateway.archived)
    sound(node)
    counted(node, images)
    sends(node, destination, images)
    node.kill()
    last, report = rebuilt(node, tmp_path / "last", emulator)
    assert (report["objects"], report["damaged"]) == (len(images), 0)
    with last:
        sends(last, destination, images)
        known = adopt(last, check=False)
        assert (known["adopted"], known["known"]) == (0, left)


def test_a_deletion_takes_the_original_of_what_was_packed(tmp_path, catalogue_url, destination):
    with Locked(tmp_path, lock=False) as bucket:
        node = bucket.node(catalogue_url, destination)
        node.sections += '\n[delete]\nretention = "none"\n'
        node.write_config()
        with node:
            adopt(node)
            repack(node, "--all")
            gone, *stay = bucket.images
            node.command("delete", gone.uid, "--reason", "by mistake", "--yes")
            bucket.clock.advance(days=400)
            wait_until(lambda: gone.key not in bucket.versions(), "the original to go", timeout=60)
            assert set(bucket.versions()) == {image.key for image in stay}
            wait_until(lambda: rows(node, "SELECT state FROM deletions") == [("erased",)], "the deletion to end", timeout=60)
            sends(node, destination, stay)
            sound(node)
        anew, report = rebuilt(node, tmp_path / "anew", bucket.emulator)
        assert (report["objects"], report["damaged"]) == (len(stay), 0)
        with anew:
            sends(anew, destination, stay)


def test_digests_that_were_learnt_are_known_after_a_rebuild_that_asks_for_no_image(tmp_path, catalogue_url, destination):
    clock = Clock(tmp_path / "clock")
    with Emulator(tmp_path / "s3", clock=clock.path) as emulator:
        gateway = Gateway(emulator, 60)
        node = node_of(tmp_path / "node", emulator, catalogue_url, {destination.title: destination.port})
        node.environment["FILMROOM_CLOCK"] = str(clock.path)
        with node:
            adopt(node, check=False)
            sends(node, destination, gateway.good)

            def journal():
                return [key for key in emulator.objects("archive/") if "/journal-" in key]

            assert journal() == []
            clock.advance(minutes=2)
            studies = {image.study_uid for image in gateway.good}
            wait_until(lambda: len(journal()) == len(studies), "the journal to tell of them", timeout=60)
        # All of it is archived for good.
        emulator.archive("DEEP_ARCHIVE_ACCESS", prefix="share/")
        anew, report = rebuilt(node, tmp_path / "anew", emulator)
        assert (report["objects"], report["damaged"]) == (len(gateway.good), 0)
        assert not any(found["restore"] for found in gateway.foreign().values())
        digests = {uid: bytes(sha256).hex() for uid, sha256 in rows(anew, "SELECT sop_instance_uid, sha256 FROM objects")}
        assert digests == {image.uid: digest(image.content) for image in gateway.good}


def test_who_asks_for_nothing_and_for_what_is_not_there_is_told(tmp_path, emulator):
    with node_of(tmp_path / "node", emulator) as node:
        assert "required" in repack(node, check=False)
        assert "no study is named" in repack(node, "1.2.3.4.5", check=False)
        assert "everything: 0 adopted objects packed" in repack(node, "--all")
        refused = node.command("offload", "--remove-originals", "1.2.3", check=False)
        assert refused.returncode != 0 and "--repack" in refused.stderr

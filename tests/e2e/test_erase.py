"""Erasing what was deleted on purpose out of S3: every version of its bytes goes, what lay beside it stays byte for byte, Object Lock is waited for, and a kill at
any step is made good by the next start."""

import datetime
import io
import json
import subprocess
import zipfile

import pydicom
import pytest
from harness import cold, sample, scu
from harness.arrivals import ByPynetdicom, assert_each_once, digests
from harness.emulator import Emulator
from harness.node import Node
from harness.ports import wait_until
from harness.requester import move
from harness.site import rows
from harness.steered import Clock
from test_delete import REFUSED, WITHOUT_DUTY, delete, deletion, holding, images, make, pixels

STEPS = ["after_replacing", "after_put", "after_manifest", "after_replaced", "after_object", "after_removal", "after_erased", "after_entries"]
LOCK_DAYS = 60

# The image of the study that is deleted, by its place.
GONE = 1


class Vault:
    """A bucket that keeps every version, a node on it that goes by the same clock, and where images are sent."""

    def __init__(self, folder, catalogue_url, lock=False):
        self.clock = Clock(folder / "clock")
        self.emulator = Emulator(folder / "s3", clock=self.clock.path)
        self.later = ByPynetdicom("KEEPER")
        self.lock, self.folder, self.catalogue_url = lock, folder, catalogue_url
        self.bucket = "locked" if lock else self.emulator.bucket

    def __enter__(self):
        self.emulator.start()
        self.s3 = self.emulator.client()
        if self.lock:
            self.s3.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
            rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": LOCK_DAYS}}
            self.s3.put_object_lock_configuration(Bucket=self.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
        else:
            self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.later.start()
        self.node = Node(self.folder / "node", self.catalogue_url, {self.later.title: self.later.port},
                         cold.section(self.bucket, self.emulator.endpoint, interval="100ms") + WITHOUT_DUTY,
                         environment={**self.emulator.environment, "FILMROOM_CLOCK": str(self.clock.path)})
        self.node.start()
        self.study, self.paths = make(self.folder / "study", images=4)
        self.other, others = make(self.folder / "other", images=2, patient_id="P2")
        assert set(scu.store(self.node, self.paths + others).values()) == {0x0000}
        self.others = others
        for study in (self.study, self.other):
            self.node.command("offload", study)
            self.node.command("evict", study)
        assert self.node.hot_files() == []
        return self

    def __exit__(self, *exc):
        self.node.__exit__(*exc)
        self.later.stop()
        self.emulator.kill()

    def versions(self, suffix="", study=None):
        """(key, whether it is a delete marker) of every version in the bucket that is no journal entry."""
        page = self.s3.list_object_versions(Bucket=self.bucket, Prefix=f"archive/{study or self.study}/")
        assert not page["IsTruncated"]
        rows = [(row["Key"], False) for row in page.get("Versions", [])] + [(row["Key"], True) for row in page.get("DeleteMarkers", [])]
        return sorted(row for row in rows if "/journal-" not in row[0] and row[0].endswith(suffix))

    def key(self):
        ((key, _),) = set(self.versions(".zip"))
        return key

    def body(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def delete(self):
        """Deletes one image, whose grace period is over then."""
        number = delete(self.node, str(sample.read(self.paths[GONE]).SOPInstanceUID))["id"]
        wait_until(lambda: not deletion(self.node, number)["remains"]["journal_pending"], "the journal")
        self.clock.advance(days=31)
        return number

    def stays(self):
        return [path for place, path in enumerate(self.paths) if place != GONE]

    def is_sound(self):
        """What stays comes byte for byte, and nothing else; nothing is wrong with the archive."""
        self.later.clear()
        for study, expected in [(self.study, self.stays()), (self.other, self.others)]:
            final = move("pynetdicom", self.node, self.later.title, StudyInstanceUID=study)
            assert (final.status, final.counters[0]) == (0x0000, len(expected))
        assert_each_once(self.later, digests(self.stays() + self.others))
        checked = self.node.command("fsck", "--json", check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def is_gone(self):
        """Nothing of the image is on the disk, nor in any version of any object; what stays is in one new pack."""
        unit = [pixels(self.paths[GONE])]
        assert holding(self.node.data / "hot", unit) == [] and holding(self.node.data / "incoming", unit) == []
        assert holding(self.emulator.folder / "data", unit) == []
        uid = str(sample.read(self.paths[GONE]).SOPInstanceUID)
        versions = self.versions()
        assert len(versions) == 2 and not any(marker for _, marker in versions), "one pack, one manifest, each in one version"
        with zipfile.ZipFile(io.BytesIO(self.body(self.key()))) as pack:
            assert set(pack.namelist()) == {f"{sample.read(path).SOPInstanceUID}.dcm" for path in self.stays()}
        manifest = self.body(self.key().removesuffix(".zip") + ".json.zst")
        assert uid.encode() not in subprocess.run(["zstd", "-dcq"], input=manifest, capture_output=True, check=True).stdout
        assert uid not in images(self.node, self.study)
        assert set(scu.store(self.node, [self.paths[GONE]]).values()) == {REFUSED}

    def erased(self, number):
        wait_until(lambda: deletion(self.node, number)["state"] == "erased", "the end of it", timeout=60)
        shown = deletion(self.node, number)
        assert shown["remains"] == {"journal_pending": False, "hot": [], "packs": []} and shown["ended_at"]


def test_every_version_of_an_image_goes_and_what_lay_beside_it_comes_as_before(tmp_path, catalogue_url):
    with Vault(tmp_path, catalogue_url) as vault:
        old = vault.key()
        # Somebody's tool has written the pack again, and deleted and written the manifest.
        vault.s3.put_object(Bucket=vault.bucket, Key=old, Body=vault.body(old), StorageClass="INTELLIGENT_TIERING")
        manifest = old.removesuffix(".zip") + ".json.zst"
        content = vault.body(manifest)
        vault.s3.delete_object(Bucket=vault.bucket, Key=manifest)
        vault.s3.put_object(Bucket=vault.bucket, Key=manifest, Body=content)
        assert len(vault.versions()) == 5
        neighbours = vault.versions(study=vault.other)
        number = vault.delete()
        vault.erased(number)
        vault.is_gone()
        assert vault.key() != old and vault.versions(study=vault.other) == neighbours
        vault.is_sound()
        # Again from the new pack, with nothing on the disk.
        vault.node.command("evict", vault.study)
        vault.is_sound()


def test_a_study_goes_with_its_packs_and_the_journal_stays(tmp_path, catalogue_url):
    with Vault(tmp_path, catalogue_url) as vault:
        number = delete(vault.node, vault.study)["id"]
        vault.clock.advance(days=31)
        vault.erased(number)
        assert vault.versions() == []
        assert holding(vault.emulator.folder / "data", [pixels(path) for path in vault.paths]) == []
        assert set(scu.store(vault.node, vault.paths).values()) == {REFUSED}
        assert json.loads(vault.node.command("fsck", "--json").stdout)["open"] == 0
        assert len(images(vault.node, vault.other)) == 2


def test_the_journal_forgets_the_names_of_what_is_erased(tmp_path, catalogue_url):
    with Vault(tmp_path, catalogue_url) as vault:
        told = [b"Vergessen^Anna", b"Andere^Anna"]
        # Other bytes of an image, from elsewhere, which a person discards before they were in any pack; and a name that contradicts what is on record.
        stranger = tmp_path / "stranger.dcm"
        image = pydicom.dcmread(vault.paths[GONE])
        image.PatientName, image.PixelData = "Vergessen^Anna", bytes(len(image.PixelData))
        image.save_as(stranger)
        assert scu.store(vault.node, [stranger], title="CT2")[stranger] & 0xF000 == 0xC000
        (waiting,) = vault.node.quarantine()
        vault.node.command("quarantine", "discard", waiting["object"])
        more, _ = make(tmp_path / "more", images=1, study_uid=vault.study, PatientName="Andere^Anna")
        assert more == vault.study and set(scu.store(vault.node, sorted((tmp_path / "more").iterdir())).values()) == {0x0000}
        (conflict,) = [json.loads(line) for line in vault.node.command("patient", "conflicts", "--json").stdout.splitlines()]
        vault.node.command("patient", "conflicts", "--resolve", conflict["id"])
        vault.node.command("offload", vault.study)

        def journalled():
            return [any(name in vault.body(row["Key"]) for row in vault.s3.list_objects_v2(Bucket=vault.bucket, Prefix=f"archive/{vault.study}/journal-").get("Contents", []))
                    for name in told]

        wait_until(lambda: journalled() == [True, True], "the journal")
        number = delete(vault.node, vault.study)["id"]
        vault.clock.advance(days=31)
        vault.erased(number)
        assert holding(vault.emulator.folder / "data", told) == []
        assert rows(vault.node, "SELECT count(*) FROM journal WHERE body LIKE '%^Anna%'")[0][0] == 0
        assert vault.s3.list_objects_v2(Bucket=vault.bucket, Prefix=f"archive/{vault.study}/journal-")["KeyCount"] > 0, "that it is deleted is told"
        assert set(scu.store(vault.node, vault.paths).values()) == {REFUSED}
        assert json.loads(vault.node.command("fsck", "--json").stdout)["open"] == 0


def test_what_object_lock_keeps_is_named_with_its_day_and_goes_then(tmp_path, catalogue_url):
    with Vault(tmp_path, catalogue_url, lock=True) as vault:
        put_at = vault.clock.now()
        old = vault.key()
        number = vault.delete()

        def locked():
            return [pack for pack in deletion(vault.node, number)["remains"]["packs"] if pack["locked_until"]]

        wait_until(locked, "it to be said until when", timeout=60)
        (pack,) = locked()
        until = datetime.datetime.fromisoformat(pack["locked_until"])
        assert abs((until - put_at).total_seconds() - LOCK_DAYS * 86_400) < 600
        assert f"archive/{pack['key']}" == old and "Object Lock keeps 1 versions" in pack["error"]
        listed = vault.node.command("deletions", "list").stdout
        assert f"locked until {until:%Y-%m-%d}" in listed, listed
        assert deletion(vault.node, number)["state"] == "erasing"
        vault.is_sound()
        assert set(scu.store(vault.node, [vault.paths[GONE]]).values()) == {REFUSED}
        assert len(vault.versions(".zip")) == 2
        vault.clock.advance(days=LOCK_DAYS - 31 + 1)
        vault.erased(number)
        vault.is_gone()
        vault.is_sound()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_is_made_good_by_the_next_start(tmp_path, step):
    with Vault(tmp_path, None) as vault:
        vault.node.kill()
        vault.node.start(environment={"FILMROOM_ABORT_AT": f"erase::{step}=1"})
        number = vault.delete()
        wait_until(lambda: vault.node.process.poll() is not None, f"the end at {step}", timeout=60)
        vault.node.kill()
        vault.node.start()
        vault.erased(number)
        vault.is_gone()
        vault.is_sound()

"""fsck: every kind of damage is found, named, and repaired where a good copy exists; nothing good is touched; interrupted, it goes on."""

import json
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest
from conftest import drop_database, new_database
from harness import part10, sample, scu
from harness.node import BINARY
from harness.ports import wait_until
from harness.shelf import STORES, Shelf, about, flip, flipped, hot_path, new_object_id, told

FOUND, LEFT = 0, 4


def fsck(node, *options, code=FOUND):
    done = node.command("fsck", "--json", *options, check=False)
    assert done.returncode == code, f"{options}: {done.returncode}\n{done.stdout}{done.stderr}\n--- node:\n{node.log()[-3000:]}"
    return json.loads(done.stdout)


def kinds(report, state="open"):
    """Subjects by kind."""
    found = {}
    for row in report["findings"]:
        if row["state"] == state:
            found.setdefault(row["kind"], set()).add(row["subject"])
    return found


def answers(node):
    """What C-FIND says at every level."""
    found = []
    studies, _ = scu.find(node, "STUDY", StudyInstanceUID="", PatientID="", PatientName="", StudyDate="", StudyDescription="", AccessionNumber="",
                          ModalitiesInStudy="", NumberOfStudyRelatedSeries="", NumberOfStudyRelatedInstances="", InstanceAvailability="")
    for study in studies:
        series, _ = scu.find(node, "SERIES", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID="", Modality="", SeriesNumber="",
                             SeriesDescription="", NumberOfSeriesRelatedInstances="")
        found += [study, *series]
        for one in series:
            images, _ = scu.find(node, "IMAGE", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID=one.SeriesInstanceUID, SOPInstanceUID="",
                                 InstanceNumber="", Rows="", ImageType="", PixelSpacing="", ContentTime="")
            found += images
    return sorted(answer.to_json() for answer in found)


def retrieved(node, destination):
    """Digests of what a C-MOVE of everything brings."""
    shutil.rmtree(destination.folder)
    destination.folder.mkdir()
    for study in {str(answer.StudyInstanceUID) for answer in scu.find(node, "STUDY", StudyInstanceUID="")[0]}:
        final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
        assert final.Status == 0x0000, final
    return sorted(part10.digest(path) for path in destination.files())


@pytest.fixture
def shelf(request, tmp_path, destination):
    """By the store and the database that the test names."""
    kind, database = request.param
    url, name = new_database() if database == "postgres" else (None, None)
    with STORES[kind](tmp_path / "cold") as store:
        shelf = Shelf(tmp_path, store, url, {destination.title: destination.port})
        with shelf.node:
            yield shelf
    if name:
        drop_database(name)


def on(*pairs):
    """Runs a test on stores and databases; those that begin with `long` only where time is no matter."""
    shelves = [pytest.param(tuple(pair.split("-")[-2:]), id=pair, marks=[pytest.mark.long] * pair.startswith("long")) for pair in pairs]
    return pytest.mark.parametrize("shelf", shelves, indirect=True)


class Damage:
    """Every kind of damage, planted while the node does not run, and what fsck has to say of it."""

    def __init__(self, shelf):
        self.shelf, self.store, self.node = shelf, shelf.store, shelf.node
        self.expected, self.lasting, self.planted = {}, {}, set()
        self.manifests = {}

    def expect(self, kind, subject, lasting=False):
        (self.lasting if lasting else self.expected).setdefault(kind, set()).add(subject)

    HOT = ("hot_altered", "hot_missing", "hot_wrong_size")
    COLD = ("pack_altered", "pack_missing", "pack_wrong_size", "manifest_missing", "manifest_altered", "object_without_row", "row_without_pack", "wrong_tier")

    def store_all(self):
        shelf = self.shelf
        for name in (*self.HOT, *self.COLD, "good", "only_hot"):
            shelf.study(name)
        shelf.offload(*self.HOT, *self.COLD, "good")
        shelf.evict("object_without_row", "row_without_pack", "wrong_tier")

    def plant(self):
        shelf, store, node = self.shelf, self.store, self.node
        # Those of packs that are put again are written anew, too.
        rewritten = ("pack_altered", "pack_missing", "pack_wrong_size", "manifest_missing", "manifest_altered")
        self.manifests = {key: told(store.read(key)) for key in map(shelf.manifest, rewritten)}
        self.hot("hot_altered", flip)
        self.hot("hot_missing", lambda path: path.unlink())
        self.hot("hot_wrong_size", lambda path: path.write_bytes(path.read_bytes()[:-2]))

        key = shelf.pack("pack_altered")
        store.write(key, flipped(store.read(key), 1000))
        self.expect("pack_altered", key)
        key = shelf.pack("pack_missing")
        store.remove(key)
        self.expect("pack_missing", key)
        key = shelf.pack("pack_wrong_size")
        store.write(key, store.read(key)[:-7])
        self.expect("pack_wrong_size", key)
        key = shelf.manifest("manifest_missing")
        store.remove(key)
        self.expect("manifest_missing", key)
        key = shelf.manifest("manifest_altered")
        store.write(key, flipped(store.read(key), 40))
        self.expect("manifest_altered", key)

        # Extra files: an image that no row knows, one that is not named as ours are, and one that nobody can have put there.
        self.extra, (extra,) = sample.make_study(shelf.folder / "extra", images=1, patient_id="EXTRA")
        object_id = new_object_id()
        path = hot_path(node.data, object_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(extra, path)
        self.expect("hot_unknown", str(object_id))
        self.planted.add(str(path.relative_to(node.data)))
        for name in ("notes.txt", path.parent.relative_to(node.data / "hot") / "image.dcm"):
            (node.data / "hot" / name).write_bytes(b"somebody's")
            self.expect("hot_foreign", f"hot/{name}", lasting=True)
            self.planted.add(f"hot/{name}")
        for key in ("notes.txt", f"{shelf.studies['good']}/1.2.3/notes.txt"):
            store.write(key, b"somebody's")
            self.expect("object_unknown", key, lasting=True)
            self.planted.add(key)
        # A pack of which nobody can say what is in it.
        key = f"{shelf.studies['good']}/1.2.3/{'0' * 32}.zip"
        store.write(key, b"PK")
        self.expect("pack_unknown", key, lasting=True)
        self.planted.add(key)

        # Objects in the cold store without rows: nothing of the study is on record; and a pack alone is not.
        study = shelf.studies["object_without_row"]
        of_study = f"SELECT id FROM studies WHERE study_uid = '{study}'"
        of_series = f"SELECT id FROM series WHERE study IN ({of_study})"
        self.expect("pack_unknown", shelf.pack("object_without_row"))
        key = shelf.pack("row_without_pack")
        self.expect("pack_unknown", key)
        shelf.sql(
            f"DELETE FROM packs WHERE series IN ({of_series})", f"DELETE FROM hot_copies WHERE object IN (SELECT id FROM objects WHERE series IN ({of_series}))",
            f"DELETE FROM series_nodes WHERE series IN ({of_series})", f"DELETE FROM objects WHERE series IN ({of_series})",
            f"DELETE FROM series WHERE study IN ({of_study})", f"DELETE FROM studies WHERE study_uid = '{study}'",
            f"DELETE FROM packs WHERE cold_key = '{key}'",
        )
        for row in self.objects("row_without_pack"):
            self.expect("object_lost", row)
        if store.archives:
            key = shelf.pack("wrong_tier")
            store.emulator.archive("DEEP_ARCHIVE_ACCESS", key="archive/" + key)
            self.tier = key

    def hot(self, name, damage):
        path = self.shelf.hot(name)[0]
        damage(path)
        self.expect(name, path.stem)

    def objects(self, name):
        from harness.site import rows

        study = self.shelf.studies[name]
        sql = f"SELECT o.object_id FROM objects o JOIN series se ON se.id = o.series JOIN studies st ON st.id = se.study WHERE st.study_uid = '{study}'"
        import uuid

        return [str(uuid.UUID(bytes=row[0]) if isinstance(row[0], bytes) else row[0]) for row in rows(self.node, sql)]

    def all(self):
        return {kind: self.expected.get(kind, set()) | self.lasting.get(kind, set()) for kind in {**self.expected, **self.lasting}}


@on("long-s3-sqlite", "s3-postgres", "directory-sqlite")
def test_every_kind_of_damage_is_found_named_and_repaired_where_a_good_copy_exists(shelf, destination):
    node, damage = shelf.node, Damage(shelf)
    damage.store_all()
    whole, before, images = shelf.everything(), answers(node), retrieved(node, destination)
    # What was retrieved is hot again.
    shelf.evict("object_without_row", "row_without_pack", "wrong_tier")
    whole = shelf.everything()
    assert fsck(node)["findings"] == []
    node.stop()
    assert fsck(node)["findings"] == []
    damage.plant()

    report = fsck(node, code=LEFT)
    assert kinds(report) == damage.all()
    if shelf.store.archives:
        # A HEAD is what the catalogue goes by: it has the tier right from then on.
        assert kinds(report, "repaired") == {"pack_wrong_tier": {damage.tier}}
        shelf.store.emulator.archive("NONE", prefix="archive/" + damage.tier)
        assert kinds(fsck(node, "--cold", code=LEFT), "repaired")["pack_wrong_tier"] == {damage.tier}
    damaged = shelf.everything()

    report = fsck(node, "--repair", code=LEFT)
    assert kinds(report) == damage.lasting
    assert {kind: found for kind, found in kinds(report, "repaired").items() if kind != "object_lost"} == {
        kind: found for kind, found in damage.expected.items() if kind != "object_lost"}
    after = shelf.everything()
    for name, digest in whole.items():
        if name in damage.manifests:
            assert told(shelf.store.read(name)) == damage.manifests[name]
        else:
            assert after[name] == digest, name
    assert set(after) - set(whole) == damage.planted
    assert all(after[name] == damaged[name] for name in damage.planted)
    # Once more, and nothing else comes up.
    assert kinds(fsck(node, "--repair", code=LEFT)) == damage.lasting

    node.start()
    assert [row for row in answers(node) if damage.extra not in row] == before
    assert set(retrieved(node, destination)) >= set(images)
    assert node.status()["findings"] == {kind: len(found) for kind, found in damage.lasting.items()}
    status, body = node.get("/health/ready")
    assert status == 200 and "object_unknown 2" in body
    wait_until(lambda: node.metric("filmroom_integrity_findings", kind="object_unknown") == 2, "the metrics")
    assert kinds(fsck(node, code=LEFT)) == damage.lasting


@on("s3-postgres", "directory-sqlite")
def test_what_has_no_good_copy_is_named_and_stays_named(shelf):
    node = shelf.node
    shelf.study("only_hot")
    shelf.study("good")
    shelf.offload("good")
    assert fsck(node)["findings"] == []
    lost, rotten = shelf.hot("only_hot")
    lost.unlink()
    flip(rotten)
    for options in ((), ("--repair",), ("--hot", "--repair"), (shelf.studies["only_hot"],)):
        assert kinds(fsck(node, *options, code=LEFT)) == {"hot_missing": {lost.stem}, "hot_altered": {rotten.stem}}
    # Bad bytes are better than none.
    assert rotten.exists()
    assert fsck(node, shelf.studies["good"])["findings"] == []
    assert fsck(node, "--cold")["findings"] == []


@on("s3-postgres", "directory-sqlite")
def test_an_archive_that_is_whole_gives_no_finding_while_it_is_worked_on(shelf):
    node, failures, stop = shelf.node, [], threading.Event()
    shelf.study("first")

    def work():
        try:
            for n in range(1000):
                name = f"study{n}"
                shelf.study(name, images=3)
                shelf.offload(name)
                shelf.evict(name)
                node.command("recall", shelf.studies[name])
                if stop.is_set():
                    return
        except AssertionError as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            report = fsck(node, "--restart")
            assert report["findings"] == [], report
    finally:
        stop.set()
        worker.join()
    assert failures == []
    report = fsck(node)
    assert report["findings"] == [] and report["checked"]["cold_rows"] >= 1


@on("s3-sqlite", "directory-postgres")
def test_what_nothing_needs_is_removed_and_nothing_else(shelf):
    node, store = shelf.node, shelf.store
    shelf.study("good")
    shelf.offload("good")
    pack, manifest = shelf.pack("good"), shelf.manifest("good")
    whole = shelf.everything()
    orphan = f"{pack.rsplit('/', 1)[0]}/{'0' * 32}.zip"
    lone = orphan.replace("0.zip", "1.json.zst")
    store.write(orphan, store.read(pack))
    store.write(orphan.replace(".zip", ".json.zst"), about(store.read(manifest), orphan))
    store.write(lone, about(store.read(manifest), lone.replace(".json.zst", ".zip")))
    expected = {"pack_orphan": {orphan}, "manifest_orphan": {lone}}
    assert kinds(fsck(node, code=LEFT)) == expected
    # The pack that has the same instances is not there: then this one is all that there is of them.
    content = store.read(pack)
    store.remove(pack)
    report = fsck(node, shelf.studies["good"], "--cold", code=LEFT)
    assert kinds(report)["pack_missing"] == {pack} and orphan in store.keys()
    store.write(pack, content)
    report = fsck(node, "--repair")
    assert kinds(report, "repaired") == expected
    assert shelf.everything() == whole


@on("s3-sqlite")
def test_a_pack_that_gives_out_other_bytes_than_its_checksum_says_is_found_by_reading(shelf):
    node, store = shelf.node, shelf.store
    shelf.study("good")
    shelf.study("bad")
    shelf.offload("good", "bad")
    whole = shelf.everything()
    key = shelf.pack("bad")
    store.emulator.corrupt("archive/" + key, offset=2000)
    assert fsck(node)["findings"] == []
    assert kinds(fsck(node, "--read", code=LEFT)) == {"pack_corrupt": {key}}
    # Nothing but reading it takes that back, and nothing counts on it.
    assert kinds(fsck(node, code=LEFT)) == {"pack_corrupt": {key}}
    node.command("evict", shelf.studies["bad"], check=False)
    assert len(shelf.hot("bad")) == 2
    assert kinds(fsck(node, "--read", "--repair"), "repaired") == {"pack_corrupt": {key}}
    assert store.read(key) and fsck(node, "--read")["findings"] == []
    after = shelf.everything()
    assert all(after[name] == digest for name, digest in whole.items() if name != key.replace(".zip", ".json.zst"))


@on("directory-postgres", "directory-sqlite")
def test_files_that_are_not_expected_are_judged_by_their_bytes(shelf):
    node = shelf.node
    for name in ("evicted", "altered", "unpacked"):
        shelf.study(name)
    shelf.offload("evicted", "altered")
    kept = {name: shelf.hot(name) for name in ("evicted", "altered", "unpacked")}
    bytes_of = {path: path.read_bytes() for paths in kept.values() for path in paths}
    shelf.evict("evicted", "altered")
    node.stop()
    # The files of an eviction that was not finished, one of which rotted; and one that is on no record here.
    for name in ("evicted", "altered"):
        for path in kept[name]:
            path.write_bytes(bytes_of[path])
    flip(kept["altered"][0])
    shelf.sql("DELETE FROM hot_copies WHERE object IN (SELECT id FROM objects WHERE pack IS NULL)")
    everything = {path.stem for paths in kept.values() for path in paths}
    report = fsck(node, "--hot", code=LEFT)
    assert kinds(report) == {"hot_unrecorded": everything}
    report = fsck(node, "--hot", "--repair", code=LEFT)
    assert kinds(report) == {"hot_unrecorded": {kept["altered"][0].stem}}
    assert kinds(report, "repaired")["hot_unrecorded"] == everything - {kept["altered"][0].stem}
    node.start()
    assert node.status()["hot_objects"] == 5


@on("s3-sqlite")
def test_no_pack_is_read_and_what_is_read_is_read_slowly_where_that_is_asked_for(shelf):
    node, store = shelf.node, shelf.store
    shelf.study("good", images=20)
    shelf.offload("good")
    size = sum(path.stat().st_size for path in node.hot_files())
    before = {key: row["last_access"] for key, row in store.emulator.objects().items() if key.endswith(".zip")}
    store.emulator.advance(days=10)
    started = time.monotonic()
    assert fsck(node, "--rate", f"{size // 2}")["findings"] == []
    assert time.monotonic() - started > 1
    assert {key: row["last_access"] for key, row in store.emulator.objects().items() if key.endswith(".zip")} == before


def plant_some(shelf):
    """Damage in each pass of a run."""
    names = [f"s{n}" for n in range(6)]
    for name in names:
        shelf.study(name)
    shelf.offload(*names)
    flip(shelf.hot("s0")[0])
    shelf.store.remove(shelf.pack("s1"))
    shelf.store.remove(shelf.manifest("s2"))
    shelf.store.write("notes.txt", b"somebody's")
    (shelf.node.data / "hot" / "notes.txt").write_bytes(b"somebody's")


def killed_at_random(node, chance, longest, *options):
    process = subprocess.Popen([str(BINARY), "--config", str(node.config), "fsck", "--json", *options], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, cwd=node.folder)
    time.sleep(chance.random() * longest)
    process.send_signal(signal.SIGKILL)
    process.wait()


EXPECTED = {"hot_altered", "pack_missing", "manifest_missing", "object_unknown", "hot_foreign"}


@on("s3-postgres", "directory-sqlite")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))])
def test_killed_at_a_random_point_it_goes_on_and_finds_the_same(shelf, seed):
    chance, node = random.Random(seed), shelf.node
    plant_some(shelf)
    expected = kinds(fsck(node, "--restart", code=LEFT))
    assert set(expected) == EXPECTED
    for _ in range(4):
        killed_at_random(node, chance, 0.5)
        assert kinds(fsck(node, code=LEFT)) == expected


@on("s3-postgres", "directory-sqlite")
def test_killed_at_each_step_it_does_not_begin_again(shelf):
    node = shelf.node
    plant_some(shelf)
    node.stop()
    # Where no node runs the check is a process of its own, and dies at the step that is named.
    for step in range(1, 6):
        node.environment["FILMROOM_ABORT_AT"] = f"fsck::after_page={step}"
        assert node.command("fsck", "--json", "--restart", check=False).returncode < 0
        del node.environment["FILMROOM_ABORT_AT"]
        report = fsck(node, code=LEFT)
        assert set(kinds(report)) == EXPECTED and report["resumed"]
        # What was looked at before is not looked at again.
        assert (step == 1) == ("hot_rows" in report["checked"])
    # Killed after a repair, what is left in the end is the same.
    left = EXPECTED - {"hot_altered", "pack_missing", "manifest_missing"}
    node.environment["FILMROOM_ABORT_AT"] = "fsck::after_repair=1"
    for _ in range(3):
        assert node.command("fsck", "--repair", check=False).returncode < 0
    del node.environment["FILMROOM_ABORT_AT"]
    assert set(kinds(fsck(node, "--repair", code=LEFT))) == left
    assert set(kinds(fsck(node, "--restart", code=LEFT))) == left

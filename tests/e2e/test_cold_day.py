"""A day with the cold store: studies are received, go to S3 in packs, leave the disk, and come back by themselves when somebody asks for them."""

import hashlib
import os
import subprocess
from pathlib import Path

import pydicom
import pytest
from harness import cold, dcmtk, part10, sample, scu
from harness.node import Node
from harness.ports import wait_until
from harness.s3 import S3
from harness.s3proxy import S3Proxy

HERE = Path(__file__).parent


def digests(paths):
    return {part10.digest(path) for path in paths}


def three_studies(tmp_path):
    studies = {}
    for n, (template, modality) in enumerate([("ct/CT_small.dcm", "CT"), ("mr_series/MR01.dcm", "MR"), ("sr_ko_pr/test-SR.dcm", "SR")]):
        study, paths = sample.make_study(tmp_path / f"study{n}", images=4, series=2, template=template, patient_id=f"DAY{n}", modality=modality)
        studies[study] = paths
    return studies


def test_received_offloaded_evicted_found_moved_and_hot_again(tmp_path, catalogue_url, destination):
    s3 = cold.client()
    bucket = cold.new_bucket(s3)
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port},
                cold.section(bucket, os.environ["FILMROOM_TEST_S3"]), environment=cold.ENVIRONMENT)
    with node:
        studies = three_studies(tmp_path)
        statuses = scu.store(node, [path for paths in studies.values() for path in paths])
        assert set(statuses.values()) == {0x0000}
        for study in studies:
            node.command("offload", study)
        assert node.status()["packs_pending"] == 0 and node.status()["packs_verified"] == 6

        packs = cold.keys(s3, bucket, ".zip")
        assert len(packs) == 6 and len(cold.keys(s3, bucket, ".json.zst")) == 6
        for key in packs:
            head = s3.head_object(Bucket=bucket, Key=key)
            assert head["StorageClass"] == "INTELLIGENT_TIERING"
            assert key.split("/")[1] in studies
        check_packs(s3, bucket, packs, tmp_path, studies)

        for study in studies:
            node.command("evict", study)
        assert node.hot_files() == []
        answers, status = scu.find(node, "STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances="", ModalitiesInStudy="", InstanceAvailability="")
        assert status == 0x0000
        assert {str(a.StudyInstanceUID): int(a.NumberOfStudyRelatedInstances) for a in answers} == {study: 8 for study in studies}
        assert {a.InstanceAvailability for a in answers} == {"ONLINE"}

        for study, paths in studies.items():
            final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
            assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, 8)
        everything = digests(path for paths in studies.values() for path in paths)
        assert digests(destination.files()) == everything
        wait_until(lambda: digests(node.hot_files()) == everything, "everything hot again")
        assert node.status()["hot_objects"] == 24


def check_packs(s3, bucket, packs, tmp_path, studies):
    """The packs open with unzip and with Java's ZipInputStream; DCMTK reads their entries, which are the files as they were sent."""
    folder = tmp_path / "packs"
    folder.mkdir()
    local = []
    for n, key in enumerate(packs):
        s3.download_file(bucket, key, str(folder / f"{n}.zip"))
        local.append(folder / f"{n}.zip")
        subprocess.run(["unzip", "-q", "-o", local[-1], "-d", folder / "entries"], check=True)
    entries = sorted((folder / "entries").glob("*.dcm"))
    assert len(entries) == 24
    for entry in entries:
        dcmtk.run("dcmdump", "-q", "+P", "0008,0018", entry)
        assert entry.stem == str(pydicom.dcmread(entry, stop_before_pixels=True).SOPInstanceUID)
    assert digests(entries) == digests(path for paths in studies.values() for path in paths)
    listed = subprocess.run(["java", HERE / "ZipTest.java", *local], check=True, capture_output=True, text=True).stdout
    assert sorted(listed.split("\n")[:-1]) == sorted(f"{e.name} {e.stat().st_size}" for e in entries)


@pytest.fixture
def own_s3(tmp_path):
    """A server of this test's own, to be killed."""
    server = S3(tmp_path / "own-s3")
    yield server
    server.kill()


def big_study(tmp_path, series=3, images=2, megabytes=12):
    """Series whose packs are above 16 MB, so that they go up in parts."""

    def pixels(image, s, n):
        image.Rows, image.Columns, image.BitsAllocated = 1024, 1024 * megabytes // 2, 16
        image.PixelData = hashlib.shake_128(f"{s}.{n}".encode()).digest(megabytes * 1024 * 1024)

    return sample.make_study(tmp_path / "big", images=images, series=series, extra=pixels)


def test_the_s3_server_is_killed_in_the_middle_of_an_upload_and_of_a_recall(tmp_path, catalogue_url, destination, own_s3):
    bucket = cold.new_bucket(cold.client(own_s3.endpoint))
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, cold.section(bucket, own_s3.endpoint, timeout="3s"), environment=cold.ENVIRONMENT)
    with node:
        study, paths = big_study(tmp_path)
        assert set(scu.store(node, paths).values()) == {0x0000}
        node.command("offload", study, "--no-wait")
        wait_until(lambda: uploading(own_s3, bucket), "an upload on its way", interval=0.005)
        own_s3.kill()
        # Storing goes on while the cold store is gone.
        other, more = sample.make_study(tmp_path / "meanwhile", images=3)
        assert set(scu.store(node, more).values()) == {0x0000}
        assert node.status()["packs_pending"] > 0
        own_s3.start()
        wait_until(lambda: node.status()["packs_verified"] >= 3, "the upload resumed by itself", timeout=120, interval=0.5)
        node.command("evict", study)
        assert digests(node.hot_files()) == digests(more)

        import threading

        result = []
        mover = threading.Thread(target=lambda: result.append(scu.move(node, destination.title, StudyInstanceUID=study)))
        mover.start()
        wait_until(lambda: recalling(node) or not mover.is_alive(), "a recall on its way", interval=0.005)
        own_s3.kill()
        own_s3.start()
        mover.join(timeout=180)
        assert not mover.is_alive()
        final = result[0][-1][0]
        if final.Status != 0x0000:
            # The server was gone for longer than a requester is kept waiting: an honest failure, and the next request succeeds.
            assert final.Status in (0xB000, 0xA702)
            final = scu.move(node, destination.title, StudyInstanceUID=study)[-1][0]
        assert final.Status == 0x0000, node.log()[-3000:]
        assert digests(destination.files()) == digests(paths)


def uploading(server, bucket):
    try:
        return server.client().list_multipart_uploads(Bucket=bucket).get("Uploads")
    except Exception:
        return False


def recalling(node):
    return any(path.stat().st_size > 0 for path in node.incoming_files() if path.exists())


def test_a_hot_file_that_rotted_before_it_was_packed_never_reaches_verified(tmp_path, catalogue_url, destination):
    s3 = cold.client()
    bucket = cold.new_bucket(s3)
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port},
                cold.section(bucket, os.environ["FILMROOM_TEST_S3"]), environment=cold.ENVIRONMENT)
    with node:
        study, paths = sample.make_study(tmp_path / "study", images=5)
        scu.store(node, paths)
        rotten = node.hot_files()[2]
        content = bytearray(rotten.read_bytes())
        content[-100] ^= 0x10
        rotten.write_bytes(content)
        node.command("offload", study, check=False)
        wait_until(lambda: node.status()["packs_verified"] == 1 and node.status()["packs_pending"] == 0, "the rest to be verified", timeout=60)
        (waiting,) = node.quarantine()
        assert waiting["object"] == rotten.stem
        bodies = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in cold.keys(s3, bucket, ".zip")]
        assert all(bytes(content)[-2000:] not in body for body in bodies)
        # It is neither found nor evicted, and the rest is served.
        answers, _ = scu.find(node, "STUDY", StudyInstanceUID=study, NumberOfStudyRelatedInstances="")
        assert int(answers[0].NumberOfStudyRelatedInstances) == 4
        node.command("evict", study)
        assert node.hot_files() == [rotten]


def test_an_archived_pack_is_recognised_and_fails_with_a_clear_comment(tmp_path, catalogue_url, destination):
    s3 = cold.client()
    bucket = cold.new_bucket(s3)
    proxy = S3Proxy(os.environ["FILMROOM_TEST_S3"])
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, cold.section(bucket, proxy.endpoint), environment=cold.ENVIRONMENT)
    with node:
        study, paths = sample.make_study(tmp_path / "study", images=3, series=2)
        scu.store(node, paths)
        node.command("offload", study)
        node.command("evict", study)
        first, second = cold.keys(s3, bucket, ".zip")
        proxy.archived[first] = "DEEP_ARCHIVE_ACCESS"
        responses = scu.move(node, destination.title, StudyInstanceUID=study)
        final, failed = responses[-1]
        assert (final.Status, final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (0xB000, 3, 3)
        assert len(failed.FailedSOPInstanceUIDList) == 3
        assert "3 archived" in final.ErrorComment and len(final.ErrorComment) <= 64
        # What is known now is told without asking S3 again; once this S3, which has no archive, has refused the restore.
        wait_until(lambda: '"failed"' in node.command("restores", "--json").stdout, "the restore to fail")
        seen = sum(proxy.requests.values())
        answers, _ = scu.find(node, "SERIES", StudyInstanceUID=study, SeriesInstanceUID="", InstanceAvailability="")
        assert {str(a.SeriesInstanceUID): a.InstanceAvailability for a in answers} == {first.split("/")[2]: "NEARLINE", second.split("/")[2]: "ONLINE"}
        assert sum(proxy.requests.values()) == seen
        # Somebody restored it by hand: the next retrieve believes what S3 says.
        proxy.archived.clear()
        assert scu.move(node, destination.title, StudyInstanceUID=study)[-1][0].Status == 0x0000
        assert digests(destination.files()) == digests(paths)
    proxy.close()


def test_quiet_series_leave_by_themselves(tmp_path, catalogue_url, destination):
    s3 = cold.client()
    bucket = cold.new_bucket(s3)
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port},
                cold.section(bucket, os.environ["FILMROOM_TEST_S3"], offload_after="1s") + '\n[hot]\nevict_after = "1s"\n', environment=cold.ENVIRONMENT)
    with node:
        study, paths = big_study(tmp_path, series=1, megabytes=1)
        scu.store(node, paths)
        wait_until(lambda: node.status()["packs_verified"] == 1, "the offload")
        # Use is remembered to the hour, so eviction by age is shown by asking for it.
        node.command("evict", study)
        assert node.hot_files() == []
        assert scu.move(node, destination.title, StudyInstanceUID=study)[-1][0].Status == 0x0000
        assert digests(destination.files()) == digests(paths)

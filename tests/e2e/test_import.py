"""`filmroom import`: folders, ZIP archives and media; by copy and by hard link; killed and started again."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile

import pydicom
import pytest
from harness import part10, raw, sample
from harness.node import BINARY, Node
from harness.ports import wait_until

FIXTURES = sample.FIXTURES
JOBS = 4


def lines(report):
    """A report: path below its folder → what is said."""
    return [json.loads(line) for line in report.read_text().splitlines()]


def named(report, result):
    return sorted(line.get("member") or line["path"] for line in lines(report) if line["result"] == result)


def imported(node, *arguments, check=True):
    """What an import counted."""
    done = node.command("import", "--json", *arguments, check=False, timeout=900)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.returncode


def small_image(number):
    """A whole Part 10 file of about 1 kB."""
    uid = f"1.2.3.40.{number}"
    data_set = raw.data_set(uid, study=f"1.2.3.41.{number // 200}", series=f"1.2.3.42.{number // 50}", sop_class=raw.CT)
    meta = b""
    for element, value in ((2, raw.CT), (3, uid), (0x10, raw.EXPLICIT)):
        text = value.encode() + b"\0" * (len(value) % 2)
        meta += b"\2\0" + element.to_bytes(2, "little") + b"UI" + len(text).to_bytes(2, "little") + text
    return b"\0" * 128 + b"DICM\2\0\0\0UL\4\0" + len(meta).to_bytes(4, "little") + meta + data_set


def broken(content, kind):
    """What a bad disk, a full disk and a bad program make of a file: each is DICOM, and none can be taken."""
    if kind == 0:
        return content[: len(content) - 9]
    if kind == 1:
        return content[:140]
    if kind == 2:
        return content.replace(b"1.2.3.40.", b"1.2.x.40.")
    return content[:132] + b"\2\0\x02\0UI\x02\x001\0" + content[300:]


def make_folder(folder, count):
    """`count` images in folders of 100, one in a hundred broken; returns the paths of the good and the broken ones."""
    good, bad = [], []
    for number in range(count):
        path = folder / f"{number // 100:03}" / f"{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = small_image(number)
        if number % 100 == 37:
            content = broken(content, number // 100 % 4)
            bad.append(str(path))
        else:
            good.append(path)
        path.write_bytes(content)
    return good, bad


def start_import(node, *arguments):
    return subprocess.Popen(
        [str(BINARY), "--config", str(node.config), "import", *map(str, arguments)],
        cwd=node.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **node.environment},
    )


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("count", [400, pytest.param(20000, marks=pytest.mark.long)])
def test_an_import_killed_three_times_takes_every_good_file_once(tmp_path, count, running):
    good, bad = make_folder(tmp_path / "images", count)
    node = Node(tmp_path / "node")
    if running:
        node.start()
    report = tmp_path / "report.jsonl"
    try:
        for kill in range(1, 4):
            process = start_import(node, tmp_path / "images", "--report", report, "--jobs", JOBS)
            # Killed somewhere in the middle of the files, by how many have arrived.
            wait_until(lambda: process.poll() is not None or len(node.hot_files()) >= kill * count // 5, "files to arrive", timeout=300, interval=0.05)
            assert process.poll() is None, "the import was over before it could be killed"
            process.kill()
            process.wait()
            if running and kill == 2:
                node.kill()
                node.start()
        last, status = imported(node, tmp_path / "images", "--report", report, check=False)
        assert status == 1
        assert (last["refused"], last["missing"], last["passed_over"]) == (len(bad), 0, 0)
        # What was answered before the kills is not read again: at most what was on its way then.
        assert last["imported"] + last["equal"] + last["earlier"] == len(good)
        assert last["equal"] <= 3 * JOBS and last["earlier"] >= 3 * count // 5 - 3 * JOBS, last
        assert named(report, "refused") == bad and len(lines(report)) == len(bad)
        assert node.status()["instances"] == len(good)
        assert {part10.digest(path) for path in node.hot_files()} == {part10.digest(path) for path in good}
        assert len(node.hot_files()) == len(good)

        # All done: the next start reads none of them, but tries the broken ones again.
        again, status = imported(node, tmp_path / "images", "--report", report, check=False)
        assert (again["earlier"], again["imported"], again["equal"], again["refused"]) == (len(good), 0, 0, len(bad))
        if count == 400:
            anew, _ = imported(node, tmp_path / "images", "--anew", check=False)
            assert (anew["earlier"], anew["imported"], anew["equal"]) == (0, 0, len(good))
    finally:
        node.kill()


def test_zip_archives_are_read_like_folders(node, tmp_path):
    paths = sample.waves(sample.valid_files())[0][:60]
    archive = tmp_path / "export.ZIP"
    with zipfile.ZipFile(archive, "w") as z:
        for number, path in enumerate(paths):
            z.write(path, f"images/{number % 7}/{path.name}", (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[number % 2])
        z.writestr("README.txt", "read me")
        z.writestr("viewer/autorun.exe", b"MZ" + bytes(100_000), zipfile.ZIP_DEFLATED)
        with z.open(zipfile.ZipInfo("large"), "w", force_zip64=True) as member:
            member.write(small_image(1))
    report = tmp_path / "report.jsonl"
    count, _ = imported(node, archive, "--report", report)
    assert (count["imported"], count["refused"], count["passed_over"]) == (len(paths) + 1, 0, 2)
    assert named(report, "passed over") == ["README.txt", "viewer/autorun.exe"]
    assert {part10.digest(path) for path in node.hot_files()} == {part10.digest(path) for path in paths} | {
        hashlib.sha256(data_set_of(small_image(1))).hexdigest()
    }
    count, _ = imported(node, tmp_path)
    assert count["imported"] == 0 and count["equal"] + count["earlier"] == len(paths) + 1


def data_set_of(content):
    return content[144 + int.from_bytes(content[140:144], "little"):]


def test_a_damaged_archive_costs_its_damaged_members(sqlite_node, tmp_path):
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for number in range(10):
            z.writestr(f"{number}", small_image(number))
        z.writestr("inner.zip", b"PK\x05\x06" + bytes(18))
        blank = zipfile.ZipInfo("blank")
        blank.compress_type = zipfile.ZIP_DEFLATED
        with z.open(blank, "w") as member:
            member.write(small_image(11) + b"\xe0\x7f\x10\0OW\0\0" + (300 << 20).to_bytes(4, "little"))
            for _ in range(300):
                member.write(bytes(1 << 20))
    content = bytearray(archive.read_bytes())
    content[content.find(b"1.2.3.40.5", content.find(b"1.2.3.40.5") + 1)] ^= 1
    archive.write_bytes(content)
    report = tmp_path / "report.jsonl"
    count, status = imported(sqlite_node, archive, "--report", report, check=False)
    assert (count["imported"], status) == (9, 1)
    assert named(report, "refused") == ["5", "blank", "inner.zip"]
    # A download that was cut short is said to be one.
    cut = tmp_path / "cut.zip"
    cut.write_bytes(content[:5000])
    count, status = imported(sqlite_node, cut, check=False)
    assert (count["refused"], status) == (1, 1) and "not a whole ZIP archive" in count["faults"][0]["why"]


def test_a_medium_with_a_dicomdir_says_which_of_its_files_are_missing(node, tmp_path):
    medium = tmp_path / "medium"
    sources = sorted((FIXTURES / "dicomdir" / "77654033").rglob("*"))
    names = []
    for number, path in enumerate(path for path in sources if path.is_file()):
        target = medium / f"DIR{number % 2}" / f"IM{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        image = pydicom.dcmread(path)
        image.save_as(target)
        names.append(target)
    made = subprocess.run(["dcmmkdir", "+r", "+id", ".", "+D", "DICOMDIR", "-Pgp"], cwd=medium, capture_output=True, text=True)
    assert made.returncode == 0 and (medium / "DICOMDIR").exists(), made.stderr
    # As many systems show it: lower case. One file is lost, one is there that the DICOMDIR does not know.
    lower = tmp_path / "lower"
    for path in medium.rglob("*"):
        if path.is_file() and path != names[0]:
            target = lower / str(path.relative_to(medium)).lower()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (lower / "extra").write_bytes(small_image(1))
    report = tmp_path / "report.jsonl"
    count, status = imported(node, lower / "dicomdir", "--report", report, check=False)
    assert (count["imported"], count["missing"], count["refused"], status) == (len(names) - 1, 1, 0, 1)
    (missing,) = (line["why"] for line in lines(report) if line["result"] == "missing")
    assert str(names[0].relative_to(medium)) in missing
    count, status = imported(node, lower, "--report", report, check=False)
    assert (count["imported"], count["equal"] + count["earlier"], count["missing"]) == (1, len(names) - 1, 1)
    count, status = imported(node, medium)
    assert (count["imported"], count["missing"], status) == (1, 0, 0)


def test_linked_files_are_the_originals_and_copies_are_not(node, tmp_path):
    folder = tmp_path / "images"
    good, _ = make_folder(folder, 20)
    (folder / "notes.txt").write_text("no image")
    wrong = folder / "wrong.dcm"
    image = pydicom.dcmread(FIXTURES / "ct/CT_small.dcm")
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    image.save_as(wrong)
    report = tmp_path / "report.jsonl"
    count, _ = imported(node, folder, "--link", "--report", report)
    # A file that names another object cannot be kept as it is: it is copied, and the report says so.
    assert (count["imported"], count["linked"], count["noted"], count["passed_over"]) == (len(good) + 1, len(good), 1, 1)
    assert named(report, "note") == [str(wrong)] and image.SOPInstanceUID in next(line["why"] for line in lines(report) if line["result"] == "note")
    inodes = {path.stat().st_ino for path in node.hot_files()}
    assert {path.stat().st_ino for path in good} <= inodes and wrong.stat().st_ino not in inodes
    assert node.status()["instances"] == len(good) + 1
    # Whoever deletes the originals takes nothing away.
    shutil.rmtree(folder)
    node.kill()
    node.start()
    assert len(node.hot_files()) == len(good) + 1 and node.status()["hot_objects"] == len(good) + 1

    other = tmp_path / "copied"
    other.mkdir()
    (other / "1").write_bytes(small_image(777))
    # Names of files need not be text.
    (other / os.fsdecode(b"caf\xe9")).write_bytes(small_image(778))
    assert imported(node, other)[0]["imported"] == 2
    assert (other / "1").stat().st_nlink == 1


def test_what_others_may_write_to_is_copied_though_links_are_wanted(node, tmp_path):
    good, _ = make_folder(tmp_path / "images", 10)
    good[0].chmod(0o664)
    good[1].chmod(0o606)
    count, _ = imported(node, tmp_path / "images", "--link")
    assert (count["imported"], count["linked"]) == (len(good), len(good) - 2)
    assert [path.stat().st_nlink for path in good[:3]] == [1, 1, 2]
    new = tmp_path / "new.dcm"
    new.write_bytes(small_image(990))
    new.chmod(0o622)
    said = node.command("import", "--link", new)
    assert "others than its owner may write to it (mode 622)" in said.stdout + said.stderr


def test_a_linked_series_is_offloaded_and_comes_back(tmp_path):
    study, paths = sample.make_study(tmp_path / "images", images=3)
    (tmp_path / "cold").mkdir()
    sections = f'[cold]\nurl = "file://{tmp_path / "cold"}"\noffload_after = "0s"\n'
    with Node(tmp_path / "node", sections=sections) as node:
        count, _ = imported(node, tmp_path / "images", "--link")
        assert count["linked"] == 3
        node.command("offload", study)
        node.command("evict", study)
        assert not node.hot_files() and all(path.exists() for path in paths)
        node.command("recall", study)
        assert {part10.digest(path) for path in node.hot_files()} == {part10.digest(path) for path in paths}


def test_a_copy_waits_while_the_disk_is_beyond_its_high_watermark_and_a_link_does_not(tmp_path):
    good, _ = make_folder(tmp_path / "images", 10)
    full = Node(tmp_path / "node", environment={"FILMROOM_HOT__HIGH_WATERMARK": "0.001%", "FILMROOM_HOT__LOW_WATERMARK": "0.001%"})
    process = start_import(full, tmp_path / "images")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)
    process.kill()
    process.wait()
    assert not full.hot_files()
    # It takes no room.
    count, _ = imported(full, tmp_path / "images", "--link")
    assert count["linked"] == len(good)


def test_what_the_disk_cannot_take_ends_the_import_and_is_no_fault_of_the_file(tmp_path):
    good, _ = make_folder(tmp_path / "images", 20)
    full = Node(tmp_path / "node", environment={"FILMROOM_HOT__RESERVE": "1000TB"})
    process = start_import(full, tmp_path / "images")
    # It is tried for a while, for others may make room.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)
    process.kill()
    process.wait()
    room = Node(tmp_path / "node")
    count, _ = imported(room, tmp_path / "images")
    assert count["imported"] == len(good)

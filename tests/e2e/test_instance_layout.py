"""One object per instance in the cold store: other software reads the bucket, and everything else is as with packs."""

import io
import json
import shutil

import pydicom
from harness import sample, scu
from harness.node import Node
from harness.ports import wait_until

LATER = '\n[delete]\nretention = "none"\ngrace = "0s"\n'


def section(emulator, more=""):
    return (f'[cold]\nurl = "s3://{emulator.bucket}/archive"\nendpoint = "{emulator.endpoint}"\ncheck_interval = "100ms"\ntimeout = "10s"\n'
            f'attempts = 2\n{more}\n[scrub]\nrepair = false\n{LATER}')


def keys(emulator, study, suffix):
    return sorted(key for key in emulator.objects(f"archive/{study}/") if key.endswith(suffix))


def body(emulator, key):
    return emulator.client().get_object(Bucket=emulator.bucket, Key=key)["Body"].read()


def answers(node, study):
    """What C-FIND says at each level."""
    said = []
    for level, wanted in [("STUDY", {"PatientID": "", "PatientName": "", "NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": ""}),
                          ("SERIES", {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}),
                          ("IMAGE", {"SeriesInstanceUID": "", "SOPInstanceUID": "", "InstanceNumber": "", "Rows": "", "SOPClassUID": ""})]:
        found, status = scu.find(node, level, StudyInstanceUID=study, **wanted)
        assert status == 0x0000
        said.append(sorted(str(answer) for answer in found))
    return said


def fsck(node):
    return node.command("fsck", "--json", check=False)


def moved(node, destination, study):
    """What a C-MOVE brings, by SOP Instance UID."""
    for path in destination.files():
        path.unlink()
    final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
    assert final.Status == 0x0000, final
    return {str(image.SOPInstanceUID): image for image in map(pydicom.dcmread, destination.files())}


def test_objects_are_read_straight_from_the_bucket_evicted_moved_rebuilt_and_erased(tmp_path, emulator, catalogue_url, destination):
    sections = section(emulator, 'layout = "instance"')
    node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, sections=sections, environment=emulator.environment)
    node.start()
    study, paths = sample.make_study(tmp_path / "study", images=6, series=2)
    sent = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, paths)}
    assert set(scu.store(node, paths).values()) == {0x0000}
    node.command("offload", study)
    objects = keys(emulator, study, ".dcm")
    assert (len(objects), keys(emulator, study, ".zip"), len(keys(emulator, study, ".json.zst"))) == (12, [], 2)
    for key in objects:
        image = pydicom.dcmread(io.BytesIO(body(emulator, key)))
        assert key.rsplit("/", 1)[1].startswith(f"{image.SOPInstanceUID}.")
        assert image == sent[str(image.SOPInstanceUID)]
    node.command("evict", study)
    assert node.hot_files() == []
    back = moved(node, destination, study)
    assert back.keys() == sent.keys() and all(back[uid] == sent[uid] for uid in sent)
    checked = fsck(node)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    said = answers(node, study)

    # The catalogue and the disk are lost.
    node.command("evict", study)
    node.stop()
    shutil.rmtree(node.data)
    emulator.reset_counters()
    anew = Node(tmp_path / "anew", None, {destination.title: destination.port}, sections=sections, environment=emulator.environment)
    rebuilt = anew.command("rebuild", "--json")
    gets = emulator.counters()["requests"]
    with anew:
        assert answers(anew, study) == said, rebuilt.stdout
        assert gets.get("GetObject", 0) == 2, gets
        back = moved(anew, destination, study)
        assert back.keys() == sent.keys() and all(back[uid] == sent[uid] for uid in sent)

        gone = sorted(sent)[3]
        anew.command("delete", gone, "--reason", "sent by mistake", "--yes", "--json")
        wait_until(lambda: len(keys(emulator, study, ".dcm")) == 11, "the object to be erased", timeout=60)
        wait_until(lambda: "erased" in anew.command("deletions", "list", "--json").stdout, "the deletion to end", timeout=60)
        assert not any(gone in key for key in keys(emulator, study, ".dcm"))
        assert len(keys(emulator, study, ".json.zst")) == 2
        checked = fsck(anew)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        anew.command("evict", study)
        back = moved(anew, destination, study)
        assert back.keys() == sent.keys() - {gone}


def test_a_rule_says_which_series_lie_one_by_one(tmp_path, emulator, catalogue_url):
    rule = '\n[[rule]]\nname = "for the viewer"\nmodality = "MR"\nlayout = "instance"\n'
    with Node(tmp_path / "node", catalogue_url, sections=section(emulator) + rule, environment=emulator.environment) as node:
        ct, ct_paths = sample.make_study(tmp_path / "ct", images=3, modality="CT")
        mr, mr_paths = sample.make_study(tmp_path / "mr", images=3, modality="MR")
        assert set(scu.store(node, ct_paths + mr_paths).values()) == {0x0000}
        for study in (ct, mr):
            node.command("offload", study)
        assert (len(keys(emulator, ct, ".zip")), len(keys(emulator, ct, ".dcm"))) == (1, 0)
        assert (len(keys(emulator, mr, ".zip")), len(keys(emulator, mr, ".dcm"))) == (0, 3)
        line = json.loads(node.command("rules", "test", mr, "--json").stdout.splitlines()[0])
        assert (line["now"]["rule"], line["now"]["layout"]) == ("for the viewer", "instance")
        line = json.loads(node.command("rules", "test", ct, "--json").stdout.splitlines()[0])
        assert line["now"]["layout"] == "pack"
        assert "never moves an object under 128 KB" in node.command("check-config").stdout + node.command("check-config").stderr

"""A day of a PACS administrator: the wrong patient was scanned, images come twice from two places, names contradict each other, and a note was a mistake.
After every step C-FIND and C-MOVE show what is in service, and nothing else; the cold store's journal and packs say the same; and so does everything
after a kill -9."""

import json
import subprocess
from pathlib import Path

import pydicom
from harness import dcmtk, note, part10, sample, scu
from harness.node import Node
from harness.ports import wait_until


class Room:
    """The node, its cold store, and what is expected of it."""

    def __init__(self, tmp_path, catalogue_url, destination):
        self.cold = tmp_path / "cold"
        self.cold.mkdir()
        self.destination = destination
        sections = (f'[cold]\nurl = "file://{self.cold}"\ncheck_interval = "100ms"\noffload_after = "1h"\n'
                    '[[ae]]\ntitle = "QA"\nmay_reject = true\nissuer_of_patient_id = "HOSPITAL-A"\n[[ae]]\ntitle = "PACS2"\nissuer_of_patient_id = "HOSPITAL-A"\n[[ae]]\ntitle = "CT-A"\nissuer_of_patient_id = "HOSPITAL-A"\n'
                    '[[ae]]\ntitle = "CT-B"\nissuer_of_patient_id = "HOSPITAL-B"\n')
        self.node = Node(tmp_path / "node", catalogue_url, {destination.title: destination.port}, sections)
        self.tmp_path = tmp_path

    def send(self, *paths, title="CT-A", expect=0x0000):
        statuses = scu.store(self.node, list(paths), title=title)
        assert {statuses[path] for path in paths} == {expect}, statuses

    def lines(self, *command):
        return [json.loads(line) for line in self.node.command(*command, "--json").stdout.splitlines()]

    def shows(self, study, instances, modalities, patient="P1", series=None):
        """What both toolkits find of a study and what a C-MOVE brings of it: exactly these (SOP Instance UID → file)."""
        (answer,) = dcmtk.findscu(self.node, "STUDY", folder=self.tmp_path / "found", StudyInstanceUID=study, PatientID="", ModalitiesInStudy="",
                                  NumberOfStudyRelatedInstances="", NumberOfStudyRelatedSeries="")
        assert int(answer.NumberOfStudyRelatedInstances) == len(instances)
        found = answer.ModalitiesInStudy
        assert sorted([found] if isinstance(found, str) else found) == sorted(modalities)
        assert answer.PatientID == patient
        if series is not None:
            assert int(answer.NumberOfStudyRelatedSeries) == series
        answers, _ = scu.find(self.node, "IMAGE", StudyInstanceUID=study, SeriesInstanceUID="", SOPInstanceUID="")
        assert {str(a.SOPInstanceUID) for a in answers} == set(instances)
        for path in self.destination.files():
            path.unlink()
        dcmtk.movescu(self.node, self.destination.title, StudyInstanceUID=study)
        moved = {str(pydicom.dcmread(path, force=True, stop_before_pixels=True).SOPInstanceUID): part10.digest(path) for path in self.destination.files()}
        assert moved == {uid: part10.digest(path) for uid, path in instances.items()}

    def shows_nothing(self, study):
        answers, status = scu.find(self.node, "STUDY", StudyInstanceUID=study, NumberOfStudyRelatedInstances="")
        assert (answers, status) == ([], 0x0000)
        final, _ = scu.move(self.node, self.destination.title, StudyInstanceUID=study)[-1]
        assert final.Status == 0x0000 and not final.get("NumberOfCompletedSuboperations")

    def journal(self, study):
        """Actions that the cold store's journal has of a study, and the instances of each."""
        entries = [json.loads(path.read_text()) for path in sorted(Path(self.cold, study).glob("journal-*.json"))]
        return [(e["action"], sorted(o["sop_instance"] for o in e["objects"]) if "objects" in e else [e["sop_instance"]]) for e in entries]

    def packed(self, study):
        """Serving state → SOP Instance UIDs, by the manifests beside the packs."""
        states = {}
        for path in Path(self.cold, study).rglob("*.json.zst"):
            document = json.loads(subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout)
            for instance in document["instances"]:
                states.setdefault(instance["state"], set()).add(instance["sop_instance"])
        return states


def by_uid(paths):
    return {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths}


def altered(path, folder, **attributes):
    """The same instance with other attributes."""
    folder.mkdir(exist_ok=True)
    image = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(image, name, value)
    image.save_as(folder / path.name, enforce_file_format=True)
    return folder / path.name


def test_a_day_of_a_pacs_administrator(tmp_path, catalogue_url, destination):
    room = Room(tmp_path, catalogue_url, destination)
    node = room.node
    with node:
        # Morning: Mr Wrong stands in the worklist, and his images are Mrs Right's. A report is there already.
        study, images = sample.make_study(tmp_path / "wrong", images=3, patient_id="WRONG", PatientName="Wrong^Patient")
        _, report = sample.make_study(tmp_path / "report", images=1, template="sr_ko_pr/test-SR.dcm", patient_id="WRONG", modality="SR",
                                      study_uid=study, PatientName="Wrong^Patient")
        room.send(*images, *report)
        room.shows(study, by_uid(images + report), ["CT", "SR"], "WRONG", series=2)
        node.command("offload", study)

        # The workstation rejects everything of it: the note alone is left, for others to learn of it.
        rejected = note.write(tmp_path / "note1.dcm", "113038", note.references(images + report), patient_id="WRONG", patient_name="Wrong^Patient")
        room.send(tmp_path / "note1.dcm", title="QA")
        room.shows(study, {rejected: tmp_path / "note1.dcm"}, ["KO"], "WRONG", series=1)
        wait_until(lambda: ("rejected", sorted(by_uid(images + report))) in room.journal(study), "the journal to tell of it")
        assert room.packed(study) == {"served": set(by_uid(images + report))}, "the packs say what was served when they were written"

        # The modality tries again with the same images: they do not come back. Then it sends them corrected, as instances of their own.
        room.send(*images, expect=0xC001)
        _, corrected = sample.make_study(tmp_path / "right", images=3, patient_id="RIGHT", study_uid=study, PatientName="Right^Patient")
        room.send(*corrected)
        noted = {rejected: tmp_path / "note1.dcm"}
        room.shows(study, {**by_uid(corrected), **noted}, ["CT", "KO"], "RIGHT", series=2)
        answers, _ = scu.find(node, "PATIENT", root="PATIENT", PatientID="WRONG", NumberOfPatientRelatedInstances="")
        assert answers == [], "nothing is Mr Wrong's"

        # Noon: another PACS sends two of them with other pixels. They wait; one is accepted, one discarded.
        others = [altered(path, tmp_path / "others", ImageComments="from elsewhere") for path in corrected[:2]]
        room.send(*others, title="PACS2", expect=0xC001)
        waiting = {entry["sop_instance_uid"]: entry["object"] for entry in node.quarantine()}
        first, second = by_uid(others)
        assert set(waiting) == {first, second}
        room.shows(study, {**by_uid(corrected), **noted}, ["CT", "KO"], "RIGHT")
        node.command("quarantine", "accept", waiting[first])
        node.command("quarantine", "discard", waiting[second])
        in_service = {**by_uid(corrected), first: others[0]}
        room.shows(study, {**in_service, **noted}, ["CT", "KO"], "RIGHT")
        assert node.quarantine() == []

        # One Patient ID, two names: stored, listed, resolved.
        room.send(*sample.make_study(tmp_path / "named", images=1, patient_id="RIGHT", PatientName="Righteous^Patient")[1])
        (conflict,) = room.lines("patient", "conflicts")
        assert (conflict["kind"], conflict["on_record"], conflict["arrived"]) == ("name", "Right^Patient", "Righteous^Patient")
        assert node.status()["conflicts"] == 1
        node.command("patient", "conflicts", "--resolve", conflict["id"])
        assert room.lines("patient", "conflicts") == [] and node.status()["conflicts"] == 0
        assert node.command("patient", "conflicts", "--resolve", conflict["id"], check=False).returncode != 0
        assert "Righteous" not in node.log(), "names are no business of the log"

        # Two hospitals gave out the same Patient ID: two patients.
        at_b, of_b = sample.make_study(tmp_path / "b", images=2, patient_id="RIGHT", PatientName="Somebody^Else")
        room.send(*of_b, title="CT-B")
        answers, _ = scu.find(node, "PATIENT", root="PATIENT", PatientID="RIGHT", IssuerOfPatientID="", PatientName="", NumberOfPatientRelatedInstances="")
        assert {(a.IssuerOfPatientID, int(a.NumberOfPatientRelatedInstances)) for a in answers} == {("HOSPITAL-A", 5), ("HOSPITAL-B", 2)}
        answers, _ = scu.find(node, "STUDY", PatientID="RIGHT", IssuerOfPatientID="HOSPITAL-B", StudyInstanceUID="")
        assert [str(a.StudyInstanceUID) for a in answers] == [at_b]
        assert room.lines("patient", "conflicts") == []

        # Afternoon: a slice is rejected for its quality, which was a mistake.
        mistaken = note.write(tmp_path / "note2.dcm", "113001", note.references(corrected[2:]), patient_id="RIGHT", patient_name="Right^Patient")
        room.send(tmp_path / "note2.dcm", title="QA")
        noted[mistaken] = tmp_path / "note2.dcm"
        (third,) = by_uid(corrected[2:])
        without = {uid: path for uid, path in in_service.items() if uid != third}
        room.shows(study, {**without, **noted}, ["CT", "KO"], "RIGHT")
        node.command("offload", study)
        assert third in room.packed(study)["rejected"]
        node.command("rejections", "undo", mistaken)
        room.shows(study, {**in_service, **noted}, ["CT", "KO"], "RIGHT")
        wait_until(lambda: ("restored", [third]) in room.journal(study), "the journal to tell of it")

        # A study past its time goes as a whole, its note included.
        old, expired = sample.make_study(tmp_path / "old", images=2, patient_id="OLD")
        room.send(*expired)
        gone = note.write(tmp_path / "note3.dcm", "113039", note.references(expired), patient_id="OLD")
        room.send(tmp_path / "note3.dcm", title="QA")
        room.shows_nothing(old)
        before = node.status()
        node.kill()

    # Night: the power fails. Nothing of it changes, by node or by cold store.
    with node:
        after = node.status()
        assert {key: after[key] for key in ("patients", "studies", "series", "instances", "quarantined", "conflicts")} == \
            {key: before[key] for key in ("patients", "studies", "series", "instances", "quarantined", "conflicts")}
        room.shows(study, {**in_service, **noted}, ["CT", "KO"], "RIGHT")
        room.shows_nothing(old)
        states = {entry["note_uid"]: entry["state"] for entry in room.lines("rejections", "list")}
        assert states == {rejected: "obeyed", mistaken: "undone", gone: "obeyed"}
        actions = sorted(action for action, _ in room.journal(study))
        assert actions == ["accepted", "discarded", "rejected", "rejected", "restored", "superseded"]
        node.command("offload", old)
        assert room.packed(old) == {"rejected": set(by_uid(expired)) | {gone}}
        room.send(*expired, expect=0xC001)
        room.shows_nothing(old)
        # The cold store has every state: what was evicted comes back as what is in service.
        node.command("offload", study)
        node.command("evict", study)
        room.shows(study, {**in_service, **noted}, ["CT", "KO"], "RIGHT")

"""dcmjs-dimse, a JavaScript stack, through a whole visit."""

from pathlib import Path

from harness.lines import LineClient
from harness.node import ROOT, Node
from harness.scu import Destination
from harness.visit import LEVELS, visit
from pydicom.uid import generate_uid

SCRIPT = Path(__file__).parent / "clients/dcmjs_visit.js"
MODULES = ROOT / "tests/.npm/node_modules"
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}


class Dcmjs:
    title = "DCMJS"
    decodes = True

    # It writes anew what it read: dates of ACR-NEMA are too long for it, and into a deflated context it writes what is not deflated.
    cannot_store = {"ExplVR_BigEnd.dcm": "unsent Value exceeds max length, vr: DA", "palette-multiframe-jpeg-ls.dcm": "unsent Value exceeds max length, vr: DA",
                    "report_dfl.dcm": "refused c000"}
    changes = {"mpeg2_photo.dcm": "cuts the stream into as many fragments as there are frames, each of them padded"}
    levels = LEVELS

    def __init__(self, node, folder):
        self.lines = LineClient(["node", SCRIPT, node.port, self.title, node.title, MODULES], folder / "dcmjs.log")

    def echo(self):
        self.lines.ask("echo")

    def store(self, path):
        # Alone: of several it sends compressed ones in contexts of others.
        assert self.lines.ask("store", path) == [["stored", str(path), "0000"]]

    def fails_to_store(self, path):
        ((outcome, _, why),) = self.lines.ask("store", path)
        assert f"{outcome} {why}".startswith(self.cannot_store[path.name])

    def find(self, level, root, **keys):
        answers = self.lines.ask("find", root, level, *(f"{name}={value}" for name, value in keys.items()))
        return [dict(field.split("=", 1) for field in answer[1:]) for answer in answers]

    def move(self, destination, **keys):
        assert self.lines.ask("move", "STUDY", "STUDY", destination, *(f"{name}={value}" for name, value in keys.items())) == [["status", "0000"]]

    def can_get(self, objects):
        # It offers to be SCP of its own list of classes only, and in the two native little endian syntaxes only.
        return all(kept.syntax in NATIVE and kept.sop_class in self.classes for kept in objects)

    def get(self, folder, study, objects):
        *got, status = self.lines.ask("get", "STUDY", "STUDY", folder, f"StudyInstanceUID={study}")
        assert status == ["status", "0000"] and len(got) == len(objects)

    def commit(self, objects):
        references = sorted(f"{kept.sop_class}={kept.uid}" for kept in objects)
        # It does not say that it would be SCU only, and it can be told on its own association only (PS3.4 J.3.3).
        asked, (event, kind, same, *committed) = self.lines.ask("commit", generate_uid(), *references)
        assert asked == ["asked", "0000"] and (event, kind, same) == ("event", "1", "true")
        assert sorted(committed) == sorted(kept.uid for kept in objects)


def test_a_visit(tmp_path):
    with Destination(tmp_path / "third") as third, Node(tmp_path / "node", None, {third.title: third.port}) as node:
        client = Dcmjs(node, tmp_path)
        client.classes = {line[1] for line in client.lines.ask("classes")}
        stored = visit(client, node, third, tmp_path)
        client.commit(list(stored.values())[:5])
        client.lines.close()

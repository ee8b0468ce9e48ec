"""DCMTK through a whole visit. Each of its tools is a program of its own; what it sends in which syntax is in test_round_trip.py."""

from harness import dcmtk
from harness.dcmtk import PROPOSE
from harness.node import Node
from harness.scu import Destination
from harness.visit import LEVELS, visit

EXPLICIT = "1.2.840.10008.1.2.1"
COMPRESSED = {syntax for syntax in PROPOSE if syntax.startswith(("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5"))}

class Dcmtk:
    title = "DCMTK"
    # Its tools take data sets apart when they read files.
    decodes = True
    cannot_store = {"Tag-0040-A170-VR-CS.dcm": "an explicit sequence in implicit VR",
                    "liver_deflate.dcm": "Deflated Image Frame Compression is younger than it"}
    changes = {}
    levels = LEVELS

    def __init__(self, node, folder):
        self.node, self.folder = node, folder

    def echo(self):
        dcmtk.echo(self.node)

    def store(self, path):
        dcmtk.dcmsend(self.node, path)

    def fails_to_store(self, path):
        assert "NOT sent to the peer   : 1" in dcmtk.dcmsend(self.node, path).stderr

    def find(self, level, root, **keys):
        answers = dcmtk.findscu(self.node, level, "-P" if root == "PATIENT" else "-S", self.folder / "answers", **keys)
        return [{element.keyword: str(element.value or "") for element in answer} for answer in answers]

    def move(self, destination, **keys):
        dcmtk.movescu(self.node, destination, **keys)

    def can_get(self, objects):
        # getscu proposes Explicit VR Little Endian, and one compressed syntax if it is told to.
        syntaxes = {kept.syntax for kept in objects}
        return syntaxes == {EXPLICIT} or len(syntaxes) == 1 and syntaxes <= COMPRESSED

    def get(self, folder, study, objects):
        syntax = objects[0].syntax
        options = () if syntax == EXPLICIT else (dcmtk.PROPOSE[syntax].replace("-", "+"),)
        dcmtk.getscu(self.node, folder, options=options, StudyInstanceUID=study)


def test_a_visit(tmp_path):
    with Destination(tmp_path / "third") as third, Node(tmp_path / "node", None, {third.title: third.port}) as node:
        visit(Dcmtk(node, tmp_path), node, third, tmp_path)

"""PixelMed, a Java stack that shares nothing with the others, through a whole visit; and its known fault, which costs nobody else anything."""

import subprocess
from pathlib import Path

import pytest
from harness import sample
from harness.lines import LineClient
from harness.node import Node
from harness.scu import Destination
from harness.visit import LEVELS, visit

JAR = "/usr/share/java/pixelmed.jar"
SOURCE = Path(__file__).parent / "clients/PixelMedVisit.java"


# Retired JPEG processes, and Deflated Image Frame Compression, which is younger than the library: never proposed when it gets, though sent as they are.
UNKNOWN = {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.8.1"}


class PixelMed:
    title = "PIXELMED"
    decodes = False

    # It reads what it sends, and gives up on these two before it proposes anything.
    cannot_store = {"chrGB2312.dcm": "a name whose escape sequences it cannot take apart", "Tag-0040-A170-VR-CS.dcm": "an explicit sequence in implicit VR"}
    changes = {}
    levels = LEVELS

    def __init__(self, node, classes, folder):
        self.lines = LineClient(["java", "-cp", f"{classes}:{JAR}", "PixelMedVisit", node.port, self.title, node.title], folder / "pixelmed.log")

    def echo(self):
        self.lines.ask("echo")

    def store(self, path):
        assert self.lines.ask("store", path) == [["stored", str(path)]]

    def fails_to_store(self, path):
        assert self.lines.ask("store", path) == [], "it can by now"

    def find(self, level, root, **keys):
        answers = self.lines.ask("find", root, level, *(f"{name}={value}" for name, value in keys.items()))
        return [dict(field.split("=", 1) for field in answer[1:]) for answer in answers]

    def move(self, destination, **keys):
        assert self.lines.ask("move", "STUDY", "STUDY", destination, *(f"{name}={value}" for name, value in keys.items())) == [["status", "0"]]

    def can_get(self, objects):
        return not UNKNOWN & {kept.syntax for kept in objects}

    def get(self, folder, study, objects):
        classes = ",".join(sorted({kept.sop_class for kept in objects}))
        assert len(self.lines.ask("get", "STUDY", "STUDY", folder, classes, f"StudyInstanceUID={study}")) == len(objects)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The driver, compiled."""
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-nowarn", "-cp", JAR, "-d", folder, SOURCE], check=True)
    return folder


def test_a_visit(tmp_path, classes):
    with Destination(tmp_path / "third") as third, Node(tmp_path / "node", None, {third.title: third.port}) as node:
        client = PixelMed(node, classes, tmp_path)
        visit(client, node, third, tmp_path)
        client.lines.close()


def test_compressed_frames_in_an_uncompressed_context_cost_that_object_only(tmp_path, classes):
    # Of a list it sends some as they are in a context that is not theirs: PS3.5 A.4 has encapsulated pixel data in encapsulated syntaxes only.
    with Node(tmp_path / "node") as node:
        client = PixelMed(node, classes, tmp_path)
        paths = [sample.FIXTURES / name for name in ("ct/CT-JPEGLosslessSV1.dcm", "ct/CT_small.dcm", "ct/ct_image.dcm")]
        outcomes = {Path(path).name: outcome for outcome, path in client.lines.ask("store", *paths)}
        client.lines.close()
        assert outcomes == {"CT-JPEGLosslessSV1.dcm": "refused", "CT_small.dcm": "stored", "ct_image.dcm": "stored"}
        assert "status=C000" in node.log() and "encapsulated pixel data in a native transfer syntax" in node.log()
        assert len(node.hot_files()) == 2 and node.incoming_files() == []

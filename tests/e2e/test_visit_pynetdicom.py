"""pynetdicom through a whole visit. It sends and keeps bytes as they are; each file over one association here, all over a few in test_round_trip.py."""

from harness import scu
from harness.node import Node
from harness.scu import Destination
from harness.visit import LEVELS, visit


class Pynetdicom:
    title = "PYNETDICOM"
    decodes = False
    cannot_store = {}
    changes = {}
    levels = LEVELS

    def __init__(self, node):
        self.node = node

    def echo(self):
        with scu.association(self.node, [("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])]) as association:
            assert association.send_c_echo().Status == 0x0000

    def store(self, path):
        assert set(scu.store(self.node, [path]).values()) == {0x0000}

    def find(self, level, root, **keys):
        answers, status = scu.find(self.node, level, root, **keys)
        assert status == 0x0000
        return [{element.keyword: str(element.value or "") for element in answer} for answer in answers]

    def move(self, destination, **keys):
        assert scu.move(self.node, destination, **keys)[-1][0].Status == 0x0000

    def can_get(self, objects):
        return True

    def get(self, folder, study, objects):
        responses = scu.get(self.node, folder, scu.contexts_of([kept.path for kept in objects]), meta=True, StudyInstanceUID=study)
        assert responses[-1][0].Status == 0x0000


def test_a_visit(tmp_path):
    with Destination(tmp_path / "third") as third, Node(tmp_path / "node", None, {third.title: third.port}) as node:
        visit(Pynetdicom(node), node, third, tmp_path)

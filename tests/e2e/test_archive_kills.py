"""kill -9 between any two steps of an archived study's way to a destination that opted in: asked for, restored, read, sent, recorded. After the restart
nothing is lost, no image is sent again whose success was on record (one that was on its way may come twice, with the same bytes), and the store has
accepted one restore for each pack and tier.

Steps are failpoints of the node: it ends there as a kill would end it."""

import time
from collections import Counter

import pytest
from harness import sample, scu
from harness.arrivals import ByPynetdicom, complete, digests
from harness.ports import wait_until
from harness.site import Site, ae, deliveries, rows

# On the way to the archive.
LEAVING = ["mover::after_plan", "mover::after_put", "mover::after_manifest", "mover::after_uploaded", "mover::before_evict_unlink"]

# On the way back: where the node ends, at which passing, and whether the walk to it is in every run or in long ones only.
STEPS = [
    ("restore::after_wanted", 1, False), ("restore::before_request", 1, True), ("restore::after_request", 1, True), ("restore::after_accepted", 1, False),
    ("restore::before_look", 1, False), ("restore::before_goes_on", 1, False), ("restore::after_goes_on", 1, False), ("restore::after_look", 1, True), ("restore::after_readable", 1, False),
    ("delivery::before_open", 1, False), ("delivery::after_open", 1, True), ("delivery::claimed", 1, False), ("delivery::taken", 2, False),
    ("delivery::before_record", 2, True), ("delivery::after_record", 2, True), ("recall::after_rename", 1, False),
    ("delivery::before_end", 1, False), ("delivery::after_end", 1, False),
]

# An image was answered with Success there, or may have been, and that is not on record yet.
SENT_NOT_RECORDED = {"delivery::before_record", "recall::after_rename"}


class Walk:
    """One site and one node; each step has a study of its own."""

    def __init__(self, tmp_path, catalogue_url):
        self.tmp_path = tmp_path
        self.site = Site(tmp_path / "site")
        self.later = ByPynetdicom("LATER")
        self.catalogue_url = catalogue_url
        self.studies = {}

    def __enter__(self):
        self.site.__enter__()
        self.later.start()
        peers = [ae("LATER", self.later.port, deliver_later="48h")]
        # Nothing is waited for: what is archived becomes a delivery.
        self.node = self.site.node(catalogue_url=self.catalogue_url, retrieve='wait = "0s"\npending_interval = "1s"', peers=peers)
        return self

    def __exit__(self, *exc):
        self.node.kill()
        self.later.stop()
        self.site.__exit__(*exc)

    def archive(self, steps, leaving):
        """Studies for all steps, archived: each of one series of four images, one pack. The node ends at each step of `leaving`, with that step's study."""
        for step in [*steps, *leaving]:
            self.studies[step] = sample.make_study(self.tmp_path / step.replace("::", "-"), images=4, patient_id="WALK")
        for step in leaving:
            study, paths = self.studies[step]
            self.node.start(environment={"FILMROOM_ABORT_AT": f"{step}=1"})
            assert set(scu.store(self.node, paths).values()) == {0x0000}
            self.node.command("offload", study, check=False)
            self.node.command("evict", study, check=False)
            wait_until(lambda: self.node.process.poll() is not None, f"the end at {step}")
            self.node.kill()
            self.node.start()
            self.node.command("offload", study)
            self.node.command("evict", study)
            self.node.stop()
        self.node.start()
        self.site.pack(self.node, [path for step in steps for path in self.studies[step][1]])
        assert self.node.hot_files() == []
        assert len(self.site.packs()) == len(self.studies)
        self.site.clock.advance(days=100)
        assert self.site.archived()
        # Longer than promised, so that it is looked at in vain as well.
        self.site.emulator.delays(archive_expedited=9 * 60)
        self.node.kill()

    def past(self, step, passing=None):
        """Goes the way until the node ends at the step (none: never), starts it again, and goes on to the end."""
        study, paths = self.studies[step]
        expected = digests(paths)
        self.later.clear()
        self.node.start(environment={"FILMROOM_ABORT_AT": f"{step}={passing}"} if passing else {})
        asked = self.ask(study)
        recorded = set()
        if passing:
            self.turn_until(lambda: self.node.process.poll() is not None, study, f"the end at {step}")
            recorded = self.recorded()
            self.node.kill()
            self.node.start()
        if not asked:
            # Whoever did not hear that the images come later asks again.
            assert self.ask(study) or complete(self.later, expected)
        self.turn_until(lambda: complete(self.later, expected), study, f"the delivery after {step}")
        wait_until(lambda: all(delivery["state"] == "done" for delivery in deliveries(self.node)), f"the end of every delivery after {step}")

        came = self.later.arrivals()
        assert dict(came) == expected, step
        assert {digest for _, digest in came} == set(expected.values()), step
        again = {uid: n for uid, n in Counter(uid for uid, _ in came).items() if n > 1}
        assert not again.keys() & recorded, f"{step}: sent again although its success was on record"
        assert sum(again.values()) <= (2 if step in SENT_NOT_RECORDED else 0), (step, again)
        tiers = Counter((asked["key"], asked["tier"]) for asked in self.site.restores(study))
        assert list(tiers.values()) == [1], (step, tiers)
        self.node.kill()

    def ask(self, study):
        """A C-MOVE; whether its final response promised the images."""
        try:
            with scu.association(self.node, [(scu.MOVE["STUDY"], ["1.2.840.10008.1.2.1"])], timeout=20) as assoc:
                responses = list(assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), "LATER", scu.MOVE["STUDY"]))
        except (RuntimeError, ValueError):
            return False
        final = responses[-1][0] if responses else None
        return bool(final) and final.get("Status") == 0xA702 and "sent then" in final.get("ErrorComment", "")

    def turn_until(self, condition, study, what):
        """Turns the clock once the store has accepted a restore, by less than it takes, until the condition holds. A node that may look at the pack does so before
        the clock goes on, however slow the machine is; one that ended does not."""
        turned, looks = 0.0, 0

        def looked():
            nonlocal turned, looks
            if condition():
                return True
            waited, heads = time.monotonic() - turned, self.site.requests("HeadObject")
            if self.site.restores(study) and waited > 1 and (heads > looks or waited > 10):
                turned, looks = time.monotonic(), heads
                self.site.clock.advance(minutes=6)
            return False

        wait_until(looked, what, timeout=60)

    def recorded(self):
        """UIDs of the images whose sending is on record."""
        sql = "SELECT o.sop_instance_uid FROM delivery_items i JOIN objects o ON o.id = i.object WHERE i.state = 'sent'"
        return {uid for (uid,) in rows(self.node, sql)}


def walk(tmp_path, catalogue_url, steps, leaving):
    with Walk(tmp_path, catalogue_url) as going:
        going.archive([step for step, _ in steps], leaving)
        for step in leaving:
            going.past(step)
        for step, passing in steps:
            going.past(step, passing)


def test_killed_at_the_steps_that_matter_most(tmp_path):
    walk(tmp_path, None, [(step, passing) for step, passing, quick in STEPS if quick], [])


@pytest.mark.long
def test_killed_at_every_step(tmp_path, catalogue_url):
    walk(tmp_path, catalogue_url, [(step, passing) for step, passing, _ in STEPS], LEAVING)

"""Archived studies: the truth about when they can be had, and what is delivered then to destinations that opted in. The emulator's clock is the node's."""

import calendar
import json
import re
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import sample, scu
from harness.cold import keys
from harness.node import Node
from harness.part10 import data_set
from harness.ports import wait_until
from harness.rawscp import RawScp
from harness.site import NO_SCRUB
from pydicom.uid import ExplicitVRLittleEndian

HOUR = 3600
MOVE_ORIGINATOR = (0x1030, 0x1031)


class Site:
    """A node with an archive, and the AEs that get images from it."""

    def __init__(self, folder, emulator, *destinations, catalogue_url=None, environment=None, sections=""):
        aes = "".join(f'\n[[ae]]\ntitle = "{scp.title}"\naddress = "127.0.0.1:{scp.port}"\n{options}\n' for scp, options in destinations)
        text = (f'[cold]\nurl = "s3://{emulator.bucket}/clinic"\nendpoint = "{emulator.endpoint}"\nattempts = 1\noffload_after = "1h"\n'
                f'check_interval = "200ms"\n[cold.archive]\naccess_days = 90\ndeep_days = 180\n[hot]\nevict_after = "30d"\n'
                f'[retrieve]\nwait = "2s"\npending_interval = "1s"\n{NO_SCRUB}{sections}\n{aes}')
        self.emulator = emulator
        self.clock = {**emulator.environment, "FILMROOM_CLOCK": str(emulator.clock), "TZ": "Europe/Berlin"}
        self.node = Node(folder, catalogue_url, sections=text, environment={**self.clock, **(environment or {})})

    def __enter__(self):
        self.node.start()
        return self

    def __exit__(self, *exc):
        self.node.__exit__(*exc)

    def archived(self, folder, tier="DEEP_ARCHIVE_ACCESS", **study):
        """A study that is in an archive tier and nowhere else: its UID and, by SOP Instance UID, the bytes of its data sets."""
        uid, paths = sample.make_study(folder, **{"template": "mr_series/MR01.dcm", "images": 4, "series": 1, **study})
        assert set(scu.store(self.node, paths).values()) == {0x0000}
        self.node.command("offload", uid)
        self.node.command("evict", uid)
        assert self.emulator.archive(tier, prefix=f"clinic/{uid}") > 0
        return uid, {str(scu.meta(path).MediaStorageSOPInstanceUID): data_set(path) for path in paths}

    def move(self, destination, study):
        """The final response: status, comment, and the list of what failed."""
        final, listed = scu.move(self.node, destination.title, StudyInstanceUID=study)[-1]
        failed = [] if listed is None else listed.FailedSOPInstanceUIDList
        return final.Status, final.get("ErrorComment", ""), [failed] if isinstance(failed, str) else list(failed)

    def deliveries(self):
        return [json.loads(line) for line in self.node.command("deliveries", "--json").stdout.splitlines()]

    def delivery(self, state, **wait):
        """The newest delivery, once it is in a state."""
        wait_until(lambda: any(one["state"] == state for one in self.deliveries()), f"a delivery that is {state}", **wait)
        return next(one for one in self.deliveries() if one["state"] == state)

    def due(self):
        """Does not wait for pauses."""
        with sqlite3.connect(self.node.data / "catalogue.db", timeout=30) as catalogue:
            catalogue.execute("UPDATE deliveries SET next_at = 0")

    def on_record(self, state):
        rows = [json.loads(line) for line in self.node.command("restores", "--json").stdout.splitlines()]
        return [row for row in rows if row["state"] == state]

    def accepted(self):
        """Restores that S3 has accepted."""
        return [row for row in self.emulator.counters()["restores"] if row["outcome"] == "accepted"]

    def hours_later(self, hours, restores=1):
        """Turns the clock once so many restores have begun and are on record: what is recorded afterwards would count from the later hour."""
        wait_until(lambda: len(self.on_record("restoring")) >= restores, f"{restores} restores", timeout=60)
        self.emulator.advance(seconds=int(hours * HOUR))


def ready_at(comment, count, end):
    """The time in a comment, which has to be all of it, in seconds since 1970."""
    found = re.fullmatch(rf"{count} archived, ready (\d{{4}}-\d\d-\d\d \d\d:\d\d)([+-])(\d\d)(\d\d), {end}", comment)
    assert found and len(comment) <= 64, comment
    local = calendar.timegm(time.strptime(found[1], "%Y-%m-%d %H:%M"))
    offset = (int(found[3]) * 60 + int(found[4])) * 60
    assert offset in (3600, 7200), "Europe/Berlin"
    return local - offset if found[2] == "+" else local + offset


def originators(scp):
    return [uid(fields) for fields in scp.commands if any(tag in fields for tag in MOVE_ORIGINATOR)]


def uid(fields):
    return fields[0x1000].rstrip(b"\0").decode()


def received(scp):
    return [uid(fields) for fields in scp.commands]


def assert_exactly_once(scp, expected):
    assert sorted(received(scp)) == sorted(expected)
    for instance, content in expected.items():
        assert scp.stored[instance][2] == content, instance


LATER = 'deliver_later = "24h"'


def test_a_deep_archived_study_is_refused_with_the_time_and_comes_when_asked_again(tmp_path, emulator):
    with RawScp("VIEWER") as viewer, Site(tmp_path / "node", emulator, (viewer, "")) as site:
        study, images = site.archived(tmp_path / "study")
        asked = emulator.now()
        status, comment, failed = site.move(viewer, study)
        assert (status, sorted(failed)) == (0xA702, sorted(images))
        ready = ready_at(comment, 4, "ask again")
        assert 11 * HOUR < ready - asked < 13 * HOUR
        assert viewer.commands == [] and site.deliveries() == []
        # What is recorded after the clock was turned would count from the later hour.
        wait_until(lambda: site.on_record("restoring"), "the restore is on record", timeout=30)
        emulator.advance(seconds=int(ready - emulator.now()) + 120)
        wait_until(lambda: site.move(viewer, study)[0] == 0x0000, "the study", timeout=60)
        assert_exactly_once(viewer, images)


def test_an_opted_in_destination_gets_them_by_themselves_once_and_without_move_originator(tmp_path, emulator, catalogue_url):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, LATER), catalogue_url=catalogue_url) as site:
        study, images = site.archived(tmp_path / "study", images=3, series=2)
        status, comment, failed = site.move(pacs, study)
        assert (status, sorted(failed)) == (0xA702, sorted(images))
        ready = ready_at(comment, 6, "sent then")
        # Who asks again joins, and is told the same.
        status, comment, _ = site.move(pacs, study)
        assert (status, ready_at(comment, 6, "sent then")) == (0xA702, ready)
        (delivery,) = site.deliveries()
        assert (delivery["destination"], delivery["asked_by"], delivery["state"], delivery["waiting"]) == ("PACS", "PYNETDICOM", "open", 6)
        assert site.node.status()["deliveries_open"] == 1 and site.node.status()["images_to_deliver"] == 6
        assert pacs.commands == []
        site.hours_later(13, restores=2)
        done = site.delivery("done", timeout=60)
        assert (done["sent"], done["waiting"], done["error"]) == (6, 0, "")
        assert_exactly_once(pacs, images)
        assert originators(pacs) == []
        site.node.counted("filmroom_deliveries_total", 1, result="done")
        site.node.counted("filmroom_delivered_images_total", 6, result="sent")
        # It is over: asked for again, it is sent again, with Move Originator.
        assert site.move(pacs, study)[0] == 0x0000
        assert len(pacs.commands) == 12 and len(originators(pacs)) == 6
        assert len(site.accepted()) == 2, "one a pack"


def test_a_study_that_is_partly_archived_is_sent_as_far_as_it_goes(tmp_path, emulator):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, LATER)) as site:
        study, images = site.archived(tmp_path / "study", images=2, series=2)
        readable = keys(emulator.client(), emulator.bucket, ".zip")[0]
        emulator.archive("NONE", key=readable)
        status, comment, failed = site.move(pacs, study)
        assert status == 0xB000 and len(failed) == 2 and len(pacs.commands) == 2
        ready_at(comment, 2, "sent then")
        site.hours_later(13)
        assert site.delivery("done", timeout=60)["sent"] == 2
        assert_exactly_once(pacs, images)
        assert len(originators(pacs)) == 2


def test_over_the_budget_nothing_is_restored(tmp_path, emulator):
    budget = f'{LATER}\nrestore_budget_per_day = "1KB"'
    with RawScp("PACS") as pacs, RawScp("NEVER") as never, Site(tmp_path / "node", emulator, (pacs, budget), (never, 'restore = "no"')) as site:
        study, _ = site.archived(tmp_path / "study")
        assert site.move(pacs, study)[:2] == (0xA702, "4 archived, over the restore budget of today")
        assert site.move(never, study)[:2] == (0xA702, "4 archived in DEEP_ARCHIVE_ACCESS, not restored")
        assert site.deliveries() == []
        assert site.accepted() == []


def test_a_move_that_waits_for_a_restore_leaves_its_place_to_others(tmp_path, emulator):
    one = 'max_associations = 1\nretrieve_wait = "10m"'
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, one)) as site, ThreadPoolExecutor() as pool:
        archived, images = site.archived(tmp_path / "archived", tier="ARCHIVE_ACCESS")
        hot, paths = sample.make_study(tmp_path / "hot", images=2, series=1)
        scu.store(site.node, paths)
        waiting = pool.submit(site.move, pacs, archived)
        wait_until(lambda: site.on_record("restoring"), "the restore to begin", timeout=60)
        assert site.move(pacs, hot)[0] == 0x0000
        assert not waiting.done()
        site.emulator.advance(seconds=600)
        assert waiting.result(timeout=60)[0] == 0x0000
        assert len(pacs.commands) == 2 + len(images)


def test_the_budget_allows_all_series_of_a_request_or_none(tmp_path, emulator):
    _, series = sample.make_study(tmp_path / "measured", template="mr_series/MR01.dcm", images=4, series=1)
    budget = f'restore_budget_per_day = "{sum(path.stat().st_size for path in series) * 3 // 2}"'
    with RawScp("PACS") as pacs, RawScp("NEVER") as never, Site(tmp_path / "node", emulator, (pacs, budget), (never, 'restore = "no"')) as site:
        study, _ = site.archived(tmp_path / "study", series=2)
        # Now it is known where they are.
        assert site.move(never, study)[:2] == (0xA702, "8 archived in DEEP_ARCHIVE_ACCESS, not restored")
        assert site.move(pacs, study)[:2] == (0xA702, "8 archived, over the restore budget of today")
        assert site.node.command("restores", "--json").stdout == "" and site.accepted() == []


def test_a_restore_that_takes_longer_than_images_are_wanted_makes_no_delivery(tmp_path, emulator):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, 'deliver_later = "1h"')) as site:
        study, _ = site.archived(tmp_path / "study")
        ready_at(site.move(pacs, study)[1], 4, "ask again")
        assert site.deliveries() == []


def test_a_get_says_when_to_ask_again(tmp_path, emulator):
    with RawScp("PYNETDICOM") as caller, Site(tmp_path / "node", emulator, (caller, LATER)) as site:
        study, images = site.archived(tmp_path / "study")
        storage = scu.contexts_of(sorted((tmp_path / "study").glob("*.dcm")))
        final, _ = scu.get(site.node, tmp_path / "got", storage, StudyInstanceUID=study)[-1]
        assert final.Status == 0xA702 and final.NumberOfFailedSuboperations == len(images)
        ready_at(final.ErrorComment, 4, "ask again")
        assert site.deliveries() == []


def test_a_cancelled_move_leaves_no_delivery(tmp_path, emulator):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, f'{LATER}\nretrieve_wait = "24h"')) as site:
        study, _ = site.archived(tmp_path / "study")
        with scu.association(site.node, [(scu.MOVE["STUDY"], [ExplicitVRLittleEndian])]) as assoc:
            responses = assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), "PACS", scu.MOVE["STUDY"], msg_id=7)
            assert next(responses)[0].Status == 0xFF00
            wait_until(site.accepted, "the restore is asked for", timeout=30)
            assert next(responses)[0].Status == 0xFF00, "it waits, and says so"
            assoc.send_c_cancel(7, query_model=scu.MOVE["STUDY"])
            assert [status.Status for status, _ in responses][-1] == 0xFE00
        assert [one for one in site.deliveries() if one["state"] == "open"] == []
        site.hours_later(13)
        wait_until(lambda: site.node.metric("filmroom_deliveries_open") == 0, "nothing is open")
        assert pacs.commands == []


def test_a_cancel_ends_the_delivery_of_an_earlier_move(tmp_path, emulator):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, LATER)) as site:
        study, _ = site.archived(tmp_path / "study")
        site.move(pacs, study)
        assert site.delivery("open")["waiting"] == 4
        with scu.association(site.node, [(scu.MOVE["STUDY"], [ExplicitVRLittleEndian])]) as assoc:
            responses = assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), "PACS", scu.MOVE["STUDY"], msg_id=8)
            next(responses)
            assoc.send_c_cancel(8, query_model=scu.MOVE["STUDY"])
            last = [status.Status for status, _ in responses][-1]
        # The C-MOVE may have ended before it was cancelled.
        if last == 0xFE00:
            assert site.delivery("cancelled")["cancelled"] == 4
        else:
            number = site.delivery("open")["id"]
            assert "4 cancelled" in site.node.command("deliveries", "cancel", number).stdout
        again = site.node.command("deliveries", "cancel", site.deliveries()[0]["id"], check=False)
        assert again.returncode != 0 and "not open" in again.stderr


def test_a_viewer_that_hangs_up_still_gets_its_study(tmp_path, emulator):
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, f'{LATER}\nretrieve_wait = "24h"')) as site:
        study, images = site.archived(tmp_path / "study")
        with scu.association(site.node, [(scu.MOVE["STUDY"], [ExplicitVRLittleEndian])]) as assoc:
            responses = assoc.send_c_move(scu.identifier("STUDY", StudyInstanceUID=study), "PACS", scu.MOVE["STUDY"])
            assert next(responses)[0].Status == 0xFF00
            wait_until(site.accepted, "the restore is asked for", timeout=30)
            assoc.abort()
        assert site.delivery("open")["waiting"] == 4
        site.hours_later(13)
        assert site.delivery("done", timeout=60)["sent"] == 4
        assert_exactly_once(pacs, images)
        assert originators(pacs) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # The peer of the node that is killed.
@pytest.mark.parametrize("step, repeated", [("delivery::taken=2", 0), ("delivery::before_record=2", 1), ("delivery::after_record=2", 0)])
def test_a_node_that_is_killed_while_it_delivers_repeats_one_image_at_most(tmp_path, emulator, step, repeated):
    kill = {"FILMROOM_ABORT_AT": step}
    with RawScp("PACS") as pacs, Site(tmp_path / "node", emulator, (pacs, LATER), environment=kill) as site:
        study, images = site.archived(tmp_path / "study")
        site.move(pacs, study)
        site.hours_later(13)
        wait_until(lambda: site.node.process.poll() is not None, "the node is dead", timeout=60)
        site.node.environment.pop("FILMROOM_ABORT_AT")
        site.node.start()
        assert site.delivery("done", timeout=60)["sent"] == 4
        arrived = received(pacs)
        assert set(arrived) == set(images) and len(arrived) == 4 + repeated
        assert all(pacs.stored[instance][2] == content for instance, content in images.items())


def test_a_destination_that_is_down_gets_them_when_it_is_back(tmp_path, emulator):
    with RawScp("PACS") as placeholder:
        port = placeholder.port
    with Site(tmp_path / "node", emulator, (placeholder, LATER)) as site:
        study, images = site.archived(tmp_path / "study")
        assert site.move(placeholder, study)[0] == 0xA702
        site.hours_later(13)
        wait_until(lambda: site.delivery("open")["attempts"] > 0, "it was called in vain", timeout=60)
        assert site.delivery("open")["error"] != ""
        with RawScp("PACS", port=port) as pacs:
            site.due()
            assert site.delivery("done", timeout=60)["sent"] == 4
            assert_exactly_once(pacs, images)


def test_an_image_that_is_refused_is_given_up_and_the_others_arrive(tmp_path, emulator):
    refused = []

    def answer(fields):
        if not refused:
            refused.append(uid(fields))
        return 0xC123 if uid(fields) in refused else 0x0000

    with RawScp("PACS", answer=answer) as pacs, Site(tmp_path / "node", emulator, (pacs, LATER)) as site:
        study, images = site.archived(tmp_path / "study")
        site.move(pacs, study)
        site.hours_later(13)
        wait_until(lambda: len(pacs.stored) == 3, "the others", timeout=60)
        for times in range(2, 7):
            wait_until(lambda: site.due() or received(pacs).count(refused[0]) >= times, f"refused {times} times", timeout=60)
        done = site.delivery("done", timeout=60)
        assert (done["sent"], done["refused"]) == (3, 1)
        assert received(pacs).count(refused[0]) == 6
        site.node.counted("filmroom_delivered_images_total", 1, result="refused")


def test_what_a_destination_takes_in_some_syntaxes_only_is_converted_or_given_up(tmp_path, emulator):
    implicit = "1.2.840.10008.1.2"
    with RawScp("PACS", accepts=lambda abstract, syntax: syntax == implicit) as pacs, Site(tmp_path / "node", emulator, (pacs, LATER)) as site:
        study, images = site.archived(tmp_path / "study")
        site.move(pacs, study)
        site.hours_later(13)
        assert site.delivery("done", timeout=60)["sent"] == 4
        assert {pacs.stored[instance][1] for instance in images} == {implicit}


def test_a_destination_that_hangs_holds_up_nobody_else(tmp_path, emulator):
    released = threading.Event()

    def answer(fields):
        released.wait(60)
        return 0x0000

    with RawScp("HANGS", answer=answer) as hangs, RawScp("PACS") as pacs:
        with Site(tmp_path / "node", emulator, (hangs, LATER), (pacs, LATER)) as site:
            study, images = site.archived(tmp_path / "study")
            site.move(hangs, study)
            site.move(pacs, study)
            site.hours_later(13)
            assert site.delivery("done", timeout=60)["destination"] == "PACS"
            assert_exactly_once(pacs, images)
            released.set()
            wait_until(lambda: all(one["state"] == "done" for one in site.deliveries()), "the one that hung", timeout=60)
            assert_exactly_once(hangs, images)


def test_what_cannot_be_delivered_in_time_expires_for_all_to_see(tmp_path, emulator):
    with RawScp("PACS") as gone:
        pass
    with Site(tmp_path / "node", emulator, (gone, LATER)) as site:
        study, images = site.archived(tmp_path / "study")
        site.move(gone, study)
        site.hours_later(25)
        expired = site.delivery("expired", timeout=60)
        assert (expired["expired"], expired["sent"]) == (4, 0)
        wait_until(lambda: site.node.metric("filmroom_deliveries_total", result="expired") == 1, "the metric")
        assert "a delivery has ended, and not all of it arrived" in site.node.log()

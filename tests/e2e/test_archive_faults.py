"""What goes wrong between a film room and its archive: S3 is out for an hour, slows down, breaks off, has damaged a pack; a destination refuses, hangs, takes
only some of it; a restore takes longer than promised, or faster; events of S3 never come, come twice, come early. Whoever stores notices nothing, whoever
asks is told the truth, and what was promised arrives."""

import datetime
import re
import threading

import pytest
from harness import sample, scu
from harness.arrivals import ByPynetdicom, ByStoreScp, assert_each_once, complete, digests
from harness.ports import free_port, wait_until
from harness.requester import Moving, move
from harness.site import Site, ae, availability, deliveries, under_way, wait_available
from pynetdicom import AllStoragePresentationContexts

NO_WAIT = 'wait = "0s"\npending_interval = "1s"'


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path / "site") as started:
        yield started


@pytest.fixture
def dest(tmp_path):
    with ByStoreScp(tmp_path / "dest", "DEST") as scp:
        yield scp


@pytest.fixture
def later():
    with ByPynetdicom("LATER") as scp:
        yield scp


def archived_study(site, node, tmp_path, days=100, name="study", **options):
    """A study of one series of four images that S3 has archived."""
    study, paths = sample.make_study(tmp_path / name, images=4, **options)
    site.pack(node, paths)
    site.clock.advance(days=days)
    assert site.archived(study)
    return study, paths


def promised(comment):
    found = re.search(r"ready (\d{4}-\d\d-\d\d \d\d:\d\d[+-]\d{4})", comment)
    assert found, comment
    return datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M%z")


def about(moment, expected):
    return abs(moment - expected) < datetime.timedelta(minutes=5)


def ask_later(site, node, study, later, images=4, packs=1):
    """A C-MOVE for a destination that opted in, whose images are archived: the promise, and the restore under way."""
    final = move("pynetdicom", node, later.title, StudyInstanceUID=study)
    assert (final.status, final.counters) == (0xA702, (0, images, 0)), final
    assert "sent then" in final.comment
    wait_until(lambda: under_way(node, study) == packs, "the restores to be under way")
    return promised(final.comment)


def delivered_once(later, paths, timeout=60):
    expected = digests(paths)
    wait_until(lambda: complete(later, expected), "the delivery", timeout=timeout)
    assert_each_once(later, expected)


# -- S3 ---------------------------------------------------------------------------------------------------------------------


def test_s3_is_out_for_an_hour_while_modalities_send(site, dest, tmp_path):
    with site.node(peers=[ae("DEST", dest.port)]) as node:
        cold, before = sample.make_study(tmp_path / "before", images=4)
        site.pack(node, before)
        site.emulator.fault("outage")
        during = []
        for n in range(4):
            study, paths = sample.make_study(tmp_path / f"during{n}", images=4)
            during.append((study, paths))
            # Modalities notice nothing: everything is accepted, found, and sent on.
            assert set(scu.store(node, paths).values()) == {0x0000}
            assert availability(node, study)[0] == "ONLINE"
            assert move("pynetdicom", node, "DEST", StudyInstanceUID=study).status == 0x0000
            site.clock.advance(minutes=15)
        # The hour of quiet is over for the first ones: their offload fails.
        site.clock.advance(minutes=50)
        wait_until(lambda: node.metric("filmroom_cold_down") == 1, "the outage to be known")
        assert availability(node, cold)[0] == "OFFLINE"
        assert len(site.packs()) == 1
        site.emulator.clear_faults()
        site.clock.advance(hours=1)
        wait_until(lambda: node.status()["packs_verified"] == 5, "the backlog to drain", timeout=60)
        assert node.metric("filmroom_cold_down") == 0 and node.status()["packs_pending"] == 0
        assert len(site.packs()) == 5
        assert availability(node, cold)[0] == "ONLINE"
        assert move("pynetdicom", node, "DEST", StudyInstanceUID=cold).status == 0x0000
        assert_each_once(dest, digests([path for paths in (before, *(paths for _, paths in during)) for path in paths]))


def test_storms_of_slow_down_are_weathered(site, dest, tmp_path):
    """At the upload, at the restore and at the GET: each time as many refusals as one request is tried."""
    with site.node(peers=[ae("DEST", dest.port)]) as node:
        study, paths = sample.make_study(tmp_path / "study", images=4)
        site.emulator.fault("slow_down", operation="PutObject", count=2)
        assert set(scu.store(node, paths).values()) == {0x0000}
        node.command("offload", study)
        node.command("evict", study)
        site.clock.advance(days=100)
        site.emulator.fault("slow_down", operation="RestoreObject", count=2)
        moving = Moving("pynetdicom", node, "DEST", StudyInstanceUID=study)
        wait_until(lambda: under_way(node, study), "the restore")
        site.emulator.fault("slow_down", operation="GetObject", count=2)
        site.clock.advance(minutes=5)
        final = moving.ended()
        assert (final.status, final.counters) == (0x0000, (4, 0, 0))
        assert_each_once(dest, digests(paths))
        assert len(site.restores(study)) == 1


@pytest.mark.parametrize("kind", ["truncate", "reset", "wrong_bytes"])
def test_a_get_that_breaks_is_made_again(site, dest, tmp_path, kind):
    with site.node(peers=[ae("DEST", dest.port)]) as node:
        study, paths = sample.make_study(tmp_path / "study", images=4)
        site.pack(node, paths)
        site.emulator.fault(kind, operation="GetObject", count=1)
        final = move("pynetdicom", node, "DEST", StudyInstanceUID=study)
        if kind == "wrong_bytes":
            # What is not what was stored is never sent; that it was the line and not the pack, only another look can tell.
            assert final.completed + final.failed == 4 and final.failed <= 1
            dest.clear()
            final = move("pynetdicom", node, "DEST", StudyInstanceUID=study)
        assert (final.status, final.counters) == (0x0000, (4, 0, 0))
        assert_each_once(dest, digests(paths))


def corrupt(site, study):
    """Changes a byte of the study's pack, in the pixels of one image."""
    ((key, pack),) = site.packs(study).items()
    site.emulator.corrupt(key, offset=pack["size"] * 6 // 10)


def test_an_image_of_a_damaged_pack_fails_honestly_and_the_others_arrive(site, dest, later, tmp_path):
    with site.node(peers=[ae("DEST", dest.port), ae("LATER", later.port, deliver_later="24h")]) as node:
        study, paths = sample.make_study(tmp_path / "study", images=4)
        site.pack(node, paths)
        corrupt(site, study)
        site.clock.advance(days=100)
        moving = Moving("pynetdicom", node, "DEST", StudyInstanceUID=study)
        wait_until(lambda: under_way(node, study), "the restore")
        site.clock.advance(minutes=5)
        final = moving.ended()
        assert (final.status, final.counters) == (0xB000, (3, 1, 0))
        assert len(final.failed_uids) == 1
        expected = {uid: digest for uid, digest in digests(paths).items() if uid not in final.failed_uids}
        assert_each_once(dest, expected)


def test_no_capacity_for_expedited_falls_back_to_standard_and_says_so(site, dest, tmp_path):
    with site.node(peers=[ae("DEST", dest.port)]) as node:
        study, paths = archived_study(site, node, tmp_path)
        site.emulator.fault("expedited_unavailable", operation="RestoreObject")
        final = Moving("pynetdicom", node, "DEST", StudyInstanceUID=study).ended()
        # Hours are not waited for: the requester is told when.
        assert (final.status, final.counters) == (0xA702, (0, 4, 0))
        assert about(promised(final.comment), site.clock.now() + datetime.timedelta(hours=5)), final.comment
        assert [asked["tier"] for asked in site.restores(study)] == ["Standard"]
        assert under_way(node, study)
        assert "expedited" in node.command("restores").stdout.lower()
        site.clock.advance(hours=5)
        wait_available(node, study, "ONLINE")
        assert move("pynetdicom", node, "DEST", StudyInstanceUID=study).status == 0x0000
        assert_each_once(dest, digests(paths))


def test_a_restore_takes_three_times_as_long_as_promised(site, later, tmp_path):
    with site.node(peers=[ae("LATER", later.port, deliver_later="72h")]) as node:
        study, paths = archived_study(site, node, tmp_path, days=200)
        site.emulator.delays(deep_standard=36 * 3600)
        first = ask_later(site, node, study, later)
        assert about(first, site.clock.now() + datetime.timedelta(hours=12))
        for _ in range(2):
            site.clock.advance(hours=12)
            # What was promised has not come: the next promise is later, and not in the past.
            again = wait_until(lambda: moved_on(node, study, later, first), "a later promise")
            assert again > site.clock.now() - datetime.timedelta(minutes=1)
            first = again
            assert later.arrivals() == []
        site.clock.advance(hours=12)
        delivered_once(later, paths)
        assert len(site.restores(study)) == 1
        # The next promise is made of what restores really took, which a node knows from its start.
        node.stop()
        node.start()
        other, _ = archived_study(site, node, tmp_path, days=200, name="other")
        learnt = ask_later(site, node, other, later)
        assert learnt > site.clock.now() + datetime.timedelta(hours=30), learnt


def moved_on(node, study, later, first):
    final = move("pynetdicom", node, later.title, StudyInstanceUID=study)
    assert (final.status, final.counters) == (0xA702, (0, 4, 0))
    now = promised(final.comment)
    return now if now > first else None


# -- events -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(site, later):
    """A node that hears of S3's events by a queue."""
    site.emulator.notify()
    queue = f'events_queue = "{site.emulator.queue_url()}"\n'
    with site.node(peers=[ae("LATER", later.port, deliver_later="72h")], cold_more=queue) as node:
        yield node


def test_an_event_tells_of_a_restore_that_was_quicker_than_expected(site, told, later, tmp_path):
    study, paths = archived_study(site, told, tmp_path, days=200)
    site.emulator.delays(deep_standard=3600)
    ask_later(site, told, study, later)
    site.clock.advance(minutes=61)
    # Eleven hours before it is expected.
    delivered_once(later, paths)


def test_an_event_never_comes(site, told, later, tmp_path):
    study, paths = archived_study(site, told, tmp_path, days=200)
    site.emulator.events(drop=1000)
    ask_later(site, told, study, later)
    site.clock.advance(hours=12)
    delivered_once(later, paths)


def test_an_event_comes_twice(site, told, later, tmp_path):
    study, paths = archived_study(site, told, tmp_path, days=200)
    site.emulator.events(duplicate=1000)
    ask_later(site, told, study, later)
    site.clock.advance(hours=12)
    delivered_once(later, paths)
    wait_until(lambda: site.messages() == 0, "both to be read")
    assert_each_once(later, digests(paths))
    assert len(site.restores(study)) == 1


def test_an_event_comes_early(site, told, later, tmp_path):
    """It says that the restore is complete an hour before it is: HEAD decides."""
    study, paths = archived_study(site, told, tmp_path, days=200)
    site.emulator.events(early=3600)
    ask_later(site, told, study, later)
    heads = site.requests("HeadObject")
    site.clock.advance(hours=11, minutes=30)
    wait_until(lambda: site.requests("HeadObject") > heads, "the event to be looked into")
    assert availability(told, study)[0] == "NEARLINE"
    assert later.arrivals() == []
    site.clock.advance(minutes=30)
    delivered_once(later, paths)
    assert len(site.restores(study)) == 1


# -- destinations ------------------------------------------------------------------------------------------------------------


def test_a_destination_that_is_not_there_gets_its_delivery_when_it_is(site, tmp_path):
    port = free_port()
    with site.node(peers=[ae("LATER", port, deliver_later="48h")]) as node, ByPynetdicom("LATER", port=port) as later:
        study, paths = archived_study(site, node, tmp_path, days=200)
        later.stop()
        ask_later(site, node, study, later)
        site.clock.advance(hours=12)
        wait_until(lambda: deliveries(node)[0]["attempts"] >= 1, "an attempt in vain")
        later.start()
        delivered_once(later, paths)


@pytest.mark.parametrize("fault", ["breaks off", pytest.param("hangs", marks=pytest.mark.long)])
def test_a_destination_that_fails_and_then_has_no_room_gets_each_image_once(site, tmp_path, fault):
    over = threading.Event()

    def answer(n, event):
        if n == 2 and fault == "hangs":
            over.wait(300)
        elif n == 2:
            event.assoc.abort()
        # A700: out of resources (PS3.4 B.2.3).
        return 0xA700 if n in (2, 3) else 0x0000

    with ByPynetdicom("LATER", answer=answer) as later:
        with site.node(peers=[ae("LATER", later.port, deliver_later="48h")]) as node:
            study, paths = archived_study(site, node, tmp_path, days=200)
            ask_later(site, node, study, later)
            site.clock.advance(hours=12)
            # The response to a C-STORE is waited for for two minutes.
            wait_until(lambda: deliveries(node)[0]["attempts"] >= 1, "an attempt in vain", timeout=180)
            over.set()
            delivered_once(later, paths)


def test_a_destination_that_takes_only_some_classes_gets_those(site, tmp_path):
    contexts = [context for context in AllStoragePresentationContexts if "CT" not in context.abstract_syntax.name]
    with ByPynetdicom("LATER", contexts=contexts) as later, site.node(peers=[ae("LATER", later.port, deliver_later="48h")]) as node:
        study, ct = sample.make_study(tmp_path / "ct", images=4)
        _, mr = sample.make_study(tmp_path / "mr", images=4, template="mr_series/MR01.dcm", modality="MR", study_uid=study)
        site.pack(node, ct + mr)
        site.clock.advance(days=200)
        assert site.archived(study)
        ask_later(site, node, study, later, images=8, packs=2)
        site.clock.advance(hours=12)
        delivered_once(later, mr)

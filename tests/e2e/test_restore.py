"""What S3 has archived is restored for who asks: once however many ask, as fast as they may have it, within their budgets, and whatever happens meanwhile.

The emulator's clock is the node's: a restore of five hours takes as long as it takes to turn the clock."""

import json
import threading

import pytest
from conftest import drop_database, new_database
from harness import dcmtk, part10, sample, scu
from harness.node import Node
from harness.ports import wait_until
from harness.site import NO_SCRUB

HOUR = 3600
PEERS = """
[[ae]]
title = "{title}"
address = "127.0.0.1:{port}"
{more}
"""


def make_node(tmp_path, emulator, destination, name="node", catalogue_url=None, more="", wait="10m", cold="", environment=None):
    sections = f"""
[cold]
url = "s3://{emulator.bucket}/clinic"
endpoint = "{emulator.endpoint}"
check_interval = "200ms"
timeout = "5s"
attempts = 2
{cold}
[cold.archive]
access_days = 90
deep_days = 180
[hot]
evict_after = "30d"
[retrieve]
wait = "{wait}"
pending_interval = "1s"
{NO_SCRUB}
{PEERS.format(title=destination.title, port=destination.port, more=more)}
"""
    return Node(tmp_path / name, catalogue_url, sections=sections,
                environment={**emulator.environment, "FILMROOM_CLOCK": str(emulator.clock), **(environment or {})})


def offloaded(node, folder, images=4, series=1, **options):
    """A study that is in the cold store only, each series a pack of more than 128 KB."""
    study, paths = sample.make_study(folder, images=images, series=series, **options)
    assert set(scu.store(node, paths).values()) == {0x0000}
    node.command("offload", study)
    node.command("evict", study)
    return study, paths


def archived(node, emulator, folder, tier="ARCHIVE_ACCESS", **options):
    study, paths = offloaded(node, folder, **options)
    assert emulator.archive(tier, prefix=f"clinic/{study}/") >= 1
    return study, paths


def restores(node):
    return [json.loads(line) for line in node.command("restores", "--json").stdout.splitlines()]


def outcomes(emulator):
    """What the store answered to requests for restores."""
    return [(asked["tier"], asked["outcome"]) for asked in emulator.counters()["restores"]]


def accepted(emulator):
    return sum(outcome == "accepted" for _, outcome in outcomes(emulator))


def until_restoring(node, count=1):
    wait_until(lambda: [row["state"] for row in restores(node)].count("restoring") == count, f"{count} restores under way", timeout=30)


def arrived(destination, paths):
    assert {part10.digest(path) for path in destination.files()} == {part10.digest(path) for path in paths}


def last(responses):
    status, identifier = responses[-1]
    return status.Status, status.get("ErrorComment", ""), identifier


def in_background(work, *arguments, **options):
    """Runs while the test goes on; what it returns is in `.value` after `.join()`."""

    def run():
        thread.value = work(*arguments, **options)

    thread = threading.Thread(target=run)
    thread.value = None
    thread.start()
    return thread


def availability(node, study):
    answers, _ = scu.find(node, "STUDY", StudyInstanceUID=study, InstanceAvailability="")
    return answers[0].InstanceAvailability


def test_an_archived_study_is_restored_within_the_wait_and_arrives_whole(tmp_path, catalogue_url, emulator, destination):
    with make_node(tmp_path, emulator, destination, catalogue_url=catalogue_url) as node:
        study, paths = archived(node, emulator, tmp_path / "study", series=2)
        move = in_background(dcmtk.movescu, node, destination.title, StudyInstanceUID=study)
        until_restoring(node, 2)
        assert availability(node, study) == "NEARLINE"
        assert destination.files() == [] and move.is_alive()
        emulator.advance(seconds=181)
        move.join(60)
        arrived(destination, paths)
        assert outcomes(emulator) == [("Expedited", "accepted")] * 2
        assert availability(node, study) == "ONLINE"
        rows = restores(node)
        assert {(row["state"], row["accepted"], row["asked_by"], row["study"]) for row in rows} == {
            ("readable", "expedited", destination.title, study)}
        assert all(row["cost"] > 0 and row["ended"] for row in rows)
        assert "USD" in node.command("restores").stdout
        node.counted("filmroom_restores_requested_total", 2, tier="expedited", outcome="accepted")
        node.counted("filmroom_restores_ended_total", 2, outcome="readable")
        node.counted("filmroom_restored_bytes_total", sum(row["bytes"] for row in rows), tier="expedited")


def test_what_takes_longer_than_the_wait_is_refused_with_the_time_and_goes_on(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination) as node:
        study, paths = archived(node, emulator, tmp_path / "study", "DEEP_ARCHIVE_ACCESS")
        status, comment, identifier = last(scu.move(node, destination.title, StudyInstanceUID=study))
        assert status == 0xA702 and "ready" in comment and "ask again" in comment
        assert len(identifier.FailedSOPInstanceUIDList) == 4
        until_restoring(node)
        # Asked again before its time, nothing is read from the store, and nothing is asked of it.
        emulator.reset_counters()
        assert last(scu.move(node, destination.title, StudyInstanceUID=study))[0] == 0xA702
        requests = emulator.counters()["requests"]
        assert "GetObject" not in requests and "RestoreObject" not in requests
        emulator.advance(seconds=12 * HOUR + 1)
        wait_until(lambda: restores(node)[0]["state"] == "readable", "the restore to be noticed", timeout=30)
        dcmtk.movescu(node, destination.title, StudyInstanceUID=study)
        arrived(destination, paths)


def test_ten_who_ask_at_once_share_one_restore(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination, more="max_associations = 10") as node:
        study, paths = archived(node, emulator, tmp_path / "study")
        moves = [in_background(dcmtk.movescu, node, destination.title, StudyInstanceUID=study) for _ in range(10)]
        until_restoring(node)
        emulator.advance(seconds=181)
        for move in moves:
            move.join(60)
        assert [move.value.returncode for move in moves] == [0] * 10
        arrived(destination, paths)
        assert outcomes(emulator) == [("Expedited", "accepted")] and len(restores(node)) == 1


def test_two_nodes_share_one_restore(tmp_path, emulator, destination):
    url, name = new_database()
    one = make_node(tmp_path, emulator, destination, "one", url)
    two = make_node(tmp_path, emulator, destination, "two", url)
    with one, two:
        study, paths = archived(one, emulator, tmp_path / "study")
        moves = [in_background(scu.move, node, destination.title, StudyInstanceUID=study) for node in (one, two)]
        until_restoring(one)
        emulator.advance(seconds=181)
        for move in moves:
            move.join(60)
        assert [last(move.value)[0] for move in moves] == [0x0000, 0x0000]
        arrived(destination, paths)
        assert outcomes(emulator) == [("Expedited", "accepted")]
    drop_database(name)


def test_a_more_urgent_request_makes_a_restore_faster(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination) as node:
        study, paths = archived(node, emulator, tmp_path / "study")
        # A person has it recalled, in hours.
        done = node.command("recall", study, check=False)
        assert done.returncode != 0 and "4 of 4 instances are being restored" in done.stderr and "ask again" in done.stderr
        until_restoring(node)
        move = in_background(scu.move, node, destination.title, StudyInstanceUID=study)
        wait_until(lambda: restores(node)[0]["accepted"] == "expedited", "the upgrade", timeout=30)
        emulator.advance(seconds=181)
        move.join(60)
        assert last(move.value)[0] == 0x0000
        arrived(destination, paths)
        assert outcomes(emulator) == [("Standard", "accepted"), ("Expedited", "upgraded")] and len(restores(node)) == 1


def test_without_capacity_for_expedited_it_is_standard_and_says_so(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination) as node:
        study, _ = archived(node, emulator, tmp_path / "study")
        emulator.fault("expedited_unavailable", operation="RestoreObject")
        status, comment, _ = last(scu.move(node, destination.title, StudyInstanceUID=study))
        assert status == 0xA702 and "ask again" in comment
        row, = restores(node)
        assert (row["state"], row["accepted"]) == ("restoring", "standard") and "lack of capacity" in row["error"]
        assert accepted(emulator) == 1
        emulator.advance(seconds=4 * HOUR + 1)
        wait_until(lambda: restores(node)[0]["state"] == "readable", "the restore to be noticed", timeout=60)


def test_a_budget_is_for_whole_series_and_another_day(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination, more='restore_budget_per_day = "400KB"', wait="0s") as node:
        first, _ = archived(node, emulator, tmp_path / "first", "DEEP_ARCHIVE_ACCESS", series=2)
        second, _ = archived(node, emulator, tmp_path / "second", "DEEP_ARCHIVE_ACCESS")
        assert last(scu.move(node, destination.title, StudyInstanceUID=first))[0] == 0xA702
        status, comment, _ = last(scu.move(node, destination.title, StudyInstanceUID=second))
        assert status == 0xA702 and "budget" in comment
        # Joining what is under way costs nothing.
        assert "budget" not in last(scu.move(node, destination.title, StudyInstanceUID=first))[1]
        until_restoring(node, 2)
        emulator.advance(days=1, seconds=60)
        assert "budget" not in last(scu.move(node, destination.title, StudyInstanceUID=second))[1]
        node.counted("filmroom_restores_over_budget_total", 1)


def test_who_may_not_have_restored_is_told_that_it_is_archived(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination, more='restore = "no"') as node:
        study, _ = archived(node, emulator, tmp_path / "study")
        status, comment, _ = last(scu.move(node, destination.title, StudyInstanceUID=study))
        assert status == 0xA702 and "archived" in comment
        assert restores(node) == [] and outcomes(emulator) == []


def test_a_restore_that_takes_three_times_as_long_is_expected_later(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination, wait="0s") as node:
        emulator.delays(deep_standard=36 * HOUR)
        study, paths = archived(node, emulator, tmp_path / "study", "DEEP_ARCHIVE_ACCESS")
        scu.move(node, destination.title, StudyInstanceUID=study)
        until_restoring(node)
        promised = restores(node)[0]["expected"]
        emulator.advance(seconds=13 * HOUR)
        wait_until(lambda: restores(node)[0]["expected"] > promised, "the time to move on", timeout=30)
        assert last(scu.move(node, destination.title, StudyInstanceUID=study))[0] == 0xA702
        emulator.advance(seconds=24 * HOUR)
        wait_until(lambda: restores(node)[0]["state"] == "readable", "the restore to be noticed", timeout=30)
        dcmtk.movescu(node, destination.title, StudyInstanceUID=study)
        arrived(destination, paths)
        assert accepted(emulator) == 1


@pytest.mark.parametrize("events", [{"drop": 1000}, {"duplicate": 1000}, {"early": 3 * HOUR}], ids=["never", "twice", "early"])
def test_events_that_lie_do_no_harm(tmp_path, emulator, destination, events):
    emulator.notify()
    cold = f'events_queue = "{emulator.queue_url()}"\n'
    with make_node(tmp_path, emulator, destination, wait="0s", cold=cold) as node:
        study, paths = archived(node, emulator, tmp_path / "study", "DEEP_ARCHIVE_ACCESS")
        emulator.events(**events)
        scu.move(node, destination.title, StudyInstanceUID=study)
        until_restoring(node)
        emulator.advance(seconds=10 * HOUR)
        assert last(scu.move(node, destination.title, StudyInstanceUID=study))[0] == 0xA702
        emulator.advance(seconds=2 * HOUR + 60)
        wait_until(lambda: restores(node)[0]["state"] == "readable", "the restore to be noticed", timeout=60)
        dcmtk.movescu(node, destination.title, StudyInstanceUID=study)
        arrived(destination, paths)
        assert accepted(emulator) == 1


def test_an_event_tells_of_what_is_done_before_its_time(tmp_path, emulator, destination):
    emulator.notify()
    cold = f'events_queue = "{emulator.queue_url()}"\n'
    with make_node(tmp_path, emulator, destination, wait="0s", cold=cold) as node:
        study, _ = archived(node, emulator, tmp_path / "study", "DEEP_ARCHIVE_ACCESS")
        scu.move(node, destination.title, StudyInstanceUID=study)
        until_restoring(node)
        key, = [key for key in emulator.objects(f"clinic/{study}/") if key.endswith(".zip")]
        emulator.finish(key)
        # Without the event it would be looked at in half an hour.
        wait_until(lambda: restores(node)[0]["state"] == "readable", "the event", timeout=30)


@pytest.mark.parametrize("step", ["after_wanted", "before_request", "after_request", "after_accepted", "before_look", "after_look", "after_readable"])
def test_a_kill_at_any_step_leaves_one_restore_that_ends(tmp_path, emulator, destination, step):
    node = make_node(tmp_path, emulator, destination, wait="0s")
    node.start()
    study, paths = archived(node, emulator, tmp_path / "study", "DEEP_ARCHIVE_ACCESS")
    node.stop()
    node.start(environment={"FILMROOM_ABORT_AT": f"restore::{step}=1"})
    in_background(scu.move, node, destination.title, StudyInstanceUID=study)
    if step in ("before_look", "after_look", "after_readable"):
        until_restoring(node)
        emulator.advance(seconds=12 * HOUR + 60)
    wait_until(lambda: node.process.poll() is not None, f"the node to die at {step}", timeout=60)
    node.kill()
    with node:
        if step in ("after_wanted", "before_request", "after_request", "after_accepted"):
            until_restoring(node)
            emulator.advance(seconds=12 * HOUR + 60)
        wait_until(lambda: [row["state"] for row in restores(node)] == ["readable"], "the restore to end", timeout=60)
        dcmtk.movescu(node, destination.title, StudyInstanceUID=study)
        arrived(destination, paths)
        assert accepted(emulator) == 1


def test_availability_follows_the_archive_without_asking_it(tmp_path, catalogue_url, emulator, destination):
    emulator.tier_by_age(90, 180)
    with make_node(tmp_path, emulator, destination, catalogue_url=catalogue_url, wait="10m") as node:
        study, paths = offloaded(node, tmp_path / "study")
        small, _ = offloaded(node, tmp_path / "small", images=2)
        emulator.reset_counters()
        assert availability(node, study) == "ONLINE"
        emulator.advance(days=91)
        assert (availability(node, study), availability(node, small)) == ("NEARLINE", "ONLINE")
        requests = emulator.counters()["requests"]
        assert not {"GetObject", "HeadObject"} & set(requests), requests
        move = in_background(dcmtk.movescu, node, destination.title, StudyInstanceUID=study)
        until_restoring(node)
        emulator.advance(seconds=181)
        move.join(60)
        arrived(destination, paths)
        assert availability(node, study) == "ONLINE"


def test_a_pack_that_is_lost_counts_no_more_until_it_is_back(tmp_path, emulator, destination):
    with make_node(tmp_path, emulator, destination) as node:
        study, paths = offloaded(node, tmp_path / "study")
        s3 = emulator.client()
        key, = [key for key in emulator.objects(f"clinic/{study}/") if key.endswith(".zip")]
        body = s3.get_object(Bucket=emulator.bucket, Key=key)["Body"].read()
        checksum = s3.head_object(Bucket=emulator.bucket, Key=key, ChecksumMode="ENABLED")["ChecksumCRC64NVME"]
        s3.delete_object(Bucket=emulator.bucket, Key=key)
        assert last(scu.move(node, destination.title, StudyInstanceUID=study))[0] in (0xA702, 0xB000)
        assert availability(node, study) == "UNAVAILABLE"
        assert node.status()["packs_damaged"] == 1
        s3.put_object(Bucket=emulator.bucket, Key=key, Body=body, StorageClass="INTELLIGENT_TIERING", ChecksumCRC64NVME=checksum)
        dcmtk.movescu(node, destination.title, StudyInstanceUID=study)
        arrived(destination, paths)
        assert availability(node, study) == "ONLINE" and node.status()["packs_damaged"] == 0

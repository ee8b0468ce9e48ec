"""Two nodes on one PostgreSQL and one bucket: both are asked for the same archived study at once. The store accepts one restore for each pack, and what
one node has promised to deliver the other one delivers when the first is killed."""

import pytest
from harness import sample, scu
from harness.arrivals import ByPynetdicom, assert_each_once, complete, digests
from harness.ports import wait_until
from harness.requester import Moving
from harness.site import Site, ae, deliveries, let_leases_run_out, under_way

from conftest import drop_database, new_database

# Two series, so two packs.
SERIES, IMAGES = 2, 4


@pytest.fixture
def pair(tmp_path):
    """Two nodes, a destination for each, and a study that both know and S3 has archived."""
    url, database = new_database()
    with Site(tmp_path / "site") as site, ByPynetdicom("LATER1") as one, ByPynetdicom("LATER2") as other:
        peers = [ae(later.title, later.port, deliver_later="48h") for later in (one, other)]
        nodes = [site.node(name, url, peers=peers, retrieve='wait = "0s"\npending_interval = "1s"') for name in ("first", "second")]
        with nodes[0], nodes[1]:
            study, paths = sample.make_study(tmp_path / "study", images=IMAGES, series=SERIES)
            site.pack(nodes[0], paths)
            site.clock.advance(days=200)
            assert site.archived(study)
            yield site, nodes, (one, other), study, digests(paths)
    drop_database(database)


def both_ask(nodes, destinations, study):
    moves = [Moving("pynetdicom", node, later.title, StudyInstanceUID=study) for node, later in zip(nodes, destinations)]
    for moving in moves:
        final = moving.ended()
        assert (final.status, final.counters) == (0xA702, (0, SERIES * IMAGES, 0))
        assert "sent then" in final.comment


def assert_one_restore_a_pack(site, study):
    keys = [asked["key"] for asked in site.restores(study)]
    assert sorted(keys) == sorted(site.packs(study))
    # Nor was any asked for that the store had to turn down.
    assert len(site.asked()) == SERIES


def test_both_are_asked_at_once(pair):
    site, nodes, destinations, study, expected = pair
    both_ask(nodes, destinations, study)
    wait_until(lambda: under_way(nodes[0], study) == SERIES, "the restores")
    site.clock.advance(hours=12)
    for later in destinations:
        wait_until(lambda: complete(later, expected), f"the delivery to {later.title}", timeout=60)
        assert_each_once(later, expected)
    wait_until(lambda: {d["state"] for d in deliveries(nodes[0])} == {"done"}, "the end of both deliveries")
    assert len(deliveries(nodes[0])) == 2
    assert_one_restore_a_pack(site, study)


@pytest.mark.parametrize("when", ["before the restore is done", "in the middle of its delivery"])
def test_one_of_them_is_killed(pair, when):
    site, nodes, destinations, study, expected = pair
    if when == "in the middle of its delivery":
        nodes[0].kill()
        nodes[0].start(environment={"FILMROOM_ABORT_AT": "delivery::after_record=2"})
    both_ask(nodes, destinations, study)
    wait_until(lambda: under_way(nodes[0], study) == SERIES, "the restores")
    if when == "before the restore is done":
        nodes[0].kill()
        let_leases_run_out(nodes[0])
    else:
        # So that it is the first one that delivers.
        nodes[1].stop()
    site.clock.advance(hours=12)
    if when == "in the middle of its delivery":
        wait_until(lambda: nodes[0].process.poll() is not None, "the end of the first node")
        assert sum(len(later.arrivals()) for later in destinations) < 2 * SERIES * IMAGES
        let_leases_run_out(nodes[0])
        nodes[1].start()
    for later in destinations:
        wait_until(lambda: complete(later, expected), f"the delivery to {later.title}", timeout=60)
        # It may have been sending to the other one as well: of an association that was cut off, one image may come twice.
        came = later.arrivals()
        assert set(came) == set(expected.items())
        assert len(came) <= len(expected) + (when == "in the middle of its delivery")
    wait_until(lambda: {d["state"] for d in deliveries(nodes[1])} == {"done"}, "the end of both deliveries")
    assert_one_restore_a_pack(site, study)
    assert scu.find(nodes[1], "STUDY", StudyInstanceUID=study, InstanceAvailability="")[0][0].InstanceAvailability == "ONLINE"

"""A year of a film room, told by one steered clock that the node and the store share: studies arrive every month, leave for the cold store after an hour,
leave the disk after a month, and S3 moves them to Archive Access after 90 days and to Deep Archive Access after 180. Then a radiologist asks for one of
each. Nothing that the node does by itself wakes an archive clock, no answer promises what does not come, and every image comes exactly once."""

import datetime
import re

import pytest
from harness import sample, scu
from harness.arrivals import ByPynetdicom, ByStoreScp, assert_each_once, complete, digests
from harness.ports import wait_until
from harness.requester import TITLES, Moving, move
from harness.site import Site, ae, availability, under_way

# Days from one month's studies to the next month's, and from the last ones to the radiologist's morning.
MONTH, MORNING = 30, 15
# Four images make a pack that is big enough to be archived.
IMAGES = 4
# Months whose studies are at the end: on disk, cold, in Archive Access, in Deep Archive Access.
HOT, COLD, ARCHIVED, DEEP = 11, 9, 7, 3
# What the store needs for a restore, as the service promises at most.
EXPEDITED, TWELVE_HOURS = datetime.timedelta(minutes=5), datetime.timedelta(hours=12)


class Year:
    """The site at the end of the year, with one study of each kind for each requester."""

    def __init__(self, site, node):
        self.site, self.node, self.studies = site, node, {}
        self.packs, self.uploaded = 0, {}

    def store(self, name, folder, **attributes):
        """A series of four images, of a new study or of one that is there."""
        known = self.studies.setdefault(name, [None, []])
        study, paths = sample.make_study(folder, images=IMAGES, study_uid=known[0], patient_id=name[0].upper(), **attributes)
        known[0] = study
        known[1] += paths
        self.packs += 1
        return paths

    def pass_by(self, tmp_path):
        for month in range(12):
            paths = []
            for client in TITLES:
                for copy in range(3 if month == DEEP else 1):
                    paths += self.store((client, month, copy), tmp_path / f"{client}{month}{copy}")
                # Two studies that grow: in the end a third of one is archived, a third of the other deep archived.
                if month in (HOT, COLD, ARCHIVED):
                    paths += self.store((client, "thirds"), tmp_path / f"{client}{month}t")
                if month in (HOT, COLD, DEEP):
                    paths += self.store((client, "deep thirds"), tmp_path / f"{client}{month}d")
            assert set(scu.store(self.node, paths).values()) == {0x0000}
            self.site.clock.advance(hours=2)
            wait_until(lambda: self.node.status()["packs_verified"] == self.packs, f"the packs of month {month}")
            # Right after its upload a pack's last access is its upload.
            self.uploaded.update({key: found["last_access"] for key, found in self.site.packs().items() if key not in self.uploaded})
            self.site.clock.advance(days=MONTH if month < 11 else MORNING)
            hot = sum(IMAGES for name in self.studies for m in self.months(name) if m == HOT and month == 11)
            wait_until(lambda: len(self.node.hot_files()) == hot, f"the evictions of month {month}")

    @staticmethod
    def months(name):
        kinds = {"thirds": (HOT, COLD, ARCHIVED), "deep thirds": (HOT, COLD, DEEP)}
        return kinds.get(name[1], (name[1],))

    def expected(self, *name):
        return digests(self.studies[name][1])

    def availability(self, *name):
        """Of the study, and of each of its series in the order of their age."""
        study, paths = self.studies[name]
        of_study, of_series = availability(self.node, study)
        order = list(dict.fromkeys(str(sample.read(path).SeriesInstanceUID) for path in paths))
        assert set(of_series) == set(order)
        return of_study, [of_series[series] for series in order]

    def under_way(self, *name):
        return under_way(self.node, self.studies[name][0])

    def restores_of(self, *name):
        return self.site.restores(self.studies[name][0])


@pytest.fixture
def year(tmp_path, catalogue_url):
    with Site(tmp_path / "site") as site, ByStoreScp(tmp_path / "dest", "DEST") as dest, ByPynetdicom("LATER") as later:
        site.destinations = {"DEST": dest, "LATER": later}
        peers = [ae("DEST", dest.port, restore="expedited"), ae("LATER", later.port, deliver_later="24h")]
        with site.node(catalogue_url=catalogue_url, retrieve='wait = "10m"\npending_interval = "1s"', peers=peers) as node:
            made = Year(site, node)
            made.pass_by(tmp_path)
            yield made


def ready_at(comment, how):
    """The time that a comment promises."""
    found = re.fullmatch(rf"4 archived, ready (\d{{4}}-\d\d-\d\d \d\d:\d\d[+-]\d{{4}}), {how}", comment)
    assert found, comment
    assert len(comment) <= 64
    return datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M%z")


def assert_about(moment, expected):
    assert abs(moment - expected) < datetime.timedelta(minutes=5), (moment, expected)


def test_a_year_passes_and_a_radiologist_asks_for_one_of_each(year):
    nothing_woke_a_clock(year)
    for client in TITLES:
        hot(year, client)
        cold(year, client)
        archived(year, client)
        deep_refused_and_asked_again(year, client)
        deep_delivered(year, client)
        thirds(year, client)
        deep_thirds(year, client)
        deep_thirds_delivered(year, client)
    assert_restored_once(year)


def nothing_woke_a_clock(year):
    """Offload, verification and eviction of a year: every pack's last access is its upload."""
    packs = year.site.packs()
    assert len(packs) == year.packs
    for key, found in packs.items():
        assert found["last_access"] == year.uploaded[key], key
    assert year.site.requests("GetObject") == 0


def ask(year, client, destination, *name):
    return move(client, year.node, destination.title, StudyInstanceUID=year.studies[name][0])


def hot(year, client):
    dest, name = year.site.destinations["DEST"], (client, HOT, 0)
    assert year.availability(*name) == ("ONLINE", ["ONLINE"])
    before = year.site.requests()
    final = ask(year, client, dest, *name)
    assert (final.status, final.counters, final.comment, final.failed_uids) == (0x0000, (4, 0, 0), "", ())
    assert year.site.requests() == before
    assert_each_once(dest, year.expected(*name))
    dest.clear()


def cold(year, client):
    dest, name = year.site.destinations["DEST"], (client, COLD, 0)
    assert year.availability(*name) == ("ONLINE", ["ONLINE"])
    before = year.site.requests()
    final = ask(year, client, dest, *name)
    assert (final.status, final.counters, final.comment, final.failed_uids) == (0x0000, (4, 0, 0), "", ())
    assert year.site.requests("GetObject") - before.get("GetObject", 0) == 1
    assert year.availability(*name) == ("ONLINE", ["ONLINE"])
    assert_each_once(dest, year.expected(*name))
    dest.clear()


def archived(year, client):
    """Expedited, within the wait: the requester waits with Pendings, and gets Success."""
    dest, name = year.site.destinations["DEST"], (client, ARCHIVED, 0)
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE"])
    moving = Moving(client, year.node, dest.title, StudyInstanceUID=year.studies[name][0])
    wait_until(lambda: year.under_way(*name), "the restore to be under way")
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE"])
    assert moving.is_alive() and dest.arrivals() == []
    year.site.clock.advance(seconds=EXPEDITED.total_seconds())
    final = moving.ended()
    assert (final.status, final.counters, final.comment, final.failed_uids) == (0x0000, (4, 0, 0), "", ())
    assert final.pendings >= 1
    assert [restore["tier"] for restore in year.restores_of(*name)] == ["Expedited"]
    assert year.availability(*name) == ("ONLINE", ["ONLINE"])
    assert_each_once(dest, year.expected(*name))
    dest.clear()


def deep_refused_and_asked_again(year, client):
    """No tier of Deep Archive Access is quick enough to wait for: refused with the time, and right at that time."""
    dest, name = year.site.destinations["DEST"], (client, DEEP, 0)
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE"])
    final = ask(year, client, dest, *name)
    assert (final.status, final.counters) == (0xA702, (0, 4, 0))
    assert set(final.failed_uids) == set(year.expected(*name))
    promised = ready_at(final.comment, "ask again")
    assert_about(promised, year.site.clock.now() + TWELVE_HOURS)
    # Asked again too early: the same answer, and no second restore.
    wait_until(lambda: year.under_way(*name), "the restore to be under way")
    again = ask(year, client, dest, *name)
    assert (again.status, again.counters) == (0xA702, (0, 4, 0))
    assert_about(ready_at(again.comment, "ask again"), promised)
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE"])
    assert dest.arrivals() == []
    year.site.clock.advance(hours=12)
    wait_until(lambda: year.availability(*name) == ("ONLINE", ["ONLINE"]), "the restored study to be found online")
    final = ask(year, client, dest, *name)
    assert (final.status, final.counters, final.comment) == (0x0000, (4, 0, 0), "")
    assert [restore["tier"] for restore in year.restores_of(*name)] == ["Standard"]
    assert_each_once(dest, year.expected(*name))
    dest.clear()


def deep_delivered(year, client):
    """A destination that opted in gets what was refused by itself, once, without a C-MOVE that it belonged to (PS3.7 9.3.1.1)."""
    later, name = year.site.destinations["LATER"], (client, DEEP, 1)
    final = ask(year, client, later, *name)
    assert (final.status, final.counters) == (0xA702, (0, 4, 0))
    assert set(final.failed_uids) == set(year.expected(*name))
    assert_about(ready_at(final.comment, "sent then"), year.site.clock.now() + TWELVE_HOURS)
    # Asking again joins the delivery.
    again = ask(year, client, later, *name)
    assert (again.status, again.counters) == (0xA702, (0, 4, 0))
    ready_at(again.comment, "sent then")
    assert later.arrivals() == []
    wait_until(lambda: year.under_way(*name), "the restore to be under way")
    year.site.clock.advance(hours=12)
    wait_until(lambda: complete(later, year.expected(*name)), "the delivery")
    assert year.availability(*name) == ("ONLINE", ["ONLINE"])
    assert set(later.originators()) == {None}
    assert_each_once(later, year.expected(*name))
    later.clear()
    # A request after completion sends again.
    final = ask(year, client, later, *name)
    assert (final.status, final.counters) == (0x0000, (4, 0, 0))
    assert set(later.originators()) == {TITLES[client]}
    assert_each_once(later, year.expected(*name))
    later.clear()


def thirds(year, client):
    """Hot, cold and archived series of one study: what is there goes at once, the rest within the same C-MOVE."""
    dest, name = year.site.destinations["DEST"], (client, "thirds")
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE", "ONLINE", "ONLINE"])
    moving = Moving(client, year.node, dest.title, StudyInstanceUID=year.studies[name][0])
    wait_until(lambda: year.under_way(*name) and len(dest.arrivals()) == 8, "two thirds of the study")
    assert {uid for uid, _ in dest.arrivals()} == set(digests(year.studies[name][1][4:]))
    year.site.clock.advance(seconds=EXPEDITED.total_seconds())
    final = moving.ended()
    assert (final.status, final.counters, final.comment, final.failed_uids) == (0x0000, (12, 0, 0), "", ())
    assert year.availability(*name) == ("ONLINE", ["ONLINE"] * 3)
    assert [restore["tier"] for restore in year.restores_of(*name)] == ["Expedited"]
    assert_each_once(dest, year.expected(*name))
    dest.clear()


def deep_thirds(year, client):
    """Hot, cold and deep archived: B000, with what was sent and what was not."""
    dest, name = year.site.destinations["DEST"], (client, "deep thirds")
    assert year.availability(*name) == ("NEARLINE", ["NEARLINE", "ONLINE", "ONLINE"])
    final = ask(year, client, dest, *name)
    assert (final.status, final.counters) == (0xB000, (8, 4, 0))
    missing = digests(year.studies[name][1][:4])
    assert set(final.failed_uids) == set(missing)
    assert_about(ready_at(final.comment, "ask again"), year.site.clock.now() + TWELVE_HOURS)
    assert_each_once(dest, {uid: digest for uid, digest in year.expected(*name).items() if uid not in missing})
    dest.clear()


def deep_thirds_delivered(year, client):
    """The same study for the destination that opted in, while the restore of before goes on: two thirds now, one by delivery, all once."""
    later, name = year.site.destinations["LATER"], (client, "deep thirds")
    final = ask(year, client, later, *name)
    assert (final.status, final.counters) == (0xB000, (8, 4, 0))
    ready_at(final.comment, "sent then")
    wait_until(lambda: year.under_way(*name), "the restore to be under way")
    year.site.clock.advance(hours=12)
    wait_until(lambda: complete(later, year.expected(*name)), "the delivery")
    assert year.availability(*name) == ("ONLINE", ["ONLINE"] * 3)
    assert [restore["tier"] for restore in year.restores_of(*name)] == ["Standard"]
    assert later.originators().count(None) == 4
    assert_each_once(later, year.expected(*name))
    later.clear()


def assert_restored_once(year):
    """One accepted restore for each pack that was asked for, and none for the others."""
    restored = [restore["key"] for restore in year.site.restores()]
    assert len(restored) == len(set(restored))
    asked = [(client, *kind) for client in TITLES for kind in ((ARCHIVED, 0), (DEEP, 0), (DEEP, 1), ("thirds",), ("deep thirds",))]
    assert len(restored) == len(asked)
    # Nobody asked for the rest, whose clocks still run from their upload.
    untouched = {year.studies[name][0] for name in year.studies if name not in asked and name[1] not in (HOT, COLD)}
    for key, found in year.site.packs().items():
        if key.split("/")[-3] in untouched:
            assert found["last_access"] == year.uploaded[key]

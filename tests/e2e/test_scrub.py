"""A year with a scrub, told by one steered clock that the node and the store share. Once in thirty days every hot file is read and compared, and the store is
asked for every pack and every manifest; no archive clock notices. What rots or is lost meanwhile is found, named and repaired while a good copy is within
reach."""

import datetime

from harness import sample, scu
from harness.ports import wait_until
from harness.site import ACCESS_DAYS, DEEP_DAYS, Site, rows

DAY = datetime.timedelta(days=1).total_seconds()
EVERY = 30
# Four images make a pack that is big enough to be archived. One alone is too small for that, and stays on the disk by rule.
BIG, SMALL = 4, 1
SCRUB = f'\n[scrub]\nhot_every = "{EVERY}d"\ncold_every = "{EVERY}d"\n'


def findings(node):
    """Kind, subject, whether it is closed, and how it was repaired."""
    return rows(node, "SELECT kind, subject, CASE WHEN closed_at IS NULL THEN 0 ELSE 1 END, repair FROM findings ORDER BY id")


class Year:
    def __init__(self, site, node, tmp_path):
        self.site, self.node, self.tmp_path = site, node, tmp_path
        self.month, self.uploaded, self.small = 0, {}, {}

    def arrive(self):
        """A big study that leaves the disk at once, and a small one that stays."""
        self.month += 1
        big, paths = sample.make_study(self.tmp_path / f"big{self.month}", images=BIG, patient_id="YEAR")
        small, more = sample.make_study(self.tmp_path / f"small{self.month}", images=SMALL, patient_id="YEAR")
        assert set(scu.store(self.node, paths + more).values()) == {0x0000}
        self.site.clock.advance(hours=2)
        wait_until(lambda: self.node.status()["packs_verified"] == 2 * self.month, f"the packs of month {self.month}")
        self.node.command("evict", big)
        assert len(self.node.hot_files()) == SMALL * self.month
        self.small[self.month] = next(key for key in self.site.packs(small))
        for key, found in self.site.packs().items():
            self.uploaded.setdefault(key, found["last_access"])

    def scrubbed(self):
        """Lets an interval pass, and the passes that end with it; what they looked at."""
        before = {of: progress["last_ended"] for of, progress in self.node.status()["scrub"].items()}
        heads = self.site.requests("HeadObject")
        self.site.clock.advance(days=EVERY)

        def over():
            after = self.node.status()["scrub"]
            return all(after[of]["last_ended"] not in (None, before[of]) for of in ("hot", "cold"))

        wait_until(over, f"the scrub of month {self.month}")
        after = self.node.status()["scrub"]
        # Every hot file was read, and the store was asked for every pack and its manifest.
        assert after["hot"]["last"]["checked"] == SMALL * self.month
        assert after["hot"]["last"]["bytes"] == sum(path.stat().st_size for path in self.node.hot_files())
        assert after["cold"]["last"] == {"checked": 2 * self.month, "bytes": 0, "bad": after["cold"]["last"]["bad"]}
        assert self.site.requests("HeadObject") - heads >= 2 * 2 * self.month
        return after["hot"]["last"]["bad"], after["cold"]["last"]["bad"]

    def nothing_woke(self, but=()):
        """Archive clocks run from the upload, and packs are where they would be if nobody had looked."""
        now = self.site.clock.now().timestamp()
        tiers = set()
        for key, found in self.site.packs().items():
            if key in but:
                continue
            assert found["last_access"] == self.uploaded[key], key
            days = (now - self.uploaded[key]) / DAY
            expected = None
            if found["size"] >= 128 * 1024:
                expected = "DEEP_ARCHIVE_ACCESS" if days >= DEEP_DAYS else "ARCHIVE_ACCESS" if days >= ACCESS_DAYS else None
            assert found["tier"] == expected, (key, days)
            tiers.add(expected)
        return tiers


def test_a_year_of_scrubs_wakes_no_archive_clock_and_finds_what_is_damaged(tmp_path, catalogue_url):
    with Site(tmp_path / "site") as site, site.node(catalogue_url=catalogue_url, scrub=SCRUB) as node:
        year = Year(site, node, tmp_path)
        year.arrive()
        site.clock.advance(days=EVERY)
        wait_until(lambda: all(progress["last_ended"] for progress in node.status()["scrub"].values()), "the first passes")
        for _ in range(5):
            year.arrive()
            assert year.scrubbed() == (0, 0)
            year.nothing_woke()
        assert site.requests("GetObject") == 0 and findings(node) == []

        # A bit of a hot file flips whose pack is readable: one ranged GET brings it back.
        year.arrive()
        bad = node.hot_files()[3]
        good = bad.read_bytes()
        bad.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert year.scrubbed() == (1, 0)
        assert bad.read_bytes() == good
        assert site.requests("GetObject") == 1
        assert findings(node) == [("hot_altered", bad.stem, 1, "brought back out of its pack")]
        aside = sorted((node.data / "quarantine").iterdir())
        assert [path.suffix for path in aside] == [".dcm", ".txt"] and "SHA-256" in aside[1].read_text()
        read = {year.small[4]}
        year.nothing_woke(but=read)

        # A pack whose images are on the disk is lost, and the manifest of one that is archived.
        year.arrive()
        lost = year.small[2]
        body = site.emulator.client().get_object(Bucket=site.emulator.bucket, Key=lost)["Body"].read()
        manifest = manifest_of(next(key for key, found in site.packs().items() if found["tier"]))
        for key in (lost, manifest):
            site.emulator.client().delete_object(Bucket=site.emulator.bucket, Key=key)
        assert year.scrubbed() == (0, 2)
        wait_until(lambda: lost in site.packs(), "the pack to be put again")
        wait_until(lambda: all(closed for _, _, closed, _ in findings(node)), "the repairs on record")
        assert site.emulator.client().get_object(Bucket=site.emulator.bucket, Key=lost)["Body"].read() == body
        found = {(kind, subject.split("/")[-1]) for kind, subject, _, _ in findings(node)[1:]}
        assert found == {("pack_missing", lost.split("/")[-1]), ("manifest_missing", manifest.split("/")[-1])}
        assert manifest in site.emulator.objects()
        assert node.status()["packs_damaged"] == 0
        year.nothing_woke(but=read | {lost})

        gets = site.requests("GetObject")
        for _ in range(4):
            year.arrive()
            assert year.scrubbed() == (0, 0)
            tiers = year.nothing_woke(but=read | {lost})
        assert tiers == {None, "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"}
        assert site.requests("GetObject") == gets
        assert site.restores() == []
        node.counted("filmroom_scrub_repaired_total", 3)
        assert node.metric("filmroom_scrub_checked_total", what="cold") >= sum(2 * month for month in range(2, 13))


def manifest_of(key):
    return key.removesuffix(".zip") + ".json.zst"


def test_a_scrub_goes_on_after_a_kill_and_only_reports_where_it_may_not_repair(tmp_path, catalogue_url):
    with Site(tmp_path / "site") as site:
        node = site.node(catalogue_url=catalogue_url, scrub=SCRUB + "repair = false\n", evict_after="85d")
        with node:
            _, paths = sample.make_study(tmp_path / "study", images=8)
            assert set(scu.store(node, paths).values()) == {0x0000}
            files = node.hot_files()
            good = files[6].read_bytes()
            files[6].write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

            def hot():
                return node.status()["scrub"]["hot"]

            site.clock.advance(days=EVERY)
            wait_until(lambda: hot()["last_ended"] and hot()["began"], "the second pass")
            before = hot()
            # Three fifths of the interval are over: half of the files are due, and not one more.
            site.clock.advance(days=18)
            wait_until(lambda: hot()["so_far"]["checked"] == 4, "half of the files")
            node.kill()
            node.start()
            assert hot()["began"] == before["began"]
            site.clock.advance(days=13)
            wait_until(lambda: hot()["last_ended"] != before["last_ended"], "the end of the pass")
            assert (hot()["last"]["checked"], hot()["last"]["bad"]) == (8, 1)
            assert [(kind, subject, closed) for kind, subject, closed, _ in findings(node)] == [("hot_altered", files[6].stem, 0)]
            # Nothing else has its bytes: it is out of service with the reason, and still there.
            assert [entry["object"] for entry in node.quarantine()] == [files[6].stem]
            assert files[6].exists() and not (node.data / "quarantine").exists()

"""Rules: what stays on the disk, what is never archived, what leaves at once, and what `rules test` says before it happens."""

import json

import pytest
from harness import sample, scu
from harness.ports import wait_until
from harness.site import Site, availability

# Four images make a pack that is big enough to be archived.
IMAGES = 4
TAG = "filmroom-archive"

CHILDREN = """
[[rule]]
name = "children"
modality = "CT"
patient_age = "<18y"
evict_after = "never"
archive = false
"""


@pytest.fixture
def site(tmp_path):
    """A bucket that nobody has set up yet."""
    with Site(tmp_path / "site") as site:
        site.emulator.client().delete_bucket_intelligent_tiering_configuration(Bucket=site.emulator.bucket, Id="archive")
        yield site


def make(site, folder, born, **attributes):
    """A study of today of a patient of an age in years."""
    now = site.clock.now()
    attributes.setdefault("modality", "CT")
    return sample.make_study(folder, images=IMAGES, PatientBirthDate=f"{now.year - born}0101", StudyDate=now.strftime("%Y%m%d"),
                             patient_id=folder.name, PatientName=folder.name, **attributes)


def store(node, paths, title="PYNETDICOM"):
    assert set(scu.store(node, paths, title=title).values()) == {0x0000}


def packed(node, packs):
    wait_until(lambda: node.status()["packs_verified"] == packs, f"{packs} packs", timeout=60)


def tags(site, study=""):
    """The tag of each pack, in the order of their keys."""
    s3, bucket = site.emulator.client(), site.emulator.bucket
    found = [s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in site.packs(study)]
    return [{tag["Key"]: tag["Value"] for tag in tags}.get(TAG) for tags in found]


def hot(node, files):
    wait_until(lambda: len(node.hot_files()) == files, f"{files} hot files", timeout=60)


def rewrite(node, old, new):
    assert old in node.sections or not old
    node.sections = node.sections.replace(old, new) if old else node.sections + new
    node.write_config()


def rules_test(node, *arguments):
    return json.loads(node.command("rules", "test", "--json", *arguments).stdout)


def by_rule(tallies):
    return {tally.pop("rule"): {name: amount["count"] for name, amount in tally.items()} for tally in tallies}


def test_a_childs_ct_stays_hot_and_is_never_archived_while_an_adults_is(tmp_path, site, catalogue_url):
    node = site.node(catalogue_url=catalogue_url, sections=CHILDREN)
    assert "filmroom-archive=yes" in node.command("bucket", "setup").stdout
    (tiering,) = site.emulator.client().list_bucket_intelligent_tiering_configurations(Bucket=site.emulator.bucket)["IntelligentTieringConfigurationList"]
    assert tiering["Filter"] == {"And": {"Prefix": "archive/", "Tags": [{"Key": TAG, "Value": "yes"}]}}
    with node:
        (child, childs), (adult, adults) = make(site, tmp_path / "child", 10), make(site, tmp_path / "adult", 40)
        store(node, childs + adults)
        site.clock.advance(hours=2)
        packed(node, 2)
        assert (tags(site, child), tags(site, adult)) == (["no"], ["yes"])
        site.clock.advance(days=40)
        hot(node, IMAGES)
        assert {sample.read(path).PatientID for path in node.hot_files()} == {"child"}
        site.clock.advance(days=160)
        assert [pack["tier"] for pack in site.packs(child).values()] == [None]
        assert [pack["tier"] for pack in site.packs(adult).values()] == ["DEEP_ARCHIVE_ACCESS"]
        node.command("evict", child)
        assert (availability(node, child)[0], availability(node, adult)[0]) == ("ONLINE", "NEARLINE")
        scu.get(node, tmp_path / "got", scu.contexts_of(childs), StudyInstanceUID=child)
        assert len(list((tmp_path / "got").iterdir())) == IMAGES
        assert site.asked() == [], "nothing was restored"


def test_series_leave_at_once_or_stay_longer_as_their_rule_says(tmp_path, site):
    rules = """
[[rule]]
name = "now"
source = "NOW"
offload_after = "3s"

[[rule]]
name = "longer"
study_description = "*knöchel*"
evict_after = "60d"
"""
    with site.node(sections=rules) as node:
        (_, now), (_, longer), (_, other) = (make(site, tmp_path / "now", 40), make(site, tmp_path / "longer", 40, StudyDescription="OSG KNOCHEL li."),
                                             make(site, tmp_path / "other", 40))
        store(node, longer + other)
        store(node, now, title="NOW")
        packed(node, 1)
        assert len(site.packs(sample.read(now[0]).StudyInstanceUID)) == 1
        site.clock.advance(hours=2)
        packed(node, 3)
        site.clock.advance(days=40)
        hot(node, IMAGES)
        assert {sample.read(path).PatientID for path in node.hot_files()} == {"longer"}
        site.clock.advance(days=21)
        hot(node, 0)


def test_what_a_change_would_do_is_told_before_and_done_then(tmp_path, site, catalogue_url):
    """A site without rules, whose bucket archives everything, gets some, and then others: tags come first, then the bucket's filter."""
    node = site.node(catalogue_url=catalogue_url)
    node.command("bucket", "setup")
    with node:
        (child, childs), (adult, adults), (_, others) = (make(site, tmp_path / "child", 10), make(site, tmp_path / "adult", 40),
                                                         make(site, tmp_path / "mr", 40, modality="MR"))
        store(node, childs + adults + others)
        site.clock.advance(hours=2)
        packed(node, 3)
        assert tags(site) == [None] * 3, "who has no rules needs no right to tag"
        site.clock.advance(days=10)
        accessed = {key: pack["last_access"] for key, pack in site.packs().items()}

        other = node.folder / "new.toml"
        quick = '\n[[rule]]\nname = "quick"\nmodality = "MR"\nevict_after = "2d"\n'
        other.write_text(node.config.read_text() + CHILDREN + quick)
        told = rules_test(node, "--against", other)
        assert told["changes"]["never_archived_any_more"]["count"] == 1
        assert told["changes"]["evicted_now"]["count"] == 1
        expected = by_rule(told["against"])
        assert {rule: counts["series"] for rule, counts in expected.items()} == {"children": 1, "quick": 1, "(general settings)": 1}
        assert sum(counts["packs_to_tag"] for counts in expected.values()) == 3
        assert expected["children"]["kept_for_ever"] == 1
        of_child = json.loads(node.command("rules", "test", "--json", "--against", other, child).stdout)
        assert (of_child["now"]["archive"], of_child["against"]["archive"], of_child["against"]["rule"]) == (True, False, "children")
        assert "children" in node.command("rules", "test", "--against", other).stdout
        assert len(node.hot_files()) == 3 * IMAGES and tags(site) == [None] * 3, "nothing was done"

    rewrite(node, "", CHILDREN + quick)
    assert "archives-forbidden" in node.command("bucket", "check", "--json", check=False).stdout
    setup = node.command("bucket", "setup").stdout
    assert setup.index("tagged       3 packs") < setup.index("written")
    assert (tags(site, child), tags(site, adult)) == (["no"], ["yes"])
    assert "archives-forbidden" not in node.command("bucket", "check", "--json", check=False).stdout
    with node:
        hot(node, 2 * IMAGES)
        assert by_rule(rules_test(node)["now"])["children"]["packs_to_tag"] == 0

    # Other rules: a child's CT is as others, and MR is not archived. The node brings the tags in line in the background.
    rewrite(node, 'patient_age = "<18y"\n', 'patient_age = "<1y"\n')
    rewrite(node, 'evict_after = "2d"\n', 'evict_after = "2d"\narchive = false\n')
    told = rules_test(node)["now"]
    assert sum(tally["packs_to_tag"]["count"] for tally in told) == 2
    before = site.requests("PutObjectTagging")
    with node:
        wait_until(lambda: tags(site, child) == ["yes"] and sorted(tags(site)) == ["no", "yes", "yes"], "other tags", timeout=60)
        wait_until(lambda: sum(tally["packs_to_tag"]["count"] for tally in rules_test(node)["now"]) == 0, "tags on record", timeout=60)
    assert site.requests("PutObjectTagging") - before == 2
    assert {key: pack["last_access"] for key, pack in site.packs().items()} == accessed, "tagging wakes no archive clock"

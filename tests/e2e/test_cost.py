"""`filmroom cost`: what an archive with hot, cold and archived studies costs adds up, and a described hospital needs no archive at all."""

import hashlib
import json
import subprocess

import pytest
from harness import sample, scu
from harness.node import BINARY, Node

GB = 1 << 30
MONITORING, PUT, EXPEDITED_REQUEST, EXPEDITED = 0.0025 / 1000, 0.005 / 1000, 10.0 / 1000, 0.03
RATE = {"standard": 0.023, "small": 0.023, "frequent": 0.023, "infrequent": 0.0125, "archive_instant": 0.004, "archive_access": 0.0036,
        "deep_archive_access": 0.00099}


def pixels(image, series, number):
    image.Rows, image.Columns, image.BitsAllocated = 256, 256, 16
    image.PixelData = hashlib.shake_128(f"{series}.{number}".encode()).digest(256 * 256 * 2)


@pytest.fixture
def archive(tmp_path, catalogue_url, emulator):
    """A node in the time of the emulator's clock, whose bucket archives after 90 and 180 days."""
    emulator.tier_by_age()
    section = f"""
[cold]
url = "s3://{emulator.bucket}/archive"
endpoint = "{emulator.endpoint}"
[cold.archive]
access_days = 90
deep_days = 180
[hot]
evict_after = "30d"
"""
    environment = {**emulator.environment, "FILMROOM_CLOCK": str(emulator.clock)}
    with Node(tmp_path / "node", catalogue_url, {}, section, environment=environment) as node:
        yield node


def stored(node, folder, name, images=3, extra=pixels):
    study, paths = sample.make_study(folder / name, images=images, series=1, extra=extra, patient_id=name)
    assert set(scu.store(node, paths).values()) == {0x0000}
    node.command("offload", study)
    return study


def shelved(node, folder, name):
    """A study that is only cold."""
    node.command("evict", stored(node, folder, name))


def check(quote, rounded=0.5):
    """The parts of a month are what its tiers and the price list say, and its total is their sum. Objects and bytes of an estimate are shares of something
    and are reported to the nearest whole one; those that were counted are exact (`rounded=0`)."""
    parts = quote["monthly"]
    for tier, held in quote["tiers"].items():
        assert held["monthly"] == pytest.approx(RATE[tier] * held["bytes"] / GB, rel=1e-6, abs=rounded * RATE[tier] / GB), tier
    assert parts["storage"] == pytest.approx(sum(held["monthly"] for held in quote["tiers"].values()))
    monitored = sum(held["objects"] for tier, held in quote["tiers"].items() if tier not in ("standard", "small"))
    assert parts["monitoring"] == pytest.approx(monitored * MONITORING, abs=5 * rounded * MONITORING)
    archived = {tier: quote["tiers"][tier]["objects"] for tier in ("archive_access", "deep_archive_access")}
    metadata = sum(archived.values()) * 8192 * RATE["standard"] + sum(count * 32768 * RATE[tier] for tier, count in archived.items())
    each = 2 * 8192 * RATE["standard"] + 32768 * (RATE["archive_access"] + RATE["deep_archive_access"])
    assert parts["metadata"] == pytest.approx(metadata / GB, abs=rounded * each / GB)
    assert parts["manifests"] == pytest.approx(quote["manifests"]["bytes"] * RATE["standard"] / GB, rel=0.01)
    assert parts["puts"] == pytest.approx(quote["puts"] * PUT, abs=rounded * PUT)
    assert parts["total"] == pytest.approx(sum(cost for part, cost in parts.items() if part != "total"))


def test_an_archive_with_hot_cold_and_archived_studies_adds_up(archive, emulator, tmp_path):
    shelved(archive, tmp_path, "DEEP")
    emulator.advance(days=100)
    shelved(archive, tmp_path, "ARCHIVED")
    stored(archive, tmp_path, "SMALL", images=1, extra=None)
    emulator.advance(days=95)
    shelved(archive, tmp_path, "COLD")
    stored(archive, tmp_path, "HOT")
    cost = json.loads(archive.command("cost", "--json").stdout)
    now = cost["now"]
    held = {tier: held["objects"] for tier, held in now["tiers"].items() if held["objects"]}
    assert held == {"deep_archive_access": 1, "archive_access": 1, "small": 1, "frequent": 2}
    check(now, rounded=0)
    # Five packs and their bytes are those that lie in the bucket; two came this month, each with a manifest.
    packs = [row for key, row in emulator.objects().items() if key.endswith(".zip")]
    assert sum(tier["bytes"] for tier in now["tiers"].values()) == sum(row["size"] for row in packs)
    assert now["puts"] == 4 and now["manifests"]["objects"] == 5
    assert cost["hot"]["objects"] == archive.status()["hot_objects"]
    assert sum(observed["objects"] for observed in cost["observed"].values()) == 5
    assert cost["archive"] == {"access_days": 90, "deep_days": 180, "from": "the cold store's own configuration"}

    # 13 instances, of which those of 128 KB of pixels are large enough to be tiered.
    assert cost["sizes"]["complete"] and cost["sizes"]["looked_at"] == 13
    assert sum(group["instances"] for group in cost["sizes"]["groups"]) == 13
    for quote in cost["compared"]:
        check(quote)
        objects = sum(tier["objects"] for tier in quote["tiers"].values())
        assert objects == (5 if quote["layout"] == "packs" else pytest.approx(13, abs=2))
    assert cost["compared"][0] == now
    assert cost["compared"][3]["tiers"]["small"]["objects"] == 1
    assert [month["month"] for month in cost["forecast"]] == list(range(1, 13))
    forecast = [month["bytes"] for month in cost["forecast"]]
    assert forecast == sorted(forecast) and forecast[0] > sum(row["size"] for row in packs)
    assert "THE NEXT TWELVE MONTHS" in archive.command("cost").stdout


def test_the_published_hospital_is_reckoned_without_an_archive(tmp_path):
    run = subprocess.run([str(BINARY), "cost", "--profile", "published", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    plans = json.loads(run.stdout)["plans"]
    assert len(plans) == 6
    for plan in plans:
        check(plan)
        assert plan["spent"] == pytest.approx(sum(month["total"] for month in plan["months"]))
        assert len(plan["months"]) == 120
    packs, instances = plans[0], plans[3]
    assert sum(tier["objects"] for tier in packs["tiers"].values()) == pytest.approx(4_000_000, abs=10)
    assert sum(tier["objects"] for tier in instances["tiers"].values()) == pytest.approx(476_000_000, abs=10)
    assert packs["monthly"]["total"] < instances["monthly"]["total"] / 5


def test_a_profile_that_cannot_be_is_refused_by_name(tmp_path):
    profile = tmp_path / "clinic.toml"
    profile.write_text('studies = 10\ninstances = 5\nbytes = "1GB"\n')
    run = subprocess.run([str(BINARY), "cost", "--profile", str(profile)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0 and "instances is 5" in run.stderr, run.stderr

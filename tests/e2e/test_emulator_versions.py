"""The emulator keeps versions and has Object Lock, seen by boto3, as AWS documents both."""

import datetime

import pytest
from harness.emulator import DAY
from test_emulator import refused

BUCKET = "kept"
LOCKED_MESSAGE = "object protected by object lock"


class Versions:
    """A bucket with versions, and the calls that these tests make most."""

    def __init__(self, emulator, **create):
        self.emulator, self.s3 = emulator, emulator.client()
        self.s3.create_bucket(Bucket=BUCKET, **create)

    def enable(self, status="Enabled"):
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": status})

    def put(self, body, key="k", **more):
        return self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, **more).get("VersionId")

    def get(self, version=None, key="k"):
        more = {"VersionId": version} if version else {}
        return self.s3.get_object(Bucket=BUCKET, Key=key, **more)["Body"].read()

    def delete(self, version=None, key="k", **more):
        more |= {"VersionId": version} if version else {}
        return self.s3.delete_object(Bucket=BUCKET, Key=key, **more)

    def refused(self, operation, status, code, key="k", **arguments):
        return refused(getattr(self.s3, operation), status, code, Bucket=BUCKET, Key=key, **arguments)

    def listed(self, **more):
        """Versions, latest first, and delete markers, as (key, id, whether the latest)."""
        page = self.s3.list_object_versions(Bucket=BUCKET, **more)
        row = lambda entry: (entry["Key"], entry["VersionId"], entry["IsLatest"])  # noqa: E731
        return [row(e) for e in page.get("Versions", [])], [row(e) for e in page.get("DeleteMarkers", [])], page

    def at(self, days):
        return datetime.datetime.fromtimestamp(self.emulator.now() + days * DAY, datetime.timezone.utc)


@pytest.fixture
def versions(emulator):
    return Versions(emulator)


def test_versions_are_kept_listed_read_and_removed_one_by_one(versions, emulator):
    assert versions.put(b"before") is None
    assert versions.listed()[0] == [("k", "null", True)]
    versions.enable()
    one, two = versions.put(b"one"), versions.put(b"two")
    versions.put(b"other", key="k2")
    marker = versions.delete()
    assert marker["DeleteMarker"] and marker["VersionId"] not in (one, two)
    emulator.restart()
    answer = versions.refused("get_object", 404, "NoSuchKey")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    assert (versions.get(one), versions.get(two), versions.get("null")) == (b"one", b"two", b"before")
    versions.refused("get_object", 405, "MethodNotAllowed", VersionId=marker["VersionId"])
    versions.refused("get_object", 404, "NoSuchVersion", VersionId="0" * 32)
    versions.refused("get_object", 400, "InvalidArgument", VersionId="nonsense")
    assert versions.listed(Prefix="k")[:2] == (
        [("k", two, False), ("k", one, False), ("k", "null", False), ("k2", versions.listed(Prefix="k2")[0][0][1], True)],
        [("k", marker["VersionId"], True)])
    assert [row["Key"] for row in versions.s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["k2"]
    # Without its delete marker the version before is current again, and each goes alone.
    assert versions.delete(marker["VersionId"])["DeleteMarker"]
    assert versions.get() == b"two"
    versions.delete(two)
    assert versions.get() == b"one"
    versions.delete("null")
    assert versions.delete(one)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert versions.delete(one)["ResponseMetadata"]["HTTPStatusCode"] == 204, "once more is no error"
    assert versions.listed(Prefix="k", KeyMarker="k")[0] and not [row for row in versions.listed()[0] if row[0] == "k"]
    bodies = [path.read_bytes() for path in (emulator.folder / "data/objects" / BUCKET).iterdir()]
    assert bodies == [b"other"], "no bytes of a removed version stay"


def test_a_listing_of_versions_has_pages(versions):
    versions.enable()
    ids = [versions.put(bytes([n]), key=f"k{n % 2}") for n in range(7)]
    expected = [(f"k{n % 2}", ids[n]) for n in (6, 4, 2, 0, 5, 3, 1)]
    found, place = [], {}
    while True:
        rows, _, page = versions.listed(MaxKeys=3, **place)
        found += [row[:2] for row in rows]
        assert len(rows) <= 3
        if not page["IsTruncated"]:
            break
        place = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert found == expected
    assert [row[0] for row in versions.listed(KeyMarker="k0")[0]] == ["k1"] * 3
    refused(versions.s3.list_object_versions, 400, "InvalidArgument", Bucket=BUCKET, VersionIdMarker=ids[0])


def test_a_bucket_whose_versioning_is_suspended_replaces_only_the_null_version(versions):
    versions.enable()
    kept = versions.put(b"kept")
    versions.enable("Suspended")
    versions.put(b"a")
    versions.put(b"b")
    assert versions.listed()[0] == [("k", "null", True), ("k", kept, False)]
    assert versions.delete()["VersionId"] == "null"
    assert versions.listed()[:2] == ([("k", kept, False)], [("k", "null", True)])
    assert versions.get(kept) == b"kept"


def test_many_are_deleted_at_once_and_uploads_in_parts_make_versions(versions):
    versions.enable()
    part = {"Bucket": BUCKET, "Key": "k"}
    upload = versions.s3.create_multipart_upload(**part)["UploadId"]
    tag = versions.s3.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    whole = versions.s3.complete_multipart_upload(
        **part, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})["VersionId"]
    one = versions.put(b"one")
    assert versions.get(whole) == b"part"
    objects = [{"Key": "k", "VersionId": whole}, {"Key": "k"}]
    answer = versions.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    assert [row["Key"] for row in answer["Deleted"]] == ["k", "k"] and answer["Deleted"][1]["DeleteMarker"]
    assert versions.listed()[0] == [("k", one, False)]


def test_what_is_locked_is_not_removed_before_its_time(emulator):
    versions = Versions(emulator, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}
    versions.s3.put_object_lock_configuration(
        Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
    assert versions.s3.get_object_lock_configuration(Bucket=BUCKET)["ObjectLockConfiguration"]["Rule"] == rule
    locked = versions.put(b"locked")
    head = versions.s3.head_object(Bucket=BUCKET, Key="k", VersionId=locked)
    assert head["ObjectLockMode"] == "COMPLIANCE" and abs((head["ObjectLockRetainUntilDate"] - versions.at(30)).total_seconds()) < 60
    for more in ({}, {"BypassGovernanceRetention": True}):
        answer = versions.refused("delete_object", 403, "AccessDenied", VersionId=locked, **more)
        assert LOCKED_MESSAGE in answer["Error"]["Message"]
    answer = versions.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "k", "VersionId": locked}]})
    assert answer["Errors"][0]["Code"] == "AccessDenied"
    weaker = {"Mode": "COMPLIANCE", "RetainUntilDate": versions.at(1)}
    versions.refused("put_object_retention", 403, "AccessDenied", VersionId=locked, Retention=weaker)
    # A delete marker hides it and has no protection; the version itself goes when its time is over.
    marker = versions.delete()["VersionId"]
    versions.delete(marker)
    emulator.advance(days=31)
    assert versions.delete(locked)["ResponseMetadata"]["HTTPStatusCode"] == 204 and versions.listed()[0] == []


def test_governance_is_bypassed_and_a_legal_hold_is_taken_away(emulator):
    versions = Versions(emulator, ObjectLockEnabledForBucket=True)
    governed = versions.put(b"g", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=versions.at(5))
    versions.refused("delete_object", 403, "AccessDenied", VersionId=governed)
    assert versions.s3.get_object_retention(Bucket=BUCKET, Key="k", VersionId=governed)["Retention"]["Mode"] == "GOVERNANCE"
    versions.delete(governed, BypassGovernanceRetention=True)
    held = versions.put(b"h")
    hold = lambda status: versions.s3.put_object_legal_hold(Bucket=BUCKET, Key="k", VersionId=held, LegalHold={"Status": status})  # noqa: E731
    versions.refused("get_object_retention", 404, "NoSuchObjectLockConfiguration", VersionId=held)
    hold("ON")
    versions.refused("delete_object", 403, "AccessDenied", VersionId=held, BypassGovernanceRetention=True)
    hold("OFF")
    versions.delete(held)
    refused(versions.s3.put_bucket_versioning, 409, "InvalidBucketState", Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})


def test_a_bucket_without_object_lock_knows_none(versions):
    refused(versions.s3.get_object_lock_configuration, 404, "ObjectLockConfigurationNotFoundError", Bucket=BUCKET)
    versions.refused("put_object", 400, "InvalidRequest", Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=versions.at(5))
    configuration = {"ObjectLockEnabled": "Enabled"}
    refused(versions.s3.put_object_lock_configuration, 409, "InvalidBucketState", Bucket=BUCKET, ObjectLockConfiguration=configuration)
    versions.enable()
    versions.s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=configuration)

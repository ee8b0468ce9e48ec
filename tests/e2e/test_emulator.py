"""The Intelligent-Tiering emulator does what the tests of archives rely on, seen by boto3. What is shown here is AWS's documented behaviour."""

import base64
import hashlib
import json
import time

import pytest
from botocore.exceptions import ClientError
from harness.emulator import DAY

BODY = bytes(range(256)) * 800  # 200 KiB: above the 128 KiB below which nothing is tiered
IT = {"StorageClass": "INTELLIGENT_TIERING"}
CRC64_OF_123456789 = "rosUhgp5mIg="
MINUTE, HOUR = 60, 3600


def refused(call, status, code, **arguments):
    """The error, which is the one expected."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    response = raised.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, code), response
    return response


class Store:
    """One bucket and the calls that the tests make most."""

    def __init__(self, emulator):
        self.emulator, self.s3, self.bucket = emulator, emulator.client(), emulator.bucket

    def put(self, key="k", body=BODY, **more):
        return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **{**IT, **more})

    def head(self, key="k", **more):
        return self.s3.head_object(Bucket=self.bucket, Key=key, **more)

    def get(self, key="k", **more):
        return self.s3.get_object(Bucket=self.bucket, Key=key, **more)["Body"].read()

    def status(self, key="k"):
        return self.head(key).get("ArchiveStatus")

    def restore(self, key="k", tier=None, **request):
        if tier:
            request["GlacierJobParameters"] = {"Tier": tier}
        answer = self.s3.restore_object(Bucket=self.bucket, Key=key, RestoreRequest=request)
        return answer["ResponseMetadata"]["HTTPStatusCode"]

    def refused(self, operation, status, code, key="k", **arguments):
        return refused(getattr(self.s3, operation), status, code, Bucket=self.bucket, Key=key, **arguments)

    def outcomes(self):
        return [row["outcome"] for row in self.emulator.counters()["restores"]]


@pytest.fixture
def store(emulator):
    return Store(emulator)


# -- classes, bytes, checksums --


def test_class_tags_and_bytes_are_kept_across_a_kill(store, emulator):
    store.put("a/it", Tagging="state=verified&n=1")
    store.put("a/standard", StorageClass="STANDARD")
    emulator.restart()
    assert store.head("a/it")["StorageClass"] == "INTELLIGENT_TIERING" and "StorageClass" not in store.head("a/standard")
    assert store.get("a/it") == BODY and store.get("a/it", Range="bytes=10-19") == BODY[10:20] and store.get("a/it", Range="bytes=-5") == BODY[-5:]
    tags = store.s3.get_object_tagging(Bucket=store.bucket, Key="a/it")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"state": "verified", "n": "1"}
    store.s3.put_object_tagging(Bucket=store.bucket, Key="a/it", Tagging={"TagSet": [{"Key": "state", "Value": "old"}]})
    assert store.s3.get_object_tagging(Bucket=store.bucket, Key="a/it")["TagSet"] == [{"Key": "state", "Value": "old"}]
    listed = store.s3.list_objects_v2(Bucket=store.bucket, Prefix="a/")["Contents"]
    assert [(row["Key"], row["StorageClass"], row["Size"]) for row in listed] == [
        ("a/it", "INTELLIGENT_TIERING", len(BODY)), ("a/standard", "STANDARD", len(BODY))]
    store.s3.delete_object(Bucket=store.bucket, Key="a/it")
    store.refused("get_object", 404, "NoSuchKey", key="a/it")
    assert list(emulator.objects()) == ["a/standard"]


def test_other_classes_and_other_secrets_are_refused(store, emulator):
    store.refused("put_object", 400, "InvalidStorageClass", Body=b"x", StorageClass="GLACIER")
    refused(emulator.client(secret="wrong").list_objects_v2, 403, "SignatureDoesNotMatch", Bucket=store.bucket)
    refused(store.s3.list_objects_v2, 404, "NoSuchBucket", Bucket="other")


def test_keys_may_be_as_long_as_s3_allows_and_are_listed_in_pages(store, emulator):
    """A pack's key has two UIDs of 64 characters, more than the name of one file may have."""
    keys = sorted(f"{folder}/{'1' * 64}/{'2' * 64}/{n}.zip" for folder in ("a", "b+ c") for n in range(3))
    keys.append("z" * 1024)
    for key in keys:
        store.put(key, body=key.encode())
    emulator.restart()
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]
    pages = list(store.s3.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, PaginationConfig={"PageSize": 2}))
    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [keys[0:2], keys[2:4], keys[4:6], keys[6:]]
    page = store.s3.list_objects_v2(Bucket=store.bucket, Delimiter="/")
    assert ([entry["Prefix"] for entry in page["CommonPrefixes"]], [entry["Key"] for entry in page["Contents"]]) == (["a/", "b+ c/"], keys[6:])
    under = store.s3.list_objects_v2(Bucket=store.bucket, Prefix="b+", StartAfter=keys[3])
    assert [entry["Key"] for entry in under["Contents"]] == keys[4:6]
    gone = store.s3.delete_objects(Bucket=store.bucket, Delete={"Objects": [{"Key": key} for key in keys[1:]]})["Deleted"]
    assert sorted(entry["Key"] for entry in gone) == sorted(keys[1:])
    assert list(emulator.objects()) == keys[:1]


def test_a_wrong_checksum_is_refused_and_changes_nothing(store):
    store.put(body=b"before")
    for wrong in [{"ChecksumCRC64NVME": CRC64_OF_123456789}, {"ChecksumSHA256": base64.b64encode(bytes(32)).decode()},
                  {"ContentMD5": base64.b64encode(bytes(16)).decode()}, {"ChecksumCRC32": "AAAAAA=="}]:
        store.refused("put_object", 400, "BadDigest", Body=b"after", **wrong)
    assert store.get() == b"before"
    store.refused("put_object", 400, "BadDigest", key="new", Body=b"after", ChecksumCRC64NVME=CRC64_OF_123456789)
    store.refused("head_object", 404, "404", key="new")


def test_the_crc64nvme_that_was_sent_is_returned(store):
    store.put(body=b"123456789", ChecksumCRC64NVME=CRC64_OF_123456789)
    head = store.head(ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (CRC64_OF_123456789, "FULL_OBJECT")
    assert "ChecksumCRC64NVME" not in store.head()


def multipart(store, whole_checksum, parts=(b"x" * (5 << 20), b"123456789"), key="m"):
    upload = store.s3.create_multipart_upload(Bucket=store.bucket, Key=key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT", **IT)["UploadId"]
    done = []
    for number, part in enumerate(parts, 1):
        answer = store.s3.upload_part(Bucket=store.bucket, Key=key, UploadId=upload, PartNumber=number, Body=part)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    arguments = {"ChecksumCRC64NVME": whole_checksum} if whole_checksum else {}
    return upload, lambda: store.s3.complete_multipart_upload(
        Bucket=store.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}, ChecksumType="FULL_OBJECT", **arguments)


def test_multipart_keeps_class_and_full_object_checksum_across_a_kill(store, emulator):
    upload, complete = multipart(store, None)
    emulator.restart()
    assert [row["UploadId"] for row in store.s3.list_multipart_uploads(Bucket=store.bucket)["Uploads"]] == [upload]
    assert [part["Size"] for part in store.s3.list_parts(Bucket=store.bucket, Key="m", UploadId=upload)["Parts"]] == [5 << 20, 9]
    complete()
    emulator.restart()
    # The same bytes in one request have the same checksum.
    emulator.client(checksums="when_required").put_object(Bucket=store.bucket, Key="s", Body=b"x" * (5 << 20) + b"123456789")
    one, parts = store.head("s", ChecksumMode="ENABLED"), store.head("m", ChecksumMode="ENABLED")
    assert parts["ChecksumCRC64NVME"] == one["ChecksumCRC64NVME"] and parts["ChecksumType"] == "FULL_OBJECT"
    assert parts["StorageClass"] == "INTELLIGENT_TIERING" and parts["ETag"].endswith('-2"') and parts["ContentLength"] == (5 << 20) + 9
    assert hashlib.sha256(store.get("m")).digest() == hashlib.sha256(store.get("s")).digest()
    _, wrong = multipart(store, CRC64_OF_123456789, key="w")
    refused(wrong, 400, "BadDigest")
    store.refused("head_object", 404, "404", key="w")
    store.refused("abort_multipart_upload", 404, "NoSuchUpload", key="w", UploadId=upload)


# -- tiers by the clock --


def test_objects_are_archived_by_configuration_and_last_access(store, emulator):
    emulator.tier_by_age(90, 180)
    store.put()
    store.put("small", body=BODY[:1000])
    store.put("standard", StorageClass="STANDARD")
    emulator.advance(days=89)
    assert store.status() is None
    store.head(), store.s3.list_objects_v2(Bucket=store.bucket), store.s3.get_object_tagging(Bucket=store.bucket, Key="k")
    emulator.advance(days=2)
    assert store.status() == "ARCHIVE_ACCESS", "HEAD, LIST and tagging are no access"
    emulator.advance(days=88)
    assert store.status() == "ARCHIVE_ACCESS"
    emulator.advance(days=2)
    assert store.status() == "DEEP_ARCHIVE_ACCESS"
    assert store.status("small") is None and store.status("standard") is None
    assert {key: row["tier"] for key, row in emulator.objects().items()} == {"k": "DEEP_ARCHIVE_ACCESS", "small": None, "standard": None}


@pytest.mark.parametrize("access", ["get", "range", "put", "copy", "list_parts"])
def test_what_counts_as_access_turns_the_clock_of_an_object_back(store, emulator, access):
    emulator.tier_by_age(90, 180)
    store.put()
    emulator.advance(days=89)
    if access == "get":
        store.get()
    elif access == "range":
        store.get(Range="bytes=0-0")
    elif access == "put":
        store.put()
    elif access == "copy":
        store.s3.copy_object(Bucket=store.bucket, Key="copy", CopySource={"Bucket": store.bucket, "Key": "k"}, **IT)
    else:
        upload = store.s3.create_multipart_upload(Bucket=store.bucket, Key="k", **IT)["UploadId"]
        store.s3.list_parts(Bucket=store.bucket, Key="k", UploadId=upload)
    emulator.advance(days=89)
    assert {row["tier"] for row in emulator.objects().values()} == {None}
    emulator.advance(days=2)
    assert {row["tier"] for row in emulator.objects().values()} == {"ARCHIVE_ACCESS"}


def test_configurations_have_filters_and_can_be_disabled(store, emulator):
    tag = {"Key": "keep", "Value": "no"}
    emulator.tier_by_age(90, None, Id="p", Filter={"Prefix": "p/"})
    emulator.tier_by_age(100, None, Id="t", Filter={"Tag": tag})
    emulator.tier_by_age(110, None, Id="a", Filter={"And": {"Prefix": "a/", "Tags": [tag]}})
    emulator.tier_by_age(90, None, Id="d", Status="Disabled")
    store.put("p/1"), store.put("t", Tagging="keep=no"), store.put("a/1", Tagging="keep=yes"), store.put("x")
    emulator.advance(days=91)
    assert {key for key, row in emulator.objects().items() if row["tier"]} == {"p/1"}
    emulator.advance(days=20)
    assert {key for key, row in emulator.objects().items() if row["tier"]} == {"p/1", "t"}
    store.s3.delete_bucket_intelligent_tiering_configuration(Bucket=store.bucket, Id="p")
    assert store.status("p/1") == "ARCHIVE_ACCESS", "what is archived stays"
    store.put("p/2")
    emulator.advance(days=91)
    assert store.status("p/2") is None


def test_configurations_are_validated_kept_listed_and_deleted(store, emulator):
    for tier, days in [("ARCHIVE_ACCESS", 89), ("ARCHIVE_ACCESS", 731), ("DEEP_ARCHIVE_ACCESS", 179), ("DEEP_ARCHIVE_ACCESS", 731)]:
        configuration = {"Id": "c", "Status": "Enabled", "Tierings": [{"Days": days, "AccessTier": tier}]}
        refused(store.s3.put_bucket_intelligent_tiering_configuration, 400, "InvalidArgument", Bucket=store.bucket, Id="c",
                IntelligentTieringConfiguration=configuration)
    refused(store.s3.get_bucket_intelligent_tiering_configuration, 404, "NoSuchConfiguration", Bucket=store.bucket, Id="archive")
    emulator.tier_by_age(90, 180, Filter={"Prefix": "archive/"})
    emulator.restart()
    got = store.s3.get_bucket_intelligent_tiering_configuration(Bucket=store.bucket, Id="archive")["IntelligentTieringConfiguration"]
    assert got["Filter"] == {"Prefix": "archive/"} and got["Status"] == "Enabled"
    assert {row["AccessTier"]: row["Days"] for row in got["Tierings"]} == {"ARCHIVE_ACCESS": 90, "DEEP_ARCHIVE_ACCESS": 180}
    assert store.s3.list_bucket_intelligent_tiering_configurations(Bucket=store.bucket)["IntelligentTieringConfigurationList"] == [got]
    store.s3.delete_bucket_intelligent_tiering_configuration(Bucket=store.bucket, Id="archive")
    assert "IntelligentTieringConfigurationList" not in store.s3.list_bucket_intelligent_tiering_configurations(Bucket=store.bucket)


# -- archived and restored --


def test_an_archived_object_is_refused_with_class_and_tier(store, emulator):
    store.put()
    emulator.archive("DEEP_ARCHIVE_ACCESS", key="k")
    for more in [{}, {"Range": "bytes=0-9"}]:
        error = store.refused("get_object", 403, "InvalidObjectState", **more)["Error"]
        assert (error["StorageClass"], error["AccessTier"]) == ("INTELLIGENT_TIERING", "DEEP_ARCHIVE_ACCESS")
    store.refused("copy_object", 403, "ObjectNotInActiveTierError", key="copy", CopySource={"Bucket": store.bucket, "Key": "k"})
    head = store.head()
    assert head["ArchiveStatus"] == "DEEP_ARCHIVE_ACCESS" and "Restore" not in head and head["ContentLength"] == len(BODY)
    assert emulator.counters()["refused"] == {"GetObject": 2, "CopyObject": 1}


def test_a_get_of_other_bytes_than_were_meant_is_refused(store):
    etag = store.put()["ETag"]
    assert (store.head()["ETag"], store.s3.list_objects_v2(Bucket=store.bucket)["Contents"][0]["ETag"]) == (etag, etag)
    assert store.get(IfMatch=etag, Range="bytes=0-9") == BODY[:10]
    store.put(body=BODY[1:] + b"\0")
    store.refused("get_object", 412, "PreconditionFailed", IfMatch=etag)


@pytest.mark.parametrize("archive, tier, seconds", [
    ("ARCHIVE_ACCESS", "Expedited", 3 * MINUTE), ("ARCHIVE_ACCESS", None, 4 * HOUR), ("ARCHIVE_ACCESS", "Bulk", 8 * HOUR),
    ("DEEP_ARCHIVE_ACCESS", "Standard", 12 * HOUR), ("DEEP_ARCHIVE_ACCESS", "Bulk", 48 * HOUR)])
def test_a_restore_takes_its_time_and_ends_in_frequent_access(store, emulator, archive, tier, seconds):
    emulator.tier_by_age(90, 180)
    store.put()
    emulator.archive(archive, key="k")
    assert store.restore(tier=tier) == 202
    headers = store.head()["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amz-archive-status"] == archive and headers["x-amz-restore"] == 'ongoing-request="true"'
    assert headers["x-amz-restore-request-date"].endswith(" GMT")
    emulator.advance(seconds=seconds - 30)
    store.refused("get_object", 403, "InvalidObjectState")
    emulator.restart()
    emulator.advance(seconds=31)
    assert not {"x-amz-archive-status", "x-amz-restore", "x-amz-restore-request-date"} & set(store.head()["ResponseMetadata"]["HTTPHeaders"])
    row = emulator.objects()["k"]
    assert row["tier"] is None and row["restore"] is None
    assert emulator.now() - row["last_access"] < 15, "the completion is an access"
    assert store.get() == BODY
    emulator.advance(days=91)
    assert store.status() == "ARCHIVE_ACCESS"


def test_a_second_restore_conflicts_and_a_faster_one_upgrades(store, emulator):
    store.put()
    emulator.archive("ARCHIVE_ACCESS", key="k")
    assert store.restore(tier="Bulk") == 202
    store.refused("restore_object", 409, "RestoreAlreadyInProgress", RestoreRequest={"GlacierJobParameters": {"Tier": "Bulk"}})
    assert store.restore(tier="Standard") == 202
    assert store.restore(tier="Expedited") == 202
    store.refused("restore_object", 409, "RestoreAlreadyInProgress", RestoreRequest={})
    restore = emulator.objects()["k"]["restore"]
    assert restore["tier"] == "Expedited" and restore["ready"] - restore["requested"] == pytest.approx(3 * MINUTE)
    emulator.advance(seconds=3 * MINUTE + 1)
    assert store.get() == BODY
    assert store.outcomes() == ["accepted", "conflict", "upgraded", "upgraded", "conflict"]


def test_restores_that_cannot_be(store, emulator):
    store.put(), store.put("standard", StorageClass="STANDARD")
    store.refused("restore_object", 403, "ObjectAlreadyInActiveTierError", RestoreRequest={})
    store.refused("restore_object", 403, "InvalidObjectState", key="standard", RestoreRequest={"Days": 1})
    store.refused("restore_object", 404, "NoSuchKey", key="missing", RestoreRequest={})
    emulator.archive("DEEP_ARCHIVE_ACCESS", key="k")
    error = store.refused("restore_object", 400, "InvalidArgument", RestoreRequest={"Days": 3})["Error"]
    assert error["Message"] == "INTELLIGENT_TIERING objects are not subject to restore expiry. Do not specify Days when restoring this object"
    store.refused("restore_object", 400, "InvalidArgument", RestoreRequest={"GlacierJobParameters": {"Tier": "Expedited"}})
    assert store.outcomes() == ["active", "invalid", "missing", "invalid", "invalid"]
    emulator.archive("NONE", key="k")
    assert store.get() == BODY


def test_delays_can_be_set_and_a_restore_be_ended(store, emulator):
    store.put()
    emulator.archive("DEEP_ARCHIVE_ACCESS", key="k")
    assert emulator.delays(deep_standard=5)["archive_bulk"] == 8 * HOUR
    store.restore()
    emulator.advance(seconds=6)
    assert store.status() is None
    emulator.archive("ARCHIVE_ACCESS", key="k")
    store.restore(tier="Bulk")
    emulator.finish("k")
    assert store.get() == BODY


def test_the_clock_is_one_file_that_others_may_replace(store, emulator, tmp_path):
    emulator.tier_by_age(90, 180)
    store.put()
    fresh = tmp_path / "fresh"
    fresh.write_text(f"{91 * DAY}")
    fresh.replace(emulator.clock)
    assert store.status() == "ARCHIVE_ACCESS"
    emulator.advance(days=90)
    assert float(emulator.clock.read_text()) == 181 * DAY and abs(emulator.now() - 181 * DAY - time.time()) < 5
    emulator.restart()
    assert store.status() == "DEEP_ARCHIVE_ACCESS"


# -- the bucket's settings --

SETTINGS = [
    ("lifecycle_configuration", "get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", "put_bucket_lifecycle_configuration",
     {"LifecycleConfiguration": {"Rules": [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""},
                                            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]}},
     lambda got: got["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7, "delete_bucket_lifecycle"),
    ("public_access_block", "get_public_access_block", "NoSuchPublicAccessBlockConfiguration", "put_public_access_block",
     {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": False}},
     lambda got: got["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"] is False and got["PublicAccessBlockConfiguration"]["BlockPublicAcls"],
     "delete_public_access_block"),
    ("policy", "get_bucket_policy", "NoSuchBucketPolicy", "put_bucket_policy",
     {"Policy": json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}]})},
     lambda got: json.loads(got["Policy"])["Statement"][0]["Effect"] == "Allow", "delete_bucket_policy"),
    ("encryption", "get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError", "put_bucket_encryption",
     {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"},
                                                       "BucketKeyEnabled": True}]}},
     lambda got: got["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "k",
     "delete_bucket_encryption"),
]


@pytest.mark.parametrize("get, code, put, setting, kept, delete", [row[1:] for row in SETTINGS], ids=[row[0] for row in SETTINGS])
def test_settings_are_absent_kept_and_deleted(store, emulator, get, code, put, setting, kept, delete):
    get, put, delete = (getattr(store.s3, name) for name in (get, put, delete))
    refused(get, 404, code, Bucket=store.bucket)
    put(Bucket=store.bucket, **setting)
    emulator.restart()
    assert kept(get(Bucket=store.bucket))
    delete(Bucket=store.bucket)
    refused(get, 404, code, Bucket=store.bucket)


def test_versioning_policy_status_and_notifications_are_kept(store, emulator):
    assert "Status" not in store.s3.get_bucket_versioning(Bucket=store.bucket)
    store.s3.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    refused(store.s3.get_bucket_policy_status, 404, "NoSuchBucketPolicy", Bucket=store.bucket)
    store.s3.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps(
        {"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}}))
    refused(store.s3.put_bucket_notification_configuration, 400, "InvalidArgument", Bucket=store.bucket, NotificationConfiguration={
        "QueueConfigurations": [{"QueueArn": emulator.queue_arn("missing"), "Events": ["s3:ObjectRestore:*"]}]})
    emulator.notify()
    emulator.restart()
    assert store.s3.get_bucket_versioning(Bucket=store.bucket)["Status"] == "Enabled"
    assert store.s3.get_bucket_policy_status(Bucket=store.bucket)["PolicyStatus"]["IsPublic"] is False
    queue, = store.s3.get_bucket_notification_configuration(Bucket=store.bucket)["QueueConfigurations"]
    assert queue["QueueArn"] == emulator.queue_arn() and set(queue["Events"]) == {
        "s3:ObjectRestore:Post", "s3:ObjectRestore:Completed", "s3:IntelligentTiering"}


def test_an_operation_can_be_denied(store, emulator):
    emulator.deny("GetBucketPolicy", "PutObject")
    refused(store.s3.get_bucket_policy, 403, "AccessDenied", Bucket=store.bucket)
    store.refused("put_object", 403, "AccessDenied", Body=BODY)
    emulator.allow("PutObject")
    store.put()
    emulator.allow()
    refused(store.s3.get_bucket_policy, 404, "NoSuchBucketPolicy", Bucket=store.bucket)

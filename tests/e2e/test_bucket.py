"""The bucket: set up, looked at, and what it tells of itself."""

import json
import threading

import pytest
from harness import dcmtk
from harness.node import Node
from harness.ports import wait_until
from harness.sample import FIXTURES

ARCHIVE = "[cold.archive]\naccess_days = 90\ndeep_days = 180\n[hot]\nevict_after = \"30d\"\n"

TLS_ONLY = {"Version": "2012-10-17", "Statement": [{
    "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::images", "arn:aws:s3:::images/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}

# What the node does, by the operation that is denied, and the action of IAM that allows it.
NEEDED = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "RestoreObject": "s3:RestoreObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListObjectsV2": "s3:ListBucket",
    "ListBucketIntelligentTieringConfigurations": "s3:GetIntelligentTieringConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessage": "sqs:DeleteMessage",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
}
# What only erasing takes, where no versions are kept and where they are.
ERASING = {"DeleteObject": "s3:DeleteObject", "ListMultipartUploads": "s3:ListBucketMultipartUploads"}
ERASING_VERSIONS = {
    "DeleteObjectVersion": "s3:DeleteObjectVersion",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
}
# What only the look for dangers takes.
LOOKED_AT = {
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetBucketPolicy": "s3:GetBucketPolicy",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
}


@pytest.fixture
def bucket_node(tmp_path, emulator):
    """A node that is configured for the emulator's bucket, and not started."""
    sections = (f'[cold]\nurl = "s3://{emulator.bucket}/clinic"\nendpoint = "{emulator.endpoint}"\nattempts = 1\n'
                f'events_queue = "{emulator.queue_url()}"\n{ARCHIVE}')
    return Node(tmp_path / "node", sections=sections, environment=emulator.environment)


@pytest.fixture
def safe_bucket(emulator):
    """Nothing about it is dangerous."""
    s3, name = emulator.client(), emulator.bucket
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration={
        "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True})
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(TLS_ONLY))
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]})
    return s3


def check(node):
    """Exit code and report."""
    done = node.command("bucket", "check", "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def codes(report, severity=None):
    return sorted(finding["code"] for finding in report["findings"] if severity in (None, finding["severity"]))


def settings(s3, bucket):
    return (
        s3.list_bucket_intelligent_tiering_configurations(Bucket=bucket).get("IntelligentTieringConfigurationList", []),
        {key: value for key, value in s3.get_bucket_notification_configuration(Bucket=bucket).items() if key != "ResponseMetadata"},
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"],
    )


def test_an_empty_bucket_is_set_up_and_then_lacks_nothing(emulator, bucket_node, safe_bucket):
    code, report = check(bucket_node)
    assert code != 0 and not report["complete"]
    assert codes(report, "missing") == ["no-events", "not-archived", "stale-uploads-stay"]
    assert report["policy"] is None

    planned = bucket_node.command("bucket", "setup", "--dry-run").stdout
    assert planned.count("would write") == 3
    assert codes(check(bucket_node)[1], "missing") == ["no-events", "not-archived", "stale-uploads-stay"], "a dry run writes nothing"

    assert bucket_node.command("bucket", "setup").stdout.count("written") == 3
    code, report = check(bucket_node)
    assert (code, report["complete"], report["findings"]) == (0, True, [])
    assert all(permission["allowed"] for permission in report["permissions"])
    assert "as the configuration needs it" in bucket_node.command("bucket", "check").stdout

    (tiering,), notification, (rule,) = settings(safe_bucket, emulator.bucket)
    days = {tier["AccessTier"]: tier["Days"] for tier in tiering["Tierings"]}
    assert (days, tiering["Filter"]) == ({"ARCHIVE_ACCESS": 90, "DEEP_ARCHIVE_ACCESS": 180}, {"Prefix": "clinic/"})
    (queue,) = notification["QueueConfigurations"]
    assert queue["QueueArn"] == emulator.queue_arn()
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert emulator.objects() == {}, "the check leaves nothing in the bucket"


def test_setting_up_twice_changes_nothing_and_entries_of_others_stay(emulator, bucket_node, safe_bucket):
    name = emulator.bucket
    emulator.client("sqs").create_queue(QueueName="theirs")
    logs = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}
    safe_bucket.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [logs]})
    theirs = {"Id": "theirs", "QueueArn": emulator.queue_arn("theirs"), "Events": ["s3:ObjectCreated:*"]}
    safe_bucket.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration={"QueueConfigurations": [theirs]})
    tiering = {"Id": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Tierings": [{"AccessTier": "ARCHIVE_ACCESS", "Days": 100}]}
    safe_bucket.put_bucket_intelligent_tiering_configuration(Bucket=name, Id="logs", IntelligentTieringConfiguration=tiering)

    bucket_node.command("bucket", "setup")
    first = settings(safe_bucket, name)
    assert tiering in first[0] and len(first[0]) == 2
    assert theirs in first[1]["QueueConfigurations"] and len(first[1]["QueueConfigurations"]) == 2
    assert logs in first[2] and len(first[2]) == 2

    emulator.reset_counters()
    assert "nothing to do" in bucket_node.command("bucket", "setup").stdout
    assert settings(safe_bucket, name) == first
    assert not [name for name in emulator.counters()["requests"] if name.startswith("Put")]
    assert check(bucket_node)[1]["findings"] == []


def test_a_site_that_changes_its_mind_has_its_days_changed_and_then_removed(emulator, bucket_node, safe_bucket):
    bucket_node.command("bucket", "setup")
    bucket_node.sections = bucket_node.sections.replace("deep_days = 180", "deep_days = 365")
    bucket_node.write_config()
    code, report = check(bucket_node)
    assert (code != 0, codes(report)) == (True, ["not-archived"])
    bucket_node.command("bucket", "setup")
    assert check(bucket_node)[0] == 0

    bucket_node.sections = bucket_node.sections.replace("[cold.archive]\naccess_days = 90\ndeep_days = 365\n", "")
    bucket_node.write_config()
    assert codes(check(bucket_node)[1], "warning") == ["archives-otherwise"]
    bucket_node.command("bucket", "setup")
    assert settings(safe_bucket, emulator.bucket)[0] == []
    assert check(bucket_node)[0] == 0


def test_every_action_that_is_denied_is_named_with_the_policy_that_allows_it(emulator, bucket_node, safe_bucket):
    bucket_node.command("bucket", "setup")
    for operation, action in {**NEEDED, **LOOKED_AT}.items():
        emulator.deny(operation)
        code, report = check(bucket_node)
        denied = [permission["action"] for permission in report["permissions"] if not permission["allowed"]]
        assert denied == [action], operation
        (statement,) = report["policy"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Allow", [action]), operation
        expected = emulator.queue_arn() if action.startswith("sqs:") and operation != "GetQueueAttributes" else None
        assert expected in (None, statement["Resource"])
        assert (code != 0) == (operation in NEEDED), operation
        told = bucket_node.command("bucket", "check", check=False).stdout
        assert f"DENIED   {action}" in told and '"Version": "2012-10-17"' in told
        emulator.allow(operation)
    emulator.deny(*NEEDED, *LOOKED_AT)
    denied = {p["action"] for p in check(bucket_node)[1]["permissions"] if not p["allowed"]}
    # Whether reading is allowed cannot be told where neither writing nor listing is.
    assert denied == {*NEEDED.values(), *LOOKED_AT.values()} - {"s3:GetObject"}


def test_what_erasing_takes_is_named_as_far_as_the_bucket_needs_it(emulator, bucket_node, safe_bucket):
    bucket_node.command("bucket", "setup")

    def each_is_named(needed):
        for operation, action in needed.items():
            emulator.deny(operation)
            code, report = check(bucket_node)
            denied = [permission["action"] for permission in report["permissions"] if not permission["allowed"]]
            (statement,) = report["policy"]["Statement"]
            assert (code, denied, statement["Action"]) == (0, [action], [action]), operation
            emulator.allow(operation)
            check(bucket_node)
        asked = {permission["action"] for permission in check(bucket_node)[1]["permissions"]}
        assert set(needed.values()) <= asked
        return asked

    assert "s3:DeleteObjectVersion" not in each_is_named(ERASING)
    safe_bucket.put_bucket_versioning(Bucket=emulator.bucket, VersioningConfiguration={"Status": "Enabled"})
    assert "s3:DeleteObject" not in each_is_named(ERASING_VERSIONS)
    left = safe_bucket.list_object_versions(Bucket=emulator.bucket)
    assert not left.get("Versions") and not left.get("DeleteMarkers"), "the check leaves no version in the bucket"

    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 10}}
    safe_bucket.put_object_lock_configuration(
        Bucket=emulator.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
    code, report = check(bucket_node)
    assert code == 0 and "object-lock" in codes(report, "warning") and all(permission["allowed"] for permission in report["permissions"])
    assert "3650 days (COMPLIANCE)" in bucket_node.command("bucket", "check").stdout


def test_what_setting_up_may_not_write_is_named(emulator, bucket_node):
    for operation, action in [
        ("PutBucketIntelligentTieringConfiguration", "s3:PutIntelligentTieringConfiguration"),
        ("PutBucketNotificationConfiguration", "s3:PutBucketNotification"),
        ("PutBucketLifecycleConfiguration", "s3:PutLifecycleConfiguration"),
        ("GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration"),
    ]:
        emulator.deny(operation)
        done = bucket_node.command("bucket", "setup", check=False)
        assert done.returncode != 0 and action in done.stderr and "2012-10-17" in done.stderr, done.stderr
        emulator.allow(operation)
    bucket_node.command("bucket", "setup")


def test_every_dangerous_property_of_the_bucket_is_warned_of_and_fails_nothing(emulator, bucket_node, safe_bucket):
    bucket_node.command("bucket", "setup")
    s3, name = safe_bucket, emulator.bucket
    rules = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]

    def with_rule(**rule):
        ours = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": ""}, **rule}
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [*rules, ours]})

    public = {"Statement": [*TLS_ONLY["Statement"], {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::images/*"}]}
    dangers = {
        "public-access-not-blocked": lambda: s3.delete_public_access_block(Bucket=name),
        "plain-http-allowed": lambda: s3.delete_bucket_policy(Bucket=name),
        "public-policy": lambda: s3.put_bucket_policy(Bucket=name, Policy=json.dumps(public)),
        "not-encrypted": lambda: s3.delete_bucket_encryption(Bucket=name),
        "versions-stay": lambda: s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"}),
        "expires": lambda: with_rule(Expiration={"Days": 10}),
        "transitions": lambda: with_rule(Transitions=[{"Days": 1, "StorageClass": "GLACIER"}]),
        "archives-otherwise": lambda: emulator.tier_by_age(90, None, Filter={"Prefix": "clinic/1.2"}, Id="theirs") or emulator.tier_by_age(
            None, 180, Id="deep"),
    }
    seen = set()
    for danger, make in dangers.items():
        make()
        code, report = check(bucket_node)
        seen.update(codes(report))
        if danger == "archives-otherwise":
            continue
        assert code == 0 and danger in codes(report, "warning"), (danger, report)
    assert "archives-otherwise" not in seen, "others that archive no earlier are no danger"
    bucket_node.sections = bucket_node.sections.replace("access_days = 90\n", "")
    bucket_node.write_config()
    assert "archives-otherwise" in codes(check(bucket_node)[1], "warning")


def test_wrong_credentials_and_a_missing_bucket_are_told_as_such(emulator, bucket_node):
    bucket_node.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    done = bucket_node.command("bucket", "check", check=False)
    assert done.returncode != 0 and "SignatureDoesNotMatch" in done.stderr, done.stderr
    bucket_node.environment.update(emulator.environment)
    bucket_node.sections = bucket_node.sections.replace("s3://images", "s3://elsewhere")
    bucket_node.write_config()
    for command in ("check", "setup"):
        done = bucket_node.command("bucket", command, check=False)
        assert done.returncode != 0 and "NoSuchBucket" in done.stderr, done.stderr


def test_a_directory_is_no_bucket(tmp_path):
    node = Node(tmp_path / "node", sections=f'[cold]\nurl = "file://{tmp_path}"\n')
    done = node.command("bucket", "check", check=False)
    assert done.returncode != 0 and "directory" in done.stderr


def test_an_eviction_later_than_the_archive_is_refused_with_what_to_write(bucket_node):
    assert "no problem found" in bucket_node.command("check-config").stdout
    for evict, code, part in [("90d", 1, 'write hot.evict_after = "60d" or less'), ("80d", 0, "warning: hot.evict_after leaves less than 30 days")]:
        bucket_node.sections = bucket_node.sections.replace('evict_after = "30d"', f'evict_after = "{evict}"').replace('"90d"', f'"{evict}"')
        bucket_node.write_config()
        done = bucket_node.command("check-config", check=False)
        told = done.stdout + done.stderr
        assert (done.returncode, part in told, "clock runs from its upload" in told) == (code, True, True), told


SERIES = sorted((FIXTURES / "mr_series").glob("*.dcm"))
STUDY = "1.113654.3.13.1026"


def event(name, key, bucket="images", **more):
    record = {"eventVersion": "2.3", "eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}, **more}
    return json.dumps({"Records": [record]})


def availability(node, tmp_path):
    (answer,) = dcmtk.findscu(node, "STUDY", folder=tmp_path / "find", StudyInstanceUID=STUDY, InstanceAvailability="")
    return answer.InstanceAvailability


def test_events_tell_the_node_what_s3_does_and_neither_duplicates_nor_garbage_hurt(tmp_path, emulator, bucket_node, destination):
    """Nothing but the queue tells this node the time: its own clock is not turned, and it asks S3 nothing."""
    bucket_node.command("bucket", "setup")
    bucket_node.destinations = {destination.title: destination.port}
    bucket_node.sections = bucket_node.sections.replace("attempts = 1\n", 'attempts = 1\ncheck_interval = "200ms"\n')
    bucket_node.write_config()
    sqs, url = emulator.client("sqs"), emulator.queue_url()
    with bucket_node as node:
        dcmtk.dcmsend(node, *SERIES)
        node.command("offload", STUDY)
        node.command("evict", STUDY)
        (pack,) = [key for key in emulator.objects("clinic/") if key.endswith(".zip")]
        assert availability(node, tmp_path) == "ONLINE"

        emulator.reset_counters()
        archived = {"intelligentTieringEventData": {"destinationAccessTier": "DEEP_ARCHIVE_ACCESS"}}
        for body in ["garbage", "{}", json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}), event("ObjectCreated:Put", pack),
                     event("IntelligentTiering", pack, "elsewhere", **archived), event("IntelligentTiering", "ward/1.zip", **archived),
                     event("IntelligentTiering", "clinic/1.2/3.4/nothing.zip", **archived), event("ObjectRestore:Completed", pack)]:
            sqs.send_message(QueueUrl=url, MessageBody=body)
        emulator.events(duplicate=3)
        emulator.advance(days=100)
        wait_until(lambda: availability(node, tmp_path) == "NEARLINE", "the event of the archive", timeout=30)
        wait_until(lambda: empty(sqs, url), "a queue that is read to its end", timeout=30)
        asked = emulator.counters()["requests"]
        assert not {"GetObject", "HeadObject", "RestoreObject"} & set(asked), "an event is no reason to ask for the bytes"
        assert node.metric("filmroom_cold_events_total", result="ignored") >= 6
        assert node.metric("filmroom_cold_events_total", result="told") >= 3

        # Expedited, within the time that the C-MOVE waits: five minutes of S3's time, and no word of it but the event.
        moving = in_background(lambda: dcmtk.movescu(node, destination.title, StudyInstanceUID=STUDY, check=False))
        wait_until(lambda: emulator.counters()["requests"].get("RestoreObject"), "the restore", timeout=30)
        emulator.advance(seconds=300)
        moving.join(timeout=60)
        assert len(destination.files()) == len(SERIES), node.log()[-3000:]
        assert emulator.counters()["requests"]["RestoreObject"] == 1
        assert availability(node, tmp_path) == "ONLINE"


def test_a_queue_that_is_away_hurts_nothing_and_is_read_when_it_is_back(tmp_path, emulator, bucket_node):
    bucket_node.command("bucket", "setup")
    emulator.deny("ReceiveMessage")
    with bucket_node as node:
        wait_until(lambda: "events cannot be followed" in node.log(), "a word about the queue", timeout=30)
        dcmtk.dcmsend(node, *SERIES)
        node.command("offload", STUDY)
        node.command("evict", STUDY)
        emulator.advance(days=100)
        emulator.allow("ReceiveMessage")
        wait_until(lambda: availability(node, tmp_path) == "NEARLINE", "the event", timeout=60)
        assert "the event queue is read again" in node.log()
        assert node.log().count("events cannot be followed") == 1, "said once, however long it lasts"


def empty(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return all(int(found[name]) == 0 for name in names)


def in_background(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread

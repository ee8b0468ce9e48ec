"""The emulator's queues, events and faults, seen by boto3, and the real node's cold store on top of it."""

import hashlib
import time

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, HTTPClientError, IncompleteReadError
from harness import cold, part10, scu
from harness.emulator import Emulator
from harness.node import Node
from test_cold_day import big_study
from test_emulator import BODY, HOUR, Store, refused

BROKEN = (ConnectionClosedError, EndpointConnectionError, HTTPClientError, IncompleteReadError)


@pytest.fixture
def store(emulator):
    return Store(emulator)


# -- queues --


def test_a_queue_keeps_messages_until_they_are_deleted_also_across_a_kill(emulator):
    sqs = emulator.client("sqs")
    url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    assert url == sqs.get_queue_url(QueueName="q")["QueueUrl"] == emulator.queue_url("q")
    body = "grün & <bunt>"
    sent = sqs.send_message(QueueUrl=url, MessageBody=body)
    assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()
    sqs.send_message(QueueUrl=url, MessageBody="second")
    first, second = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert (first["Body"], first["MessageId"], second["Body"]) == (body, sent["MessageId"], "second")
    assert first["MD5OfBody"] == sent["MD5OfMessageBody"]
    emulator.restart()
    assert "Messages" not in sqs.receive_message(QueueUrl=url), "received and not deleted: invisible"
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["QueueArn"] == emulator.queue_arn("q") and attributes["ApproximateNumberOfMessagesNotVisible"] == "2"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
    again, = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"])["Messages"]
    assert again["Body"] == "second" and again["Attributes"]["ApproximateReceiveCount"] == "2"
    done = sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "1", "ReceiptHandle": again["ReceiptHandle"]}])
    assert [row["Id"] for row in done["Successful"]] == ["1"]
    sqs.send_message(QueueUrl=url, MessageBody="third")
    sqs.purge_queue(QueueUrl=url)
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["ApproximateNumberOfMessages"] == "0"
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="missing")


def test_a_message_that_was_not_deleted_comes_again(emulator):
    sqs, url = emulator.client("sqs"), emulator.queue_url()
    sqs.send_message(QueueUrl=url, MessageBody="m")
    first, = sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)["Messages"]
    second, = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert second["MessageId"] == first["MessageId"] and second["ReceiptHandle"] != first["ReceiptHandle"]


def test_a_long_poll_returns_when_an_event_comes_and_not_before(store, emulator):
    emulator.notify()
    assert emulator.drain(1)[0]["Event"] == "s3:TestEvent"
    store.put()
    emulator.archive("ARCHIVE_ACCESS", key="k")
    emulator.delays(archive_expedited=1)
    store.restore(tier="Expedited")
    emulator.drain(1)
    begin = time.monotonic()
    messages = emulator.client("sqs").receive_message(QueueUrl=emulator.queue_url(), WaitTimeSeconds=20)["Messages"]
    assert "ObjectRestore:Completed" in messages[0]["Body"] and time.monotonic() - begin < 10
    refused(emulator.client("sqs").receive_message, 400, "InvalidParameterValue", QueueUrl=emulator.queue_url(), WaitTimeSeconds=21)


# -- events --


def events(messages):
    return [(record["eventName"], record["s3"]["object"]["key"]) for message in messages for record in message["Records"]]


def test_events_of_tiering_and_restores_are_sent_when_due_though_nobody_asks(store, emulator):
    emulator.notify()
    emulator.tier_by_age(90, 180)
    emulator.drain(1)
    store.put("a b/ü+1")
    # The clock is turned by its file, and no request is made but to the queue.
    emulator.clock.write_text(f"{91 * 86400}")
    moved, = emulator.drain(1)
    assert events([moved]) == [("IntelligentTiering", "a+b/%C3%BC%2B1")]
    record, = moved["Records"]
    assert record["intelligentTieringEventData"] == {"destinationAccessTier": "ARCHIVE_ACCESS"}
    assert record["s3"]["bucket"]["name"] == store.bucket and record["s3"]["object"]["size"] == len(BODY)
    assert record["eventSource"] == "aws:s3" and record["eventTime"].endswith("Z")
    store.restore("a b/ü+1")
    emulator.advance(seconds=4 * HOUR + 1)
    post, completed = emulator.drain(2)
    assert [name for name, _ in events([post, completed])] == ["ObjectRestore:Post", "ObjectRestore:Completed"]
    assert store.get("a b/ü+1") == BODY


def test_a_restore_under_way_survives_kills_and_completes_once(store, emulator):
    emulator.notify()
    store.put()
    emulator.archive("DEEP_ARCHIVE_ACCESS", key="k")
    store.restore()
    emulator.restart()
    before = emulator.objects()["k"]["restore"]
    emulator.advance(seconds=11 * HOUR)
    emulator.kill()
    emulator.clock.write_text(f"{13 * HOUR}")
    emulator.start()
    assert store.get() == BODY
    assert emulator.objects()["k"]["last_access"] > before["ready"]
    received = emulator.drain(3)
    emulator.restart()
    assert events(received[1:]) == [("ObjectRestore:Post", "k"), ("ObjectRestore:Completed", "k")]
    assert "Messages" not in emulator.client("sqs").receive_message(QueueUrl=emulator.queue_url())
    assert emulator.counters()["requests"]["RestoreObject"] == 1 and store.outcomes() == ["accepted"]


def test_events_can_be_lost_doubled_and_early(store, emulator):
    emulator.notify()
    emulator.drain(1)
    for key in "abc":
        store.put(key)
    emulator.archive("ARCHIVE_ACCESS", prefix="")
    emulator.events(drop=1, duplicate=1)
    store.restore("a"), store.restore("b"), store.restore("c")
    assert sorted(events(emulator.drain(3))) == [("ObjectRestore:Post", "b"), ("ObjectRestore:Post", "b"), ("ObjectRestore:Post", "c")]
    emulator.events(early=HOUR)
    emulator.advance(seconds=3 * HOUR + 1)
    assert {name for name, _ in events(emulator.drain(3))} == {"ObjectRestore:Completed"}
    assert store.status("a") == "ARCHIVE_ACCESS", "told before it is true"
    emulator.advance(seconds=HOUR)
    assert store.get("a") == BODY
    assert "Messages" not in emulator.client("sqs").receive_message(QueueUrl=emulator.queue_url())


def test_the_configurations_filter_and_events_decide(store, emulator):
    store.s3.put_bucket_notification_configuration(Bucket=store.bucket, NotificationConfiguration={"QueueConfigurations": [{
        "QueueArn": emulator.queue_arn(), "Events": ["s3:ObjectRestore:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "p/"}, {"Name": "suffix", "Value": ".zip"}]}}}]})
    emulator.drain(1)
    for key in ["p/1.zip", "p/1.json", "q/1.zip"]:
        store.put(key)
        emulator.archive("ARCHIVE_ACCESS", key=key)
        store.restore(key)
        emulator.finish(key)
    assert events(emulator.drain(2)) == [("ObjectRestore:Post", "p/1.zip"), ("ObjectRestore:Completed", "p/1.zip")]
    assert "Messages" not in emulator.client("sqs").receive_message(QueueUrl=emulator.queue_url())


# -- faults --


def test_slow_down_befalls_as_many_requests_as_asked(store, emulator):
    store.put("pack"), store.put("other")
    emulator.fault("slow_down", "GetObject", count=2, after=1, key_contains="pack")
    assert store.get("pack") == BODY and store.get("other") == BODY
    for _ in range(2):
        store.refused("get_object", 503, "SlowDown", key="pack")
    assert store.get("pack") == BODY
    emulator.fault("slow_down", "PutObject")
    store.refused("put_object", 503, "SlowDown", Body=b"x" * (5 << 20))
    emulator.restart()
    store.refused("put_object", 503, "SlowDown", Body=b"x")
    emulator.clear_faults()
    store.put()


def test_a_reset_and_an_outage_give_no_answer(store, emulator):
    store.put()
    fault = emulator.fault("reset", "GetObject")
    with pytest.raises(BROKEN):
        store.get()
    store.head()
    emulator.clear_faults(fault)
    assert store.get() == BODY
    emulator.fault("outage")
    for call in (store.get, store.head, store.put, lambda: emulator.client("sqs").receive_message(QueueUrl=emulator.queue_url())):
        with pytest.raises(BROKEN):
            call()
    assert emulator.objects()["k"]["size"] == len(BODY), "tests are answered still"
    emulator.clear_faults()
    assert store.get() == BODY


def test_a_body_can_be_cut_short_or_wrong(store, emulator):
    store.put()
    emulator.fault("truncate", "GetObject", count=1)
    with pytest.raises(BROKEN):
        store.get()
    emulator.fault("wrong_bytes", "GetObject", count=1)
    got = store.get(Range="bytes=0-999")
    assert len(got) == 1000 and [at for at in range(1000) if got[at] != BODY[at]] == [500]
    emulator.corrupt("k", offset=7)
    # Without a checksum asked for, nobody notices; the stored one is still that of what was put.
    got = emulator.client().get_object(Bucket=store.bucket, Key="k", Range="bytes=0-9")["Body"].read()
    assert [at for at in range(10) if got[at] != BODY[at]] == [7]


def test_latency_is_added(store, emulator):
    store.put()
    emulator.fault("latency", "HeadObject", millis=300)
    begin = time.monotonic()
    store.head()
    assert time.monotonic() - begin >= 0.3


def test_expedited_can_lack_capacity_while_standard_does_not(store, emulator):
    store.put()
    emulator.archive("ARCHIVE_ACCESS", key="k")
    emulator.fault("expedited_unavailable", count=1)
    expedited = {"GlacierJobParameters": {"Tier": "Expedited"}}
    store.refused("restore_object", 503, "GlacierExpeditedRetrievalNotAvailable", RestoreRequest=expedited)
    assert store.restore(tier="Standard") == 202
    assert store.restore(tier="Expedited") == 202
    assert store.outcomes() == ["unavailable", "accepted", "upgraded"]


def test_counters_count_by_operation_and_begin_anew(store, emulator):
    store.put(), store.get(), store.get(), store.head()
    store.refused("get_object", 404, "NoSuchKey", key="missing")
    emulator.restart()
    counters = emulator.counters()
    assert counters["requests"] == {"PutObject": 1, "GetObject": 3, "HeadObject": 1} and counters["refused"] == {"GetObject": 1}
    emulator.reset_counters()
    assert emulator.counters() == {"requests": {}, "refused": {}, "restores": []}


def test_it_ends_in_order_when_told(tmp_path):
    emulator = Emulator(tmp_path / "e").start()
    emulator.stop()
    assert emulator.process.returncode == 0


# -- the node's own client --


def test_the_node_offloads_to_it_and_retrieves_from_it(tmp_path, emulator, destination):
    node = Node(tmp_path / "node", None, {destination.title: destination.port}, cold.section(emulator.bucket, emulator.endpoint),
                environment=emulator.environment)
    with node:
        study, paths = big_study(tmp_path, series=2)
        assert set(scu.store(node, paths).values()) == {0x0000}
        node.command("offload", study)
        assert node.status()["packs_verified"] == 2
        packs = [row for key, row in emulator.objects().items() if key.endswith(".zip")]
        assert {row["class"] for row in packs} == {"INTELLIGENT_TIERING"}
        assert emulator.counters()["requests"]["CompleteMultipartUpload"] == 2, "packs of this size go up in parts"
        node.command("evict", study)
        assert node.hot_files() == []
        final, _ = scu.move(node, destination.title, StudyInstanceUID=study)[-1]
        assert (final.Status, final.NumberOfCompletedSuboperations) == (0x0000, len(paths))
        assert {part10.digest(path) for path in destination.files()} == {part10.digest(path) for path in paths}


def test_long_keys_and_pages_with_a_delimiter(store):
    long = "a/" + "1.2.826.0.1.3680043.8.498." * 30 + ".zip"
    for key in [long, "a", "b/1", "b/2", "c"]:
        store.put(key, body=b"x")
    store.s3.copy_object(Bucket=store.bucket, Key="d", CopySource={"Bucket": store.bucket, "Key": long}, **{"StorageClass": "STANDARD"})
    pages = store.s3.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
    names = [[row["Key"] for row in page.get("Contents", [])] + [row["Prefix"] for row in page.get("CommonPrefixes", [])] for page in pages]
    assert names == [["a", "a/"], ["c", "b/"], ["d"]]
    deleted = store.s3.delete_objects(Bucket=store.bucket, Delete={"Objects": [{"Key": long}, {"Key": "b/1"}]})["Deleted"]
    assert [row["Key"] for row in deleted] == [long, "b/1"]
    assert [row["Key"] for row in store.s3.list_objects_v2(Bucket=store.bucket, StartAfter="a")["Contents"]] == ["b/2", "c", "d"]

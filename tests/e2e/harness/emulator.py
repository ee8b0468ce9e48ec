"""The Intelligent-Tiering emulator: an S3 whose objects are archived by a clock that the test turns, and its event queues."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .node import ROOT, RUNNING
from .ports import free_port, wait_until

BINARY = Path(os.environ.get("FILMROOM_EMULATOR", ROOT / "target/debug/filmroom-emulator"))
KEY, SECRET = "emulator", "emulator-secret"
DAY = 86_400


class Emulator:
    """One emulator on a folder and a port of its own, which `restart` keeps. `clock` is the file that turns its clock: a node that reads the same
    file lives in the same time."""

    def __init__(self, folder, buckets=("images",), queues=("events",), clock=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.buckets, self.queues = list(buckets), list(queues)
        self.bucket = self.buckets[0]
        self.clock = Path(clock or self.folder / "clock")
        self.port = free_port()
        self.process = None

    # -- the process --

    def start(self):
        command = [str(BINARY), "--listen", f"127.0.0.1:{self.port}", "--data", str(self.folder / "data"), "--clock", str(self.clock),
                   "--access-key", KEY, "--secret-key", SECRET]
        command += [word for bucket in self.buckets for word in ("--bucket", bucket)]
        command += [word for queue in self.queues for word in ("--queue", queue)]
        with open(self.folder / "emulator.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        RUNNING.add(self)
        line = self.process.stdout.readline()
        assert re.fullmatch(rf"listening on 127\.0\.0\.1:{self.port}\n", line), f"{line!r}: {self.log()[-2000:]}"
        return self

    def stop(self):
        """SIGTERM, and it ends in order."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=20) == 0, self.log()[-2000:]
        self._ended()

    def kill(self):
        """kill -9"""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._ended()

    def restart(self):
        """kill -9 and started again, on the same port and folder."""
        self.kill()
        return self.start()

    def _ended(self):
        if self.process:
            self.process.stdout.close()
        RUNNING.discard(self)

    def log(self):
        return (self.folder / "emulator.log").read_text(errors="replace")

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.kill()

    # -- for its clients --

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self):
        """What a node needs to know besides its configuration."""
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}

    def queue_url(self, name=None):
        return f"{self.endpoint}/queue/{name or self.queues[0]}"

    def queue_arn(self, name=None):
        return f"arn:aws:sqs:us-east-1:000000000000:{name or self.queues[0]}"

    def client(self, service="s3", secret=SECRET, retries=1, checksums="when_supported"):
        import boto3
        from botocore.config import Config

        return boto3.client(
            service, endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=secret, region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": retries}, connect_timeout=5, read_timeout=30,
                          request_checksum_calculation=checksums),
        )

    def tier_by_age(self, access_days=90, deep_days=180, bucket=None, **fields):
        """Puts the Intelligent-Tiering configuration that archives what nobody accessed for so many days."""
        days = {"ARCHIVE_ACCESS": access_days, "DEEP_ARCHIVE_ACCESS": deep_days}
        tierings = [{"AccessTier": tier, "Days": count} for tier, count in days.items() if count]
        configuration = {"Id": "archive", "Status": "Enabled", "Tierings": tierings, **fields}
        self.client().put_bucket_intelligent_tiering_configuration(
            Bucket=bucket or self.bucket, Id=configuration["Id"], IntelligentTieringConfiguration=configuration)

    def notify(self, queue=None, bucket=None):
        """Has the bucket's events about archives sent to the queue."""
        events = ["s3:ObjectRestore:Post", "s3:ObjectRestore:Completed", "s3:IntelligentTiering"]
        self.client().put_bucket_notification_configuration(
            Bucket=bucket or self.bucket,
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": self.queue_arn(queue), "Events": events}]})

    # -- the test's own requests --

    def control(self, method, path, body=None, **query):
        query = {name: value for name, value in query.items() if value is not None}
        url = f"{self.endpoint}/_emulator/{path}?{urllib.parse.urlencode(query)}"
        data = json.dumps(body).encode() if body is not None else None
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=20) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {url}: {error.code} {error.read().decode()}") from None

    def advance(self, days=0, seconds=0):
        """Turns the clock forward, for all that read the file."""
        return self.control("POST", "advance", days=days, seconds=seconds)["now"]

    def now(self):
        return self.control("GET", "clock")["now"]

    def archive(self, tier="ARCHIVE_ACCESS", key=None, prefix="", bucket=None):
        """Puts one object, or all under a prefix, into a tier at once; NONE makes them readable."""
        return self.control("POST", "archive", bucket=bucket or self.bucket, tier=tier, key=key, prefix=None if key else prefix)["changed"]

    def objects(self, prefix="", bucket=None):
        """What is known of each object, by key."""
        return {row["key"]: row for row in self.control("GET", "objects", bucket=bucket or self.bucket, prefix=prefix)}

    def counters(self):
        return self.control("GET", "counters")

    def reset_counters(self):
        self.control("DELETE", "counters")

    def delays(self, **seconds):
        return self.control("POST", "delays", body=seconds)

    def finish(self, key, bucket=None):
        """Ends a restore now."""
        self.control("POST", "finish", bucket=bucket or self.bucket, key=key)

    def corrupt(self, key, offset=0, bucket=None):
        self.control("POST", "corrupt", bucket=bucket or self.bucket, key=key, offset=offset)

    def fault(self, kind, operation="*", **fields):
        """Asks for a fault and returns its id."""
        return self.control("POST", "faults", body={"kind": kind, "operation": operation, **fields})["id"]

    def clear_faults(self, fault=None):
        self.control("DELETE", "faults", id=fault)

    def deny(self, *operations):
        for operation in operations:
            self.control("POST", "deny", operation=operation)

    def allow(self, operation=None):
        self.control("DELETE", "deny", operation=operation)

    def events(self, drop=None, duplicate=None, early=None):
        """Faults of events: the next so many are dropped, come twice, or completions are told so many seconds early."""
        self.control("POST", "events", drop=drop, duplicate=duplicate, early=early)

    def drain(self, count, queue=None, timeout=10.0):
        """Receives and deletes so many messages; their parsed bodies."""
        sqs, url, received = self.client("sqs"), self.queue_url(queue), []

        def enough():
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
                received.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return len(received) >= count

        wait_until(enough, f"{count} messages", timeout=timeout)
        return received

"""SeaweedFS (`weed mini`): an S3 server that checks signatures and checksums and survives kill -9. As a program it serves a folder and
prints its endpoint."""

import os
import signal
import subprocess
import sys
from pathlib import Path

if __package__:
    from .ports import free_ports, is_open, wait_until
else:
    sys.path.insert(0, str(Path(__file__).parent))
    from ports import free_ports, is_open, wait_until

KEY = os.environ.get("FILMROOM_TEST_S3_KEY", "filmroom")
SECRET = os.environ.get("FILMROOM_TEST_S3_SECRET", "filmroom-secret")


class S3:
    """One server. `kill` is a power cut; `start` after it serves the same folder on the same ports."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = free_ports(13)
        self.process = None
        self.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self):
        names = [
            "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc",
            "volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc", "metricsPort", "s3.port.iceberg", "s3.port.lance",
        ]
        command = [str(Path(sys.executable).parent / "weed"), "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                   "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
                   "-s3.autoCreateBucket=false"]
        command += [f"-{name}={port}" for name, port in zip(names, self.ports)]
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
        self.log = open(self.folder.parent / f"{self.folder.name}.log", "ab")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, cwd=self.folder)
        wait_until(self._answers, "SeaweedFS", timeout=60)

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"weed ended with {self.process.returncode}, see {self.log.name}")
        if not is_open(self.ports[0]):
            return False
        try:
            self.client().list_buckets()
            return True
        except Exception:
            return False

    def client(self):
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.log.close()


if __name__ == "__main__":
    server = S3(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(server.endpoint, flush=True)
        server.process.wait()
    finally:
        server.kill()

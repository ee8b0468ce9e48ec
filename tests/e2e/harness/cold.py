"""A cold store on the shared S3 server: a bucket for one test, the configuration that names it, and a look inside."""

import os
import uuid

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": os.environ.get("FILMROOM_TEST_S3_KEY", ""), "AWS_SECRET_ACCESS_KEY": os.environ.get("FILMROOM_TEST_S3_SECRET", "")}


def client(endpoint=None):
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=endpoint or os.environ["FILMROOM_TEST_S3"], aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60),
    )


def new_bucket(s3):
    name = f"b{uuid.uuid4().hex[:20]}"
    s3.create_bucket(Bucket=name)
    return name


def section(bucket, endpoint, offload_after="1h", interval="200ms", timeout="5s", more=""):
    return (f'[cold]\nurl = "s3://{bucket}/archive"\nendpoint = "{endpoint}"\noffload_after = "{offload_after}"\n'
            f'check_interval = "{interval}"\ntimeout = "{timeout}"\nattempts = 2\n{more}')


def keys(s3, bucket, suffix=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []) if entry["Key"].endswith(suffix))

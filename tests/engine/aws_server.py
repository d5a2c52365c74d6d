"""S3 and KMS on loopback: moto, in packages of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.engine.harness import until
from tests.engine.kube_api import free_port

REQUIREMENTS = Path(__file__).with_name("aws-requirements.txt")
PACKAGES = Path(sys.prefix) / "aws-server"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class AwsServer:
    """The running server. `env` is what a client of it needs."""

    address: str
    env: Mapping[str, str]

    @classmethod
    @contextmanager
    def started(cls, log: Path) -> Iterator[AwsServer]:
        """Serve on a free port; everything is forgotten at the end."""
        _install()
        address = f"127.0.0.1:{free_port()}"
        host, port = address.split(":")
        command = [sys.executable, "-c", "from moto.server import main; main()", "-H", host, "-p", port]
        with log.open("w") as out:
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": str(PACKAGES)}, stdout=out, stderr=out, cwd=log.parent
            )
        try:
            server = cls(address, {**CREDENTIALS, "AWS_ENDPOINT_URL_KMS": f"http://{address}"})
            until(server._answers, 60, f"the stand-in for S3: see {log}")
            yield server
        finally:
            process.terminate()
            process.wait(30)

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://{self.address}/moto-api/", timeout=5).ok
        except requests.ConnectionError:
            return False

    def backend(self, bucket: str) -> str:
        """The URL of a bucket as Pulumi takes it."""
        return f"s3://{bucket}?endpoint={self.address}&disableSSL=true&s3ForcePathStyle=true&region=us-east-1"

    def make_bucket(self, bucket: str) -> None:
        requests.put(f"http://{self.address}/{bucket}", timeout=10).raise_for_status()

    def keys(self, bucket: str) -> str:
        """What is in a bucket, as S3's XML."""
        return requests.get(f"http://{self.address}/{bucket}", timeout=10).text

    def make_key(self) -> str:
        """The URL of a new key, as a stack's `secretsprovider`."""
        headers = {
            "X-Amz-Target": "TrentService.CreateKey",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=x",
        }
        made: Any = requests.post(f"http://{self.address}/", json={}, headers=headers, timeout=10).json()
        return f"awskms://{made['KeyMetadata']['KeyId']}?region=us-east-1"


def _install() -> None:
    """Once for each set of packages."""
    marker = PACKAGES / ".requirements"
    wanted = REQUIREMENTS.read_text()
    if not marker.exists() or marker.read_text() != wanted:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", PACKAGES, "-r", REQUIREMENTS], check=True)
        marker.write_text(wanted)

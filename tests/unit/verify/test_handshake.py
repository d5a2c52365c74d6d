"""Who answers at an address, by a certificate that the roots vouch for."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from verify import handshake

NAME = "istiod.istio-system.svc"


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A certificate for NAME that vouches for itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "istiod")])
    made = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(pem + private)
    file = tmp_path / "roots.pem"
    file.write_bytes(pem)
    return file


@pytest.fixture
def port(roots: Path) -> Iterator[int]:
    """Where a server shows it, until nobody asks any more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(roots.with_name("server.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listening.accept()
                    context.wrap_socket(raw, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_the_names_of_the_certificate_are_told(port: int, roots: Path) -> None:
    asked = {"addresses": ["127.0.0.1"], "port": port, "name": NAME, "roots": str(roots)}
    command = [sys.executable, "-I", "-c", Path(handshake.__file__).read_text(), json.dumps(asked)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"127.0.0.1": [NAME]}


def test_another_server_is_not_believed(port: int, roots: Path) -> None:
    assert "certificate verify failed" in handshake.seen("127.0.0.1", port, "other.svc", str(roots))


def test_where_nobody_listens_the_reason_is_told(roots: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    assert "refused" in handshake.seen("127.0.0.1", free, NAME, str(roots))

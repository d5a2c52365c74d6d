"""The stack's secrets: an SSH key pair and the cluster's join token. Nothing of them is written to any file."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typing_extensions import TypedDict

from actions.protocol import Document, Failure, Progress


class SecretsRequest(Document):
    """What `make-secrets` reads: the file of an OpenSSH private key; without one the key pair is new."""

    private_key_file: str | None = None


class Secrets(TypedDict):
    """What `make-secrets` prints.

    Attributes:
        private_key: in OpenSSH's form.
        public_key: as one line of `authorized_keys`.
        token: 256 random bits in hexadecimal.
    """

    private_key: str
    public_key: str
    token: str


def make_secrets(request: SecretsRequest, progress: Progress) -> Secrets:
    """Make the key pair, or read the one of a file, and make a token.

    Raises:
        Failure: the file cannot be used.
    """
    file = request.private_key_file
    private, public = read_pair(Path(file)) if file else make_pair()
    return {"private_key": private, "public_key": public, "token": secrets.token_hex(32)}


def make_pair() -> tuple[str, str]:
    """A new ed25519 pair: the private key in OpenSSH form, the public key as one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def read_pair(path: Path) -> tuple[str, str]:
    """The pair of a private key file.

    Raises:
        Failure: the file is not there, is no OpenSSH key, or asks for a passphrase.
    """
    try:
        text = path.read_bytes()
        key = serialization.load_ssh_private_key(text, password=None)
    except OSError as error:
        raise Failure(f"cannot read the private key {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise Failure(f"{path} is no OpenSSH private key without a passphrase: {error}") from error
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text.decode(), public.decode()

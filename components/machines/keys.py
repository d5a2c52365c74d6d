"""The stack's secrets: an SSH key pair and the cluster's join token.

`python -m components.machines.keys make` reads `{"private_key_file": path or null}` on stdin and prints
`{"private_key", "public_key", "token"}`; without a file the key pair is new. Nothing is written anywhere else.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


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
        SystemExit: the file is not there, is no OpenSSH key, or asks for a passphrase.
    """
    try:
        text = path.read_bytes()
        key = serialization.load_ssh_private_key(text, password=None)
    except OSError as error:
        raise SystemExit(f"cannot read the private key {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SystemExit(f"{path} is no OpenSSH private key without a passphrase: {error}") from error
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text.decode(), public.decode()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m components.machines.keys", description=__doc__)
    parser.add_argument("verb", choices=["make"])
    parser.parse_args()
    file = json.load(sys.stdin).get("private_key_file")
    private, public = read_pair(Path(file)) if file else make_pair()
    json.dump({"private_key": private, "public_key": public, "token": secrets.token_hex(32)}, sys.stdout)


if __name__ == "__main__":
    main()

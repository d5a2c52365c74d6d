#!/usr/bin/env python3
"""Ask a machine's name server for IPv4 addresses, past `/etc/hosts`: prints `{name: [address…]}` as JSON.

Sent to the machine whole, so it needs nothing but the standard library and works from Python 3.9 on. The message format is RFC 1035's.
"""

from __future__ import annotations

import json
import secrets
import socket
import struct
import sys
from pathlib import Path

SECONDS = 5
PORT = 53
TYPE_A, CLASS_IN = 1, 1


def query(number: int, name: str) -> bytes:
    """A question for the name's A records, recursion desired."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, TYPE_A, CLASS_IN)


def addresses(message: bytes) -> list[str]:
    """The A records of an answer; none when the name does not exist."""
    _, _, questions, records, _, _ = struct.unpack("!6H", message[:12])
    at, found = 12, []
    for _ in range(questions):
        at = _after_name(message, at) + 4
    for _ in range(records):
        at = _after_name(message, at)
        kind, _, _, size = struct.unpack("!HHIH", message[at : at + 10])
        at += 10
        if kind == TYPE_A:
            found.append(socket.inet_ntoa(message[at : at + size]))
        at += size
    return found


def _after_name(message: bytes, at: int) -> int:
    """Where a name ends: with an empty label, or with a pointer to another place, which takes two bytes."""
    while message[at] and message[at] < 0xC0:
        at += message[at] + 1
    return at + (2 if message[at] else 1)


def server() -> str:
    """The first name server of `/etc/resolv.conf`."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("nameserver"))


def resolve(name: str) -> list[str]:
    """A name's addresses, in order."""
    number = secrets.randbits(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(SECONDS)
        asking.connect((server(), PORT))
        asking.send(query(number, name))
        return sorted(addresses(asking.recv(4096)))


if __name__ == "__main__":
    print(json.dumps({name: resolve(name) for name in sys.argv[1:]}))

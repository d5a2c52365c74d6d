"""Questions to a name server and its answers, as RFC 1035 has them."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from verify import resolve
from verify.checks import dns

A, CNAME, AAAA = 1, 5, 28
QUESTION = b"\x01a\x02bc\x00"
ITSELF, ITS_DOMAIN = b"\xc0\x0c", b"\xc0\x0e"
"""Pointers to the question's name, `a.bc`, and to its last label."""


def message(*records: tuple[bytes, int, bytes], code: int = 0, questions: int = 1) -> bytes:
    """An answer with records of name, type and data."""
    head = struct.pack("!6H", 7, 0x8180 | code, questions, len(records), 0, 0)
    asked = (QUESTION + struct.pack("!HH", A, 1)) * questions
    return head + asked + b"".join(name + struct.pack("!HHIH", k, 1, 30, len(d)) + d for name, k, d in records)


def address(text: str) -> bytes:
    return socket.inet_aton(text)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (message((ITSELF, A, address("10.43.0.1"))), ["10.43.0.1"]),
        (message((QUESTION, A, address("10.43.0.1"))), ["10.43.0.1"]),
        (message((b"\x01x" + ITS_DOMAIN, A, address("10.43.0.1"))), ["10.43.0.1"]),
        (
            message((ITSELF, CNAME, b"\x01x" + ITS_DOMAIN), (b"\x01x" + ITS_DOMAIN, A, address("10.0.0.2"))),
            ["10.0.0.2"],
        ),
        (message(*((ITSELF, A, address(f"10.0.0.{i}")) for i in (3, 1, 2))), ["10.0.0.3", "10.0.0.1", "10.0.0.2"]),
        (message((ITSELF, AAAA, bytes(16)), (ITSELF, A, address("10.0.0.1"))), ["10.0.0.1"]),
        (message((ITSELF, A, address("10.0.0.1")), questions=2), ["10.0.0.1"]),
        (message(), []),
        (message(code=3), []),
    ],
)
def test_addresses_are_the_records_of_type_a(answer: bytes, expected: list[str]) -> None:
    assert resolve.addresses(answer) == expected


def test_a_question_is_for_one_name_with_recursion() -> None:
    assert resolve.query(0x1234, "a.bc") == b"\x124\x01\x00\x00\x01" + bytes(6) + QUESTION + b"\x00\x01\x00\x01"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The questions that a name server got; it knows two addresses of every name but those that begin with `n`."""
    questions: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))

        def serve() -> None:
            for _ in range(2):
                question, sender = serving.recvfrom(512)
                questions.append(question)
                known = [(ITSELF, A, address(text)) for text in ("10.0.0.2", "10.0.0.1")]
                answer = message(code=3) if question[13:14] == b"n" else message(*known)
                serving.sendto(question[:2] + answer[2:], sender)

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setattr(resolve, "server", lambda: "127.0.0.1")
        monkeypatch.setattr(resolve, "PORT", serving.getsockname()[1])
        yield questions
        thread.join(timeout=5)


def test_names_are_asked_for_over_udp(asked: list[bytes]) -> None:
    assert resolve.resolve("a.bc") == ["10.0.0.1", "10.0.0.2"]
    assert resolve.resolve("nowhere.bc") == []
    assert [question[12:-4] for question in asked] == [QUESTION, b"\x07nowhere\x02bc\x00"]


def test_the_name_server_is_the_machines_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = tmp_path / "resolv.conf"
    said.write_text("# comment\nsearch lab\nnameserver 10.89.0.1\nnameserver 192.0.2.1\n")
    monkeypatch.setattr(resolve, "Path", lambda path: {"/etc/resolv.conf": said}[path])
    assert resolve.server() == "10.89.0.1"


def test_what_is_sent_to_a_machine_needs_nothing_but_python() -> None:
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", dns._PROGRAM], capture_output=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == {}

"""How the script of a node is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actions import ssh
from actions.cluster.node import InstallRequest, begin, install
from actions.protocol import Failure, Ssh

MACHINE = Ssh(host="10.0.0.1", user="ubuntu", private_key="K", host_key="ssh-ed25519 A")
REQUEST = InstallRequest(node="lab-server-1", machine=MACHINE, token="t0ken", script="set -e\ntrue")


class FakeSession:
    """Says a line, prints a kubeconfig, and keeps what it was given."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, bytes]] = []

    def run(self, script: str, stdin: bytes, tell: Any) -> str:
        self.ran.append((script, stdin))
        tell("lab-server-1: k3s starts")
        return "apiVersion: v1\nkind: Config\n"


@contextmanager
def refused(**_: Any) -> Iterator[FakeSession]:
    raise ssh.SshError("10.0.0.1:22 does not answer")
    yield FakeSession()


@contextmanager
def connected(session: FakeSession, **target: Any) -> Iterator[FakeSession]:
    assert target["host"] == "10.0.0.1" and target["host_key"] == "ssh-ed25519 A"
    yield session


def test_the_token_is_on_stdin_and_nowhere_else() -> None:
    session, said = FakeSession(), list[str]()
    assert install(REQUEST, said.append, lambda **target: connected(session, **target)) == {
        "kubeconfig": "apiVersion: v1\nkind: Config"
    }
    assert session.ran == [("IFS= read -r token; set -e\ntrue", b"t0ken\n")]
    assert said == ["lab-server-1: k3s starts"]
    assert "t0ken" not in repr(REQUEST)


def test_only_the_run_that_makes_a_server_may_begin_a_cluster() -> None:
    session = FakeSession()
    begin(REQUEST, lambda _: None, lambda **target: connected(session, **target))
    install(REQUEST, lambda _: None, lambda **target: connected(session, **target))
    first, second = (script for script, _ in session.ran)
    assert "founding=yes;" in first and "founding" not in second


def test_a_machine_that_cannot_be_used_is_named() -> None:
    with pytest.raises(Failure, match=r"lab-server-1: 10\.0\.0\.1:22 does not answer"):
        install(REQUEST, lambda _: None, refused)

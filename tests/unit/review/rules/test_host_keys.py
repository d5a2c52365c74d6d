"""Policy pinned-host-keys."""

import json
from typing import Any

import pytest

from review.model import Resource
from review.values import MASKED, UNKNOWN_STRING
from tests.unit.review.rules.conftest import command, said

SSH = {"host": "10.0.0.1", "port": 22, "user": "ubuntu", "private_key": MASKED}


def host_keys(about: Resource) -> list[str]:
    return said("pinned-host-keys", about)


def ran(document: Any) -> Resource:
    return command(create="actions/run workloads.join", stdin=json.dumps(document))


def test_a_connection_knows_its_host_and_its_proxy() -> None:
    assert host_keys(command(remote=True, connection={"host": "a"})) == [
        "connection has no hostKey: pin the key of the host"
    ]
    assert host_keys(command(remote=True, connection={"host": "a", "hostKey": "ssh-ed25519 A"})) == []
    proxied = {"host": "a", "hostKey": "ssh-ed25519 A", "proxy": {"host": "b", "hostKey": ""}}
    assert host_keys(command(remote=True, connection=proxied)) == [
        "connection.proxy has no hostKey: pin the key of the host"
    ]


@pytest.mark.parametrize("connection", [UNKNOWN_STRING, MASKED, {"host": "a", "hostKey": UNKNOWN_STRING}])
def test_a_connection_that_is_not_shown_is_not_judged(connection: Any) -> None:
    assert host_keys(command(remote=True, connection=connection)) == []


def test_documents_of_our_command_lines_know_the_host() -> None:
    assert host_keys(ran({"ssh": SSH})) == ["stdin.ssh has no host_key: pin the key of 10.0.0.1"]
    assert host_keys(ran({"calls": [{"ssh": {**SSH, "host_key": ""}}]}))[0].startswith(
        "stdin.calls.0.ssh has no host_key"
    )
    assert host_keys(ran({"ssh": {**SSH, "host_key": "ssh-ed25519 A"}})) == []


def test_existing_machines_are_known_by_their_key() -> None:
    options = {"host": "10.0.0.1", "port": 22, "host_key": ""}
    (message,) = host_keys(ran({"driver": "existing", "name": "vm", "options": options}))
    assert message.startswith("stdin.options has no host_key")
    assert (
        host_keys(ran({"driver": "existing", "name": "vm", "options": {**options, "host_key": "ssh-ed25519 A"}})) == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "ssh -o StrictHostKeyChecking=no a true",
        "ssh -oStrictHostKeyChecking=accept-new a true",
        "printf 'Host *\\n  StrictHostKeyChecking no\\n' >~/.ssh/config",
        "scp -o UserKnownHostsFile=/dev/null a b:",
    ],
)
def test_no_command_turns_the_check_off(text: str) -> None:
    (message,) = host_keys(command(create=text))
    assert message.startswith("create calls ssh without checking")


def test_a_checked_call_is_right() -> None:
    assert host_keys(command(create="ssh -o StrictHostKeyChecking=yes -o UserKnownHostsFile=known a true")) == []

"""The driver for existing hosts, against an SSH server in this process."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest

from components.machines.driver import DriverError, MachineSpec, Mount
from components.machines.existing import ExistingDriver
from components.machines.keys import make_pair


class Host:
    def __init__(self) -> None:
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(make_pair()[0]))
        self.host_key = f"{self.key.get_name()} {self.key.get_base64()}"
        self.logins = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.transports: list[paramiko.Transport] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.key)
            self.transports.append(transport)
            try:
                transport.start_server(server=paramiko.ServerInterface())
            except (paramiko.SSHException, EOFError, OSError):
                transport.close()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for transport in self.transports:
            transport.close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def spec(options: dict[str, Any], **changes: Any) -> MachineSpec:
    fields: dict[str, Any] = {"driver": "existing", "name": "prod-vm-1", "owner": "istio-vms/prod", "cpus": 1}
    fields |= {"memory_mib": 1024, "disk_gib": 10, "image": "", "user": "admin", "user_data": ""}
    return MachineSpec(**fields | {"options": options} | changes)


def ensure(options: dict[str, Any], **changes: Any) -> Any:
    return ExistingDriver().ensure(spec(options, **changes), lambda line: None)


def test_a_host_with_the_pinned_key_is_a_machine(host: Host) -> None:
    state = ensure({"host": "localhost", "port": host.port, "host_key": f"{host.host_key} a comment"})
    assert state.as_document() == {
        "name": "prod-vm-1",
        "address": "127.0.0.1",
        "port": host.port,
        "user": "admin",
        "host_key": host.host_key,
        "state": "running",
    }


def test_another_host_key_is_refused_with_both_fingerprints(host: Host) -> None:
    with pytest.raises(DriverError, match=r"prod-vm-1: .*presents the host key SHA256:\S+, pinned is SHA256:"):
        ensure({"host": "127.0.0.1", "port": host.port, "host_key": make_pair()[1]})


def test_a_missing_host_key_says_how_to_get_and_verify_it(host: Host) -> None:
    with pytest.raises(DriverError) as raised:
        ensure({"host": "127.0.0.1", "port": host.port})
    assert f"ssh-keyscan -t ed25519 -p {host.port} 127.0.0.1" in str(raised.value)
    assert "console" in str(raised.value)
    assert host.key.get_base64() not in str(raised.value), "trust on first use is not offered"


def test_an_unreachable_host_is_said(host: Host) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DriverError, match=r"cannot be reached: .*refused"):
        ensure({"host": "127.0.0.1", "port": port, "host_key": host.host_key})


def test_a_name_without_address_is_said(host: Host) -> None:
    with pytest.raises(DriverError, match=r"no\.such\.invalid has no IPv4 address"):
        ensure({"host": "no.such.invalid", "host_key": host.host_key})


@pytest.mark.parametrize(
    ("options", "says"),
    [({}, "no host is given"), ({"host": "x", "hostKey": "y"}, "unknown options: hostKey"), ({"host": ""}, "no host")],
)
def test_options_that_are_wrong_are_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DriverError, match=says):
        ensure(options)


def test_folders_cannot_be_mounted(host: Host) -> None:
    options = {"host": "127.0.0.1", "port": host.port, "host_key": host.host_key}
    with pytest.raises(DriverError, match="give its artifacts by url"):
        ensure(options, mounts=(Mount("/a", "/b"),))


def test_delete_touches_nothing(host: Host) -> None:
    lines: list[str] = []
    ExistingDriver().delete("prod-vm-1", "istio-vms/prod", {"host": "127.0.0.1", "port": host.port}, lines.append)
    assert lines == ["prod-vm-1: 127.0.0.1 was not made here and is left as it is"]
    assert host.transports == []


def test_no_existing_host_is_ours() -> None:
    assert ExistingDriver().list("istio-vms/prod", {}) == []

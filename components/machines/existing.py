"""The driver for hosts that someone else made: checks that they are there and who they say they are, and leaves them alone.

Such a host is prepared by its owner: the user, our key, sudo without a password. cloud-init, sizes, image and network do not apply to it.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components import ssh
from components.machines.driver import DriverError, MachineSpec, MachineState, Progress

CHECK_SECONDS = 10


@dataclass(frozen=True)
class Options:
    """The driver's own table in a machine's settings: where the host is, and its public host key, type and base64."""

    host: str
    host_key: str
    port: int = 22

    @classmethod
    def parse(cls, name: str, table: Mapping[str, Any]) -> Options:
        """Read the table.

        Raises:
            DriverError: a key is unknown, or something is missing.
        """
        unknown = sorted(set(table) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise DriverError(f"{name}: unknown options: {', '.join(unknown)}; known are host, port and host_key")
        host, port = str(table.get("host", "")), int(table.get("port", 22))
        if not host:
            raise DriverError(f"{name}: no host is given; an existing machine needs its address and its host key")
        if not table.get("host_key"):
            raise DriverError(
                f"{name}: no host key is given. `ssh-keyscan -t ed25519 -p {port} {host}` shows the one that {host} presents; compare its "
                "fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's own console before you pin it"
            )
        return cls(host=host, host_key=str(table["host_key"]), port=port)


class ExistingDriver:
    """Machines that are not ours."""

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """See that the host answers at its port and has the pinned host key; nothing is changed.

        Raises:
            DriverError: it does not, or something was asked that only a machine of ours can have.
        """
        options = Options.parse(spec.name, spec.options)
        if spec.mounts:
            raise DriverError(
                f"{spec.name}: folders cannot be mounted into an existing host; give its artifacts by url"
            )
        address = _resolve(spec.name, options)
        progress(f"{spec.name}: checking the host key of {options.host}:{options.port}")
        try:
            ssh.check_host_key(address, options.port, options.host_key, CHECK_SECONDS)
        except ssh.SshError as error:
            raise DriverError(f"{spec.name}: {error}") from error
        host_key = " ".join(options.host_key.split()[:2])
        return MachineState(spec.name, address, options.port, spec.user, host_key, "running")

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """As `ensure`, which never looks at user-data of a machine that is there."""
        return self.ensure(spec, progress)

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Leave the host as it is."""
        progress(f"{name}: {options.get('host') or 'the host'} was not made here and is left as it is")

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """None: no existing host belongs to us."""
        return []


def _resolve(name: str, options: Options) -> str:
    """The host's IPv4 address, which k3s and Istio know it by."""
    try:
        found = socket.getaddrinfo(options.host, options.port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise DriverError(f"{name}: {options.host} has no IPv4 address here: {error.strerror or error}") from error
    return str(found[0][4][0])

"""The machine driver contract: plain data in, plain data out, no pulumi.

`docs/design.md` describes the contract in words. A new driver is one module with a `Driver` implementation and one row in
`actions.machines.drivers.DRIVERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from actions.protocol import STRICT, Document, Progress


@dataclass(frozen=True)
class Network:
    """A network machines are attached to.

    `cidr` is empty where the driver has one network of its own (multipass, existing).
    """

    name: str
    cidr: str = ""


@dataclass(frozen=True)
class Mount:
    """A folder of the operator's machine, seen read-only on the machine under `target`."""

    source: str
    target: str


@dataclass(frozen=True)
class MachineSpec:
    """What a machine should be. Sizes are whole MiB and GiB, `cpus` whole processors."""

    __pydantic_config__ = STRICT

    driver: str
    name: str
    owner: str
    cpus: int
    memory_mib: int
    disk_gib: int
    image: str
    user: str
    user_data: str
    network: Network = field(default_factory=lambda: Network("default"))
    mounts: tuple[Mount, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class MachineState:
    """What a machine is. `host_key` is one `known_hosts` key: type and base64, without a host name."""

    name: str
    address: str
    port: int
    user: str
    host_key: str
    state: str


class MachineId(BaseModel):
    """A machine by its name: what `delete` reads of a whole `MachineSpec`, the rest of which does not matter to it."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)
    driver: str
    name: str
    owner: str
    options: Mapping[str, Any] = {}


class OwnerRequest(Document):
    """What `list` reads: whose machines, and what their driver has to be asked with."""

    driver: str
    owner: str
    options: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot is called, and the command that brings its machine, stopped, back to it."""

    machine: str
    snapshot: str
    restore: str


@dataclass(frozen=True)
class Removal:
    """What takes away again what an action has put on a machine, whatever of it there is: a bash script, run as root."""

    script: str
    stdin: bytes | None = None


class Driver(Protocol):
    """One way for machines to come to exist. Every method may be called again after being killed at any point."""

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Make, adopt, start or resize the machine; return once it has an address and a host key.

        Raises:
            Failure: the machine belongs to someone else, or the driver cannot run here.
        """
        ...

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Like `ensure`, for a machine that is known to have been made: start or resize it as it is.

        Its user-data took effect at its first boot; another one counts when it is recreated.

        Raises:
            Failure: as `ensure` does.
        """
        ...

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Remove the machine and everything made for it. Succeeds when it is already gone.

        Raises:
            Failure: the machine belongs to someone else.
        """
        ...

    def list(self, owner: str, options: Mapping[str, Any]) -> list[MachineState]:
        """The machines of this owner, running or not; `address` and `host_key` are empty where not known."""
        ...


@runtime_checkable
class TakesSnapshots(Protocol):
    """What a driver may be able to do besides."""

    def snapshot(self, spec: MachineSpec, progress: Progress) -> Snapshot:
        """Take a snapshot of the machine and its disk, and leave it running or stopped as it was.

        Raises:
            Failure: the machine belongs to someone else, is not there, or cannot be stopped.
        """
        ...

"""The machine driver contract: plain data in, plain data out, no pulumi.

`docs/design.md` describes the contract in words. A new driver is one module with a `Driver` implementation and one row in
`components.machines.drivers.DRIVERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

Progress = Callable[[str], None]
"""Tells a person what is happening; one line each, no secrets."""


class DriverError(Exception):
    """Something a person has to act on. The message says what happened and what to do next."""


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

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> MachineSpec:
        """Read the JSON document of `ensure`.

        Raises:
            DriverError: a key is missing or unknown.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        required = {
            name
            for name, f in known.items()
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        wrong = sorted(set(document) - set(known)) + sorted(required - set(document))
        if wrong:
            raise DriverError(f"machine spec: missing or unknown keys: {', '.join(wrong)}")
        fields = dict(document)
        if "network" in fields:
            fields["network"] = Network(**fields["network"])
        fields["mounts"] = tuple(Mount(**m) for m in fields.get("mounts", ()))
        return cls(**fields)


@dataclass(frozen=True)
class MachineState:
    """What a machine is. `host_key` is one `known_hosts` key: type and base64, without a host name."""

    name: str
    address: str
    port: int
    user: str
    host_key: str
    state: str

    def as_document(self) -> dict[str, Any]:
        """The JSON document that `ensure` prints."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot is called, and the command that brings its machine, stopped, back to it."""

    machine: str
    snapshot: str
    restore: str

    def as_document(self) -> dict[str, Any]:
        """The JSON document that `snapshot` prints."""
        return dataclasses.asdict(self)


class Driver(Protocol):
    """One way for machines to come to exist. Every method may be called again after being killed at any point."""

    def ensure(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Make, adopt, start or resize the machine; return once it has an address and a host key.

        Raises:
            DriverError: the machine belongs to someone else, or the driver cannot run here.
        """
        ...

    def update(self, spec: MachineSpec, progress: Progress) -> MachineState:
        """Like `ensure`, for a machine that is known to have been made: start or resize it as it is.

        Its user-data took effect at its first boot; another one counts when it is made anew.

        Raises:
            DriverError: as `ensure` does.
        """
        ...

    def delete(self, name: str, owner: str, options: Mapping[str, Any], progress: Progress) -> None:
        """Remove the machine and everything made for it. Succeeds when it is already gone.

        Raises:
            DriverError: the machine belongs to someone else.
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
            DriverError: the machine belongs to someone else, is not there, or cannot be stopped.
        """
        ...

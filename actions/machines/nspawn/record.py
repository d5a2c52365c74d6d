"""What is remembered about each machine: `spec.json` in its folder, and nothing anywhere else.

The networks of the host are the networks of its records, so there is no second list that could disagree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from actions.machines.driver import MachineSpec
from actions.machines.nspawn import layout
from actions.protocol import Failure

BRIDGE_PREFIX = "ivm-"


@dataclass(frozen=True, order=True)
class Lan:
    """One bridge: a network of one owner. `cidr` is part of its identity: a changed one is another network."""

    owner: str
    name: str
    cidr: str

    @property
    def bridge(self) -> str:
        """The interface's name: recognisable, stable, and within the kernel's 15 characters."""
        digest = hashlib.sha256("\0".join((self.owner, self.name, self.cidr)).encode()).hexdigest()
        return f"{BRIDGE_PREFIX}{digest[:10]}"

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The bridge's own address: the first of the range."""
        return next(iter(self.network.hosts()))

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The range.

        Raises:
            Failure: `cidr` is no IPv4 network of at least 16 addresses.
        """
        try:
            network = ipaddress.IPv4Network(self.cidr)
        except ValueError as error:
            raise Failure(f"network {self.name}: {error}; give it a CIDR such as 10.89.0.0/24") from error
        if network.prefixlen > 28:
            raise Failure(f"network {self.name}: {self.cidr} is too small, /28 is the least")
        return network


@dataclass(frozen=True)
class Record:
    """One machine.

    `identity` changes with whatever only a new disk can follow. `host_key` is empty until the disk is complete, and is
    kept here rather than read from the disk, which the machine itself can write.
    """

    name: str
    owner: str
    identity: str
    image: str
    user: str
    cpus: int
    memory_mib: int
    network: str
    cidr: str
    address: str
    mounts: tuple[tuple[str, str], ...]
    host_key: str = ""

    @property
    def lan(self) -> Lan:
        """The network it is on."""
        return Lan(self.owner, self.network, self.cidr)

    @property
    def index(self) -> int:
        """The address's position in its range: spreads machines over processors."""
        return int(ipaddress.IPv4Address(self.address)) - int(self.lan.network.network_address)

    def save(self) -> None:
        """Write it, in one step."""
        paths = layout.Paths(self.name)
        paths.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.write_atomically(paths.record, json.dumps(dataclasses.asdict(self), indent=1))


def load(name: str) -> Record | None:
    """The record of a machine, or None."""
    try:
        document = json.loads(layout.Paths(name).record.read_text())
    except FileNotFoundError:
        return None
    document["mounts"] = tuple((source, target) for source, target in document["mounts"])
    return Record(**document)


def load_all() -> list[Record]:
    """Every machine of ours on this host, of any owner."""
    names = sorted(path.parent.name for path in layout.VAR.glob("*/spec.json"))
    return [record for record in map(load, names) if record is not None]


def identity(spec: MachineSpec) -> str:
    """Changes with user data, image and network; not with sizes and mounts."""
    parts = (spec.user_data, spec.image, spec.user, spec.network.name, spec.network.cidr)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def choose_address(lan: Lan, taken: Iterable[str]) -> str:
    """The lowest free address from the eleventh upwards (the fourth in a /28).

    Raises:
        Failure: none is free.
    """
    used = set(taken) | {str(lan.gateway)}
    first = 11 if lan.network.prefixlen <= 27 else 4
    base, size = int(lan.network.network_address), lan.network.num_addresses
    for offset in range(first, size - 1):
        address = str(ipaddress.IPv4Address(base + offset))
        if address not in used:
            return address
    raise Failure(f"network {lan.name}: {lan.cidr} has no free address left: delete machines or widen it")


def plan(spec: MachineSpec, image: Path, others: Iterable[Record]) -> Record:
    """The record of a new machine on the root file system `image`, beside those that exist."""
    lan = Lan(spec.owner, spec.network.name, spec.network.cidr)
    return Record(
        name=layout.check_name(spec.name),
        owner=spec.owner,
        identity=identity(spec),
        image=str(image),
        user=spec.user,
        cpus=spec.cpus,
        memory_mib=spec.memory_mib,
        network=lan.name,
        cidr=lan.cidr,
        address=choose_address(lan, (other.address for other in others)),
        mounts=mounts_of(spec),
    )


def resize(known: Record, spec: MachineSpec) -> Record:
    """The record with what may change on the same disk."""
    return dataclasses.replace(known, cpus=spec.cpus, memory_mib=spec.memory_mib, mounts=mounts_of(spec))


def mounts_of(spec: MachineSpec) -> tuple[tuple[str, str], ...]:
    """The mounts as pairs of source and target."""
    return tuple((mount.source, mount.target) for mount in spec.mounts)

"""What there is to know of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops import gateways, machines


@dataclass(frozen=True)
class NotKnown:
    """Stands for something that could not be asked; says why."""

    not_known: str


@dataclass(frozen=True)
class Machine:
    """A machine; `state` is its driver's word, `existing` for a host that no driver of ours made."""

    name: str
    address: str
    state: str | NotKnown

    @property
    def well(self) -> bool:
        """Whether nothing is known against it."""
        return isinstance(self.state, NotKnown) or self.state in (machines.RUNNING, machines.EXISTING)


@dataclass(frozen=True)
class Node:
    """A node of the cluster; `problem` is why it is not Ready, None when it is."""

    name: str
    problem: str | None
    version: str

    @property
    def well(self) -> bool:
        """Whether it is Ready."""
        return self.problem is None


@dataclass(frozen=True)
class Istiod:
    """A revision of the control plane: its image's tag, its pods, and the tags that lead to it."""

    revision: str
    version: str
    ready: int
    wanted: int
    tags: Sequence[str]

    @property
    def well(self) -> bool:
        """Whether one that should serve does."""
        return self.ready > 0 or self.wanted == 0


@dataclass(frozen=True)
class Gateway:
    """A gateway's Service as it is now; `recorded` are the addresses that the stack and its VMs know."""

    name: str
    addresses: Sequence[str]
    ports: Mapping[str, int]
    recorded: Sequence[str]

    @property
    def well(self) -> bool:
        """Whether it is where the stack and its VMs look for it."""
        return bool(self.addresses) and not gateways.has_moved(self.recorded, self.addresses)


@dataclass(frozen=True)
class Workload:
    """A WorkloadGroup and the stack's VMs in it.

    Attributes:
        namespace: the group's.
        name: the group's name.
        registered: whether the cluster has the group.
        services: the Services of its namespace that its members belong to.
        healthy: how many members are healthy.
        members: how many there should be.
    """

    namespace: str
    name: str
    registered: bool
    services: Sequence[str]
    healthy: int
    members: int

    @property
    def well(self) -> bool:
        """Whether it is there and every member is healthy."""
        return self.registered and self.healthy == self.members


@dataclass(frozen=True)
class Member:
    """A VM in the mesh.

    Attributes:
        name: the machine's.
        workload: `<namespace>/<WorkloadGroup>`.
        entry: its WorkloadEntry's name.
        problem: why it is not a healthy member; None when it is one.
        certificate_ends: when its certificate ends; None when it has none.
        sync: for CDS, LDS, EDS and RDS whether its proxy has taken over what istiod sent: `SYNCED`, `STALE` or `NOT SENT`; empty when
            it is connected to no istiod.
    """

    name: str
    workload: str
    entry: str
    problem: str | NotKnown | None
    certificate_ends: datetime | NotKnown | None
    sync: Mapping[str, str] | NotKnown

    @property
    def well(self) -> bool:
        """Whether it is a healthy member. The rest explains why not, and changes by the minute."""
        return self.problem is None


@dataclass(frozen=True)
class Status:
    """The stack. A part is `NotKnown` when whoever knows it does not answer."""

    stack: str
    machines: Sequence[Machine]
    nodes: Sequence[Node] | NotKnown
    istiods: Sequence[Istiod] | NotKnown
    gateways: Sequence[Gateway] | NotKnown
    workloads: Sequence[Workload] | NotKnown
    members: Sequence[Member]

    @property
    def _parts(self) -> Sequence[Sequence[Any] | NotKnown]:
        return self.machines, self.nodes, self.istiods, self.gateways, self.workloads, self.members

    @property
    def healthy(self) -> bool:
        """Whether the cluster answers and nothing is wrong."""
        return all(not isinstance(part, NotKnown) and all(row.well for row in part) for part in self._parts)

    @property
    def not_known(self) -> list[str]:
        """Why something is not known, every reason once."""
        parts = [part for part in self._parts if isinstance(part, NotKnown)]
        rows = (row for part in self._parts if not isinstance(part, NotKnown) for row in part)
        places = (value for row in rows for value in vars(row).values() if isinstance(value, NotKnown))
        return list(dict.fromkeys(one.not_known for one in [*parts, *places]))

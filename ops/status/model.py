"""What there is to know of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops import machines, readings
from ops.finding import Finding

PASSING = frozenset(
    {
        "node-not-ready",
        "istiod-not-ready",
        "gateway-without-address",
        "gateway-moved",
        "member-not-connected",
        "member-unhealthy",
        "proxy-not-connected",
        "proxy-not-synced",
        "pod-not-ready",
        "pods-not-reached",
        "entry-of-nobody",
        "not-known",
    }
)
"""Kinds of findings that are true for seconds after a change that ends well."""


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
    """A node of the cluster.

    Attributes:
        name: the node's.
        problem: what is wrong with it, such as `is not Ready: …`; None when nothing is.
        version: of its k3s.
        wanted: the version it should have; empty where the cluster is someone else's.
        ours: whether it is one of the stack's machines; all are where the cluster is someone else's.
    """

    name: str
    problem: str | None
    version: str
    wanted: str = ""
    ours: bool = True

    @property
    def well(self) -> bool:
        """Whether it is Ready, and what it should be."""
        return self.problem is None and self.ours and self.wanted in ("", self.version)


@dataclass(frozen=True)
class Istiod:
    """A revision of the control plane: its image's tag, its pods, the tags that lead to it, and whether the settings ask for it."""

    revision: str
    version: str
    ready: int
    wanted: int
    tags: Sequence[str]
    ours: bool = True

    @property
    def well(self) -> bool:
        """Whether one that should serve does."""
        return self.ours and (self.ready > 0 or self.wanted == 0)


@dataclass(frozen=True)
class Gateway:
    """A gateway's Service as it is now; `recorded` are the addresses that the stack and its VMs know, `wanted` the settings' ports."""

    name: str
    addresses: Sequence[str]
    ports: Mapping[str, int]
    recorded: Sequence[str]
    wanted: Mapping[str, int]

    @property
    def moved(self) -> bool:
        """Whether it is elsewhere than the stack and its VMs look for it."""
        return readings.has_moved(self.recorded, self.addresses)

    @property
    def other_ports(self) -> list[str]:
        """Where its ports are not the settings', in words."""
        return [
            f"{name} should be {port} and is {self.ports.get(name, 'missing')}"
            for name, port in self.wanted.items()
            if self.ports.get(name) != port
        ]

    @property
    def well(self) -> bool:
        """Whether it is where the stack and its VMs look for it."""
        return bool(self.addresses) and not self.moved and not self.other_ports


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
class Proxy:
    """A proxy that is connected to an istiod.

    Attributes:
        revision: that istiod's.
        sync: for CDS, LDS, EDS and RDS whether the proxy has taken over what istiod sent: `SYNCED`, `STALE` or `NOT SENT`.
    """

    revision: str
    sync: Mapping[str, str]

    @property
    def stale(self) -> list[str]:
        """What it has not taken over."""
        return [name for name, state in self.sync.items() if state == "STALE"]

    @property
    def well(self) -> bool:
        """Whether it serves by what istiod has sent it."""
        return not self.stale and "SYNCED" in self.sync.values()


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
    """The stack. A part is `NotKnown` when whoever knows it does not answer; `findings` are about more than these parts."""

    stack: str
    machines: Sequence[Machine]
    nodes: Sequence[Node] | NotKnown
    istiods: Sequence[Istiod] | NotKnown
    gateways: Sequence[Gateway] | NotKnown
    workloads: Sequence[Workload] | NotKnown
    members: Sequence[Member]
    findings: Sequence[Finding] = ()

    @property
    def healthy(self) -> bool:
        """Whether everything could be looked at and nothing is wrong."""
        return not self.findings

    @property
    def may_pass(self) -> bool:
        """Whether some of what was found may be true for the moment only."""
        return any(finding.id in PASSING for finding in self.findings)

    def parts(self) -> dict[str, Sequence[Any] | NotKnown]:
        """Its tables."""
        return {
            "machines": self.machines, "nodes": self.nodes, "istiods": self.istiods, "gateways": self.gateways,
            "workloads": self.workloads, "members": self.members,
        }  # fmt: skip

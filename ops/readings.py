"""Readings: what the program once read of the world, and whether the world still says the same.

A reading is a command that only reads: the addresses of a gateway, the mesh's root certificate, its configuration. Pulumi runs it once,
and again only when what it was told changes. A node that came or went, a certificate authority that was replaced, a ConfigMap that was
edited change none of that; so `up` compares every reading with the world first, and has Pulumi take those anew that differ. Whatever
depends on them follows, every VM's files among it.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actions.kube import ApiCluster, Cluster, wait
from actions.mesh.addresses import prefer, reached_at
from actions.mesh.published import mesh_config, root_certificate
from actions.protocol import Deadline, Failure
from actions.registry import GATEWAY_ADDRESSES, MESH_CONFIG, ROOT_CERTIFICATE
from ops import state

STEADY_LOOKS = 3
"""How often in a row the world has to say the same other thing: ServiceLB's list shrinks for seconds while its pods restart. A list that
was not final after all costs no more than another reading, which waits until it is."""
LOOK_SECONDS = 1.0
WATCH_SECONDS = 20
ISTIOD_PORT_NAME = "tls-istiod"
"""Which port a gateway has that VMs reach istiod through."""


@dataclass(frozen=True)
class Reading(ABC):
    """One reading as the state has it; `urn` is that of its command."""

    urn: str

    @abstractmethod
    def now(self, cluster: Cluster) -> Any:
        """What a new reading would find, as far as it counts; None when it would have to wait for something."""

    @abstractmethod
    def differs(self, now: Any) -> bool:
        """Whether that is something else than what was read."""

    @abstractmethod
    def tell(self, now: Any) -> str:
        """The difference, for people."""


@dataclass(frozen=True)
class Gateway(Reading):
    """A gateway's Service.

    Attributes:
        namespace: the Service's.
        service: the Service's name.
        ports: port names to numbers.
        addresses: those that were read.
    """

    namespace: str
    service: str
    ports: Mapping[str, int]
    addresses: Sequence[str]

    def now(self, cluster: Cluster) -> list[str]:
        """Its addresses; none is an answer, too."""
        return reached_at(cluster.get(f"/api/v1/namespaces/{self.namespace}/services/{self.service}") or {})

    def differs(self, now: Any) -> bool:
        """Their order does not count."""
        return has_moved(self.addresses, now)

    def tell(self, now: Any) -> str:
        """From where it went, and to where."""
        before = f"gateway {self.service}: {', '.join(self.addresses)}"
        if not now:
            return f"{before} → no address; waiting for one"
        follows = "the VMs" if ISTIOD_PORT_NAME in self.ports else "the stack's outputs"
        return f"{before} → {', '.join(now)}; updating {follows}"


@dataclass(frozen=True)
class Root(Reading):
    """The mesh's root certificate."""

    namespace: str
    pem: str

    def now(self, cluster: Cluster) -> str | None:
        """PEM."""
        return root_certificate(cluster, self.namespace)

    def differs(self, now: Any) -> bool:
        """Whether it is another text."""
        return now != self.pem

    def tell(self, now: Any) -> str:
        """By digests: certificates are long."""
        return f"root certificate: {_short(self.pem)} → {_short(now)}; updating the VMs"


@dataclass(frozen=True)
class Mesh(Reading):
    """The mesh's configuration."""

    namespace: str
    revision: str
    config: Mapping[str, Any]

    def now(self, cluster: Cluster) -> Mapping[str, Any] | None:
        """As `actions.mesh.published` has it."""
        return mesh_config(cluster, self.namespace, self.revision)

    def differs(self, now: Any) -> bool:
        """Whether it says anything else."""
        return now != self.config

    def tell(self, now: Any) -> str:
        """Which parts of it."""
        after = now or {}
        parts = sorted(key for key in {*self.config, *after} if self.config.get(key) != after.get(key))
        return f"mesh configuration of {self.revision}: other {', '.join(parts)}; updating the VMs"


def gateways(deployment: state.Deployment) -> list[Gateway]:
    """The gateways whose addresses were read."""
    return [
        Gateway(urn, told["namespace"], told["service"], told["ports"], read["addresses"])
        for urn, told, read in _taken(deployment, GATEWAY_ADDRESSES)
    ]


def taken(deployment: state.Deployment) -> list[Reading]:
    """Every reading."""
    roots = [
        Root(urn, told["namespace"], read["root_certificate"])
        for urn, told, read in _taken(deployment, ROOT_CERTIFICATE)
    ]
    configs = [
        Mesh(urn, told["namespace"], told["revision"], read) for urn, told, read in _taken(deployment, MESH_CONFIG)
    ]
    return [*gateways(deployment), *roots, *configs]


def _taken(deployment: state.Deployment, action: state.AnyAction) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For each command that has ended its URN, what it was told and what it answered."""
    read = state.results(deployment, action)
    return [(urn, told, read[urn]) for urn, told in state.requests(deployment, action) if urn in read]


def has_moved(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether other addresses count as a move. Their order does not; to have none any more is one."""
    return set(before) != set(now)


def outdated(deployment: state.Deployment, sleep: Callable[[float], None] = time.sleep) -> list[str] | None:
    """The URNs of readings that have to be taken again; None when the cluster does not answer.

    Quick when there are none.

    Args:
        deployment: the stack's state.
        sleep: how to pass the time between two looks.
    """
    readings, kubeconfig = taken(deployment), state.kubeconfig(deployment)
    if not readings or not kubeconfig:
        return []
    try:
        cluster = ApiCluster(kubeconfig)
        if not _differing(cluster, readings):
            return []
        found = _watch(cluster, readings, sleep)
    except Failure as error:
        print(f"repair: what VMs are told cannot be compared with the cluster: {error}")
        return None
    for reading in readings:
        if reading.urn in found:
            print(f"repair: {reading.tell(found[reading.urn])}")
    return list(found)


def _differing(cluster: Cluster, readings: Sequence[Reading]) -> dict[str, Any]:
    """What the world says now instead, by URN."""
    now = {reading.urn: reading.now(cluster) for reading in readings}
    return {reading.urn: now[reading.urn] for reading in readings if reading.differs(now[reading.urn])}


def _watch(cluster: Cluster, readings: Sequence[Reading], sleep: Callable[[float], None]) -> dict[str, Any]:
    """The same once it stays; none when it does not."""
    found: dict[str, Any] = {}
    steady = 0

    def look() -> str | None:
        nonlocal found, steady
        before, found = found, _differing(cluster, readings)
        steady = steady + 1 if found == before else 1
        return None if not found or steady == STEADY_LOOKS else "it is changing"

    print("repair: the cluster says other things than before; seeing whether they stay")
    return {} if wait(look, Deadline(WATCH_SECONDS), sleep, LOOK_SECONDS) else found


def renewed(deployment: state.Deployment, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a VM read when it joined, with what the cluster says now in the place of what it said then.

    Args:
        deployment: the stack's state.
        document: `actions.workloads.join.JoinRequest`. What cannot be read now stays as it is.
    """
    member: dict[str, Any] = {**document["member"]}
    told = {**document, "member": member}
    namespace, revision = member.get("istiod_namespace", "istio-system"), member.get("revision", "")
    try:
        cluster = ApiCluster(state.kubeconfig(deployment) or "")
        ways = [gateway for gateway in gateways(deployment) if ISTIOD_PORT_NAME in gateway.ports]
        if addresses := [address for gateway in ways for address in gateway.now(cluster)]:
            member["gateway_addresses"] = prefer(addresses, member["gateway_addresses"])
        if pem := root_certificate(cluster, namespace):
            told["root_certificate"] = pem
        if mesh := mesh_config(cluster, namespace, revision):
            member |= {"trust_domain": mesh["trust_domain"], "mesh_id": mesh["mesh_id"]}
            member |= {"mesh_proxy_config": mesh["proxy_config"]}
    except Failure as error:
        print(f"going on with what was read before: {error}")
    return told


def _short(pem: str | None) -> str:
    return "SHA-256 " + hashlib.sha256(pem.encode()).hexdigest()[:12] if pem else "none"

"""Follows gateways to other addresses.

Pulumi reads a gateway's addresses once, and again only when what it was told then changes. A node that came or went has changed none of
that, but the addresses, and with them the way of every VM to istiod.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.command_line import Deadline
from components.kube import ApiCluster, Cluster, KubeError, wait
from components.mesh.addresses import reached_at
from ops import state

STEADY_LOOKS = 3
"""How often in a row other addresses have to be the same: ServiceLB's list shrinks for seconds while its pods restart. A list that was not
final after all costs no more than another reading, which waits until it is."""
LOOK_SECONDS = 1.0
WATCH_SECONDS = 20
ISTIOD_PORT_NAME = "tls-istiod"
"""Which port a gateway has that VMs reach istiod through."""


@dataclass(frozen=True)
class Gateway:
    """A gateway's Service as the state has it.

    Attributes:
        urn: of the command that read its addresses.
        namespace: the Service's.
        service: the Service's name.
        ports: port names to numbers.
        addresses: those that were read.
    """

    urn: str
    namespace: str
    service: str
    ports: Mapping[str, int]
    addresses: Sequence[str]

    @property
    def path(self) -> str:
        """The Service's API path."""
        return f"/api/v1/namespaces/{self.namespace}/services/{self.service}"


def recorded(deployment: state.Deployment) -> list[Gateway]:
    """The gateways whose addresses were read."""
    command = ("components.mesh", "gateway-addresses")
    read = state.answers(deployment, *command)
    return [
        Gateway(urn, document["namespace"], document["service"], document["ports"], read[urn]["addresses"])
        for urn, document in state.documents(deployment, *command)
        if urn in read
    ]


def has_moved(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether other addresses count as a move. Their order does not, and having none is no place to follow to."""
    return bool(now) and set(before) != set(now)


def moved(deployment: state.Deployment, sleep: Callable[[float], None] = time.sleep) -> list[str] | None:
    """The URNs of commands that have to read a gateway's addresses again; None when the cluster does not answer.

    Quick when there are none.

    Args:
        deployment: the stack's state.
        sleep: how to pass the time between two looks.
    """
    gateways, kubeconfig = recorded(deployment), state.kubeconfig(deployment)
    if not gateways or not kubeconfig:
        return []
    try:
        cluster = ApiCluster(kubeconfig)
        if not _elsewhere(cluster, gateways):
            return []
        found = _watch(cluster, gateways, sleep)
    except KubeError as error:
        print(f"repair: the gateways' addresses cannot be compared: {error}")
        return None
    for gateway in gateways:
        if gateway.urn in found:
            follows = "the VMs" if ISTIOD_PORT_NAME in gateway.ports else "the stack's outputs"
            now = ", ".join(found[gateway.urn])
            print(f"repair: gateway {gateway.service}: {', '.join(gateway.addresses)} → {now}; updating {follows}")
    return list(found)


def _elsewhere(cluster: Cluster, gateways: Sequence[Gateway]) -> dict[str, list[str]]:
    """The other addresses of gateways that have some, by URN."""
    now = {gateway.urn: reached_at(cluster.get(gateway.path) or {}) for gateway in gateways}
    return {gateway.urn: now[gateway.urn] for gateway in gateways if has_moved(gateway.addresses, now[gateway.urn])}


def _watch(cluster: Cluster, gateways: Sequence[Gateway], sleep: Callable[[float], None]) -> dict[str, list[str]]:
    """The same once they stay; none when they do not."""
    found: dict[str, list[str]] = {}
    steady = 0

    def look() -> str | None:
        nonlocal found, steady
        before, found = found, _elsewhere(cluster, gateways)
        steady = steady + 1 if found == before else 1
        return None if not found or steady == STEADY_LOOKS else "the addresses are changing"

    print("repair: gateways have other addresses than before; seeing whether they stay")
    return {} if wait(look, Deadline(WATCH_SECONDS), sleep, LOOK_SECONDS) else found

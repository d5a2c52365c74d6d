"""Reads the addresses a LoadBalancer Service is reached at, once they have stopped moving.

k3s's ServiceLB runs one `svclb` pod per node, which takes the Service's ports on that node, and lists the addresses of the nodes whose pod
is ready at the moment: the list grows for seconds, and its first element changes. A node that came back at another address is listed at
the old one, which may be another machine's by now, until k3s looks again. Elsewhere a cloud's load balancer gives one address or host
name, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from actions.kube import ApiObject, Cluster, is_ready, wait
from actions.protocol import Deadline, Document, Failure, Progress

STABLE_SECONDS = 20.0
"""How long a list that some node is missing from must stay the same: longer than the pods of two nodes start apart."""
_SERVICE_LABEL, _NAMESPACE_LABEL = "svccontroller.k3s.cattle.io/svcname", "svccontroller.k3s.cattle.io/svcnamespace"


class AddressesRequest(Document):
    """What `gateway-addresses` reads.

    Attributes:
        kubeconfig: a kubeconfig's text.
        namespace: the Service's namespace.
        service: the Service's name.
        ports: the ports it has to have, name to number.
        node_addresses: the nodes' addresses in the order to prefer.
        nodes: the names of all nodes that the cluster is to have: others are about to leave it, and nobody should be sent there. Empty
            where the cluster is someone else's.
        timeout_seconds: how long to wait.
    """

    kubeconfig: str = Field(repr=False)
    namespace: Annotated[str, Field(min_length=1)]
    service: Annotated[str, Field(min_length=1)]
    ports: Mapping[str, int]
    node_addresses: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    timeout_seconds: Annotated[float, Field(gt=0)] = 120


class GatewayAddresses(TypedDict):
    """What `gateway-addresses` prints: the addresses in the order to prefer, and the Service's ports by name."""

    addresses: list[str]
    ports: dict[str, int]


def gateway_addresses(
    request: AddressesRequest, cluster: Cluster, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> GatewayAddresses:
    """All addresses of the Service and its ports.

    Raises:
        Failure: the Service has other ports, or no address in time; the message names what holds its ports.
    """
    name = f"{request.namespace}/{request.service}"
    progress(f"waiting for the addresses of Service {name}")
    settling = Settling(request, cluster)
    reason = wait(settling.look, Deadline(request.timeout_seconds), sleep)
    if not settling.addresses:
        waited = settling.unchanged_seconds if settling.hopeless else request.timeout_seconds
        raise Failure(f"Service {name} has no address after {waited:.0f} s: {reason or settling.lacking}")
    if settling.lacking:
        progress(f"going on without some nodes: {settling.lacking}")
    addresses = [one for one in settling.addresses if one not in settling.leaving] or settling.addresses
    return {"addresses": prefer(addresses, request.node_addresses), "ports": dict(request.ports)}


class Settling:
    """Watches a Service's addresses until they are complete, or have not changed for a while."""

    def __init__(self, request: AddressesRequest, cluster: Cluster, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is for tests."""
        self._request = request
        self._cluster = cluster
        self._now = now
        self._since = now()
        self.addresses: list[str] = []
        self.leaving: set[str] = set()
        self.lacking: str | None = None
        self.hopeless = False

    @property
    def unchanged_seconds(self) -> float:
        """How long the addresses have been the same."""
        return self._now() - self._since

    def look(self) -> str | None:
        """Why the addresses are not final yet, or None, also when waiting has no hope.

        Raises:
            Failure: the Service does not have the ports.
        """
        request = self._request
        service = self._cluster.get(f"/api/v1/namespaces/{request.namespace}/services/{request.service}")
        if service is None:
            return "there is no such Service yet"
        _check_ports(request, service)
        listed = reached_at(service)
        selector = f"{_SERVICE_LABEL}={request.service},{_NAMESPACE_LABEL}={request.namespace}"
        sets = self._cluster.items("/apis/apps/v1/daemonsets", selector)
        pods = self._cluster.items("/api/v1/pods", selector) if sets else []
        nodes = self._serving_nodes(pods) if sets else {}
        leaving = [name for name in nodes if request.nodes and name not in request.nodes]
        self.leaving = {address for name in leaving for address in nodes[name]}
        known = {address for own in nodes.values() for address in own} if sets else set(listed)
        addresses = [address for address in listed if address in known]
        if addresses != self.addresses:
            self.addresses, self._since = addresses, self._now()
        if others := sorted(set(listed) - known):
            self.lacking = f"{', '.join(others)} in its list is the address of no node that serves it now"
            return self.lacking
        wanted = sum(item.get("status", {}).get("desiredNumberScheduled", 0) for item in sets)
        complete = len(nodes) >= wanted > 0 and all(set(own) & set(listed) for own in nodes.values())
        self.lacking = None if not sets or complete else self._lacking_nodes(sets, pods, len(listed), wanted)
        self.hopeless = bool(sets) and not wanted
        if not addresses and not self.hopeless:
            return (
                self.lacking or "nothing has given it an address; does the cluster have a load balancer for Services?"
            )
        settled = not self.lacking or self.unchanged_seconds >= STABLE_SECONDS
        return None if settled else self.lacking

    def _serving_nodes(self, pods: Sequence[ApiObject]) -> dict[str, list[str]]:
        """The addresses, as they are now, of each Ready node whose svclb pod is ready.

        As ServiceLB has it, only external ones once any of these nodes has some: `podIPs` in k3s's pkg/cloudprovider/servicelb.go.
        """
        on = {pod["spec"].get("nodeName") for pod in pods if is_ready(pod)}
        nodes = [
            node for node in self._cluster.items("/api/v1/nodes") if is_ready(node) and node["metadata"]["name"] in on
        ]
        external = {node["metadata"]["name"]: _addresses(node, "ExternalIP") for node in nodes}
        internal = {node["metadata"]["name"]: _addresses(node, "InternalIP") for node in nodes}
        return {name: found for name, found in external.items() if found} or internal

    def _lacking_nodes(self, sets: Sequence[ApiObject], pods: Sequence[ApiObject], listed: int, wanted: int) -> str:
        """Which nodes are still to come."""
        if not wanted:
            return f"ServiceLB has no node for it: no node has the label {_node_labels(sets)}"
        waiting = [pod for pod in pods if pod.get("status", {}).get("phase") != "Running"]
        if not waiting:
            return f"{listed} of {wanted} nodes serve it"
        names = ", ".join(pod["metadata"]["name"] for pod in waiting)
        return f"svclb pods are pending ({names}): {self._why_pending(waiting)}"

    def _why_pending(self, waiting: Sequence[ApiObject]) -> str:
        wanted = set(_host_ports(waiting[0]))
        own = {pod["metadata"]["name"] for pod in waiting}
        clashes = sorted(
            f"port {port} is taken by {_belongs_to(pod)}"
            for pod in self._cluster.items("/api/v1/pods")
            if pod["metadata"]["name"] not in own and not _is_svclb_of(pod, self._request)
            for port in wanted & set(_host_ports(pod))
        )
        if clashes:
            return "; ".join(dict.fromkeys(clashes)) + ". Give one of the gateways another port"
        conditions = waiting[0].get("status", {}).get("conditions", [])
        return next((c["message"] for c in conditions if c.get("message")), "no reason given")


def prefer(addresses: Sequence[str], order: Sequence[str]) -> list[str]:
    """The addresses with those in `order` first, in that order, and each once."""
    return [a for a in order if a in addresses] + sorted(a for a in set(addresses) if a not in order)


def _check_ports(request: AddressesRequest, service: ApiObject) -> None:
    found = {port.get("name", ""): port["port"] for port in service["spec"]["ports"]}
    wrong = [
        f"{n} should be {p} and is {found.get(n, 'missing')}" for n, p in request.ports.items() if found.get(n) != p
    ]
    if wrong:
        raise Failure(
            f"Service {request.namespace}/{request.service} has other ports: {', '.join(wrong)}; upgrade the gateway's chart"
        )


def reached_at(service: ApiObject) -> list[str]:
    """Where a LoadBalancer Service is reached now: IP addresses or host names."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return [entry.get("ip") or entry["hostname"] for entry in ingress]


def _addresses(node: ApiObject, kind: str) -> list[str]:
    return [one["address"] for one in node.get("status", {}).get("addresses", []) if one["type"] == kind]


def _node_labels(sets: Sequence[ApiObject]) -> str:
    """The labels of the nodes that ServiceLB may use: those with `…/enablelb` only, as soon as any node has that."""
    chosen: list[dict[str, str]] = [item["spec"]["template"]["spec"].get("nodeSelector") or {} for item in sets]
    return ", ".join(f"{key}={value}" for labels in chosen for key, value in labels.items()) or "it asks for"


def _host_ports(pod: ApiObject) -> Iterator[int]:
    for container in pod["spec"].get("containers", []):
        for port in container.get("ports", []):
            if "hostPort" in port:
                yield port["hostPort"]


def _is_svclb_of(pod: ApiObject, request: AddressesRequest) -> bool:
    labels = pod["metadata"].get("labels", {})
    return (labels.get(_NAMESPACE_LABEL), labels.get(_SERVICE_LABEL)) == (request.namespace, request.service)


def _belongs_to(pod: ApiObject) -> str:
    labels = pod["metadata"].get("labels", {})
    if _SERVICE_LABEL in labels:
        return f"Service {labels.get(_NAMESPACE_LABEL)}/{labels[_SERVICE_LABEL]}"
    return f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"

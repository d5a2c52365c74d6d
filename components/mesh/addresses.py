"""Reads the addresses a LoadBalancer Service is reached at, once they have stopped moving.

k3s's ServiceLB runs one `svclb` pod per node, which takes the Service's ports on that node, and lists the addresses of the nodes whose pod
is ready at the moment: the list grows for seconds, and its first element changes. Elsewhere a cloud's load balancer gives one address or
host name, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from components.command_line import Deadline, Document, Failure, Progress
from components.kube import ApiObject, Cluster, wait

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
        timeout_seconds: how long to wait.
    """

    kubeconfig: str = Field(repr=False)
    namespace: Annotated[str, Field(min_length=1)]
    service: Annotated[str, Field(min_length=1)]
    ports: Mapping[str, int]
    node_addresses: tuple[str, ...] = ()
    timeout_seconds: Annotated[float, Field(gt=0)] = 120


def gateway_addresses(
    request: AddressesRequest, cluster: Cluster, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """All addresses of the Service and its ports: `{"addresses": ["10.89.0.11", …], "ports": {"tls-istiod": 15013, …}}`.

    Raises:
        Failure: the Service has other ports, or no address in time; the message names what holds its ports.
    """
    name = f"{request.namespace}/{request.service}"
    progress(f"waiting for the addresses of Service {name}")
    settling = Settling(request, cluster)
    reason = wait(settling.look, Deadline(request.timeout_seconds), sleep)
    if reason and not settling.addresses:
        raise Failure(f"Service {name} has no address after {request.timeout_seconds:.0f} s: {reason}")
    if settling.lacking:
        progress(f"going on without some nodes: {settling.lacking}")
    return {"addresses": prefer(settling.addresses, request.node_addresses), "ports": dict(request.ports)}


class Settling:
    """Watches a Service's addresses until they are complete, or have not changed for a while."""

    def __init__(self, request: AddressesRequest, cluster: Cluster, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is for tests."""
        self._request = request
        self._cluster = cluster
        self._now = now
        self._since = now()
        self.addresses: list[str] = []
        self.lacking: str | None = None

    def look(self) -> str | None:
        """Why the addresses are not final yet, or None.

        Raises:
            Failure: the Service does not have the ports.
        """
        request = self._request
        service = self._cluster.get(f"/api/v1/namespaces/{request.namespace}/services/{request.service}")
        if service is None:
            return "there is no such Service yet"
        _check_ports(request, service)
        addresses = reached_at(service)
        if addresses != self.addresses:
            self.addresses, self._since = addresses, self._now()
        self.lacking = self._lacking_nodes(len(addresses))
        if not addresses:
            return (
                self.lacking or "nothing has given it an address; does the cluster have a load balancer for Services?"
            )
        settled = not self.lacking or self._now() - self._since >= STABLE_SECONDS
        return None if settled else self.lacking

    def _lacking_nodes(self, listed: int) -> str | None:
        """Which nodes are still to come, where ServiceLB does it; None when all are listed or it is not ServiceLB's."""
        selector = f"{_SERVICE_LABEL}={self._request.service},{_NAMESPACE_LABEL}={self._request.namespace}"
        sets = self._cluster.items("/apis/apps/v1/daemonsets", selector)
        wanted = sum(item.get("status", {}).get("desiredNumberScheduled", 0) for item in sets)
        if not sets or 0 < wanted <= listed:
            return None
        pods = self._cluster.items("/api/v1/pods", selector)
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

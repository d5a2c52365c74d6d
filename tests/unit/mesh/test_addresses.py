"""When a gateway's addresses count as final, and what is said when they do not come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from actions import protocol
from actions.kube import ApiObject
from actions.mesh import addresses as module
from actions.mesh.addresses import AddressesRequest, gateway_addresses, prefer
from actions.protocol import Failure, parse

SERVICE = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
LABELS = {
    "svccontroller.k3s.cattle.io/svcname": "istio-eastwestgateway",
    "svccontroller.k3s.cattle.io/svcnamespace": "istio-system",
}
SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())


def service(*addresses: str, istiod_port: int = 15013) -> ApiObject:
    ingress = [{"ip": a} if a[0].isdigit() else {"hostname": a} for a in addresses]
    ports = [{"name": "tls-istiod", "port": istiod_port}, {"name": "tls", "port": 15443}]
    return {"spec": {"ports": ports}, "status": {"loadBalancer": {"ingress": ingress}}}


def pod(name: str, labels: dict[str, str], *ports: int, phase: str = "Running", message: str = "") -> ApiObject:
    containers = [{"ports": [{"hostPort": port}]} for port in ports]
    status = {"phase": phase, "conditions": [{"type": "PodScheduled", "message": message}]}
    return {
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {"containers": containers},
        "status": status,
    }


READY = {"type": "Ready", "status": "True"}


def node(name: str, address: str, external: str = "", ready: str = "True") -> ApiObject:
    addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
    addresses += [{"type": "ExternalIP", "address": external}] if external else []
    return {"metadata": {"name": name}, "status": {"addresses": addresses, "conditions": [{**READY, "status": ready}]}}


class FakeCluster:
    """ServiceLB wants to serve on every one of `nodes`; without any it is not there. `serving` are those whose svclb pod is ready."""

    def __init__(self) -> None:
        self.service: ApiObject | None = service()
        self.nodes: list[ApiObject] = []
        self.serving: list[str] = []
        self.sets: list[ApiObject] = []
        self.pods: list[ApiObject] = []

    def serve(self, *nodes: ApiObject) -> None:
        self.nodes, self.serving = list(nodes), [node["metadata"]["name"] for node in nodes]

    def svclb(self) -> list[ApiObject]:
        status = {"phase": "Running", "conditions": [READY]}
        named = [
            ({"name": f"svclb-{name}", "namespace": "kube-system", "labels": LABELS}, name) for name in self.serving
        ]
        return [{"metadata": metadata, "spec": {"nodeName": name}, "status": status} for metadata, name in named]

    def get(self, path: str) -> ApiObject | None:
        assert path == SERVICE
        return self.service

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        if path == "/apis/apps/v1/daemonsets":
            assert selector == SELECTOR
            return [{"status": {"desiredNumberScheduled": len(self.nodes)}}] if self.nodes else self.sets
        if path == "/api/v1/nodes":
            return self.nodes
        assert path == "/api/v1/pods"
        return [
            p for p in [*self.svclb(), *self.pods] if not selector or LABELS.items() <= p["metadata"]["labels"].items()
        ]

    create = delete = run = get  # type: ignore[assignment]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Callable[[], None]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)
        for due in sorted(due for due in self.at if due <= self.now):
            self.at.pop(due)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(module.Settling.__init__, "__defaults__", (lambda: made.now,))
    yield made


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def read(cluster: FakeCluster, clock: Clock, lines: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    document = {
        "kubeconfig": "…", "namespace": "istio-system", "service": "istio-eastwestgateway",
        "ports": {"tls-istiod": 15013, "tls": 15443}, "node_addresses": ["10.89.0.12", "10.89.0.11"], **changes,
    }  # fmt: skip
    progress = lines.append if lines is not None else lambda _: None
    return gateway_addresses(parse(AddressesRequest, json.dumps(document)), cluster, progress, clock.sleep)


def test_the_list_is_complete_when_every_node_is_in_it(cluster: FakeCluster, clock: Clock) -> None:
    cluster.serve(node("a", "10.89.0.11"), node("b", "10.89.0.12"))
    clock.at = {
        1.0: lambda: setattr(cluster, "service", service("10.89.0.11")),
        3.0: lambda: setattr(cluster, "service", service("10.89.0.11", "10.89.0.12")),
    }
    assert read(cluster, clock) == {
        "addresses": ["10.89.0.12", "10.89.0.11"],
        "ports": {"tls-istiod": 15013, "tls": 15443},
    }
    assert 3.0 <= clock.now < 4.0


def test_a_list_that_stays_incomplete_is_taken_with_a_word(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = service("10.89.0.11")
    cluster.serve(node("a", "10.89.0.11"), node("b", "10.89.0.12"))
    cluster.serving = ["a"]
    cluster.pods = [pod("svclb-b", LABELS, 15013, phase="Pending", message="0/2 nodes are available")]
    lines: list[str] = []
    assert read(cluster, clock, lines)["addresses"] == ["10.89.0.11"]
    assert module.STABLE_SECONDS <= clock.now < module.STABLE_SECONDS + 2
    assert lines[-1] == "going on without some nodes: svclb pods are pending (svclb-b): 0/2 nodes are available"


def test_an_address_that_a_node_had_before_is_not_final(cluster: FakeCluster, clock: Clock) -> None:
    """The server came back at .22: as many addresses as nodes are listed, and one is another machine's by now."""
    cluster.service = service("10.89.0.11", "10.89.0.12")
    cluster.serve(node("a", "10.89.0.22"), node("b", "10.89.0.12"))
    clock.at = {40.0: lambda: setattr(cluster, "service", service("10.89.0.22", "10.89.0.12"))}
    assert read(cluster, clock, node_addresses=["10.89.0.22"])["addresses"] == ["10.89.0.22", "10.89.0.12"]
    assert clock.now >= 40.0


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (["a"], ["10.89.0.11"]),
        (["a", "b"], ["10.89.0.12", "10.89.0.11"]),
        ([], ["10.89.0.12", "10.89.0.11"]),
        (["c"], ["10.89.0.12", "10.89.0.11"]),
    ],
    ids=["b leaves", "nobody leaves", "nobody knows", "better one that leaves than none"],
)
def test_nobody_is_sent_to_a_node_that_is_about_to_leave(
    cluster: FakeCluster, clock: Clock, nodes: list[str], found: list[str]
) -> None:
    cluster.service = service("10.89.0.11", "10.89.0.12")
    cluster.serve(node("a", "10.89.0.11"), node("b", "10.89.0.12"))
    assert read(cluster, clock, nodes=nodes)["addresses"] == found
    assert clock.now < 1


def test_an_address_that_stays_without_a_node_is_left_out_with_a_word(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = service("10.89.0.11", "10.89.0.12")
    cluster.serve(node("a", "10.89.0.22"), node("b", "10.89.0.12"))
    lines: list[str] = []
    assert read(cluster, clock, lines)["addresses"] == ["10.89.0.12"]
    assert "10.89.0.11 in its list is the address of no node that serves it now" in lines[-1]
    cluster.service = service("10.89.0.11")
    with pytest.raises(Failure, match=r"has no address .*10\.89\.0\.11 in its list"):
        read(cluster, clock)


@pytest.mark.parametrize("gone", [node("b", "10.89.0.12", ready="Unknown"), node("b", "10.89.0.12")])
def test_a_node_that_does_not_serve_any_more_is_not_waited_for_long(
    cluster: FakeCluster, clock: Clock, gone: ApiObject
) -> None:
    cluster.service = service("10.89.0.11", "10.89.0.12")
    cluster.serve(node("a", "10.89.0.11"), gone)
    cluster.serving = ["a"]
    clock.at = {5.0: lambda: setattr(cluster, "service", service("10.89.0.11"))}
    assert read(cluster, clock)["addresses"] == ["10.89.0.11"]
    assert clock.now < 5 + module.STABLE_SECONDS + 2


def test_external_addresses_are_the_only_ones_where_there_are_any(cluster: FakeCluster, clock: Clock) -> None:
    cluster.serve(node("a", "10.89.0.11", "192.0.2.11"), node("b", "10.89.0.12", "192.0.2.12"))
    cluster.service = service("192.0.2.11", "192.0.2.12")
    assert read(cluster, clock)["addresses"] == ["192.0.2.11", "192.0.2.12"]
    assert clock.now == 0.0


def test_a_clouds_host_name_is_taken_at_once(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = service("lb.example.org")
    assert read(cluster, clock)["addresses"] == ["lb.example.org"]
    assert clock.now == 0.0


def test_a_clash_of_ports_is_named(cluster: FakeCluster, clock: Clock) -> None:
    cluster.nodes = [node("a", "10.89.0.11")]
    other = {**LABELS, "svccontroller.k3s.cattle.io/svcname": "istio-ingressgateway"}
    cluster.pods = [pod("svclb-e", LABELS, 15021, 15443, phase="Pending"), pod("svclb-i", other, 15021, 80)]
    with pytest.raises(Failure) as failure:
        read(cluster, clock)
    assert "Service istio-system/istio-eastwestgateway has no address after 120 s" in str(failure.value)
    assert "port 15021 is taken by Service istio-system/istio-ingressgateway" in str(failure.value)


def test_a_gateway_that_no_node_may_serve_is_not_waited_for_long(cluster: FakeCluster, clock: Clock) -> None:
    """As after the label that ServiceLB follows was taken away from the last node."""
    cluster.service = service()
    selector = {"svccontroller.k3s.cattle.io/enablelb": "true"}
    cluster.sets = [{"spec": {"template": {"spec": {"nodeSelector": selector}}}, "status": {}}]
    with pytest.raises(Failure) as failure:
        read(cluster, clock)
    assert "no node has the label svccontroller.k3s.cattle.io/enablelb=true" in str(failure.value)
    assert "has no address after 20 s" in str(failure.value)
    assert module.STABLE_SECONDS <= clock.now < module.STABLE_SECONDS + 2


def test_a_node_that_may_serve_at_last_ends_the_waiting(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = service()
    cluster.sets = [{"spec": {"template": {"spec": {}}}, "status": {"desiredNumberScheduled": 0}}]

    def comes() -> None:
        cluster.serve(node("a", "10.89.0.11"))
        cluster.service = service("10.89.0.11")

    clock.at = {10.0: comes}
    assert read(cluster, clock)["addresses"] == ["10.89.0.11"]
    assert 10.0 <= clock.now < 12.0


def test_no_load_balancer_is_said(cluster: FakeCluster, clock: Clock) -> None:
    with pytest.raises(Failure, match="does the cluster have a load balancer"):
        read(cluster, clock)


def test_a_service_that_is_not_there_is_said(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = None
    with pytest.raises(Failure, match="there is no such Service yet"):
        read(cluster, clock)


def test_other_ports_are_refused_at_once(cluster: FakeCluster, clock: Clock) -> None:
    cluster.service = service("10.89.0.11", istiod_port=15012)
    with pytest.raises(Failure, match="tls-istiod should be 15013 and is 15012"):
        read(cluster, clock)
    assert clock.now == 0.0


def test_preference_keeps_every_address_once() -> None:
    assert prefer(["c", "a", "b"], ["b", "x"]) == ["b", "a", "c"]

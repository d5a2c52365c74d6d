from __future__ import annotations

from typing import Any

import pytest

from lab.plugins.kubernetes.cluster import Cluster, Object
from lab.plugins.kubernetes.readiness import troubles, waiting_for


class FakeCluster(Cluster):
    """Answers lists from a table of paths."""

    def __init__(self, **items: list[Object]) -> None:
        super().__init__()
        self._items = items

    def get(self, path: str, **query: str) -> Object:
        return {"items": self._items.get(path.rsplit("/", 1)[-1], [])}


def deployment(status: Object, generation: int = 2) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "n", "generation": generation},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        ({}, "not yet seen by its controller"),
        ({"observedGeneration": 1, "updatedReplicas": 2, "availableReplicas": 2}, "not yet seen by its controller"),
        (
            {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
            "2/2 available, 1 up to date",
        ),
        (
            {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2},
            "2/2 available, 2 up to date",
        ),
        (
            {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1},
            "1/2 available, 2 up to date",
        ),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, None),
    ],
)
def test_deployment(status: Object, waiting: str | None) -> None:
    assert waiting_for(FakeCluster(), deployment(status)) == waiting


def service(status: Object | None = None, **spec: Any) -> Object:
    metadata = {"name": "s", "namespace": "n"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": status or {}}


def test_service() -> None:
    ready = FakeCluster(endpointslices=[{"endpoints": [{"conditions": {"ready": True}}]}])
    unready = FakeCluster(endpointslices=[{"endpoints": [{"conditions": {"ready": False}}]}, {"endpoints": None}])
    address = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert "allocated" in str(waiting_for(ready, service(type="LoadBalancer", selector={"a": "b"})))
    assert "ready pod" in str(waiting_for(unready, service(address, type="LoadBalancer", selector={"a": "b"})))
    assert waiting_for(ready, service(address, type="LoadBalancer", selector={"a": "b"})) is None
    assert waiting_for(unready, service()) is None
    assert waiting_for(unready, service(selector={"a": "b"}, clusterIP="None")) is None
    assert waiting_for(unready, service(selector={"a": "b"}, type="ExternalName")) is None


def test_kinds_without_a_test_are_ready() -> None:
    assert waiting_for(FakeCluster(), {"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {}}) is None


def test_troubles_of_pods() -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    container = {"name": "web", "state": {"waiting": waiting}, "lastState": {"terminated": {"exitCode": 2}}}
    fine = {"name": "side", "state": {"waiting": {"reason": "ContainerCreating"}}}
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    pods = [
        {"metadata": {"name": "a"}, "status": {"containerStatuses": [container, fine]}},
        {"metadata": {"name": "b"}, "status": {"conditions": [unscheduled]}},
    ]
    assert troubles(FakeCluster(pods=pods), deployment({})) == [
        "pod a, container web: CrashLoopBackOff: back-off 10s; it last ended with exit code 2",
        "pod b is not scheduled: 0/1 nodes are available",
    ]

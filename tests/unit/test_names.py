"""One resource for each object of Kubernetes, with one URN whatever the settings say of who needs it, and no URN for two."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pulumi
import pytest

from tests.unit.test_components import run_program
from tests.unit.test_settings import LAB, put

Made = list[tuple[str, tuple[str, str, str]]]
"""URNs, each with its object: type, namespace, name."""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Made:
    """What the program registers as an object, in its order."""
    found: Made = []
    monitor = pulumi.runtime.mocks.MockMonitor
    register = monitor.RegisterResource

    def listening(self: Any, request: Any) -> Any:
        answer = register(self, request)
        if "metadata" in request.object:
            metadata = dict(request.object["metadata"])
            place = metadata.get("namespace", "")
            found.append(
                (self.make_urn(request.parent, request.type, request.name), (request.type, place, metadata["name"]))
            )
        return answer

    monkeypatch.setattr(monitor, "RegisterResource", listening)
    return found


def workload(namespace: str, name: str, vm: str, **more: Any) -> dict[str, Any]:
    common = {"ports": [{"name": "http", "port": 8000}], "probe": {"port": 8000}, "serviceAccount": "robot"}
    vms = [{"name": vm, "network": "vm"}]
    return {**common, "application": "none", "name": name, "namespace": namespace, "vms": vms, **more}


def with_workloads(*workloads: dict[str, Any], tables: dict[str, Any] = LAB) -> dict[str, Any]:
    return {**tables, "workloads": [*LAB["workloads"], *workloads]}


def ambiguous() -> dict[str, Any]:
    pairs = (("a-b", "c"), ("a", "b-c"))
    policies = [{"name": name, "namespace": place, "app": name, "allow": ["sample/curl"]} for place, name in pairs]
    divided = [{"service": name, "namespace": place, "versions": ["v1"]} for place, name in pairs]
    workloads = [workload(place, name, f"vm-{name}", version="v1") for place, name in pairs]
    tables = put(with_workloads(*workloads), "policies.authorization", [*LAB["policies"]["authorization"], *policies])
    return {**tables, "traffic": [*LAB["traffic"], *divided]}


LOOSE: dict[str, Any] = LAB | {"policies": {}, "traffic": []}
ONE, TWO = workload("team", "one", "vm-8", app="web"), workload("team", "two", "vm-9", app="web")
ELSEWHERE = put(
    put(LOOSE, "samples.namespace", "sample-guarded"), "mesh.exposedServices", ["sample-guarded/helloworld"]
)
VARIANTS = {
    "the lab": LAB,
    "a workload renamed": put(put(LAB, "workloads.0.app", "external-app"), "workloads.0.name", "renamed"),
    "a workload with a client's account": put(LOOSE, "workloads.1.serviceAccount", "curl"),
    "without samples": put(put(LOOSE, "samples.enabled", False), "mesh.exposedServices", []),
    "two workloads": with_workloads(ONE, TWO),
    "two workloads the other way round": with_workloads(TWO, ONE),
    "the first of them gone": with_workloads(TWO),
    "the samples in what was their guarded namespace": ELSEWHERE,
    "traffic's Service made by a workload": with_workloads(
        workload("sample", "helloworld-shift", "vm-8"), tables={**LAB, "traffic": LAB["traffic"][1:]}
    ),
    "logs of namespaces": put(LAB, "telemetry", {"accessLogs": "namespaces", "namespaces": ["sample", "vmns"]}),
    "names that differ by where a dash is": ambiguous(),
}
"""What somebody may make of the lab's settings, one after the other."""
SHARED = {
    ("kubernetes:core/v1:Service", "team", "web"): ("two workloads", "two workloads the other way round", "the first"),
    ("kubernetes:core/v1:ServiceAccount", "team", "robot"): ("two workloads", "the first"),
    ("kubernetes:core/v1:Service", "sample", "helloworld"): ("the lab", "without samples", "a workload"),
    ("kubernetes:core/v1:Service", "vmns", "external-app"): ("the lab", "a workload renamed", "without samples"),
    ("kubernetes:core/v1:ServiceAccount", "vmns", "external-app"): ("the lab", "a workload renamed"),
    ("kubernetes:core/v1:ServiceAccount", "sample", "curl"): ("the lab", "a workload with a client's account"),
}
"""Objects, and the beginnings of what does not make them go."""


def test_an_object_has_one_urn_and_a_urn_one_object_whatever_the_settings_are(registered: Made) -> None:
    known: dict[str, tuple[str, str, str]] = {}
    urns: dict[tuple[str, str, str], str] = {}
    for what, tables in VARIANTS.items():
        registered.clear()
        run_program(tables)
        for column in zip(*registered, strict=True):
            assert [twice for twice, times in Counter(column).items() if times > 1] == [], what
        for urn, made in registered:
            assert known.setdefault(urn, made) == made, what
            assert urns.setdefault(made, urn) == urn, what
        for shared, wanted in SHARED.items():
            assert not what.startswith(wanted) or shared in {made for _, made in registered}, what

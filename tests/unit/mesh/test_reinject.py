"""What is restarted so that every pod gets its sidecar, and when that is given up."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from actions import protocol
from actions.kube import ApiObject
from actions.mesh.injection import Owner
from actions.mesh.reinject import RESTARTED_AT, ReinjectRequest, reinject, still_rolling
from actions.protocol import Failure, parse
from tests.unit.mesh.test_injection import pod

WEB = Owner("Deployment", "sample", "web")


class FakeCluster:
    """Workloads whose controllers take two looks to replace the pods of a changed template."""

    def __init__(self, revision: str = "new") -> None:
        self.labels: dict[str, Any] = {"istio.io/rev": revision}
        self.injects: str | None = revision
        self.workloads: dict[str, dict[str, Any]] = {}
        self.pods: list[ApiObject] = []
        self.patched: list[str] = []

    def has(self, owner: Owner, *revisions: str | None, replicas: int = 1, **spec: Any) -> None:
        """A workload, and its pods as they are."""
        status = {
            "observedGeneration": 1,
            "updatedReplicas": replicas,
            "availableReplicas": replicas,
            "replicas": replicas,
        }
        spec = {"replicas": replicas, "template": {"metadata": {}}, **spec}
        self.workloads[owner.path] = {"metadata": {"generation": 1}, "spec": spec, "status": status, "owner": owner}
        self.pods += [pod(f"{owner.name}-{i}", rev, (owner.kind, owner.name)) for i, rev in enumerate(revisions)]

    def get(self, path: str) -> ApiObject | None:
        if path == "/api/v1/namespaces/sample":
            return {"metadata": {"labels": self.labels}}
        return deepcopy(self.workloads.get(path))

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        assert path == "/api/v1/namespaces/sample/pods"
        return list(self.pods)

    def patch(self, path: str, body: ApiObject) -> ApiObject:
        workload = self.workloads[path]
        assert body["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT]
        workload["metadata"]["generation"] += 1
        self.patched.append(workload["owner"].name)
        return workload

    def controllers(self, _: float) -> None:
        """What happens between two looks."""
        for workload in self.workloads.values():
            owner, status = workload["owner"], workload["status"]
            if status["observedGeneration"] < workload["metadata"]["generation"]:
                workload["status"] = {
                    **status,
                    "observedGeneration": workload["metadata"]["generation"],
                    "updatedReplicas": 0,
                }
            elif not status["updatedReplicas"]:
                status["updatedReplicas"] = status["replicas"]
                self.pods = [p for p in self.pods if not p["metadata"]["name"].startswith(f"{owner.name}-")]
                self.pods.append(pod(f"{owner.name}-again", self.injects, (owner.kind, owner.name)))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    passed = [0.0]
    monkeypatch.setattr(protocol, "time", SimpleNamespace(monotonic=lambda: passed[0]))
    made = FakeCluster()
    act = made.controllers

    def controllers(seconds: float) -> None:
        passed[0] += max(seconds, 0.001)
        act(seconds)

    made.controllers = controllers  # type: ignore[method-assign]
    return made


def run(cluster: Any, told: Callable[[str], None] = lambda _: None) -> list[str]:
    document = {"kubeconfig": "…", "namespaces": ["sample"], "revision": "new", "timeout_seconds": 30}
    request = parse(ReinjectRequest, json.dumps(document))
    return reinject(request, cluster, told, cluster.controllers)["restarted"]


def test_what_is_right_is_left_alone_after_one_look(cluster: FakeCluster) -> None:
    cluster.has(WEB, "new", "new")
    assert run(cluster) == []
    assert cluster.patched == []


def test_each_owner_is_restarted_once_and_waited_for(cluster: FakeCluster) -> None:
    cluster.has(WEB, "old", None, replicas=2)
    cluster.has(Owner("StatefulSet", "sample", "db"), "old")
    cluster.has(Owner("Deployment", "sample", "fine"), "new")
    lines: list[str] = []
    assert run(cluster, lines.append) == ["Deployment sample/web", "StatefulSet sample/db"]
    assert cluster.patched == ["web", "db"]
    assert lines == ["restarting Deployment sample/web", "restarting StatefulSet sample/db"]
    assert [p["metadata"]["name"] for p in cluster.pods] == ["fine-0", "web-again", "db-again"]


@pytest.mark.parametrize(
    ("owner", "spec"),
    [
        (None, {}),
        (Owner("Job", "sample", "once"), {}),
        (Owner("DaemonSet", "sample", "log"), {"updateStrategy": {"type": "OnDelete"}}),
        (Owner("Deployment", "sample", "held"), {"paused": True}),
    ],
)
def test_pods_that_nothing_makes_anew_are_named_once_the_others_are_right(
    cluster: FakeCluster, owner: Owner | None, spec: dict[str, Any]
) -> None:
    cluster.has(WEB, "old")
    cluster.pods.append(pod("alone", "old", (owner.kind, owner.name) if owner else None))
    if owner and owner.can_restart:
        cluster.has(owner, **spec)
    with pytest.raises(
        Failure, match=r"^pod sample/alone has a sidecar of revision old .*cannot be restarted: delete it"
    ):
        run(cluster)
    assert cluster.patched == ["web"]


def test_a_namespace_of_another_revision_is_not_restarted_for_nothing(cluster: FakeCluster) -> None:
    cluster.has(WEB, None)
    cluster.labels = {}
    with pytest.raises(Failure, match=r"kubectl label --overwrite namespace sample istio.io/rev=new"):
        run(cluster)
    assert cluster.patched == []


def test_a_restart_that_does_not_help_is_not_repeated(cluster: FakeCluster) -> None:
    cluster.has(WEB, None)
    cluster.injects = None
    with pytest.raises(
        Failure, match=r"web-again has no sidecar .*though restarted: does an istiod of revision new serve"
    ):
        run(cluster)
    assert cluster.patched == ["web"]


def test_a_rollout_that_does_not_end_is_a_failure_in_time(cluster: FakeCluster) -> None:
    cluster.has(WEB, "old")
    act = cluster.controllers
    cluster.controllers = lambda seconds: (
        act(seconds),
        cluster.workloads[WEB.path]["status"].update(availableReplicas=0),
    )[0]  # type: ignore[method-assign]
    with pytest.raises(Failure, match="Deployment sample/web: 1 of 1 pods are new, 0 are available, after 30 s"):
        run(cluster)


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("Deployment", {"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}, None),
        ("Deployment", {"updatedReplicas": 2, "availableReplicas": 2, "replicas": 3}, "2 of 2 pods are new, 2"),
        ("Deployment", {"updatedReplicas": 1, "availableReplicas": 2, "replicas": 2}, "1 of 2 pods are new, 2"),
        ("Deployment", {"updatedReplicas": 2, "availableReplicas": 1, "replicas": 2}, "2 of 2 pods are new, 1"),
        ("Deployment", {"observedGeneration": 1}, "not seen"),
        ("StatefulSet", {"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}, None),
        ("DaemonSet", {"updatedNumberScheduled": 3, "desiredNumberScheduled": 3, "numberAvailable": 3}, None),
        ("DaemonSet", {"updatedNumberScheduled": 2, "desiredNumberScheduled": 3, "numberAvailable": 3}, "2 of 3"),
    ],
)
def test_a_rollout_is_over_when_every_pod_is_new_and_available(
    kind: str, status: dict[str, int], reason: str | None
) -> None:
    found = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 2, **status}}
    said = still_rolling(Owner(kind, "n", "x"), found)
    assert said is None if reason is None else reason in (said or "")


def test_what_is_gone_is_not_waited_for() -> None:
    assert still_rolling(WEB, None) is None

"""Which pods count as lacking their sidecar, and what makes them anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from actions.kube import ApiObject
from actions.mesh.injection import Owner, Uninjected, uninjected

REVISION = "1-32"


def pod(
    name: str,
    revision: str | None = None,
    owner: tuple[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    phase: str = "Running",
    **metadata: Any,
) -> dict[str, Any]:
    status = {"sidecar.istio.io/status": json.dumps({"containers": ["istio-proxy"], "revision": revision})}
    return {
        "metadata": {
            "name": name,
            "namespace": "sample",
            "labels": labels,
            "annotations": {**(annotations or {}), **(status if revision is not None else {})},
            "ownerReferences": owned_by(*owner) if owner else None,
            **metadata,
        },
        "spec": {"containers": []},
        "status": {"phase": phase},
    }


def owned_by(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": "Other", "name": "no-controller"}, {"kind": kind, "name": name, "controller": True}]


class FakeCluster:
    def __init__(self, *pods: ApiObject, **replica_sets: ApiObject) -> None:
        self.pods, self.replica_sets = pods, replica_sets
        self.asked: list[str] = []

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        return list(self.pods) if path == "/api/v1/namespaces/sample/pods" else []

    def get(self, path: str) -> ApiObject | None:
        self.asked.append(path)
        folder, _, name = path.rpartition("/")
        assert folder == "/apis/apps/v1/namespaces/sample/replicasets"
        return self.replica_sets.get(name)

    create = replace = delete = run = logs = get  # type: ignore[assignment]


def found(*pods: ApiObject, **replica_sets: ApiObject) -> list[Uninjected]:
    cluster: Any = FakeCluster(*pods, **replica_sets)
    return uninjected(cluster, ["sample", "empty", "sample"], REVISION)


@pytest.mark.parametrize(
    "fine",
    [
        pod("right", REVISION),
        pod("opted-out", labels={"sidecar.istio.io/inject": "false"}),
        pod("opted-out-the-old-way", annotations={"sidecar.istio.io/inject": "false"}),
        pod("going", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("done", phase="Succeeded"),
        pod("evicted", phase="Failed"),
        pod("on-the-host") | {"spec": {"hostNetwork": True}},
    ],
)
def test_pods_that_are_as_they_should_be_are_not_named(fine: ApiObject) -> None:
    assert found(fine) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (pod("p"), "has no sidecar"),
        (pod("p", phase="Pending"), "has no sidecar"),
        (pod("p", annotations={"sidecar.istio.io/status": "injected"}), "has no sidecar"),
        (pod("p", "1-30"), "has a sidecar of revision 1-30 instead of 1-32"),
        (pod("p", ""), "has a sidecar of revision default instead of 1-32"),
        (
            pod("p", labels={"sidecar.istio.io/inject": "true"}, annotations={"sidecar.istio.io/inject": "false"}),
            "has no sidecar",
        ),
    ],
)
def test_pods_without_a_sidecar_of_the_revision_are_named(wrong: ApiObject, why: str) -> None:
    assert found(wrong) == [Uninjected("sample", "p", why, None)]


def test_the_owner_is_what_can_be_restarted_and_is_asked_for_once() -> None:
    sets: dict[str, Any] = {
        "web-1": {"metadata": {"namespace": "sample", "ownerReferences": owned_by("Deployment", "web")}},
        "bare": {"metadata": {"namespace": "sample"}},
    }
    owners = {
        "a": ("ReplicaSet", "web-1"), "b": ("ReplicaSet", "web-1"), "c": ("StatefulSet", "db"), "d": ("DaemonSet", "log"),
        "e": ("Job", "once"), "f": ("ReplicaSet", "bare"), "g": ("ReplicaSet", "gone"), "h": ("Rollout", "r"),
    }  # fmt: skip
    cluster: Any = FakeCluster(*(pod(name, owner=owner) for name, owner in owners.items()), **sets)
    seen = {one.name: one.owner for one in uninjected(cluster, ["sample"], REVISION)}
    assert {name: owner and (str(owner), owner.can_restart) for name, owner in seen.items()} == {
        "a": ("Deployment sample/web", True),
        "b": ("Deployment sample/web", True),
        "c": ("StatefulSet sample/db", True),
        "d": ("DaemonSet sample/log", True),
        "e": ("Job sample/once", False),
        "f": ("ReplicaSet sample/bare", False),
        "g": ("ReplicaSet sample/gone", False),
        "h": ("Rollout sample/r", False),
    }
    assert len(cluster.asked) == 3
    assert Owner("StatefulSet", "n", "db").path == "/apis/apps/v1/namespaces/n/statefulsets/db"


def test_a_line_names_pod_reason_and_owner() -> None:
    lines = [str(one) for one in found(pod("a", owner=("DaemonSet", "log")), pod("b", "1-30"))]
    assert lines == [
        "pod sample/a has no sidecar (DaemonSet sample/log)",
        "pod sample/b has a sidecar of revision 1-30 instead of 1-32 (nothing makes it anew)",
    ]

"""What someone deleted or changed in the cluster is put right."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest

from actions.kube import ApiCluster, KubeError, Unreachable
from ops import restore
from ops.objects import Differences, place
from tests.unit.ops.conftest import secret
from tests.unit.ops.test_pending import PATH, Cluster, begun, owner, policy

OWN = "pulumi-kubernetes-own"


class Applying(Cluster):
    """Takes what is applied, once its webhooks agree."""

    def __init__(self, objects: dict[str, dict[str, Any]], *refusals: KubeError) -> None:
        super().__init__(objects)
        self.refusals = list(refusals)
        self.applied: list[tuple[str, dict[str, Any], str]] = []

    def apply(self, path: str, body: dict[str, Any], manager: str) -> Any:
        if self.refusals:
            raise self.refusals.pop(0)
        self.applied.append((path, body, manager))
        return body


def resource(**outputs: Any) -> dict[str, Any]:
    known = begun()["resource"]
    return {**known, "id": "vmns/allow", "outputs": {**policy(owner(OWN)), "__fieldManager": OWN, **outputs}}


def put_right(cluster: Cluster, **found: Any) -> list[str]:
    known = resource()
    differences = Differences(places={known["urn"]: place(known)}, **found)
    return restore.put_right({"resources": [known]}, differences, cast(ApiCluster, cluster))


URN = resource()["urn"]


def test_what_was_changed_is_applied_as_the_state_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Applying({PATH: {**policy(owner(OWN)), "spec": {"x": 2}}})
    assert put_right(cluster, changed={URN: "spec.x"}) == []
    assert cluster.applied == [(PATH, begun()["resource"]["inputs"], OWN)]
    assert not cluster.edits
    assert "AuthorizationPolicy vmns/allow was changed (spec.x); it is put back" in capsys.readouterr().out


def test_what_was_added_is_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    """Applying alone leaves what belongs to another."""
    by_hand = owner("kubectl-edit", "Update", fields={"f:spec": {"f:ru/les": {}}})
    cluster = Applying({PATH: {**policy(owner(OWN), by_hand), "spec": {"x": 1, "ru/les": []}}})
    put_right(cluster, changed={URN: "spec.ru/les"})
    assert cluster.edits == [(PATH, [{"op": "remove", "path": "/spec/ru~1les"}])]
    assert len(cluster.applied) == 1


def test_what_a_dead_run_owns_too_becomes_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    dead = owner("pulumi-kubernetes-dead", fields={"f:spec": {"f:y": {}}})
    cluster = Applying({PATH: policy(owner(OWN, fields={"f:spec": {"f:x": {}}}), dead)})
    assert put_right(cluster, shared=[URN]) == []
    owned = cluster.edits[0][1][1]["value"]
    assert owned == [owner(OWN, fields={"f:spec": {"f:x": {}, "f:y": {}}})]
    assert cluster.applied, "so that what only the dead run wanted goes"
    assert capsys.readouterr().out == ""


def test_what_is_gone_is_for_the_state_to_forget(capsys: pytest.CaptureFixture[str]) -> None:
    assert put_right(Applying({}), gone=[URN]) == [URN]
    assert "AuthorizationPolicy vmns/allow is gone; it is made again if" in capsys.readouterr().out
    assert put_right(Applying({}), changed={URN: "spec"}) == [URN], "it went while we looked"


def test_what_is_being_deleted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "GONE_SECONDS", 0.1)
    going = policy(owner(OWN), deletionTimestamp="2026-11-21T03:00:00Z")
    assert put_right(Applying({PATH: going}), changed={URN: "it is being deleted"}) == []
    cluster = Applying({PATH: going})
    cluster.get = lambda path: cluster.groups.get(path)  # type: ignore[method-assign]
    assert put_right(cluster, changed={URN: "it is being deleted"}) == [URN]


def test_a_webhook_that_is_coming_up_is_waited_for() -> None:
    cluster = Applying({PATH: policy(owner(OWN))}, Unreachable("500 no endpoints for istiod"))
    put_right(cluster, changed={URN: "spec.x"})
    assert len(cluster.applied) == 1


def test_what_cannot_be_put_back_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert put_right(Applying({PATH: policy(owner(OWN))}, KubeError("422 immutable")), changed={URN: "spec.x"}) == []
    assert "going on, though AuthorizationPolicy vmns/allow could not be put back: 422" in capsys.readouterr().out


def test_an_object_is_applied_without_what_the_provider_keeps() -> None:
    known = resource()
    known["inputs"] = {"__defaults": [], "metadata": {"labels": {"a": "b"}}, "stringData": secret({"word": "open"})}
    assert restore.applied(copy.deepcopy(known), place(known)) == {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "allow", "namespace": "vmns", "labels": {"a": "b"}},
        "stringData": {"word": "open"},
    }

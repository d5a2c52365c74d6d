from __future__ import annotations

from typing import Any

from lab.plugins.kubernetes.shapes import (
    annotate_secrets,
    drifted,
    from_cluster,
    immutable,
    overlaid,
    owned_by,
    to_cluster,
)
from lab.plugins.values import Secret


def test_immutable_fields_by_kind() -> None:
    assert ("spec", "selector") in immutable({"apiVersion": "apps/v1", "kind": "Deployment"}, frozenset())
    assert ("roleRef",) in immutable({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding"}, frozenset())
    assert ("spec", "clusterIP") in immutable({"apiVersion": "v1", "kind": "Service"}, frozenset())
    assert immutable({"apiVersion": "example.com/v1", "kind": "Service"}, frozenset()) == (
        ("metadata", "name"),
        ("metadata", "namespace"),
        ("kind",),
    )


def test_a_config_map_is_replaced_unless_the_provider_says_otherwise() -> None:
    config_map: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert ("data",) in immutable(config_map, frozenset())
    assert ("data",) not in immutable(config_map, frozenset({"ConfigMap"}))
    assert ("data",) in immutable({**config_map, "immutable": True}, frozenset({"ConfigMap"}))


def test_secret_marks_follow_the_inputs() -> None:
    outputs = {"kind": "Thing", "spec": {"a": 1, "b": 2}, "status": {"a": 1}}
    marked = annotate_secrets(outputs, {"spec": {"a": Secret(1), "b": 2}})
    assert marked == {"kind": "Thing", "spec": {"a": Secret(1), "b": 2}, "status": {"a": 1}}


def test_the_data_of_a_secret_is_always_secret() -> None:
    marked = annotate_secrets({"kind": "Secret", "data": {"a": "eA=="}, "type": "Opaque"}, {})
    assert marked == {"kind": "Secret", "data": Secret({"a": "eA=="}), "type": "Opaque"}


def test_the_servers_own_spelling_is_no_drift() -> None:
    inputs = {"spec": {"cpu": "0.1", "list": [1, 2]}}
    live = {"spec": {"cpu": "100m", "list": [1, 2], "added": True}, "status": {"n": 1}}
    assert drifted(inputs, live, {**live, "status": {"n": 2}}) == inputs


def test_drift_shows_in_the_inputs() -> None:
    inputs = {"labels": {"a": "1", "b": "2", "c": "3"}, "list": [1]}
    before = {"labels": {"a": "1", "b": "2", "c": "3"}, "list": [1]}
    now = {"labels": {"a": "hand", "c": "3", "d": "new"}, "list": [1, 2]}
    assert drifted(inputs, before, now) == {"labels": {"a": "hand", "c": "3"}, "list": [1, 2]}


def test_what_the_server_never_shows_stays() -> None:
    assert drifted({"stringData": {"a": "x"}}, {"data": {"a": "eA=="}}, {"data": {"a": "eQ=="}}) == {
        "stringData": {"a": "x"}
    }


def test_overlaid() -> None:
    assert overlaid({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 9}, "d": []}) == {"a": {"b": 9, "c": 2}, "d": []}


def test_extension_fields_are_respelled_and_secrets_unmarked() -> None:
    program = {"schema": [{"x_kubernetes_list_map_keys": ["x_y"], "plain_key": Secret(1)}]}
    cluster = to_cluster(program)
    assert cluster == {"schema": [{"x-kubernetes-list-map-keys": ["x_y"], "plain_key": 1}]}
    assert from_cluster(cluster) == {"schema": [{"x_kubernetes_list_map_keys": ["x_y"], "plain_key": 1}]}


def _owner(manager: str, operation: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def test_the_creators_fields_become_ours() -> None:
    status = _owner("pulumi-kubernetes", "Update", {"f:status": {}}, subresource="status")
    other = _owner("controller", "Update", {"f:spec": {"f:x": {}}})
    created = _owner("pulumi-kubernetes", "Update", {"f:metadata": {"f:labels": {"f:a": {}}}})
    ours = _owner("ours", "Apply", {"f:metadata": {"f:labels": {"f:b": {}}}})
    assert owned_by("ours", [status, other, created, ours]) == [
        status,
        other,
        _owner("ours", "Apply", {"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}}),
    ]
    assert owned_by("ours", [status, other, ours]) is None

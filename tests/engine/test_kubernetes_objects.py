"""Plain and custom resources of the `kubernetes` provider."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.harness import Program, is_secret, until
from tests.engine.kube_api import KubeApi

Start = Callable[[str], Program]
NOWHERE = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: none}}]
"""
DEFINITION: dict[str, Any] = {
    "metadata": {"name": "things.lab.example.com"},
    "spec": {
        "group": "lab.example.com",
        "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x_kubernetes_preserve_unknown_fields": True}},
            }
        ],
    },
}


@pytest.fixture
def program(start: Start, kube_api: KubeApi) -> Program:
    begun = start("kubernetes")
    begun.configure(kubeconfig=kube_api.kubeconfig, provider={"cluster_identifier": "one"})
    return begun


def config_map(namespace: str, name: str | None = "settings", **data: str) -> list[Any]:
    metadata = {"namespace": namespace} | ({"name": name} if name else {})
    return ["ConfigMap", {"metadata": metadata, "data": data}]


def account(namespace: str, **labels: str) -> list[Any]:
    return ["ServiceAccount", {"metadata": {"name": "robot", "namespace": namespace, "labels": labels}}]


def thing(namespace: str, value: str) -> list[Any]:
    metadata = {"name": "one", "namespace": namespace}
    inputs = {"api_version": "lab.example.com/v1", "kind": "Thing", "metadata": metadata, "spec": {"value": value}}
    return ["CustomResource", inputs]


def deployment(namespace: str) -> list[Any]:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    return ["Deployment", {"metadata": {"name": "web", "namespace": namespace}, "spec": spec}]


def test_preview_needs_no_cluster(start: Start) -> None:
    program = start("kubernetes")
    program.configure(
        kubeconfig=NOWHERE,
        objects={
            "map": config_map("default", a="1"),
            "crd": ["CustomResourceDefinition", DEFINITION],
            "cr": thing("default", "x"),
        },
        releases={"tiny": {"chart": "./chart", "namespace": "default"}},
    )
    outcome = program.preview()
    assert not outcome.failed, outcome.said
    assert {outcome.steps[name] for name in ("map", "crd", "cr", "tiny")} == {"create"}


def test_life_of_objects(program: Program, kube_api: KubeApi) -> None:
    def objects(value: str) -> dict[str, Any]:
        return {
            "space": ["Namespace", {"metadata": {"name": "test-life"}}],
            "map": config_map("test-life", a=value),
            "auto": config_map("test-life", None, a="1"),
            "robot": account("test-life", value=value, other="kept"),
            "secret": [
                "Secret",
                {"metadata": {"name": "s", "namespace": "test-life"}, "string_data": {"word": "open sesame"}},
            ],
            "crd": ["CustomResourceDefinition", DEFINITION],
            "cr": thing("test-life", value),
        }

    program.configure(objects=objects("1"))
    first = program.up()
    assert not first.failed, first.said
    assert kube_api.core.read_namespaced_config_map("settings", "test-life").data == {"a": "1"}
    state = program.resources()
    assert state["map"]["id"] == "test-life/settings"
    assert state["auto"]["id"].startswith("test-life/auto-")
    assert is_secret(state["secret"]["inputs"]["stringData"])
    assert is_secret(state["secret"]["outputs"]["data"])
    assert program.up().steps == {}
    program.refresh()
    assert program.up().steps == {}
    program.configure(objects=objects("2"))
    second = program.up()
    assert second.steps["robot"] == second.steps["cr"] == "update"
    assert "replace" in second.steps["map"]
    assert kube_api.core.read_namespaced_config_map("settings", "test-life").data == {"a": "2"}
    assert kube_api.custom.get_namespaced_custom_object("lab.example.com", "v1", "test-life", "things", "one")[
        "spec"
    ] == {"value": "2"}
    assert not program.destroy().failed
    assert not kube_api.exists(kube_api.core.read_namespace, "test-life")


def test_a_field_that_the_program_drops_goes(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"robot": account(namespace, kept="yes", dropped="soon")})
    program.up()
    program.configure(objects={"robot": account(namespace, kept="yes")})
    assert program.up().steps == {"robot": "update"}
    assert kube_api.core.read_namespaced_service_account("robot", namespace).metadata.labels == {"kept": "yes"}


def test_drift_is_seen_by_refresh_and_repaired(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"robot": account(namespace, owner="program"), "map": config_map(namespace, a="1")})
    program.up()
    kube_api.core.patch_namespaced_service_account("robot", namespace, {"metadata": {"labels": {"owner": "hand"}}})
    kube_api.core.delete_namespaced_config_map("settings", namespace)
    program.refresh()
    assert "map" not in program.resources()
    program.configure(provider={"cluster_identifier": "one", "enable_patch_force": True})
    steps = program.up().steps
    assert (steps["robot"], steps["map"]) == ("update", "create")
    assert kube_api.core.read_namespaced_service_account("robot", namespace).metadata.labels == {"owner": "program"}


def test_another_writers_field_is_a_conflict(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"robot": account(namespace, owner="program")})
    program.up()
    kube_api.core.patch_namespaced_service_account("robot", namespace, {"metadata": {"labels": {"owner": "hand"}}})
    program.configure(objects={"robot": account(namespace, owner="changed-program")})
    outcome = program.up()
    assert outcome.failed
    assert "conflict" in outcome.said


def test_an_existing_object_is_an_error_unless_upserted(program: Program, kube_api: KubeApi, namespace: str) -> None:
    kube_api.core.create_namespaced_service_account(namespace, {"metadata": {"name": "robot"}})
    program.configure(objects={"robot": account(namespace, made="by-program")})
    outcome = program.up()
    assert outcome.failed
    assert "already exists" in outcome.said
    program.configure(provider={"cluster_identifier": "one", "upsert_existing_objects": True})
    assert not program.up().failed
    assert kube_api.core.read_namespaced_service_account("robot", namespace).metadata.labels == {"made": "by-program"}


def test_reading_what_is_not_ours(program: Program, kube_api: KubeApi, namespace: str) -> None:
    kube_api.core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}, "data": {"a": "1"}})
    program.configure(reads=f"{namespace}/theirs")
    program.up()
    assert program.outputs()["found"] == {"a": "1"}
    program.destroy()
    assert kube_api.exists(kube_api.core.read_namespaced_config_map, "theirs", namespace)


def test_a_deployment_is_awaited(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"web": deployment(namespace)})
    running = threading.Thread(target=program.up)
    running.start()
    until(lambda: kube_api.exists(kube_api.apps.read_namespaced_deployment, "web", namespace), 60, "the deployment")
    running.join(5)
    assert running.is_alive()
    until(lambda: _made_ready(kube_api, namespace), 60, "the pod")
    running.join(60)
    assert program.resources()["web"]["outputs"]["status"]["availableReplicas"] == 1


def _made_ready(kube_api: KubeApi, namespace: str) -> bool:
    """Whether there was a pod to call ready: there is no node to run it, and what a Deployment is, its controller tells from its pods."""
    pods = kube_api.core.list_namespaced_pod(namespace).items
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    for pod in pods:
        kube_api.core.patch_namespaced_pod_status(pod.metadata.name, namespace, ready)
    return bool(pods)


def test_a_deployment_that_fails_says_why(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"web": deployment(namespace)}, timeout="5s")
    outcome = program.up()
    assert outcome.failed
    assert "web" in program.resources()
    assert "scheduled" in outcome.said
    program.configure(timeout="2s")
    assert program.up().steps["web"] == "update"


def test_a_load_balancer_is_awaited(program: Program, kube_api: KubeApi, namespace: str) -> None:
    metadata = {"name": "door", "namespace": namespace}
    program.configure(
        objects={"door": ["Service", {"metadata": metadata, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}]}
    )
    running = threading.Thread(target=program.up)
    running.start()
    until(lambda: kube_api.exists(kube_api.core.read_namespaced_service, "door", namespace), 60, "the service")
    running.join(2)
    assert running.is_alive()
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    kube_api.core.patch_namespaced_service_status("door", namespace, ingress)
    running.join(30)
    assert program.resources()["door"]["outputs"]["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"


def test_skip_await(program: Program, namespace: str) -> None:
    annotated = {"name": "door", "namespace": namespace, "annotations": {"pulumi.com/skipAwait": "true"}}
    program.configure(
        objects={
            "door": ["Service", {"metadata": annotated, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}]
        }
    )
    assert not program.up().failed


def test_an_unknown_kubeconfig_replaces_nothing_with_an_identifier(program: Program, namespace: str) -> None:
    program.configure(nonce="1", objects={"map": config_map(namespace, a="1")})
    program.up()
    program.configure(nonce="2")
    # The engine itself shows an update of what a provider with unknown inputs serves; a replacement would be ours.
    assert "replace" not in program.preview().steps["map"]
    program.configure(provider={"cluster_identifier": "two"})
    assert "replace" in program.preview().steps["map"]


def test_without_an_identifier_an_unknown_kubeconfig_replaces(program: Program, namespace: str) -> None:
    program.configure(provider={}, nonce="1", objects={"map": config_map(namespace, a="1")})
    program.up()
    program.configure(nonce="2")
    assert "replace" in program.preview().steps["map"]


def test_an_unreachable_cluster(program: Program, kube_api: KubeApi, namespace: str) -> None:
    program.configure(objects={"map": config_map(namespace, a="1")})
    program.up()
    program.configure(kubeconfig=NOWHERE, objects={})
    outcome = program.up()
    assert outcome.failed
    assert "unreachable" in outcome.said
    assert "map" in program.resources()
    program.configure(provider={"cluster_identifier": "one", "delete_unreachable": True})
    assert not program.up().failed
    assert "map" not in program.resources()
    assert kube_api.exists(kube_api.core.read_namespaced_config_map, "settings", namespace)


@pytest.mark.stand_in
def test_what_is_not_supported_is_an_error(program: Program) -> None:
    program.configure(objects={"group": ["ConfigGroup", {"yaml": "{}"}]})
    outcome = program.up()
    assert outcome.failed
    assert "not supported by the lab's stand-in" in outcome.said

"""A cluster that someone else made, with the real engine and a real Kubernetes API: taken, gone on with, refused, given back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.harness import Program
from tests.engine.kube_api import KubeApi

ROOT = Path(__file__).parents[2]
READY = {
    "conditions": [{"type": "Ready", "status": "True"}],
    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
}


class There:
    """The cluster as its owner sees it, and the kubeconfig that the stack gets."""

    def __init__(self, api: KubeApi, folder: Path) -> None:
        self.api, self.file = api, folder / "kubeconfig"
        self.name = f"test-{secrets.token_hex(4)}"
        self.config: dict[str, Any] = yaml.safe_load(api.kubeconfig)
        self.config["contexts"] = [{"name": "there", "context": self.config["contexts"][0]["context"]}]
        self.write()
        # There is no kubelet, so a node says what it is told, for some seconds.
        api.core.create_node({"metadata": {"name": self.name}})
        api.core.patch_node_status(self.name, {"status": READY})

    def write(self, **user: str) -> None:
        """Other credentials for the same cluster; the administrator's certificate without any."""
        named = [{"name": one["name"], "user": user or one["user"]} for one in self.config["users"]]
        self.file.write_text(yaml.safe_dump({**self.config, "users": named}))

    def token(self) -> str:
        """That of an administrator."""
        account = {"kind": "ServiceAccount", "name": "default", "namespace": self.name}
        made = self.api.core.create_namespaced_service_account_token("default", self.name, {"spec": {}})
        from kubernetes import client

        role = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}
        client.RbacAuthorizationV1Api(self.api.core.api_client).create_cluster_role_binding(
            {"metadata": {"name": self.name}, "roleRef": role, "subjects": [account]}
        )
        return made.status.token

    def noted(self) -> bool:
        return self.api.exists(self.api.core.read_namespaced_config_map, "istio-vms", "kube-system")

    def has_namespace(self) -> bool:
        return self.api.exists(self.api.core.read_namespace, self.name)


@pytest.fixture
def there(kube_api: KubeApi, tmp_path: Path) -> Iterator[There]:
    made = There(kube_api, tmp_path)
    yield made
    kube_api.core.delete_node(made.name)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, start: Callable[[str], Program], there: There) -> Program:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    begun = start("existing_cluster")
    begun.configure(kubeconfig=str(there.file), namespace=there.name)
    return begun


def test_it_is_taken_and_given_back(program: Program, there: There) -> None:
    assert set(program.preview().steps.values()) == {"create"}
    assert not there.noted(), "a preview does nothing there"
    assert not program.up().failed
    assert there.noted() and there.has_namespace()
    assert program.outputs()["version"].startswith("v1.")
    assert program.up().steps == {}
    assert "client-key-data" not in program.state_text()
    assert not program.destroy().failed
    assert not there.noted() and not there.has_namespace()


def test_other_credentials_are_noticed_and_replace_nothing(program: Program, there: There) -> None:
    program.up()
    there.write(token=there.token())
    # Before the kubeconfig is read, a preview cannot tell that nothing else will differ.
    assert set(program.preview().steps.values()) == {"update"}
    seen = program.up()
    assert seen.steps == {"cluster-claim": "update", "cluster-kubernetes": "update"}
    assert not seen.failed, seen.said
    assert program.up().steps == {}


@pytest.mark.parametrize("before", ["nothing", "up"])
def test_credentials_that_are_refused_change_nothing(program: Program, there: There, before: str) -> None:
    if before == "up":
        program.up()
    there.write(token="nonsense")
    seen = program.up()
    assert seen.failed
    assert "context there: the cluster refuses its credentials" in seen.said
    assert there.has_namespace() == there.noted() == (before == "up")
    assert "nonsense" not in seen.said
    there.write()


def test_a_context_that_leads_elsewhere_is_refused(program: Program, there: There) -> None:
    program.up()
    # Another cluster is one without the note of this stack.
    there.api.core.delete_namespaced_config_map("istio-vms", "kube-system")
    there.write(token=there.token())
    seen = program.up()
    assert seen.failed and "leads to a cluster that is not the one of this stack" in seen.said
    assert there.has_namespace()
    there.api.core.create_namespaced_config_map(
        "kube-system",
        {"metadata": {"name": "istio-vms"}, "data": {"owner": "istio-vms/engine", "namespaces": there.name}},
    )


def test_a_namespace_of_others_is_not_taken_over(program: Program, there: There) -> None:
    there.api.core.create_namespace({"metadata": {"name": there.name}})
    seen = program.up()
    assert (
        seen.failed
        and f"namespaces already that the stack makes, and would take along when it goes: {there.name}" in seen.said
    )
    program.destroy()
    assert there.has_namespace()
    there.api.core.delete_namespace(there.name)

"""Readings with the real engine and a real Kubernetes API: when they are taken again, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops import readings
from tests.engine.harness import Program
from tests.engine.kube_api import KubeApi

ROOT = Path(__file__).parents[2]
CONFIG = "defaultConfig: {concurrency: %s, discoveryAddress: a, meshId: mesh1}\ntrustDomain: cluster.local\n"


class There:
    """What istiod and a load balancer would say in a namespace."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._core, self._namespace = api.core, namespace
        ports = [{"name": "tls-istiod", "port": 15013}]
        service = {"metadata": {"name": "gateway"}, "spec": {"type": "LoadBalancer", "ports": ports}}
        self._core.create_namespaced_service(namespace, service)
        for name, data in (("istio-ca-root-cert", self.root("OLD")), ("istio-1-32", {"mesh": CONFIG % 2})):
            # The cluster's own controllers make no ConfigMap of these names.
            self._core.create_namespaced_config_map(namespace, {"metadata": {"name": name}, "data": data})
        self.reached_at("10.89.0.11", "10.89.0.12")

    @staticmethod
    def root(pem: str) -> dict[str, str]:
        return {"root-cert.pem": pem}

    def publish(self, name: str, data: dict[str, str]) -> None:
        self._core.patch_namespaced_config_map(name, self._namespace, {"data": data})

    def reached_at(self, *addresses: str) -> None:
        ingress = [{"ip": address} for address in addresses]
        status = {"status": {"loadBalancer": {"ingress": ingress}}}
        self._core.patch_namespaced_service_status("gateway", self._namespace, status)


@pytest.fixture
def there(kube_api: KubeApi, namespace: str) -> There:
    return There(kube_api, namespace)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[str], Program],
    kube_api: KubeApi,
    namespace: str,
    there: There,
    log: Path,
) -> Program:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(readings, "LOOK_SECONDS", 0.05)
    begun = start("readings")
    begun.configure(kubeconfig=kube_api.kubeconfig, namespace=namespace, log=str(log))
    assert not begun.up().failed
    return begun


def outdated(program: Program) -> list[str]:
    """As `up` finds them: in the state with its secrets in the clear."""
    shown = program.pulumi("stack", "export", "--show-secrets")
    return readings.outdated(json.loads(shown)["deployment"]) or []


def told(log: Path) -> dict[str, Any]:
    return json.loads(log.read_text().splitlines()[-1])


def test_what_the_cluster_still_says_is_not_read_again(program: Program, log: Path) -> None:
    assert outdated(program) == []
    assert program.up().steps == {}
    assert len(log.read_text().splitlines()) == 1


def test_what_the_cluster_says_otherwise_is_read_again_and_what_depends_on_it_follows_in_place(
    program: Program, there: There, log: Path
) -> None:
    there.publish("istio-ca-root-cert", there.root("NEW"))
    there.publish("istio-1-32", {"mesh": CONFIG % 4})
    there.reached_at("10.89.0.13")
    assert program.up().steps == {}, "the engine itself does not look"
    found = outdated(program)
    assert {urn.rpartition("::")[2] for urn in found} == {"root-certificate", "mesh-config", "gateway-addresses"}
    steps = program.up(*found).steps
    assert steps.pop("member") == "update"
    assert set(steps) == {"root-certificate", "mesh-config", "gateway-addresses"}
    assert told(log)["root-certificate"] == {"root_certificate": "NEW"}
    assert told(log)["mesh-config"]["proxy_config"] == {"concurrency": 4}
    assert told(log)["gateway-addresses"]["addresses"] == ["10.89.0.13"]
    assert "left" not in log.read_text()
    assert outdated(program) == []
    assert program.up().steps == {}


def test_a_gateway_that_has_no_address_any_more_ends_the_run(program: Program, there: There, log: Path) -> None:
    there.reached_at()
    (urn,) = outdated(program)
    ran = program.up(urn)
    assert ran.failed
    assert "has no address after 5 s" in ran.said
    there.reached_at("10.89.0.12", "10.89.0.11")
    assert not program.up(*outdated(program)).failed
    assert len(log.read_text().splitlines()) == 1

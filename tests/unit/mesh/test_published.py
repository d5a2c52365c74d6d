"""What istiod publishes, and how it is told when it does not or when it makes no sense."""

from __future__ import annotations

from typing import Any, cast

import pytest

from actions.kube import ApiObject, Cluster
from actions.mesh.published import (
    MeshConfigRequest,
    RootCertificateRequest,
    mesh_config,
    read_mesh_config,
    read_root_certificate,
)
from actions.protocol import Failure

PLACE = "/api/v1/namespaces/istio-system/configmaps"
MESH = """\
defaultConfig:
  concurrency: 2
  discoveryAddress: istiod-1-32.istio-system.svc:15012
  meshId: mesh1
  proxyMetadata:
    A: "1"
defaultProviders: {metrics: [prometheus]}
trustDomain: corp.example
"""


class Published(dict[str, ApiObject]):
    """ConfigMaps by path."""

    def put(self, name: str, **data: str) -> None:
        self[f"{PLACE}/{name}"] = {"data": data}


@pytest.fixture
def there() -> Published:
    return Published()


def config(there: Published, revision: str = "1-32") -> dict[str, Any] | None:
    return mesh_config(cast(Cluster, there), "istio-system", revision)


def test_a_vm_is_told_what_does_not_differ_by_member(there: Published) -> None:
    there.put("istio-1-32", mesh=MESH)
    assert config(there) == {
        "trust_domain": "corp.example",
        "mesh_id": "mesh1",
        "proxy_config": {"concurrency": 2, "proxyMetadata": {"A": "1"}},
    }


@pytest.mark.parametrize("revision", ["", "default"])
def test_the_istiod_without_a_revision_has_a_name_of_its_own(there: Published, revision: str) -> None:
    there.put("istio", mesh=MESH)
    assert config(there, revision) is not None
    assert config(there) is None


@pytest.mark.parametrize("text", ["", "defaultConfig:\n", "trustDomain: cluster.local\n"])
def test_a_mesh_that_says_nothing_has_istios_own_defaults(there: Published, text: str) -> None:
    there.put("istio-1-32", mesh=text)
    assert config(there) == {"trust_domain": "cluster.local", "mesh_id": "", "proxy_config": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a", "key mesh is no mesh configuration"),
        ("a: [", "key mesh is no mesh configuration"),
        ("defaultConfig: text", "key mesh is no mesh configuration"),
        ("defaultConfig: {proxyMetadata: {FLAG: true}}", r"proxyMetadata\.FLAG should be text; put it in quotes"),
    ],
)
def test_what_makes_no_sense_is_told(there: Published, text: str, why: str) -> None:
    there.put("istio-1-32", mesh=text)
    with pytest.raises(Failure, match=why):
        config(there)


def test_both_are_waited_for(there: Published) -> None:
    root = RootCertificateRequest(kubeconfig="", namespace="istio-system", timeout_seconds=0.01)
    mesh = MeshConfigRequest(kubeconfig="", namespace="istio-system", revision="1-32", timeout_seconds=0.01)
    cluster = cast(Cluster, there)
    with pytest.raises(Failure, match="istio-ca-root-cert in namespace istio-system is not there yet after 0 s"):
        read_root_certificate(root, cluster, lambda _: None)
    with pytest.raises(Failure, match="istio-1-32 in namespace istio-system is not there yet after 0 s"):
        read_mesh_config(mesh, cluster, lambda _: None)
    there.put("istio-ca-root-cert", **{"root-cert.pem": "PEM"})
    there.put("istio-1-32", mesh=MESH)
    assert read_root_certificate(root, cluster, lambda _: None) == {"root_certificate": "PEM"}
    assert read_mesh_config(mesh, cluster, lambda _: None)["trust_domain"] == "corp.example"

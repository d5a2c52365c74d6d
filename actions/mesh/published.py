"""What istiod publishes in ConfigMaps, and members outside of the cluster have to be told: root certificate and mesh configuration.

Reading is all that happens here. Whoever wants to know whether a reading is still true calls `root_certificate` or `mesh_config` again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import Field
from typing_extensions import TypedDict

from actions.kube import Cluster, wait
from actions.protocol import Deadline, Document, Failure, Progress

TRUST_DOMAIN = "cluster.local"
"""Istio's own, where the mesh has none."""
_PER_MEMBER = ("meshId", "discoveryAddress")
"""Keys of `defaultConfig` that a member is told by name, or differently: its way to istiod is the gateway's port."""

T = TypeVar("T")


class RootCertificateRequest(Document):
    """What `root-certificate` reads. `namespace` is any namespace of the mesh's cluster."""

    kubeconfig: str = Field(repr=False)
    namespace: Annotated[str, Field(min_length=1)]
    timeout_seconds: Annotated[float, Field(gt=0)] = 120


class MeshConfigRequest(Document):
    """What `mesh-config` reads.

    Attributes:
        kubeconfig: a kubeconfig's text.
        namespace: istiod's.
        revision: of the istiod whose configuration it is; empty or `default` for the one without a revision.
        installed: tells one way of installing istiod from another; only there so that another one is a reason to read again.
        timeout_seconds: how long to wait.
    """

    kubeconfig: str = Field(repr=False)
    namespace: Annotated[str, Field(min_length=1)]
    revision: str
    installed: str = ""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120


class RootCertificate(TypedDict):
    """What `root-certificate` prints: PEM."""

    root_certificate: str


class MeshConfig(TypedDict):
    """What `mesh-config` prints: the mesh's configuration, as far as it concerns a VM.

    Attributes:
        trust_domain: of every identity.
        mesh_id: the mesh's.
        proxy_config: `defaultConfig` but for what a member is told by name.
    """

    trust_domain: str
    mesh_id: str
    proxy_config: dict[str, Any]


def read_root_certificate(request: RootCertificateRequest, cluster: Cluster, progress: Progress) -> RootCertificate:
    """The mesh's root certificate; istiod writes it to a new namespace a moment after its start.

    Raises:
        Failure: it was not there in time.
    """
    what = f"ConfigMap istio-ca-root-cert in namespace {request.namespace}"
    pem = _waited_for(lambda: root_certificate(cluster, request.namespace), what, request.timeout_seconds, progress)
    return {"root_certificate": pem}


def read_mesh_config(request: MeshConfigRequest, cluster: Cluster, progress: Progress) -> MeshConfig:
    """What `mesh_config` says, once it is there.

    Raises:
        Failure: it was not there in time, or makes no sense.
    """
    what = f"ConfigMap {_config_map(request.revision)} in namespace {request.namespace}"
    look = lambda: mesh_config(cluster, request.namespace, request.revision)  # noqa: E731
    return _waited_for(look, what, request.timeout_seconds, progress)


def root_certificate(cluster: Cluster, namespace: str) -> str | None:
    """The mesh's root certificate as it is now, PEM; None when the namespace has none."""
    return _text(cluster, namespace, "istio-ca-root-cert", "root-cert.pem")


def mesh_config(cluster: Cluster, namespace: str, revision: str) -> MeshConfig | None:
    """The mesh's configuration as it is now, as far as it concerns a VM; None when there is none.

    `{"trust_domain": …, "mesh_id": …, "proxy_config": {…}}`, the last one being `defaultConfig` without what differs by member. It is
    read as `istioctl x workload entry configure` does: `createMeshConfig` in Istio's `istioctl/pkg/workload/workload.go`.

    Raises:
        Failure: it is not what istiod could read.
    """
    text = _text(cluster, namespace, _config_map(revision), "mesh")
    if text is None:
        return None
    try:
        mesh: Any = yaml.safe_load(text) or {}
        proxy: Any = mesh.get("defaultConfig") or {}
        metadata: Any = proxy.get("proxyMetadata") or {}
        strange = sorted(str(key) for key, value in metadata.items() if not isinstance(value, str))
    except (yaml.YAMLError, AttributeError) as error:
        raise Failure(f"{_place(namespace, revision)} is no mesh configuration ({type(error).__name__})") from None
    if strange:
        raise Failure(
            f"{_place(namespace, revision)}: defaultConfig.proxyMetadata.{strange[0]} should be text; put it in quotes"
        )
    return {
        "trust_domain": mesh.get("trustDomain") or TRUST_DOMAIN,
        "mesh_id": proxy.get("meshId") or "",
        "proxy_config": {
            key: value for key, value in cast("Mapping[str, Any]", proxy).items() if key not in _PER_MEMBER
        },
    }


def _config_map(revision: str) -> str:
    return "istio" if revision in ("", "default") else f"istio-{revision}"


def _place(namespace: str, revision: str) -> str:
    return f"ConfigMap {namespace}/{_config_map(revision)}, key mesh"


def _text(cluster: Cluster, namespace: str, name: str, key: str) -> str | None:
    found = cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    return (found or {}).get("data", {}).get(key)


def _waited_for(look: Callable[[], T | None], what: str, seconds: float, progress: Progress) -> T:
    found: list[T] = []

    def again() -> str | None:
        if (seen := look()) is None:
            return f"{what} is not there yet"
        found.append(seen)
        return None

    progress(f"reading {what}")
    if reason := wait(again, Deadline(seconds)):
        raise Failure(f"{reason} after {seconds:.0f} s. Does istiod run, and does the namespace exist?")
    return found[0]

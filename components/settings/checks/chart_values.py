"""Helm values in `mesh.values` that contradict a setting of ours, or what VMs, policies and names are built on.

They would count for the chart alone: pods would have one value, VMs and policies another. A value that says the same does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from components.settings.problems import PROJECT, Problem
from components.settings.tables import MeshSettings

_AT = f"{PROJECT}:mesh.values"
_ISTIOD_NAMESPACE, _CLUSTER_DOMAIN = "istio-system", "cluster.local"
_FIXED = "is the only one that the stack knows"
_FROM_ISTIOD = "VMs get their certificates from istiod"
_REGISTER = "VMs could not become members"


@dataclass(frozen=True)
class _Owned:
    """A value that is not the chart's to set.

    Attributes:
        chart: which table of `mesh.values`.
        path: the value's place in it.
        right: what it may be, as texts; nothing where it is no single value.
        instead: what to do.
    """

    chart: str
    path: tuple[str, ...]
    right: tuple[str, ...]
    instead: str


def check_chart_values(mesh: MeshSettings) -> Iterator[Problem]:
    """Every value has one place: a setting, or the charts' values."""
    tables: Mapping[str, Mapping[str, Any]] = dict(mesh.values)
    for owned in [*_settings(mesh), *_built_on(), *_gateways()]:
        for found in _at(tables[owned.chart], owned.path):
            if str(found) not in owned.right:
                yield Problem(".".join((_AT, owned.chart, *owned.path)), f"{found!r}: {owned.instead}")


def _settings(mesh: MeshSettings) -> Iterator[_Owned]:
    """What a setting says."""
    names: Sequence[tuple[str, str, Sequence[str]]] = (
        ("trustDomain", mesh.trust_domain, ["meshConfig.trustDomain", "proxyMetadata.TRUST_DOMAIN"]),
        (
            "meshId",
            mesh.mesh_id,
            ["global.meshID", "meshConfig.defaultConfig.meshId", "proxyMetadata.ISTIO_META_MESH_ID"],
        ),
        (
            "clusterName",
            mesh.cluster_name,
            ["global.multiCluster.clusterName", "env.CLUSTER_ID", "proxyMetadata.ISTIO_META_CLUSTER_ID"],
        ),
        ("network", mesh.network, ["global.network", "proxyMetadata.ISTIO_META_NETWORK"]),
        *((name, value, [f"global.{name}", name]) for name, value in (("hub", mesh.hub), ("tag", mesh.tag)) if value),
    )
    for name, value, places in names:
        for place in places:
            full = place.replace("proxyMetadata", "meshConfig.defaultConfig.proxyMetadata")
            yield _istiod(full, value, instead=f"contradicts mesh.{name}, which is {value}; set that instead")


def _built_on() -> Iterator[_Owned]:
    """What VMs, policies and names are built on."""
    port = "VMs and pods follow mesh.revision and mesh.eastWestPorts.istiod; set those instead"
    namespace = f"should be left out: namespace {_ISTIOD_NAMESPACE} {_FIXED}"
    yield _istiod("meshConfig.defaultConfig.discoveryAddress", instead=f"should be left out: {port}")
    yield _istiod("global.remotePilotAddress", "", instead=f"should be left out: {port}")
    yield _istiod(
        "istiodRemote.enabled", "False", instead="should be left out: the stack's istiod runs in its own cluster"
    )
    yield _istiod("meshConfig.rootNamespace", _ISTIOD_NAMESPACE, instead=namespace)
    yield _istiod("global.istioNamespace", _ISTIOD_NAMESPACE, instead=namespace)
    yield _Owned("base", ("global", "istioNamespace"), (_ISTIOD_NAMESPACE,), namespace)
    domain = f"should be left out: cluster domain {_CLUSTER_DOMAIN} {_FIXED}"
    yield _istiod("global.proxy.clusterDomain", _CLUSTER_DOMAIN, instead=domain)
    yield _istiod("configMap", "True", instead="should be left out: VMs are told what istiod's ConfigMap says")
    yield _istiod("global.caAddress", "", instead=f"should be left out: {_FROM_ISTIOD}")
    metadata = "meshConfig.defaultConfig.proxyMetadata"
    yield _istiod(f"{metadata}.CA_ADDR", instead=f"should be left out: {_FROM_ISTIOD}")
    yield _istiod("global.sds.token.aud", "istio-ca", instead="should be left out: VMs have tokens for istio-ca")
    for name in ("AUTOREGISTRATION", "HEALTHCHECKS"):
        yield _istiod(f"env.PILOT_ENABLE_WORKLOAD_ENTRY_{name}", "true", "True", instead=f"should be true: {_REGISTER}")


def _gateways() -> Iterator[_Owned]:
    """What both gateways would have, though each needs its own, or none at all."""
    ports = "should be left out: set mesh.ingressPorts and mesh.eastWestPorts instead"
    own = "should be left out: these values are both gateways', and each has its own"
    for path in (("networkGatewayPorts",), ("service", "ports")):
        yield _Owned("gateway", path, (), ports)
    yield _Owned("gateway", ("networkGateway",), (), "should be left out: set mesh.network instead")
    for path in (
        ("name",),
        ("labels", "istio"),
        ("labels", "networking.istio.io/gatewayPort"),
        ("labels", "topology.istio.io/network"),
        ("env", "ISTIO_META_REQUESTED_NETWORK_VIEW"),
        ("service", "selectorLabels"),
    ):
        yield _Owned("gateway", path, (), own)
    load_balancer = "should be LoadBalancer: VMs reach istiod at the Service's addresses"
    yield _Owned("gateway", ("service", "type"), ("LoadBalancer",), load_balancer)


def _istiod(path: str, *right: str, instead: str) -> _Owned:
    return _Owned("istiod", tuple(path.split(".")), right, instead)


def _at(values: Mapping[str, Any], path: Sequence[str]) -> Iterator[Any]:
    """What is there, null too, which takes away what we set; nothing where there is no such key."""
    place: Any = values
    for key in path:
        if not isinstance(place, Mapping) or key not in place:
            return
        place = cast("Mapping[str, Any]", place)[key]
    yield place
